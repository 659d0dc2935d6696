//! Each fault on the wire, and what it costs.

use plimsoll::sim::{Billed, End, SimHandle};
use plimsoll::units::Money;
use serde_json::{Value, json};

use super::{
    ask, ask_stream, client, events, only_line, parsed, request, send, send_json, start, start_file, until, with_tool,
};

#[tokio::test]
async fn errors_have_their_status_code_and_price() {
    for (name, status, code, billed) in [
        ("rate_limit", 429, json!("rate_limit_exceeded"), Billed::None),
        ("quota", 429, json!("credit_balance_exhausted"), Billed::None),
        ("server_error", 500, json!(null), Billed::Input),
        ("bad_gateway", 502, json!(null), Billed::Input),
        ("unavailable", 503, json!(null), Billed::Input),
        ("gateway_timeout", 504, json!(null), Billed::Input),
        ("overloaded", 529, json!("server_is_overloaded"), Billed::None),
        ("unauthorized", 401, json!("invalid_api_key"), Billed::None),
        ("payment_required", 402, json!("billing_not_active"), Billed::None),
        ("forbidden", 403, json!("model_not_allowed"), Billed::None),
        ("not_found", 404, json!("model_not_found"), Billed::None),
        ("request_timeout", 408, json!(null), Billed::Input),
        ("conflict", 409, json!(null), Billed::None),
        ("too_large", 413, json!("request_too_large"), Billed::None),
        ("unprocessable", 422, json!(null), Billed::Input),
        ("bad_request", 400, json!("invalid_value"), Billed::None),
        ("context_length", 400, json!("context_length_exceeded"), Billed::None),
        ("filtered_input", 400, json!("content_filter"), Billed::None),
    ] {
        let sim = start_file(name);
        let response = send(&sim, &ask("Hello")).await;
        assert_eq!(response.status(), status, "{name}");
        assert_eq!(response.headers().contains_key("retry-after"), name == "rate_limit", "{name}");
        let error = &response.json::<Value>().await.expect("JSON")["error"];
        assert_eq!(error["code"], code, "{name}");
        assert!(error["message"].is_string() && error["type"].is_string() && error.get("param").is_some(), "{name}");
        let line = only_line(&sim);
        assert_eq!((line.billed, line.status, line.fault.as_deref()), (billed, status, Some(name)), "{name}");
        // 3 + 3 + 1 tokens of input, at $0.25 a million.
        let amount = if billed == Billed::Input { 7 * 250_000 } else { 0 };
        assert_eq!((line.amount_usd.pico(), sim.invoice().total.pico()), (amount, amount), "{name}");
        sim.stop().await;
    }
}

#[tokio::test]
async fn a_refused_call_says_how_long_to_wait_and_is_taken_the_second_time() {
    let sim = start_file("rate_limit");
    let response = send(&sim, &ask("Hello")).await;
    assert_eq!(
        (&response.headers()["retry-after"], &response.headers()["retry-after-ms"]),
        (&"1".parse().unwrap(), &"100".parse().unwrap())
    );
    assert_eq!(send(&sim, &ask("Hello")).await.status(), 200);
    let invoice = sim.invoice();
    assert_eq!((invoice.count, invoice.billed_count, invoice.repeats().len()), (2, 1, 1));
    assert_eq!(invoice.lines.iter().map(|line| line.attempt).collect::<Vec<_>>(), [1, 2]);
    sim.stop().await;
}

#[tokio::test]
async fn attempts_are_counted_by_run_and_turn_and_not_by_body() {
    let sim = start_file("server_error");
    let with_id = async |id: &str, text: &str| {
        let response = request(&sim, &ask(text)).header("X-Client-Request-Id", id).send().await;
        response.expect("an answer").status().as_u16()
    };
    // Two runs with one body: each has its own first attempt.
    assert_eq!((with_id("A#0", "Hi").await, with_id("B#0", "Hi").await), (500, 500));
    assert_eq!((with_id("A#1", "Hi").await, with_id("B#4", "Hi").await), (200, 200));
    sim.stop().await;
}

