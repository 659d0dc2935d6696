//! The runtime: decide, append, perform, feed back. It opens the store, drives runs, and closes it.
//!
//! Invariants: one task drives a root run and all below it; nothing is performed before the store holds it; whatever a run started is drained
//! when it ends or stops. Deliberately absent: decisions. [`crate::domain::run`] and [`crate::domain::ledger`] take them.

pub mod alerts;
mod answers;
mod cancel;
pub mod cassette;
mod checks;
mod conductor;
mod creation;
mod documents;
mod downgrade;
mod driving;
mod dry_run;
mod echo;
mod erasure;
mod error;
mod expiry;
mod files;
mod foresight;
mod known;
mod outcome;
mod people;
mod perform;
mod progress;
mod reload;
pub mod replay;
mod roster;
mod settle;
mod stop;
mod telling;
mod thread;

pub use answers::{Answering, Answers};
pub use dry_run::DryRun;
pub use echo::Heard;
pub use erasure::Erased;
pub use error::RuntimeError;
pub(crate) use known::terms_of;
pub(crate) use people::Request;
pub use progress::{Observer, Progress, silent};
pub use reload::{Reload, Reloaded};
pub(crate) use roster::Agent;
pub use roster::Changed;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::domain::audit::Act;
use crate::domain::budget::Budget;
use crate::domain::event::{Created, Event, Labels, RunState};
use crate::domain::ledger::Op;
use crate::domain::message::GivenFile;
use crate::domain::plan::Plan;
use crate::domain::pricing::{PriceBook, PriceRow};
use crate::domain::report::RateTable;
use crate::domain::run::{Run, Tree};
use crate::failpoint;
use crate::gate::{Appraiser, Gate, Providers, Rendered, Traffic};
use crate::ids::{AgentName, PriceId, RunId};
use crate::rates::Rates;
use crate::spec::project::Project;
use crate::spec::readers::Readers;
use crate::store::Store;
use crate::telemetry::{Following, Telemetry};
use crate::tool::ToolContext;
use crate::units::{Millis, Money};
use answers::Live;
use cassette::Tape;
use cassette::play::Playing;
use cassette::record::Recording;
use checks::Checks;
use conductor::Conductor;
use driving::Driving;
use echo::Echo;
use erasure::Swept;
use expiry::Expiry;
use foresight::Foresight;
use known::{live, payers_of, tools_of};
use roster::Roster;
use stop::Stop;

/// How a runtime is opened.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Reads time.
    pub clock: Clock,
    /// Where the simulated provider listens, if it answers for every model: `http://127.0.0.1:…/v1`. A provider that the
    /// project configures is asked over its own wire, at `/NAME/v1` there; all others over OpenAI's chat wire.
    pub simulated: Option<String>,
    /// Prices of the project, over the built-in book.
    pub prices: Vec<PriceRow>,
    /// What each agent can cost at most; the `cost` limit where an agent is absent.
    pub load_lines: BTreeMap<AgentName, Money>,
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The agent.
    pub agent: AgentName,
    /// Its input: a string, or what its input schema asks for.
    pub input: Value,
    /// The caller's labels; those that are derived from the agent and the project are added.
    pub labels: Labels,
    /// The caller's key for this run.
    pub key: Option<String>,
    /// Files that go with the input.
    pub files: Vec<GivenFile>,
    /// Names of the labels that whoever makes it is bound to: its thread goes on within them.
    pub bound: Vec<String>,
}

/// Drives runs. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

type Ready = (Tree, (Arc<Agent>, Rendered));
/// Requests of people that a driven tree hasn't heard yet.
const REQUESTS_MAX: usize = 64;

/// The right to drive a run or to decide on it. Dropped, it is free for others.
struct Entered {
    runtime: Runtime,
    run: RunId,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.runtime.driven().remove(&self.run);
    }
}

/// What differs with who answers.
struct Parts {
    store: Store,
    known: Providers,
    answers: Arc<dyn Answers>,
    simulated: bool,
    instants: bool,
    stop: watch::Sender<bool>,
    tools: ToolContext,
}

