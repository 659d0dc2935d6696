//! The ledger: a stand-in that books facts naively, until the real one takes its place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::event::{
    AccountKey, CostSource, Created, Event, Interrupted, LandingReleased, Outcome, Recorded, Settled,
};
use crate::domain::plan::Plan;
use crate::domain::retry::{ErrorClass, Failure};
use crate::ids::{AgentName, BudgetName, PriceId, ReservationId, RunId};
use crate::units::{Millis, Money, Timestamp};

/// What counts against one cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The cap.
    pub cap: Money,
    /// Settled, unknown money included.
    pub settled: Money,
    /// The part of `settled` that is not known but taken as the worst case.
    pub unknown: Money,
    /// The sum of open reservations.
    pub held: Money,
}

/// An open reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub reservation: ReservationId,
    /// How much.
    pub amount: Money,
    /// True for a landing reserve.
    pub landing: bool,
    /// The accounts that it counts against.
    pub accounts: Vec<AccountKey>,
    /// The price version pinned, for a model call.
    pub price: Option<PriceId>,
}

/// A price row that a bill above its reservation froze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The row.
    pub price: PriceId,
    /// Why, in words.
    pub reason: String,
}

/// The live configuration that the ledger judges by.
#[derive(Clone, Debug, Default)]
pub struct LedgerPolicy;

/// What the store hands back at the start.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Budget accounts of the latest period, accounts of unended runs, and whatever an open hold names.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Open reservations.
    pub holds: Vec<Hold>,
    /// Every unended run's whole log.
    pub open_runs: Vec<(RunId, Vec<Recorded>)>,
    /// Frozen price rows.
    pub frozen: Vec<Frozen>,
    /// The last costs of each agent's finished runs.
    pub rings: Vec<(AgentName, Vec<Money>)>,
    /// The highest period start of each budget and scope.
    pub starts: Vec<((BudgetName, String), Timestamp)>,
}

/// What changed since the last time it was asked.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    /// Accounts with their values.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Holds that are new or changed.
    pub holds_set: Vec<Hold>,
    /// Holds that are no more; wins over `holds_set`.
    pub holds_gone: Vec<ReservationId>,
    /// Price rows that are frozen now.
    pub frozen: Vec<Frozen>,
    /// Price rows that are no longer frozen.
    pub unfrozen: Vec<PriceId>,
    /// Rings with their values.
    pub rings: Vec<(AgentName, Vec<Money>)>,
}

/// One write that a run asks for.
#[derive(Clone, Debug)]
pub struct Op {
    /// The root of the tree.
    pub run: RunId,
    /// Facts; never refused.
    pub events: Vec<(RunId, Event)>,
    /// Judged after the events, in order.
    pub asks: Vec<Ask>,
    /// Stored by hash in the same write.
    pub plan: Option<Plan>,
}

/// An intention that may be refused.
#[derive(Clone, Debug)]
pub enum Ask {}

/// The judgement of an [`Ask`].
#[derive(Clone, Debug)]
pub enum Verdict {}

/// What a waiting run is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Its wait is over.
    Woken,
}

/// What an [`Op`] comes to.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// What is to be appended, in order.
    pub appended: Vec<(RunId, Event)>,
    /// One for each ask, in order.
    pub verdicts: Vec<Verdict>,
    /// For other runs.
    pub notices: Vec<(RunId, Notice)>,
}

/// The stand-in.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<AccountKey, Account>,
    holds: BTreeMap<ReservationId, Hold>,
    paths: BTreeMap<RunId, Vec<AccountKey>>,
    open: Vec<RunId>,
    dirty: Dirty,
}

impl Ledger {
    /// From what the store kept.
    #[must_use]
    pub fn restore(_policy: LedgerPolicy, snapshot: Snapshot) -> Self {
        let mut ledger = Self {
            accounts: snapshot.accounts.into_iter().collect(),
            holds: snapshot.holds.into_iter().map(|hold| (hold.reservation, hold)).collect(),
            ..Self::default()
        };
        for (run, log) in snapshot.open_runs {
            ledger.open.push(run);
            for recorded in log {
                ledger.learn_path(run, &recorded.event);
            }
        }
        ledger
    }

