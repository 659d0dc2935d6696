//! The simulated provider on the wire: shapes, faults, invoice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll::sim::{Billed, End, Invoice, Line, Received, Scenario, Sim, SimHandle, SimOptions, SimPrice};
use serde_json::{Value, json};

mod faults;
mod google;

fn start(scenario: &str) -> SimHandle {
    let scenario = Scenario::parse("test", scenario).expect("a scenario");
    Sim::start(SimOptions { scenario, ..SimOptions::default() }).expect("a simulator")
}

fn start_file(name: &str) -> SimHandle {
    let scenario = Scenario::read(&scenarios().join(format!("{name}.toml"))).expect("a scenario");
    Sim::start(SimOptions { scenario, ..SimOptions::default() }).expect("a simulator")
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(20)).build().expect("a client")
}

fn request(sim: &SimHandle, body: &Value) -> reqwest::RequestBuilder {
    client().post(format!("{}/chat/completions", sim.base_url())).json(body)
}

async fn send(sim: &SimHandle, body: &Value) -> reqwest::Response {
    request(sim, body).send().await.expect("an answer")
}

async fn send_json(sim: &SimHandle, body: &Value) -> Value {
    send(sim, body).await.json().await.expect("JSON")
}

/// The data of each event of a stream.
async fn events(response: reqwest::Response) -> Vec<String> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("a whole stream");
    text.split("\n\n").filter(|event| !event.is_empty()).map(|event| event["data: ".len()..].to_owned()).collect()
}

fn parsed(events: &[String]) -> Vec<Value> {
    events.iter().filter(|event| *event != "[DONE]").map(|event| serde_json::from_str(event).expect("JSON")).collect()
}

fn ask(text: &str) -> Value {
    json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}], "max_completion_tokens": 500})
}

fn ask_stream(text: &str) -> Value {
    let mut body = ask(text);
    (body["stream"], body["stream_options"]) = (json!(true), json!({"include_usage": true}));
    body
}

fn with_tool(mut body: Value) -> Value {
    body["tools"] = json!([{"type": "function", "function": {"name": "lookup_order", "description": "Looks up an order",
        "parameters": {"type": "object", "required": ["order"], "properties": {"order": {"type": "string", "pattern": "^[0-9]{4,8}$"}}}}}]);
    body
}

fn only_line(sim: &SimHandle) -> Line {
    let lines = sim.invoice().lines;
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.into_iter().next().expect("a line")
}

/// Waits until what was received is as expected.
async fn until(sim: &SimHandle, expected: impl Fn(&[Received]) -> bool) -> Vec<Received> {
    for _ in 0..2_000 {
        let received = sim.requests();
        if expected(&received) {
            return received;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let last = sim.requests();
    assert!(expected(&last), "it never came: {last:?}");
    last
}

#[tokio::test]
async fn a_whole_answer_has_the_shape_and_price_of_the_real_one() {
    let sim = start("[[reply]]\ntext = 'All is well, really.'");
    let response = request(&sim, &ask("How are you today?")).header("X-Client-Request-Id", "01RUN#0").send().await;
    let response = response.expect("an answer");
    assert_eq!(response.headers()["x-request-id"], "chatcmpl-sim-1");
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("gpt-5-mini")));
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "All is well, really.", "refusal": null}));
    assert_eq!(choice["finish_reason"], "stop");
    // 3 to prime, 3 for the message, "How are you today" and "?": 11. "All is well" "," "really" ".": 6.
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(11), &json!(6), &json!(17))
    );
    let line = only_line(&sim);
    // $0.25 and $2 a million: 11 × 250,000 + 6 × 2,000,000 pico-dollars.
    assert_eq!((line.amount_usd.pico(), line.amount_usd.usd()), (14_750_000, "0.00001475".to_owned()));
    assert_eq!((line.billed, line.status, line.turn, line.attempt), (Billed::Whole, 200, 0, 1));
    assert_eq!((line.client_request_id.as_deref(), line.body_sha256.len()), (Some("01RUN#0"), 64));
    sim.stop().await;
}

