//! What a provider says of its own limits, and what follows from it for the next call.
//!
//! A provider's windows fill up evenly: what is missing now is back at the time that it names. What was sent since it spoke
//! is taken off. Nothing is known of a provider that never spoke, and nothing holds a call back then.

use std::collections::BTreeMap;

use super::CallTokens;
use crate::units::{Millis, Timestamp};

/// What one of a provider's windows counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens of input and output.
    Tokens,
    /// Tokens of the input.
    InputTokens,
    /// Tokens of the output.
    OutputTokens,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens];

    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input tokens",
            Self::OutputTokens => "output tokens",
        }
    }

    const fn of(self, tokens: CallTokens) -> u64 {
        match self {
            Self::Requests => 1,
            Self::Tokens => tokens.sum(),
            Self::InputTokens => tokens.input,
            Self::OutputTokens => tokens.output,
        }
    }
}

/// One window, as the headers of an answer tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldWindow {
    /// The whole of it, where that is told.
    pub limit: Option<u64>,
    /// What is left.
    pub remaining: u64,
    /// When all of it is back.
    pub resets_in: Millis,
}

/// What the headers of one answer say of the provider's own limits. Empty where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldRates(pub BTreeMap<Measure, ToldWindow>);

/// A window as it was told, and what was taken since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    told: ToldWindow,
    at: Timestamp,
    taken: u64,
}

impl Window {
    fn full_at(&self) -> Timestamp {
        self.at.after(self.told.resets_in)
    }

    /// What is left by now.
    fn free(&self, now: Timestamp) -> u64 {
        let whole = self.told.limit.unwrap_or(self.told.remaining).max(self.told.remaining);
        let missing = u128::from(whole - self.told.remaining);
        let (passed, all) = (u128::from(now.since(self.at).0), u128::from(self.told.resets_in.0));
        let back = if passed >= all { missing } else { missing * passed / all };
        let left = u128::from(self.told.remaining) + back;
        u64::try_from(left).unwrap_or(u64::MAX).saturating_sub(self.taken)
    }

    /// When so much is there; `None` where it is now. A call that is larger than the window waits for the whole of it.
    fn ready_at(&self, asked: u64, now: Timestamp) -> Option<Timestamp> {
        if self.full_at() <= now || asked <= self.free(now) {
            return None;
        }
        let missing_at = |limit: u64| u128::from(limit.saturating_sub(self.told.remaining));
        let needed = u128::from(asked.saturating_add(self.taken).saturating_sub(self.told.remaining));
        let wait = match self.told.limit {
            Some(limit) if missing_at(limit) > 0 => {
                (needed * u128::from(self.told.resets_in.0)).div_ceil(missing_at(limit))
            }
            Some(_) | None => u128::from(self.told.resets_in.0),
        };
        let wait = Millis(u64::try_from(wait).unwrap_or(u64::MAX)).min(self.told.resets_in);
        Some(self.at.after(wait).max(now.after(Millis(1))))
    }
}

/// The limits of one model at one account of a provider, as it told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    windows: BTreeMap<Measure, Window>,
    /// It asked to be left alone until then.
    closed_until: Option<Timestamp>,
    /// Calls that are out, each with when it left and the most that it may use.
    out: BTreeMap<u64, (Timestamp, CallTokens)>,
}

impl OwnLimits {
    /// When a call may leave, and what it waits for; `None` where it may now.
    #[must_use]
    pub fn ready_at(&self, tokens: CallTokens, now: Timestamp) -> Option<(Timestamp, Option<Measure>)> {
        let closed = self.closed_until.filter(|until| *until > now).map(|until| (until, None));
        let windows = self.windows.iter().filter_map(|(measure, window)| {
            let ready = window.ready_at(measure.of(tokens), now)?;
            Some((ready, Some(*measure)))
        });
        closed.into_iter().chain(windows).max()
    }

    /// A call leaves.
    pub fn take(&mut self, call: u64, tokens: CallTokens, now: Timestamp) {
        self.out.insert(call, (now, tokens));
        for (measure, window) in &mut self.windows {
            window.taken = window.taken.saturating_add(measure.of(tokens));
        }
    }

    /// A call that was to leave never did.
    pub fn give_back(&mut self, call: u64) {
        let Some((at, tokens)) = self.out.remove(&call) else { return };
        for (measure, window) in &mut self.windows {
            if window.at <= at {
                window.taken = window.taken.saturating_sub(measure.of(tokens));
            }
        }
    }

