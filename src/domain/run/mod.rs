//! One run, as a fold of its events: what has happened, what counts, and (in `next.rs`) what should happen now.
//!
//! Invariants: the same events give the same state; a counter never falls; nothing starts after the end.
//! Deliberately absent: prices, requests and effects. The runtime performs what [`Run::next`] names.

mod answer;
mod apply;
mod children;
mod judge;
mod lane;
mod next;
mod person;
mod stage;
mod tree;
mod words;

pub use answer::{ANSWER_BYTES_MAX, AnswerFault, Given};
pub use judge::{NodeRef, Refused, hash_call};
pub use next::{CallCheck, ChildIntent, Intent, ModelIntent, Next, NextOfTree, ToolIntent};
pub use person::{Asking, NOBODY, hash_shown};
pub use stage::StageOver;
pub use tree::Tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::context::Documents;
use crate::domain::event::{Created, Ended, Labels, Landing, Parent, Place, Purpose, RunState, Spent, StepKey};
use crate::domain::limits::{AtLimit, Refusal};
use crate::domain::message::{Assistant, Message, Sent};
use crate::domain::outcome::Outcome;
use crate::domain::plan::{Plan, StageKind};
use crate::domain::pricing::Usage;
use crate::domain::retry::Failure;
use crate::ids::{ModelName, ReservationId, RunId, StageName};
use crate::units::{Millis, Money, Timestamp, Tokens};
use stage::{Lane, Stage};

