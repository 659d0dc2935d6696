//! What a run should do now: a pure function of its state, the clock's reading and checks of JSON against its schema.

use serde_json::Value;

use super::{CallProgress, CallStatus, Counters, Run, Stage, Try, Turn, hash_call};
use crate::domain::event::{CallRefusal, CallRefused, EndState, Ended, Purpose, StepKey};
use crate::domain::limits::Refusal;
use crate::domain::message::{StopReason, ToolCall};
use crate::domain::plan::ToolPlan;
use crate::ids::{StageName, ToolName};
use crate::units::{Millis, Timestamp};

/// Times that the model is asked to mend an answer that doesn't fit its form.
const REPAIRS_MAX: u32 = 1;

/// What a run should do now.
#[derive(Clone, Debug)]
pub enum Next {
    /// These, in order.
    Do(Vec<Intent>),
    /// Nothing, until something in flight is over.
    Wait,
    /// Nothing more, ever.
    Ended,
}

/// Something that a run wants to happen. The gate may still refuse it.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Call a model.
    Model(ModelIntent),
    /// Call a tool.
    Tool(ToolIntent),
    /// Tell the model that a call was not made.
    Refuse(CallRefused),
    /// Land: this limit was met.
    Land(Refusal),
    /// Ask a person about a call that was in flight.
    AskPerson {
        /// The call.
        call_id: String,
        /// The tool.
        tool: ToolName,
    },
    /// End.
    End(Ended),
}

/// See [`Intent::Model`].
#[derive(Clone, Debug)]
pub struct ModelIntent {
    /// Where it stands.
    pub step: StepKey,
    /// The try of this step, from 1.
    pub attempt: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// The tries of this step that failed.
    pub tries: Vec<Try>,
    /// How long it may take at most.
    pub time_limit: Millis,
    /// What to add to the conversation first.
    pub remark: Option<String>,
}

/// See [`Intent::Tool`].
#[derive(Clone, Debug)]
pub struct ToolIntent {
    /// Where it stands.
    pub step: StepKey,
    /// The try of this step, from 1.
    pub attempt: u32,
    /// The call.
    pub call: ToolCall,
    /// Its hash, for `repeats`.
    pub hash: String,
    /// How long it may take at most.
    pub time_limit: Millis,
}

/// Checks JSON against a schema. Pure: the same text gives the same answer.
pub trait CallCheck {
    /// Whether a tool takes these arguments; what the model should mend otherwise.
    ///
    /// # Errors
    /// The violations, in words for the model.
    fn arguments(&self, tool: &ToolPlan, raw: &str) -> Result<(), String>;

    /// The answer as JSON, if it has the form that the agent declares.
    ///
    /// # Errors
    /// The violations, in words for the model.
    fn output(&self, schema: &Value, text: &str) -> Result<Value, String>;
}

