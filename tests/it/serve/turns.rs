//! Whose turn it is, and who gives way: runs that a switch holds, that people answered, of many tenants.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll::api::IntakeOptions;
use plimsoll::domain::event::{Call, Event, Reserved, RunState};
use plimsoll::units::Millis;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{AGENT, BUDGET, SCENARIO, Served, ask, gate, held, told};
use crate::world::{Recipe, World};

/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// What a person decides, with a call before and one behind it.
pub(super) const RELEASE: &str = "\
[model]
models = ['openai/gpt-5-mini']
[limits]
expires = '1d'
[[stage]]
id = 'draft'
kind = 'model'
prompt = { user = 'DRAFT {{ input }}' }
[[stage]]
id = 'release'
kind = 'approval'
needs = ['draft']
ask = 'Send this?'
show = 'stages.draft.output'
[[stage]]
id = 'send'
kind = 'model'
needs = ['release']
prompt = { user = 'SEND {{ input }}' }
";

pub(super) fn options(parallel: usize) -> IntakeOptions {
    IntakeOptions { parallel, waiting: 10, grace: Millis(50) }
}

pub(super) fn of(agent: &str, input: &str, wait: &str) -> Value {
    json!({"agent": agent, "input": input, "wait": wait})
}

async fn switch(served: &Served, path: &str, body: &Value) {
    let response = served.post(path, body).await;
    assert!(response.status().is_success(), "{path}: {}", response.text().await.expect("a body"));
}

/// Opens the gate of a held call, once somebody waits at it.
fn open(gate: PathBuf) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go on").expect("it was read"))
}

