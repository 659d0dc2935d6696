//! Budgets as they stand: the accounts of current and past periods.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forecast::Forecast;
use super::{text, text_or_null};
use crate::domain::budget::{Budget, Period};
use crate::domain::event::AccountKey;
use crate::domain::exception::Exceptions;
use crate::domain::ledger::{Account, ShadowSums};
use crate::domain::limits::Declared;
use crate::ids::{BudgetName, RunId};
use crate::units::{Money, Timestamp};

/// Every account of every budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetTable {
    /// In the order of the project's file, newest period first; budgets that no file names any more come last.
    pub budgets: Vec<BudgetRow>,
}

/// One account of one budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetRow {
    /// The budget.
    pub budget: BudgetName,
    /// The values of `each`, as `tenant=acme`; empty where it has none.
    pub scope: String,
    /// How long a period is; null where no file names the budget any more.
    pub per: Option<Period>,
    /// Where it was declared.
    #[serde(with = "text_or_null")]
    #[schemars(with = "Option<String>")]
    pub declared: Option<Declared>,
    /// True for the period that it is in now.
    pub current: bool,
    /// When the period begins.
    #[serde(with = "text")]
    #[schemars(with = "super::TimeText")]
    pub start: Timestamp,
    /// When it ends, exclusive; null for `total`.
    #[serde(with = "text_or_null")]
    #[schemars(with = "Option<super::TimeText>")]
    pub end: Option<Timestamp>,
    /// The cap.
    pub cap_usd: Money,
    /// Settled, unknown money included.
    pub settled_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
    /// What open reservations hold.
    pub held_usd: Money,
    /// What may still be placed.
    pub left_usd: Money,
    /// Settled and held as a share of the cap, in basis points; null of a cap of nothing.
    pub used_basis_points: Option<u64>,
    /// The part of the cap that exceptions add.
    #[serde(default, skip_serializing_if = "Money::is_zero")]
    pub exceptions_usd: Money,
    /// What it would have refused, where it only watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowRow>,
    /// Where the period is going; null of one that never ends or is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

/// What a budget that only watches would have refused in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowRow {
    /// How many placements of money.
    pub refused: u64,
    /// What they set aside.
    pub amount_usd: Money,
    /// The run of the last one.
    pub last: Option<RunId>,
}

/// What counts beside the accounts.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Exceptions.
    pub exceptions: Exceptions,
    /// What budgets that only watch would have refused.
    pub shadowed: BTreeMap<AccountKey, ShadowSums>,
}

impl BudgetTable {
    /// The accounts of the project's budgets, and of those that it had; accounts of runs are passed over. A budget
    /// without `each` has a row for the current period even before its first run.
    #[must_use]
    pub fn of(budgets: &[Budget], accounts: &[(AccountKey, Account)], beside: &Beside, now: Timestamp) -> Self {
        let mut rows: Vec<BudgetRow> =
            accounts.iter().filter_map(|(key, account)| row(budgets, key, account, beside, now)).collect();
        for budget in budgets.iter().filter(|budget| budget.each.is_empty()) {
            let (start, end) = budget.period.window(&budget.time_zone, now);
            if !rows.iter().any(|row| row.budget == budget.name && (row.start, row.end) == (start, end)) {
                let key = budget.account_of(String::new(), now);
                rows.extend(row(budgets, &key, &Account::default(), beside, now));
            }
        }
        let place = |name: &BudgetName| budgets.iter().position(|budget| budget.name == *name).unwrap_or(usize::MAX);
        rows.sort_by(|a, b| {
            let order = |row: &BudgetRow| (place(&row.budget), row.budget.clone(), std::cmp::Reverse(row.start));
            order(a).cmp(&order(b)).then_with(|| a.scope.cmp(&b.scope))
        });
        Self { budgets: rows }
    }
}

