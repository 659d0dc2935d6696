//! The pure core: what may happen, what has happened, and what it cost.
//!
//! Invariants: functions of their arguments only; the same events give the same state.
//! Deliberately absent: async, clock, randomness, IO, logging, unordered maps.

pub mod ability;
pub mod access;
pub mod account;
pub mod alert;
pub mod audit;
pub mod breaker;
pub mod budget;
pub mod builtin;
pub mod caching;
mod compact;
pub mod context;
pub mod erasure;
pub mod event;
pub mod exception;
pub mod histogram;
pub mod label;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod pricing;
pub mod rate;
pub mod report;
pub mod retry;
pub mod rollup;
pub mod run;
pub mod summary;
pub mod switch;
pub mod template;
pub mod terms;
pub mod tightness;
pub mod vision;
