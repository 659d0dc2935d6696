//! One row for each refusal and each rule with numbers in it: state, command, what the ledger must say.
//! Admission has its own rows in `admission.rs`.

use plimsoll::domain::budget::Period;
use plimsoll::domain::event::{AccountKey, CancelRequested, CostSource, Event, Purpose, WaitEnd};
use plimsoll::domain::ledger::{Ask, LedgerPolicy, Lower, ReserveAsk, Verdict};
use plimsoll::domain::limits::{Declared, LimitKind};
use plimsoll::units::{Money, Timestamp, TokenPrice};

use super::desk::{Desk, MODEST, NOON, Wish, call, granted, limit, news, root, short, verdict};
use super::vocabulary::{DAY, at_once, budget, ended, id, lower, money, output_of, patient, price, reserved, settled};

fn all(cap: u64) -> Vec<plimsoll::domain::budget::Budget> {
    vec![budget("all", cap, Period::Total, &[], &[])]
}

/// Rule 1: equal is allowed, one more isn't, and a refusal holds nothing anywhere.
#[test]
fn a_cap_may_be_met_and_not_passed() {
    let mut desk = Desk::new(vec![
        budget("wide", 1_000, Period::Total, &[], &[]),
        budget("narrow", 100, Period::Total, &[], &["tenant"]),
    ]);
    desk.arrive(1, MODEST);
    let over = desk.reserve(root(1), at_once(call(1, 2, 71, 0)));
    let refused = short(&over);
    assert_eq!((refused.cap, refused.held, refused.asked), (money(100), money(30), money(71)));
    assert_eq!(refused.account.to_string(), "budget narrow (tenant=acme)");
    assert!(refused.own_tree, "the first call is still in flight");
    assert_eq!((desk.budget("wide"), desk.budget("narrow"), desk.node(root(1))), ((0, 30), (0, 30), (0, 30)));
    granted(&desk.reserve(root(1), at_once(call(1, 3, 70, 0))));
    assert_eq!((desk.budget("wide"), desk.budget("narrow"), desk.node(root(1))), ((0, 100), (0, 100), (0, 100)));
}

/// Rule 3: a bill above R is booked in full and freezes the price; an account above its cap places nothing more, but for
/// what doesn't grow.
#[test]
fn an_overrun_is_booked_and_freezes_its_price() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 95);
    assert_eq!(desk.budget("all"), (95, 10));
    assert_eq!(desk.ledger.frozen().map(|(price, _)| price.clone()).collect::<Vec<_>>(), [price(0)]);
    let landing = || at_once(reserved(id(root(1), 2), money(10), Purpose::Landing, Money::ZERO));
    assert_eq!(limit(&desk.reserve(root(1), landing())), LimitKind::FrozenPrice, "landing isn't spared");
    let both = [2, 3].map(|attempt| Ask::Reserve(Box::new(at_once(call(1, attempt, 1, 0)))));
    let verdicts = desk.op(root(1), vec![], both.into()).verdicts;
    assert!(matches!(&verdicts[..], [Verdict::Frozen(_), Verdict::Behind]), "no gap in a log's numbers: {verdicts:?}");
    assert!(desk.ledger.unfreeze(&price(0)));
    assert_eq!(short(&desk.reserve(root(1), at_once(call(1, 3, 1, 0)))).asked, money(1));
    granted(&desk.reserve(root(1), landing()));
    assert_eq!(desk.budget("all"), (95, 10), "105 of 100, and `held` didn't grow");
}

/// Rule 2: settling twice equals once, for the run too.
#[test]
fn settling_twice_equals_once() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 5);
    desk.settle(1, 1, 5);
    assert_eq!((desk.budget("all"), desk.node(root(1))), ((5, 10), (5, 10)));
}

