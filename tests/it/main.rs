//! The one test binary: links stay cheap.

mod context;
mod fallbacks;
mod fan_out;
mod floors;
mod kill;
mod ledger;
mod licences;
mod limits;
mod pricing;
mod provider;
mod resume;
mod run_machine;
mod runtime;
mod sim;
mod spec;
mod store;
mod tokenize;
mod tool;
mod world;
