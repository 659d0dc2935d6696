//! Responses in their documented shapes (PROVIDERS §2): what is read of them, whole, as a stream, and cut.

use serde_json::{Value, json};

use super::decode::whole;
use super::stream::Stream;
use crate::domain::message::{Form, Opaque, Reply, StopReason};
use crate::domain::pricing::Fee;
use crate::ids::ModelName;
use crate::provider::dialect::Reader as _;
use crate::provider::fault::Broken;
use crate::provider::openai::CALLS_MAX;

const MODEL: &str = "openai/gpt-5-mini";

fn read(document: &Value) -> Result<Reply, Broken> {
    whole(document.to_string().as_bytes(), &ModelName::from(MODEL), "call_7")
}

fn reasoning(id: &str, text: &str) -> Value {
    json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": text})
}

fn message(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]})
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": name, "arguments": arguments,
        "status": "completed"})
}

/// A response with this output, and `more` over it.
fn response(output: &[Value], more: Value) -> Value {
    let mut document = json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
        "error": null, "incomplete_details": null, "model": "gpt-5-mini-2025-08-07", "output": output,
        "service_tier": "default", "store": false,
        "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 29}});
    let Value::Object(more) = more else { unreachable!("fields") };
    document.as_object_mut().expect("an object").extend(more);
    document
}

fn bare(output: &[Value]) -> Value {
    response(output, json!({}))
}

#[test]
fn a_whole_response_is_a_reply_with_usage() {
    let reply = read(&bare(&[reasoning("rs_1", "gAAAA"), message("Hello")])).expect("a reply");
    assert_eq!((reply.message.text.as_str(), &reply.stop), ("Hello", &StopReason::End));
    let usage = reply.usage.expect("usage");
    assert_eq!([usage.input.0, usage.cache_read.0, usage.output.0, usage.reasoning.0], [16, 4, 9, 3]);
    assert_eq!(reply.raw_usage.expect("as it came")["input_tokens"], 20);
    assert_eq!(reply.response_model.as_deref(), Some("gpt-5-mini-2025-08-07"));
    assert_eq!((reply.service_tier.as_deref(), reply.response_id.as_deref()), (Some("default"), Some("resp_1")));
}

#[test]
fn calls_keep_their_reasoning_in_front_of_them() {
    let output = [
        reasoning("rs_1", "a"),
        message("I look."),
        reasoning("rs_2", "b"),
        call("c1", "look", "{\"q\":1}"),
        call("c2", "find", ""),
    ];
    let message = read(&bare(&output)).expect("a reply").message;
    let calls: Vec<_> = message.calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("c1", "look", "{\"q\":1}"), ("c2", "find", "{}")]);
    let block = |call, block: &Value| Opaque {
        form: Form::OpenAiResponses,
        model: Some(MODEL.into()),
        call,
        block: block.clone(),
    };
    assert_eq!(message.reasoning, [block(None, &output[0]), block(Some(0), &output[2])]);
    assert_eq!(read(&bare(&output)).expect("a reply").stop, StopReason::ToolCalls);
}

#[test]
fn reasoning_that_cannot_go_back_is_kept_and_nobodys() {
    let nobodys = |output: &[Value], more: Value| {
        let reasoning = read(&response(output, more)).expect("a reply").message.reasoning;
        reasoning.into_iter().map(|opaque| opaque.model.is_none()).collect::<Vec<_>>()
    };
    let plain = json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]});
    assert_eq!(nobodys(&[plain, message("x")], json!({})), [true], "not encrypted, and not kept there");
    let cut = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}});
    assert_eq!(nobodys(&[reasoning("rs_1", "a")], cut.clone()), [true], "it led to nothing");
    assert_eq!(nobodys(&[reasoning("rs_1", "a"), message("x"), reasoning("rs_2", "b")], cut), [false, true]);
    let searched = json!({"type": "web_search_call", "id": "ws_1", "status": "completed"});
    let other = json!({"type": "code_interpreter_call", "id": "ci_1", "status": "completed"});
    let beside = [reasoning("rs_1", "a"), searched, other, message("x")];
    assert_eq!(nobodys(&beside, json!({})), [false, false, true], "an item that nobody asked for doesn't go back");
}

#[test]
fn why_it_stopped_is_told_and_unknown_words_are_kept() {
    let stop = |output: &[Value], status: &str, reason: Option<&str>| {
        let details = reason.map(|reason| json!({"reason": reason}));
        read(&response(output, json!({"status": status, "incomplete_details": details}))).expect("a reply").stop
    };
    let said = [message("x")];
    let declined = [json!({"type": "message", "content": [{"type": "refusal", "refusal": "I can't."}]})];
    let rows = [
        (&said[..], "completed", None, StopReason::End),
        (&declined, "completed", None, StopReason::Refusal),
        (&[call("c", "f", "{}")], "completed", None, StopReason::ToolCalls),
        (&[call("c", "f", "{")], "incomplete", Some("max_output_tokens"), StopReason::Length),
        (&said, "incomplete", Some("content_filter"), StopReason::ContentFilter),
        (&said, "incomplete", Some("steered"), StopReason::Unknown("steered".into())),
        (&said, "incomplete", None, StopReason::Unknown("incomplete".into())),
        (&said, "cancelled", None, StopReason::Unknown("cancelled".into())),
        (&said, "paused_by_moon", None, StopReason::Unknown("paused_by_moon".into())),
        (&said, "", None, StopReason::Unknown("missing".into())),
    ];
    for (output, status, reason, expected) in rows {
        assert_eq!(stop(output, status, reason), expected, "{status} {reason:?}");
    }
    assert_eq!(read(&bare(&declined)).expect("a reply").message.refusal.as_deref(), Some("I can't."));
}

