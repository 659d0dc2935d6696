//! Facts of workflows and trees: maps, stages that are over, and runs that run below others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AccountKey, Ended, StepKey};
use crate::domain::limits::Refusal;
use crate::domain::pricing::Usage;
use crate::ids::{AgentName, RunId, StageName};
use crate::units::{Money, Tokens};

/// Where in a workflow: a stage, or one item of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The stage.
    pub stage: StageName,
    /// The item of the map, from 0; `None` for the stage itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

impl Place {
    /// A stage itself.
    #[must_use]
    pub const fn stage(stage: StageName) -> Self {
        Self { stage, item: None }
    }

    /// The step of this number here.
    #[must_use]
    pub fn step(&self, step: u32) -> StepKey {
        StepKey { stage: self.stage.clone(), step, item: self.item }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.item {
            None => write!(f, "{}", self.stage),
            Some(item) => write!(f, "{}[{item}]", self.stage),
        }
    }
}

/// See [`super::Event::MapBegan`]. Rides with the reservation of the first item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapBegan {
    /// The stage.
    pub stage: StageName,
    /// What it goes over: at most `items`, at most 1 MiB. Kept, so that a replay needs no template engine.
    pub items: Vec<Value>,
}

/// How a stage, or one item of a map, was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageEnd {
    /// With an output.
    Finished,
    /// Its `when` said no: its output is null.
    Skipped,
    /// By an error.
    Failed,
    /// By a limit.
    Stopped,
}

impl StageEnd {
    /// Its name in output, templates (`stages.ID.state`) and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// See [`super::Event::StageEnded`]. Rides with the settlement that ended it and with the next reservation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageEnded {
    /// The stage, or one item of it.
    pub place: Place,
    /// How.
    pub end: StageEnd,
    /// What it gave; null where it gave nothing.
    #[serde(default)]
    pub output: Value,
    /// The limit, for `stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The error in words, for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl StageEnded {
    /// A stage that a limit stopped, without anything to show for it.
    #[must_use]
    pub const fn stopped(stage: StageName, refusal: Refusal) -> Self {
        let place = Place::stage(stage);
        Self { place, end: StageEnd::Stopped, output: Value::Null, refusal: Some(refusal), error: None }
    }
}

/// The call of a model that a sub-agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCall {
    /// The provider's id of the call.
    pub call_id: String,
    /// The step that it counts as.
    pub step: u32,
    /// Hash of tool and arguments, for `repeats`: 16 hexadecimal digits.
    pub arguments_hash: String,
}

/// See [`super::Event::ChildBegan`]. In the parent's log; rides with the child's `Created`, `Admitted` and first reservation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildBegan {
    /// The child's run.
    pub child: RunId,
    /// Its agent: a key of the parent's plan's `agents`.
    pub agent: AgentName,
    /// Where it was called.
    pub place: Place,
    /// The call that it answers; `None` where it is the stage's own work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ChildCall>,
}

/// See [`super::Event::ChildEnded`]. In the parent's log; always in one write with the child's own `Ended`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildEnded {
    /// The child's run.
    pub child: RunId,
    /// How it ended.
    pub end: Ended,
    /// What it and the runs below it came to.
    pub spent: Spent,
}

/// What a run, or a part of one, has come to: what its ancestors count. None of it ever falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Passages through the gate.
    pub steps: u32,
    /// Steps that call a model.
    pub model_calls: u32,
    /// Steps that call a tool.
    pub tool_calls: u32,
    /// Tries of model calls.
    pub attempts: u32,
    /// Runs below.
    pub children: u32,
    /// Input tokens for the token limits.
    pub input: Tokens,
    /// Output tokens for the token limits.
    pub output: Tokens,
    /// Tokens as they were reported.
    pub usage: Usage,
    /// What was settled, unknown money included.
    pub settled: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown: Money,
}

impl Spent {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            steps: self.steps.saturating_add(other.steps),
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tool_calls: self.tool_calls.saturating_add(other.tool_calls),
            attempts: self.attempts.saturating_add(other.attempts),
            children: self.children.saturating_add(other.children),
            input: self.input.plus(other.input),
            output: self.output.plus(other.output),
            usage: self.usage.plus(&other.usage),
            settled: self.settled.plus(other.settled),
            unknown: self.unknown.plus(other.unknown),
        }
    }
}

/// See [`super::Event::PeriodMoved`]. In the root's log, before the reservation of a child that met a new period (LEDGER
/// rule 14), whose `budgets` is then `None`. Written by the ledger alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodMoved {
    /// The budget accounts on the root's path from here on.
    pub budgets: Vec<AccountKey>,
}

/// The label that names a run's thread.
pub const THREAD: &str = "thread";

/// The conversation that a run goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadLink {
    /// The thread.
    pub id: String,
    /// The run of it before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RunId>,
}
