//! A runtime for one command: the simulated provider where it answers, signals, and a clean end.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{Books, Gatekeeper, Intake, IntakeOptions, Service};
use crate::cli::aged::plan_age_warnings;
use crate::cli::ask::who;
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::project::{clock, is_simulated, project_rows, sim_deployments, sim_prices};
use crate::cli::remote;
use crate::domain::audit::Author;
use crate::domain::budget::Budget;
use crate::domain::plan::Plan;
use crate::domain::pricing::PriceBook;
use crate::domain::report::Trace;
use crate::domain::terms::Terms;
use crate::ids::{AgentName, RunId};
use crate::runtime::alerts::{Courier, Deliverer};
use crate::runtime::cassette::{CassetteError, Player, Recorder, Secrets, Tape};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::sim::{Scenario, Sim, SimHandle, SimOptions};
use crate::spec;
use crate::spec::load::Answering;
use crate::spec::load_line::load_line_of;
use crate::spec::project::Project;
use crate::telemetry::export::{ExportOptions, Exporter};
use crate::telemetry::{Peers, Telemetry};
use crate::tool::variables::Variables;
use crate::units::{Millis, Money};

/// How long a process that is done still answers others.
const LAST_ANSWERS_TIME_MAX: Millis = Millis::from_secs(2);

/// How long a process that is done still delivers alerts.
const LAST_ALERTS_TIME_MAX: Millis = Millis::from_secs(2);

/// Who answers, where it isn't the configured providers.
#[derive(Clone, Debug, Default)]
pub struct SimChoice {
    /// `--sim`.
    pub sim: bool,
    /// `--scenario`.
    pub scenario: Option<PathBuf>,
    /// `--invoice`.
    pub invoice: Option<PathBuf>,
    /// `--cassette`.
    pub cassette: Option<PathBuf>,
    /// `--live-tools`.
    pub live_tools: bool,
    /// The file that is recorded, and whether it may be replaced.
    pub record: Option<(PathBuf, bool)>,
}

