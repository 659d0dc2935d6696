//! One run, as a fold of its events: what has happened, what counts, and (in `next.rs`) what should happen now.
//!
//! Invariants: the same events give the same state; a counter never falls; nothing starts after the end.
//! Deliberately absent: prices, requests and effects. The runtime performs what [`Run::next`] names.

mod apply;
mod judge;
mod next;
mod person;

pub use judge::hash_call;
pub use next::{CallCheck, Intent, ModelIntent, Next, ToolIntent};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::event::{Created, Ended, Labels, Landing, Purpose, RunState, StepKey};
use crate::domain::limits::{AtLimit, Refusal};
use crate::domain::message::{Assistant, Message, StopReason, ToolAnswer, ToolCall};
use crate::domain::plan::{Plan, StagePlan};
use crate::domain::pricing::Usage;
use crate::domain::retry::Failure;
use crate::ids::{ModelName, ReservationId, RunId, StageName, ToolName};
use crate::units::{Millis, Money, Timestamp, Tokens};
use person::PersonWait;

/// What limits count. None of it ever falls; a resume resets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Passages through the gate.
    pub steps: u32,
    /// Steps that call a model.
    pub model_calls: u32,
    /// Steps that call a tool.
    pub tool_calls: u32,
    /// Tries of model calls.
    pub attempts: u32,
    /// Tool errors in a row.
    pub tool_errors: u32,
    /// Calls of one tool with the same arguments, by their hash.
    pub repeats: BTreeMap<String, u32>,
    /// Tokens of all attempts that reported them.
    pub usage: Usage,
    /// Input tokens for the token limits: as reported, else the bound.
    pub input: Tokens,
    /// Output tokens for the token limits: as reported, else the cap that was sent.
    pub output: Tokens,
    /// What the run has settled, unknown money included.
    pub settled: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown: Money,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The plan that it keeps.
    pub plan: Arc<Plan>,
    /// Its input.
    pub input: Value,
    /// Its labels.
    pub labels: Labels,
    /// True where the simulated provider answers.
    pub simulated: bool,
    /// Where it stands.
    pub state: RunState,
    /// What limits count.
    pub counters: Counters,
    /// The landing reserve that is held.
    pub landing: Option<Landing>,
    /// The limit that it met, once it lands.
    pub lands: Option<Refusal>,
    /// The model of its latest model call.
    pub latest_model: Option<ModelName>,
    /// Why it was asked to end.
    pub cancelled: Option<String>,
    /// The call that a person must decide on.
    pub asked: Option<String>,
    /// What a person was asked, while nobody has answered.
    person: Option<PersonWait>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// What the landing call said.
    landed: Option<Assistant>,
    /// Tries of the landing call that gave no reply.
    landing_tries: Vec<Try>,
    stages: Vec<Stage>,
    open: BTreeMap<ReservationId, Attempt>,
    next_reservation: u32,
    active: Millis,
    /// When the present stretch of active time began.
    active_since: Option<Timestamp>,
    last_at: Timestamp,
}

/// An attempt whose end isn't known yet.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) step: StepKey,
    pub(crate) kind: AttemptKind,
    pub(crate) amount: Money,
}

#[derive(Clone, Debug)]
pub(crate) enum AttemptKind {
    Model { model: ModelName, purpose: Purpose, input: Tokens, output: Tokens },
    Tool { call_id: String },
}

/// One stage's progress.
#[derive(Clone, Debug)]
struct Stage {
    id: StageName,
    tools: Vec<ToolName>,
    turns: Vec<Turn>,
    /// The model step under way, with the tries that failed.
    step: Option<ModelStep>,
    repairs: u32,
}

/// What a model said, and the answers to its calls.
#[derive(Clone, Debug)]
struct Turn {
    said: Assistant,
    stop: StopReason,
    calls: Vec<CallProgress>,
    /// What the runtime said afterwards: the request to mend an answer.
    remark: Option<String>,
}

/// Where one tool call stands.
#[derive(Clone, Debug)]
struct CallProgress {
    call: ToolCall,
    step: Option<u32>,
    tries: u32,
    status: CallStatus,
}

#[derive(Clone, Debug)]
enum CallStatus {
    Pending,
    InFlight,
    /// It was in flight when the process went down, and isn't idempotent.
    InDoubt,
    Answered(ToolAnswer),
}

/// A model step that has no reply yet.
#[derive(Clone, Debug)]
struct ModelStep {
    step: u32,
    tries: Vec<Try>,
    in_flight: bool,
}

