//! Takes runs in: each is on disk before its caller hears of it, waits its turn, and is driven beside whoever asks.
//!
//! Invariants: who is told of a run can find it after any crash; no more than so many are driven, or wait to be; one that a
//! switch holds takes none of their places; the same key makes one run, however often it is sent; once told to stop it takes
//! nothing in, and leaves every run whole.

mod queue;
mod standing;

use std::collections::BTreeSet;
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
use crate::domain::switch::SwitchKind;
use crate::ids::RunId;
use crate::runtime::{NewRun, Runtime, RuntimeError, Turn};
use crate::store::{RunFilter, StoreError};
use crate::units::Millis;
use queue::{Full, Place};
use standing::Standing;

/// The most characters of a caller's key.
pub const KEY_CHARS_MAX: usize = 255;
/// How often runs that wait for budget are looked at, and those that stand aside since they would only wait for it come back: a
/// period may have begun, or a cap may be another.
const BUDGET_LOOK: Millis = Millis::from_secs(30);
/// How often it is looked whether runs still stand aside.
const ASIDE_LOOK: Millis = Millis::from_secs(1);
/// Others that may decide on a run, one after the other, before its drive gives up.
const DECIDERS_MAX: u32 = 64;
/// The longest that a caller is told to wait before it asks again.
const RETRY_SECONDS_MAX: u64 = 60;

