//! The trace of one run: everything that it did, what each attempt cost, and what each limit stood at.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{RunDocument, TokenDocument};
use super::standing::{LimitStanding, Peaks};
use super::{replay, text, text_or_null};
use crate::domain::event::{
    AccountKey, Call, CallRefusal, CostSource, Created, Cut, Decision, Event, InputBound, Labels, Outcome, Place,
    Purpose, Recorded, Reserved, Settled, StageEnd, StageEnded, Voided, WaitEnd,
};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::message::{Pots, StopReason, ToolCall};
use crate::domain::plan::Plan;
use crate::domain::retry::Failure;
use crate::ids::{ModelName, PlanHash, PriceId, ReservationId, RunId, StageName, ToolName};
use crate::units::{Millis, Money, Timestamp};

/// One run, whole. As JSON: the run's document, and more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The run's document.
    #[serde(flatten)]
    pub head: RunDocument,
    /// When it was created.
    #[serde(with = "text")]
    pub created: Timestamp,
    /// When it ended.
    #[serde(with = "text_or_null")]
    pub ended: Option<Timestamp>,
    /// The plan that it keeps.
    pub plan: PlanHash,
    /// The prompt's label.
    pub prompt_version: String,
    /// Its labels.
    pub labels: Labels,
    /// The caller's key.
    pub key: Option<String>,
    /// True where the simulated provider answered.
    pub simulated: bool,
    /// Its input.
    pub input: Value,
    /// What it is expected to cost, where the agent says so.
    pub expected_usd: Option<Money>,
    /// Until when it waits for a person at most, where it does.
    #[serde(default, with = "text_or_null", skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<Timestamp>,
    /// The limit that stopped it, in full.
    pub refusal: Option<Refusal>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
    /// What each limit stood at.
    pub limits: Vec<LimitStanding>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum TimelineEntry {
    /// The run may start, or go on.
    Admitted {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The landing reserve placed.
        landing_usd: Money,
        /// The budget accounts on its path.
        budgets: Vec<AccountKey>,
    },
    /// A step, with every attempt of it.
    Step(StepLine),
    /// A map, from its beginning on.
    Map {
        /// When it began.
        #[serde(with = "text")]
        at: Timestamp,
        /// The stage.
        stage: StageName,
        /// Its items.
        items: usize,
        /// Items that gave an output.
        finished: usize,
        /// Items that failed or were stopped.
        lost: usize,
    },
    /// A stage, or an item of a map, is over.
    StageEnded {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The stage.
        stage: StageName,
        /// The item, from 0, where it is one of a map.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
        /// How.
        end: StageEnd,
        /// The limit that stopped it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refusal: Option<Refusal>,
        /// The error in words, where it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A tool call that was not made.
    Refused {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The stage.
        stage: StageName,
        /// The tool.
        tool: ToolName,
        /// The provider's id of the call.
        call_id: String,
        /// Why.
        reason: CallRefusal,
    },
    /// A wait for budget.
    Waited {
        /// When it began.
        #[serde(with = "text")]
        at: Timestamp,
        /// The account without room.
        account: AccountKey,
        /// What was asked for.
        asked_usd: Money,
        /// When it ends, or would have ended, by itself.
        #[serde(with = "text")]
        until: Timestamp,
        /// How long it took; null while it goes on.
        waited_ms: Option<Millis>,
        /// Why it ended.
        why: Option<WaitEnd>,
    },
    /// The run met a limit, and makes its last call.
    Landing {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The limit.
        refusal: Refusal,
    },
    /// The landing reserve was given back.
    LandingReleased {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// Why.
        why: String,
    },
    /// Someone asked the run to end.
    CancelRequested {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// The process that ran it went down, or was asked to stop.
    Interrupted {
        /// When it was noticed.
        #[serde(with = "text")]
        at: Timestamp,
        /// Why.
        why: String,
    },
    /// A person must decide on a call that was in flight.
    PersonAsked {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The tool, if it is about a call.
        tool: Option<ToolName>,
        /// The provider's id of the call, if it is about one.
        call_id: Option<String>,
        /// The question.
        question: String,
        /// Its number; `None` in logs of version 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<u32>,
        /// What is approved, and may be edited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<Value>,
    },
    /// A person answered, or nobody did in time.
    PersonAnswered {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The question's number.
        ask: Option<u32>,
        /// The decision.
        decision: Decision,
        /// Who.
        by: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Nothing moves until a person answers; nothing is held.
    Parked {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// Until when at most.
        #[serde(with = "text")]
        until: Timestamp,
    },
    /// A person decided on it.
    PersonDecided {
        /// When.
        #[serde(with = "text")]
        at: Timestamp,
        /// The provider's id of the call.
        call_id: String,
        /// True to make the call again.
        rerun: bool,
        /// Who.
        by: String,
    },
}

/// One passage through the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Its number, from 1.
    pub step: u32,
    /// Its stage.
    pub stage: StageName,
    /// Its item, from 0, where the stage is a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// What its attempts cost together.
    pub cost_usd: Money,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptLine>,
}

/// One try of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptLine {
    /// Its number, from 1.
    pub attempt: u32,
    /// Its reservation in the run's log.
    pub reservation: u32,
    /// When its money was reserved.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// What was called.
    pub call: AttemptCall,
    /// The worst case that was reserved.
    pub reserved_usd: Money,
    /// What it cost; nothing where that isn't known yet, or where it was void.
    pub cost_usd: Money,
    /// How that is known.
    pub cost_state: CostState,
    /// Tokens, where the provider reported them.
    pub tokens: Option<TokenDocument>,
    /// The time limit that it ran under.
    pub time_limit_ms: Millis,
    /// Time from dispatch to the end.
    pub latency_ms: Option<Millis>,
    /// Time to the first token, where it was streamed.
    pub first_token_ms: Option<Millis>,
    /// What it gave; null while it is in flight.
    pub gave: Option<Gave>,
}

/// How the cost of an attempt is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostState {
    /// In flight: its worst case is held.
    Open,
    /// As the provider, or the tool's price, says.
    Reported,
    /// From other evidence of the provider.
    Derived,
    /// Not known: the whole reservation.
    Unknown,
    /// It is proved that nothing was billed.
    Void,
}