fn row(budgets: &[Budget], key: &AccountKey, account: &Account, beside: &Beside, now: Timestamp) -> Option<BudgetRow> {
    let AccountKey::Budget { budget: name, scope, start, end } = key else { return None };
    let budget = budgets.iter().find(|budget| budget.name == *name);
    // What a budget counts against is in its own period; another may have been before its file was changed.
    let current = match budget {
        Some(budget) => (*start, *end) == budget.period.window(&budget.time_zone, now),
        None => *start <= now && end.is_none_or(|end| now < end),
    };
    // The live cap binds from now on; a period that is over is shown as it was last judged.
    let added = if current { beside.exceptions.added(name, scope, now) } else { Money::ZERO };
    let cap = budget.filter(|_| current).map_or(account.cap, |budget| budget.cap.plus(added));
    let shadow =
        budget.is_some_and(|budget| budget.shadow).then(|| beside.shadowed.get(key).copied().unwrap_or_default());
    let used = account.settled.plus(account.held);
    Some(BudgetRow {
        budget: name.clone(),
        scope: scope.clone(),
        per: budget.map(|budget| budget.period),
        declared: budget.map(|budget| budget.declared.clone()),
        current,
        start: *start,
        end: *end,
        cap_usd: cap,
        settled_usd: account.settled,
        unknown_usd: account.unknown,
        held_usd: account.held,
        left_usd: cap.left_after(used),
        used_basis_points: used.basis_points_of(cap),
        exceptions_usd: added,
        shadow: shadow.map(|ShadowSums { refused, amount, last }| ShadowRow { refused, amount_usd: amount, last }),
        forecast: budget.and_then(|_| Forecast::of(key, account, cap, now)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::fixture::START;

    fn budget(name: &str, period: Period, each: &[&str]) -> Budget {
        Budget {
            name: name.into(),
            scope: BTreeMap::new(),
            each: each.iter().map(|label| (*label).to_owned()).collect(),
            cap: Money::from_micro(1_000_000),
            period,
            time_zone: jiff::tz::TimeZone::UTC,
            shadow: false,
            alerts_at: Vec::new(),
            declared: Declared::At { file: "plimsoll.toml".into(), line: 7 },
        }
    }

    fn account(name: &str, scope: &str, start: u64, end: Option<u64>, settled: u64) -> (AccountKey, Account) {
        let (start, end) = (Timestamp(start), end.map(Timestamp));
        let key = AccountKey::Budget { budget: name.into(), scope: scope.into(), start, end };
        let held = Money::from_micro(50_000);
        let cap = Money::from_micro(500_000);
        (key, Account { cap, settled: Money::from_micro(settled), unknown: Money::ZERO, held })
    }

    #[test]
    fn current_and_past_periods_are_told_apart() {
        let (day, now) = (86_400_000, START);
        let today = now.0 / day * day;
        let budgets = [budget("tenant-day", Period::Day, &["tenant"]), budget("all", Period::Total, &[])];
        let accounts = [
            account("gone", "", 0, Some(1), 7),
            account("tenant-day", "tenant=a", today - day, Some(today), 10),
            account("tenant-day", "tenant=a", today, Some(today + day), 250_000),
        ];
        let table = BudgetTable::of(&budgets, &accounts, &Beside::default(), now);
        let text = serde_json::to_string(&table).expect("JSON");
        assert_eq!(serde_json::from_str::<BudgetTable>(&text).expect("it reads back"), table);
        let told: Vec<_> =
            table.budgets.iter().map(|row| (row.budget.as_str(), row.current, row.cap_usd.usd())).collect();
        let expected =
            [("tenant-day", true, "1"), ("tenant-day", false, "0.5"), ("all", true, "1"), ("gone", false, "0.5")];
        assert_eq!(told, expected.map(|(name, current, cap)| (name, current, cap.to_owned())));
        let row = &table.budgets[0];
        assert_eq!((row.left_usd.usd().as_str(), row.used_basis_points), ("0.7", Some(3_000)));
    }
}
