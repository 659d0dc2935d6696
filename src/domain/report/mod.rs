//! Folds for people: a run's document, its trace, cost by dimension, budgets, the audit log.
//!
//! Invariants: amounts are exact sums of the attempts that they are made of, so that a trace's lines add up to its
//! run, runs to a report's rows, and rows to its total. Amounts serialise as decimal strings of USD. What is written as
//! JSON reads back the same, so that another process can show it.
//! Deliberately absent: rendering, widths and colours (the faces do that), and every decision: nothing reads these.

mod ask;
mod audit;
mod bounds;
mod budget;
mod burn;
mod cost;
mod csv;
mod document;
#[cfg(test)]
pub(crate) mod fixture;
pub mod focus;
mod forecast;
mod growth;
mod rate;
mod standing;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::Arc;

use crate::domain::event::{Event, Recorded};
use crate::domain::plan::Plan;
use crate::domain::run::Run;
use crate::ids::RunId;

pub use ask::AskDocument;
pub use audit::{AuditFilter, AuditLine, AuditPage, AuditTable};
pub use bounds::{BoundRatio, BoundRow, BoundTable};
pub use budget::{Beside, BudgetRow, BudgetTable, ShadowRow};
pub use burn::{BURN_DAYS_MAX, BurnDay, BurnDown};
pub use cost::{
    CostPeriod, CostRow, CostSums, CostTable, Days, Dimension, FailureSums, MOVERS_MAX, Mover, QualityLine, UnitSums,
    Values, WorthSums,
};
pub use csv::push_field;
pub use document::{CostDocument, RunDocument, SubAgentsDocument, TokenDocument};
pub use forecast::Forecast;
pub use growth::Growth;
pub use rate::{BreakerRow, BreakerState, ProviderRateRow, RateRow, RateTable};
pub use standing::LimitStanding;
pub use trace::{
    AttemptCall, AttemptLine, ChildLine, CostState, FileLine, Gave, ModelLine, ReplyLine, StepLine, TimelineEntry,
    ToolLine, Trace,
};

/// A run from its whole log; `None` where the log doesn't begin with the run's creation.
#[must_use]
pub fn replay(id: RunId, plan: Arc<Plan>, log: &[Recorded]) -> Option<Run> {
    let (first, rest) = log.split_first()?;
    let Event::Created(created) = &first.event else { return None };
    let mut run = Run::new(id, plan, created, first.at);
    rest.iter().for_each(|recorded| run.apply(recorded.at, &recorded.event));
    Some(run)
}

/// How a point in time is described.
pub(crate) struct TimeText;

written_as_text!(TimeText, "Time", "A point in time, in UTC.", {
    "format": "date-time",
    "examples": ["2026-11-30T09:00:00Z"],
});

/// Something as it prints: times as RFC 3339, places as `file:line`.
pub(in crate::domain) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::domain) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::domain) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// As [`text`], and null for nothing.
pub(in crate::domain) mod text_or_null {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::domain) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::domain) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}