#[tokio::test]
async fn a_cut_stream_bills_what_had_been_sent() {
    for (rule, expected) in [("", 4), ("bill_cut = 'whole'", 10)] {
        let text = "one two three four five six seven eight nine ten";
        let sim = start(&format!(
            "{rule}\n[[reply]]\nfault = 'cut_stream'\ntext = '{text}'\nchunk_bytes = 6\ncut_after = 4\n"
        ));
        let response = send(&sim, &ask_stream("Hi")).await;
        assert_eq!(response.status(), 200);
        let mut response = response;
        let mut seen = String::new();
        let error = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => seen.push_str(std::str::from_utf8(&bytes).expect("text")),
                Ok(None) => panic!("the stream ended as if it were whole: {seen}"),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{error:?}");
        // The role, then "one tw", "o thre", "e four".
        assert_eq!(seen.matches("data: ").count(), 4, "{seen}");
        assert!(seen.contains("e four") && !seen.contains("[DONE]") && !seen.contains("prompt_tokens"));
        let line = only_line(&sim);
        assert_eq!(line.tokens.completion, expected);
        assert_eq!(line.amount_usd.pico(), 7 * 250_000 + u128::from(expected) * 2_000_000);
        assert_eq!(until(&sim, |all| all[0].end != End::Open).await[0].end, End::Cut);
        sim.stop().await;
    }
}

#[tokio::test]
async fn a_cut_or_dropped_answer_is_an_error_and_is_billed() {
    let sim = start("[[reply]]\nfault = 'cut_stream'\ntext = 'one two'");
    let response = send(&sim, &ask("Hi")).await;
    response.bytes().await.expect_err("half an answer");
    assert_eq!((only_line(&sim).billed, only_line(&sim).tokens.completion), (Billed::Whole, 2));
    sim.stop().await;

    let sim = start_file("drop");
    request(&sim, &ask("Hi")).send().await.expect_err("no answer");
    let lines = sim.invoice().lines;
    assert_eq!((lines[0].billed, lines[0].status), (Billed::Whole, 0));
    sim.stop().await;
}

#[tokio::test]
async fn usage_is_left_out_null_garbage_or_repeated_and_billed_all_the_same() {
    for (name, whole) in [
        ("missing_usage", 0),
        ("null_usage", 0),
        ("garbage_usage", 0),
        ("duplicate_usage", 2),
        ("usage_every_chunk", 2),
    ] {
        let sim = start_file(name);
        let answer = send_json(&sim, &ask("Hi")).await;
        let line = only_line(&sim);
        assert!(line.billed == Billed::Whole && line.amount_usd > Money::ZERO, "{name}");
        assert_eq!(answer.get("usage").is_none(), name == "missing_usage", "{name}");
        assert_eq!(answer["usage"].is_null(), name == "missing_usage" || name == "null_usage", "{name}");
        let events = events(send(&sim, &ask_stream("Hi")).await).await;
        let usages = parsed(&events).iter().filter(|chunk| chunk["usage"]["total_tokens"].is_u64()).count();
        assert!(if name == "usage_every_chunk" { usages > whole } else { usages == whole }, "{name}: {usages}");
        assert_eq!(events.last().expect("an event"), "[DONE]", "{name}");
        sim.stop().await;
    }
}