/// An open runtime, with the simulated provider beside it.
pub struct Session {
    /// The runtime.
    pub runtime: Runtime,
    sim: Option<SimHandle>,
    /// True where a cassette answers.
    plays: bool,
    recorder: Option<Recorder>,
    stopping: Stopping,
    folder: PathBuf,
    budgets: Vec<Budget>,
    /// Who answers.
    peers: Peers,
    /// Which prices are old, in words.
    aged: Vec<String>,
    /// Where it takes runs in.
    intake: Option<Intake>,
    /// Who knows the keys.
    gatekeeper: Gatekeeper,
    /// Answers other processes.
    served: JoinSet<()>,
    /// Tells people.
    deliverer: Deliverer,
    delivering: JoinSet<()>,
    stop_serving: watch::Sender<bool>,
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
        let tape = tape(project, &plans, choice)?;
        let plays = matches!(tape, Tape::Play(_));
        let recorder = if let Tape::Record(recorder) = &tape { Some(recorder.clone()) } else { None };
        let sim = if plays { None } else { start_sim(project, choice)? };
        let answering = if sim.is_none() && !plays { Answering::Configured } else { Answering::Simulated };
        let prices = project_rows(project, answering)?;
        let book = PriceBook::builtin().with_overrides(prices.clone());
        let load_lines = load_lines(&plans, &book);
        let aged = plan_age_warnings(plans.values(), &book, &project.ages, clock().now());
        let simulated = sim.as_ref().map(SimHandle::base_url);
        let is_free = simulated.is_some() || plays;
        let peers = Peers::of(project);
        let peers = if is_free { peers.all_at(simulated.as_deref()) } else { peers };
        let options = RuntimeOptions { clock: clock(), simulated, prices, load_lines };
        let declared = Terms::declared(&project.budgets, &options.prices, PriceBook::builtin());
        let runtime = Runtime::open_with(tape, project, plans, options)?;
        runtime.store().declare(Author::Files(who()), &declared)?;
        let deliverer = Deliverer::new(runtime.store().clone(), Courier::new(project, clock(), is_free));
        if let Some(exporter) = exporter(project, is_free)? {
            runtime.tell(watching(exporter, &runtime, project, peers.clone()));
        }
        Ok(Self {
            peers,
            runtime,
            folder: books::folder(project, sim.is_some() || plays),
            sim,
            plays,
            recorder,
            stopping: Stopping::default(),
            budgets: project.budgets.clone(),
            aged,
            intake: None,
            gatekeeper: Gatekeeper::default(),
            deliverer,
            delivering: JoinSet::new(),
            served: JoinSet::new(),
            stop_serving: watch::Sender::new(false),
        })
    }

    /// Serves other processes on the store's socket, and delivers alerts, until this one ends: for commands that drive runs. It begins beside
    /// the caller, and a run that starts doesn't wait for it.
    pub fn serve(&mut self) {
        let (deliverer, stop) = (self.deliverer.clone(), self.stop_serving.subscribe());
        self.delivering.spawn(async move { deliverer.work(stop).await });
        #[cfg(unix)]
        {
            let (folder, service, stop) = (self.folder.clone(), self.service(), self.stop_serving.subscribe());
            self.served.spawn(async move {
                match crate::api::socket::Socket::bind(&folder) {
                    Ok(socket) => socket.serve(service, stop).await,
                    Err(error) => tracing::warn!(%error, "other processes can't ask this one about the store"),
                }
            });
        }
    }

    /// Takes runs in from here on; whoever serves it has them driven.
    pub fn take_runs_in(&mut self, options: IntakeOptions) {
        self.intake = Some(Intake::new(self.runtime.clone(), options));
    }

    /// Counts what its runs do from here on, also where nothing is exported.
    pub fn tell(&self) {
        self.runtime.tell(Telemetry::new(None, self.peers.clone()));
    }

    /// Where runs are taken in.
    #[must_use]
    pub const fn intake(&self) -> Option<&Intake> {
        self.intake.as_ref()
    }

    /// What other processes may ask, asked here.
    #[must_use]
    pub fn service(&self) -> Service {
        let service = Service::new(self.runtime.clone(), &self.budgets, clock());
        let service = service.with_gatekeeper(self.gatekeeper.clone());
        match &self.intake {
            Some(intake) => service.with_intake(intake.clone()),
            None => service,
        }
    }

    /// Whether the runs were asked to stop.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// True where the simulated provider answers.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.sim.is_some() || self.plays
    }

    /// Says, where the simulated provider answers, that no money is spent; else, which prices are old.
    pub fn tell_of_costs(&self, output: &Output, choice: &SimChoice) {
        if self.plays {
            output.talk("a cassette answers: costs are those of the recording, no call is made and no money is spent");
        } else if self.is_simulated() {
            let why = if choice.sim { "" } else { ", since no provider is configured in plimsoll.toml" };
            output.talk(&format!(
                "the simulated provider answers{why}: costs are shown at the models' prices, no money is spent"
            ));
        } else {
            self.aged.iter().for_each(|warning| output.talk(warning));
        }
    }

    /// The trace of a run.
    ///
    /// # Errors
    /// Its log is damaged.
    pub fn trace(&self, run: RunId) -> Result<Trace, CliError> {
        let books = Books::new(self.runtime.store().clone(), &self.budgets, clock());
        books.trace(run).map_err(|error| remote::plain(&(&error).into()))
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

    /// Puts what was recorded in its place; says how many answers it holds. Nothing where nothing is recorded.
    ///
    /// # Errors
    /// It couldn't be written.
    pub fn finish_recording(&self) -> Result<Option<usize>, CliError> {
        let Some(recorder) = &self.recorder else { return Ok(None) };
        recorder.finish().map(Some).map_err(|error| cassette_problem(&error))
    }

    /// Answers those who have asked already, closes the store, and then the simulated provider.
    pub async fn close(mut self) {
        self.runtime.drain().await;
        if let Err(error) = self.runtime.sweep().await {
            tracing::warn!(%error, "bodies whose time is up could not be erased; the next process tries again");
        }
        if let Some(telemetry) = self.runtime.telemetry() {
            telemetry.flush().await;
            telemetry.unwatch();
        }
        self.stop_serving.send_replace(true);
        let answered = async { while self.served.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_ANSWERS_TIME_MAX.duration(), answered).await.is_err() {
            tracing::warn!("another process asked something that takes too long, and gets no answer");
            self.served.shutdown().await;
        }
        // What isn't delivered by then waits in the store for the next process.
        let delivered = async { while self.delivering.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_ALERTS_TIME_MAX.duration(), delivered).await.is_err() {
            self.delivering.shutdown().await;
        }
        drop((self.runtime, self.intake, self.deliverer));
        if let Some(sim) = self.sim {
            sim.stop().await;
        }
    }
}

