//! Rows for what people order: exceptions, switches, and budgets that only watch.

use plimsoll::domain::audit::{AuditEntry, Author, Change};
use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::Purpose;
use plimsoll::domain::exception::{ExceptionApproved, ExceptionAsked};
use plimsoll::domain::ledger::Verdict;
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::switch::{SwitchKind, SwitchLifted, SwitchSet};
use plimsoll::units::{Millis, Money};

use super::desk::{Desk, MODEST, NOON, Wish, call, granted, limit, news, root, short};
use super::vocabulary::{at_once, budget, id, money, reserved};

fn all(cap: u64) -> Vec<Budget> {
    vec![budget("all", cap, Period::Total, &[], &[])]
}

impl Desk {
    fn order(&mut self, number: u64, by: &str, change: Change) -> Vec<(u32, &'static str)> {
        let entry = AuditEntry { number, at: self.now, by: Author::Person(by.into()), change };
        news(&self.ledger.heed(&entry, self.now))
    }

    fn switch(&mut self, scope: &str, switch: SwitchKind) {
        let scope = scope.parse().expect("a scope");
        self.order(90, "ann", Change::SwitchSet(SwitchSet { scope, switch, reason: "odd".into() }));
    }

    fn lift(&mut self, scope: &str) -> Vec<(u32, &'static str)> {
        let scope = scope.parse().expect("a scope");
        self.order(91, "ann", Change::SwitchLifted(SwitchLifted { scope, reason: "mended".into() }))
    }
}

#[test]
fn an_exception_raises_the_cap_while_it_lasts_and_its_end_makes_nothing_illegal() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    assert_eq!(desk.patiently(1, 2, 71), desk.reserve(root(1), at_once(call(1, 2, 71, 0))));
    let (budget, scope, reason) = ("all".into(), String::new(), "a fair".to_owned());
    let until = NOON.after(Millis(1_000));
    let asked = ExceptionAsked { budget, scope, amount_usd: money(50), until, reason };
    desk.order(0, "ann", Change::ExceptionAsked(asked));
    assert_eq!(short(&desk.reserve(root(1), at_once(call(1, 2, 71, 0)))).cap, money(100), "not yet approved");
    desk.order(1, "ann", Change::ExceptionApproved(ExceptionApproved { exception: 0, reason: String::new() }));
    assert_eq!(short(&desk.reserve(root(1), at_once(call(1, 2, 71, 0)))).cap, money(100), "nobody approves their own");
    desk.order(2, "bob", Change::ExceptionApproved(ExceptionApproved { exception: 0, reason: String::new() }));
    granted(&desk.reserve(root(1), at_once(call(1, 2, 120, 0))));
    assert_eq!(desk.budget("all"), (0, 150));
    desk.now = until;
    assert_eq!(short(&desk.reserve(root(1), at_once(call(1, 3, 1, 0)))).cap, money(100));
    // What was placed is settled and booked, above the cap as it is now.
    desk.settle(1, 2, 120);
    assert_eq!(desk.budget("all"), (120, 30));
    let landing = at_once(reserved(id(root(1), 3), money(10), Purpose::Landing, Money::ZERO));
    granted(&desk.reserve(root(1), landing));
}

#[test]
fn an_exception_wakes_who_waits() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, Wish { first: 80, ..MODEST });
    assert_eq!(desk.arrive(2, Wish { tenant: "globex", ..MODEST }), Verdict::Queued);
    let (budget, scope, reason) = ("all".into(), String::new(), "a fair".to_owned());
    let until = NOON.after(Millis(1_000));
    desk.order(
        0,
        "ann",
        Change::ExceptionAsked(ExceptionAsked { budget, scope, amount_usd: money(900), until, reason }),
    );
    let told =
        desk.order(1, "bob", Change::ExceptionApproved(ExceptionApproved { exception: 0, reason: String::new() }));
    assert_eq!(told, [(2, "admitted")]);
}

#[test]
fn a_pause_holds_calls_and_starts_until_it_is_lifted() {
    let mut desk = Desk::new(all(1_000));
    desk.arrive(1, MODEST);
    desk.switch("tenant=acme", SwitchKind::Pause);
    let Verdict::Paused(why) = desk.reserve(root(1), at_once(call(1, 2, 5, 0))) else { unreachable!("it is held") };
    assert_eq!((why.limit, why.subject.as_deref()), (LimitKind::Switch, Some("tenant=acme")));
    let landing = at_once(reserved(id(root(1), 2), money(10), Purpose::Landing, Money::ZERO));
    assert!(matches!(desk.reserve(root(1), landing), Verdict::Paused(_)), "landing isn't spared");
    desk.settle(1, 1, 7);
    assert_eq!(desk.budget("all"), (7, 10), "what was in flight settles");
    assert_eq!(desk.arrive(2, MODEST), Verdict::Queued);
    assert!(
        matches!(desk.arrive(3, Wish { tenant: "globex", ..MODEST }), Verdict::Admitted(_)),
        "it is in nobody's way"
    );
    assert_eq!(desk.lift("tenant=acme"), [(2, "admitted")]);
    granted(&desk.reserve(root(1), at_once(call(1, 2, 5, 0))));
}

#[test]
fn a_kill_refuses_calls_and_turns_starts_away() {
    let mut desk = Desk::new(all(1_000));
    desk.arrive(1, MODEST);
    desk.switch("all", SwitchKind::Kill);
    assert_eq!(limit(&desk.reserve(root(1), at_once(call(1, 2, 5, 0)))), LimitKind::Switch);
    assert_eq!(limit(&desk.arrive(2, MODEST)), LimitKind::Switch);
}

#[test]
fn a_model_that_is_switched_off_is_refused_and_no_other() {
    let mut desk = Desk::new(all(1_000));
    desk.arrive(1, MODEST);
    let asked = call(1, 2, 5, 0);
    let plimsoll::domain::event::Call::Model(model) = &asked.call else { unreachable!("a model call") };
    desk.switch(&format!("model={}", model.model), SwitchKind::Pause);
    assert_eq!(limit(&desk.reserve(root(1), at_once(asked.clone()))), LimitKind::Switch);
    desk.lift(&format!("model={}", model.model));
    granted(&desk.reserve(root(1), at_once(asked)));
}

#[test]
fn a_budget_that_only_watches_refuses_nothing_and_counts_what_it_would_have() {
    let watching = Budget { shadow: true, ..budget("watch", 25, Period::Total, &[], &["team"]) };
    let by_tenant = Budget { shadow: true, ..budget("tenants", 25, Period::Total, &[], &["tenant"]) };
    let mut desk = Desk::new(vec![watching, by_tenant, budget("all", 1_000, Period::Total, &[], &[])]);
    assert!(matches!(desk.arrive(1, MODEST), Verdict::Admitted(_)), "30 of 25, and no label `team`");
    granted(&desk.reserve(root(1), at_once(call(1, 2, 5, 0))));
    let shadowed = desk.ledger.take_dirty().shadowed;
    assert_eq!(shadowed.iter().map(|one| one.amount).collect::<Vec<_>>(), [money(20), money(5)]);
    assert!(shadowed.iter().all(|one| one.account.to_string() == "budget tenants (tenant=acme)"));
    assert_eq!(desk.budget("tenants"), (0, 35));
    assert!(desk.ledger.take_dirty().shadowed.is_empty(), "told once");
}
