//! What does it cost to put a request together, and to read its answer, on each wire?
//!
//! Input: a conversation of 40 messages, tool calls among them, with 20 tools; an answer of 2 KiB of text with two calls, whole
//! and as a stream. Unit: nanoseconds of one pass, and allocations of one pass. `encode, first` measures messages that never
//! went out; `encode, again` what a step of a long run costs, whose messages are encoded already.

use std::hint::black_box;

use plimsoll::domain::message::{
    Assistant, Message, Request, Sampling, Sent, ToolAnswer, ToolCall, ToolChoice, ToolDefinition,
};
use plimsoll::ids::{ModelName, ToolName};
use plimsoll::provider::{decode, encode};
use plimsoll::spec::project::{ProviderConfig, Wire};
use serde_json::json;

#[path = "common/measure.rs"]
mod measure;

use measure::{is_whole, micros_since, now, say, spread};

/// Messages of the conversation, and tools beside it.
const MESSAGES: usize = 40;
const TOOLS: usize = 20;
/// Rounds, and passes in each.
const ROUNDS: usize = 11;
const PASSES: u32 = 200;

/// One wire: how it is asked, and what it answers, whole and streamed.
struct Case {
    wire: Wire,
    model: &'static str,
    whole: String,
    stream: String,
}

fn main() {
    let (rounds, passes) = if is_whole() { (ROUNDS, PASSES) } else { (1, 1) };
    say("wire               | pass           | ns a pass, median (range) | allocations a pass");
    let azure = Case { wire: Wire::AzureOpenAi, model: "azure/gpt-5-mini", ..openai_chat() };
    let on_vertex = Case { wire: Wire::VertexAnthropic, model: "vertex_anthropic/claude-haiku-5-5", ..anthropic() };
    for case in [openai_chat(), openai_responses(), azure, anthropic(), on_vertex, gemini()] {
        let config = config(case.wire, case.model);
        let asked = request(case.model, false);
        let streamed = Request { stream: true, ..asked.clone() };
        encode(&config, &asked).expect("a body");
        let fresh = || Request { messages: messages(), ..asked.clone() };
        let name = case.wire.name();
        report(name, "encode, first", rounds, passes, fresh, |request| drop(encode(&config, request).expect("a body")));
        report(name, "encode, again", rounds, passes, || (), |()| drop(encode(&config, &asked).expect("a body")));
        report(
            name,
            "decode, whole",
            rounds,
            passes,
            || (),
            |()| {
                drop(decode(&config, &asked, case.whole.as_bytes()).expect("a reply"));
            },
        );
        report(
            name,
            "decode, stream",
            rounds,
            passes,
            || (),
            |()| {
                drop(decode(&config, &streamed, case.stream.as_bytes()).expect("a reply"));
            },
        );
    }
}

/// Measures a pass; what `make` makes for it isn't counted.
fn report<T>(wire: &str, name: &str, rounds: usize, passes: u32, make: impl Fn() -> T, pass: impl Fn(&T)) {
    let nanos = (0..rounds).map(|_| {
        let inputs: Vec<T> = (0..passes).map(|_| make()).collect();
        let start = now();
        for input in &inputs {
            pass(black_box(input));
        }
        micros_since(start) * 1_000 / u64::from(passes)
    });
    let input = make();
    let counted = allocation_counter::measure(|| pass(&input)).count_total;
    let nanos: Vec<u64> = nanos.collect();
    say(&format!("{wire:<18} | {name:<14} | {} ns | {counted}", spread(nanos)));
}

fn config(wire: Wire, model: &str) -> ProviderConfig {
    ProviderConfig::plain(model.split('/').next().unwrap_or_default(), wire, "https://localhost/v1")
}

fn request(model: &str, stream: bool) -> Request {
    let tool = |number: usize| ToolDefinition {
        name: ToolName::from(format!("look_up_{number}")),
        description: "Looks up an order by its number, with its state, its carrier and the day it is due".into(),
        parameters: json!({"type": "object", "required": ["order"], "additionalProperties": false, "properties": {
            "order": {"type": "string", "pattern": "^[0-9]{4,8}$", "description": "The order's number"},
            "since": {"type": "string", "format": "date"}, "verbose": {"type": "boolean"}}}),
    };
    Request {
        model: ModelName::from(model),
        messages: messages(),
        tools: (0..TOOLS).map(tool).collect(),
        tool_choice: ToolChoice::Auto,
        parallel_calls: true,
        output: None,
        max_output_tokens: 2_000,
        sampling: Sampling::default(),
        stream,
        cache: None,
        web_search: None,
    }
}

/// Instructions and a question, and then a call, its answer and what was said of it, again and again.
fn messages() -> Vec<Sent> {
    let text = "The parcel left the warehouse on Monday and was handed to the carrier the day after. ".repeat(6);
    let call = |number: usize| ToolCall {
        id: format!("call_{number}"),
        name: ToolName::from("look_up_1"),
        arguments: format!("{{\"order\":\"{}\",\"verbose\":true}}", 44_100 + number),
    };
    let said = |number: usize| match number {
        0 => Message::System { text: text.clone() },
        number => match number % 4 {
            1 => Message::User { text: text.clone() },
            2 => Message::Assistant(Assistant { calls: vec![call(number)], ..Assistant::default() }),
            3 => Message::Tool(ToolAnswer {
                call_id: format!("call_{}", number - 1),
                name: ToolName::from("look_up_1"),
                content: text.clone(),
                is_error: false,
            }),
            _ => Message::Assistant(Assistant { text: text.clone(), ..Assistant::default() }),
        },
    };
    (0..MESSAGES).map(|number| said(number).into()).collect()
}

