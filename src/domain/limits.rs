//! The kinds of limit, their values with where they were declared, and the one [`Refusal`].

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Millis, Money, Timestamp, Tokens};

/// Every limit that can stop an attempt or a run, by the name that TOML, output and docs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Passages through the gate.
    Steps,
    /// Steps that call a model.
    ModelCalls,
    /// Steps that call a tool.
    ToolCalls,
    /// Tries of model calls over the run.
    Attempts,
    /// Calls of one tool with the same arguments.
    Repeats,
    /// Tool errors in a row.
    ToolErrors,
    /// Calls at once.
    Parallel,
    /// Depth of sub-agents.
    Depth,
    /// Sub-agents of one run.
    Children,
    /// Items of a map stage.
    Items,
    /// Tokens of conversation that a landing call may carry.
    LandingTokens,
    /// Output tokens of a landing call.
    LandingOutputTokens,
    /// Money of the run.
    Cost,
    /// Input and output tokens of the run.
    Tokens,
    /// Input tokens of the run.
    InputTokens,
    /// Output tokens of the run.
    OutputTokens,
    /// Active time of the run.
    WallTime,
    /// Time of one model call.
    ModelCallTime,
    /// Time to the first token of one model call.
    FirstTokenTime,
    /// Time of one tool call.
    ToolCallTime,
    /// Time of one wait for budget.
    BudgetWait,
    /// An absolute point in time.
    Deadline,
    /// Bytes that one tool call may give.
    OutputBytes,
    /// Time of a wait for a person.
    Expires,
    /// Tokens of one request, by the agent's context budget or the model's window.
    Context,
    /// The model policy: no approved model is left.
    ModelPolicy,
    /// A model without a price.
    Price,
    /// A price row that a bill above its reservation froze.
    FrozenPrice,
    /// A price that was read too long ago.
    StalePrice,
    /// The cap of a budget.
    Budget,
    /// The queue of runs that wait to start.
    Queue,
    /// Model calls in a minute, by a rate.
    RequestsPerMinute,
    /// Tokens in a minute, by a rate.
    TokensPerMinute,
    /// Model calls at once, by a rate.
    Concurrent,
    /// What a provider itself says that it still takes.
    ProviderRate,
    /// The breaker of a model or of a provider's account.
    Breaker,
    /// The queue of calls that wait for rates.
    RateQueue,
    /// A switch that somebody set.
    Switch,
}

impl LimitKind {
    /// Its name in TOML, output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::ModelCalls => "model_calls",
            Self::ToolCalls => "tool_calls",
            Self::Attempts => "attempts",
            Self::Repeats => "repeats",
            Self::ToolErrors => "tool_errors",
            Self::Parallel => "parallel",
            Self::Depth => "depth",
            Self::Children => "children",
            Self::Items => "items",
            Self::LandingTokens => "landing_tokens",
            Self::LandingOutputTokens => "landing_output_tokens",
            Self::Cost => "cost",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::WallTime => "wall_time",
            Self::ModelCallTime => "model_call_time",
            Self::FirstTokenTime => "first_token_time",
            Self::ToolCallTime => "tool_call_time",
            Self::BudgetWait => "budget_wait",
            Self::Deadline => "deadline",
            Self::OutputBytes => "output_bytes",
            Self::Expires => "expires",
            Self::Context => "context",
            Self::ModelPolicy => "model_policy",
            Self::Price => "price",
            Self::FrozenPrice => "frozen_price",
            Self::StalePrice => "stale_price",
            Self::Budget => "budget",
            Self::Queue => "queue",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::Concurrent => "concurrent",
            Self::ProviderRate => "provider_rate",
            Self::Breaker => "breaker",
            Self::RateQueue => "rate_queue",
            Self::Switch => "switch",
        }
    }
}

impl LimitKind {
    /// True for what isn't a run's own: what others do decides it too.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(
            self,
            Self::Budget
                | Self::FrozenPrice
                | Self::Queue
                | Self::RequestsPerMinute
                | Self::TokensPerMinute
                | Self::Concurrent
                | Self::ProviderRate
                | Self::Breaker
                | Self::RateQueue
                | Self::Switch
        )
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a run does when it meets a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    /// Make one last call without tools inside the reserve kept for it.
    Land,
    /// End at once.
    Stop,
}

/// Where a value was declared: `agents/support-triage.toml:24`, or `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// Built in.
    Default,
    /// A line of a file; the path is relative to the project.
    At {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u32,
    },
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.pad("default"),
            Self::At { file, line } => f.pad(&format!("{file}:{line}")),
        }
    }
}

impl std::str::FromStr for Declared {
    type Err = PlaceError;

