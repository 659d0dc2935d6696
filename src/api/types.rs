//! What is asked and answered, beside the documents of [`crate::domain::report`].

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::act::nobody_named;
use super::error::ApiError;
use crate::domain::event::{Decision, Labels, RunState, THREAD};
use crate::domain::limits::LimitKind;
use crate::domain::message::GivenFile;
use crate::domain::outcome::Outcome;
use crate::domain::policy::PRIORITY;
use crate::domain::report::{CostDocument, TokenDocument};
use crate::domain::run::Given;
use crate::domain::summary::{AskLine, RunSummary};
use crate::ids::{AgentName, RunId};
use crate::units::{Millis, Money};

/// The most characters of a reason.
pub const REASON_CHARS_MAX: usize = 500;
/// The longest that one request waits for a run.
pub const WAIT_TIME_MAX: Millis = Millis::from_secs(20);
const _: () = assert!(WAIT_TIME_MAX.0 == 20_000, "what is told of `wait` says 20 s");

/// Runs, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunRow>,
    /// What `before` must be for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RunId>,
}

/// A run's document, as far as a list knows it, and what it is found by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The agent.
    pub agent: AgentName,
    /// Where it stands.
    pub state: RunState,
    /// The limit that it met last.
    pub limit: Option<LimitKind>,
    /// What it cost, with the runs below it that have ended.
    pub cost: CostDocument,
    /// What it was worth, as far as anybody said.
    #[serde(default, skip_serializing_if = "Outcome::is_empty")]
    pub outcome: Outcome,
    /// The most that it can cost.
    pub load_line_usd: Money,
    /// Passages through the gate.
    pub steps: u32,
    /// Steps that called a model.
    pub model_calls: u32,
    /// Steps that called a tool.
    pub tool_calls: u32,
    /// Tries of model calls.
    pub attempts: u32,
    /// Tokens of the attempts that reported them.
    pub tokens: TokenDocument,
    /// Active time in milliseconds.
    pub wall_ms: Millis,
    /// The error in words, for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The run that called it, for a sub-agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// The questions to people that are open, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<AskLine>,
    /// When it was created.
    pub created: String,
    /// When it ended.
    pub ended: Option<String>,
    /// All labels.
    pub labels: Arc<Labels>,
    /// The caller's key.
    pub key: Option<String>,
    /// True where the simulated provider answers.
    pub simulated: bool,
}

impl From<&RunSummary> for RunRow {
    fn from(run: &RunSummary) -> Self {
        let below = &run.children;
        Self {
            run: run.id,
            agent: run.agent.clone(),
            state: run.state,
            limit: run.limit,
            cost: CostDocument {
                settled_usd: run.settled.plus(below.settled),
                unknown_usd: run.unknown.plus(below.unknown),
                held_usd: run.held,
            },
            outcome: run.outcome(),
            load_line_usd: run.load_line,
            steps: run.steps.saturating_add(below.steps),
            model_calls: run.model_calls.saturating_add(below.model_calls),
            tool_calls: run.tool_calls.saturating_add(below.tool_calls),
            attempts: run.attempts.saturating_add(below.attempts),
            tokens: TokenDocument::from(&run.usage.plus(&below.usage)),
            wall_ms: run.active,
            error: run.error.as_deref().map(str::to_owned),
            parent: run.parent.as_ref().map(|parent| parent.run),
            asked: run.asked.clone(),
            created: run.created.to_string(),
            ended: run.ended.map(|ended| ended.to_string()),
            labels: Arc::clone(&run.labels),
            key: run.key.as_deref().map(str::to_owned),
            simulated: run.simulated,
        }
    }
}

/// The body of `POST /v1/runs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The agent.
    pub agent: AgentName,
    /// Its input: a text, or what its input schema asks for.
    #[serde(default)]
    pub input: Value,
    /// Labels, such as `{"tenant": "acme"}`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Images and documents that go with the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRequest>,
    /// The thread that it goes on with; the same as the label `thread`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// `low`, `normal` or `high`; the same as the label `priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// How long to wait for the run's end, such as `20s`, at most 20 s. Without it the answer comes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// A file that goes with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRequest {
    /// What the user calls it.
    pub name: String,
    /// Its bytes, in base64.
    pub data: String,
}

