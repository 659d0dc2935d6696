//! Trees of runs: one write over several logs, what a restart makes of them, and what the audit finds.

use std::collections::BTreeSet;

use plimsoll::domain::event::{
    AccountKey, Admitted, AskKind, ChildBegan, ChildEnded, Created, EndState, Ended, Event, Parent, Parked,
    PeriodMoved, PersonAnswered, PersonAsked, Place, RunState, Spent, ThreadLink,
};
use plimsoll::domain::ledger::Op;
use plimsoll::domain::rollup::Day;
use plimsoll::ids::RunId;
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::{Millis, Money, Timestamp};

use super::facts::*;

/// What a tree's runs are called here: a root, its child, and the child's own.
struct Tree {
    root: RunId,
    child: RunId,
    leaf: RunId,
}

/// A tree whose youngest run has the smallest id: ids of one millisecond are in no order.
const TREE: fn(u64) -> Tree = |ms| Tree { root: run_at(ms, 3), child: run_at(ms, 2), leaf: run_at(ms, 1) };

impl Tree {
    /// The root, in the middle of its work.
    async fn start(&self, store: &Store) {
        let thread = Some(ThreadLink { id: "ticket-7".to_owned(), after: None });
        let root = with(created("triage", &[("tenant", "acme")], None), |created| {
            created.stage_caps = [("resolve".into(), Money::from_micro(60_000))].into();
            created.thread = thread;
        });
        submit(store, self.root, vec![root, admitted(self.root), reserved(self.root, 1, 1, 1, 5_000)]).await;
        self.begin(store, self.root, self.child, "resolve", "clerk").await;
        self.begin(store, self.child, self.leaf, "main", "search").await;
    }

    /// `above` calls `below`, whose first call is in flight at once: all in one write.
    async fn begin(&self, store: &Store, above: RunId, below: RunId, stage: &str, agent: &str) {
        let began = ChildBegan { child: below, agent: agent.into(), place: Place::stage(stage.into()), call: None };
        let parent = Parent { root: self.root, run: above, stage: stage.into() };
        let created = with(created(agent, &[("tenant", "acme")], None), |created| {
            created.parent = Some(parent);
            created.stage_caps = [("main".into(), Money::from_micro(50_000))].into();
        });
        let admitted = Event::Admitted(Admitted { budgets: vec![], landing: None });
        let events = vec![
            (above, Event::ChildBegan(began)),
            (below, created),
            (below, admitted),
            (below, reserved(below, 0, 1, 1, 4_000)),
        ];
        self.write(store, events).await;
    }

    async fn write(&self, store: &Store, events: Vec<(RunId, Event)>) {
        store.submit(Op { run: self.root, events, asks: vec![], plan: None }).await.expect("it commits");
    }

    /// The end of `below`, in its own log and its parent's.
    fn end(above: RunId, below: RunId, settled: u64) -> Vec<(RunId, Event)> {
        let spent = Spent { model_calls: 1, settled: Money::from_micro(settled), ..Spent::default() };
        vec![(below, ended()), (above, child_ended(below, spent))]
    }

    fn park(&self) -> Vec<(RunId, Event)> {
        let parked = Parked { state: RunState::AwaitingApproval, until: Timestamp(START.0 + 3_600_000) };
        let mut events = vec![(self.child, asked()), (self.root, released(self.root))];
        events.extend([self.root, self.child, self.leaf].map(|run| (run, Event::Parked(parked))));
        events
    }
}

fn with(event: Event, change: impl FnOnce(&mut Created)) -> Event {
    let Event::Created(mut created) = event else { unreachable!("it is a creation") };
    change(&mut created);
    Event::Created(created)
}

fn child_ended(child: RunId, spent: Spent) -> Event {
    let end = Ended { state: EndState::Finished, refusal: None, output: None, error: None };
    Event::ChildEnded(ChildEnded { child, end, spent })
}

fn asked() -> Event {
    let asked = PersonAsked::in_flight("call-1".to_owned(), "refund".into(), "Refund $20?".to_owned());
    let until = Some(Timestamp(START.0 + 3_600_000));
    Event::PersonAsked(PersonAsked { ask: Some(0), what: Some(AskKind::Call), until, ..asked })
}

