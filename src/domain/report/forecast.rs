//! What a budget's period comes to, if it goes on as it did so far.
//!
//! The method is linear, in whole numbers: what was settled since the period began, divided by the time since then, times
//! the period's length, rounded up. It isn't told before a 20th of the period is over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text_or_null;
use crate::domain::event::AccountKey;
use crate::domain::ledger::Account;
use crate::units::{Money, Timestamp};

/// What share of a period must be over before anything is told of its end.
const TOLD_FROM: u64 = 20;

/// A period that isn't over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// How much of the period is over, in basis points.
    pub elapsed_basis_points: u64,
    /// What would be settled by now if the cap were spent evenly.
    pub even_usd: Money,
    /// What will be settled at its end, as it goes now; null before a 20th of it is over.
    pub end_usd: Option<Money>,
    /// When the cap is reached, as it goes now; null where that is after its end, or can't be told yet.
    #[serde(default, with = "text_or_null", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::TimeText>")]
    pub runs_out: Option<Timestamp>,
}

impl Forecast {
    /// Of an account in its period; nothing of one that never ends or is over.
    #[must_use]
    pub fn of(key: &AccountKey, account: &Account, cap: Money, now: Timestamp) -> Option<Self> {
        let AccountKey::Budget { start, end: Some(end), .. } = key else { return None };
        if now < *start || now >= *end {
            return None;
        }
        let (length, elapsed) = (end.since(*start).0.max(1), now.since(*start).0);
        let is_told = elapsed > 0 && elapsed >= length / TOLD_FROM;
        let settled = account.settled;
        let at_end = || Some(Money::from_pico(settled.pico().checked_mul(length.into())?.div_ceil(elapsed.into())));
        let time_of_cap = || cap.pico().checked_mul(elapsed.into())?.checked_div(settled.pico());
        let reached = is_told.then(time_of_cap).flatten().and_then(|after| u64::try_from(after).ok());
        let runs_out = reached.filter(|after| *after < length).map(|after| Timestamp(start.0.saturating_add(after)));
        Some(Self {
            elapsed_basis_points: elapsed.saturating_mul(10_000) / length,
            even_usd: Money::from_pico(cap.pico().checked_mul(elapsed.into())? / u128::from(length)),
            end_usd: is_told.then(at_end).flatten(),
            runs_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(settled: u64, now: u64) -> Option<Forecast> {
        let key = AccountKey::Budget {
            budget: "day".into(),
            scope: String::new(),
            start: Timestamp(1_000),
            end: Some(Timestamp(2_000)),
        };
        let account = Account { settled: Money::from_micro(settled), ..Account::default() };
        Forecast::of(&key, &account, Money::from_micro(100), Timestamp(now))
    }

    #[test]
    fn a_forecast_is_linear_and_says_when_the_cap_is_reached() {
        let half = told(75, 1_500).expect("it isn't over");
        assert_eq!((half.elapsed_basis_points, half.even_usd), (5_000, Money::from_micro(50)));
        assert_eq!((half.end_usd, half.runs_out), (Some(Money::from_micro(150)), Some(Timestamp(1_666))));
        let calm = told(10, 1_500).expect("it isn't over");
        assert_eq!((calm.end_usd, calm.runs_out), (Some(Money::from_micro(20)), None));
        let early = told(10, 1_049).expect("it isn't over");
        assert_eq!((early.end_usd, early.runs_out), (None, None), "too early to tell");
        assert_eq!(told(0, 1_500).and_then(|none| none.end_usd), Some(Money::ZERO));
        assert_eq!((told(10, 2_000), told(10, 999)), (None, None));
    }
}
