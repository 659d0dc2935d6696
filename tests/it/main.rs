//! The one test binary: links stay cheap.

mod fan_out;
mod ledger;
mod limits;
mod run_machine;
mod runtime;
mod sim;
mod spec;
mod store;
mod tool;
mod world;
