//! What goes out on Anthropic's wire, field by field.

use plimsoll::domain::ability::Stated;
use plimsoll::domain::message::{
    Assistant, CacheEnd, CacheMarks, CacheTtl, File, Form, Media, Message, Opaque, OutputSchema, Request, Sampling,
    ToolAnswer, ToolCall, ToolChoice, ToolDefinition,
};
use plimsoll::ids::{ModelName, ToolName};
use plimsoll::provider::{ProviderError, encode};
use plimsoll::spec::project::{ProviderConfig, Quirks, Wire};
use plimsoll::units::Tokens;
use serde_json::{Value, json};

const MODEL: &str = "anthropic/claude-sonnet-4-6";

pub(super) fn config(wire: Wire) -> ProviderConfig {
    let quirks = Quirks { pin_service_tier: true, ..Quirks::COMPATIBLE };
    ProviderConfig { quirks, ..ProviderConfig::plain("anthropic", wire, "https://api.anthropic.com/v1") }
}

fn request(model: &str) -> Request {
    Request {
        model: ModelName::from(model),
        messages: vec![
            Message::System { text: "Be brief.".into() }.into(),
            Message::User { text: "Hi \"you\"".into() }.into(),
        ],
        tools: [].into(),
        tool_choice: ToolChoice::Auto,
        parallel_calls: true,
        output: None,
        max_output_tokens: 4_000,
        sampling: Sampling::default(),
        stream: false,
        cache: None,
        web_search: None,
    }
}

fn body(request: &Request) -> Value {
    body_of(&config(Wire::Anthropic), request)
}

fn body_of(config: &ProviderConfig, request: &Request) -> Value {
    serde_json::from_slice(&encode(config, request).expect("a body")).expect("JSON")
}

fn tool(name: &str) -> ToolDefinition {
    ToolDefinition { name: ToolName::from(name), description: "Looks".into(), parameters: json!({"type": "object"}) }
}

fn with_reasoning(model: &str, word: &str) -> Request {
    Request { sampling: Sampling { reasoning: Some(word.into()), ..Sampling::default() }, ..request(model) }
}

#[test]
fn a_plain_request_is_pinned_capped_and_nothing_more() {
    let sent = body(&request(MODEL));
    let expected = json!({
        "model": "claude-sonnet-4-6",
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi \"you\""}]}],
        "max_tokens": 4000,
        "service_tier": "standard_only",
        "inference_geo": "global",
    });
    assert_eq!(sent, expected);
    // A model whose price is the same everywhere, and one that streams.
    let sent = body(&Request { stream: true, ..request("anthropic/claude-haiku-4-5") });
    assert_eq!((sent.get("inference_geo"), &sent["stream"]), (None, &json!(true)));
    let vertex = Request { model: "vertex_anthropic/claude-opus-5-5".into(), ..request(MODEL) };
    let config = ProviderConfig {
        quirks: Quirks { pin_service_tier: false, ..config(Wire::Anthropic).quirks },
        ..config(Wire::VertexAnthropic)
    };
    let sent = body_of(&config, &vertex);
    assert_eq!(sent["anthropic_version"], "vertex-2023-10-16");
    assert!(["model", "service_tier", "inference_geo"].iter().all(|field| sent.get(*field).is_none()), "{sent}");
}

#[test]
fn all_answers_to_one_turn_stand_in_one_turn_and_thoughts_before_their_call() {
    let thought = |call: Option<u32>, text: &str| Opaque {
        form: Form::Anthropic,
        model: Some(MODEL.into()),
        call,
        block: json!({"type": "thinking", "thinking": text, "signature": "s"}),
    };
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: ToolName::from("look"),
        arguments: arguments.into(),
    };
    let said = Assistant {
        text: "I look.".into(),
        calls: vec![call("a", "{\"x\":1}"), call("b.1", "no JSON")],
        reasoning: vec![thought(None, "first"), thought(Some(1), "second")],
        ..Assistant::default()
    };
    let answer = |id: &str, is_error: bool| {
        Message::Tool(ToolAnswer { call_id: id.into(), name: ToolName::from("look"), content: "ok".into(), is_error })
    };
    let mut asked = request(MODEL);
    asked.messages.push(Message::Assistant(said).into());
    asked
        .messages
        .extend([answer("a", false), answer("b.1", true), Message::User { text: " ".into() }].map(Into::into));
    let turns = body(&asked)["messages"].clone();
    assert_eq!(
        turns[1],
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "first", "signature": "s"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "a", "name": "look", "input": {"x": 1}},
            {"type": "thinking", "thinking": "second", "signature": "s"},
            {"type": "tool_use", "id": "b_1", "name": "look", "input": {"arguments": "no JSON"}}]})
    );
    assert_eq!(
        turns[2],
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "ok"},
            {"type": "tool_result", "tool_use_id": "b_1", "content": "ok", "is_error": true},
            {"type": "text", "text": "(empty)"}]})
    );
    assert_eq!(turns.as_array().map(Vec::len), Some(3));
    // Another model gets none of the thoughts.
    let other = Request { model: "anthropic/claude-opus-4-6".into(), ..asked };
    assert!(!body(&other).to_string().contains("thinking"));
}

