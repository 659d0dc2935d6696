//! From the events of a stream to a reply. Bytes in, reply out; the network is elsewhere.
//!
//! Invariant: a reply needs the model's word why it ended, or the stream's last mark *and* usage of the whole answer.

use serde_json::Value;

use super::decode::{Draft, Reading};
use super::errors;
use crate::domain::message::Reply;
use crate::provider::dialect::Reader;
use crate::provider::fault::Broken;
use crate::provider::sse::{Event, Parser};

/// A stream so far.
#[derive(Debug)]
pub(super) struct MessageReader {
    reading: Reading,
    parser: Parser,
    draft: Draft,
    done: bool,
}

impl MessageReader {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, parser: Parser::default(), draft: Draft::default(), done: false }
    }

    fn absorb(&mut self, event: &Event) -> Result<String, Broken> {
        let data = event.data.trim();
        if self.done || data.is_empty() {
            return Ok(String::new());
        }
        let told = || Broken::Told(Box::new(errors::told(data.as_bytes())));
        let is_error = event.name.as_deref() == Some("error");
        let document: Value = match serde_json::from_str(data) {
            Ok(document) => document,
            Err(_) if is_error => return Err(told()),
            Err(error) => return Err(Broken::Garbage(format!("an event that is no JSON: {error}"))),
        };
        let index = document.get("index").and_then(Value::as_u64).unwrap_or_default();
        let part = |field: &str| document.get(field).unwrap_or(&Value::Null);
        match document.get("type").and_then(Value::as_str) {
            Some("error") => return Err(told()),
            _ if is_error => return Err(told()),
            Some("message_start") => self.draft.open(part("message")),
            Some("content_block_start") => return self.draft.begin(index, part("content_block")),
            Some("content_block_delta") => return self.draft.add(index, part("delta")),
            Some("message_delta") => {
                self.draft.close(part("delta"));
                self.draft.add_usage(document.get("usage"));
                // One that comes before the end is overwritten by the next.
                if self.draft.is_finished() && part("usage").get("output_tokens").is_some_and(|count| !count.is_null())
                {
                    self.draft.end_usage();
                }
            }
            Some("message_stop") => self.done = true,
            // `ping`, the end of a block, and what later versions add.
            Some(_) | None => {}
        }
        Ok(String::new())
    }
}

impl Reader for MessageReader {
    fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        let mut parser = std::mem::take(&mut self.parser);
        let heard = parser.hear_out(bytes, hear, |event| self.absorb(event));
        self.parser = parser;
        heard
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn is_finished(&self) -> bool {
        self.draft.is_finished()
    }

    fn is_settled(&self) -> bool {
        self.draft.is_finished() && self.draft.has_last_usage()
    }

    fn output_seen(&self) -> bool {
        self.draft.output_seen()
    }

    fn end(mut self: Box<Self>, why: &str) -> Result<Reply, Broken> {
        // What a cut left of an event can't be read, and an error in it is no less a cut.
        if let Some(Err(told @ Broken::Told(_))) = self.parser.finish().map(|event| self.absorb(&event)) {
            return Err(told);
        }
        if self.draft.is_finished() || (self.done && self.draft.is_counted(&self.reading)) {
            return Ok(self.draft.reply(&self.reading));
        }
        Err(Broken::Cut(why.to_owned()))
    }
}
