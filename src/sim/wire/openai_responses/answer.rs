//! An answer of this wire: one response object, or the events that build it up.

use serde_json::{Value, json};

use super::reasoning;
use crate::sim::completion::{Completion, Event, Finish, Shown, Stream};
use crate::sim::rates::Counts;

/// The body of an answer in one piece.
pub(super) fn whole(completion: &Completion) -> String {
    Answer(completion).response().to_string()
}

/// A streamed answer in its parts: the event that ends it holds all of it.
pub(super) fn stream(completion: &Completion) -> Stream<'_> {
    Answer(completion).stream()
}

/// A completion in this wire's form.
struct Answer<'a>(&'a Completion);

impl<'a> Answer<'a> {
    fn response(&self) -> Value {
        let (status, reason) = ended(&self.0.finish);
        let mut response = self.head(status);
        response["incomplete_details"] = reason.map_or(Value::Null, |reason| json!({"reason": reason}));
        response["output"] = self.items().into();
        if self.0.searches > 0 {
            response["tool_usage"] = json!({"web_search": {"num_requests": self.0.searches}});
        }
        match self.0.shown {
            Shown::Missing => {}
            Shown::Once | Shown::Null | Shown::Garbage | Shown::Twice | Shown::EveryChunk => {
                response["usage"] = self.usage();
            }
        }
        response
    }

    fn head(&self, status: &str) -> Value {
        json!({"id": self.0.id, "object": "response", "created_at": self.0.created, "status": status, "error": null,
            "incomplete_details": null, "model": self.0.model, "output": [], "service_tier": "default", "store": false})
    }

    fn items(&self) -> Vec<Value> {
        if self.0.choices == 0 {
            return Vec::new();
        }
        let calls = (0..self.0.calls.len()).map(|index| self.call(index));
        let searches = (0..self.0.searches).map(|number| self.search(number));
        self.reasoning().into_iter().chain(searches).chain(self.message()).chain(calls).collect()
    }

    fn reasoning(&self) -> Option<Value> {
        let tokens = self.0.usage.reasoning;
        (tokens > 0).then(|| reasoning::item(&format!("rs_{}", self.0.id), tokens))
    }

    fn search(&self, number: u64) -> Value {
        json!({"type": "web_search_call", "id": format!("ws_{}_{number}", self.0.id), "status": "completed",
            "action": {"type": "search", "query": "what is asked"}})
    }

    fn message(&self) -> Option<Value> {
        let part = match &self.0.refusal {
            Some(refusal) => json!({"type": "refusal", "refusal": refusal}),
            None if self.0.text.is_empty() && !self.0.calls.is_empty() => return None,
            None => json!({"type": "output_text", "text": self.0.text, "annotations": [], "logprobs": []}),
        };
        let id = format!("msg_{}", self.0.id);
        Some(json!({"type": "message", "id": id, "status": "completed", "role": "assistant", "content": [part]}))
    }

    fn call(&self, index: usize) -> Value {
        let (name, arguments) =
            self.0.calls.get(index).map_or(("", ""), |(name, arguments)| (name.as_str(), arguments.as_str()));
        json!({"type": "function_call", "id": format!("fc_{}_{index}", self.0.id), "status": "completed",
            "call_id": format!("call_{}_{index}", self.0.id), "name": name, "arguments": arguments})
    }

