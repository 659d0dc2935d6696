//! Admission by hand (rules 7 and 8): the banker's walk to the last pico-dollar, the order of the queue, who is turned
//! away, and what a restart leaves (rule 15).

use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{CostSource, EndState, Event, Interrupted, LandingReleased};
use plimsoll::domain::ledger::{Ask, ReserveAsk, Verdict};
use plimsoll::domain::limits::LimitKind;
use plimsoll::units::Timestamp;

use super::desk::{Desk, MODEST, NOON, Wish, call, granted, limit, news, root};
use super::subject::{Honest, Subject as _};
use super::vocabulary::{DAY, OUTPUT, admit, at_once, budget, ended, id, lower, money, output_of, settled};

fn all(cap: u64) -> Vec<Budget> {
    vec![budget("all", cap, Period::Total, &[], &[])]
}

const OLD: Wish = Wish { expected: Some(100), ..MODEST };
const NEW: Wish = Wish { expected: Some(60), ..MODEST };

/// Run 1 has settled `spent` of its expected 100 and holds 10 to land and `bound` for a call; is run 2 safe?
fn is_safe(cap: u64, spent: u64, bound: u64) -> bool {
    let mut desk = Desk::new(all(cap));
    granted(&desk.arrive(1, OLD));
    if spent > 0 {
        let paid = settled(id(root(1), 1), money(20), CostSource::Reported);
        let grow = Ask::Reserve(Box::new(at_once(call(1, 2, spent - 20, 0))));
        desk.op(root(1), vec![paid], vec![grow]);
        let paid = settled(id(root(1), 2), money(spent - 20), CostSource::Reported);
        desk.op(root(1), vec![paid], vec![Ask::Reserve(Box::new(at_once(call(1, 3, bound, 0))))]);
        assert_eq!(desk.budget("all"), (spent, 10 + bound));
    }
    let verdict = desk.arrive(2, NEW);
    assert!(matches!(verdict, Verdict::Admitted(_) | Verdict::Queued), "{verdict:?}");
    verdict != Verdict::Queued
}

/// Rule 8, worked by hand. New: P − (s + h) = 60 − 10 + 20 + 10 − 10 = 70.
#[test]
fn the_bankers_walk_is_exact() {
    // Old: P − (s + h) = 100 − 10 + 20 + 10 − 30 = 90, X = 100. f = cap − 30 − 10; 90 ≤ f, 70 ≤ f + 30 − 100.
    assert_eq!((is_safe(179, 0, 20), is_safe(180, 0, 20)), (false, true));
    // Old: 100 − 15 + 30 + 10 − 90 = 35, X = 100. f = cap − 90 − 10; 70 ≤ f + 90 − 100.
    assert_eq!((is_safe(179, 50, 30), is_safe(180, 50, 30)), (false, true));
    // s + R = 120 passes what was expected: 120 − 15 + 30 + 10 − 130 = 15, X = 120. f = cap − 140; 70 ≤ f + 130 − 120.
    assert_eq!((is_safe(199, 90, 30), is_safe(200, 90, 30)), (false, true));
}

/// E: the agent's word, else the 80th percentile of 20 runs, else the load line; raised once 5 runs say more.
#[test]
fn what_a_run_is_expected_to_cost() {
    let least = |costs: Vec<u64>, expected| {
        let caps = 40..2_000;
        let fits = |cap: &u64| {
            let mut desk = Desk::with_costs(all(*cap), costs.clone());
            desk.arrive(1, Wish { cap: 300, expected, ..MODEST });
            matches!(desk.arrive(2, Wish { cap: 300, expected, ..MODEST }), Verdict::Admitted(_))
        };
        caps.into_iter().find(fits)
    };
    // Both expect E: f = cap − 40, then 30 − E, then E + 10 must be there: cap ≥ 2E + 20.
    assert_eq!(least(Vec::new(), Some(60)), Some(140));
    assert_eq!(least(vec![200; 4], Some(60)), Some(140));
    assert_eq!(least(vec![200; 5], Some(60)), Some(420));
    assert_eq!(least(vec![50; 5], Some(60)), Some(140), "never lowered");
    assert_eq!(least(vec![80; 19], None), Some(620), "the load line, 300");
    assert_eq!(least(vec![80; 20], None), Some(180));
    assert_eq!(least([vec![40; 16], vec![90; 4]].concat(), None), Some(100), "the 16th of 20");
}