impl CostState {
    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Reported => "reported",
            Self::Derived => "derived",
            Self::Unknown => "unknown",
            Self::Void => "void",
        }
    }
}

/// What an attempt called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AttemptCall {
    /// A model.
    Model(ModelLine),
    /// A tool.
    Tool(ToolLine),
}

/// A model call as it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelLine {
    /// The model asked.
    pub model: ModelName,
    /// The price version pinned.
    pub price: PriceId,
    /// What it was for.
    pub purpose: Purpose,
    /// The output cap sent.
    pub max_output_tokens: u32,
    /// The bound of the input, and how it was found.
    pub input_bound: InputBound,
    /// The request by pot.
    pub pots: Pots,
    /// What was cut to make it fit.
    pub cuts: Vec<Cut>,
    /// Why this model and not the first.
    pub instead: Option<String>,
    /// What the runtime asked beside the conversation.
    pub remark: Option<String>,
}

/// A tool call as it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolLine {
    /// The tool.
    pub tool: ToolName,
    /// The provider's id of the call.
    pub call_id: String,
    /// The arguments as the model wrote them.
    pub arguments: Option<String>,
    /// True where calling again loses nothing.
    pub idempotent: bool,
}

/// What an attempt gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "gave", rename_all = "snake_case")]
pub enum Gave {
    /// A model's reply.
    Reply(ReplyLine),
    /// A tool's result.
    Result {
        /// What the model is told.
        content: String,
        /// True where it tells of an error.
        is_error: bool,
        /// Bytes that were cut off.
        cut_bytes: u64,
    },
    /// No reply.
    Failure(Failure),
}

/// A model's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyLine {
    /// The visible text.
    pub text: String,
    /// The model's own words when it declines.
    pub refusal: Option<String>,
    /// The tool calls that it asks for.
    pub calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// The model that the provider says answered.
    pub response_model: Option<String>,
    /// The service tier that the provider says it used.
    pub service_tier: Option<String>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
}

