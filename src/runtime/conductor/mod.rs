//! Drives one tree, a root run and the sub-agents' runs below it: asks what comes next, lets the gate judge it, performs
//! what was granted, feeds back what came of it.
//!
//! The task that drives a tree is the only one that writes to its logs. Facts ride together: what an attempt gave is
//! written with the next attempt's reservation, in one durable write.

mod admit;
mod child;
mod concede;
mod ends;
mod kept;
mod rates;
mod step;
mod switched;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tracing::Instrument as _;

use super::perform::{self, Done};
use super::progress::{Observer, Progress};
use super::{Agent, Request, RuntimeError, Shared, Turn, settle};
use crate::domain::event::{Call, Event, Place, Purpose, Recorded, Reserved, RunState};
use crate::domain::ledger::{Ask, Op};
use crate::domain::limits::Refusal;
use crate::domain::message::{Request as ModelRequest, ToolCall};
use crate::domain::plan::ToolPlan;
use crate::domain::run::{Next, Run, Tree};
use crate::failpoint;
use crate::gate::{Effort, Pass, Passage, Rendered, Submitted};
use crate::ids::{ReservationId, RunId, ToolName};
use crate::rates::Hold;
use crate::store::NoticeCommitted;
use crate::telemetry;
use crate::tool::ToolOutcome;
use crate::units::{Millis, Timestamp};
use kept::Keep;
use rates::RateWaits;
use step::arguments_of;

/// Facts that are drafted before they are written, whatever comes after them.
const NOTES_MAX: usize = 10_000;
/// Attempts that are over whose facts are taken together.
const COMPLETIONS_MAX: usize = 64;

/// Drives one tree.
pub(crate) struct Conductor {
    shared: Arc<Shared>,
    tree: Tree,
    /// What follows from the plan of each open run.
    agents: BTreeMap<RunId, Arc<Agent>>,
    /// The root's conversation: of a single loop, or of a workflow's own last answer.
    own: Talk,
    /// The other conversations: of places of workflows, each from its first call to its end, and of runs below.
    talks: BTreeMap<Key, Talk>,
    observer: Observer,
    /// Facts that are folded and not yet written; they ride in the next write.
    draft: Vec<(RunId, Event)>,
    /// True until the run's first fact is written.
    is_new: bool,
    notices: mpsc::Receiver<Box<NoticeCommitted>>,
    tasks: JoinSet<Done>,
    /// What each task was granted, should it break down.
    in_flight: BTreeMap<task::Id, InFlight>,
    cancel: watch::Sender<bool>,
    /// What people ask of the tree.
    requests: mpsc::Receiver<Box<Request>>,
    /// Requests that were heard while something else was waited for.
    heard: VecDeque<Box<Request>>,
    /// Nobody waits for this run any more.
    hung_up: watch::Receiver<bool>,
    /// What waits for a permit, by its reservation: the first call of a queued run, or the one that waits for budget.
    pending: BTreeMap<ReservationId, Box<Pending>>,
    /// Back-off ends then.
    later: Option<Timestamp>,
    /// The wait for budget ends then.
    wait_until: Option<Timestamp>,
    /// True while the run waits to be admitted.
    queued: bool,
    /// Calls that wait for rate limits.
    rate_waits: RateWaits,
    /// The money of a call is with attempts of its own tree: nothing is asked of the rates until one of them is over.
    short_within: bool,
    /// The switch that holds the tree: it makes no call, and rests once nothing is in flight.
    held_back: Option<Refusal>,
    /// Others want its place: held by a switch it leaves.
    turn: Option<Turn>,
}

/// Whose conversation it is: a place's, or the run's own: of a single loop, and of a landing.
type Key = (RunId, Option<Place>);

/// What a conversation's requests have in common, and how far its next step goes to get its money.
struct Talk {
    rendered: Rendered,
    effort: Effort,
}

/// What is to be performed once it is granted.
struct Pending {
    reserved: Reserved,
    work: Work,
    key: Key,
    /// True where counting tokens would give a tighter bound.
    can_tighten: bool,
    /// How its answer is kept, where its stage wants it.
    keep: Option<Keep>,
    /// What it has taken of the rates.
    hold: Option<Hold>,
}

/// What a task was granted, how its answer is kept, and what it has taken of the rates.
struct InFlight {
    reserved: Box<Reserved>,
    keep: Option<Keep>,
    hold: Option<Hold>,
}

enum Work {
    Model(Box<ModelRequest>),
    Tool(ToolCall),
}

/// What the run does after a write.
enum Flow {
    /// Ask what comes next.
    On,
    /// Wait for something in flight, for news or for time.
    Wait,
    /// Leave the run as it stands.
    Leave,
}

