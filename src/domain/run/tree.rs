//! A root run and every run below it that hasn't ended: what one task drives, and what decides together.
//!
//! Invariants: a child is in it from its `Created` to its parent's `ChildEnded`; its parent names it while it is; what
//! a child has spent counts for all above it at every moment. Deliberately absent: who writes, and in how many writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::{Link, Refused, Used};
use super::lane::Pass;
use super::next::{NextOfTree, decide};
use super::{CallCheck, Run};
use crate::domain::event::{Created, Event, Place, Purpose, Recorded, Spent};
use crate::domain::plan::Plan;
use crate::domain::report::replay;
use crate::ids::RunId;
use crate::units::{Millis, Money, Timestamp, Tokens};

/// Boxed, since a map keeps room for eleven, and most trees are one run.
pub(super) type Runs = BTreeMap<RunId, Box<Run>>;

/// A root and the open runs below it.
#[derive(Clone, Debug)]
pub struct Tree {
    root: RunId,
    runs: Runs,
}

impl Tree {
    /// A tree of one run.
    #[must_use]
    pub fn of(run: Run) -> Self {
        Self { root: run.id, runs: BTreeMap::from([(run.id, Box::new(run))]) }
    }

    /// A tree from its logs: that of the root, and of every run below that hasn't ended.
    ///
    /// # Errors
    /// What `read` says; `None` where a log doesn't fit those above it.
    pub fn load<E>(
        root: RunId,
        plan: Arc<Plan>,
        mut read: impl FnMut(RunId) -> Result<Vec<Recorded>, E>,
    ) -> Result<Option<Self>, E> {
        Self::with_log(root, plan, &read(root)?, read)
    }

