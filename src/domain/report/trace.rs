//! The trace of one run: everything that it did, what each attempt cost, and what each limit stood at.

mod file;
mod fold;
mod timeline;

pub use file::FileLine;
pub use timeline::{ChildLine, TimelineEntry};

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{RunDocument, TokenDocument};
use super::growth::Growth;
use super::standing::LimitStanding;
use super::{replay, text, text_or_null};
use crate::domain::event::{
    CacheFacts, Count, Created, Cut, Event, InputBound, Labels, Outcome, Place, Purpose, Recorded, Spent,
};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::message::{Pots, StopReason, ToolCall};
use crate::domain::plan::Plan;
use crate::domain::policy::DowngradeWhy;
use crate::domain::pricing::{Charged, Factors, Fees, Mismatch};
use crate::domain::retry::Failure;
use crate::domain::run::{Run, Tree};
use crate::ids::{AccountName, ModelName, PlanHash, PriceId, RunId, StageName, ToolName};
use crate::units::{Millis, Money, Timestamp};
use fold::Fold;

/// One run, whole. As JSON: the run's document, and more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// The run's document.
    #[serde(flatten)]
    pub head: RunDocument,
    /// When it was created.
    #[serde(with = "text")]
    #[schemars(with = "super::TimeText")]
    pub created: Timestamp,
    /// When it ended.
    #[serde(with = "text_or_null")]
    #[schemars(with = "Option<super::TimeText>")]
    pub ended: Option<Timestamp>,
    /// The plan that it keeps.
    pub plan: PlanHash,
    /// The prompt's label.
    pub prompt_version: String,
    /// Its labels.
    pub labels: Labels,
    /// The caller's key.
    pub key: Option<String>,
    /// True where the simulated provider answered.
    pub simulated: bool,
    /// Its input.
    pub input: Value,
    /// True once its bodies are taken out of the store: texts are empty, numbers are as they were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The files that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileLine>,
    /// What it is expected to cost, where the agent says so.
    pub expected_usd: Option<Money>,
    /// What it can be expected to cost by what calls of its models cost of their bounds, where that is less than the load
    /// line. It counts where neither the agent nor its finished runs say more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen_usd: Option<Money>,
    /// Until when it waits for a person at most, where it does.
    #[serde(default, with = "text_or_null", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::TimeText>")]
    pub waits_until: Option<Timestamp>,
    /// The limit that stopped it, in full.
    pub refusal: Option<Refusal>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
    /// What each limit stood at.
    pub limits: Vec<LimitStanding>,
}

/// One passage through the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepLine {
    /// Its number, from 1.
    pub step: u32,
    /// Its stage.
    pub stage: StageName,
    /// Its item, from 0, where the stage is a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// What its attempts cost together.
    pub cost_usd: Money,
    /// How much longer its request was than that of the step before in its conversation, by pot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grew: Option<Growth>,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptLine>,
}

/// One try of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptLine {
    /// Its number, from 1.
    pub attempt: u32,
    /// Its reservation in the run's log.
    pub reservation: u32,
    /// When its money was reserved.
    #[serde(with = "text")]
    #[schemars(with = "super::TimeText")]
    pub at: Timestamp,
    /// What was called.
    pub call: AttemptCall,
    /// The worst case that was reserved.
    pub reserved_usd: Money,
    /// What it cost; nothing where that isn't known yet, or where it was void.
    pub cost_usd: Money,
    /// How that is known.
    pub cost_state: CostState,
    /// Tokens, where the provider reported them.
    pub tokens: Option<TokenDocument>,
    /// What contradicts itself in the usage that the provider reported; the whole reservation is booked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_mismatch: Option<Mismatch>,
    /// What the provider says that it charged, where that isn't what it cost here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_usd: Option<Charged>,
    /// Units that are billed beside the tokens.
    #[serde(default, skip_serializing_if = "Fees::is_none")]
    pub fees: Fees,
    /// The time limit that it ran under.
    pub time_limit_ms: Millis,
    /// Time from dispatch to the end.
    pub latency_ms: Option<Millis>,
    /// Time to the first token, where it was streamed.
    pub first_token_ms: Option<Millis>,
    /// What it gave; null while it is in flight.
    pub gave: Option<Gave>,
    /// What caches had to do with it.
    #[serde(default, skip_serializing_if = "CacheFacts::is_none")]
    pub cache: CacheFacts,
}

