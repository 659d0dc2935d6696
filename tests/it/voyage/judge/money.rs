//! The judge's books: who holds what where.

use plimsoll::domain::event::{AccountKey, Call, Landing, PeriodMoved, Purpose, Reserved};
use plimsoll::ids::{ReservationId, RunId, StageName};
use plimsoll::units::{Money, Tokens};

use super::{Closed, Judge, Open};

impl Open {
    fn landing(amount: Money, accounts: Vec<AccountKey>) -> Self {
        let tokens = (Tokens::ZERO, Tokens::ZERO);
        Self { amount, accounts, stage: None, sent: false, price: None, tokens, lands: false }
    }
}

impl Judge {
    /// The cap of an account; `None` for one that isn't known.
    pub(super) fn cap(&self, key: &AccountKey) -> Option<Money> {
        match key {
            AccountKey::Node { run, stage: None } => self.runs.get(run).map(|known| known.plan.limits.cost),
            AccountKey::Node { run, stage: Some(stage) } => self.runs.get(run)?.plan.stage(stage)?.cost,
            AccountKey::Budget { budget, .. } => self.caps.get(budget).map(|(cap, _)| cap.plus(self.added(key).0)),
        }
    }

    /// A run's own node, and those of its ancestors; with each the stage that works or calls, where it has a cap.
    fn nodes(&self, run: RunId, stage: &StageName) -> Vec<AccountKey> {
        let mut nodes = Vec::new();
        let mut next = Some((run, stage.clone()));
        while let Some((run, stage)) = next {
            let capped =
                self.runs.get(&run).and_then(|known| known.plan.stage(&stage)).is_some_and(|at| at.cost.is_some());
            nodes.extend(capped.then_some(AccountKey::Node { run, stage: Some(stage) }));
            nodes.push(AccountKey::Node { run, stage: None });
            let parent = self.runs.get(&run).and_then(|known| known.created.parent.as_ref());
            next = parent.map(|parent| (parent.run, parent.stage.clone()));
        }
        nodes
    }

    /// A child's attempt met a new period: the tree's budgets from here on, and its landing reserve goes there.
    pub(super) fn move_period(&mut self, root: RunId, moved: &PeriodMoved) {
        self.saw("new period below");
        self.known(root).budgets.clone_from(&moved.budgets);
        let Some(landing) = self.known(root).landing.clone() else { return };
        let accounts: Vec<AccountKey> =
            [AccountKey::Node { run: root, stage: None }].into_iter().chain(moved.budgets.iter().cloned()).collect();
        let before = accounts.iter().map(|key| (key.clone(), self.held(key))).collect();
        self.free(landing.reservation);
        self.hold(landing.reservation, Open::landing(landing.amount, accounts));
        self.judge_growth(landing.reservation, before);
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
        let mut path = self.nodes(run, &reserved.step.stage);
        // The last answer is the whole run's, not a stage's.
        path.retain(|key| !lands || !matches!(key, AccountKey::Node { stage: Some(_), .. }));
        path.extend(self.known(root).budgets.iter().cloned());
        let accounts = if lands { kept.clone().unwrap_or(path) } else { path };
        let touched = accounts.iter().chain(kept.iter().flatten());
        let before = touched.map(|key| (key.clone(), self.held(key))).collect();
        if run != root {
            let (id, amount) = (reserved.reservation, landing.map_or(Money::ZERO, |landing| landing.amount));
            let (moves, told) = (reserved.budgets.is_some(), reserved.landing);
            // Of what nobody was told the order between logs isn't known.
            let is_known = !self.catching_up;
            self.check(!moves && (told == amount || !is_known), || {
                format!("(2) {id} of a child takes the root's landing reserve from {amount} to {told}, or moves it")
            });
        } else if let Some(landing) = landing {
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
        let (price, tokens) = match &reserved.call {
            Call::Model(call) => (Some(call.price.clone()), (call.bound.tokens, Tokens(call.max_output_tokens.into()))),
            Call::Tool { .. } => (None, (Tokens::ZERO, Tokens::ZERO)),
        };
        let stage = Some(reserved.step.stage.clone());
        let open = Open { amount: reserved.amount, accounts, stage, sent: false, price, tokens, lands };
        self.hold(reserved.reservation, open);
        self.judge_growth(reserved.reservation, before);
    }

    /// True where an attempt doesn't fit on some account of its path.
    pub(in crate::voyage) fn is_short(&self, root: RunId, reserved: &Reserved) -> bool {
        let mut path = self.nodes(reserved.reservation.run, &reserved.step.stage);
        path.extend(self.runs.get(&root).into_iter().flat_map(|known| known.budgets.iter().cloned()));
        let fits = |key: &AccountKey| {
            let used = self.accounts.get(key).map_or(Money::ZERO, |book| book.settled.plus(book.held));
            self.cap(key).is_none_or(|cap| used.plus(reserved.amount) <= cap)
        };
        !path.iter().all(fits)
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
