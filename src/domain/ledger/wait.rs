//! Waiting for budget: who is offered freed money, and when waiting is pointless (rules 9b and 10).

use std::collections::BTreeSet;

use super::{Decision, Ledger, Notice, Verdict, Waiter};
use crate::domain::event::{Event, WaitEnd, WaitEnded};
use crate::ids::RunId;

impl Ledger {
    /// Offers money to waiters, oldest run first, or to those that are older than one run; one that doesn't fit is passed
    /// over. The age of the run counts, not that of its wait: the banker's walk (rule 8) lets the oldest finish first, and
    /// where all come equally far, all are stuck with most of their money spent.
    pub(super) fn offer_to_waiters(&mut self, decision: &mut Decision, younger: Option<RunId>) {
        let mut index = 0;
        while let Some(waiter) = self.waiters.get(index).filter(|waiter| younger.is_none_or(|run| waiter.run < run)) {
            let run = waiter.run;
            let reserved = &waiter.ask.reserved;
            if self.barred(reserved).is_some() || self.switch_on(reserved).is_some() {
                // A freeze or a switch came while it waited. It asks again, and is told.
                self.release_waiter(decision, run);
                continue;
            }
            match self.judge(&waiter.ask.reserved, waiter.ask.lower) {
                Ok(granted) => {
                    self.waiters.remove(index);
                    self.append(decision, run, Event::WaitEnded(WaitEnded { why: WaitEnd::Granted }));
                    let granted = self.grant(decision, granted);
                    decision.notices.push((run, Notice::Granted(granted)));
                }
                Err(shorts) => {
                    if let Some(waiter) = self.waiters.get_mut(index) {
                        waiter.short = shorts.into_iter().map(|(key, _)| key).collect();
                    }
                    index += 1;
                }
            }
        }
    }

    /// Ends a wait from the run's side: it took too long, or the run was asked to end.
    pub(super) fn end_wait(&mut self, decision: &mut Decision, run: RunId, why: WaitEnd) -> Verdict {
        if !self.stop_waiting(run) {
            return Verdict::NotWaiting;
        }
        self.append(decision, run, Event::WaitEnded(WaitEnded { why }));
        Verdict::WaitEnded
    }

    /// After every op: release those whom nobody can free money for, then admit whom the freed money lets start.
    pub(super) fn wake(&mut self, decision: &mut Decision, freed: bool) {
        self.break_stalls(decision);
        if freed {
            for (run, outcome) in self.admit_from_queue(decision) {
                decision.notices.push((run, outcome));
            }
        }
    }

    fn break_stalls(&mut self, decision: &mut Decision) {
        while let Some(run) = self.stalled() {
            self.release_waiter(decision, run);
        }
    }

    fn release_waiter(&mut self, decision: &mut Decision, run: RunId) {
        self.stop_waiting(run);
        self.append(decision, run, Event::WaitEnded(WaitEnded { why: WaitEnd::Stalled }));
        decision.notices.push((run, Notice::Stalled));
    }

    /// The youngest of the runs that hold money on a short account, where all of them wait.
    fn stalled(&self) -> Option<RunId> {
        let waiting: BTreeSet<RunId> = self.waiters.iter().map(|waiter| waiter.run).collect();
        self.waiters.iter().find_map(|waiter| {
            let mut holders = waiter.short.iter().map(|key| self.holders.get(key));
            holders.find_map(|holders| match holders {
                Some(holders) if !holders.keys().all(|run| waiting.contains(run)) => None,
                // Where nobody holds anything there, waiting is as pointless: the waiter itself goes on.
                holders => Some(holders.and_then(|holders| holders.keys().last()).copied().unwrap_or(waiter.run)),
            })
        })
    }

    /// The root of a tree that waits for an attempt of this child.
    pub(super) fn waits_for_child(&self, run: RunId) -> Option<RunId> {
        let below = |waiter: &&Waiter| waiter.run != run && waiter.ask.reserved.reservation.run == run;
        self.waiters.iter().find(below).map(|waiter| waiter.run)
    }

    pub(super) fn stop_waiting(&mut self, run: RunId) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.run != run);
        self.waiters.len() < before
    }
}
