//! What the store keeps of the ledger, and how the ledger comes back from it (rule 15).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::account::{Account, Hold, RunMoney, Shadowed};
use super::expectation::Ring;
use super::{Decision, Ledger, LedgerPolicy};
use crate::domain::event::{AccountKey, CostSource, Event, Interrupted, Outcome, Recorded, RunState, Settled};
use crate::domain::exception::Exceptions;
use crate::domain::policy::Share;
use crate::domain::retry::{ErrorClass, Failure};
use crate::domain::switch::Switches;
use crate::ids::{AgentName, BudgetName, PriceId, ReservationId, RunId};
use crate::units::{Millis, Money, Timestamp};

/// What the store kept.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Accounts.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Open reservations.
    pub holds: Vec<Hold>,
    /// Every run that hasn't ended, with its whole log.
    pub open_runs: Vec<(RunId, Vec<Recorded>)>,
    /// Frozen price rows.
    pub frozen: Vec<Frozen>,
    /// The switches that are set.
    pub switches: Switches,
    /// The exceptions of budgets.
    pub exceptions: Exceptions,
    /// Costs of finished runs by agent, oldest first.
    pub rings: Vec<(AgentName, Vec<Money>)>,
    /// The thresholds of budget accounts that people were told of.
    pub told: Vec<(AccountKey, Vec<Share>)>,
    /// The highest start of a period that each budget and scope has seen.
    pub starts: Vec<((BudgetName, String), Timestamp)>,
}

impl Snapshot {
    /// The latest time that open runs and periods speak of.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        let logged = self.open_runs.iter().flat_map(|(_, log)| log).map(|recorded| recorded.at);
        logged.chain(self.starts.iter().map(|(_, start)| *start)).max().unwrap_or_default()
    }
}

/// A price row that a bill above its reservation froze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The row.
    pub price: PriceId,
    /// Why, in words.
    pub reason: String,
}

/// What changed since the store last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dirty {
    /// Budget accounts to write.
    pub budgets: Vec<(AccountKey, Account)>,
    /// The runs whose accounts or reservations changed, each with all that it has.
    pub runs: Vec<(RunId, RunMoney)>,
    /// Price rows newly frozen.
    pub frozen: Vec<Frozen>,
    /// Price rows that are frozen no more.
    pub unfrozen: Vec<PriceId>,
    /// Rings to write.
    pub rings: Vec<(AgentName, Vec<Money>)>,
    /// What budgets that only watch would have refused.
    pub shadowed: Vec<Shadowed>,
    /// Accounts of which people were told of further thresholds, each with all of them.
    pub told: Vec<(AccountKey, Vec<Share>)>,
}

impl Ledger {
    /// A ledger from what the store kept. Nothing is decided yet: call [`Ledger::recover`] next.
    #[must_use]
    pub fn restore(policy: LedgerPolicy, snapshot: Snapshot) -> Self {
        let latest = snapshot.latest();
        let mut ledger = Self {
            accounts: snapshot.accounts.into_iter().collect(),
            frozen: snapshot.frozen.into_iter().map(|frozen| (frozen.price, frozen.reason)).collect(),
            switches: snapshot.switches,
            exceptions: snapshot.exceptions,
            told: snapshot.told.into_iter().map(|(key, told)| (key, told.into_iter().collect())).collect(),
            rings: snapshot.rings.into_iter().map(|(agent, costs)| (agent, Ring::from_costs(costs))).collect(),
            ..Self::default()
        };
        // Roots first: a child hangs itself into its root's tree.
        let (roots, children): (Vec<_>, Vec<_>) = snapshot.open_runs.iter().partition(|(_, log)| is_root(log));
        for (run, log) in roots.into_iter().chain(children) {
            log.iter().for_each(|recorded| ledger.track(*run, &recorded.event));
        }
        for hold in snapshot.holds {
            ledger.index_hold(&hold);
            ledger.holds.insert(hold.reservation, Box::new(hold));
        }
        ledger.recall_who_ran();
        ledger.remember_time(latest);
        ledger.forget_accounts();
        ledger.adopt(policy);
        ledger
    }

    /// A run that gave its landing reserve back waits for a person, unless a call of it was in flight.
    fn recall_who_ran(&mut self) {
        let holds: Vec<(RunId, bool)> = self.holds.values().map(|hold| (hold.root, hold.landing)).collect();
        for (root, _) in holds.into_iter().filter(|(_, landing)| !landing) {
            if let Some(open) = self.runs.get_mut(&root).filter(|open| open.state == RunState::AwaitingInput) {
                open.state = RunState::Running;
            }
        }
    }

