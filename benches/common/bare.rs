//! The floor: model calls by `reqwest` and nothing else. Client settings as in `provider::http`, which is private.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .user_agent("bare")
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(256)
        .pool_idle_timeout(Duration::from_secs(4))
        .http1_max_headers(100)
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("a client")
}

/// One call; its answer is parsed, and nothing is done with it.
pub(crate) async fn call(client: &reqwest::Client, url: &str, body: Bytes, streams: bool) {
    let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
    let mut response = request.send().await.expect("an answer");
    assert!(response.status().is_success());
    if !streams {
        let body = response.bytes().await.expect("a body");
        let reply: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(reply.get("usage").is_some());
        return;
    }
    let (mut text, mut read, mut done) = (Vec::new(), 0, false);
    while let Some(piece) = response.chunk().await.expect("a piece") {
        text.extend_from_slice(&piece);
        while let Some(end) = text[read..].iter().position(|byte| *byte == b'\n') {
            let line = &text[read..read + end];
            read += end + 1;
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            done = data == b"[DONE]";
            assert!(done || serde_json::from_slice::<Value>(data).is_ok_and(|event| event.is_object()));
        }
    }
    assert!(done);
}
