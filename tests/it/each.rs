//! `run AGENT --each FILE` of the real binary, against a `plimsoll sim` of its own with its invoice in a file.
//!
//! `PLIMSOLL_LINES` says how many lines the run with faults has.

mod again;
mod attached;
mod fan_out;
mod threads;
mod yard;
