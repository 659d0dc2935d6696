//! Admission: a run starts only when it can be expected to finish (rules 7 and 8).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::apply::{root_path, stage_of};
use super::judge::lower_to;
use super::{AdmitAsk, Decision, Ledger, Lower, Notice, OpenRun, QUEUE_MAX, Queued, Short, Verdict};
use crate::domain::event::{AccountKey, Admitted, Event, Reserved, RunState};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::switch::SwitchKind;
use crate::ids::RunId;
use crate::units::{Money, MoneyDelta};

/// What came of a look at one queued run.
enum Look {
    Admit {
        landing: Money,
        first: Option<Box<Reserved>>,
    },
    /// Waits for these accounts.
    Blocked(AccountKey),
    /// A switch holds it; it is in nobody's way.
    Held,
    TurnedAway(Refusal),
}

/// A run in the banker's walk (rule 8).
#[derive(Clone, Copy)]
struct Claim {
    expected: Money,
    settled: Money,
    held: Money,
    bound: Money,
    landing: Money,
}

impl Claim {
    /// What it may still need at its peak, beyond what it has.
    fn peak_need(self) -> MoneyDelta {
        let peak = self.expected.left_after(self.bound.half()).max(self.settled).plus(self.bound).plus(self.landing);
        peak.minus(self.settled.plus(self.held))
    }

    /// What is free again when it has finished.
    fn gives_back(self) -> MoneyDelta {
        self.settled.plus(self.held).minus(self.expected.max(self.settled.plus(self.bound)))
    }
}

impl Ledger {
    /// Puts a run in the queue, or in its old place there, and admits whom the money lets start.
    pub(super) fn enter_queue(&mut self, decision: &mut Decision, run: RunId, ask: AdmitAsk) -> Verdict {
        let idle = !self.has_attempts(run);
        let Some(open) = self.runs.get_mut(&run).filter(|open| !open.cancelled && !open.state.is_ended()) else {
            return Verdict::NotRunning;
        };
        if open.is_open() && !idle {
            // It was let in by another run's write since it asked: the notice is on its way.
            return Verdict::Queued;
        }
        open.bound = ask.bound;
        if idle && open.is_open() {
            // It waited for a person: until it is admitted again it claims nothing.
            open.state = RunState::Queued;
        }
        let provisional = ask.provisional;
        let tenant = open.labels.get("tenant").cloned().unwrap_or_default();
        let full = self.queue.len() >= QUEUE_MAX;
        match self.queue.iter_mut().find(|queued| queued.run == run) {
            Some(queued) => queued.ask = ask,
            None if full => {
                return Verdict::TurnedAway(queue_refusal("the queue of runs that wait to start is full"));
            }
            None => self.queue.push(Queued { run, tenant, ask }),
        }
        let mut verdict = Verdict::Queued;
        for (admitted, outcome) in self.admit_from_queue(decision) {
            match (admitted == run, outcome) {
                (true, Notice::Admitted(first)) => verdict = Verdict::Admitted(first),
                (true, Notice::TurnedAway(refusal)) => verdict = Verdict::TurnedAway(refusal),
                (_, outcome) => decision.notices.push((admitted, outcome)),
            }
        }
        if provisional {
            self.queue.retain(|queued| queued.run != run);
        }
        verdict
    }

    /// Looks at the queued runs in turn; one that is blocked on an account holds back those behind it that share it.
    pub(super) fn admit_from_queue(&mut self, decision: &mut Decision) -> Vec<(RunId, Notice)> {
        let mut outcomes = Vec::new();
        let mut blocked: BTreeSet<AccountKey> = BTreeSet::new();
        let order = self.turn_order();
        let mut line: Vec<Option<Queued>> = std::mem::take(&mut self.queue).into_iter().map(Some).collect();
        for index in order {
            let Some(place) = line.get_mut(index) else { continue };
            let Some(queued) = place.take_if(|queued| !self.is_held_back(queued, &blocked)) else { continue };
            match self.look(&queued) {
                Look::Blocked(key) => {
                    blocked.insert(key);
                    *place = Some(queued);
                }
                Look::Held => *place = Some(queued),
                Look::TurnedAway(refusal) => outcomes.push((queued.run, Notice::TurnedAway(refusal))),
                Look::Admit { landing, first } => {
                    outcomes.push((queued.run, self.admit(decision, queued, landing, first)));
                }
            }
        }
        self.queue = line.into_iter().flatten().collect();
        outcomes
    }