/// What all runs share.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) clock: Clock,
    /// Performs what was granted.
    pub(crate) answers: Arc<dyn Answers>,
    /// True where nobody is asked who bills.
    simulated: bool,
    /// True where builtins that need no time run at once, asked of nobody.
    pub(crate) instants: bool,
    /// For the builtins that run at once.
    pub(crate) tools: ToolContext,
    pub(crate) checks: Checks,
    /// Who reads files, and what they count there.
    readers: Readers,
    /// The agents as they are configured now.
    roster: RwLock<Arc<Roster>>,
    foresight: Foresight,
    /// How long bodies are kept of runs that are over; `None` for good.
    keep_bodies: Option<Millis>,
    swept: Swept,
    environment: String,
    budgets: Vec<Budget>,
    /// The roots that are driven now, each with the way to ask something of it. Boxed, since a channel keeps room for 32.
    driven: Mutex<BTreeMap<RunId, mpsc::Sender<Box<Request>>>>,
    /// The runs that are driven now and are in a thread, by agent and thread.
    threads: Mutex<thread::Threads>,
    /// Runs whose caller went away, until what they have in flight is settled.
    drains: Mutex<JoinSet<()>>,
    /// Runs that go on because somebody answered them.
    woken: Mutex<JoinSet<()>>,
    /// The runs that wait for a person.
    expiry: Expiry,
    /// Who listens to runs.
    echo: Echo,
    /// Who is told what runs do.
    telemetry: OnceLock<Telemetry>,
    pub(crate) stop: Stop,
}

impl Runtime {
    /// Opens the store and settles what a process that went down left open. No network, no tokenizer, no TLS yet.
    ///
    /// # Errors
    /// The store is held, foreign, damaged or can't be read; a provider is configured wrongly.
    pub fn open(
        project: &Project,
        plans: BTreeMap<AgentName, Plan>,
        options: RuntimeOptions,
    ) -> Result<Self, RuntimeError> {
        Self::open_with(Tape::None, project, plans, options)
    }

    /// The same, with what is said recorded, or played from a cassette. Where one is played nobody is asked who bills:
    /// runs are kept in the store of simulated ones.
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub fn open_with(
        tape: Tape,
        project: &Project,
        plans: BTreeMap<AgentName, Plan>,
        options: RuntimeOptions,
    ) -> Result<Self, RuntimeError> {
        let simulated = options.simulated.is_some() || matches!(tape, Tape::Play(_));
        let folder = if simulated { simulated_folder(&project.store) } else { project.store.clone() };
        let store = Store::open(&folder, project.ledger_policy(), options.clock.clone())?;
        let (stop, tools) = tools_of(&options.clock);
        let (live, terms) = live(project, &options, tools.clone())?;
        let terms = Arc::new(terms);
        let known = if simulated { Providers::Any(terms) } else { Providers::Configured(terms) };
        // What a builtin says belongs on the tape too: the time of day, a file.
        let instants = matches!(tape, Tape::None);
        let answers: Arc<dyn Answers> = match tape {
            Tape::None => Arc::new(live),
            Tape::Record(recorder) => Arc::new(Recording { recorder, inner: live }),
            Tape::Play(player) => Arc::new(Playing { player, tools: tools.clone() }),
        };
        let parts = Parts { store, known, answers, simulated, instants, stop, tools };
        Ok(Self::assembled(parts, project, plans, options))
    }

    /// A runtime over a store that is open, whose calls somebody else answers: a simulation. Its runs are marked as
    /// simulated, and models have the ordinary terms, whoever their provider is.
    #[must_use]
    pub fn answered_by(
        answers: Arc<dyn Answers>,
        store: Store,
        project: &Project,
        plans: BTreeMap<AgentName, Plan>,
        options: RuntimeOptions,
    ) -> Self {
        let (stop, tools) = tools_of(&options.clock);
        let known = Providers::Any(Arc::default());
        let parts = Parts { store, known, answers, simulated: true, instants: true, stop, tools };
        Self::assembled(parts, project, plans, options)
    }

