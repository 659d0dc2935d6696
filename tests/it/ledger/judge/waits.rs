//! Who waits: for money that somebody frees, holding the landing reserve only; and who doesn't run holds nothing.

use plimsoll::domain::event::Event;
use plimsoll::domain::ledger::{Ask, Decision, Notice, Op, Verdict};

use super::{Judge, Line, LineState};

impl Judge {
    pub(super) fn note_who_waits(&mut self, op: Option<&Op>, decision: &Decision) {
        // Also where nobody asked: a switch that is lifted shows that a run will never fit.
        for (run, notice) in &decision.notices {
            if matches!(notice, Notice::TurnedAway(_)) {
                self.queue.remove(run);
            }
        }
        let Some(op) = op else { return };
        for (ask, verdict) in op.asks.iter().zip(&decision.verdicts) {
            match (ask, verdict) {
                (Ask::Reserve(ask), Verdict::Waiting) => {
                    // The wait may have ended in the same write, by a stall.
                    let last = decision.appended.iter().rev().find(|(run, event)| {
                        *run == op.run && matches!(event, Event::WaitBegan(_) | Event::WaitEnded(_))
                    });
                    if matches!(last, Some((_, Event::WaitBegan(_)))) {
                        self.waits.insert(op.run, (**ask).clone());
                    }
                }
                (Ask::Admit(_), Verdict::Queued) => drop(self.queue.insert(op.run)),
                _ => {}
            }
        }
    }

    /// Rules 9b and 10: who waits is short somewhere, holds its landing reserve only, and somebody else will free money.
    pub(super) fn nobody_waits_in_vain(&mut self) {
        let mut faults = Vec::new();
        for (root, ask) in &self.waits {
            let open = |line: &&Line| line.state == LineState::Open && !line.amount.is_zero();
            if self.lines.values().filter(open).any(|line| line.root == *root && !line.landing) {
                faults.push(format!("rule 9: {root} waits while it holds money for an attempt"));
            }
            let shorts = self.shorts(&ask.reserved, ask.reserved.amount);
            if shorts.is_empty() {
                faults.push(format!("rule 9b: {root} waits, and its call would fit"));
            }
            for key in shorts {
                let holders = self.lines.values().filter(open).filter(|line| line.accounts.contains(&key));
                if holders.map(|line| line.root).all(|root| self.waits.contains_key(&root)) {
                    faults.push(format!("rule 10: {root} waits for {key}, where nobody will free money"));
                }
            }
        }
        let idle = !self.runs.values().any(|seen| seen.parent.is_none() && seen.admitted && !seen.ended);
        if idle && self.queue.iter().any(|root| !self.is_held(*root)) {
            faults.push(format!("rule 7: {:?} queue, and nobody runs", self.queue));
        }
        self.faults.append(&mut faults);
    }

    /// Invariant 17 and rule 15: who isn't admitted holds nothing, and who has ended keeps nothing to land.
    pub(super) fn nobody_holds_in_vain(&mut self) {
        let mut faults = Vec::new();
        for line in self.lines.values().filter(|line| line.state == LineState::Open) {
            let Some(root) = self.runs.get(&line.root) else { continue };
            if !root.admitted || (root.ended && line.landing) {
                faults.push(format!("invariant 17: {} holds {} and doesn't run", line.root, line.amount));
            }
        }
        self.faults.append(&mut faults);
    }
}