/// Rule 6: L is raised with a reservation where the money is there, else it stays.
#[test]
fn the_landing_reserve_is_raised_if_it_fits() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 20);
    let raised = desk.reserve(root(1), at_once(call(1, 2, 30, 50)));
    assert_eq!(granted(&raised).landing, money(50), "20 + 50 + 30 = 100");
    let paid = settled(id(root(1), 2), money(10), CostSource::Reported);
    let kept = verdict(desk.op(root(1), vec![paid], vec![Ask::Reserve(Box::new(at_once(call(1, 3, 20, 51))))]));
    assert_eq!(granted(&kept).landing, money(50), "30 + 51 + 20 = 101");
    assert_eq!(desk.budget("all"), (30, 70));
}

/// Rule 9d: as many tokens fewer as the room needs, and not one more.
#[test]
fn output_is_lowered_to_the_edge_of_the_room() {
    for (cap, amount, output) in [(50, 20, 10), (49, 19, 9), (42, 12, 2)] {
        let mut desk = Desk::new(all(cap));
        desk.arrive(1, MODEST);
        desk.settle(1, 1, 20);
        let ask = ReserveAsk { lower: Some(lower()), ..at_once(call(1, 2, 20, 0)) };
        let lowered = desk.reserve(root(1), ask);
        let lowered = granted(&lowered);
        assert_eq!((lowered.amount, output_of(lowered)), (money(amount), output));
        assert_eq!(desk.budget("all"), (20, 10 + amount));
    }
    let mut desk = Desk::new(all(41));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 20);
    let ask = ReserveAsk { lower: Some(lower()), ..at_once(call(1, 2, 20, 0)) };
    assert_eq!(short(&desk.reserve(root(1), ask)).asked, money(20), "the fewest tokens would need 12 of 11");
    // Tokens of three pico-dollars: 1 is missing, and one token less frees 3.
    let mut desk = Desk::new(all(49));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 0);
    let rate = Lower { rate: TokenPrice::from_pico(3), output_min: 2 };
    let coarse = desk.reserve(root(1), ReserveAsk { lower: Some(rate), ..at_once(call(1, 2, 40, 0)) });
    assert_eq!((granted(&coarse).amount, output_of(granted(&coarse))), (money(37), 9));
}

/// Rules 11 and 12: the landing call stays inside L; the last call grows by R − L or shrinks.
#[test]
fn the_last_call_takes_the_reserves_place() {
    let last = |amount| at_once(reserved(id(root(1), 2), money(amount), Purpose::Last, Money::ZERO));
    for (amount, held) in [(4, 4), (10, 10), (80, 80)] {
        let mut desk = Desk::new(all(100));
        desk.arrive(1, MODEST);
        desk.settle(1, 1, 20);
        assert_eq!(granted(&desk.reserve(root(1), last(amount))).landing, Money::ZERO);
        assert_eq!(desk.budget("all"), (20, held));
    }
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 20);
    let refused = desk.reserve(root(1), last(81));
    assert_eq!(short(&refused).asked, money(71), "81 in the place of 10");
    assert_eq!(desk.budget("all"), (20, 10), "a refusal keeps the reserve");
    let lowered = desk.reserve(root(1), ReserveAsk { lower: Some(lower()), ..last(81) });
    assert_eq!((granted(&lowered).amount, output_of(granted(&lowered))), (money(80), 9));
}

/// What a landing smaller than its reserve frees is offered in the same write.
#[test]
fn a_small_landing_wakes_who_waits() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, Wish { landing: 40, ..MODEST });
    desk.settle(1, 1, 20);
    desk.arrive(2, MODEST);
    desk.settle(2, 1, 0);
    assert_eq!(desk.patiently(2, 2, 35), Verdict::Waiting, "20 + 50 + 35 = 105");
    let landing = at_once(reserved(id(root(1), 2), money(35), Purpose::Landing, Money::ZERO));
    let decision = desk.op(root(1), Vec::new(), vec![Ask::Reserve(Box::new(landing))]);
    assert_eq!(news(&decision), [(2, "granted")]);
    assert_eq!(desk.budget("all"), (20, 80));
}

