//! Takes runs in: each is on disk before its caller hears of it, waits its turn, and is driven beside whoever asks.
//!
//! Invariants: who is told of a run can find it after any crash; no more than so many are driven, or wait to be; the same key
//! makes one run, however often it is sent; once told to stop it takes nothing in, and leaves every run whole.

mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::access::Caller;
use super::error::ApiError;
use super::types::RunRequest;
use crate::domain::event::{Created, Labels, RunState};
use crate::domain::label::{self, DERIVED};
use crate::domain::policy::PRIORITY;
use crate::domain::summary::RunSummary;
use crate::ids::{AgentName, RunId};
use crate::runtime::{NewRun, Runtime, RuntimeError, silent};
use crate::store::{RunFilter, StoreError};
use crate::units::Millis;
use queue::{Place, Queue};

/// The most characters of a caller's key.
pub const KEY_CHARS_MAX: usize = 255;
/// How often runs that wait for budget are looked at: a period may have begun, or a cap may be another.
const BUDGET_LOOK: Millis = Millis::from_secs(30);
/// The longest that a caller is told to wait before it asks again.
const RETRY_SECONDS_MAX: u64 = 60;

/// How much is taken in.
#[derive(Clone, Copy, Debug)]
pub struct IntakeOptions {
    /// Runs that are driven at once.
    pub parallel: usize,
    /// Runs that wait to be.
    pub waiting: usize,
    /// How long runs may go on once it is told to stop, before they are interrupted.
    pub grace: Millis,
}

impl Default for IntakeOptions {
    fn default() -> Self {
        Self { parallel: 256, waiting: 10_000, grace: Millis::from_secs(10) }
    }
}

/// Takes runs in, for one runtime. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    options: IntakeOptions,
    queue: Mutex<Queue>,
    /// Somebody waits to begin.
    came: Notify,
    /// Runs that wait to begin, or are driven; who looks at one hears its end when it is dropped.
    pending: Mutex<BTreeMap<RunId, watch::Sender<()>>>,
    /// Keys whose requests are under way.
    keys: Mutex<BTreeSet<(AgentName, String)>>,
    /// Runs that are being made, whether or not who asked still waits.
    makes: Mutex<JoinSet<()>>,
    closed: AtomicBool,
    /// About how long a drive takes, in milliseconds.
    pace: AtomicU64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It made this run.
    New(RunId),
    /// A request with the same key made it before.
    Known(RunId),
}

impl Taken {
    /// The run.
    #[must_use]
    pub const fn run(self) -> RunId {
        match self {
            Self::New(run) | Self::Known(run) => run,
        }
    }
}

impl Intake {
    /// Over a runtime; nothing is driven before [`Intake::work`].
    #[must_use]
    pub fn new(runtime: Runtime, options: IntakeOptions) -> Self {
        Self(Arc::new(Shared {
            runtime,
            options,
            queue: Mutex::default(),
            came: Notify::new(),
            pending: Mutex::default(),
            keys: Mutex::default(),
            makes: Mutex::default(),
            closed: AtomicBool::new(false),
            pace: AtomicU64::new(1_000),
        }))
    }

    /// Makes a run for a caller, durably, and puts it in line. With a key: the run that the same request made before, if one
    /// did. What the caller does meanwhile, such as hang up, changes nothing of that.
    ///
    /// # Errors
    /// The agent isn't known, input or labels don't fit it, the line is full, it was told to stop, the key was used for
    /// another request, or the store can't write.
    pub async fn take(&self, request: &RunRequest, caller: &Caller, key: Option<String>) -> Result<Taken, ApiError> {
        let new = new_run(request, caller, key)?;
        let (intake, (reply, taken)) = (self.clone(), oneshot::channel());
        // Nobody may hear it any more.
        self.makes().spawn(async move { reply.send(intake.take_in(new).await).map_or((), drop) });
        taken.await.map_err(|error| ApiError::Task(error.to_string()))?
    }