impl FileRequest {
    fn given(&self) -> Result<GivenFile, ApiError> {
        let bad = |why: String| ApiError::BadRequest(why);
        let shown: String = self.name.escape_debug().take(64).collect();
        let bytes = STANDARD.decode(&self.data);
        let bytes =
            bytes.map_err(|_| bad(format!("the `data` of file `{shown}` isn't base64; encode its bytes so")))?;
        GivenFile::of(&self.name, &bytes).map_err(|error| bad(error.to_string()))
    }
}

impl RunRequest {
    /// The files that it gives.
    ///
    /// # Errors
    /// One that isn't base64, is too large, or is neither an image nor a document.
    pub fn files(&self) -> Result<Vec<GivenFile>, ApiError> {
        self.files.iter().map(FileRequest::given).collect()
    }

    /// All labels that it gives.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let named = [(THREAD, &self.thread), (PRIORITY, &self.priority)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        self.labels.clone().into_iter().chain(named).collect()
    }
}

/// The body of `POST /v1/runs/{id}/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why; kept in the trace.
    #[serde(default = "no_reason")]
    pub reason: String,
    /// How long to wait for the run's end, such as `20s`, at most 20 s. Without it the answer comes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

impl Default for CancelRequest {
    fn default() -> Self {
        Self { reason: no_reason(), wait: None }
    }
}

fn no_reason() -> String {
    "cancelled through the API".to_owned()
}

/// The body of `POST /v1/runs/{id}/resume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// How long to wait until nobody drives the run any more, such as `20s`, at most 20 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// The body of `POST /v1/runs/{id}/approve`, and of `…/answer`, which takes `answer`. Without `deny`, `args` and `answer`
/// it is a yes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The question's number; left out, the only one that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u32>,
    /// A no.
    #[serde(default)]
    pub deny: bool,
    /// A yes to these arguments, or to this value, in the place of what is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// What stands in the place of what the call, or the stage, would give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// True where only a question of an agent may be answered so, and nothing approved by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_input: bool,
    /// Who decides.
    #[serde(default = "nobody_named")]
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Hash of what was seen: an answer to something else isn't taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_hash: Option<String>,
    /// True to record it, and not to go on with the run.
    #[serde(default)]
    pub only: bool,
    /// How long to wait until nobody drives the run any more, such as `20s`, at most 20 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

impl Default for AnswerRequest {
    fn default() -> Self {
        Self {
            ask: None,
            deny: false,
            args: None,
            answer: None,
            only_input: false,
            by: nobody_named(),
            reason: None,
            shown_hash: None,
            only: false,
            wait: None,
        }
    }
}

impl AnswerRequest {
    /// What it decides.
    ///
    /// # Errors
    /// It says two things at once.
    pub fn given(&self) -> Result<Given, ApiError> {
        let decision = match (self.deny, &self.args, &self.answer) {
            (true, None, None) => Decision::Deny,
            (false, edited, None) => Decision::Allow { edited: edited.clone() },
            (false, None, Some(value)) => Decision::Answer { value: value.clone() },
            (true, _, _) | (false, Some(_), Some(_)) => {
                let message = "`deny`, `args` and `answer` exclude each other; give one of them, or none for a yes";
                return Err(ApiError::BadRequest(message.to_owned()));
            }
        };
        let (by, reason, shown_hash) = (self.by.clone(), self.reason.clone(), self.shown_hash.clone());
        Ok(Given { ask: self.ask, decision, by, reason, shown_hash })
    }
}

/// The body of `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The program's version.
    pub version: String,
    /// The version of the API.
    pub api: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::report::{RunDocument, fixture, replay};

    #[test]
    fn a_row_of_the_list_agrees_with_the_runs_document() {
        let log = fixture::eventful();
        let Event::Created(created) = &log[0].event else { panic!("a log begins with its creation") };
        let mut summary = RunSummary::start(fixture::run_id(), log[0].at, created);
        log[1..].iter().for_each(|recorded| summary.apply(recorded.at, &recorded.event));
        let run = replay(fixture::run_id(), fixture::plan(), &log).expect("a run");
        let document = RunDocument::of(&run, summary.load_line, log[log.len() - 1].at);
        let (row, document) = (serde_json::to_value(RunRow::from(&summary)), serde_json::to_value(&document));
        let (row, document) = (row.expect("JSON"), document.expect("JSON"));
        for key in [
            "run",
            "agent",
            "state",
            "limit",
            "cost",
            "load_line_usd",
            "steps",
            "model_calls",
            "tool_calls",
            "attempts",
            "tokens",
        ] {
            assert_eq!(row[key], document[key], "{key}");
        }
    }
}
