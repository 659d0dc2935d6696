//! A clean stop is bounded, whatever hangs. Tokio's time stands still in these tests, and goes on where nobody works.

use std::time::Duration;

use plimsoll::domain::event::{Call, CostSource, Event, Labels, RunState};
use plimsoll::runtime::silent;
use plimsoll::sim::End;
use tokio::time::Instant;

use super::{COUNTED, MEASURED, recipe};
use crate::world::{World, new_run};

/// As long as a stop may take (`STOP_DRAIN`), and a little for rounding.
const STOP_TIME_MAX: Duration = Duration::from_millis(12_100);

/// Runs agent `a` until `is_there`, lets time stand still, and asks it to stop. How long that took, in Tokio's time.
async fn stop_when(world: &World, is_there: impl Fn(&World) -> bool) -> Duration {
    let new = new_run(Labels::new());
    let stop = async {
        while !is_there(world) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::pause();
        world.runtime.request_stop();
        Instant::now()
    };
    let (driven, asked) = tokio::join!(world.runtime.run(&new, silent()), stop);
    let took = asked.elapsed();
    tokio::time::resume();
    assert_eq!(driven.expect("it stops").1, RunState::Interrupted);
    took
}

#[tokio::test]
async fn a_provider_that_hangs_at_a_stop_is_waited_for_within_the_bound() {
    let hang = "[[rule]]\nwhen = { attempt = 1, turn = 0 }\nfault = 'hang'\n";
    let world = recipe(COUNTED, "", hang).start();
    let open = |world: &World| world.sim.requests().iter().any(|received| received.end == End::Open);
    let took = stop_when(&world, open).await;
    assert!((Duration::from_secs(9)..STOP_TIME_MAX).contains(&took), "{took:?}");
    let told = world.all().pop().expect("a run");
    let reserved = told.reservations().next().expect("a call").amount;
    let settled = told.settlements().last().expect("it is settled");
    assert_eq!((settled.source, settled.bill), (CostSource::Unknown, reserved), "the whole reservation");
    assert_eq!(told.run.counters.unknown, reserved);
    let world = world.reopen();
    world.verify();
    assert_eq!(world.runtime.drive(told.run.id, silent()).await.expect("it goes on"), RunState::Finished);
    let told = world.told(told.run.id);
    assert!(told.run.counters.settled >= world.invoice().total, "{}", told.show());
    assert_eq!(told.run.counters.unknown, reserved, "what wasn't known stays so");
    world.verify();
}

#[tokio::test]
async fn a_tool_that_sleeps_at_a_stop_is_killed_within_the_bound() {
    let world = recipe(MEASURED, "", "")
        .file(
            "tools/look.toml",
            "description = 'Dozes'\nkind = 'command'\ncommand = ['./doze.sh']\nidempotent = true\n[input]\ntype = 'object'\n",
        )
        .file("tools/doze.sh", "#!/bin/sh\nexec sleep 30\n")
        .start();
    let calls = |world: &World| {
        let is_tool =
            |event: &Event| matches!(event, Event::Reserved(reserved) if matches!(reserved.call, Call::Tool { .. }));
        world.all().iter().any(|told| told.events().any(is_tool))
    };
    let took = stop_when(&world, calls).await;
    assert!(took < STOP_TIME_MAX, "{took:?}");
    let run = world.all().pop().expect("a run").run.id;
    let world = world.reopen();
    world.verify();
    assert_eq!(world.told(run).state(), RunState::Interrupted);
}
