//! Reports as plain text: pure functions to strings, without colour, safe to print whatever a model said.

pub mod cost;
pub mod file;
pub mod outcome;
pub mod table;
pub mod text;
pub mod trace;
pub mod what_if;
