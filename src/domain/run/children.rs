//! Sub-agents' runs as the run sees them that called them: when they begin, what they gave, what they come to.

use serde_json::Value;

use super::Run;
use super::stage::{CallStatus, ChildState};
use crate::domain::event::{ChildBegan, ChildCall, ChildEnded, EndState, Ended, Place, Spent, StepKey};
use crate::domain::limits::Refusal;
use crate::domain::message::Message;
use crate::ids::{RunId, StageName, ToolName};

impl Run {
    /// The open runs right below it.
    pub fn children(&self) -> impl Iterator<Item = RunId> {
        self.children.keys().copied()
    }

    /// Where it called an open run right below it.
    #[must_use]
    pub fn called_at(&self, child: RunId) -> Option<&Place> {
        self.children.get(&child)
    }

    /// Sub-agents that it has begun.
    #[must_use]
    pub fn children_begun(&self) -> u32 {
        self.children_begun
    }

    /// What the sub-agents that have ended came to.
    #[must_use]
    pub fn children_spent(&self) -> &Spent {
        &self.children_spent
    }

    /// True where nothing of it is in flight, and no run below it is open.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.is_empty() && self.children.is_empty()
    }

    /// The same of one stage.
    pub(super) fn is_stage_quiet(&self, stage: &StageName) -> bool {
        let in_flight = self.open.values().any(|attempt| attempt.step.stage == *stage);
        !in_flight && self.children.values().all(|place| place.stage != *stage)
    }

    /// How a run ends that met a limit and makes no last call: what it has goes up to whoever called it.
    pub(super) fn stopped_with_what_it_has(&self, refusal: Refusal) -> Ended {
        let mut ended = self.stopped(refusal);
        ended.output = self.what_it_has().map(Value::String);
        ended
    }

    fn what_it_has(&self) -> Option<String> {
        let turns = self.landing_turns();
        let texts = turns.iter().rev().filter_map(|sent| match &**sent {
            Message::Assistant(said) if !said.text.is_empty() => Some(said.text.clone()),
            Message::Assistant(_)
            | Message::System { .. }
            | Message::User { .. }
            | Message::File(_)
            | Message::Tool(_) => None,
        });
        let mut texts: Vec<String> = if self.plan.is_workflow() { texts.collect() } else { texts.take(1).collect() };
        texts.reverse();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }

    pub(super) fn begin_child(&mut self, began: &ChildBegan) {
        self.children.insert(began.child, began.place.clone());
        self.children_begun += 1;
        let active = self.active(self.last_at);
        if let Some(call) = &began.call {
            self.counters.steps += 1;
            self.counters.tool_calls += 1;
            self.count_repeat(&began.place.stage, &call.arguments_hash);
        }
        let Some(stage) = self.stage_mut(&began.place.stage) else { return };
        stage.spent.children += 1;
        stage.children_begun += 1;
        if began.call.is_some() {
            stage.spent.steps += 1;
            stage.spent.tool_calls += 1;
        }
        let Some(lane) = stage.enter(&began.place, active) else { return };
        match &began.call {
            None => lane.child = Some(ChildState::Open(began.child)),
            Some(ChildCall { call_id, step, .. }) => {
                if let Some(call) = lane.call_mut(call_id) {
                    call.step = Some(*step);
                    call.tries = 1;
                    call.status = CallStatus::Child(began.child);
                }
            }
        }
    }

    pub(super) fn end_child(&mut self, ended: &ChildEnded) {
        let Some(place) = self.children.remove(&ended.child) else { return };
        self.children_spent = self.children_spent.plus(&ended.spent);
        let Some(stage) = self.stage_mut(&place.stage) else { return };
        stage.spent = stage.spent.plus(&ended.spent);
        let Some(lane) = stage.lane_mut(place.item) else { return };
        if matches!(lane.child, Some(ChildState::Open(child)) if child == ended.child) {
            lane.child = Some(ChildState::Ended(Box::new(ended.end.clone())));
            return;
        }
        self.answer_by_child(&place, ended);
    }

    /// One more call of this name, of the run and of the stage that makes it.
    pub(super) fn count_repeat(&mut self, stage: &StageName, hash: &str) {
        *self.counters.repeats.entry(hash.to_owned()).or_default() += 1;
        let is_limited = self.plan.stage(stage).is_some_and(|plan| plan.limits.is_some());
        if let Some(stage) = self.stage_mut(stage).filter(|_| is_limited) {
            *stage.repeats.entry(hash.to_owned()).or_default() += 1;
        }
    }

    /// A call that a sub-agent answered: its output, or why there is none.
    fn answer_by_child(&mut self, place: &Place, ended: &ChildEnded) {
        let step = place.step(0);
        let Some((call_id, tool)) = self.called_child(&step, ended.child) else { return };
        let is_error = ended.end.state != EndState::Finished;
        let bytes_max = self.plan.tools.get(&tool).map_or(u64::MAX, |tool| tool.output_bytes);
        let bytes_max = bytes_max.min(self.plan.limits_of(&place.stage).output_bytes);
        let text = cut(told(&tool, &ended.end), bytes_max);
        self.answer(&step, &call_id, &text, is_error);
        if let Some(lane) = self.lane_mut(&step) {
            lane.tool_errors = if is_error { lane.tool_errors + 1 } else { 0 };
        }
    }

    fn called_child(&mut self, step: &StepKey, child: RunId) -> Option<(String, ToolName)> {
        let turn = self.lane_mut(step)?.turns.last()?;
        let call = turn.calls.iter().find(|call| matches!(call.status, CallStatus::Child(id) if id == child))?;
        Some((call.call.id.clone(), call.call.name.clone()))
    }
}

/// A sub-agent's end, told to the model that called it.
fn told(agent: &ToolName, ended: &Ended) -> String {
    let has = || ended.output.as_ref().map_or_else(|| "nothing".to_owned(), as_text);
    match (ended.state, &ended.refusal) {
        (EndState::Finished, _) => ended.output.as_ref().map(as_text).unwrap_or_default(),
        (EndState::Stopped, Some(refusal)) => format!("`{agent}` was stopped by {refusal}; what it has: {}", has()),
        (EndState::Stopped, None) => format!("`{agent}` was stopped; what it has: {}", has()),
        (EndState::Failed, _) => format!("`{agent}` failed: {}", ended.error.as_deref().unwrap_or("it gave no reason")),
        (EndState::Cancelled, _) => format!("`{agent}` was cancelled"),
    }
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The beginning of a text, with a note where some of it is missing.
fn cut(mut text: String, bytes_max: u64) -> String {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    if text.len() <= bytes_max {
        return text;
    }
    let whole = text.len();
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    text.push_str(&format!(" … ({} bytes more)", whole - text.len()));
    text
}
