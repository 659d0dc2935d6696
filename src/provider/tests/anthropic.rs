//! Recorded shapes of Anthropic's wire: replies, streams cut anywhere, the head of a request, and errors.

use super::*;
use crate::domain::message::{Form, Opaque, StopReason};
use crate::domain::pricing::{Factor, Usage};
use crate::provider::anthropic::Anthropic;
use crate::provider::dialect::Dialect as _;
use crate::provider::fault::Broken;
use crate::units::Tokens;
use serde_json::{Value, json};

/// What a stream looks like: a thought, a text, two calls, and usage in two parts.
const STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":7,"cache_read_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":3},"output_tokens":2,"service_tier":"standard","inference_geo":"global"}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    "\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm, "}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"yes."}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB=="}}"#,
    "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Grüße"}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_a","name":"look","input":{}}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"q\":"}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"ü\"}"}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_b","name":"find","input":{}}}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":null,"output_tokens":50,"output_tokens_details":{"thinking_tokens":30}}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const MODEL: &str = "anthropic/claude-opus-5-5";

fn asked() -> Request {
    Request { model: MODEL.into(), ..request() }
}

fn dialect(server_url: &str, change: impl FnOnce(&mut ProviderConfig)) -> Anthropic {
    let mut config = ProviderConfig {
        name: ProviderName::from("anthropic"),
        wire: Wire::Anthropic,
        base_url: server_url.to_owned(),
        ..plain_config()
    };
    change(&mut config);
    Anthropic::new(&config).expect("a dialect")
}

fn plain() -> Anthropic {
    dialect("https://api.anthropic.com/v1", |_| {})
}

fn read_pieces(pieces: &[&[u8]]) -> (String, Result<Reply, Broken>) {
    let (mut reader, mut heard) = (plain().reader(&asked(), "call".into()), String::new());
    for piece in pieces {
        if let Err(broken) = reader.push(piece, &mut |text| heard.push_str(text)) {
            return (heard, Err(broken));
        }
    }
    (heard, reader.end("the connection closed"))
}

fn read(text: &str) -> Result<Reply, Broken> {
    read_pieces(&[text.as_bytes()]).1
}

fn whole(document: &Value) -> Result<Reply, Broken> {
    plain().whole(&asked(), "call", document.to_string().as_bytes())
}

fn message(more: Value) -> Value {
    let mut message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 5}});
    message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    message
}

#[test]
fn a_stream_and_a_whole_answer_mean_the_same() {
    let (heard, reply) = read_pieces(&[STREAM.as_bytes()]);
    let reply = reply.expect("a reply");
    assert_eq!(heard, "Grüße");
    let document = message(json!({"stop_reason": "tool_use", "content": [
        {"type": "thinking", "thinking": "Hm, yes.", "signature": "EqQB=="}, {"type": "text", "text": "Grüße"},
        {"type": "tool_use", "id": "toolu_a", "name": "look", "input": {"q": "ü"}},
        {"type": "tool_use", "id": "toolu_b", "name": "find", "input": {}}],
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 20,
            "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3}, "output_tokens": 50,
            "service_tier": "standard", "inference_geo": "global", "output_tokens_details": {"thinking_tokens": 30}}}));
    assert_eq!(whole(&document).expect("a reply"), reply);
    assert_eq!(reply.stop, StopReason::ToolCalls);
    let thought = Opaque {
        form: Form::Anthropic,
        model: Some(MODEL.into()),
        call: None,
        block: json!({"type": "thinking", "thinking": "Hm, yes.", "signature": "EqQB=="}),
    };
    assert_eq!(reply.message.reasoning, [thought]);
    let calls: Vec<_> =
        reply.message.calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("toolu_a", "look", r#"{"q":"ü"}"#), ("toolu_b", "find", "{}")]);
    let expected = Usage {
        input: Tokens(10),
        cache_read: Tokens(20),
        cache_write: Tokens(4),
        cache_write_long: Tokens(3),
        output: Tokens(50),
        reasoning: Tokens(30),
        ..Usage::default()
    };
    assert_eq!((reply.usage, reply.mismatch), (Some(expected), None));
    assert_eq!((reply.response_id.as_deref(), reply.service_tier.as_deref()), (Some("msg_1"), Some("standard")));
    assert_eq!(reply.response_model.as_deref(), Some("claude-opus-5-5"));
}