/// Rule 9a: attempts of the own tree hold money there, so the tree queues; on a child's own account it ends.
#[test]
fn a_tree_queues_in_itself() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    let child = desk.child(1, root(1), root(1), 15);
    assert!(short(&desk.patiently(1, 2, 71)).own_tree);
    let own = desk.reserve(root(1), patient(reserved(id(child, 0), money(16), Purpose::Turn, Money::ZERO), NOON.0 + 1));
    let refused = short(&own);
    assert_eq!((refused.account.clone(), refused.own_tree), (AccountKey::Node { run: child, stage: None }, false));
    let refusal = refused.refusal(Declared::Default);
    assert_eq!((refusal.limit, refusal.value.as_str()), (LimitKind::Cost, "$0.000000000015"));
}

/// A child counts in every ancestor once, and its last call isn't the run's. (pitfall 4, as far as money goes)
#[test]
fn a_child_counts_in_every_ancestor() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 20);
    let child = desk.child(1, root(1), root(1), 50);
    let below = desk.child(2, child, root(1), 50);
    let last = reserved(id(below, 0), money(30), Purpose::Last, money(10));
    assert_eq!(granted(&desk.reserve(root(1), at_once(last))).landing, money(10));
    assert_eq!((desk.node(below), desk.node(child), desk.node(root(1))), ((0, 30), (0, 30), (20, 40)));
    desk.op(below, vec![settled(id(below, 0), money(7), CostSource::Reported)], Vec::new());
    assert_eq!((desk.node(below), desk.node(child), desk.node(root(1))), ((7, 0), (7, 0), (27, 10)));
    assert_eq!(desk.budget("all"), (27, 10));
    let over = reserved(id(child, 0), money(44), Purpose::Turn, Money::ZERO);
    assert_eq!(short(&desk.reserve(root(1), at_once(over))).cap, money(50), "its child's 7 count in its 50");
}

/// Three runs with 10 each to land; the caller fills the rest.
fn three(cap: u64) -> Desk {
    let mut desk = Desk::new(all(cap));
    for number in 1..=3 {
        granted(&desk.arrive(number, MODEST));
    }
    desk
}

/// Rules 3 and 9b: the oldest run that fits; one that doesn't is passed over; an older asker goes first.
#[test]
fn freed_money_goes_to_the_oldest_that_fits() {
    let mut desk = three(90);
    desk.settle(2, 1, 0);
    desk.settle(3, 1, 0);
    assert_eq!(desk.patiently(3, 2, 41), Verdict::Waiting);
    assert_eq!(desk.patiently(2, 2, 70), Verdict::Waiting);
    let decision = desk.settle(1, 1, 10);
    assert_eq!(news(&decision), [(3, "granted")], "10 + 30 + 41 fits, 10 + 30 + 70 doesn't");

    let mut desk = three(90);
    desk.settle(2, 1, 0);
    desk.settle(3, 1, 0);
    assert_eq!(desk.patiently(3, 2, 45), Verdict::Waiting);
    assert_eq!(desk.patiently(2, 2, 45), Verdict::Waiting);
    assert_eq!(news(&desk.settle(1, 1, 10)), [(2, "granted")], "the younger one has waited longer");

    let mut desk = three(90);
    desk.settle(2, 1, 0);
    assert_eq!(desk.patiently(2, 2, 45), Verdict::Waiting);
    let paid = |number| vec![settled(id(root(number), 1), money(5), CostSource::Reported)];
    let ask = |number| vec![Ask::Reserve(Box::new(patient(call(number, 2, 30, 0), NOON.0 + 30_000)))];
    let older = desk.op(root(1), paid(1), ask(1));
    granted(&older.verdicts[0]);
    assert!(older.notices.is_empty(), "5 + 30 + 20 + 30 + 45 is too much: the older asker has it");

    let mut desk = three(90);
    desk.settle(2, 1, 0);
    assert_eq!(desk.patiently(2, 2, 35), Verdict::Waiting, "30 + 40 + 35 = 105");
    let younger = desk.op(root(3), paid(3), ask(3));
    assert_eq!((news(&younger), &younger.verdicts[0]), (vec![(2, "granted")], &Verdict::Waiting));
}

