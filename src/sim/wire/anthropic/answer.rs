//! An answer of this wire: one JSON body, or a stream of named events.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::sim::completion::{Completion, Event, Finish, Shown, Stream};
use crate::sim::rates::Counts;

/// What is thought where there is reasoning; only its tokens count.
const THOUGHT: &str = "Let me see what is asked, and what I know of it.";
/// The output count that opens a stream, which is none.
const PLACEHOLDER: u64 = 2;

/// What a thought is signed with: nobody else can make it up.
pub(super) fn signature(thought: &str) -> String {
    let digest = Sha256::digest(format!("simulated {thought}"));
    format!("sim{}==", crate::domain::plan::hex(&digest).get(..24).unwrap_or_default())
}

/// The body of an answer in one piece.
pub(super) fn whole(completion: &Completion) -> String {
    let blocks: Vec<Value> = blocks(completion).into_iter().map(|block| block.whole).collect();
    let mut message = head(completion);
    message["content"] = blocks.into();
    message["stop_reason"] = stop_reason(completion).into();
    message["stop_details"] = stop_details(completion);
    if completion.shown != Shown::Missing {
        message["usage"] = usage(completion, completion.usage.completion);
    }
    message.to_string()
}

/// A streamed answer in its parts.
pub(super) fn stream(completion: &Completion) -> Stream<'_> {
    let mut said = vec![Event::new(event("message_start", &json!({"message": opened(completion)})), "")];
    said.push(Event::new(event("ping", &json!({})), ""));
    for (index, block) in blocks(completion).into_iter().enumerate() {
        let start = json!({"index": index, "content_block": block.empty});
        said.push(Event::new(event("content_block_start", &start), block.name));
        for (delta, text) in block.deltas {
            said.push(Event::new(event("content_block_delta", &json!({"index": index, "delta": delta})), text));
            if completion.shown == Shown::EveryChunk {
                said.push(Event::new(
                    event(
                        "message_delta",
                        &json!({"delta": {"stop_reason": null},
                    "usage": {"output_tokens": PLACEHOLDER}}),
                    ),
                    "",
                ));
            }
        }
        let stop = Event::new(event("content_block_stop", &json!({"index": index})), "");
        said.push(Event { reasoned: block.empty["type"] == "thinking", ..stop });
    }
    let end = json!({"delta": {"stop_reason": stop_reason(completion), "stop_sequence": null,
        "stop_details": stop_details(completion)}, "usage": closing_usage(completion)});
    let times = if completion.shown == Shown::Twice { 2 } else { 1 };
    let mut last: Vec<String> = (0..times).map(|_| event("message_delta", &end)).collect();
    last.push(event("message_stop", &json!({})));
    Stream { said, finish: Vec::new(), last }
}

/// An event with its name in both places.
fn event(name: &str, fields: &Value) -> String {
    let mut data = json!({"type": name});
    if let (Some(data), Some(fields)) = (data.as_object_mut(), fields.as_object()) {
        data.extend(fields.clone());
    }
    format!("event: {name}\ndata: {data}\n\n")
}

fn head(completion: &Completion) -> Value {
    json!({"id": completion.id, "type": "message", "role": "assistant", "model": completion.model, "content": [],
        "stop_reason": null, "stop_sequence": null})
}

/// The message as a stream opens it: all of the input is known, and the output isn't.
fn opened(completion: &Completion) -> Value {
    let mut message = head(completion);
    if completion.shown != Shown::Missing {
        message["usage"] = usage(completion, PLACEHOLDER);
        if let Some(usage) = message["usage"].as_object_mut() {
            usage.remove("output_tokens_details");
        }
    }
    message
}

/// One content block: whole, as it begins, and the pieces that fill it, each with what it says for the count.
struct Block<'a> {
    whole: Value,
    empty: Value,
    /// What its beginning says for the count.
    name: &'a str,
    deltas: Vec<(Value, &'a str)>,
}

fn blocks(completion: &Completion) -> Vec<Block<'_>> {
    if completion.choices == 0 {
        return Vec::new();
    }
    let mut blocks = Vec::new();
    if completion.usage.reasoning > 0 {
        blocks.push(thought());
    }
    for number in 0..completion.searches {
        blocks.extend(search(completion, number));
    }
    if !completion.text.is_empty() {
        let deltas =
            completion.chunks(&completion.text).map(|text| (json!({"type": "text_delta", "text": text}), text));
        blocks.push(Block {
            whole: json!({"type": "text", "text": completion.text}),
            empty: json!({"type": "text", "text": ""}),
            name: "",
            deltas: deltas.collect(),
        });
    }
    blocks.extend(completion.calls.iter().enumerate().map(|(index, call)| called(completion, index, call)));
    blocks
}