impl StepLine {
    /// Where it stands in a workflow: `read[3]`; `None` for a single loop, whose one stage nobody named.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        (self.stage.as_str() != "main").then(|| Place { stage: self.stage.clone(), item: self.item })
    }
}

impl Trace {
    /// The trace of a run at a time; `None` where the log doesn't begin with the run's creation.
    #[must_use]
    pub fn of(id: RunId, plan: Arc<Plan>, log: &[Recorded], now: Timestamp) -> Option<Self> {
        let run = replay(id, plan, log)?;
        let first = log.first()?;
        let Event::Created(created) = &first.event else { return None };
        let mut fold = Fold::default();
        log.iter().for_each(|recorded| fold.apply(recorded));
        let ended = log.iter().find(|recorded| matches!(recorded.event, Event::Ended(_))).map(|recorded| recorded.at);
        let head = RunDocument::of(&run, created.load_line, now);
        let refusal = run.ended.as_ref().map_or(run.lands.clone(), |ended| ended.refusal.clone());
        let limits = fold.peaks.standings(&run, refusal.as_ref(), ended.unwrap_or(now));
        let mut trace = Self::assemble(head, created, (first.at, ended), refusal, fold.timeline, limits);
        trace.waits_until = run.expires_at();
        Some(trace)
    }

    fn assemble(
        head: RunDocument,
        created: &Created,
        (at, ended): (Timestamp, Option<Timestamp>),
        refusal: Option<Refusal>,
        timeline: Vec<TimelineEntry>,
        limits: Vec<LimitStanding>,
    ) -> Self {
        Self {
            head,
            created: at,
            ended,
            plan: created.plan.clone(),
            prompt_version: created.prompt_version.clone(),
            labels: created.labels.clone(),
            key: created.key.clone(),
            simulated: created.simulated,
            input: created.input.clone(),
            expected_usd: created.expected,
            waits_until: None,
            refusal,
            timeline,
            limits,
        }
    }

    /// Every step.
    pub fn steps(&self) -> impl Iterator<Item = &StepLine> {
        self.timeline.iter().filter_map(|entry| if let TimelineEntry::Step(step) = entry { Some(step) } else { None })
    }

    /// Every attempt.
    pub fn attempts(&self) -> impl Iterator<Item = &AttemptLine> {
        self.steps().flat_map(|step| &step.attempts)
    }

    /// Where one limit stood.
    #[must_use]
    pub fn limit(&self, kind: LimitKind) -> Option<&LimitStanding> {
        self.limits.iter().find(|standing| standing.limit == kind)
    }
}

/// The timeline while it grows.
#[derive(Default)]
struct Fold {
    timeline: Vec<TimelineEntry>,
    /// Where each step stands in the timeline.
    steps: BTreeMap<u32, usize>,
    /// Step and place of each open attempt.
    open: BTreeMap<ReservationId, (u32, usize)>,
    /// Arguments by place and call id: servers may number the calls of every turn from zero.
    arguments: BTreeMap<(Place, String), String>,
    peaks: Peaks,
}

