//! A provider that takes no time, or a given one: enough HTTP and enough of the wire for runs of a given length, and as little work as that
//! needs, so that it isn't what is measured. It shares no code with the simulated provider, which keeps an invoice.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The longest request.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// How a tool's answer shows in a request, before the number of its call.
const TOOL_ANSWER: &str = r#""tool_call_id":"call_"#;

/// Serves for ever. Tells its address on standard output, and keeps the first request of each length of conversation
/// in `folder`, so that the bare loop can make the same calls. The last of `calls` calls of a run answers, all before it
/// ask for a tool. Each answer takes so long.
pub(crate) async fn serve(folder: &Path, calls: usize, takes: Duration) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    writeln!(std::io::stdout(), "{address}").expect("standard output takes lines");
    let replies = Arc::new(Replies::new(folder, calls));
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        connections.spawn(answer_all(connection, replies.clone(), takes));
        while connections.try_join_next().is_some() {}
    }
}

struct Replies {
    folder: PathBuf,
    whole: Vec<Vec<u8>>,
    streamed: Vec<Vec<u8>>,
}

impl Replies {
    fn new(folder: &Path, calls: usize) -> Self {
        let whole = (0..calls).map(|call| whole(call, calls)).collect();
        let streamed = (0..calls).map(|call| streamed(call, calls)).collect();
        Self { folder: folder.to_owned(), whole, streamed }
    }

    fn to(&self, body: &str) -> &[u8] {
        let answered = answered(body).min(self.whole.len() - 1);
        let path = self.folder.join(format!("body-{answered}.json"));
        if !path.exists() {
            std::fs::write(path, body).expect("the body can be kept");
        }
        let replies = if body.contains(r#""stream":true"#) { &self.streamed } else { &self.whole };
        replies.get(answered).map(Vec::as_slice).unwrap_or_default()
    }
}

/// How many calls were answered before: the newest answer, which is never cut, tells its number.
fn answered(body: &str) -> usize {
    let Some((_, after)) = body.rsplit_once(TOOL_ANSWER) else { return 0 };
    let number = after.split('"').next().and_then(|number| number.parse::<usize>().ok());
    number.map_or(0, |number| number + 1)
}

async fn answer_all(mut connection: TcpStream, replies: Arc<Replies>, takes: Duration) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    connection.set_nodelay(true).expect("a socket");
    while let Some(end) = read_request(&mut connection, &mut buffer).await {
        let request = String::from_utf8_lossy(&buffer[..end]);
        let body = request.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let reply = replies.to(body);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if connection.write_all(reply).await.is_err() {
            return;
        }
        buffer.drain(..end);
    }
}

/// The end of the first whole request in the buffer; `None` at the end of the connection.
pub(crate) async fn read_request(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(end) = end_of_request(buffer) {
            return Some(end);
        }
        let read = connection.read_buf(buffer).await.ok()?;
        if read == 0 || buffer.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
}

fn end_of_request(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let lines = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let end = head + length.trim().parse::<usize>().ok()?;
    (buffer.len() >= end).then_some(end)
}

const USAGE: &str = r#""usage":{"prompt_tokens":312,"completion_tokens":38,"total_tokens":350,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
const HEAD: &str = r#"{"id":"chatcmpl-C0ffee0123456789abcdefghijklm","created":1795392000,"model":"gpt-5-mini-2025-08-07","service_tier":"default","system_fingerprint":null"#;
const ANSWER: [&str; 8] = ["Two boxes", " and one", " shipment", " come to", " 53.19", " with", " 19 %", " VAT."];

fn arguments(call: usize) -> String {
    format!(r#"{{\"expression\": \"(19.90 * 2 + 4.90) * 1.19 + {call}\"}}"#)
}

/// The whole answer to a call of a run of so many.
pub(crate) fn whole(call: usize, calls: usize) -> Vec<u8> {
    let (message, finish) = if call + 1 < calls {
        let arguments = arguments(call);
        let call = format!(
            r#"{{"id":"call_{call}","type":"function","function":{{"name":"calculate","arguments":"{arguments}"}}}}"#
        );
        (format!(r#""content":null,"tool_calls":[{call}]"#), "tool_calls")
    } else {
        (format!(r#""content":"{}""#, ANSWER.concat()), "stop")
    };
    let body = format!(
        r#"{HEAD},"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant",{message},"refusal":null,"annotations":[]}},"finish_reason":"{finish}"}}],{USAGE}}}"#
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn streamed(call: usize, calls: usize) -> Vec<u8> {
    let delta = |delta: &str, finish: &str| {
        format!(
            r#"{HEAD},"object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":{finish}}}],"usage":null}}"#
        )
    };
    let mut events = vec![delta(r#""role":"assistant","content":null,"refusal":null"#, "null")];
    let finish = if call + 1 < calls {
        let name = format!(
            r#""tool_calls":[{{"index":0,"id":"call_{call}","type":"function","function":{{"name":"calculate","arguments":""}}}}]"#
        );
        events.push(delta(&name, "null"));
        let arguments = arguments(call);
        // Cut after a space, never inside an escape.
        for piece in arguments.split_inclusive(' ') {
            let piece = format!(r#""tool_calls":[{{"index":0,"function":{{"arguments":"{piece}"}}}}]"#);
            events.push(delta(&piece, "null"));
        }
        r#""tool_calls""#
    } else {
        events.extend(ANSWER.map(|piece| delta(&format!(r#""content":"{piece}""#), "null")));
        r#""stop""#
    };
    events.push(delta("", finish));
    events.push(format!(r#"{HEAD},"object":"chat.completion.chunk","choices":[],{USAGE}}}"#));
    events.push("[DONE]".to_owned());
    let mut reply =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for event in events {
        let data = format!("data: {event}\n\n");
        reply.push_str(&format!("{:x}\r\n{data}\r\n", data.len()));
    }
    reply.push_str("0\r\n\r\n");
    reply.into_bytes()
}
