//! What counts against the limits of a run, of its stages, and of all above it (10, 16).

use std::collections::BTreeMap;

use plimsoll::domain::event::{Call, Purpose, Reserved, Spent};
use plimsoll::domain::limits::Limits;
use plimsoll::ids::{ReservationId, RunId, StageName};
use plimsoll::units::{Millis, Tokens};

use super::Judge;
use super::times::SLACK;

impl Judge {
    /// A run and those above it, the root last.
    pub(super) fn chain(&self, run: RunId) -> Vec<RunId> {
        let above = |run: &RunId| Some(self.runs.get(run)?.created.parent.as_ref()?.run);
        std::iter::successors(Some(run), above).filter(|run| self.runs.contains_key(run)).collect()
    }

    /// A run and those above it, each with the stage that works or calls.
    fn places(&self, run: RunId, stage: &StageName) -> Vec<(RunId, StageName)> {
        let mut places = Vec::new();
        let mut stage = stage.clone();
        for run in self.chain(run) {
            places.push((run, stage.clone()));
            if let Some(parent) = &self.runs[&run].created.parent {
                stage = parent.stage.clone();
            }
        }
        places
    }

    /// Counts something at its stage and its run, and once for each of those above.
    pub(super) fn spend(&mut self, run: RunId, stage: &StageName, spent: &Spent) {
        for (at, stage) in self.places(run, stage) {
            let known = self.known(at);
            let of = if at == run { &mut known.own } else { &mut known.below };
            *of = of.plus(spent);
            let of = &mut known.stage(&stage).spent;
            *of = of.plus(spent);
        }
    }

    /// Steps and attempts go on where they were, and no limit is passed (10).
    pub(super) fn count(&mut self, run: RunId, reserved: &Reserved) {
        let (id, stage) = (reserved.reservation, &reserved.step.stage);
        let is_new = u32::from(reserved.attempt == 1);
        let mut spent = Spent { steps: is_new, ..Spent::default() };
        match &reserved.call {
            Call::Model(call) => {
                (spent.model_calls, spent.attempts) = (is_new, 1);
                self.saw(match call.purpose {
                    Purpose::Landing => "landing",
                    Purpose::Last => "last call",
                    Purpose::Repair => "repair",
                    Purpose::Summary => "summary",
                    Purpose::Turn => "turn",
                });
            }
            Call::Tool { arguments_hash, .. } => {
                spent.tool_calls = is_new;
                if is_new == 1 {
                    self.repeat(run, stage, arguments_hash);
                }
            }
        }
        if is_new == 1 {
            let step = reserved.step.step;
            let is_new = self.known(run).steps_used.insert(step);
            self.check(is_new, || format!("(10) {id} is step {step}, which was made already"));
        }
        self.spend(run, stage, &spent);
        let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
        self.judge_counts(id, stage, lands);
        if matches!(&reserved.call, Call::Model(_)) && !self.catching_up {
            self.judge_tokens(id, stage, lands);
        }
    }

    /// One more call of this name: of its run, and of its stage.
    pub(super) fn repeat(&mut self, run: RunId, stage: &StageName, hash: &str) {
        let known = self.known(run);
        let plan = known.plan.clone();
        let count = |book: &mut BTreeMap<String, u32>| {
            let counted = book.entry(hash.to_owned()).or_default();
            *counted += 1;
            *counted
        };
        let (in_run, in_stage) = (count(&mut known.repeats), count(&mut known.stage(stage).repeats));
        let (most, most_here) = (plan.limits.repeats, plan.limits_of(stage).repeats);
        self.check(in_run <= most, || format!("(10) {run} makes `repeats` {in_run} of {most}"));
        self.check(in_stage <= most_here, || {
            format!("(10) `{stage}` of {run} makes `repeats` {in_stage} of {most_here}")
        });
    }

    /// Input and output of all calls of a run, or of one of its stages, with what is in flight at worst, are within the
    /// limits of everyone above.
    fn judge_tokens(&mut self, id: ReservationId, stage: &StageName, lands: bool) {
        for (run, stage) in self.places(id.run, stage) {
            let known = &self.runs[&run];
            let (plan, spent) = (known.plan.clone(), known.own.plus(&known.below));
            self.judge_tokens_of(id, &plan.limits, &spent, (run, None));
            let own = plan.stage(&stage).and_then(|stage| stage.limits.as_deref()).filter(|_| !lands);
            if let Some(limits) = own {
                let spent = self.runs[&run].stages.get(&stage).map(|book| book.spent).unwrap_or_default();
                self.judge_tokens_of(id, limits, &spent, (run, Some(&stage)));
            }
        }
    }

