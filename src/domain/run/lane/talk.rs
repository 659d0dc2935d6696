//! Stages that talk to a model: one call, or calls and tools in turn until it answers without a call.

use serde_json::Value;

use super::Pass;
use crate::domain::event::{CallRefusal, CallRefused, ChildCall, Place, Purpose, StageEnd};
use crate::domain::limits::Refusal;
use crate::domain::message::{StopReason, ToolCall};
use crate::domain::plan::{Approval, Builtin, StagePlan, ToolKind, ToolPlan};
use crate::domain::run::stage::{CallProgress, CallStatus, Lane, Turn};
use crate::domain::run::{Intent, ModelIntent, ToolIntent, hash_call};
use crate::ids::ToolName;
use crate::units::{Millis, Money};

/// Pauses of a provider in one answer, after each of which it is asked to go on.
const CONTINUATIONS_MAX: usize = 8;

/// Times that the model is asked to mend an answer that doesn't fit its form; of each lane.
const REPAIRS_MAX: u32 = 1;

impl Pass<'_> {
    pub(super) fn talk(&mut self, lane: &Lane, plan: &StagePlan) {
        if lane.step.as_ref().is_some_and(|step| step.in_flight) {
            return;
        }
        match lane.turns.last() {
            Some(turn) if turn.calls.iter().any(|call| !call.is_answered()) => self.tools(lane, turn, plan),
            Some(turn) if lane.step.is_none() && turn.calls.is_empty() && turn.remark.is_none() => {
                self.answered(lane, turn);
            }
            _ => self.model(lane, self.purpose(lane), None),
        }
    }

    fn purpose(&self, lane: &Lane) -> Purpose {
        match lane.turns.last() {
            Some(turn) if turn.remark.is_some() => Purpose::Repair,
            _ if self.run.call_is_last(&lane.place.stage, lane.place.item) => Purpose::Last,
            _ => Purpose::Turn,
        }
    }

    fn model(&mut self, lane: &Lane, purpose: Purpose, remark: Option<String>) {
        if self.is_full() {
            return;
        }
        let tries = lane.step.as_ref().map_or(&[][..], |step| &step.tries);
        let step = lane.step.as_ref().map_or(self.tally.steps() + 1, |step| step.step);
        match self.judge_model(&lane.place, lane.tool_errors, purpose, tries.is_empty()) {
            Err(refused) => self.refused(refused),
            Ok(time_limit) => {
                self.tally.count_model(tries.is_empty());
                self.ask(Intent::Model(ModelIntent {
                    step: lane.place.step(step),
                    attempt: u32::try_from(tries.len()).unwrap_or(u32::MAX).saturating_add(1),
                    purpose,
                    tries: tries.to_vec(),
                    time_limit,
                    remark,
                }));
            }
        }
    }

    /// The calls of a turn, in their order, as many at once as `parallel` allows. Runs of sub-agents are looked at where
    /// their calls stand.
    fn tools(&mut self, lane: &Lane, turn: &Turn, plan: &StagePlan) {
        self.ask_about(lane, &turn.calls);
        let mut errors = lane.tool_errors;
        for call in &turn.calls {
            match &call.status {
                CallStatus::Child(child) => self.look_below(*child, &lane.place),
                CallStatus::Pending if !self.is_full() => {
                    if let Err(refused) = self.tool(lane, call, plan, &mut errors) {
                        self.want(Intent::Refuse(*refused));
                    }
                }
                CallStatus::Pending
                | CallStatus::Asked(_)
                | CallStatus::InFlight
                | CallStatus::InDoubt
                | CallStatus::Answered(_) => {}
            }
            if self.is_halted() || self.stops_stage.is_some() {
                return;
            }
        }
    }

    fn tool(
        &mut self,
        lane: &Lane,
        progress: &CallProgress,
        plan: &StagePlan,
        errors: &mut u32,
    ) -> Result<(), Box<CallRefused>> {
        let call = &progress.to_make();
        let step = lane.place.step(progress.step.unwrap_or(self.tally.steps() + 1));
        let refuse = |step, why| {
            let (call_id, tool) = (call.id.clone(), call.name.clone());
            Err(Box::new(CallRefused { step, call_id, tool, why }))
        };
        let new_step = progress.step.is_none();
        let hash = hash_call(&call.name, &call.arguments);
        let run = self.run;
        let known = run.plan.tools.get(&call.name).filter(|_| plan.kind.tools().contains(&call.name));
        let stand_in;
        let tool = match known {
            Some(tool) => tool,
            None => {
                stand_in = unknown_tool(&call.name);
                &stand_in
            }
        };
        let time_limit = match self.judge_call(&lane.place, *errors, tool, &hash, new_step) {
            Ok(time_limit) => time_limit,
            Err(refusal) => return refuse(step, CallRefusal::Limit { refusal }),
        };
        self.tally.count_tool(new_step);
        if let Err(message) = self.check_call(known, call, plan) {
            *errors += 1;
            return refuse(step, CallRefusal::Invalid { message });
        }
        self.tally.count_repeat(&hash, new_step);
        if self.waits_for_a_yes(progress) {
            self.ask_before(lane, call);
            return Ok(());
        }
        if let ToolKind::Agent { agent } = &tool.kind {
            let answers = ChildCall { call_id: call.id.clone(), step: step.step, arguments_hash: hash };
            self.ask_agent(&lane.place, agent, answers, &call.arguments);
            return Ok(());
        }
        let (call, attempt, arguments) = (call.clone(), progress.tries + 1, progress.edited.clone());
        self.ask(Intent::Tool(ToolIntent { step, attempt, call, hash, time_limit, arguments }));
        Ok(())
    }

    /// Whoever refuses a call, the model is told: what it does without is judged in its turn.
    fn judge_call(
        &self,
        place: &Place,
        errors: u32,
        tool: &ToolPlan,
        hash: &str,
        new_step: bool,
    ) -> Result<Millis, Refusal> {
        let judged = self.judge_tool(place, errors, tool, hash, new_step);
        let time_limit = judged.map_err(|refused| *refused.refusal)?;
        if matches!(tool.kind, ToolKind::Agent { .. }) {
            self.judge_child(place)?;
        }
        Ok(time_limit)
    }

    fn check_call(&self, known: Option<&ToolPlan>, call: &ToolCall, plan: &StagePlan) -> Result<(), String> {
        let Some(tool) = known else {
            let names: Vec<&str> = plan.kind.tools().iter().map(ToolName::as_str).collect();
            return Err(format!("there is no tool `{}`; the tools are: {}", call.name, names.join(", ")));
        };
        self.check.arguments(tool, &call.arguments)
    }

    /// The model answered without a call: the lane is over, or its answer is mended once.
    fn answered(&mut self, lane: &Lane, turn: &Turn) {
        if turn.stop == StopReason::Paused {
            return self.go_on(lane);
        }
        let text = &*lane.answer();
        if text.is_empty() && turn.stop == StopReason::Length {
            let error = "the model used all its output tokens before it answered; raise `max_output_tokens`";
            return self.fail(lane.place.clone(), error.into());
        }
        let Some(schema) = self.run.plan.call_of(&lane.place).output else {
            return self.over(lane.place.clone(), StageEnd::Finished, Value::String(text.to_owned()), None);
        };
        match self.check.output(schema, text) {
            Ok(output) => self.over(lane.place.clone(), StageEnd::Finished, output, None),
            Err(fault) if lane.repairs < REPAIRS_MAX => {
                let remark =
                    format!("Your answer doesn't have the form that is needed: {fault}. Answer again, with JSON only.");
                self.model(lane, Purpose::Repair, Some(remark));
            }
            Err(fault) => {
                self.fail(lane.place.clone(), format!("the answer doesn't have its declared form: {fault}"));
            }
        }
    }

    /// The provider paused in its answer: it is asked to go on, by a step of its own with money of its own.
    fn go_on(&mut self, lane: &Lane) {
        if lane.pauses() > CONTINUATIONS_MAX {
            let error = format!("the provider paused more than {CONTINUATIONS_MAX} times in one answer");
            return self.fail(lane.place.clone(), error);
        }
        self.model(lane, self.purpose(lane), None);
    }
}

/// Stands in for a tool that the agent doesn't have, so that such calls count like any other.
fn unknown_tool(name: &ToolName) -> ToolPlan {
    ToolPlan {
        name: name.clone(),
        description: String::new(),
        input: Value::Null,
        timeout: Millis::from_secs(1),
        output_bytes: 0,
        idempotent: true,
        price: Money::ZERO,
        kind: ToolKind::Builtin(Builtin::Now),
        approval: Approval::Never,
    }
}