#[tokio::test]
async fn a_stream_has_role_deltas_finish_usage_and_end() {
    let sim = start("[[reply]]\ntext = 'one two three four'\nchunk_bytes = 8");
    let events = events(send(&sim, &ask_stream("Hi")).await).await;
    assert_eq!(events.last().expect("an event"), "[DONE]");
    let chunks = parsed(&events);
    let deltas: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
    assert_eq!(
        deltas,
        [
            json!({"role": "assistant", "content": "", "refusal": null}),
            json!({"content": "one two "}),
            json!({"content": "three fo"}),
            json!({"content": "ur"}),
            json!({}),
            json!(null),
        ]
    );
    let finishes: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["finish_reason"].clone()).collect();
    assert_eq!(finishes, [json!(null), json!(null), json!(null), json!(null), json!("stop"), json!(null)]);
    let usage = chunks.last().expect("a chunk");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(4)));
    assert!(chunks[..5].iter().all(|chunk| chunk["usage"].is_null() && chunk["object"] == "chat.completion.chunk"));
    assert_eq!(usage["usage"]["prompt_tokens"], only_line(&sim).tokens.prompt);

    let mut plain = ask_stream("Hi");
    plain["stream_options"] = Value::Null;
    let chunks = parsed(&self::events(send(&sim, &plain).await).await);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none() && !chunk["choices"][0].is_null()));
    sim.stop().await;
}

#[tokio::test]
async fn tool_calls_stream_by_index_with_arguments_in_pieces() {
    let sim = start("[defaults]\nchunk_bytes = 9");
    let events = events(send(&sim, &with_tool(ask_stream("Where is 44112?"))).await).await;
    let chunks = parsed(&events);
    let calls: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!(calls[0]["function"], json!({"name": "lookup_order", "arguments": ""}));
    assert_eq!((&calls[0]["id"], &calls[0]["index"]), (&json!("call_sim-1_0"), &json!(0)));
    let arguments: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!((calls.len(), arguments.as_str()), (3, r#"{"order":"44112"}"#));
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
    sim.stop().await;
}

#[tokio::test]
async fn output_keeps_to_what_was_asked() {
    let sim = start("[[reply]]\ntext = 'one two three four five'\nrepeat = 'forever'");
    let mut body = ask("Hi");
    body["max_completion_tokens"] = json!(3);
    let answer = send_json(&sim, &body).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three ");
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]),
        (&json!("length"), &json!(3))
    );
    body["n"] = json!(2);
    let answer = send_json(&sim, &body).await;
    assert_eq!(
        (answer["choices"].as_array().map(Vec::len), &answer["usage"]["completion_tokens"]),
        (Some(2), &json!(6))
    );
    sim.stop().await;

    let sim = start("[defaults]\noutput_tokens = 200");
    assert_eq!(send_json(&sim, &ask("Hi")).await["usage"]["completion_tokens"], 200);
    let mut small = ask("Hi");
    small["max_completion_tokens"] = json!(150);
    let answer = send_json(&sim, &small).await;
    assert_eq!(
        (&answer["usage"]["completion_tokens"], &answer["choices"][0]["finish_reason"]),
        (&json!(150), &json!("length"))
    );
    sim.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_has_paid_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("invoice.jsonl");
    let scenario = Scenario::parse("test", "[[reply]]\nlatency = '1h'\ntext = 'never seen'").expect("a scenario");
    let options = SimOptions { scenario, invoice: Some(path.clone()), ..SimOptions::default() };
    let sim = Sim::start(options).expect("a simulator");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(request(&sim, &ask("Hi")).send());
    let received = until(&sim, |all| !all.is_empty()).await;
    assert_eq!((received[0].end, received[0].line.billed), (End::Open, Billed::Whole));
    // The line is in the file while the client still waits: 7 of input, 2 of output.
    assert_eq!(Invoice::read(&path).expect("an invoice").total.pico(), 7 * 250_000 + 2 * 2_000_000);
    tasks.shutdown().await;
    assert_eq!(until(&sim, |all| all[0].end != End::Open).await[0].end, End::HungUp);
    assert_eq!(sim.invoice().total.pico(), 7 * 250_000 + 2 * 2_000_000);
    sim.stop().await;
}

