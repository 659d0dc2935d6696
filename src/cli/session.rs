//! A runtime for one command: the simulated provider where it answers, signals, and a clean end.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::project::{clock, is_simulated, load_line_of, price_rows, sim_prices};
use crate::domain::plan::Plan;
use crate::domain::pricing::PriceBook;
use crate::domain::report::{RunDocument, Trace};
use crate::ids::{AgentName, RunId};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::sim::{Scenario, Sim, SimHandle, SimOptions};
use crate::spec::project::Project;
use crate::units::Money;

/// What the simulated provider is given.
#[derive(Clone, Debug, Default)]
pub struct SimChoice {
    /// `--sim`.
    pub sim: bool,
    /// `--scenario`.
    pub scenario: Option<PathBuf>,
    /// `--invoice`.
    pub invoice: Option<PathBuf>,
}

/// An open runtime, with the simulated provider beside it.
pub struct Session {
    /// The runtime.
    pub runtime: Runtime,
    sim: Option<SimHandle>,
    stopping: Stopping,
}

/// Turns true when someone asked the runs to stop; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// True once someone asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Session {
    /// Opens the store, and starts the simulated provider where it answers. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// The store is held or damaged; a price, the scenario or the invoice can't be used.
    pub fn open(project: &Project, plans: BTreeMap<AgentName, Plan>, choice: &SimChoice) -> Result<Self, CliError> {
        let prices = price_rows(project)?;
        let load_lines = load_lines(&plans, &prices);
        let sim = start_sim(project, choice)?;
        let simulated = sim.as_ref().map(SimHandle::base_url);
        let options = RuntimeOptions { clock: clock(), simulated, prices, load_lines };
        Ok(Self { runtime: Runtime::open(project, plans, options)?, sim, stopping: Stopping::default() })
    }

    /// Whether the runs were asked to stop.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// True where the simulated provider answers.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.sim.is_some()
    }

    /// Says, where the simulated provider answers, that no money is spent.
    pub fn tell_of_simulation(&self, output: &Output, choice: &SimChoice) {
        if self.is_simulated() {
            let why = if choice.sim { "" } else { ", since no provider is configured in plimsoll.toml" };
            output.talk(&format!(
                "the simulated provider answers{why}: costs are shown at the models' prices, no money is spent"
            ));
        }
    }

    /// The document of a run.
    ///
    /// # Errors
    /// Its log is damaged.
    pub fn document(&self, run: RunId) -> Result<RunDocument, CliError> {
        let (state, created) = self.runtime.load(run)?;
        Ok(RunDocument::of(&state, created.load_line, clock().now()))
    }

    /// The trace of a run.
    ///
    /// # Errors
    /// Its log is damaged.
    pub fn trace(&self, run: RunId) -> Result<Trace, CliError> {
        crate::cli::books::trace(self.runtime.store(), run, clock().now())
    }

    /// Does some work; the first signal asks every run to stop cleanly, a second one gives up waiting for that. `say`
    /// tells people, without tearing what they watch.
    pub async fn until_told_to_stop<T>(&self, say: impl Fn(&str), work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut signals = Signals::listen();
        tokio::select! {
            done = &mut work => return Some(done),
            () = signals.next() => {}
        }
        say("stopping: what is in flight is finished first; once more to stop at once");
        self.stopping.0.store(true, Ordering::Relaxed);
        self.runtime.request_stop();
        tokio::select! {
            done = &mut work => Some(done),
            () = signals.next() => None,
        }
    }

    /// Closes the store, and then the simulated provider.
    pub async fn close(self) {
        self.runtime.drain().await;
        drop(self.runtime);
        if let Some(sim) = self.sim {
            sim.stop().await;
        }
    }
}

fn load_lines(
    plans: &BTreeMap<AgentName, Plan>,
    prices: &[crate::domain::pricing::PriceRow],
) -> BTreeMap<AgentName, Money> {
    if plans.is_empty() {
        return BTreeMap::new();
    }
    let own = (!prices.is_empty()).then(|| PriceBook::builtin().with_overrides(prices.to_vec()));
    let book = own.as_ref().unwrap_or_else(|| PriceBook::builtin());
    let now = clock().now();
    plans.iter().map(|(name, plan)| (name.clone(), load_line_of(plan, book, now).amount)).collect()
}

fn start_sim(project: &Project, choice: &SimChoice) -> Result<Option<SimHandle>, CliError> {
    if !is_simulated(project, choice.sim) {
        if choice.scenario.is_some() || choice.invoice.is_some() {
            let message = "`--scenario` and `--invoice` are the simulated provider's, and a real one is configured";
            return Err(Problem::usage(code::USAGE, message).help("add `--sim`").into());
        }
        return Ok(None);
    }
    let options = SimOptions {
        scenario: scenario(choice.scenario.as_deref())?,
        invoice: choice.invoice.clone(),
        prices: sim_prices(project),
        ..SimOptions::default()
    };
    Ok(Some(Sim::start(options)?))
}

/// The scenario of a file; the built-in agent without one.
///
/// # Errors
/// The file can't be read or understood.
pub fn scenario(path: Option<&Path>) -> Result<Scenario, CliError> {
    path.map_or_else(
        || Ok(Scenario::default()),
        |path| {
            let help = "name a TOML file that says what the simulated provider replies";
            Scenario::read(path).map_err(|error| Problem::told(code::SIM, &error, Exit::Usage).help(help).into())
        },
    )
}

/// Hears Ctrl-C, and the system's request to end. One listener for a command's whole time: a second signal that comes
/// while the first is being answered is kept, not lost.
#[cfg(unix)]
pub struct Signals {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen; from here on a signal doesn't end the process by itself.
    #[must_use]
    pub fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).ok();
        Self { interrupt: listen(SignalKind::interrupt()), terminate: listen(SignalKind::terminate()) }
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            () = hear(self.interrupt.as_mut()) => {}
            () = hear(self.terminate.as_mut()) => {}
        }
    }
}

/// Where a signal can't be heard nobody can ask: the work goes on.
#[cfg(unix)]
async fn hear(signal: Option<&mut tokio::signal::unix::Signal>) {
    let heard = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Hears Ctrl-C.
#[cfg(not(unix))]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Starts to listen.
    #[must_use]
    pub fn listen() -> Self {
        Self
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Runs a future on a runtime of its own; what still runs afterwards is given up.
///
/// # Errors
/// The system gives no threads; or what the future says.
pub fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(code::SYSTEM, format!("can't start: {error}")))?;
    let done = runtime.block_on(future);
    runtime.shutdown_background();
    done
}
