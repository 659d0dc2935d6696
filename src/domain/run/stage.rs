//! How far each stage of a run has come: waiting, open with its lanes, or over with what it gave.

use std::sync::Arc;

use serde_json::Value;

use crate::domain::event::{Ended, MapBegan, Place, Spent, StageEnd, StageEnded};
use crate::domain::limits::Refusal;
use crate::domain::message::{Assistant, Message, StopReason, ToolAnswer, ToolCall};
use crate::ids::{RunId, StageName};
use crate::units::Millis;

use super::Try;

/// One stage's progress.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) id: StageName,
    pub(super) state: StageState,
    /// What it has come to, sub-agents that have ended included.
    pub(super) spent: Spent,
    /// The run's active time when it began.
    pub(super) began: Option<Millis>,
}

#[derive(Clone, Debug)]
pub(super) enum StageState {
    /// Something that it needs isn't over, or there is no place free.
    Waiting,
    /// Its lanes in order: one, or one for each item of a map.
    Open { lanes: Vec<LaneSlot>, items: Option<Arc<[Value]>> },
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
    /// The model step under way, with the tries that failed.
    pub(super) step: Option<ModelStep>,
    pub(super) repairs: u32,
    /// Tool errors in a row: lanes beside it don't end the row.
    pub(super) tool_errors: u32,
    /// The sub-agent's run that is the lane's whole work.
    pub(super) child: Option<ChildState>,
}

/// How far a sub-agent's run has come, as its parent sees it.
#[derive(Clone, Debug)]
pub(super) enum ChildState {
    Open(RunId),
    Ended(Box<Ended>),
}

/// What a model said, and the answers to its calls.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) said: Assistant,
    pub(super) stop: StopReason,
    pub(super) calls: Vec<CallProgress>,
    /// What the runtime said afterwards: the request to mend an answer.
    pub(super) remark: Option<String>,
}

/// Where one tool call stands.
#[derive(Clone, Debug)]
pub(super) struct CallProgress {
    pub(super) call: ToolCall,
    pub(super) step: Option<u32>,
    pub(super) tries: u32,
    pub(super) status: CallStatus,
}

#[derive(Clone, Debug)]
pub(super) enum CallStatus {
    Pending,
    InFlight,
    /// It was in flight when the process went down, and isn't idempotent.
    InDoubt,
    /// A sub-agent's run answers it.
    Child(RunId),
    Answered(ToolAnswer),
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
        Self { id, state: StageState::Waiting, spent: Spent::default(), began: None }
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
        let slots = if let StageState::Open { lanes, .. } = &self.state { &lanes[..] } else { &[] };
        slots.iter().filter_map(|slot| if let LaneSlot::Over(over) = slot { Some(&**over) } else { None })
    }

    /// The lanes under way, in order.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let slots = if let StageState::Open { lanes, .. } = &self.state { &lanes[..] } else { &[] };
        slots.iter().filter_map(|slot| if let LaneSlot::Open(lane) = slot { Some(&**lane) } else { None })
    }

    pub(super) fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        let slots = if let StageState::Open { lanes, .. } = &mut self.state { &mut lanes[..] } else { &mut [] };
        slots.iter_mut().filter_map(|slot| if let LaneSlot::Open(lane) = slot { Some(&mut **lane) } else { None })
    }

    /// The lane of an item, or of the stage itself, where it is under way.
    pub(super) fn lane(&self, item: Option<u32>) -> Option<&Lane> {
        let StageState::Open { lanes, .. } = &self.state else { return None };
        let slot = lanes.get(index(item))?;
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
            self.state = StageState::Open { lanes: vec![LaneSlot::Waiting], items: None };
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
        self.state = StageState::Open { lanes, items: Some(began.items.clone().into()) };
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
            (StageState::Open { lanes, .. }, item @ Some(_)) => {
                if let Some(slot) = lanes.get_mut(index(item)) {
                    *slot = LaneSlot::Over(Box::new(over));
                }
            }
            (state, _) => *state = StageState::Over(over),
        }
    }
}

/// A stage that is no map has one lane.
fn index(item: Option<u32>) -> usize {
    item.map_or(0, |item| usize::try_from(item).unwrap_or(usize::MAX))
}

impl Lane {
    pub(super) const fn new(place: Place) -> Self {
        Self { place, turns: Vec::new(), step: None, repairs: 0, tool_errors: 0, child: None }
    }

    /// A call of the latest turn.
    pub(super) fn call_mut(&mut self, call_id: &str) -> Option<&mut CallProgress> {
        self.turns.last_mut()?.calls.iter_mut().find(|call| call.call.id == call_id)
    }
}

impl CallProgress {
    pub(super) const fn is_answered(&self) -> bool {
        matches!(self.status, CallStatus::Answered(_))
    }
}

impl Turn {
    pub(super) fn of(message: &Assistant, stop: &StopReason) -> Self {
        let calls = message.calls.iter().map(|call| CallProgress {
            call: call.clone(),
            step: None,
            tries: 0,
            status: CallStatus::Pending,
        });
        Self { said: message.clone(), stop: stop.clone(), calls: calls.collect(), remark: None }
    }

    pub(super) fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| match &call.status {
            CallStatus::Answered(answer) => call.call.arguments.len() + answer.content.len(),
            CallStatus::Pending | CallStatus::InFlight | CallStatus::InDoubt | CallStatus::Child(_) => {
                call.call.arguments.len()
            }
        });
        calls.fold(self.said.text.len(), usize::saturating_add)
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::Assistant(self.said.clone())];
        messages.extend(self.calls.iter().filter_map(|call| match &call.status {
            CallStatus::Answered(answer) => Some(Message::Tool(answer.clone())),
            CallStatus::Pending | CallStatus::InFlight | CallStatus::InDoubt | CallStatus::Child(_) => None,
        }));
        messages.extend(self.remark.iter().map(|text| Message::User { text: text.clone() }));
        messages
    }
}
