//! What each limit of a run stood at: its value, where it was declared, and how near the run came.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;
use crate::domain::event::{Call, CallRefusal, Event, Outcome, Purpose, Reserved, Settled, Spent};
use crate::domain::limits::{Declared, LimitKind, Limits, Refusal};
use crate::domain::retry::{ErrorClass, Failure};
use crate::domain::run::Run;
use crate::ids::ReservationId;
use crate::units::{Millis, Money, Timestamp, Tokens, grouped};

/// One limit of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitStanding {
    /// The limit.
    pub limit: LimitKind,
    /// Its value; null where it is off.
    pub value: Option<String>,
    /// How near the run came, in the same unit: the sum, or the largest single one.
    pub stood_at: String,
    /// That as a share of its value, in basis points; null where it is off, a point in time, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_basis_points: Option<u64>,
    /// Where it was declared.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub declared: Declared,
    /// True where this limit stopped the run.
    pub stopped: bool,
}

/// The largest single values of a run: what its counters don't keep.
#[derive(Clone, Debug, Default)]
pub(super) struct Peaks {
    model_call: Millis,
    first_token: Millis,
    tool_call: Millis,
    budget_wait: Millis,
    person_wait: Millis,
    waiting_since: Option<Timestamp>,
    /// When each question was asked that isn't answered, by number.
    asked_at: Vec<Option<Timestamp>>,
    tool_errors: u32,
    tool_errors_now: u32,
    parallel: usize,
    output_bytes: u64,
    context: Tokens,
    landing_input: Tokens,
    landing_output: Tokens,
    open: BTreeMap<ReservationId, Open>,
}

/// What an open attempt calls, as far as peaks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Model,
    Landing,
    Tool,
}

