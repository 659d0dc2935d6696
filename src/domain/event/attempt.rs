//! Facts of attempts: what was reserved and called, what it gave and cost, and calls that were not made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AccountKey, CacheFacts, Place};
use crate::domain::limits::Refusal;
use crate::domain::message::{Assistant, Pots, StopReason, WebSearch};
use crate::domain::policy::DowngradeWhy;
use crate::domain::pricing::{Charged, Factors, Mismatch, Usage};
use crate::domain::retry::Failure;
use crate::ids::{AccountName, ModelName, PriceId, ReservationId, StageName, ToolName};
use crate::units::{Millis, Money, Tokens};

/// Where a step stands: its stage, its number, and its item where the stage is a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepKey {
    /// The stage.
    pub stage: StageName,
    /// The step's number in the run, from 1, in the order in which steps passed the gate.
    pub step: u32,
    /// The item of a map, from 0; `None` for the stage itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

impl StepKey {
    /// Where the step stands, without its number.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { stage: self.stage.clone(), item: self.item }
    }

    /// True where the step stands there.
    #[must_use]
    pub fn is_at(&self, place: &Place) -> bool {
        self.item == place.item && self.stage == place.stage
    }
}

/// See [`Event::Reserved`](super::Event::Reserved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reserved {
    /// The reservation.
    pub reservation: ReservationId,
    /// The step.
    pub step: StepKey,
    /// The try of this step, from 1.
    pub attempt: u32,
    /// The worst case.
    pub amount: Money,
    /// The landing reserve after this write: raised, unchanged, or zero where this call took its place.
    pub landing: Money,
    /// The path's budget accounts, where a new period changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budgets: Option<Vec<AccountKey>>,
    /// The time limit of the attempt.
    pub time_limit: Millis,
    /// What is called.
    pub call: Call,
}

/// See [`Event::Downgraded`](super::Event::Downgraded).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgraded {
    /// The reservation that follows.
    pub reservation: ReservationId,
    /// The step.
    pub step: StepKey,
    /// The model that is asked.
    pub model: ModelName,
    /// Why.
    pub why: DowngradeWhy,
}

impl Downgraded {
    /// Of an attempt, where it asks the models of the policy's `downgrade`.
    #[must_use]
    pub fn of(reserved: &Reserved) -> Option<Self> {
        let Call::Model(call) = &reserved.call else { return None };
        let why = call.downgraded.clone()?;
        Some(Self { reservation: reserved.reservation, step: reserved.step.clone(), model: call.model.clone(), why })
    }
}

/// What an attempt calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// A model.
    Model(ModelCall),
    /// A tool.
    Tool {
        /// The provider's id of the call.
        call_id: String,
        /// The tool.
        tool: ToolName,
        /// Hash of tool and arguments, for `repeats`: 16 hexadecimal digits.
        arguments_hash: String,
        /// True where calling again loses nothing.
        idempotent: bool,
        /// The arguments, where no model's reply has them: those of a stage's own call, or edited by a person.
        #[serde(default, deserialize_with = "super::written", skip_serializing_if = "Option::is_none")]
        arguments: Option<Value>,
    },
}

/// What a model call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A turn of the loop, after which more may come.
    Turn,
    /// Known to be the last call of the whole run (LEDGER rule 12).
    Last,
    /// The last answer inside the landing reserve (LEDGER rule 11).
    Landing,
    /// The one repair of an answer that doesn't fit its schema.
    Repair,
    /// A summary of earlier turns, in whose place it is sent from then on.
    Summary,
}

/// A model call as it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The model asked.
    pub model: ModelName,
    /// The account of its provider that pays; `None` for the provider's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// The price version pinned.
    pub price: PriceId,
    /// What it is for.
    pub purpose: Purpose,
    /// The output cap sent.
    pub max_output_tokens: u32,
    /// Upper bound of the input, and how it was found.
    pub bound: InputBound,
    /// The request by pot.
    pub pots: Pots,
    /// What was cut to make it fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
    /// SHA-256 of the request, first 16 hexadecimal digits.
    pub request_hash: String,
    /// What the runtime added to the conversation before this call: the request to mend an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// Of a summary: how many turns, from the first of its conversation, it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums_up: Option<u32>,
    /// Why this model and not the first: a fallback or a downgrade, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// Why the models of the policy's `downgrade` were asked, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgraded: Option<DowngradeWhy>,
    /// What the provider counted before, where the plan asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Count>,
    /// Searches of the web that the provider may make by itself; the bound of the input then is that of all its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search: Option<WebSearch>,
}

impl ModelCall {
    /// The most output tokens that it can count: nobody says that the cap holds over all steps of a provider that searches.
    #[must_use]
    pub fn output_at_most(&self) -> Tokens {
        let steps = self.web_search.map_or(1, WebSearch::steps);
        Tokens(u64::from(self.max_output_tokens).saturating_mul(steps.into()))
    }
}

/// What came of asking a provider how many tokens a request's input counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "counted", rename_all = "snake_case")]
pub enum Count {
    /// So many, by its own word.
    Told {
        /// The tokens, without the margin.
        tokens: Tokens,
    },
    /// It wasn't counted: the runtime's own bound stands.
    Not {
        /// Why, in words.
        why: String,
    },
}

