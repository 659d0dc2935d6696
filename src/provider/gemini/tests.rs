//! What Google answers in its documented shapes, whole and cut, and what is made of it.

use serde_json::{Value, json};

use super::decode::{usage, whole};
use super::stream::Stream;
use crate::domain::message::{Form, Message, Opaque, Reply, Request, Sampling, StopReason, ToolChoice};
use crate::domain::pricing::{Mismatch, Tally};
use crate::ids::ModelName;
use crate::provider::dialect::Reader as _;
use crate::provider::fault::Broken;

const MODEL: &str = "gemini/gemini-3.7-flash";

fn request() -> Request {
    Request {
        model: ModelName::from(MODEL),
        messages: vec![Message::User { text: "Hi".into() }.into()],
        tools: [].into(),
        tool_choice: ToolChoice::Auto,
        parallel_calls: true,
        output: None,
        max_output_tokens: 100,
        sampling: Sampling::default(),
        stream: true,
        cache: None,
        web_search: None,
    }
}

fn reply(document: &Value) -> Result<Reply, Broken> {
    whole(document.to_string().as_bytes(), &request(), "call_7")
}

fn said(finish: &str, parts: &Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
        "modelVersion": "gemini-3.7-flash", "responseId": "r-1"})
}

/// Text, two calls of which the first is signed, usage that grows, and the finish: each piece with a byte of its own script.
fn pieces() -> Vec<Value> {
    let piece = |parts: Value, counts: [u64; 3], finish: Option<&str>| {
        let [candidates, thoughts, total] = counts;
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        json!({"candidates": [candidate], "modelVersion": "gemini-3.7-flash", "responseId": "r-1", "usageMetadata":
            {"promptTokenCount": 68, "cachedContentTokenCount": 20, "candidatesTokenCount": candidates,
             "thoughtsTokenCount": thoughts, "totalTokenCount": total, "trafficType": "ON_DEMAND"}})
    };
    vec![
        piece(json!([{"text": "Grü"}]), [2, 30, 100], None),
        piece(json!([{"text": "ße"}]), [4, 30, 102], None),
        piece(
            json!([{"functionCall": {"name": "look", "args": {"q": "ü"}, "id": "fc-1"}, "thoughtSignature": "Q0FF+/=="},
                {"functionCall": {"name": "find"}}]),
            [20, 40, 128],
            None,
        ),
        piece(json!([{"text": "", "thoughtSignature": "Rk9P"}]), [24, 41, 133], Some("STOP")),
    ]
}

fn events(pieces: &[Value]) -> String {
    pieces.iter().map(|piece| format!("data: {piece}\r\n\r\n")).collect()
}

fn read_pieces(pieces: &[&[u8]]) -> (String, Result<Reply, Broken>) {
    let (mut stream, mut heard) = (Box::new(Stream::new(&request(), "call_7".into())), String::new());
    for piece in pieces {
        if let Err(broken) = stream.push(piece, &mut |text| heard.push_str(text)) {
            return (heard, Err(broken));
        }
    }
    (heard, stream.end("the connection closed"))
}

fn read(text: &str) -> Result<Reply, Broken> {
    read_pieces(&[text.as_bytes()]).1
}

fn classes(tally: &Tally) -> [u64; 4] {
    let usage = &tally.usage;
    [usage.input.0, usage.cache_read.0, usage.output.0, usage.reasoning.0]
}

