//! A run's timeline, folded from its log.

use std::collections::BTreeMap;

use super::{
    AttemptCall, AttemptLine, ChildLine, CostState, Gave, ModelLine, StepLine, TimelineEntry, TokenDocument, ToolLine,
};
use crate::domain::event::{
    CacheFacts, Call, ChildEnded, CostSource, Event, Outcome, Place, Purpose, RateWaitBegan, RateWaitEnded, Recorded,
    Reserved, Settled, StageEnd, StageEnded, Voided, WaitBegan, WaitEnd,
};
use crate::domain::outcome::OutcomeRecorded;
use crate::domain::pricing::Fees;
use crate::domain::report::growth::{Growth, Measured};
use crate::domain::report::standing::Peaks;
use crate::ids::ReservationId;
use crate::units::{Millis, Money, Timestamp};

/// The timeline while it grows.
#[derive(Default)]
pub(super) struct Fold {
    pub(super) timeline: Vec<TimelineEntry>,
    /// Where each step stands in the timeline.
    steps: BTreeMap<u32, usize>,
    /// Step and place of each open attempt.
    open: BTreeMap<ReservationId, (u32, usize)>,
    /// Arguments by place and call id: servers may number the calls of every turn from zero.
    arguments: BTreeMap<(Place, String), String>,
    /// The newest request of each conversation.
    requests: BTreeMap<Place, Measured>,
    pub(super) peaks: Peaks,
}

impl Fold {
    pub(super) fn apply(&mut self, recorded: &Recorded) {
        let at = recorded.at;
        self.peaks.apply(at, &recorded.event);
        match &recorded.event {
            // What was downgraded is told with its attempt.
            Event::Created(_) | Event::PeriodMoved(_) | Event::Downgraded(_) => {}
            Event::Ended(_) => self.give_up_rate_waits(at),
            Event::ChildBegan(began) => self.timeline.push(TimelineEntry::Child(Box::new(ChildLine::of(at, began)))),
            Event::ChildEnded(ended) => self.end_child(ended),
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
            Event::WaitBegan(began) => self.begin_wait(at, began),
            Event::WaitEnded(ended) => self.end_wait(at, ended.why),
            Event::RateWaitBegan(began) => self.begin_rate_wait(at, began),
            Event::RateWaitEnded(ended) => self.end_rate_wait(ended),
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
                self.give_up_rate_waits(at);
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
            Event::OutcomeRecorded(said) => {
                self.timeline.push(TimelineEntry::Outcome { at, said: OutcomeRecorded::clone(said) });
            }
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
            usage_mismatch: None,
            charged_usd: None,
            fees: Fees::NONE,
            time_limit_ms: reserved.time_limit,
            latency_ms: None,
            first_token_ms: None,
            gave: None,
            cache: CacheFacts::default(),
        };
        let number = reserved.step.step;
        let next = self.timeline.len();
        let place = *self.steps.entry(number).or_insert(next);
        if place == next {
            let (stage, item) = (reserved.step.stage.clone(), reserved.step.item);
            let grew = self.grew(reserved);
            let step = StepLine { step: number, stage, item, cost_usd: Money::ZERO, grew, attempts: Vec::new() };
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
                account: call.account.clone(),
                price: call.price.clone(),
                purpose: call.purpose,
                max_output_tokens: call.max_output_tokens,
                input_bound: call.bound,
                pots: call.pots,
                cuts: call.cuts.clone(),
                instead: call.instead.clone(),
                downgraded: call.downgraded.clone(),
                count: call.count.clone(),
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
        attempt.usage_mismatch.clone_from(&settled.mismatch);
        attempt.charged_usd = settled.charged.clone().filter(|charged| !charged.is(settled.bill));
        attempt.fees = settled.usage.map_or(Fees::NONE, |usage| usage.fees);
        attempt.latency_ms = Some(settled.latency);
        attempt.first_token_ms = settled.first_token;
        attempt.gave = Some(Gave::of(&settled.outcome));
        attempt.cache = settled.cache;
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

    /// A summary and a last answer have requests of their own: nothing grows with them.
    fn grew(&mut self, reserved: &Reserved) -> Option<Growth> {
        let Call::Model(call) = &reserved.call else { return None };
        if matches!(call.purpose, Purpose::Summary | Purpose::Landing) {
            return None;
        }
        let now = Measured::of(call);
        let before = self.requests.insert(reserved.step.place(), now)?;
        Growth::between(&before, &now)
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

    fn end_child(&mut self, ended: &ChildEnded) {
        for entry in self.timeline.iter_mut().rev() {
            if let TimelineEntry::Child(child) = entry
                && child.run == ended.child
            {
                (child.end, child.cost_usd) = (Some(ended.end.state), ended.spent.settled);
                return;
            }
        }
    }

    fn begin_wait(&mut self, at: Timestamp, began: &WaitBegan) {
        self.timeline.push(TimelineEntry::Waited {
            at,
            account: began.account.clone(),
            asked_usd: began.asked,
            until: began.until,
            waited_ms: None,
            why: None,
        });
    }

    fn begin_rate_wait(&mut self, at: Timestamp, began: &RateWaitBegan) {
        self.timeline.push(TimelineEntry::RateWaited {
            at,
            place: began.place.clone(),
            model: began.model.clone(),
            account: began.account.clone(),
            refusal: began.refusal.clone(),
            until: began.until,
            waited_ms: None,
            refused: None,
        });
    }

    /// One that took no time isn't told: the call asked again at once, with less.
    fn end_rate_wait(&mut self, ended: &RateWaitEnded) {
        let is_it = |entry: &TimelineEntry| matches!(entry, TimelineEntry::RateWaited { place, waited_ms: None, .. } if *place == ended.place);
        let Some(index) = self.timeline.iter().rposition(is_it) else { return };
        if ended.waited == Millis::ZERO && ended.refused.is_none() {
            self.timeline.remove(index);
        } else if let Some(TimelineEntry::RateWaited { waited_ms, refused, .. }) = self.timeline.get_mut(index) {
            (*waited_ms, *refused) = (Some(ended.waited), ended.refused.clone());
        }
    }

    /// Nobody waits any more: the run is over, or its process is gone.
    fn give_up_rate_waits(&mut self, now: Timestamp) {
        for entry in &mut self.timeline {
            if let TimelineEntry::RateWaited { at, waited_ms: waited @ None, .. } = entry {
                *waited = Some(now.since(*at));
            }
        }
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
