//! From the events of a stream to a reply. Each event is a whole answer's document with what is new; there is no last mark.
//!
//! Invariant: a reply needs the model's word that it ended, or that the prompt was blocked.

use serde_json::Value;

use super::decode::Draft;
use crate::domain::message::{Reply, Request};
use crate::provider::dialect::Reader;
use crate::provider::fault::Broken;
use crate::provider::sse::{Event, Parser};

/// A stream so far.
#[derive(Debug)]
pub(super) struct Stream {
    parser: Parser,
    draft: Draft,
    call_id: String,
}

impl Stream {
    pub(super) fn new(request: &Request, call_id: String) -> Self {
        Self { parser: Parser::default(), draft: Draft::new(request), call_id }
    }

    fn absorb(&mut self, event: &Event) -> Result<String, Broken> {
        let data = event.data.trim();
        if data.is_empty() {
            return Ok(String::new());
        }
        let document: Value = serde_json::from_str(data)
            .map_err(|error| Broken::Garbage(format!("an event that is no JSON: {error}")))?;
        self.draft.absorb(&document)
    }
}

impl Reader for Stream {
    fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        let mut parser = std::mem::take(&mut self.parser);
        let heard = parser.hear_out(bytes, hear, |event| self.absorb(event));
        self.parser = parser;
        heard
    }

    fn is_done(&self) -> bool {
        false
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
        let Self { draft, call_id, .. } = *self;
        if draft.is_finished() {
            return Ok(draft.reply(&call_id));
        }
        Err(Broken::Cut(why.to_owned()))
    }
}