/// How the cost of an attempt is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostState {
    /// In flight: its worst case is held.
    Open,
    /// As the provider, or the tool's price, says.
    Reported,
    /// From other evidence of the provider.
    Derived,
    /// Not known: the whole reservation.
    Unknown,
    /// It is proved that nothing was billed.
    Void,
}

impl CostState {
    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Reported => "reported",
            Self::Derived => "derived",
            Self::Unknown => "unknown",
            Self::Void => "void",
        }
    }
}

/// What an attempt called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AttemptCall {
    /// A model.
    Model(ModelLine),
    /// A tool.
    Tool(ToolLine),
}

/// A model call as it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelLine {
    /// The model asked.
    pub model: ModelName,
    /// The account of its provider that pays; null for the provider's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// The price version pinned.
    pub price: PriceId,
    /// What it was for.
    pub purpose: Purpose,
    /// The output cap sent.
    pub max_output_tokens: u32,
    /// The bound of the input, and how it was found.
    pub input_bound: InputBound,
    /// The request by pot.
    pub pots: Pots,
    /// What was cut to make it fit.
    pub cuts: Vec<Cut>,
    /// Why this model and not the first.
    pub instead: Option<String>,
    /// Why the models of the policy's `downgrade` were asked, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgraded: Option<DowngradeWhy>,
    /// What the provider counted before, where the plan asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Count>,
    /// What the runtime asked beside the conversation.
    pub remark: Option<String>,
}

/// A tool call as it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolLine {
    /// The tool.
    pub tool: ToolName,
    /// The provider's id of the call.
    pub call_id: String,
    /// The arguments as the model wrote them.
    pub arguments: Option<String>,
    /// True where calling again loses nothing.
    pub idempotent: bool,
}

/// What an attempt gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "gave", rename_all = "snake_case")]
pub enum Gave {
    /// A model's reply.
    Reply(ReplyLine),
    /// A tool's result.
    Result {
        /// What the model is told.
        content: String,
        /// True where it tells of an error.
        is_error: bool,
        /// Bytes that were cut off.
        cut_bytes: u64,
    },
    /// No reply.
    Failure(Failure),
}

/// A model's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyLine {
    /// The visible text.
    pub text: String,
    /// The model's own words when it declines.
    pub refusal: Option<String>,
    /// The tool calls that it asks for.
    pub calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// The model that the provider says answered.
    pub response_model: Option<String>,
    /// The service tier that the provider says it used.
    pub service_tier: Option<String>,
    /// Factors on the price that the provider says apply.
    #[serde(default, skip_serializing_if = "Factors::is_none")]
    pub factors: Factors,
    /// The provider's id of the request.
    pub request_id: Option<String>,
}

impl StepLine {
    /// Where it stands in a workflow: `read[3]`; `None` for a single loop, whose one stage nobody named.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        (self.stage.as_str() != "main").then(|| Place { stage: self.stage.clone(), item: self.item })
    }
}

impl Trace {
    /// The trace of a run at a time; `None` where the log doesn't begin with the run's creation.
    #[must_use]
    pub fn of(id: RunId, plan: Arc<Plan>, log: &[Recorded], now: Timestamp) -> Option<Self> {
        let run = replay(id, plan, log)?;
        let (head, spent) = (None, run.spent());
        Self::told(&run, head, &spent, log, now)
    }

    /// The trace of a run with those of all below it, each where it was called: the lines of all of them add up to its
    /// head. `None` where a log doesn't fit those above it.
    ///
    /// # Errors
    /// What `read` says.
    pub fn of_tree<E>(
        id: RunId,
        plan: &Arc<Plan>,
        now: Timestamp,
        read: &mut dyn FnMut(RunId) -> Result<Vec<Recorded>, E>,
    ) -> Result<Option<Self>, E> {
        let log = read(id)?;
        let Some(tree) = Tree::with_log(id, plan.clone(), &log, &mut *read)? else { return Ok(None) };
        let Some(Event::Created(created)) = log.first().map(|first| &first.event) else { return Ok(None) };
        let head = RunDocument::of_tree(&tree, created.load_line, now);
        let Some(mut trace) = Self::told(tree.root(), Some(head), &tree.spent(id), &log, now) else {
            return Ok(None);
        };
        for entry in &mut trace.timeline {
            let TimelineEntry::Child(child) = entry else { continue };
            let Some(plan) = plan.agents.get(&child.agent) else { return Ok(None) };
            child.trace = Self::of_tree(child.run, plan, now, read)?;
        }
        Ok(Some(trace))
    }

