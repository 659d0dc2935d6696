//! Facts of people: what they were asked, what they answered, and runs that wait for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Place, RunState};
use crate::ids::ToolName;
use crate::units::Timestamp;

/// See [`super::Event::PersonAsked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonAsked {
    /// The call that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The tool of that call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// The question, in words.
    pub question: String,
    /// Its number in the run, from 0; `None` in logs of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u32>,
    /// What is asked for. `None` is a call in flight, as version 1 asked for it: the run waits at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<AskKind>,
    /// Which lane waits for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What the person sees and may edit: the arguments, or what a stage shows.
    #[serde(default, deserialize_with = "super::written", skip_serializing_if = "Option::is_none")]
    pub shown: Option<Value>,
    /// Hash of what is shown: 16 hexadecimal digits. An answer names it, so that nobody approves what they didn't see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_hash: Option<String>,
    /// Until when an answer is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl PersonAsked {
    /// Asks about a call that was in flight when the process went down; the run waits at once.
    #[must_use]
    pub fn in_flight(call_id: String, tool: ToolName, question: String) -> Self {
        Self {
            call_id: Some(call_id),
            tool: Some(tool),
            question,
            ask: None,
            what: None,
            place: None,
            shown: None,
            shown_hash: None,
            until: None,
        }
    }
}

/// What a person is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// Whether a call that was in flight is made again.
    InFlight,
    /// Whether a call of a tool with `approval = "always"` is made.
    Call,
    /// An `approval` stage's yes.
    Stage,
    /// An answer to the model's own question.
    Input,
}

impl AskKind {
    /// Its name in logs and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Call => "call",
            Self::Stage => "stage",
            Self::Input => "input",
        }
    }

    /// The state of a run that waits for this.
    #[must_use]
    pub const fn state(self) -> RunState {
        match self {
            Self::InFlight | Self::Call | Self::Stage => RunState::AwaitingApproval,
            Self::Input => RunState::AwaitingInput,
        }
    }
}

/// See [`super::Event::PersonAnswered`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonAnswered {
    /// The question's number in the run; `None` for a question of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u32>,
    /// What was decided.
    pub decision: Decision,
    /// Who; `plimsoll` where the time was up.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Hash of what they saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_hash: Option<String>,
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Yes; with other arguments, or another value, where it was edited.
    Allow {
        /// What stands for what was shown.
        #[serde(default, deserialize_with = "super::written", skip_serializing_if = "Option::is_none")]
        edited: Option<Value>,
    },
    /// No.
    Deny,
    /// This stands in the place of what the call would give.
    Answer {
        /// The answer.
        value: Value,
    },
    /// Nobody answered in time.
    Expired,
}

/// See [`super::Event::Parked`]. In the log of every open run of the tree. Closes active time, holds nothing (LEDGER rule 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// What the run waits for: [`RunState::AwaitingApproval`] or [`RunState::AwaitingInput`].
    pub state: RunState,
    /// When the first of its questions is no longer open.
    pub until: Timestamp,
}

/// See [`super::Event::InFlightResolved`]. Read from logs of version 1; newer ones have [`PersonAnswered`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlightResolved {
    /// The call.
    pub call_id: String,
    /// Run it again, or tell the model that its outcome is unknown.
    pub rerun: bool,
    /// Who says so.
    pub by: String,
}
