//! One run in one line: what lists, filters and result documents read. A pure fold of the run's own events.
//!
//! Its own money and counts leave out the runs below it: each of those has a summary of its own, so that a sum over
//! summaries counts everything once. What ended children came to stands beside, in `children`.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::event::{
    AskKind, Call, CallRefusal, CostSource, Created, Event, Labels, Outcome as Gave, Parent, PersonAsked, Recorded,
    Reserved, RunState, Settled, Spent,
};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::outcome::Outcome;
use crate::domain::pricing::Usage;
use crate::domain::retry::ErrorClass;
use crate::ids::{AgentName, ModelName, PlanHash, RunId};
use crate::units::{Millis, Money, Timestamp, Tokens};

/// The events' version from which on it is counted what runs were worth.
const WORTH_FROM_VERSION: u16 = 5;

/// One run. Text is shared, so that a clone is cheap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub id: RunId,
    /// The agent.
    pub agent: AgentName,
    /// Its state.
    pub state: RunState,
    /// All labels.
    pub labels: Arc<Labels>,
    /// When it was created.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its plan.
    pub plan: PlanHash,
    /// The parent, for a sub-agent's run.
    pub parent: Option<Arc<Parent>>,
    /// The caller's key.
    pub key: Option<Arc<str>>,
    /// The conversation that it goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Arc<str>>,
    /// True where the simulated provider answers.
    pub simulated: bool,
    /// The cap of the run's account.
    pub cap: Money,
    /// The most that the run can cost.
    pub load_line: Money,
    /// Settled by the run's own attempts, unknown money included.
    pub settled: Money,
    /// The part of `settled` that is not known.
    pub unknown: Money,
    /// Held by the run's own open reservations, the landing reserve included.
    pub held: Money,
    /// The limit that it met last: what stopped it, or what it lands for.
    pub limit: Option<LimitKind>,
    /// That limit's refusal.
    pub refusal: Option<Arc<Refusal>>,
    /// The error in words, for `failed`.
    pub error: Option<Arc<str>>,
    /// Passages through the gate.
    pub steps: u32,
    /// Steps that called a model.
    pub model_calls: u32,
    /// Steps that called a tool.
    pub tool_calls: u32,
    /// Tries of model calls.
    pub attempts: u32,
    /// Attempts after a step's first, of models and tools.
    pub retries: u32,
    /// Tokens by class.
    pub usage: Usage,
    /// Active time: running or waiting for budget. Up to the last sign of life where the process went down.
    pub active: Millis,
    /// Events in its log: the number of the next one.
    pub events: u32,
    /// Attempts that are open, by reservation number; boxed, since a map keeps room for eleven.
    pub in_flight: BTreeMap<u32, Box<InFlight>>,
    /// What the runs below it that have ended came to.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub children: Spent,
    /// The questions to people that are open, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<AskLine>,
    /// What it was worth, as it was said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Arc<Outcome>>,
    /// The model that gave its last reply; of runs of before it was kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<ModelName>,
    /// True where what it was worth counts from its end on; a run of before counts once somebody says its outcome.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_worth: bool,
    /// True once its bodies are taken out of the store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The landing reserve; a child holds none.
    pub landing: Money,
    /// Since when the run has been active, and its last sign of life.
    pub active_since: Option<(Timestamp, Timestamp)>,
}

/// An attempt that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// What is held for it.
    pub amount: Money,
    /// The model, or `None` for a tool.
    pub model: Option<ModelName>,
    /// The try of its step, from 1.
    pub attempt: u32,
    /// When it was reserved.
    pub at: Timestamp,
    /// What the model's tokens were bounded by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<TokenBound>,
    /// True where another model than the policy's first is asked, since that one failed or can't be asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fallback: bool,
}

/// What a model call was admitted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBound {
    /// The most tokens of input.
    pub input: Tokens,
    /// The most tokens of output.
    pub output: u32,
}

/// A question that a person hasn't answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskLine {
    /// Its number in the run; `None` in logs of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u32>,
    /// What is asked for.
    pub what: AskKind,
    /// The question, in words.
    pub question: Arc<str>,
    /// When it was asked.
    pub at: Timestamp,
    /// Until when an answer is taken; `None` in logs of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl AskLine {
    fn of(at: Timestamp, asked: &PersonAsked) -> Self {
        Self {
            ask: asked.ask,
            what: asked.what.unwrap_or(AskKind::InFlight),
            question: Arc::from(asked.question.as_str()),
            at,
            until: asked.until,
        }
    }
}

