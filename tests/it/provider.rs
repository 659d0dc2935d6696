//! What goes out on OpenAI's chat wire, byte for byte. Calls need a permit, so their tests live beside the code.

mod responses;

use std::collections::BTreeMap;

use plimsoll::domain::ability::Stated;
use plimsoll::domain::message::{
    Assistant, CacheEnd, CacheMarks, CacheTtl, File, Media, Message, Opaque, OutputSchema, Request, Sampling,
    ToolAnswer, ToolCall, ToolChoice, ToolDefinition,
};
use plimsoll::ids::{ModelName, ToolName};
use plimsoll::provider::{ProviderError, encode};
use plimsoll::spec::project::{KeySource, ProviderConfig, Quirks, Wire};
use plimsoll::units::Tokens;
use serde_json::{Value, json};

fn openai() -> ProviderConfig {
    let key = KeySource::Env("OPENAI_API_KEY".into());
    ProviderConfig { key, ..ProviderConfig::plain("openai", Wire::OpenAiChat, "https://api.openai.com/v1") }
}

fn local() -> ProviderConfig {
    let quirks = Quirks { stream_usage: false, ..Quirks::COMPATIBLE };
    ProviderConfig { quirks, ..openai() }
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

fn text(config: &ProviderConfig, request: &Request) -> String {
    String::from_utf8(encode(config, request).expect("a body")).expect("UTF-8")
}

fn body(config: &ProviderConfig, request: &Request) -> Value {
    serde_json::from_str(&text(config, request)).expect("JSON")
}

#[test]
fn the_smallest_request_is_exactly_this() {
    assert_eq!(
        text(&openai(), &request("openai/gpt-5-mini")),
        r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"Hi \"you\""}],"max_completion_tokens":100,"service_tier":"default"}"#
    );
    assert_eq!(
        text(&local(), &request("local/qwen/qwen3:8b")),
        r#"{"model":"qwen/qwen3:8b","messages":[{"role":"user","content":"Hi \"you\""}],"max_tokens":100}"#
    );
}

#[test]
fn the_fullest_request_has_its_fields_in_order() {
    let sampling = json!({"temperature": 0.2, "reasoning": "low", "seed": -7, "stop": ["END"], "extra": {"top_k": 5, "abc": null}});
    let full = Request {
        sampling: serde_json::from_value(sampling).expect("sampling"),
        tools: [ToolDefinition {
            name: ToolName::from("look"),
            description: "Looks".into(),
            parameters: json!({"type": "object"}),
        }]
        .into(),
        output: Some(OutputSchema { name: "answer".into(), schema: json!({"type": "object"}) }.into()),
        stream: true,
        ..request("openai/gpt-5.6-sol")
    };
    assert_eq!(
        text(&openai(), &full),
        concat!(
            r#"{"model":"gpt-5.6-sol","messages":[{"role":"user","content":"Hi \"you\""}],"#,
            r#""tools":[{"type":"function","function":{"name":"look","description":"Looks","parameters":{"type":"object"}}}],"tool_choice":"auto","#,
            r#""response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"},"strict":false}},"#,
            r#""max_completion_tokens":100,"temperature":0.2,"seed":-7,"stop":["END"],"reasoning_effort":"low","#,
            r#""service_tier":"default","prompt_cache_options":{"mode":"explicit"},"#,
            r#""stream":true,"stream_options":{"include_usage":true},"top_k":5,"abc":null}"#,
        )
    );
    assert_eq!(encode(&openai(), &full), encode(&openai(), &full.clone()));
}

#[test]
fn a_conversation_with_tools_is_told_in_full() {
    let call = ToolCall { id: "c1".into(), name: ToolName::from("look"), arguments: "{broken".into() };
    let messages = vec![
        Message::System { text: "Be brief.".into() },
        Message::Assistant(Assistant {
            calls: vec![call],
            reasoning: vec![Opaque::kept(json!({"text": "hm"}))],
            ..Assistant::default()
        }),
        Message::Tool(ToolAnswer {
            call_id: "c1".into(),
            name: ToolName::from("look"),
            content: "no JSON".into(),
            is_error: true,
        }),
        Message::Assistant(Assistant { refusal: Some("No.".into()), ..Assistant::default() }),
        Message::Assistant(Assistant::default()),
    ];
    let sent = body(
        &openai(),
        &Request { messages: messages.into_iter().map(Into::into).collect(), ..request("openai/gpt-5-mini") },
    );
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": null,
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{broken"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "no JSON"},
            {"role": "assistant", "content": "No."},
            {"role": "assistant", "content": ""},
        ])
    );
}