impl Run {
    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Timestamp, check: &dyn CallCheck) -> Next {
        if self.ended.is_some() {
            return Next::Ended;
        }
        if (self.cancelled.is_some() || self.lands.is_some()) && self.is_busy() {
            return Next::Wait;
        }
        if self.cancelled.is_some() {
            return one(Intent::End(self.end(EndState::Cancelled, None, None)));
        }
        if let Some(ended) = self.expired(now) {
            return if self.is_busy() { Next::Wait } else { one(Intent::End(ended)) };
        }
        if let Some(refusal) = &self.lands {
            return one(self.land(now, refusal));
        }
        match self.stages.iter().find(|stage| !stage.is_done()) {
            Some(stage) => self.advance(now, stage, check),
            None => self.finish(now, check),
        }
    }

    /// How a run ends that met a limit before it could start, or that can't land.
    #[must_use]
    pub fn stopped(&self, refusal: Refusal) -> Ended {
        self.end(EndState::Stopped, Some(refusal), None)
    }

    /// How a run ends whose step has no tries left.
    #[must_use]
    pub fn failed(&self, error: String) -> Ended {
        Ended { state: EndState::Failed, refusal: None, output: None, error: Some(error) }
    }

    fn end(&self, state: EndState, refusal: Option<Refusal>, output: Option<Value>) -> Ended {
        Ended { state, refusal, output, error: None }
    }

    /// One last call, once nothing is in flight; another only after a void (LEDGER rule 11).
    fn land(&self, now: Timestamp, refusal: &Refusal) -> Intent {
        if let Some(said) = &self.landed {
            let output = Some(self.output_of_landing(&said.text));
            return Intent::End(self.end(EndState::Stopped, Some(refusal.clone()), output));
        }
        let last = self.landing_tries.last();
        let tries = u32::try_from(self.landing_tries.len()).unwrap_or(u32::MAX);
        let may_try = last.is_none_or(|tried| tried.unbilled) && tries < self.plan.retry.attempts.max(1);
        let judged = self.judge_model(now, &self.counters, Purpose::Landing, last.is_none());
        match judged {
            Ok(time_limit) if may_try && self.can_land() => Intent::Model(ModelIntent {
                step: StepKey {
                    stage: self.last_stage(),
                    step: self.counters.steps + u32::from(last.is_none()),
                    item: None,
                },
                attempt: tries + 1,
                purpose: Purpose::Landing,
                tries: self.landing_tries.clone(),
                time_limit,
                remark: None,
            }),
            Ok(_) | Err(_) => {
                let mut ended = self.end(EndState::Stopped, Some(refusal.clone()), None);
                ended.error = last.map(|tried| format!("the landing call failed: {}", tried.failure.message));
                Intent::End(ended)
            }
        }
    }

    /// A landing answer is taken as it is: JSON where the agent declares a form and the text is JSON, else text.
    fn output_of_landing(&self, text: &str) -> Value {
        let json = self.plan.output.as_ref().and_then(|_| serde_json::from_str(text).ok());
        json.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn last_stage(&self) -> StageName {
        self.stages.last().map_or_else(|| StageName::from("main"), |stage| stage.id.clone())
    }

    fn advance(&self, now: Timestamp, stage: &Stage, check: &dyn CallCheck) -> Next {
        if stage.step.as_ref().is_some_and(|step| step.in_flight) {
            return Next::Wait;
        }
        match stage.turns.last() {
            Some(turn) if turn.calls.iter().any(|call| !call.is_answered()) => self.tools(now, stage, turn, check),
            _ => one(self.model(now, stage, self.purpose(stage), None)),
        }
    }

    fn purpose(&self, stage: &Stage) -> Purpose {
        match stage.turns.last() {
            Some(turn) if turn.remark.is_some() => Purpose::Repair,
            _ if self.first_call_is_last() => Purpose::Last,
            _ => Purpose::Turn,
        }
    }

    fn model(&self, now: Timestamp, stage: &Stage, purpose: Purpose, remark: Option<String>) -> Intent {
        let tries = stage.step.as_ref().map_or(&[][..], |step| &step.tries);
        let step = stage.step.as_ref().map_or(self.counters.steps + 1, |step| step.step);
        match self.judge_model(now, &self.counters, purpose, tries.is_empty()) {
            Err(refusal) => Intent::Land(refusal),
            Ok(time_limit) => Intent::Model(ModelIntent {
                step: StepKey { stage: stage.id.clone(), step, item: None },
                attempt: u32::try_from(tries.len()).unwrap_or(u32::MAX).saturating_add(1),
                purpose,
                tries: tries.to_vec(),
                time_limit,
                remark,
            }),
        }
    }

    /// The calls of a turn, in their order, as many at once as `parallel` allows.
    fn tools(&self, now: Timestamp, stage: &Stage, turn: &Turn, check: &dyn CallCheck) -> Next {
        if let Some(doubt) = turn.calls.iter().find(|call| matches!(call.status, CallStatus::InDoubt)) {
            let (call_id, tool) = (doubt.call.id.clone(), doubt.call.name.clone());
            return if self.is_busy() { Next::Wait } else { one(Intent::AskPerson { call_id, tool }) };
        }
        let in_flight = turn.calls.iter().filter(|call| matches!(call.status, CallStatus::InFlight)).count();
        let mut free = usize::try_from(self.plan.limits.parallel).unwrap_or(usize::MAX).saturating_sub(in_flight);
        let mut tally = self.counters.clone();
        let mut intents = Vec::new();
        for call in turn.calls.iter().filter(|call| matches!(call.status, CallStatus::Pending)) {
            if free == 0 {
                break;
            }
            let intent = self.tool(now, stage, call, &mut tally, check);
            free -= usize::from(matches!(intent, Intent::Tool(_)));
            intents.push(intent);
        }
        if intents.is_empty() { Next::Wait } else { Next::Do(intents) }
    }

    fn tool(
        &self,
        now: Timestamp,
        stage: &Stage,
        progress: &CallProgress,
        tally: &mut Counters,
        check: &dyn CallCheck,
    ) -> Intent {
        let call = &progress.call;
        let step = StepKey { stage: stage.id.clone(), step: progress.step.unwrap_or(tally.steps + 1), item: None };
        let refuse = |step, why| {
            let (call_id, tool) = (call.id.clone(), call.name.clone());
            Intent::Refuse(CallRefused { step, call_id, tool, why })
        };
        let new_step = progress.step.is_none();
        let hash = hash_call(&call.name, &call.arguments);
        let known = self.plan.tools.get(&call.name).filter(|_| stage.tools.contains(&call.name));
        let stand_in;
        let tool = match known {
            Some(tool) => tool,
            None => {
                stand_in = unknown_tool(&call.name);
                &stand_in
            }
        };
        let time_limit = match self.judge_tool(now, tally, tool, &hash, new_step) {
            Ok(time_limit) => time_limit,
            Err(refusal) => return refuse(step, CallRefusal::Limit { refusal }),
        };
        tally.steps += u32::from(new_step);
        tally.tool_calls += u32::from(new_step);
        if let Err(message) = self.check_call(stage, known, call, check) {
            tally.tool_errors += 1;
            return refuse(step, CallRefusal::Invalid { message });
        }
        *tally.repeats.entry(hash.clone()).or_default() += u32::from(new_step);
        Intent::Tool(ToolIntent { step, attempt: progress.tries + 1, call: call.clone(), hash, time_limit })
    }

    fn check_call(
        &self,
        stage: &Stage,
        known: Option<&ToolPlan>,
        call: &ToolCall,
        check: &dyn CallCheck,
    ) -> Result<(), String> {
        let Some(tool) = known else {
            let names: Vec<&str> = stage.tools.iter().map(ToolName::as_str).collect();
            return Err(format!("there is no tool `{}`; the tools are: {}", call.name, names.join(", ")));
        };
        check.arguments(tool, &call.arguments)
    }

    fn finish(&self, now: Timestamp, check: &dyn CallCheck) -> Next {
        let Some((stage, turn)) = self.stages.last().and_then(|stage| Some((stage, stage.turns.last()?))) else {
            return one(Intent::End(self.failed("the agent has no stage".into())));
        };
        if turn.said.text.is_empty() && turn.stop == StopReason::Length {
            let error = "the model used all its output tokens before it answered; raise `max_output_tokens`";
            return one(Intent::End(self.failed(error.into())));
        }
        let Some(schema) = &self.plan.output else {
            let output = Value::String(turn.said.text.clone());
            return one(Intent::End(self.end(EndState::Finished, None, Some(output))));
        };
        match check.output(schema, &turn.said.text) {
            Ok(output) => one(Intent::End(self.end(EndState::Finished, None, Some(output)))),
            Err(fault) if stage.repairs < REPAIRS_MAX => {
                let remark =
                    format!("Your answer doesn't have the form that is needed: {fault}. Answer again, with JSON only.");
                one(self.model(now, stage, Purpose::Repair, Some(remark)))
            }
            Err(fault) => one(Intent::End(self.failed(format!("the answer doesn't have its declared form: {fault}")))),
        }
    }
}

impl Stage {
    /// True once the model has answered without a call, and nothing is asked of it since.
    fn is_done(&self) -> bool {
        self.step.is_none() && self.turns.last().is_some_and(|turn| turn.calls.is_empty() && turn.remark.is_none())
    }
}

fn one(intent: Intent) -> Next {
    Next::Do(vec![intent])
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
        price: crate::units::Money::ZERO,
        kind: crate::domain::plan::ToolKind::Builtin(crate::domain::plan::Builtin::Now),
        approval: crate::domain::plan::Approval::Never,
    }
}