impl RunSummary {
    /// A run that was just created.
    #[must_use]
    pub fn start(id: RunId, at: Timestamp, created: &Created) -> Self {
        Self {
            id,
            agent: created.agent.clone(),
            state: RunState::Queued,
            labels: Arc::new(created.labels.clone()),
            created: at,
            ended: None,
            plan: created.plan.clone(),
            parent: created.parent.clone().map(Arc::new),
            key: created.key.as_deref().map(Arc::from),
            thread: created.thread.as_ref().map(|thread| Arc::from(thread.id.as_str())),
            simulated: created.simulated,
            cap: created.cap,
            load_line: created.load_line,
            settled: Money::ZERO,
            unknown: Money::ZERO,
            held: Money::ZERO,
            limit: None,
            refusal: None,
            error: None,
            steps: 0,
            model_calls: 0,
            tool_calls: 0,
            attempts: 0,
            retries: 0,
            usage: Usage::default(),
            active: Millis::ZERO,
            events: 1,
            in_flight: BTreeMap::new(),
            children: Spent::default(),
            asked: Vec::new(),
            outcome: None,
            answered_by: None,
            counts_worth: created.version >= WORTH_FROM_VERSION,
            erased: created.erased,
            landing: Money::ZERO,
            active_since: None,
        }
    }

    /// What a whole log comes to; `None` where it doesn't begin with the run's creation.
    #[must_use]
    pub fn of(id: RunId, log: &[Recorded]) -> Option<Self> {
        let (first, rest) = log.split_first()?;
        let Event::Created(created) = &first.event else { return None };
        let mut summary = Self::start(id, first.at, created);
        rest.iter().for_each(|recorded| summary.apply(recorded.at, &recorded.event));
        Some(summary)
    }

    /// The root of its tree.
    #[must_use]
    pub fn root(&self) -> RunId {
        self.parent.as_ref().map_or(self.id, |parent| parent.root)
    }

    /// Folds one fact of this run. Total: it refuses nothing.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        self.events += 1;
        self.tick(at, event);
        match event {
            Event::Created(_)
            | Event::Downgraded(_)
            | Event::CancelRequested(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::MapBegan(_)
            | Event::StageEnded(_)
            | Event::PeriodMoved(_) => {}
            // A sub-agent that a model called answers that call.
            Event::ChildBegan(began) => self.count_tool_call(began.call.is_some()),
            Event::ChildEnded(child) => self.children = self.children.plus(&child.spent),
            Event::PersonAsked(asked) => self.ask(at, asked),
            Event::PersonAnswered(answered) => self.answer(answered.ask),
            Event::InFlightResolved(_) => {
                self.answer(None);
                self.enter(RunState::Interrupted);
            }
            Event::Parked(parked) => self.enter(parked.state),
            Event::Admitted(admitted) => {
                self.keep_to_land(admitted.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount));
                self.enter(RunState::Running);
            }
            Event::Reserved(reserved) => self.reserve(at, reserved),
            Event::Settled(settled) => self.settle(settled),
            Event::Voided(voided) => {
                self.in_flight.remove(&voided.reservation.number);
            }
            Event::CallRefused(refused) => self.count_tool_call(matches!(refused.why, CallRefusal::Invalid { .. })),
            Event::WaitBegan(_) => self.enter(RunState::AwaitingBudget),
            Event::WaitEnded(_) => self.enter(RunState::Running),
            Event::LandingBegan(landing) => self.refuse(&landing.refusal),
            Event::LandingReleased(_) => self.landing = Money::ZERO,
            Event::Interrupted(_) => {
                self.landing = Money::ZERO;
                self.enter(RunState::Interrupted);
            }
            Event::Ended(ended) => {
                if let Some(refusal) = &ended.refusal {
                    self.refuse(refusal);
                }
                self.error = ended.error.as_deref().map(Arc::from);
                self.landing = Money::ZERO;
                self.asked.clear();
                self.ended = Some(at);
                self.state = ended.state.into();
            }
            Event::OutcomeRecorded(said) => self.outcome = Some(Arc::new(self.outcome().after(said))),
        }
        self.held = self.in_flight.values().map(|attempt| attempt.amount).sum::<Money>().plus(self.landing);
    }

    /// What is known of its worth.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome.as_deref().cloned().unwrap_or_default()
    }

    /// What it and all below it that has ended cost.
    #[must_use]
    pub fn whole_cost(&self) -> Money {
        self.settled.plus(self.children.settled)
    }

    /// A run that ended stays as it ended, whatever follows.
    fn enter(&mut self, state: RunState) {
        if !self.state.is_ended() {
            self.state = state;
        }
    }

    /// Version 1 waits at once; since then the run goes on beside its questions, until it parks.
    fn ask(&mut self, at: Timestamp, asked: &PersonAsked) {
        self.asked.push(AskLine::of(at, asked));
        // A question of the model's own is a call that was made, though nobody performs it.
        self.count_tool_call(asked.what == Some(AskKind::Input));
        if asked.what.is_none() {
            self.enter(RunState::AwaitingApproval);
        }
    }

    /// A run that waited is there to be gone on with. Questions of version 1 have no numbers; there is one at a time.
    fn answer(&mut self, ask: Option<u32>) {
        let same = self.asked.iter().position(|open| ask.is_none() || open.ask == ask);
        if let Some(place) = same.or_else(|| self.asked.iter().position(|open| open.ask.is_none())) {
            self.asked.remove(place);
        }
        if self.state.awaits_person() {
            self.enter(RunState::Interrupted);
        }
    }

    fn count_tool_call(&mut self, counts: bool) {
        self.steps += u32::from(counts);
        self.tool_calls += u32::from(counts);
    }

    /// The landing reserve is the root's: an attempt of a child only names it.
    fn keep_to_land(&mut self, amount: Money) {
        self.landing = if self.parent.is_none() { amount } else { Money::ZERO };
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.limit = Some(refusal.limit);
        self.refusal = Some(Arc::new(refusal.clone()));
    }

    fn reserve(&mut self, at: Timestamp, reserved: &Reserved) {
        let first = u32::from(reserved.attempt == 1);
        self.steps += first;
        self.retries += 1 - first;
        let (model, bound, fallback) = if let Call::Model(call) = &reserved.call {
            self.model_calls += first;
            self.attempts += 1;
            let bound = TokenBound { input: call.bound.tokens, output: call.max_output_tokens };
            let fallback = self.counts_worth && call.instead.is_some() && call.downgraded.is_none();
            (Some(call.model.clone()), Some(bound), fallback)
        } else {
            self.tool_calls += first;
            (None, None, false)
        };
        self.keep_to_land(reserved.landing);
        let attempt = InFlight { amount: reserved.amount, model, attempt: reserved.attempt, at, bound, fallback };
        self.in_flight.insert(reserved.reservation.number, Box::new(attempt));
    }

    fn settle(&mut self, settled: &Settled) {
        let attempt = self.in_flight.remove(&settled.reservation.number);
        if let (Gave::Reply { .. }, true) = (&settled.outcome, self.counts_worth && !self.state.is_ended()) {
            self.answered_by = attempt.and_then(|attempt| attempt.model);
        }
        self.settled = self.settled.plus(settled.bill);
        if settled.source == CostSource::Unknown {
            self.unknown = self.unknown.plus(settled.bill);
        }
        self.usage = self.usage.plus(&settled.usage.unwrap_or_default());
    }

    /// Counts active time up to this fact, or up to the last sign of life where this fact tells of an interruption.
    fn tick(&mut self, at: Timestamp, event: &Event) {
        if let Event::Admitted(_) = event {
            self.active_since = Some((at, at));
        } else if let (Some(last), Some((since, seen))) = (last_life(at, event), self.active_since) {
            self.active = self.active.plus(last.unwrap_or(seen).since(since));
            self.active_since = None;
        } else if let (Some((_, seen)), true) = (&mut self.active_since, is_sign_of_life(event)) {
            *seen = at;
        }
    }
}