#[test]
fn tools_can_be_shown_and_forbidden() {
    let tool = ToolDefinition { name: ToolName::from("look"), description: String::new(), parameters: json!({}) };
    let shown = Request { tools: [tool].into(), tool_choice: ToolChoice::None, ..request("openai/gpt-5-mini") };
    assert_eq!(body(&openai(), &shown)["tool_choice"], "none");
    let bare = Request { tool_choice: ToolChoice::None, ..request("openai/gpt-5-mini") };
    assert_eq!(body(&openai(), &bare).get("tool_choice"), None);
    let choice = |tool_choice| body(&openai(), &Request { tool_choice, ..shown.clone() })["tool_choice"].clone();
    assert_eq!(choice(ToolChoice::Required), "required");
    let named = json!({"type": "function", "function": {"name": "look"}});
    assert_eq!(choice(ToolChoice::Named(ToolName::from("look"))), named);
    let one = |request: Request| body(&openai(), &request).get("parallel_tool_calls").cloned();
    assert_eq!(one(shown.clone()), None);
    assert_eq!(one(Request { parallel_calls: false, ..shown }), Some(json!(false)));
    assert_eq!(one(Request { parallel_calls: false, ..bare }), None, "without tools there is nothing to say");
}

#[test]
fn what_a_user_says_in_several_messages_goes_out_as_one() {
    let file =
        |name: &str, media| Message::File(File::new(name, media, "iVBORw0KGgo=", Tokens(765)).expect("a file")).into();
    let said = |text: &str| Message::User { text: text.to_owned() }.into();
    let messages = |messages: Vec<_>| body(&openai(), &Request { messages, ..request("openai/gpt-5-mini") });
    let image = json!({"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"});
    let image = json!({"type": "image_url", "image_url": image});
    let document = json!({"filename": "b.pdf", "file_data": "data:application/pdf;base64,iVBORw0KGgo="});
    let document = json!({"type": "file", "file": document});
    let one = |content: serde_json::Value| json!([{"role": "user", "content": content}]);
    assert_eq!(messages(vec![file("a.png", Media::Png)])["messages"], one(json!([image])));
    let all = vec![said("Read."), file("a.png", Media::Png), said(""), file("b.pdf", Media::Pdf)];
    assert_eq!(messages(all)["messages"], one(json!([{"type": "text", "text": "Read."}, image, document])));
    // A summary follows the input that it belongs to.
    assert_eq!(
        messages(vec![said("Go on."), said("So far: nothing.")])["messages"],
        one(json!("Go on.\n\nSo far: nothing."))
    );
    let answer = || Message::Assistant(Assistant { text: "No.".to_owned(), ..Assistant::default() }).into();
    let apart = messages(vec![said("One?"), answer(), said("Two?")]);
    assert_eq!(apart["messages"].as_array().map(Vec::len), Some(3), "{apart}");
}

