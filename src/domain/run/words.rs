//! What templates may use at a place of a workflow, and a workflow told in words for its last answer.

use serde_json::{Map, Value, json};

use super::stage::{Lane, Stage, Turn};
use super::{Run, StageOver};
use crate::domain::event::{Place, StageEnd};
use crate::domain::message::{Assistant, Message, Sent};

impl Run {
    /// What the templates and expressions of a place are rendered over: `input`, and `stages` with `output`, `state` and
    /// `error` of those that its stage needs, directly or not; for an item of a map `item` and `index` too. Of no other
    /// stages: which of those is over is a matter of time.
    #[must_use]
    pub fn names_at(&self, place: &Place) -> Value {
        let needed = self.plan.stage(&place.stage).map(|stage| self.plan.before(stage)).unwrap_or_default();
        let over = needed.into_iter().filter_map(|id| Some((id.to_string(), told(self.stage_over(id)?))));
        let mut names = json!({ "input": self.input, "stages": over.collect::<Map<String, Value>>() });
        if let (Some(index), Some(item)) = (place.item, self.item(place)) {
            names["index"] = index.into();
            names["item"] = item.clone();
        }
        names
    }

    fn item(&self, place: &Place) -> Option<&Value> {
        self.map_items(&place.stage)?.get(usize::try_from(place.item?).ok()?)
    }

    /// What stands for the first turns of that conversation.
    #[must_use]
    pub fn landing_summary(&self) -> Option<&Sent> {
        let stage = self.stages.last().filter(|_| !self.plan.is_workflow())?;
        self.summary_at(&stage.id, None)
    }

    /// The conversation that a landing answers from: that of a single loop, or what the stages of a workflow have.
    #[must_use]
    pub fn landing_turns(&self) -> Vec<Sent> {
        if !self.plan.is_workflow() {
            return self.stages.last().map(|stage| self.turns(&stage.id)).unwrap_or_default();
        }
        let said = self.stages.iter().filter_map(in_words);
        said.map(|text| Message::Assistant(Assistant { text, ..Assistant::default() }).into()).collect()
    }
}

fn told(over: &StageOver) -> Value {
    json!({ "output": over.output, "state": over.end.name(), "error": over.error })
}

/// What a stage gave, or what was said last in its lanes; `None` where that is nothing.
fn in_words(stage: &Stage) -> Option<String> {
    if let Some(over) = stage.over() {
        return match over.end {
            StageEnd::Finished => Some(format!("Stage `{}` gave: {}", stage.id, as_text(&over.output))),
            StageEnd::Stopped if !over.output.is_null() => {
                Some(format!("Stage `{}`, stopped by a limit, gave: {}", stage.id, as_text(&over.output)))
            }
            StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped => None,
        };
    }
    let gave = stage.items().and_then(|items| items_in_words(stage, items.len()));
    let parts: Vec<String> = gave.into_iter().chain(said_in_words(stage)).collect();
    (!parts.is_empty()).then(|| format!("Stage `{}`, not finished, {}", stage.id, parts.join("\nand ")))
}

/// What the items of a map gave so far, each behind its index.
fn items_in_words(stage: &Stage, all: usize) -> Option<String> {
    let finished = stage.slots_over().filter(|(_, over)| over.end == StageEnd::Finished);
    let gave: Vec<String> = finished.map(|(index, over)| format!("{index}: {}", as_text(&over.output))).collect();
    (!gave.is_empty()).then(|| format!("gave for {} of {all} items:\n{}", gave.len(), gave.join("\n")))
}

/// What was said last in each lane under way; of an item of a map behind its index.
fn said_in_words(stage: &Stage) -> Option<String> {
    let last = |lane: &Lane| lane.turns.iter().rev().map(Turn::text).find(|text| !text.is_empty()).map(str::to_owned);
    let said = |lane: &Lane| {
        let text = last(lane)?;
        Some(lane.place.item.map_or_else(|| text.clone(), |index| format!("{index}: {text}")))
    };
    let said: Vec<String> = stage.lanes().filter_map(said).collect();
    let between = if stage.items().is_some() { "\n" } else { " " };
    (!said.is_empty()).then(|| format!("said:{between}{}", said.join("\n")))
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
