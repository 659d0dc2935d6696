//! The circuit breaker of a model, or of a provider's account: after failures in a row nobody asks for a while; then one
//! call goes first, and what it meets decides for all.
//!
//! A pure state machine: times and calls come in as data. Deliberately absent: whose breaker it is, and who waits for it.

use crate::domain::retry::ErrorClass;
use crate::units::{Millis, Timestamp};

/// Doublings of the time that a breaker stays open.
const DOUBLINGS_MAX: u32 = 20;

/// When breakers open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it; an overload counts twice. 0: never.
    pub failures: u32,
    /// How long it stays open the first time; it doubles with each probe that fails.
    pub open_min: Millis,
    /// How long at most.
    pub open_max: Millis,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, open_min: Millis::from_secs(10), open_max: Millis::from_secs(300) }
    }
}

/// What the end of a call says of whoever was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Works,
    /// It failed: how much that counts.
    Failed(u32),
    /// The account's quota or money is used up: its breaker opens at once.
    Spent,
    /// Nothing.
    Nothing,
}

/// What a failure says. A broken stream is a failure, however well it began; an answer that only says no to the request, or
/// that it came too fast, is one of a provider that works.
#[must_use]
pub const fn sign(class: ErrorClass) -> Sign {
    match class {
        ErrorClass::Overloaded => Sign::Failed(2),
        ErrorClass::NotSent
        | ErrorClass::RequestTimeout
        | ErrorClass::Server
        | ErrorClass::TimedOut
        | ErrorClass::FirstTokenLate
        | ErrorClass::CutStream
        | ErrorClass::StreamError
        | ErrorClass::Garbage
        | ErrorClass::Oversized => Sign::Failed(1),
        ErrorClass::QuotaExhausted | ErrorClass::Billing => Sign::Spent,
        ErrorClass::Forbidden
        | ErrorClass::NotFound
        | ErrorClass::BadRequest
        | ErrorClass::ContextTooLong
        | ErrorClass::ContentFilter
        | ErrorClass::Refused
        | ErrorClass::RateLimited
        | ErrorClass::Conflict
        | ErrorClass::TooLarge
        | ErrorClass::Unprocessable => Sign::Works,
        ErrorClass::BadKey | ErrorClass::StaleKey | ErrorClass::ClientClosed | ErrorClass::Interrupted => Sign::Nothing,
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Calls go through.
    Closed,
    /// Nobody asks before this.
    Open(Timestamp),
    /// One call may go first.
    HalfOpen,
    /// One call went first, and its end is waited for.
    Probing,
}

/// A breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// How much the failures in a row come to, while it is closed.
    failures: u32,
    /// How often it opened since it was closed.
    opened: u32,
    until: Option<Timestamp>,
    probe: Option<u64>,
    /// The last failure.
    last: Option<ErrorClass>,
}

