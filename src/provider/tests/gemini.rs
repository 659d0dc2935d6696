//! Google's wire over a real socket: addresses and credentials of all its places, and what the ledger is told of errors.

use reqwest::Url;

use super::*;
use crate::provider::ProviderError;

/// A client of a provider's table, with its address on this server.
fn google(server: &Server, wire: Wire, path: &str) -> Client {
    let key = KeySource::Command(["echo", KEY].map(str::to_owned).to_vec());
    let base_url = format!("http://{}{path}", server.address);
    Client::new(&ProviderConfig { wire, base_url, key, ..config(server) }, Http::new(Clock::system()))
        .expect("a client")
}

fn asking(stream: bool) -> Request {
    Request { model: ModelName::from("vertex/gemini-3.7-flash"), stream, ..request() }
}

async fn ask(client: &Client, stream: bool) -> AnswerResult {
    client.call(Permit::for_test(LONG, LONG), &asking(stream), None, never()).await.result
}

const SAID: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":6,"thoughtsTokenCount":3,"totalTokenCount":29,"trafficType":"ON_DEMAND"},"modelVersion":"gemini-3.7-flash","responseId":"r-9"}"#;

#[tokio::test]
async fn each_place_has_its_path_and_its_credential() {
    let project = "/v1/projects/acme/locations/europe-west4";
    let rows = [
        (Wire::Gemini, "/v1beta", "/v1beta/models/", false),
        (Wire::Vertex, project, "/v1/projects/acme/locations/europe-west4/publishers/google/models/", true),
        (Wire::Vertex, "/v1", "/v1/publishers/google/models/", false),
    ];
    for (wire, base, path, bearer) in rows {
        for (stream, method) in [(false, ":generateContent"), (true, ":streamGenerateContent?alt=sse")] {
            let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
            let reply = replied(ask(&google(&server, wire, base), stream).await);
            assert_eq!((reply.message.text.as_str(), reply.request_id.as_deref()), ("Hello", Some("r-9")));
            let usage = reply.usage.expect("usage");
            assert_eq!([usage.input.0, usage.output.0, usage.reasoning.0], [20, 9, 3]);
            let heard = server.heard().await;
            let line = format!("POST {path}gemini-3.7-flash{method} HTTP/1.1");
            assert!(heard.head.starts_with(&line), "{}", heard.head);
            let (token, key) = (heard.header("authorization"), heard.header("x-goog-api-key"));
            let bearer_text = format!("Bearer {KEY}");
            let expected = if bearer { (Some(bearer_text.as_str()), None) } else { (None, Some(KEY)) };
            assert_eq!((token, key), expected);
            assert_eq!(heard.json()["generationConfig"]["maxOutputTokens"], 100);
            assert_eq!(heard.json()["serviceTier"], "standard");
        }
    }
}

#[tokio::test]
async fn a_stream_ends_without_a_last_mark() {
    let first = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}]}}]}\r\n\r\n";
    let last = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":20,\"candidatesTokenCount\":6,\"totalTokenCount\":26}}\r\n\r\n";
    let server = Server::playing(vec![stream_head(), chunk(first), chunk(last), stream_end()]).await;
    let reply = replied(ask(&google(&server, Wire::Gemini, "/v1"), true).await);
    assert_eq!((reply.message.text.as_str(), reply.usage.expect("usage").output.0), ("Hello", 6));
    let server = Server::playing(vec![stream_head(), chunk(first), stream_end()]).await;
    assert_eq!(unknown(ask(&google(&server, Wire::Gemini, "/v1"), true).await).class, ErrorClass::CutStream);
}

#[tokio::test]
async fn errors_are_told_and_billed_by_the_wires_own_table() {
    let body = |code: u16, status: &str| format!(r#"{{"error":{{"code":{code},"message":"no","status":"{status}"}}}}"#);
    let rows = [
        ("400 Bad", body(400, "INVALID_ARGUMENT"), ErrorClass::BadRequest, Some(false)),
        ("404 Not Found", body(404, "NOT_FOUND"), ErrorClass::NotFound, Some(true)),
        ("429 Slow", body(429, "RESOURCE_EXHAUSTED"), ErrorClass::RateLimited, Some(true)),
        ("500 Oh", body(500, "INTERNAL"), ErrorClass::Server, None),
    ];
    for (status, body, class, void) in rows {
        // Whether it is void on the Gemini API, and on Vertex.
        for (wire, void) in [(Wire::Gemini, void.is_some()), (Wire::Vertex, void == Some(true))] {
            let server = Server::playing(vec![json(status, &body)]).await;
            let result = ask(&google(&server, wire, "/v1"), false).await;
            let failure = if void { unbilled(result) } else { unknown(result) };
            assert_eq!(failure.class, class, "{status} {wire:?}");
            assert!(!failure.message.contains(KEY), "{}", failure.message);
        }
    }
    let inside = format!("data: {}\n\n", body(429, "RESOURCE_EXHAUSTED"));
    let server = Server::playing(vec![stream_head(), chunk(&inside), stream_end()]).await;
    let failure = unknown(ask(&google(&server, Wire::Vertex, "/v1"), true).await);
    assert_eq!((failure.class, failure.code.as_deref()), (ErrorClass::RateLimited, Some("RESOURCE_EXHAUSTED")));
}

#[tokio::test]
async fn a_models_name_stays_in_its_place() {
    let server = Server::playing(vec![]).await;
    let client = google(&server, Wire::Vertex, "/v1/projects/acme/locations/global");
    let url = |model: &str| -> Result<Url, ProviderError> {
        client.endpoint.dialect().url(&Request { model: ModelName::from(model), ..asking(false) })
    };
    let path = |model: &str| url(model).expect("an address").path().to_owned();
    let base = "/v1/projects/acme/locations/global/publishers/google/models/";
    assert_eq!(path("vertex/../../x"), format!("{base}..%2F..%2Fx:generateContent"));
    assert_eq!(path("vertex/a?b#c"), format!("{base}a%3Fb%23c:generateContent"));
}

#[tokio::test]
async fn the_project_cannot_set_googles_own_headers() {
    let server = Server::playing(vec![]).await;
    for (header, allowed) in [("X-Goog-Api-Key", false), ("authorization", false), ("x-goog-user-project", true)] {
        let headers = BTreeMap::from([(header.to_owned(), "x".to_owned())]);
        let config = ProviderConfig { wire: Wire::Vertex, headers, ..config(&server) };
        assert_eq!(Client::new(&config, Http::new(Clock::system())).is_ok(), allowed, "{header}");
    }
}