    fn assembled(parts: Parts, project: &Project, plans: BTreeMap<AgentName, Plan>, options: RuntimeOptions) -> Self {
        let book = if options.prices.is_empty() {
            PriceBook::builtin().clone()
        } else {
            PriceBook::builtin().with_overrides(options.prices.clone())
        };
        let desk = Appraiser::new(Arc::new(book), parts.known.clone())
            .with_approvals(project.approvals.clone())
            .with_ages(project.ages.clone())
            .with_accounts(payers_of(project));
        Self::around(desk, parts, project, plans, options)
    }

    /// With the gate's first half as it is.
    fn around(
        desk: Appraiser,
        parts: Parts,
        project: &Project,
        plans: BTreeMap<AgentName, Plan>,
        options: RuntimeOptions,
    ) -> Self {
        let Parts { store, answers, simulated, instants, stop, tools, .. } = parts;
        let rates = Rates::new(project.rates.clone(), project.breaker, options.clock.now());
        let traffic = Traffic { rates, clock: options.clock.clone() };
        let waits = store.waits().to_vec();
        let runtime = Self(Arc::new(Shared {
            gate: Gate::new(store, desk, traffic),
            clock: options.clock,
            answers,
            simulated,
            instants,
            tools,
            checks: Checks::default(),
            readers: Readers::of(project),
            roster: RwLock::new(Arc::new(Roster::new(plans, options.load_lines))),
            foresight: Foresight::default(),
            keep_bodies: project.keep_bodies,
            swept: Swept::default(),
            environment: project.environment.clone(),
            budgets: project.budgets.clone(),
            driven: Mutex::default(),
            threads: Mutex::default(),
            drains: Mutex::default(),
            woken: Mutex::default(),
            expiry: Expiry::default(),
            echo: Echo::default(),
            telemetry: OnceLock::new(),
            stop: Stop::new(stop),
        }));
        runtime.watch_waits(waits);
        runtime
    }

    /// Makes a run, durably, and leaves it in `queued`.
    ///
    /// # Errors
    /// The agent isn't known, the input doesn't fit it, a budget asks for a label that isn't there, or the store can't
    /// write.
    pub async fn create(&self, new: &NewRun) -> Result<RunId, RuntimeError> {
        let (run, mut created, agent) = self.created(new)?;
        let making = self.make_new(run, &mut created, &new.bound)?;
        let events = vec![(run, Event::Created(created))];
        let op = Op { run, events, asks: vec![], plan: Some(agent.plan.clone()) };
        self.store().submit(op).await?;
        drop(making);
        tracing::info!(%run, agent = %new.agent, "created");
        Ok(run)
    }

    /// Makes a run and drives it until it ends or waits for a person. One durable write covers its creation, its
    /// admission and its first call. Dropping the future ends the wait, not the books: what is in flight is drained and
    /// settled, then the run is `interrupted`.
    ///
    /// # Errors
    /// As [`Runtime::create`].
    pub async fn run(&self, new: &NewRun, observer: Observer) -> Result<(RunId, RunState), RuntimeError> {
        let (run, driving) = self.begin(new, observer)?;
        Ok((run, driving.await?))
    }

    /// All that comes before a new run's first write. No part of [`Runtime::run`]'s future, where it would take memory for
    /// as long as the run waits.
    fn begin(&self, new: &NewRun, observer: Observer) -> Result<(RunId, Driving), RuntimeError> {
        let (run, mut created, agent) = self.created(new)?;
        let entered = self.enter_new(run, &mut created, &new.bound)?;
        let at = self.0.clock.now();
        let state = Run::new(run, agent.plan.clone(), &created, at);
        let rendered = self.render(agent.clone(), &created, &state)?;
        let created = Some(Event::Created(created));
        Ok((run, self.driving(entered, Tree::of(state), rendered, observer, created)))
    }