#[tokio::test]
async fn odd_answers_come_as_scripted() {
    let sim = start_file("wrong_type");
    assert_eq!(send(&sim, &ask("Hi")).await.headers()["content-type"], "text/html");
    let sim = start_file("garbage");
    send(&sim, &ask("Hi")).await.json::<Value>().await.expect_err("garbage");
    let sim = start_file("plain_error");
    let response = send(&sim, &ask("Hi")).await;
    assert_eq!(
        (response.status().as_u16(), response.text().await.expect("text")),
        (500, "upstream connect error".to_owned())
    );
    assert_eq!(only_line(&sim).billed, Billed::Input);
    let sim = start_file("redirect");
    let response = send(&sim, &ask("Hi")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (307, &"/elsewhere/v1/chat/completions".parse().unwrap())
    );
    assert_eq!(only_line(&sim).billed, Billed::None);
    let sim = start_file("no_choices");
    assert_eq!(send_json(&sim, &ask("Hi")).await["choices"], json!([]));
    let sim = start_file("stream_error");
    let events = events(send(&sim, &ask_stream("Hi")).await).await;
    assert_eq!((events.len(), parsed(&events)[3]["error"]["type"].as_str()), (4, Some("server_error")));
    let sim = start_file("no_done");
    let events = self::events(send(&sim, &ask_stream("Hi")).await).await;
    assert_eq!(parsed(&events).last().expect("a chunk")["choices"][0]["finish_reason"], "stop");
    let sim = start_file("content_filter");
    assert_eq!(send_json(&sim, &ask("Hi")).await["choices"][0]["finish_reason"], "content_filter");
    let sim = start_file("refusal");
    let message = send_json(&sim, &ask("Hi")).await["choices"][0]["message"].clone();
    assert!(message["refusal"].is_string() && message["content"].is_null());
    let sim = start_file("oversized");
    let body = send(&sim, &ask("Hi")).await.bytes().await.expect("a body");
    assert!(body.len() > 4 * 1024 * 1024);
    assert_eq!(only_line(&sim).tokens.completion, 500);
    let sim = start_file("overrun");
    assert_eq!(send_json(&sim, &ask("Hi")).await["usage"]["completion_tokens"], 5_000);
    assert_eq!(only_line(&sim).tokens.completion, 5_000);
}

#[tokio::test]
async fn odd_tool_calls_come_where_tools_are_offered_and_end_where_not() {
    let body = with_tool(ask("Order 44112?"));
    let sim = start_file("unknown_tool");
    let name = |answer: &Value| answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"].clone();
    assert_eq!(name(&send_json(&sim, &body).await), "no_such_tool");
    let sim = start_file("invalid_arguments");
    let arguments = &send_json(&sim, &body).await["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"];
    serde_json::from_str::<Value>(arguments.as_str().expect("text")).expect_err("no JSON");
    let sim = start_file("loop_tool");
    let mut body = body;
    for turn in 0..5 {
        let answer = send_json(&sim, &body).await;
        assert_eq!(name(&answer), "lookup_order", "turn {turn}");
        let message = answer["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        let messages = body["messages"].as_array_mut().expect("messages");
        messages.extend([message, json!({"role": "tool", "tool_call_id": id, "content": "{\"status\":\"lost\"}"})]);
    }
    body["tool_choice"] = json!("none");
    let answer = send_json(&sim, &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["choices"][0]["message"]["content"].as_str().expect("text").contains("status lost"));
    assert_eq!(only_turns(&sim), [0, 1, 2, 3, 4, 5]);
}

fn only_turns(sim: &SimHandle) -> Vec<u64> {
    sim.invoice().lines.iter().map(|line| line.turn).collect()
}

#[tokio::test]
async fn shares_of_faults_are_drawn_from_seed_and_id_alone() {
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let sim = start("seed = 3\n[faults]\nrate_429 = '30%'\nrate_529 = '10%'");
        let client = client();
        let mut statuses = Vec::new();
        for number in 0..200 {
            let request = client.post(format!("{}/chat/completions", sim.base_url())).json(&ask("Hi"));
            let response = request.header("X-Client-Request-Id", format!("R{number}#0")).send().await;
            statuses.push(response.expect("an answer").status().as_u16());
        }
        rounds.push(statuses);
        sim.stop().await;
    }
    assert_eq!(rounds[0], rounds[1]);
    let struck = |status: u16| rounds[0].iter().filter(|one| **one == status).count();
    assert!((40..80).contains(&struck(429)) && (8..35).contains(&struck(529)), "{} {}", struck(429), struck(529));
}
