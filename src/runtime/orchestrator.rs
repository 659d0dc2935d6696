//! Drives one run: asks what comes next, lets the gate judge it, performs what was granted, feeds back what came of it.
//!
//! The task that drives a run is the only one that writes to its log. Facts ride together: what an attempt gave is
//! written with the next attempt's reservation, in one durable write.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};

use super::perform::{self, Done};
use super::progress::{Observer, Progress};
use super::{RuntimeError, Shared, settle};
use crate::domain::event::{
    Call, CancelRequested, EndState, Ended, Event, Interrupted, Landing, LandingBegan, LandingReleased, PersonAsked,
    Purpose, Recorded, Reserved, RunState, WaitEnd,
};
use crate::domain::ledger::{AdmitAsk, Ask, Op, ReserveAsk, Short};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::message::Request;
use crate::domain::policy::{self, Stance};
use crate::domain::run::{Intent, ModelIntent, Next, Run, ToolIntent};
use crate::failpoint;
use crate::gate::{Draft, Effort, Pass, Passage, Prepared, Rendered, Submitted};
use crate::ids::RunId;
use crate::store::NoticeCommitted;
use crate::tool;
use crate::units::{Millis, Money, Timestamp};

/// How often a queued run has the ledger look whether a new period began.
const QUEUE_LOOK: Millis = Millis::from_secs(5);
/// How long a clean stop waits for what is in flight before it gives it up as unknown.
const STOP_DRAIN: Millis = Millis::from_secs(12);

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
    stop: watch::Receiver<bool>,
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
    Tool(crate::domain::message::ToolCall),
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
        let stop = shared.stop.subscribe();
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
            stop,
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
            if *self.stop.borrow() || *self.hung_up.borrow() {
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

    fn needs_admission(&self) -> bool {
        matches!(self.run.state, RunState::Queued | RunState::Interrupted | RunState::AwaitingApproval)
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

    // Ends

    async fn end(&mut self, ended: Ended) -> Result<Flow, RuntimeError> {
        self.note(Event::Ended(ended));
        failpoint::reach("run.end");
        self.submit(vec![]).await?;
        Ok(Flow::Leave)
    }

    async fn land(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        if !self.run.can_land() {
            if self.run.is_busy() {
                // What is in flight drains first; then the run ends by this limit.
                self.note(Event::LandingBegan(LandingBegan { refusal }));
                return Ok(Flow::Wait);
            }
            let ended = self.run.stopped(refusal);
            return self.end(ended).await;
        }
        self.effort = Effort::default();
        self.note(Event::LandingBegan(LandingBegan { refusal }));
        Ok(Flow::On)
    }

    async fn ask_person(&mut self, call_id: String, tool: crate::ids::ToolName) -> Result<Flow, RuntimeError> {
        if self.run.state == RunState::AwaitingApproval {
            return Ok(Flow::Leave);
        }
        let question = format!(
            "`{tool}` was being called when the process went down, and it is not declared `idempotent`: it may have taken effect"
        );
        self.release_landing("the run waits for a person");
        self.note(Event::PersonAsked(PersonAsked { call_id, tool, question }));
        self.submit(vec![]).await?;
        Ok(Flow::Leave)
    }

    fn release_landing(&mut self, why: &str) {
        if let Some(landing) = self.run.landing.clone() {
            let released = LandingReleased { reservation: landing.reservation, why: why.to_owned() };
            self.note(Event::LandingReleased(released));
        }
    }

    /// A clean stop: what is in flight is drained, for a while; then the run is `interrupted`, and can be resumed.
    async fn interrupt(&mut self) -> Result<RunState, RuntimeError> {
        self.cancel.send_replace(true);
        let drain = async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.take_done(done);
            }
        };
        let drained = tokio::time::timeout(STOP_DRAIN.duration(), drain).await.is_ok();
        if !drained {
            for reserved in std::mem::take(&mut self.in_flight).into_values() {
                self.note(settle::broken_off(&reserved, "the run was asked to stop, and the answer took too long"));
            }
        }
        failpoint::reach("run.stop");
        if self.run.ended.is_none() && !self.run.state.is_ended() {
            if self.is_new && self.run.state == RunState::Queued {
                // Nothing was promised yet, but the run exists from here on.
                self.submit(vec![]).await?;
                return Ok(self.run.state);
            }
            self.note(Event::Interrupted(Interrupted { why: "asked to stop".into(), clean: true }));
        }
        self.submit(vec![]).await?;
        Ok(self.run.state)
    }

    /// Money may have come for an attempt while the run was being stopped or cancelled: the call was never made.
    async fn give_back(&mut self) -> Result<(), RuntimeError> {
        while let Ok(news) = self.notices.try_recv() {
            let Submitted { events, passages } = self.receive(news);
            self.fold(&events, 0);
            for passage in passages {
                if let Passage::Admitted(Some(pass)) | Passage::Granted(pass) = passage {
                    let reservation = pass.permit.spend();
                    self.note(settle::never_made(reservation, "the run was asked to stop before the call was made"));
                }
            }
        }
        self.submit(vec![]).await?;
        Ok(())
    }

    fn receive(&self, news: NoticeCommitted) -> Submitted {
        self.shared.gate.receive(news, self.first_token_limit(), self.run.time_to_wait(self.now()))
    }

    // Admission

    async fn admit(&mut self) -> Result<Flow, RuntimeError> {
        failpoint::reach("run.admission");
        match self.run.next(self.now(), &self.shared.checks) {
            Next::Ended => Ok(Flow::Leave),
            Next::Wait => Ok(Flow::On),
            Next::Do(intents) => match intents.into_iter().next() {
                Some(Intent::End(ended)) => self.end(ended).await,
                Some(Intent::AskPerson { call_id, tool }) => self.ask_person(call_id, tool).await,
                Some(Intent::Model(intent)) if intent.purpose != Purpose::Landing => self.admit_with(&intent).await,
                _ => self.admit_without_call().await,
            },
        }
    }

    /// Asks to start with the first call at hand: its reservation rides in the same write.
    async fn admit_with(&mut self, intent: &ModelIntent) -> Result<Flow, RuntimeError> {
        let landing = self.landing_reserve(intent.purpose);
        let draft = match self.prepare_after_landing(intent, landing.as_ref()) {
            Prepared::Ready(draft) => draft,
            Prepared::Refused(refusal) if self.run.state == RunState::Queued => {
                return self.stop_before_start(*refusal).await;
            }
            // A run that goes on meets its limit as any running one: it lands.
            Prepared::Refused(_) => return self.admit_without_call().await,
            Prepared::GiveUp(error) => {
                let ended = self.run.failed(error);
                return self.end(ended).await;
            }
            Prepared::Later(until) if self.sleep_until(until).await => return Box::pin(self.admit()).await,
            Prepared::Later(_) => return Ok(Flow::Wait),
        };
        let can_tighten = draft.can_tighten;
        let bound = draft.reserved.amount;
        // In the order of LEDGER rule 9: a tighter bound, then the downgrade, and only then fewer output tokens.
        let lower = !can_tighten && self.downgrade().is_none();
        let first = Some(Box::new(self.reserve_ask(&draft, lower)));
        let ask = AdmitAsk { landing, bound, first, provisional: can_tighten };
        self.pending = Some(Pending { reserved: draft.reserved, work: Work::Model(Box::new(draft.request)) });
        let passages = self.submit(vec![Ask::Admit(ask)]).await?;
        match passages.into_iter().next() {
            Some(Passage::Queued | Passage::TurnedAway(_)) if can_tighten => {
                // A tighter bound may let the run start, or start sooner.
                self.effort.tight = true;
                Box::pin(self.admit_with(intent)).await
            }
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    /// Not with this call, perhaps with another: not at a frozen price, or by the policy's downgrade.
    async fn turned_away(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        let asked = self.pending.take().and_then(|pending| match pending.reserved.call {
            Call::Model(call) => Some(call.model),
            Call::Tool { .. } => None,
        });
        if refusal.limit == LimitKind::FrozenPrice
            && let Some(model) = asked.filter(|model| !self.effort.frozen.contains(model))
        {
            self.effort.frozen.push(model);
            return Box::pin(self.admit()).await;
        }
        if matches!(refusal.limit, LimitKind::Cost | LimitKind::Budget)
            && let Some(stance) = self.downgrade()
        {
            self.effort.settle();
            self.effort.stance = stance;
            return Box::pin(self.admit()).await;
        }
        self.stop_before_start(refusal).await
    }

    /// Asks to go on where the next thing isn't a model call: tools of a turn, or a landing.
    async fn admit_without_call(&mut self) -> Result<Flow, RuntimeError> {
        let landing = self.landing_reserve(Purpose::Turn);
        // A landing takes its reserve's place, and needs nothing beside it.
        let bound = landing.as_ref().filter(|_| self.run.lands.is_none()).map_or(Money::ZERO, |kept| kept.amount);
        let passages =
            self.submit(vec![Ask::Admit(AdmitAsk { landing, bound, first: None, provisional: false })]).await?;
        match passages.into_iter().next() {
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    fn landing_reserve(&self, purpose: Purpose) -> Option<Landing> {
        let last = purpose == Purpose::Last;
        if last || !self.run.can_land() {
            return None;
        }
        let model = self.run.latest_model.clone().or_else(|| self.run.plan.model.candidates.first().cloned())?;
        let amount = self.shared.gate.landing_amount(&self.run, &self.rendered, &model, &self.effort);
        (!amount.is_zero()).then(|| Landing { reservation: self.run.next_reservation(), amount })
    }

    /// The first call's number follows the landing reserve's.
    fn prepare_after_landing(&self, intent: &ModelIntent, landing: Option<&Landing>) -> Prepared {
        let mut prepared = self.shared.gate.prepare(&self.run, &self.rendered, intent, &self.effort);
        if let (Prepared::Ready(draft), Some(landing)) = (&mut prepared, landing) {
            draft.reserved.reservation.number = landing.reservation.number + 1;
        }
        prepared
    }

    async fn stop_before_start(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        if self.run.state == RunState::Queued {
            let ended = self.run.stopped(self.declared(refusal));
            return self.end(ended).await;
        }
        // A resumed run stays as it is, with the refusal shown (LEDGER rule 7).
        let refusal = self.declared(refusal);
        (self.observer)(Progress::Refused { run: self.run.id, refusal: &refusal });
        Ok(Flow::Leave)
    }

    /// The run's own cost limit is declared in its file, which the ledger doesn't know.
    fn declared(&self, mut refusal: Refusal) -> Refusal {
        if refusal.limit == LimitKind::Cost && refusal.subject.is_none() {
            refusal.declared = self.run.plan.limits.declared(LimitKind::Cost);
        }
        refusal
    }

    // Model calls

    async fn call_model(&mut self, intent: &ModelIntent) -> Result<Flow, RuntimeError> {
        match self.shared.gate.prepare(&self.run, &self.rendered, intent, &self.effort) {
            Prepared::Ready(draft) => self.ask_model(intent, *draft).await,
            Prepared::Refused(refusal) if intent.purpose == Purpose::Landing => {
                tracing::info!(run = %self.run.id, %refusal, "the landing doesn't fit");
                self.end_without_landing().await
            }
            Prepared::Refused(refusal) => self.land(*refusal).await,
            Prepared::GiveUp(error) => {
                let ended = self.run.failed(error);
                self.end(ended).await
            }
            Prepared::Later(until) => {
                self.later = Some(until);
                self.submit(vec![]).await?;
                Ok(Flow::Wait)
            }
        }
    }

    async fn end_without_landing(&mut self) -> Result<Flow, RuntimeError> {
        let refusal = self.run.lands.clone();
        let ended = Ended { state: EndState::Stopped, refusal, output: None, error: None };
        self.end(ended).await
    }

    async fn ask_model(&mut self, intent: &ModelIntent, draft: Draft) -> Result<Flow, RuntimeError> {
        let can_tighten = draft.can_tighten;
        let wait = !can_tighten && !self.effort.waited && intent.purpose != Purpose::Landing;
        let mut ask = self.reserve_ask(&draft, self.effort.lower);
        ask.wait_until =
            wait.then(|| self.now().after(self.run.plan.limits.budget_wait.min(self.run.time_to_wait(self.now()))));
        self.wait_until = ask.wait_until;
        self.pending = Some(Pending { reserved: draft.reserved, work: Work::Model(Box::new(draft.request)) });
        let passages = self.submit(vec![Ask::Reserve(Box::new(ask))]).await?;
        match passages.into_iter().next() {
            Some(Passage::Short(short)) => self.concede(intent.purpose, can_tighten, short).await,
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    fn reserve_ask(&self, draft: &Draft, lower: bool) -> ReserveAsk {
        ReserveAsk { reserved: draft.reserved.clone(), lower: lower.then_some(draft.lower), wait_until: None }
    }

    /// LEDGER rule 9, one concession after the other.
    async fn concede(&mut self, purpose: Purpose, can_tighten: bool, short: Short) -> Result<Flow, RuntimeError> {
        self.wait_until = None;
        if purpose == Purpose::Landing {
            return self.end_without_landing().await;
        }
        if short.own_tree {
            return Ok(Flow::Wait);
        }
        if can_tighten {
            self.effort.tight = true;
        } else if let Some(stance) = self.downgrade() {
            self.effort.settle();
            self.effort.stance = stance;
        } else if self.effort.lower {
            let declared = self.run.plan.limits.declared(LimitKind::Cost);
            return self.land(short.refusal(declared)).await;
        } else {
            self.effort.lower = true;
            self.effort.waited = true;
        }
        Ok(Flow::On)
    }

    fn downgrade(&self) -> Option<Stance> {
        policy::downgrade(&self.run.plan.model, self.effort.stance)
    }

    // Tool calls

    /// A free builtin runs at once and its facts ride in the next write; anything else is asked for.
    fn take_tool(&mut self, intent: ToolIntent, at_once: bool) -> Option<Pending> {
        let agent = self.run.plan.clone();
        let plan = agent.tools.get(&intent.call.name)?;
        let reserved = Reserved {
            reservation: self.run.next_reservation(),
            step: intent.step,
            attempt: intent.attempt,
            amount: plan.price,
            landing: self.run.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount),
            budgets: None,
            time_limit: intent.time_limit,
            call: Call::Tool {
                call_id: intent.call.id.clone(),
                tool: intent.call.name.clone(),
                arguments_hash: intent.hash,
                idempotent: plan.idempotent,
            },
        };
        let Some(permit) = self.shared.gate.instant(plan, &reserved).filter(|_| at_once) else {
            return Some(Pending { reserved, work: Work::Tool(intent.call) });
        };
        self.note(Event::Reserved(Box::new(reserved.clone())));
        let arguments = arguments_of(&intent.call.arguments);
        let outcome = tool::call_instant(permit, plan, &arguments, &self.shared.tools);
        self.note(settle::tool(&reserved, outcome));
        None
    }

    async fn ask_tools(&mut self, mut asked: Vec<Pending>) -> Result<Flow, RuntimeError> {
        let first = self.run.next_reservation().number;
        for (index, pending) in asked.iter_mut().enumerate() {
            pending.reserved.reservation.number = first + u32::try_from(index).unwrap_or(u32::MAX);
        }
        let asks = asked
            .iter()
            .map(|pending| {
                let reserved = pending.reserved.clone();
                Ask::Reserve(Box::new(ReserveAsk { reserved, lower: None, wait_until: None }))
            })
            .collect();
        let passages = self.submit(asks).await?;
        let mut flow = Flow::On;
        for (pending, passage) in asked.into_iter().zip(passages) {
            match passage {
                Passage::Granted(pass) => self.perform(pass, pending.work),
                Passage::Short(short) if short.own_tree => flow = Flow::Wait,
                Passage::Behind => flow = Flow::Wait,
                Passage::Short(short) => self.refuse_tool(&pending.reserved, &short),
                Passage::Admitted(_)
                | Passage::Queued
                | Passage::TurnedAway(_)
                | Passage::Waiting
                | Passage::Frozen(_)
                | Passage::WaitEnded
                | Passage::NotWaiting
                | Passage::Stalled => {}
                Passage::NotRunning => return Err(self.not_running()),
            }
        }
        Ok(if self.run.is_busy() { Flow::Wait } else { flow })
    }

    /// A paid tool that the money isn't there for: the model is told.
    fn refuse_tool(&mut self, reserved: &Reserved, short: &Short) {
        let Call::Tool { call_id, tool, .. } = &reserved.call else { return };
        let refusal = short.refusal(self.run.plan.limits.declared(LimitKind::Cost));
        self.note(Event::CallRefused(crate::domain::event::CallRefused {
            step: reserved.step.clone(),
            call_id: call_id.clone(),
            tool: tool.clone(),
            why: crate::domain::event::CallRefusal::Limit { refusal },
        }));
    }

    // Writes, effects and what comes back

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

    /// A frozen price bars its model; where nobody else is left the run ends, landing included.
    async fn avoid_frozen(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        let model = self.pending.take().and_then(|pending| match pending.reserved.call {
            Call::Model(call) if call.purpose != Purpose::Landing => Some(call.model),
            Call::Model(_) | Call::Tool { .. } => None,
        });
        match model {
            Some(model) if !self.effort.frozen.contains(&model) => {
                self.effort.frozen.push(model);
                Ok(Flow::On)
            }
            _ => {
                let ended = self.run.stopped(refusal);
                self.end(ended).await
            }
        }
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

    /// Until an attempt is over, news come, or a time has come.
    async fn wait(&mut self) -> Result<Flow, RuntimeError> {
        let timer = self.timer();
        tokio::select! {
            done = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                if let Some(done) = done {
                    self.take_done(done);
                }
                Ok(Flow::On)
            }
            Some(news) = self.notices.recv() => {
                let Submitted { events, passages } = self.receive(news);
                self.fold(&events, 0);
                match passages.into_iter().next() {
                    Some(passage) => self.follow(passage).await,
                    None => Ok(Flow::Wait),
                }
            }
            changed = self.stop.changed() => {
                drop(changed);
                Ok(Flow::On)
            }
            Ok(()) = self.hung_up.changed() => Ok(Flow::On),
            Ok(()) = self.requests.changed() => Ok(Flow::Wait),
            () = sleep_for(timer) => self.time_came().await,
        }
    }

    /// When to look again, whatever happens: the end of a back-off or of a wait, and of the run's own time.
    fn timer(&self) -> Option<Millis> {
        let now = self.now();
        if self.queued {
            return Some(QUEUE_LOOK);
        }
        let at = self.later.or(self.wait_until)?;
        Some(at.since(now).min(self.run.time_to_wait(now)))
    }

    async fn time_came(&mut self) -> Result<Flow, RuntimeError> {
        if self.queued {
            return self.look_at_queue().await;
        }
        if self.later.take().is_some() {
            return Ok(Flow::On);
        }
        self.wait_until = None;
        self.stop_waiting(WaitEnd::Expired).await
    }

    async fn stop_waiting(&mut self, why: WaitEnd) -> Result<Flow, RuntimeError> {
        let passages = self.submit(vec![Ask::EndWait(why)]).await?;
        match passages.into_iter().next() {
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    /// A period may have begun since, and nobody else may have written: the ledger looks at its queue with every op.
    async fn look_at_queue(&mut self) -> Result<Flow, RuntimeError> {
        if let Next::Do(intents) = self.run.next(self.now(), &self.shared.checks)
            && let Some(Intent::Land(refusal)) = intents.into_iter().next()
        {
            return self.stop_before_start(refusal).await;
        }
        let op = Op { run: self.run.id, events: vec![], asks: vec![], plan: None };
        self.shared.gate.submit(op, self.first_token_limit()).await?;
        Ok(Flow::Wait)
    }

    /// A person asked the run to end: nothing new starts, what is in flight is drained.
    async fn take_request(&mut self) -> Result<Flow, RuntimeError> {
        let reason = self.requests.borrow().clone().unwrap_or_default();
        self.cancel.send_replace(true);
        self.later = None;
        self.queued = false;
        if self.wait_until.take().is_some() {
            self.stop_waiting(WaitEnd::Cancelled).await?;
        }
        self.note(Event::CancelRequested(CancelRequested { reason }));
        Ok(Flow::On)
    }

    /// False where the run was asked to stop or to end before that.
    async fn sleep_until(&mut self, until: Timestamp) -> bool {
        let time = until.since(self.now());
        tokio::select! {
            () = sleep_for(Some(time)) => true,
            Ok(()) = self.stop.changed() => false,
            Ok(()) = self.requests.changed() => false,
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
    fn tool_fact(&self, reserved: &Reserved, outcome: crate::tool::ToolOutcome) -> Event {
        if *self.cancel.borrow() && outcome.is_error && !outcome.never_began {
            return settle::broken_off(reserved, "the run was asked to stop while the call was in flight");
        }
        settle::tool(reserved, outcome)
    }
}

/// Never, without a time.
async fn sleep_for(time: Option<Millis>) {
    match time {
        Some(time) => tokio::time::sleep(time.duration()).await,
        None => std::future::pending().await,
    }
}

/// The arguments of a call that was checked before.
fn arguments_of(raw: &str) -> serde_json::Value {
    let text = if raw.trim().is_empty() { "{}" } else { raw };
    serde_json::from_str(text).unwrap_or(serde_json::Value::Null)
}
