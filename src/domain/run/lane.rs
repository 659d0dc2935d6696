//! One look over all lanes of a tree, in LEDGER rule 16's order, depth first: what each wants next, as many at once as
//! `parallel` allows.
//!
//! A pass changes nothing. Facts that follow from the state come first, as notes; the look is taken again once they are
//! folded. What is asked for counts within the pass, so that the third call of it is judged after the second. A sub-agent's
//! run is looked at where its call stands; what it asks for counts for the runs above it too.

mod agent;
mod approval;
mod map;
mod talk;
mod tool;

use serde_json::Value;

use super::judge::{Link, NodeRef, Refused, Tally, Used};
use super::next::Breaking;
use super::stage::{Lane, Stage, StageState};
use super::tree::{Runs, open_below, spent_below};
use super::{CallCheck, Intent, Run, StageOver};
use crate::domain::event::{
    ChildEnded, EndState, Ended, Event, LandingBegan, Place, Purpose, Spent, StageEnd, StageEnded,
};
use crate::domain::limits::Refusal;
use crate::domain::plan::{OnError, StageKind, StagePlan, ToolPlan};
use crate::domain::template;
use crate::ids::{RunId, StageName};
use crate::units::{Millis, Timestamp};
use tool::OwnCall;

/// A look over all lanes of a run, and of those below it.
pub(super) struct Pass<'a> {
    /// The runs of the tree; `None` where one run is looked at alone.
    pub(super) runs: Option<&'a Runs>,
    /// The run that is looked at.
    run: &'a Run,
    now: Timestamp,
    check: &'a dyn CallCheck,
    tally: Tally<'a>,
    /// Calls that may still be started.
    free: usize,
    /// How many of them by the stage that is looked at.
    free_here: usize,
    /// Intents that there were when the look at this run began.
    first: usize,
    /// The runs above it, the root first.
    above: Vec<Level<'a>>,
    pub(super) intents: Vec<(RunId, Intent)>,
    pub(super) notes: Vec<(RunId, Event)>,
    /// Runs this deep and deeper aren't looked at any further: one lands, stops or ends.
    halted: Option<usize>,
    /// The present stage of the run this deep is stopped by this limit.
    stops_stage: Option<(usize, Refusal)>,
}

/// A run whose look is interrupted by that at a run below it.
struct Level<'a> {
    run: &'a Run,
    tally: Tally<'a>,
    free: usize,
    free_here: usize,
    first: usize,
    /// Where the run below was called.
    place: Place,
}

/// How the runs below one that starts nothing more end.
#[derive(Clone, Copy)]
pub(super) enum Ending<'a> {
    Cancelled,
    Limit(&'a Refusal),
}

impl<'a> Pass<'a> {
    pub(super) fn new(runs: Option<&'a Runs>, run: &'a Run, now: Timestamp, check: &'a dyn CallCheck) -> Self {
        Self {
            runs,
            run,
            now,
            check,
            tally: Tally::of(run, &spent_below(runs, run)),
            free: free_of(runs, run),
            free_here: 0,
            first: 0,
            above: Vec::new(),
            intents: Vec::new(),
            notes: Vec::new(),
            halted: None,
            stops_stage: None,
        }
    }

    /// Questions that nobody answered in time: of every run, whether it goes on, lands or only drains.
    pub(super) fn late(&self, root: &Run) -> Vec<(RunId, Event)> {
        let of = |run: &Run| run.expired(self.now).into_iter().map(|fact| (run.id, fact)).collect::<Vec<_>>();
        self.runs.map_or_else(|| of(root), |runs| runs.values().flat_map(|run| of(run)).collect())
    }

    /// Looks at the run: its end, if that has come, else every stage in the order of the file.
    pub(super) fn look(&mut self) {
        let run = self.run;
        if let Some(breaking) = run.breaking() {
            return self.break_off(&breaking);
        }
        let (notes, intents) = (self.notes.len(), self.intents.len());
        for (stage, plan) in run.stages.iter().zip(&run.plan.stages) {
            self.look_at_stage(stage, plan);
            if self.is_halted() {
                return;
            }
        }
        let is_idle = self.notes.len() == notes && self.intents.len() == intents && run.is_quiet();
        if is_idle && run.stages.iter().all(|stage| stage.over().is_some()) {
            self.end(run.finished());
        }
    }

