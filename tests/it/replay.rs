//! Runs judged again from their logs: planted differences are found, each where it is. That runs of every kind are decided
//! the same is asked of each world's store (`World::verify`) and at the end of each voyage.

#![expect(clippy::wildcard_enum_match_arm, reason = "each change is of one kind of event")]

use plimsoll::domain::event::{Call, Event, StageEnd};
use plimsoll::domain::plan::Plan;
use plimsoll::domain::pricing::PriceBook;
use plimsoll::gate::{Appraiser, Providers};
use plimsoll::runtime::replay::{Difference, Same, TreeLog, replay};
use plimsoll::units::Money;
use std::sync::Arc;

use crate::world::Recipe;

const AGENT: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]
[limits]
cost = "$0.50"

[[stage]]
id = "sort"
kind = "model"
prompt = { user = "SORT {{ input }}" }

[[stage]]
id = "more"
kind = "model"
needs = ["sort"]
when = "stages.sort.output == 'more'"
prompt = { user = "MORE" }

[[stage]]
id = "answer"
kind = "model"
needs = ["sort", "more"]
prompt = { user = "ANSWER {{ stages.sort.output }}" }
"#;

const SCENARIO: &str = "[[reply]]\ntext = 'less'\n[[reply]]\ntext = 'the answer'\n";

fn desk() -> Appraiser {
    Appraiser::new(Arc::new(PriceBook::builtin().clone()), Providers::Any(Arc::default()))
}

/// A run of three stages, of which one is skipped.
async fn log() -> TreeLog {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).start();
    let told = world.run().await;
    TreeLog::read(world.runtime.store(), told.run.id).expect("its log")
}

fn judged(log: &TreeLog) -> Result<Same, Box<Difference>> {
    replay(log, &desk())
}

/// Where the log differs once an event of this kind was changed; the events before it are the same.
fn planted(log: &TreeLog, change: impl Fn(&mut Event) -> bool) -> Difference {
    let mut log = log.clone();
    let events = log.logs.values_mut().flatten();
    let mut changed = events.filter_map(|recorded| change(&mut recorded.event).then_some(recorded.seq));
    let at = changed.next().expect("an event that could be changed");
    let difference = *judged(&log).expect_err("it is found");
    assert_eq!(difference.event, Some(at), "{difference}");
    difference
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_decided_the_same_and_a_log_that_was_changed_is_not() {
    let log = log().await;
    let same = judged(&log).expect("the same");
    assert_eq!((same.runs, same.requests, same.bills), (1, 2, 2), "{same:?}");
    assert_eq!(judged(&serde_json::from_str(&serde_json::to_string(&log).expect("JSON")).expect("a log")), Ok(same));

    let amount = planted(&log, |event| match event {
        Event::Reserved(reserved) => {
            reserved.amount = reserved.amount.plus(Money::from_pico(1));
            true
        }
        _ => false,
    });
    assert!(amount.log.contains("`amount`") && amount.now.contains("`amount`"), "{amount}");
    let model = planted(&log, |event| match event {
        Event::Reserved(reserved) => {
            if let Call::Model(call) = &mut reserved.call {
                call.request_hash = "0".repeat(16);
            }
            true
        }
        _ => false,
    });
    assert!(model.now.contains("request_hash"), "{model}");
    let skipped = planted(&log, |event| match event {
        Event::StageEnded(ended) if ended.end == StageEnd::Skipped => {
            ended.end = StageEnd::Finished;
            true
        }
        _ => false,
    });
    assert!(skipped.now.contains("skipped"), "{skipped}");
    let bill = planted(&log, |event| match event {
        Event::Settled(settled) => {
            settled.bill = settled.bill.plus(Money::from_pico(1));
            true
        }
        _ => false,
    });
    assert!(bill.now.starts_with("a bill of $"), "{bill}");
    let output = planted(&log, |event| match event {
        Event::Ended(ended) => {
            ended.output = Some("another answer".into());
            true
        }
        _ => false,
    });
    assert!(output.log.contains("another answer") && output.now.starts_with("`output` = "), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_missing_or_in_another_order_and_another_plan_are_found() {
    let log = log().await;
    let events = |change: &dyn Fn(&mut Vec<plimsoll::domain::event::Recorded>)| {
        let mut log = log.clone();
        change(log.logs.values_mut().next().expect("a log"));
        judged(&log).expect_err("it is found")
    };
    let missing = events(&|log| drop(log.remove(3)));
    assert_eq!((missing.event, missing.now.as_str()), (Some(4), "an event before it is missing"));
    // The stage that wasn't reached is skipped before the one that says so has answered.
    let early = events(&|log| {
        let skipped = log
            .iter()
            .position(|recorded| matches!(&recorded.event, Event::StageEnded(ended) if ended.end == StageEnd::Skipped));
        let (skipped, at) = (skipped.expect("it was skipped"), log[2].at);
        let mut moved = log.remove(skipped);
        moved.at = at;
        log.insert(2, moved);
        (0..).zip(log.iter_mut()).for_each(|(seq, recorded)| recorded.seq = seq);
    });
    assert_eq!(early.event, Some(2), "{early}");
    let plan = Plan { description: "another".into(), ..Plan::clone(&log.plan) };
    let other = judged(&TreeLog { plan: Arc::new(plan), ..log.clone() }).expect_err("it is found");
    assert!(other.log.contains("its plan isn't the one"), "{other}");
}
