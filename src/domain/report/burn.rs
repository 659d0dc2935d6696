//! What an account of a budget spent in its period, day by day, and what each day left of its cap.
//!
//! Days are those of the rollups, in UTC. What they don't tell of the account stands apart, so that the days and it add up to
//! what the account has settled.

use std::collections::BTreeMap;

use super::{BudgetRow, Days, Dimension};
use crate::domain::budget::{Budget, Period};
use crate::domain::event::Labels;
use crate::domain::rollup::{Day, Rollup, RollupKey};
use crate::units::{Millis, Money, Timestamp};

/// The most days that are told apart.
pub const BURN_DAYS_MAX: u32 = 92;

/// An account's period, day by day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurnDown {
    /// From the period's first day, or the first of the last [`BURN_DAYS_MAX`], up to today.
    pub days: Vec<BurnDay>,
    /// Days of the period that are still to come.
    pub to_come: u32,
    /// What is settled and stands in none of the days: it was spent before them, or by agents below one that the budget names.
    pub elsewhere_usd: Money,
}

/// One day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurnDay {
    /// The day.
    pub day: Day,
    /// What it cost.
    pub spent_usd: Money,
    /// What it left of the cap.
    pub left_usd: Money,
    /// What would be left at its end if the cap were spent evenly; none where the period never ends.
    pub even_usd: Option<Money>,
}

impl BurnDown {
    /// The days that are looked at of an account's current period.
    #[must_use]
    pub fn days(row: &BudgetRow, now: Timestamp) -> Days {
        let to = Day::of(now);
        Days { from: Day::of(row.start).max(Day(to.0.saturating_sub(BURN_DAYS_MAX - 1))), to }
    }

    /// What is true for rollups that count on an account of a budget; for none where it counts by a label that rollups don't.
    pub fn counted<'a>(budget: &'a Budget, scope: &'a str) -> impl Fn(&RollupKey) -> bool + 'a {
        let labels = counted_labels(budget);
        move |(day, of)| {
            let Some(labels) = &labels else { return false };
            let value = |(name, dimension): &(String, Dimension)| Some((name.clone(), dimension.value(*day, of)?));
            let own: Labels = labels.iter().filter_map(value).collect();
            budget.matches(&own) && budget.scope_value(&own).is_ok_and(|own| own == scope)
        }
    }

    /// From the rollups of those days. Nothing where days can't be told: the period is shorter than a few of them, or the
    /// budget counts by a label that rollups don't.
    #[must_use]
    pub fn of<'a>(
        budget: &Budget,
        row: &BudgetRow,
        rollups: impl IntoIterator<Item = &'a (RollupKey, Rollup)>,
        now: Timestamp,
    ) -> Option<Self> {
        if matches!(budget.period, Period::Hour | Period::Day) {
            return None;
        }
        counted_labels(budget)?;
        let counts = Self::counted(budget, &row.scope);
        let mut spent: BTreeMap<Day, Money> = BTreeMap::new();
        for (key, rollup) in rollups {
            if counts(key) {
                let sum = spent.entry(key.0).or_default();
                *sum = sum.plus(rollup.settled);
            }
        }
        let Days { from, to } = Self::days(row, now);
        let elsewhere = row.settled_usd.left_after(spent.values().copied().sum());
        let mut left = row.cap_usd.left_after(elsewhere);
        let day = |day: u32| {
            let day = Day(day);
            let spent_usd = spent.get(&day).copied().unwrap_or_default();
            left = left.left_after(spent_usd);
            BurnDay { day, spent_usd, left_usd: left, even_usd: even(row, day) }
        };
        let last = row.end.map_or(to, |end| Day::of(Timestamp(end.0.saturating_sub(1))));
        let days = (from.0..=to.0).map(day).collect();
        Some(Self { days, to_come: last.0.saturating_sub(to.0), elsewhere_usd: elsewhere })
    }
}

/// The labels by which a budget counts, as dimensions of rollups; nothing where one isn't.
fn counted_labels(budget: &Budget) -> Option<Vec<(String, Dimension)>> {
    let label = |name: &String| {
        let dimension = Dimension::named(name)?;
        let is_label = !matches!(dimension, Dimension::Model | Dimension::PromptVersion | Dimension::Day);
        is_label.then(|| (name.clone(), dimension))
    };
    budget.scope.keys().chain(&budget.each).map(label).collect()
}