    /// Accounts of runs that ended long ago stay in the store.
    fn forget_accounts(&mut self) {
        let held: BTreeSet<&AccountKey> = self.holds.values().flat_map(|hold| &hold.accounts).collect();
        self.accounts.retain(|key, _| match key {
            AccountKey::Node { run, .. } => self.nodes.contains_key(run) || held.contains(key),
            AccountKey::Budget { .. } => true,
        });
    }

    /// After a start, the store's lock proves that nobody runs (rule 15): every open attempt is settled at its whole
    /// reservation as `unknown`, every landing reserve is released, and the runs that ran are `interrupted`.
    pub fn recover(&mut self, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        self.roll(now);
        let attempts: Vec<Hold> = self.holds().filter(|hold| !hold.landing).cloned().collect();
        for hold in attempts {
            self.append(&mut decision, hold.reservation.run, settled_unknown(&hold));
        }
        for run in self.who_ran() {
            let interrupted = Interrupted { why: "the process went down".into(), clean: false };
            self.append(&mut decision, run, Event::Interrupted(interrupted));
        }
        self.judge_all_thresholds(&mut decision);
        decision
    }

    /// The runs of every tree that ran and that haven't ended: trees by their roots, in each the deepest first.
    fn who_ran(&self) -> Vec<RunId> {
        let mut ran = Vec::new();
        for open in self.runs.values().filter(|open| open.is_open()) {
            let left = open.tree.iter().filter(|run| self.nodes.get(run).is_some_and(|node| !node.ended));
            let mut left: Vec<(Reverse<usize>, RunId)> = left.map(|run| (Reverse(self.depth(*run)), *run)).collect();
            left.sort_unstable();
            ran.extend(left.into_iter().map(|(_, run)| run));
        }
        ran
    }

    /// How many runs a run hangs below.
    fn depth(&self, run: RunId) -> usize {
        let above = |run: &RunId| self.nodes.get(run).and_then(|node| node.parent);
        std::iter::successors(above(&run), above).count()
    }

    /// What changed since the last call, for the store to write. Accounts of runs that have ended leave memory with it.
    pub fn take_dirty(&mut self) -> Dirty {
        let (budgets, runs) = (std::mem::take(&mut self.dirty_budgets), std::mem::take(&mut self.dirty_runs));
        let (frozen, unfrozen): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dirty_frozen).into_iter().partition(|price| self.frozen.contains_key(price));
        let reason = |price: &PriceId| self.frozen.get(price).cloned().unwrap_or_default();
        let dirty = Dirty {
            budgets: budgets.into_iter().filter_map(|key| self.accounts.get(&key).map(|a| (key, *a))).collect(),
            runs: runs.into_iter().map(|run| (run, self.money_of(run))).collect(),
            frozen: frozen.into_iter().map(|price| Frozen { reason: reason(&price), price }).collect(),
            unfrozen,
            shadowed: std::mem::take(&mut self.shadowed),
            told: self.take_told(),
            rings: std::mem::take(&mut self.dirty_rings)
                .into_iter()
                .filter_map(|agent| self.rings.get(&agent).map(|ring| (agent.clone(), ring.costs())))
                .collect(),
        };
        for key in std::mem::take(&mut self.gone) {
            self.accounts.remove(&key);
        }
        dirty
    }

    fn take_told(&mut self) -> Vec<(AccountKey, Vec<Share>)> {
        let told = |key: &AccountKey| self.told.get(key).into_iter().flatten().copied().collect();
        std::mem::take(&mut self.dirty_told).into_iter().map(|key| (key.clone(), told(&key))).collect()
    }

    /// All that is one run's.
    fn money_of(&self, run: RunId) -> RunMoney {
        let own = |key: &AccountKey| matches!(key, AccountKey::Node { run: other, .. } if *other == run);
        let accounts = self.accounts.range(AccountKey::Node { run, stage: None }..).take_while(|(key, _)| own(key));
        let holds = self.holds.range(ReservationId { run, number: 0 }..).take_while(|(id, _)| id.run == run);
        RunMoney {
            accounts: accounts.map(|(key, account)| (key.clone(), *account)).collect(),
            holds: holds.map(|(id, hold)| (*id, Hold::clone(hold))).collect(),
        }
    }
}

fn is_root(log: &[Recorded]) -> bool {
    log.iter().any(|recorded| matches!(&recorded.event, Event::Created(created) if created.parent.is_none()))
}

/// An attempt whose end nobody saw: the whole reservation.
fn settled_unknown(hold: &Hold) -> Event {
    let failure = Failure {
        class: ErrorClass::Interrupted,
        status: None,
        code: None,
        message: "the process went down while the call was in flight".into(),
        retry_after: None,
    };
    Event::Settled(Box::new(Settled {
        reservation: hold.reservation,
        bill: hold.amount,
        source: CostSource::Unknown,
        usage: None,
        mismatch: None,
        charged: None,
        cache: crate::domain::event::CacheFacts::default(),
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::Failed(failure),
    }))
}
