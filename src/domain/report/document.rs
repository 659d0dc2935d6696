//! The result document of one run: what `run --json` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::AskDocument;
use crate::domain::event::{RunState, Spent};
use crate::domain::limits::LimitKind;
use crate::domain::outcome::Outcome;
use crate::domain::pricing::Usage;
use crate::domain::run::{Run, Tree};
use crate::ids::{AgentName, RunId};
use crate::units::{Millis, Money, Timestamp, Tokens};

/// One run's result, with what it and the runs below it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDocument {
    /// The run.
    pub run: RunId,
    /// The agent.
    pub agent: AgentName,
    /// Where it stands.
    pub state: RunState,
    /// The limit that stopped it, or that it lands for.
    pub limit: Option<LimitKind>,
    /// The answer; null for none.
    pub output: Option<Value>,
    /// What it cost.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it, and the runs below it, ask people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<AskDocument>,
    /// The part of all this that sub-agents had, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_agents: Option<SubAgentsDocument>,
}

/// What the runs below one came to, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubAgentsDocument {
    /// How many there were, at every depth.
    pub runs: u32,
    /// What they cost.
    pub settled_usd: Money,
    /// Their steps.
    pub steps: u32,
    /// Their steps that called a model.
    pub model_calls: u32,
    /// Their steps that called a tool.
    pub tool_calls: u32,
    /// Their tries of model calls.
    pub attempts: u32,
}

impl SubAgentsDocument {
    /// What of `spent` isn't the run's own.
    fn of(run: &Run, spent: &Spent) -> Option<Self> {
        let own = &run.counters;
        (spent.children > 0).then(|| Self {
            runs: spent.children,
            settled_usd: spent.settled.left_after(own.settled),
            steps: spent.steps.saturating_sub(own.steps),
            model_calls: spent.model_calls.saturating_sub(own.model_calls),
            tool_calls: spent.tool_calls.saturating_sub(own.tool_calls),
            attempts: spent.attempts.saturating_sub(own.attempts),
        })
    }
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CostDocument {
    /// Settled, unknown money included.
    pub settled_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
    /// What open reservations hold, the landing reserve included.
    pub held_usd: Money,
}

/// Tokens by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenDocument {
    /// Input that was neither read from a cache nor written to one.
    pub input: Tokens,
    /// Input read from a cache.
    pub cache_read: Tokens,
    /// Input written to a cache, for whatever time to live.
    pub cache_write: Tokens,
    /// Output, reasoning included.
    pub output: Tokens,
    /// The part of the output that is reasoning.
    pub reasoning: Tokens,
    /// Tokens of a class that no rate is known for.
    #[serde(default, skip_serializing_if = "is_none")]
    pub other: Tokens,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_none(count: &Tokens) -> bool {
    *count == Tokens::ZERO
}

impl From<&Usage> for TokenDocument {
    fn from(usage: &Usage) -> Self {
        Self {
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write.plus(usage.cache_write_long),
            output: usage.output,
            reasoning: usage.reasoning,
            other: usage.other,
        }
    }
}

impl RunDocument {
    /// The document of a run at a time, with the runs below it that have ended; `load_line` is in its first event.
    #[must_use]
    pub fn of(run: &Run, load_line: Money, now: Timestamp) -> Self {
        Self::told(run, &run.spent(), run.held_by_attempts(), load_line, now)
    }

    /// The document of a run with all below it.
    #[must_use]
    pub fn of_tree(tree: &Tree, load_line: Money, now: Timestamp) -> Self {
        let root = tree.root();
        let told = Self::told(root, &tree.spent(root.id), tree.held_by_attempts(), load_line, now);
        Self { asks: tree.runs().flat_map(|run| AskDocument::of(run, now)).collect(), ..told }
    }

    fn told(run: &Run, spent: &Spent, held: Money, load_line: Money, now: Timestamp) -> Self {
        let ended = run.ended.as_ref();
        let refusal = ended.map_or(run.lands.as_ref(), |ended| ended.refusal.as_ref());
        let landing = run.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
        Self {
            run: run.id,
            agent: run.plan.agent.clone(),
            state: run.state,
            limit: refusal.map(|refusal| refusal.limit),
            output: ended.and_then(|ended| ended.output.clone()),
            cost: CostDocument { settled_usd: spent.settled, unknown_usd: spent.unknown, held_usd: held.plus(landing) },
            outcome: run.outcome.clone(),
            load_line_usd: load_line,
            steps: spent.steps,
            model_calls: spent.model_calls,
            tool_calls: spent.tool_calls,
            attempts: spent.attempts,
            tokens: TokenDocument::from(&spent.usage),
            wall_ms: run.active(now),
            error: ended.and_then(|ended| ended.error.clone()),
            asks: AskDocument::of(run, now),
            sub_agents: SubAgentsDocument::of(run, spent),
        }
    }
}
