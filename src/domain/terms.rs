//! What the project's files declare of budgets and prices, as the audit log last knew it.
//!
//! Files change without anybody telling the store. Whoever opens it to run something compares, and each difference becomes an
//! entry of the audit log. Deliberately absent: the rules themselves, which are the ledger's and the price book's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::audit::{AuditEntry, Change};
use super::budget::{Budget, Period};
use super::event::Labels;
use super::plan::hex;
use super::policy::Share;
use super::pricing::{PriceBook, PriceRow};
use crate::ids::{BudgetName, PriceId};
use crate::units::Money;

/// What a budget allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetTerms {
    /// The cap of each account.
    pub cap: Money,
    /// How long a period is.
    pub period: Period,
    /// Where the day begins.
    pub time_zone: String,
    /// Labels that a run must have for the budget to count it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub scope: Labels,
    /// Labels whose every value has an account of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<String>,
    /// True where it refuses nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Shares of the cap at which people are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts_at: Vec<Share>,
}

impl From<&Budget> for BudgetTerms {
    fn from(budget: &Budget) -> Self {
        Self {
            cap: budget.cap,
            period: budget.period,
            time_zone: budget.time_zone.iana_name().unwrap_or_default().to_owned(),
            scope: budget.scope.clone(),
            each: budget.each.clone(),
            shadow: budget.shadow,
            alerts_at: budget.alerts_at.clone(),
        }
    }
}

impl fmt::Display for BudgetTerms {
    /// `$500.00 per month (Europe/Berlin) for each tenant, of feature=support`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.cap, self.period.name())?;
        if !self.time_zone.is_empty() && self.time_zone != "UTC" {
            write!(f, " ({})", self.time_zone)?;
        }
        if !self.each.is_empty() {
            write!(f, " for each {}", self.each.join(" and "))?;
        }
        let scope: Vec<String> = self.scope.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !scope.is_empty() {
            write!(f, ", of {}", scope.join(" "))?;
        }
        if self.shadow {
            f.write_str(", watching only")?;
        }
        let shares: Vec<String> = self.alerts_at.iter().map(ToString::to_string).collect();
        if shares.is_empty() { Ok(()) } else { write!(f, ", alerts at {}", shares.join(" and ")) }
    }
}

/// See [`Change::BudgetChanged`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetChanged {
    /// The budget.
    pub budget: BudgetName,
    /// As it was; `None` for one that is new.
    pub before: Option<BudgetTerms>,
    /// As it is; `None` for one that is gone.
    pub after: Option<BudgetTerms>,
}

/// See [`Change::PricesChanged`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricesChanged {
    /// The built-in book, where it is another: a hash of its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book: Option<String>,
    /// Rows of the project that are new.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub added: BTreeSet<PriceId>,
    /// Rows of the project that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<PriceId>,
}

/// What is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    budgets: BTreeMap<BudgetName, BudgetTerms>,
    prices: BTreeSet<PriceId>,
    book: String,
}

impl Terms {
    /// Those of budgets, and of prices that stand over the built-in ones.
    #[must_use]
    pub fn declared(budgets: &[Budget], prices: &[PriceRow], builtin: &PriceBook) -> Self {
        Self {
            budgets: budgets.iter().map(|budget| (budget.name.clone(), budget.into())).collect(),
            prices: prices.iter().map(|row| row.id.clone()).collect(),
            book: name_of(builtin),
        }
    }

    /// Goes on to the next entry of the audit log.
    pub fn apply(&mut self, entry: &AuditEntry) {
        if let Change::BudgetChanged(changed) = &entry.change {
            self.budgets.remove(&changed.budget);
            self.budgets.extend(changed.after.clone().map(|after| (changed.budget.clone(), after)));
        }
        if let Change::PricesChanged(changed) = &entry.change {
            self.prices.retain(|row| !changed.removed.contains(row));
            self.prices.extend(changed.added.iter().cloned());
            self.book = changed.book.clone().unwrap_or_else(|| std::mem::take(&mut self.book));
        }
    }

    /// What makes these terms those that are declared.
    #[must_use]
    pub fn changes_to(&self, declared: &Self) -> Vec<Change> {
        let names: BTreeSet<&BudgetName> = self.budgets.keys().chain(declared.budgets.keys()).collect();
        let change = |name: &BudgetName| {
            let (before, after) = (self.budgets.get(name).cloned(), declared.budgets.get(name).cloned());
            (before != after)
                .then(|| Change::BudgetChanged(Box::new(BudgetChanged { budget: name.clone(), before, after })))
        };
        let mut changes: Vec<Change> = names.into_iter().filter_map(change).collect();
        let prices = PricesChanged {
            book: (self.book != declared.book).then(|| declared.book.clone()),
            added: declared.prices.difference(&self.prices).cloned().collect(),
            removed: self.prices.difference(&declared.prices).cloned().collect(),
        };
        changes.extend((prices != PricesChanged::default()).then(|| Change::PricesChanged(Box::new(prices))));
        changes
    }
}

/// Names a book after its rows: `293 rows, 1f2e3d4c`.
fn name_of(book: &PriceBook) -> String {
    let (mut hasher, mut count) = (Sha256::new(), 0_u32);
    for row in book.rows() {
        hasher.update(row.id.to_string().as_bytes());
        hasher.update([0]);
        count += 1;
    }
    format!("{count} rows, {}", hex(&hasher.finalize()[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Author;
    use crate::units::Timestamp;

    fn terms(cap: u64, prices: &[&str], book: &str) -> Terms {
        let month = BudgetTerms {
            cap: Money::from_micro(cap),
            period: Period::Month,
            time_zone: "Europe/Berlin".to_owned(),
            scope: [("feature".to_owned(), "support".to_owned())].into(),
            each: vec!["tenant".to_owned()],
            shadow: true,
            alerts_at: vec![Share(5_000), Share(9_000)],
        };
        Terms {
            budgets: (cap > 0).then(|| ("month".into(), month)).into_iter().collect(),
            prices: prices.iter().map(|row| PriceId::from(*row)).collect(),
            book: book.to_owned(),
        }
    }

    #[test]
    fn what_is_noted_makes_the_terms_those_that_are_declared() {
        let mut known = Terms::default();
        let steps = [
            (terms(5_000_000, &["m@d#1"], "1 row"), 2),
            (terms(5_000_000, &["m@d#1"], "1 row"), 0),
            (terms(6_000_000, &["m@d#1"], "1 row"), 1),
            (terms(6_000_000, &["m@d#2", "n@d#3"], "2 rows"), 1),
            (terms(0, &[], "2 rows"), 2),
        ];
        for (number, (declared, expected)) in steps.into_iter().enumerate() {
            let changes = known.changes_to(&declared);
            assert_eq!(changes.len(), expected, "{number}: {changes:?}");
            for change in changes {
                let text = serde_json::to_string(&change).expect("it is written");
                let change = serde_json::from_str(&text).expect("it reads");
                known.apply(&AuditEntry { number: 0, at: Timestamp(0), by: Author::Files("ann".into()), change });
            }
            assert_eq!(known, declared, "{number}");
        }
    }

    #[test]
    fn terms_in_words() {
        let terms = terms(5_000_000, &[], "").budgets.into_values().next().expect("a budget");
        let words =
            "$5.00 per month (Europe/Berlin) for each tenant, of feature=support, watching only, alerts at 50% and 90%";
        assert_eq!(terms.to_string(), words);
    }
}
