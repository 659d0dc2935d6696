//! Alerts in the store: written with their cause, kept until they are delivered, and nothing twice.

use plimsoll::domain::alert::{Alert, AlertEntry, AlertRule, AlertState, Heard, Tried};
use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::limits::Declared;
use plimsoll::domain::policy::Share;
use plimsoll::store::Store;
use plimsoll::units::{Millis, Money};

use super::facts::*;

fn policy() -> LedgerPolicy {
    let budget = Budget {
        name: "month".into(),
        scope: Default::default(),
        each: Vec::new(),
        cap: Money::from_micro(10_000),
        period: Period::Total,
        time_zone: jiff::tz::TimeZone::UTC,
        shadow: false,
        alerts_at: vec![Share(1_000), Share(9_000)],
        declared: Declared::Default,
    };
    let on = [Heard::Finished, Heard::Price].into();
    let rule = AlertRule { name: "ends".to_owned(), on, budgets: Default::default(), labels: Default::default() };
    LedgerPolicy { budgets: vec![budget], alerts: vec![rule] }
}

fn open(bed: &Bed, clock: &plimsoll::clock::Clock) -> Store {
    match bed {
        Bed::Sled(folder) => Store::open(folder.path(), policy(), clock.clone()),
        Bed::Memory(disk) => Store::open_memory(disk, policy(), clock.clone()),
    }
    .expect("it opens")
}

fn due(store: &Store) -> Vec<AlertEntry> {
    store.alerts_due(100).expect("it reads")
}

fn kinds(entries: &[AlertEntry]) -> Vec<(u64, &str, &'static str)> {
    entries.iter().map(|entry| (entry.number, entry.to.as_str(), entry.alert.kind())).collect()
}

#[test]
fn an_alert_outlives_the_process_and_its_threshold_is_not_told_of_again() {
    for bed in Bed::both() {
        let clock = clock();
        let store = open(&bed, &clock);
        block_on(async {
            finish(&store, run_at(0, 1), "a", &[], None).await;
            // The budget's own goes into the log, since nobody hears it.
            let first = [(0, "log", "budget.threshold"), (1, "ends", "run.ended")];
            assert_eq!(kinds(&due(&store)), first);
            drop(store);
            let store = open(&bed, &clock);
            assert_eq!(kinds(&due(&store)), first, "they wait");
            finish(&store, run_at(1, 2), "a", &[], None).await;
            assert_eq!(kinds(&due(&store))[2..], [(2, "ends", "run.ended")], "12% and 24% are the same threshold");
            let Alert::Run(ended) = &due(&store)[2].alert else { unreachable!("a run's end") };
            assert_eq!((ended.run, ended.cost_usd), (run_at(1, 2), Money::from_micro(1_234)));
            store.verify().expect("all fits");
        });
    }
}

#[test]
fn tries_are_kept_with_what_they_came_to() {
    for bed in Bed::both() {
        let clock = clock();
        let store = open(&bed, &clock);
        block_on(async {
            finish(&store, run_at(0, 1), "a", &[], None).await;
            let failed = Tried::Failed { why: "it answered 500".to_owned(), wait: None };
            store.alert_tried(0, failed).await.expect("it commits");
            assert_eq!(kinds(&due(&store))[0].0, 1, "what is due later comes later");
            store.alert_tried(1, Tried::Delivered).await.expect("it commits");
            drop(store);
            let store = open(&bed, &clock);
            let waiting = due(&store);
            assert_eq!((waiting.len(), waiting[0].tries, waiting[0].next), (1, 1, clock.now().after(Millis(5_000))));
            assert_eq!(waiting[0].error.as_deref(), Some("it answered 500"));
            let gone = Tried::Refused { why: "it answered 410".to_owned() };
            store.alert_tried(0, gone).await.expect("it commits");
            store.alert_tried(77, Tried::Delivered).await.expect("nobody misses it");
            let over = store.alerts_over(10).expect("it reads");
            let states: Vec<_> = over.iter().map(|entry| (entry.number, entry.state)).collect();
            assert_eq!(states, [(1, AlertState::Delivered), (0, AlertState::Dead)], "the newest first");
            assert!(
                store.retry_alert(0).await.expect("it commits") && !store.retry_alert(77).await.expect("it commits")
            );
            assert_eq!((due(&store)[0].number, due(&store)[0].tries), (0, 0));
            // Numbers are never used twice.
            finish(&store, run_at(1, 2), "a", &[], None).await;
            assert_eq!(due(&store).last().map(|entry| entry.number), Some(2));
        });
    }
}

#[test]
fn a_bill_above_its_bound_is_told_of() {
    let (bed, clock) = (Bed::memory(), clock());
    let store = open(&bed, &clock);
    let run = run_at(0, 1);
    block_on(async {
        submit(&store, run, vec![created("a", &[], None), admitted(run)]).await;
        submit(&store, run, vec![reserved(run, 1, 1, 1, 500)]).await;
        submit(&store, run, vec![settled(run, 1, 900, "x")]).await;
        assert_eq!(kinds(&due(&store)), [(0, "ends", "price.frozen")]);
    });
}
