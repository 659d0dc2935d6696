//! Stages that call one tool: its arguments come from templates, its result is what the stage gives.
//!
//! A model that writes bad arguments, or whose tool fails, is told and mends it. Here nobody is there to be told: the
//! stage fails, or is stopped.

use serde_json::Value;

use super::Pass;
use crate::domain::event::StageEnd;
use crate::domain::limits::LimitKind;
use crate::domain::message::{Message, ToolAnswer, ToolCall};
use crate::domain::plan::ToolPlan;
use crate::domain::run::stage::{CallProgress, CallStatus, Lane};
use crate::domain::run::{Intent, Refused, ToolIntent, hash_call};
use crate::domain::template;
use crate::ids::ToolName;

/// What a stage calls by itself.
#[derive(Clone, Copy)]
pub(super) struct OwnCall<'a> {
    pub(super) tool: &'a ToolName,
    /// Its texts are templates.
    pub(super) arguments: &'a Value,
    /// JSON Schema of what it gives; `None` for plain text.
    pub(super) output: Option<&'a Value>,
}

impl Pass<'_> {
    pub(super) fn call_tool(&mut self, lane: &Lane, own: &OwnCall<'_>) {
        let Some(progress) = &lane.call else { return self.first_own_call(lane, own) };
        match &progress.status {
            CallStatus::Pending => self.own_call(lane, progress),
            CallStatus::InFlight | CallStatus::Child(_) => {}
            CallStatus::Asked(_) | CallStatus::InDoubt => self.ask_about(lane, std::slice::from_ref(progress)),
            CallStatus::Answered(answer) => {
                if let Message::Tool(answer) = &**answer {
                    self.take_result(lane, own, answer);
                }
            }
        }
    }

    /// The arguments are rendered once: what was reserved has them from then on.
    fn first_own_call(&mut self, lane: &Lane, own: &OwnCall<'_>) {
        if self.is_full() {
            return;
        }
        let arguments = match template::fill(own.arguments, &self.run.names_at(&lane.place)) {
            Ok(arguments) => arguments.to_string(),
            Err(error) => {
                return self.fail(lane.place.clone(), format!("the arguments can't be rendered: {error}"));
            }
        };
        // Unique in the run: a stage, or an item of it, makes one call.
        let call = ToolCall { id: lane.place.to_string(), name: own.tool.clone(), arguments };
        self.own_call(lane, &CallProgress::new(call));
    }

    fn own_call(&mut self, lane: &Lane, progress: &CallProgress) {
        if self.is_full() {
            return;
        }
        let call = &progress.to_make();
        let run = self.run;
        let Some(tool) = run.plan.tools.get(&call.name) else {
            return self.fail(lane.place.clone(), format!("there is no tool `{}`", call.name));
        };
        if let Err(message) = self.check.arguments(tool, &call.arguments) {
            return self.fail(lane.place.clone(), message);
        }
        match self.own_intent(lane, progress, tool) {
            Ok(intent) if self.waits_for_a_yes(progress) => self.ask_before(lane, &intent.call),
            Ok(intent) => self.ask(Intent::Tool(intent)),
            // The same call was made too often; the run's other limits are those of everything that it does.
            Err(Refused { refusal, .. }) if refusal.limit == LimitKind::Repeats => {
                self.stop(lane.place.clone(), *refusal, Value::Null);
            }
            Err(refused) => self.refused(refused),
        }
    }

    fn own_intent(&mut self, lane: &Lane, progress: &CallProgress, tool: &ToolPlan) -> Result<ToolIntent, Refused> {
        let (call, is_new) = (&progress.to_make(), progress.step.is_none());
        let hash = hash_call(&call.name, &call.arguments);
        let time_limit = self.judge_tool(&lane.place, lane.tool_errors, tool, &hash, is_new)?;
        let step = lane.place.step(progress.step.unwrap_or(self.tally.steps() + 1));
        self.tally.count_tool(is_new);
        self.tally.count_repeat(&hash, is_new);
        let arguments = serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
        let (attempt, call) = (progress.tries + 1, call.clone());
        Ok(ToolIntent { step, attempt, call, hash, time_limit, arguments: Some(arguments) })
    }

    fn take_result(&mut self, lane: &Lane, own: &OwnCall<'_>, answer: &ToolAnswer) {
        let place = lane.place.clone();
        if answer.is_error {
            return self.fail(place, format!("tool `{}`: {}", answer.name, answer.content));
        }
        let Some(schema) = own.output else {
            return self.over(place, StageEnd::Finished, Value::String(answer.content.clone()), None);
        };
        match self.check.output(schema, &answer.content) {
            Ok(output) => self.over(place, StageEnd::Finished, output, None),
            Err(fault) => {
                let error = format!("what tool `{}` gave doesn't have its declared form: {fault}", answer.name);
                self.fail(place, error);
            }
        }
    }
}