fn answered() -> Event {
    let decision = plimsoll::domain::event::Decision::Allow { edited: None };
    Event::PersonAnswered(PersonAnswered {
        ask: Some(0),
        decision,
        by: "ann".to_owned(),
        reason: None,
        shown_hash: None,
    })
}

fn node(run: RunId, stage: Option<&str>) -> AccountKey {
    AccountKey::Node { run, stage: stage.map(Into::into) }
}

/// Settled and held of an account, in millionths of a dollar.
fn sums(store: &Store, key: &AccountKey) -> (u64, u64) {
    let accounts = store.accounts().expect("it reads");
    let (_, account) = accounts.iter().find(|(known, _)| known == key).expect("the account is there");
    let micro = |amount: Money| u64::try_from(amount.pico() / 1_000_000).expect("a small amount");
    (micro(account.settled), micro(account.held))
}

fn summary(store: &Store, run: RunId) -> plimsoll::domain::summary::RunSummary {
    store.summary(run).expect("it reads").expect("it is there")
}

#[test]
fn a_child_counts_on_every_account_above_it_and_its_agent_has_the_cost() {
    for bed in Bed::both() {
        let (clock, tree) = (clock(), TREE(0));
        let store = bed.open(&clock);
        block_on(async {
            tree.start(&store).await;
            assert_eq!(sums(&store, &node(tree.root, None)), (0, 13_000 + LANDING));
            assert_eq!(sums(&store, &node(tree.root, Some("resolve"))), (0, 8_000), "the root's own call is of `main`");
            assert_eq!(sums(&store, &node(tree.child, Some("main"))), (0, 8_000));
            assert_eq!(sums(&store, &node(tree.leaf, Some("main"))), (0, 4_000));
            assert_eq!(sums(&store, &budget()), (0, 13_000 + LANDING));
            store.verify().expect("all fits while it is under way");
            let mut events = vec![(tree.leaf, settled(tree.leaf, 0, 1_000, "found"))];
            events.extend(Tree::end(tree.child, tree.leaf, 1_000));
            events.push((tree.child, settled(tree.child, 0, 2_000, "done")));
            tree.write(&store, events).await;
            tree.write(&store, Tree::end(tree.root, tree.child, 3_000)).await;
            assert_eq!(sums(&store, &node(tree.root, Some("resolve"))), (3_000, 0));
            assert_eq!(
                sums(&store, &node(tree.root, None)),
                (3_000, 5_000 + LANDING),
                "a child's end frees nothing else"
            );
            let root = summary(&store, tree.root);
            assert_eq!((root.settled, root.landing), (Money::ZERO, Money::from_micro(LANDING)));
            assert_eq!((root.children.settled, root.children.model_calls), (Money::from_micro(3_000), 1));
            assert_eq!(root.thread.as_deref(), Some("ticket-7"));
            let child = summary(&store, tree.child);
            assert_eq!(
                (child.settled, child.landing, child.held),
                (Money::from_micro(2_000), Money::ZERO, Money::ZERO)
            );
            store.verify().expect("all fits");
            submit(&store, tree.root, vec![settled(tree.root, 1, 500, "all"), released(tree.root), ended()]).await;
        });
        let rollups = store.rollups(Day(0), Day(u32::MAX)).expect("it reads");
        let of = |agent: &str| {
            let rows = rollups.iter().filter(|((_, dimensions), _)| dimensions.agent.as_str() == agent);
            rows.map(|(_, rollup)| rollup.settled).sum::<Money>()
        };
        assert_eq!(["triage", "clerk", "search"].map(of), [500, 2_000, 1_000].map(Money::from_micro));
        assert_eq!(sums(&store, &budget()), (3_500, 0), "what the rollups sum up to (promise 9)");
        assert!(rollups.iter().all(|((_, dimensions), _)| dimensions.tenant.as_deref() == Some("acme")));
        let all = store.summaries(&RunFilter::default()).expect("it reads");
        assert_eq!(all.iter().map(|run| run.settled).sum::<Money>(), Money::from_micro(3_500));
        store.verify().expect("all fits");
        drop(store);
        bed.open(&clock).verify().expect("all fits");
    }
}