#[test]
fn files_are_refused_where_the_model_is_known_not_to_take_them() {
    let with = |model: &str, media: Media| {
        let file = File::new("a", media, "iVBORw0KGgo=", Tokens(765)).expect("a file");
        Request { messages: vec![Message::File(file).into()], ..request(model) }
    };
    let refused = |config: &ProviderConfig, model: &str, media| match encode(config, &with(model, media)) {
        Err(ProviderError::File { ability, .. }) => Some(ability),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    assert_eq!(refused(&local(), "groq/openai/gpt-oss-20b", Media::Png), Some("images"));
    for model in ["openai/gpt-5-mini", "local/qwen"] {
        assert_eq!(refused(&local(), model, Media::Jpeg), None, "{model}");
    }
    let stated = |images, documents| Stated { images: Some(images), documents: Some(documents), ..Stated::default() };
    let models = BTreeMap::from([
        ("local/qwen".into(), stated(false, false)),
        ("groq/openai/gpt-oss-20b".into(), stated(true, true)),
    ]);
    let config = ProviderConfig { models, ..local() };
    assert_eq!(refused(&config, "local/qwen", Media::Webp), Some("images"));
    assert_eq!(refused(&config, "local/qwen", Media::Pdf), Some("documents"));
    assert_eq!(refused(&config, "groq/openai/gpt-oss-20b", Media::Png), None);
}

#[test]
fn a_schema_is_strict_only_where_it_may_be() {
    let strict = |schema: Value| {
        let output = Some(OutputSchema { name: "a".into(), schema }.into());
        body(&openai(), &Request { output, ..request("openai/gpt-5-mini") })["response_format"]["json_schema"]["strict"]
            .clone()
    };
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    assert_eq!(strict(closed), true);
    assert_eq!(strict(json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})), false);
}

#[test]
fn cache_writes_are_declined_only_where_they_cost() {
    let sent =
        |config: &ProviderConfig, model: &str| body(config, &request(model)).get("prompt_cache_options").cloned();
    assert_eq!(sent(&openai(), "openai/gpt-6-astra"), Some(json!({"mode": "explicit"})));
    assert_eq!(sent(&openai(), "openai/gpt-5.5"), None);
    assert_eq!(sent(&local(), "local/gpt-6-astra"), None);
}

#[test]
fn marks_stand_where_they_are_asked_for_and_understood() {
    let ends = vec![CacheEnd::Tools, CacheEnd::Message(0), CacheEnd::Message(2), CacheEnd::Message(3)];
    let cache = Some(CacheMarks { ttl: CacheTtl::Long, ends });
    let answer = ToolAnswer { call_id: "c".into(), name: "look".into(), content: "found".into(), is_error: false };
    let messages = vec![
        Message::System { text: "Be brief.".into() },
        Message::User { text: "Hi".into() },
        Message::Assistant(Assistant::default()),
        Message::Tool(answer),
    ];
    let messages = messages.into_iter().map(Into::into).collect();
    let asked = Request { cache, messages, ..request("openai/gpt-5.6-sol") };
    let sent = body(&openai(), &asked);
    let part = |text: &str| json!([{"type": "text", "text": text, "prompt_cache_breakpoint": {"mode": "explicit"}}]);
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": part("Be brief.")}));
    assert_eq!(sent["messages"][1]["content"], "Hi");
    assert_eq!(sent["messages"][2]["content"], "", "nothing of an assistant's is marked");
    assert_eq!(sent["messages"][3], json!({"role": "tool", "tool_call_id": "c", "content": part("found")}));
    assert_eq!(sent["prompt_cache_options"], json!({"mode": "explicit"}));
    // Others keep by themselves, or don't know the field.
    for (config, model) in [(openai(), "openai/gpt-5-mini"), (local(), "local/gpt-6-astra")] {
        let plain = Request { cache: None, model: ModelName::from(model), ..asked.clone() };
        assert_eq!(text(&config, &Request { cache: asked.cache.clone(), ..plain.clone() }), text(&config, &plain));
    }
}

#[test]
fn extra_never_changes_what_a_call_can_cost() {
    let refused = |field: &str, sampling: Value| {
        let mut request =
            Request { sampling: serde_json::from_value(sampling).expect("sampling"), ..request("openai/gpt-5-mini") };
        request.sampling.extra.insert(field.into(), json!(1));
        encode(&local(), &request) == Err(ProviderError::ExtraField { model: request.model, field: field.into() })
    };
    for field in [
        "n",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n_predict",
        "stream",
        "stream_options",
        "service_tier",
        "model",
        "models",
        "tools",
        "tool_choice",
        "messages",
        "store",
        "best_of",
        "web_search_options",
        "prompt_cache_options",
    ] {
        assert!(refused(field, json!({})), "{field}");
    }
    assert!(refused("seed", json!({"seed": 1})));
    assert!(refused("temperature", json!({"temperature": 1})));
    assert!(!refused("seed", json!({})));
    assert!(!refused("top_k", json!({})));
}