#[test]
fn a_cut_at_every_byte_is_a_cut_or_the_whole_reply() {
    let whole = read(STREAM).expect("a reply");
    let finished = STREAM.find("\"stop_reason\":\"tool_use\"").expect("a finish");
    for end in 0..STREAM.len() {
        match read_pieces(&[&STREAM.as_bytes()[..end]]).1 {
            Ok(reply) => assert!(end > finished && reply == whole, "a reply from {end} bytes"),
            Err(broken) => assert!(matches!(broken, Broken::Cut(_)), "{end}: {broken:?}"),
        }
        let (head, tail) = STREAM.as_bytes().split_at(end);
        assert_eq!(read_pieces(&[head, tail]).1.expect("a reply"), whole, "split at {end}");
    }
}

#[test]
fn usage_that_is_missing_null_or_twice_is_what_it_is() {
    let with = |usage: &str| {
        STREAM.replace(
            r#""usage":{"input_tokens":null,"output_tokens":50,"output_tokens_details":{"thinking_tokens":30}}"#,
            usage,
        )
    };
    for usage in [r#""usage":null"#, r#""usage":{}"#, r#""usage":{"output_tokens":null}"#, r#""more":1"#] {
        let reply = read(&with(usage)).expect("a reply");
        assert_eq!(reply.usage, None, "the placeholder is no count: {usage}");
        assert_eq!(reply.raw_usage.expect("it is kept")["output_tokens"], 2);
    }
    assert_eq!(read(&with(r#""usage":{"output_tokens":"many"}"#)).expect("a reply").usage, None);
    // Cumulative: the last one stands, and an early one doesn't count.
    let end = STREAM.find("event: message_delta").expect("an end");
    let early = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":9}}\n\n";
    let text = format!("{}{early}{}", &STREAM[..end], &STREAM[end..]);
    assert_eq!(read(&text).expect("a reply").usage, read(STREAM).expect("a reply").usage);
    let twice = STREAM.replace("event: message_stop", "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":60}}\n\nevent: message_stop");
    assert_eq!(read(&twice).expect("a reply").usage.expect("usage").output, Tokens(60));
    let cut = format!("{}{early}", &STREAM[..end]);
    assert!(matches!(read(&cut), Err(Broken::Cut(_))));
}

#[test]
fn every_reason_to_stop_is_told_and_unknown_words_are_kept() {
    for (word, expected) in [
        ("end_turn", StopReason::End),
        ("stop_sequence", StopReason::End),
        ("max_tokens", StopReason::Length),
        ("tool_use", StopReason::ToolCalls),
        ("pause_turn", StopReason::Paused),
        ("refusal", StopReason::Refusal),
        ("model_context_window_exceeded", StopReason::ContextFull),
        ("compaction", StopReason::Unknown("compaction".into())),
    ] {
        let reply = whole(&message(json!({"stop_reason": word}))).expect("a reply");
        assert_eq!(reply.stop, expected);
        assert_eq!(reply.message.refusal.is_some(), word == "refusal");
    }
    assert_eq!(
        whole(&message(json!({"stop_reason": null}))).expect("a reply").stop,
        StopReason::Unknown("missing".into())
    );
}

#[test]
fn a_refusal_before_any_output_costs_what_its_category_says() {
    let refused = |category: Value, content: Value| {
        let details = json!({"type": "refusal", "category": category, "explanation": null});
        let document = message(json!({"stop_reason": "refusal", "content": content, "stop_details": details}));
        whole(&document).expect("a reply")
    };
    for category in [Value::Null, json!("cyber"), json!("general_harms")] {
        let reply = refused(category, json!([]));
        assert_eq!(reply.usage, Some(Usage::default()));
        assert_eq!(reply.raw_usage.expect("it is kept")["input_tokens"], 10);
    }
    // Billed by name, or new to us; or after some output.
    for category in ["bio", "frontier_llm", "reasoning_extraction", "a_new_one"] {
        assert_eq!(refused(json!(category), json!([])).usage.expect("usage").input, Tokens(10), "{category}");
    }
    assert_eq!(refused(Value::Null, json!([{"type": "text", "text": "So"}])).usage.expect("usage").input, Tokens(10));
    let document = message(json!({"stop_reason": "refusal", "content": []}));
    let vertex = dialect("https://x.googleapis.com/v1", |config| config.wire = Wire::VertexAnthropic);
    let reply = vertex.whole(&asked(), "call", document.to_string().as_bytes()).expect("a reply");
    assert_eq!(reply.usage.expect("usage").input, Tokens(10), "told of Anthropic's own API only");
}

#[test]
fn blocks_that_our_order_cannot_tell_are_kept_as_they_came() {
    let blocks = json!([{"type": "text", "text": "a"}, {"type": "server_tool_use", "id": "s", "name": "x", "input": {"q": 1}},
        {"type": "x_result", "y": [1]}, {"type": "text", "text": "b"}]);
    let reply = whole(&message(json!({"content": blocks, "stop_reason": "pause_turn"}))).expect("a reply");
    assert_eq!((reply.stop, reply.message.text.as_str()), (StopReason::Paused, "ab"));
    assert_eq!(reply.message.continuation.expect("it is kept").block, blocks);
    assert_eq!(reply.message.reasoning, []);
    let hidden = json!([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "a"}]);
    let reply = whole(&message(json!({"content": hidden}))).expect("a reply");
    assert_eq!((reply.message.reasoning.len(), reply.message.continuation), (1, None));
}

#[test]
fn places_and_speeds_that_we_do_not_know_are_factors_without_a_price() {
    let usage = json!({"input_tokens": 1, "output_tokens": 1, "inference_geo": "us", "speed": "warp"});
    let reply = whole(&message(json!({"usage": usage}))).expect("a reply");
    assert_eq!(reply.factors.each().collect::<Vec<_>>(), [Factor::InferenceGeoUs, Factor::Unknown]);
}

#[test]
fn what_is_no_answer_is_told() {
    assert!(matches!(whole(&json!({})), Err(Broken::Garbage(_))));
    assert!(matches!(whole(&json!([])), Err(Broken::Garbage(_))));
    assert!(matches!(whole(&json!({"type": "error", "error": {"type": "x", "message": "m"}})), Err(Broken::Told(_))));
    assert!(matches!(read("data: {\"type\":\n\n"), Err(Broken::Garbage(_))));
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for named in ["event: error\n", ""] {
        let Err(Broken::Told(told)) = read(&format!("{named}data: {error}\n\n")) else { panic!("an error") };
        assert_eq!((told.kind.as_deref(), told.message.as_str()), (Some("overloaded_error"), "Overloaded"));
    }
    assert!(matches!(read("event: error\ndata: oops\n\n"), Err(Broken::Told(_))));
    let lost = r#"data: {"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"x"}}"#;
    assert!(matches!(read(&format!("{lost}\n\n")), Err(Broken::Garbage(_))));
    let many: Vec<Value> = (0..2_000).map(|_| json!({"type": "text", "text": "x"})).collect();
    assert!(matches!(whole(&message(json!({"content": many}))), Err(Broken::Garbage(_))));
    // Events and pieces of later versions are passed over.
    let later = STREAM.replace("event: ping\ndata: {\"type\":\"ping\"}", "event: news\ndata: {\"type\":\"news\"}");
    assert_eq!(read(&later).expect("a reply"), read(STREAM).expect("a reply"));
}

/// Asks a server over a configured client; what it heard.
async fn heard(change: impl FnOnce(&mut ProviderConfig), asked: &Request) -> server::Heard {
    let body = message(json!({})).to_string();
    let mut server = Server::playing(vec![json("200 OK", &body)]).await;
    let mut config = ProviderConfig {
        wire: Wire::Anthropic,
        key: KeySource::Command(vec!["echo".into(), KEY.into()]),
        ..config(&server)
    };
    change(&mut config);
    let client = Client::new(&config, Http::new(Clock::system())).expect("a client");
    let permit = Permit::for_test(LONG, LONG);
    let answer = client.call(permit, asked, None, never()).await;
    assert!(matches!(answer.result, AnswerResult::Replied(_)), "{answer:?}");
    server.heard().await
}

#[tokio::test]
async fn each_generation_has_its_head_and_each_door_its_address() {
    let old = heard(|_| {}, &asked()).await;
    assert!(old.head.starts_with("POST /v1/messages HTTP/1.1"), "{}", old.head);
    assert_eq!((old.header("anthropic-version"), old.header("x-api-key")), (Some("2023-06-01"), Some(KEY)));
    assert_eq!((old.header("authorization"), old.header("anthropic-beta")), (None, None));

    let new = heard(
        |config| {
            config.api_version = Some("2026-10-21".into());
            config.betas = vec!["a-1".into(), "b-2".into()];
        },
        &asked(),
    )
    .await;
    let bearer = format!("Bearer {KEY}");
    assert_eq!((new.header("anthropic-version"), new.header("authorization")), (Some("2026-10-21"), Some(&*bearer)));
    assert_eq!((new.header("x-api-key"), new.header("anthropic-beta")), (None, Some("a-1,b-2")));

    let vertex = heard(|config| config.wire = Wire::VertexAnthropic, &asked()).await;
    let path = "POST /v1/publishers/anthropic/models/claude-opus-5-5:rawPredict HTTP/1.1";
    assert!(vertex.head.starts_with(path), "{}", vertex.head);
    assert_eq!((vertex.header("anthropic-version"), vertex.header("authorization")), (None, Some(&*bearer)));
    assert_eq!(vertex.json()["anthropic_version"], "vertex-2023-10-16");
}
