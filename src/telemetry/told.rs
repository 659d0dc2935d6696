//! From facts to what is over: attempts, stages and runs, each with what it was and what it came to.
//!
//! Invariants: what names something as what it is below is told only of what is told too, in this drive or in the one that
//! goes on with it: a stage is open from its first attempt or its first sub-agent, and what is open at the beginning of a
//! drive is open in it. What is left is told as left, and again once it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::Sink;
use super::peers::{Peer, Peers};
use crate::domain::event::{
    AccountKey, Call, CostSource, Created, EndState, Event, Labels, Place, Recorded, Reserved, Settled, StageEnd,
    StageEnded, Voided,
};
use crate::domain::limits::LimitKind;
use crate::domain::outcome::Quality;
use crate::domain::plan::Plan;
use crate::domain::retry::ErrorClass;
use crate::domain::run::{Run, Tree};
use crate::domain::summary::RunSummary;
use crate::ids::{AgentName, PlanHash, ReservationId, RunId};
use crate::units::{Millis, Money, Timestamp};

/// The one stage of an agent that has none: nobody named it.
pub(super) const ONLY_STAGE: &str = "main";

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The root of its tree.
    pub root: RunId,
    /// The run.
    pub run: RunId,
    /// The run that called it, and where in it.
    pub parent: Option<(RunId, Place)>,
    /// The agent.
    pub agent: AgentName,
    /// The plan.
    pub plan: PlanHash,
    /// All labels.
    pub labels: Labels,
    /// The prompt's label.
    pub prompt_version: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it was first seen here: its creation, or when this process went on with it.
    pub began: Timestamp,
}

impl Who {
    fn new(run: RunId, at: Timestamp, created: &Created, called_at: Option<Place>) -> Self {
        let parent = created.parent.as_ref();
        let place = |stage| called_at.unwrap_or_else(|| Place::stage(stage));
        Self {
            root: parent.map_or(run, |parent| parent.root),
            run,
            parent: parent.map(|parent| (parent.run, place(parent.stage.clone()))),
            agent: created.agent.clone(),
            plan: created.plan.clone(),
            labels: created.labels.clone(),
            prompt_version: created.prompt_version.clone(),
            created: at,
            began: at,
        }
    }

    fn known(tree: &Tree, run: &Run, now: Timestamp) -> Self {
        let parent = run.parent.as_ref();
        let place = parent.and_then(|parent| tree.run(parent.run)?.called_at(run.id)).cloned();
        let place = |stage| place.unwrap_or_else(|| Place::stage(stage));
        Self {
            root: parent.map_or(run.id, |parent| parent.root),
            run: run.id,
            parent: parent.map(|parent| (parent.run, place(parent.stage.clone()))),
            agent: run.plan.agent.clone(),
            plan: run.plan.hash(),
            labels: run.labels.clone(),
            prompt_version: run.plan.prompt.label().to_owned(),
            created: Timestamp(run.id.millis()).min(now),
            began: now,
        }
    }

    /// A root that is over.
    pub(super) fn over(run: &RunSummary) -> Self {
        Self {
            root: run.id,
            run: run.id,
            parent: None,
            agent: run.agent.clone(),
            plan: run.plan.clone(),
            labels: Labels::clone(&run.labels),
            prompt_version: String::new(),
            created: run.created,
            began: run.created,
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
    /// Who was asked, of a model call.
    pub peer: Option<&'a Peer>,
    /// The plan that it was made by, where that is known.
    pub by: Option<&'a Plan>,
}

/// A stage, or an item of one, that is over.
#[derive(Clone, Copy, Debug)]
pub struct StageTold<'a> {
    /// Whose.
    pub who: &'a Who,
    /// Which.
    pub place: &'a Place,
    /// When its first attempt was reserved, or its first sub-agent called.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// How; `None` where the run was left, or ended, in the middle of it.
    pub end: Option<StageEnd>,
    /// True where it isn't over: it is told again.
    pub is_left: bool,
}

/// What a run did so far.
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
    /// The budgets that it counts against, as `month (tenant=acme)`.
    pub budgets: &'a [String],
    /// Its input, where it began here.
    pub input: Option<&'a Value>,
    /// Its output.
    pub output: Option<&'a Value>,
}

/// What a run was worth.
#[derive(Clone, Copy, Debug)]
pub struct QualityTold<'a> {
    /// Which.
    pub who: &'a Who,
    /// When it was said.
    pub at: Timestamp,
    /// How good it was.
    pub quality: Quality,
}

/// False of an attempt that was no call: a kept answer spared it, or it was broken off before it was sent.
pub(super) fn was_made(came: Came<'_>) -> bool {
    match came {
        Came::Settled(settled) => settled.cache.hit.is_none(),
        Came::Voided(voided) => voided.failure.class != ErrorClass::Interrupted || voided.latency > Millis::ZERO,
    }
}

