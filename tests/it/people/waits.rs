//! What a wait for a person holds, how long it lasts, and what goes on meanwhile.

use std::sync::Arc;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Decision, Event, Outcome, RunState, StageEnd};
use plimsoll::domain::limits::LimitKind;
use plimsoll::runtime::{NewRun, Observer, Progress};
use plimsoll::units::{Millis, Money, Timestamp};
use tokio::sync::Notify;

use super::{ONE_REFUND, PATIENCE, allow, count, drive, given, last_answer, open, paid, parked, refund, release};
use crate::world::{Recipe, new_run};

const DAY: Millis = Millis::from_secs(86_400);

fn noon() -> Clock {
    Clock::virtual_at(Timestamp(1_795_435_200_000))
}

#[tokio::test]
async fn time_that_a_person_takes_doesnt_count_as_active() {
    let clock = noon();
    let world = release().amend("agents/a.toml", "expires", "wall_time = \"1m\"\nexpires").start_at(&clock);
    let run = parked(&world).await;
    let before = world.told(run).run.active(clock.now());
    clock.advance(Millis(DAY.0 - 1));
    let world = world.reopen();
    assert_eq!(world.told(run).run.active(clock.now()), before);
    let summary = world.runtime.store().summary(run).expect("it reads").expect("a run");
    assert_eq!((summary.active, summary.asked.len()), (before, 1));
    world.runtime.answer(run, &given(None, allow())).await.expect("it is in time");
    assert_eq!(drive(&world, run).await.state(), RunState::Finished);
    assert!(world.runtime.store().summary(run).expect("it reads").expect("a run").asked.is_empty());
    world.verify();
}

#[tokio::test]
async fn an_approval_that_nobody_gives_stops_its_stage_by_its_own_limit() {
    let clock = noon();
    let of_stage = "show = \"stages.draft.output\"\nlimits = { expires = \"2h\" }";
    let world = release().amend("agents/a.toml", "show = \"stages.draft.output\"", of_stage).start_at(&clock);
    let run = parked(&world).await;
    assert_eq!(world.told(run).run.expires_at(), Some(clock.now().after(Millis::from_secs(7_200))));
    clock.advance(Millis::from_secs(7_200));
    let told = drive(&world, run).await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Expires), "{}", told.show());
    let over = told.run.stage_over(&"release".into()).expect("it is over");
    assert_eq!((over.end, &over.output["approved"]), (StageEnd::Stopped, &false.into()));
    let refusal = told.refusal().to_string();
    assert!(refusal.contains("is 2h (agents/a.toml:") && refusal.contains("stage release"), "{refusal}");
    world.verify();
}

#[tokio::test]
async fn a_call_that_nobody_allows_is_told_to_the_model() {
    let clock = noon();
    let world = refund(ONE_REFUND).start_at(&clock);
    let run = parked(&world).await;
    clock.advance(DAY);
    let world = world.reopen();
    assert_eq!(world.told(run).state(), RunState::Interrupted, "a start has noted it");
    let told = drive(&world, run).await;
    let words = last_answer(&told);
    assert!(
        words.starts_with("not called: nobody allowed it in time: limit `expires` is 1d (agents/a.toml:"),
        "{words}"
    );
    assert_eq!((told.state(), paid(&world)), (RunState::Finished, vec![]));
    world.verify();
}

#[tokio::test]
async fn a_deadline_ends_a_wait_that_expires_later() {
    let clock = noon();
    let deadline = clock.now().after(Millis::from_secs(3_600));
    let limits = format!("deadline = \"{deadline}\"\nexpires");
    let world = refund(ONE_REFUND).amend("agents/a.toml", "expires", &limits).start_at(&clock);
    let run = parked(&world).await;
    assert_eq!(world.told(run).run.expires_at(), Some(deadline));
    clock.advance(Millis::from_secs(3_600));
    let told = drive(&world, run).await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Deadline), "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_free_for_others_while_a_run_waits() {
    let budget = "[[budgets]]\nname = \"all\"\ncap = \"$0.004\"\nper = \"total\"\n";
    let world = refund(ONE_REFUND)
        .file("plimsoll.toml", budget)
        .amend("agents/a.toml", "models =", "max_output_tokens = 500\nmodels =")
        .amend("agents/a.toml", "expires", "cost = \"$0.0035\"\nbudget_wait = \"0s\"\nexpires")
        .start();
    let first = parked(&world).await;
    let held = |run| world.runtime.store().summary(run).expect("it reads").expect("a run").held;
    assert_eq!(held(first), Money::ZERO);
    // A second one needs more than what a landing reserve of the first would leave.
    let second = parked(&world).await;
    assert_eq!((held(first), held(second)), (Money::ZERO, Money::ZERO));
    for run in [first, second] {
        world.runtime.answer(run, &given(None, Decision::Deny)).await.expect("it is taken");
        assert_eq!(drive(&world, run).await.state(), RunState::Finished);
    }
    world.verify();
}

