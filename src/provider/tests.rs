//! Calls over a real socket: what goes out, what comes back, and what the ledger is told.

mod accounts;
mod anthropic;
mod azure;
mod bounds;
mod dialect;
mod gemini;
mod google;
mod server;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use self::server::{Act, Server, answer, chunk, json, stream_end, stream_head};
use super::{Answer, AnswerResult, Client, Http, Listener};
use crate::clock::Clock;
use crate::domain::message::{Message, Reply, Request, Sampling, ToolChoice};
use crate::domain::retry::{ErrorClass, Failure};
use crate::gate::Permit;
use crate::ids::{ModelName, ProviderName};
use crate::spec::project::{KeySource, ProviderConfig, Quirks, Wire};
use crate::units::Millis;

const LONG: Millis = Millis::from_secs(20);
const KEY: &str = "sk-test-1234";

fn config(server: &Server) -> ProviderConfig {
    ProviderConfig { base_url: format!("http://{}/v1/", server.address), ..plain_config() }
}

fn plain_config() -> ProviderConfig {
    ProviderConfig::plain("openai", Wire::OpenAiChat, "")
}

fn request() -> Request {
    Request {
        model: ModelName::from("openai/gpt-5-mini"),
        messages: vec![Message::System { text: "Be brief.".into() }.into(), Message::User { text: "Hi".into() }.into()],
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

fn streaming() -> Request {
    Request { stream: true, ..request() }
}

/// A signal that nobody gives.
fn never() -> super::CancelSignal {
    watch::channel(false).1
}

fn client(config: &ProviderConfig) -> Client {
    Client::new(config, Http::new(Clock::system())).expect("a client")
}

async fn call_within(server: &Server, request: &Request, time: Millis, first_token: Millis) -> Answer {
    let permit = Permit::for_test(time, first_token);
    client(&config(server)).call(permit, request, None, never()).await
}

async fn call(server: &Server, request: &Request) -> Answer {
    call_within(server, request, LONG, LONG).await
}

/// Plays `script` once and gives what a call of `request` came to.
async fn play(script: Vec<Act>, request: &Request) -> AnswerResult {
    let server = Server::playing(script).await;
    call(&server, request).await.result
}

fn replied(result: AnswerResult) -> Reply {
    match result {
        AnswerResult::Replied(reply) => *reply,
        AnswerResult::Unbilled(failure) | AnswerResult::Unknown(failure) => panic!("no reply: {failure:?}"),
    }
}

fn unbilled(result: AnswerResult) -> Failure {
    match result {
        AnswerResult::Unbilled(failure) => failure,
        AnswerResult::Replied(_) | AnswerResult::Unknown(_) => panic!("not unbilled: {result:?}"),
    }
}

fn unknown(result: AnswerResult) -> Failure {
    match result {
        AnswerResult::Unknown(failure) => failure,
        AnswerResult::Replied(_) | AnswerResult::Unbilled(_) => panic!("not unknown: {result:?}"),
    }
}

const SAID: &str = r#"{"id":"chatcmpl-7","object":"chat.completion","model":"gpt-5-mini-2025-08-07","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":0}}}"#;
const PIECE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}],\"usage\":null}\n\n";
const LAST_PIECE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":9,\"total_tokens\":29}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[tokio::test]
async fn a_whole_answer_is_a_reply_with_usage() {
    let mut server =
        Server::playing(vec![answer("200 OK", &["content-type: application/json", "x-request-id: req_1"], SAID)]).await;
    let answered = call(&server, &request()).await;
    assert_eq!((answered.reservation.number, answered.first_token), (0, None));
    let reply = replied(answered.result);
    assert_eq!(reply.message.text, "Hello");
    let usage = reply.usage.expect("usage");
    assert_eq!([usage.input.0, usage.cache_read.0, usage.output.0, usage.reasoning.0], [16, 4, 9, 3]);
    assert_eq!((reply.request_id.as_deref(), reply.response_id.as_deref()), (Some("req_1"), Some("chatcmpl-7")));
    assert_eq!(reply.service_tier.as_deref(), Some("default"));
    assert_eq!(reply.raw_usage.expect("raw usage")["prompt_tokens"], 20);

    let heard = server.heard().await;
    assert!(heard.head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{}", heard.head);
    assert_eq!(heard.header("user-agent"), Some(concat!("plimsoll/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(heard.header("content-type"), Some("application/json"));
    assert_eq!(heard.header("x-client-request-id"), Some("00000000000000000000000001#0"));
    assert_eq!(heard.header("authorization"), None);
    assert_eq!(heard.header("transfer-encoding"), None);
}

#[tokio::test]
async fn a_stream_is_heard_as_it_comes() {
    let script = vec![
        stream_head(),
        chunk(": OPENROUTER PROCESSING\n\n"),
        chunk(PIECE),
        chunk(LAST_PIECE),
        chunk(USAGE),
        chunk(DONE),
        stream_end(),
    ];
    let mut server = Server::playing(script).await;
    let pieces: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&pieces);
    let listener: Listener = Arc::new(move |text: &str| into.lock().expect("a lock").push(text.to_owned()));
    let permit = Permit::for_test(LONG, LONG);
    let answered = client(&config(&server)).call(permit, &streaming(), Some(&listener), never()).await;
    assert!(answered.first_token.is_some());
    let reply = replied(answered.result);
    assert_eq!(reply.message.text, "Hello");
    assert_eq!(reply.usage.map(|usage| usage.output.0), Some(9));
    assert_eq!(*pieces.lock().expect("a lock"), ["Hel", "lo"]);
    let heard = server.heard().await;
    assert_eq!(heard.json()["stream_options"]["include_usage"], true);
    assert_eq!(heard.header("accept"), Some("text/event-stream"));
    assert_eq!(heard.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_stream() {
    let one = [stream_head(), chunk(LAST_PIECE), chunk(USAGE), chunk(DONE), stream_end()];
    let script = [one.as_slice(), &[Act::NextRequest], &one].concat();
    let mut server = Server::playing(script).await;
    let client = client(&config(&server));
    for _ in 0..2 {
        replied(client.call(Permit::for_test(LONG, LONG), &streaming(), None, never()).await.result);
        server.heard().await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_key_goes_out_and_never_comes_back() {
    let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}.","code":"bad_{KEY}"}}}}"#);
    let mut server = Server::playing(vec![json("401 Unauthorized", &body)]).await;
    let config =
        ProviderConfig { key: KeySource::Command(["printf", KEY].map(str::to_owned).to_vec()), ..config(&server) };
    let answered = client(&config).call(Permit::for_test(LONG, LONG), &request(), None, never()).await;
    let failure = unbilled(answered.result);
    assert_eq!(failure.class, ErrorClass::BadKey);
    assert_eq!(failure.message, "`openai` answered 401 (`bad_[redacted]`): Incorrect API key provided: [redacted].");
    assert_eq!(failure.code.as_deref(), Some("bad_[redacted]"));
    assert_eq!(server.heard().await.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
}

#[tokio::test]
async fn a_missing_key_or_a_forbidden_field_sends_nothing() {
    let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
    let keyless = ProviderConfig { key: KeySource::Env("PLIMSOLL_TEST_NO_SUCH_KEY".into()), ..config(&server) };
    assert!(crate::provider::check_key(&keyless).is_err());
    let keyless = client(&keyless);
    let failure = unbilled(keyless.call(Permit::for_test(LONG, LONG), &request(), None, never()).await.result);
    assert_eq!(failure.class, ErrorClass::BadKey);
    assert!(failure.message.contains("`PLIMSOLL_TEST_NO_SUCH_KEY`"), "{}", failure.message);

    let mut greedy = request();
    greedy.sampling.extra.insert("n".into(), 5.into());
    let failure = unbilled(call(&server, &greedy).await.result);
    assert_eq!(failure.class, ErrorClass::BadRequest);
    assert!(failure.message.contains("`extra.n`"), "{}", failure.message);
    assert_eq!(server.more(), 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_sent_to() {
    let gone = {
        let server = Server::playing(Vec::new()).await;
        config(&server)
    };
    let failure = unbilled(client(&gone).call(Permit::for_test(LONG, LONG), &request(), None, never()).await.result);
    assert_eq!((failure.class, failure.status), (ErrorClass::NotSent, None));
    let nowhere = ProviderConfig { base_url: "http://plimsoll.invalid/v1".into(), ..gone };
    let failure = unbilled(client(&nowhere).call(Permit::for_test(LONG, LONG), &request(), None, never()).await.result);
    assert_eq!(failure.class, ErrorClass::NotSent);
    assert!(!failure.message.contains("/v1"), "{}", failure.message);
}

#[tokio::test]
async fn configurations_that_cannot_work_are_told() {
    let server = Server::playing(Vec::new()).await;
    for base_url in ["api.example.com/v1", "ftp://example.com", "http://", "https://key:secret@example.com/v1"] {
        let wrong = ProviderConfig { base_url: base_url.into(), ..config(&server) };
        let told = Client::new(&wrong, Http::new(Clock::system())).expect_err("no client").to_string();
        assert!(told.contains("`base_url`") && !told.contains("secret"), "{told}");
    }
    for (name, value) in [("Authorization", "x"), ("bad name", "x"), ("x-ok", "bad\nvalue")] {
        let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let wrong = ProviderConfig { headers, ..config(&server) };
        assert!(Client::new(&wrong, Http::new(Clock::system())).is_err(), "{name}");
    }
    let query = ProviderConfig { base_url: "https://example.com/v1?api-version=1".into(), ..config(&server) };
    assert_eq!(client(&query).url(), "https://example.com/v1/chat/completions?api-version=1");
}