#[tokio::test]
async fn an_invoice_file_is_carried_on_by_the_next_simulator() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("invoice.jsonl");
    let mut totals = Vec::new();
    for _ in 0..2 {
        let options = SimOptions { invoice: Some(path.clone()), ..SimOptions::default() };
        let sim = Sim::start(options).expect("a simulator");
        send(&sim, &ask("Hi")).await;
        assert_eq!(sim.requests().len(), 1);
        totals.push(sim.invoice().total.pico());
        assert_eq!(Invoice::read(&path).expect("an invoice"), sim.invoice());
        sim.stop().await;
    }
    let numbers: Vec<_> = Invoice::read(&path).expect("an invoice").lines.iter().map(|line| line.number).collect();
    assert_eq!((numbers, totals[1]), (vec![1, 2], 2 * totals[0]));
}

#[tokio::test]
async fn a_stop_ends_what_hangs() {
    let sim = start_file("hang");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(request(&sim, &ask("Hi")).send());
    until(&sim, |all| !all.is_empty()).await;
    let address = sim.address();
    tokio::time::timeout(Duration::from_secs(5), sim.stop()).await.expect("a stop in time");
    tasks.join_next().await.expect("a task").expect("no panic").expect_err("no answer");
    tokio::net::TcpStream::connect(address).await.expect_err("nobody listens");
}

