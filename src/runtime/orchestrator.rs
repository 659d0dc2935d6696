//! Drives one run: asks what comes next, lets the gate judge it, performs what was granted, feeds back what came of it.
//!
//! The task that drives a run is the only one that writes to its log. Facts ride together: what an attempt gave is
//! written with the next attempt's reservation, in one durable write.

mod admission;
mod ends;
mod model_calls;
mod tool_calls;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};

use super::perform::{self, Done};
use super::progress::{Observer, Progress};
use super::{RuntimeError, Shared, settle};
use crate::domain::event::{Call, Event, Purpose, Recorded, Reserved, RunState};
use crate::domain::ledger::{Ask, Op};
use crate::domain::message::{Request, ToolCall};
use crate::domain::run::{Intent, Next, Run};
use crate::failpoint;
use crate::gate::{Effort, Pass, Passage, Rendered, Submitted};
use crate::ids::RunId;
use crate::store::NoticeCommitted;
use crate::tool::ToolOutcome;
use crate::units::{Millis, Timestamp};
use tool_calls::arguments_of;

/// Drives one run.
pub(crate) struct Orchestrator {
    shared: Arc<Shared>,
    run: Run,
    rendered: Rendered,
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
    /// Requests of people to end the run.
    requests: watch::Receiver<Option<String>>,
    /// Nobody waits for this run any more.
    hung_up: watch::Receiver<bool>,
    effort: Effort,
    /// What waits for a permit: the request of the model call that was asked for.
    pending: Option<Pending>,
    /// Back-off ends then.
    later: Option<Timestamp>,
    /// The wait for budget ends then.
    wait_until: Option<Timestamp>,
    /// True while the run waits to be admitted.
    queued: bool,
}

/// What is to be performed once it is granted.
struct Pending {
    reserved: Reserved,
    work: Work,
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

impl Orchestrator {
    pub(crate) fn new(
        shared: Arc<Shared>,
        run: Run,
        rendered: Rendered,
        observer: Observer,
        created: Option<Event>,
        requests: watch::Receiver<Option<String>>,
        hung_up: watch::Receiver<bool>,
    ) -> Self {
        let notices = shared.gate.store().attach(run.id);
        let (cancel, _) = watch::channel(false);
        Self {
            shared,
            run,
            rendered,
            observer,
            is_new: created.is_some(),
            draft: created.into_iter().collect(),
            notices,
            tasks: JoinSet::new(),
            in_flight: BTreeMap::new(),
            cancel,
            requests,
            hung_up,
            effort: Effort::default(),
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
            if self.run.cancelled.is_none() && self.requests.borrow().is_some() {
                flow = self.take_request().await?;
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
        let next = self.run.next(self.now(), &self.shared.checks);
        match next {
            Next::Ended | Next::Wait => {
                self.submit(vec![]).await?;
                if self.run.ended.is_some() && !self.run.is_busy() {
                    return Ok(Flow::Leave);
                }
                if self.tasks.is_empty() && self.wait_until.is_none() && !self.queued {
                    return Err(RuntimeError::Task(format!("run `{}` waits for nothing", self.run.id)));
                }
                Ok(Flow::Wait)
            }
            Next::Do(intents) => self.take(intents).await,
        }
    }

    async fn take(&mut self, intents: Vec<Intent>) -> Result<Flow, RuntimeError> {
        let mut asked: Vec<Pending> = Vec::new();
        for intent in intents {
            match intent {
                Intent::Refuse(refused) => self.note(Event::CallRefused(refused)),
                Intent::End(ended) => return self.end(ended).await,
                Intent::Land(refusal) => return self.land(refusal).await,
                Intent::AskPerson { call_id, tool } => return self.ask_person(call_id, tool).await,
                Intent::Model(intent) => return self.call_model(&intent).await,
                Intent::Tool(intent) => {
                    // Calls are decided in their order (LEDGER rule 16): none overtakes one that must be asked for.
                    let at_once = asked.is_empty();
                    asked.extend(self.take_tool(intent, at_once));
                }
            }
        }
        if asked.is_empty() {
            return Ok(Flow::On);
        }
        self.ask_tools(asked).await
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
                    self.perform(pass, pending.work);
                }
                Ok(Flow::Wait)
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
                self.effort.waited = true;
                Ok(Flow::On)
            }
            Passage::Frozen(refusal) => self.avoid_frozen(refusal).await,
            Passage::NotRunning => Err(self.not_running()),
            Passage::Short(short) => self.concede(Purpose::Turn, false, short).await,
        }
    }

    /// Somebody else ended the run, or it was never admitted: this process has no business with it.
    fn not_running(&self) -> RuntimeError {
        RuntimeError::Task(format!("run `{}` is not running in the store's books", self.run.id))
    }

    fn perform(&mut self, pass: Pass, work: Work) {
        let Pass { reserved, permit } = pass;
        let cancel = self.cancel.subscribe();
        let shared = self.shared.clone();
        match work {
            Work::Model(mut request) => {
                self.effort.settle();
                if let Call::Model(call) = &reserved.call {
                    request.max_output_tokens = call.max_output_tokens;
                }
                let (observer, run) = (self.observer.clone(), self.run.id);
                let task = self.tasks.spawn(perform::model(shared, observer, run, permit, *request, cancel));
                self.in_flight.insert(task.id(), reserved);
            }
            Work::Tool(call) => {
                let Some(plan) = self.run.plan.tools.get(&call.name).cloned() else { return };
                let arguments = arguments_of(&call.arguments);
                let task = self.tasks.spawn(perform::tool(shared, permit, plan, arguments, cancel));
                self.in_flight.insert(task.id(), reserved);
            }
        }
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