#[test]
fn what_is_no_answer_is_told() {
    for status in ["queued", "in_progress"] {
        assert!(matches!(read(&response(&[], json!({"status": status}))), Err(Broken::Garbage(_))), "{status}");
    }
    let failed = json!({"status": "failed", "error": {"code": "server_error", "message": "gone"}});
    let Err(Broken::Told(told)) = read(&response(&[message("x")], failed)) else { panic!("no error") };
    assert_eq!((told.name(), told.message.as_str()), (Some("server_error"), "gone"));
    assert!(matches!(read(&response(&[], json!({"status": "failed"}))), Err(Broken::Told(_))));
    assert!(matches!(read(&json!({"error": {"message": "m", "code": 429}})), Err(Broken::Told(_))));
    for garbage in [json!({"status": "completed"}), json!([]), json!(7)] {
        assert!(matches!(read(&garbage), Err(Broken::Garbage(_))), "{garbage}");
    }
    let calls = vec![call("c", "f", "{}"); CALLS_MAX + 1];
    assert!(matches!(read(&bare(&calls)), Err(Broken::Garbage(_))));
}

#[test]
fn usage_that_is_missing_null_or_garbage_is_none_and_never_zero() {
    for usage in [json!(null), json!({}), json!({"input_tokens": 0, "output_tokens": 0}), json!("many"), json!([1])] {
        let reply = read(&response(&[message("x")], json!({"usage": usage}))).expect("a reply");
        assert_eq!(reply.usage, None, "{usage}");
    }
    let contradicting = json!({"usage": {"input_tokens": 5, "output_tokens": 5, "total_tokens": 11}});
    let reply = read(&response(&[message("x")], contradicting)).expect("a reply");
    assert_eq!(reply.mismatch.expect("a mismatch").what, "total_tokens");
    let no_output = read(&json!({"status": "completed", "usage": {"input_tokens": 5, "output_tokens": 0}}));
    assert!(no_output.expect("still a bill").usage.is_some());
}

#[test]
fn what_the_providers_own_tools_used_is_a_fee() {
    let fees = |used: Value| {
        let reply = read(&response(&[message("x")], json!({"tool_usage": used}))).expect("a reply");
        (reply.usage.expect("usage").fees, reply.raw_usage.expect("as it came"))
    };
    let (none, _) = fees(json!({"web_search": {"num_requests": 0}, "image_gen": {"input_tokens": 0, "details": [0]}}));
    assert!(none.is_none());
    let (some, raw) = fees(json!({"web_search": {"num_requests": 2}, "image_gen": {"input_tokens": 7}}));
    assert_eq!((some.of(Fee::WebSearch), some.of(Fee::Other)), (2, 1));
    assert_eq!(raw["tool_usage"]["web_search"]["num_requests"], 2);
    assert_eq!(fees(json!({"web_search": {"num_requests": -1}})).0.of(Fee::Other), 1, "unreadable, so it has no price");
}

