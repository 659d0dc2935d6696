//! OpenTelemetry: what a collector gets of a run, and that a run is none the worse for a collector.

mod tree;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use plimsoll::ids::RunId;
use plimsoll::units::Money;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::desk::{Desk, Told};

const AGENT: &str = r#"
feature = "desk"
[model]
models = ["openai/gpt-5-mini", "openai/gpt-5-nano"]
[retry]
attempts = 4
backoff = "1ms"
[prompt]
version = "v7"

[[stage]]
id = "sort"
kind = "model"
prompt = { user = "Sort {{ input }}" }

[[stage]]
id = "look"
kind = "loop"
needs = ["sort"]
tools = ["now"]
prompt = { user = "Look up {{ stages.sort.output }}" }
"#;
const TOOL: &str = "description = \"Tells the time\"\nkind = \"command\"\ncommand = [\"echo\", \"half past nine\"]\nidempotent = true\n[input]\ntype = \"object\"\n";
const SCENARIO: &str = r#"
[[rule]]
when = { contains = "Sort", model = "gpt-5-mini" }
fault = "server_error"
[[rule]]
when = { contains = "Sort" }
text = "urgent matter"
[[reply]]
tool_calls = [{ name = "now", arguments = {} }]
[[reply]]
text = "secret answer"
"#;
const INPUT: &str = "my sister is late";

type Got = Arc<Mutex<Vec<(String, Value)>>>;

/// Takes what it is sent.
struct Collector {
    address: String,
    got: Got,
    _serves: JoinSet<()>,
}

impl Collector {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let got = Got::default();
        let take = async |State(got): State<Got>, uri: Uri, body: Bytes| {
            let body = serde_json::from_slice(&body).expect("JSON");
            got.lock().expect("whole").push((uri.path().to_owned(), body));
            axum::Json(serde_json::json!({}))
        };
        let router = Router::new().fallback(take).with_state(Arc::clone(&got));
        let mut serves = JoinSet::new();
        serves.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, got, _serves: serves }
    }

    /// Everything under a path of fields, of all that came to one path.
    fn all(&self, path: &str, fields: &[&str]) -> Vec<Value> {
        let got = self.got.lock().expect("whole");
        let mut found: Vec<Value> = got.iter().filter(|(at, _)| at == path).map(|(_, body)| body.clone()).collect();
        for field in fields {
            found = found.iter().flat_map(|value| value[*field].as_array().cloned().unwrap_or_default()).collect();
        }
        found
    }

    fn spans(&self) -> Vec<Span> {
        self.all("/v1/traces", &["resourceSpans", "scopeSpans", "spans"]).iter().map(Span::of).collect()
    }
}

/// A span, as the collector got it.
#[derive(Debug)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    began: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
    events: Vec<Value>,
}

impl Span {
    fn of(span: &Value) -> Self {
        let text = |field: &str| span[field].as_str().unwrap_or_default().to_owned();
        let time = |field: &str| text(field).parse().expect("a time");
        Self {
            began: time("startTimeUnixNano"),
            ended: time("endTimeUnixNano"),
            events: span["events"].as_array().cloned().unwrap_or_default(),
            name: text("name"),
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            attributes: attributes(&span["attributes"]),
        }
    }

