//! Switches over a whole runtime: a run that is held goes on when the switch is lifted, and one that is ended stops.

use plimsoll::domain::audit::{Author, Change};
use plimsoll::domain::event::{Event, Labels, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::switch::{SwitchKind, SwitchLifted, SwitchSet};

use crate::world::{Recipe, Told, World};

const AGENT: &str = "\
feature = 'support'
tools = ['look']
[model]
models = ['openai/gpt-5-mini', 'openai/gpt-5-nano']
max_output_tokens = 300
[prompt]
user = '{{ input }}'
";
const LOOK: &str = "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'found'\nidempotent = true\n[input]\ntype = 'object'\n";
const SCENARIO: &str =
    "[[reply]]\nlatency = '150ms'\ntool_calls = [{ name = 'look', arguments = {} }]\n[[reply]]\ntext = 'done'\n";

fn world() -> World {
    Recipe::agent(AGENT).file("tools/look.toml", LOOK).scenario(SCENARIO).start()
}

async fn order(world: &World, change: Change) {
    world.runtime.store().note(Author::Person("ann".into()), change).await.expect("it is written");
}

async fn set(world: &World, scope: &str, switch: SwitchKind) {
    let scope = scope.parse().expect("a scope");
    order(world, Change::SwitchSet(SwitchSet { scope, switch, reason: "odd answers".into() })).await;
}

async fn lift(world: &World, scope: &str) {
    let scope = scope.parse().expect("a scope");
    order(world, Change::SwitchLifted(SwitchLifted { scope, reason: "mended".into() })).await;
}

fn interruptions(told: &Told) -> usize {
    told.events().filter(|event| matches!(event, Event::Interrupted(_))).count()
}

/// Until the newest run is in this state.
async fn until(world: &World, state: RunState) {
    let seen = async {
        while world.all().last().is_none_or(|told| told.state() != state) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.expect("it gets there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_held_goes_on_when_the_switch_is_lifted() {
    let world = world();
    let orders = async {
        until(&world, RunState::Running).await;
        set(&world, "feature=support", SwitchKind::Pause).await;
        until(&world, RunState::Interrupted).await;
        assert_eq!(world.runtime.store().holds().expect("holds"), [], "it holds nothing");
        lift(&world, "feature=support").await;
    };
    let (told, ()) = tokio::join!(world.run_with(Labels::new()), orders);
    assert_eq!((told.state(), interruptions(&told)), (RunState::Finished, 1), "{}", told.show());
    world.verify();
    let world = world.reopen();
    assert_eq!(world.runtime.store().orders().expect("it reads").switches.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_that_is_ended_stops_its_runs_at_their_next_call() {
    let world = world();
    let orders = async {
        until(&world, RunState::Running).await;
        set(&world, "feature=support", SwitchKind::Kill).await;
    };
    let (told, ()) = tokio::join!(world.run_with(Labels::new()), orders);
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Switch), "{}", told.show());
    assert_eq!(told.calls().count(), 1, "not even a last answer");
    let world = world.reopen();
    let told = world.run().await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Switch), "it outlives the process");
    assert_eq!(told.calls().count(), 0);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_taken_out_of_use_is_passed_over() {
    let world = world();
    set(&world, "model=openai/gpt-5-mini", SwitchKind::Pause).await;
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    assert!(told.calls().all(|call| call.model.as_str() == "openai/gpt-5-nano"), "{}", told.show());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_taken_into_use_again_is_asked_again() {
    let world = world();
    set(&world, "model=openai/gpt-5-mini", SwitchKind::Pause).await;
    let orders = async {
        until(&world, RunState::Running).await;
        lift(&world, "model=openai/gpt-5-mini").await;
    };
    let (told, ()) = tokio::join!(world.run_with(Labels::new()), orders);
    let models: Vec<&str> = told.calls().map(|call| call.model.as_str()).collect();
    assert_eq!(models, ["openai/gpt-5-nano", "openai/gpt-5-mini"], "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_model_is_switched_off_it_is_said_who_did_it_why_and_how_to_lift_it() {
    let world = world();
    for model in ["mini", "nano"] {
        set(&world, &format!("model=openai/gpt-5-{model}"), SwitchKind::Pause).await;
    }
    let told = world.run().await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Switch), "{}", told.show());
    let why = told.refusal().to_string();
    for part in [
        "openai/gpt-5-mini: somebody switched it off",
        "model=openai/gpt-5-nano set by ann at ",
        "odd answers",
        "`plimsoll switch lift model=openai/gpt-5-mini --reason TEXT` lifts it",
    ] {
        assert!(why.contains(part), "{part} isn't in: {why}");
    }
    assert_eq!(told.calls().count(), 0);
    world.verify();
}