impl Breaker {
    /// How it stands.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> Stands {
        match (self.until, self.probe) {
            (None, _) => Stands::Closed,
            (Some(until), _) if now < until => Stands::Open(until),
            (Some(_), Some(_)) => Stands::Probing,
            (Some(_), None) => Stands::HalfOpen,
        }
    }

    /// The last failure.
    #[must_use]
    pub const fn last(&self) -> Option<ErrorClass> {
        self.last
    }

    /// How much the failures in a row come to, and how often it opened since it was closed.
    #[must_use]
    pub const fn counts(&self) -> (u32, u32) {
        (self.failures, self.opened)
    }

    /// True where it stands as one that was never used.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.failures == 0 && self.until.is_none()
    }

    /// A call leaves: the first one after the time is the probe.
    pub fn pass(&mut self, call: u64, now: Timestamp) {
        if self.stands(now) == Stands::HalfOpen {
            self.probe = Some(call);
        }
    }

    /// A call is over without a word of how whoever was asked stands.
    pub fn let_go(&mut self, call: u64) {
        self.probe.take_if(|probe| *probe == call);
    }

    /// A call went well. Of those that left before it opened nothing is learned.
    pub fn works(&mut self, call: u64) {
        if self.until.is_none() || self.probe == Some(call) {
            *self = Self::default();
        }
    }

    /// A call failed by so much. `asked` is how long the provider asks to be left alone.
    pub fn fails(
        &mut self,
        call: u64,
        (class, by): (ErrorClass, u32),
        asked: Option<Millis>,
        now: Timestamp,
        policy: &BreakerPolicy,
    ) {
        if policy.failures == 0 {
            return;
        }
        let was_probe = self.probe == Some(call);
        if self.until.is_some() && !was_probe {
            return;
        }
        self.probe = None;
        self.last = Some(class);
        self.failures = self.failures.saturating_add(by.min(policy.failures)).min(policy.failures);
        if was_probe || self.failures >= policy.failures {
            self.open(asked, now, policy);
        }
    }

    fn open(&mut self, asked: Option<Millis>, now: Timestamp, policy: &BreakerPolicy) {
        let doubled = policy.open_min.0.saturating_mul(1 << self.opened.min(DOUBLINGS_MAX));
        let wait = Millis(doubled).min(policy.open_max).max(asked.unwrap_or_default().min(policy.open_max));
        self.opened = self.opened.saturating_add(1);
        self.until = Some(now.after(wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const POLICY: BreakerPolicy = BreakerPolicy { failures: 3, open_min: Millis(1_000), open_max: Millis(3_000) };

    fn later(ms: u64) -> Timestamp {
        NOW.after(Millis(ms))
    }

    fn fail(breaker: &mut Breaker, call: u64, class: ErrorClass, at: Timestamp) {
        let Sign::Failed(by) = sign(class) else { panic!("no failure") };
        breaker.fails(call, (class, by), None, at, &POLICY);
    }

    /// One that opened at `NOW` until a second later.
    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        (1..=3).for_each(|call| fail(&mut breaker, call, ErrorClass::Server, NOW));
        breaker
    }

    #[test]
    fn it_opens_on_failures_in_a_row_and_a_success_begins_anew() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 1, ErrorClass::CutStream, NOW);
        fail(&mut breaker, 2, ErrorClass::TimedOut, NOW);
        assert_eq!((breaker.stands(NOW), breaker.counts()), (Stands::Closed, (2, 0)));
        breaker.works(3);
        assert!(breaker.is_new());
        (4..=5).for_each(|call| fail(&mut breaker, call, ErrorClass::StreamError, NOW));
        assert_eq!(breaker.stands(NOW), Stands::Closed);
        fail(&mut breaker, 6, ErrorClass::Server, NOW);
        assert_eq!((breaker.stands(NOW), breaker.last()), (Stands::Open(later(1_000)), Some(ErrorClass::Server)));
    }

    #[test]
    fn an_overload_counts_twice() {
        let mut breaker = Breaker::default();
        (1..=2).for_each(|call| fail(&mut breaker, call, ErrorClass::Overloaded, NOW));
        assert!(matches!(breaker.stands(NOW), Stands::Open(_)));
    }

    #[test]
    fn half_open_lets_one_call_through_and_its_end_decides() {
        let mut breaker = open();
        assert_eq!(breaker.stands(later(999)), Stands::Open(later(1_000)));
        assert_eq!(breaker.stands(later(1_000)), Stands::HalfOpen);
        breaker.pass(9, later(1_000));
        assert_eq!(breaker.stands(later(1_000)), Stands::Probing);
        let mut well = breaker.clone();
        well.works(9);
        assert!(well.is_new());
        fail(&mut breaker, 9, ErrorClass::Server, later(1_500));
        assert_eq!(breaker.stands(later(1_500)), Stands::Open(later(3_500)), "twice as long");
        breaker.pass(10, later(3_500));
        fail(&mut breaker, 10, ErrorClass::Server, later(3_500));
        assert_eq!(breaker.stands(later(3_500)), Stands::Open(later(6_500)), "no longer than the most");
    }

    #[test]
    fn calls_that_left_before_it_opened_say_nothing() {
        let mut breaker = open();
        breaker.works(7);
        fail(&mut breaker, 8, ErrorClass::Server, later(500));
        assert_eq!(breaker.stands(later(500)), Stands::Open(later(1_000)));
        breaker.pass(9, later(1_000));
        breaker.works(7);
        assert_eq!(breaker.stands(later(1_000)), Stands::Probing, "only the probe decides");
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_another() {
        let mut breaker = open();
        breaker.pass(9, later(1_000));
        breaker.let_go(8);
        assert_eq!(breaker.stands(later(1_000)), Stands::Probing);
        breaker.let_go(9);
        assert_eq!(breaker.stands(later(1_000)), Stands::HalfOpen);
    }

    #[test]
    fn a_wait_that_the_provider_asks_for_is_honoured_up_to_the_most() {
        let until = |asked| {
            let mut breaker = Breaker::default();
            breaker.fails(1, (ErrorClass::QuotaExhausted, u32::MAX), Some(Millis(asked)), NOW, &POLICY);
            breaker.stands(NOW)
        };
        assert_eq!(until(2_000), Stands::Open(later(2_000)));
        assert_eq!(until(9_000), Stands::Open(later(3_000)));
        assert_eq!(until(1), Stands::Open(later(1_000)));
    }

    #[test]
    fn who_wants_none_has_none() {
        let never = BreakerPolicy { failures: 0, ..POLICY };
        let mut breaker = Breaker::default();
        (0..100).for_each(|call| breaker.fails(call, (ErrorClass::Server, 1), None, NOW, &never));
        assert!(breaker.is_new());
    }
}
