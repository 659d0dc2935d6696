//! What goes out on OpenAI's Responses, byte for byte, and what never does.

use super::*;
use plimsoll::domain::message::{CacheEnd, CacheMarks, CacheTtl, Form};

fn responses() -> ProviderConfig {
    ProviderConfig { wire: Wire::OpenAiResponses, ..openai() }
}

#[test]
fn the_smallest_request_is_exactly_this() {
    assert_eq!(
        text(&responses(), &request("openai/gpt-4o-mini")),
        r#"{"model":"gpt-4o-mini","input":[{"role":"user","content":"Hi \"you\""}],"max_output_tokens":100,"store":false,"service_tier":"default"}"#
    );
}

#[test]
fn the_fullest_request_has_its_fields_in_order() {
    let sampling = json!({"temperature": 0.2, "reasoning": "low", "extra": {"top_p": 0.5, "safety_identifier": "u"}});
    let full = Request {
        sampling: serde_json::from_value(sampling).expect("sampling"),
        tools: [ToolDefinition {
            name: ToolName::from("look"),
            description: "Looks".into(),
            parameters: json!({"type": "object"}),
        }]
        .into(),
        parallel_calls: false,
        output: Some(OutputSchema { name: "answer".into(), schema: json!({"type": "object"}) }.into()),
        stream: true,
        ..request("openai/gpt-5.6-sol")
    };
    assert_eq!(
        text(&responses(), &full),
        concat!(
            r#"{"model":"gpt-5.6-sol","input":[{"role":"user","content":"Hi \"you\""}],"#,
            r#""tools":[{"type":"function","name":"look","description":"Looks","parameters":{"type":"object"},"strict":false}],"#,
            r#""tool_choice":"auto","parallel_tool_calls":false,"#,
            r#""text":{"format":{"type":"json_schema","name":"answer","schema":{"type":"object"},"strict":false}},"#,
            r#""max_output_tokens":100,"temperature":0.2,"reasoning":{"effort":"low"},"include":["reasoning.encrypted_content"],"#,
            r#""store":false,"service_tier":"default","prompt_cache_options":{"mode":"explicit"},"#,
            r#""stream":true,"top_p":0.5,"safety_identifier":"u"}"#,
        )
    );
    assert_eq!(encode(&responses(), &full), encode(&responses(), &full.clone()));
    for choice in [ToolChoice::Required, ToolChoice::None] {
        let word = if choice == ToolChoice::None { "none" } else { "required" };
        assert_eq!(body(&responses(), &Request { tool_choice: choice, ..full.clone() })["tool_choice"], word);
    }
    let named = Request { tool_choice: ToolChoice::Named(ToolName::from("look")), ..full };
    assert_eq!(body(&responses(), &named)["tool_choice"], json!({"type": "function", "name": "look"}));
}

#[test]
fn nothing_is_kept_at_the_provider_unless_the_project_says_so() {
    let mut config = responses();
    assert_eq!(body(&config, &request("openai/gpt-5-mini"))["store"], false);
    config.quirks.store = true;
    assert_eq!(body(&config, &request("openai/gpt-5-mini"))["store"], true);
}