    /// A call is over, and its answer said this. What left after it isn't in what the provider told.
    pub fn hear(&mut self, call: u64, told: &ToldRates, closed_for: Option<Millis>, now: Timestamp) {
        let left = self.out.remove(&call).map(|(at, _)| at);
        for (measure, told) in &told.0 {
            let later = self.out.values().filter(|(at, _)| left.is_some_and(|left| *at > left));
            let taken = later.fold(0_u64, |sum, (_, tokens)| sum.saturating_add(measure.of(*tokens)));
            self.windows.insert(*measure, Window { told: *told, at: now, taken });
        }
        if let Some(wait) = closed_for {
            self.closed_until = self.closed_until.max(Some(now.after(wait)));
        }
    }

    /// Until when it asked to be left alone, if it still does.
    #[must_use]
    pub fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.closed_until.filter(|until| *until > now)
    }

    /// What is left in each window that isn't full again: its measure, what is left, the whole, and when all is back.
    pub fn windows(&self, now: Timestamp) -> impl Iterator<Item = (Measure, u64, Option<u64>, Timestamp)> + '_ {
        let open = self.windows.iter().filter(move |(_, window)| window.full_at() > now);
        open.map(move |(measure, window)| (*measure, window.free(now), window.told.limit, window.full_at()))
    }

    /// True where nothing of it matters any more.
    #[must_use]
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.out.is_empty() && self.closed_until(now).is_none() && self.windows(now).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn told(measure: Measure, limit: Option<u64>, remaining: u64, resets_in: u64) -> ToldRates {
        ToldRates(BTreeMap::from([(measure, ToldWindow { limit, remaining, resets_in: Millis(resets_in) })]))
    }

    fn tokens(input: u64, output: u64) -> CallTokens {
        CallTokens { input, output }
    }

    fn heard(told: &ToldRates) -> OwnLimits {
        let mut own = OwnLimits::default();
        own.take(1, tokens(10, 10), NOW);
        own.hear(1, told, None, NOW);
        own
    }

    #[test]
    fn who_never_spoke_holds_nothing_back() {
        assert_eq!(OwnLimits::default().ready_at(tokens(u64::MAX, 1), NOW), None);
        assert!(OwnLimits::default().is_forgotten(NOW));
    }

    #[test]
    fn a_window_fills_up_evenly_until_its_reset() {
        let own = heard(&told(Measure::Tokens, Some(60_000), 10_000, 50_000));
        assert_eq!(own.ready_at(tokens(9_000, 1_000), NOW), None, "what is left is enough");
        let ready = own.ready_at(tokens(9_000, 2_000), NOW);
        assert_eq!(ready, Some((NOW.after(Millis(1_000)), Some(Measure::Tokens))), "1,000 are missing");
        assert_eq!(own.ready_at(tokens(9_000, 2_000), NOW.after(Millis(1_000))), None);
        let all = own.ready_at(tokens(70_000, 0), NOW);
        assert_eq!(all, Some((NOW.after(Millis(50_000)), Some(Measure::Tokens))), "larger than the window: all of it");
        assert_eq!(own.ready_at(tokens(70_000, 0), NOW.after(Millis(50_000))), None);
        assert!(own.is_forgotten(NOW.after(Millis(50_000))));
    }

    #[test]
    fn without_the_whole_the_reset_is_waited_for() {
        let own = heard(&told(Measure::Requests, None, 0, 6_000));
        assert_eq!(own.ready_at(tokens(1, 1), NOW), Some((NOW.after(Millis(6_000)), Some(Measure::Requests))));
    }

    #[test]
    fn what_left_since_is_taken_off_and_comes_back_where_it_never_did() {
        let mut own = heard(&told(Measure::InputTokens, Some(1_000), 500, 60_000));
        own.take(2, tokens(400, 9), NOW);
        assert!(own.ready_at(tokens(200, 0), NOW).is_some());
        own.give_back(2);
        assert_eq!(own.ready_at(tokens(200, 0), NOW), None);
    }

    #[test]
    fn what_left_after_an_answer_began_is_not_in_what_it_tells() {
        let mut own = OwnLimits::default();
        own.take(1, tokens(100, 0), NOW);
        own.take(2, tokens(300, 0), NOW.after(Millis(5)));
        own.hear(1, &told(Measure::Tokens, Some(1_000), 400, 60_000), None, NOW.after(Millis(9)));
        assert_eq!(own.windows(NOW.after(Millis(9))).next().expect("a window").1, 100);
        own.hear(2, &told(Measure::Tokens, Some(1_000), 700, 60_000), None, NOW.after(Millis(10)));
        assert_eq!(own.windows(NOW.after(Millis(10))).next().expect("a window").1, 700);
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let mut own = OwnLimits::default();
        own.take(1, tokens(1, 1), NOW);
        own.hear(1, &ToldRates::default(), Some(Millis(20_000)), NOW);
        assert_eq!(own.ready_at(tokens(1, 1), NOW), Some((NOW.after(Millis(20_000)), None)));
        assert_eq!(own.ready_at(tokens(1, 1), NOW.after(Millis(20_000))), None);
    }
}
