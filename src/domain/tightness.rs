//! How tight bounds are: what was bounded against what was used, of calls whose usage is known.
//!
//! Everything is counted in integers: sums, extremes, and a small fixed histogram that percentiles are read from.
//! Nothing is decided by it. Reservations are the bound itself, whatever it was worth; and expectations (LEDGER rule 8)
//! don't learn from it either, since they learn from more: what an agent's finished runs really cost, which has in it how
//! loose the bounds were *and* how many steps the runs took. A load line scaled by these ratios would claim to know the
//! latter, and too low an expectation costs finished runs.

use serde::{Deserialize, Serialize};

/// The upper edges of the histogram's buckets, in percent of what was used. Below 100 the bound was too low.
const EDGES: [u32; 12] = [99, 100, 105, 110, 125, 150, 200, 300, 500, 1_000, 2_000, 5_000];
/// One bucket for each edge, and one for what is above them all.
const BUCKETS: usize = EDGES.len() + 1;
/// A ratio of one, in percent.
const WHOLE: u128 = 100;

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
}