/// A try of a model step that gave no reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Try {
    /// Its reservation.
    pub reservation: ReservationId,
    /// The model.
    pub model: ModelName,
    /// What happened.
    pub failure: Failure,
    /// When it was over.
    pub at: Timestamp,
    /// True where it is proved that nothing was billed.
    pub unbilled: bool,
}

impl Run {
    /// A run from its first event.
    #[must_use]
    pub fn new(id: RunId, plan: Arc<Plan>, created: &Created, at: Timestamp) -> Self {
        let stages = plan.stages.iter().map(Stage::new).collect();
        Self {
            id,
            plan,
            input: created.input.clone(),
            labels: created.labels.clone(),
            simulated: created.simulated,
            state: RunState::Queued,
            counters: Counters::default(),
            landing: None,
            lands: None,
            latest_model: None,
            cancelled: None,
            asked: None,
            person: None,
            ended: None,
            landed: None,
            landing_tries: Vec::new(),
            stages,
            open: BTreeMap::new(),
            next_reservation: 0,
            active: Millis::ZERO,
            active_since: None,
            last_at: at,
        }
    }

    /// The id that the next reservation of this run has.
    #[must_use]
    pub fn next_reservation(&self) -> ReservationId {
        ReservationId { run: self.id, number: self.next_reservation }
    }

    /// Active time so far: what `wall_time` counts.
    #[must_use]
    pub fn active(&self, now: Timestamp) -> Millis {
        self.active.plus(self.active_since.map_or(Millis::ZERO, |since| now.since(since)))
    }

    /// True where attempts are in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// What open attempts hold, without the landing reserve.
    #[must_use]
    pub fn held_by_attempts(&self) -> Money {
        self.open.values().map(|attempt| attempt.amount).sum()
    }

    /// True where limits are met by one last answer.
    #[must_use]
    pub fn can_land(&self) -> bool {
        self.plan.limits.at_limit == AtLimit::Land
    }

    /// The conversation of a stage so far, without system and user text: turns, tool answers, remarks. A turn whose
    /// calls aren't all answered is left out with `whole_turns`, so that no call stands without its answer.
    #[must_use]
    pub fn turns(&self, stage: &StageName) -> Vec<Message> {
        let turns = self.stages.iter().filter(|each| each.id == *stage).flat_map(|stage| &stage.turns);
        turns.filter(|turn| turn.calls.iter().all(CallProgress::is_answered)).flat_map(Turn::messages).collect()
    }

    /// About how many bytes a stage's conversation has: the texts, without frames.
    #[must_use]
    pub fn bytes(&self, stage: &StageName) -> Tokens {
        let turns = self.stages.iter().filter(|each| each.id == *stage).flat_map(|stage| &stage.turns);
        let bytes = turns.map(Turn::bytes).fold(0usize, usize::saturating_add);
        Tokens(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// True where the first call will be the only one: no tools, one stage, no form that might need mending.
    #[must_use]
    pub fn first_call_is_last(&self) -> bool {
        matches!(self.stages.as_slice(), [stage] if stage.tools.is_empty())
    }

    /// The stages, in order.
    pub fn stage_names(&self) -> impl DoubleEndedIterator<Item = &StageName> {
        self.stages.iter().map(|stage| &stage.id)
    }

    fn stage_mut(&mut self, id: &StageName) -> Option<&mut Stage> {
        self.stages.iter_mut().find(|stage| stage.id == *id)
    }
}

impl Stage {
    fn new(plan: &StagePlan) -> Self {
        let tools = plan.kind.tools();
        Self { id: plan.id.clone(), tools: tools.to_vec(), turns: Vec::new(), step: None, repairs: 0 }
    }
}

impl CallProgress {
    fn is_answered(&self) -> bool {
        matches!(self.status, CallStatus::Answered(_))
    }
}

impl Turn {
    fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| match &call.status {
            CallStatus::Answered(answer) => call.call.arguments.len() + answer.content.len(),
            CallStatus::Pending | CallStatus::InFlight | CallStatus::InDoubt => call.call.arguments.len(),
        });
        calls.fold(self.said.text.len(), usize::saturating_add)
    }

    fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::Assistant(self.said.clone())];
        messages.extend(self.calls.iter().filter_map(|call| match &call.status {
            CallStatus::Answered(answer) => Some(Message::Tool(answer.clone())),
            CallStatus::Pending | CallStatus::InFlight | CallStatus::InDoubt => None,
        }));
        messages.extend(self.remark.iter().map(|text| Message::User { text: text.clone() }));
        messages
    }
}
