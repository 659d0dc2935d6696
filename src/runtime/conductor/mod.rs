//! Drives one run: asks what comes next, lets the gate judge it, performs what was granted, feeds back what came of it.
//!
//! The task that drives a run is the only one that writes to its log. Facts ride together: what an attempt gave is
//! written with the next attempt's reservation, in one durable write.

mod admit;
mod concede;
mod ends;
mod step;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};

use super::people;
use super::perform::{self, Done};
use super::progress::{Observer, Progress};
use super::{RuntimeError, Shared, settle};
use crate::domain::event::{Call, Event, Place, Recorded, Reserved, RunState};
use crate::domain::ledger::{Ask, Op};
use crate::domain::message::{Request, ToolCall};
use crate::domain::run::{Next, Run};
use crate::failpoint;
use crate::gate::{Effort, Forms, Pass, Passage, Rendered, Submitted};
use crate::ids::RunId;
use crate::store::NoticeCommitted;
use crate::tool::ToolOutcome;
use crate::units::{Millis, Timestamp};
use step::arguments_of;

/// Drives one run.
pub(crate) struct Conductor {
    shared: Arc<Shared>,
    run: Run,
    /// The forms of the plan's requests.
    forms: Arc<Forms>,
    /// The conversation of a single loop, or of a workflow's own last answer.
    own: Talk,
    /// The conversations of a workflow's places, each from its first call to its end.
    talks: BTreeMap<Place, Talk>,
    observer: Observer,
    /// Facts that are folded and not yet written; they ride in the next write.
    draft: Vec<Event>,
    /// True until the run's first fact is written.
    is_new: bool,
    notices: mpsc::Receiver<NoticeCommitted>,
    tasks: JoinSet<Done>,
    /// What each task was granted, should it break down.
    in_flight: BTreeMap<task::Id, Reserved>,
    cancel: watch::Sender<bool>,
    /// Requests of people.
    requests: mpsc::Receiver<people::Request>,
    /// One that came while nothing could be done about it.
    heard: Option<people::Request>,
    /// Nobody waits for this run any more.
    hung_up: watch::Receiver<bool>,
    /// What waits for a permit: the request of the model call that was asked for.
    pending: Option<Pending>,
    /// Back-off ends then.
    later: Option<Timestamp>,
    /// The wait for budget ends then.
    wait_until: Option<Timestamp>,
    /// True while the run waits to be admitted.
    queued: bool,
}

/// What a conversation's requests have in common, and how far its next step goes to get its money.
struct Talk {
    rendered: Rendered,
    effort: Effort,
}

/// What is to be performed once it is granted.
struct Pending {
    reserved: Reserved,
    work: Work,
    /// The place whose conversation it is; `None` for the run's own, and for tools.
    key: Option<Place>,
    /// True where counting tokens would give a tighter bound.
    can_tighten: bool,
}