    fn has(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value["stringValue"].as_str().or(value["intValue"].as_str()).map(str::to_owned);
    let plain = |value: &Value| text(value).unwrap_or_else(|| value.to_string());
    let pairs = list.as_array().expect("a list").iter();
    pairs.map(|pair| (pair["key"].as_str().expect("a key").to_owned(), plain(&pair["value"]))).collect()
}

fn desk(project: &str) -> Desk {
    let desk = Desk::empty();
    desk.write("plimsoll.toml", project);
    desk.write("agents/w.toml", AGENT);
    desk.write("tools/now.toml", TOOL);
    desk.write("s.toml", SCENARIO);
    desk
}

async fn run(desk: &Desk, variables: &[(&str, &str)]) -> Told {
    run_with(desk, &[], variables).await
}

async fn run_with(desk: &Desk, more: &[&str], variables: &[(&str, &str)]) -> Told {
    let arguments = ["run", "w", "--input", INPUT, "--label", "tenant=acme", "--scenario", "s.toml", "--json"];
    let told = command(desk, &[&arguments[..], more].concat(), variables).await;
    told.expect_code(0);
    told
}

async fn command(desk: &Desk, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
    let child = desk.command(arguments).envs(variables.iter().copied()).spawn().expect("it starts");
    tokio::task::spawn_blocking(move || Told::of(child)).await.expect("it ends")
}

const JSON: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_tree_of_a_run_and_what_it_cost() {
    let collector = Collector::new().await;
    let told = run(&desk(""), &[JSON, ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address)]).await;
    let (document, spans) = (told.json(), collector.spans());
    let run: RunId = document["run"].as_str().expect("an id").parse().expect("an id");
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let (root, sort, look) = (named("invoke_agent w")[0], named("stage sort")[0], named("stage look")[0]);
    let chats: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("chat gpt-5-")).collect();
    let (tools, attempts) = (named("execute_tool now"), document["attempts"].as_u64().expect("a number"));
    assert_eq!(
        (spans.len(), u64::try_from(chats.len()).expect("few"), tools.len()),
        (chats.len() + 4, attempts, 1),
        "{spans:#?}"
    );
    // One trace, by the run's own number; stages below the run, attempts below stages.
    assert!(
        spans
            .iter()
            .all(|span| span.trace == format!("{:032x}", run.bits()) && span.has("plimsoll.run.id") == run.to_string())
    );
    assert_eq!((&*root.parent, &sort.parent, &look.parent), ("", &root.id, &root.id));
    let sorting = chats.iter().filter(|chat| chat.parent == sort.id).count();
    assert!(sorting > 1, "a retry is a span of its own");
    assert_eq!(chats.iter().filter(|chat| chat.parent == look.id).count(), 2);
    assert_eq!(tools[0].parent, look.id);
    // What they say.
    assert_eq!(root.has("gen_ai.operation.name"), "invoke_workflow");
    assert_eq!(
        (root.has("plimsoll.run.state"), root.has("plimsoll.retry_count")),
        ("finished", &*(sorting - 1).to_string())
    );
    for chat in &chats {
        let said = ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.prompt.version"];
        assert_eq!(said.map(|name| chat.has(name)), ["chat", "openai", "v7"], "{chat:?}");
        let said = ["gen_ai.prompt.name", "gen_ai.request.stream", "plimsoll.decision", "server.address"];
        assert_eq!(said.map(|name| chat.has(name)), ["w", r#"{"boolValue":true}"#, "allow", "127.0.0.1"], "{chat:?}");
        let labels = ["plimsoll.tenant", "plimsoll.feature", "plimsoll.environment"];
        assert_eq!(labels.map(|name| chat.has(name)), ["acme", "desk", "development"]);
    }
    let failed: Vec<&&Span> = chats.iter().filter(|chat| !chat.has("error.type").is_empty()).collect();
    assert_eq!(failed.len(), sorting - 1);
    assert!(failed.iter().all(|chat| (chat.has("error.type"), &chat.parent) == ("server", &sort.id)), "{failed:#?}");
    for chat in chats.iter().filter(|chat| chat.has("error.type").is_empty()) {
        let (answer, request) = (chat.has("gen_ai.response.id"), chat.has("plimsoll.provider_request_id"));
        // The simulated provider tells no id of a request: its answer names it.
        assert!(answer.starts_with("chatcmpl-") && request == answer, "{chat:?}");
    }
    assert_eq!(tools[0].has("gen_ai.tool.type"), "function");
    // Money and tokens, exactly.
    let pico = |name: &str, span: &Span| span.has(name).parse::<u128>().unwrap_or_default();
    let settled: Money = document["cost"]["settled_usd"].as_str().expect("an amount").parse().expect("an amount");
    let sum = chats.iter().chain(&tools).map(|span| pico("plimsoll.settled_picousd", span)).sum::<u128>();
    assert_eq!((sum, pico("plimsoll.settled_picousd", root)), (settled.pico(), settled.pico()));
    let output: u128 = chats.iter().map(|span| pico("gen_ai.usage.output_tokens", span)).sum();
    assert_eq!(output, document["tokens"]["output"].as_u64().expect("a number").into());
    // Metrics say the same, and name the service.
    let metrics = collector.all("/v1/metrics", &["resourceMetrics", "scopeMetrics", "metrics"]);
    let metric = |name: &str| {
        metrics.iter().rfind(|metric| metric["name"] == name).unwrap_or_else(|| panic!("{name}: {metrics:?}"))
    };
    let tokens = metric("gen_ai.client.inference.usage.output_tokens");
    let points = tokens["sum"]["dataPoints"].as_array().expect("points").iter();
    let number = |point: &Value| point["asInt"].as_str().expect("a number").parse::<u128>().expect("a number");
    assert_eq!(points.map(number).sum::<u128>(), output, "{tokens}");
    assert_eq!((&tokens["unit"], &metric("plimsoll.cost")["unit"]), (&"{token}".into(), &"picoUSD".into()));
    assert_eq!(metric("gen_ai.client.inference.duration")["unit"], "s");
    let resources = collector.all("/v1/traces", &["resourceSpans"]);
    assert_eq!(attributes(&resources[0]["resource"]["attributes"])["service.name"], "plimsoll");
    let scopes = collector.all("/v1/traces", &["resourceSpans", "scopeSpans"]);
    assert_eq!(scopes[0]["schemaUrl"], "https://opentelemetry.io/schemas/gen-ai/0.1.0", "{}", scopes[0]);
    assert_eq!(metric("plimsoll.holds.unresolved")["gauge"]["dataPoints"][0]["asInt"], "0");
    // Nothing that anybody wrote.
    let all = format!("{:?}", collector.got.lock().expect("whole"));
    for word in ["sister", "urgent matter", "secret answer", "half past nine"] {
        assert!(!all.contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_goes_out_where_the_project_says_so() {
    let collector = Collector::new().await;
    let project = format!("[telemetry]\notlp = \"{}/\"\ncontent = true\n", collector.address);
    run(&desk(&project), &[JSON]).await;
    let spans = collector.spans();
    let some = |name: &str, word: &str| spans.iter().any(|span| span.has(name).contains(word));
    assert!(some("gen_ai.input.messages", "sister") && some("gen_ai.output.messages", "secret answer"), "{spans:#?}");
    assert!(some("gen_ai.tool.call.result", "half past nine"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_chooses_names_and_calls_providers_what_it_likes() {
    let collector = Collector::new().await;
    let provider =
        "[providers.prod]\nwire = \"openai-chat\"\nbase_url = \"https://api.openai.com/v1\"\nkey_env = \"K\"\n";
    let prices = "[[prices]]\nmodel = \"prod/gpt-5-mini\"\ninput = \"0.25\"\noutput = \"2\"\nreason = \"the same\"\n";
    let budget = "[[budgets]]\nname = \"month\"\ncap = \"$5\"\nper = \"month\"\neach = [\"tenant\"]\n";
    let telemetry = "[telemetry]\ngenai_names = \"both\"\ncost_attributes = true\n";
    let desk = desk(&format!("{provider}{prices}{budget}{telemetry}"));
    desk.write("agents/w.toml", "[model]\nmodels = [\"prod/gpt-5-mini\"]\nreasoning = \"low\"\n");
    desk.write(
        "s.toml",
        "[[reply]]\ntext = \"It was shipped on Monday, and will be with you by the end of the week.\"\n",
    );
    let told = run_with(&desk, &["--sim"], &[JSON, ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address)]).await;
    let spans = collector.spans();
    let chat = spans.iter().find(|span| span.name == "chat gpt-5-mini").expect("a call");
    let said = [
        "gen_ai.provider.name",
        "openai.request.service_tier",
        "gen_ai.request.reasoning.level",
        "gen_ai.usage.cost.currency",
        "gen_ai.usage.cost.source",
    ];
    assert_eq!(said.map(|name| chat.has(name)), ["openai", "default", "low", "USD", "local"], "{chat:?}");
    let cost = told.json()["cost"]["settled_usd"].as_str().expect("an amount").parse::<f64>().expect("an amount");
    assert_eq!(chat.has("gen_ai.usage.cost.amount"), serde_json::json!({ "doubleValue": cost }).to_string());
    for name in ["gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"] {
        assert_eq!(chat.has(name), "0", "{name}");
    }
    let root = spans.iter().find(|span| span.name == "invoke_agent w").expect("a run");
    assert!(root.has("plimsoll.budget.scope").contains("month (tenant=acme)"), "{root:?}");
    let metrics = collector.all("/v1/metrics", &["resourceMetrics", "scopeMetrics", "metrics"]);
    for name in [
        "gen_ai.client.inference.duration",
        "gen_ai.client.operation.duration",
        "gen_ai.client.inference.time_per_output_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.token.usage",
        "plimsoll.budget.headroom",
    ] {
        assert!(metrics.iter().any(|metric| metric["name"] == name), "{name}: {metrics:?}");
    }
}

/// What a process left in flight is settled by the next one as unknown: that is told as what any other attempt cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_counters_add_up_over_a_crash() {
    let collector = Collector::new().await;
    let (desk, endpoint) = (desk(""), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.address));
    let arguments = ["run", "w", "--input", INPUT, "--scenario", "s.toml", "--json"];
    command(&desk, &arguments, &[JSON, endpoint, ("PLIMSOLL_FAILPOINT", "provider.answered:1")]).await;
    assert!(collector.spans().is_empty(), "it died");
    let told = command(&desk, &["resume", "last", "--scenario", "s.toml", "--json"], &[JSON, endpoint]).await;
    told.expect_code(0);
    let (document, spans) = (told.json(), collector.spans());
    assert!(document["cost"]["unknown_usd"] != "0", "{document}");
    let pico = |span: &Span| span.has("plimsoll.settled_picousd").parse::<u128>().unwrap_or_default();
    let (root, below): (Vec<&Span>, Vec<&Span>) = spans.iter().partition(|span| span.name == "invoke_agent w");
    assert_eq!(below.iter().map(|span| pico(span)).sum::<u128>(), pico(root[0]), "{spans:#?}");
    let metrics = collector.all("/v1/metrics", &["resourceMetrics", "scopeMetrics", "metrics"]);
    let cost = metrics.iter().rfind(|metric| metric["name"] == "plimsoll.cost").expect("a counter");
    let points = cost["sum"]["dataPoints"].as_array().expect("points").iter();
    let sum: u128 = points.map(|point| point["asInt"].as_str().expect("a number").parse::<u128>().expect("one")).sum();
    assert_eq!(sum, pico(root[0]), "{cost}");
    let resource = &collector.all("/v1/metrics", &["resourceMetrics"])[0]["resource"];
    assert_eq!(attributes(&resource["attributes"])["plimsoll.simulated"], r#"{"boolValue":true}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_or_hangs_changes_nothing_of_a_run() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hanging = format!("http://{}", hangs.local_addr().expect("an address"));
    for endpoint in ["http://127.0.0.1:9", &hanging] {
        let began = Instant::now();
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("PLIMSOLL_LOG", "warn")];
        let told = run(&desk(""), &variables).await;
        assert_eq!((&told.json()["state"], &told.json()["output"]), (&"finished".into(), &"secret answer".into()));
        assert!(told.stderr.contains("OpenTelemetry collector"), "{told}");
        // Less than the exporter's own patience.
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    }
    let wrong = desk("[telemetry]\notlp = \"collector:4318\"\n").run(&["check"]);
    assert!(wrong.stderr.contains("`otlp` begins with neither"), "{wrong}");
}
