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