impl Fold {
    fn apply(&mut self, recorded: &Recorded) {
        let at = recorded.at;
        self.peaks.apply(at, &recorded.event);
        match &recorded.event {
            Event::Created(_)
            | Event::Ended(_)
            | Event::ChildBegan(_)
            | Event::ChildEnded(_)
            | Event::PeriodMoved(_) => {}
            Event::MapBegan(began) => {
                let (stage, items) = (began.stage.clone(), began.items.len());
                self.timeline.push(TimelineEntry::Map { at, stage, items, finished: 0, lost: 0 });
            }
            Event::StageEnded(ended) => self.end_stage(at, ended),
            Event::Admitted(admitted) => {
                let landing_usd = admitted.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
                self.timeline.push(TimelineEntry::Admitted { at, landing_usd, budgets: admitted.budgets.clone() });
            }
            Event::Reserved(reserved) => self.reserve(at, reserved),
            Event::Settled(settled) => self.settle(settled),
            Event::Voided(voided) => self.void(voided),
            Event::CallRefused(refused) => self.timeline.push(TimelineEntry::Refused {
                at,
                stage: refused.step.stage.clone(),
                tool: refused.tool.clone(),
                call_id: refused.call_id.clone(),
                reason: refused.why.clone(),
            }),
            Event::WaitBegan(began) => self.timeline.push(TimelineEntry::Waited {
                at,
                account: began.account.clone(),
                asked_usd: began.asked,
                until: began.until,
                waited_ms: None,
                why: None,
            }),
            Event::WaitEnded(ended) => self.end_wait(at, ended.why),
            Event::LandingBegan(began) => {
                self.timeline.push(TimelineEntry::Landing { at, refusal: began.refusal.clone() });
            }
            Event::LandingReleased(released) => {
                self.timeline.push(TimelineEntry::LandingReleased { at, why: released.why.clone() });
            }
            Event::CancelRequested(asked) => {
                self.timeline.push(TimelineEntry::CancelRequested { at, reason: asked.reason.clone() });
            }
            Event::Interrupted(interrupted) => {
                self.timeline.push(TimelineEntry::Interrupted { at, why: interrupted.why.clone() });
            }
            Event::PersonAsked(asked) => self.timeline.push(TimelineEntry::PersonAsked {
                at,
                tool: asked.tool.clone(),
                call_id: asked.call_id.clone(),
                question: asked.question.clone(),
                ask: asked.ask,
                shown: asked.shown.clone(),
            }),
            Event::PersonAnswered(answered) => self.timeline.push(TimelineEntry::PersonAnswered {
                at,
                ask: answered.ask,
                decision: answered.decision.clone(),
                by: answered.by.clone(),
                reason: answered.reason.clone(),
            }),
            Event::Parked(parked) => self.timeline.push(TimelineEntry::Parked { at, until: parked.until }),
            Event::InFlightResolved(resolved) => self.timeline.push(TimelineEntry::PersonDecided {
                at,
                call_id: resolved.call_id.clone(),
                rerun: resolved.rerun,
                by: resolved.by.clone(),
            }),
        }
    }

    fn reserve(&mut self, at: Timestamp, reserved: &Reserved) {
        let attempt = AttemptLine {
            attempt: reserved.attempt,
            reservation: reserved.reservation.number,
            at,
            call: self.call(&reserved.step.place(), &reserved.call),
            reserved_usd: reserved.amount,
            cost_usd: Money::ZERO,
            cost_state: CostState::Open,
            tokens: None,
            time_limit_ms: reserved.time_limit,
            latency_ms: None,
            first_token_ms: None,
            gave: None,
        };
        let number = reserved.step.step;
        let next = self.timeline.len();
        let place = *self.steps.entry(number).or_insert(next);
        if place == next {
            let (stage, item) = (reserved.step.stage.clone(), reserved.step.item);
            let step = StepLine { step: number, stage, item, cost_usd: Money::ZERO, attempts: Vec::new() };
            self.timeline.push(TimelineEntry::Step(step));
        }
        if let Some(TimelineEntry::Step(step)) = self.timeline.get_mut(place) {
            self.open.insert(reserved.reservation, (number, step.attempts.len()));
            step.attempts.push(attempt);
        }
    }

    fn call(&self, place: &Place, call: &Call) -> AttemptCall {
        match call {
            Call::Model(call) => AttemptCall::Model(ModelLine {
                model: call.model.clone(),
                price: call.price.clone(),
                purpose: call.purpose,
                max_output_tokens: call.max_output_tokens,
                input_bound: call.bound,
                pots: call.pots,
                cuts: call.cuts.clone(),
                instead: call.instead.clone(),
                remark: call.remark.clone(),
            }),
            Call::Tool { call_id, tool, idempotent, arguments, .. } => AttemptCall::Tool(ToolLine {
                tool: tool.clone(),
                call_id: call_id.clone(),
                arguments: arguments.as_ref().map(ToString::to_string).or_else(|| {
                    let asked = (place.clone(), call_id.clone());
                    self.arguments.get(&asked).cloned()
                }),
                idempotent: *idempotent,
            }),
        }
    }