    fn is_held_back(&self, queued: &Queued, blocked: &BTreeSet<AccountKey>) -> bool {
        let keys = self.runs.get(&queued.run).map_or(&[][..], |open| open.current());
        !blocked.is_empty() && keys.iter().any(|key| blocked.contains(key))
    }

    fn admit(
        &mut self,
        decision: &mut Decision,
        queued: Queued,
        landing: Money,
        first: Option<Box<Reserved>>,
    ) -> Notice {
        self.last_tenant = queued.tenant;
        let landing = queued.ask.landing.map(|mut kept| {
            kept.amount = landing;
            kept
        });
        let budgets = self.runs.get(&queued.run).map(|open| open.current().to_vec()).unwrap_or_default();
        self.append(decision, queued.run, Event::Admitted(Admitted { budgets, landing }));
        let first = first.filter(|_| !queued.ask.first_waits).map(|first| self.grant(decision, *first));
        Notice::Admitted(first)
    }

    /// Places in the queue, round-robin between tenants, beginning after the one that was admitted last; oldest first
    /// within each.
    fn turn_order(&self) -> Vec<usize> {
        let mut lines: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
        for (index, queued) in self.queue.iter().enumerate() {
            lines.entry(&queued.tenant).or_default().push_back(index);
        }
        let first = lines.keys().filter(|tenant| **tenant <= self.last_tenant.as_str()).count();
        let mut lines: VecDeque<VecDeque<usize>> = lines.into_values().collect();
        lines.rotate_left(first);
        let mut order = Vec::with_capacity(self.queue.len());
        while let Some(mut line) = lines.pop_front() {
            order.extend(line.pop_front());
            if !line.is_empty() {
                lines.push_back(line);
            }
        }
        order
    }

    fn look(&self, queued: &Queued) -> Look {
        let Some(open) = self.runs.get(&queued.run) else {
            return Look::TurnedAway(queue_refusal("the run has ended"));
        };
        match self.switch_on_tree(queued.run) {
            Some((SwitchKind::Pause, _)) => return Look::Held,
            Some((SwitchKind::Kill, refusal)) => return Look::TurnedAway(refusal),
            None => {}
        }
        let mut first = queued.ask.first.as_ref().map(|ask| ask.reserved.clone());
        let barred = first.as_ref().and_then(|first| self.barred(first));
        if let Some(refusal) = barred.or_else(|| open.current.as_ref().err().cloned()) {
            return Look::TurnedAway(refusal);
        }
        let bound = queued.ask.bound;
        // Short on a stage's account alone, the run starts without this call, and hears it when it asks (rule 9e). What it needs
        // elsewhere is judged as that of any other, a lower output cap included (rule 7).
        let mut waits_inside = false;
        if let Some(asked) = &first {
            let lower = queued.ask.first.as_ref().and_then(|ask| ask.lower);
            let fits = self.fit_inside(queued.run, asked, lower);
            waits_inside = fits.is_none();
            first = fits.or(first);
        }
        let landing = queued.ask.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
        let need = |first: &Option<Reserved>| landing.plus(first.as_ref().map_or(bound, |first| first.amount));
        let path = root_path(queued.run, open.current());
        let (shared, own): (Vec<_>, Vec<_>) = path.iter().partition(|key| self.others_hold(key, queued.run));
        if let Some(key) = self.unfit(&own, need(&first)) {
            // Nobody will free anything there: a lower output cap now, or never (rule 9d).
            let lower = queued.ask.first.as_ref().and_then(|ask| ask.lower);
            let room = own.iter().map(|key| self.judged(key).room()).min().unwrap_or_default().left_after(landing);
            let Some(lowered) = first.as_ref().zip(lower).and_then(|(first, lower)| lower_to(first, lower, room))
            else {
                return Look::TurnedAway(self.turned_away(key, need(&first)));
            };
            first = Some(lowered);
        }
        if let Some(key) = self.unfit(&shared, need(&first)) {
            return Look::Blocked(key.clone());
        }
        let bound = first.as_ref().map_or(bound, |first| first.amount);
        if let Some(key) = open.current().iter().find(|key| !self.is_safe(key, queued.run, open, landing, bound)) {
            return Look::Blocked((*key).clone());
        }
        let mut first = first.filter(|_| !waits_inside);
        if let Some(first) = &mut first {
            first.landing = landing;
            first.budgets = None;
        }
        Look::Admit { landing, first: first.map(Box::new) }
    }

