//! From facts to what is over: attempts, stages and runs, each with what it was and what it came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Sink;
use crate::domain::event::{
    Call, CostSource, Created, EndState, Event, Labels, Place, Recorded, Reserved, Settled, StageEnd, Voided,
};
use crate::domain::limits::LimitKind;
use crate::domain::run::{Run, Tree};
use crate::ids::{AgentName, PlanHash, ReservationId, RunId, StageName};
use crate::units::{Money, Timestamp};

/// The one stage of an agent that has none: nobody named it.
pub(super) const ONLY_STAGE: &str = "main";

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The root of its tree.
    pub root: RunId,
    /// The run.
    pub run: RunId,
    /// The run that called it, and the stage there.
    pub parent: Option<(RunId, StageName)>,
    /// The agent.
    pub agent: AgentName,
    /// The plan.
    pub plan: PlanHash,
    /// All labels.
    pub labels: Labels,
    /// The prompt's label.
    pub prompt_version: String,
    /// When it was first seen here: its creation, or when this process went on with it.
    pub began: Timestamp,
}

impl Who {
    fn new(run: RunId, at: Timestamp, created: &Created) -> Self {
        let parent = created.parent.as_ref();
        Self {
            root: parent.map_or(run, |parent| parent.root),
            run,
            parent: parent.map(|parent| (parent.run, parent.stage.clone())),
            agent: created.agent.clone(),
            plan: created.plan.clone(),
            labels: created.labels.clone(),
            prompt_version: created.prompt_version.clone(),
            began: at,
        }
    }

    fn known(run: &Run, now: Timestamp) -> Self {
        let parent = run.parent.as_ref();
        Self {
            root: parent.map_or(run.id, |parent| parent.root),
            run: run.id,
            parent: parent.map(|parent| (parent.run, parent.stage.clone())),
            agent: run.plan.agent.clone(),
            plan: run.plan.hash(),
            labels: run.labels.clone(),
            prompt_version: run.plan.prompt.label().to_owned(),
            began: now,
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
pub enum Came<'a> {
    /// It costs something, or nothing.
    Settled(&'a Settled),
    /// It is proved that nothing was billed.
    Voided(&'a Voided),
}

/// An attempt that is over.
#[derive(Clone, Copy, Debug)]
pub struct AttemptTold<'a> {
    /// Whose.
    pub who: &'a Who,
    /// What was reserved and called.
    pub reserved: &'a Reserved,
    /// When it was reserved.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// What it came to.
    pub came: Came<'a>,
}

/// A stage, or an item of one, that is over.
#[derive(Clone, Copy, Debug)]
pub struct StageTold<'a> {
    /// Whose.
    pub who: &'a Who,
    /// Which.
    pub place: &'a Place,
    /// When its first attempt was reserved.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// How; `None` where the run was left in the middle of it.
    pub end: Option<StageEnd>,
}

/// What a run did, for as long as it was followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts of model calls.
    pub inference_calls: u64,
    /// Attempts of tool calls.
    pub tool_calls: u64,
    /// Attempts after a step's first.
    pub retries: u64,
    /// Settled, unknown money included.
    pub settled: Money,
    /// The part of it that is unknown.
    pub unknown: Money,
    /// True where it has stages.
    pub is_workflow: bool,
}

/// A run that is over, or left as it stands.
#[derive(Clone, Copy, Debug)]
pub struct RunTold<'a> {
    /// Which.
    pub who: &'a Who,
    /// When it was over.
    pub ended: Timestamp,
    /// How; `None` where it waits or was interrupted.
    pub state: Option<EndState>,
    /// The limit that stopped it.
    pub limit: Option<LimitKind>,
    /// What it did.
    pub counts: Counts,
    /// Its input, where it began here.
    pub input: Option<&'a Value>,
    /// Its output.
    pub output: Option<&'a Value>,
}

