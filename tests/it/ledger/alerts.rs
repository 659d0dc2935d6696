//! Thresholds of budgets: each is told of once in each period of an account, in the write of what passed it.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::domain::alert::{Alert, BudgetAlert};
use plimsoll::domain::audit::{AuditEntry, Author, Change};
use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{AccountKey, EndState, Ended, Event};
use plimsoll::domain::exception::{ExceptionApproved, ExceptionAsked, Exceptions};
use plimsoll::domain::ledger::{Decision, Ledger, LedgerPolicy, Snapshot, Verdict};
use plimsoll::domain::limits::Refusal;
use plimsoll::domain::policy::Share;
use plimsoll::units::{Millis, Timestamp};
use proptest::prelude::*;

use super::desk::{Desk, MODEST, NOON, Wish, root};
use super::properties::cases;
use super::vocabulary::{DAY, budget, money};

const CAP: u64 = 100;
const THRESHOLDS: [u32; 3] = [5_000, 8_000, 10_000];

fn watched(period: Period, each: &[&str]) -> Vec<Budget> {
    let alerts_at = THRESHOLDS.map(Share).to_vec();
    vec![Budget { alerts_at, ..budget("all", CAP, period, &[], each) }]
}

/// What was told: the share in percent, and whether it is since nothing more fits.
fn told(decision: &Decision) -> Vec<(u32, bool)> {
    let of = |alert: &Alert| {
        let Alert::Budget(BudgetAlert { threshold, full, .. }) = alert else { unreachable!("{alert:?}") };
        (threshold.0 / 100, *full)
    };
    decision.alerts.iter().map(of).collect()
}

impl Desk {
    fn heed(&mut self, number: u64, by: &str, change: Change) -> Decision {
        let entry = AuditEntry { number, at: self.now, by: Author::Person(by.into()), change };
        self.ledger.heed(&entry, self.now)
    }

    /// Run `number` spends so much and ends; where it may not start, it ends so.
    fn spend(&mut self, number: u32, wish: Wish) -> Decision {
        let verdict = self.arrive(number, Wish { cap: 1_000_000, landing: 0, ..wish });
        if let Verdict::TurnedAway(refusal) = verdict {
            return self.stop(number, refusal);
        }
        assert!(matches!(verdict, Verdict::Admitted(_)), "{verdict:?}");
        let paid = self.settle(number, 1, wish.first);
        assert!(self.end(number).alerts.is_empty(), "the bill passed it, not the end");
        paid
    }

    fn stop(&mut self, number: u32, refusal: Refusal) -> Decision {
        let ended = Ended { state: EndState::Stopped, refusal: Some(refusal), output: None, error: None };
        self.op(root(number), vec![Event::Ended(ended)], Vec::new())
    }
}

fn spends(first: u64) -> Wish {
    Wish { first, ..MODEST }
}

#[test]
fn each_threshold_is_told_of_once_with_the_bill_that_passes_it() {
    let mut desk = Desk::new(watched(Period::Day, &[]));
    assert_eq!(told(&desk.spend(1, spends(49))), []);
    let passed = desk.spend(2, spends(1));
    assert_eq!(told(&passed), [(50, false)]);
    let Some(Alert::Budget(alert)) = passed.alerts.first() else { unreachable!("an alert") };
    assert_eq!((alert.run, alert.settled_usd, alert.cap_usd), (Some(root(2)), money(50), money(CAP)));
    assert_eq!(told(&desk.spend(3, spends(10))), []);
    // Two at once are two.
    assert_eq!(told(&desk.spend(4, spends(40))), [(80, false), (100, false)]);
    // What doesn't fit any more is no news.
    assert_eq!(told(&desk.spend(5, spends(1))), []);
    // A new day begins anew.
    desk.now = Timestamp(NOON.0 + DAY);
    assert_eq!(told(&desk.spend(6, spends(60))), [(50, false)]);
}