/// What is foreseen stands in for the load line, and for nothing else.
#[test]
fn what_is_foreseen_of_a_run() {
    let least = |costs: Vec<u64>, expected, foreseen| {
        let fits = |cap: &u64| {
            let mut desk = Desk::with_costs(all(*cap), costs.clone());
            let wish = Wish { cap: 300, expected, foreseen, ..MODEST };
            desk.arrive(1, wish);
            matches!(desk.arrive(2, wish), Verdict::Admitted(_))
        };
        (40..2_000).find(fits)
    };
    assert_eq!(least(Vec::new(), None, Some(100)), Some(220));
    assert_eq!(least(vec![80; 19], None, Some(100)), Some(220));
    assert_eq!(least(vec![150; 5], None, Some(100)), Some(320), "five runs raise it");
    assert_eq!(least(vec![80; 20], None, Some(100)), Some(180), "finished runs know better");
    assert_eq!(least(Vec::new(), Some(60), Some(100)), Some(140), "and the agent's word");
    assert_eq!(least(Vec::new(), None, Some(900)), Some(620), "never above the load line");
    assert_eq!(least(Vec::new(), None, Some(0)), least(Vec::new(), None, Some(20)), "never under s + R");
}

/// An open run that has placed nothing in the new period still claims there.
#[test]
fn runs_of_yesterday_claim_today() {
    let least = (40..400).find(|cap| {
        let mut desk = Desk::new(vec![budget("day", *cap, Period::Day, &[], &[])]);
        desk.arrive(1, OLD);
        desk.now = Timestamp(11 * DAY);
        matches!(desk.arrive(2, NEW), Verdict::Admitted(_))
    });
    // Old, with h = 0 today: 100 − 10 + 20 + 10 = 120 ≤ f = cap − 10, then f − 100 ≥ 70.
    assert_eq!(least, Some(180));
}

/// Rule 7: round-robin between tenants, oldest first within each.
#[test]
fn tenants_take_turns() {
    let mut desk = Desk::new(all(149));
    granted(&desk.arrive(1, Wish { expected: Some(140), ..MODEST }));
    for (number, tenant) in [(2, "acme"), (3, "acme"), (4, "bolt"), (5, "bolt"), (6, "core")] {
        assert_eq!(desk.arrive(number, Wish { tenant, ..MODEST }), Verdict::Queued);
    }
    desk.settle(1, 1, 0);
    let decision = desk.end(1);
    let order: Vec<u32> = news(&decision).into_iter().map(|(number, _)| number).collect();
    assert_eq!(order, [4, 6, 2, 5], "30 each, and 3 is blocked");
    assert_eq!(news(&desk.settle(4, 1, 0)), [(3, "admitted")]);
}

/// Rule 7: blocked on one account holds back only those behind that share it.
#[test]
fn a_blocked_run_holds_back_only_its_own_account() {
    let mut desk = Desk::new(vec![budget("each", 100, Period::Total, &[], &["tenant"])]);
    granted(&desk.arrive(1, Wish { expected: Some(90), ..MODEST }));
    assert_eq!(desk.arrive(2, Wish { expected: Some(90), ..MODEST }), Verdict::Queued);
    granted(&desk.arrive(3, Wish { tenant: "bolt", ..MODEST }));
    assert_eq!(
        desk.arrive(4, Wish { expected: Some(0), landing: 1, first: 10, ..MODEST }),
        Verdict::Queued,
        "behind 2"
    );
}

/// Rule 7: what will never fit is turned away; what others hold is waited for.
#[test]
fn what_never_fits_is_turned_away() {
    let mut desk = Desk::new(all(100));
    assert_eq!(limit(&desk.arrive(1, Wish { cap: 29, ..MODEST })), LimitKind::Cost);
    assert_eq!(limit(&desk.arrive(2, Wish { first: 91, ..MODEST })), LimitKind::Budget);
    granted(&desk.arrive(3, MODEST));
    assert_eq!(limit(&desk.arrive(5, Wish { cap: 29, ..MODEST })), LimitKind::Cost, "its own cap won't grow");
    assert_eq!(desk.arrive(4, Wish { first: 91, ..MODEST }), Verdict::Queued);
    desk.settle(3, 1, 0);
    assert_eq!(news(&desk.end(3)), [(4, "turned away")]);
    let mut unlabelled = Desk::new(vec![budget("each", 100, Period::Total, &[], &["team"])]);
    assert_eq!(limit(&unlabelled.arrive(1, MODEST)), LimitKind::Budget, "a budget that can't tell whom it counts");
}