    fn look_at_stage(&mut self, stage: &'a Stage, plan: &'a StagePlan) {
        let intents = self.intents.len();
        self.tally.begin_stage();
        self.free_here = self.free_at(&stage.id);
        match &stage.state {
            // A stage that was stopped may leave a run of a sub-agent behind.
            StageState::Over(over) => return self.stop_children(Some(&stage.id), ending_of(over)),
            StageState::Waiting => self.begin(plan),
            StageState::Open { items: Some(_), .. } => self.advance_map(stage, plan),
            StageState::Open { .. } => {
                for lane in stage.lanes() {
                    self.advance_lane(lane, plan);
                    if self.is_halted() || self.stops_stage.is_some() {
                        break;
                    }
                }
            }
        }
        if let Some((_, refusal)) = self.stops_stage.take_if(|(depth, _)| *depth == self.above.len()) {
            self.stop_stage(stage, refusal, intents);
        }
    }

    /// A stage that nothing holds back any more begins, or is skipped.
    fn begin(&mut self, plan: &StagePlan) {
        let is_over = |id: &StageName| self.run.stage_over(id).is_some();
        if !plan.needs.iter().all(is_over) {
            return;
        }
        match self.is_wanted(plan) {
            Ok(true) => self.advance_lane(&Lane::new(Place::stage(plan.id.clone())), plan),
            Ok(false) => self.over(Place::stage(plan.id.clone()), StageEnd::Skipped, Value::Null, None),
            Err(error) => self.fail(Place::stage(plan.id.clone()), format!("`when` can't be told: {error}")),
        }
    }

    fn is_wanted(&self, plan: &StagePlan) -> Result<bool, template::TemplateError> {
        let Some(when) = &plan.when else { return Ok(true) };
        template::holds(when, &self.run.names_at(&Place::stage(plan.id.clone())))
    }

    /// One function for each kind of stage.
    fn advance_lane(&mut self, lane: &Lane, plan: &StagePlan) {
        if self.is_halted() {
            return;
        }
        let kind = if lane.place.item.is_some() { plan.kind.of_lane() } else { &plan.kind };
        match kind {
            StageKind::Loop { .. } | StageKind::Model { .. } => self.talk(lane, plan),
            StageKind::Tool { tool, arguments, output } => {
                self.call_tool(lane, &OwnCall { tool, arguments, output: output.as_ref() });
            }
            StageKind::Map { over, .. } => self.begin_map(lane, over),
            StageKind::Approval { ask, show } => self.approval(lane, ask, show.as_deref()),
            StageKind::Agent { agent, input } => self.call_agent(lane, agent, input),
        }
    }

    /// The work of a place is done: of a workflow's stage that is a fact, of a single loop the end of its run.
    fn over(&mut self, place: Place, end: StageEnd, output: Value, error: Option<String>) {
        if let Some(refusal) = self.is_too_much(&place, &output) {
            return self.stop(place, refusal, Value::Null);
        }
        if self.run.plan.is_workflow() {
            let ended = StageEnded { place, end, output, refusal: None, error };
            return self.note(Event::StageEnded(ended));
        }
        let (state, output) = match end {
            StageEnd::Finished => (EndState::Finished, Some(output)),
            StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped => (EndState::Failed, None),
        };
        self.end(Ended { state, refusal: None, output, error });
    }

    fn fail(&mut self, place: Place, error: String) {
        self.over(place, StageEnd::Failed, Value::Null, Some(error));
    }

    /// The work of a place is stopped by a limit of its own; the run goes on where it can do without.
    fn stop(&mut self, place: Place, refusal: Refusal, output: Value) {
        let (end, refusal) = (StageEnd::Stopped, Some(refusal));
        self.note(Event::StageEnded(StageEnded { place, end, output, refusal, error: None }));
    }

    /// True where no call may be started at present.
    const fn is_full(&self) -> bool {
        self.free == 0 || self.free_here == 0
    }

    /// True where what is left of the stage that is looked at isn't.
    const fn is_stopped_here(&self) -> bool {
        self.stops_stage.is_some()
    }

