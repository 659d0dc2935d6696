//! What goes out on Google's wire, field by field. Calls need a permit, so their tests live beside the code.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll::domain::ability::Stated;
use plimsoll::domain::message::{
    Assistant, File, Form, Media, Message, Opaque, OutputSchema, Request, Sampling, ToolAnswer, ToolCall, ToolChoice,
    ToolDefinition,
};
use plimsoll::ids::{ModelName, ToolName};
use plimsoll::provider::{ProviderError, encode};
use plimsoll::spec::project::{KeySource, ProviderConfig, Quirks, Wire};
use plimsoll::units::Tokens;
use serde_json::{Value, json};

const FLASH: &str = "gemini/gemini-3.7-flash";
const OLDER: &str = "gemini/gemini-2.5-flash";

fn config() -> ProviderConfig {
    let plain = ProviderConfig::plain("gemini", Wire::Gemini, "https://generativelanguage.googleapis.com/v1");
    ProviderConfig { key: KeySource::Env("GEMINI_API_KEY".into()), quirks: Quirks::COMPATIBLE, ..plain }
}

fn request(model: &str) -> Request {
    Request {
        model: ModelName::from(model),
        messages: vec![Message::User { text: "Hi \"you\"".into() }.into()],
        tools: [].into(),
        tool_choice: ToolChoice::Auto,
        parallel_calls: true,
        output: None,
        max_output_tokens: 100,
        sampling: Sampling::default(),
        stream: false,
        cache: None,
        web_search: None,
    }
}

fn text(request: &Request) -> String {
    String::from_utf8(encode(&config(), request).expect("a body")).expect("UTF-8")
}

fn body(request: &Request) -> Value {
    serde_json::from_str(&text(request)).expect("JSON")
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: ToolName::from(name), arguments: arguments.into() }
}

fn answer(id: &str, name: &str, content: &str, is_error: bool) -> Message {
    Message::Tool(ToolAnswer { call_id: id.into(), name: ToolName::from(name), content: content.into(), is_error })
}

fn tools() -> Arc<[ToolDefinition]> {
    let parameters = json!({"type": "object", "properties": {"q": {"type": "string"}}});
    [ToolDefinition { name: ToolName::from("look"), description: "Looks".into(), parameters }].into()
}

fn schema() -> Option<Arc<OutputSchema>> {
    Some(Arc::new(OutputSchema { name: "answer".into(), schema: json!({"type": "object"}) }))
}

#[test]
fn the_smallest_request_is_exactly_this() {
    assert_eq!(
        text(&request(FLASH)),
        r#"{"contents":[{"role":"user","parts":[{"text":"Hi \"you\""}]}],"generationConfig":{"maxOutputTokens":100},"serviceTier":"standard"}"#
    );
    assert_eq!(text(&request(FLASH)), text(&Request { stream: true, ..request(FLASH) }), "the address says it");
}

