//! A small model that judges. It knows nothing of the ledger's code: it reads what was asked, what was appended and what
//! was answered, keeps books and an invoice of its own, and says where a rule of LEDGER.md or an invariant of the
//! durability page doesn't hold. Deliberately absent: the banker's walk, which `table.rs` and `banker.rs` look at.

mod orders;
mod verdicts;
mod waits;

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{
    AccountKey, Admitted, CostSource, Created, Event, Labels, Parent, PeriodMoved, Purpose, Reserved, Settled, WaitEnd,
};
use plimsoll::domain::ledger::{Decision, Op, ReserveAsk};
use plimsoll::ids::{BudgetName, PriceId, ReservationId, RunId, StageName};
use plimsoll::units::{Money, Timestamp};

use super::subject::Subject;
use super::vocabulary::{DAY, price_of, purpose_of};

/// What the judge's books say of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) settled: Money,
    pub(super) unknown: Money,
    pub(super) held: Money,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    Open,
    Settled,
    Voided,
}

/// One reservation.
#[derive(Clone, Debug)]
struct Line {
    accounts: Vec<AccountKey>,
    amount: Money,
    landing: bool,
    root: RunId,
    price: Option<PriceId>,
    state: LineState,
}

/// One run of a tree.
#[derive(Clone, Debug)]
struct Seen {
    root: RunId,
    parent: Option<Parent>,
    labels: Labels,
    cap: Money,
    stage_caps: BTreeMap<StageName, Money>,
    /// The budget accounts on the tree's path, as the root's own log tells them.
    told: Vec<AccountKey>,
    landing: Option<ReservationId>,
    admitted: bool,
    cancelled: bool,
    ended: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Judge {
    budgets: Vec<Budget>,
    starts: BTreeMap<BudgetName, u64>,
    accounts: BTreeMap<AccountKey, Sums>,
    highest_caps: BTreeMap<AccountKey, Money>,
    overruns: BTreeMap<AccountKey, Money>,
    lines: BTreeMap<ReservationId, Line>,
    runs: BTreeMap<RunId, Seen>,
    waits: BTreeMap<RunId, ReserveAsk>,
    queue: BTreeSet<RunId>,
    invoice: BTreeMap<ReservationId, Money>,
    sent: BTreeSet<ReservationId>,
    frozen: BTreeSet<PriceId>,
    orders: orders::Orders,
    /// Everything that was appended, in order.
    pub(super) events: Vec<(Timestamp, RunId, Event)>,
    /// What is wrong, in words.
    pub(super) faults: Vec<String>,
}

impl Judge {
    pub(super) fn set_budgets(&mut self, budgets: Vec<Budget>, now: Timestamp) {
        self.budgets = budgets;
        self.roll(now);
    }

    /// A call leaves: its reservation must be open, and no other call may have used it (invariant 4).
    pub(super) fn sent(&mut self, id: ReservationId) {
        let open = self.lines.get(&id).is_some_and(|line| line.state == LineState::Open && !line.landing);
        self.require(open, || format!("promise 1: call {id} was sent without an open reservation"));
        let first = self.sent.insert(id);
        self.require(first, || format!("invariant 4: reservation {id} was used for two calls"));
    }

    /// What the provider bills, whatever we learn of it.
    pub(super) fn billed(&mut self, id: ReservationId, bill: Money) {
        let voided = self.lines.get(&id).is_some_and(|line| line.state == LineState::Voided);
        self.require(!voided || bill.is_zero(), || format!("invariant 7: {id} was voided and is billed {bill}"));
        self.invoice.insert(id, bill);
    }

    pub(super) fn unfrozen(&mut self, price: &PriceId) {
        self.frozen.remove(price);
    }

    /// The landing reserve that a run holds.
    pub(super) fn landing_of(&self, root: RunId) -> Option<Money> {
        let id = self.runs.get(&root)?.landing?;
        self.lines.get(&id).filter(|line| line.state == LineState::Open).map(|line| line.amount)
    }

    /// What the books say of an account.
    pub(super) fn books(&self) -> &BTreeMap<AccountKey, Sums> {
        &self.accounts
    }

