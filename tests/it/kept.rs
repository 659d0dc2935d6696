//! Answers that are kept and given again: one call at the provider, and what it avoided.

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Labels, RunState, Settled};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::report::{CostTable, Dimension, Trace};
use plimsoll::domain::rollup::Day;
use plimsoll::sim::Invoice;
use plimsoll::store::Store;
use plimsoll::units::{Millis, Money, Timestamp};
use serde_json::json;

use crate::kill::process::{End, Ship, TALK};
use crate::kill::project::{Project, calm_sea};
use crate::world::{Recipe, Told, World};

const MODEL: &str =
    "[model]\nmodels = ['openai/gpt-5-mini']\nmax_output_tokens = 300\n[prompt]\nuser = '{{ input }}'\n";
const DONE: &str = "[[reply]]\ntext = 'done'\n";

fn recipe(cache: &str) -> Recipe {
    Recipe::agent(&format!("{MODEL}[cache]\n{cache}\n")).scenario(DONE)
}

fn tenant(name: &str) -> Labels {
    Labels::from([("tenant".to_owned(), name.to_owned())])
}

fn settled(told: &Told) -> &Settled {
    told.settlements().last().unwrap_or_else(|| panic!("a settlement: {}", told.show()))
}

/// What the runs of a world settled is what the provider billed, and nothing is held.
fn reconcile(world: &World, runs: &[&Told]) {
    let spent: Money = runs.iter().map(|told| told.run.counters.settled).sum();
    assert_eq!(spent, world.invoice().total);
    world.verify();
}

#[tokio::test]
async fn two_runs_are_one_call_and_the_second_says_what_it_avoided() {
    let world = recipe("ttl = '1h'").start();
    let (first, second) = (world.run().await, world.run().await);
    assert_eq!(world.invoice().count, 1);
    assert!(settled(&first).cache.kept.is_some());
    let hit = settled(&second).cache.hit.unwrap_or_else(|| panic!("a hit: {}", second.show()));
    assert_eq!((hit.avoided, hit.from.run), (settled(&first).bill, first.run.id));
    assert_eq!(first.ended().output, second.ended().output);
    let counters = &second.run.counters;
    assert_eq!((counters.steps, counters.model_calls, counters.settled), (1, 1, Money::ZERO), "a step, at no cost");
    assert_eq!((counters.input.0, counters.output.0), (0, 0), "no tokens of the run's limits");
    assert!(second.reservations().all(|reserved| reserved.amount.is_zero()));
    reconcile(&world, &[&first, &second]);
    let rollups = world.runtime.store().rollups(Day(0), Day(u32::MAX)).expect("rollups");
    let table = CostTable::of(&[Dimension::Agent], &rollups);
    assert_eq!((table.total.cache_hits, table.total.avoided_usd), (1, hit.avoided));
    let plan = second.run.plan.clone();
    let events = |run| world.runtime.store().events(run);
    let trace = Trace::of_tree(second.run.id, &plan, Timestamp(u64::MAX / 2), &mut { events }).expect("a log");
    let text = serde_json::to_string(&trace).expect("JSON");
    assert!(text.contains("\"avoided\""), "{text}");
}

#[tokio::test]
async fn whatever_shapes_the_answer_is_another_request() {
    let world = recipe("ttl = '1h'").start();
    let runs = [world.run().await, world.run_on(json!("something else")).await];
    assert_eq!(world.invoice().count, 2);
    reconcile(&world, &runs.iter().collect::<Vec<_>>());
    let plain = Recipe::agent(MODEL).scenario(DONE).start();
    let runs = [plain.run().await, plain.run().await];
    assert_eq!(plain.invoice().count, 2, "nothing is kept where nobody asked for it");
    assert!(runs.iter().all(|told| settled(told).cache.is_none()));
}