    /// Reads what it prints.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let fault = || PlaceError(text.to_owned());
        let (file, line) = text.rsplit_once(':').ok_or_else(fault)?;
        Ok(Self::At { file: file.to_owned(), line: line.parse().map_err(|_| fault())? })
    }
}

/// A text that is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place, such as `agents/a.toml:24` or `default`")]
pub struct PlaceError(String);

/// Every limit of a run (or of a stage), resolved. `None` only where DESIGN says that the limit is off by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// See [`LimitKind::Steps`].
    pub steps: u32,
    /// See [`LimitKind::ModelCalls`].
    pub model_calls: u32,
    /// See [`LimitKind::ToolCalls`].
    pub tool_calls: u32,
    /// See [`LimitKind::Attempts`].
    pub attempts: u32,
    /// See [`LimitKind::Repeats`].
    pub repeats: u32,
    /// See [`LimitKind::ToolErrors`].
    pub tool_errors: u32,
    /// See [`LimitKind::Parallel`].
    pub parallel: u32,
    /// See [`LimitKind::Depth`].
    pub depth: u32,
    /// See [`LimitKind::Children`].
    pub children: u32,
    /// See [`LimitKind::Items`].
    pub items: u32,
    /// See [`LimitKind::LandingTokens`].
    pub landing_tokens: u32,
    /// See [`LimitKind::LandingOutputTokens`].
    pub landing_output_tokens: u32,
    /// See [`LimitKind::Cost`].
    pub cost: Money,
    /// See [`LimitKind::Tokens`]; off by default.
    pub tokens: Option<Tokens>,
    /// See [`LimitKind::InputTokens`]; off by default.
    pub input_tokens: Option<Tokens>,
    /// See [`LimitKind::OutputTokens`]; off by default.
    pub output_tokens: Option<Tokens>,
    /// See [`LimitKind::WallTime`].
    pub wall_time: Millis,
    /// See [`LimitKind::ModelCallTime`].
    pub model_call_time: Millis,
    /// See [`LimitKind::FirstTokenTime`].
    pub first_token_time: Millis,
    /// See [`LimitKind::ToolCallTime`].
    pub tool_call_time: Millis,
    /// See [`LimitKind::BudgetWait`].
    pub budget_wait: Millis,
    /// See [`LimitKind::Deadline`]; off by default.
    pub deadline: Option<Timestamp>,
    /// See [`LimitKind::OutputBytes`].
    pub output_bytes: u64,
    /// See [`LimitKind::Expires`].
    pub expires: Millis,
    /// What one run is expected to cost; decides only who starts (LEDGER rule 8).
    pub expected_cost: Option<Money>,
    /// What to do at a limit.
    pub at_limit: AtLimit,
    /// Where each was declared; a kind that is absent is a default.
    pub declared: BTreeMap<LimitKind, Declared>,
}

impl Limits {
    /// Where a limit was declared.
    #[must_use]
    pub fn declared(&self, kind: LimitKind) -> Declared {
        self.declared.get(&kind).cloned().unwrap_or(Declared::Default)
    }
}

impl Default for Limits {
    /// The built-in defaults (DESIGN §5).
    fn default() -> Self {
        Self {
            steps: 20,
            model_calls: 20,
            tool_calls: 40,
            attempts: 40,
            repeats: 3,
            tool_errors: 3,
            parallel: 4,
            depth: 3,
            children: 16,
            items: 100,
            landing_tokens: 4_000,
            landing_output_tokens: 512,
            cost: Money::from_micro(250_000),
            tokens: None,
            input_tokens: None,
            output_tokens: None,
            wall_time: Millis::from_secs(300),
            model_call_time: Millis::from_secs(60),
            first_token_time: Millis::from_secs(30),
            tool_call_time: Millis::from_secs(30),
            budget_wait: Millis::from_secs(30),
            deadline: None,
            output_bytes: 64 * 1024,
            expires: Millis::from_secs(7 * 86_400),
            expected_cost: None,
            at_limit: AtLimit::Land,
            declared: BTreeMap::new(),
        }
    }
}

/// The gate's no: a limit did its work. Not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The limit.
    pub limit: LimitKind,
    /// Which one of its kind, where there are several: a budget and its scope, a tool, a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its value, in the unit that people use: `$0.05`, `12`, `90s`.
    pub value: String,
    /// What was observed or asked for, in the same unit.
    pub observed: String,
    /// Where the limit was declared.
    pub declared: Declared,
}

impl fmt::Display for Refusal {
    /// One line: `limit cost is $0.05 (agents/a.toml:24): $0.061 would be needed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit `{}`", self.limit)?;
        if let Some(subject) = &self.subject {
            write!(f, " of {subject}")?;
        }
        write!(f, " is {} ({}): {}", self.value, self.declared, self.observed)
    }
}