/// Tells a collector what runs do, and what stands in the store.
fn watching(exporter: Exporter, runtime: &Runtime, project: &Project, peers: Peers) -> Telemetry {
    let telemetry = Telemetry::new(Some(exporter), peers);
    let books = Books::new(runtime.store().clone(), &project.budgets, clock());
    telemetry.watch(move || books.gauges().ok());
    telemetry
}

/// The way to a collector, where the project or the environment names one.
fn exporter(project: &Project, simulated: bool) -> Result<Option<Exporter>, CliError> {
    let spec::project::Telemetry { otlp: endpoint, content, genai_names: names, cost_attributes: cost } =
        project.telemetry.clone();
    let help = "look at `[telemetry]` in plimsoll.toml and at the `OTEL_…` variables";
    Exporter::start(&ExportOptions { endpoint, content, names, cost, simulated })
        .map_err(|error| Problem::told(code::TELEMETRY, &error, Exit::Usage).help(help).into())
}

fn load_lines(plans: &BTreeMap<AgentName, Plan>, book: &PriceBook) -> BTreeMap<AgentName, Money> {
    let now = clock().now();
    plans.iter().map(|(name, plan)| (name.clone(), load_line_of(plan, book, now).amount)).collect()
}

fn tape(project: &Project, plans: &BTreeMap<AgentName, Plan>, choice: &SimChoice) -> Result<Tape, CliError> {
    let secrets = || Secrets::of(project, plans, &Variables::system());
    let told = |error: CassetteError| cassette_problem(&error);
    match (&choice.cassette, &choice.record) {
        (Some(path), _) => Player::read(path, choice.live_tools, secrets()).map(Tape::Play).map_err(told),
        (None, Some((path, overwrite))) => Recorder::new(path, *overwrite, secrets()).map(Tape::Record).map_err(told),
        (None, None) => Ok(Tape::None),
    }
}

fn cassette_problem(error: &CassetteError) -> CliError {
    let help = match error {
        CassetteError::Exists { .. } => "add `--overwrite` to record it anew",
        CassetteError::Write { .. } => "look whether its folder is there and may be written to",
        CassetteError::Read { .. }
        | CassetteError::TooLarge { .. }
        | CassetteError::Form { .. }
        | CassetteError::Version { .. } => "`plimsoll record AGENT --input TEXT --to FILE` makes one",
    };
    Problem::told(code::CASSETTE, error, Exit::Usage).help(help).into()
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
        deployments: sim_deployments(project),
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

/// Hears the system's request to read files again (SIGHUP), which then ends nothing.
#[cfg(unix)]
pub struct Hangups(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangups {
    /// Starts to listen.
    #[must_use]
    pub fn listen() -> Self {
        Self(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok())
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        hear(self.0.as_mut()).await;
    }
}

/// Hears nothing: there is no such signal here.
#[cfg(not(unix))]
pub struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    /// Listens to nothing.
    #[must_use]
    pub const fn listen() -> Self {
        Self
    }

    /// Waits for ever.
    pub async fn next(&mut self) {
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