impl Peaks {
    pub(super) fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Reserved(reserved) => self.reserve(reserved),
            Event::Settled(settled) => self.settle(settled),
            Event::Voided(voided) => {
                let kind = self.open.get(&voided.reservation).copied();
                self.close(voided.reservation, voided.latency);
                self.count_failure(kind, &voided.failure);
            }
            Event::WaitBegan(_) => self.waiting_since = Some(at),
            Event::WaitEnded(_) => {
                let waited = self.waiting_since.take().map_or(Millis::ZERO, |since| at.since(since));
                self.budget_wait = self.budget_wait.max(waited);
            }
            Event::PersonAsked(_) => self.asked_at.push(Some(at)),
            Event::PersonAnswered(answered) => self.end_person_wait(at, answered.ask),
            Event::InFlightResolved(_) | Event::Ended(_) => self.end_person_wait(at, None),
            Event::CallRefused(refused) => {
                if matches!(refused.why, CallRefusal::Invalid { .. }) {
                    self.count_error(true);
                }
            }
            Event::Created(_)
            | Event::Downgraded(_)
            | Event::Admitted(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::LandingBegan(_)
            | Event::LandingReleased(_)
            | Event::CancelRequested(_)
            | Event::Interrupted(_)
            | Event::Parked(_)
            | Event::MapBegan(_)
            | Event::StageEnded(_)
            | Event::ChildBegan(_)
            | Event::ChildEnded(_)
            | Event::PeriodMoved(_)
            | Event::OutcomeRecorded(_) => {}
        }
    }

    /// The wait for one answer is over, or all are.
    fn end_person_wait(&mut self, at: Timestamp, ask: Option<u32>) {
        let meant = |number: u32| ask.is_none_or(|ask| ask == number);
        for (_, asked_at) in (0..).zip(&mut self.asked_at).filter(|(number, _)| meant(*number)) {
            let waited = asked_at.take().map_or(Millis::ZERO, |since| at.since(since));
            self.person_wait = self.person_wait.max(waited);
        }
    }

    fn reserve(&mut self, reserved: &Reserved) {
        let kind = match &reserved.call {
            Call::Model(call) => {
                self.context = self.context.max(call.pots.total());
                if call.purpose == Purpose::Landing {
                    self.landing_input = self.landing_input.max(call.pots.total());
                    Open::Landing
                } else {
                    Open::Model
                }
            }
            Call::Tool { .. } => Open::Tool,
        };
        self.open.insert(reserved.reservation, kind);
        self.parallel = self.parallel.max(self.open.len());
    }

    fn settle(&mut self, settled: &Settled) {
        let kind = self.open.get(&settled.reservation).copied();
        self.close(settled.reservation, settled.latency);
        self.first_token = self.first_token.max(settled.first_token.unwrap_or_default());
        if let (Some(Open::Landing), Some(usage)) = (kind, settled.usage) {
            self.landing_output = self.landing_output.max(usage.output);
        }
        match &settled.outcome {
            Outcome::ToolResult { content, is_error, cut_bytes } => {
                let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX).saturating_add(*cut_bytes);
                self.output_bytes = self.output_bytes.max(bytes);
                self.count_error(*is_error);
            }
            Outcome::Failed(failure) => self.count_failure(kind, failure),
            Outcome::Reply { .. } => {}
        }
    }

    fn close(&mut self, reservation: ReservationId, latency: Millis) {
        match self.open.remove(&reservation) {
            Some(Open::Model | Open::Landing) => self.model_call = self.model_call.max(latency),
            Some(Open::Tool) => self.tool_call = self.tool_call.max(latency),
            None => {}
        }
    }

    /// A call that the process's end broke off is no error of the tool.
    fn count_failure(&mut self, kind: Option<Open>, failure: &Failure) {
        if kind == Some(Open::Tool) && failure.class != ErrorClass::Interrupted {
            self.count_error(true);
        }
    }

    fn count_error(&mut self, is_error: bool) {
        self.tool_errors_now = if is_error { self.tool_errors_now + 1 } else { 0 };
        self.tool_errors = self.tool_errors.max(self.tool_errors_now);
    }

    /// Every limit of the run, in the order of the docs.
    /// `spent` is what counts against them: the run's own, and what runs below it.
    pub(super) fn standings(
        &self,
        run: &Run,
        spent: &Spent,
        refusal: Option<&Refusal>,
        now: Timestamp,
    ) -> Vec<LimitStanding> {
        let limits = &run.plan.limits;
        let mut table = Table { limits, refusal, rows: Vec::new() };
        self.counts(run, spent, &mut table);
        self.money_and_tokens(run, spent, &mut table);
        self.times(run, now, &mut table);
        table.rows
    }

    fn counts(&self, run: &Run, counters: &Spent, table: &mut Table<'_>) {
        let limits = &run.plan.limits;
        let repeats = run.counters.repeats.values().max().copied().unwrap_or_default();
        let parallel = u32::try_from(self.parallel).unwrap_or(u32::MAX);
        table.count(LimitKind::Steps, limits.steps, counters.steps);
        table.count(LimitKind::ModelCalls, limits.model_calls, counters.model_calls);
        table.count(LimitKind::ToolCalls, limits.tool_calls, counters.tool_calls);
        table.count(LimitKind::Attempts, limits.attempts, counters.attempts);
        table.count(LimitKind::Repeats, limits.repeats, repeats);
        table.count(LimitKind::ToolErrors, limits.tool_errors, self.tool_errors);
        table.count(LimitKind::Parallel, limits.parallel, parallel);
        if !run.plan.agents.is_empty() {
            table.count(LimitKind::Children, limits.children, run.children_begun());
        }
    }

    fn money_and_tokens(&self, run: &Run, counters: &Spent, table: &mut Table<'_>) {
        let limits = &run.plan.limits;
        table.row(LimitKind::Cost, Some(Mark::money(limits.cost)), Mark::money(counters.settled));
        let both = counters.input.plus(counters.output);
        table.row(LimitKind::Tokens, limits.tokens.map(Mark::tokens), Mark::tokens(both));
        table.row(LimitKind::InputTokens, limits.input_tokens.map(Mark::tokens), Mark::tokens(counters.input));
        table.row(LimitKind::OutputTokens, limits.output_tokens.map(Mark::tokens), Mark::tokens(counters.output));
        let context = &run.plan.context;
        let (value, stood_at) = (Mark::tokens(context.tokens), Mark::tokens(self.context));
        table.push(LimitKind::Context, Some(value), stood_at, &context.declared);
        table.row(LimitKind::LandingTokens, Some(Mark::count(limits.landing_tokens)), Mark::tokens(self.landing_input));
        let value = Some(Mark::count(limits.landing_output_tokens));
        table.row(LimitKind::LandingOutputTokens, value, Mark::tokens(self.landing_output));
        table.row(LimitKind::OutputBytes, Some(Mark::bytes(limits.output_bytes)), Mark::bytes(self.output_bytes));
    }

    fn times(&self, run: &Run, now: Timestamp, table: &mut Table<'_>) {
        let limits = &run.plan.limits;
        table.time(LimitKind::WallTime, limits.wall_time, run.active(now));
        table.time(LimitKind::ModelCallTime, limits.model_call_time, self.model_call);
        table.time(LimitKind::FirstTokenTime, limits.first_token_time, self.first_token);
        table.time(LimitKind::ToolCallTime, limits.tool_call_time, self.tool_call);
        table.time(LimitKind::BudgetWait, limits.budget_wait, self.budget_wait);
        let waiting = self.asked_at.iter().flatten().min().map_or(Millis::ZERO, |since| now.since(*since));
        table.time(LimitKind::Expires, limits.expires, self.person_wait.max(waiting));
        table.row(LimitKind::Deadline, limits.deadline.map(Mark::at), Mark::at(now));
    }
}

