//! A wire that only tests speak: what a new one has to say, and what the exchange does with it.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::domain::message::{Assistant, StopReason};
use crate::domain::pricing::Factors;
use crate::provider::ProviderError;
use crate::provider::auth::Secret;
use crate::provider::dialect::{Dialect, Reader};
use crate::provider::evidence::{Billing, Facts};
use crate::provider::exchange::{Endpoint, base_url, below};
use crate::provider::fault::Broken;

#[derive(Debug)]
struct Toy(Url);

impl Dialect for Toy {
    fn base_url(&self) -> &Url {
        &self.0
    }

    fn url(&self, request: &Request) -> Result<Url, ProviderError> {
        Ok(below(&self.0, &format!("models/{}:say", request.model.model())))
    }

    fn body(&self, _request: &Request) -> Result<Vec<u8>, ProviderError> {
        Ok(b"say".to_vec())
    }

    fn headers(&self, request: &Request, headers: &mut HeaderMap) {
        headers.insert("toy-version", HeaderValue::from_static(if request.stream { "1s" } else { "1" }));
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["x-toy-key", "toy-version"]
    }

    fn credential(&self, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
        Some((HeaderName::from_static("x-toy-key"), HeaderValue::from_str(secret.expose()).ok()?))
    }

    fn request_ids(&self) -> &'static [&'static str] {
        &["toy-id", "other-id"]
    }

    fn whole(&self, request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken> {
        let text = format!("{} said {} as {call_id}", request.model, String::from_utf8_lossy(body));
        Ok(Reply {
            message: Assistant { text, ..Assistant::default() },
            stop: StopReason::End,
            usage: None,
            mismatch: None,
            charged: None,
            raw_usage: None,
            response_model: None,
            service_tier: None,
            factors: Factors::NONE,
            request_id: None,
            response_id: None,
        })
    }

    fn reader(&self, _request: &Request, call_id: String) -> Box<dyn Reader> {
        Box::new(ToyReader { call_id, heard: 0 })
    }

    /// Here a teapot is proof.
    fn evidence(&self, facts: &Facts) -> Billing {
        if facts.status == Some(418) { Billing::Unbilled } else { Billing::Unknown }
    }
}

/// Three bytes are a whole answer.
#[derive(Debug)]
struct ToyReader {
    call_id: String,
    heard: usize,
}

impl Reader for ToyReader {
    fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        self.heard += bytes.len();
        hear(&String::from_utf8_lossy(bytes));
        Ok(())
    }

    fn is_done(&self) -> bool {
        false
    }

    fn is_finished(&self) -> bool {
        self.heard >= 3
    }

    fn is_settled(&self) -> bool {
        self.is_finished()
    }

    fn output_seen(&self) -> bool {
        self.heard > 0
    }

    fn end(self: Box<Self>, why: &str) -> Result<Reply, Broken> {
        if self.is_finished() {
            return Toy(Url::parse("http://toy").expect("an address")).whole(&request(), &self.call_id, b"it");
        }
        Err(Broken::Cut(why.to_owned()))
    }
}

fn toy(server: &Server, change: impl FnOnce(&mut ProviderConfig)) -> Result<Client, ProviderError> {
    let mut config = config(server);
    change(&mut config);
    let endpoint = Endpoint::new(&config, Box::new(Toy(base_url(&config)?)))?;
    Ok(Client { provider: config.name, http: Http::new(Clock::system()), endpoint })
}

async fn ask(client: &Client, request: &Request) -> AnswerResult {
    client.call(Permit::for_test(LONG, LONG), request, None, never()).await.result
}

#[tokio::test]
async fn a_wire_says_its_address_its_head_and_its_key() {
    let mut server =
        Server::playing(vec![answer("200 OK", &["content-type: application/json", "other-id: o"], "it")]).await;
    let client =
        toy(&server, |config| config.key = KeySource::Command(vec!["echo".into(), KEY.into()])).expect("a client");
    let reply = replied(ask(&client, &request()).await);
    assert_eq!(
        (reply.message.text.as_str(), reply.request_id.as_deref()),
        ("openai/gpt-5-mini said it as call_0", Some("o"))
    );
    let heard = server.heard().await;
    assert!(heard.head.starts_with("POST /v1/models/gpt-5-mini:say HTTP/1.1"), "{}", heard.head);
    assert!(heard.head.contains("toy-version: 1\r\n") && heard.head.contains(&format!("x-toy-key: {KEY}\r\n")));
    assert!(!heard.head.contains("authorization"), "{}", heard.head);
}

#[tokio::test]
async fn a_wires_own_table_says_what_proves_that_nothing_was_billed() {
    let server = Server::playing(vec![json("418 Teapot", "")]).await;
    unbilled(ask(&toy(&server, |_| {}).expect("a client"), &request()).await);
    let server = Server::playing(vec![json("429 Slow", r#"{"error":{"message":"x"}}"#)]).await;
    unknown(ask(&toy(&server, |_| {}).expect("a client"), &request()).await);
}

#[tokio::test]
async fn a_wires_stream_is_whole_once_it_says_so() {
    for (pieces, whole) in [(&["i", "t!"][..], true), (&["i"], false)] {
        let mut script = vec![stream_head()];
        script.extend(pieces.iter().map(|piece| chunk(piece)));
        script.push(stream_end());
        let server = Server::playing(script).await;
        let result = ask(&toy(&server, |_| {}).expect("a client"), &streaming()).await;
        if whole {
            assert_eq!(replied(result).message.text, "openai/gpt-5-mini said it as call_0");
        } else {
            assert_eq!(unknown(result).class, ErrorClass::CutStream);
        }
    }
}

#[tokio::test]
async fn the_project_cannot_set_a_wires_own_headers() {
    let server = Server::playing(vec![]).await;
    for header in ["X-Toy-Key", "toy-version", "host"] {
        let set = toy(&server, |config| drop(config.headers.insert(header.into(), "x".into())));
        assert!(matches!(set, Err(ProviderError::Header { .. })), "{header}");
    }
    assert!(toy(&server, |config| drop(config.headers.insert("authorization".into(), "x".into()))).is_ok());
}