    /// Judges one write: the facts and asks that went in, what came out, and where the subject's accounts stand now.
    pub(super) fn after(&mut self, op: Option<&Op>, decision: &Decision, now: Timestamp, subject: &dyn Subject) {
        self.roll(now);
        self.facts_come_first(op, decision);
        let is_fact = |entry: &(RunId, Event)| op.is_some_and(|op| op.events.contains(entry));
        let admitted = |entry: &(RunId, Event)| matches!(entry.1, Event::Admitted(_)) && !is_fact(entry);
        let admissions = decision.appended.iter().position(admitted);
        let (before, rest) = decision.appended.split_at(admissions.unwrap_or(decision.appended.len()));
        before.iter().for_each(|(run, event)| self.book(now, *run, event));
        // The asks of this write were judged here: admissions come after, and the rest of the write moves no money.
        self.asks_are_answered_rightly(op, decision);
        rest.iter().for_each(|(run, event)| self.book(now, *run, event));
        self.note_who_waits(op, decision);
        self.books_agree(subject);
        self.nobody_waits_in_vain();
        self.nobody_holds_in_vain();
    }

    /// After a crash: nothing is released without evidence, and nobody runs (rule 15).
    pub(super) fn after_crash(&mut self, decision: &Decision, now: Timestamp, subject: &dyn Subject) {
        let open = |judge: &Self| -> Vec<(ReservationId, bool)> {
            let open = judge.lines.iter().filter(|(_, line)| line.state == LineState::Open);
            open.map(|(id, line)| (*id, line.landing)).collect()
        };
        let attempts: Vec<_> = open(self).into_iter().filter(|(_, landing)| !landing).map(|(id, _)| id).collect();
        (self.waits, self.queue) = (BTreeMap::new(), BTreeSet::new());
        self.forget_what_nothing_speaks_of();
        self.whole_trees_are_interrupted(decision);
        self.after(None, decision, now, subject);
        for id in attempts {
            let settled = self.lines.get(&id).is_some_and(|line| line.state == LineState::Settled);
            self.require(settled, || format!("rule 15: {id} was in flight at the crash and isn't settled"));
        }
        let left = open(self);
        self.require(left.is_empty(), || format!("rule 15: {left:?} are open after a restart"));
    }

    /// Rule 15: every run of a tree that ran, children first.
    fn whole_trees_are_interrupted(&mut self, decision: &Decision) {
        let at = |run: RunId| {
            decision.appended.iter().position(|(told, event)| *told == run && matches!(event, Event::Interrupted(_)))
        };
        let mut faults = Vec::new();
        for (run, seen) in self.runs.iter().filter(|(_, seen)| !seen.ended && seen.parent.is_some()) {
            let above = seen.parent.as_ref().and_then(|parent| at(parent.run));
            if above.is_some() && (at(*run).is_none() || at(*run) > above) {
                faults.push(format!("rule 15: {run} isn't interrupted before the run above it"));
            }
        }
        self.faults.append(&mut faults);
    }