/// An amount in a limit's unit: as it prints, and as a number where shares of it mean something.
struct Mark {
    text: String,
    number: u128,
}

impl Mark {
    fn count(count: u32) -> Self {
        Self { text: grouped(count.into()), number: count.into() }
    }

    fn bytes(bytes: u64) -> Self {
        Self { text: grouped(bytes), number: bytes.into() }
    }

    fn tokens(tokens: Tokens) -> Self {
        Self { text: tokens.to_string(), number: tokens.0.into() }
    }

    fn money(amount: Money) -> Self {
        Self { text: amount.to_string(), number: amount.pico() }
    }

    fn time(time: Millis) -> Self {
        Self { text: time.to_string(), number: time.0.into() }
    }

    fn at(at: Timestamp) -> Self {
        Self { text: at.to_string(), number: 0 }
    }

    fn basis_points_of(&self, whole: &Self) -> Option<u64> {
        Money::from_pico(self.number).basis_points_of(Money::from_pico(whole.number))
    }
}

/// The rows while they are written.
struct Table<'a> {
    limits: &'a Limits,
    refusal: Option<&'a Refusal>,
    rows: Vec<LimitStanding>,
}

impl Table<'_> {
    fn count(&mut self, limit: LimitKind, value: u32, stood_at: u32) {
        self.row(limit, Some(Mark::count(value)), Mark::count(stood_at));
    }

    fn time(&mut self, limit: LimitKind, value: Millis, stood_at: Millis) {
        self.row(limit, Some(Mark::time(value)), Mark::time(stood_at));
    }

    fn row(&mut self, limit: LimitKind, value: Option<Mark>, stood_at: Mark) {
        let declared = self.limits.declared(limit);
        self.push(limit, value, stood_at, &declared);
    }

    fn push(&mut self, limit: LimitKind, value: Option<Mark>, stood_at: Mark, declared: &Declared) {
        self.rows.push(LimitStanding {
            limit,
            used_basis_points: value.as_ref().and_then(|value| stood_at.basis_points_of(value)),
            value: value.map(|value| value.text),
            stood_at: stood_at.text,
            declared: declared.clone(),
            stopped: self.refusal.is_some_and(|refusal| refusal.limit == limit),
        });
    }
}
