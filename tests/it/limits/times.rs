//! Time: of the run, of a call, to the first token, of a tool, of a wait; and that a time-out really aborts.

use std::time::Duration;

use plimsoll::domain::event::{Event, Outcome, RunState, WaitEnd};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::retry::ErrorClass;
use plimsoll::sim::End;

use super::{LOOP, agent, agent_with, answers, assert_landed, assert_stopped_by};
use crate::world::{Told, World};

/// Until the simulator has seen every exchange end.
async fn ends(world: &World) -> Vec<End> {
    let ends = || world.sim.requests().iter().map(|received| received.end).collect::<Vec<End>>();
    for _ in 0..500 {
        if !ends().contains(&End::Open) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    ends()
}

fn failures(told: &Told) -> Vec<ErrorClass> {
    let class = |event: &Event| {
        if let Event::Voided(voided) = event {
            return Some(voided.failure.class);
        }
        let Event::Settled(settled) = event else { return None };
        if let Outcome::Failed(failure) = &settled.outcome { Some(failure.class) } else { None }
    };
    told.events().filter_map(class).collect()
}

#[tokio::test]
async fn wall_time_is_never_passed_and_leaves_a_share_to_land() {
    let scenario =
        format!("[defaults]\nlatency = '250ms'\n{}", LOOP.replace("text = 'all", "latency = '1ms'\ntext = 'all"));
    let world = agent("wall_time = '1s'\nrepeats = 100").scenario(&scenario).start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::WallTime, "1s");
    assert_landed(&told);
    let took = told.log.last().expect("an end").at.since(told.log[0].at);
    assert!(took.0 <= 1_000, "{took}: {}", told.show());
    world.verify();
}

#[tokio::test]
async fn wall_time_holds_while_a_retry_waits() {
    let scenario = format!("[[rule]]\nwhen = {{ tools = true }}\nfault = 'rate_limit'\nretry_after = '10s'\n{LOOP}");
    let told = agent("wall_time = '1s'").scenario(&scenario).start().run().await;
    assert_stopped_by(&told, LimitKind::WallTime, "1s");
    assert_landed(&told);
    assert!(told.log.last().expect("an end").at.since(told.log[0].at).0 <= 1_000, "{}", told.show());
}

#[tokio::test]
async fn a_deadline_is_a_point_in_time_that_nothing_moves() {
    let deadline = plimsoll::clock::Clock::system().now().after(plimsoll::units::Millis(1_500));
    let scenario =
        format!("[defaults]\nlatency = '300ms'\n{}", LOOP.replace("text = 'all", "latency = '1ms'\ntext = 'all"));
    let recipe = agent(&format!("deadline = '{deadline}'\nwall_time = '2s'\nrepeats = 100")).scenario(&scenario);
    let told = recipe.start().run().await;
    assert_stopped_by(&told, LimitKind::Deadline, &deadline.to_string());
    assert_landed(&told);
    assert!(told.log.last().expect("an end").at <= deadline, "{}", told.show());
    // Long past, a run doesn't even begin.
    let told = agent("deadline = '2020-01-01T00:00:00Z'").start().run().await;
    assert_stopped_by(&told, LimitKind::Deadline, "2020-01-01T00:00:00.000Z");
    assert_eq!(told.run.counters.attempts, 0);
}

#[tokio::test]
async fn a_model_call_that_takes_too_long_is_aborted_and_tried_again() {
    // (pitfalls 11, 12) The provider sees the connection close.
    let scenario = "[[rule]]\nwhen = { attempt = 1 }\nfault = 'hang'\n[[reply]]\ntext = 'done'\n";
    let world = agent_with("", "", "model_call_time = '150ms'").scenario(scenario).start();
    let told = world.run().await;
    assert_eq!((told.state(), failures(&told)), (RunState::Finished, vec![ErrorClass::TimedOut]), "{}", told.show());
    assert_eq!(ends(&world).await, [End::HungUp, End::Answered]);
    let first = &world.sim.requests()[0];
    let open = first.ended_at.expect("an end").since(first.line.at);
    assert!((100..=300).contains(&open.0), "closed after {open}");
    assert!(!told.run.counters.unknown.is_zero() && told.run.counters.settled >= world.invoice().total);
    world.verify();
}

#[tokio::test]
async fn a_first_token_that_takes_too_long_is_aborted_and_tried_again() {
    let scenario = "[[rule]]\nwhen = { attempt = 1 }\nfault = 'slow_first_token'\nfirst_token_latency = '5s'\n[[reply]]\ntext = 'done'\n";
    let world = agent_with("", "", "first_token_time = '150ms'").scenario(scenario).start();
    let told = world.run().await;
    assert_eq!(
        (told.state(), failures(&told)),
        (RunState::Finished, vec![ErrorClass::FirstTokenLate]),
        "{}",
        told.show()
    );
    assert_eq!(ends(&world).await, [End::HungUp, End::Answered]);
}

