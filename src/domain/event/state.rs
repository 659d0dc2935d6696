//! How a run stands, and how it ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::limits::Refusal;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// With an answer.
    Finished,
    /// By a limit.
    Stopped,
    /// By an error.
    Failed,
    /// By a person.
    Cancelled,
}

/// See [`Event::Ended`](super::Event::Ended).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub state: EndState,
    /// The limit, for `stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The answer, if there is one.
    #[serde(default, deserialize_with = "super::written", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The error in words, for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of a run (LEDGER, "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits to start.
    Queued,
    /// Runs.
    Running,
    /// Waits for money.
    AwaitingBudget,
    /// Waits for a person's yes.
    AwaitingApproval,
    /// Waits for a person's answer.
    AwaitingInput,
    /// The process that ran it went down; `resume` goes on.
    Interrupted,
    /// Ended with an answer.
    Finished,
    /// Ended by a limit.
    Stopped,
    /// Ended by an error.
    Failed,
    /// Ended by a person.
    Cancelled,
}

impl RunState {
    /// All of them, open ones first.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Running,
        Self::AwaitingBudget,
        Self::AwaitingApproval,
        Self::AwaitingInput,
        Self::Interrupted,
        Self::Finished,
        Self::Stopped,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::AwaitingBudget => "awaiting_budget",
            Self::AwaitingApproval => "awaiting_approval",
            Self::AwaitingInput => "awaiting_input",
            Self::Interrupted => "interrupted",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True where a person must answer before the run goes on (LEDGER rule 13).
    #[must_use]
    pub const fn awaits_person(self) -> bool {
        matches!(self, Self::AwaitingApproval | Self::AwaitingInput)
    }

    /// True where nothing more will happen.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed | Self::Cancelled)
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for RunState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(Value::String(text.to_owned())).map_err(|_| format!("`{text}` is no state of a run"))
    }
}

impl From<EndState> for RunState {
    fn from(end: EndState) -> Self {
        match end {
            EndState::Finished => Self::Finished,
            EndState::Stopped => Self::Stopped,
            EndState::Failed => Self::Failed,
            EndState::Cancelled => Self::Cancelled,
        }
    }
}
