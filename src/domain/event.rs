//! Every fact there is: the vocabulary of the log. Versioned; a fact is never changed once written.
//!
//! A run's state, the accounts, the rollups and the trace are folds of these and of nothing else.
//! Adding a field: old readers meet new bytes and the other way round, so give it a default and raise [`EVENT_VERSION`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::limits::Refusal;
use crate::domain::message::{Assistant, Pots, StopReason};
use crate::domain::pricing::Usage;
use crate::domain::retry::Failure;
use crate::ids::{AgentName, BudgetName, ModelName, PlanHash, PriceId, ReservationId, RunId, StageName, ToolName};
use crate::units::{Millis, Money, Timestamp, Tokens};

/// The version of the events' form; raised with every field.
pub const EVENT_VERSION: u16 = 1;

/// One entry of a run's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its place in the log of its run, from 0 without a gap.
    pub seq: u32,
    /// When it was decided.
    pub at: Timestamp,
    /// The fact.
    pub event: Event,
}

/// Labels of a run: `tenant`, `feature`, `environment`, `agent`, `owner` and the caller's own.
pub type Labels = BTreeMap<String, String>;

/// An account: what counts against one cap. Its stored forms are in `domain::compact`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountKey {
    /// A run, or a stage of it with a cap of its own.
    Node {
        /// The run.
        run: RunId,
        /// The stage, if the cap is a stage's.
        stage: Option<StageName>,
    },
    /// A budget, for one value of its scope and one period.
    Budget {
        /// The budget.
        budget: BudgetName,
        /// The values of `each`, as `tenant=acme,user=7`; empty where the budget has no `each`.
        scope: String,
        /// Start of the period.
        start: Timestamp,
        /// End of the period, exclusive; `None` for `total`.
        end: Option<Timestamp>,
    },
}

impl std::fmt::Display for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node { run, stage: None } => write!(f, "run {run}"),
            Self::Node { run, stage: Some(stage) } => write!(f, "stage {stage} of run {run}"),
            Self::Budget { budget, scope, .. } if scope.is_empty() => write!(f, "budget {budget}"),
            Self::Budget { budget, scope, .. } => write!(f, "budget {budget} ({scope})"),
        }
    }
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A run exists, and waits in `queued`.
    Created(Created),
    /// The run may start, or go on after an interruption or a wait for a person.
    Admitted(Admitted),
    /// Money is set aside for an attempt, which may now start.
    Reserved(Box<Reserved>),
    /// An attempt is over, and what it cost is known or taken as the whole reservation.
    Settled(Box<Settled>),
    /// An attempt is over, and it is proved that nothing was billed.
    Voided(Voided),
    /// A tool call that a model asked for was not made; the model is told why.
    CallRefused(CallRefused),
    /// The run waits for budget, holding its landing reserve only.
    WaitBegan(WaitBegan),
    /// The wait for budget is over.
    WaitEnded(WaitEnded),
    /// The run met a limit and makes its last call.
    LandingBegan(LandingBegan),
    /// The landing reserve is given back.
    LandingReleased(LandingReleased),
    /// A person, or the deadline's passing, asks the run to end.
    CancelRequested(CancelRequested),
    /// The process that ran it went down, or was asked to stop.
    Interrupted(Interrupted),
    /// The run waits for a person: a tool call that may have had its effect was in flight when the process went down.
    PersonAsked(PersonAsked),
    /// A person decided on a tool call that was in flight when the process went down.
    InFlightResolved(InFlightResolved),
    /// The run has ended. Nothing but settlements and corrections follows.
    Ended(Ended),
}

/// See [`Event::Created`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The form's version, [`EVENT_VERSION`].
    pub version: u16,
    /// The agent.
    pub agent: AgentName,
    /// The plan that the run keeps.
    pub plan: PlanHash,
    /// The prompt's label, for rollups.
    pub prompt_version: String,
    /// The input.
    pub input: Value,
    /// All labels, the derived ones (agent, owner, feature, environment) included.
    pub labels: Labels,
    /// The cap of the run's own account.
    pub cap: Money,
    /// The most that the run can cost.
    pub load_line: Money,
    /// `expected_cost`, if the agent names one (LEDGER rule 8).
    pub expected: Option<Money>,
    /// The parent, for a sub-agent's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The caller's key for this run: `run --each` uses file hash and line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// True where the simulated provider answers.
    #[serde(default)]
    pub simulated: bool,
}

