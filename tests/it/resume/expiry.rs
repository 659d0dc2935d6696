//! Waits for a person that take longer than `expires`: at a start, at a decision, and while the process lives.

use std::time::Duration;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Call, Decision, Event, RunState};
use plimsoll::domain::run::{AnswerFault, Given};
use plimsoll::ids::RunId;
use plimsoll::runtime::{RuntimeError, silent};
use plimsoll::units::{Millis, Timestamp};

use super::{MEASURED, interrupted, recipe};
use crate::world::{Recipe, World};

const WEEK: Millis = Millis::from_secs(7 * 86_400);
/// Longer than a timer of some milliseconds takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent whose tool is no builtin, takes its time and may not be called twice.
fn stamping(limits: &str) -> Recipe {
    recipe(MEASURED, limits, "")
        .file(
            "tools/look.toml",
            "description = 'Stamps'\nkind = 'command'\ncommand = ['./stamp.sh']\nidempotent = false\n[input]\ntype = 'object'\n",
        )
        .file("tools/stamp.sh", "#!/bin/sh\necho stamped >> stamps.txt\nexec sleep 30\n")
}

fn is_tool(event: &Event) -> bool {
    matches!(event, Event::Reserved(reserved) if matches!(reserved.call, Call::Tool { .. }))
}

/// A run that waits for a person, since now.
async fn asked(limits: &str, clock: &Clock) -> (World, RunId) {
    let (world, run) = interrupted(stamping(limits).start_at(clock), is_tool).await;
    assert_eq!(world.runtime.drive(run, silent()).await.expect("it asks"), RunState::AwaitingApproval);
    (world, run)
}

fn noon() -> Clock {
    Clock::virtual_at(Timestamp(1_795_435_200_000))
}

/// The question is closed, once; and then the run goes on without the call.
async fn assert_expired(world: &World, run: RunId) {
    world.runtime.let_go(run).await;
    let told = world.told(run);
    assert_eq!(told.state(), RunState::Interrupted, "{}", told.show());
    assert_eq!(world.runtime.drive(run, silent()).await.expect("it goes on"), RunState::Finished);
    let told = world.told(run);
    let late =
        |event: &&Event| matches!(event, Event::PersonAnswered(answered) if answered.decision == Decision::Expired);
    assert_eq!(told.events().filter(late).count(), 1, "{}", told.show());
    let calls = told.events().filter(|event| is_tool(event)).count();
    assert_eq!(calls, 1, "nobody said that it is made again: {}", told.show());
    let turns = format!("{:?}", told.run.turns(&"main".into()));
    assert!(turns.contains("whether it took effect is not known"), "{turns}");
    world.verify();
}

#[tokio::test]
async fn a_start_ends_a_wait_that_is_over_and_no_other() {
    let clock = noon();
    let (world, run) = asked("", &clock).await;
    clock.advance(Millis(WEEK.0 - 1));
    let world = world.reopen();
    assert_eq!(world.told(run).state(), RunState::AwaitingApproval);
    let before = world.told(run).log.len();
    assert_eq!(world.runtime.drive(run, silent()).await.expect("it asks"), RunState::AwaitingApproval);
    assert_eq!(world.told(run).log.len(), before, "whoever looks at a run that waits writes nothing");
    clock.advance(Millis(1));
    let world = world.reopen();
    assert_eq!(world.runtime.store().recovered().len(), 1);
    assert_expired(&world, run).await;
    // It is over like any other: nothing wakes it.
    assert_eq!(world.reopen().told(run).state(), RunState::Finished);
}

#[tokio::test]
async fn who_goes_on_with_it_too_late_meets_the_limit() {
    let clock = noon();
    let (world, run) = asked("expires = '2h'", &clock).await;
    clock.advance(Millis::from_secs(2 * 3_600));
    assert_eq!(world.runtime.drive(run, silent()).await.expect("it goes on"), RunState::Finished);
    let told = world.told(run);
    assert!(told.events().any(|event| matches!(event, Event::PersonAnswered(_))), "{}", told.show());
}

fn given(decision: Decision) -> Given {
    Given { ask: None, decision, by: "me".into(), reason: None, shown_hash: None }
}

#[tokio::test]
async fn a_decision_that_comes_too_late_counts_for_nothing() {
    let clock = noon();
    let (world, run) = asked("expires = '2h'", &clock).await;
    clock.advance(Millis::from_secs(2 * 3_600));
    for _ in 0..2 {
        let late = world.runtime.answer(run, &given(Decision::Allow { edited: None })).await;
        let Err(RuntimeError::Answer { fault: fault @ AnswerFault::Expired { .. }, .. }) = late else {
            panic!("{late:?}")
        };
        let words = fault.to_string();
        assert!(words.contains("limit `expires` is 2h (agents/a.toml:"), "{words}");
    }
    assert_expired(&world, run).await;
}

#[tokio::test]
async fn a_decision_in_time_is_taken_and_ends_the_wait() {
    let clock = noon();
    let (world, run) = asked("expires = '2h'", &clock).await;
    clock.advance(Millis(2 * 3_600 * 1_000 - 1));
    world.runtime.answer(run, &given(Decision::Deny)).await.expect("it is taken");
    clock.advance(WEEK);
    let world = world.reopen();
    assert_eq!(world.runtime.drive(run, silent()).await.expect("it goes on"), RunState::Finished);
}

/// Lets both clocks go on by so much, and waits until the run has ended.
async fn pass(world: &World, run: RunId, clock: &Clock, time: Millis) {
    assert_eq!(world.told(run).state(), RunState::AwaitingApproval);
    tokio::task::yield_now().await;
    clock.advance(time);
    tokio::time::pause();
    tokio::time::advance(time.duration()).await;
    tokio::time::resume();
    // The log shows what is on disk at once; the summary comes with it when the writer is done.
    let state = || world.runtime.store().summary(run).expect("it reads").expect("a run").state;
    let ended = async {
        while state().awaits_person() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the timer ends it");
}

#[tokio::test]
async fn while_the_process_lives_a_timer_ends_the_wait() {
    let clock = noon();
    let (world, run) = asked("expires = '2h'", &clock).await;
    pass(&world, run, &clock, Millis::from_secs(2 * 3_600)).await;
    assert_expired(&world, run).await;
}

#[tokio::test]
async fn the_timer_knows_the_waits_that_a_start_finds() {
    let clock = noon();
    let (world, run) = asked("expires = '2h'", &clock).await;
    let world = world.reopen();
    pass(&world, run, &clock, Millis::from_secs(2 * 3_600)).await;
    assert_expired(&world, run).await;
}
