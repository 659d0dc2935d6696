//! How tight bounds are: what was bounded against what was used, of calls whose usage is known.
//!
//! Everything is counted in integers: sums, extremes, and a small fixed histogram that percentiles are read from.
//! Reservations never learn from it: they are the bound itself, whatever it was worth. Expectations (LEDGER rule 8) do,
//! where they have nothing better: an agent that says no `expected_cost` and hasn't finished enough runs is expected to
//! make every call that it may, at what calls of its models were known to cost of their bounds. Too low an expectation
//! costs finished runs, so that all here is in doubt high: few calls teach nothing, the ratio is one that four of five
//! calls were looser than, and calls of unknown cost are taken at their whole bound.

use serde::{Deserialize, Serialize};

use crate::units::Money;

/// The upper edges of the histogram's buckets, in percent of what was used. Below 100 the bound was too low.
const EDGES: [u32; 12] = [99, 100, 105, 110, 125, 150, 200, 300, 500, 1_000, 2_000, 5_000];
/// One bucket for each edge, and one for what is above them all.
const BUCKETS: usize = EDGES.len() + 1;
/// A ratio of one, in percent.
const WHOLE: u128 = 100;
/// Calls from which the ratios of a model say something of its next ones.
const CALLS_TO_LEARN: u64 = 50;
/// The share of its calls, in percent, that may have been tighter than what is learned from them.
const TIGHTER_SHARE: u128 = 20;

/// Ratios of one model's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tightness {
    /// Tokens of input.
    pub input: Ratio,
    /// Tokens of output, reasoning included.
    pub output: Ratio,
    /// Pico-dollars.
    pub money: Ratio,
}

impl Tightness {
    /// Adds those of other calls.
    pub fn add(&mut self, other: &Self) {
        self.input.add(&other.input);
        self.output.add(&other.output);
        self.money.add(&other.money);
    }

    /// What a call of this model can be expected to cost that costs at most `worst`, where its other calls cost `unknown`
    /// money. Never more than `worst`, and no less where few calls are known.
    #[must_use]
    pub fn expects(&self, unknown: Money, worst: Money) -> Money {
        self.money.scaled(unknown.pico(), worst.pico()).map_or(worst, |pico| Money::from_pico(pico).min(worst))
    }
}

/// Bounds against what was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    count: u64,
    bound: u128,
    used: u128,
    least: u32,
    most: u32,
    buckets: [u32; BUCKETS],
}

impl Ratio {
    /// Counts one call; one that used nothing has no ratio.
    pub fn record(&mut self, bound: u128, used: u128) {
        let Some(percent) = percent(bound, used) else { return };
        let place = EDGES.iter().position(|edge| percent <= *edge).unwrap_or(EDGES.len());
        let mut one = Self { count: 1, bound, used, least: percent, most: percent, ..Self::default() };
        one.buckets.iter_mut().skip(place).take(1).for_each(|bucket| *bucket = 1);
        self.add(&one);
    }

    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.least = if self.count == 0 { other.least } else { self.least.min(other.least) };
        self.most = self.most.max(other.most);
        self.count = self.count.saturating_add(other.count);
        self.bound = self.bound.saturating_add(other.bound);
        self.used = self.used.saturating_add(other.used);
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.saturating_add(more);
        }
    }

    /// How many calls.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The sums of bounds and of what was used.
    #[must_use]
    pub const fn sums(&self) -> (u128, u128) {
        (self.bound, self.used)
    }

    /// All bounds to all that was used, in percent, rounded up; `None` without calls.
    #[must_use]
    pub fn overall(&self) -> Option<u32> {
        percent(self.bound, self.used)
    }

    /// The tightest and the loosest, in percent.
    #[must_use]
    pub fn extremes(&self) -> Option<(u32, u32)> {
        (self.count > 0).then_some((self.least, self.most))
    }

    /// What most calls were looser than, in percent, rounded down; `None` of few.
    fn looser_than(&self) -> Option<u32> {
        if self.count < CALLS_TO_LEARN {
            return None;
        }
        let rank = u128::from(self.count) * TIGHTER_SHARE / WHOLE + 1;
        let mut seen = 0_u128;
        let mut lower = self.least;
        for (bucket, edge) in self.buckets.iter().zip(EDGES) {
            seen += u128::from(*bucket);
            if seen >= rank {
                break;
            }
            lower = edge.max(lower);
        }
        Some(lower)
    }

    /// `worst` by what most calls used of their bounds, and by all of it for the share that is unknown; rounded up. `None`
    /// of few calls, or of what no sum of money is.
    fn scaled(&self, unknown: u128, worst: u128) -> Option<u128> {
        let percent = u128::from(self.looser_than()?);
        let of_known = self.bound.checked_mul(WHOLE)?;
        let of_all = self.bound.checked_add(unknown)?.checked_mul(percent)?;
        let used = of_known.checked_add(unknown.checked_mul(percent)?)?;
        Some(worst.checked_mul(used)?.checked_add(of_all.checked_sub(1)?)? / of_all)
    }

    /// What this share of the calls, in percent, was not looser than: an edge of the histogram, rounded up.
    #[must_use]
    pub fn percentile(&self, share: u64) -> Option<u32> {
        let rank = u128::from(self.count).checked_mul(share.into())?.div_ceil(WHOLE).max(1);
        let mut seen = 0_u128;
        for (bucket, edge) in self.buckets.iter().zip(EDGES.into_iter().chain([u32::MAX])) {
            seen += u128::from(*bucket);
            if seen >= rank {
                return Some(edge.min(self.most));
            }
        }
        None
    }
}

