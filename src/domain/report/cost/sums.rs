//! What the sums of a row say: what was spent, what it was spent for, and what that was worth.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::event::EndState;
use crate::domain::outcome::{QualitySource, Score};
use crate::domain::report::document::TokenDocument;
use crate::domain::rollup::{QualitySums, Rollup, RollupFailures, Worth};
use crate::units::{Millis, Money, MoneyDelta};

/// Sums of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CostSums {
    /// Settled, unknown money included.
    pub settled_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
    /// The part of it that later attempts of a step cost: retries and fallbacks.
    pub retries_usd: Money,
    /// The part of it that calls cost which asked another model than the first, since that one failed or couldn't be asked.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub fallbacks_usd: Money,
    /// Steps.
    pub calls: u64,
    /// Attempts, retries and fallbacks included.
    pub attempts: u64,
    /// Tokens of the attempts that reported them.
    pub tokens: TokenDocument,
    /// The average time of an attempt that is over; null where none is.
    pub latency_ms: Option<Millis>,
    /// What half of the attempts took at most, up to a 16th above; of runs that were made since that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p50_ms: Option<Millis>,
    /// What 95 of 100 took at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p95_ms: Option<Millis>,
    /// Attempts that failed; null where none is over, of runs that were made since that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailureSums>,
    /// Runs that ended, by state; those of sub-agents too.
    pub ended: BTreeMap<EndState, u64>,
    /// Attempts whose reported usage contradicts itself; their money is a part of `unknown_usd`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mismatched: u64,
    /// Steps that were answered by what was kept, at no cost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_hits: u64,
    /// What the answers that were given again had cost.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub avoided_usd: Money,
    /// What input that providers' caches held would have cost more, fresh. What writing it cost is in `settled_usd`.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cache_saved_usd: Money,
    /// What the runs that ended were worth; null where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<WorthSums>,
}

/// Attempts that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureSums {
    /// Attempts that are over: those that we broke off, and those that a kept answer spared, aren't among them.
    pub of: u64,
    /// Those of them that gave nothing, or of tools an error.
    pub failed: u64,
    /// Their share, in basis points, rounded down.
    pub basis_points: u64,
}

impl FailureSums {
    fn of(rollup: &Rollup) -> Option<Self> {
        let RollupFailures { over, failed } = rollup.failures;
        let basis_points = failed.saturating_mul(10_000).checked_div(over)?;
        Some(Self { of: over, failed, basis_points })
    }
}

/// Root runs that ended, each with the cost of all below it, on the day of its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorthSums {
    /// The runs.
    pub runs: u64,
    /// What they cost. Not `settled_usd`, which is of attempts, by their own agents, models and days.
    pub runs_usd: Money,
    /// What one cost, rounded up.
    pub run_usd: Option<Money>,
    /// What half of them took at most, waits for people left out.
    pub run_p50_ms: Option<Millis>,
    /// What 95 of 100 took at most.
    pub run_p95_ms: Option<Millis>,
    /// By what the business counts.
    pub units: Vec<UnitSums>,
    /// Runs whose revenue is known.
    pub paid_runs: u64,
    /// Their revenue; null where none is known.
    pub revenue_usd: Option<Money>,
    /// Their revenue less their cost; null where none is known.
    pub margin_usd: Option<MoneyDelta>,
    /// The margin's share of the revenue, in basis points; null where there is none.
    pub margin_basis_points: Option<i64>,
    /// Quality, by whose judgement it is.
    pub quality: Vec<QualityLine>,
}

/// Runs whose agent counts one kind of unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitSums {
    /// What is counted; empty where the agent doesn't say.
    pub unit: String,
    /// The runs.
    pub runs: u64,
    /// What they cost.
    pub runs_usd: Money,
    /// Their units.
    pub units: u64,
    /// Runs that gave some.
    pub giving_runs: u64,
    /// Runs whose units nobody said.
    pub unsaid_runs: u64,
    /// What a unit cost in the runs that gave some, rounded up.
    pub unit_usd: Option<Money>,
    /// What a unit cost with all runs that gave none, failed ones too, rounded up.
    pub resolved_unit_usd: Option<Money>,
}

/// Scores of one kind of judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QualityLine {
    /// Whose judgement.
    pub source: QualitySource,
    /// Runs with a score.
    pub runs: u64,
    /// The average, rounded down.
    pub average: Score,
    /// What half of them reach at least, in hundredths.
    pub p50: Score,
    /// What 95 of 100 reach at least.
    pub p95: Score,
}