#[test]
fn what_a_provider_paused_in_goes_back_as_it_came() {
    let blocks = json!([{"type": "text", "text": "a"}, {"type": "server_tool_use", "id": "srv", "name": "x", "input": {}},
        {"type": "text", "text": "b"}]);
    let whole = Opaque { form: Form::Anthropic, model: Some(MODEL.into()), call: None, block: blocks.clone() };
    let said = Assistant { text: "ab".into(), continuation: Some(Box::new(whole)), ..Assistant::default() };
    let mut asked = request(MODEL);
    asked.messages.push(Message::Assistant(said).into());
    assert_eq!(body(&asked)["messages"][1]["content"], blocks);
    let other = Request { model: "anthropic/claude-opus-4-6".into(), ..asked };
    assert_eq!(body(&other)["messages"][1]["content"], json!([{"type": "text", "text": "ab"}]));
}

#[test]
fn files_are_blocks_and_marks_stand_on_the_last_block() {
    let file = |name: &str, media| Message::File(File::new(name, media, "iVBORw0KGgo=", Tokens(85)).expect("a file"));
    let mut asked = Request { model: "anthropic/claude-opus-5".into(), tools: [tool("look")].into(), ..request(MODEL) };
    asked.messages.extend([file("a.png", Media::Png), file("b.pdf", Media::Pdf)].map(Into::into));
    asked.cache = Some(CacheMarks {
        ttl: CacheTtl::Long,
        ends: vec![CacheEnd::Tools, CacheEnd::Message(0), CacheEnd::Message(3)],
    });
    let sent = body(&asked);
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let content = &sent["messages"][0]["content"];
    assert_eq!(content[1]["source"], json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}));
    assert_eq!((&content[2]["type"], &content[2]["title"]), (&json!("document"), &json!("b.pdf")));
    assert_eq!((&sent["tools"][0]["cache_control"], &sent["system"][0]["cache_control"]), (&mark, &mark));
    assert_eq!((&content[2]["cache_control"], sent.to_string().matches("cache_control").count()), (&mark, 3));
    assert!(!body(&Request { cache: None, ..asked.clone() }).to_string().contains("cache_control"));

    let mut config = config(Wire::Anthropic);
    config.models.insert(asked.model.clone(), Stated { images: Some(false), ..Stated::default() });
    assert!(matches!(encode(&config, &asked), Err(ProviderError::File { .. })));
}

#[test]
fn reasoning_is_asked_for_as_the_model_takes_it() {
    for (model, word, thinking, effort) in [
        ("claude-sonnet-4-6", "high", json!({"type": "adaptive"}), json!("high")),
        ("claude-opus-5", "minimal", json!({"type": "adaptive"}), json!("low")),
        ("claude-opus-5-5", "adaptive", json!({"type": "adaptive"}), Value::Null),
        ("claude-opus-5", "2048", json!({"type": "adaptive"}), Value::Null),
        ("claude-opus-5", "none", json!({"type": "disabled"}), Value::Null),
        ("claude-opus-5-5", "none", Value::Null, Value::Null),
        ("claude-opus-5", "between_tools", json!({"type": "between_tools"}), Value::Null),
        ("claude-haiku-4-5", "medium", json!({"type": "enabled", "budget_tokens": 2000}), Value::Null),
        ("claude-haiku-4-5", "2048", json!({"type": "enabled", "budget_tokens": 2048}), Value::Null),
        ("claude-haiku-4-5", "9000", json!({"type": "enabled", "budget_tokens": 3999}), Value::Null),
        ("claude-haiku-4-5", "1000", json!({"type": "disabled"}), Value::Null),
    ] {
        let sent = body(&with_reasoning(&format!("anthropic/{model}"), word));
        assert_eq!((&sent["thinking"], &sent["output_config"]["effort"]), (&thinking, &effort), "{model} {word}");
    }
}

