//! Recorded shapes of servers that speak the wire, and what becomes of errors on it.

use super::*;
use crate::domain::message::StopReason;

/// A JSON error of status `status` with this inside of `error`.
fn error(status: &str, inner: &str) -> Vec<Act> {
    vec![json(status, &format!(r#"{{"error":{{{inner}}}}}"#))]
}

#[tokio::test]
async fn errors_that_prove_that_nothing_was_billed() {
    for (script, class) in [
        (error("400 Bad", r#""message":"bad","type":"invalid_request_error""#), ErrorClass::BadRequest),
        (error("400 Bad", r#""message":"x","code":"context_length_exceeded""#), ErrorClass::ContextTooLong),
        (error("402 Pay", r#""message":"Insufficient credits","code":402"#), ErrorClass::Billing),
        (vec![json("403 No", "")], ErrorClass::Forbidden),
        (error("404 None", r#""message":"no model","code":"model_not_found""#), ErrorClass::NotFound),
        (error("409 Conflict", r#""message":"x""#), ErrorClass::Conflict),
        (error("413 Large", r#""message":"x""#), ErrorClass::TooLarge),
        (vec![json("429 Slow", "slow down")], ErrorClass::RateLimited),
        (error("429 Slow", r#""message":"x","code":"insufficient_quota""#), ErrorClass::QuotaExhausted),
        (error("503 Busy", r#""message":"x","code":"server_is_overloaded""#), ErrorClass::Overloaded),
        (error("529 Busy", r#""message":"x","type":"overloaded_error""#), ErrorClass::Overloaded),
    ] {
        assert_eq!(unbilled(play(script, &request()).await).class, class);
    }
}

#[tokio::test]
async fn errors_that_may_have_been_billed() {
    for (script, class) in [
        (vec![answer("400 Bad", &["content-type: text/html"], "<html>")], ErrorClass::BadRequest),
        (
            error("400 Bad", r#""message":"x","code":"content_filter","innererror":{"code":"y"}"#),
            ErrorClass::ContentFilter,
        ),
        (vec![json("404 None", "")], ErrorClass::NotFound),
        (error("408 Late", r#""message":"x""#), ErrorClass::RequestTimeout),
        (error("422 Odd", r#""message":"x""#), ErrorClass::Unprocessable),
        (error("498 Flex", r#""message":"x","code":"capacity_exceeded""#), ErrorClass::Overloaded),
        (error("499 Gone", r#""message":"x""#), ErrorClass::ClientClosed),
        (error("500 Oops", r#""message":"x""#), ErrorClass::Server),
        (vec![json("529 Busy", "")], ErrorClass::Overloaded),
        (error("200 OK", r#""message":"x","code":429"#), ErrorClass::RateLimited),
        (error("200 OK", r#""message":"x","code":"oops""#), ErrorClass::Server),
        (vec![json("200 OK", "{\"choices\":")], ErrorClass::Garbage),
        (vec![json("200 OK", "")], ErrorClass::Garbage),
        (
            vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"choices\":[".to_vec())],
            ErrorClass::CutStream,
        ),
        (vec![Act::Write(b"HTTP/1.1 200".to_vec())], ErrorClass::CutStream),
        (vec![Act::Write(b"nonsense\r\n\r\n".to_vec())], ErrorClass::CutStream),
        (vec![], ErrorClass::CutStream),
    ] {
        let failure = unknown(play(script, &request()).await);
        assert_eq!(failure.class, class, "{failure:?}");
    }
}

#[tokio::test]
async fn one_call_is_one_request_whatever_comes_back() {
    for script in [
        error("429 Slow", r#""message":"x""#),
        error("503 Busy", r#""message":"x","code":"server_is_overloaded""#),
        error("409 Conflict", r#""message":"x""#),
        vec![],
    ] {
        let mut server = Server::playing(script).await;
        call(&server, &request()).await;
        server.heard().await;
        assert_eq!(server.more(), 0);
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let mut server = Server::playing(vec![answer(status, &["location: /v2/secret-path"], "")]).await;
        let failure = unknown(call(&server, &request()).await.result);
        assert_eq!(failure.class, ErrorClass::NotFound);
        assert!(
            failure.message.contains("redirect to `127.0.0.1`") && !failure.message.contains("secret"),
            "{}",
            failure.message
        );
        server.heard().await;
        assert_eq!(server.more(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_closed_while_it_rested_costs_nothing() {
    // The server answers once on each connection and then closes it: a second call finds its connection gone.
    let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
    let client = client(&config(&server));
    for _ in 0..5 {
        let answered = client.call(Permit::for_test(LONG, LONG), &request(), None, never()).await;
        replied(answered.result);
        server.heard().await;
        assert_eq!(server.more(), 0);
        // The close has come in before the next call once a read of it is due; yielding gives it the chance.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_unknown_and_one_that_fails_too() {
    let failure = unknown(play(vec![stream_head(), chunk(PIECE)], &streaming()).await);
    assert_eq!(failure.class, ErrorClass::CutStream);
    let failure = unknown(play(vec![stream_head(), chunk(PIECE), stream_end()], &streaming()).await);
    assert_eq!(failure.class, ErrorClass::CutStream);
    let gone = "data: {\"error\":{\"code\":502,\"message\":\"Provider disconnected\"}}\n\n";
    let failure = unknown(play(vec![stream_head(), chunk(PIECE), chunk(gone), stream_end()], &streaming()).await);
    assert_eq!((failure.class, failure.code.as_deref()), (ErrorClass::StreamError, Some("502")));
    let failure = unknown(play(vec![stream_head(), chunk("data: {\"ch\n\n"), stream_end()], &streaming()).await);
    assert_eq!(failure.class, ErrorClass::Garbage);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    assert_eq!(replied(play(vec![json("200 OK", SAID)], &streaming()).await).message.text, "Hello");
    let script = vec![stream_head(), chunk(LAST_PIECE), chunk(USAGE), chunk(DONE), stream_end()];
    assert_eq!(replied(play(script, &request()).await).message.text, "lo");
}

#[tokio::test]
async fn recorded_shapes_of_servers_are_understood() {
    let ollama = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"qwen3","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"","reasoning":"hm","tool_calls":[{"id":"call_x","index":0,"type":"function","function":{"name":"look","arguments":"{\"id\":1}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29}}"#;
    let reply = replied(play(vec![json("200 OK", ollama)], &request()).await);
    assert_eq!((reply.stop, reply.message.calls.len(), reply.message.text.as_str()), (StopReason::ToolCalls, 1, ""));

    let vllm = r#"{"id":"chatcmpl-2","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":"hm","content":"Hi","tool_calls":[]},"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":20,"total_tokens":29,"completion_tokens":9,"prompt_tokens_details":null},"prompt_logprobs":null}"#;
    let reply = replied(play(vec![json("200 OK", vllm)], &request()).await);
    assert_eq!((reply.stop, reply.message.text.as_str(), reply.usage.is_some()), (StopReason::End, "Hi", true));

    let llama = r#"{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"Hi"}}],"created":1,"model":"x","object":"chat.completion","usage":{"completion_tokens":9,"prompt_tokens":20,"total_tokens":29},"id":"c","timings":{"prompt_n":20,"predicted_n":9,"prompt_ms":1.5}}"#;
    assert_eq!(replied(play(vec![json("200 OK", llama)], &request()).await).stop, StopReason::Length);

    let openrouter = r#"{"id":"gen-1","provider":"Acme","model":"vendor/other","object":"chat.completion","choices":[{"logprobs":null,"finish_reason":"brand_new","native_finish_reason":"x","index":0,"message":{"role":"assistant","content":"Hi","refusal":null,"reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm"}]}}],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"cost":0.00012,"is_byok":false,"cost_details":{"upstream_inference_cost":null}}}"#;
    let reply = replied(
        play(
            vec![answer("200 OK", &["content-type: application/json", "X-Generation-Id: gen-1"], openrouter)],
            &request(),
        )
        .await,
    );
    assert_eq!(reply.stop, StopReason::Unknown("brand_new".into()));
    assert_eq!((reply.response_model.as_deref(), reply.request_id.as_deref()), (Some("vendor/other"), Some("gen-1")));
    assert_eq!(reply.message.reasoning.len(), 2);
    assert!(reply.raw_usage.expect("raw usage").get("cost").is_some());

    let filtered = r#"{"choices":[{"finish_reason":"content_filter","index":0,"message":{"role":"assistant","content":"H"},"content_filter_results":{}}],"prompt_filter_results":[],"usage":{"prompt_tokens":20,"completion_tokens":1,"total_tokens":21}}"#;
    let reply = replied(play(vec![json("200 OK", filtered)], &request()).await);
    assert_eq!((reply.stop, reply.usage.is_some()), (StopReason::ContentFilter, true));
}

#[tokio::test]
async fn a_reply_without_usage_is_a_reply() {
    for usage in ["", r#","usage":null"#, r#","usage":{"prompt_tokens":"x"}"#, r#","usage":[1]"#] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"Hi"}},"finish_reason":"stop"}}]{usage}}}"#);
        let reply = replied(play(vec![json("200 OK", &body)], &request()).await);
        assert_eq!((reply.message.text.as_str(), reply.usage), ("Hi", None));
    }
}