/// The text of an answer, in pieces of a few words.
fn pieces() -> Vec<String> {
    (0..64).map(|number| format!("the parcel {number:>4} is on its way, ")).collect()
}

fn events(documents: impl IntoIterator<Item = serde_json::Value>) -> String {
    documents.into_iter().map(|document| format!("data: {document}\n\n")).collect()
}

fn openai_chat() -> Case {
    let usage = json!({"prompt_tokens": 9000, "completion_tokens": 500, "total_tokens": 9500,
        "prompt_tokens_details": {"cached_tokens": 8000}, "completion_tokens_details": {"reasoning_tokens": 0}});
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "look_up_1", "arguments": "{\"order\":\"44112\"}"}});
    let whole = json!({"id": "chatcmpl-1", "model": "gpt-5-mini", "service_tier": "default", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": pieces().concat(), "tool_calls": [call("a"), call("b")]},
        "finish_reason": "tool_calls"}], "usage": usage});
    let delta = |delta: serde_json::Value| {
        json!({"id": "chatcmpl-1", "model": "gpt-5-mini", "choices": [
        {"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
    };
    let mut chunks: Vec<_> = pieces().into_iter().map(|text| delta(json!({"content": text}))).collect();
    for (index, id) in ["a", "b"].into_iter().enumerate() {
        let mut call = call(id);
        call["index"] = index.into();
        chunks.push(delta(json!({"tool_calls": [call]})));
    }
    chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}));
    chunks.push(json!({"choices": [], "usage": usage}));
    let stream = format!("{}data: [DONE]\n\n", events(chunks));
    Case { wire: Wire::OpenAiChat, model: "openai/gpt-5-mini", whole: whole.to_string(), stream }
}

fn anthropic() -> Case {
    let usage = json!({"input_tokens": 1000, "cache_read_input_tokens": 8000, "cache_creation_input_tokens": 0,
        "output_tokens": 500, "service_tier": "standard", "inference_geo": "global"});
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "look_up_1", "input": {"order": "44112"}});
    let head = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "content": [],
        "usage": usage});
    let mut whole = head.clone();
    whole["content"] = json!([{"type": "text", "text": pieces().concat()}, call("a"), call("b")]);
    whole["stop_reason"] = "tool_use".into();
    let mut all = vec![json!({"type": "message_start", "message": head})];
    all.push(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    all.extend(
        pieces().into_iter().map(
            |text| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        ),
    );
    for (index, id) in [(1, "a"), (2, "b")] {
        let mut block = call(id);
        block["input"] = json!({});
        all.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
        all.push(json!({"type": "content_block_delta", "index": index,
            "delta": {"type": "input_json_delta", "partial_json": "{\"order\":\"44112\"}"}}));
        all.push(json!({"type": "content_block_stop", "index": index}));
    }
    all.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 500}}));
    all.push(json!({"type": "message_stop"}));
    let stream = events(all);
    Case { wire: Wire::Anthropic, model: "anthropic/claude-haiku-5-5", whole: whole.to_string(), stream }
}

fn openai_responses() -> Case {
    let usage = json!({"input_tokens": 9000, "output_tokens": 500, "total_tokens": 9500,
        "input_tokens_details": {"cached_tokens": 8000}, "output_tokens_details": {"reasoning_tokens": 0}});
    let call = |id: &str| {
        json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "look_up_1",
            "arguments": "{\"order\":\"44112\"}", "status": "completed"})
    };
    let said = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": pieces().concat(), "annotations": []}]});
    let whole = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5-mini",
        "service_tier": "default", "output": [said, call("a"), call("b")], "usage": usage});
    let mut all = vec![json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}})];
    all.extend(pieces().into_iter().map(|text| {
        json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
            "delta": text})
    }));
    all.push(json!({"type": "response.output_item.done", "output_index": 0, "item": said}));
    for (index, id) in [(1, "a"), (2, "b")] {
        all.push(json!({"type": "response.function_call_arguments.delta", "output_index": index,
            "delta": "{\"order\":\"44112\"}"}));
        all.push(json!({"type": "response.output_item.done", "output_index": index, "item": call(id)}));
    }
    all.push(json!({"type": "response.completed", "response": whole}));
    let stream = events(all);
    Case { wire: Wire::OpenAiResponses, model: "openai/gpt-5-mini", whole: whole.to_string(), stream }
}

fn gemini() -> Case {
    let usage = json!({"promptTokenCount": 9000, "cachedContentTokenCount": 8000, "candidatesTokenCount": 500,
        "totalTokenCount": 9500, "serviceTier": "standard"});
    let call =
        || json!({"functionCall": {"name": "look_up_1", "args": {"order": "44112"}}, "thoughtSignature": "c2lnbmVk"});
    let answer = |parts: serde_json::Value, finish: Option<&str>| {
        json!({"responseId": "r", "modelVersion": "gemini-3.8-flash", "usageMetadata": usage,
            "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": finish}]})
    };
    let whole = answer(json!([{"text": pieces().concat()}, call(), call()]), Some("STOP"));
    let texts = pieces().into_iter().map(|text| answer(json!([{"text": text}]), None));
    let stream = events(texts.chain([answer(json!([call(), call()]), Some("STOP"))]));
    Case { wire: Wire::Gemini, model: "gemini/gemini-3.8-flash", whole: whole.to_string(), stream }
}