    fn judge_tokens_of(
        &mut self,
        id: ReservationId,
        limits: &Limits,
        spent: &Spent,
        (run, stage): (RunId, Option<&StageName>),
    ) {
        let in_flight = self.calls_in_flight(run, stage).map(|id| self.open[&id].tokens);
        let (input, output) = in_flight
            .fold((spent.input, spent.output), |sum: (Tokens, Tokens), more| (sum.0.plus(more.0), sum.1.plus(more.1)));
        for (name, used, limit) in [
            ("tokens", input.plus(output), limits.tokens),
            ("input_tokens", input, limits.input_tokens),
            ("output_tokens", output, limits.output_tokens),
        ] {
            let Some(limit) = limit else { continue };
            self.check(used <= limit, || format!("(10) {id} makes `{name}` {used} of {limit} in {run} {stage:?}"));
        }
    }

    /// A call may take no longer than its stage, and those that called its run, have left.
    pub(super) fn judge_time_of_stages(&mut self, id: ReservationId, limit: Millis) {
        let Some(open) = self.open.get(&id).filter(|open| !open.lands) else { return };
        let Some(stage) = open.stage.clone() else { return };
        for (run, stage) in self.places(id.run, &stage) {
            let known = &self.runs[&run];
            let Some(limits) = known.plan.stage(&stage).and_then(|stage| stage.limits.as_deref()) else { continue };
            let began = known.stages.get(&stage).and_then(|book| book.began).unwrap_or_default();
            let active = known.active_at(self.now).left_after(began);
            let left = limits.wall_time.left_after(active).plus(SLACK);
            self.check(limit <= left, || {
                format!("(10) {id} may take {limit}, and {left} of the time of `{stage}` of {run} are left")
            });
        }
    }

    /// No limit of a stage, a run, or one above is passed. The landing call is no stage's.
    fn judge_counts(&mut self, id: ReservationId, stage: &StageName, lands: bool) {
        for (run, stage) in self.places(id.run, stage) {
            let known = &self.runs[&run];
            let plan = known.plan.clone();
            let spent = known.own.plus(&known.below);
            let own = plan.stage(&stage).and_then(|stage| stage.limits.as_deref()).filter(|_| !lands);
            let of_stage = self.runs[&run].stages.get(&stage).map(|book| book.spent).unwrap_or_default();
            self.judge_limits(id, &plan.limits, &spent, &format!("{run}"));
            if let Some(limits) = own {
                self.judge_limits(id, limits, &of_stage, &format!("{run} {stage}"));
            }
            if self.catching_up {
                continue;
            }
            let in_flight = self.in_flight(run, None);
            let most = plan.limits.parallel;
            self.check(in_flight <= most, || format!("(10) {id} makes `parallel` {in_flight} of {most} in {run}"));
            let in_flight = self.in_flight(run, Some(&stage));
            let most = plan.limits_of(&stage).parallel;
            self.check(lands || in_flight <= most, || {
                format!("(10) {id} makes `parallel` {in_flight} of {most} in {run} {stage}")
            });
        }
    }

    fn judge_limits(&mut self, id: ReservationId, limits: &Limits, spent: &Spent, of: &str) {
        let counts = [
            ("steps", spent.steps, limits.steps),
            ("model_calls", spent.model_calls, limits.model_calls),
            ("tool_calls", spent.tool_calls, limits.tool_calls),
            ("attempts", spent.attempts, limits.attempts),
        ];
        for (name, count, limit) in counts {
            self.check(count <= limit, || format!("(10) {id} makes `{name}` {count} of {limit} in {of}"));
        }
    }

    /// How many calls of a run, or one stage of it, and below are in flight.
    fn in_flight(&self, run: RunId, stage: Option<&StageName>) -> u32 {
        u32::try_from(self.calls_in_flight(run, stage).count()).expect("few")
    }

    fn calls_in_flight<'a>(
        &'a self,
        run: RunId,
        stage: Option<&'a StageName>,
    ) -> impl Iterator<Item = ReservationId> + 'a {
        let is_there = move |id: &ReservationId, at: &StageName| {
            self.places(id.run, at).iter().any(|(of, at)| *of == run && stage.is_none_or(|stage| stage == at))
        };
        let calls = self.open.iter().filter_map(|(id, open)| Some((*id, open.stage.as_ref()?)));
        calls.filter(move |(id, at)| is_there(id, at)).map(|(id, _)| id)
    }
}