/// Rule 9d at admission: fewer tokens where nobody else could free money, and only there.
#[test]
fn the_first_call_is_lowered_if_need_be() {
    let ask = |number, amount| {
        let first = ReserveAsk { lower: Some(lower()), ..at_once(call(number, 1, amount, 10)) };
        admit(Some((id(root(number), 0), money(10))), first)
    };
    let mut desk = Desk::new(all(100));
    let lowered = desk.arrive_with(1, MODEST, ask(1, 95));
    assert_eq!((granted(&lowered).amount, output_of(granted(&lowered))), (money(90), OUTPUT - 5));
    assert_eq!(desk.arrive_with(2, MODEST, ask(2, 20)), Verdict::Queued, "run 1 will free money");
    // Too much for the run's own cap, and the budget is shared: lowered to the cap, then room for it is waited for.
    let mut desk = Desk::new(all(100));
    granted(&desk.arrive(1, Wish { first: 65, ..MODEST }));
    assert_eq!(desk.arrive_with(2, Wish { cap: 38, ..MODEST }, ask(2, 30)), Verdict::Queued);
    desk.settle(1, 1, 0);
    assert_eq!(news(&desk.end(1)), [(2, "admitted")]);
    assert_eq!(desk.node(root(2)), (0, 38));
}

/// A run that waits for a person holds and claims nothing until it is admitted again (rule 13).
#[test]
fn who_waits_for_a_person_claims_nothing() {
    let mut desk = Desk::new(all(150));
    granted(&desk.arrive(1, Wish { expected: Some(140), ..MODEST }));
    assert_eq!(desk.arrive(2, Wish { expected: Some(140), ..MODEST }), Verdict::Queued);
    let released = Event::LandingReleased(LandingReleased { reservation: id(root(1), 0), why: String::new() });
    desk.settle(1, 1, 0);
    assert_eq!(news(&desk.op(root(1), vec![released], Vec::new())), [(2, "admitted")]);
    let again = admit(Some((id(root(1), 2), money(10))), at_once(call(1, 3, 20, 10)));
    assert_eq!(desk.op(root(1), Vec::new(), vec![Ask::Admit(again)]).verdicts, [Verdict::Queued]);
    desk.settle(2, 1, 0);
    assert_eq!(news(&desk.end(2)), [(1, "admitted")]);
}

/// Rule 15: attempts settle whole and unknown, reserves are given back, who ran is interrupted, who queued is not.
#[test]
fn a_restart_releases_nothing_without_evidence() {
    let mut honest = Honest::new(plimsoll::domain::ledger::LedgerPolicy { budgets: all(100), alerts: Vec::new() });
    let mut desk = Desk::new(all(100));
    let op = |desk: &mut Desk, honest: &mut Honest, number, wish| {
        std::mem::swap(&mut desk.ledger, &mut honest.ledger);
        let verdict = desk.arrive(number, wish);
        std::mem::swap(&mut desk.ledger, &mut honest.ledger);
        verdict
    };
    granted(&op(&mut desk, &mut honest, 1, OLD));
    assert_eq!(op(&mut desk, &mut honest, 2, OLD), Verdict::Queued);
    let recovered = honest.ledger.recover(NOON);
    let [(_, Event::Settled(paid)), (_, Event::Interrupted(Interrupted { .. }))] = &recovered.appended[..] else {
        unreachable!("{recovered:?}");
    };
    assert_eq!((paid.bill, paid.source), (money(20), CostSource::Unknown));
    let account = honest.ledger.accounts().next().expect("run 1's").1;
    assert_eq!((account.settled, account.unknown, account.held), (money(20), money(20), money(0)));
    assert!(honest.frozen().is_empty());
}

/// A run that has ended doesn't queue, and one that is asked to end leaves the queue.
#[test]
fn who_has_ended_is_not_admitted() {
    let mut desk = Desk::new(all(150));
    granted(&desk.arrive(1, Wish { expected: Some(140), ..MODEST }));
    assert_eq!(desk.arrive(2, OLD), Verdict::Queued);
    desk.op(root(2), vec![ended(EndState::Cancelled)], Vec::new());
    desk.settle(1, 1, 0);
    assert_eq!(news(&desk.end(1)), []);
    let again = admit(None, at_once(call(2, 2, 1, 0)));
    assert_eq!(desk.op(root(2), Vec::new(), vec![Ask::Admit(again)]).verdicts, [Verdict::NotRunning]);
}
