//! Every fact there is: the vocabulary of the log. Versioned; a fact is never changed once written.
//!
//! A run's state, the accounts, the rollups and the trace are folds of these and of nothing else.
//! Adding a field: old readers meet new bytes and the other way round, so give it a default and raise [`EVENT_VERSION`].

mod attempt;
mod cache;
mod erase;
mod person;
mod rate;
mod state;
mod tree;

pub use attempt::{
    BoundMethod, Call, CallRefusal, CallRefused, CostSource, Count, Cut, Downgraded, InputBound, ModelCall, Outcome,
    Pot, Purpose, RAW_USAGE_BYTES_MAX, Reserved, Settled, StepKey, Voided, bounded_usage,
};
pub use cache::{AnswerKey, CacheFacts, CacheHit, KEPT_BYTES_MAX, KeptAnswer, KeptAs};
pub use person::{AskKind, Decision, InFlightResolved, Parked, PersonAnswered, PersonAsked};
pub use rate::{RateWaitBegan, RateWaitEnded};
pub use state::{EndState, Ended, RunState};
pub use tree::{
    ChildBegan, ChildCall, ChildEnded, MapBegan, PeriodMoved, Place, Spent, StageEnd, StageEnded, THREAD, ThreadLink,
};

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::context::Documents;
use crate::domain::limits::Refusal;
use crate::domain::message::File;
use crate::domain::outcome::OutcomeRecorded;
use crate::ids::{AgentName, BudgetName, PlanHash, ReservationId, RunId, StageName};
use crate::units::{Money, Timestamp};

/// The version of the events' form; raised with every field.
pub const EVENT_VERSION: u16 = 6;

/// One entry of a run's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its place in the log of its run, from 0 without a gap.
    pub seq: u32,
    /// When it was decided.
    pub at: Timestamp,
    /// Its place among the facts of all runs of its tree, from 0; `None` where that is `seq`, as in a tree of one run, and
    /// in logs of before there was such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// The fact.
    pub event: Event,
}

impl Recorded {
    /// Its place among the facts of all runs of its tree, from 0.
    #[must_use]
    pub fn place_in_tree(&self) -> u32 {
        self.order.unwrap_or(self.seq)
    }
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
    /// The next attempt asks a cheaper model than the policy's own; right before its reservation, in the same write.
    Downgraded(Downgraded),
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
    /// A call waits for rate limits, holding nothing.
    RateWaitBegan(Box<RateWaitBegan>),
    /// It may go: its money is asked for next.
    RateWaitEnded(RateWaitEnded),
    /// The run met a limit and makes its last call.
    LandingBegan(LandingBegan),
    /// The landing reserve is given back.
    LandingReleased(LandingReleased),
    /// A person, or the deadline's passing, asks the run to end.
    CancelRequested(CancelRequested),
    /// The process that ran it went down, or was asked to stop.
    Interrupted(Interrupted),
    /// A person is asked: whether a call may be made (again), for a stage's approval, or for an answer.
    PersonAsked(PersonAsked),
    /// A person decided on a tool call that was in flight when the process went down. Version 1's answer.
    InFlightResolved(InFlightResolved),
    /// A person answered, or the time for it was up.
    PersonAnswered(PersonAnswered),
    /// Nothing moves until a person answers: the tree's driver leaves, and nothing is held.
    Parked(Parked),
    /// A map knows its items.
    MapBegan(MapBegan),
    /// A stage, or one item of a map, is over: its conversation is dropped, its output kept.
    StageEnded(StageEnded),
    /// A sub-agent's run hangs below this one.
    ChildBegan(ChildBegan),
    /// A sub-agent's run is over; what it spent counts here.
    ChildEnded(ChildEnded),
    /// A child's attempt met a new period of a budget: the tree's accounts from here on. In the root's log.
    PeriodMoved(PeriodMoved),
    /// The run has ended. Nothing but settlements, corrections and outcomes follows.
    Ended(Ended),
    /// Somebody said what the run was worth. After its end, and as often as somebody knows better.
    OutcomeRecorded(Box<OutcomeRecorded>),
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
    /// What all the calls that the run may make can be expected to cost, by what such calls cost of their bounds before;
    /// `None` where that isn't less than the load line. It stands in where neither the agent nor its runs say more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<Money>,
    /// The parent, for a sub-agent's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The caller's key for this run: `run --each` uses file hash and line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// True where the simulated provider answers.
    #[serde(default)]
    pub simulated: bool,
    /// Caps of stages that have accounts of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stage_caps: BTreeMap<StageName, Money>,
    /// The conversation that the run goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadLink>,
    /// The documents that go with the input, as they were when the run was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<Arc<Documents>>,
    /// The files that go with the input. Their bytes are kept beside the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// What the business counts, by the agent's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// True once what was written and answered in the run is taken out of the store: its input, and all texts of its log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// A value that is there: `null` too is one, where it was written. A log folds as it was told.
fn written<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}
