use serde_json::json;

use super::*;
use crate::domain::message::{Assistant, Message, Request, Sampling, StopReason, ToolChoice};
use crate::domain::pricing::Factors;
use crate::domain::retry::ErrorClass;

fn secrets() -> Secrets {
    let values = [("KEY", "sk-12345678"), ("LONGER", "sk-12345678-and-more"), ("REGION", "eu")];
    Secrets::new(values.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

fn request(text: &str) -> Request {
    Request {
        model: ModelName::from("openai/gpt-5-mini"),
        messages: vec![Message::User { text: text.into() }.into()],
        tools: [].into(),
        tool_choice: ToolChoice::None,
        parallel_calls: true,
        output: None,
        max_output_tokens: 100,
        sampling: Sampling::default(),
        stream: true,
        cache: None,
        web_search: None,
    }
}

#[test]
fn secrets_are_out_of_every_text_and_key() {
    let value = json!({"sk-12345678": ["a sk-12345678-and-more b", {"in": "eu sk-12345678"}], "n": 1});
    let expected = json!({"[KEY redacted]": ["a [LONGER redacted] b", {"in": "eu [KEY redacted]"}], "n": 1});
    assert_eq!(secrets().out_of(value), expected);
    assert!(!format!("{:?}", secrets()).contains("sk-"));
}

#[test]
fn a_call_is_known_by_what_it_asks_not_by_its_cap_nor_by_secrets() {
    let none = Secrets::default();
    let key = key::of_request(&request("hello"), &none);
    assert_eq!(key, key::of_request(&Request { max_output_tokens: 7, stream: false, ..request("hello") }, &none));
    assert_ne!(key, key::of_request(&request("hello!"), &none));
    assert_ne!(key, key::of_request(&Request { model: ModelName::from("openai/o3"), ..request("hello") }, &none));
    let with = key::of_request(&request("use sk-12345678"), &secrets());
    assert_eq!(with, key::of_request(&request("use [KEY redacted]"), &none), "the same where the variable isn't set");
}

#[test]
fn a_line_reads_back_as_it_was_written() {
    let reply = Reply {
        message: Assistant { text: "hi".into(), ..Assistant::default() },
        stop: StopReason::End,
        usage: None,
        mismatch: None,
        charged: None,
        raw_usage: Some(json!({"prompt_tokens": 1})),
        response_model: None,
        service_tier: None,
        factors: Factors::NONE,
        request_id: None,
        response_id: None,
    };
    let failure = Failure {
        class: ErrorClass::RateLimited,
        status: Some(429),
        code: None,
        message: "slow down".into(),
        retry_after: Some(Millis(5)),
    };
    for came in [Came::Replied(Box::new(reply)), Came::Unbilled(failure.clone()), Came::Unknown(failure)] {
        let line = Line::Model {
            key: "k".into(),
            model: ModelName::from("openai/gpt-5-mini"),
            latency_ms: Millis(3),
            first_token_ms: None,
            came,
        };
        let text = serde_json::to_string(&line).expect("JSON");
        assert_eq!(serde_json::from_str::<Line>(&text).expect("a line"), line);
    }
}

#[test]
fn what_is_no_cassette_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.cassette");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        Player::read(&path, false, Secrets::default()).map(|_| ()).map_err(|error| error.to_string())
    };
    let head = "{\"plimsoll_cassette\":1}\n";
    assert!(read(head).is_ok());
    for (text, word) in [
        (String::new(), "empty"),
        ("{\"a\":1}\n".to_owned(), "no head"),
        ("{\"plimsoll_cassette\":9}\n".to_owned(), "version 9"),
        (format!("{head}{{\"call\":\"model\"}}\n"), "line 2"),
        (format!("{head}\u{1}\n"), "line 2"),
    ] {
        let told = read(&text).expect_err("refused");
        assert!(told.contains(word), "{told}");
    }
    std::fs::write(&path, [0xff, 0xfe]).expect("a file");
    assert!(Player::read(&path, false, Secrets::default()).is_err());
}

#[test]
fn a_cassette_that_is_there_stays_until_the_new_one_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.cassette");
    std::fs::write(&path, "mine").expect("a file");
    assert!(matches!(Recorder::new(&path, false, Secrets::default()), Err(CassetteError::Exists { .. })));
    let recorder = Recorder::new(&path, true, Secrets::default()).expect("a recorder");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "mine");
    assert_eq!(recorder.finish().expect("it is finished"), 0);
    assert!(Player::read(&path, false, Secrets::default()).is_ok());
}
