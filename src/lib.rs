//! Plimsoll: an agent runtime with hard operating limits.
//!
//! A Plimsoll line is the mark on a ship's hull that says how deep she may be loaded. Here it is the *load line* of an
//! agent: the most that one of its runs can cost, computed from its file before anything runs. Before each call to a
//! model the worst case of that call is reserved, on disk, on every account that it counts against; after it, what it
//! really cost is settled. So no run spends beyond its marks, under any load or crash, and every dollar has a line in a
//! trace.
//!
//! # From above
//!
//! An agent is a TOML file. [`spec`] resolves it with everything it refers to into a [`domain::plan::Plan`]. A
//! [`runtime::Runtime`] drives runs of plans: it asks the run's state machine ([`domain::run`]) what comes next, has the
//! [`gate`] choose a model, fit the request into the context budget and bound its cost, and the ledger
//! ([`domain::ledger`]) judge the money inside the [`store`]'s atomic, durable write. What is granted comes back as a
//! [`gate::Permit`], which a [`provider`] or [`tool`] takes by value; what the call came to is written before the next
//! step sees it. The domain has no IO: replaying a run's log gives the run.
//!
//! # The house
//!
//! A module imports lower floors only; `tests/it/floors.rs` checks it.
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`units`], [`ids`], [`failpoint`] |
//! | 1 | [`domain`]: pure; events, run machine, ledger, limits, policy, retry, context, pricing, reports |
//! | 2 | [`spec`], [`clock`], [`tokenize`], [`store`] |
//! | 3 | [`gate`]: the only mint of permits |
//! | 4 | [`provider`], [`tool`]: one attempt, no retry |
//! | 5 | [`runtime`]: decide, append, perform, feed back; [`sim`]: a simulated provider with an invoice of its own |
//! | 5 | [`api`]: what other processes may ask of the one that holds a store |
//! | 6 | [`cli`] |
//!
//! # The promises
//!
//! Tests and docs cite them by number.
//!
//! 1. **No permit, no call.** The compiler enforces it.
//! 2. **No overshoot.** Settled + held stays ≤ the cap on every account; the check is inside the write that reserves.
//! 3. **A bound or a refusal.** What can't be bounded or priced is refused, never taken for $0.
//! 4. **Durable before the effect.** A reservation is on disk before its request leaves, a result before it is told.
//! 5. **No release without evidence.** Unknown usage settles at the full reservation, marked `unknown`.
//! 6. **The ledger is the invoice**, to the last pico-dollar, for calls with reported usage.
//! 7. **Resume repeats nothing** that was settled, and no tool that may have taken effect.
//! 8. **Every run ends**, or waits visibly; never past its time limits.
//! 9. **Every dollar explained.** A trace's lines add up to its run, runs to reports, reports to accounts.
//! 10. **Every queue, buffer, body, loop and retry has a written bound.**
//! 11. **Same events, same state.**
//! 12. **Secrets stay out** of logs, events, traces, errors and the store.
//! 13. **An admitted run can land**: the worst case of one last answer is reserved for it.
//! 14. **Limits cover the tree**: a retry, resume or restart resets nothing.
//!
//! # In Rust
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::path::Path;
//!
//! use plimsoll::clock::Clock;
//! use plimsoll::domain::event::Labels;
//! use plimsoll::ids::AgentName;
//! use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
//! use plimsoll::sim::{Sim, SimOptions};
//! use plimsoll::spec::load::{LoadOptions, load_project};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (project, plans) = load_project(Path::new("."), &LoadOptions::default()).map_err(|faults| faults.to_string())?;
//! let sim = Sim::start(SimOptions::default())?;
//! let options = RuntimeOptions {
//!     clock: Clock::system(),
//!     simulated: Some(sim.base_url()), // `None` asks the project's providers
//!     prices: vec![],
//!     load_lines: BTreeMap::new(),
//! };
//! let runtime = Runtime::open(&project, plans, options)?;
//! let new = NewRun {
//!     agent: AgentName::from("support-triage"),
//!     input: serde_json::json!({ "ticket": "Where is my order 10482?" }),
//!     labels: Labels::new(),
//!     key: None,
//!     files: vec![],
//!     bound: vec![],
//! };
//! let (run, state) = runtime.run(&new, silent()).await?;
//! let (run, _) = runtime.load(run)?;
//! println!("{state:?}, {} of at most {}", run.counters.settled, run.plan.limits.cost);
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod described;

pub mod api;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod failpoint;
pub mod gate;
pub mod ids;
pub mod pages;
pub mod provider;
pub mod rates;
pub mod runtime;
pub mod sim;
pub mod spec;
pub mod store;
pub mod telemetry;
pub mod tokenize;
pub mod tool;
pub mod units;
pub mod words;
