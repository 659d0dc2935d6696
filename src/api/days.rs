//! How a budget's current period was spent, day by day.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::books::Books;
use super::error::ApiError;
use crate::domain::exception::ExceptionFault;
use crate::domain::report::{BudgetRow, BurnDay, BurnDown};
use crate::ids::BudgetName;
use crate::units::Money;
use crate::words::text::one_line;

/// The most characters of a name that a message repeats.
const ASKED_CHARS_MAX: usize = 64;

/// The days of an account's current period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetDays {
    /// The budget.
    pub budget: BudgetName,
    /// The values of `each`, as `tenant=acme`; empty where it has none.
    pub scope: String,
    /// When the period begins.
    pub start: String,
    /// When it ends, exclusive; null for `total`.
    pub end: Option<String>,
    /// The cap, exceptions included.
    pub cap_usd: Money,
    /// What is settled on the account.
    pub settled_usd: Money,
    /// The part of it that stands in none of the days.
    pub elsewhere_usd: Money,
    /// Days of the period that are still to come.
    pub to_come: u32,
    /// From the first day of the period to this one.
    pub days: Vec<BudgetDay>,
}

/// One day, of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetDay {
    /// The day.
    pub day: String,
    /// What it cost.
    pub spent_usd: Money,
    /// What it left of the cap.
    pub left_usd: Money,
    /// What would be left if the cap were spent evenly; null for `total`.
    pub even_left_usd: Option<Money>,
}

impl From<&BurnDay> for BudgetDay {
    fn from(day: &BurnDay) -> Self {
        let BurnDay { day, spent_usd, left_usd, even_usd } = *day;
        Self { day: day.to_string(), spent_usd, left_usd, even_left_usd: even_usd }
    }
}

impl From<(BudgetRow, BurnDown)> for BudgetDays {
    fn from((row, burnt): (BudgetRow, BurnDown)) -> Self {
        Self {
            budget: row.budget,
            scope: row.scope,
            start: row.start.to_string(),
            end: row.end.map(|end| end.to_string()),
            cap_usd: row.cap_usd,
            settled_usd: row.settled_usd,
            elsewhere_usd: burnt.elsewhere_usd,
            to_come: burnt.to_come,
            days: burnt.days.iter().map(BudgetDay::from).collect(),
        }
    }
}

impl Books {
    /// How the current period of a budget's account was spent, day by day.
    ///
    /// # Errors
    /// There is no such budget or account, its days can't be told, or not all may be seen.
    pub fn budget_days(&self, name: &str, scope: &str) -> Result<BudgetDays, ApiError> {
        let shown = one_line(name, ASKED_CHARS_MAX);
        let found = self.account(name, scope)?;
        if found.is_none() && !self.configured().iter().any(|budget| budget.name.as_str() == name) {
            return Err(ExceptionFault::Budget(shown).into());
        }
        let (row, burnt) = found.ok_or_else(|| {
            ApiError::BadRequest(format!("budget `{shown}` has no such account; `plimsoll budget {shown}` lists them"))
        })?;
        let burnt = burnt.ok_or_else(|| {
            let why = "its period is a day at most, or it counts by a label that isn't counted by day";
            ApiError::BadRequest(format!("budget `{shown}` has no days: {why}; `plimsoll budget {shown}` shows it"))
        })?;
        Ok(BudgetDays::from((row, burnt)))
    }
}
