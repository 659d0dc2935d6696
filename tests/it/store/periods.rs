//! Budgets of many periods, and of others than they have now.

use std::collections::BTreeMap;

use plimsoll::api::Books;
use plimsoll::clock::Clock;
use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{AccountKey, Admitted, Event, Landing};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::limits::Declared;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::units::{Millis, Money, Timestamp};

use super::facts::*;

const DAY: u64 = 86_400_000;

fn budget(name: &str, period: Period, each: &[&str]) -> Budget {
    Budget {
        name: name.into(),
        scope: BTreeMap::new(),
        each: each.iter().map(|label| (*label).to_owned()).collect(),
        cap: Money::from_micro(9_000_000),
        period,
        time_zone: jiff::tz::TimeZone::UTC,
        shadow: false,
        alerts_at: Vec::new(),
        declared: Declared::Default,
    }
}

fn admitted_on(run: RunId, budgets: Vec<AccountKey>) -> Event {
    let landing = Landing { reservation: ReservationId { run, number: 0 }, amount: Money::from_micro(LANDING) };
    Event::Admitted(Admitted { budgets, landing: Some(landing) })
}

/// A day before the first of a month, so that days and months begin together.
const LAST_OF_NOVEMBER: Timestamp = Timestamp(1_795_996_800_000);

/// Of one the periods were days before, and are months now; it only watches, and would have refused from the first.
fn budgets(is_before: bool) -> [Budget; 4] {
    let period = if is_before { Period::Day } else { Period::Month };
    let was_day = Budget { cap: Money::from_micro(1), shadow: true, ..budget("was-day", period, &["tenant"]) };
    [
        budget("day", Period::Day, &["tenant"]),
        was_day,
        budget("all", Period::Total, &[]),
        budget("unused", Period::Month, &[]),
    ]
}

/// What is spent is known over restarts, whatever the periods were before, and what counts now is found among all that did.
#[test]
fn a_budget_whose_periods_are_changed_forgets_nothing() {
    for (seed, bed) in (0..8).flat_map(|seed| Bed::both().map(|bed| (seed, bed))) {
        let (mut dice, clock) = (Dice(seed), Clock::virtual_at(if seed % 2 == 0 { LAST_OF_NOVEMBER } else { START }));
        let open = |is_before| {
            let policy = LedgerPolicy { budgets: budgets(is_before).to_vec(), ..LedgerPolicy::default() };
            bed.open_by(policy, &clock).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
        };
        let mut store = open(true);
        for number in 0..30 {
            let is_before = number < 12;
            if number == 12 || dice.roll(4) == 0 {
                drop(store);
                store = open(is_before);
            }
            let labels = BTreeMap::from([("tenant".to_owned(), format!("t{}", dice.roll(3)))]);
            let keys = budgets(is_before).map(|budget| budget.account(&labels, clock.now()).expect("a label"));
            let run = run_at(number, number);
            block_on(async {
                submit(&store, run, vec![created("triage", &[], None)]).await;
                let keys = keys.into_iter().take(3).flatten().collect();
                submit(&store, run, vec![admitted_on(run, keys), reserved(run, 1, 1, 1, 5_000)]).await;
                submit(&store, run, vec![settled(run, 1, dice.roll(5_000), "x"), released(run), ended()]).await;
            });
            clock.advance(Millis(dice.roll(DAY / 3)));
        }
        store.verify().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let now = budgets(false);
        let books = Books::new(store, &now, clock.clone());
        let mut whole = books.budgets().expect("it reads");
        // Days of one that counts by months no longer hold anything up.
        let (start, end) = Period::Month.window(&jiff::tz::TimeZone::UTC, clock.now());
        whole
            .budgets
            .retain(|row| row.current && (row.budget.as_str() != "was-day" || (row.start, row.end) == (start, end)));
        assert_eq!(books.budgets_now().expect("it reads"), whole, "seed {seed}");
        assert!(whole.budgets.iter().any(|row| row.budget.as_str() == "unused"), "seed {seed}");
        let refused =
            whole.budgets.iter().filter_map(|row| row.shadow.as_ref()).map(|shadow| shadow.refused).sum::<u64>();
        assert!(refused > 0, "seed {seed}");
    }
}
