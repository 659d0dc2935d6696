//! A count of so many in a minute, for each of its values: governor's arithmetic (GCRA) over a state of our own.
//!
//! The state is ours so that what wasn't used can go back: each value has the time at which all that was taken would have
//! arrived one by one, and a refund moves it back by as many. A bucket holds a tenth of a minute; a call that is larger waits
//! until it is full, and the rest is owed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::units::{Millis, Timestamp};

/// The most values that a count has at once; those beyond share one.
const VALUES_MAX: usize = 65_536;
/// What the values beyond share.
const OTHERS: &str = "…";
/// The part of a minute that may go out at once.
const BURST_PART: u32 = 10;
const MINUTE_NANOS: u64 = 60_000_000_000;
const MILLI_NANOS: u64 = 1_000_000;

/// The time that a bucket is asked at; whoever asks sets it.
#[derive(Clone, Debug, Default)]
struct Reading(Arc<AtomicU64>);

impl Clock for Reading {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

/// When all that was taken would have arrived, by value.
#[derive(Clone, Debug, Default)]
struct Arrivals(Arc<Mutex<BTreeMap<String, u64>>>);

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Arrivals {
    type Key = String;

    fn measure_and_replace<T, F, E>(&self, key: &String, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut arrivals = self.lock();
        let (outcome, next) = f(arrivals.get(key).copied().map(Nanos::new))?;
        arrivals.insert(key.clone(), next.as_u64());
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<String> for Arrivals {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().retain(|_, arrival| *arrival > drop_below.as_u64());
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// A count.
pub(super) struct Bucket {
    limiter: RateLimiter<String, Arrivals, Reading, NoOpMiddleware<Nanos>>,
    arrivals: Arrivals,
    reading: Reading,
    /// When it was made: the time that its readings count from.
    start: Timestamp,
    burst: NonZeroU32,
    /// Nanoseconds for each, rounded up: no minute lets more through than the limit says.
    interval: u64,
}

impl Bucket {
    pub(super) fn new(per_minute: NonZeroU32, start: Timestamp) -> Self {
        let interval = MINUTE_NANOS.div_ceil(u64::from(per_minute.get()));
        let burst = NonZeroU32::new(per_minute.get() / BURST_PART).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(interval)).expect("an interval is at least 14 ns");
        let (arrivals, reading) = (Arrivals::default(), Reading::default());
        let limiter = RateLimiter::new(quota.allow_burst(burst), arrivals.clone(), reading.clone());
        Self { limiter, arrivals, reading, start, burst, interval }
    }

    /// When so many may go; `None` where they may now. Takes nothing.
    pub(super) fn ready_at(&self, value: &str, count: u64, now: Timestamp) -> Option<Timestamp> {
        let value = self.value(value);
        let before = self.arrivals.lock().get(&value).copied();
        let ready = self.check(&value, count, now);
        let mut arrivals = self.arrivals.lock();
        match before {
            Some(before) => drop(arrivals.insert(value, before)),
            None => drop(arrivals.remove(&value)),
        }
        ready
    }

    /// Takes so many, which [`Self::ready_at`] said may go.
    pub(super) fn take(&self, value: &str, count: u64, now: Timestamp) {
        let value = self.value(value);
        let ready = self.check(&value, count, now);
        debug_assert!(ready.is_none(), "nobody takes what isn't there");
        let owed = count.saturating_sub(u64::from(self.burst.get()));
        self.owe(value, owed);
    }

    /// More was used than taken: it is owed.
    pub(super) fn owe_more(&self, value: &str, count: u64, now: Timestamp) {
        self.read(now);
        let value = self.value(value);
        let now = self.reading.now().as_u64();
        self.arrivals.lock().entry(value.clone()).and_modify(|arrival| *arrival = (*arrival).max(now)).or_insert(now);
        self.owe(value, count);
    }

    /// So many weren't used. A bucket never holds more than when it is full, however late they come back.
    pub(super) fn refund(&self, value: &str, count: u64) {
        let value = self.value(value);
        if let Some(arrival) = self.arrivals.lock().get_mut(&value) {
            *arrival = arrival.saturating_sub(count.saturating_mul(self.interval));
        }
    }

    /// How many may go at once now; 0 where some are owed.
    pub(super) fn free(&self, value: &str, now: Timestamp) -> u64 {
        let arrival = self.arrivals.lock().get(value).copied().unwrap_or_default();
        let owed = arrival.saturating_sub(self.nanos(now)).div_ceil(self.interval);
        u64::from(self.burst.get()).saturating_sub(owed)
    }

    /// The values that aren't full.
    pub(super) fn values(&self, now: Timestamp) -> Vec<String> {
        let now = self.nanos(now);
        let arrivals = self.arrivals.lock();
        arrivals.iter().filter(|(_, arrival)| **arrival > now).map(|(value, _)| value.clone()).collect()
    }

    /// Drops the values that are as if they had never been used.
    pub(super) fn retain_recent(&self, now: Timestamp) {
        self.read(now);
        self.limiter.retain_recent();
    }

    fn check(&self, value: &String, count: u64, now: Timestamp) -> Option<Timestamp> {
        self.read(now);
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.burst.get());
        let count = NonZeroU32::new(count)?;
        let not_until = self.limiter.check_key_n(value, count).ok()?.err()?;
        let wait = u64::try_from(not_until.wait_time_from(self.reading.now()).as_nanos()).unwrap_or(u64::MAX);
        Some(now.after(Millis(wait.div_ceil(MILLI_NANOS).max(1))))
    }

    fn owe(&self, value: String, count: u64) {
        if count > 0 {
            let mut arrivals = self.arrivals.lock();
            let arrival = arrivals.entry(value).or_default();
            // Governor adds without a look: what is owed stays far from the end of its numbers.
            *arrival = arrival.saturating_add(count.saturating_mul(self.interval)).min(u64::MAX / 2);
        }
    }

    fn read(&self, now: Timestamp) {
        self.reading.0.fetch_max(self.nanos(now), Ordering::Relaxed);
    }

    fn nanos(&self, now: Timestamp) -> u64 {
        now.since(self.start).0.saturating_mul(MILLI_NANOS).min(u64::MAX / 4)
    }

    /// Where values are counted that there would be too many of.
    fn value(&self, value: &str) -> String {
        let arrivals = self.arrivals.lock();
        let known = arrivals.len() < VALUES_MAX || arrivals.contains_key(value);
        if known { value.to_owned() } else { OTHERS.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_795_392_000_000);

    fn bucket(per_minute: u32) -> Bucket {
        Bucket::new(NonZeroU32::new(per_minute).expect("not 0"), START)
    }

    fn at(ms: u64) -> Timestamp {
        START.after(Millis(ms))
    }

    #[test]
    fn a_tenth_of_a_minute_goes_at_once_and_the_rest_as_it_arrives() {
        let bucket = bucket(60_000);
        assert_eq!(bucket.ready_at("", 6_000, at(0)), None);
        bucket.take("", 6_000, at(0));
        assert_eq!(bucket.ready_at("", 1_000, at(0)), Some(at(1_000)));
        assert_eq!(bucket.ready_at("", 1_000, at(999)), Some(at(1_000)));
        assert_eq!(bucket.ready_at("", 1_000, at(1_000)), None);
        assert_eq!(bucket.ready_at("other", 6_000, at(0)), None, "each value has its own");
        assert_eq!((bucket.free("", at(0)), bucket.free("", at(500))), (0, 500));
    }

    #[test]
    fn a_larger_call_waits_for_the_whole_bucket_and_owes_the_rest() {
        let bucket = bucket(60_000);
        bucket.take("", 1_000, at(0));
        assert_eq!(bucket.ready_at("", 50_000, at(0)), Some(at(1_000)), "until it is full");
        bucket.take("", 50_000, at(1_000));
        assert_eq!(bucket.ready_at("", 1, at(1_000)), Some(at(1_000 + 44_001)));
        assert_eq!(bucket.free("", at(1_000)), 0);
    }

    #[test]
    fn what_was_not_used_goes_back_exactly() {
        let bucket = bucket(60_000);
        bucket.take("", 50_000, at(0));
        bucket.refund("", 45_000);
        assert_eq!(bucket.ready_at("", 1_000, at(0)), None, "5,000 of 6,000 were used");
        bucket.take("", 1_000, at(0));
        assert_eq!(bucket.ready_at("", 1, at(0)), Some(at(1)));
    }

    #[test]
    fn a_late_refund_lifts_no_bucket_above_what_it_holds() {
        let bucket = bucket(60_000);
        bucket.take("", 6_000, at(0));
        bucket.refund("", 6_000);
        bucket.refund("", 1_000_000);
        bucket.take("", 6_000, at(60_000));
        assert_eq!(bucket.ready_at("", 1, at(60_000)), Some(at(60_001)));
    }

    #[test]
    fn what_is_used_beyond_what_was_taken_is_owed() {
        let bucket = bucket(60_000);
        bucket.take("", 1, at(0));
        bucket.owe_more("", 6_000, at(10_000));
        assert_eq!(bucket.ready_at("", 1, at(10_000)), Some(at(10_001)));
    }

    #[test]
    fn values_that_are_full_again_are_dropped() {
        let bucket = bucket(60);
        (0..100).for_each(|value| bucket.take(&value.to_string(), 1, at(0)));
        bucket.retain_recent(at(1_000));
        assert_eq!(bucket.limiter.len(), 100);
        bucket.retain_recent(at(60_000));
        assert_eq!(bucket.limiter.len(), 0);
    }

    #[test]
    fn a_slow_limit_and_a_huge_call_overflow_nothing() {
        let bucket = bucket(1);
        bucket.take("", u64::MAX, at(0));
        assert!(bucket.ready_at("", u64::MAX, at(1)).is_some_and(|ready| ready > at(1_000_000)));
        bucket.owe_more("", u64::MAX, Timestamp(u64::MAX));
        bucket.refund("", u64::MAX);
    }
}