    fn told(run: &Run, head: Option<RunDocument>, spent: &Spent, log: &[Recorded], now: Timestamp) -> Option<Self> {
        let first = log.first()?;
        let Event::Created(created) = &first.event else { return None };
        let mut fold = Fold::default();
        log.iter().for_each(|recorded| fold.apply(recorded));
        let ended = log.iter().find(|recorded| matches!(recorded.event, Event::Ended(_))).map(|recorded| recorded.at);
        let head = head.unwrap_or_else(|| RunDocument::of(run, created.load_line, now));
        let refusal = run.ended.as_ref().map_or(run.lands.clone(), |ended| ended.refusal.clone());
        let limits = fold.peaks.standings(run, spent, refusal.as_ref(), ended.unwrap_or(now));
        let mut trace = Self::assemble(head, created, (first.at, ended), refusal, fold.timeline, limits);
        trace.waits_until = run.expires_at();
        trace.files.splice(0..0, run.plan.files.iter().map(FileLine::of_agent));
        Some(trace)
    }

    fn assemble(
        head: RunDocument,
        created: &Created,
        (at, ended): (Timestamp, Option<Timestamp>),
        refusal: Option<Refusal>,
        timeline: Vec<TimelineEntry>,
        limits: Vec<LimitStanding>,
    ) -> Self {
        Self {
            head,
            created: at,
            ended,
            plan: created.plan.clone(),
            prompt_version: created.prompt_version.clone(),
            labels: created.labels.clone(),
            key: created.key.clone(),
            simulated: created.simulated,
            input: created.input.clone(),
            erased: created.erased,
            files: created.files.iter().map(FileLine::of).collect(),
            expected_usd: created.expected,
            foreseen_usd: created.foreseen,
            waits_until: None,
            refusal,
            timeline,
            limits,
        }
    }

    /// Every step.
    pub fn steps(&self) -> impl Iterator<Item = &StepLine> {
        self.timeline.iter().filter_map(|entry| if let TimelineEntry::Step(step) = entry { Some(step) } else { None })
    }

    /// Every attempt, those of the runs below included where they are told.
    #[must_use]
    pub fn attempts(&self) -> Box<dyn Iterator<Item = &AttemptLine> + '_> {
        let below = self.children().filter_map(|child| child.trace.as_ref()).flat_map(Self::attempts);
        Box::new(self.steps().flat_map(|step| &step.attempts).chain(below))
    }

    /// The runs right below.
    pub fn children(&self) -> impl Iterator<Item = &ChildLine> {
        self.timeline
            .iter()
            .filter_map(|entry| if let TimelineEntry::Child(child) = entry { Some(&**child) } else { None })
    }

    /// Where one limit stood.
    #[must_use]
    pub fn limit(&self, kind: LimitKind) -> Option<&LimitStanding> {
        self.limits.iter().find(|standing| standing.limit == kind)
    }
}

impl Gave {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Reply { message, stop, response_model, service_tier, factors, request_id, response_id: _ } => {
                Self::Reply(ReplyLine {
                    text: message.text.clone(),
                    refusal: message.refusal.clone(),
                    calls: message.calls.clone(),
                    stop: stop.clone(),
                    response_model: response_model.clone(),
                    service_tier: service_tier.clone(),
                    factors: *factors,
                    request_id: request_id.clone(),
                })
            }
            Outcome::ToolResult { content, is_error, cut_bytes } => {
                Self::Result { content: content.clone(), is_error: *is_error, cut_bytes: *cut_bytes }
            }
            Outcome::Failed(failure) => Self::Failure(failure.clone()),
        }
    }
}
