//! Facts of runs, folded into rows.

use std::sync::Arc;

use super::{Day, Dimensions, Rollup, RollupCaches, RollupFailures, RollupKey, worth};
use crate::domain::event::{Call, CostSource, Created, Event, Outcome, Settled};
use crate::domain::retry::ErrorClass;
use crate::domain::summary::{InFlight, RunSummary};
use crate::domain::tightness::Tightness;
use crate::units::{Millis, Timestamp};

/// The events' version from which on it is counted how tight bounds are.
const BOUNDS_FROM_VERSION: u16 = 4;
/// The one from which on failures are counted.
const FAILURES_FROM_VERSION: u16 = 6;

/// Finds or makes a row, and lets it change.
pub type Row<'a, E> = &'a mut dyn FnMut(RollupKey, &dyn Fn(&mut Rollup)) -> Result<(), E>;

/// What a run's rows are grouped by, and what they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The dimensions, without a model.
    pub dimensions: Dimensions,
    /// What the business counts; empty where the agent doesn't say.
    pub unit: Arc<str>,
    /// Whether it is counted how tight bounds are: rows of runs that are older don't say it.
    pub bounds: bool,
    /// Whether failures are counted: rows of runs that are older don't say them.
    pub failures: bool,
}

impl Counted {
    /// Those of a run.
    #[must_use]
    pub fn of(created: &Created) -> Self {
        let unit = Arc::from(created.unit.as_deref().unwrap_or_default());
        let since = |version| created.version >= version;
        let (bounds, failures) = (since(BOUNDS_FROM_VERSION), since(FAILURES_FROM_VERSION));
        Self { dimensions: Dimensions::of(created), unit, bounds, failures }
    }
}

/// Folds one fact into the rows; `before` is the run's summary *without* this fact.
///
/// # Errors
/// Those of `row`.
pub fn fold<E>(before: &RunSummary, counted: &Counted, at: Timestamp, event: &Event, row: Row<'_, E>) -> Result<(), E> {
    let Counted { dimensions, bounds, failures, .. } = counted;
    worth::fold(before, counted, at, event, row)?;
    match event {
        Event::Reserved(reserved) => {
            let model = if let Call::Model(call) = &reserved.call { Some(call.model.clone()) } else { None };
            row((Day::of(at), dimensions.with_model(model)), &|rollup| {
                rollup.calls += u64::from(reserved.attempt == 1);
                rollup.attempts += 1;
            })
        }
        Event::Settled(settled) => {
            let Some(attempt) = before.in_flight.get(&settled.reservation.number) else { return Ok(()) };
            row((Day::of(attempt.at), dimensions.with_model(attempt.model.clone())), &|rollup| {
                rollup.usage = rollup.usage.plus(&settled.usage.unwrap_or_default());
                rollup.mismatched += u64::from(settled.mismatch.is_some());
                rollup.caches = rollup.caches.plus(RollupCaches::of_attempt(&settled.cache));
                if *bounds {
                    measure(&mut rollup.tightness, attempt, settled);
                }
                rollup.settled = rollup.settled.plus(settled.bill);
                if settled.source == CostSource::Unknown {
                    rollup.unknown = rollup.unknown.plus(settled.bill);
                }
                if attempt.attempt > 1 {
                    rollup.retry_cost = rollup.retry_cost.plus(settled.bill);
                }
                if attempt.fallback {
                    rollup.worth.fallbacks = rollup.worth.fallbacks.plus(settled.bill);
                }
                if *failures && settled.cache.hit.is_none() {
                    count_failure(rollup, &settled.outcome);
                }
                measure_time(rollup, before, settled.latency);
            })
        }
        Event::Voided(voided) => {
            let Some(attempt) = before.in_flight.get(&voided.reservation.number) else { return Ok(()) };
            row((Day::of(attempt.at), dimensions.with_model(attempt.model.clone())), &|rollup| {
                if *failures {
                    count_failure(rollup, &Outcome::Failed(voided.failure.clone()));
                }
                measure_time(rollup, before, voided.latency);
            })
        }
        Event::Ended(ended) => row((Day::of(at), dimensions.clone()), &|rollup| {
            *rollup.ended.entry(ended.state).or_default() += 1;
        }),
        Event::Created(_)
        | Event::Admitted(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::WaitEnded(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::LandingBegan(_)
        | Event::LandingReleased(_)
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
        | Event::OutcomeRecorded(_) => Ok(()),
    }
}

/// What we broke off ourselves says nothing of who was asked.
fn count_failure(rollup: &mut Rollup, outcome: &Outcome) {
    let failed = match outcome {
        Outcome::Failed(failure) if failure.class == ErrorClass::Interrupted => return,
        Outcome::Failed(_) => true,
        Outcome::ToolResult { is_error, .. } => *is_error,
        Outcome::Reply { .. } => false,
    };
    rollup.failures = rollup.failures.plus(RollupFailures { over: 1, failed: u64::from(failed) });
}

fn measure_time(rollup: &mut Rollup, run: &RunSummary, latency: Millis) {
    rollup.latency = rollup.latency.plus(latency);
    rollup.over += 1;
    if run.counts_worth {
        rollup.worth.latencies.record(latency.0);
    }
}

/// Of calls whose usage and bill are known. What a cache answered was no call.
fn measure(tightness: &mut Tightness, attempt: &InFlight, settled: &Settled) {
    if settled.cache.hit.is_some() {
        return;
    }
    let (Some(bound), Some(usage), CostSource::Reported) = (attempt.bound, &settled.usage, settled.source) else {
        return;
    };
    tightness.input.record(bound.input.0.into(), usage.input_total().0.into());
    tightness.output.record(bound.output.into(), usage.output.0.into());
    tightness.money.record(attempt.amount.pico(), settled.bill.pico());
}
