//! The one test binary: links stay cheap.

mod runtime;
mod sim;
mod spec;
mod store;
mod tool;
