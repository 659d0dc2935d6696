//! What must hold between two commits, and the time that each run has used.

use std::collections::BTreeMap;

use plimsoll::domain::event::{AccountKey, Event, Outcome, RunState};
use plimsoll::domain::retry::ErrorClass;
use plimsoll::ids::RunId;
use plimsoll::units::{Millis, Timestamp};

use super::Judge;
use super::known::Known;

/// How late news may be: the ways to the store and back.
pub(super) const SLACK: Millis = Millis(100);

impl Known {
    pub(super) fn active_at(&self, now: Timestamp) -> Millis {
        self.active.plus(self.active_since.map_or(Millis::ZERO, |since| now.since(since)))
    }
}

impl Judge {
    /// Active time goes from an admission to an interruption, a question or the end: as far as its process saw it.
    pub(super) fn tell_time(&mut self, run: RunId, at: Timestamp, event: &Event) {
        let known = self.known(run);
        if !is_told_afterwards(event) {
            known.last_at = known.last_at.max(at);
        }
        if matches!(event, Event::Admitted(_)) {
            known.active_since.get_or_insert(at);
        }
        if matches!(event, Event::Interrupted(_) | Event::Parked(_) | Event::Ended(_))
            && let Some(since) = known.active_since.take()
        {
            known.active = known.active.plus(known.last_at.since(since));
        }
    }

    /// Who waits holds what a waiter may hold, and not for ever.
    pub(super) fn look_around(&mut self) {
        let mut open: BTreeMap<RunId, (usize, usize, usize)> = BTreeMap::new();
        for (id, each) in &self.open {
            for run in self.chain(id.run) {
                let (attempts, kept, holds) = open.entry(run).or_default();
                *attempts += usize::from(each.stage.is_some() && !each.amount.is_zero());
                // Money may come while the run is being stopped: the next write gives back what nobody sends any more.
                *kept += usize::from(each.stage.is_none() || each.sent);
                *holds += 1;
            }
        }
        let runs: Vec<(RunId, RunState)> = self.runs.iter().map(|(run, known)| (*run, known.state)).collect();
        for (run, state) in runs {
            let (attempts, kept, holds) = open.get(&run).copied().unwrap_or_default();
            match state {
                RunState::Running => {}
                RunState::AwaitingBudget => {
                    self.check(attempts == 0, || format!("(18) {run} waits for budget and holds an attempt"));
                    self.look_at_wait(run);
                }
                RunState::AwaitingApproval | RunState::AwaitingInput => {
                    self.check(holds == 0, || format!("(17) {run} waits for a person and holds something"));
                }
                RunState::Queued | RunState::Interrupted => {
                    self.check(kept == 0, || format!("(18) {run} is {state} and holds something"));
                }
                RunState::Finished | RunState::Stopped | RunState::Failed | RunState::Cancelled => {
                    self.check(kept == 0, || format!("(11) {run} is {state} and holds something"));
                }
            }
        }
    }

    /// Not too long, and not for somebody who waits too (LEDGER rule 10).
    fn look_at_wait(&mut self, run: RunId) {
        let waiting = &self.runs[&run];
        let Some(until) = waiting.wait else { return };
        let alone = !self.runs.values().any(|known| known.state == RunState::Running && may_free(known, waiting));
        let now = self.now;
        self.check(now <= until.after(SLACK), || {
            format!("(18) {run} was to wait for budget until {until}, and it is {now}")
        });
        self.check(!alone, || format!("(18) {run} waits for budget, and so does everybody on its accounts"));
    }
}

/// True for a run that holds money, or may come to hold some, on an account that another waits for: which of its
/// accounts that is, the log tells only of the first; and of a period that has ended by now.
fn may_free(known: &Known, waiting: &Known) -> bool {
    let same = |one: &AccountKey, other: &AccountKey| match (one, other) {
        (
            AccountKey::Budget { budget, scope, .. },
            AccountKey::Budget { budget: other_budget, scope: other_scope, .. },
        ) => budget == other_budget && scope == other_scope,
        (AccountKey::Budget { .. } | AccountKey::Node { .. }, _) => false,
    };
    waiting.budgets.iter().any(|key| known.budgets.iter().any(|other| same(key, other)))
}

/// True for what a restart tells of a process that is gone.
fn is_told_afterwards(event: &Event) -> bool {
    let broken_off =
        |outcome: &Outcome| matches!(outcome, Outcome::Failed(why) if why.class == ErrorClass::Interrupted);
    matches!(event, Event::Interrupted(interrupted) if !interrupted.clean)
        || matches!(event, Event::Settled(settled) if broken_off(&settled.outcome))
}