/// For facts that end a stretch of active time: when it ended, if the run's own process wrote it.
fn last_life(at: Timestamp, event: &Event) -> Option<Option<Timestamp>> {
    match event {
        Event::Interrupted(interrupted) => Some(interrupted.clean.then_some(at)),
        Event::PersonAsked(PersonAsked { what: None, .. }) | Event::Parked(_) | Event::Ended(_) => Some(Some(at)),
        Event::Created(_)
        | Event::Admitted(_)
        | Event::Reserved(_)
        | Event::Settled(_)
        | Event::Voided(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::WaitEnded(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::LandingBegan(_)
        | Event::LandingReleased(_)
        | Event::CancelRequested(_)
        | Event::PersonAsked(_)
        | Event::InFlightResolved(_)
        | Event::PersonAnswered(_)
        | Event::MapBegan(_)
        | Event::StageEnded(_)
        | Event::ChildBegan(_)
        | Event::ChildEnded(_)
        | Event::PeriodMoved(_)
        | Event::OutcomeRecorded(_) => None,
    }
}

fn is_nothing(spent: &Spent) -> bool {
    *spent == Spent::default()
}

/// False for what recovery writes in the name of a process that went down.
fn is_sign_of_life(event: &Event) -> bool {
    let failure = match event {
        Event::Settled(settled) => match &settled.outcome {
            Gave::Failed(failure) => Some(failure),
            Gave::Reply { .. } | Gave::ToolResult { .. } => None,
        },
        Event::Voided(voided) => Some(&voided.failure),
        Event::LandingReleased(_) => return false,
        Event::Created(_)
        | Event::Admitted(_)
        | Event::Reserved(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::WaitEnded(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::LandingBegan(_)
        | Event::CancelRequested(_)
        | Event::Interrupted(_)
        | Event::PersonAsked(_)
        | Event::InFlightResolved(_)
        | Event::PersonAnswered(_)
        | Event::Parked(_)
        | Event::MapBegan(_)
        | Event::StageEnded(_)
        | Event::ChildBegan(_)
        | Event::ChildEnded(_)
        | Event::PeriodMoved(_)
        | Event::OutcomeRecorded(_)
        | Event::Ended(_) => None,
    };
    failure.is_none_or(|failure| failure.class != ErrorClass::Interrupted)
}