#[test]
fn a_process_that_went_down_leaves_the_whole_tree_interrupted() {
    for bed in Bed::both() {
        let (clock, tree) = (clock(), TREE(0));
        let store = bed.open(&clock);
        block_on(tree.start(&store));
        drop(store);
        clock.advance(Millis::from_secs(60));
        let store = bed.open(&clock);
        let interrupted: Vec<RunId> = store
            .recovered()
            .iter()
            .filter(|(_, recorded)| matches!(recorded.event, Event::Interrupted(_)))
            .map(|(run, _)| *run)
            .collect();
        assert_eq!(interrupted, [tree.leaf, tree.child, tree.root], "children first");
        assert_eq!(sums(&store, &node(tree.root, None)), (13_000, 0), "nobody knows better");
        assert_eq!(sums(&store, &node(tree.root, Some("resolve"))), (8_000, 0));
        assert!(store.holds().expect("it reads").is_empty());
        for run in [tree.root, tree.child, tree.leaf] {
            let run = summary(&store, run);
            assert_eq!((run.state, run.held, run.active), (RunState::Interrupted, Money::ZERO, Millis::ZERO));
        }
        store.verify().expect("all fits");
        drop(store);
        let store = bed.open(&clock);
        assert!(store.recovered().is_empty(), "{:?}", store.recovered());
        block_on(async {
            let events = vec![(tree.leaf, Event::Admitted(Admitted { budgets: vec![], landing: None }))];
            submit(&store, tree.root, vec![readmitted(tree.root, 2, budget())]).await;
            tree.write(&store, events).await;
            assert_eq!(sums(&store, &node(tree.root, None)), (13_000, LANDING), "a child's admission takes nothing");
            tree.write(&store, vec![(tree.leaf, reserved(tree.leaf, 1, 2, 1, 1_000))]).await;
        });
        assert_eq!(sums(&store, &budget()), (13_000, 1_000 + LANDING));
        assert_eq!(sums(&store, &node(tree.root, Some("resolve"))), (8_000, 1_000));
        store.verify().expect("all fits");
    }
}

fn readmitted(run: RunId, number: u32, budget: AccountKey) -> Event {
    let reservation = plimsoll::ids::ReservationId { run, number };
    let landing = plimsoll::domain::event::Landing { reservation, amount: Money::from_micro(LANDING) };
    Event::Admitted(Admitted { budgets: vec![budget], landing: Some(landing) })
}

#[test]
fn a_tree_that_waits_for_a_person_holds_nothing_and_stays_as_it_is() {
    for bed in Bed::both() {
        let (clock, tree) = (clock(), TREE(0));
        let store = bed.open(&clock);
        block_on(async {
            tree.start(&store).await;
            let runs = [(tree.root, 1), (tree.child, 0), (tree.leaf, 0)];
            clock.advance(Millis(500));
            tree.write(&store, runs.map(|(run, number)| (run, settled(run, number, 100, "so far"))).into()).await;
            tree.write(&store, tree.park()).await;
        });
        clock.advance(Millis(9_000));
        assert!(store.holds().expect("it reads").is_empty());
        let child = summary(&store, tree.child);
        assert_eq!((child.asked.len(), &*child.asked[0].question), (1, "Refund $20?"));
        store.verify().expect("all fits");
        drop(store);
        let store = bed.open(&clock);
        assert!(store.recovered().is_empty(), "{:?}", store.recovered());
        for run in [tree.root, tree.child, tree.leaf] {
            let run = summary(&store, run);
            assert_eq!((run.state, run.active), (RunState::AwaitingApproval, Millis(500)), "waiting isn't active time");
        }
        let states = BTreeSet::from([RunState::AwaitingApproval]);
        let waiting = store.summaries(&RunFilter { states, ..RunFilter::default() }).expect("it reads");
        assert_eq!(waiting.len(), 3);
        assert_eq!(summary(&store, tree.child).asked, child.asked);
        block_on(tree.write(&store, vec![(tree.child, answered())]));
        let child = summary(&store, tree.child);
        assert_eq!((child.state, child.asked.len()), (RunState::Interrupted, 0), "it is there to be gone on with");
        assert_eq!(sums(&store, &budget()), (300, 0));
        store.verify().expect("all fits");
    }
}