/// Rule 10: all who hold money on the short account wait, so the youngest of them goes on.
#[test]
fn the_youngest_goes_on_in_a_stall() {
    let mut desk = three(90);
    (1..=3).for_each(|number| drop(desk.settle(number, 1, 18)));
    assert_eq!(desk.budget("all"), (54, 30));
    assert_eq!(desk.patiently(2, 2, 20), Verdict::Waiting);
    assert_eq!(desk.patiently(3, 2, 20), Verdict::Waiting);
    let decision = desk.op(root(1), Vec::new(), vec![Ask::Reserve(Box::new(patient(call(1, 2, 20, 0), NOON.0 + 9)))]);
    assert_eq!((news(&decision), &decision.verdicts[0]), (vec![(3, "stalled")], &Verdict::Waiting));
    assert_eq!(news(&desk.end(3)), [(2, "stalled")], "54 + 20 + 20 = 94 still doesn't fit");
    assert_eq!(news(&desk.end(2)), [(1, "granted")], "54 + 10 + 20 = 84 does");
}

/// Nobody else can free money there: no wait, though one is offered.
#[test]
fn nobody_waits_for_nobody() {
    let mut desk = Desk::new(all(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 20);
    assert!(!short(&desk.patiently(1, 2, 71)).own_tree);
    let mut desk = Desk::new(vec![
        budget("all", 100, Period::Total, &[], &[]),
        budget("each", 60, Period::Total, &[], &["tenant"]),
    ]);
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 20);
    desk.arrive(2, Wish { tenant: "bolt", first: 40, ..MODEST });
    let dead = desk.patiently(1, 2, 31);
    assert_eq!(short(&dead).account.to_string(), "budget each (tenant=acme)", "the other account may yet be freed");
}

/// Who isn't admitted, has ended or was asked to end places nothing.
#[test]
fn only_running_trees_place_money() {
    let mut desk = Desk::new(all(100));
    let ask = || at_once(call(1, 2, 1, 0));
    assert_eq!(desk.reserve(root(1), ask()), Verdict::NotRunning, "unknown");
    desk.arrive(1, MODEST);
    let child = desk.child(1, root(1), root(1), 50);
    let below = || at_once(reserved(id(child, 0), money(1), Purpose::Turn, money(10)));
    desk.op(child, vec![ended(plimsoll::domain::event::EndState::Finished)], Vec::new());
    assert_eq!(desk.reserve(root(1), below()), Verdict::NotRunning, "its child has ended");
    desk.op(root(1), vec![Event::CancelRequested(CancelRequested { reason: String::new() })], Vec::new());
    assert_eq!(desk.reserve(root(1), ask()), Verdict::NotRunning, "asked to end");
    desk.end(1);
    assert_eq!(desk.reserve(root(1), ask()), Verdict::NotRunning, "ended, with a call in flight");
    desk.settle(1, 1, 1);
    assert_eq!(desk.reserve(root(1), ask()), Verdict::NotRunning, "forgotten");
    assert_eq!(desk.budget("all"), (1, 0));
}

