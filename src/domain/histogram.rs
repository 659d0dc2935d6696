//! How values spread: counts in buckets of a fixed form, so that those of many rows add up to those of all.
//!
//! Integers only. A percentile is the upper edge of its bucket: never below the value, and at most a 16th above it. What was
//! counted can be taken back, and leaves nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets of each power of two, as a power of two.
const FINE_BITS: u32 = 4;
/// Values below have a bucket of their own.
const EXACT: u64 = 1 << FINE_BITS;

/// Counts by bucket; those that are empty aren't kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(BTreeMap<u16, u64>);

impl Histogram {
    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        let count = self.0.entry(bucket(value)).or_default();
        *count = count.saturating_add(1);
    }

    /// Takes a value back that was counted.
    pub fn take_back(&mut self, value: u64) {
        let bucket = bucket(value);
        if let Some(count) = self.0.get_mut(&bucket) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&bucket);
            }
        }
    }

    /// Adds the values of another.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in &other.0 {
            let count = self.0.entry(*bucket).or_default();
            *count = count.saturating_add(*more);
        }
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// What this share of the values, in percent, isn't above; `None` of no values.
    #[must_use]
    pub fn percentile(&self, share: u8) -> Option<u64> {
        let rank = (u128::from(self.count()) * u128::from(share)).div_ceil(100).max(1);
        let mut seen = 0_u128;
        let found = self.0.iter().find(|(_, count)| {
            seen += u128::from(**count);
            seen >= rank
        });
        found.map(|(bucket, _)| upper_edge(*bucket))
    }
}

/// Where a value is counted.
fn bucket(value: u64) -> u16 {
    if value < EXACT {
        return u16::try_from(value).unwrap_or(0);
    }
    let shift = value.ilog2() - FINE_BITS;
    let within = (value >> shift) - EXACT;
    // 61 powers of two at most, 16 buckets each.
    u16::try_from(EXACT * (u64::from(shift) + 1) + within).unwrap_or(u16::MAX)
}

/// The largest value of a bucket.
fn upper_edge(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < EXACT {
        return bucket;
    }
    let (shift, within) = (bucket / EXACT - 1, bucket % EXACT);
    let next = u128::from(EXACT + within + 1) << shift;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_values_are_exact_and_the_ends_have_places() {
        for value in 0..=31 {
            assert_eq!(upper_edge(bucket(value)), value);
        }
        assert_eq!(upper_edge(bucket(u64::MAX)), u64::MAX);
        assert_eq!(Histogram::default().percentile(50), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_below_the_value_and_a_16th_above_at_most(
            mut values in prop::collection::vec(0..10_000_000_u64, 1..60), share in 1..=100_u8, split in 0..60_usize,
        ) {
            let of = |values: &[u64]| values.iter().fold(Histogram::default(), |mut all, value| { all.record(*value); all });
            let (one, other) = values.split_at(split.min(values.len()));
            let mut merged = of(one);
            merged.add(&of(other));
            prop_assert_eq!(&merged, &of(&values));
            values.sort_unstable();
            let rank = (values.len() * usize::from(share)).div_ceil(100).max(1);
            let (exact, told) = (values[rank - 1], merged.percentile(share).expect("values"));
            prop_assert!(exact <= told && told <= exact + exact / 16, "{exact} {told}");
            values.iter().for_each(|value| merged.take_back(*value));
            prop_assert_eq!(merged, Histogram::default());
        }
    }
}