#[test]
fn reasoning_goes_back_unchanged_in_front_of_what_it_led_to() {
    let block = |id: &str| json!({"id": id, "type": "reasoning", "summary": [], "encrypted_content": "gAAAA=="});
    let opaque = |model: &str, call, id: &str| Opaque {
        form: Form::OpenAiResponses,
        model: Some(model.into()),
        call,
        block: block(id),
    };
    let own = "openai/gpt-5-mini";
    let call = |id: &str| ToolCall { id: id.into(), name: ToolName::from("look"), arguments: "{broken".into() };
    let said = Assistant {
        text: "I look.".into(),
        calls: vec![call("c1"), call("c2")],
        reasoning: vec![opaque(own, None, "rs_1"), Opaque::kept(json!({"text": "hm"})), opaque(own, Some(1), "rs_2")],
        ..Assistant::default()
    };
    let answer = |id: &str| {
        Message::Tool(ToolAnswer {
            call_id: id.into(),
            name: ToolName::from("look"),
            content: "no JSON".into(),
            is_error: true,
        })
    };
    let messages = vec![
        Message::System { text: "Be brief.".into() },
        Message::Assistant(said),
        answer("c1"),
        answer("c2"),
        Message::Assistant(Assistant { refusal: Some("No.".into()), ..Assistant::default() }),
        Message::Assistant(Assistant::default()),
    ];
    let messages: Vec<_> = messages.into_iter().map(Into::into).collect();
    let input = |model| body(&responses(), &Request { messages: messages.clone(), ..request(model) })["input"].clone();
    let called = |id: &str| json!({"type": "function_call", "call_id": id, "name": "look", "arguments": "{broken"});
    let answered = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "no JSON"});
    let spoken = |text: &str| json!({"role": "assistant", "content": text});
    let system = json!({"role": "system", "content": "Be brief."});
    let rest = [answered("c1"), answered("c2"), spoken("No."), spoken("")];
    let whole = [system.clone(), block("rs_1"), spoken("I look."), called("c1"), block("rs_2"), called("c2")];
    assert_eq!(input(own), json!([&whole[..], &rest].concat()));
    let without = [system, spoken("I look."), called("c1"), called("c2")];
    assert_eq!(
        input("openai/gpt-5"),
        json!([&without[..], &rest].concat()),
        "another model goes on from what was seen"
    );
}

#[test]
fn files_are_items_of_their_own_or_refused() {
    let file = |name: &str, media| File::new(name, media, "iVBORw0KGgo=", Tokens(765)).expect("a file");
    let messages =
        vec![Message::File(file("a.png", Media::Png)).into(), Message::File(file("b.pdf", Media::Pdf)).into()];
    let sent = body(&responses(), &Request { messages: messages.clone(), ..request("openai/gpt-5-mini") });
    let image = json!({"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"});
    let document =
        json!({"type": "input_file", "filename": "b.pdf", "file_data": "data:application/pdf;base64,iVBORw0KGgo="});
    assert_eq!(sent["input"], json!([{"role": "user", "content": [image]}, {"role": "user", "content": [document]}]));
    let blind = Stated { images: Some(false), ..Stated::default() };
    let config = ProviderConfig { models: BTreeMap::from([("openai/gpt-5-mini".into(), blind)]), ..responses() };
    let refused = encode(&config, &Request { messages, ..request("openai/gpt-5-mini") });
    assert!(matches!(refused, Err(ProviderError::File { ability: "images", .. })));
}

#[test]
fn beginnings_are_marked_where_the_model_knows_marks() {
    let cache = Some(CacheMarks { ttl: CacheTtl::Long, ends: vec![CacheEnd::Message(0)] });
    let content = |model: &str| {
        body(&responses(), &Request { cache: cache.clone(), ..request(model) })["input"][0]["content"].clone()
    };
    let part = json!([{"type": "input_text", "text": "Hi \"you\"", "prompt_cache_breakpoint": {"mode": "explicit"}}]);
    assert_eq!(content("openai/gpt-5.6-sol"), part);
    assert_eq!(content("openai/gpt-5-mini"), "Hi \"you\"");
}

#[test]
fn what_this_wire_lacks_and_what_changes_a_cost_is_refused() {
    let with = |sampling: Value| {
        encode(
            &responses(),
            &Request { sampling: serde_json::from_value(sampling).expect("sampling"), ..request("openai/gpt-5-mini") },
        )
    };
    for (setting, sampling) in [("stop", json!({"stop": ["END"]})), ("seed", json!({"seed": 1}))] {
        let refused = with(sampling).expect_err("no such setting");
        assert!(matches!(&refused, ProviderError::Setting { setting: named, .. } if *named == setting));
        assert!(refused.to_string().contains("openai-responses"), "{refused}");
    }
    for field in [
        "previous_response_id",
        "conversation",
        "prompt",
        "truncation",
        "context_management",
        "background",
        "store",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "service_tier",
        "reasoning",
        "text",
        "prompt_cache_options",
        "tools",
        "stream",
    ] {
        let refused = with(json!({"extra": {field: 1}}));
        assert!(matches!(refused, Err(ProviderError::ExtraField { .. })), "{field}");
    }
    assert!(with(json!({"temperature": 1, "extra": {"temperature": 1}})).is_err());
    assert!(with(json!({"extra": {"metadata": {"a": "b"}}})).is_ok());
}
