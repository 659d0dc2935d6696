//! Bounds of a request's input against what a tokenizer really counts.

use std::sync::Arc;

use plimsoll::domain::context::Sizer;
use plimsoll::domain::message::{
    Assistant, File, Media, Message, Opaque, OutputSchema, Request, Sampling, ToolAnswer, ToolCall, ToolChoice,
    ToolDefinition,
};
use plimsoll::ids::ModelName;
use plimsoll::tokenize::{
    Counter, Encoding, MESSAGE_FRAME, Prepared, RequestSizer, input_bound_bytes, input_bound_tokens, message_bytes,
};
use plimsoll::units::Tokens;
use proptest::prelude::*;
use serde_json::json;

fn request(messages: Vec<Message>) -> Request {
    let parameters = json!({"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}});
    Request {
        model: ModelName::from("openai/gpt-5-mini"),
        messages: messages.into_iter().map(Into::into).collect(),
        tools: [ToolDefinition {
            name: "lookup_order".into(),
            description: "Looks up an order".to_owned(),
            parameters,
        }]
        .into(),
        tool_choice: ToolChoice::Auto,
        parallel_calls: true,
        output: Some(OutputSchema { name: "answer".to_owned(), schema: json!({"type": "object"}) }.into()),
        max_output_tokens: 800,
        sampling: Sampling::default(),
        stream: true,
        cache: None,
        web_search: None,
    }
}

fn user(text: &str) -> Message {
    Message::User { text: text.to_owned() }
}

fn conversation(texts: &[String]) -> Vec<Message> {
    let one = |(index, text): (usize, &String)| match index % 4 {
        0 => Message::System { text: text.clone() },
        1 => user(text),
        2 => {
            let call = ToolCall { id: format!("call_{index}"), name: "lookup_order".into(), arguments: text.clone() };
            Message::Assistant(Assistant { text: text.clone(), calls: vec![call], ..Assistant::default() })
        }
        _ => Message::Tool(ToolAnswer {
            call_id: format!("call_{index}"),
            name: "lookup_order".into(),
            content: text.clone(),
            is_error: false,
        }),
    };
    texts.iter().enumerate().map(one).collect()
}

/// Every text of a request, one after another, as a server could see it.
fn concatenation(request: &Request) -> String {
    let tools = request.tools.iter().map(|tool| serde_json::to_string(tool).expect("JSON"));
    let schema = request.output.iter().map(|output| serde_json::to_string(&output.schema).expect("JSON"));
    let texts = request.messages.iter().map(|message| match &**message {
        Message::System { text } | Message::User { text } => text.clone(),
        Message::File(file) => file.name().to_owned(),
        Message::Assistant(assistant) => {
            let calls = assistant.calls.iter().map(|call| format!("{}{}{}", call.id, call.name, call.arguments));
            std::iter::once(assistant.text.clone()).chain(calls).collect()
        }
        Message::Tool(answer) => format!("{}{}{}", answer.call_id, answer.name, answer.content),
    });
    tools.chain(schema).chain(texts).collect()
}

#[test]
fn published_encodings_are_known_and_others_are_not() {
    let of = |model: &str| Encoding::of(&ModelName::from(model));
    for model in ["openai/gpt-5-mini", "openai/gpt-4.1", "openai/gpt-4o-mini", "openai/o3", "openrouter/openai/gpt-5.4"]
    {
        assert_eq!(of(model), Some(Encoding::O200k), "{model}");
    }
    assert_eq!(of("openai/gpt-4-turbo-2024-04-09"), Some(Encoding::Cl100k));
    let unknown = [
        "openai/gpt-6-sol",
        "anthropic/claude-haiku-4-5",
        "local/qwen",
        "local/gpt-4-vicuna",
        "groq/openai/gpt-oss-20b",
        "",
    ];
    for model in unknown {
        assert_eq!(of(model), None, "{model}");
        let asked = Request { model: ModelName::from(model), ..request(vec![user("hello")]) };
        assert_eq!(input_bound_tokens(&Counter::new(), &asked), None, "{model}");
    }
}

#[test]
fn tokens_are_far_tighter_than_bytes_on_english() {
    let text = "The parcel left our warehouse on Monday and should arrive within three working days. ".repeat(40);
    let asked = request(vec![user(&text)]);
    let (bytes, tokens) = (input_bound_bytes(&asked), input_bound_tokens(&Counter::new(), &asked).expect("known"));
    assert!(tokens.0 * 3 < bytes.0, "{tokens} of {bytes}");
}

#[test]
fn special_tokens_in_a_text_are_ordinary_text() {
    let counter = Counter::new();
    assert_eq!(counter.count(Encoding::O200k, "<|endoftext|>"), 7);
}

#[test]
fn texts_that_harm_the_tokenizer_are_counted_by_bytes() {
    let counter = Counter::new();
    for harmful in [" ".repeat(1_000_000), "\u{3000}".repeat(1_001), "word ".repeat(60_000)] {
        assert_eq!(counter.count(Encoding::O200k, &harmful), u64::try_from(harmful.len()).expect("small"));
    }
    let spaced = format!("a{}b", " ".repeat(1_000));
    assert!(counter.count(Encoding::O200k, &spaced) < 100);
}

#[test]
fn a_long_conversation_is_counted_on_a_thread_that_may_block() {
    let counter = Counter::new();
    Encoding::O200k.load();
    assert!(Encoding::O200k.is_loaded());
    assert!(!counter.is_slow(Encoding::O200k, &[user("short").into()]));
    assert!(counter.is_slow(Encoding::O200k, &[user(&"long ".repeat(11_000)).into()]));
}

#[test]
fn every_text_that_the_server_sees_counts() {
    let whole = request(conversation(&["one".to_owned(), "two".to_owned(), "three".to_owned(), "four".to_owned()]));
    let bound = input_bound_bytes(&whole);
    let longer = |change: &dyn Fn(&mut Request)| {
        let mut changed = whole.clone();
        change(&mut changed);
        input_bound_bytes(&changed).0 - bound.0
    };
    assert_eq!(longer(&|request| Arc::make_mut(&mut request.tools)[0].description.push_str("12345")), 5);
    assert_eq!(
        longer(&|request| {
            let output = request.output.as_mut().expect("a schema");
            Arc::make_mut(output).schema = json!({"type": "object", "a": 1});
        }),
        6
    );
    assert!(longer(&|request| drop(request.sampling.extra.insert("k".to_owned(), json!("v")))) >= 9);
    for index in 0..4 {
        let added = longer(&|request| {
            let mut message = (*request.messages[index]).clone();
            match &mut message {
                Message::System { text } | Message::User { text } => text.push_str("12345"),
                Message::File(_) => unreachable!("the request has none"),
                Message::Assistant(assistant) => {
                    assistant.calls[0].arguments.push_str("12345");
                    assistant.refusal = Some("no".to_owned());
                    assistant.reasoning.push(Opaque::kept(json!("abc")));
                }
                Message::Tool(answer) => answer.content.push_str("12345"),
            }
            request.messages[index] = message.into();
        });
        assert_eq!(added, if index == 2 { 5 + 2 + 5 } else { 5 }, "message {index}");
    }
}

/// Pixels and pages aren't bytes: a file counts what it says, whatever its size.
#[test]
fn a_file_counts_what_it_says() {
    let file = |tokens| File::new("a.png", Media::Png, "iVBORw0KGgo=", Tokens(tokens)).expect("a file");
    let counter = Counter::default();
    for tokens in [1, 85, 48_000] {
        let message = Message::File(file(tokens));
        let (bytes, counted) = (message_bytes(&message), counter.message_tokens(Encoding::O200k, &message));
        assert!(bytes.0 >= tokens && bytes.0 <= tokens + 5 + MESSAGE_FRAME, "{bytes}");
        assert!(counted.0 >= tokens && counted <= bytes, "{counted}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,300}",
        "\\PC{0,120}",
        "[ \\n\\t]{0,60}",
        "[\\u{4e00}-\\u{4fff}\\u{1f300}-\\u{1f5ff}]{0,60}",
        "[0-9.,{}\":]{0,200}",
        "([a-z]{1,9} ){0,80}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_true_count_is_within_the_tokens_and_these_within_the_bytes(texts in proptest::collection::vec(any_text(), 0..9)) {
        let asked = request(conversation(&texts));
        let bytes = input_bound_bytes(&asked);
        let tokens = input_bound_tokens(&Counter::new(), &asked).expect("known");
        let truth = Counter::new().count(Encoding::O200k, &concatenation(&asked));
        prop_assert!(Tokens(truth) <= tokens, "{truth} of {tokens}");
        prop_assert!(tokens <= bytes, "{tokens} of {bytes}");
    }

    #[test]
    fn a_prepared_plan_measures_as_the_request_does(texts in proptest::collection::vec(any_text(), 0..5), bare in any::<bool>()) {
        let mut asked = request(conversation(&texts));
        if bare {
            asked.tools = [].into();
            asked.output = None;
        }
        let counter = Counter::new();
        let prepared = Prepared::new(&asked.tools, asked.output.as_deref(), &asked.sampling.extra);
        let sizer = RequestSizer::new(&counter, &asked.model, &prepared);
        prop_assert_eq!(sizer.bound_bytes(&asked.messages), input_bound_bytes(&asked));
        prop_assert_eq!(sizer.bound_tokens(&asked.messages), input_bound_tokens(&counter, &asked));
        let fitted: Tokens = asked.messages.iter().map(|message| Sizer::message_bytes(&sizer, message)).sum();
        prop_assert_eq!(sizer.fixed_bytes().plus(fitted), input_bound_bytes(&asked));
    }
}