impl CostSums {
    /// What a row says.
    #[must_use]
    pub fn of(rollup: &Rollup) -> Self {
        let latency = |share| rollup.worth.latencies.percentile(share).map(Millis);
        Self {
            settled_usd: rollup.settled,
            unknown_usd: rollup.unknown,
            retries_usd: rollup.retry_cost,
            fallbacks_usd: rollup.worth.fallbacks,
            calls: rollup.calls,
            attempts: rollup.attempts,
            tokens: TokenDocument::from(&rollup.usage),
            latency_ms: rollup.latency.0.checked_div(rollup.over).map(Millis),
            latency_p50_ms: latency(50),
            latency_p95_ms: latency(95),
            failures: FailureSums::of(rollup),
            ended: rollup.ended.clone(),
            mismatched: rollup.mismatched,
            cache_hits: rollup.caches.hits,
            avoided_usd: rollup.caches.avoided,
            cache_saved_usd: rollup.caches.saved,
            worth: WorthSums::of(rollup),
        }
    }
}

impl WorthSums {
    fn of(rollup: &Rollup) -> Option<Self> {
        let units = &rollup.worth.units;
        let mut all = Worth::default();
        units.values().for_each(|worth| all.add(worth));
        let margin = (all.paid > 0).then(|| all.revenue.minus(all.paid_cost));
        let time = |share| all.times.percentile(share).map(Millis);
        (all.runs > 0).then(|| Self {
            runs: all.runs,
            runs_usd: all.cost,
            run_usd: all.cost.each_of(all.runs),
            run_p50_ms: time(50),
            run_p95_ms: time(95),
            units: units.iter().map(|(unit, worth)| UnitSums::of(unit, worth)).collect(),
            paid_runs: all.paid,
            revenue_usd: (all.paid > 0).then_some(all.revenue),
            margin_usd: margin,
            margin_basis_points: margin.and_then(|margin| share(margin, all.revenue)),
            quality: all.quality.iter().filter_map(|(source, sums)| QualityLine::of(*source, sums)).collect(),
        })
    }

    /// The average score of all judgements together.
    #[must_use]
    pub fn quality_average(&self) -> Option<Score> {
        let (sum, count) = self.quality.iter().fold((0_u64, 0_u64), |(sum, count), line| {
            (sum + u64::from(line.average.ten_thousandths()) * line.runs, count + line.runs)
        });
        sum.checked_div(count).and_then(Score::from_ten_thousandths)
    }

    /// The one kind of unit that is counted; `None` where there are several.
    #[must_use]
    pub fn only_unit(&self) -> Option<&UnitSums> {
        let mut counted = self.units.iter().filter(|unit| unit.units > 0);
        let first = counted.next();
        first.filter(|_| counted.next().is_none())
    }
}

/// The basis points of an amount that a difference is, rounded towards zero; `None` of nothing.
fn share(part: MoneyDelta, whole: Money) -> Option<i64> {
    let whole = MoneyDelta::from(whole).pico();
    let scaled = part.pico().checked_mul(10_000)?;
    i64::try_from(scaled.checked_div(whole)?).ok()
}

impl UnitSums {
    fn of(unit: &str, worth: &Worth) -> Self {
        Self {
            unit: unit.to_owned(),
            runs: worth.runs,
            runs_usd: worth.cost,
            units: worth.units,
            giving_runs: worth.giving,
            unsaid_runs: worth.unsaid,
            unit_usd: worth.giving_cost.each_of(worth.units),
            resolved_unit_usd: worth.cost.each_of(worth.units),
        }
    }
}

impl QualityLine {
    fn of(source: QualitySource, sums: &QualitySums) -> Option<Self> {
        let count = sums.count();
        let average = sums.sum.checked_div(count).and_then(Score::from_ten_thousandths)?;
        Some(Self { source, runs: count, average, p50: reached_by(sums, count, 50), p95: reached_by(sums, count, 95) })
    }
}

/// The score that this share of the runs, in percent, reaches at least.
fn reached_by(sums: &QualitySums, count: u64, share: u64) -> Score {
    let rank = (u128::from(count) * u128::from(share)).div_ceil(100);
    let mut seen = 0_u128;
    let found = sums.hundredths.iter().rev().find(|(_, count)| {
        seen += u128::from(**count);
        seen >= rank
    });
    found.and_then(|(hundredth, _)| Score::from_ten_thousandths(u64::from(*hundredth) * 100)).unwrap_or_default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_nothing(amount: &Money) -> bool {
    amount.is_zero()
}