/// `bound` in percent of `used`, rounded up; `None` of nothing.
fn percent(bound: u128, used: u128) -> Option<u32> {
    let scaled = bound.checked_mul(WHOLE)?.checked_add(used.checked_sub(1)?)? / used;
    Some(u32::try_from(scaled).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_counted_in_integers() {
        let mut ratio = Ratio::default();
        assert_eq!((ratio.overall(), ratio.extremes(), ratio.percentile(50)), (None, None, None));
        ratio.record(5, 0);
        assert_eq!(ratio.count(), 0, "nothing was used");
        for bound in [100, 101, 150, 151, 900] {
            ratio.record(bound, 100);
        }
        assert_eq!((ratio.count(), ratio.sums()), (5, (1_402, 500)));
        assert_eq!((ratio.overall(), ratio.extremes()), (Some(281), Some((100, 900))));
        assert_eq!([20, 40, 50, 80, 95].map(|share| ratio.percentile(share)), [100, 105, 150, 200, 900].map(Some));
        ratio.record(99, 100);
        assert_eq!((ratio.extremes(), ratio.percentile(1)), (Some((99, 900)), Some(99)));
        let mut twice = ratio;
        twice.add(&ratio);
        assert_eq!((twice.count(), twice.percentile(95)), (12, Some(900)));
        ratio.record(u128::MAX, 1);
        assert_eq!(ratio.count(), 6, "what no bounded call has");
        ratio.record(1_000_000_000, 1);
        assert_eq!(ratio.percentile(100), Some(u32::MAX));
    }

    #[test]
    fn few_calls_teach_nothing() {
        let mut tightness = Tightness::default();
        let worst = Money::from_pico(1_000);
        assert_eq!(tightness.expects(Money::ZERO, worst), worst);
        (1..50).for_each(|_| tightness.money.record(400, 100));
        assert_eq!(tightness.expects(Money::ZERO, worst), worst);
        tightness.money.record(400, 100);
        assert_eq!(tightness.expects(Money::ZERO, worst), Money::from_pico(250), "none was tighter");
        assert_eq!(tightness.expects(Money::ZERO, Money::from_pico(1)), Money::from_pico(1), "rounded up");
        assert_eq!(tightness.expects(Money::ZERO, Money::from_pico(u128::MAX)), Money::from_pico(u128::MAX));
    }

    /// A fifth of tight calls still lets it learn from the others; one more doesn't. A bound that was too low expects no
    /// more than the worst.
    #[test]
    fn in_doubt_the_expectation_is_high() {
        let worst = Money::from_pico(1_000);
        let of = |tight: u32, loose: u32| {
            let mut tightness = Tightness::default();
            (0..tight).for_each(|_| tightness.money.record(100, 100));
            (0..loose).for_each(|_| tightness.money.record(220, 100));
            tightness
        };
        assert_eq!(of(20, 80).expects(Money::ZERO, worst), Money::from_pico(500), "the bucket of 220 % begins at 200");
        assert_eq!(of(21, 79).expects(Money::ZERO, worst), worst);
        let mut short = Tightness::default();
        (0..60).for_each(|_| short.money.record(90, 100));
        assert_eq!(short.expects(Money::ZERO, worst), worst);
        // Half of what was reserved is unknown: half of the worst by 2.2, and half of it whole.
        assert_eq!(of(0, 100).expects(Money::from_pico(22_000), worst), Money::from_pico(728));
    }
}
