//! How far each stage of a run has come: waiting, open with its lanes, or over with what it gave.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::context;
use crate::domain::event::{Ended, MapBegan, Place, Spent, StageEnd, StageEnded};
use crate::domain::limits::Refusal;
use crate::domain::message::{Assistant, Message, Sent, StopReason, ToolCall};
use crate::ids::{RunId, StageName};
use crate::units::Millis;

use super::Try;

/// Room for the messages of one step and a remark, so that a list of a conversation rarely grows.
const MESSAGES_AT_ONCE: usize = 8;

/// One stage's progress.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) id: StageName,
    pub(super) state: StageState,
    /// What it has come to, sub-agents that have ended included.
    pub(super) spent: Spent,
    /// The run's active time when it began.
    pub(super) began: Option<Millis>,
    /// Sub-agents that it has begun, those below them not included.
    pub(super) children_begun: u32,
    /// Its calls of tools, by what names a call for `repeats`.
    pub(super) repeats: BTreeMap<String, u32>,
}

#[derive(Clone, Debug)]
pub(super) enum StageState {
    /// Something that it needs isn't over, or there is no place free.
    Waiting,
    /// Its lanes in order: one, or one for each item of a map.
    Open {
        lanes: Vec<LaneSlot>,
        items: Option<Arc<[Value]>>,
        /// What the outputs of the items that are over have in bytes, as JSON.
        bytes: usize,
    },
    /// Its lanes are dropped.
    Over(StageOver),
}

/// A lane that waits for its turn, is under way, or is over. A map opens them in order, as places come free.
#[derive(Clone, Debug)]
pub(super) enum LaneSlot {
    Waiting,
    Open(Box<Lane>),
    Over(Box<StageOver>),
}

/// How a stage, or one item of a map, was over, and what it gave.
#[derive(Clone, Debug, PartialEq)]
pub struct StageOver {
    /// How.
    pub end: StageEnd,
    /// What it gave; null where it gave nothing.
    pub output: Value,
    /// The limit, for `stopped`.
    pub refusal: Option<Refusal>,
    /// The error in words, for `failed`.
    pub error: Option<String>,
}

/// One thread of a stage's work: the stage itself, or one item.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) place: Place,
    pub(super) turns: Vec<Turn>,
    /// What is sent of its turns but the last, which alone still changes.
    before: Said,
    /// The model step under way, with the tries that failed.
    pub(super) step: Option<ModelStep>,
    pub(super) repairs: u32,
    /// What stands for its first turns.
    pub(super) summary: Option<Summary>,
    /// How many turns it had when it was to be summed up last.
    pub(super) summed_up_at: Option<usize>,
    /// Tool errors in a row: lanes beside it don't end the row.
    pub(super) tool_errors: u32,
    /// The stage's own call of a tool, from its first reservation, or since a person was asked about it.
    pub(super) call: Option<CallProgress>,
    /// The question that an approval waits for.
    pub(super) asked: Option<u32>,
    /// The sub-agent's run that is the lane's whole work.
    pub(super) child: Option<ChildState>,
}

/// How far a sub-agent's run has come, as its parent sees it.
#[derive(Clone, Debug)]
pub(super) enum ChildState {
    Open(RunId),
    Ended(Box<Ended>),
}

/// Messages as they are sent, with what their texts have in bytes.
#[derive(Clone, Debug, Default)]
struct Said {
    messages: Vec<Sent>,
    bytes: usize,
}

/// A summary of the first turns of a lane, sent in their place.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) turns: usize,
    pub(super) sent: Sent,
}

/// What a model said, and the answers to its calls.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    said: Sent,
    pub(super) stop: StopReason,
    pub(super) calls: Vec<CallProgress>,
    /// What the runtime said afterwards: the request to mend an answer.
    pub(super) remark: Option<Sent>,
}