/// A search of the provider's own, and what it found.
fn search(completion: &Completion, number: u64) -> [Block<'static>; 2] {
    let id = format!("srvtoolu_{}_{number}", completion.id.rsplit('_').next().unwrap_or_default());
    let used = |input: Value| json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": input});
    let query = json!({"query": "what is asked"});
    let found = json!({"type": "web_search_result", "url": "https://example.com/", "title": "An example",
        "encrypted_content": "c2ltdWxhdGVk", "page_age": null});
    let result = json!({"type": "web_search_tool_result", "tool_use_id": id, "content": [found]});
    [
        Block {
            whole: used(query.clone()),
            empty: used(json!({})),
            name: "",
            deltas: vec![(json!({"type": "input_json_delta", "partial_json": query.to_string()}), "")],
        },
        Block { whole: result.clone(), empty: result, name: "", deltas: Vec::new() },
    ]
}

fn thought() -> Block<'static> {
    let sign = signature(THOUGHT);
    Block {
        whole: json!({"type": "thinking", "thinking": THOUGHT, "signature": sign}),
        empty: json!({"type": "thinking", "thinking": "", "signature": ""}),
        name: "",
        deltas: vec![
            (json!({"type": "thinking_delta", "thinking": THOUGHT}), ""),
            (json!({"type": "signature_delta", "signature": sign}), ""),
        ],
    }
}

fn called<'a>(completion: &'a Completion, index: usize, (name, arguments): &'a (String, String)) -> Block<'a> {
    let number = completion.id.rsplit('_').next().unwrap_or_default();
    let block = |input: Value| json!({"type": "tool_use", "id": format!("toolu_sim_{number}_{index}"), "name": name, "input": input});
    // A model that writes no JSON is shown by its stream; whole, its provider has nothing that fits.
    let input = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    let piece = |text: &'a str| (json!({"type": "input_json_delta", "partial_json": text}), text);
    Block {
        whole: block(input),
        empty: block(json!({})),
        name,
        deltas: completion.chunks(arguments).map(piece).collect(),
    }
}

fn stop_reason(completion: &Completion) -> &str {
    match &completion.finish {
        Finish::Given(word) => word,
        Finish::Filter => "refusal",
        Finish::Stop | Finish::Length | Finish::Calls if completion.refusal.is_some() => "refusal",
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Calls => "tool_use",
    }
}

fn stop_details(completion: &Completion) -> Value {
    match &completion.refusal {
        Some(words) => json!({"type": "refusal", "category": completion.category, "explanation": words}),
        None => Value::Null,
    }
}

/// Usage as it is shown; caches are beside the input here, not part of it.
fn usage(completion: &Completion, output: u64) -> Value {
    match completion.shown {
        Shown::Null => return Value::Null,
        Shown::Garbage => return json!({"input_tokens": -1, "output_tokens": "many"}),
        Shown::Once | Shown::Missing | Shown::Twice | Shown::EveryChunk => {}
    }
    let Counts { prompt, cached, cache_write, cache_write_long, reasoning, .. } = completion.usage;
    let written = cache_write.saturating_add(cache_write_long);
    let (place, speed) = match completion.rate_percent {
        110 => ("us", "standard"),
        200 => ("global", "fast"),
        220 => ("us", "fast"),
        _ => ("global", "standard"),
    };
    let mut usage = json!({
        "input_tokens": prompt.saturating_sub(cached).saturating_sub(written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "cache_creation": {"ephemeral_5m_input_tokens": cache_write, "ephemeral_1h_input_tokens": cache_write_long},
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": reasoning},
        "service_tier": "standard",
        "inference_geo": place,
        "speed": speed,
    });
    if completion.searches > 0 {
        usage["server_tool_use"] = json!({"web_search_requests": completion.searches});
    }
    usage
}

/// The usage that closes a stream: cumulative, without the split of what was written.
fn closing_usage(completion: &Completion) -> Value {
    if completion.shown == Shown::Missing {
        return json!({});
    }
    let mut usage = usage(completion, completion.usage.completion);
    if let Some(fields) = usage.as_object_mut() {
        for field in ["cache_creation", "service_tier", "inference_geo", "speed"] {
            fields.remove(field);
        }
    }
    usage
}