/// The events of a stream that gives this output, each with its blank line.
fn events(output: &[Value], last: &str) -> Vec<String> {
    let mut told = vec![
        json!({"type": "response.created", "response": response(&[], json!({"status": "in_progress", "usage": null}))}),
        json!({"type": "response.in_progress", "response": {}}),
    ];
    for (place, item) in output.iter().enumerate() {
        told.push(json!({"type": "response.output_item.added", "output_index": place, "item": {"type": item["type"]}}));
        match item["type"].as_str() {
            Some("message") => {
                let (first, second) = item["content"][0]["text"].as_str().expect("a text").split_at(2);
                for delta in [first, second] {
                    told.push(json!({"type": "response.output_text.delta", "output_index": place, "delta": delta}));
                }
            }
            Some("function_call") => {
                let delta = &item["arguments"];
                told.push(
                    json!({"type": "response.function_call_arguments.delta", "output_index": place, "delta": delta}),
                );
            }
            _ => told.push(json!({"type": "response.moon_phase.delta", "delta": "new"})),
        }
        told.push(json!({"type": "response.output_item.done", "output_index": place, "item": item}));
    }
    let details = (last == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    let whole = response(output, json!({"status": last, "incomplete_details": details}));
    told.push(json!({"type": format!("response.{last}"), "response": whole}));
    let event = |(number, mut event): (usize, Value)| {
        event["sequence_number"] = number.into();
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    };
    told.into_iter().enumerate().map(event).collect()
}

fn stream(pieces: &[&[u8]]) -> (String, Result<Reply, Broken>) {
    let (mut stream, mut heard) = (Box::new(Stream::new(MODEL.into(), "call_7".into())), String::new());
    for piece in pieces {
        if let Err(broken) = stream.push(piece, &mut |text| heard.push_str(text)) {
            return (heard, Err(broken));
        }
    }
    (heard, stream.end("the connection closed"))
}

fn output() -> Vec<Value> {
    vec![reasoning("rs_1", "gAAAA"), message("Grüße"), call("c1", "look", "{\"q\":\"ü\"}"), call("c2", "find", "{}")]
}

#[test]
fn a_stream_means_what_the_whole_response_means() {
    for last in ["completed", "incomplete"] {
        let (heard, reply) = stream(&[events(&output(), last).concat().as_bytes()]);
        assert_eq!(heard, "Grüße");
        let reply = reply.expect("a reply");
        let details = (last == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        assert_eq!(
            reply,
            read(&response(&output(), json!({"status": last, "incomplete_details": details}))).expect("one")
        );
    }
}

#[test]
fn a_stream_that_is_cut_at_any_event_has_no_reply() {
    let events = events(&output(), "completed");
    for cut in 0..events.len() {
        let (_, reply) = stream(&[events[..cut].concat().as_bytes()]);
        assert!(matches!(reply, Err(Broken::Cut(_))), "{cut} events: {reply:?}");
    }
    assert!(stream(&[events.concat().as_bytes()]).1.is_ok());
}

#[test]
fn splitting_and_cutting_at_every_byte_changes_nothing() {
    let text = events(&output(), "completed").concat();
    let whole = stream(&[text.as_bytes()]).1.expect("a reply");
    for cut in 0..text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        assert_eq!(stream(&[head, tail]).1.expect("a reply"), whole, "{cut}");
        match stream(&[head]).1 {
            Ok(reply) => assert!(reply == whole && cut + 2 >= text.len(), "{cut}"),
            Err(broken) => assert!(matches!(broken, Broken::Cut(_)), "{cut}: {broken:?}"),
        }
    }
}

#[test]
fn a_stream_is_over_with_its_last_event() {
    let mut events = events(&output(), "completed");
    let whole = stream(&[events.concat().as_bytes()]).1.expect("a reply");
    events.push("data: [DONE]\n\n".to_owned());
    events.push("event: error\ndata: {\"type\":\"error\",\"message\":\"late\"}\n\n".to_owned());
    assert_eq!(stream(&[events.concat().as_bytes()]).1.expect("a reply"), whole);
    let mut reader = Stream::new(MODEL.into(), "call_7".into());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(reader.is_done(), number > events.len() - 3, "{number}");
        reader.push(event.as_bytes(), &mut |_| {}).expect("no error");
        assert_eq!(reader.output_seen(), number >= 2, "{number}");
    }
}

#[test]
fn a_last_event_without_items_takes_those_that_came_before() {
    let mut events = events(&output(), "completed");
    events.pop();
    let last = json!({"type": "response.completed", "response": bare(&[])});
    events.push(format!("data: {last}\n\n"));
    let reply = stream(&[events.concat().as_bytes()]).1.expect("a reply");
    assert_eq!(reply.message, read(&bare(&output())).expect("a reply").message);
}

#[test]
fn errors_and_garbage_in_the_middle_are_told() {
    let before = events(&output(), "completed")[..5].concat();
    let after = |event: &str| stream(&[before.as_bytes(), event.as_bytes()]).1;
    let failed = json!({"type": "response.failed", "response": response(&[], json!({"status": "failed",
        "error": {"code": "rate_limit_exceeded", "message": "slow"}}))});
    for (event, name) in [
        (format!("data: {failed}\n\n"), Some("rate_limit_exceeded")),
        (
            r#"data: {"type":"error","code":"server_error","message":"gone","param":null}"#.to_owned() + "\n\n",
            Some("server_error"),
        ),
        (
            r#"data: {"type":"error","error":{"type":"x","code":"server_error","message":"gone"}}"#.to_owned() + "\n\n",
            Some("server_error"),
        ),
        (r#"data: {"error":{"code":502,"message":"gone"}}"#.to_owned() + "\n\n", Some("502")),
        ("data: {\"type\":\"response.failed\",\"response\":{}}\n\n".to_owned(), None),
    ] {
        let Err(Broken::Told(told)) = after(&event) else { panic!("no error: {event}") };
        assert_eq!(told.name(), name, "{event}");
    }
    for garbage in ["data: {\"type\":\n\n", "data: 7\n\n", "data: {\"type\":\"response.completed\"}\n\n"] {
        assert!(matches!(after(garbage), Err(Broken::Garbage(_))), "{garbage}");
    }
}
