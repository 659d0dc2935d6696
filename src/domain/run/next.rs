//! What a run should do now: a pure function of its state, the clock's reading and checks of JSON against its schema.

use serde_json::Value;

use super::judge::Used;
use super::lane::Pass;
use super::person::parked;
use super::{Run, Try};
use crate::domain::event::{CallRefused, ChildCall, EndState, Ended, Event, Parked, Place, Purpose, StageEnd, StepKey};
use crate::domain::limits::Refusal;
use crate::domain::message::ToolCall;
use crate::domain::plan::ToolPlan;
use crate::ids::{AgentName, RunId, StageName};
use crate::units::{Millis, Timestamp, Tokens};

/// What a run should do now; of a tree with whose it is ([`NextOfTree`]).
#[derive(Clone, Debug)]
pub enum Next<Fact = Event, Want = Intent> {
    /// These facts follow from the state: they are folded, ride in the next write, and then this is asked again. Each moves
    /// the state on, so this comes to an end.
    Note(Vec<Fact>),
    /// These, in order.
    Do(Vec<Want>),
    /// Nothing, until a person answers: what is held is given back, and nobody needs to be there meanwhile.
    Park(Parked),
    /// Nothing, until something in flight is over.
    Wait,
    /// Nothing more, ever.
    Ended,
}

/// What a tree should do now, each with the run whose it is.
pub type NextOfTree = Next<(RunId, Event), (RunId, Intent)>;

/// Something that a run wants to happen. The gate may still refuse it.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Call a model.
    Model(ModelIntent),
    /// Call a tool.
    Tool(ToolIntent),
    /// Begin a run of a sub-agent.
    Child(ChildIntent),
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

/// See [`Intent::Child`].
#[derive(Clone, Debug)]
pub struct ChildIntent {
    /// The sub-agent: a key of the plan's `agents`.
    pub agent: AgentName,
    /// Where it is called.
    pub place: Place,
    /// The call of a model that it answers; its step is that of the moment in which it begins.
    pub call: Option<ChildCall>,
    /// Its input.
    pub input: Value,
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
    /// What to do now, by itself: runs below it are not looked at.
    #[must_use]
    pub fn next(&self, now: Timestamp, check: &dyn CallCheck) -> Next {
        match decide(Pass::new(None, self, now, check), self, self.is_busy()) {
            Next::Note(facts) => Next::Note(facts.into_iter().map(|(_, fact)| fact).collect()),
            Next::Do(intents) => Next::Do(intents.into_iter().map(|(_, intent)| intent).collect()),
            Next::Park(parked) => Next::Park(parked),
            Next::Wait => Next::Wait,
            Next::Ended => Next::Ended,
        }
    }

    /// Why the run starts nothing more; `None` where it goes on.
    pub(super) fn breaking(&self) -> Option<Breaking> {
        if self.cancelled.is_some() {
            return Some(Breaking::End(self.end(EndState::Cancelled, None, None)));
        }
        let lands = self.lands.clone().map(Breaking::Lands);
        lands.or_else(|| self.breaks_off())
    }

    /// A stage failed, or was stopped, and isn't one that the run can do without.
    fn breaks_off(&self) -> Option<Breaking> {
        let (id, over) = self.broken_stage()?;
        if over.end == StageEnd::Stopped
            && let Some(refusal) = &over.refusal
        {
            let subject = refusal.subject.clone().or_else(|| Some(format!("stage {id}")));
            return Some(Breaking::Meets(Refusal { subject, ..refusal.clone() }));
        }
        let why = over.error.as_deref().unwrap_or("it failed");
        Some(Breaking::End(self.failed(format!("stage `{id}`: {why}"))))
    }

    /// Every stage is over: the run's answer is that of its result stage.
    pub(super) fn finished(&self) -> Ended {
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
    pub(super) fn land(&self, now: Timestamp, refusal: &Refusal) -> Intent {
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
        let link = self.link(now, Used::from(&self.spent()));
        let time = link.model(now, Purpose::Landing, self.landing_tries.is_empty());
        time.map(|time| time.min(limits.model_call_time)).map_err(|refused| *refused.refusal)
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

/// Why a run starts nothing more.
pub(super) enum Breaking {
    /// It ends so.
    End(Ended),
    /// A stage that it can't do without was stopped by this limit.
    Meets(Refusal),
    /// It met this limit.
    Lands(Refusal),
}

/// What comes of a look at a root. Facts come first, then what is wanted; where nothing moves but people, the tree is parked.
pub(super) fn decide(mut pass: Pass<'_>, root: &Run, is_busy: bool) -> NextOfTree {
    if root.ended.is_some() {
        return Next::Ended;
    }
    let late = pass.late(root);
    if !late.is_empty() {
        return Next::Note(late);
    }
    pass.look();
    let Pass { notes, intents, runs, .. } = pass;
    match parked(runs, root) {
        _ if !notes.is_empty() => Next::Note(notes),
        _ if !intents.is_empty() => Next::Do(intents),
        Some(parked) if !is_busy => Next::Park(parked),
        Some(_) | None => Next::Wait,
    }
}