/// Where one tool call stands.
#[derive(Clone, Debug)]
pub(super) struct CallProgress {
    pub(super) call: ToolCall,
    pub(super) step: Option<u32>,
    pub(super) tries: u32,
    pub(super) status: CallStatus,
    /// True once a person said yes to it.
    pub(super) is_allowed: bool,
    /// The arguments that a person put in the place of the model's.
    pub(super) edited: Option<Value>,
}

#[derive(Clone, Debug)]
pub(super) enum CallStatus {
    Pending,
    /// A person was asked: the question's number.
    Asked(u32),
    InFlight,
    /// It was in flight when the process went down, and isn't idempotent.
    InDoubt,
    /// A sub-agent's run answers it.
    Child(RunId),
    /// With a tool's answer.
    Answered(Sent),
}

/// A model step that has no reply yet.
#[derive(Clone, Debug)]
pub(super) struct ModelStep {
    pub(super) step: u32,
    pub(super) tries: Vec<Try>,
    pub(super) in_flight: bool,
}

impl Stage {
    pub(super) fn new(id: StageName) -> Self {
        Self {
            id,
            state: StageState::Waiting,
            spent: Spent::default(),
            began: None,
            children_begun: 0,
            repeats: BTreeMap::new(),
        }
    }

    /// What it gave, once it is over.
    pub(super) const fn over(&self) -> Option<&StageOver> {
        if let StageState::Over(over) = &self.state { Some(over) } else { None }
    }

    /// The items of a map that has begun.
    pub(super) fn items(&self) -> Option<&[Value]> {
        if let StageState::Open { items, .. } = &self.state { items.as_deref() } else { None }
    }

    /// How the items were over that are, in their order.
    pub(super) fn items_over(&self) -> impl Iterator<Item = &StageOver> {
        self.slots_over().map(|(_, over)| over)
    }

    /// The same, each with its index.
    pub(super) fn slots_over(&self) -> impl Iterator<Item = (usize, &StageOver)> {
        self.slots()
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| if let LaneSlot::Over(over) = slot { Some((index, &**over)) } else { None })
    }

    /// The lanes in order, whether they have begun or not.
    pub(super) fn slots(&self) -> &[LaneSlot] {
        if let StageState::Open { lanes, .. } = &self.state { lanes } else { &[] }
    }

    /// What the outputs of its items have in bytes so far.
    pub(super) const fn item_bytes(&self) -> usize {
        if let StageState::Open { bytes, .. } = &self.state { *bytes } else { 0 }
    }

    /// The lanes under way, in order.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.slots().iter().filter_map(|slot| if let LaneSlot::Open(lane) = slot { Some(&**lane) } else { None })
    }

    pub(super) fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        let slots = if let StageState::Open { lanes, .. } = &mut self.state { &mut lanes[..] } else { &mut [] };
        slots.iter_mut().filter_map(|slot| if let LaneSlot::Open(lane) = slot { Some(&mut **lane) } else { None })
    }

    /// The lane of an item, or of the stage itself, where it is under way.
    pub(super) fn lane(&self, item: Option<u32>) -> Option<&Lane> {
        let slot = self.slots().get(index(item))?;
        if let LaneSlot::Open(lane) = slot { Some(lane) } else { None }
    }

    pub(super) fn lane_mut(&mut self, item: Option<u32>) -> Option<&mut Lane> {
        let StageState::Open { lanes, .. } = &mut self.state else { return None };
        let slot = lanes.get_mut(index(item))?;
        if let LaneSlot::Open(lane) = slot { Some(lane) } else { None }
    }

    /// The lane of a place, which its first reservation, or its first sub-agent, opens.
    pub(super) fn enter(&mut self, place: &Place, active: Millis) -> Option<&mut Lane> {
        self.began.get_or_insert(active);
        if matches!(self.state, StageState::Waiting) {
            self.state = StageState::Open { lanes: vec![LaneSlot::Waiting], items: None, bytes: 0 };
        }
        if let StageState::Open { lanes, .. } = &mut self.state
            && let Some(slot @ LaneSlot::Waiting) = lanes.get_mut(index(place.item))
        {
            *slot = LaneSlot::Open(Box::new(Lane::new(place.clone())));
        }
        self.lane_mut(place.item)
    }

    /// A map knows its items: none of them has begun.
    pub(super) fn begin_map(&mut self, began: &MapBegan) {
        let lanes = began.items.iter().map(|_| LaneSlot::Waiting).collect();
        self.state = StageState::Open { lanes, items: Some(began.items.clone().into()), bytes: 0 };
    }

    /// The stage, or one item of it, is over.
    pub(super) fn end(&mut self, ended: &StageEnded) {
        let over = StageOver {
            end: ended.end,
            output: ended.output.clone(),
            refusal: ended.refusal.clone(),
            error: ended.error.clone(),
        };
        match (&mut self.state, ended.place.item) {
            (StageState::Open { lanes, bytes, .. }, item @ Some(_)) => {
                if let Some(slot) = lanes.get_mut(index(item)) {
                    *bytes = bytes.saturating_add(json_bytes(&over.output));
                    *slot = LaneSlot::Over(Box::new(over));
                }
            }
            (state, _) => *state = StageState::Over(over),
        }
    }
}

