//! What a run did, in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{text, text_or_null};
use super::{StepLine, Trace};
use crate::domain::event::{AccountKey, CallRefusal, ChildBegan, Decision, EndState, Place, StageEnd, WaitEnd};
use crate::domain::limits::Refusal;
use crate::domain::outcome::OutcomeRecorded;
use crate::ids::{AccountName, AgentName, ModelName, RunId, StageName, ToolName};
use crate::units::{Millis, Money, Timestamp};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum TimelineEntry {
    /// The run may start, or go on.
    Admitted {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The landing reserve placed.
        landing_usd: Money,
        /// The budget accounts on its path.
        budgets: Vec<AccountKey>,
    },
    /// A step, with every attempt of it.
    Step(StepLine),
    /// A map, from its beginning on.
    Map {
        /// When it began.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The stage.
        stage: StageName,
        /// Its items.
        items: usize,
        /// Items that gave an output.
        finished: usize,
        /// Items that failed or were stopped.
        lost: usize,
    },
    /// A stage, or an item of a map, is over.
    StageEnded {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The stage.
        stage: StageName,
        /// The item, from 0, where it is one of a map.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
        /// How.
        end: StageEnd,
        /// The limit that stopped it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refusal: Option<Refusal>,
        /// The error in words, where it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A run of a sub-agent, from its beginning on.
    Child(Box<ChildLine>),
    /// A tool call that was not made.
    Refused {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The stage.
        stage: StageName,
        /// The tool.
        tool: ToolName,
        /// The provider's id of the call.
        call_id: String,
        /// Why.
        reason: CallRefusal,
    },
    /// A wait for budget.
    Waited {
        /// When it began.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The account without room.
        account: AccountKey,
        /// What was asked for.
        asked_usd: Money,
        /// When it ends, or would have ended, by itself.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        until: Timestamp,
        /// How long it took; null while it goes on.
        waited_ms: Option<Millis>,
        /// Why it ended.
        why: Option<WaitEnd>,
    },
    /// A wait for rate limits.
    RateWaited {
        /// When it began.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// Where the call stood.
        place: Place,
        /// The model that it wanted to ask.
        model: ModelName,
        /// The account of its provider; null for the provider's own key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountName>,
        /// What it waited for.
        refusal: Refusal,
        /// When it would have gone, if nobody else had been before it, where that was known.
        #[serde(default, with = "text_or_null", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<super::super::TimeText>")]
        until: Option<Timestamp>,
        /// How long it took, or until it was given up; null while it goes on.
        waited_ms: Option<Millis>,
        /// Why it was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<Box<Refusal>>,
    },
    /// The run met a limit, and makes its last call.
    Landing {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The limit.
        refusal: Refusal,
    },
    /// The landing reserve was given back.
    LandingReleased {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// Why.
        why: String,
    },
    /// Someone asked the run to end.
    CancelRequested {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// The process that ran it went down, or was asked to stop.
    Interrupted {
        /// When it was noticed.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// Why.
        why: String,
    },
    /// A person must decide on a call that was in flight.
    PersonAsked {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The tool, if it is about a call.
        tool: Option<ToolName>,
        /// The provider's id of the call, if it is about one.
        call_id: Option<String>,
        /// The question.
        question: String,
        /// Its number; `None` in logs of version 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<u32>,
        /// What is approved, and may be edited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<Value>,
    },
    /// A person answered, or nobody did in time.
    PersonAnswered {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The question's number.
        ask: Option<u32>,
        /// The decision.
        decision: Decision,
        /// Who.
        by: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Nothing moves until a person answers; nothing is held.
    Parked {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// Until when at most.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        until: Timestamp,
    },
    /// A person decided on it.
    PersonDecided {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// The provider's id of the call.
        call_id: String,
        /// True to make the call again.
        rerun: bool,
        /// Who.
        by: String,
    },
    /// Somebody said what the run was worth.
    Outcome {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "super::super::TimeText")]
        at: Timestamp,
        /// What, and who.
        #[serde(flatten)]
        said: OutcomeRecorded,
    },
}

impl TimelineEntry {
    /// When it happened, or began; nothing of a step without an attempt.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Step(step) => step.attempts.first().map(|attempt| attempt.at),
            Self::Child(child) => Some(child.at),
            Self::Admitted { at, .. }
            | Self::Map { at, .. }
            | Self::StageEnded { at, .. }
            | Self::Refused { at, .. }
            | Self::Waited { at, .. }
            | Self::RateWaited { at, .. }
            | Self::Landing { at, .. }
            | Self::LandingReleased { at, .. }
            | Self::CancelRequested { at, .. }
            | Self::Interrupted { at, .. }
            | Self::PersonAsked { at, .. }
            | Self::PersonAnswered { at, .. }
            | Self::Parked { at, .. }
            | Self::Outcome { at, .. }
            | Self::PersonDecided { at, .. } => Some(*at),
        }
    }
}

/// A run of a sub-agent, where it was called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildLine {
    /// When it began.
    #[serde(with = "text")]
    #[schemars(with = "super::super::TimeText")]
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// Its agent.
    pub agent: AgentName,
    /// The stage that called it.
    pub stage: StageName,
    /// The item, from 0, where that is a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The step that it counts as, where a model called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// How it ended; null while it hasn't.
    pub end: Option<EndState>,
    /// What it and the runs below it cost; nothing while it hasn't ended.
    pub cost_usd: Money,
    /// Its own trace; null where one run is told alone.
    pub trace: Option<Trace>,
}

impl ChildLine {
    pub(super) fn of(at: Timestamp, began: &ChildBegan) -> Self {
        Self {
            at,
            run: began.child,
            agent: began.agent.clone(),
            stage: began.place.stage.clone(),
            item: began.place.item,
            step: began.call.as_ref().map(|call| call.step),
            end: None,
            cost_usd: Money::ZERO,
            trace: None,
        }
    }
}
