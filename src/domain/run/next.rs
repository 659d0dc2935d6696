//! What a run should do now: a pure function of its state, the clock's reading and checks of JSON against its schema.

use serde_json::Value;

use super::judge::Tally;
use super::lane::Pass;
use super::{Run, Try};
use crate::domain::event::{CallRefused, EndState, Ended, Event, Parked, Purpose, StageEnd, StepKey};
use crate::domain::limits::Refusal;
use crate::domain::message::ToolCall;
use crate::domain::plan::ToolPlan;
use crate::ids::StageName;
use crate::units::{Millis, Timestamp, Tokens};

/// What a run should do now.
#[derive(Clone, Debug)]
pub enum Next {
    /// These facts follow from the state: they are folded, ride in the next write, and then this is asked again. Each moves
    /// the state on, so this comes to an end.
    Note(Vec<Event>),
    /// These, in order.
    Do(Vec<Intent>),
    /// Nothing, until a person answers: what is held is given back, and nobody needs to be there meanwhile.
    Park(Parked),
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
    /// The arguments, where no model's reply has them: those of a stage's own call, or what a person put in their place.
    pub arguments: Option<Value>,
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
        if let Some(refusal) = &self.lands {
            return one(self.land(now, refusal));
        }
        self.go_on(now, check)
    }

    fn go_on(&self, now: Timestamp, check: &dyn CallCheck) -> Next {
        let expired = self.expired(now);
        if !expired.is_empty() {
            return Next::Note(expired);
        }
        if let Some(intent) = self.breaks_off() {
            return if self.is_busy() { Next::Wait } else { one(intent) };
        }
        let mut pass = Pass::new(self, now, check);
        pass.look();
        let Pass { notes, intents, .. } = pass;
        match self.parked() {
            _ if !notes.is_empty() => Next::Note(notes),
            _ if !intents.is_empty() => Next::Do(intents),
            _ if self.is_busy() => Next::Wait,
            Some(parked) => Next::Park(parked),
            None if self.stages.iter().all(|stage| stage.over().is_some()) => one(Intent::End(self.finished())),
            None => Next::Wait,
        }
    }

    /// A stage failed, or was stopped, and isn't one that the run can do without.
    fn breaks_off(&self) -> Option<Intent> {
        let (id, over) = self.broken_stage()?;
        if over.end == StageEnd::Stopped
            && let Some(refusal) = &over.refusal
        {
            let subject = refusal.subject.clone().or_else(|| Some(format!("stage {id}")));
            return Some(Intent::Land(Refusal { subject, ..refusal.clone() }));
        }
        let why = over.error.as_deref().unwrap_or("it failed");
        Some(Intent::End(self.failed(format!("stage `{id}`: {why}"))))
    }

    /// Every stage is over: the run's answer is that of its result stage.
    fn finished(&self) -> Ended {
        let Some(result) = self.plan.result_stage() else { return self.failed("the agent has no stage".into()) };
        let output = self.stage_over(&result.id).map_or(Value::Null, |over| over.output.clone());
        self.end(EndState::Finished, None, Some(output))
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
        match self.judge_landing(now) {
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

    /// True where a last answer could still be given, and so is worth a reserve. A last call that was not to be followed by
    /// another may have used the landing's own step or tokens; what is used up doesn't come back.
    #[must_use]
    pub fn has_room_to_land(&self, now: Timestamp) -> bool {
        self.can_land() && self.judge_landing(now).is_ok()
    }

    fn judge_landing(&self, now: Timestamp) -> Result<Millis, Refusal> {
        let limits = &self.plan.limits;
        let (input, output) = (Tokens(limits.landing_tokens.into()), Tokens(limits.landing_output_tokens.into()));
        self.judge_tokens(Purpose::Landing, input, output)?;
        let new_step = self.landing_tries.is_empty();
        self.judge_model(now, &Tally::of(&self.counters), 0, Purpose::Landing, new_step)
    }

    /// A landing answer is taken as it is: JSON where the agent declares a form and the text is JSON, else text.
    fn output_of_landing(&self, text: &str) -> Value {
        let json = self.plan.output.as_ref().and_then(|_| serde_json::from_str(text).ok());
        json.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// The stage in whose name the last answer is given.
    fn last_stage(&self) -> StageName {
        self.plan.result_stage().map_or_else(|| StageName::from("main"), |stage| stage.id.clone())
    }
}

fn one(intent: Intent) -> Next {
    Next::Do(vec![intent])
}
