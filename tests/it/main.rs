//! The one test binary: links stay cheap.

mod store;
mod tool;
mod sim;
mod spec;