/// Something that is over.
pub(super) enum Told<'a> {
    Attempt(AttemptTold<'a>),
    Stage(StageTold<'a>),
    Run(RunTold<'a>),
}

impl Told<'_> {
    pub(super) fn tell(&self, sink: &dyn Sink) {
        match self {
            Self::Attempt(told) => sink.attempt(told),
            Self::Stage(told) => sink.stage(told),
            Self::Run(told) => sink.run(told),
        }
    }
}

/// Takes what is over.
type Tell<'a> = &'a mut dyn FnMut(Told<'_>);

/// What is open of a tree.
#[derive(Debug, Default)]
pub(super) struct Fold {
    runs: BTreeMap<RunId, Open>,
    attempts: BTreeMap<ReservationId, (Timestamp, Box<Reserved>)>,
    last: Timestamp,
}

/// A run that is open.
#[derive(Debug)]
struct Open {
    who: Arc<Who>,
    counts: Counts,
    stages: BTreeMap<Place, Timestamp>,
    input: Option<Value>,
}

impl Open {
    fn new(who: Who, input: Option<Value>) -> Self {
        Self { who: Arc::new(who), counts: Counts::default(), stages: BTreeMap::new(), input }
    }

    fn began(&mut self, at: Timestamp, reserved: &Reserved) {
        match &reserved.call {
            Call::Model(_) => self.counts.inference_calls += 1,
            Call::Tool { .. } => self.counts.tool_calls += 1,
        }
        self.counts.retries += u64::from(reserved.attempt > 1);
        if reserved.step.stage.as_str() != ONLY_STAGE {
            self.counts.is_workflow = true;
            self.stages.entry(reserved.step.place()).or_insert(at);
        }
    }

    fn settled(&mut self, settled: &Settled) {
        self.counts.settled = self.counts.settled.plus(settled.bill);
        if settled.source == CostSource::Unknown {
            self.counts.unknown = self.counts.unknown.plus(settled.bill);
        }
    }
}

impl Fold {
    /// A tree as it stands. A new run's creation is still to come.
    pub(super) fn of(tree: &Tree, now: Timestamp) -> Self {
        let open = tree.runs().filter(|run| run.ended.is_none());
        let runs = open.map(|run| (run.id, Open::new(Who::known(run, now), None))).collect();
        Self { runs, attempts: BTreeMap::new(), last: now }
    }

    pub(super) fn apply(&mut self, run: RunId, recorded: &Recorded, tell: Tell<'_>) {
        let at = recorded.at;
        self.last = at;
        if let Event::Created(created) = &recorded.event {
            self.runs.insert(run, Open::new(Who::new(run, at, created), Some(created.input.clone())));
        }
        let Some(open) = self.runs.get_mut(&run) else { return };
        if let Event::Reserved(reserved) = &recorded.event {
            open.began(at, reserved);
            self.attempts.insert(reserved.reservation, (at, reserved.clone()));
        } else if let Event::Settled(settled) = &recorded.event {
            open.settled(settled);
            let attempt = self.attempts.remove(&settled.reservation);
            over(&open.who, attempt, at, Came::Settled(settled), tell);
        } else if let Event::Voided(voided) = &recorded.event {
            let attempt = self.attempts.remove(&voided.reservation);
            over(&open.who, attempt, at, Came::Voided(voided), tell);
        } else if let Event::StageEnded(ended) = &recorded.event {
            if let Some(began) = open.stages.remove(&ended.place) {
                let (place, end) = (&ended.place, Some(ended.end));
                tell(Told::Stage(StageTold { who: &open.who, place, began, ended: at, end }));
            }
        } else if let Event::Ended(ended) = &recorded.event {
            let limit = ended.refusal.as_ref().map(|refusal| refusal.limit);
            let (state, output) = (Some(ended.state), ended.output.as_ref());
            let open = self.runs.remove(&run);
            open.iter().for_each(|open| open.tell(at, (state, limit, output), tell));
        }
    }

    /// Tells what is open as it stands; runs below first.
    pub(super) fn leave(&mut self, tell: Tell<'_>) {
        while let Some((_, open)) = self.runs.pop_last() {
            open.tell(self.last, (None, None, None), tell);
        }
    }
}

fn over(who: &Who, attempt: Option<(Timestamp, Box<Reserved>)>, ended: Timestamp, came: Came<'_>, tell: Tell<'_>) {
    if let Some((began, reserved)) = attempt {
        tell(Told::Attempt(AttemptTold { who, reserved: &reserved, began, ended, came }));
    }
}

impl Open {
    fn tell(
        &self,
        ended: Timestamp,
        (state, limit, output): (Option<EndState>, Option<LimitKind>, Option<&Value>),
        tell: Tell<'_>,
    ) {
        let who = &*self.who;
        for (place, began) in &self.stages {
            tell(Told::Stage(StageTold { who, place, began: *began, ended, end: None }));
        }
        let input = self.input.as_ref();
        tell(Told::Run(RunTold { who, ended, state, limit, counts: self.counts, input, output }));
    }
}