/// Where a sub-agent's run hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The root of the tree; budgets and labels are its.
    pub root: RunId,
    /// The run that called this one.
    pub run: RunId,
    /// The stage of the parent that called it.
    pub stage: StageName,
}

/// See [`Event::Admitted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admitted {
    /// The budget accounts on the run's path.
    pub budgets: Vec<AccountKey>,
    /// The landing reserve, with its reservation number; `None` with `at_limit = "stop"` or where the first call is the last.
    pub landing: Option<Landing>,
}

/// A landing reserve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// Its reservation.
    pub reservation: ReservationId,
    /// How much is held.
    pub amount: Money,
}

/// Where a step stands: its stage, and its number there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepKey {
    /// The stage.
    pub stage: StageName,
    /// The step's number in the run, from 1, in the order in which steps passed the gate.
    pub step: u32,
}

/// See [`Event::Reserved`].
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
    },
}

/// What a model call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// A model call as it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The model asked.
    pub model: ModelName,
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
    /// Why this model and not the first: a fallback or a downgrade, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// An upper bound of input tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputBound {
    /// The bound.
    pub tokens: Tokens,
    /// How it was found.
    pub method: BoundMethod,
}

/// How an input bound was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundMethod {
    /// One token for each byte.
    Bytes,
    /// Counted with the model's tokenizer, with a margin.
    Tokens,
}

/// Something that was left out of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The pot that was full.
    pub pot: Pot,
    /// What was cut, in words: `result of lookup_order (call 3)`.
    pub what: String,
    /// How many tokens (or bytes, as the bound) were cut.
    pub tokens: Tokens,
}

/// A share of the context budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// See [`Event::Settled`].
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
    /// The usage as the provider sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_usage: Option<Value>,
    /// Time from dispatch to the end.
    pub latency: Millis,
    /// Time to the first token, where it was streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Millis>,
    /// What it gave.
    pub outcome: Outcome,
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
        /// The provider's id of the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
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

/// See [`Event::Voided`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voided {
    /// The reservation.
    pub reservation: ReservationId,
    /// Time from dispatch to the end.
    pub latency: Millis,
    /// What happened; the evidence that nothing was billed.
    pub failure: Failure,
}

/// See [`Event::CallRefused`].
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// See [`Event::WaitBegan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitBegan {
    /// The account without room.
    pub account: AccountKey,
    /// What was asked for.
    pub asked: Money,
    /// When the wait ends by itself.
    pub until: Timestamp,
}

/// See [`Event::WaitEnded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitEnded {
    /// Why.
    pub why: WaitEnd,
}

/// Why a wait for budget ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEnd {
    /// The money came.
    Granted,
    /// `budget_wait` passed.
    Expired,
    /// Nobody else could have freed money (LEDGER rule 10).
    Stalled,
    /// The run was asked to end.
    Cancelled,
}

/// See [`Event::LandingBegan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandingBegan {
    /// The limit that it met.
    pub refusal: Refusal,
}

/// See [`Event::LandingReleased`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandingReleased {
    /// Its reservation.
    pub reservation: ReservationId,
    /// Why, in words.
    pub why: String,
}

/// See [`Event::CancelRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Why, in the words of whoever asked.
    pub reason: String,
}

/// See [`Event::Interrupted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interrupted {
    /// Why: `the process went down`, `asked to stop`.
    pub why: String,
    /// True where the run's own process wrote it: its active time counts up to here. A restart can't know that time.
    #[serde(default)]
    pub clean: bool,
}

/// See [`Event::PersonAsked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonAsked {
    /// The call.
    pub call_id: String,
    /// The tool.
    pub tool: ToolName,
    /// The question, in words.
    pub question: String,
}

/// See [`Event::InFlightResolved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlightResolved {
    /// The call.
    pub call_id: String,
    /// Run it again, or tell the model that its outcome is unknown.
    pub rerun: bool,
    /// Who says so.
    pub by: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// See [`Event::Ended`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub state: EndState,
    /// The limit, for `stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The answer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The error in words, for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of a run (LEDGER, "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
