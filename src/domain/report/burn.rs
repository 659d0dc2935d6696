//! How a budget's period was spent, day by day, against its cap.
//!
//! A day is one of UTC, as in the rollups that it is folded from, and money belongs to the day of its reservation. So the
//! days add up to the account where its period begins at midnight UTC; else the first and the last are of two periods, and
//! that is said. A budget over labels that no rollup counts has no days.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::budget::BudgetRow;
use super::{text, text_or_null};
use crate::domain::budget::Budget;
use crate::domain::event::{Labels, THREAD};
use crate::domain::rollup::{Day, Dimensions, Rollup, RollupKey};
use crate::ids::BudgetName;
use crate::units::{Money, Timestamp};

/// The labels that rollups count by and that every attempt of a tree has from its root. An attempt's agent is its own.
const COUNTED: [&str; 5] = ["tenant", "feature", "environment", "owner", THREAD];
/// The most days that are shown; of a longer period the last ones.
pub const BURN_DAYS_MAX: u32 = 366;

/// The days of an account's current period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurnDown {
    /// The budget.
    pub budget: BudgetName,
    /// The values of `each`, as `tenant=acme`; empty where it has none.
    pub scope: String,
    /// When the period begins.
    #[serde(with = "text")]
    pub start: Timestamp,
    /// When it ends, exclusive; null for `total`.
    #[serde(with = "text_or_null")]
    pub end: Option<Timestamp>,
    /// The cap, exceptions included.
    pub cap_usd: Money,
    /// What is settled on the account.
    pub settled_usd: Money,
    /// True where the days add up to that.
    pub adds_up: bool,
    /// From the first day of the period to this one.
    pub days: Vec<BurnDay>,
}

/// One day, of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurnDay {
    /// The day.
    pub day: String,
    /// What was settled of it.
    pub spent_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
    /// All days up to this one.
    pub total_usd: Money,
    /// What of the cap was left behind it.
    pub left_usd: Money,
    /// What would have been left if the cap were spent evenly; null for `total`.
    pub even_left_usd: Option<Money>,
}

impl BurnDown {
    /// The first day that is looked at.
    #[must_use]
    pub fn first_day(row: &BudgetRow, now: Timestamp) -> Day {
        let (first, last) = (Day::of(row.start), Day::of(now));
        Day(first.0.max(last.0.saturating_sub(BURN_DAYS_MAX - 1)))
    }

    /// The days of a budget's account, from the rollups since [`Self::first_day`]; nothing where no rollup counts its labels.
    #[must_use]
    pub fn of(row: &BudgetRow, budget: &Budget, rollups: &[(RollupKey, Rollup)], now: Timestamp) -> Option<Self> {
        let mut named = budget.scope.keys().chain(&budget.each);
        if !named.all(|label| COUNTED.contains(&label.as_str())) {
            return None;
        }
        let is_of = |of: &Dimensions| {
            let labels = labels(of);
            budget.matches(&labels) && budget.scope_value(&labels).is_ok_and(|scope| scope == row.scope)
        };
        let mut sums: BTreeMap<Day, (Money, Money)> = BTreeMap::new();
        for ((day, _), rollup) in rollups.iter().filter(|((_, of), _)| is_of(of)) {
            let (spent, unknown) = sums.entry(*day).or_default();
            (*spent, *unknown) = (spent.plus(rollup.settled), unknown.plus(rollup.unknown));
        }
        let (mut days, mut total) = (Vec::new(), Money::ZERO);
        for day in Self::first_day(row, now).0..=Day::of(now).0 {
            let (spent, unknown) = sums.get(&Day(day)).copied().unwrap_or_default();
            total = total.plus(spent);
            days.push(BurnDay {
                day: Day(day).to_string(),
                spent_usd: spent,
                unknown_usd: unknown,
                total_usd: total,
                left_usd: row.cap_usd.left_after(total),
                even_left_usd: even_left(row, Day(day)),
            });
        }
        let BudgetRow { budget, scope, start, end, cap_usd, settled_usd, .. } = row.clone();
        Some(Self { budget, scope, start, end, cap_usd, settled_usd, adds_up: total == settled_usd, days })
    }
}