    /// The first call as it fits on the accounts of stages and children, which nobody else shares; `None` where it doesn't.
    fn fit_inside(&self, root: RunId, first: &Reserved, lower: Option<Lower>) -> Option<Reserved> {
        let path = self.node_path(first.reservation.run, stage_of(first));
        let root = AccountKey::Node { run: root, stage: None };
        let room = path.iter().filter(|key| **key != root).map(|key| self.judged(key).room()).min();
        match room {
            Some(room) if first.amount > room => lower.and_then(|lower| lower_to(first, lower, room)),
            Some(_) | None => Some(first.clone()),
        }
    }

    /// The first account without room for the landing reserve and the first call.
    fn unfit<'a>(&self, path: &[&'a AccountKey], need: Money) -> Option<&'a AccountKey> {
        path.iter().copied().find(|key| !self.judged(key).takes(need))
    }

    fn turned_away(&self, key: &AccountKey, asked: Money) -> Refusal {
        let account = self.judged(key);
        let short = Short {
            account: key.clone(),
            cap: account.cap,
            settled: account.settled,
            held: account.held,
            asked,
            own_tree: false,
            declared: self.live_budget(key).map(|live| live.budget.declared.clone()),
        };
        short.refusal(Declared::Default)
    }

    /// The banker's test on one account: every open run can reach its expected peak in turn, the new one last.
    fn is_safe(&self, key: &AccountKey, new: RunId, candidate: &OpenRun, landing: Money, bound: Money) -> bool {
        let mut others =
            self.runs.iter().filter(|(run, open)| **run != new && open.is_open() && open.current().contains(key));
        let Some(oldest) = others.next() else { return true };
        let account = self.judged(key);
        let mut free = account.cap.minus(account.settled.plus(account.held)).minus(landing.into());
        if self.is_roomy(free, candidate, bound) {
            return true;
        }
        for (run, open) in std::iter::once(oldest).chain(others) {
            let claim = self.claim(*run, open, key);
            if claim.peak_need() > free {
                return false;
            }
            free = free.plus(claim.gives_back());
        }
        let settled = self.settled_by(new);
        let expected = self.expectation(candidate, settled).max(settled.plus(bound));
        Claim { expected, settled, held: landing, bound, landing }.peak_need() <= free
    }

    /// True where every open run could take the most that the walk may find for it, one on top of the other: then the walk
    /// can only say yes. A claim's peak is at most E + B + L with E ≤ max(X, S + B), and what it takes for good is less.
    fn is_roomy(&self, free: MoneyDelta, candidate: &OpenRun, bound: Money) -> bool {
        let learned = self.highest_percentile();
        let most = |run: &OpenRun, bound: Money| {
            let expected = run.expected.unwrap_or(run.foreseen).max(learned);
            let landing = run.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
            expected.plus(bound).plus(bound).plus(landing)
        };
        let others: Money = self.runs.values().filter(|open| open.is_open()).map(|open| most(open, open.bound)).sum();
        MoneyDelta::from(others.plus(most(candidate, bound.max(candidate.bound)))) <= free
    }

    fn claim(&self, run: RunId, open: &OpenRun, key: &AccountKey) -> Claim {
        let settled = self.settled_by(run);
        let holds = open.holds.iter().filter_map(|id| self.holds.get(id));
        Claim {
            expected: self.expectation(open, settled),
            settled,
            held: holds.filter(|hold| hold.accounts.contains(key)).map(|hold| hold.amount).sum(),
            bound: open.bound,
            landing: open.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount),
        }
    }
}

fn queue_refusal(observed: &str) -> Refusal {
    Refusal {
        limit: LimitKind::Queue,
        subject: None,
        value: QUEUE_MAX.to_string(),
        observed: observed.into(),
        declared: Declared::Default,
    }
}
