//! A question of a run, for people and for JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::event::{AskKind, Place};
use crate::domain::run::{Asking, Run};
use crate::ids::{RunId, ToolName};
use crate::units::Timestamp;

/// A question that nobody has answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AskDocument {
    /// The run that asks.
    pub run: RunId,
    /// Its number there: what an answer names.
    pub ask: u32,
    /// What is asked for.
    pub what: AskKind,
    /// The stage that waits, or the item of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The tool that would be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// The question, in words.
    pub question: String,
    /// What is approved, and may be edited: the arguments, or what a stage shows.
    pub shown: Value,
    /// Its hash: an answer may name it.
    pub shown_hash: String,
    /// When it was asked.
    #[serde(with = "super::text")]
    #[schemars(with = "super::TimeText")]
    pub asked: Timestamp,
    /// Until when an answer is taken.
    #[serde(with = "super::text")]
    #[schemars(with = "super::TimeText")]
    pub until: Timestamp,
    /// True once that time has passed: the run goes on without an answer.
    pub expired: bool,
    /// The limit that sets that time, and where it stands.
    pub limit: String,
}

impl AskDocument {
    /// Every question of a run that nobody has answered.
    #[must_use]
    pub fn of(run: &Run, now: Timestamp) -> Vec<Self> {
        run.unanswered().map(|asking| Self::one(run, asking, now)).collect()
    }

    fn one(run: &Run, asking: &Asking, now: Timestamp) -> Self {
        let by = run.waits_by(asking);
        Self {
            run: run.id,
            ask: asking.number,
            what: asking.kind,
            place: asking.place.clone(),
            tool: asking.tool.clone(),
            question: asking.question.clone(),
            shown: asking.shown.clone(),
            shown_hash: asking.shown_hash.clone(),
            asked: asking.since,
            until: asking.until,
            expired: !asking.is_open(now),
            limit: format!("`{}` is {} ({})", by.limit, by.value, by.declared),
        }
    }
}
