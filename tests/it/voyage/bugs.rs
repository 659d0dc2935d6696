//! Faults of ours that are planted, between the runtime and the ledger or between the log and the core: the judge must
//! find each of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll::domain::event::{CostSource, Decision, Event, LandingReleased, Outcome, Place, Recorded, Spent, Voided};
use plimsoll::domain::ledger::{Ask, Op};
use plimsoll::domain::limits::Limits;
use plimsoll::domain::plan::Plan;
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::ids::RunId;
use plimsoll::store::inline::Tap;
use plimsoll::units::{Millis, Money};
use tokio::sync::Notify;

use super::crew::lock;
use super::dice::Dice;
use super::judge::Judge;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A run that is read from its log has forgotten its steps before the interruption.
    ResumeResetsACounter,
    /// An ask is lost on its way: its run waits for nothing.
    Stall,
    /// A run that waits for a person holds a landing reserve.
    WaitForAPersonHoldsMoney,
    /// A resumed run settles once more what it had settled.
    SettledTwiceAfterRestart,
    /// Budgets give one small call more than they have.
    CapPassedByACall,
    /// Agents make one step, call and attempt more than they may.
    LimitPassedByOne,
    /// What isn't known is booked as nothing.
    UnknownIsFree,
    /// What isn't known is voided.
    UnknownIsVoid,
    /// A settlement doesn't reach the ledger.
    SettlementLost,
    /// A wait for budget may take as long as it likes.
    WaitOutlastsItsLimit,
    /// What a child came to doesn't count for those above it.
    ChildNotCounted,
    /// An item of a map is taken for one whose answer never came.
    MapItemRunTwice,
    /// An ask that would be refused is dropped, and its run waits for nothing.
    RefusedAskDropped,
    /// A child's end isn't told to its parent.
    ChildEndedLost,
    /// A child's attempt takes the landing reserve of its root.
    ChildTakesTheReserve,
    /// A question is answered whose time was up.
    ExpiredAskAnswered,
    /// Nobody has a token limit.
    TokenLimitsForgotten,
    /// Stages have no token limit: their runs' are judged.
    TokenLimitsOfStagesForgotten,
    /// Stages have the time of their run.
    TimeOfStagesForgotten,
    /// Stages begin as many sub-agents as their run may.
    ChildrenOfStagesForgotten,
    /// Stages make the same call as often as their run may.
    RepeatsOfStagesForgotten,
}

/// Has an agent, and those below it, know other limits than it has.
pub(super) fn bend(plan: &mut Plan, bug: Bug) {
    let of_run = plan.limits.clone();
    let of_stages = plan.stages.iter_mut().filter_map(|stage| stage.limits.as_deref_mut());
    for limits in of_stages {
        bend_stage(limits, &of_run, bug);
    }
    let limits = &mut plan.limits;
    if bug == Bug::LimitPassedByOne {
        for limit in [&mut limits.steps, &mut limits.model_calls, &mut limits.tool_calls, &mut limits.attempts] {
            *limit += 1;
        }
    }
    if bug == Bug::TokenLimitsForgotten {
        (limits.tokens, limits.input_tokens, limits.output_tokens) = (None, None, None);
    }
    for below in plan.agents.values_mut() {
        bend(Arc::make_mut(below), bug);
    }
}

fn bend_stage(limits: &mut Limits, of_run: &Limits, bug: Bug) {
    if bug == Bug::TokenLimitsForgotten {
        (limits.tokens, limits.input_tokens, limits.output_tokens) = (None, None, None);
    }
    if bug == Bug::TokenLimitsOfStagesForgotten {
        let Limits { tokens, input_tokens, output_tokens, .. } = *of_run;
        (limits.tokens, limits.input_tokens, limits.output_tokens) = (tokens, input_tokens, output_tokens);
    }
    if bug == Bug::TimeOfStagesForgotten {
        limits.wall_time = of_run.wall_time;
    }
    if bug == Bug::ChildrenOfStagesForgotten {
        limits.children = of_run.children;
    }
    if bug == Bug::RepeatsOfStagesForgotten {
        limits.repeats = of_run.repeats;
    }
}