#[test]
fn a_new_period_that_a_child_meets_is_in_the_roots_log() {
    for bed in Bed::both() {
        let (clock, tree) = (clock(), TREE(0));
        let store = bed.open(&clock);
        let start = Timestamp(START.0 + 86_400_000);
        let next = AccountKey::Budget { budget: "month".into(), scope: String::new(), start, end: None };
        block_on(async {
            tree.start(&store).await;
            clock.advance(Millis(86_400_000));
            let moved = Event::PeriodMoved(PeriodMoved { budgets: vec![next.clone()] });
            let events = vec![(tree.root, moved), (tree.leaf, reserved(tree.leaf, 1, 2, 1, 700))];
            tree.write(&store, events).await;
        });
        assert_eq!(sums(&store, &budget()), (0, 13_000), "money belongs to the period in which it was reserved");
        assert_eq!(sums(&store, &next), (0, 700 + LANDING));
        store.verify().expect("all fits");
        drop(store);
        let store = bed.open(&clock);
        assert_eq!((sums(&store, &budget()), sums(&store, &next)), ((13_000, 0), (700, 0)));
        store.verify().expect("all fits");
    }
}

#[test]
fn the_end_of_a_child_stands_in_both_logs_or_the_store_is_damaged() {
    type Case = (fn(&Tree) -> Vec<(RunId, Event)>, &'static str);
    let cases: [Case; 4] = [
        (|tree| vec![(tree.leaf, ended())], "by its own log, and its parent's doesn't say so"),
        (
            |tree| vec![(tree.child, child_ended(tree.leaf, Spent::default()))],
            "by its parent's log, and its own doesn't",
        ),
        (
            |tree| {
                let cancelled = Ended { state: EndState::Cancelled, refusal: None, output: None, error: None };
                vec![(tree.leaf, Event::Ended(cancelled)), (tree.child, child_ended(tree.leaf, Spent::default()))]
            },
            "ended otherwise in its own log than in its parent's",
        ),
        (|tree| Tree::end(tree.root, tree.child, 0), "is open, and the run"),
    ];
    for (events, said) in cases {
        for bed in Bed::both() {
            let (clock, tree) = (clock(), TREE(0));
            let store = bed.open(&clock);
            block_on(async {
                tree.start(&store).await;
                tree.write(&store, events(&tree)).await;
            });
            let damage = store.verify().expect_err("it doesn't fit").to_string();
            assert!(damage.contains(said), "{damage}");
        }
    }
}

#[test]
fn each_fact_of_a_tree_has_a_place_of_its_own_through_restarts() {
    for bed in Bed::both() {
        let (clock, tree) = (clock(), TREE(0));
        let store = bed.open(&clock);
        block_on(async {
            tree.start(&store).await;
            tree.write(&store, vec![(tree.leaf, settled(tree.leaf, 0, 100, "so far"))]).await;
        });
        let before = placed(&store, &tree);
        drop(store);
        let store = bed.open(&clock);
        let events = [Tree::end(tree.child, tree.leaf, 100), Tree::end(tree.root, tree.child, 100)].concat();
        block_on(tree.write(&store, events));
        drop(store);
        let store = bed.open(&clock);
        block_on(tree.write(&store, vec![(tree.root, ended())]));
        let after = placed(&store, &tree);
        assert!(after.len() > before.len() && after.starts_with(&before), "{before:?}, then {after:?}");
        assert!((0..).zip(&after).all(|(place, (own, _, _))| place == *own), "{after:?}");
        let ends: Vec<&str> = after.iter().rev().take(5).rev().map(|(_, _, kind)| kind.as_str()).collect();
        assert_eq!(ends, ["ended", "child_ended", "ended", "child_ended", "ended"]);
        store.verify().expect("all fits");
    }
}

/// Every fact of a tree: its place, whose it is, and its kind.
fn placed(store: &Store, tree: &Tree) -> Vec<(u32, RunId, String)> {
    let mut placed = Vec::new();
    for run in [tree.root, tree.child, tree.leaf] {
        for recorded in store.events(run).expect("it reads") {
            let kind = serde_json::to_value(&recorded.event).expect("it is JSON")["kind"].as_str().map(str::to_owned);
            placed.push((recorded.place_in_tree(), run, kind.expect("it has one")));
        }
    }
    placed.sort_unstable();
    placed
}
