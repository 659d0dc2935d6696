//! What runs were worth: reports over rows say exactly what the runs' logs and the accounts say.

use std::collections::BTreeMap;

use plimsoll::domain::outcome::{Outcome, Part};
use plimsoll::domain::report::{CostTable, Days, Dimension, WorthSums};
use plimsoll::domain::rollup::Day;
use plimsoll::domain::summary::RunSummary;
use plimsoll::ids::RunId;
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::{Millis, Money, MoneyDelta};

use super::facts::*;

const TENANTS: [&str; 3] = ["acme", "zeta", "nobody"];
const DAY: u64 = 86_400_000;

fn all() -> Days {
    Days { from: Day(0), to: Day(u32::MAX) }
}

fn table(store: &Store, by: &[Dimension]) -> CostTable {
    CostTable::of(by, &store.rollups(all().from, all().to).expect("it reads"))
}

/// What the summaries of runs say, added up without any row.
fn told(runs: &[&RunSummary]) -> (u64, Money, u64, Option<Money>, Option<MoneyDelta>) {
    let outcomes: Vec<(Outcome, Money)> = runs.iter().map(|run| (run.outcome(), run.whole_cost())).collect();
    let paid: Vec<_> = outcomes.iter().filter_map(|(outcome, cost)| Some((outcome.revenue_usd?, *cost))).collect();
    let revenue: Money = paid.iter().map(|(revenue, _)| *revenue).sum();
    let margin = revenue.minus(paid.iter().map(|(_, cost)| *cost).sum());
    let units = outcomes.iter().filter_map(|(outcome, _)| outcome.units).sum();
    let cost = outcomes.iter().map(|(_, cost)| *cost).sum();
    let known = !paid.is_empty();
    (u64::try_from(runs.len()).expect("few"), cost, units, known.then_some(revenue), known.then_some(margin))
}

fn said(worth: &WorthSums) -> (u64, Money, u64, Option<Money>, Option<MoneyDelta>) {
    let units = worth.units.iter().map(|unit| unit.units).sum();
    (worth.runs, worth.runs_usd, units, worth.revenue_usd, worth.margin_usd)
}

/// One run, with retries, a late bill now and then, and what was said of it, often more than once.
async fn sail(store: &Store, dice: &mut Dice, run: RunId) {
    let tenant = TENANTS[usize::try_from(dice.roll(3)).expect("few")];
    submit(store, run, vec![created("triage", &[("tenant", tenant)], None), admitted(run)]).await;
    submit(store, run, vec![reserved(run, 1, 1, 1, 5_000), voided(run, 1), reserved(run, 2, 1, 2, 5_000)]).await;
    let is_late = dice.roll(4) == 0;
    let bill = settled(run, 2, dice.roll(5_000), "x");
    let end = if is_late { vec![released(run), ended(), bill] } else { vec![bill, released(run), ended()] };
    submit(store, run, end).await;
    for _ in 0..dice.roll(4) {
        let maybe = |dice: &mut Dice, most: u64| (dice.roll(3) > 0).then(|| dice.roll(most));
        let (units, quality, revenue) = (maybe(dice, 3), maybe(dice, 10_001), maybe(dice, 20_000));
        let unknown = if revenue.is_none() && dice.roll(2) == 0 { vec![Part::Revenue] } else { vec![] };
        submit(store, run, vec![worth(units, quality, revenue, &unknown)]).await;
    }
}

#[test]
fn reports_say_what_the_logs_and_the_accounts_say() {
    for seed in 0..count("PLIMSOLL_WORTH_CASES", 6) {
        let mut dice = Dice(seed);
        let (bed, clock) = (Bed::memory(), clock());
        let mut store = bed.open(&clock);
        for number in 0..30 {
            block_on(sail(&store, &mut dice, run_at(number, number)));
            clock.advance(Millis(dice.roll(DAY / 3)));
            if dice.roll(10) == 0 {
                drop(store);
                store = bed.open(&clock);
            }
        }
        let runs = store.summaries(&RunFilter::default()).expect("it reads");
        let accounts: Money = store.accounts().expect("it reads").iter().map(|(_, account)| account.settled).sum();
        let mut expected: BTreeMap<Vec<Option<String>>, Vec<&RunSummary>> = BTreeMap::new();
        for run in &runs {
            let day = Day::of(run.ended.expect("it ended")).to_string();
            let key = vec![run.labels.get("tenant").cloned(), Some(day)];
            expected.entry(key).or_default().push(run);
        }
        let table = table(&store, &[Dimension::Tenant, Dimension::Day]);
        assert_eq!(table.total.settled_usd, accounts, "seed {seed}: what the accounts say");
        let found: BTreeMap<_, _> = table
            .rows
            .iter()
            .filter_map(|row| {
                let key: Vec<_> = row.values.0.iter().map(|(_, value)| value.clone()).collect();
                Some((key, said(row.sums.worth.as_ref()?)))
            })
            .collect();
        let expected: BTreeMap<_, _> = expected.iter().map(|(key, runs)| (key.clone(), told(runs))).collect();
        assert_eq!(found, expected, "seed {seed}");
        let whole: Vec<&RunSummary> = runs.iter().collect();
        assert_eq!(said(table.total.worth.as_ref().expect("runs")), told(&whole), "seed {seed}");
        store.verify().expect("all fits");
    }
}

#[test]
fn cost_for_a_unit_counts_the_runs_that_gave_none() {
    let (bed, clock) = (Bed::memory(), clock());
    let store = bed.open(&clock);
    block_on(async {
        for (number, units) in [(1, Some(1)), (2, Some(0)), (3, None)] {
            let run = run_at(number, number);
            finish(&store, run, "triage", &[], None).await;
            if let Some(units) = units {
                submit(&store, run, vec![worth(Some(units), Some(5_000 * number), None, &[])]).await;
            }
        }
    });
    let total = table(&store, &[Dimension::Agent]).total;
    let worth = total.worth.expect("runs");
    let unit = worth.only_unit().expect("one kind");
    assert_eq!((unit.unit.as_str(), unit.units, unit.giving_runs, unit.unsaid_runs), ("resolved_case", 1, 1, 1));
    assert_eq!(
        (unit.unit_usd, unit.resolved_unit_usd),
        (Some(Money::from_micro(1_234)), Some(Money::from_micro(3_702)))
    );
    let quality = &worth.quality[0];
    assert_eq!((quality.runs, quality.average.to_string().as_str()), (2, "0.75"));
    assert_eq!((quality.p50.to_string().as_str(), quality.p95.to_string().as_str()), ("1", "0.5"));
    assert_eq!((worth.revenue_usd, worth.margin_usd), (None, None), "nobody said it");
    assert_eq!(total.latency_p50_ms, Some(Millis(831)), "812, within a 16th");
}