    fn usage(&self) -> Value {
        let Counts { prompt, cached, cache_write, cache_write_long, completion, reasoning } = self.0.usage;
        match self.0.shown {
            Shown::Null => return Value::Null,
            Shown::Garbage => return json!({"input_tokens": -1, "output_tokens": "many", "total_tokens": null}),
            Shown::Once | Shown::Missing | Shown::Twice | Shown::EveryChunk => {}
        }
        json!({
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached,
                "cache_write_tokens": cache_write.saturating_add(cache_write_long),
                "cache_write_tokens_details": {"ttl_30m_tokens": cache_write, "ttl_12h_tokens": cache_write_long}},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": prompt.saturating_add(completion),
        })
    }

    fn stream(&self) -> Stream<'a> {
        let mut events = Events(Vec::new());
        let mut begun = self.head("in_progress");
        if self.0.shown == Shown::EveryChunk {
            begun["usage"] = self.usage();
        }
        events.tell("response.created", json!({"response": begun}), "");
        events.tell("response.in_progress", json!({"response": begun}), "");
        for (place, item) in self.items().into_iter().enumerate() {
            self.item_events(place, &item, &mut events);
        }
        let number = events.0.len();
        let response = self.response();
        let (status, _) = ended(&self.0.finish);
        let kind = if status == "completed" { "response.completed" } else { "response.incomplete" };
        let last = event(kind, json!({"response": response}), number);
        let times = if self.0.shown == Shown::Twice { 2 } else { 1 };
        Stream { said: events.0, finish: Vec::new(), last: vec![last; times] }
    }

    fn item_events(&self, place: usize, item: &Value, events: &mut Events<'a>) {
        let kind = item["type"].as_str().unwrap_or_default();
        let at = |more: Value| with(json!({"output_index": place, "item_id": item["id"]}), more);
        let mut begun = item.clone();
        for field in ["content", "encrypted_content", "arguments"] {
            if let Some(value) = begun.get_mut(field) {
                *value = if field == "content" { json!([]) } else { json!("") };
            }
        }
        let call = place.checked_sub(self.items().len() - self.0.calls.len()).and_then(|call| self.0.calls.get(call));
        let name = call.filter(|_| kind == "function_call").map_or("", |(name, _)| name.as_str());
        events.tell("response.output_item.added", json!({"output_index": place, "item": begun}), name);
        match (kind, &self.0.refusal) {
            ("message", Some(refusal)) => {
                for piece in self.0.chunks(refusal) {
                    events.tell("response.refusal.delta", at(json!({"content_index": 0, "delta": piece})), piece);
                }
                events.tell("response.refusal.done", at(json!({"content_index": 0, "refusal": refusal})), "");
            }
            ("message", None) => {
                for piece in self.0.chunks(&self.0.text) {
                    events.tell("response.output_text.delta", at(json!({"content_index": 0, "delta": piece})), piece);
                }
                events.tell("response.output_text.done", at(json!({"content_index": 0, "text": self.0.text})), "");
            }
            ("function_call", _) => {
                for piece in call.into_iter().flat_map(|(_, arguments)| self.0.chunks(arguments)) {
                    events.tell("response.function_call_arguments.delta", at(json!({"delta": piece})), piece);
                }
                let arguments = &item["arguments"];
                events.tell("response.function_call_arguments.done", at(json!({"arguments": arguments})), "");
            }
            (_, _) => {}
        }
        events.tell("response.output_item.done", json!({"output_index": place, "item": item}), "");
        if let Some(last) = events.0.last_mut() {
            last.reasoned = kind == "reasoning";
        }
    }
}

/// Events in their order, each with its number.
struct Events<'a>(Vec<Event<'a>>);

impl<'a> Events<'a> {
    fn tell(&mut self, kind: &str, fields: Value, said: &'a str) {
        self.0.push(Event::new(event(kind, fields, self.0.len()), said));
    }
}

fn event(kind: &str, fields: Value, number: usize) -> String {
    let document = with(json!({"type": kind, "sequence_number": number}), fields);
    format!("event: {kind}\ndata: {document}\n\n")
}

/// One object's fields behind another's.
fn with(mut fields: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

/// The status of an answer, and why it isn't whole.
fn ended(finish: &Finish) -> (&'static str, Option<&str>) {
    match finish {
        Finish::Stop | Finish::Calls => ("completed", None),
        Finish::Length => ("incomplete", Some("max_output_tokens")),
        Finish::Filter => ("incomplete", Some("content_filter")),
        Finish::Given(word) => ("incomplete", Some(word)),
    }
}