/// What an even spending leaves at the end of a day.
fn even(row: &BudgetRow, day: Day) -> Option<Money> {
    let end = row.end?;
    let length = end.since(row.start).0.max(1);
    let until = day.start().after(Millis::from_secs(86_400)).min(end);
    let rest = end.since(until).0;
    row.cap_usd.pico().checked_mul(rest.into()).map(|scaled| Money::from_pico(scaled / u128::from(length)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::event::AccountKey;
    use crate::domain::ledger::Account;
    use crate::domain::limits::Declared;
    use crate::domain::report::{Beside, BudgetTable};
    use crate::domain::rollup::Dimensions;

    fn budget(each: &str, period: Period) -> Budget {
        Budget {
            name: "month".into(),
            scope: BTreeMap::from([("feature".to_owned(), "support".to_owned())]),
            each: vec![each.to_owned()],
            cap: Money::from_micro(300),
            period,
            time_zone: jiff::tz::TimeZone::UTC,
            shadow: false,
            alerts_at: Vec::new(),
            declared: Declared::Default,
        }
    }

    fn rollup(day: &str, tenant: &str, feature: &str, micro: u64) -> (RollupKey, Rollup) {
        let text = |text: &str| Some(Arc::from(text));
        let of = Dimensions {
            agent: "a".into(),
            model: None,
            tenant: text(tenant),
            feature: text(feature),
            environment: None,
            owner: None,
            prompt_version: Arc::from("p"),
            thread: None,
        };
        ((Day::parse(day).expect("a day"), of), Rollup { settled: Money::from_micro(micro), ..Rollup::default() })
    }

    #[test]
    fn days_and_what_they_dont_tell_are_what_the_account_settled() {
        let now: Timestamp = "2026-11-03T12:00:00Z".parse().expect("a time");
        let budget = budget("tenant", Period::Month);
        let (start, end) = budget.period.window(&budget.time_zone, now);
        let key = AccountKey::Budget { budget: budget.name.clone(), scope: "tenant=a%2Cb".to_owned(), start, end };
        let account = Account { settled: Money::from_micro(70), cap: budget.cap, ..Account::default() };
        let table = BudgetTable::of(std::slice::from_ref(&budget), &[(key, account)], &Beside::default(), now);
        let rollups = [
            rollup("2026-11-01", "a,b", "support", 40),
            rollup("2026-11-03", "a,b", "support", 20),
            rollup("2026-11-03", "a,b", "search", 7),
            rollup("2026-11-03", "c", "support", 9),
        ];
        let burnt = BurnDown::of(&budget, &table.budgets[0], &rollups, now).expect("days");
        let spent: Vec<(String, u64, u64)> = burnt
            .days
            .iter()
            .map(|day| (day.day.to_string(), day.spent_usd, day.left_usd))
            .map(|(day, spent, left)| (day, micro(spent), micro(left)))
            .collect();
        let expected = [("2026-11-01", 40, 250), ("2026-11-02", 0, 250), ("2026-11-03", 20, 230)];
        assert_eq!(spent, expected.map(|(day, spent, left)| (day.to_owned(), spent, left)));
        assert_eq!((burnt.to_come, burnt.elsewhere_usd), (27, Money::from_micro(10)));
        assert_eq!(burnt.days[2].even_usd, Some(Money::from_micro(270)));
        let told = burnt.days.iter().map(|day| day.spent_usd).sum::<Money>().plus(burnt.elsewhere_usd);
        assert_eq!(told, table.budgets[0].settled_usd);
    }

    fn micro(amount: Money) -> u64 {
        u64::try_from(amount.pico() / 1_000_000).expect("little")
    }

    #[test]
    fn what_rollups_dont_count_apart_has_no_days() {
        let now: Timestamp = "2026-11-03T12:00:00Z".parse().expect("a time");
        for (each, period) in [("user", Period::Month), ("model", Period::Month), ("tenant", Period::Day)] {
            let budget = Budget { each: Vec::new(), ..budget(each, period) };
            let table = BudgetTable::of(std::slice::from_ref(&budget), &[], &Beside::default(), now);
            let budget = Budget { each: vec![each.to_owned()], ..budget };
            assert_eq!(BurnDown::of(&budget, &table.budgets[0], &[], now), None, "{each}");
        }
    }
}
