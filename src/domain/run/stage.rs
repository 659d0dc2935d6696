//! How far each stage of a run has come: waiting, open with its lanes, or over with what it gave.

use std::sync::Arc;

use serde_json::Value;

use crate::domain::event::{MapBegan, Place, StageEnd, StageEnded, StepKey};
use crate::domain::limits::Refusal;
use crate::domain::message::{Assistant, Message, StopReason, ToolAnswer, ToolCall};
use crate::ids::StageName;

use super::Try;

/// One stage's progress.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) id: StageName,
    pub(super) state: StageState,
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
    /// The question that an approval waits for.
    pub(super) asked: Option<u32>,
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
    pub(super) const fn new(id: StageName) -> Self {
        Self { id, state: StageState::Waiting }
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

    /// The lane that a step stands in, which its first reservation opens.
    pub(super) fn enter(&mut self, step: &StepKey) -> Option<&mut Lane> {
        if matches!(self.state, StageState::Waiting) {
            self.state = StageState::Open { lanes: vec![LaneSlot::Waiting], items: None };
        }
        if let StageState::Open { lanes, .. } = &mut self.state
            && let Some(slot @ LaneSlot::Waiting) = lanes.get_mut(index(step.item))
        {
            *slot = LaneSlot::Open(Box::new(Lane::new(step.place())));
        }
        self.lane_mut(step.item)
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
        Self { place, turns: Vec::new(), step: None, repairs: 0, tool_errors: 0, asked: None }
    }

    /// A call of the latest turn.
    pub(super) fn call_mut(&mut self, call_id: &str) -> Option<&mut CallProgress> {
        self.calls_mut().find(|call| call.call.id == call_id)
    }

    /// The calls of the latest turn.
    pub(super) fn calls_mut(&mut self) -> impl Iterator<Item = &mut CallProgress> {
        self.turns.last_mut().into_iter().flat_map(|turn| &mut turn.calls)
    }
}

impl CallProgress {
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
        let calls = message.calls.iter().map(|call| CallProgress {
            call: call.clone(),
            step: None,
            tries: 0,
            status: CallStatus::Pending,
            is_allowed: false,
            edited: None,
        });
        Self { said: message.clone(), stop: stop.clone(), calls: calls.collect(), remark: None }
    }

    pub(super) fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| match &call.status {
            CallStatus::Answered(answer) => call.call.arguments.len() + answer.content.len(),
            CallStatus::Pending | CallStatus::Asked(_) | CallStatus::InFlight | CallStatus::InDoubt => {
                call.call.arguments.len()
            }
        });
        calls.fold(self.said.text.len(), usize::saturating_add)
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::Assistant(self.said.clone())];
        messages.extend(self.calls.iter().filter_map(|call| match &call.status {
            CallStatus::Answered(answer) => Some(Message::Tool(answer.clone())),
            CallStatus::Pending | CallStatus::Asked(_) | CallStatus::InFlight | CallStatus::InDoubt => None,
        }));
        messages.extend(self.remark.iter().map(|text| Message::User { text: text.clone() }));
        messages
    }
}