#[test]
fn a_stream_is_a_reply_with_its_last_usage() {
    let (heard, reply) = read_pieces(&[events(&pieces()).as_bytes()]);
    let reply = reply.expect("a reply");
    assert_eq!((heard.as_str(), reply.message.text.as_str()), ("Grüße", "Grüße"));
    assert_eq!(reply.stop, StopReason::ToolCalls, "calls end with STOP");
    let calls: Vec<_> =
        reply.message.calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("fc-1", "look", r#"{"q":"ü"}"#), ("call_7_1", "find", "{}")]);
    let usage = reply.usage.expect("usage");
    assert_eq!([usage.input.0, usage.cache_read.0, usage.output.0, usage.reasoning.0], [48, 20, 65, 41]);
    assert_eq!((reply.mismatch, reply.service_tier.as_deref()), (None, Some("standard")));
    assert_eq!(reply.raw_usage.expect("raw usage")["candidatesTokenCount"], 24);
    assert_eq!(
        (reply.response_model.as_deref(), reply.response_id.as_deref()),
        (Some("gemini-3.7-flash"), Some("r-1"))
    );
}

#[test]
fn signed_parts_are_kept_as_they_came_with_their_calls() {
    let reply = read(&events(&pieces())).expect("a reply");
    let kept: Vec<_> = reply.message.reasoning.iter().map(|block| (block.call, block.block.clone())).collect();
    let signed =
        json!({"functionCall": {"name": "look", "args": {"q": "ü"}, "id": "fc-1"}, "thoughtSignature": "Q0FF+/=="});
    assert_eq!(
        kept,
        [
            (None, json!({"text": "Grüße"})),
            (Some(0), signed),
            (Some(1), json!({"functionCall": {"name": "find"}})),
            (None, json!({"text": "", "thoughtSignature": "Rk9P"})),
        ]
    );
    let own = |block: &Opaque| block.is_for(Form::Gemini, &ModelName::from(MODEL));
    assert!(reply.message.reasoning.iter().all(own));
}

#[test]
fn thoughts_that_are_not_signed_are_kept_to_be_read() {
    let document = said("STOP", &json!([{"text": "hm", "thought": true}, {"text": "Hi"}]));
    let message = reply(&document).expect("a reply").message;
    assert_eq!(message.text, "Hi");
    assert!(message.reasoning.iter().all(|block| block.model.is_none()), "a thought is kept to be read");
    assert_eq!(message.reasoning.len(), 1);
}

#[test]
fn a_cut_at_every_byte_is_a_cut_or_the_whole_reply() {
    let text = events(&pieces());
    let whole = read(&text).expect("a reply");
    let last = text.rfind("data: ").expect("the last event");
    for end in 0..text.len() {
        match read_pieces(&[&text.as_bytes()[..end]]).1 {
            Ok(reply) => {
                assert!(end > last, "a reply from {end} bytes");
                assert_eq!(reply, whole, "{end}");
            }
            Err(broken) => assert!(matches!(broken, Broken::Cut(_)), "{end}: {broken:?}"),
        }
    }
}

#[test]
fn splitting_at_every_byte_changes_nothing() {
    let text = events(&pieces());
    let whole = read(&text).expect("a reply");
    for cut in 0..text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        assert_eq!(read_pieces(&[head, tail]).1.expect("a reply"), whole, "{cut}");
    }
}

#[test]
fn a_cut_at_every_event_boundary_is_a_cut_until_the_finish() {
    let pieces = pieces();
    for count in 0..pieces.len() {
        assert!(matches!(read(&events(&pieces[..count])), Err(Broken::Cut(_))), "{count} events");
    }
    // A duplicate of the last event is no second bill, and no second text.
    let twice = [pieces.as_slice(), &[json!({"usageMetadata": pieces[3]["usageMetadata"]})]].concat();
    assert_eq!(read(&events(&twice)).expect("a reply"), read(&events(&pieces)).expect("a reply"));
}

#[test]
fn usage_that_is_missing_null_or_early_is_none() {
    for strip in [Value::Null, json!("x"), json!({}), json!({"promptTokenCount": null})] {
        let mut pieces = pieces();
        pieces[3]["usageMetadata"] = strip.clone();
        let reply = read(&events(&pieces)).expect("a reply");
        assert_eq!(reply.usage, None, "{strip}");
        assert!(reply.raw_usage.is_some());
    }
    let mut counted_late = pieces();
    let usage = counted_late[3].as_object_mut().expect("an object").remove("usageMetadata").expect("usage");
    counted_late.push(json!({"usageMetadata": usage}));
    assert_eq!(read(&events(&counted_late)).expect("a reply"), read(&events(&pieces())).expect("a reply"));
}

#[test]
fn output_that_is_not_counted_is_no_count_of_zero() {
    let mut document = said("STOP", &json!([{"text": "Hi"}]));
    document["usageMetadata"] = json!({"promptTokenCount": 10, "totalTokenCount": 10});
    assert_eq!(reply(&document).expect("a reply").usage, None);
    document["candidates"][0]["content"] = json!({"role": "model"});
    assert!(reply(&document).expect("a reply").usage.is_some(), "nothing was put out");
}

