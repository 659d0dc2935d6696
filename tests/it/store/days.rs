//! Money by the day, as FOCUS tells it: what the rollups say, on whatever days its runs were made and ended.

use std::collections::BTreeMap;

use plimsoll::api::{Books, ExportQuery, Exported};
use plimsoll::domain::report::focus::FocusVersion;
use plimsoll::domain::rollup::Day;
use plimsoll::ids::RunId;
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::{Millis, Money};

use super::facts::*;

const DAY: u64 = 86_400_000;

/// Runs that go on for days; some never end.
fn sail(store: &Store, dice: &mut Dice, clock: &plimsoll::clock::Clock) {
    let mut open: Vec<(RunId, u32)> = Vec::new();
    for number in 0..60 {
        let place = usize::try_from(dice.roll(4)).expect("few");
        block_on(async {
            if let Some((run, next)) = open.get(place).copied() {
                submit(store, run, vec![reserved(run, next, next, 1, 5_000)]).await;
                clock.advance(Millis(dice.roll(DAY / 8)));
                submit(store, run, vec![settled(run, next, 1 + dice.roll(4_000), "x")]).await;
                open[place].1 += 1;
                if dice.roll(4) == 0 {
                    submit(store, run, vec![released(run), ended()]).await;
                    open.remove(place);
                }
            } else {
                let run = run_at(clock.now().0 - START.0, number);
                submit(store, run, vec![created("triage", &[], None), admitted(run)]).await;
                open.push((run, 1));
            }
        });
        clock.advance(Millis(dice.roll(DAY / 4)));
    }
}

#[test]
fn each_day_has_all_that_was_reserved_on_it_and_nothing_else() {
    for seed in 0..6 {
        let (mut dice, clock, bed) = (Dice(seed), clock(), Bed::memory());
        let store = bed.open(&clock);
        sail(&store, &mut dice, &clock);
        let mut expected: BTreeMap<String, Money> = BTreeMap::new();
        for ((day, _), rollup) in store.rollups(Day(0), Day(u32::MAX)).expect("it reads") {
            let sum = expected.entry(format!("{day}T00:00:00Z")).or_default();
            *sum = sum.plus(rollup.settled);
        }
        expected.retain(|_, sum| !sum.is_zero());
        let books = Books::new(store, &[], clock);
        let (mut found, mut after, mut pages) = (BTreeMap::<String, Money>::new(), None, 0);
        loop {
            let exported = Exported::FocusDaily(FocusVersion::V1_2);
            let query = ExportQuery { exported, filter: RunFilter::default(), run: None, after };
            let page = books.export(&query).expect("it reads");
            let text = String::from_utf8(page.text).expect("text");
            for line in text.lines().filter(|line| !line.starts_with("BilledCost")) {
                // Nothing before these two has a comma in it.
                let field = |number: usize| line.split(',').nth(number).expect("a field");
                let sum = found.entry(field(11).to_owned()).or_default();
                *sum = sum.plus(Money::parse(field(0)).expect("an amount"));
            }
            (after, pages) = (page.next, pages + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "seed {seed}");
        assert!(pages > 5, "seed {seed}: {pages}");
    }
}
