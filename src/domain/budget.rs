//! Budgets: a cap over a scope of labels and a calendar period.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::limits::Declared;
use crate::ids::BudgetName;
use crate::units::Money;

/// A cap over a scope and a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: BudgetName,
    /// Labels that a run must have for the budget to count it; empty for every run.
    pub scope: BTreeMap<String, String>,
    /// Labels whose every value has an account of its own; a run without one of them is refused.
    pub each: Vec<String>,
    /// The cap of each account.
    pub cap: Money,
    /// How long a period is.
    pub period: Period,
    /// Where the day begins.
    pub time_zone: jiff::tz::TimeZone,
    /// Where it was declared.
    pub declared: Declared,
}

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour.
    Hour,
    /// A calendar day: 23 to 25 hours.
    Day,
    /// An ISO week, from Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar quarter.
    Quarter,
    /// For ever.
    Total,
}

impl Budget {
    /// True where a run with these labels counts against this budget.
    #[must_use]
    pub fn matches(&self, labels: &crate::domain::event::Labels) -> bool {
        self.scope.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// The values of `each` for these labels, as `tenant=acme,user=7`; the missing label as the error.
    ///
    /// # Errors
    /// The name of a label of `each` that the run hasn't.
    pub fn scope_value(&self, labels: &crate::domain::event::Labels) -> Result<String, String> {
        let values: Result<Vec<String>, String> = self
            .each
            .iter()
            .map(|key| labels.get(key).map(|value| format!("{key}={value}")).ok_or_else(|| key.clone()))
            .collect();
        Ok(values?.join(","))
    }
}

impl Period {
    /// The period that contains a point in time.
    #[must_use]
    pub fn window(
        self,
        _zone: &jiff::tz::TimeZone,
        at: crate::units::Timestamp,
    ) -> (crate::units::Timestamp, Option<crate::units::Timestamp>) {
        match self {
            Self::Total => (crate::units::Timestamp(0), None),
            Self::Hour | Self::Day | Self::Week | Self::Month | Self::Quarter => {
                let start = at.0 / 86_400_000 * 86_400_000;
                (crate::units::Timestamp(start), Some(crate::units::Timestamp(start + 86_400_000)))
            }
        }
    }
}