#[test]
fn what_is_only_held_passes_no_threshold() {
    let mut desk = Desk::new(watched(Period::Total, &[]));
    desk.arrive(1, Wish { landing: 0, ..spends(90) });
    assert_eq!(told(&desk.settle(1, 1, 10)), []);
}

#[test]
fn a_run_that_is_refused_says_that_the_budget_is_full_and_passes_nothing_below() {
    let mut desk = Desk::new(watched(Period::Total, &[]));
    assert_eq!(told(&desk.spend(1, spends(60))), [(50, false)]);
    assert_eq!(told(&desk.spend(2, spends(70))), [(100, true)]);
    assert_eq!(told(&desk.spend(3, spends(70))), [], "once");
    assert_eq!(told(&desk.spend(4, spends(25))), [(80, false)]);
}

#[test]
fn each_account_of_a_budget_has_thresholds_of_its_own() {
    let mut desk = Desk::new(watched(Period::Total, &["tenant"]));
    assert_eq!(told(&desk.spend(1, spends(50))), [(50, false)]);
    assert_eq!(told(&desk.spend(2, Wish { tenant: "globex", ..spends(50) })), [(50, false)]);
}

#[test]
fn a_budget_that_only_watches_tells_too() {
    let budgets = watched(Period::Total, &[]).into_iter().map(|budget| Budget { shadow: true, ..budget }).collect();
    let mut desk = Desk::new(budgets);
    assert_eq!(told(&desk.spend(1, spends(300))), [(50, false), (80, false), (100, false)]);
}

#[test]
fn a_cap_that_is_lowered_is_judged_at_once() {
    let mut desk = Desk::new(watched(Period::Total, &[]));
    desk.spend(1, spends(49));
    let lower = watched(Period::Total, &[]).into_iter().map(|budget| Budget { cap: money(60), ..budget }).collect();
    let decision = desk.ledger.set_policy(LedgerPolicy { budgets: lower, alerts: Vec::new() }, desk.now);
    assert_eq!(told(&decision), [(50, false), (80, false)]);
}

/// A desk with a model beside it: what should have been told, and what a store would have kept.
struct Watch {
    desk: Desk,
    told: BTreeMap<AccountKey, BTreeSet<u32>>,
    stored: BTreeMap<AccountKey, Vec<Share>>,
    entries: Vec<AuditEntry>,
    runs: u32,
}

impl Watch {
    fn new() -> Self {
        let desk = Desk::new(watched(Period::Day, &["tenant"]));
        Self { desk, told: BTreeMap::new(), stored: BTreeMap::new(), entries: Vec::new(), runs: 0 }
    }

    fn step(&mut self, (what, size): (u8, u64)) {
        let tenant = if size % 2 == 0 { "acme" } else { "globex" };
        match what {
            0 => self.desk.now = self.desk.now.after(Millis(size * DAY / 40)),
            1 => self.grant(tenant, size),
            2 => self.restart(),
            _ => {
                self.runs += 1;
                let decision = self.desk.spend(self.runs, Wish { tenant, ..spends(size) });
                let scope = format!("tenant={tenant}");
                let refused = !decision.appended.iter().any(|(_, event)| matches!(event, Event::Settled(_)));
                self.judge(&decision, |key| of_scope(key, &scope), refused);
            }
        }
    }

    /// An exception for a part of a day, approved by another.
    fn grant(&mut self, tenant: &str, size: u64) {
        let asked = ExceptionAsked {
            budget: "all".into(),
            scope: format!("tenant={tenant}"),
            amount_usd: money(size),
            until: self.desk.now.after(Millis(size * DAY / 80 + 1)),
            reason: "a fair".to_owned(),
        };
        let number = u64::try_from(self.entries.len()).expect("few");
        self.order(number, "ann", Change::ExceptionAsked(asked));
        self.order(
            number + 1,
            "bob",
            Change::ExceptionApproved(ExceptionApproved { exception: number, reason: String::new() }),
        );
    }