/// Each with a seed that came to it when this was written: it is tried first.
pub(super) const BUGS: [(Bug, u64); 21] = [
    (Bug::TokenLimitsForgotten, 6),
    (Bug::TokenLimitsOfStagesForgotten, 6),
    (Bug::TimeOfStagesForgotten, 14),
    (Bug::ChildrenOfStagesForgotten, 0),
    (Bug::RepeatsOfStagesForgotten, 28),
    (Bug::ChildNotCounted, 0),
    (Bug::MapItemRunTwice, 1),
    (Bug::RefusedAskDropped, 0),
    (Bug::ChildEndedLost, 11),
    (Bug::ChildTakesTheReserve, 0),
    (Bug::ExpiredAskAnswered, 19),
    (Bug::ResumeResetsACounter, 0),
    (Bug::Stall, 1),
    (Bug::WaitForAPersonHoldsMoney, 8),
    (Bug::SettledTwiceAfterRestart, 0),
    (Bug::CapPassedByACall, 0),
    (Bug::LimitPassedByOne, 0),
    (Bug::UnknownIsFree, 0),
    (Bug::UnknownIsVoid, 0),
    (Bug::SettlementLost, 1),
    (Bug::WaitOutlastsItsLimit, 4),
];

/// What one life's store is watched by.
pub(super) struct Deck {
    pub(super) judge: Arc<Mutex<Judge>>,
    pub(super) bug: Option<Bug>,
    pub(super) dice: Mutex<Dice>,
    /// The longest way to the store and back.
    pub(super) ways: u64,
    /// The next op goes straight.
    pub(super) straight: AtomicBool,
    /// Logs are read for the judge, not for the runtime.
    pub(super) reading: AtomicBool,
    /// The commits after which the process is killed.
    pub(super) left: AtomicU64,
    /// Rung when it is, and when something is broken.
    pub(super) alarm: Notify,
    /// Rung when a person is asked.
    pub(super) asked: Notify,
}

impl Deck {
    fn dice(&self, percent: u64) -> bool {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).chance(percent)
    }

    fn has(&self, bug: Bug, percent: u64) -> bool {
        self.bug == Some(bug) && self.dice(percent)
    }

    fn settle_again(&self, op: &mut Op) {
        let judge = lock(&self.judge);
        let Some(known) = judge.runs.get(&op.run) else { return };
        let was_interrupted = known.log.iter().any(|each| matches!(each.event, Event::Interrupted(_)));
        let settled = known.log.iter().rev().find(|each| matches!(each.event, Event::Settled(_)));
        if let Some(settled) = settled.filter(|_| was_interrupted) {
            op.events.push((op.run, settled.event.clone()));
        }
    }

    fn hold_while_asking(&self, op: &mut Op) {
        let asks = |(_, event): &(RunId, Event)| matches!(event, Event::Parked(_));
        let Some(place) = op.events.iter().position(asks) else { return };
        op.events.retain(|(_, event)| !matches!(event, Event::LandingReleased(_)));
        let judge = lock(&self.judge);
        if let Some(known) = judge.runs.get(&op.run) {
            let admitted = known.admitted_again(op.run, Money::from_micro(10));
            op.events.insert(place.min(op.events.len()), (op.run, Event::Admitted(admitted)));
        }
    }
}

/// Bugs of trees and people.
impl Deck {
    fn drop_refused(&self, op: &mut Op) {
        let judge = lock(&self.judge);
        let refused = |ask: &Ask| matches!(ask, Ask::Reserve(ask) if judge.is_short(op.run, &ask.reserved));
        op.asks.retain(|ask| !refused(ask));
    }

    /// With a child's attempt its root's landing reserve is given up.
    fn take_the_reserve(&self, op: &mut Op) {
        let root = op.run;
        let below = |ask: &Ask| matches!(ask, Ask::Reserve(ask) if ask.reserved.reservation.run != root);
        let judge = lock(&self.judge);
        let landing = judge.runs.get(&root).and_then(|known| known.landing());
        if let Some(reservation) = landing.filter(|_| op.asks.iter().any(below)) {
            let why = "a child's".to_owned();
            op.events.push((root, Event::LandingReleased(LandingReleased { reservation, why })));
        }
    }

    fn bend_facts(&self, op: &mut Op) {
        if self.has(Bug::ChildEndedLost, 20) {
            op.events.retain(|(_, event)| !matches!(event, Event::ChildEnded(_)));
        }
        for (_, event) in &mut op.events {
            if let Event::ChildEnded(ended) = event
                && self.has(Bug::ChildNotCounted, 50)
            {
                ended.spent = Spent::default();
            }
            if let Event::PersonAnswered(answered) = event
                && answered.decision == Decision::Expired
                && self.has(Bug::ExpiredAskAnswered, 100)
            {
                answered.decision = Decision::Allow { edited: None };
            }
        }
    }