#[tokio::test]
async fn tenants_never_see_each_others_answers_unless_the_author_shares_them() {
    for (cache, calls) in [("ttl = '1h'", 3), ("ttl = '1h'\nshare = true", 1)] {
        let world = recipe(cache).start();
        let mut runs = Vec::new();
        for labels in [tenant("acme"), tenant("zeta"), Labels::new(), tenant("acme"), tenant("zeta")] {
            runs.push(world.run_with(labels).await);
        }
        assert_eq!(world.invoice().count, calls, "{cache}");
        reconcile(&world, &runs.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_answer_is_given_until_its_time_is_up() {
    let clock = Clock::virtual_at(Timestamp(1_795_435_200_000));
    let world = recipe("ttl = '10s'").start_at(&clock);
    world.run().await;
    clock.advance(Millis(9_999));
    world.run().await;
    assert_eq!(world.invoice().count, 1);
    clock.advance(Millis(1));
    world.run().await;
    assert_eq!(world.invoice().count, 2, "its time is up");
    world.run().await;
    assert_eq!(world.invoice().count, 2, "the new one is kept");
    world.verify();
}

#[tokio::test]
async fn an_answer_outlives_the_process() {
    let world = recipe("ttl = '1h'").start();
    let first = world.run().await;
    let world = world.reopen();
    let second = world.run().await;
    assert_eq!(world.invoice().count, 1);
    assert_eq!(settled(&second).cache.hit.map(|hit| hit.avoided), Some(settled(&first).bill));
    world.verify();
}

#[tokio::test]
async fn what_is_no_whole_answer_is_never_kept() {
    for (scenario, what) in [
        ("[[reply]]\ntext = 'do'\nfinish = 'length'\n", "cut"),
        ("[[reply]]\ntext = 'do'\nfinish = 'content_filter'\n", "filtered"),
        ("[[reply]]\ntext = 'done'\nfault = 'missing_usage'\n", "of unknown cost"),
        ("[[reply]]\nrefusal = 'no'\n", "a refusal"),
        ("[[reply]]\nfault = 'server_error'\n", "a failure"),
    ] {
        let world = recipe("ttl = '1h'").scenario(scenario).start();
        let (first, second) = (world.run().await, world.run().await);
        for told in [&first, &second] {
            assert!(told.settlements().all(|settled| settled.cache.is_none()), "{what}: {}", told.show());
        }
        world.verify();
    }
}

#[tokio::test]
async fn an_answer_of_the_wrong_form_is_not_kept() {
    let output = "[output]\ntype = 'object'\nrequired = ['a']\nproperties.a = { type = 'string' }\n";
    let world = Recipe::agent(&format!("{MODEL}{output}[cache]\nttl = '1h'\n")).scenario(DONE).start();
    let told = world.run().await;
    assert!(told.settlements().all(|settled| settled.cache.kept.is_none()), "{}", told.show());
    let good = "[[reply]]\ntext = '{\"a\": \"b\"}'\n";
    let world = Recipe::agent(&format!("{MODEL}{output}[cache]\nttl = '1h'\n")).scenario(good).start();
    let (first, second) = (world.run().await, world.run().await);
    assert_eq!((first.state(), world.invoice().count), (RunState::Finished, 1), "{}", second.show());
    assert_eq!(first.ended().output, second.ended().output);
}

#[tokio::test]
async fn items_of_a_map_that_are_alike_share_their_answer_with_the_next_run() {
    let map = "[model]\nmodels = ['openai/gpt-5-mini']\nmax_output_tokens = 300\n[input]\ntype = 'object'\n\
        properties.list = { type = 'array', items = { type = 'string' } }\nrequired = ['list']\n\
        [[stage]]\nid = 'each'\nkind = 'map'\nover = 'input.list'\n[stage.each]\nkind = 'model'\n\
        prompt = { user = 'about {{ item }}' }\ncache = { ttl = '1h' }\n";
    let world = Recipe::agent(map).scenario(DONE).start();
    let first = world.run_on(json!({"list": ["a", "b", "c"]})).await;
    assert_eq!((first.state(), world.invoice().count), (RunState::Finished, 3), "{}", first.show());
    let second = world.run_on(json!({"list": ["c", "new", "a"]})).await;
    assert_eq!((second.state(), world.invoice().count), (RunState::Finished, 4), "{}", second.show());
    assert_eq!(second.settlements().filter(|settled| settled.cache.hit.is_some()).count(), 2);
    reconcile(&world, &[&first, &second]);
}

/// An agent whose answers are kept.
const KEEPER: &str = "[model]\nmodels = ['openai/gpt-5-nano']\nmax_output_tokens = 400\n[prompt]\nuser = '{{ input }}'\n\
    [limits]\ncost = '$1'\n[cache]\nttl = '1h'\n";

#[test]
fn a_crash_leaves_a_kept_answer_whole_or_none_and_a_hit_after_it_costs_nothing() {
    for point in ["provider.replied:1", "store.commit:2", "store.committed:2"] {
        let project = Project::new(&calm_sea("1ms"));
        std::fs::write(project.root().join("agents/keeper.toml"), KEEPER).expect("it is written");
        let billed = || Invoice::read(&project.sim.invoice).expect("an invoice").lines.len();
        let sail = |arguments: &[&str], failpoint: Option<&str>| {
            let mut ship = Ship::start(project.root(), arguments, failpoint);
            let end = ship.end();
            (end, ship.heard.iter().filter(|line| !line.starts_with(TALK)).cloned().collect::<String>())
        };
        let ask = ["run", "keeper", "--input", "GLANCE", "--json"];
        assert!(matches!(sail(&ask, Some(point)).0, End::Signal(_)), "{point}");
        // It was billed; whether its answer is kept depends on whether its settlement is.
        assert_eq!(billed(), 1, "{point}");
        assert_eq!(sail(&["resume", "--all"], None).0, End::Exit(0), "{point}");
        let before = billed();
        let (end, document) = sail(&ask, None);
        assert_eq!((end, billed()), (End::Exit(0), before), "{point}: nobody is asked again");
        let document: serde_json::Value = serde_json::from_str(&document).expect("a document");
        assert_eq!((&document["output"], &document["cost"]["settled_usd"]), (&"The sea is rough.".into(), &"0".into()));
        let store = Store::open(&project.store(), LedgerPolicy::default(), Clock::system()).expect("it opens");
        store.verify().expect("the books are right");
    }
}