    fn order(&mut self, number: u64, by: &str, change: Change) {
        self.entries.push(AuditEntry {
            number,
            at: self.desk.now,
            by: Author::Person(by.into()),
            change: change.clone(),
        });
        let decision = self.desk.heed(number, by, change);
        let today = self.desk.now.0 / DAY * DAY;
        self.judge(&decision, |key| starts(key) == Some(today), false);
    }

    /// The process ends, and another one begins with what was written.
    fn restart(&mut self) {
        let mut exceptions = Exceptions::default();
        self.entries.iter().for_each(|entry| assert!(exceptions.apply(entry)));
        let snapshot = Snapshot {
            accounts: self.desk.ledger.accounts().map(|(key, account)| (key.clone(), *account)).collect(),
            told: self.stored.clone().into_iter().collect(),
            exceptions,
            ..Snapshot::default()
        };
        let policy = LedgerPolicy { budgets: watched(Period::Day, &["tenant"]), alerts: Vec::new() };
        self.desk.ledger = Ledger::restore(policy, snapshot);
        let decision = self.desk.ledger.recover(self.desk.now);
        let today = self.desk.now.0 / DAY * DAY;
        self.judge(&decision, |key| starts(key) == Some(today), false);
    }

    /// Compares what was told with what the accounts say.
    fn judge(&mut self, decision: &Decision, looked_at: impl Fn(&AccountKey) -> bool, refused: bool) {
        let today = self.desk.now.0 / DAY * DAY;
        let mut expected = BTreeSet::new();
        for (key, account) in self.desk.ledger.accounts().filter(|(key, _)| looked_at(key)) {
            if starts(key) != Some(today) {
                continue;
            }
            let cap = u128::from(CAP) + self.granted(key);
            for threshold in THRESHOLDS {
                let spent = account.settled.pico() * 10_000 >= cap * u128::from(threshold);
                let passed = (spent && !account.settled.is_zero()) || (refused && threshold == 10_000);
                if passed && self.told.entry(key.clone()).or_default().insert(threshold) {
                    expected.insert((key.clone(), threshold));
                }
            }
        }
        let got: Vec<(AccountKey, u32)> = decision.alerts.iter().map(account_of).collect();
        assert_eq!(got.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert_eq!(got.len(), expected.len(), "once: {got:?}");
        self.stored.extend(self.desk.ledger.take_dirty().told);
    }

    fn granted(&self, key: &AccountKey) -> u128 {
        let asked = self.entries.iter().filter_map(|entry| {
            if let Change::ExceptionAsked(asked) = &entry.change { Some((entry.number, asked)) } else { None }
        });
        let approved = |number: u64| self.entries.iter().any(|other| other.number == number + 1);
        let counts = |(number, asked): &(u64, &ExceptionAsked)| {
            approved(*number) && of_scope(key, &asked.scope) && self.desk.now < asked.until
        };
        asked.filter(counts).map(|(_, asked)| asked.amount_usd.pico()).sum()
    }
}

fn of_scope(key: &AccountKey, wanted: &str) -> bool {
    matches!(key, AccountKey::Budget { scope, .. } if scope == wanted)
}

fn starts(key: &AccountKey) -> Option<u64> {
    if let AccountKey::Budget { start, .. } = key { Some(start.0) } else { None }
}

fn account_of(alert: &Alert) -> (AccountKey, u32) {
    let Alert::Budget(BudgetAlert { budget, scope, start, end, threshold, .. }) = alert else {
        unreachable!("{alert:?}")
    };
    let key = AccountKey::Budget { budget: budget.clone(), scope: scope.clone(), start: *start, end: *end };
    (key, threshold.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whatever_happens_each_threshold_is_told_of_once_when_it_is_passed(
        steps in prop::collection::vec((0u8..9, 1u64..70), 1..40),
    ) {
        let mut watch = Watch::new();
        steps.into_iter().for_each(|step| watch.step(step));
    }
}