/// How much is taken in.
#[derive(Clone, Copy, Debug)]
pub struct IntakeOptions {
    /// Runs that are driven at once.
    pub parallel: usize,
    /// Runs that wait to be; as many may be held by switches beside them.
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
    standing: Mutex<Standing>,
    /// Somebody waits to begin.
    came: Notify,
    /// Keys whose requests are under way.
    keys: Mutex<BTreeSet<String>>,
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
            standing: Mutex::default(),
            came: Notify::new(),
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
        let _mine = KeyInUse::of(self, key.clone())?;
        let runtime = self.0.runtime.clone();
        // The agent is part of the request: the same key for another one is another request.
        let others = runtime.plans().into_iter().map(|plan| plan.agent.clone()).filter(|agent| *agent != new.agent);
        let agents: Vec<_> = std::iter::once(new.agent.clone()).chain(others).collect();
        // A log that can't be read is no reason to make a second run.
        let known = move || {
            for agent in &agents {
                if let Some(run) = runtime.store().run_by_key(agent, &key)? {
                    return Ok::<_, RuntimeError>(Some((run, runtime.load(run)?.1)));
                }
            }
            Ok(None)
        };
        let known = tokio::task::spawn_blocking(known).await.map_err(|error| ApiError::Task(error.to_string()))??;
        match known {
            Some((run, created)) if is_same(&created, &new) => Ok(Taken::Known(run)),
            Some((run, _)) => Err(ApiError::KeyReused { run }),
            None => self.make(&new).await.map(Taken::New),
        }
    }

    async fn make(&self, new: &NewRun) -> Result<RunId, ApiError> {
        if !self.is_open() {
            return Err(ApiError::Closing);
        }
        let labels = self.0.runtime.labels_of(new)?;
        self.judge_held(&labels)?;
        let place = Place::of(&labels);
        let _kept = KeptPlace::of(self, place.tenant())?;
        let run = self.0.runtime.create(new).await?;
        self.put(place.clone(), run);
        Ok(run)
    }

    /// Those that a switch holds are in nobody's way, and bounded all the same.
    fn judge_held(&self, labels: &Labels) -> Result<(), ApiError> {
        let held = self.standing().held();
        if held < self.0.options.waiting {
            return Ok(());
        }
        let switch = self.0.runtime.store().orders()?.switches.of_run(labels);
        match switch {
            Some((SwitchKind::Pause, _)) => Err(ApiError::Held { held, retry_after: RETRY_SECONDS_MAX }),
            Some((SwitchKind::Kill, _)) | None => Ok(()),
        }
    }

    /// Has a run's tree go on in its turn, if it can: it waits in the store, or a drive may be leaving it.
    ///
    /// # Errors
    /// There is no such run, or the store can't be read.
    pub fn go_on(&self, run: RunId) -> Result<(), ApiError> {
        let root = self.0.runtime.root_of(run)?;
        let told = self.0.runtime.store().summary(root)?.ok_or_else(|| ApiError::NoSuchRun(root.to_string()))?;
        if self.is_open() && self.standing().want(Place::of(&told.labels), root) {
            self.0.came.notify_one();
        }
        Ok(())
    }

    /// Puts a run in line that waits in the store; not twice. Once it was told to stop, the next start does.
    fn put(&self, place: Place, run: RunId) {
        if self.is_open() && self.standing().put(place, run) {
            self.0.came.notify_one();
        }
    }

    /// In about how many seconds the line is shorter: a drive's time, by how many go on at once.
    fn retry_after(&self) -> u64 {
        let parallel = u64::try_from(self.0.options.parallel.max(1)).unwrap_or(u64::MAX);
        let line = u64::try_from(self.waiting()).unwrap_or(u64::MAX);
        let all = self.0.pace.load(Ordering::Relaxed).saturating_mul(line) / parallel / 1_000;
        // A tenth of the line's time: the line need not be empty for the next.
        (all / 10).clamp(1, RETRY_SECONDS_MAX)
    }

    /// Waits until a run is neither in line nor driven here, nor held by a switch; at once where it is none of these.
    pub async fn let_go(&self, run: RunId) {
        let heard = self.standing().listen(run);
        if let Some(mut heard) = heard {
            // Nothing is ever sent: that the sender is gone is the news.
            heard.changed().await.unwrap_or_default();
        }
    }

    /// Forgets a run that a switch held, and that was ended.
    pub(super) fn forget(&self, run: RunId) {
        self.standing().forget(run);
    }

    /// True until it is told to stop.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.closed.load(Ordering::Acquire)
    }

    /// How many runs wait to begin.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.standing().waiting()
    }

    /// Drives what is in line, and what an earlier process left, until `stop` turns true. Then nothing is taken in any
    /// more; runs go on for as long as the grace allows, and are then interrupted, to go on at the next start.
    ///
    /// # Errors
    /// The runs that were left can't be listed.
    pub async fn work(&self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        self.recall_left().await?;
        let slots = Arc::new(Semaphore::new(self.0.options.parallel.max(1)));
        let mut drives = JoinSet::new();
        let (mut look, mut aside) = (every(BUDGET_LOOK), every(ASIDE_LOOK));
        loop {
            let turn = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((slot, self.next().await))
            };
            tokio::select! {
                biased;
                () = told(&mut stop) => break,
                _ = look.tick() => {
                    self.recall(RunState::AwaitingBudget).await?;
                    self.come_back(true);
                }
                _ = aside.tick() => {
                    self.look_at_held()?;
                    self.come_back(false);
                }
                root = self.0.runtime.expired() => self.go_on(root).unwrap_or_else(|error| {
                    tracing::error!(run = %root, %error, "a run whose question nobody answered can't go on");
                }),
                Some(_) = drives.join_next(), if !drives.is_empty() => {},
                turn = turn => if let Some((slot, (place, run))) = turn {
                    let intake = self.clone();
                    drives.spawn(async move { intake.drive(place, run).await; drop(slot); });
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
        self.standing().close();
        Ok(())
    }

    async fn next(&self) -> (Place, RunId) {
        loop {
            let came = self.0.came.notified();
            let next = self.standing().next();
            if let Some(next) = next {
                return next;
            }
            came.await;
        }
    }

    /// Runs that only waited for money stand in line again.
    fn come_back(&self, in_time: bool) {
        if self.standing().look_at_short(in_time) > 0 {
            self.0.came.notify_one();
        }
    }

    /// Runs that a switch held, and that it holds no more, stand in line again.
    fn look_at_held(&self) -> Result<(), StoreError> {
        let orders = self.0.runtime.store().orders()?;
        if self.standing().look(&orders.switches) > 0 {
            self.0.came.notify_one();
        }
        Ok(())
    }

    async fn drive(&self, place: Place, run: RunId) {
        let (others, own) = (self.clone(), place.clone());
        let turn = Turn::new(move || others.standing().others_could_begin(&own));
        let clock = self.0.runtime.clock();
        let began = clock.now();
        if let Err(error) = self.drive_alone(run, &turn).await {
            tracing::error!(%run, %error, "a run can't go on; it stays as it is");
        }
        let took = clock.now().since(began).0;
        let pace = self.0.pace.load(Ordering::Relaxed);
        self.0.pace.store(pace.saturating_mul(7).saturating_add(took) / 8, Ordering::Relaxed);
        if self.standing().over(place, run, turn.left()) {
            self.0.came.notify_one();
        }
        // One that was to be held may have ended all the same, and stands nowhere then.
        let known = turn.left().and_then(|_| self.0.runtime.store().summary(run).ok().flatten());
        if known.is_some_and(|known| known.state.is_ended()) {
            self.forget(run);
        }
    }

    /// Somebody may decide on the run at this moment: who answers it, or ends it.
    async fn drive_alone(&self, run: RunId, turn: &Turn) -> Result<(), RuntimeError> {
        let mut driven = self.0.runtime.drive_in_turn(run, turn).await;
        for _ in 0..DECIDERS_MAX {
            let Err(RuntimeError::Driven { .. }) = driven else { break };
            self.0.runtime.let_go(run).await;
            tokio::task::yield_now().await;
            driven = self.0.runtime.drive_in_turn(run, turn).await;
        }
        driven.map(drop)
    }

    /// Puts in line what an earlier process left. Who waits for a person goes on with no answer; but where a run below asked,
    /// only a drive knows whether that still waits, and for how long.
    async fn recall_left(&self) -> Result<(), StoreError> {
        for state in [RunState::Queued, RunState::Running, RunState::Interrupted, RunState::AwaitingBudget] {
            self.recall(state).await?;
        }
        let waits: BTreeSet<RunId> = self.0.runtime.store().waits().iter().map(|(_, run)| *run).collect();
        for state in [RunState::AwaitingApproval, RunState::AwaitingInput] {
            self.recall_but(state, &waits).await?;
        }
        Ok(())
    }

    /// Puts every root in line that the store has in a state in which it could go on, oldest first.
    async fn recall(&self, state: RunState) -> Result<(), StoreError> {
        self.recall_but(state, &BTreeSet::new()).await
    }

    async fn recall_but(&self, state: RunState, but: &BTreeSet<RunId>) -> Result<(), StoreError> {
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
        let found = found.iter().rev().filter(|run| !but.contains(&run.id));
        found.for_each(|run| self.put(Place::of(&run.labels), run.id));
        Ok(())
    }

    fn makes(&self) -> MutexGuard<'_, JoinSet<()>> {
        let mut makes = self.0.makes.lock().unwrap_or_else(PoisonError::into_inner);
        while makes.try_join_next().is_some() {}
        makes
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in line for a run that is being made; dropped, it is given back.
struct KeptPlace<'a> {
    intake: &'a Intake,
    tenant: &'a str,
}

impl<'a> KeptPlace<'a> {
    fn of(intake: &'a Intake, tenant: &'a str) -> Result<Self, ApiError> {
        let waiting = intake.0.options.waiting;
        let kept = intake.standing().keep(tenant, waiting);
        let retry_after = || intake.retry_after();
        match kept {
            Ok(()) => Ok(Self { intake, tenant }),
            Err(Full::Line) => Err(ApiError::Full { waiting, retry_after: retry_after() }),
            Err(Full::Share(waiting)) => {
                Err(ApiError::Share { tenant: tenant.to_owned(), waiting, retry_after: retry_after() })
            }
        }
    }
}

impl Drop for KeptPlace<'_> {
    fn drop(&mut self) {
        self.intake.standing().give_back(self.tenant);
    }
}

/// A key whose request is under way; dropped, it is free for the next.
struct KeyInUse<'a> {
    intake: &'a Intake,
    key: String,
}

impl<'a> KeyInUse<'a> {
    fn of(intake: &'a Intake, key: String) -> Result<Self, ApiError> {
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

/// True where a run was made of the same agent, input, files and labels; its agent and its project add to those. Of one whose bodies
/// are erased only the labels are known.
fn is_same(created: &Created, given: &NewRun) -> bool {
    let is_added =
        |name: &String| DERIVED.contains(&name.as_str()) || name == PRIORITY && !given.labels.contains_key(name);
    let files = created.files.iter().map(|file| (file.name(), file.sha256()));
    created.agent == given.agent
        && (created.erased || created.input == given.input)
        && created.labels.iter().filter(|(name, _)| !is_added(name)).eq(&given.labels)
        && (created.erased || files.eq(given.files.iter().map(|file| (file.name(), file.sha256()))))
}

/// A look each so often, the first one then.
fn every(time: Millis) -> tokio::time::Interval {
    let mut look = tokio::time::interval(time.duration());
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    look.reset();
    look
}

/// Until it turns true; at once where whoever could turn it is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}
