//! The store: one conformance suite for both engines, crashes, formats and locks.

mod alerts;
mod audit;
mod engines;
mod facts;
mod failure;
mod format;
mod kill;
mod power;
mod tree;
mod whole;
mod worth;