/// Two stages beside each other: one waits for a person, one takes its time.
const BESIDE: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]

[[stage]]
id = "ok"
kind = "approval"
ask = "Go?"

[[stage]]
id = "slow"
kind = "model"
prompt = { user = "SLOW" }

[[stage]]
id = "done"
kind = "model"
needs = ["ok", "slow"]
prompt = { user = "DONE {{ stages.ok.output.approved }}" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_lanes_go_on_beside_a_question_and_take_its_answer_in_their_stride() {
    let world = Recipe::agent(BESIDE)
        .scenario("[[rule]]\nwhen = { contains = 'SLOW' }\nlatency = '1500ms'\ntext = 'slow'\n[[reply]]\nrepeat = 'forever'\ntext = 'done'\n")
        .start();
    let asked = Arc::new(Notify::new());
    let bell = asked.clone();
    let observer: Observer = Arc::new(move |progress| {
        if let Progress::Event { recorded, .. } = progress
            && matches!(recorded.event, Event::PersonAsked(_))
        {
            bell.notify_one();
        }
    });
    let runtime = world.runtime.clone();
    let driven = tokio::spawn(async move { runtime.run(&NewRun { ..new_run(Default::default()) }, observer).await });
    tokio::time::timeout(PATIENCE, asked.notified()).await.expect("it asks");
    let run = world.all()[0].run.id;
    // While the other stage's call is in flight.
    world.runtime.answer(run, &given(None, allow())).await.expect("its driver takes it");
    let again = world.runtime.answer(run, &given(Some(0), Decision::Deny)).await;
    assert!(again.is_err(), "{again:?}");
    let (_, state) =
        tokio::time::timeout(PATIENCE, driven).await.expect("in time").expect("no panic").expect("it runs");
    let told = world.told(run);
    assert_eq!(state, RunState::Finished, "{}", told.show());
    assert_eq!(count(&told, |event| matches!(event, Event::Parked(_))), 0, "nobody had to wait: {}", told.show());
    let answered = told.events().position(|event| matches!(event, Event::PersonAnswered(_))).expect("an answer");
    let replied =
        |event: &Event| matches!(event, Event::Settled(settled) if matches!(settled.outcome, Outcome::Reply { .. }));
    assert!(answered < told.events().position(replied).expect("a reply"), "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_parks_when_nothing_else_moves_and_not_before() {
    let world = Recipe::agent(BESIDE).scenario("[[reply]]\nrepeat = 'forever'\ntext = 'done'\n").start();
    let run = parked(&world).await;
    let told = world.told(run);
    let parked_at = told.events().position(|event| matches!(event, Event::Parked(_))).expect("it parks");
    let last = told.events().count() - 1;
    assert_eq!(parked_at, last, "{}", told.show());
    assert!(told.run.stage_over(&"slow".into()).is_some(), "{}", told.show());
    assert_eq!(open(&told).len(), 1);
    let before = told.log.len();
    assert_eq!(drive(&world, run).await.log.len(), before, "who looks at it writes nothing");
    world.runtime.cancel(run, "not any more").await.expect("it ends");
    assert_eq!(world.told(run).state(), RunState::Cancelled);
    assert!(world.runtime.answer(run, &given(None, allow())).await.is_err());
    world.verify();
}

/// A sub-agent that asks, as a stage of an agent.
const PARENT: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]

[[stage]]
id = "below"
kind = "agent"
agent = "child"
input = "{{ input }}"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_waits_as_one_and_is_answered_by_its_root_or_by_who_asks() {
    for by_child in [false, true] {
        let world = refund(ONE_REFUND).file("agents/a.toml", PARENT).file("agents/child.toml", super::REFUND).start();
        let root = parked(&world).await;
        let (tree, _) = world.runtime.load_tree(root).expect("it loads");
        let child = tree.runs().find(|run| run.id != root).expect("a child").id;
        let states: Vec<RunState> = tree.runs().map(|run| run.state).collect();
        assert_eq!(states, [RunState::AwaitingApproval; 2]);
        let world = world.reopen();
        let whom = if by_child { child } else { root };
        let (asked, _) = world.runtime.answer(whom, &given(None, allow())).await.expect("it is taken");
        assert_eq!(asked, child);
        let told = drive(&world, root).await;
        assert_eq!((told.state(), paid(&world)), (RunState::Finished, vec!["500".to_owned()]), "{}", told.show());
        assert!(world.runtime.answer(child, &given(None, allow())).await.is_err());
        world.verify();
    }
}
