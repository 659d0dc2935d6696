//! Folds facts into accounts, holds and open runs. Total: no clock, no refusal.

use std::collections::BTreeSet;

use super::account::Shadowed;
use super::{Hold, Ledger, Node, OpenRun};
use crate::domain::audit::{Overrun, PriceFrozen};
use crate::domain::event::{
    AccountKey, Admitted, Call, CostSource, Created, EndState, Ended, Event, Landing, PeriodMoved, PersonAsked,
    Purpose, Reserved, RunState, Settled,
};
use crate::ids::{PriceId, ReservationId, RunId, StageName};
use crate::units::Money;

/// Placements of one commit that are noted for budgets which only watch.
const SHADOWED_MAX: usize = 10_000;

impl Ledger {
    /// Books one fact.
    pub(super) fn apply(&mut self, run: RunId, event: &Event) {
        self.book(run, event);
        self.track(run, event);
        if matches!(event, Event::Ended(_) | Event::Settled(_) | Event::Voided(_)) {
            self.forget(run);
        }
    }

    /// Moves money.
    fn book(&mut self, run: RunId, event: &Event) {
        match event {
            Event::Created(created) => self.open_account(run, created),
            Event::Admitted(admitted) => self.book_admitted(run, admitted),
            Event::Reserved(reserved) => self.book_reserved(run, reserved),
            Event::Settled(settled) => self.book_settled(settled),
            Event::Voided(voided) => drop(self.release(voided.reservation)),
            Event::LandingReleased(released) => drop(self.release(released.reservation)),
            Event::Ended(_) | Event::Interrupted(_) => self.release_landing(run),
            Event::PeriodMoved(moved) => self.book_moved(run, moved),
            Event::CallRefused(_)
            | Event::Downgraded(_)
            | Event::WaitBegan(_)
            | Event::WaitEnded(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::LandingBegan(_)
            | Event::CancelRequested(_)
            | Event::PersonAsked(_)
            | Event::InFlightResolved(_)
            | Event::PersonAnswered(_)
            | Event::Parked(_)
            | Event::MapBegan(_)
            | Event::StageEnded(_)
            | Event::ChildBegan(_)
            | Event::ChildEnded(_)
            | Event::OutcomeRecorded(_) => {}
        }
    }

    /// Follows the run: its state, what it has settled, where it hangs. Needs no accounts, so a restart uses it alone.
    /// Only the root's own log moves the root; of a child's it needs the bound of the last call.
    pub(super) fn track(&mut self, run: RunId, event: &Event) {
        match event {
            Event::Created(created) => self.track_created(run, created),
            Event::Admitted(admitted) => self.with_root_itself(run, |open| {
                open.budgets.clone_from(&admitted.budgets);
                open.landing.clone_from(&admitted.landing);
                open.state = RunState::Running;
            }),
            Event::Reserved(reserved) => self.track_reserved(run, reserved),
            Event::PeriodMoved(moved) => self.with_root_itself(run, |open| open.budgets.clone_from(&moved.budgets)),
            Event::WaitBegan(_) => self.with_root_itself(run, |open| open.state = RunState::AwaitingBudget),
            Event::WaitEnded(_) => self.with_root_itself(run, |open| open.state = RunState::Running),
            Event::LandingReleased(released) => self.track_released(run, released.reservation),
            Event::Interrupted(_) => self.with_root_itself(run, |open| {
                open.landing = None;
                open.state = RunState::Interrupted;
            }),
            Event::CancelRequested(_) => self.with_root_itself(run, |open| open.cancelled = true),
            Event::Ended(ended) => self.track_ended(run, ended),
            // Version 1 waits at once; since then the lane waits, and `Parked` tells when nothing else moves.
            Event::PersonAsked(PersonAsked { what: None, .. }) => {
                self.with_root_itself(run, |open| open.state = RunState::AwaitingApproval);
            }
            Event::Parked(parked) => self.with_root_itself(run, |open| open.state = parked.state),
            Event::InFlightResolved(_) => self.with_root_itself(run, |open| open.state = RunState::Interrupted),
            Event::Settled(settled) => {
                let avoided = settled.cache.hit.map_or(Money::ZERO, |hit| hit.avoided);
                self.with_root(run, |open| open.avoided = open.avoided.plus(avoided));
            }
            Event::Voided(_)
            | Event::CallRefused(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::Downgraded(_)
            | Event::LandingBegan(_)
            | Event::PersonAsked(_)
            | Event::PersonAnswered(_)
            | Event::MapBegan(_)
            | Event::StageEnded(_)
            | Event::ChildBegan(_)
            | Event::ChildEnded(_)
            | Event::OutcomeRecorded(_) => {}
        }
        if matches!(event, Event::Interrupted(_) | Event::Ended(_) | Event::Parked(_)) {
            self.stop_waiting(run);
            self.leave_queue(run);
        }
        if matches!(event, Event::CancelRequested(_)) {
            self.leave_queue(run);
        }
    }

    fn leave_queue(&mut self, run: RunId) {
        self.queue.retain(|queued| queued.run != run);
    }

    fn with_root(&mut self, run: RunId, change: impl FnOnce(&mut OpenRun)) {
        let root = self.root_of(run);
        if let Some(open) = self.runs.get_mut(&root) {
            change(open);
        }
    }

    /// As [`Self::with_root`], where what happens to a child doesn't concern its root.
    fn with_root_itself(&mut self, run: RunId, change: impl FnOnce(&mut OpenRun)) {
        if let Some(open) = self.runs.get_mut(&run) {
            change(open);
        }
    }

    /// The root of a run's tree; a run that isn't known any more is taken as its own.
    pub(super) fn root_of(&self, run: RunId) -> RunId {
        self.nodes.get(&run).map_or(run, |node| node.root)
    }

    fn track_created(&mut self, run: RunId, created: &Created) {
        let parent = created.parent.as_ref();
        let root = parent.map_or(run, |parent| parent.root);
        let node = Node {
            agent: created.agent.clone(),
            root,
            parent: parent.map(|parent| parent.run),
            calls_from: parent.map(|parent| parent.stage.clone()),
            capped: created.stage_caps.keys().cloned().collect(),
            ended: false,
        };
        self.nodes.insert(run, node);
        if root != run {
            return self.with_root(run, |open| open.tree.push(run));
        }
        let open = OpenRun {
            agent: created.agent.clone(),
            labels: created.labels.clone(),
            state: RunState::Queued,
            foreseen: created.foreseen.map_or(created.load_line, |foreseen| foreseen.min(created.load_line)),
            expected: created.expected,
            bound: Money::ZERO,
            landing: None,
            budgets: Vec::new(),
            current: Ok(Vec::new()),
            holds: BTreeSet::new(),
            tree: vec![run],
            cancelled: false,
            avoided: Money::ZERO,
        };
        self.runs.insert(run, Box::new(open));
        self.refresh_path(run);
    }

    /// With nothing else open, the run waits for a person, or is about to end (rules 6 and 13): it claims nothing more
    /// until it is admitted again.
    fn track_released(&mut self, run: RunId, reservation: ReservationId) {
        let idle = !self.has_attempts(run);
        self.with_root_itself(run, |open| {
            open.landing.take_if(|landing| landing.reservation == reservation);
            if idle && open.is_open() {
                open.state = RunState::AwaitingInput;
            }
        });
    }

    /// Raises or lowers the landing reserve and moves the budgets where the root's own attempt says so. A child's attempt
    /// names the reserve as it stands, and a new period is in the root's log.
    fn track_reserved(&mut self, run: RunId, reserved: &Reserved) {
        // An answer that was kept says nothing of what the next call may cost.
        if matches!(reserved.call, Call::Model(_)) && !reserved.amount.is_zero() {
            self.with_root(run, |open| open.bound = reserved.amount);
        }
        self.with_root_itself(run, |open| {
            if let Some(budgets) = &reserved.budgets {
                open.budgets.clone_from(budgets);
            }
            match &mut open.landing {
                Some(landing) if !reserved.landing.is_zero() => landing.amount = reserved.landing,
                landing => *landing = None,
            }
        });
    }

    /// True where a call of the tree is in flight.
    pub(super) fn has_attempts(&self, root: RunId) -> bool {
        let holds = self.runs.get(&root).into_iter().flat_map(|open| &open.holds);
        holds.filter_map(|id| self.holds.get(id)).any(|hold| !hold.landing)
    }

    fn track_ended(&mut self, run: RunId, ended: &Ended) {
        if let Some(node) = self.nodes.get_mut(&run) {
            node.ended = true;
        }
        let cost = self.settled_by(run);
        let Some(open) = self.runs.get_mut(&run) else { return };
        open.landing = None;
        open.state = ended.state.into();
        if ended.state == EndState::Finished {
            let (agent, cost) = (open.agent.clone(), cost.plus(open.avoided));
            self.rings.entry(agent.clone()).or_default().push(cost);
            self.dirty_rings.insert(agent);
        }
    }

    /// Drops an ended tree from memory, once nothing of it is open.
    fn forget(&mut self, run: RunId) {
        let root = self.root_of(run);
        if self.runs.get(&root).is_some_and(|open| open.state.is_ended() && open.holds.is_empty()) {
            let tree = self.runs.remove(&root).map(|open| open.tree).unwrap_or_default();
            for run in tree {
                let capped = self.nodes.remove(&run).map(|node| node.capped).unwrap_or_default();
                self.gone.push(AccountKey::Node { run, stage: None });
                self.gone.extend(capped.into_iter().map(|stage| AccountKey::Node { run, stage: Some(stage) }));
            }
        }
    }

    /// What a run's whole tree has settled.
    pub(super) fn settled_by(&self, root: RunId) -> Money {
        self.accounts.get(&AccountKey::Node { run: root, stage: None }).map_or(Money::ZERO, |account| account.settled)
    }

    /// Opens a run's account, and those of its stages with caps of their own.
    fn open_account(&mut self, run: RunId, created: &Created) {
        let stages = created.stage_caps.iter().map(|(stage, cap)| (Some(stage.clone()), *cap));
        for (stage, cap) in std::iter::once((None, created.cap)).chain(stages) {
            let key = AccountKey::Node { run, stage };
            self.accounts.entry(key).or_default().cap = cap;
        }
        self.dirty_runs.insert(run);
    }

    /// A root's admission; a child holds nothing to land with.
    fn book_admitted(&mut self, run: RunId, admitted: &Admitted) {
        if self.root_of(run) != run {
            return;
        }
        self.release_landing(run);
        if let Some(landing) = &admitted.landing {
            self.place(run, landing.reservation, landing.amount, root_path(run, &admitted.budgets), None, true);
        }
    }

    /// The landing reserve moves with its tree to the accounts of a new period (rule 14).
    fn book_moved(&mut self, run: RunId, moved: &PeriodMoved) {
        let landing = self.runs.get(&run).and_then(|open| open.landing.clone());
        if let Some(landing) = landing.filter(|landing| self.release(landing.reservation).is_some()) {
            self.place(run, landing.reservation, landing.amount, root_path(run, &moved.budgets), None, true);
        }
    }

    fn book_reserved(&mut self, run: RunId, reserved: &Reserved) {
        let root = self.root_of(run);
        let landing = self.runs.get(&root).and_then(|open| open.landing.clone());
        let accounts = self.path_for(run, reserved, landing.as_ref());
        let stays =
            |landing: &&Landing| run != root || (reserved.budgets.is_none() && landing.amount == reserved.landing);
        if let Some(landing) = landing.as_ref().filter(|landing| !stays(landing)) {
            let taken = self.release(landing.reservation);
            if !reserved.landing.is_zero() {
                let kept = reserved.budgets.as_ref().map_or_else(
                    || taken.map(|hold| hold.accounts).unwrap_or_default(),
                    |budgets| root_path(root, budgets),
                );
                self.place(root, landing.reservation, reserved.landing, kept, None, true);
            }
        }
        let price = match &reserved.call {
            Call::Model(call) => Some(call.price.clone()),
            Call::Tool { .. } => None,
        };
        self.place(root, reserved.reservation, reserved.amount, accounts, price, false);
    }

    /// The accounts that a reservation is held on.
    fn path_for(&self, run: RunId, reserved: &Reserved, landing: Option<&Landing>) -> Vec<AccountKey> {
        if is_landing(reserved) && run == self.root_of(run) {
            let kept = landing.and_then(|landing| self.holds.get(&landing.reservation));
            if let Some(hold) = kept {
                return hold.accounts.clone();
            }
        }
        let mut path = self.node_path(run, stage_of(reserved));
        match &reserved.budgets {
            Some(budgets) => path.extend(budgets.iter().cloned()),
            None => {
                let root = self.root_of(run);
                path.extend(self.runs.get(&root).into_iter().flat_map(|open| open.budgets.iter().cloned()));
            }
        }
        path
    }

    /// The node accounts from a stage of a run up to its root: each run's, and before it that of the stage that works or
    /// calls, where it has a cap of its own.
    pub(super) fn node_path(&self, run: RunId, stage: Option<&StageName>) -> Vec<AccountKey> {
        let mut path = Vec::with_capacity(4);
        let (mut next, mut stage) = (Some(run), stage);
        while let Some(run) = next {
            let node = self.nodes.get(&run);
            if let Some(stage) = stage.filter(|stage| node.is_some_and(|node| node.capped.contains(*stage))) {
                path.push(AccountKey::Node { run, stage: Some(stage.clone()) });
            }
            path.push(AccountKey::Node { run, stage: None });
            next = node.and_then(|node| node.parent);
            stage = node.and_then(|node| node.calls_from.as_ref());
        }
        path
    }

    fn place(
        &mut self,
        root: RunId,
        reservation: ReservationId,
        amount: Money,
        accounts: Vec<AccountKey>,
        price: Option<PriceId>,
        landing: bool,
    ) {
        for key in &accounts {
            let (cap, watches) = self.cap_of(key);
            let account = self.accounts.entry(key.clone()).or_default();
            account.cap = cap;
            account.held = account.held.plus(amount);
            if watches && !account.takes(Money::ZERO) && self.shadowed.len() < SHADOWED_MAX {
                self.shadowed.push(Shadowed { account: key.clone(), reservation, amount });
            }
            self.touch(key);
        }
        let hold = Hold { reservation, root, amount, landing, accounts, price };
        self.index_hold(&hold);
        let taken = self.holds.insert(reservation, Box::new(hold));
        assert!(taken.is_none(), "reservation {reservation} is placed once");
        self.dirty_runs.insert(reservation.run);
    }

    /// Notes that an account is to be written.
    fn touch(&mut self, key: &AccountKey) {
        match key {
            AccountKey::Node { run, .. } => drop(self.dirty_runs.insert(*run)),
            AccountKey::Budget { .. } if self.dirty_budgets.contains(key) => {}
            AccountKey::Budget { .. } => drop(self.dirty_budgets.insert(key.clone())),
        }
    }

    /// Notes who holds money where: only budgets are shared, so only they need it.
    pub(super) fn index_hold(&mut self, hold: &Hold) {
        if let Some(open) = self.runs.get_mut(&hold.root) {
            open.holds.insert(hold.reservation);
        }
        for key in held_budgets(hold) {
            *self.holders.entry(key.clone()).or_default().entry(hold.root).or_default() += 1;
        }
    }

    fn unindex_hold(&mut self, hold: &Hold) {
        if let Some(open) = self.runs.get_mut(&hold.root) {
            open.holds.remove(&hold.reservation);
        }
        for key in held_budgets(hold) {
            let Some(holders) = self.holders.get_mut(key) else { continue };
            if let Some(count) = holders.get_mut(&hold.root) {
                *count -= 1;
                if *count == 0 {
                    holders.remove(&hold.root);
                }
            }
            if holders.is_empty() {
                self.holders.remove(key);
            }
        }
    }

    /// Takes a hold off its accounts; `None` where it isn't open: settling twice equals once.
    fn release(&mut self, reservation: ReservationId) -> Option<Box<Hold>> {
        let hold = self.holds.remove(&reservation)?;
        for key in &hold.accounts {
            if let Some(account) = self.accounts.get_mut(key) {
                let held = account.held.checked_minus(hold.amount);
                account.held = held.expect("an account's `held` is the sum of its open reservations");
                self.touch(key);
            }
        }
        self.unindex_hold(&hold);
        self.dirty_runs.insert(reservation.run);
        Some(hold)
    }

    fn release_landing(&mut self, run: RunId) {
        let landing = self.runs.get(&run).and_then(|open| open.landing.clone());
        if let Some(landing) = landing {
            self.release(landing.reservation);
        }
    }

    fn book_settled(&mut self, settled: &Settled) {
        let Some(hold) = self.release(settled.reservation) else { return };
        for key in &hold.accounts {
            let account = self.accounts.entry(key.clone()).or_default();
            account.settled = account.settled.plus(settled.bill);
            if settled.source == CostSource::Unknown {
                account.unknown = account.unknown.plus(settled.bill);
            }
        }
        if settled.bill > hold.amount {
            self.freeze(&hold, settled);
        }
    }

    /// What the audit log keeps of a bill above its reservation; asked before the bill is booked.
    pub(super) fn overrun(&self, event: &Event) -> Option<PriceFrozen> {
        let Event::Settled(settled) = event else { return None };
        let hold = self.holds.get(&settled.reservation).filter(|hold| settled.bill > hold.amount)?;
        let overrun = Overrun { reservation: hold.reservation, reserved_usd: hold.amount, billed_usd: settled.bill };
        Some(PriceFrozen { price: hold.price.clone()?, overrun })
    }

    /// A bill above its reservation: the bound was wrong, so the price row is not used again until somebody looked.
    fn freeze(&mut self, hold: &Hold, settled: &Settled) {
        if let Some(price) = &hold.price {
            let why = format!("reservation {} held {} and was billed {}", hold.reservation, hold.amount, settled.bill);
            self.frozen.insert(price.clone(), why);
            self.dirty_frozen.insert(price.clone());
        }
    }
}

/// The accounts of a root run's landing reserve.
pub(super) fn root_path(root: RunId, budgets: &[AccountKey]) -> Vec<AccountKey> {
    let mut path = vec![AccountKey::Node { run: root, stage: None }];
    path.extend(budgets.iter().cloned());
    path
}

/// True for the last answer inside the landing reserve (rule 11).
pub(super) fn is_landing(reserved: &Reserved) -> bool {
    matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing)
}

/// The stage whose account an attempt counts on; the last answer is the whole run's, not a stage's.
pub(super) fn stage_of(reserved: &Reserved) -> Option<&StageName> {
    (!is_landing(reserved)).then_some(&reserved.step.stage)
}

/// True for a call that takes the landing reserve's place (rules 11 and 12): only the root makes the run's last call.
pub(super) fn replaces_landing(reserved: &Reserved, root: RunId) -> bool {
    let last = matches!(&reserved.call, Call::Model(call) if matches!(call.purpose, Purpose::Landing | Purpose::Last));
    last && reserved.reservation.run == root
}

/// The budget accounts that a hold lies on; none where it holds nothing.
fn held_budgets(hold: &Hold) -> impl Iterator<Item = &AccountKey> {
    let some = !hold.amount.is_zero();
    hold.accounts.iter().filter(move |key| some && matches!(key, AccountKey::Budget { .. }))
}