#[tokio::test]
async fn pauses_come_where_they_are_scripted() {
    let sim = start(
        "[defaults]\nlatency = '60ms'\nfirst_token_latency = '60ms'\nchunk_latency = '30ms'\nchunk_bytes = 4\n[[reply]]\ntext = 'one two'",
    );
    let clock = plimsoll::clock::Clock::system();
    let before = clock.now();
    let mut response = send(&sim, &ask_stream("Hi")).await;
    assert!(clock.now().since(before).0 >= 60);
    let mut pieces = 0;
    while let Some(piece) = response.chunk().await.expect("a piece") {
        pieces += usize::from(!piece.is_empty());
    }
    // Role, two pieces, finish, usage, end: five pauses after the first.
    assert!(pieces > 2 && clock.now().since(before).0 >= 60 + 60 + 5 * 30);
    assert_eq!(until(&sim, |all| all[0].end != End::Open).await[0].end, End::Answered);
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_conversations_do_not_disturb_each_other() {
    let sim = start(
        "[[reply]]\ntext = 'turn {turn}'\nrepeat = 2\n[[reply]]\njson = { done = true }\n[[rule]]\nwhen = { contains = 'seven' }\ntext = 'rule'",
    );
    let mut tasks = tokio::task::JoinSet::new();
    for run in 0..24 {
        let (client, url) = (client(), format!("{}/chat/completions", sim.base_url()));
        tasks.spawn(async move {
            let mut body = ask(if run % 6 == 0 { "seven" } else { "six" });
            let mut said = Vec::new();
            for _ in 0..3 {
                let answer: Value =
                    client.post(&url).json(&body).send().await.expect("an answer").json().await.expect("JSON");
                let message = answer["choices"][0]["message"].clone();
                said.push(message["content"].as_str().expect("text").to_owned());
                body["messages"]
                    .as_array_mut()
                    .expect("messages")
                    .extend([message, json!({"role": "user", "content": "go on"})]);
            }
            (run, said)
        });
    }
    for (run, said) in tasks.join_all().await {
        let expected = if run % 6 == 0 { ["rule"; 3] } else { ["turn 0", "turn 1", r#"{"done":true}"#] };
        assert_eq!(said, expected, "run {run}");
    }
    assert_eq!(sim.invoice().count, 72);
    sim.stop().await;
}

#[tokio::test]
async fn bad_requests_and_wrong_keys_are_refused_in_openai_s_shape() {
    let sim = start("key = 'sk-test'");
    let response = send(&sim, &ask("Hi")).await;
    assert_eq!(response.status(), 401);
    let response = request(&sim, &json!({"messages": []})).bearer_auth("sk-test").send().await.expect("an answer");
    assert_eq!(response.status(), 400);
    let error = response.json::<Value>().await.expect("JSON")["error"].clone();
    assert_eq!(
        (&error["type"], &error["param"], &error["code"]),
        (&json!("invalid_request_error"), &json!("model"), &json!("missing_required_parameter"))
    );
    let mut unknown = ask("Hi");
    unknown["model"] = json!("nobody-1");
    let response = request(&sim, &unknown).bearer_auth("sk-test").send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.json::<Value>().await.expect("JSON")["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    let response = request(&sim, &ask("Hi")).bearer_auth("sk-test").send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!((sim.invoice().count, sim.invoice().billed_count), (4, 1));
    let garbage =
        client().post(format!("{}/chat/completions", sim.base_url())).body("{").send().await.expect("an answer");
    assert_eq!(garbage.status(), 401);
    sim.stop().await;
}

#[tokio::test]
async fn prices_given_or_named_by_provider_are_charged() {
    let price = SimPrice {
        model: "local/qwen".to_owned(),
        input: "1.5".to_owned(),
        output: "0".to_owned(),
        ..SimPrice::default()
    };
    let sim = Sim::start(SimOptions { prices: vec![price], ..SimOptions::default() }).expect("a simulator");
    let mut body = ask("Hi");
    body["model"] = json!("qwen");
    let url = format!("{}/chat/completions", sim.base_url_for("local"));
    assert_eq!(client().post(url).json(&body).send().await.expect("an answer").status(), 200);
    assert_eq!(only_line(&sim).amount_usd.pico(), 7 * 1_500_000);
    let models: Value =
        client().get(format!("{}/models", sim.base_url())).send().await.expect("an answer").json().await.expect("JSON");
    let ids: Vec<_> =
        models["data"].as_array().expect("models").iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&"gpt-5-mini") && ids.contains(&"qwen") && ids.contains(&"claude-haiku-4-5"));
    sim.stop().await;
}

#[tokio::test]
async fn what_an_earlier_turn_sent_is_cached_where_the_scenario_says_so() {
    let sim = start_file("cached");
    let body = json!({"model": "gpt-6.1-sol", "messages": [{"role": "user", "content": "one two three four"},
        {"role": "assistant", "content": "five"}, {"role": "user", "content": "six"}]});
    let usage = send_json(&sim, &body).await["usage"].clone();
    // 3 to prime, 7, 4 and 4; the first message's 7 were sent before, and the rest is written.
    let details = &usage["prompt_tokens_details"];
    assert_eq!(
        (&usage["prompt_tokens"], &details["cached_tokens"], &details["cache_write_tokens"]),
        (&json!(18), &json!(7), &json!(11))
    );
    let output = u128::from(only_line(&sim).tokens.completion);
    assert_eq!(only_line(&sim).amount_usd.pico(), 7 * 100_000 + 11 * 2_500_000 + output * 10_000_000);
    sim.stop().await;
}

#[tokio::test]
async fn usage_as_scripted_is_reported_and_billed() {
    let sim = start("[[reply]]\ntokens = { input = 1000, cached = 400, output = 50, reasoning = 20 }");
    let usage = send_json(&sim, &ask("Hi")).await["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(1000), &json!(50)));
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 20);
    // 600 × $0.25 + 400 × $0.025 + 50 × $2, each a million.
    assert_eq!(only_line(&sim).amount_usd.usd(), "0.00026");
    sim.stop().await;
}

#[test]
fn every_shipped_scenario_can_be_read() {
    let mut count = 0;
    for entry in std::fs::read_dir(scenarios()).expect("the folder") {
        let path = entry.expect("an entry").path();
        Scenario::read(&path).unwrap_or_else(|error| panic!("{error}"));
        count += 1;
    }
    assert!(count >= 40, "{count}");
}