/// Turns between two summaries of a conversation, at least.
const SUMMARY_TURNS_MIN: usize = 4;

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
    /// The documents that go with its input.
    pub documents: Option<Arc<Documents>>,
    /// The files that go with its input, as messages: the agent's own, then those that it was given.
    pub files: Arc<[Sent]>,
    /// What it hangs below; `None` for a root.
    pub parent: Option<Parent>,
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
    /// How it ended.
    pub ended: Option<Ended>,
    /// What it was worth, as far as anybody said.
    pub outcome: Outcome,
    /// What the landing call said.
    landed: Option<Assistant>,
    /// Tries of the landing call that gave no reply.
    landing_tries: Vec<Try>,
    /// Questions to people, by number.
    asks: Vec<Asking>,
    stages: Vec<Stage>,
    /// The open runs right below, each with where it was called.
    children: BTreeMap<RunId, Place>,
    /// What those came to that have ended.
    children_spent: Spent,
    children_begun: u32,
    /// Boxed, since a map keeps room for eleven, and most runs have one.
    open: BTreeMap<ReservationId, Box<Attempt>>,
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
    Model { model: ModelName, purpose: Purpose, input: Tokens, output: Tokens, sums_up: Option<u32> },
    Tool { call_id: String },
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
        let stages = plan.stages.iter().map(|stage| Stage::new(stage.id.clone())).collect();
        let files = plan.files.iter().chain(&created.files).cloned();
        let files = files.map(|file| Sent::from(Message::File(file))).collect();
        Self {
            id,
            plan,
            input: created.input.clone(),
            labels: created.labels.clone(),
            simulated: created.simulated,
            documents: created.documents.clone(),
            files,
            parent: created.parent.clone(),
            state: RunState::Queued,
            counters: Counters::default(),
            landing: None,
            lands: None,
            latest_model: None,
            cancelled: None,
            ended: None,
            outcome: Outcome::default(),
            landed: None,
            landing_tries: Vec::new(),
            asks: Vec::new(),
            stages,
            children: BTreeMap::new(),
            children_spent: Spent::default(),
            children_begun: 0,
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

    /// True where limits are met by one last answer. A sub-agent's run keeps nothing back: what it has goes up.
    #[must_use]
    pub fn can_land(&self) -> bool {
        self.parent.is_none() && self.plan.limits.at_limit == AtLimit::Land
    }

    /// The conversation of a stage so far, without system and user text: turns, tool answers, remarks. A turn whose
    /// calls aren't all answered is left out, so that no call stands without its answer. Empty where the stage isn't open.
    #[must_use]
    pub fn turns(&self, stage: &StageName) -> Vec<Sent> {
        self.turns_of(stage, None)
    }

    /// The same of one place in a workflow.
    #[must_use]
    pub fn turns_at(&self, place: &Place) -> Vec<Sent> {
        self.turns_of(&place.stage, place.item)
    }

    pub(crate) fn turns_of(&self, stage: &StageName, item: Option<u32>) -> Vec<Sent> {
        self.lane(stage, item).map(Lane::sent).unwrap_or_default()
    }

    /// About how many bytes the conversation at a step has: the texts, without frames.
    #[must_use]
    pub fn bytes(&self, step: &StepKey) -> Tokens {
        let bytes = self.lane(&step.stage, step.item).map_or(0, Lane::bytes);
        Tokens(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// What stands for the first turns of a conversation, once they were summed up.
    #[must_use]
    pub fn summary_at(&self, stage: &StageName, item: Option<u32>) -> Option<&Sent> {
        self.lane(stage, item)?.summary.as_ref().map(|summary| &summary.sent)
    }

    /// How many turns a conversation has, those that were summed up included.
    #[must_use]
    pub fn turn_count(&self, step: &StepKey) -> usize {
        self.lane(&step.stage, step.item).map_or(0, |lane| lane.turns.len())
    }

    /// Why a conversation can't be summed up now, in words; `None` where it can.
    #[must_use]
    pub fn why_no_summary(&self, step: &StepKey) -> Option<&'static str> {
        let lane = self.lane(&step.stage, step.item)?;
        let limits = &self.plan.limits;
        // The summary itself, the turn that it is for, and what is kept back to land.
        let needed = 2 + u32::from(self.can_land());
        let room = |used: u32, limit: u32| used.saturating_add(needed) <= limit;
        if lane.summed_up_at.is_some_and(|at| lane.turns.len() < at + SUMMARY_TURNS_MIN) {
            Some("this was tried less than 4 turns ago")
        } else if !room(self.counters.steps, limits.steps)
            || !room(self.counters.model_calls, limits.model_calls)
            || !room(self.counters.attempts, limits.attempts)
        {
            Some("no step is left for it")
        } else {
            None
        }
    }

    /// True where the first call will be the only one: no tools, one stage, no form that might need mending.
    #[must_use]
    pub fn first_call_is_last(&self) -> bool {
        match self.plan.stages.as_slice() {
            [stage] => self.call_is_last(&stage.id, None),
            _ => false,
        }
    }

    /// True where nothing can come after a call there: a root's stage without tools, and every other stage is over.
    fn call_is_last(&self, stage: &StageName, item: Option<u32>) -> bool {
        let others_are_over = || self.stages.iter().all(|other| other.id == *stage || other.over().is_some());
        let calls_a_model = |kind: &StageKind| matches!(kind, StageKind::Loop { .. } | StageKind::Model { .. });
        let has_no_tools =
            || self.plan.stage(stage).is_some_and(|plan| calls_a_model(&plan.kind) && plan.kind.tools().is_empty());
        self.parent.is_none() && item.is_none() && has_no_tools() && others_are_over() && self.children.is_empty()
    }

    /// The stages, in order.
    pub fn stage_names(&self) -> impl DoubleEndedIterator<Item = &StageName> {
        self.stages.iter().map(|stage| &stage.id)
    }

    /// How a stage was over, once it is.
    #[must_use]
    pub fn stage_over(&self, id: &StageName) -> Option<&StageOver> {
        self.stage(id)?.over()
    }

    /// The items of a map that has begun.
    #[must_use]
    pub fn map_items(&self, id: &StageName) -> Option<&[Value]> {
        self.stage(id)?.items()
    }

    /// How the items of a map were over that are, in their order.
    pub fn items_over(&self, id: &StageName) -> impl Iterator<Item = &StageOver> {
        self.stage(id).into_iter().flat_map(Stage::items_over)
    }

    /// The model whose last answer the landing reserve is for: of a single loop the one that it asked last, of a workflow
    /// always the agent's first, so that what is reserved at the start is enough to the end.
    #[must_use]
    pub fn landing_model(&self) -> Option<&ModelName> {
        let latest = self.latest_model.as_ref().filter(|_| !self.plan.is_workflow());
        latest.or_else(|| self.plan.model.candidates.first())
    }

    /// The places that are under way: stages, and items of maps.
    pub fn open_places(&self) -> impl Iterator<Item = &Place> {
        self.stages.iter().flat_map(Stage::lanes).map(|lane| &lane.place)
    }

    fn stage(&self, id: &StageName) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.id == *id)
    }

    fn lane(&self, stage: &StageName, item: Option<u32>) -> Option<&Lane> {
        self.stage(stage)?.lane(item)
    }

    fn stage_mut(&mut self, id: &StageName) -> Option<&mut Stage> {
        self.stages.iter_mut().find(|stage| stage.id == *id)
    }
}
