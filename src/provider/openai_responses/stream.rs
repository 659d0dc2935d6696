//! From the events of a stream to a reply. Bytes in, reply out; the network is elsewhere.
//!
//! Invariants: a reply needs the one event that ends a stream, which holds the whole answer and its usage; what came before
//! it is for people to watch.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::decode;
use crate::domain::message::Reply;
use crate::ids::ModelName;
use crate::provider::dialect::Reader;
use crate::provider::fault::Broken;
use crate::provider::openai::text;
use crate::provider::sse::{Event, Parser};
use crate::provider::told::Told;

/// The mark that some servers send behind the last event, as on the older wire.
const STRAY_MARK: &str = "[DONE]";

/// A stream so far.
#[derive(Debug)]
pub(super) struct Stream {
    parser: Parser,
    model: ModelName,
    call_id: String,
    /// Items that are whole, by their place.
    items: BTreeMap<u64, Value>,
    /// The response object of the event that ends the stream.
    last: Option<Value>,
    output_seen: bool,
}

impl Stream {
    pub(super) fn new(model: ModelName, call_id: String) -> Self {
        Self { parser: Parser::default(), model, call_id, items: BTreeMap::new(), last: None, output_seen: false }
    }

    /// Takes in an event; gives the text in it.
    fn absorb(&mut self, event: &Event) -> Result<String, Broken> {
        let data = event.data.trim();
        if self.last.is_some() || data.is_empty() || data == STRAY_MARK {
            return Ok(String::new());
        }
        let document: Value = match serde_json::from_str(data) {
            Ok(document @ Value::Object(_)) => document,
            Ok(_) => return Err(Broken::Garbage("an event that is no object".to_owned())),
            Err(error) => return Err(Broken::Garbage(format!("an event that is no JSON: {error}"))),
        };
        let kind = document.get("type").and_then(Value::as_str).or(event.name.as_deref()).unwrap_or_default();
        self.output_seen |= kind.ends_with(".delta") || kind == "response.output_item.added";
        match kind {
            "response.output_text.delta" => return Ok(text(document.get("delta")).to_owned()),
            "response.output_item.done" => self.keep_item(&document),
            "response.completed" | "response.incomplete" | "response.failed" => return self.end_with(&document, kind),
            "error" => return Err(told(&document)),
            _ if document.get("error").is_some_and(|error| !error.is_null()) => return Err(told(&document)),
            // What tells of progress only, and whatever comes to be.
            _ => {}
        }
        Ok(String::new())
    }

    fn keep_item(&mut self, document: &Value) {
        let next = self.items.last_key_value().map_or(0, |(place, _)| place.saturating_add(1));
        let place = document.get("output_index").and_then(Value::as_u64).unwrap_or(next);
        if let Some(item) = document.get("item") {
            self.output_seen = true;
            self.items.insert(place, item.clone());
        }
    }

    fn end_with(&mut self, document: &Value, kind: &str) -> Result<String, Broken> {
        let mut response = document.get("response").cloned().unwrap_or_default();
        let Value::Object(fields) = &mut response else {
            return Err(Broken::Garbage(format!("`{kind}` without a `response`")));
        };
        let status = kind.trim_start_matches("response.");
        fields.entry("status").or_insert_with(|| json!(status));
        if let Some(error) = decode::error(&response) {
            return Err(error);
        }
        self.last = Some(response);
        Ok(String::new())
    }
}

/// The error of an event: its own fields, or an object of them as on the older wire.
fn told(document: &Value) -> Broken {
    let error = document.get("error").filter(|error| !error.is_null()).unwrap_or(document);
    let fields = |name: &str| error.get(name).cloned().unwrap_or_default();
    let plain = json!({"error": {"code": fields("code"), "message": fields("message")}});
    let told = if error.is_object() { Told::of(&plain) } else { Told::of(document) };
    Broken::Told(Box::new(told.unwrap_or_default()))
}

impl Reader for Stream {
    fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        let mut parser = std::mem::take(&mut self.parser);
        let heard = parser.hear_out(bytes, hear, |event| self.absorb(event));
        self.parser = parser;
        heard
    }

    fn is_done(&self) -> bool {
        self.last.is_some()
    }

    fn is_finished(&self) -> bool {
        self.last.is_some()
    }

    fn is_settled(&self) -> bool {
        self.last.is_some()
    }

    fn output_seen(&self) -> bool {
        self.output_seen
    }

    fn end(mut self: Box<Self>, why: &str) -> Result<Reply, Broken> {
        // What a cut left of an event can't be read, and an error in it is no less a cut.
        if let Some(Err(told @ Broken::Told(_))) = self.parser.finish().map(|event| self.absorb(&event)) {
            return Err(told);
        }
        let Some(last) = &self.last else { return Err(Broken::Cut(why.to_owned())) };
        let items: Vec<Value> = self.items.into_values().collect();
        decode::reply(last, &items, &self.model, &self.call_id)
    }
}
