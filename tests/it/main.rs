//! The one test binary: links stay cheap.

mod ledger;
mod runtime;
mod sim;
mod spec;
mod store;
mod tool;