    /// Drives a run that is queued, interrupted or waits, until it ends or waits for a person. An ended run stays as it is.
    ///
    /// # Errors
    /// There is no such run, it is a sub-agent's, its log is damaged, or the store can't write.
    pub async fn drive(&self, run: RunId, observer: Observer) -> Result<RunState, RuntimeError> {
        let entered = self.enter(run)?;
        self.drive_entered(entered, run, observer).await
    }

    async fn drive_entered(
        &self,
        entered: (Entered, mpsc::Receiver<Box<Request>>),
        run: RunId,
        observer: Observer,
    ) -> Result<RunState, RuntimeError> {
        let Some((tree, rendered)) = self.read_again(run)? else { return Ok(self.load(run)?.0.state) };
        failpoint::reach("run.resume");
        self.driving(entered, tree, rendered, observer, None).await
    }

    /// A tree that hasn't ended, ready to be driven.
    fn read_again(&self, run: RunId) -> Result<Option<Ready>, RuntimeError> {
        let (tree, created) = self.load_tree_with(run, |created, plan| self.fetch_files(run, created, plan))?;
        let open = (!tree.root().state.is_ended()).then(|| Arc::new(Agent::new(tree.root().plan.clone())));
        let rendered = open.map(|agent| self.render(agent, &created, tree.root())).transpose()?;
        Ok(rendered.map(|rendered| (tree, rendered)))
    }

    fn driving(
        &self,
        (entered, requests): (Entered, mpsc::Receiver<Box<Request>>),
        tree: Tree,
        rendered: (Arc<Agent>, Rendered),
        observer: Observer,
        created: Option<Event>,
    ) -> Driving {
        let id = tree.root().id;
        let span = telling::span_of(tree.root());
        let following = self.telemetry().map(|telemetry| telemetry.follow(&tree, self.0.clock.now()));
        let observer = self.0.echo.around(telling::around(following.clone(), observer));
        let (hang_up, hung_up) = watch::channel(false);
        let mut conductor = Conductor::new(self.0.clone(), tree, rendered, observer, created, requests, hung_up);
        let runtime = self.clone();
        let drive = async move {
            let mut driven = conductor.drive().await;
            // Held by a switch, it waits in the queue until that is lifted.
            while driven.is_ok() && conductor.is_held_back() {
                driven = match runtime.read_again(id) {
                    Ok(None) => break,
                    Ok(Some((tree, rendered))) => {
                        conductor = conductor.begin_again(tree, rendered);
                        conductor.drive().await
                    }
                    Err(error) => Err(error),
                };
            }
            following.iter().for_each(Following::leave);
            drop(entered);
            runtime.watch_waits(conductor.waits_until().map(|until| (until, id)));
            driven
        };
        Driving::new(Box::pin(drive.instrument(span)), hang_up, self.0.clone())
    }

    /// Until the runs whose callers went away have settled what they had in flight.
    pub async fn drain(&self) {
        self.let_woken_go().await;
        let mut drains = std::mem::take(&mut *self.0.drains.lock().unwrap_or_else(PoisonError::into_inner));
        while drains.join_next().await.is_some() {}
    }

    /// One task drives a run, or decides on it; until it lets go nobody else does.
    fn enter(&self, run: RunId) -> Result<(Entered, mpsc::Receiver<Box<Request>>), RuntimeError> {
        let mut driven = self.driven();
        if driven.contains_key(&run) {
            return Err(RuntimeError::Driven { run });
        }
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        driven.insert(run, sender);
        Ok((Entered { runtime: self.clone(), run }, requests))
    }

