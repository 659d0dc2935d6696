//! The one test binary: links stay cheap.

mod sim;
mod spec;
mod store;
mod tool;