    /// A fact of the run that is looked at.
    fn note(&mut self, fact: Event) {
        self.notes.push((self.run.id, fact));
    }

    /// Something that the run wants beside calls.
    fn want(&mut self, intent: Intent) {
        self.intents.push((self.run.id, intent));
    }

    /// A call.
    fn ask(&mut self, intent: Intent) {
        self.free = self.free.saturating_sub(1);
        self.free_here = self.free_here.saturating_sub(1);
        self.want(intent);
    }
}

/// Ends: of runs, of stages, and of what is below them.
impl<'a> Pass<'a> {
    fn is_halted(&self) -> bool {
        self.halted.is_some_and(|depth| depth <= self.above.len())
    }

    fn halt_at(&mut self, depth: usize) {
        self.halted = Some(self.halted.map_or(depth, |halted| halted.min(depth)));
    }

    /// This of the root, and nothing after it. What was asked for before it in the pass comes first; then it comes again,
    /// alone.
    fn halt(&mut self, intent: Intent) {
        self.halt_at(0);
        if self.intents.is_empty() {
            let root = self.above.first().map_or(self.run.id, |root| root.run.id);
            self.intents.push((root, intent));
        }
    }

    /// The run is over. Of a sub-agent's run that is a fact, and one of its parent's in the same write.
    fn end(&mut self, ended: Ended) {
        let Some(parent) = self.above.last().map(|level| level.run.id) else { return self.halt(Intent::End(ended)) };
        // What is noted of it in this look counts too: it ends at the next one.
        if self.notes.iter().any(|(run, _)| *run == self.run.id) {
            return self.halt_at(self.above.len());
        }
        let told = ChildEnded { child: self.run.id, end: ended.clone(), spent: self.run.spent() };
        self.halt_at(self.above.len());
        self.note(Event::Ended(ended));
        self.notes.push((parent, Event::ChildEnded(told)));
    }

    /// Nothing new starts: what is below ends first, once it is drained, then the run.
    fn break_off(&mut self, breaking: &Breaking) {
        let ending = match breaking {
            Breaking::End(Ended { state: EndState::Stopped, refusal: Some(refusal), .. })
            | Breaking::Meets(refusal)
            | Breaking::Lands(refusal) => Ending::Limit(refusal),
            Breaking::End(_) => Ending::Cancelled,
        };
        self.stop_children(None, ending);
        if !self.run.is_quiet() {
            return self.halt_at(self.above.len());
        }
        let is_root = self.above.is_empty();
        match breaking {
            Breaking::End(ended) => self.end(ended.clone()),
            Breaking::Lands(refusal) if is_root => self.halt(self.run.land(self.now, refusal)),
            Breaking::Lands(refusal) => self.end(self.run.stopped_with_what_it_has(refusal.clone())),
            Breaking::Meets(refusal) => {
                self.refused(Refused { node: NodeRef::Run(self.run.id), refusal: Box::new(refusal.clone()) });
            }
        }
    }

    /// Has the open runs below end, those of one stage or all: each once what it has in flight is drained.
    fn stop_children(&mut self, stage: Option<&StageName>, ending: Ending<'_>) {
        let run = self.run;
        for (child, place) in &run.children {
            if stage.is_none_or(|stage| place.stage == *stage) {
                self.descend(*child, place, |pass| pass.stop_run(ending));
            }
        }
    }

    fn stop_run(&mut self, ending: Ending<'_>) {
        self.stop_children(None, ending);
        if !self.run.is_quiet() {
            return;
        }
        let ended = match ending {
            Ending::Cancelled => Ended { state: EndState::Cancelled, refusal: None, output: None, error: None },
            Ending::Limit(refusal) => self.run.stopped_with_what_it_has(refusal.clone()),
        };
        self.end(ended);
    }