#[test]
fn usage_falls_into_disjoint_classes() {
    let rows = [
        // As one was seen: 68 + 50 + 112 + 5858 = 6088 (PROVIDERS §5).
        (
            json!({"promptTokenCount": 68, "candidatesTokenCount": 50, "toolUsePromptTokenCount": 112,
                "thoughtsTokenCount": 5858, "totalTokenCount": 6088}),
            [180, 0, 5908, 5858],
        ),
        (json!({"promptTokenCount": 9, "cachedContentTokenCount": 9, "candidatesTokenCount": 1}), [0, 9, 1, 0]),
        // Thoughts among the candidates.
        (
            json!({"promptTokenCount": 9, "candidatesTokenCount": 8, "thoughtsTokenCount": 6, "totalTokenCount": 17}),
            [9, 0, 8, 6],
        ),
        (
            json!({"promptTokenCount": 9, "thoughtsTokenCount": 6, "candidatesTokenCount": null, "totalTokenCount": 15}),
            [9, 0, 6, 6],
        ),
    ];
    for (raw, expected) in rows {
        let tally = usage(&raw).expect("usage");
        assert_eq!((classes(&tally), &tally.mismatch), (expected, &None), "{raw}");
    }
    for raw in [
        json!({}),
        json!({"promptTokenCount": 0, "candidatesTokenCount": 5}),
        json!({"promptTokenCount": -1}),
        json!({"promptTokenCount": 5.5}),
        json!({"promptTokenCount": "5"}),
        json!({"promptTokenCount": 5, "candidatesTokenCount": 1_000_000_001_u64}),
        json!({"promptTokenCount": 5, "thoughtsTokenCount": -1}),
        json!({"promptTokenCount": 5, "totalTokenCount": "6"}),
    ] {
        assert_eq!(usage(&raw), None, "{raw}");
    }
}

#[test]
fn usage_that_contradicts_itself_says_so() {
    let told = |raw: Value| {
        let Mismatch { what, counted, told } = usage(&raw).expect("usage").mismatch.expect("a mismatch");
        (what, counted.0, told.0)
    };
    assert_eq!(
        told(json!({"promptTokenCount": 5, "cachedContentTokenCount": 6, "candidatesTokenCount": 1})),
        ("cachedContentTokenCount".to_owned(), 5, 6)
    );
    assert_eq!(
        told(json!({"promptTokenCount": 5, "candidatesTokenCount": 1, "thoughtsTokenCount": 2, "totalTokenCount": 9})),
        ("totalTokenCount".to_owned(), 8, 9)
    );
    assert_eq!(
        told(json!({"promptTokenCount": 5, "candidatesTokenCount": 1, "thoughtsTokenCount": 2, "totalTokenCount": 6})),
        ("thoughtsTokenCount".to_owned(), 1, 2)
    );
}

#[test]
fn every_reason_to_stop_has_its_meaning_and_unknown_ones_are_kept() {
    let stop = |finish: &str, parts: Value| reply(&said(finish, &parts)).expect("a reply").stop;
    let text = || json!([{"text": "Hi"}]);
    assert_eq!(stop("STOP", text()), StopReason::End);
    assert_eq!(stop("STOP", json!([{"functionCall": {"name": "f"}}])), StopReason::ToolCalls);
    assert_eq!(stop("MAX_TOKENS", text()), StopReason::Length);
    for word in [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MODEL_ARMOR",
        "ESCALATION",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    ] {
        assert_eq!(stop(word, json!([])), StopReason::ContentFilter, "{word}");
    }
    for word in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"] {
        assert_eq!(stop(word, json!([])), StopReason::Malformed, "{word}");
    }
    for word in [
        "OTHER",
        "FINISH_REASON_UNSPECIFIED",
        "MISSING_THOUGHT_SIGNATURE",
        "PUP_LIMITED_DISABLED",
        "IMAGE_OTHER",
        "NO_IMAGE",
        "CONTINUATION",
        "SOMETHING_NEW",
    ] {
        assert_eq!(stop(word, text()), StopReason::Unknown(word.to_owned()), "{word}");
    }
    let mut unsaid = said("STOP", &text());
    unsaid["candidates"][0]["finishReason"] = Value::Null;
    assert_eq!(reply(&unsaid).expect("a reply").stop, StopReason::Unknown("missing".into()));
}