#[test]
fn the_fullest_request_has_its_fields_in_their_places() {
    let sampling = json!({"temperature": 0.2, "reasoning": "low", "seed": -7, "stop": ["END"], "extra": {
        "topK": 5, "safetySettings": [{"category": "x", "threshold": "y"}], "labels": {"team": "a"}}});
    let full = Request {
        messages: vec![Message::System { text: "Be brief.".into() }.into(), Message::User { text: "Hi".into() }.into()],
        tools: tools(),
        tool_choice: ToolChoice::Named(ToolName::from("look")),
        output: schema(),
        sampling: serde_json::from_value(sampling).expect("sampling"),
        ..request(FLASH)
    };
    assert_eq!(
        body(&full),
        json!({
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "tools": [{"functionDeclarations": [{"name": "look", "description": "Looks",
                "parametersJsonSchema": {"type": "object", "properties": {"q": {"type": "string"}}}}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
            "generationConfig": {"maxOutputTokens": 100, "temperature": 0.2, "seed": -7, "stopSequences": ["END"],
                "thinkingConfig": {"thinkingLevel": "LOW"}, "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object"}, "topK": 5},
            "safetySettings": [{"category": "x", "threshold": "y"}],
            "labels": {"team": "a"},
            "serviceTier": "standard",
        })
    );
}

#[test]
fn choices_have_their_modes() {
    let mode = |choice: ToolChoice| {
        let asked = Request { tools: tools(), tool_choice: choice, ..request(FLASH) };
        body(&asked)["toolConfig"]["functionCallingConfig"].clone()
    };
    assert_eq!(mode(ToolChoice::Auto), json!({"mode": "AUTO"}));
    assert_eq!(mode(ToolChoice::Required), json!({"mode": "ANY"}));
    assert_eq!(mode(ToolChoice::None), json!({"mode": "NONE"}));
    let without = body(&request(FLASH));
    assert!(without.get("tools").is_none() && without.get("toolConfig").is_none());
}

#[test]
fn a_form_is_asked_for_in_words_where_the_model_takes_no_schema_beside_tools() {
    let asked = |model: &str, tools: Arc<[ToolDefinition]>, choice: ToolChoice| {
        body(&Request { tools, output: schema(), tool_choice: choice, ..request(model) })
    };
    let in_words = |body: &Value| {
        let words = body["systemInstruction"]["parts"][0]["text"].as_str().unwrap_or_default();
        let native = body["generationConfig"].get("responseJsonSchema").is_some();
        assert_ne!(words.contains(r#"JSON Schema: {"type":"object"}"#), native, "one of them: {body}");
        !native
    };
    assert!(!in_words(&asked(FLASH, tools(), ToolChoice::Auto)));
    assert!(!in_words(&asked(OLDER, [].into(), ToolChoice::Auto)));
    assert!(!in_words(&asked(OLDER, tools(), ToolChoice::None)));
    assert!(in_words(&asked(OLDER, tools(), ToolChoice::Auto)));
    let unable = Stated { json_schema: Some(false), ..Stated::default() };
    let config = ProviderConfig { models: BTreeMap::from([(ModelName::from(FLASH), unable)]), ..config() };
    let body = encode(&config, &Request { output: schema(), ..request(FLASH) }).expect("a body");
    assert!(in_words(&serde_json::from_slice(&body).expect("JSON")));
}

#[test]
fn thinking_is_a_level_or_a_budget_by_generation() {
    let thinking = |model: &str, effort: &str| {
        let sampling = Sampling { reasoning: Some(effort.into()), ..Sampling::default() };
        let asked = Request { sampling, max_output_tokens: 20_000, ..request(model) };
        encode(&config(), &asked).map(|body| {
            serde_json::from_slice::<Value>(&body).expect("JSON")["generationConfig"]["thinkingConfig"].clone()
        })
    };
    for (effort, level, budget) in [
        ("none", "MINIMAL", 0),
        ("minimal", "MINIMAL", 512),
        ("low", "LOW", 1_024),
        ("medium", "MEDIUM", 4_096),
        ("high", "HIGH", 16_384),
        ("max", "XHIGH", 20_000),
    ] {
        assert_eq!(thinking(FLASH, effort), Ok(json!({"thinkingLevel": level})), "{effort}");
        assert_eq!(thinking(OLDER, effort), Ok(json!({"thinkingBudget": budget})), "{effort}");
    }
    assert_eq!(thinking("gemini/gemini-2.5-pro", "none"), Ok(json!({"thinkingBudget": 128})));
    assert_eq!(thinking(FLASH, "2048"), Ok(json!({"thinkingBudget": 2_048})));
    for model in [FLASH, OLDER] {
        assert!(matches!(thinking(model, "hard"), Err(ProviderError::Reasoning { .. })));
    }
}

/// A question, two calls at once, their answers, and a remark.
fn talk(model: &str, said: Assistant) -> Request {
    Request {
        messages: vec![
            Message::User { text: "Where?".into() }.into(),
            Message::Assistant(said).into(),
            answer("fc-1", "look", "here", false).into(),
            answer("call_3_1", "find", "no such thing", true).into(),
            Message::User { text: "Well?".into() }.into(),
        ],
        ..request(model)
    }
}

#[test]
fn answers_follow_their_calls_in_order_with_the_ids_that_the_provider_gave() {
    let calls = vec![call("fc-1", "look", r#"{"q":"ü"}"#), call("call_3_1", "find", "{}")];
    let contents = body(&talk(OLDER, Assistant { text: "Let me see.".into(), calls, ..Assistant::default() }));
    assert_eq!(
        contents["contents"],
        json!([
            {"role": "user", "parts": [{"text": "Where?"}]},
            {"role": "model", "parts": [{"text": "Let me see."},
                {"functionCall": {"name": "look", "args": {"q": "ü"}, "id": "fc-1"}},
                {"functionCall": {"name": "find", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "look", "response": {"output": "here"}, "id": "fc-1"}},
                {"functionResponse": {"name": "find", "response": {"error": "no such thing"}}}]},
            {"role": "user", "parts": [{"text": "Well?"}]},
        ])
    );
}

#[test]
fn calls_of_other_models_go_out_with_what_stands_for_a_signature() {
    let calls = || vec![call("fc-1", "look", "{broken"), call("call_3_1", "find", "{}")];
    let said = || Assistant { calls: calls(), ..Assistant::default() };
    let parts = |model: &str, said: Assistant| body(&talk(model, said))["contents"][1]["parts"].clone();
    let newer = parts(FLASH, said());
    assert_eq!(newer[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert!(newer[1].get("thoughtSignature").is_none(), "the first of them is signed");
    assert_eq!(newer[0]["functionCall"]["args"], json!({"arguments": "{broken"}));
    assert!(parts(OLDER, said())[0].get("thoughtSignature").is_none());
    // The same message, whichever of two models is asked first.
    let request = talk(FLASH, said());
    let other = Request { model: ModelName::from(OLDER), ..request.clone() };
    for _ in 0..2 {
        assert!(text(&request).contains("skip_thought") && !text(&other).contains("skip_thought"));
    }
}

#[test]
fn signed_parts_go_back_unchanged_to_the_model_that_signed_them() {
    let signed = json!({"functionCall": {"name": "look", "args": {"b": 1, "a": 2}, "id": "fc-1"},
        "thoughtSignature": "Q0FF+/=="});
    let block = |call, block: &Value| Opaque {
        form: Form::Gemini,
        model: Some(ModelName::from(FLASH)),
        call,
        block: block.clone(),
    };
    let second = json!({"functionCall": {"name": "find"}});
    let said = Assistant {
        calls: vec![call("fc-1", "look", r#"{"b":1,"a":2}"#), call("call_3_1", "find", "{}")],
        reasoning: vec![block(Some(0), &signed), block(Some(1), &second)],
        ..Assistant::default()
    };
    let request = talk(FLASH, said);
    assert!(text(&request).contains(&format!(r#""parts":[{signed},{second}]"#)), "byte for byte");
    let other = Request { model: ModelName::from("gemini/gemini-3.8-flash"), ..request };
    assert!(!text(&other).contains("Q0FF") && text(&other).contains("skip_thought"), "no other model is sent them");
}

#[test]
fn a_pause_goes_on_with_its_token_in_the_place_of_what_was_said() {
    let paused = |text: &str, token: &str| {
        let block = json!({"continuationToken": token, "hiddenTokens": 4});
        let own = Opaque { form: Form::Gemini, model: Some(ModelName::from(FLASH)), call: None, block };
        let said = Assistant { text: text.into(), continuation: Some(Box::new(own)), ..Assistant::default() };
        Message::Assistant(said).into()
    };
    let question = Message::User { text: "Tell!".into() }.into();
    let messages = vec![question, paused("Once", "dDE="), paused(" upon", "dDI=")];
    let request = Request { messages, ..request(FLASH) };
    let own = body(&request);
    assert_eq!(own["contents"], json!([{"role": "user", "parts": [{"text": "Tell!"}]}]));
    assert_eq!(own["continuationToken"], "dDI=");
    let other = body(&Request { model: ModelName::from(OLDER), ..request });
    assert_eq!(other["contents"][1], json!({"role": "model", "parts": [{"text": "Once"}, {"text": " upon"}]}));
    assert!(other.get("continuationToken").is_none());
}

#[test]
fn files_go_out_inline_where_the_model_takes_them() {
    let png = File::new("a.png", Media::Png, "iVBORw0KGgo=", Tokens(258)).expect("a file");
    let pdf = File::new("b.pdf", Media::Pdf, "JVBERi0=", Tokens(516)).expect("a file");
    let with = |model: &str, file: &File| {
        let mut asked = request(model);
        asked.messages.push(Message::File(file.clone()).into());
        asked
    };
    assert_eq!(
        body(&with(FLASH, &png))["contents"][0]["parts"],
        json!([{"text": "Hi \"you\""}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}])
    );
    let parts = body(&with(FLASH, &pdf))["contents"][0]["parts"].clone();
    assert_eq!(parts[1], json!({"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}));
    let blind = Stated { images: Some(false), ..Stated::default() };
    let config = ProviderConfig { models: BTreeMap::from([(ModelName::from(FLASH), blind)]), ..config() };
    assert!(matches!(encode(&config, &with(FLASH, &png)), Err(ProviderError::File { .. })));
}

#[test]
fn what_would_change_the_price_is_refused() {
    for field in [
        "contents",
        "candidateCount",
        "maxOutputTokens",
        "serviceTier",
        "cachedContent",
        "tools",
        "responseModalities",
        "mediaResolution",
        "thinkingConfig",
        "routingConfig",
        "modelSelectionConfig",
        "continuationToken",
        "generationConfig",
        "anything",
    ] {
        let mut asked = request(FLASH);
        asked.sampling.extra.insert(field.into(), json!(1));
        assert!(matches!(encode(&config(), &asked), Err(ProviderError::ExtraField { .. })), "{field}");
    }
}

#[test]
fn a_message_that_says_nothing_is_left_out() {
    let mut asked = request(FLASH);
    asked.messages.push(Message::Assistant(Assistant::default()).into());
    asked.messages.push(Message::User { text: "Still there?".into() }.into());
    let contents = body(&asked)["contents"].clone();
    assert_eq!(contents, json!([{"role": "user", "parts": [{"text": "Hi \"you\""}, {"text": "Still there?"}]}]));
}