#[test]
fn a_forced_choice_and_a_temperature_are_left_out_where_the_model_takes_none() {
    let number = serde_json::Number::from(1);
    let asked = |model: &str, reasoning: Option<&str>, choice: ToolChoice| {
        let sampling = Sampling {
            temperature: Some(number.clone()),
            reasoning: reasoning.map(str::to_owned),
            stop: vec!["END".into()],
            seed: Some(7),
            ..Sampling::default()
        };
        body(&Request {
            tools: [tool("look")].into(),
            tool_choice: choice,
            sampling,
            parallel_calls: false,
            ..request(model)
        })
    };
    let any = json!({"type": "any", "disable_parallel_tool_use": true});
    let auto = json!({"type": "auto", "disable_parallel_tool_use": true});
    let sent = asked(MODEL, None, ToolChoice::Required);
    assert_eq!(
        (&sent["tool_choice"], &sent["temperature"], &sent["stop_sequences"]),
        (&any, &json!(1), &json!(["END"]))
    );
    assert!(sent.get("seed").is_none(), "the wire has no place for it");
    assert_eq!(asked(MODEL, Some("high"), ToolChoice::Required)["tool_choice"], auto);
    assert_eq!(asked("anthropic/claude-opus-5-5", None, ToolChoice::Required)["tool_choice"], auto);
    assert!(asked("anthropic/claude-opus-5-5", None, ToolChoice::Auto).get("temperature").is_none());
    assert_eq!(asked(MODEL, None, ToolChoice::None)["tool_choice"], json!({"type": "none"}));
    let named = asked(MODEL, None, ToolChoice::Named(ToolName::from("look")));
    assert_eq!(named["tool_choice"], json!({"type": "tool", "name": "look", "disable_parallel_tool_use": true}));
}

#[test]
fn a_form_is_asked_for_natively_as_a_tool_or_in_words() {
    let output = |schema: Value| Some(OutputSchema { name: "answer".into(), schema }.into());
    let closed = json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}});
    let sent = body(&Request { output: output(closed), ..request(MODEL) });
    assert_eq!(
        sent["output_config"]["format"],
        json!({"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}})
    );
    let free = json!({"type": "object"});
    let sent = body(&Request { output: output(free.clone()), ..request(MODEL) });
    assert_eq!(
        (&sent["tools"][0]["name"], &sent["tool_choice"]),
        (&json!("answer"), &json!({"type": "tool", "name": "answer"}))
    );
    let sent = body(&Request { output: output(free.clone()), tools: [tool("look")].into(), ..request(MODEL) });
    assert_eq!((&sent["tools"][1]["name"], &sent["tool_choice"]), (&json!("answer"), &json!({"type": "any"})));
    let sent = body(&Request { output: output(free), ..request("anthropic/claude-opus-5-5") });
    assert!(sent["system"][1]["text"].as_str().is_some_and(|text| text.contains("{\"type\":\"object\"}")), "{sent}");
    assert!(sent.get("tools").is_none());
}

#[test]
fn extra_cannot_change_what_a_call_costs() {
    for field in
        ["speed", "inference_geo", "service_tier", "thinking", "cache_control", "container", "fallbacks", "max_tokens"]
    {
        let extra = json!({field: "x"}).as_object().expect("an object").clone();
        let asked = Request { sampling: Sampling { extra, ..Sampling::default() }, ..request(MODEL) };
        assert!(matches!(encode(&config(Wire::Anthropic), &asked), Err(ProviderError::ExtraField { .. })), "{field}");
    }
    let extra = json!({"metadata": {"user_id": "u"}}).as_object().expect("an object").clone();
    let asked = Request { sampling: Sampling { extra, ..Sampling::default() }, ..request(MODEL) };
    assert_eq!(body(&asked)["metadata"]["user_id"], "u");
}
