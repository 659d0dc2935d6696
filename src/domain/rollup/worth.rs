//! What runs were worth: counted at a root run's end, and whenever somebody says an outcome, on the day of that end.
//!
//! Here a run's cost is that of its whole tree. It stands beside the sums of the attempts, which count for their own agents
//! and days: so units, revenue and what they cost are of the same runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Counted, Day, Row};
use crate::domain::event::Event;
use crate::domain::histogram::Histogram;
use crate::domain::outcome::{Outcome, Quality, QualitySource};
use crate::domain::summary::RunSummary;
use crate::units::{Millis, Money, Timestamp};

/// What came to a row's sums last: the store keeps it behind the row. A field more is a new struct behind this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupWorth {
    /// The part of `settled` that calls cost that asked another model than the first, since that one failed or couldn't be
    /// asked.
    pub fallbacks: Money,
    /// Times from dispatch to the end, of attempts that are over.
    pub latencies: Histogram,
    /// Root runs, by what the business counts; an empty name where their agent doesn't say.
    pub units: BTreeMap<Arc<str>, Worth>,
}

impl RollupWorth {
    /// Adds those of another row.
    pub fn add(&mut self, other: &Self) {
        self.fallbacks = self.fallbacks.plus(other.fallbacks);
        self.latencies.add(&other.latencies);
        for (unit, worth) in &other.units {
            self.units.entry(Arc::clone(unit)).or_default().add(worth);
        }
    }
}

/// Root runs that ended, and what they were worth. Costs are those of whole trees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worth {
    /// The runs.
    pub runs: u64,
    /// What they cost.
    pub cost: Money,
    /// How long they were active.
    pub times: Histogram,
    /// Units of them all.
    pub units: u64,
    /// Runs that gave units.
    pub giving: u64,
    /// What those cost.
    pub giving_cost: Money,
    /// Runs whose units nobody said.
    pub unsaid: u64,
    /// Revenue, where it is known.
    pub revenue: Money,
    /// Runs whose revenue is known.
    pub paid: u64,
    /// What those cost.
    pub paid_cost: Money,
    /// Quality, by whose judgement it is.
    pub quality: BTreeMap<QualitySource, QualitySums>,
}

/// Scores of one kind of judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualitySums {
    /// Their sum, in ten-thousandths.
    pub sum: u64,
    /// Their hundredths, rounded down.
    pub hundredths: BTreeMap<u8, u64>,
}

impl QualitySums {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.hundredths.values().sum()
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        for (hundredth, more) in &other.hundredths {
            *self.hundredths.entry(*hundredth).or_default() += more;
        }
    }

    fn change(&mut self, quality: Quality, sign: Sign) {
        let score = quality.score.ten_thousandths();
        let place = u8::try_from(score / 100).unwrap_or(100);
        let count = self.hundredths.entry(place).or_default();
        sign.change(count, 1);
        if *count == 0 {
            self.hundredths.remove(&place);
        }
        sign.change(&mut self.sum, score.into());
    }
}

/// Whether something is counted or taken back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn change(self, sum: &mut u64, by: u64) {
        *sum = match self {
            Self::Plus => sum.saturating_add(by),
            Self::Minus => sum.saturating_sub(by),
        };
    }

    fn change_money(self, sum: &mut Money, by: Money) {
        *sum = match self {
            Self::Plus => sum.plus(by),
            Self::Minus => sum.left_after(by),
        };
    }
}

impl Worth {
    /// Adds those of others.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.cost = self.cost.plus(other.cost);
        self.times.add(&other.times);
        self.units = self.units.saturating_add(other.units);
        self.giving += other.giving;
        self.giving_cost = self.giving_cost.plus(other.giving_cost);
        self.unsaid += other.unsaid;
        self.revenue = self.revenue.plus(other.revenue);
        self.paid += other.paid;
        self.paid_cost = self.paid_cost.plus(other.paid_cost);
        for (source, sums) in &other.quality {
            self.quality.entry(*source).or_default().add(sums);
        }
    }

    fn add_run(&mut self, cost: Money, active: Millis) {
        self.runs += 1;
        self.cost = self.cost.plus(cost);
        self.times.record(active.0);
    }

    /// Counts what is known of a run that cost this, or takes it back.
    fn change(&mut self, outcome: &Outcome, cost: Money, sign: Sign) {
        match outcome.units {
            None => sign.change(&mut self.unsaid, 1),
            Some(0) => {}
            Some(units) => {
                sign.change(&mut self.units, units);
                sign.change(&mut self.giving, 1);
                sign.change_money(&mut self.giving_cost, cost);
            }
        }
        if let Some(revenue) = outcome.revenue_usd {
            sign.change_money(&mut self.revenue, revenue);
            sign.change(&mut self.paid, 1);
            sign.change_money(&mut self.paid_cost, cost);
        }
        if let Some(quality) = outcome.quality {
            let sums = self.quality.entry(quality.source).or_default();
            sums.change(quality, sign);
            if sums.hundredths.is_empty() {
                self.quality.remove(&quality.source);
            }
        }
    }

    /// A bill of a run that had ended.
    fn add_late(&mut self, outcome: &Outcome, bill: Money) {
        self.cost = self.cost.plus(bill);
        if outcome.units.is_some_and(|units| units > 0) {
            self.giving_cost = self.giving_cost.plus(bill);
        }
        if outcome.revenue_usd.is_some() {
            self.paid_cost = self.paid_cost.plus(bill);
        }
    }
}

/// Folds one fact into the row of its run's end; `before` is the run's summary without it.
pub(super) fn fold<E>(
    before: &RunSummary,
    counted: &Counted,
    at: Timestamp,
    event: &Event,
    row: Row<'_, E>,
) -> Result<(), E> {
    if before.parent.is_some() {
        return Ok(());
    }
    let is_counted = before.counts_worth || before.outcome.is_some();
    let (known, cost) = (before.outcome(), before.whole_cost());
    let mut change = |ended: Timestamp, change: &dyn Fn(&mut Worth)| {
        let key = (Day::of(ended), counted.dimensions.with_model(before.answered_by.clone()));
        row(key, &|rollup| change(rollup.worth.units.entry(Arc::clone(&counted.unit)).or_default()))
    };
    if let (Event::Ended(_), true) = (event, before.counts_worth) {
        let active = before.active.plus(before.active_since.map_or(Millis::ZERO, |(since, _)| at.since(since)));
        return change(at, &|worth| {
            worth.add_run(cost, active);
            worth.change(&known, cost, Sign::Plus);
        });
    }
    let Some(ended) = before.ended else { return Ok(()) };
    if let Event::OutcomeRecorded(said) = event {
        return change(ended, &|worth| {
            if is_counted {
                worth.change(&known, cost, Sign::Minus);
            } else {
                worth.add_run(cost, before.active);
            }
            worth.change(&known.after(said), cost, Sign::Plus);
        });
    }
    if let (Event::Settled(settled), true) = (event, is_counted) {
        return change(ended, &|worth| worth.add_late(&known, settled.bill));
    }
    Ok(())
}
