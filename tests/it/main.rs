//! The one test binary: links stay cheap.
#![expect(clippy::panic, reason = "a test that can't go on says why")]
#![expect(clippy::disallowed_methods, reason = "a test of real processes bounds its own waits by the real clock")]

mod agents;
mod caching;
mod chain;
mod cli;
mod context;
mod counting;
mod each;
mod fallbacks;
mod fan_out;
mod files;
mod floors;
mod gemini;
mod gemini_runs;
mod kept;
mod kill;
mod ledger;
mod licences;
mod limits;
mod live_store;
mod long_talk;
mod map;
mod openai_wires;
mod people;
mod policies;
mod pricing;
mod provider;
mod proxy;
mod replay;
mod resume;
mod run_machine;
mod runtime;
mod serve;
mod sim;
mod spec;
mod store;
mod threads;
mod tokenize;
mod tool;
mod tree;
mod voyage;
mod what_if;
mod wires;
mod workflow;
mod world;