pub(super) async fn until(world: &World, what: &str, is: impl Fn(&World) -> bool) {
    let seen = async {
        while !is(world) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{what}: {:?}", states(world)));
}

fn is_tool(reserved: &Reserved) -> bool {
    matches!(reserved.call, Call::Tool { .. })
}

fn states(world: &World) -> Vec<RunState> {
    world.all().iter().map(|told| told.state()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_feature_that_is_held_are_in_nobodys_way() {
    let world = held().amend("agents/a.toml", "tools", "feature = 'x'\ntools").file("agents/b.toml", AGENT).start();
    let gate = gate(&world);
    let served = Served::of(&world, options(2)).await;
    // One is held while it goes on, the others before they begin.
    told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    until(&world, "it waits at the gate", |world| world.all().iter().any(|told| told.reservations().any(is_tool)))
        .await;
    let why = json!({"scope": "feature=x", "switch": "pause", "reason": "odd answers", "by": "ann"});
    switch(&served, "/v1/switches", &why).await;
    for _ in 0..2 {
        told(served.post("/v1/runs", &ask("quick")).await, StatusCode::ACCEPTED).await;
    }
    open(gate).await.expect("no panic");
    until(&world, "it is held", |world| states(world)[0] == RunState::Interrupted).await;
    for _ in 0..3 {
        let other = told(served.post("/v1/runs", &of("b", "quick", "20s")).await, StatusCode::OK).await;
        assert_eq!(other["state"], "finished", "{other}");
    }
    assert_eq!(states(&world)[..3], [RunState::Interrupted, RunState::Queued, RunState::Queued]);
    // One that ends meanwhile is waited for by nobody.
    let last = world.all()[2].run.id;
    let ended = told(served.post(&format!("/v1/runs/{last}/cancel"), &json!({"wait": "20s"})).await, StatusCode::OK);
    assert_eq!(tokio::time::timeout(PATIENCE / 2, ended).await.expect("at once")["state"], "cancelled");
    switch(&served, "/v1/switches/lift", &json!({"scope": "feature=x", "reason": "mended", "by": "ann"})).await;
    for run in &world.all()[..2] {
        let path = format!("/v1/runs/{}?wait=20s", run.run.id);
        assert_eq!(told(served.get(&path).await, StatusCode::OK).await["state"], "finished");
    }
    served.close().await;
    world.verify();
}

/// A tenant's money is there for one run at a time.
const EACH: &str = "[[budgets]]\nname = 'each'\ncap = '$1'\nper = 'total'\neach = ['tenant']\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_for_its_tenants_money_lets_another_tenant_begin() {
    let dear = "[limits]\ncost = '$1'\nexpected_cost = '$0.9'\n";
    let world = held().amend("agents/a.toml", "[limits]\n", dear).file("plimsoll.toml", EACH).start();
    let gate = gate(&world);
    let served = Served::of(&world, options(2)).await;
    told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    until(&world, "it waits at the gate", |world| world.all().iter().any(|told| told.reservations().any(is_tool)))
        .await;
    told(served.post("/v1/runs", &ask("quick")).await, StatusCode::ACCEPTED).await;
    let mut other = of("a", "quick", "20s");
    other["labels"] = json!({"tenant": "other"});
    let other = told(served.post("/v1/runs", &other).await, StatusCode::OK).await;
    assert_eq!(other["state"], "finished", "{other}");
    assert_eq!(states(&world)[..2], [RunState::Running, RunState::Queued]);
    open(gate).await.expect("no panic");
    until(&world, "both are over", |world| states(world).iter().all(|state| state.is_ended())).await;
    served.close().await;
    assert!(world.all()[1].events().all(|event| !matches!(event, Event::Interrupted(_))), "{}", world.all()[1].show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_may_be_held_as_may_wait() {
    let world = Recipe::agent(&format!("feature = 'x'\n{AGENT}")).file("agents/b.toml", AGENT);
    let world = world.scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions { waiting: 2, ..options(1) }).await;
    let why = json!({"scope": "feature=x", "switch": "pause", "reason": "odd answers", "by": "ann"});
    switch(&served, "/v1/switches", &why).await;
    let full = async {
        loop {
            let response = served.post("/v1/runs", &ask("quick")).await;
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                let problem = response.json::<Value>().await.expect("JSON");
                // Two, or three, where one was in line as the second came to be held.
                if problem["detail"].as_str().is_some_and(|told| told.contains(" runs wait for a switch")) {
                    return problem;
                }
            }
        }
    };
    let problem = tokio::time::timeout(PATIENCE, full).await.expect("there is an end");
    assert_eq!(problem["code"], "plimsoll::api::full", "{problem}");
    assert_eq!(told(served.post("/v1/runs", &of("b", "x", "20s")).await, StatusCode::OK).await["state"], "finished");
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_answers_goes_on_in_its_turn_and_has_its_grace() {
    let sends = "[[rule]]\nwhen = { contains = 'SEND' }\nlatency = '300ms'\ntext = 'sent'\n";
    let recipe = held().file("agents/b.toml", RELEASE);
    let scenario = format!("{sends}{HOLD_ONCE}[[reply]]\nrepeat = 'forever'\ntext = 'well'\n");
    let world = recipe.scenario(&scenario).start();
    let gate = gate(&world);
    let mut served = Served::of(&world, IntakeOptions { grace: Millis::from_secs(20), ..options(1) }).await;
    let asked = told(served.post("/v1/runs", &of("b", "x", "20s")).await, StatusCode::OK).await;
    assert_eq!(asked["state"], "awaiting_approval", "{asked}");
    told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    until(&world, "it runs", |world| states(world).get(1) == Some(&RunState::Running)).await;
    let path = format!("/v1/runs/{}/approve", asked["run"].as_str().expect("an id"));
    let answered = told(served.post(&path, &json!({"by": "ann", "wait": "1s"})).await, StatusCode::OK).await;
    assert_eq!(answered["state"], "interrupted", "the one place is taken: {answered}");
    open(gate).await.expect("no panic");
    until(&world, "its turn", |world| states(world)[0] == RunState::Running).await;
    served.stop_runs().await;
    assert_eq!(states(&world), [RunState::Finished, RunState::Finished], "what goes on is finished first");
    served.close().await;
    world.verify();
}

const HOLD_ONCE: &str =
    "[[rule]]\nwhen = { contains = \"slowly\", turn = 0 }\ntool_calls = [{ name = 'hold', arguments = {} }]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_in_time_is_gone_on_without() {
    let agent = RELEASE.replace("'1d'", "'1s'");
    let world = Recipe::agent(&agent).scenario("[[reply]]\nrepeat = 'forever'\ntext = 'well'\n").start();
    let served = Served::of(&world, options(1)).await;
    let asked = told(served.post("/v1/runs", &of("a", "x", "20s")).await, StatusCode::OK).await;
    until(&world, "it goes on", |world| states(world)[0].is_ended()).await;
    assert_eq!(states(&world), [RunState::Stopped], "{asked}");
    served.close().await;
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tenant_doesnt_fill_the_line() {
    let world = held().start();
    let gate = gate(&world);
    let served = Served::of(&world, options(1)).await;
    told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    until(&world, "it runs", |world| states(world)[0] == RunState::Running).await;
    for _ in 0..8 {
        told(served.post("/v1/runs", &ask("quick")).await, StatusCode::ACCEPTED).await;
    }
    let away = served.post("/v1/runs", &ask("quick")).await;
    assert!(away.headers().contains_key("retry-after"));
    let problem = told(away, StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(problem["code"], "plimsoll::api::full");
    assert!(problem["detail"].as_str().is_some_and(|told| told.contains("8 runs of tenant `acme`")), "{problem}");
    let mut other = ask("quick");
    other["labels"] = json!({"tenant": "other"});
    told(served.post("/v1/runs", &other).await, StatusCode::ACCEPTED).await;
    open(gate).await.expect("no panic");
    until(&world, "all are over", |world| states(world).iter().all(|state| state.is_ended())).await;
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_for_another_agent_is_another_request() {
    let world = Recipe::agent(AGENT).file("agents/b.toml", AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET);
    let world = world.start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    told(served.keyed("k", &of("a", "quick", "20s")).await, StatusCode::OK).await;
    let problem = told(served.keyed("k", &of("b", "quick", "20s")).await, StatusCode::CONFLICT).await;
    assert_eq!(problem["code"], "plimsoll::api::key");
    served.close().await;
    assert_eq!(world.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_key() {
    let world = held().start();
    let gate = gate(&world);
    let served = Served::of(&world, options(1)).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let (id, reader) = served.make(Some(&admin), &json!({"name": "dashboard", "scopes": ["read"]})).await;
    let made = served.with(&admin, Method::POST, "/v1/runs", Some(&ask("slowly"))).await;
    let run = told(made, StatusCode::ACCEPTED).await["run"].as_str().expect("an id").to_owned();
    until(&world, "it runs", |world| states(world)[0] == RunState::Running).await;
    let stream = served.with(&reader, Method::GET, &format!("/v1/runs/{run}/events"), None).await;
    assert_eq!(stream.status(), StatusCode::OK);
    let page = served.with(&admin, Method::GET, &format!("/v1/runs/{run}/events"), None).await;
    let why = json!({"by": "ann", "reason": "lost"});
    let revoked = served.with(&admin, Method::POST, &format!("/v1/keys/{id}/revoke"), Some(&why)).await;
    told(revoked, StatusCode::OK).await;
    let heard = tokio::time::timeout(PATIENCE, stream.text()).await.expect("it ends").expect("text");
    assert!(heard.contains("plimsoll::api::unauthorized") && !heard.contains("event: ended"), "{heard}");
    assert_eq!(states(&world), [RunState::Running], "it goes on, unheard");
    open(gate).await.expect("no panic");
    let heard = tokio::time::timeout(PATIENCE, page.text()).await.expect("it ends").expect("text");
    assert!(heard.contains("event: ended"), "{heard}");
    served.close().await;
}

/// Two lanes beside each other: a tool that is held, and two calls after one another.
const LANES: &str = "\
feature = 'x'
tools = ['hold']
[model]
models = ['openai/gpt-5-mini']
[output]
from = 'second'
[[stage]]
id = 'wait'
kind = 'tool'
tool = 'hold'
[[stage]]
id = 'first'
kind = 'model'
prompt = { user = 'FIRST {{ input }}' }
[[stage]]
id = 'second'
kind = 'model'
needs = ['first']
prompt = { user = 'SECOND {{ stages.first.output }}' }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_switch_holds_up_the_end_of_a_run_that_is_cancelled() {
    let late = "[[rule]]\nwhen = { contains = 'FIRST' }\nlatency = '400ms'\ntext = 'one'\n";
    let scenario = format!("{late}[[reply]]\nrepeat = 'forever'\ntext = 'well'\n");
    let world = held().file("agents/a.toml", LANES).scenario(&scenario).start();
    let _gate = gate(&world);
    let served = Served::of(&world, options(1)).await;
    let made = told(served.post("/v1/runs", &ask("x")).await, StatusCode::ACCEPTED).await;
    let cancel = format!("/v1/runs/{}/cancel", made["run"].as_str().expect("an id"));
    until(&world, "both lanes go on", |world| world.all().iter().any(|told| told.reservations().count() == 2)).await;
    let why = json!({"scope": "feature=x", "switch": "pause", "reason": "odd answers", "by": "ann"});
    switch(&served, "/v1/switches", &why).await;
    // The second call is refused its turn; the tool is still waited for.
    until(&world, "one lane is over", |world| world.all()[0].settlements().count() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let why = json!({"reason": "not needed", "wait": "20s"});
    let cancelled = served.post(&cancel, &why);
    let cancelled = tokio::time::timeout(PATIENCE / 2, cancelled).await.expect("nobody waits for what has ended");
    assert_eq!(told(cancelled, StatusCode::OK).await["state"], "cancelled");
    served.close().await;
    assert_eq!(world.invoice().count, 1, "nothing more was asked");
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cancelled_while_the_service_stops_ends_cancelled() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let mut served = Served::of(&world, options(1)).await;
    let made = told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    until(&world, "it calls", |world| world.all().iter().any(|told| told.reservations().count() == 1)).await;
    served.stop.send_replace(true);
    while served.get("/readyz").await.status() != StatusCode::SERVICE_UNAVAILABLE {}
    // Longer than its grace: the call is drained, and nothing more is asked.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let path = format!("/v1/runs/{}/cancel", made["run"].as_str().expect("an id"));
    told(served.post(&path, &json!({"reason": "not needed"})).await, StatusCode::OK).await;
    assert_eq!(states(&world), [RunState::Cancelled]);
    served.stop_runs().await;
    served.close().await;
    world.verify();
}