    async fn take_in(&self, new: NewRun) -> Result<Taken, ApiError> {
        let Some(key) = new.key.clone() else { return self.make(&new).await.map(Taken::New) };
        let _mine = KeyInUse::of(self, (new.agent.clone(), key.clone()))?;
        let (runtime, agent) = (self.0.runtime.clone(), new.agent.clone());
        // A log that can't be read is no reason to make a second run.
        let known = move || {
            let run = runtime.store().run_by_key(&agent, &key)?;
            run.map(|run| Ok::<_, RuntimeError>((run, runtime.load(run)?.1))).transpose()
        };
        let known = tokio::task::spawn_blocking(known).await.map_err(|error| ApiError::Task(error.to_string()))??;
        match known {
            Some((run, created)) if is_same(&created, &new) => Ok(Taken::Known(run)),
            Some((run, _)) => Err(ApiError::KeyReused { run }),
            None => self.make(&new).await.map(Taken::New),
        }
    }

    async fn make(&self, new: &NewRun) -> Result<RunId, ApiError> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(ApiError::Closing);
        }
        // Those that are being made will wait too, this one among them.
        let making = self.makes().len();
        if self.queue().len() + making > self.0.options.waiting {
            return Err(ApiError::Full { waiting: self.0.options.waiting, retry_after: self.retry_after() });
        }
        let run = self.0.runtime.create(new).await?;
        self.put(Place::of(&new.labels), run);
        Ok(run)
    }

    /// Puts a run in line that waits in the store; not twice.
    fn put(&self, place: Place, run: RunId) {
        let mut pending = self.pending();
        if let std::collections::btree_map::Entry::Vacant(vacant) = pending.entry(run) {
            vacant.insert(watch::Sender::new(()));
            self.queue().put(place, run);
            self.0.came.notify_one();
        }
    }

    /// In about how many seconds the line is shorter: a drive's time, by how many go on at once.
    fn retry_after(&self) -> u64 {
        let parallel = u64::try_from(self.0.options.parallel.max(1)).unwrap_or(u64::MAX);
        let line = u64::try_from(self.queue().len()).unwrap_or(u64::MAX);
        let all = self.0.pace.load(Ordering::Relaxed).saturating_mul(line) / parallel / 1_000;
        // A tenth of the line's time: the line need not be empty for the next.
        (all / 10).clamp(1, RETRY_SECONDS_MAX)
    }

    /// Waits until a run is neither in line nor driven here; at once where it is neither.
    pub async fn let_go(&self, run: RunId) {
        let heard = self.pending().get(&run).map(watch::Sender::subscribe);
        if let Some(mut heard) = heard {
            // Nothing is ever sent: that the sender is gone is the news.
            heard.changed().await.unwrap_or_default();
        }
    }

    /// True until it is told to stop.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.closed.load(Ordering::Acquire)
    }

    /// How many runs wait to begin.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    /// Drives what is in line, and what an earlier process left, until `stop` turns true. Then nothing is taken in any
    /// more; runs go on for as long as the grace allows, and are then interrupted, to go on at the next start.
    ///
    /// # Errors
    /// The runs that were left can't be listed.
    pub async fn work(&self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        for state in [RunState::Queued, RunState::Running, RunState::Interrupted, RunState::AwaitingBudget] {
            self.recall(state).await?;
        }
        let slots = Arc::new(Semaphore::new(self.0.options.parallel.max(1)));
        let mut drives = JoinSet::new();
        let mut look = tokio::time::interval(BUDGET_LOOK.duration());
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        look.reset();
        loop {
            let turn = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((slot, self.next().await))
            };
            tokio::select! {
                biased;
                () = told(&mut stop) => break,
                _ = look.tick() => self.recall(RunState::AwaitingBudget).await?,
                Some(_) = drives.join_next(), if !drives.is_empty() => {},
                turn = turn => if let Some((slot, run)) = turn {
                    let intake = self.clone();
                    drives.spawn(async move { intake.drive(run).await; drop(slot); });
                },
            }
        }
        self.0.closed.store(true, Ordering::Release);
        let mut makes = std::mem::take(&mut *self.makes());
        while makes.join_next().await.is_some() {}
        let done = async { while drives.join_next().await.is_some() {} };
        if tokio::time::timeout(self.0.options.grace.duration(), done).await.is_err() {
            self.0.runtime.request_stop();
            while drives.join_next().await.is_some() {}
        }
        // Who waits for one that never began hears that it won't, here.
        self.pending().clear();
        Ok(())
    }

    async fn next(&self) -> RunId {
        loop {
            let came = self.0.came.notified();
            let next = self.queue().take();
            if let Some(run) = next {
                return run;
            }
            came.await;
        }
    }

    async fn drive(&self, run: RunId) {
        let clock = self.0.runtime.clock();
        let began = clock.now();
        if let Err(error) = self.0.runtime.drive(run, silent()).await {
            tracing::error!(%run, %error, "a run can't go on; it stays as it is");
        }
        let took = clock.now().since(began).0;
        let pace = self.0.pace.load(Ordering::Relaxed);
        self.0.pace.store(pace.saturating_mul(7).saturating_add(took) / 8, Ordering::Relaxed);
        self.pending().remove(&run);
    }

    /// Puts every root in line that the store has in a state in which it could go on, oldest first.
    async fn recall(&self, state: RunState) -> Result<(), StoreError> {
        let runtime = self.0.runtime.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let filter = RunFilter { states: BTreeSet::from([state]), roots: true, ..RunFilter::default() };
            runtime.store().every(filter)
        });
        let found: Vec<RunSummary> = match listed.await {
            Ok(found) => found?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The program ends before it could look.
            Err(_) => return Ok(()),
        };
        found.iter().rev().for_each(|run| self.put(Place::of(&run.labels), run.id));
        Ok(())
    }

    fn makes(&self) -> MutexGuard<'_, JoinSet<()>> {
        let mut makes = self.0.makes.lock().unwrap_or_else(PoisonError::into_inner);
        while makes.try_join_next().is_some() {}
        makes
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<RunId, watch::Sender<()>>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key whose request is under way; dropped, it is free for the next.
struct KeyInUse<'a> {
    intake: &'a Intake,
    key: (AgentName, String),
}

