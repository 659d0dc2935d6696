//! The command line: arguments in, an exit code out. One file for each command, under [`commands`].
//!
//! Invariants: data goes to standard output and talk to standard error; nothing is loaded, opened or started before a
//! command needs it.
//! Deliberately absent: decisions. The runtime and the store take them.

pub mod arguments;
pub mod errors;
pub mod exit;
pub mod input;
pub mod output;
pub mod render;