impl Conductor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        tree: Tree,
        (agent, rendered): (Arc<Agent>, Rendered),
        observer: Observer,
        created: Option<Event>,
        requests: mpsc::Receiver<Box<Request>>,
        hung_up: watch::Receiver<bool>,
    ) -> Self {
        let root = tree.root().id;
        let notices = shared.gate.store().attach(root);
        let (cancel, _) = watch::channel(false);
        Self {
            shared,
            tree,
            agents: BTreeMap::from([(root, agent)]),
            own: Talk { rendered, effort: Effort::default() },
            talks: BTreeMap::new(),
            observer,
            is_new: created.is_some(),
            draft: created.into_iter().map(|created| (root, created)).collect(),
            notices,
            tasks: JoinSet::new(),
            in_flight: BTreeMap::new(),
            cancel,
            requests,
            heard: VecDeque::new(),
            hung_up,
            pending: BTreeMap::new(),
            later: None,
            wait_until: None,
            queued: false,
            rate_waits: RateWaits::default(),
            short_within: false,
            held_back: None,
            turn: None,
        }
    }

    /// The same, among others that want its place.
    pub(crate) fn in_turn(self, turn: Option<Turn>) -> Self {
        Self { turn, ..self }
    }

    /// Until the run ends, waits for a person, or is asked to stop. What is over at once is boxed: it takes no memory while
    /// the run waits, as thousands may.
    pub(crate) async fn drive(&mut self) -> Result<RunState, RuntimeError> {
        let state = self.drive_on().await?;
        Box::pin(self.give_back()).await?;
        Ok(state)
    }

    async fn drive_on(&mut self) -> Result<RunState, RuntimeError> {
        let mut flow = if self.needs_admission() { Box::pin(self.admit()).await? } else { Flow::On };
        loop {
            // A run that is left as it stands, because it waits for a person, isn't interrupted in that.
            if !matches!(flow, Flow::Leave) && (self.shared.stop.is_said() || *self.hung_up.borrow()) {
                return Box::pin(self.interrupt()).await;
            }
            while let Some(request) = self.heard.pop_front().or_else(|| self.requests.try_recv().ok()) {
                flow = Box::pin(self.take_request(*request, flow)).await?;
            }
            flow = match flow {
                Flow::Leave => break,
                Flow::Wait => self.wait().await?,
                Flow::On => Box::pin(self.advance()).await?,
            };
            if self.is_over() && self.draft.is_empty() {
                break;
            }
        }
        Ok(self.root().state)
    }

    fn root(&self) -> &Run {
        self.tree.root()
    }

    /// The root has ended, and nothing of the tree is in flight.
    fn is_over(&self) -> bool {
        self.root().ended.is_some() && !self.tree.is_busy()
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// When the run's wait for a person ends by itself, if it waits for one.
    pub(crate) fn waits_until(&self) -> Option<Timestamp> {
        self.tree.runs().filter_map(Run::expires_at).min()
    }

    fn needs_admission(&self) -> bool {
        let state = self.root().state;
        matches!(state, RunState::Queued | RunState::Interrupted) || state.awaits_person()
    }

    /// Folds a fact that rides in the next write.
    fn note(&mut self, run: RunId, event: Event) {
        let now = self.now();
        self.tree.apply(now, run, &event);
        if let Event::ChildEnded(ended) = &event {
            self.forget(ended.child);
        }
        self.draft.push((run, event));
    }

    fn note_root(&mut self, event: Event) {
        self.note(self.root().id, event);
    }

    /// Drops what was kept for a run that has ended.
    fn forget(&mut self, child: RunId) {
        self.agents.remove(&child);
        self.talks.retain(|(run, _), _| *run != child);
    }

    /// True where a switch held the tree: it may be driven again, and waits in the queue then.
    pub(crate) const fn is_held_back(&self) -> bool {
        self.held_back.is_some()
    }

    /// The same, of the tree as it stands now.
    pub(crate) fn begin_again(self, tree: Tree, rendered: (Arc<Agent>, Rendered)) -> Self {
        Self::new(self.shared, tree, rendered, self.observer, None, self.requests, self.hung_up)
    }

    /// Asks the run what comes next and takes it as far as the gate.
    async fn advance(&mut self) -> Result<Flow, RuntimeError> {
        if let Some(refusal) = self.held_back.clone() {
            return self.rest(&refusal).await;
        }
        if self.queued || self.wait_until.is_some() {
            // Nothing is asked for beside an ask that waits; what came in meanwhile is written.
            self.rate_waits.leave_queue();
            self.submit(vec![]).await?;
            return Ok(Flow::Wait);
        }
        if self.draft.len() >= NOTES_MAX {
            self.submit(vec![]).await?;
        }
        let next = self.tree.next(self.now(), &self.shared.checks);
        match next {
            Next::Note(facts) => {
                self.take_notes(facts);
                Ok(Flow::On)
            }
            Next::Park(parked) => {
                self.rate_waits.clear();
                self.park(parked).await
            }
            Next::Ended | Next::Wait => {
                self.rate_waits.clear();
                self.submit(vec![]).await?;
                if self.is_over() { Ok(Flow::Leave) } else { self.wait_for_something() }
            }
            Next::Do(intents) => self.take(intents).await,
        }
    }

    /// A tree that has nothing to wait for would hang: that is a fault, and is said.
    fn wait_for_something(&self) -> Result<Flow, RuntimeError> {
        let waits = self.later.is_some() || self.wait_until.is_some() || !self.rate_waits.is_empty();
        if self.tasks.is_empty() && !waits {
            return Err(RuntimeError::Task(format!("run `{}` waits for nothing", self.root().id)));
        }
        Ok(Flow::Wait)
    }

    /// Writes the draft and the asks in one durable write, folds what was granted, and shows it.
    async fn submit(&mut self, asks: Vec<Ask>) -> Result<Vec<Passage>, RuntimeError> {
        if self.draft.is_empty() && asks.is_empty() {
            return Ok(vec![]);
        }
        let settles = self.draft.iter().any(|(_, event)| matches!(event, Event::Settled(_)));
        let drafted = self.draft.len();
        let events = std::mem::take(&mut self.draft);
        let plan = self.is_new.then(|| self.root().plan.clone());
        self.is_new = false;
        let op = Op { run: self.root().id, events, asks, plan };
        let limits = |reserved: &Reserved| self.first_token_limit(reserved);
        let Submitted { events, passages } = self.shared.gate.submit(op, &limits).await?;
        if settles {
            failpoint::reach("run.settled");
        }
        // The draft is folded already; what the ledger added isn't.
        self.fold(&events, drafted);
        Ok(passages)
    }

    fn fold(&mut self, events: &[(RunId, Recorded)], already: usize) {
        for (index, (run, recorded)) in events.iter().enumerate() {
            if index >= already {
                self.tree.apply(recorded.at, *run, &recorded.event);
            }
            telemetry::log::fact(*run, recorded);
            (self.observer)(Progress::Event { run: *run, recorded });
        }
    }

    /// Of the stage that calls; a landing is its run's.
    fn first_token_limit(&self, reserved: &Reserved) -> Millis {
        let plan = &self.tree.run(reserved.reservation.run).unwrap_or(self.root()).plan;
        let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
        let limits = if lands { &plan.limits } else { plan.limits_of(&reserved.step.stage) };
        limits.first_token_time
    }

    /// A tool as a stage may call it: what it gives is inside the stage's own limit.
    fn tool_at(&self, reserved: &Reserved, name: &ToolName) -> Option<ToolPlan> {
        let plan = &self.tree.run(reserved.reservation.run)?.plan;
        let tool = plan.tools.get(name)?;
        Some(tool.within(plan.limits_of(&reserved.step.stage)).unwrap_or_else(|| tool.clone()))
    }

    async fn follow(&mut self, passage: Passage) -> Result<Flow, RuntimeError> {
        match passage {
            Passage::Admitted(Some(pass)) | Passage::Granted(pass) => {
                self.queued = false;
                self.wait_until = None;
                self.admit_children();
                if let Some(pending) = self.pending.remove(&pass.reserved.reservation)
                    && !self.perform_late(pass, pending)
                {
                    return Ok(Flow::On);
                }
                // Others of a workflow or of a tree may begin beside it.
                Ok(if self.root().plan.is_workflow() || self.tree.runs().len() > 1 { Flow::On } else { Flow::Wait })
            }
            Passage::Admitted(None) => {
                // Its first call doesn't fit on a stage's own account: it asks again, and hears which.
                self.pending.clear();
                self.queued = false;
                self.admit_children();
                Ok(Flow::On)
            }
            Passage::Queued => {
                self.queued = true;
                Ok(Flow::Wait)
            }
            Passage::Waiting | Passage::Behind | Passage::NotWaiting => Ok(Flow::Wait),
            Passage::TurnedAway(refusal) => {
                self.queued = false;
                self.turned_away(refusal).await
            }
            Passage::Stalled | Passage::WaitEnded => {
                self.wait_until = None;
                if let Some((_, pending)) = self.pending.pop_first() {
                    self.effort(&pending.key).waited = true;
                }
                Ok(Flow::On)
            }
            Passage::Frozen(refusal) => match self.pending.pop_first() {
                Some((_, pending)) => self.avoid_frozen(&pending, refusal).await,
                None => Ok(Flow::On),
            },
            Passage::Paused(refusal) => Ok(self.hold_back(refusal)),
            Passage::NotRunning => Err(self.not_running()),
            Passage::Short(short) => match self.pending.pop_first() {
                Some((_, pending)) => self.concede(&pending, short).await,
                None => Ok(Flow::On),
            },
        }
    }

    /// Somebody else ended the run, or it was never admitted: this process has no business with it.
    fn not_running(&self) -> RuntimeError {
        RuntimeError::Task(format!("run `{}` is not running in the store's books", self.root().id))
    }

    /// Money came for a call that waited: false where its rates have to be waited for anew, and it isn't made.
    fn perform_late(&mut self, pass: Pass, mut pending: Box<Pending>) -> bool {
        let passes = self.rates_again(&mut pending);
        if passes {
            self.perform(pass, pending);
        } else {
            let reservation = pass.permit.spend();
            let why = "its rate limits must be waited for, which no call does while it holds money";
            self.note(reservation.run, settle::never_made(reservation, why));
        }
        passes
    }

    fn perform(&mut self, pass: Pass, pending: Box<Pending>) {
        let Pass { reserved, permit } = pass;
        let mut hold = pending.hold;
        let cancel = self.cancel.subscribe();
        let (shared, run) = (self.shared.clone(), reserved.reservation.run);
        match pending.work {
            Work::Model(mut request) => {
                self.effort(&pending.key).settle();
                if let Call::Model(call) = &reserved.call {
                    request.max_output_tokens = call.max_output_tokens;
                }
                let observer = self.observer_of(&pending.key);
                hold.iter_mut().for_each(Hold::send);
                let task =
                    self.tasks.spawn(perform::model(shared, observer, run, permit, *request, cancel).in_current_span());
                self.in_flight.insert(task.id(), InFlight { reserved, keep: pending.keep, hold });
            }
            Work::Tool(call) => {
                if self.is_own_call(&reserved) {
                    self.own.effort.waited = false;
                }
                let Some(plan) = self.tool_at(&reserved, &call.name) else { return };
                let arguments = arguments_of(&call.arguments);
                let task = self.tasks.spawn(perform::tool(shared, permit, plan, arguments, cancel).in_current_span());
                self.in_flight.insert(task.id(), InFlight { reserved, keep: None, hold: None });
            }
        }
    }

    /// Whoever looks on reads the answer as it comes: the words of other stages and runs would stand in between.
    fn observer_of(&self, (run, place): &Key) -> Observer {
        let root = self.root();
        let is_result = |place: &Place| {
            place.item.is_none() && root.plan.result_stage().is_some_and(|stage| stage.id == place.stage)
        };
        let shows = *run == root.id && place.as_ref().is_none_or(is_result);
        if shows { self.observer.clone() } else { super::silent() }
    }

    /// Folds what an attempt came to; its fact rides in the next write. A task that broke down counts as unknown.
    fn take_done(&mut self, done: Result<(task::Id, Done), task::JoinError>) {
        let (id, done) = match done {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => {
                tracing::error!(run = %self.root().id, %error, "an attempt's task broke down");
                (error.id(), None)
            }
        };
        let Some(InFlight { reserved, keep, hold }) = self.in_flight.remove(&id) else { return };
        self.short_within = false;
        let mut fact = match done {
            None => settle::broken_off(&reserved, "the attempt broke down; this is a fault of plimsoll"),
            Some(Done::Model(answer)) => {
                if let Some(hold) = hold {
                    hold.done(&rates::used(&answer), self.now());
                }
                settle::model(self.shared.gate.book(), &reserved, answer, self.now())
            }
            Some(Done::Tool(outcome)) => self.tool_fact(&reserved, outcome),
        };
        let run = reserved.reservation.run;
        let is_model = matches!(reserved.call, Call::Model(_));
        if let (Some(keep), Call::Model(call)) = (&keep, &reserved.call) {
            self.note_kept(&mut fact, keep, call.max_output_tokens);
        }
        if is_model && !settle::is_reply(&fact) && run == self.root().id {
            (self.observer)(Progress::TextDiscarded { run });
        }
        self.note(run, fact);
    }

    /// A call that a clean stop broke off gave no result: it is made again, or a person is asked.
    fn tool_fact(&self, reserved: &Reserved, outcome: ToolOutcome) -> Event {
        if *self.cancel.borrow() && outcome.is_error && !outcome.never_began {
            return settle::broken_off(reserved, "the run was asked to stop while the call was in flight");
        }
        settle::tool(reserved, outcome)
    }
}