    /// Of items that are over the answer is forgotten.
    fn forget_items(&self, log: &mut Vec<Recorded>) {
        let over = |recorded: &Recorded| {
            let Event::StageEnded(ended) = &recorded.event else { return None };
            ended.place.item.is_some().then(|| ended.place.clone())
        };
        let over: Vec<Place> = log.iter().filter_map(over).collect();
        let places = log.iter().filter_map(|recorded| {
            let Event::Reserved(reserved) = &recorded.event else { return None };
            Some((reserved.reservation, reserved.step.place()))
        });
        let calls: Vec<_> = places.filter(|(_, place)| over.contains(place)).map(|(id, _)| id).collect();
        log.retain(|recorded| !matches!(&recorded.event, Event::StageEnded(ended) if ended.place.item.is_some()));
        for recorded in log {
            if let Event::Settled(settled) = &mut recorded.event
                && calls.contains(&settled.reservation)
            {
                settled.outcome = Outcome::Failed(unknown());
            }
        }
    }
}

impl Tap for Deck {
    fn ways(&self) -> (Millis, Millis) {
        if self.ways == 0 || self.straight.load(Ordering::SeqCst) {
            return (Millis::ZERO, Millis::ZERO);
        }
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        (Millis(dice.between(0, self.ways)), Millis(dice.between(0, self.ways)))
    }

    fn op(&self, op: &mut Op) {
        if self.has(Bug::Stall, 4) {
            op.asks.retain(|ask| !matches!(ask, Ask::Reserve(_)));
        }
        if self.has(Bug::SettledTwiceAfterRestart, 30) {
            self.settle_again(op);
        }
        if self.bug == Some(Bug::RefusedAskDropped) {
            self.drop_refused(op);
        }
        if self.has(Bug::ChildTakesTheReserve, 30) {
            self.take_the_reserve(op);
        }
        self.bend_facts(op);
        for ask in &mut op.asks {
            if let Ask::Reserve(ask) = ask
                && self.bug == Some(Bug::WaitOutlastsItsLimit)
            {
                ask.wait_until = ask.wait_until.map(|until| until.after(Millis::from_secs(600)));
            }
        }
        if self.has(Bug::SettlementLost, 5) {
            op.events.retain(|(_, event)| !matches!(event, Event::Settled(_)));
        }
        if self.has(Bug::WaitForAPersonHoldsMoney, 100) {
            self.hold_while_asking(op);
        }
        for (_, event) in &mut op.events {
            let Event::Settled(settled) = event else { continue };
            if settled.source != CostSource::Unknown {
                continue;
            }
            if self.has(Bug::UnknownIsFree, 50) {
                settled.bill = Money::ZERO;
            } else if self.has(Bug::UnknownIsVoid, 50) {
                let failure = match &settled.outcome {
                    Outcome::Failed(failure) => failure.clone(),
                    Outcome::Reply { .. } | Outcome::ToolResult { .. } => unknown(),
                };
                *event = Event::Voided(Voided { reservation: settled.reservation, latency: Millis::ZERO, failure });
            }
        }
    }

    fn committed(&self, events: &[(RunId, Recorded)]) {
        let mut judge = lock(&self.judge);
        judge.committed(events);
        let killed = !judge.opening && self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if killed || judge.broken.is_some() {
            self.alarm.notify_one();
        }
        if events.iter().any(|(_, recorded)| matches!(recorded.event, Event::PersonAsked(_))) {
            self.asked.notify_one();
        }
    }

    fn log(&self, _: RunId, log: &mut Vec<Recorded>) {
        if self.bug == Some(Bug::MapItemRunTwice) && !self.reading.load(Ordering::SeqCst) {
            self.forget_items(log);
        }
        if self.bug != Some(Bug::ResumeResetsACounter) || self.reading.load(Ordering::SeqCst) {
            return;
        }
        let interrupted = log.iter().rposition(|each| matches!(each.event, Event::Interrupted(_))).unwrap_or(0);
        for recorded in log.iter_mut().take(interrupted) {
            if let Event::Reserved(reserved) = &mut recorded.event {
                reserved.attempt = reserved.attempt.max(2);
            }
        }
    }
}

fn unknown() -> Failure {
    let message = "nobody knows".into();
    Failure { class: ErrorClass::Garbage, status: None, code: None, message, retry_after: None }
}