/// A wait ends by its run, by a cancel, or by a freeze; a tree waits once.
#[test]
fn waits_end_for_a_reason() {
    let mut desk = three(90);
    desk.settle(2, 1, 0);
    let end = |why| vec![Ask::EndWait(why)];
    assert_eq!(verdict(desk.op(root(2), Vec::new(), end(WaitEnd::Expired))), Verdict::NotWaiting);
    assert_eq!(desk.patiently(2, 2, 70), Verdict::Waiting);
    assert!(short(&desk.patiently(2, 3, 1)).own_tree, "nobody waits while holding money for an attempt");
    assert_eq!(verdict(desk.op(root(2), Vec::new(), end(WaitEnd::Expired))), Verdict::WaitEnded);

    assert_eq!(desk.patiently(2, 4, 70), Verdict::Waiting);
    let cancel = Event::CancelRequested(CancelRequested { reason: String::new() });
    let paid = settled(id(root(2), 9), money(0), CostSource::Reported);
    let decision = desk.op(root(2), vec![cancel, paid], Vec::new());
    let cancelled = |event: &Event| matches!(event, Event::WaitEnded(ended) if ended.why == WaitEnd::Cancelled);
    assert!(decision.appended.iter().any(|(_, event)| cancelled(event)));

    desk.settle(3, 1, 0);
    assert_eq!(desk.patiently(3, 2, 70), Verdict::Waiting);
    assert_eq!(news(&desk.settle(1, 1, 21)), [(3, "stalled")], "its price is frozen: it asks again, and is told");
    assert_eq!(limit(&desk.patiently(3, 2, 1)), LimitKind::FrozenPrice);
}

fn daily(cap: u64) -> Vec<plimsoll::domain::budget::Budget> {
    vec![budget("day", cap, Period::Day, &[], &[])]
}

/// Rule 14: the first placement in a new period moves L; a refusal keeps it, and the run lands on the old one.
#[test]
fn a_new_period_moves_the_reserve() {
    let mut desk = Desk::new(daily(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 15);
    desk.now = Timestamp(11 * DAY);
    let refused = desk.reserve(root(1), at_once(call(1, 2, 91, 0)));
    assert_eq!(short(&refused).asked, money(101), "R and L on the new day");
    assert_eq!(desk.budget("day"), (15, 10), "the old day keeps L");
    let moved = desk.reserve(root(1), at_once(call(1, 3, 90, 12)));
    assert_eq!(granted(&moved).landing, money(10), "no room for the raise");
    assert_eq!(granted(&moved).budgets.as_ref().map(Vec::len), Some(1));
    assert_eq!(desk.budget("day"), (0, 100));
    let old = desk.ledger.accounts().find(|(key, _)| matches!(key, AccountKey::Budget { .. })).expect("yesterday");
    assert_eq!(super::desk::sums(old.1), (15, 0));
    desk.now = NOON;
    desk.settle(1, 3, 50);
    granted(&desk.reserve(root(1), at_once(call(1, 4, 40, 0))));
    assert_eq!(desk.budget("day"), (50, 50), "a clock that steps back reopens nothing");
}

#[test]
fn a_run_lands_on_the_reserve_of_the_old_period() {
    let mut desk = Desk::new(daily(100));
    desk.arrive(1, MODEST);
    desk.settle(1, 1, 15);
    desk.now = Timestamp(11 * DAY);
    let landing = at_once(reserved(id(root(1), 2), money(9), Purpose::Landing, Money::ZERO));
    assert_eq!(granted(&desk.reserve(root(1), landing)).budgets, None);
    assert_eq!(desk.budget("day"), (15, 9));
}

/// A raised cap and a new period wake those who wait; a period that begins inside an op does so too.
#[test]
fn new_room_wakes_who_waits() {
    let waiting = |budgets| {
        let mut desk = Desk::new(budgets);
        desk.arrive(1, MODEST);
        desk.arrive(2, MODEST);
        desk.settle(2, 1, 0);
        assert_eq!(desk.patiently(2, 2, 65), Verdict::Waiting, "30 + 10 + 65 = 105");
        desk
    };
    let mut desk = waiting(daily(100));
    assert_eq!(
        news(&desk.ledger.set_policy(LedgerPolicy { budgets: daily(105), alerts: Vec::new() }, NOON)),
        [(2, "granted")]
    );
    let mut desk = waiting(daily(100));
    assert_eq!(desk.ledger.next_period(), Some(Timestamp(11 * DAY)));
    assert_eq!(news(&desk.ledger.tick(Timestamp(11 * DAY))), [(2, "granted")]);
    let mut desk = waiting(daily(100));
    desk.now = Timestamp(11 * DAY);
    assert_eq!(news(&desk.op(root(1), Vec::new(), Vec::new())), [(2, "granted")]);
}