    /// At the end: nobody waits, nothing is held, and the ledger is never below the invoice (promises 6 and 8).
    pub(super) fn at_the_end(&mut self) {
        let (waits, queue) = (self.waits.len(), self.queue.clone());
        self.require(waits == 0 && queue.is_empty(), || {
            format!("rule 10: {waits} wait and {queue:?} queue for nobody")
        });
        let held: Vec<_> = self.accounts.iter().filter(|(_, sums)| !sums.held.is_zero()).map(|(key, _)| key).collect();
        let held = format!("{held:?}");
        self.require(held == "[]", || format!("{held} hold money though nothing is in flight"));
    }

    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(otherwise());
        }
    }

    /// Periods only move on.
    fn roll(&mut self, now: Timestamp) {
        for budget in &self.budgets {
            let start = if budget.period == Period::Total { 0 } else { now.0 / DAY * DAY };
            let highest = self.starts.entry(budget.name.clone()).or_default();
            *highest = start.max(*highest);
        }
    }

    /// A period in which nothing was written leaves no trace on disk, so a crash may forget that it began.
    fn forget_what_nothing_speaks_of(&mut self) {
        let starts = self.accounts.keys().filter_map(|key| match key {
            AccountKey::Budget { start, .. } => Some(*start),
            AccountKey::Node { .. } => None,
        });
        let open = self.events.iter().filter(|(_, run, _)| self.runs.get(run).is_some_and(|seen| !seen.ended));
        let latest = starts.chain(open.map(|(at, _, _)| *at)).max().unwrap_or_default();
        self.starts.clear();
        self.roll(latest);
    }

    fn facts_come_first(&mut self, op: Option<&Op>, decision: &Decision) {
        let Some(op) = op else { return };
        let mut appended = decision.appended.iter();
        let all = op.events.iter().all(|fact| appended.any(|event| event == fact));
        self.require(all, || "facts are appended as they are, in order".into());
        let answered = op.asks.len() == decision.verdicts.len();
        self.require(answered, || "every ask has a verdict".into());
    }

    fn root(&self, run: RunId) -> RunId {
        self.runs.get(&run).map_or(run, |seen| seen.root)
    }

    fn cap(&self, key: &AccountKey) -> Money {
        match key {
            AccountKey::Node { run, stage } => self.runs.get(run).map_or(Money::ZERO, |seen| match stage {
                Some(stage) => seen.stage_caps.get(stage).copied().unwrap_or_default(),
                None => seen.cap,
            }),
            AccountKey::Budget { budget, .. } => self
                .budgets
                .iter()
                .find(|known| known.name == *budget)
                .map_or(Money::ZERO, |known| known.cap.plus(self.added(budget))),
        }
    }

    /// The budget accounts of a tree in the current periods, by the judge's own reading of scopes.
    fn budgets_of(&self, root: RunId) -> Vec<AccountKey> {
        let Some(seen) = self.runs.get(&root) else { return Vec::new() };
        let mut keys = Vec::new();
        for budget in &self.budgets {
            if budget.scope.iter().any(|(key, value)| seen.labels.get(key) != Some(value)) {
                continue;
            }
            let scope: Vec<String> = budget.each.iter().map(|key| format!("{key}={}", seen.labels[key])).collect();
            let start = self.starts[&budget.name];
            let end = (budget.period != Period::Total).then(|| Timestamp(start + DAY));
            let (budget, scope, start) = (budget.name.clone(), scope.join(","), Timestamp(start));
            keys.push(AccountKey::Budget { budget, scope, start, end });
        }
        keys
    }

    /// From a stage up to its root, and the root's budgets: every ancestor once, with the stage that calls where it has a
    /// cap of its own (promise 14).
    fn path(&self, run: RunId, stage: &StageName) -> Vec<AccountKey> {
        let mut keys = Vec::new();
        let mut next = Some((run, stage.clone()));
        while let Some((run, stage)) = next {
            let seen = self.runs.get(&run);
            if seen.is_some_and(|seen| seen.stage_caps.contains_key(&stage)) {
                keys.push(AccountKey::Node { run, stage: Some(stage) });
            }
            keys.push(AccountKey::Node { run, stage: None });
            next = seen.and_then(|seen| seen.parent.clone()).map(|parent| (parent.run, parent.stage));
        }
        keys.extend(self.budgets_of(self.root(run)));
        keys
    }

    fn landing_path(&self, root: RunId) -> Vec<AccountKey> {
        let mut keys = vec![AccountKey::Node { run: root, stage: None }];
        keys.extend(self.budgets_of(root));
        keys
    }

    fn book(&mut self, now: Timestamp, run: RunId, event: &Event) {
        self.events.push((now, run, event.clone()));
        let before = self.accounts.clone();
        self.end_is_the_end(run, event);
        match event {
            Event::Created(created) => self.book_created(run, created),
            // What a child may do is its root's business.
            Event::Admitted(admitted) if self.root(run) == run => self.book_admitted(run, admitted),
            Event::Admitted(_) => {}
            Event::PeriodMoved(moved) => self.book_moved(run, moved),
            Event::Reserved(reserved) => self.book_reserved(run, reserved),
            Event::Settled(settled) => self.book_settled(settled),
            Event::Voided(voided) => {
                let billed = self.invoice.get(&voided.reservation).copied().unwrap_or_default();
                let id = voided.reservation;
                self.require(billed.is_zero(), || format!("invariant 7: {id} was voided, and billed {billed}"));
                self.release(voided.reservation, LineState::Voided);
            }
            Event::LandingReleased(released) => {
                self.release(released.reservation, LineState::Voided);
                self.change(run, |seen| (seen.admitted, seen.landing) = (false, None));
            }
            Event::Parked(_) => {
                let root = self.root(run);
                let open =
                    self.lines.values().filter(|line| line.state == LineState::Open && line.root == root).count();
                self.require(open == 0, || format!("rule 13: {run} is parked, and its tree holds money"));
                self.change(run, |seen| seen.admitted = false);
            }
            Event::Interrupted(_) => {
                self.release_landing(run);
                self.change(run, |seen| seen.admitted = false);
            }
            Event::Ended(_) => {
                self.release_landing(run);
                self.queue.remove(&run);
                self.change(run, |seen| seen.ended = true);
            }
            Event::CancelRequested(_) => {
                self.queue.remove(&run);
                self.change(run, |seen| seen.cancelled = true);
            }
            Event::WaitEnded(_) => drop(self.waits.remove(&run)),
            Event::WaitBegan(_)
            | Event::OutcomeRecorded(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::Downgraded(_)
            | Event::CallRefused(_)
            | Event::LandingBegan(_)
            | Event::PersonAsked(_)
            | Event::InFlightResolved(_)
            | Event::PersonAnswered(_)
            | Event::MapBegan(_)
            | Event::StageEnded(_)
            | Event::ChildBegan(_)
            | Event::ChildEnded(_) => {}
        }
        self.caps_hold(&before, event);
    }

    fn change(&mut self, run: RunId, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.runs.get_mut(&run) {
            change(seen);
        }
    }

    /// After the end, or after a request to end, nothing more is placed (invariants 11 and 12).
    fn end_is_the_end(&mut self, run: RunId, event: &Event) {
        if !matches!(event, Event::Reserved(_) | Event::Admitted(_)) {
            return;
        }
        let (own, root) = (self.runs.get(&run).cloned(), self.runs.get(&self.root(run)).cloned());
        let (Some(own), Some(root)) = (own, root) else {
            return self.faults.push(format!("money is placed for run {run}, which doesn't exist"));
        };
        self.require(!own.ended && !root.ended, || format!("invariant 11: {run} has ended, and places money"));
        self.require(!root.cancelled, || format!("invariant 12: {run} was asked to end, and places money"));
        let admitted = root.admitted || (own.parent.is_none() && matches!(event, Event::Admitted(_)));
        self.require(admitted, || format!("rule 7: {run} isn't admitted, and places money"));
    }

    fn book_created(&mut self, run: RunId, created: &Created) {
        let root = created.parent.as_ref().map_or(run, |parent| parent.root);
        let seen = Seen {
            root,
            parent: created.parent.clone(),
            labels: created.labels.clone(),
            cap: created.cap,
            stage_caps: created.stage_caps.clone(),
            told: Vec::new(),
            landing: None,
            admitted: false,
            cancelled: false,
            ended: false,
        };
        self.runs.insert(run, seen);
    }

    fn book_admitted(&mut self, run: RunId, admitted: &Admitted) {
        self.release_landing(run);
        let landing = admitted.landing.as_ref().map(|landing| landing.reservation);
        if let Some(landing) = &admitted.landing {
            let path = self.landing_path(run);
            self.place(landing.reservation, run, landing.amount, path, None, true);
        }
        self.queue.remove(&run);
        let told = admitted.budgets.clone();
        self.change(run, |seen| (seen.admitted, seen.landing, seen.told) = (true, landing, told));
    }

    /// Rule 14: in the root's log, with the landing reserve.
    fn book_moved(&mut self, run: RunId, moved: &PeriodMoved) {
        self.require(self.root(run) == run, || format!("rule 14: {run} is a child, and its log tells of a period"));
        if let Some(id) = self.runs.get(&run).and_then(|seen| seen.landing)
            && let Some(line) = self.lines.get(&id).filter(|line| line.state == LineState::Open).cloned()
        {
            self.release(id, LineState::Voided);
            self.lines.remove(&id);
            let path = self.landing_path(run);
            self.place(id, run, line.amount, path, None, true);
        }
        self.change(run, |seen| seen.told.clone_from(&moved.budgets));
    }

    /// The root's log alone tells where its tree holds money.
    fn told_rightly(&mut self, run: RunId, root: RunId, reserved: &Reserved) {
        if let Some(budgets) = &reserved.budgets {
            self.require(run == root, || format!("rule 14: {run} is a child, and its log tells of a period"));
            self.change(root, |seen| seen.told.clone_from(budgets));
        }
        let told = self.runs.get(&root).map(|seen| seen.told.clone()).unwrap_or_default();
        let right = told == self.budgets_of(root) || purpose_of(reserved) == Some(Purpose::Landing);
        self.require(right, || format!("rule 14: the log of {root} doesn't tell of the period of {run}'s call"));
    }

    fn book_reserved(&mut self, run: RunId, reserved: &Reserved) {
        let root = self.root(run);
        self.told_rightly(run, root, reserved);
        if run != root {
            let kept = self.landing_of(root).unwrap_or_default();
            let same = reserved.landing == kept;
            self.require(same, || {
                format!("rule 6: {run} is a child, and makes {} of its root's {kept}", reserved.landing)
            });
            let path = self.path(run, &reserved.step.stage);
            return self.place(reserved.reservation, root, reserved.amount, path, price_of(reserved), false);
        }
        let purpose = purpose_of(reserved);
        let replaces = root == run && matches!(purpose, Some(Purpose::Last | Purpose::Landing));
        let landing = self.runs.get(&root).and_then(|seen| seen.landing);
        let kept = landing.and_then(|id| self.lines.get(&id)).filter(|line| line.state == LineState::Open).cloned();
        let mut path = self.path(run, &reserved.step.stage);
        if let (Some(line), Some(id)) = (&kept, landing) {
            if replaces && purpose == Some(Purpose::Landing) {
                path.clone_from(&line.accounts);
            }
            self.release(id, LineState::Voided);
            let after = reserved.landing;
            let right = if replaces { after.is_zero() } else { after >= line.amount };
            self.require(right, || format!("rule 6: {run} keeps {after} of {} to land", line.amount));
            if after.is_zero() {
                self.change(root, |seen| seen.landing = None);
            } else {
                let path = self.landing_path(root);
                self.lines.remove(&id);
                self.place(id, root, after, path, None, true);
            }
        }
        self.place(reserved.reservation, root, reserved.amount, path, price_of(reserved), false);
    }

    fn book_settled(&mut self, settled: &Settled) {
        let id = settled.reservation;
        let Some(line) = self.lines.get(&id).cloned() else {
            return self.faults.push(format!("{id} is settled and was never reserved"));
        };
        if line.state != LineState::Open {
            return;
        }
        self.release(id, LineState::Settled);
        let whole = settled.source != CostSource::Unknown || settled.bill == line.amount;
        self.require(whole, || format!("rule 4: {id} is unknown and not settled at the whole reservation"));
        for key in &line.accounts {
            let sums = self.accounts.entry(key.clone()).or_default();
            sums.settled = sums.settled.plus(settled.bill);
            if settled.source == CostSource::Unknown {
                sums.unknown = sums.unknown.plus(settled.bill);
            }
            let overrun = self.overruns.entry(key.clone()).or_default();
            *overrun = overrun.plus(settled.bill.left_after(line.amount));
        }
        if settled.bill > line.amount {
            self.frozen.extend(line.price);
        }
    }

    fn place(
        &mut self,
        id: ReservationId,
        root: RunId,
        amount: Money,
        accounts: Vec<AccountKey>,
        price: Option<PriceId>,
        landing: bool,
    ) {
        for key in &accounts {
            let sums = self.accounts.entry(key.clone()).or_default();
            sums.held = sums.held.plus(amount);
        }
        let line = Line { accounts, amount, landing, root, price, state: LineState::Open };
        let again = self.lines.insert(id, line).is_some();
        self.require(!again, || format!("reservation {id} is placed twice"));
    }

    fn release(&mut self, id: ReservationId, state: LineState) {
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.state == LineState::Open) else { return };
        line.state = state;
        for key in line.accounts.clone() {
            let amount = self.lines[&id].amount;
            let sums = self.accounts.entry(key).or_default();
            sums.held = sums.held.checked_minus(amount).expect("the judge keeps its own books straight");
        }
    }

    fn release_landing(&mut self, run: RunId) {
        if let Some(id) = self.runs.get(&run).and_then(|seen| seen.landing) {
            self.release(id, LineState::Voided);
            self.change(run, |seen| seen.landing = None);
        }
    }

    /// Promise 2 and invariants 1 and 2: judged on growth only; and the invoice stays inside the highest cap there was,
    /// but for overruns.
    fn caps_hold(&mut self, before: &BTreeMap<AccountKey, Sums>, event: &Event) {
        let mut faults = Vec::new();
        for (key, sums) in &self.accounts {
            let (cap, was) = (self.cap(key), before.get(key).copied().unwrap_or_default());
            let highest = self.highest_caps.entry(key.clone()).or_default();
            *highest = cap.max(*highest);
            if sums.held > was.held && sums.settled.plus(sums.held) > cap {
                faults.push(format!("promise 2: {key} passes its cap {cap} with {sums:?} by {event:?}"));
            }
            if sums.settled < was.settled {
                faults.push(format!("invariant 10: {key} forgets what it spent"));
            }
        }
        self.faults.append(&mut faults);
    }

    /// Invariants 3, 6, 8 and 16: the subject's accounts are these.
    fn books_agree(&mut self, subject: &dyn Subject) {
        let theirs = subject.accounts();
        let keys: BTreeSet<AccountKey> = theirs.keys().chain(self.accounts.keys()).cloned().collect();
        for key in keys {
            let own = self.accounts.get(&key).copied().unwrap_or_default();
            let said = theirs.get(&key).copied().unwrap_or_default();
            let said = Sums { settled: said.settled, unknown: said.unknown, held: said.held };
            self.require(own == said, || format!("invariant 3: {key} is {said:?} and should be {own:?}"));
        }
        let frozen = subject.frozen();
        let own = self.frozen.clone();
        self.require(own == frozen, || format!("invariant 5: frozen are {frozen:?} and should be {own:?}"));
        self.invoice_is_inside();
    }

    fn invoice_is_inside(&mut self) {
        let mut billed: BTreeMap<&AccountKey, Money> = BTreeMap::new();
        for (id, bill) in &self.invoice {
            for key in self.lines.get(id).map_or(&[][..], |line| &line.accounts) {
                let sum = billed.entry(key).or_default();
                *sum = sum.plus(*bill);
            }
        }
        let over: Vec<String> = billed
            .into_iter()
            .filter_map(|(key, billed)| {
                let most = self.highest_caps.get(key)?.plus(self.overruns.get(key).copied().unwrap_or_default());
                // A bill above its reservation is on the invoice a moment before it is booked.
                let unbooked: Money = self.invoice.iter().filter_map(|(id, bill)| self.unbooked(id, *bill)).sum();
                (billed > most.plus(unbooked)).then(|| format!("invariant 1: {key} is billed {billed} of {most}"))
            })
            .collect();
        self.faults.extend(over);
    }

    fn unbooked(&self, id: &ReservationId, bill: Money) -> Option<Money> {
        let line = self.lines.get(id).filter(|line| line.state == LineState::Open)?;
        bill.checked_minus(line.amount)
    }
}

/// How a wait ended, by the log.
pub(super) fn waits_ended(events: &[(Timestamp, RunId, Event)], why: WaitEnd) -> usize {
    events.iter().filter(|(_, _, event)| matches!(event, Event::WaitEnded(ended) if ended.why == why)).count()
}
