//! The judge's last words on a life and on the voyage: the books against the store, the runs and the invoice.

use std::collections::BTreeMap;

use plimsoll::domain::event::AccountKey;
use plimsoll::domain::run::Run;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::runtime::replay::Same;
use plimsoll::units::{Money, Timestamp};

use super::Judge;

impl Judge {
    /// The accounts that the store has are those of these books (3, 8).
    pub(super) fn compare_accounts(&mut self) {
        let Some(store) = self.store.clone() else { return };
        // A store that failed says nothing more.
        let Ok(accounts) = store.accounts() else { return };
        for (key, account) in accounts {
            let book = self.accounts.entry(key.clone()).or_default();
            let (settled, held) = (book.settled, book.held);
            self.check(account.settled == settled && account.held == held, || {
                format!(
                    "(3) {key} has {} settled and {} held; its reservations come to {settled} and {held}",
                    account.settled, account.held
                )
            });
        }
    }

    /// A run, as the runtime reads it from its log, has counted what was counted (9, 10).
    pub(in crate::voyage) fn compare_run(&mut self, run: &Run, now: Timestamp) {
        let Some(known) = self.runs.get(&run.id) else { return self.broken(format!("(9) {} is unknown", run.id)) };
        let counters = &run.counters;
        let told = (
            (counters.steps, counters.model_calls, counters.tool_calls, counters.attempts),
            (counters.settled, counters.unknown, run.active(now), run.state),
        );
        let own = (
            (known.own.steps, known.own.model_calls, known.own.tool_calls, known.own.attempts),
            (known.own.settled, known.own.unknown, known.active_at(now), known.state),
        );
        self.check(told == own, || format!("(10) {} is resumed with {told:?}; it had {own:?}", run.id));
    }

    /// The trees that there are.
    pub(in crate::voyage) fn roots(&self) -> impl Iterator<Item = RunId> {
        self.runs.iter().filter(|(run, known)| **run == known.root).map(|(run, _)| *run)
    }

    /// A tree was decided the same.
    pub(in crate::voyage) fn judged_again(&mut self, same: &Same) {
        let count = |count| u32::try_from(count).expect("few");
        *self.seen.entry("decided the same").or_default() += count(same.decisions);
        *self.seen.entry("requests the same").or_default() += count(same.requests);
        *self.seen.entry("bills the same").or_default() += count(same.bills);
    }

    /// The invoice against the books: by reservation, by run, by account (1, 5, 7, 16).
    pub(in crate::voyage) fn compare_invoice(&mut self) {
        let mut by_account: BTreeMap<AccountKey, Money> = BTreeMap::new();
        let mut by_run: BTreeMap<RunId, Money> = BTreeMap::new();
        for (id, line) in self.invoice.lines.clone() {
            let Some(closed) = self.closed.get(&id) else {
                return self.broken(format!("(4) {id} is invoiced and was never closed"));
            };
            let (bill, unknown) = (closed.bill, closed.unknown);
            for key in &closed.accounts {
                let sum = by_account.entry(key.clone()).or_default();
                *sum = sum.plus(line);
            }
            let sum = by_run.entry(id.run).or_default();
            *sum = sum.plus(line);
            match bill {
                None => self.broken(format!("(7) {id} is void and invoiced at {line}")),
                Some(bill) if unknown => self.check(line <= bill, || format!("(1) {id} is {bill}, invoiced {line}")),
                Some(bill) => self.check(line == bill, || format!("(1) {id} is {bill}, invoiced {line}")),
            }
        }
        let unbilled = self.booked_and_not_billed();
        self.check(unbilled.is_empty(), || format!("(3) {unbilled:?} are booked and were never invoiced"));
        for (key, sum) in by_account {
            self.compare_account(&key, sum);
        }
        for (run, known) in &self.runs {
            let invoiced = by_run.get(run).copied().unwrap_or_default();
            let settled = known.own.settled;
            let fits = if known.own.unknown.is_zero() { settled == invoiced } else { settled >= invoiced };
            if !fits {
                return self.broken(format!("(1) {run} has settled {settled}, and is invoiced {invoiced}"));
            }
        }
    }

    fn booked_and_not_billed(&self) -> Vec<ReservationId> {
        let known = self.closed.iter().filter(|(_, closed)| !closed.unknown);
        let booked = known.filter(|(_, closed)| closed.bill.is_some_and(|bill| !bill.is_zero()));
        booked.map(|(id, _)| *id).filter(|id| !self.invoice.lines.contains_key(id)).collect()
    }

    /// Within the highest cap that there was, but for over-bills.
    fn compare_account(&mut self, key: &AccountKey, invoiced: Money) {
        let over = self.accounts.get(key).map_or(Money::ZERO, |book| book.over);
        let cap = match key {
            AccountKey::Node { .. } => self.cap(key),
            AccountKey::Budget { budget, .. } => {
                self.caps.get(budget).map(|(_, highest)| highest.plus(self.added(key).1))
            }
        };
        let cap = cap.unwrap_or_default();
        self.check(invoiced <= cap.plus(over), || format!("(1) {key} is invoiced {invoiced}, and its cap is {cap}"));
    }

    /// Nobody is left but who ended, or who stands where a person sees it (18).
    pub(in crate::voyage) fn all_are_over(&mut self, may_stay: &[RunId]) {
        let left: Vec<String> = self
            .runs
            .iter()
            .filter(|(_, known)| !known.state.is_ended() && !may_stay.contains(&known.root))
            .map(|(run, known)| format!("{run} is {}", known.state))
            .collect();
        self.check(left.is_empty(), || format!("(18) {}", left.join(", ")));
    }
}