    /// LEDGER rule 15.
    pub fn recover(&mut self, _now: Timestamp) -> Decision {
        let holds: Vec<Hold> = self.holds.values().cloned().collect();
        let mut appended: Vec<(RunId, Event)> =
            holds.into_iter().map(|hold| (hold.reservation.run, lost(&hold))).collect();
        let why = || Interrupted { why: "the process went down".to_owned() };
        appended.extend(
            self.open.iter().filter(|run| self.paths.contains_key(run)).map(|run| (*run, Event::Interrupted(why()))),
        );
        for (run, event) in &appended {
            self.book(*run, event);
        }
        Decision { appended, ..Decision::default() }
    }

    /// Books the facts.
    pub fn decide(&mut self, op: Op, _now: Timestamp) -> Decision {
        for (run, event) in &op.events {
            self.book(*run, event);
        }
        Decision { appended: op.events, ..Decision::default() }
    }

    /// What changed.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Does nothing yet.
    pub fn set_policy(&mut self, _policy: LedgerPolicy, _now: Timestamp) -> Decision {
        Decision::default()
    }

    fn learn_path(&mut self, run: RunId, event: &Event) {
        if let Event::Admitted(admitted) = event {
            let mut path = vec![AccountKey::Node { run, stage: None }];
            path.extend(admitted.budgets.iter().cloned());
            self.paths.insert(run, path);
        }
    }

    fn book(&mut self, run: RunId, event: &Event) {
        self.learn_path(run, event);
        if let Event::Created(Created { cap, .. }) = event {
            let key = AccountKey::Node { run, stage: None };
            let account = Account { cap: *cap, ..Account::default() };
            self.accounts.insert(key.clone(), account);
            self.dirty.accounts.push((key, account));
        } else if let Event::Admitted(admitted) = event {
            if let Some(landing) = &admitted.landing {
                self.hold(run, landing.reservation, landing.amount, true);
            }
        } else if let Event::Reserved(reserved) = event {
            let landing = self.holds.values().find(|hold| hold.reservation.run == run && hold.landing).cloned();
            if let Some(landing) = landing.filter(|landing| landing.amount != reserved.landing) {
                self.release(landing.reservation, Money::ZERO, CostSource::Reported);
                if !reserved.landing.is_zero() {
                    self.hold(run, landing.reservation, reserved.landing, true);
                }
            }
            self.hold(run, reserved.reservation, reserved.amount, false);
        } else if let Event::Settled(settled) = event {
            self.release(settled.reservation, settled.bill, settled.source);
        } else if let Event::Voided(voided) = event {
            self.release(voided.reservation, Money::ZERO, CostSource::Reported);
        } else if let Event::LandingReleased(released) = event {
            self.release(released.reservation, Money::ZERO, CostSource::Reported);
        }
    }

    fn hold(&mut self, run: RunId, reservation: ReservationId, amount: Money, landing: bool) {
        let accounts = self.paths.get(&run).cloned().unwrap_or_default();
        let hold = Hold { reservation, amount, landing, accounts, price: None };
        for key in &hold.accounts {
            let account = self.accounts.entry(key.clone()).or_default();
            account.held = account.held.plus(amount);
            self.dirty.accounts.push((key.clone(), *account));
        }
        self.dirty.holds_gone.retain(|gone| *gone != reservation);
        self.dirty.holds_set.push(hold.clone());
        self.holds.insert(reservation, hold);
    }

    fn release(&mut self, reservation: ReservationId, bill: Money, source: CostSource) {
        let Some(hold) = self.holds.remove(&reservation) else { return };
        for key in &hold.accounts {
            let account = self.accounts.entry(key.clone()).or_default();
            account.held = account.held.left_after(hold.amount);
            account.settled = account.settled.plus(bill);
            if source == CostSource::Unknown {
                account.unknown = account.unknown.plus(bill);
            }
            self.dirty.accounts.push((key.clone(), *account));
        }
        self.dirty.holds_gone.push(reservation);
    }
}

/// The end of an attempt that was in flight when the process went down.
fn lost(hold: &Hold) -> Event {
    if hold.landing {
        let why = "the process went down".to_owned();
        return Event::LandingReleased(LandingReleased { reservation: hold.reservation, why });
    }
    let message = "the process went down".to_owned();
    let failure = Failure { class: ErrorClass::Interrupted, status: None, code: None, message, retry_after: None };
    Event::Settled(Box::new(Settled {
        reservation: hold.reservation,
        bill: hold.amount,
        source: CostSource::Unknown,
        usage: None,
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::Failed(failure),
    }))
}