    fn driven(&self) -> MutexGuard<'_, BTreeMap<RunId, mpsc::Sender<Box<Request>>>> {
        self.0.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lifts the freeze of one price row, or of all rows of a model; says which. The audit log keeps who and why.
    ///
    /// # Errors
    /// The store can't write.
    pub async fn unfreeze(&self, row: &str, act: &Act) -> Result<Vec<PriceId>, RuntimeError> {
        let frozen = self.store().frozen()?.into_iter().map(|frozen| frozen.price);
        let frozen: Vec<PriceId> = frozen.filter(|price| price.is_named(row)).collect();
        for price in &frozen {
            tracing::warn!(%price, by = %act.by(), reason = act.reason(), "a frozen price row is used again");
            self.store().unfreeze(price.clone(), act.clone()).await?;
        }
        Ok(frozen)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.0.gate.store()
    }

    /// Rates and breakers as they stand.
    #[must_use]
    pub fn rates(&self) -> RateTable {
        self.0.gate.rates().standing(self.0.clock.now())
    }

    /// Reads time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The price book in force.
    #[must_use]
    pub fn prices(&self) -> &Arc<PriceBook> {
        self.0.gate.book()
    }

    /// A run as its log tells it.
    ///
    /// # Errors
    /// There is no such run, or its log is damaged.
    pub fn load(&self, run: RunId) -> Result<(Run, Created), RuntimeError> {
        load(self.store(), run)
    }

    /// A root and every run below it that hasn't ended, as their logs tell them; without the bytes of its files.
    ///
    /// # Errors
    /// There is no such run, it hangs below another, or a log is damaged.
    pub fn load_tree(&self, root: RunId) -> Result<(Tree, Created), RuntimeError> {
        self.load_tree_with(root, |_, _| Ok(()))
    }

    fn load_tree_with(
        &self,
        root: RunId,
        complete: impl FnOnce(&mut Created, &mut Plan) -> Result<(), RuntimeError>,
    ) -> Result<(Tree, Created), RuntimeError> {
        let mut log = self.store().events(root)?;
        let Some(first) = log.first_mut() else { return Err(RuntimeError::NoSuchRun { run: root }) };
        let Event::Created(created) = &mut first.event else { return Err(RuntimeError::DamagedLog { run: root }) };
        if let Some(parent) = &created.parent {
            return Err(RuntimeError::SubAgent { run: root, root: parent.root });
        }
        let mut plan = self.store().plan(&created.plan)?.ok_or(RuntimeError::DamagedLog { run: root })?;
        complete(created, &mut plan)?;
        let created = created.clone();
        let mut log = Some(log);
        let read = |run| match log.take() {
            Some(log) if run == root => Ok(log),
            Some(_) | None => self.store().events(run),
        };
        let tree = Tree::load(root, Arc::new(plan), read)?.ok_or(RuntimeError::DamagedLog { run: root })?;
        Ok((tree, created))
    }

    fn render(&self, agent: Arc<Agent>, created: &Created, run: &Run) -> Result<(Arc<Agent>, Rendered), RuntimeError> {
        let rendered = Rendered::of(&agent.plan, agent.forms.own.clone(), &created.input)
            .map_err(|fault| RuntimeError::Prompt { agent: created.agent.clone(), fault })?;
        let rendered = rendered.with_input_of(run).with_earlier(self.earlier(created)?);
        Ok((agent, rendered))
    }
}

/// A run as its log tells it.
fn load(store: &Store, run: RunId) -> Result<(Run, Created), RuntimeError> {
    let log = store.events(run)?;
    let Some((first, rest)) = log.split_first() else { return Err(RuntimeError::NoSuchRun { run }) };
    let Event::Created(created) = &first.event else { return Err(RuntimeError::DamagedLog { run }) };
    let plan = store.plan(&created.plan)?.ok_or(RuntimeError::DamagedLog { run })?;
    let mut state = Run::new(run, Arc::new(plan), created, first.at);
    for recorded in rest {
        state.apply(recorded.at, &recorded.event);
    }
    Ok((state, created.clone()))
}

/// Simulated runs never touch real budgets: they have a store of their own beside the real one.
#[must_use]
pub fn simulated_folder(store: &std::path::Path) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push("-sim");
    store.with_file_name(name)
}
