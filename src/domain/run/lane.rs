//! One look over all lanes of a run, in LEDGER rule 16's order: what each wants next, as many at once as `parallel` allows.
//!
//! A pass changes nothing. Facts that follow from the state come first, as notes; the look is taken again once they are
//! folded. What is asked for counts within the pass, so that the third call of it is judged after the second.

mod agent;
mod approval;
mod map;
mod talk;
mod tool;

use serde_json::Value;

use super::judge::Tally;
use super::stage::{Lane, Stage, StageState};
use super::{CallCheck, Intent, Run, StageOver};
use crate::domain::event::{EndState, Ended, Event, Place, StageEnd, StageEnded};
use crate::domain::limits::Refusal;
use crate::domain::plan::{OnError, StageKind, StagePlan};
use crate::domain::template;
use crate::ids::StageName;
use crate::units::Timestamp;
use tool::OwnCall;

/// A look over all lanes.
pub(super) struct Pass<'a> {
    run: &'a Run,
    now: Timestamp,
    check: &'a dyn CallCheck,
    tally: Tally<'a>,
    /// Calls that may still be started.
    free: usize,
    /// How many of them by the stage that is looked at.
    free_here: usize,
    pub(super) intents: Vec<Intent>,
    pub(super) notes: Vec<Event>,
    /// What comes after a landing or an end isn't looked at.
    halted: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn new(run: &'a Run, now: Timestamp, check: &'a dyn CallCheck) -> Self {
        let parallel = usize::try_from(run.plan.limits.parallel).unwrap_or(usize::MAX);
        Self {
            run,
            now,
            check,
            tally: Tally::of(&run.counters),
            free: parallel.saturating_sub(run.open.len()),
            free_here: 0,
            intents: Vec::new(),
            notes: Vec::new(),
            halted: false,
        }
    }

    /// Looks at every stage, in the order of the file.
    pub(super) fn look(&mut self) {
        let run = self.run;
        for (stage, plan) in run.stages.iter().zip(&run.plan.stages) {
            self.free_here = run.free_at(&stage.id);
            match &stage.state {
                StageState::Over(_) => {}
                StageState::Waiting => self.begin(plan),
                StageState::Open { items: Some(_), .. } => self.advance_map(stage, plan),
                StageState::Open { .. } => stage.lanes().for_each(|lane| self.advance_lane(lane, plan)),
            }
            if self.halted {
                return;
            }
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
        if self.halted {
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
            StageKind::Agent { agent, .. } => self.call_agent(lane, agent),
        }
    }

    /// The work of a place is done: of a workflow's stage that is a fact, of a single loop the end of its run.
    fn over(&mut self, place: Place, end: StageEnd, output: Value, error: Option<String>) {
        if let Some(refusal) = self.is_too_much(&place, &output) {
            return self.stop(place, refusal, Value::Null);
        }
        if self.run.plan.is_workflow() {
            self.notes.push(Event::StageEnded(StageEnded { place, end, output, refusal: None, error }));
            return;
        }
        let (state, output) = match end {
            StageEnd::Finished => (EndState::Finished, Some(output)),
            StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped => (EndState::Failed, None),
        };
        self.halt(Intent::End(Ended { state, refusal: None, output, error }));
    }

    fn fail(&mut self, place: Place, error: String) {
        self.over(place, StageEnd::Failed, Value::Null, Some(error));
    }

    /// This, and nothing after it. What was asked for before it in the pass comes first; then it comes again, alone.
    fn halt(&mut self, intent: Intent) {
        self.halted = true;
        if self.intents.is_empty() {
            self.intents.push(intent);
        }
    }

    /// The work of a place is stopped by a limit of its own; the run goes on where it can do without.
    fn stop(&mut self, place: Place, refusal: Refusal, output: Value) {
        let (end, refusal) = (StageEnd::Stopped, Some(refusal));
        self.notes.push(Event::StageEnded(StageEnded { place, end, output, refusal, error: None }));
    }

    /// True where no call may be started at present.
    const fn is_full(&self) -> bool {
        self.free == 0 || self.free_here == 0
    }

    fn ask(&mut self, intent: Intent) {
        self.free = self.free.saturating_sub(1);
        self.free_here = self.free_here.saturating_sub(1);
        self.intents.push(intent);
    }
}

impl Run {
    /// How many more calls a stage may have in flight, by its own `parallel`.
    fn free_at(&self, stage: &StageName) -> usize {
        let open = self.open.values().filter(|attempt| attempt.step.stage == *stage).count();
        let parallel = usize::try_from(self.plan.limits_of(stage).parallel).unwrap_or(usize::MAX);
        parallel.saturating_sub(open)
    }

    /// True where attempts of a stage are in flight.
    fn is_busy_at(&self, stage: &StageName) -> bool {
        self.open.values().any(|attempt| attempt.step.stage == *stage)
    }

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
