//! Time, size and cancelling: every call ends, and its connection with it.

use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::domain::event::Count;
use crate::units::Tokens;

const SHORT: Millis = Millis(150);
/// How soon after our answer the server must see the connection closed.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

#[tokio::test]
async fn the_time_limit_closes_the_connection() {
    for script in [
        vec![Act::AwaitHangUp],
        vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()), Act::AwaitHangUp],
        vec![stream_head(), chunk(PIECE), Act::AwaitHangUp],
    ] {
        for request in [request(), streaming()] {
            let mut server = Server::playing(script.clone()).await;
            let answered = call_within(&server, &request, SHORT, LONG).await;
            assert!(server.hung_up().await < CLOSED_WITHIN);
            assert!(answered.latency >= SHORT && answered.latency < Millis(2_000), "{}", answered.latency);
            assert_eq!(unknown(answered.result).class, ErrorClass::TimedOut);
        }
    }
}

#[tokio::test]
async fn a_late_first_token_closes_the_connection() {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let mut server = Server::playing(vec![stream_head(), chunk(": wait\n\n"), chunk(role), Act::AwaitHangUp]).await;
    let answered = call_within(&server, &streaming(), LONG, SHORT).await;
    assert!(server.hung_up().await < CLOSED_WITHIN);
    assert_eq!(unknown(answered.result).class, ErrorClass::FirstTokenLate);
}

#[tokio::test]
async fn the_first_tokens_limit_binds_streams_until_it_comes() {
    let pause = Act::Wait(SHORT.duration() * 2);
    let script =
        vec![stream_head(), chunk(PIECE), pause.clone(), chunk(LAST_PIECE), chunk(USAGE), chunk(DONE), stream_end()];
    let server = Server::playing(script).await;
    replied(call_within(&server, &streaming(), LONG, SHORT).await.result);
    let server = Server::playing(vec![pause, json("200 OK", SAID)]).await;
    replied(call_within(&server, &request(), LONG, SHORT).await.result);
}

#[tokio::test]
async fn a_request_that_could_not_leave_in_time_is_unbilled() {
    // The program that gives the key takes longer than the call may.
    let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
    let slow = KeySource::Command(["sleep", "20"].map(str::to_owned).to_vec());
    let config = ProviderConfig { key: slow, ..config(&server) };
    let answered = client(&config).call(Permit::for_test(SHORT, LONG), &request(), None, never()).await;
    assert_eq!(unbilled(answered.result).class, ErrorClass::NotSent);
    assert_eq!(server.more(), 0);
}

#[tokio::test]
async fn a_cancelled_stream_is_read_on_to_its_usage() {
    let script = vec![
        stream_head(),
        chunk(PIECE),
        Act::Wait(SHORT.duration()),
        chunk(LAST_PIECE),
        chunk(USAGE),
        chunk(DONE),
        stream_end(),
    ];
    let server = Server::playing(script).await;
    let (cancel, signal) = watch::channel(false);
    let heard: Arc<Mutex<String>> = Arc::default();
    let into = Arc::clone(&heard);
    let listener: Listener = Arc::new(move |text: &str| {
        into.lock().expect("a lock").push_str(text);
        cancel.send_replace(true);
    });
    let permit = Permit::for_test(LONG, LONG);
    let answered = client(&config(&server)).call(permit, &streaming(), Some(&listener), signal).await;
    assert_eq!(replied(answered.result).usage.map(|usage| usage.output.0), Some(9));
    // Nobody watches any more.
    assert_eq!(*heard.lock().expect("a lock"), "Hel");
}

