//! The one test binary: links stay cheap.

mod kill;
mod ledger;
mod runtime;
mod sim;
mod spec;
mod store;
mod tool;
