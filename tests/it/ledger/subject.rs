//! The ledger with a shelf behind it: what it says is dirty is written, and a crash reads it back.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::domain::audit::AuditEntry;
use plimsoll::domain::event::{AccountKey, Event, Recorded};
use plimsoll::domain::exception::Exceptions;
use plimsoll::domain::ledger::{Account, Decision, Frozen, Hold, Ledger, LedgerPolicy, Op, Snapshot};
use plimsoll::domain::switch::Switches;
use plimsoll::ids::{AgentName, PriceId, ReservationId, RunId};
use plimsoll::units::{Money, Timestamp};

/// What is judged: the ledger, or one with a bug planted.
pub(super) trait Subject {
    fn decide(&mut self, op: Op, now: Timestamp) -> Decision;
    fn set_policy(&mut self, policy: LedgerPolicy, now: Timestamp) -> Decision;
    fn tick(&mut self, now: Timestamp) -> Decision;
    /// Loses the memory, reads the shelf, recovers.
    fn crash(&mut self, now: Timestamp) -> Decision;
    /// Follows an entry of the audit log.
    fn heed(&mut self, entry: &AuditEntry, now: Timestamp) -> Decision;
    fn unfreeze(&mut self, price: &PriceId);
    /// Every account ever written.
    fn accounts(&self) -> BTreeMap<AccountKey, Account>;
    fn frozen(&self) -> BTreeSet<PriceId>;
}

/// The ledger as it is.
#[derive(Clone, Default)]
pub(super) struct Honest {
    pub(super) ledger: Ledger,
    pub(super) policy: LedgerPolicy,
    accounts: BTreeMap<AccountKey, Account>,
    holds: BTreeMap<ReservationId, Hold>,
    frozen: BTreeMap<PriceId, String>,
    switches: Switches,
    exceptions: Exceptions,
    rings: BTreeMap<AgentName, Vec<Money>>,
    logs: BTreeMap<RunId, Vec<Recorded>>,
    ended: BTreeSet<RunId>,
}

impl Honest {
    pub(super) fn new(policy: LedgerPolicy) -> Self {
        let ledger = Ledger::restore(policy.clone(), Snapshot::default());
        Self { ledger, policy, ..Self::default() }
    }

    pub(super) fn open_attempts(&self) -> Vec<Hold> {
        self.holds.values().filter(|hold| !hold.landing).cloned().collect()
    }

    fn write(&mut self, decision: Decision, now: Timestamp) -> Decision {
        let dirty = self.ledger.take_dirty();
        self.accounts.extend(dirty.budgets);
        for (run, money) in dirty.runs {
            self.accounts.extend(money.accounts);
            self.holds.retain(|id, _| id.run != run);
            self.holds.extend(money.holds);
        }
        self.frozen.extend(dirty.frozen.into_iter().map(|frozen| (frozen.price, frozen.reason)));
        self.rings.extend(dirty.rings);
        for (run, event) in &decision.appended {
            if matches!(event, Event::Ended(_)) {
                self.ended.insert(*run);
            }
            let log = self.logs.entry(*run).or_default();
            let seq = u32::try_from(log.len()).expect("a test's log is short");
            log.push(Recorded { seq, at: now, order: None, event: event.clone() });
        }
        for (key, account) in self.ledger.accounts() {
            assert_eq!(self.accounts.get(key), Some(account), "what changed on {key} was not said to be dirty");
        }
        decision
    }

    fn snapshot(&self) -> Snapshot {
        let open = self.logs.iter().filter(|(run, _)| !self.ended.contains(run));
        Snapshot {
            accounts: self.accounts.clone().into_iter().collect(),
            holds: self.holds.values().cloned().collect(),
            open_runs: open.map(|(run, log)| (*run, log.clone())).collect(),
            frozen: self.frozen.clone().into_iter().map(|(price, reason)| Frozen { price, reason }).collect(),
            switches: self.switches.clone(),
            exceptions: self.exceptions.clone(),
            rings: self.rings.clone().into_iter().collect(),
            told: vec![],
            starts: vec![],
        }
    }
}

impl Subject for Honest {
    fn decide(&mut self, op: Op, now: Timestamp) -> Decision {
        let decision = self.ledger.decide(op, now);
        self.write(decision, now)
    }

    fn set_policy(&mut self, policy: LedgerPolicy, now: Timestamp) -> Decision {
        self.policy = policy.clone();
        let decision = self.ledger.set_policy(policy, now);
        self.write(decision, now)
    }

    fn tick(&mut self, now: Timestamp) -> Decision {
        let decision = self.ledger.tick(now);
        self.write(decision, now)
    }

    fn crash(&mut self, now: Timestamp) -> Decision {
        self.ledger = Ledger::restore(self.policy.clone(), self.snapshot());
        let decision = self.ledger.recover(now);
        self.write(decision, now)
    }

    fn heed(&mut self, entry: &AuditEntry, now: Timestamp) -> Decision {
        self.switches.apply(entry);
        self.exceptions.apply(entry);
        let decision = self.ledger.heed(entry, now);
        self.write(decision, now)
    }

    fn unfreeze(&mut self, price: &PriceId) {
        self.ledger.unfreeze(price);
        self.frozen.remove(price);
    }

    fn accounts(&self) -> BTreeMap<AccountKey, Account> {
        self.accounts.clone()
    }

    fn frozen(&self) -> BTreeSet<PriceId> {
        self.ledger.frozen().map(|(price, _)| price.clone()).collect()
    }
}