impl<'a> KeyInUse<'a> {
    fn of(intake: &'a Intake, key: (AgentName, String)) -> Result<Self, ApiError> {
        let is_first = intake.0.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if is_first { Ok(Self { intake, key }) } else { Err(ApiError::KeyInUse) }
    }
}

impl Drop for KeyInUse<'_> {
    fn drop(&mut self) {
        self.intake.0.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn new_run(request: &RunRequest, caller: &Caller, key: Option<String>) -> Result<NewRun, ApiError> {
    let labels = caller.label(request.labels())?;
    label::judge(&labels).map_err(|fault| ApiError::BadRequest(fault.to_string()))?;
    if let Some(key) = &key
        && !(1..=KEY_CHARS_MAX).contains(&key.chars().count())
    {
        let message = format!("an `Idempotency-Key` has 1 to {KEY_CHARS_MAX} characters; send another");
        return Err(ApiError::BadRequest(message));
    }
    Ok(NewRun {
        agent: request.agent.clone(),
        input: request.input.clone(),
        labels,
        key: key.map(|key| caller.own_key(&key)),
        files: request.files()?,
        bound: caller.labels().into_iter().flat_map(Labels::keys).cloned().collect(),
    })
}

/// True where a run was made of the same input, files and labels; its agent and its project add to those. Of one whose bodies
/// are erased only the labels are known.
fn is_same(created: &Created, given: &NewRun) -> bool {
    let is_added =
        |name: &String| DERIVED.contains(&name.as_str()) || name == PRIORITY && !given.labels.contains_key(name);
    let files = created.files.iter().map(|file| (file.name(), file.sha256()));
    (created.erased || created.input == given.input)
        && created.labels.iter().filter(|(name, _)| !is_added(name)).eq(&given.labels)
        && (created.erased || files.eq(given.files.iter().map(|file| (file.name(), file.sha256()))))
}

/// Until it turns true; at once where whoever could turn it is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}