#[test]
fn a_blocked_prompt_is_a_reply_that_was_filtered_and_counted() {
    for reason in ["SAFETY", "JAILBREAK", "SOMETHING_NEW"] {
        let blocked = json!({"promptFeedback": {"blockReason": reason}, "modelVersion": "gemini-3.7-flash",
            "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10}});
        for reply in [reply(&blocked), read(&events(std::slice::from_ref(&blocked)))] {
            let reply = reply.expect("a reply");
            assert_eq!((reply.stop, reply.usage.map(|usage| usage.total().0)), (StopReason::ContentFilter, Some(10)));
        }
    }
    let silent = json!({"promptFeedback": {"blockReason": "OTHER"}});
    assert_eq!(reply(&silent).expect("a reply").usage, None, "nobody says what it cost");
}

#[test]
fn a_continuation_is_a_pause_with_its_token() {
    let mut document = said("CONTINUATION", &json!([{"text": "Once"}]));
    document["candidates"][0]["continuationToken"] = "dG9rZW4=".into();
    document["usageMetadata"]["thoughtsTokenCount"] = 40.into();
    document["usageMetadata"]["totalTokenCount"] = 55.into();
    let paused = reply(&document).expect("a reply");
    assert_eq!(paused.stop, StopReason::Paused);
    let block = paused.message.continuation.expect("a token");
    assert!(block.is_for(Form::Gemini, &ModelName::from(MODEL)));
    assert_eq!(block.block, json!({"continuationToken": "dG9rZW4=", "hiddenTokens": 40}));
    document["usageMetadata"] = Value::Null;
    let block = reply(&document).expect("a reply").message.continuation.expect("a token");
    assert_eq!(block.block["hiddenTokens"], 100, "the output cap, where nobody counted");
    // A checkpoint on the way is none at the end.
    document["candidates"][0]["finishReason"] = "STOP".into();
    let ended = reply(&document).expect("a reply");
    assert_eq!((ended.stop, ended.message.continuation), (StopReason::End, None));
}

#[test]
fn tiers_and_models_are_told_by_their_own_words() {
    let tier = |field: &str, word: &str| {
        let mut document = said("STOP", &json!([{"text": "Hi"}]));
        document["usageMetadata"][field] = word.into();
        reply(&document).expect("a reply").service_tier
    };
    for (field, word, expected) in [
        ("trafficType", "ON_DEMAND", "standard"),
        ("trafficType", "ON_DEMAND_PRIORITY", "priority"),
        ("trafficType", "ON_DEMAND_FLEX", "flex"),
        ("trafficType", "ON_DEMAND_OFFPEAK", "on_demand_offpeak"),
        ("trafficType", "PROVISIONED_THROUGHPUT", "provisioned_throughput"),
        ("serviceTier", "standard", "standard"),
        ("serviceTier", "unspecified", "standard"),
        ("serviceTier", "ultra", "ultra"),
    ] {
        assert_eq!(tier(field, word).as_deref(), Some(expected), "{word}");
    }
    let model = |name: &str| {
        let mut document = said("STOP", &json!([{"text": "Hi"}]));
        document["modelVersion"] = name.into();
        reply(&document).expect("a reply").response_model.expect("a model")
    };
    assert_eq!(model("models/gemini-3.7-flash"), "gemini-3.7-flash");
    assert_eq!(model("gemini-3.7-flash-001"), "gemini-3.7-flash");
    assert_eq!(model("gemini-3.7-flash-lite"), "gemini-3.7-flash-lite", "another model");
    assert_eq!(model("gemini-3.8-flash-001"), "gemini-3.8-flash-001", "another model");
}

#[test]
fn what_is_no_answer_is_told() {
    assert!(matches!(reply(&json!({})), Err(Broken::Garbage(_))));
    assert!(matches!(reply(&json!({"candidates": []})), Err(Broken::Garbage(_))));
    assert!(matches!(reply(&json!(7)), Err(Broken::Garbage(_))));
    assert!(matches!(whole(b"<html>", &request(), "call"), Err(Broken::Garbage(_))));
    let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    for text in [error.to_string(), json!([error]).to_string()] {
        let Err(Broken::Told(told)) = whole(text.as_bytes(), &request(), "call") else { panic!("no error") };
        assert_eq!((told.name(), told.provider_body), (Some("UNAVAILABLE"), true));
    }
    let stream = [events(&pieces()[..1]), events(&[error])].concat();
    assert!(matches!(read(&stream), Err(Broken::Told(_))));
    assert!(matches!(read("data: {\"candidates\n\n"), Err(Broken::Garbage(_))));
    assert!(matches!(read(""), Err(Broken::Cut(_))));
}

#[test]
fn pieces_without_alt_sse_are_one_answer() {
    let whole = whole(json!(pieces()).to_string().as_bytes(), &request(), "call_7").expect("a reply");
    assert_eq!(whole, read(&events(&pieces())).expect("a reply"));
}

#[test]
fn calls_and_parts_are_bounded() {
    let calls: Vec<Value> = (0..257).map(|_| json!({"functionCall": {"name": "f"}})).collect();
    assert!(matches!(reply(&said("STOP", &json!(calls))), Err(Broken::Garbage(_))));
    let signed: Vec<Value> = (0..4_097).map(|_| json!({"text": "x", "thoughtSignature": "Q0E="})).collect();
    assert!(matches!(reply(&said("STOP", &json!(signed))), Err(Broken::Garbage(_))));
}