/// What a value has in bytes, as JSON.
pub(super) fn json_bytes(value: &Value) -> usize {
    value.to_string().len()
}

/// A stage that is no map has one lane.
fn index(item: Option<u32>) -> usize {
    item.map_or(0, |item| usize::try_from(item).unwrap_or(usize::MAX))
}

impl Lane {
    pub(super) const fn new(place: Place) -> Self {
        Self {
            place,
            turns: Vec::new(),
            before: Said { messages: Vec::new(), bytes: 0 },
            step: None,
            summary: None,
            summed_up_at: None,
            repairs: 0,
            tool_errors: 0,
            call: None,
            asked: None,
            child: None,
        }
    }

    /// The model has answered: nothing changes the turn before any more.
    pub(super) fn push(&mut self, turn: Turn) {
        let summed_up = self.summary.as_ref().map_or(0, |summary| summary.turns);
        if let Some(last) = self.turns.get(summed_up..).and_then(<[Turn]>::last) {
            self.before.add(last);
        }
        self.turns.push(turn);
    }

    /// The conversation as it is sent. A turn whose calls aren't all answered is left out.
    pub(super) fn sent(&self) -> Vec<Sent> {
        let last = self.turns_sent().last().filter(|turn| turn.is_answered());
        let mut sent = Vec::with_capacity(self.before.messages.len() + MESSAGES_AT_ONCE);
        sent.extend_from_slice(&self.before.messages);
        sent.extend(last.into_iter().flat_map(Turn::messages));
        sent
    }

    /// What the texts of that have in bytes, and those of calls without an answer.
    pub(super) fn bytes(&self) -> usize {
        self.turns_sent().last().map_or(0, Turn::bytes).saturating_add(self.before.bytes)
    }

    /// How often the provider paused in the answer that it gives.
    pub(super) fn pauses(&self) -> usize {
        let paused = |turn: &&Turn| turn.stop == StopReason::Paused && turn.calls.is_empty();
        self.turns.iter().rev().take_while(paused).count()
    }

    /// The text of its last answer, with what was said of it before each pause.
    pub(super) fn answer(&self) -> String {
        let Some((last, before)) = self.turns.split_last() else { return String::new() };
        let paused = |turn: &&Turn| turn.stop == StopReason::Paused && turn.calls.is_empty();
        let from = before.len() - before.iter().rev().take_while(paused).count();
        before[from..].iter().chain([last]).map(Turn::text).collect()
    }

    /// True where it waits for a person.
    pub(super) fn waits_for_a_person(&self) -> bool {
        let calls = self.turns.last().into_iter().flat_map(|turn| &turn.calls).chain(&self.call);
        self.asked.is_some()
            || calls.into_iter().any(|call| matches!(call.status, CallStatus::InDoubt | CallStatus::Asked(_)))
    }

