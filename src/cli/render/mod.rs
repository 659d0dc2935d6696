//! Reports as plain text: pure functions to strings, without colour, safe to print whatever a model said.

pub mod cost;
pub mod table;
pub use crate::words::{outcome, text};
pub mod trace;
pub mod what_if;