#[tokio::test]
async fn a_tool_that_takes_too_long_is_killed_and_the_model_is_told() {
    // (pitfall 12) What it would have done afterwards never happens.
    let tool = "description = 'Slow'\nkind = 'command'\ncommand = ['./slow.sh']\nidempotent = true\n[input]\ntype = 'object'\n";
    let script = "#!/bin/sh\nsleep 1\ntouch \"$0.done\"\n";
    let recipe = agent_with("", "tools = ['slow']", "tool_call_time = '150ms'\nwall_time = '20s'\nsteps = 4")
        .file("tools/slow.toml", tool)
        .file("tools/slow.sh", script);
    let world = recipe.start();
    let told = world.run().await;
    let answers = answers(&told);
    assert!(answers[0].1 && answers[0].0.contains("150ms"), "{answers:?}");
    let took = told.log.last().expect("an end").at.since(told.log[0].at);
    assert!(took.0 < 900, "{took}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(!world.folder.path().join("tools/slow.sh.done").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_budget_ends_and_the_run_lands() {
    // One run holds its call's money for a second; the other's next call doesn't fit beside it.
    let budget = "[[budgets]]\nname = 'all'\ncap = '$0.011'\nper = 'total'\n";
    let scenario = format!(
        "[defaults]\noutput_tokens = 300\n[[rule]]\nwhen = {{ contains = 'slowly' }}\nlatency = '1s'\ntext = 'done'\n{LOOP}"
    );
    let recipe = agent_with(
        "max_output_tokens = 2_000\nmin_output_tokens = 2_000",
        "tools = ['look']",
        "budget_wait = '100ms'\nexpected_cost = '$0.000001'\nrepeats = 100\nlanding_output_tokens = 64\nlanding_tokens = 1_000",
    );
    let world = recipe.file("plimsoll.toml", budget).scenario(&scenario).start();
    let mut slow = crate::world::new_run(plimsoll::domain::event::Labels::new());
    slow.input = "slowly please".into();
    let runtime = world.runtime.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { runtime.run(&slow, plimsoll::runtime::silent()).await.expect("it runs").0 });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let told = world.run().await;
    let slow = world.told(tasks.join_all().await[0]);
    assert_eq!(slow.state(), RunState::Finished, "{}", slow.show());
    let expired = |event: &Event| matches!(event, Event::WaitEnded(ended) if ended.why == WaitEnd::Expired);
    assert!(told.events().any(expired), "{}", told.show());
    assert_eq!(told.refusal().limit, LimitKind::Budget, "{}", told.show());
    assert_landed(&told);
    for pair in told.log.windows(2) {
        if let Event::WaitBegan(began) = &pair[0].event {
            assert!(pair[1].at.since(pair[0].at).0 <= 250 && began.until.since(pair[0].at).0 <= 100);
        }
    }
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_time_holds_after_a_wait_for_budget() {
    // The other's call holds the money for most of this one's time; then this one's call would take longer than is left.
    let budget = "[[budgets]]\nname = 'all'\ncap = '$0.011'\nper = 'total'\n";
    let scenario = format!(
        "[defaults]\noutput_tokens = 300\n[[rule]]\nwhen = {{ contains = 'slowly' }}\nlatency = '700ms'\ntext = 'done'\n\
         [[rule]]\nwhen = {{ tools = false }}\ntext = 'all that I know'\n[[rule]]\nwhen = {{ turn = 4 }}\nlatency = '5s'\nloop_tool = '*'\n{LOOP}"
    );
    let recipe = agent_with(
        "max_output_tokens = 2_000\nmin_output_tokens = 2_000",
        "tools = ['look']",
        "wall_time = '1200ms'\nexpected_cost = '$0.000001'\nrepeats = 100\nlanding_output_tokens = 64\nlanding_tokens = 1_000",
    );
    let world = recipe.file("plimsoll.toml", budget).scenario(&scenario).start();
    let mut slow = crate::world::new_run(plimsoll::domain::event::Labels::new());
    slow.input = "slowly please".into();
    let runtime = world.runtime.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { runtime.run(&slow, plimsoll::runtime::silent()).await.expect("it runs").0 });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let told = world.run().await;
    tasks.join_all().await;
    let granted = |event: &Event| matches!(event, Event::WaitEnded(ended) if ended.why == WaitEnd::Granted);
    assert!(told.events().any(granted), "{}", told.show());
    assert_eq!(told.refusal().limit, LimitKind::WallTime, "{}", told.show());
    assert_landed(&told);
    assert!(told.log.last().expect("an end").at.since(told.log[0].at).0 <= 1_200, "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_holds_nobody_else_up() {
    // (pitfall 25) One tenant backs off for seconds; the other's runs go on, which have called before it was told to.
    let scenario = "[[rule]]\nwhen = { contains = 'slowly', attempt = 1 }\nfault = 'rate_limit'\nretry_after = '1500ms'\nlatency = '500ms'\n[[reply]]\ntext = 'done'\n";
    let world = agent_with("", "", "").scenario(scenario).start();
    let mut slow = crate::world::new_run(plimsoll::domain::event::Labels::new());
    slow.input = "slowly please".into();
    let runtime = world.runtime.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { runtime.run(&slow, plimsoll::runtime::silent()).await.expect("it runs").0 });
    let others = world.run_many(20).await;
    let slow = world.told(tasks.join_all().await[0]);
    assert_eq!((slow.state(), failures(&slow)), (RunState::Finished, vec![ErrorClass::RateLimited]));
    let end = slow.log.last().expect("an end").at;
    assert!(others.iter().all(|told| told.log.last().expect("an end").at < end));
}
