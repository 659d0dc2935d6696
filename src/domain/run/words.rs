//! What templates may use at a place of a workflow, and a workflow told in words for its last answer.

use serde_json::{Map, Value, json};

use super::stage::{Stage, Turn};
use super::{Run, StageOver};
use crate::domain::event::StageEnd;
use crate::domain::message::{Assistant, Message, Sent};
use crate::ids::StageName;

impl Run {
    /// What the templates and expressions of a stage are rendered over: `input`, and `stages` with `output`, `state` and
    /// `error` of those that it needs, directly or not. Of no others: which of those is over is a matter of time.
    #[must_use]
    pub fn names_at(&self, stage: &StageName) -> Value {
        let needed = self.plan.stage(stage).map(|stage| self.plan.before(stage)).unwrap_or_default();
        let over = needed.into_iter().filter_map(|id| Some((id.to_string(), told(self.stage_over(id)?))));
        json!({ "input": self.input, "stages": over.collect::<Map<String, Value>>() })
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
            StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped => None,
        };
    }
    let said = stage.lanes().filter_map(|lane| lane.turns.iter().rev().find(|turn| !turn.text().is_empty()));
    let said: Vec<&str> = said.map(Turn::text).collect();
    (!said.is_empty()).then(|| format!("Stage `{}`, not finished, said: {}", stage.id, said.join("\n")))
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
