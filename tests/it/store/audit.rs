//! The audit log: what froze a price and who let it go again, in the same write as the change.

use std::ops::ControlFlow;

use plimsoll::domain::audit::{Act, AuditEntry, Author, Change};
use plimsoll::domain::pricing::PriceBook;
use plimsoll::domain::terms::{BudgetTerms, Terms};
use plimsoll::ids::PriceId;
use plimsoll::spec::load::{LoadOptions, load_configuration};
use plimsoll::store::Store;
use plimsoll::units::{Millis, Money};

use super::facts::*;

const PRICE: &str = "openai/gpt-5-mini@2026-11-23#3f2a90c1";

fn entries(store: &Store) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    store.audit(&mut |entry| entries.push(entry)).expect("it reads");
    entries
}

fn act(reason: &str) -> Act {
    Act::new("ann", reason).expect("an act")
}

/// Two calls whose bills are above what was reserved.
async fn overrun(store: &Store, number: u64) {
    let run = run_at(number, 1);
    submit(store, run, vec![created("a", &[], None), admitted(run)]).await;
    submit(store, run, vec![reserved(run, 1, 1, 1, 1_000), reserved(run, 2, 1, 2, 2_000)]).await;
    submit(store, run, vec![settled(run, 1, 1_500, "x")]).await;
    submit(store, run, vec![settled(run, 2, 9_000, "y"), released(run), ended()]).await;
}

#[test]
fn freezes_and_unfreezes_are_kept_with_who_when_and_why() {
    for bed in Bed::both() {
        let clock = clock();
        let store = bed.open(&clock);
        let price = PriceId::from(PRICE);
        block_on(async {
            store.unfreeze(price.clone(), act("nothing to lift")).await.expect("it commits");
            assert!(entries(&store).is_empty(), "of a row that isn't frozen nothing is written");
            let began = clock.now();
            overrun(&store, 0).await;
            assert_eq!(store.freezes().expect("it reads")[0].1.count, 2);
            drop(store);
            clock.advance(Millis(5_000));
            // All of it outlives the process.
            let store = bed.open(&clock);
            let (row, freeze) = store.freezes().expect("it reads").pop().expect("it is frozen");
            assert_eq!((row, freeze.since, freeze.count), (price.clone(), Some(began), 2));
            assert_eq!(freeze.overruns[0].reservation.run, run_at(0, 1));
            assert_eq!(
                (freeze.overruns[1].reserved_usd, freeze.overruns[1].billed_usd),
                (Money::from_micro(2_000), Money::from_micro(9_000))
            );
            store.verify().expect("all fits");
            store.unfreeze(price.clone(), act("they mended it")).await.expect("it commits");
            store.unfreeze(price.clone(), act("twice")).await.expect("it commits");
            drop(store);
            let store = bed.open(&clock);
            assert!(store.frozen().expect("it reads").is_empty());
            assert!(store.freezes().expect("it reads").is_empty());
            let all = entries(&store);
            assert_eq!(all.iter().map(|entry| entry.number).collect::<Vec<_>>(), [0, 1, 2]);
            assert!(matches!(all[0].by, Author::Ledger));
            let Change::PriceUnfrozen(unfrozen) = &all[2].change else { unreachable!("it was lifted last: {all:?}") };
            assert_eq!((&all[2].by, all[2].at), (&Author::Person("ann".to_owned()), clock.now()));
            assert_eq!((unfrozen.reason.as_str(), &unfrozen.freeze), ("they mended it", &freeze));
            // The next freeze begins anew, and the log goes on.
            overrun(&store, 1).await;
            let again = store.freezes().expect("it reads").pop().expect("it is frozen").1;
            assert_eq!((again.since, again.count), (Some(clock.now()), 2));
            assert_eq!(entries(&store).len(), 5);
            store.verify().expect("all fits");
        });
    }
}

/// What files declare is noted where it is another than the log knows, in one entry for each budget and one for the prices.
#[test]
fn what_files_declare_is_noted_once_and_read_newest_first() {
    for bed in Bed::both() {
        let clock = clock();
        let declared = |cap: u64, prices: &str| {
            let text =
                format!("[[budgets]]\nname = 'month'\ncap = '${cap}'\nper = 'month'\ntime_zone = 'UTC'\n{prices}");
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join("plimsoll.toml"), text).expect("it is written");
            let project = load_configuration(folder.path(), &LoadOptions::default()).expect("it loads");
            Terms::declared(&project.budgets, &project.prices, PriceBook::builtin())
        };
        let price = "[[prices]]\nmodel = 'local/qwen'\ninput = '1'\noutput = '2'\n";
        let ann = Author::Files("ann".to_owned());
        block_on(async {
            let steps = [(declared(5, ""), 2), (declared(5, ""), 2), (declared(6, price), 4), (declared(6, ""), 5)];
            for (terms, count) in steps {
                let store = bed.open(&clock);
                store.declare(ann.clone(), &terms).expect("it is noted");
                // Whatever is written next comes behind it.
                store.unfreeze(PriceId::from(PRICE), act("nothing to lift")).await.expect("it commits");
                assert_eq!(entries(&store).len(), count);
            }
            let store = bed.open(&clock);
            let mut seen = Vec::new();
            let mut read = |entry: AuditEntry| {
                seen.push((entry.number, entry.change.kind()));
                if seen.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            store.audit_before(Some(4), &mut read).expect("it reads");
            assert_eq!(seen, [(3, "prices_changed"), (2, "budget_changed"), (1, "prices_changed")]);
            let Change::BudgetChanged(changed) = &entries(&store)[2].change else { unreachable!("a budget") };
            let cap = |terms: &Option<BudgetTerms>| terms.as_ref().map(|terms| terms.cap);
            let dollars = |dollars: u64| Some(Money::from_micro(dollars * 1_000_000));
            assert_eq!((cap(&changed.before), cap(&changed.after)), (dollars(5), dollars(6)));
            assert_eq!(entries(&store)[2].by, ann);
        });
    }
}