/// What is left at the end of a day where the cap is spent evenly.
fn even_left(row: &BudgetRow, day: Day) -> Option<Money> {
    let length = row.end?.since(row.start).0.max(1);
    let passed = Day(day.0.saturating_add(1)).start().since(row.start).0.min(length);
    let spent = row.cap_usd.pico().checked_mul(passed.into())? / u128::from(length);
    Some(row.cap_usd.left_after(Money::from_pico(spent)))
}

fn labels(of: &Dimensions) -> Labels {
    let values = [&of.tenant, &of.feature, &of.environment, &of.owner, &of.thread];
    let named = COUNTED.iter().zip(values);
    named.filter_map(|(name, value)| Some(((*name).to_owned(), value.as_deref()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::Period;
    use crate::domain::event::AccountKey;
    use crate::domain::ledger::Account;
    use crate::domain::limits::Declared;
    use crate::domain::report::{Beside, BudgetTable};

    const DAY: u64 = 86_400_000;

    fn budget(scope: &[(&str, &str)], each: &[&str]) -> Budget {
        Budget {
            name: "month".into(),
            scope: scope.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            each: each.iter().map(|label| (*label).to_owned()).collect(),
            cap: Money::from_micro(310),
            period: Period::Month,
            time_zone: jiff::tz::TimeZone::UTC,
            shadow: false,
            alerts_at: Vec::new(),
            declared: Declared::Default,
        }
    }

    fn rollup(day: u32, tenant: &str, micro: u64) -> (RollupKey, Rollup) {
        let of = Dimensions {
            agent: "a".into(),
            model: None,
            tenant: Some(tenant.into()),
            feature: Some("support".into()),
            environment: None,
            owner: None,
            prompt_version: "1".into(),
            thread: None,
        };
        ((Day(day), of), Rollup { settled: Money::from_micro(micro), ..Rollup::default() })
    }

    fn burned(budget: &Budget, settled: u64, rollups: &[(RollupKey, Rollup)]) -> Option<BurnDown> {
        // The third of January 1970.
        let now = Timestamp(2 * DAY + DAY / 2);
        let key = AccountKey::Budget {
            budget: "month".into(),
            scope: "tenant=acme".to_owned(),
            start: Timestamp(0),
            end: Some(Timestamp(31 * DAY)),
        };
        let account = Account { settled: Money::from_micro(settled), ..Account::default() };
        let table = BudgetTable::of(std::slice::from_ref(budget), &[(key, account)], &Beside::default(), now);
        BurnDown::of(&table.budgets[0], budget, rollups, now)
    }

    #[test]
    fn days_add_up_and_are_held_against_an_even_spending() {
        let rollups = [rollup(0, "acme", 20), rollup(2, "acme", 5), rollup(2, "acme", 6), rollup(2, "globex", 99)];
        let burned = burned(&budget(&[("feature", "support")], &["tenant"]), 31, &rollups).expect("it has days");
        let told: Vec<_> = burned
            .days
            .iter()
            .map(|day| (day.day.as_str(), day.spent_usd.pico() / 1_000_000, day.left_usd.pico() / 1_000_000))
            .collect();
        assert_eq!(told, [("1970-01-01", 20, 290), ("1970-01-02", 0, 290), ("1970-01-03", 11, 279)]);
        let even: Vec<_> = burned.days.iter().filter_map(|day| day.even_left_usd).collect();
        assert_eq!(even, [300, 290, 280].map(Money::from_micro));
        assert!(burned.adds_up);
    }

    #[test]
    fn what_no_rollup_counts_has_no_days_and_what_does_not_add_up_is_said() {
        assert_eq!(burned(&budget(&[("team", "blue")], &["tenant"]), 0, &[]), None);
        assert_eq!(burned(&budget(&[("agent", "a")], &["tenant"]), 0, &[]), None, "sub-agents count by their own");
        assert!(!burned(&budget(&[], &["tenant"]), 7, &[]).expect("it has days").adds_up);
    }
}
