//! Plimsoll: an agent runtime with hard operating limits.

pub mod cli;
pub mod clock;
pub mod domain;
pub mod failpoint;
pub mod gate;
pub mod ids;
pub mod provider;
pub mod runtime;
pub mod sim;
pub mod spec;
pub mod store;
pub mod tokenize;
pub mod tool;
pub mod units;