    /// From here on a summary stands for the first turns; one without a text for none.
    pub(super) fn take_summary(&mut self, text: &str, turns: Option<u32>) {
        let turns = turns.and_then(|turns| usize::try_from(turns).ok()).filter(|turns| *turns <= self.turns.len());
        if let Some(turns) = turns.filter(|_| !text.is_empty()) {
            self.summary = Some(Summary { turns, sent: context::in_place(text) });
            let mut before = Said::default();
            if let Some((_, kept)) = self.turns_sent().split_last() {
                kept.iter().for_each(|turn| before.add(turn));
            }
            self.before = before;
        }
    }

    /// The turns that no summary stands for.
    fn turns_sent(&self) -> &[Turn] {
        let from = self.summary.as_ref().map_or(0, |summary| summary.turns);
        self.turns.get(from..).unwrap_or_default()
    }

    /// The stage's own call, or one of the latest turn.
    pub(super) fn call_mut(&mut self, call_id: &str) -> Option<&mut CallProgress> {
        self.calls_mut().find(|call| call.call.id == call_id)
    }

    /// The stage's own call, and those of the latest turn.
    pub(super) fn calls_mut(&mut self) -> impl Iterator<Item = &mut CallProgress> {
        self.turns.last_mut().into_iter().flat_map(|turn| &mut turn.calls).chain(&mut self.call)
    }
}

impl Said {
    fn add(&mut self, turn: &Turn) {
        self.bytes = self.bytes.saturating_add(turn.bytes());
        if turn.is_answered() {
            self.messages.extend(turn.messages());
        }
    }
}

impl CallProgress {
    /// A call that nobody has made.
    pub(super) const fn new(call: ToolCall) -> Self {
        Self { call, step: None, tries: 0, status: CallStatus::Pending, is_allowed: false, edited: None }
    }

    pub(super) const fn is_answered(&self) -> bool {
        matches!(self.status, CallStatus::Answered(_))
    }

    /// The call as it is made: with the arguments that a person put in the place of the model's, if one did.
    pub(super) fn to_make(&self) -> ToolCall {
        let arguments = self.edited.as_ref().map_or_else(|| self.call.arguments.clone(), Value::to_string);
        ToolCall { arguments, ..self.call.clone() }
    }
}

impl Turn {
    pub(super) fn of(message: &Assistant, stop: &StopReason) -> Self {
        let calls = message.calls.iter().cloned().map(CallProgress::new);
        let said = Sent::from(Message::Assistant(message.clone()));
        Self { said, stop: stop.clone(), calls: calls.collect(), remark: None }
    }

    /// The text that the model said; empty where there was none.
    pub(super) fn text(&self) -> &str {
        if let Message::Assistant(said) = &*self.said { &said.text } else { "" }
    }

    /// True where none of its calls is still to be answered.
    fn is_answered(&self) -> bool {
        self.calls.iter().all(CallProgress::is_answered)
    }

    fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| match &call.status {
            CallStatus::Answered(answer) => call.call.arguments.len() + length(answer),
            CallStatus::Pending
            | CallStatus::Asked(_)
            | CallStatus::InFlight
            | CallStatus::InDoubt
            | CallStatus::Child(_) => call.call.arguments.len(),
        });
        calls.fold(self.text().len(), usize::saturating_add)
    }

    /// What was said, the answers to its calls, and what the runtime said then.
    fn messages(&self) -> impl Iterator<Item = Sent> {
        let answers = self.calls.iter().filter_map(|call| match &call.status {
            CallStatus::Answered(answer) => Some(answer),
            CallStatus::Pending
            | CallStatus::Asked(_)
            | CallStatus::InFlight
            | CallStatus::InDoubt
            | CallStatus::Child(_) => None,
        });
        std::iter::once(&self.said).chain(answers).chain(&self.remark).cloned()
    }
}

fn length(answer: &Sent) -> usize {
    if let Message::Tool(answer) = &**answer { answer.content.len() } else { 0 }
}
