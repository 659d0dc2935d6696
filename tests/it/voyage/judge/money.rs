//! The judge's books: who holds what where.

use plimsoll::domain::event::{AccountKey, Call, Landing, Purpose, Reserved};
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::units::Money;

use super::{Closed, Judge, Open};

impl Open {
    fn landing(amount: Money, accounts: Vec<AccountKey>) -> Self {
        Self { amount, accounts, landing: true, sent: false, price: None }
    }
}

impl Judge {
    /// The cap of an account; `None` for one that isn't known.
    pub(super) fn cap(&self, key: &AccountKey) -> Option<Money> {
        match key {
            AccountKey::Node { run, .. } => self.runs.get(run).map(|known| known.plan.limits.cost),
            AccountKey::Budget { budget, .. } => self.caps.get(budget).map(|(cap, _)| *cap),
        }
    }

    /// A run's own node, and those of its ancestors.
    fn nodes(&self, run: RunId) -> Vec<AccountKey> {
        let mut nodes = Vec::new();
        let mut next = Some(run);
        while let Some(run) = next {
            nodes.push(AccountKey::Node { run, stage: None });
            next = self.runs.get(&run).and_then(|known| known.created.parent.as_ref()).map(|parent| parent.run);
        }
        nodes
    }

    pub(super) fn place_landing(&mut self, run: RunId, landing: &Landing) {
        let mut accounts = vec![AccountKey::Node { run, stage: None }];
        accounts.extend(self.known(run).budgets.iter().cloned());
        let known = self.known(run);
        let number = landing.reservation.number;
        let expected = std::mem::replace(&mut known.next_number, number + 1);
        known.landing = Some(landing.clone());
        self.check(number == expected, || format!("(9) {} is placed where {expected} comes", landing.reservation));
        let before = accounts.iter().map(|key| (key.clone(), self.held(key))).collect();
        self.hold(landing.reservation, Open::landing(landing.amount, accounts));
        self.judge_growth(landing.reservation, before);
    }

    /// Puts an attempt on its path, and moves the landing reserve as the fact says.
    pub(super) fn place(&mut self, run: RunId, reserved: &Reserved) {
        let root = self.known(run).root;
        let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
        let landing = self.known(root).landing.clone();
        let kept = landing.as_ref().and_then(|landing| self.open.get(&landing.reservation));
        let kept = kept.map(|open| open.accounts.clone());
        if let Some(budgets) = &reserved.budgets {
            self.saw("new period");
            self.known(root).budgets.clone_from(budgets);
        }
        let mut path = self.nodes(run);
        path.extend(self.known(root).budgets.iter().cloned());
        let accounts = if lands { kept.clone().unwrap_or(path) } else { path };
        let touched = accounts.iter().chain(kept.iter().flatten());
        let before = touched.map(|key| (key.clone(), self.held(key))).collect();
        if let Some(landing) = landing {
            self.release(root, landing.reservation);
            if !reserved.landing.is_zero() {
                let budgets = self.known(root).budgets.clone();
                let moved = || [AccountKey::Node { run: root, stage: None }].into_iter().chain(budgets).collect();
                let accounts = if reserved.budgets.is_some() { moved() } else { kept.unwrap_or_else(moved) };
                let amount = reserved.landing;
                self.known(root).landing = Some(Landing { reservation: landing.reservation, amount });
                self.hold(landing.reservation, Open::landing(amount, accounts));
            }
        }
        let price = match &reserved.call {
            Call::Model(call) => Some(call.price.clone()),
            Call::Tool { .. } => None,
        };
        let open = Open { amount: reserved.amount, accounts, landing: false, sent: false, price };
        self.hold(reserved.reservation, open);
        self.judge_growth(reserved.reservation, before);
    }

    fn held(&self, key: &AccountKey) -> Money {
        self.accounts.get(key).map_or(Money::ZERO, |book| book.held)
    }

    /// A write that raises what is held leaves every account of the path within its cap (2).
    fn judge_growth(&mut self, id: ReservationId, before: Vec<(AccountKey, Money)>) {
        if self.catching_up {
            return;
        }
        for (key, held) in before {
            let Some(cap) = self.cap(&key) else {
                return self.broken(format!("(8) {id} is on {key}, which nobody knows"));
            };
            let book = self.accounts.entry(key.clone()).or_default();
            let sum = book.settled.plus(book.held);
            let fits = book.held <= held || sum <= cap;
            self.check(fits, || format!("(2) {id} takes {key} to {sum} of {cap}"));
        }
    }

    fn hold(&mut self, id: ReservationId, open: Open) {
        for key in &open.accounts {
            let book = self.accounts.entry(key.clone()).or_default();
            book.held = book.held.plus(open.amount);
        }
        let again = self.open.insert(id, open).is_some() || self.closed.contains_key(&id);
        self.check(!again, || format!("(6) {id} is placed twice"));
    }

    fn free(&mut self, id: ReservationId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        for key in &open.accounts {
            let book = self.accounts.entry(key.clone()).or_default();
            book.held = book.held.left_after(open.amount);
        }
        Some(open)
    }

    pub(super) fn release_landing(&mut self, run: RunId) {
        if let Some(landing) = self.known(run).landing.clone() {
            self.release(run, landing.reservation);
        }
    }

    /// A landing reserve goes.
    pub(super) fn release(&mut self, run: RunId, id: ReservationId) {
        self.free(id);
        self.known(run).landing.take_if(|landing| landing.reservation == id);
    }

    /// An attempt is over, once (6); unknown means the whole amount, and an over-bill freezes its price (5).
    pub(super) fn close(&mut self, run: RunId, id: ReservationId, bill: Option<Money>, unknown: bool) {
        if id.run != run {
            return self.broken(format!("(6) {id} is closed in the log of {run}"));
        }
        let Some(open) = self.free(id) else {
            return self.broken(format!("(6) {id} is closed and wasn't open"));
        };
        let over = bill.map_or(Money::ZERO, |bill| bill.left_after(open.amount));
        if !over.is_zero() {
            self.saw("over-bill");
            self.frozen.extend(open.price.clone());
        }
        self.check(!unknown || bill == Some(open.amount), || format!("(6) {id} is unknown at {bill:?}"));
        for key in &open.accounts {
            let book = self.accounts.entry(key.clone()).or_default();
            book.settled = book.settled.plus(bill.unwrap_or_default());
            book.over = book.over.plus(over);
        }
        self.closed.insert(id, Closed { bill, accounts: open.accounts, unknown });
    }
}
