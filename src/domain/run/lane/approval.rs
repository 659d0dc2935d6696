//! Lanes that wait for a person: a stage's approval, a call that needs a yes, a question of the model's own, and a call
//! that was in flight when the process went down.

use serde_json::{Value, json};

use super::Pass;
use crate::domain::event::{AskKind, Decision, Event, PersonAnswered, PersonAsked, StageEnd, StageEnded};
use crate::domain::message::ToolCall;
use crate::domain::plan::{Builtin, ToolKind};
use crate::domain::run::Asking;
use crate::domain::run::person::{asked, needs_a_person};
use crate::domain::run::stage::{CallProgress, CallStatus, Lane};
use crate::domain::template::{self, TemplateError};
use crate::ids::ToolName;

/// The longest question of a stage.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
/// The most that is shown to a person, as JSON.
const SHOWN_BYTES_MAX: usize = 1024 * 1024;

impl Pass<'_> {
    /// A stage asks for approval, and is over with the answer.
    pub(super) fn approval(&mut self, lane: &Lane, ask: &str, show: Option<&str>) {
        let run = self.run;
        let asking = lane.asked.and_then(|number| run.asks().get(usize::try_from(number).unwrap_or(usize::MAX)));
        match (asking, asking.and_then(|asking| asking.answered.as_ref())) {
            (Some(asking), Some(answered)) => self.approved(lane, asking, answered),
            (Some(_), None) => {}
            (None, _) => match self.to_show(lane, ask, show) {
                Ok((question, shown)) => self.note_asked(AskKind::Stage, lane, question, shown, None),
                Err(error) => self.fail(lane.place.clone(), error),
            },
        }
    }

    fn to_show(&self, lane: &Lane, ask: &str, show: Option<&str>) -> Result<(String, Value), String> {
        let names = self.run.names_at(&lane.place);
        let told = |what: &str, error: TemplateError| format!("`{what}` can't be told: {error}");
        let question = template::render(ask, &names).map_err(|error| told("ask", error))?;
        if question.len() > QUESTION_BYTES_MAX {
            return Err(format!("`ask` gives {} bytes; a question has {QUESTION_BYTES_MAX} at most", question.len()));
        }
        let shown = show.map_or(Ok(Value::Null), |show| template::evaluate(show, &names));
        let shown = shown.map_err(|error| told("show", error))?;
        let bytes = shown.to_string().len();
        if bytes > SHOWN_BYTES_MAX {
            return Err(format!("`show` gives {bytes} bytes; {SHOWN_BYTES_MAX} are shown at most"));
        }
        Ok((question, shown))
    }

    fn approved(&mut self, lane: &Lane, asking: &Asking, answered: &PersonAnswered) {
        let gives = |approved: bool, value: &Value| json!({ "approved": approved, "by": answered.by, "reason": answered.reason, "value": value });
        let place = lane.place.clone();
        match &answered.decision {
            Decision::Allow { edited } => {
                let value = edited.as_ref().unwrap_or(&asking.shown);
                self.over(place, StageEnd::Finished, gives(true, value), None);
            }
            Decision::Answer { value } => self.over(place, StageEnd::Finished, gives(true, value), None),
            Decision::Deny => {
                let because = answered.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
                let error = format!("denied by {}{because}", answered.by);
                self.over(place, StageEnd::Failed, gives(false, &asking.shown), Some(error));
            }
            Decision::Expired => self.note(Event::StageEnded(StageEnded {
                place,
                end: StageEnd::Stopped,
                output: gives(false, &asking.shown),
                refusal: Some(self.run.waits_by(asking)),
                error: Some(format!("nobody answered: {}", asking.question)),
            })),
        }
    }

    /// Calls that may have taken effect: a person says whether they are made again. And those that a person has been asked
    /// about count as if they were made.
    pub(super) fn ask_about(&mut self, lane: &Lane, calls: &[CallProgress]) {
        for progress in calls {
            match &progress.status {
                CallStatus::InDoubt => {
                    let call = progress.to_make();
                    let question = format!(
                        "`{}` was being called when the process went down, and it is not declared `idempotent`: it may have taken effect",
                        call.name
                    );
                    let shown = arguments_of(&call);
                    self.note_asked(AskKind::InFlight, lane, question, shown, Some(&call));
                }
                CallStatus::Asked(_) if self.asks_the_user(&progress.call.name) || progress.step.is_some() => {}
                CallStatus::Asked(_) => {
                    let hash = super::super::hash_call(&progress.call.name, &progress.call.arguments);
                    self.tally.count_asked(&hash);
                }
                CallStatus::Pending | CallStatus::InFlight | CallStatus::Child(_) | CallStatus::Answered(_) => {}
            }
        }
    }

    /// True where a call is made only after a person's word.
    pub(super) fn waits_for_a_yes(&self, progress: &CallProgress) -> bool {
        let name = &progress.call.name;
        self.asks_the_user(name) || (!progress.is_allowed && needs_a_person(&self.run.plan, name))
    }

    /// Asks before a call that limits and schema let through.
    pub(super) fn ask_before(&mut self, lane: &Lane, call: &ToolCall) {
        let arguments = arguments_of(call);
        if self.asks_the_user(&call.name) {
            let question = arguments.get("question").and_then(Value::as_str);
            let question = question.map_or_else(|| arguments.to_string(), str::to_owned);
            return self.note_asked(AskKind::Input, lane, question, Value::Null, Some(call));
        }
        let question = format!("may `{}` be called with these arguments?", call.name);
        self.note_asked(AskKind::Call, lane, question, arguments, Some(call));
    }

    fn asks_the_user(&self, tool: &ToolName) -> bool {
        let tool = self.run.plan.tools.get(tool);
        tool.is_some_and(|tool| matches!(tool.kind, ToolKind::Builtin(Builtin::AskUser)))
    }

    fn note_asked(&mut self, kind: AskKind, lane: &Lane, question: String, shown: Value, call: Option<&ToolCall>) {
        let own = self.run.id;
        let noted =
            self.notes.iter().filter(|(run, note)| *run == own && matches!(note, Event::PersonAsked(_))).count();
        let number = u32::try_from(self.run.asks().len() + noted).unwrap_or(u32::MAX);
        let asked = asked(self.run, (number, self.now), kind, lane.place.clone(), question, shown);
        self.note(Event::PersonAsked(PersonAsked {
            call_id: call.map(|call| call.id.clone()),
            tool: call.map(|call| call.name.clone()),
            ..asked
        }));
    }
}

/// Empty arguments stand for none.
fn arguments_of(call: &ToolCall) -> Value {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(call.arguments.clone()))
}
