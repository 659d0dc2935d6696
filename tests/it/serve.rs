//! The service over TCP: what is asked of it by whoever has only HTTP.

mod access;
mod at_once;
mod browser;
mod document;
mod fuzz;
mod metrics;
mod orders;
mod pages;
mod reload;
mod tls;
mod turns;

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll::api::tcp::Tcp;
use plimsoll::api::{Intake, IntakeOptions, Service};
use plimsoll::clock::Clock;
use plimsoll::domain::event::RunState;
use plimsoll::runtime::Runtime;
use plimsoll::spec::load::{LoadOptions, load_configuration};
use plimsoll::units::Millis;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::{Recipe, World};

const AGENT: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n[limits]\nmodel_call_time = \"60s\"\n[prompt]\nuser = \"{{ input }}\"\n";
const BUDGET: &str = "[[budgets]]\nname = \"all-time\"\ncap = \"$5\"\nper = \"total\"\n";
/// Answers at once, or late where it is asked to take its time.
const SCENARIO: &str = "\
[[rule]]
when = { contains = \"slowly\" }
latency = \"2s\"
text = \"late\"

[[reply]]
repeat = \"forever\"
text = \"It was shipped.\"
";

/// A service over a world.
struct Served {
    service: Service,
    address: SocketAddr,
    http: reqwest::Client,
    stop: watch::Sender<bool>,
    stop_answers: watch::Sender<bool>,
    work: JoinSet<()>,
    answers: JoinSet<()>,
}

impl Served {
    async fn of(world: &World, options: IntakeOptions) -> Self {
        Self::over(world.runtime.clone(), world, options).await
    }

    async fn over(runtime: Runtime, world: &World, options: IntakeOptions) -> Self {
        let budgets = load_configuration(world.folder.path(), &LoadOptions::default()).expect("it loads").budgets;
        let intake = Intake::new(runtime.clone(), options);
        let service = Service::new(runtime, &budgets, Clock::system()).with_intake(intake.clone());
        let tcp = Tcp::bind("127.0.0.1:0".parse().expect("an address"), service.gatekeeper()).await.expect("it binds");
        let (address, stop, stop_answers) = (tcp.address(), watch::Sender::new(false), watch::Sender::new(false));
        let (mut work, mut answers) = (JoinSet::new(), JoinSet::new());
        let stopped = stop.subscribe();
        work.spawn(async move { intake.work(stopped).await.expect("it works") });
        let tcp = tcp.with_pages(plimsoll::pages::router(service.clone(), false).expect("pages"));
        answers.spawn(tcp.serve(service.clone(), stop_answers.subscribe()));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { service, address, http, stop, stop_answers, work, answers }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.expect("an answer")
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.http.post(self.url(path)).json(body).send().await.expect("an answer")
    }

    async fn keyed(&self, key: &str, body: &Value) -> Response {
        let request = self.http.post(self.url("/v1/runs")).header("Idempotency-Key", key).json(body);
        request.send().await.expect("an answer")
    }

    async fn stop_runs(&mut self) {
        self.stop.send_replace(true);
        while self.work.join_next().await.is_some() {}
    }

    async fn close(mut self) {
        self.stop_runs().await;
        self.stop_answers.send_replace(true);
        drop((self.http, self.service));
        // Connections end with the client's, and with them the last hold on the store.
        let ended = async { while self.answers.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("nobody is connected any more");
    }
}

async fn told(response: Response, status: StatusCode) -> Value {
    let (found, head) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    assert_eq!(found, status, "{head:?} {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn ask(input: &str) -> Value {
    json!({"agent": "a", "input": input, "labels": {"tenant": "acme"}})
}

fn waiting(input: &str) -> Value {
    json!({"agent": "a", "input": input, "wait": "20s"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_made_found_and_waited_for() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let made = served.post("/v1/runs", &ask("quick")).await;
    let place = made.headers()["location"].to_str().expect("a path").to_owned();
    let made = told(made, StatusCode::ACCEPTED).await;
    assert_eq!(place, format!("/v1/runs/{}", made["run"].as_str().expect("an id")));
    let ended = told(served.get(&format!("{place}?wait=20s")).await, StatusCode::OK).await;
    assert_eq!((&ended["state"], &ended["output"]), (&json!("finished"), &json!("It was shipped.")));
    let at_once = told(served.post("/v1/runs", &waiting("quick")).await, StatusCode::OK).await;
    assert_eq!(at_once["state"], "finished");
    let listed = told(served.get("/v1/runs?label=tenant=acme").await, StatusCode::OK).await;
    assert_eq!(listed["runs"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(served.get("/readyz").await.status(), StatusCode::OK);
    let over = told(served.post(&format!("{place}/resume"), &json!({})).await, StatusCode::CONFLICT).await;
    assert_eq!(over["code"], "plimsoll::api::state");
    served.close().await;
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_wrongly_is_a_problem_document() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let label = json!({"agent": "a", "input": "x", "labels": {"owner": "me"}});
    let cases = [
        (json!({"agent": "b", "input": "x"}), StatusCode::NOT_FOUND, "no_such_agent", "there are a"),
        (json!({"agent": "a", "input": 7}), StatusCode::UNPROCESSABLE_ENTITY, "input", ""),
        (json!({"agent": "a", "imput": "x"}), StatusCode::BAD_REQUEST, "bad_request", ""),
        (label, StatusCode::BAD_REQUEST, "bad_request", "plimsoll.toml"),
        (json!({"agent": "a", "input": "x", "priority": "now"}), StatusCode::BAD_REQUEST, "bad_request", "normal"),
        (json!({"agent": "a", "input": "x", "wait": "long"}), StatusCode::BAD_REQUEST, "bad_request", "20s"),
        (json!([]), StatusCode::BAD_REQUEST, "bad_request", ""),
    ];
    for (body, status, code, help) in cases {
        let response = served.post("/v1/runs", &body).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem = told(response, status).await;
        assert_eq!(problem["code"], format!("plimsoll::api::{code}"), "{body}");
        assert_eq!(problem["status"], status.as_u16());
        assert!(problem["help"].as_str().is_some_and(|told| told.contains(help)), "{problem}");
    }
    assert!(world.all().is_empty(), "nothing was made");
    for (name, value) in
        [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "http://localhost:8888")]
    {
        let response = served.http.get(served.url("/v1/runs")).header(name, value).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}");
    }
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_makes_one_run_however_often_it_is_sent() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let body = ask("quick");
    let (first, second, third) =
        tokio::join!(served.keyed("k", &body), served.keyed("k", &body), served.keyed("k", &body));
    let mut made = Vec::new();
    for response in [first, second, third, served.keyed("k", &ask("quick")).await] {
        match response.status() {
            StatusCode::CONFLICT => assert!(response.headers().contains_key("retry-after")),
            _ => made.push(response.json::<Value>().await.expect("JSON")["run"].clone()),
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1, "{made:?}");
    let mut other = ask("quick");
    other["labels"] = json!({"tenant": "other"});
    for body in [ask("another"), other] {
        let problem = told(served.keyed("k", &body).await, StatusCode::CONFLICT).await;
        assert_eq!(problem["code"], "plimsoll::api::key");
    }
    served.close().await;
    assert_eq!(world.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_line_sends_away_and_says_when_to_come_back() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let options = IntakeOptions { parallel: 1, waiting: 1, grace: Millis::ZERO };
    let served = Served::of(&world, options).await;
    let driven = told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    let driven = format!("/v1/runs/{}", driven["run"].as_str().expect("an id"));
    while told(served.get(&driven).await, StatusCode::OK).await["state"] == "queued" {}
    told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    let away = served.post("/v1/runs", &ask("slowly")).await;
    assert!(away.headers()["retry-after"].to_str().is_ok_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s > 0)));
    assert_eq!(told(away, StatusCode::TOO_MANY_REQUESTS).await["code"], "plimsoll::api::full");
    assert_eq!(world.all().len(), 2, "who is sent away leaves nothing behind");
    served.close().await;
}

/// A call that takes until somebody opens `gate`, a named pipe in the project's folder, to write.
const HOLD: &str =
    "description = 'Holds'\nkind = 'command'\ncommand = ['cat', 'gate']\nidempotent = true\n[input]\ntype = 'object'\n";

fn held() -> Recipe {
    let held =
        "[[rule]]\nwhen = { contains = \"slowly\", turn = 0 }\ntool_calls = [{ name = 'hold', arguments = {} }]\n";
    let agent = format!("tools = ['hold']\n{AGENT}");
    let recipe = Recipe::agent(&agent).file("tools/hold.toml", HOLD).file("plimsoll.toml", BUDGET);
    recipe.scenario(held).rule("[[reply]]\nrepeat = \"forever\"\ntext = \"It was shipped.\"\n")
}

/// Makes the gate of a held call.
fn gate(world: &World) -> std::path::PathBuf {
    let gate = world.folder.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().expect("it runs").success());
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_interrupts_goes_on_at_the_next_start() {
    let world = held().start();
    let gate = gate(&world);
    let options = IntakeOptions { parallel: 1, waiting: 10, grace: Millis(50) };
    let mut served = Served::of(&world, options).await;
    let slow = told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    let place = format!("/v1/runs/{}", slow["run"].as_str().expect("an id"));
    while told(served.get(&place).await, StatusCode::OK).await["state"] != "running" {}
    told(served.post("/v1/runs", &ask("quick")).await, StatusCode::ACCEPTED).await;
    served.stop.send_replace(true);
    while served.get("/readyz").await.status() != StatusCode::SERVICE_UNAVAILABLE {}
    let problem = served.post("/v1/runs", &ask("quick")).await;
    assert!(problem.headers().contains_key("retry-after"));
    assert_eq!(told(problem, StatusCode::SERVICE_UNAVAILABLE).await["code"], "plimsoll::api::closed");
    // Who opens a pipe to write waits until somebody reads: the call is in flight then.
    let opened = tokio::task::spawn_blocking(move || std::fs::write(gate, "go on"));
    served.stop_runs().await;
    let states: Vec<RunState> = world.all().iter().map(|told| told.state()).collect();
    assert!(
        matches!(states[0], RunState::Interrupted | RunState::Finished),
        "what was in flight is drained: {states:?}"
    );
    assert_eq!(states[1], RunState::Queued, "what hadn't begun waits");
    served.close().await;
    let world = world.reopen();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let ended = told(served.get(&format!("{place}?wait=20s")).await, StatusCode::OK).await;
    assert_eq!(ended["state"], "finished", "{ended}");
    opened.await.expect("no panic").expect("it was read");
    let second = world.all()[1].run.id;
    told(served.get(&format!("/v1/runs/{second}?wait=20s")).await, StatusCode::OK).await;
    served.close().await;
    assert!(world.all().iter().all(|told| told.state() == RunState::Finished));
    world.verify();
}

/// The events of a stream: its numbers and kinds, and the text pieces beside them.
fn frames(text: &str) -> Vec<(Option<u32>, String)> {
    let frames = text.split("\n\n").filter(|frame| frame.contains("event:"));
    let field = |frame: &str, name: &str| {
        frame.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    frames
        .map(|frame| (field(frame, "id:").and_then(|id| id.parse().ok()), field(frame, "event:").unwrap_or_default()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_can_be_resumed_anywhere() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let made = told(served.post("/v1/runs", &ask("quick")).await, StatusCode::ACCEPTED).await;
    let path = format!("/v1/runs/{}/events", made["run"].as_str().expect("an id"));
    let response = served.get(&path).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let all = frames(&response.text().await.expect("it ends with the run"));
    let all: Vec<_> = all.into_iter().filter(|(number, _)| number.is_some()).collect();
    let log = &world.all()[0].log;
    let numbers: Vec<Option<u32>> = log.iter().map(|recorded| Some(recorded.seq)).collect();
    assert_eq!(all.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers);
    assert_eq!((all[0].1.as_str(), all[all.len() - 1].1.as_str()), ("created", "ended"));
    for last in 0..log.len() {
        let request = served.http.get(served.url(&path)).header("Last-Event-ID", last.to_string());
        let response = request.send().await.expect("an answer");
        if last + 1 == log.len() {
            assert_eq!(response.status(), StatusCode::NO_CONTENT, "nothing is left");
        } else {
            assert_eq!(frames(&response.text().await.expect("it ends")), all[last + 1..], "after {last}");
        }
    }
    let bad = served.get(&format!("{path}?after=some")).await;
    assert_eq!(told(bad, StatusCode::BAD_REQUEST).await["code"], "plimsoll::api::bad_request");
    served.close().await;
}