impl Count {
    /// The margin on a provider's count, as a divisor: 5 %. Providers call theirs an estimate that may differ slightly, or
    /// say nothing of how exact it is (PROVIDERS §13).
    pub const MARGIN_DIVISOR: u64 = 20;

    /// The least that a bound must be after it; nothing where it wasn't counted.
    #[must_use]
    pub fn least(&self) -> Tokens {
        match self {
            Self::Told { tokens } => Tokens(tokens.0.saturating_add(tokens.0.div_ceil(Self::MARGIN_DIVISOR))),
            Self::Not { .. } => Tokens::ZERO,
        }
    }
}

/// An upper bound of input tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputBound {
    /// The bound.
    pub tokens: Tokens,
    /// How it was found.
    pub method: BoundMethod,
}

/// How an input bound was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoundMethod {
    /// One token for each byte.
    Bytes,
    /// Counted with the model's tokenizer, with a margin.
    Tokens,
}

/// Something that was left out of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// The pot that was full.
    pub pot: Pot,
    /// What was cut, in words: `result of lookup_order (call 3)`.
    pub what: String,
    /// How many tokens (or bytes, as the bound) were cut.
    pub tokens: Tokens,
}

/// A share of the context budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pot {
    /// System text, the input and tool definitions.
    Instructions,
    /// Earlier turns.
    History,
    /// Documents.
    Documents,
    /// Results of tools.
    ToolOutput,
}

/// See [`Event::Settled`](super::Event::Settled).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// The reservation.
    pub reservation: ReservationId,
    /// What it cost.
    pub bill: Money,
    /// How that is known.
    pub source: CostSource,
    /// Tokens, where the provider reported them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What contradicts itself in that usage: the bill is the whole reservation then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
    /// What the provider says that it charged: a check beside the bill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charged>,
    /// The usage as the provider sent it, at most [`RAW_USAGE_BYTES_MAX`] of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_usage: Option<Value>,
    /// Time from dispatch to the end.
    pub latency: Millis,
    /// Time to the first token, where it was streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Millis>,
    /// What it gave.
    pub outcome: Outcome,
    /// What caches had to do with it.
    #[serde(default, skip_serializing_if = "CacheFacts::is_none")]
    pub cache: CacheFacts,
}

/// The most JSON of a provider's usage that is kept; of a longer one its beginning, as text.
pub const RAW_USAGE_BYTES_MAX: usize = 16 * 1024;

impl Settled {
    /// The tokens of input and output that count towards limits, `bound` being what the attempt was admitted with. Unknown
    /// means the most: without usage that is the bound, and where the usage contradicts itself the larger of the two.
    #[must_use]
    pub fn counted(&self, bound: (Tokens, Tokens)) -> (Tokens, Tokens) {
        match (&self.usage, &self.mismatch) {
            (None, _) => bound,
            (Some(usage), None) => (usage.input_total(), usage.output),
            (Some(usage), Some(_)) => (usage.input_total().max(bound.0), usage.output.max(bound.1)),
        }
    }
}

/// A provider's usage as it is kept.
#[must_use]
pub fn bounded_usage(raw: Value) -> Value {
    let text = raw.to_string();
    if text.len() <= RAW_USAGE_BYTES_MAX {
        return raw;
    }
    let end = (0..=RAW_USAGE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    Value::String(text[..end].to_owned())
}

/// How the cost of an attempt is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// From the usage that the provider reported, or the price of a tool's call.
    Reported,
    /// From other evidence of the provider.
    Derived,
    /// Not known: the whole reservation.
    Unknown,
}

/// What a settled attempt gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A model's reply.
    Reply {
        /// What it said.
        message: Assistant,
        /// Why it stopped.
        stop: StopReason,
        /// The model that the provider says answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        response_model: Option<String>,
        /// The service tier that the provider says it used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_tier: Option<String>,
        /// Factors on the price that the provider says apply.
        #[serde(default, skip_serializing_if = "Factors::is_none")]
        factors: Factors,
        /// The provider's id of the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
        /// The reply's own id, as its body has it: `chatcmpl-…`, `msg_…`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        response_id: Option<String>,
    },
    /// A tool's result.
    ToolResult {
        /// What the model is told.
        content: String,
        /// True where it tells of an error.
        #[serde(default)]
        is_error: bool,
        /// Bytes that were cut off.
        #[serde(default)]
        cut_bytes: u64,
    },
    /// No reply.
    Failed(Failure),
}

/// See [`Event::Voided`](super::Event::Voided).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voided {
    /// The reservation.
    pub reservation: ReservationId,
    /// Time from dispatch to the end.
    pub latency: Millis,
    /// What happened; the evidence that nothing was billed.
    pub failure: Failure,
}

/// See [`Event::CallRefused`](super::Event::CallRefused).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRefused {
    /// The step that would have been.
    pub step: StepKey,
    /// The provider's id of the call.
    pub call_id: String,
    /// The tool.
    pub tool: ToolName,
    /// Why.
    pub why: CallRefusal,
}

/// Why a tool call was not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum CallRefusal {
    /// A limit.
    Limit {
        /// Which.
        refusal: Refusal,
    },
    /// The agent has no such tool, or the arguments don't fit its schema. Counts as a step and a tool error.
    Invalid {
        /// What the model is told.
        message: String,
    },
}