    /// Somebody said no: a root lands, a sub-agent's run begins to stop, a stage is stopped.
    fn refused(&mut self, refused: Refused) {
        let Refused { node, refusal } = refused;
        let refusal = *refusal;
        match node {
            NodeRef::Run(id) => match self.depth_of(id) {
                0 => self.halt(Intent::Land(refusal)),
                depth => {
                    self.halt_at(depth);
                    // What was asked for before it in its own tree comes first.
                    if self.intents.len() == self.first_of(depth) {
                        self.notes.push((id, Event::LandingBegan(LandingBegan { refusal })));
                    }
                }
            },
            NodeRef::Stage(id, _) => {
                let depth = self.depth_of(id);
                self.halt_at(depth + 1);
                self.stops_stage = Some((depth, refusal));
            }
        }
    }

    /// A stage that met a limit of its own is over once nothing of it is in flight.
    fn stop_stage(&mut self, stage: &Stage, refusal: Refusal, intents: usize) {
        if self.intents.len() > intents {
            return;
        }
        self.stop_children(Some(&stage.id), Ending::Limit(&refusal));
        if self.run.is_stage_quiet(&stage.id) {
            self.note(Event::StageEnded(StageEnded::stopped(stage.id.clone(), refusal)));
        }
    }

    fn depth_of(&self, run: RunId) -> usize {
        self.above.iter().position(|level| level.run.id == run).unwrap_or(self.above.len())
    }

    fn first_of(&self, depth: usize) -> usize {
        self.above.get(depth).map_or(self.first, |level| level.first)
    }
}

/// The chain of those who must agree.
impl<'a> Pass<'a> {
    /// Looks at a run below this one, where its call stands.
    fn descend(&mut self, id: RunId, place: &Place, look: impl FnOnce(&mut Self)) {
        let Some(child) = self.runs.and_then(|runs| runs.get(&id)) else { return };
        let free = free_of(self.runs, child).min(self.free).min(self.free_here);
        let tally = Tally::of(child, &spent_below(self.runs, child));
        self.above.push(Level {
            run: std::mem::replace(&mut self.run, child),
            tally: std::mem::replace(&mut self.tally, tally),
            free: std::mem::replace(&mut self.free, free),
            free_here: std::mem::take(&mut self.free_here),
            first: std::mem::replace(&mut self.first, self.intents.len()),
            place: place.clone(),
        });
        look(self);
        if let Some(level) = self.above.pop() {
            let asked = self.tally.asked();
            (self.run, self.tally, self.first) = (level.run, level.tally, level.first);
            self.tally.count_below(asked);
            let used = free.saturating_sub(self.free);
            self.free = level.free.saturating_sub(used);
            self.free_here = level.free_here.saturating_sub(used);
        }
        self.halted = self.halted.filter(|depth| *depth <= self.above.len());
    }

