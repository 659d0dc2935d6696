//! From the events of a stream to a reply. Bytes in, reply out; the network is elsewhere.
//!
//! Invariant: a reply needs the model's word that it ended (`finish_reason`), or, where a server forgets it, the
//! stream's last mark *and* usage that can be believed: then the bill is known, and only the reason isn't.

use serde_json::Value;

use super::decode::Draft;
use crate::domain::message::Reply;
use crate::provider::fault::Broken;
use crate::provider::sse::{Event, Parser};
use crate::provider::told::Told;

/// The event that ends a stream.
const LAST_MARK: &str = "[DONE]";

/// A stream so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    parser: Parser,
    draft: Draft,
    done: bool,
}

impl Stream {
    /// Takes in a piece of the body, and tells the text in it to `hear`.
    pub(super) fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        let mut parser = std::mem::take(&mut self.parser);
        let heard = parser.hear_out(bytes, hear, |event| self.absorb(event));
        self.parser = parser;
        heard
    }

    /// True once the last mark came.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// True once the model said why it ended.
    pub(super) const fn is_finished(&self) -> bool {
        self.draft.is_finished()
    }

    /// True once there is nothing more to hope for but the last mark.
    pub(super) const fn is_settled(&self) -> bool {
        self.draft.is_finished() && self.draft.has_last_usage()
    }

    /// True once any output was seen.
    pub(super) const fn output_seen(&self) -> bool {
        self.draft.output_seen()
    }

    /// The stream ended, by itself or not: a reply if it is whole. `why` says how it ended where it isn't.
    pub(super) fn end(mut self, call_id: &str, why: &str) -> Result<Reply, Broken> {
        // What a cut left of an event can't be read, and an error in it is no less a cut.
        if let Some(Err(told @ Broken::Told(_))) = self.parser.finish().map(|event| self.absorb(&event)) {
            return Err(told);
        }
        if self.is_finished() || (self.done && self.draft.usage().is_some()) {
            return Ok(self.draft.reply(call_id));
        }
        Err(Broken::Cut(why.to_owned()))
    }

    fn absorb(&mut self, event: &Event) -> Result<String, Broken> {
        let data = event.data.trim();
        if self.done || data.is_empty() {
            return Ok(String::new());
        }
        if data == LAST_MARK {
            self.done = true;
            self.draft.end();
            return Ok(String::new());
        }
        let is_error = event.name.as_deref() == Some("error");
        match serde_json::from_str::<Value>(data) {
            Ok(document) if is_error && document.get("error").is_none() => {
                Err(Broken::Told(Box::new(Told { message: document.to_string(), ..Told::default() })))
            }
            Ok(document) => self.draft.absorb(&document, "delta"),
            Err(_) if is_error => Err(Broken::Told(Box::new(Told { message: data.to_owned(), ..Told::default() }))),
            Err(error) => Err(Broken::Garbage(format!("an event that is no JSON: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::StopReason;

    /// What OpenAI sends for two calls at once, with usage at the end.
    const CALLS: &str = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-5-mini-2025-08-07","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Grüße"},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"look","arguments":""}}]},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"find","arguments":"{\"q\":"}},{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"\"ü\"}"}}]},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0}}}"#,
        "\n\n",
        "data: [DONE]\n\n",
    );

    fn read_pieces(pieces: &[&[u8]]) -> (String, Result<Reply, Broken>) {
        let (mut stream, mut heard) = (Stream::default(), String::new());
        for piece in pieces {
            if let Err(broken) = stream.push(piece, &mut |text| heard.push_str(text)) {
                return (heard, Err(broken));
            }
        }
        (heard, stream.end("call", "the connection closed"))
    }

    fn read(text: &str) -> Result<Reply, Broken> {
        read_pieces(&[text.as_bytes()]).1
    }

    fn data(chunks: &[&str]) -> String {
        chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
    }

    #[test]
    fn calls_in_pieces_are_joined_by_index() {
        let (heard, reply) = read_pieces(&[CALLS.as_bytes()]);
        let reply = reply.expect("a reply");
        assert_eq!(heard, "Grüße");
        assert_eq!(reply.stop, StopReason::ToolCalls);
        let shown: Vec<_> =
            reply.message.calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(shown, [("call_a", "look", "{}"), ("call_b", "find", r#"{"q":"ü"}"#)]);
        assert_eq!(reply.usage.map(|usage| (usage.input.0, usage.output.0)), Some((20, 9)));
        assert_eq!(reply.response_model.as_deref(), Some("gpt-5-mini-2025-08-07"));
        assert_eq!(reply.service_tier.as_deref(), Some("default"));
        assert_eq!(reply.response_id.as_deref(), Some("chatcmpl-1"));
    }

    #[test]
    fn a_cut_at_every_byte_is_a_cut_or_the_whole_reply() {
        let whole = read(CALLS).expect("a reply");
        let finished = CALLS.find("\"finish_reason\":\"tool_calls\"").expect("a finish");
        let usage = CALLS.find("\"total_tokens\"").expect("usage");
        for end in 0..CALLS.len() {
            match read_pieces(&[&CALLS.as_bytes()[..end]]).1 {
                Ok(reply) => {
                    assert!(end > finished, "a reply from {end} bytes");
                    assert_eq!(reply.message, whole.message);
                    assert!(reply.usage.is_none() || (end > usage && reply.usage == whole.usage));
                }
                Err(broken) => assert!(matches!(broken, Broken::Cut(_)) && end < finished + 100, "{end}: {broken:?}"),
            }
        }
    }

    #[test]
    fn splitting_at_every_byte_changes_nothing() {
        let whole = read(CALLS).expect("a reply");
        for cut in 0..CALLS.len() {
            let (head, tail) = CALLS.as_bytes().split_at(cut);
            assert_eq!(read_pieces(&[head, tail]).1.expect("a reply"), whole, "{cut}");
        }
    }

    #[test]
    fn usage_on_every_chunk_counts_only_with_the_finish() {
        let early = r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
        let last = r#"{"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
        let reply = read(&data(&[early, last])).expect("a reply");
        assert_eq!(reply.usage.map(|usage| usage.output.0), Some(2));
        let bare = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let reply = read(&data(&[early, bare])).expect("a reply");
        assert_eq!((reply.usage, reply.raw_usage.is_some()), (None, true));
        let reply = read(&data(&[early, bare, "[DONE]"])).expect("a reply");
        assert_eq!(reply.usage.map(|usage| usage.output.0), Some(1));
    }

    #[test]
    fn groqs_usage_and_openrouters_comments_are_read() {
        let groq = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}],"x_groq":{"id":"req","usage":{"queue_time":0.1,"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}}"#;
        let text = format!(": OPENROUTER PROCESSING\n\n{}", data(&[groq, "[DONE]"]));
        assert_eq!(read(&text).expect("a reply").usage.map(|usage| usage.output.0), Some(2));
    }

    #[test]
    fn a_stream_without_its_last_mark_is_whole_with_its_finish() {
        let reply =
            read(&data(&[r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#])).expect("a reply");
        assert_eq!((reply.stop, reply.usage), (StopReason::End, None));
    }

    #[test]
    fn a_last_mark_without_a_finish_needs_usage() {
        let piece = r#"{"choices":[{"delta":{"content":"x"}}]}"#;
        assert!(matches!(read(&data(&[piece, "[DONE]"])), Err(Broken::Cut(_))));
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
        assert!(matches!(read(&data(&[piece, usage])), Err(Broken::Cut(_))));
        assert_eq!(
            read(&data(&[piece, usage, "[DONE]"])).expect("a reply").stop,
            StopReason::Unknown("missing".into())
        );
    }

    #[test]
    fn errors_and_garbage_in_the_middle_are_told() {
        let piece = r#"{"choices":[{"delta":{"content":"x"}}]}"#;
        let failed = r#"{"error":{"code":502,"message":"Provider disconnected"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#;
        let Err(Broken::Told(told)) = read(&data(&[piece, failed])) else { panic!("no error") };
        assert_eq!((told.name(), told.message.as_str()), (Some("502"), "Provider disconnected"));
        assert!(matches!(read("event: error\ndata: {\"message\":\"x\"}\n\n"), Err(Broken::Told(_))));
        assert!(matches!(read("event: error\ndata: gone\n\n"), Err(Broken::Told(_))));
        assert!(matches!(read(&data(&[piece, "{\"choices\":[{\"del"])), Err(Broken::Garbage(_))));
        assert!(matches!(read("data: 7\n\n"), Err(Broken::Garbage(_))));
        assert!(matches!(read(""), Err(Broken::Cut(_))));
    }

    fn calls(chunks: &[&str]) -> Vec<(String, String, String)> {
        let deltas: Vec<String> = chunks
            .iter()
            .map(|calls| format!(r#"{{"choices":[{{"delta":{{"tool_calls":{calls}}}}}]}}"#))
            .chain([r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#.to_owned()])
            .collect();
        let reply = read(&data(&deltas.iter().map(String::as_str).collect::<Vec<_>>())).expect("a reply");
        reply.message.calls.into_iter().map(|c| (c.id, c.name.to_string(), c.arguments)).collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.to_owned(), name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn calls_without_index_or_id_are_told_apart() {
        let whole = calls(&[
            r#"[{"function":{"name":"f","arguments":"{}"}}]"#,
            r#"[{"function":{"name":"f","arguments":"{\"a\":1}"}}]"#,
        ]);
        assert_eq!(whole, [call("call_0", "f", "{}"), call("call_1", "f", r#"{"a":1}"#)]);
        let pieces = calls(&[
            r#"[{"id":"x","function":{"name":"f","arguments":"{"}}]"#,
            r#"[{"function":{"arguments":"}"}}]"#,
            r#"[{"id":"y","function":{"name":"g","arguments":"{}"}}]"#,
            r#"[{"id":"x","function":{"arguments":" "}}]"#,
        ]);
        assert_eq!(pieces, [call("x", "f", "{} "), call("y", "g", "{}")]);
    }

    #[test]
    fn calls_that_share_an_index_are_told_apart_by_id() {
        let shared = calls(&[
            r#"[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]"#,
            r#"[{"index":0,"id":"y","function":{"name":"g","arguments":"{"}}]"#,
            r#"[{"index":0,"function":{"arguments":"}"}}]"#,
        ]);
        assert_eq!(shared, [call("x", "f", "{}"), call("y", "g", "{}")]);
    }

    #[test]
    fn a_name_in_every_piece_is_one_name() {
        let repeated = calls(&[
            r#"[{"index":0,"id":"x","function":{"name":"f","arguments":"{"}}]"#,
            r#"[{"index":0,"id":"x","function":{"name":"f","arguments":"}"}}]"#,
        ]);
        assert_eq!(repeated, [call("x", "f", "{}")]);
    }
}