#[tokio::test]
async fn a_cancelled_call_without_usage_is_unknown_after_a_while() {
    let mut server = Server::playing(vec![stream_head(), chunk(PIECE), Act::AwaitHangUp]).await;
    let (cancel, signal) = watch::channel(false);
    // From the cancel on the clock jumps to whatever is waited for next, so that ten seconds pass at once.
    let listener: Listener = Arc::new(move |_: &str| {
        tokio::time::pause();
        cancel.send_replace(true);
    });
    let permit = Permit::for_test(Millis::from_secs(3_600), Millis::from_secs(3_600));
    let begun = tokio::time::Instant::now();
    let answered = client(&config(&server)).call(permit, &streaming(), Some(&listener), signal).await;
    let drained = begun.elapsed();
    tokio::time::resume();
    assert_eq!(unknown(answered.result).class, ErrorClass::Interrupted);
    assert!(drained >= Duration::from_secs(10) && drained < Duration::from_secs(40), "{drained:?}");
    server.hung_up().await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_before_it_left_is_unbilled() {
    let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
    let slow = KeySource::Command(["sleep", "20"].map(str::to_owned).to_vec());
    let config = ProviderConfig { key: slow, ..config(&server) };
    let (_cancel, signal) = watch::channel(true);
    let answered = client(&config).call(Permit::for_test(LONG, LONG), &request(), None, signal).await;
    assert_eq!(unbilled(answered.result).class, ErrorClass::Interrupted);
    assert_eq!(server.more(), 0);
}

#[tokio::test]
async fn dropping_the_call_closes_the_connection() {
    let mut server = Server::playing(vec![stream_head(), chunk(PIECE), Act::AwaitHangUp]).await;
    let client = client(&config(&server));
    let request = streaming();
    let call = client.call(Permit::for_test(LONG, LONG), &request, None, never());
    tokio::time::timeout(SHORT.duration(), call).await.expect_err("still running");
    assert!(server.hung_up().await < CLOSED_WITHIN);
}

#[tokio::test]
async fn a_stream_that_stays_open_after_its_usage_is_whole() {
    let mut server =
        Server::playing(vec![stream_head(), chunk(LAST_PIECE), chunk(USAGE), chunk(DONE), Act::AwaitHangUp]).await;
    let reply = replied(call(&server, &streaming()).await.result);
    assert!(reply.usage.is_some());
    server.hung_up().await;
    // Without the last mark and without usage: the answer is whole at the time limit, its cost isn't known.
    let server = Server::playing(vec![stream_head(), chunk(LAST_PIECE), Act::AwaitHangUp]).await;
    let reply = replied(call_within(&server, &streaming(), SHORT, LONG).await.result);
    assert_eq!((reply.message.text.as_str(), reply.usage), ("lo", None));
}

#[tokio::test]
async fn a_body_above_the_bound_is_not_read() {
    let piece = "x".repeat(1024 * 1024);
    let whole = std::iter::repeat_n(chunk(&piece), 17);
    let head = Act::Write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec());
    let script: Vec<Act> = std::iter::once(head).chain(whole).chain([Act::AwaitHangUp]).collect();
    let failure = unknown(play(script, &request()).await);
    assert_eq!((failure.class, failure.status), (ErrorClass::Oversized, Some(200)));

    let endless = std::iter::repeat_n(chunk(&format!("data: {piece}")), 5);
    let script: Vec<Act> = std::iter::once(stream_head()).chain(endless).chain([Act::AwaitHangUp]).collect();
    assert_eq!(unknown(play(script, &streaming()).await).class, ErrorClass::Oversized);
}

#[tokio::test]
async fn an_endless_error_body_is_cut() {
    let text = "x".repeat(70_000);
    let head = Act::Write(b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n".to_vec());
    let failure = unknown(play(vec![head, chunk(&text), Act::AwaitHangUp], &request()).await);
    assert_eq!(failure.class, ErrorClass::Server);
    assert_eq!(failure.message.chars().count(), crate::provider::MESSAGE_CHARS_MAX);
}

#[tokio::test]
async fn a_stalled_error_body_leaves_the_status() {
    let script = vec![
        Act::Write(b"HTTP/1.1 429 Slow\r\ncontent-length: 99\r\nretry-after: 3\r\n\r\n{".to_vec()),
        Act::AwaitHangUp,
    ];
    let server = Server::playing(script).await;
    let failure = unbilled(call_within(&server, &request(), SHORT, LONG).await.result);
    assert_eq!((failure.class, failure.retry_after), (ErrorClass::RateLimited, Some(Millis(3_000))));
}

#[tokio::test]
async fn too_many_header_lines_are_no_answer() {
    let lines: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let head = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n");
    let failure = unknown(play(vec![Act::Write(head.into_bytes())], &request()).await);
    assert_eq!(failure.class, ErrorClass::CutStream);
}

/// A provider of Anthropic's wire, at this server.
fn counting(server: &Server) -> Client {
    client(&ProviderConfig { wire: Wire::Anthropic, ..config(server) })
}

#[tokio::test]
async fn a_count_is_waited_for_as_long_as_its_permit_says() {
    let permit = || Permit::for_test(SHORT, SHORT);
    for script in [vec![Act::AwaitHangUp], vec![stream_head(), Act::AwaitHangUp]] {
        let mut server = Server::playing(script).await;
        let Count::Not { why } = counting(&server).count(permit(), &request()).await else { unreachable!("no count") };
        assert!(why.contains("count"), "{why}");
        assert!(server.hung_up().await < CLOSED_WITHIN);
    }
    let mut server = Server::playing(vec![json("200 OK", r#"{"input_tokens": 14}"#)]).await;
    assert_eq!(counting(&server).count(permit(), &request()).await, Count::Told { tokens: Tokens(14) });
    let heard = server.heard().await;
    assert!(heard.head.starts_with("POST /v1/messages/count_tokens "), "{}", heard.head);
    assert!(heard.json().get("max_tokens").is_none(), "{}", heard.body);
}

#[tokio::test]
async fn who_is_not_known_to_count_for_nothing_is_not_asked() {
    let mut server = Server::playing(vec![json("200 OK", r#"{"input_tokens": 14}"#)]).await;
    let count = client(&config(&server)).count(Permit::for_test(LONG, LONG), &streaming()).await;
    assert!(matches!(count, Count::Not { .. }), "{count:?}");
    assert_eq!(server.more(), 0);
}