    /// The same, where the root's log was read.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with_log<E>(
        root: RunId,
        plan: Arc<Plan>,
        log: &[Recorded],
        mut read: impl FnMut(RunId) -> Result<Vec<Recorded>, E>,
    ) -> Result<Option<Self>, E> {
        let Some(run) = replay(root, plan, log) else { return Ok(None) };
        let mut open: Vec<(RunId, RunId)> = run.children().map(|child| (root, child)).collect();
        let mut tree = Self::of(run);
        while let Some((parent, id)) = open.pop() {
            let log = read(id)?;
            let Some(plan) = tree.plan_of_child(parent, &log) else { return Ok(None) };
            // One with an end that its parent doesn't know of would never be over.
            let Some(child) = replay(id, plan, &log).filter(|child| child.ended.is_none()) else { return Ok(None) };
            open.extend(child.children().map(|below| (id, below)));
            tree.runs.insert(id, Box::new(child));
        }
        Ok(Some(tree))
    }

    fn plan_of_child(&self, parent: RunId, log: &[Recorded]) -> Option<Arc<Plan>> {
        let Event::Created(created) = &log.first()?.event else { return None };
        self.runs.get(&parent)?.plan.agents.get(&created.agent).cloned()
    }

    /// The root.
    ///
    /// # Panics
    /// Never: a tree has its root.
    #[must_use]
    pub fn root(&self) -> &Run {
        self.runs.get(&self.root).expect("a tree has its root")
    }

    /// An open run of it.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<&Run> {
        self.runs.get(&run).map(Box::as_ref)
    }

    /// Its open runs, in the order of their ids.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> + ExactSizeIterator {
        self.runs.values().map(Box::as_ref)
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Timestamp, check: &dyn CallCheck) -> NextOfTree {
        decide(Pass::new(Some(&self.runs), self.root(), now, check), self.root(), self.is_busy())
    }

    /// Folds one event of one of its runs.
    pub fn apply(&mut self, at: Timestamp, run: RunId, event: &Event) {
        if let Event::Created(created) = event
            && created.parent.is_some()
        {
            return self.hang(at, run, created);
        }
        if let Some(run) = self.runs.get_mut(&run) {
            run.apply(at, event);
        }
        if let Event::ChildEnded(ended) = event {
            self.runs.remove(&ended.child);
        }
    }

    fn hang(&mut self, at: Timestamp, id: RunId, created: &Created) {
        let parent = created.parent.as_ref().and_then(|parent| self.runs.get(&parent.run));
        let plan = parent.and_then(|parent| parent.plan.agents.get(&created.agent)).cloned();
        if let Some(plan) = plan {
            self.runs.insert(id, Box::new(Run::new(id, plan, created, at)));
        }
    }

    /// A run and those above it, itself first, the root last.
    pub fn chain(&self, run: RunId) -> impl Iterator<Item = &Run> {
        std::iter::successors(self.run(run), |run| self.run(run.parent.as_ref()?.run))
    }

    /// What a run and all below it have come to.
    #[must_use]
    pub fn spent(&self, run: RunId) -> Spent {
        let runs = Some(&self.runs);
        self.runs.get(&run).map(|run| run.spent().plus(&spent_below(runs, run))).unwrap_or_default()
    }

    /// True where attempts are in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.runs().any(Run::is_busy)
    }

    /// What its open attempts hold, without the landing reserve.
    #[must_use]
    pub fn held_by_attempts(&self) -> Money {
        self.runs().map(Run::held_by_attempts).sum()
    }

    /// How long a call may wait at most, for budget or for a back-off, before the time of somebody who must agree is up.
    #[must_use]
    pub fn time_to_wait(&self, run: RunId, place: &Place, now: Timestamp) -> Millis {
        let of_stage = |run: &Run, place: Option<&Place>| {
            Some(run.stage_link(now, &place?.stage, |_| Used::default())?.time_left())
        };
        let left = self.places(run, place).map(|(run, place)| {
            let left = run.time_to_wait(now);
            of_stage(run, place).map_or(left, |of_stage| left.min(of_stage))
        });
        left.min().unwrap_or(Millis::ZERO)
    }

    /// A run and all above it, each with the place of the call: where it is made, or where the run below was called.
    fn places<'a>(&'a self, run: RunId, place: &'a Place) -> impl Iterator<Item = (&'a Run, Option<&'a Place>)> {
        let mut place = Some(place);
        self.chain(run).map(move |run| {
            let above = run.parent.as_ref().and_then(|parent| self.runs.get(&parent.run)?.children.get(&run.id));
            (run, std::mem::replace(&mut place, above))
        })
    }

    /// Whether the token limits of a call's stage, its run and all above leave room for it; a landing is its run's, not a
    /// stage's. `asked` tells the input and output at worst of what is asked for in the same write by a run and all below
    /// it.
    ///
    /// # Errors
    /// Who refuses it.
    pub fn judge_tokens(
        &self,
        run: RunId,
        place: &Place,
        purpose: Purpose,
        (input, output): (Tokens, Tokens),
        asked: impl Fn(RunId) -> (Tokens, Tokens),
    ) -> Result<(), Refused> {
        for (run, place) in self.places(run, place) {
            let (asked_in, asked_out) = asked(run.id);
            let with = |(used_in, used_out): (Tokens, Tokens)| {
                (used_in.plus(asked_in).plus(input), used_out.plus(asked_out).plus(output))
            };
            let judge = |link: &Link<'_>, used| link.tokens(purpose, with(used));
            if let Some(place) = place.filter(|_| purpose != Purpose::Landing)
                && let Some(link) = run.stage_link(run.last_at, &place.stage, |_| Used::default())
            {
                judge(&link, self.tokens_of_stage(run, place))?;
            }
            judge(&run.link(run.last_at, Used::default()), self.tokens(run))?;
        }
        Ok(())
    }

    /// Input and output of a run and all below it, what is in flight at its worst.
    fn tokens(&self, run: &Run) -> (Tokens, Tokens) {
        let (spent, (open_in, open_out)) = (run.spent(), run.tokens_in_flight(None));
        let below = run.children.keys().filter_map(|child| self.runs.get(child)).map(|child| self.tokens(child));
        below.fold((spent.input.plus(open_in), spent.output.plus(open_out)), add)
    }

    fn tokens_of_stage(&self, run: &Run, place: &Place) -> (Tokens, Tokens) {
        let spent = run.stage(&place.stage).map(|stage| stage.spent).unwrap_or_default();
        let (open_in, open_out) = run.tokens_in_flight(Some(&place.stage));
        let below = run.children.iter().filter(|(_, at)| at.stage == place.stage);
        let below = below.filter_map(|(child, _)| self.runs.get(child)).map(|child| self.tokens(child));
        below.fold((spent.input.plus(open_in), spent.output.plus(open_out)), add)
    }
}

fn add(sum: (Tokens, Tokens), other: (Tokens, Tokens)) -> (Tokens, Tokens) {
    (sum.0.plus(other.0), sum.1.plus(other.1))
}

/// The open runs right below a run.
fn below<'a>(runs: Option<&'a Runs>, run: &'a Run) -> impl Iterator<Item = &'a Run> {
    run.children.keys().filter_map(move |child| runs?.get(child).map(Box::as_ref))
}

/// What the open runs below a run have come to.
pub(super) fn spent_below(runs: Option<&Runs>, run: &Run) -> Spent {
    let of = |child: &Run| child.spent().plus(&spent_below(runs, child));
    below(runs, run).fold(Spent::default(), |sum, child| sum.plus(&of(child)))
}

/// Calls in flight of a run and of all below it.
pub(super) fn open_below(runs: Option<&Runs>, run: &Run) -> usize {
    run.open.len() + below(runs, run).map(|child| open_below(runs, child)).sum::<usize>()
}
