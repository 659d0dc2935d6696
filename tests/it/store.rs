//! The store: one conformance suite for both engines, crashes, formats and locks.

mod alerts;
mod audit;
mod days;
mod engines;
mod facts;
mod failure;
mod format;
mod kill;
mod periods;
mod power;
mod tree;
mod whole;
mod worth;