/// Whose an attempt is, when it was reserved, and what was, by the log of its run.
pub(super) fn recovered(
    run: RunId,
    log: &[Recorded],
    reservation: ReservationId,
) -> Option<(Who, Timestamp, &Reserved)> {
    let Event::Created(created) = &log.first()?.event else { return None };
    let who = Who::new(run, log.first()?.at, created, None);
    log.iter().find_map(|recorded| {
        let Event::Reserved(reserved) = &recorded.event else { return None };
        (reserved.reservation == reservation).then(|| (who.clone(), recorded.at, &**reserved))
    })
}

/// Something that is over.
pub(super) enum Told<'a> {
    Attempt(AttemptTold<'a>),
    Stage(StageTold<'a>),
    Run(RunTold<'a>),
    Quality(QualityTold<'a>),
}

impl Told<'_> {
    pub(super) fn tell(&self, sink: &dyn Sink) {
        match self {
            Self::Attempt(told) => sink.attempt(told),
            Self::Stage(told) => sink.stage(told),
            Self::Run(told) => sink.run(told),
            Self::Quality(told) => sink.quality(told),
        }
    }
}

/// Takes what is over.
type Tell<'a> = &'a mut dyn FnMut(Told<'_>);

/// What is open of a tree.
#[derive(Debug, Default)]
pub(super) struct Fold {
    peers: Arc<Peers>,
    runs: BTreeMap<RunId, Open>,
    /// Where runs were called that are still to come.
    called: BTreeMap<RunId, Place>,
    attempts: BTreeMap<ReservationId, (Timestamp, Box<Reserved>)>,
    /// The root, once it is over: what it was worth is said after that.
    over: Option<Arc<Who>>,
    last: Timestamp,
}

/// A run that is open.
#[derive(Debug)]
struct Open {
    who: Arc<Who>,
    plan: Option<Arc<Plan>>,
    counts: Counts,
    stages: BTreeMap<Place, Timestamp>,
    /// Stages that are over, and were told.
    over: BTreeSet<Place>,
    budgets: Vec<String>,
    input: Option<Value>,
}

impl Open {
    fn new(who: Who, plan: Option<Arc<Plan>>, input: Option<Value>) -> Self {
        let is_workflow = plan.as_ref().is_some_and(|plan| plan.is_workflow());
        let counts = Counts { is_workflow, ..Counts::default() };
        let (stages, over, budgets) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Self { who: Arc::new(who), plan, counts, stages, over, budgets, input }
    }

    /// One that goes on.
    fn known(tree: &Tree, run: &Run, now: Timestamp) -> Self {
        let mut open = Self::new(Who::known(tree, run, now), Some(run.plan.clone()), None);
        let so_far = &run.counters;
        open.counts.inference_calls = so_far.attempts.into();
        open.counts.tool_calls = so_far.tool_calls.into();
        open.counts.retries = so_far.attempts.saturating_sub(so_far.model_calls).into();
        open.counts.settled = so_far.settled;
        open.counts.unknown = so_far.unknown;
        let called = run.children().filter_map(|child| run.called_at(child));
        run.open_places().chain(called).for_each(|place| open.enter(place.clone(), now));
        open
    }

    /// A stage, or an item of one, is under way.
    fn enter(&mut self, place: Place, at: Timestamp) {
        if place.stage.as_str() != ONLY_STAGE && !self.over.contains(&place) {
            self.counts.is_workflow = true;
            self.stages.entry(place).or_insert(at);
        }
    }

    fn began(&mut self, at: Timestamp, reserved: &Reserved) {
        match &reserved.call {
            Call::Model(_) => self.counts.inference_calls += 1,
            Call::Tool { .. } => self.counts.tool_calls += 1,
        }
        self.counts.retries += u64::from(reserved.attempt > 1);
        self.counts_against(reserved.budgets.as_deref());
        self.enter(reserved.step.place(), at);
    }

    /// What was begun was no call in the end.
    const fn was_spared(&mut self, call: &Call) {
        let calls = match call {
            Call::Model(_) => &mut self.counts.inference_calls,
            Call::Tool { .. } => &mut self.counts.tool_calls,
        };
        *calls = calls.saturating_sub(1);
    }

    fn settled(&mut self, settled: &Settled) {
        self.counts.settled = self.counts.settled.plus(settled.bill);
        if settled.source == CostSource::Unknown {
            self.counts.unknown = self.counts.unknown.plus(settled.bill);
        }
    }

    fn counts_against(&mut self, budgets: Option<&[AccountKey]>) {
        let Some(budgets) = budgets else { return };
        let name = |key: &AccountKey| key.to_string().strip_prefix("budget ").map(str::to_owned);
        self.budgets = budgets.iter().filter_map(name).collect();
    }

    /// A stage is over, and with it all of its items; or one of them.
    fn end_stage(&mut self, ended: &StageEnded, at: Timestamp, tell: Tell<'_>) {
        let is_in =
            |place: &Place| *place == ended.place || (ended.place.item.is_none() && place.stage == ended.place.stage);
        let mut over = Vec::new();
        self.stages.retain(|place, began| {
            let is_over = is_in(place);
            over.extend(is_over.then(|| (place.clone(), *began)));
            !is_over
        });
        for (place, began) in over {
            let (who, end) = (&*self.who, Some(ended.end));
            tell(Told::Stage(StageTold { who, place: &place, began, ended: at, end, is_left: false }));
            self.over.insert(place);
        }
    }
}

impl Fold {
    /// A tree as it stands. A new run's creation is still to come.
    pub(super) fn of(tree: &Tree, now: Timestamp, peers: Arc<Peers>) -> Self {
        let open = tree.runs().filter(|run| run.ended.is_none());
        let runs = open.map(|run| (run.id, Open::known(tree, run, now))).collect();
        Self { peers, runs, last: now, ..Self::default() }
    }

    pub(super) fn apply(&mut self, run: RunId, recorded: &Recorded, tell: Tell<'_>) {
        let at = recorded.at;
        self.last = at;
        if let Event::Created(created) = &recorded.event {
            self.create(run, at, created);
        } else if let Event::Settled(settled) = &recorded.event {
            self.attempt_over(run, settled.reservation, at, Came::Settled(settled), tell);
        } else if let Event::Voided(voided) = &recorded.event {
            self.attempt_over(run, voided.reservation, at, Came::Voided(voided), tell);
        } else if let Event::OutcomeRecorded(said) = &recorded.event {
            let who = self.over.as_deref().filter(|who| who.run == run);
            if let (Some(who), Some(quality)) = (who, said.outcome.quality) {
                tell(Told::Quality(QualityTold { who, at, quality }));
            }
        } else if let Event::Ended(ended) = &recorded.event {
            let limit = ended.refusal.as_ref().map(|refusal| refusal.limit);
            let Some(open) = self.runs.remove(&run) else { return };
            open.tell(at, (Some(ended.state), limit, ended.output.as_ref()), tell);
            self.over = Some(open.who).filter(|who| who.parent.is_none());
        } else if let Some(open) = self.runs.get_mut(&run) {
            if let Event::Reserved(reserved) = &recorded.event {
                open.began(at, reserved);
                self.attempts.insert(reserved.reservation, (at, reserved.clone()));
            } else if let Event::ChildBegan(began) = &recorded.event {
                open.enter(began.place.clone(), at);
                self.called.insert(began.child, began.place.clone());
            } else if let Event::Admitted(admitted) = &recorded.event {
                open.counts_against(Some(&admitted.budgets));
            } else if let Event::PeriodMoved(moved) = &recorded.event {
                open.counts_against(Some(&moved.budgets));
            } else if let Event::StageEnded(ended) = &recorded.event {
                open.end_stage(ended, at, tell);
            }
        }
    }

    fn create(&mut self, run: RunId, at: Timestamp, created: &Created) {
        let who = Who::new(run, at, created, self.called.remove(&run));
        let plan_of = |run: &RunId| self.runs.get(run).and_then(|open| open.plan.as_ref());
        let plan = match &who.parent {
            None => plan_of(&run),
            Some((parent, _)) => plan_of(parent).and_then(|plan| plan.agents.get(&created.agent)),
        };
        let plan = plan.cloned();
        self.runs.insert(run, Open::new(who, plan, Some(created.input.clone())));
    }

    fn attempt_over(&mut self, run: RunId, id: ReservationId, ended: Timestamp, came: Came<'_>, tell: Tell<'_>) {
        let Some(open) = self.runs.get_mut(&run) else { return };
        if let Came::Settled(settled) = came {
            open.settled(settled);
        }
        let Some((began, reserved)) = self.attempts.remove(&id) else { return };
        let peer = self.peers.of_attempt(&reserved);
        if !was_made(came) {
            open.was_spared(&reserved.call);
        }
        let (who, by) = (&*open.who, open.plan.as_deref());
        tell(Told::Attempt(AttemptTold { who, reserved: &reserved, began, ended, came, peer: peer.as_ref(), by }));
    }

    /// Tells what is open as it stands; runs below first.
    pub(super) fn leave(&mut self, tell: Tell<'_>) {
        while let Some((_, open)) = self.runs.pop_last() {
            open.tell(self.last, (None, None, None), tell);
        }
    }
}

impl Open {
    fn tell(
        &self,
        ended: Timestamp,
        (state, limit, output): (Option<EndState>, Option<LimitKind>, Option<&Value>),
        tell: Tell<'_>,
    ) {
        let (who, is_left) = (&*self.who, state.is_none());
        for (place, began) in &self.stages {
            tell(Told::Stage(StageTold { who, place, began: *began, ended, end: None, is_left }));
        }
        let (budgets, input) = (&*self.budgets, self.input.as_ref());
        tell(Told::Run(RunTold { who, ended, state, limit, counts: self.counts, budgets, input, output }));
    }
}
