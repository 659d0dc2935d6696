//! The one test binary: links stay cheap.

mod context;
mod fallbacks;
mod fan_out;
mod kill;
mod ledger;
mod pricing;
mod provider;
mod resume;
mod runtime;
mod sim;
mod spec;
mod store;
mod tokenize;
mod tool;
mod world;