    /// Asks everyone from the stage of the present place up to the root, until one says no.
    fn each_link(
        &self,
        place: &Place,
        mut ask: impl FnMut(u32, &Link<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let (mut run, mut tally, mut place, mut below) = (self.run, &self.tally, place, Used::default());
        let mut above = self.above.iter().rev();
        for distance in 0.. {
            let used = |stage: &Stage| tally.used_in_stage(self.used_by_stage(run, stage), below);
            if let Some(link) = run.stage_link(self.now, &place.stage, used) {
                ask(distance, &link)?;
            }
            ask(distance, &run.link(self.now, tally.used(below)))?;
            let Some(level) = above.next() else { break };
            below = below.plus(tally.asked());
            (run, tally, place) = (level.run, &level.tally, &level.place);
        }
        Ok(())
    }

    /// How many more calls a stage may have in flight, by its own `parallel`.
    fn free_at(&self, stage: &StageName) -> usize {
        let run = self.run;
        let open = run.open.values().filter(|attempt| attempt.step.stage == *stage).count();
        let children = run.children.iter().filter(|(_, place)| place.stage == *stage);
        let children = children.filter_map(|(child, _)| self.runs?.get(child));
        let below: usize = children.map(|child| open_below(self.runs, child)).sum();
        let parallel = usize::try_from(run.plan.limits_of(stage).parallel).unwrap_or(usize::MAX);
        parallel.saturating_sub(open).saturating_sub(below)
    }

    fn used_by_stage(&self, run: &Run, stage: &Stage) -> Used {
        let children = run.children.iter().filter(|(_, place)| place.stage == stage.id);
        let children = children.filter_map(|(id, _)| self.runs?.get(id).map(Box::as_ref));
        let below = |child: &Run| child.spent().plus(&spent_below(self.runs, child));
        Used::from(&children.map(below).fold(stage.spent, |sum, child| Spent::plus(&sum, &child)))
    }

    /// The time limit of a model call, or whoever refuses it.
    fn judge_model(
        &self,
        place: &Place,
        tool_errors: u32,
        purpose: Purpose,
        new_step: bool,
    ) -> Result<Millis, Refused> {
        let mut time = self.run.plan.limits_of(&place.stage).model_call_time;
        let mut is_first = true;
        self.each_link(place, |_, link| {
            time = time.min(link.model(self.now, purpose, new_step)?);
            if std::mem::take(&mut is_first) { link.errors(tool_errors) } else { Ok(()) }
        })?;
        Ok(time)
    }

    /// The time limit of a tool call, or whoever refuses it.
    fn judge_tool(
        &self,
        place: &Place,
        tool_errors: u32,
        tool: &ToolPlan,
        hash: &str,
        new_step: bool,
    ) -> Result<Millis, Refused> {
        let mut time = self.run.plan.limits_of(&place.stage).tool_call_time.min(tool.timeout);
        let mut is_first = true;
        self.each_link(place, |distance, link| {
            time = time.min(link.tool(self.now, new_step)?);
            if distance == 0 && new_step {
                link.repeats(&tool.name, self.repeats(&link.node, place, hash))?;
            }
            if std::mem::take(&mut is_first) { link.errors(tool_errors) } else { Ok(()) }
        })?;
        Ok(time)
    }

    /// Calls of this name that the present run, or its present stage, has made or asked for.
    fn repeats(&self, node: &NodeRef, place: &Place, hash: &str) -> u32 {
        match node {
            NodeRef::Run(_) => self.tally.repeats(hash),
            NodeRef::Stage(..) => {
                let made = self.run.stage(&place.stage).and_then(|stage| stage.repeats.get(hash));
                self.tally.repeats_in_stage(made.copied().unwrap_or_default(), hash)
            }
        }
    }

    /// Whether another sub-agent may be begun here, or the limit that refuses it.
    fn judge_child(&self, place: &Place) -> Result<(), Refusal> {
        let in_run = self.run.children_begun.saturating_add(self.tally.children());
        let in_stage = self.run.stage(&place.stage).map_or(0, |stage| stage.children_begun);
        let in_stage = in_stage.saturating_add(self.tally.children_in_stage());
        self.each_link(place, |distance, link| {
            match &link.node {
                NodeRef::Run(_) if distance == 0 => link.children(in_run)?,
                NodeRef::Stage(..) if distance == 0 => link.children(in_stage)?,
                NodeRef::Run(_) | NodeRef::Stage(..) => {}
            }
            link.depth(distance.saturating_add(1))
        })
        .map_err(|refused| *refused.refusal)
    }
}

/// Calls that may be in flight at once, less those that are.
fn free_of(runs: Option<&Runs>, run: &Run) -> usize {
    let parallel = usize::try_from(run.plan.limits.parallel).unwrap_or(usize::MAX);
    parallel.saturating_sub(open_below(runs, run))
}

/// How the runs end that a stage left behind.
const fn ending_of(over: &StageOver) -> Ending<'_> {
    match &over.refusal {
        Some(refusal) => Ending::Limit(refusal),
        None => Ending::Cancelled,
    }
}

impl Run {
    /// What a stage that failed or was stopped means for the run; `None` where it goes on.
    pub(super) fn broken_stage(&self) -> Option<(&StageName, &StageOver)> {
        let fails = |stage: &Stage| {
            let on_error = self.plan.stage(&stage.id).map_or(OnError::Fail, |plan| plan.on_error);
            on_error == OnError::Fail
        };
        let broken = |over: &&StageOver| match over.end {
            StageEnd::Failed | StageEnd::Stopped => true,
            StageEnd::Finished | StageEnd::Skipped => false,
        };
        let over = self.stages.iter().filter_map(|stage| Some((stage, stage.over().filter(broken)?)));
        over.filter(|(stage, _)| fails(stage)).map(|(stage, over)| (&stage.id, over)).next()
    }
}