enum Work {
    Model(Box<Request>),
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
        run: Run,
        (forms, rendered): (Arc<Forms>, Rendered),
        observer: Observer,
        created: Option<Event>,
        requests: mpsc::Receiver<people::Request>,
        hung_up: watch::Receiver<bool>,
    ) -> Self {
        let notices = shared.gate.store().attach(run.id);
        let (cancel, _) = watch::channel(false);
        Self {
            shared,
            run,
            forms,
            own: Talk { rendered, effort: Effort::default() },
            talks: BTreeMap::new(),
            observer,
            is_new: created.is_some(),
            draft: created.into_iter().collect(),
            notices,
            tasks: JoinSet::new(),
            in_flight: BTreeMap::new(),
            cancel,
            requests,
            heard: None,
            hung_up,
            pending: None,
            later: None,
            wait_until: None,
            queued: false,
        }
    }

    /// Until the run ends, waits for a person, or is asked to stop.
    pub(crate) async fn drive(&mut self) -> Result<RunState, RuntimeError> {
        let state = self.drive_on().await?;
        self.give_back().await?;
        Ok(state)
    }

    async fn drive_on(&mut self) -> Result<RunState, RuntimeError> {
        let mut flow = if self.needs_admission() { self.admit().await? } else { Flow::On };
        loop {
            // A run that is left as it stands, because it waits for a person, isn't interrupted in that.
            if !matches!(flow, Flow::Leave) && (self.shared.stop.is_said() || *self.hung_up.borrow()) {
                return self.interrupt().await;
            }
            if !matches!(flow, Flow::Leave)
                && let Some(request) = self.heard.take().or_else(|| self.requests.try_recv().ok())
            {
                flow = self.take_request(request).await?;
            }
            flow = match flow {
                Flow::Leave => break,
                Flow::Wait => self.wait().await?,
                Flow::On => self.advance().await?,
            };
            if self.run.ended.is_some() && !self.run.is_busy() && self.draft.is_empty() {
                break;
            }
        }
        Ok(self.run.state)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// When the run's wait for a person ends by itself, if it waits for one.
    pub(crate) fn waits_until(&self) -> Option<Timestamp> {
        self.run.expires_at()
    }

    fn needs_admission(&self) -> bool {
        matches!(self.run.state, RunState::Queued | RunState::Interrupted) || self.run.state.awaits_person()
    }

    /// Folds a fact that rides in the next write.
    fn note(&mut self, event: Event) {
        let now = self.now();
        self.run.apply(now, &event);
        self.draft.push(event);
    }

    /// Asks the run what comes next and takes it as far as the gate.
    async fn advance(&mut self) -> Result<Flow, RuntimeError> {
        if self.queued || self.wait_until.is_some() {
            // Nothing is asked for beside an ask that waits; what came in meanwhile is written.
            self.submit(vec![]).await?;
            return Ok(Flow::Wait);
        }
        let next = self.run.next(self.now(), &self.shared.checks);
        match next {
            Next::Note(facts) => {
                self.take_notes(facts);
                Ok(Flow::On)
            }
            Next::Park(parked) => self.park(parked).await,
            Next::Ended | Next::Wait => {
                self.submit(vec![]).await?;
                if self.run.ended.is_some() && !self.run.is_busy() {
                    return Ok(Flow::Leave);
                }
                if self.tasks.is_empty() {
                    return Err(RuntimeError::Task(format!("run `{}` waits for nothing", self.run.id)));
                }
                Ok(Flow::Wait)
            }
            Next::Do(intents) => self.take(intents).await,
        }
    }

    /// Writes the draft and the asks in one durable write, folds what was granted, and shows it.
    async fn submit(&mut self, asks: Vec<Ask>) -> Result<Vec<Passage>, RuntimeError> {
        if self.draft.is_empty() && asks.is_empty() {
            return Ok(vec![]);
        }
        let run = self.run.id;
        let settles = self.draft.iter().any(|event| matches!(event, Event::Settled(_)));
        let drafted = self.draft.len();
        let events = std::mem::take(&mut self.draft).into_iter().map(|event| (run, event)).collect();
        let plan = self.is_new.then(|| self.run.plan.clone());
        self.is_new = false;
        let op = Op { run, events, asks, plan };
        let Submitted { events, passages } = self.shared.gate.submit(op, self.first_token_limit()).await?;
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
                self.run.apply(recorded.at, &recorded.event);
            }
            (self.observer)(Progress::Event { run: *run, recorded });
        }
    }

    fn first_token_limit(&self) -> Millis {
        self.run.plan.limits.first_token_time
    }

    async fn follow(&mut self, passage: Passage) -> Result<Flow, RuntimeError> {
        match passage {
            Passage::Admitted(Some(pass)) | Passage::Granted(pass) => {
                self.queued = false;
                self.wait_until = None;
                if let Some(pending) = self.pending.take() {
                    self.perform(pass, pending);
                }
                // Other lanes of a workflow may begin beside it.
                Ok(if self.run.plan.is_workflow() { Flow::On } else { Flow::Wait })
            }
            Passage::Admitted(None) => {
                self.queued = false;
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
                let key = self.pending.take().and_then(|pending| pending.key);
                self.effort(key.as_ref()).waited = true;
                Ok(Flow::On)
            }
            Passage::Frozen(refusal) => match self.pending.take() {
                Some(pending) => self.avoid_frozen(&pending, refusal).await,
                None => Ok(Flow::On),
            },
            Passage::NotRunning => Err(self.not_running()),
            Passage::Short(short) => match self.pending.take() {
                Some(pending) => self.concede(&pending, short).await,
                None => Ok(Flow::On),
            },
        }
    }

    /// Somebody else ended the run, or it was never admitted: this process has no business with it.
    fn not_running(&self) -> RuntimeError {
        RuntimeError::Task(format!("run `{}` is not running in the store's books", self.run.id))
    }

    fn perform(&mut self, pass: Pass, pending: Pending) {
        let Pass { reserved, permit } = pass;
        let cancel = self.cancel.subscribe();
        let shared = self.shared.clone();
        match pending.work {
            Work::Model(mut request) => {
                self.effort(pending.key.as_ref()).settle();
                if let Call::Model(call) = &reserved.call {
                    request.max_output_tokens = call.max_output_tokens;
                }
                let (observer, run) = (self.observer_of(pending.key.as_ref()), self.run.id);
                let task = self.tasks.spawn(perform::model(shared, observer, run, permit, *request, cancel));
                self.in_flight.insert(task.id(), reserved);
            }
            Work::Tool(call) => {
                if self.is_own_call(&reserved) {
                    self.own.effort.waited = false;
                }
                let Some(plan) = self.run.plan.tools.get(&call.name).cloned() else { return };
                let arguments = arguments_of(&call.arguments);
                let task = self.tasks.spawn(perform::tool(shared, permit, plan, arguments, cancel));
                self.in_flight.insert(task.id(), reserved);
            }
        }
    }

    /// Whoever looks on reads the answer as it comes: the words of other stages would stand in between.
    fn observer_of(&self, key: Option<&Place>) -> Observer {
        let shows = key.is_none_or(|place| {
            place.item.is_none() && self.run.plan.result_stage().is_some_and(|stage| stage.id == place.stage)
        });
        if shows { self.observer.clone() } else { super::silent() }
    }

    /// Folds what an attempt came to; its fact rides in the next write. A task that broke down counts as unknown.
    fn take_done(&mut self, done: Result<(task::Id, Done), task::JoinError>) {
        let (id, done) = match done {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => {
                tracing::error!(run = %self.run.id, %error, "an attempt's task broke down");
                (error.id(), None)
            }
        };
        let Some(reserved) = self.in_flight.remove(&id) else { return };
        let fact = match done {
            None => settle::broken_off(&reserved, "the attempt broke down; this is a fault of plimsoll"),
            Some(Done::Model(answer)) => settle::model(self.shared.gate.book(), &reserved, answer, self.now()),
            Some(Done::Tool(outcome)) => self.tool_fact(&reserved, outcome),
        };
        let is_model = matches!(reserved.call, Call::Model(_));
        if is_model && !settle::is_reply(&fact) {
            (self.observer)(Progress::TextDiscarded { run: self.run.id });
        }
        self.note(fact);
    }

    /// A call that a clean stop broke off gave no result: it is made again, or a person is asked.
    fn tool_fact(&self, reserved: &Reserved, outcome: ToolOutcome) -> Event {
        if *self.cancel.borrow() && outcome.is_error && !outcome.never_began {
            return settle::broken_off(reserved, "the run was asked to stop while the call was in flight");
        }
        settle::tool(reserved, outcome)
    }
}