    fn settle(&mut self, settled: &Settled) {
        if let (Outcome::Reply { message, .. }, Some(place)) = (&settled.outcome, self.place_of(settled.reservation)) {
            let asked = message.calls.iter().map(|call| ((place.clone(), call.id.clone()), call.arguments.clone()));
            self.arguments.extend(asked);
        }
        let Some((step, attempt)) = self.close(settled.reservation) else { return };
        attempt.cost_usd = settled.bill;
        attempt.cost_state = match settled.source {
            CostSource::Reported => CostState::Reported,
            CostSource::Derived => CostState::Derived,
            CostSource::Unknown => CostState::Unknown,
        };
        attempt.tokens = settled.usage.as_ref().map(TokenDocument::from);
        attempt.latency_ms = Some(settled.latency);
        attempt.first_token_ms = settled.first_token;
        attempt.gave = Some(Gave::of(&settled.outcome));
        *step = step.plus(settled.bill);
    }

    fn void(&mut self, voided: &Voided) {
        let Some((_, attempt)) = self.close(voided.reservation) else { return };
        attempt.cost_state = CostState::Void;
        attempt.latency_ms = Some(voided.latency);
        attempt.gave = Some(Gave::Failure(voided.failure.clone()));
    }

    /// Where an open attempt stands.
    fn place_of(&self, reservation: ReservationId) -> Option<Place> {
        let (number, _) = self.open.get(&reservation)?;
        let entry = self.timeline.get(*self.steps.get(number)?)?;
        let TimelineEntry::Step(step) = entry else { return None };
        Some(Place { stage: step.stage.clone(), item: step.item })
    }

    /// The step's cost and the attempt of a reservation that is over.
    fn close(&mut self, reservation: ReservationId) -> Option<(&mut Money, &mut AttemptLine)> {
        let (number, place) = self.open.remove(&reservation)?;
        let entry = self.timeline.get_mut(*self.steps.get(&number)?)?;
        let TimelineEntry::Step(step) = entry else { return None };
        Some((&mut step.cost_usd, step.attempts.get_mut(place)?))
    }

    fn end_stage(&mut self, at: Timestamp, ended: &StageEnded) {
        let StageEnded { place: Place { stage: id, item }, end, refusal, error, .. } = ended;
        let is_map = |entry: &&mut TimelineEntry| matches!(entry, TimelineEntry::Map { stage, .. } if stage == id);
        if item.is_some()
            && let Some(TimelineEntry::Map { finished, lost, .. }) = self.timeline.iter_mut().rev().find(is_map)
        {
            let count = if *end == StageEnd::Finished { finished } else { lost };
            *count += 1;
        }
        let (stage, item, end) = (id.clone(), *item, *end);
        let (refusal, error) = (refusal.clone(), error.clone());
        self.timeline.push(TimelineEntry::StageEnded { at, stage, item, end, refusal, error });
    }

    fn end_wait(&mut self, now: Timestamp, reason: WaitEnd) {
        for entry in self.timeline.iter_mut().rev() {
            if let TimelineEntry::Waited { at, waited_ms, why, .. } = entry {
                (*waited_ms, *why) = (Some(now.since(*at)), Some(reason));
                return;
            }
        }
    }
}

impl Gave {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Reply { message, stop, response_model, service_tier, request_id } => Self::Reply(ReplyLine {
                text: message.text.clone(),
                refusal: message.refusal.clone(),
                calls: message.calls.clone(),
                stop: stop.clone(),
                response_model: response_model.clone(),
                service_tier: service_tier.clone(),
                request_id: request_id.clone(),
            }),
            Outcome::ToolResult { content, is_error, cut_bytes } => {
                Self::Result { content: content.clone(), is_error: *is_error, cut_bytes: *cut_bytes }
            }
            Outcome::Failed(failure) => Self::Failure(failure.clone()),
        }
    }
}
