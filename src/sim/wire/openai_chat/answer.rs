//! An answer of this wire: one JSON body, or a stream of events.

use serde_json::{Map, Value, json};

use crate::sim::completion::{Completion, Event, Finish, Shown, Stream};
use crate::sim::rates::Counts;

/// The body of an answer in one piece.
pub(super) fn whole(completion: &Completion) -> String {
    Answer(completion).body()
}

/// A streamed answer in its parts.
pub(super) fn stream(completion: &Completion) -> Stream<'_> {
    Answer(completion).stream()
}

/// One piece of a streamed choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delta<'a> {
    Role,
    Text(&'a str),
    Refusal(&'a str),
    /// The start of a call, by its place and name.
    CallStart(usize, &'a str),
    CallPart(usize, &'a str),
}

impl<'a> Delta<'a> {
    /// What it says.
    fn said(self) -> &'a str {
        match self {
            Delta::Role => "",
            Delta::Text(text) | Delta::Refusal(text) | Delta::CallPart(_, text) | Delta::CallStart(_, text) => text,
        }
    }
}

/// A completion in this wire's form.
struct Answer<'a>(&'a Completion);

impl<'a> Answer<'a> {
    /// The body of an answer in one piece.
    fn body(&self) -> String {
        let choices: Vec<_> = (0..self.0.choices)
            .map(|index| {
                json!({"index": index, "message": self.message(), "logprobs": null, "finish_reason": finish(&self.0.finish)})
            })
            .collect();
        let mut body = json!({
            "id": self.0.id,
            "object": "chat.completion",
            "created": self.0.created,
            "model": self.0.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        });
        match self.0.shown {
            Shown::Missing => {}
            Shown::Once | Shown::Null | Shown::Garbage | Shown::Twice | Shown::EveryChunk => {
                body["usage"] = self.usage()
            }
        }
        body.to_string()
    }

    fn message(&self) -> Value {
        let content = if self.0.text.is_empty() && (!self.0.calls.is_empty() || self.0.refusal.is_some()) {
            Value::Null
        } else {
            Value::from(self.0.text.as_str())
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": self.0.refusal});
        if !self.0.calls.is_empty() {
            let calls: Vec<_> = self.0.calls.iter().enumerate().map(|(index, call)| self.call(index, call)).collect();
            message["tool_calls"] = Value::from(calls);
        }
        message
    }

    fn call(&self, index: usize, (name, arguments): &(String, String)) -> Value {
        json!({"id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_{}_{index}", self.0.id.trim_start_matches("chatcmpl-"))
    }

    fn usage(&self) -> Value {
        let Counts { prompt, cached, completion, reasoning, .. } = self.0.usage;
        let written = self.0.usage.cache_write.saturating_add(self.0.usage.cache_write_long);
        match self.0.shown {
            Shown::Null => return Value::Null,
            Shown::Garbage => return json!({"prompt_tokens": -1, "completion_tokens": "many", "total_tokens": null}),
            Shown::Once | Shown::Missing | Shown::Twice | Shown::EveryChunk => {}
        }
        let mut details = Map::new();
        details.insert("cached_tokens".to_owned(), cached.into());
        details.insert("audio_tokens".to_owned(), 0.into());
        if written > 0 {
            details.insert("cache_write_tokens".to_owned(), written.into());
        }
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt.saturating_add(completion),
            "prompt_tokens_details": details,
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })
    }

    /// The pieces of a streamed choice, in order.
    fn deltas(&self) -> Vec<Delta<'a>> {
        let Completion { text, refusal, calls, .. } = self.0;
        let mut deltas = vec![Delta::Role];
        deltas.extend(self.0.chunks(text).map(Delta::Text));
        deltas.extend(refusal.iter().flat_map(|text| self.0.chunks(text)).map(Delta::Refusal));
        for (index, (name, arguments)) in calls.iter().enumerate() {
            deltas.push(Delta::CallStart(index, name));
            deltas.extend(self.0.chunks(arguments).map(|part| Delta::CallPart(index, part)));
        }
        deltas
    }

    /// The stream. The role of each choice comes alone in its first event.
    fn stream(&self) -> Stream<'a> {
        let head = self.head();
        let chunk = |choices: &str| format!("data: {head}\"choices\":[{choices}]{}}}\n\n", self.running_usage());
        let mut said = Vec::new();
        for index in 0..self.0.choices {
            for delta in self.deltas() {
                let shown = self.delta(delta);
                let choice = format!(r#"{{"index":{index},"delta":{shown},"logprobs":null,"finish_reason":null}}"#);
                said.push(Event::new(chunk(&choice), delta.said()));
            }
        }
        let word = Value::from(finish(&self.0.finish));
        let ended = |index| format!(r#"{{"index":{index},"delta":{{}},"logprobs":null,"finish_reason":{word}}}"#);
        let finish = (0..self.0.choices).map(|index| chunk(&ended(index))).collect();
        let times = match (self.0.include_usage, self.0.shown) {
            (false, _) | (true, Shown::Missing) => 0,
            (true, Shown::Twice) => 2,
            (true, Shown::Once | Shown::Null | Shown::Garbage | Shown::EveryChunk) => 1,
        };
        let usage = || format!("data: {head}\"choices\":[],\"usage\":{}}}\n\n", self.usage());
        let last = std::iter::repeat_with(usage).take(times).chain(["data: [DONE]\n\n".to_owned()]).collect();
        Stream { said, finish, last }
    }

    /// The fields that every chunk begins with.
    fn head(&self) -> String {
        let Completion { id, created, model, .. } = self.0;
        let (id, model) = (Value::from(id.as_str()), Value::from(model.as_str()));
        format!(
            r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_simulated","#
        )
    }

    fn running_usage(&self) -> String {
        match (self.0.include_usage, self.0.shown) {
            (_, Shown::EveryChunk) => format!(",\"usage\":{}", self.usage()),
            (true, _) => ",\"usage\":null".to_owned(),
            (false, _) => String::new(),
        }
    }

    fn delta(&self, delta: Delta<'_>) -> String {
        match delta {
            Delta::Role => r#"{"role":"assistant","content":"","refusal":null}"#.to_owned(),
            Delta::Text(text) => format!(r#"{{"content":{}}}"#, Value::from(text)),
            Delta::Refusal(text) => format!(r#"{{"refusal":{}}}"#, Value::from(text)),
            Delta::CallStart(index, name) => {
                json!({"tool_calls": [{"index": index, "id": self.call_id(index), "type": "function",
                    "function": {"name": name, "arguments": ""}}]})
                .to_string()
            }
            Delta::CallPart(index, part) => {
                json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]}).to_string()
            }
        }
    }
}

/// The wire's word for why an answer ended.
fn finish(finish: &Finish) -> &str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
        Finish::Filter => "content_filter",
        Finish::Given(word) => word,
    }
}
