//! A completion as it goes over the wire: one JSON body, or a stream of events.

use serde_json::{Map, Value, json};

use crate::sim::count::boundary;
use crate::sim::tariff::Counts;

/// Bytes of text in one chunk where the scenario doesn't say.
pub(crate) const CHUNK_BYTES: usize = 32;

/// How the usage is shown to the client; what is billed doesn't depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    #[default]
    Once,
    Missing,
    Null,
    Garbage,
    Twice,
    EveryChunk,
}

/// Where a stream breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nowhere,
    /// The connection closes after so many chunks.
    Cut(usize),
    /// An error object comes after so many chunks.
    Error(usize),
    /// The stream ends without usage and `[DONE]`.
    NoDone,
}

/// One completion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completion {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) refusal: Option<String>,
    /// Names and arguments.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) finish: String,
    /// What is shown as usage.
    pub(crate) usage: Counts,
    pub(crate) shown: Shown,
    pub(crate) broken: Broken,
    /// How many choices; 0 for a fault.
    pub(crate) choices: u64,
    pub(crate) include_usage: bool,
    pub(crate) chunk_bytes: usize,
}

/// One piece of a streamed choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delta<'a> {
    Role,
    Text(&'a str),
    Refusal(&'a str),
    CallStart(usize),
    CallPart(usize, &'a str),
}

impl Completion {
    /// The body of an answer in one piece.
    pub(crate) fn body(&self) -> String {
        let choices: Vec<_> = (0..self.choices)
            .map(|index| {
                json!({"index": index, "message": self.message(), "logprobs": null, "finish_reason": self.finish})
            })
            .collect();
        let mut body = json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        });
        match self.shown {
            Shown::Missing => {}
            Shown::Once | Shown::Null | Shown::Garbage | Shown::Twice | Shown::EveryChunk => {
                body["usage"] = self.usage()
            }
        }
        body.to_string()
    }

    fn message(&self) -> Value {
        let content = if self.text.is_empty() && (!self.calls.is_empty() || self.refusal.is_some()) {
            Value::Null
        } else {
            Value::from(self.text.as_str())
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": self.refusal});
        if !self.calls.is_empty() {
            let calls: Vec<_> = self.calls.iter().enumerate().map(|(index, call)| self.call(index, call)).collect();
            message["tool_calls"] = Value::from(calls);
        }
        message
    }

    fn call(&self, index: usize, (name, arguments): &(String, String)) -> Value {
        json!({"id": self.call_id(index), "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_{}_{index}", self.id.trim_start_matches("chatcmpl-"))
    }

    fn usage(&self) -> Value {
        let Counts { prompt, cached, cache_write, completion, reasoning, .. } = self.usage;
        match self.shown {
            Shown::Null => return Value::Null,
            Shown::Garbage => return json!({"prompt_tokens": -1, "completion_tokens": "many", "total_tokens": null}),
            Shown::Once | Shown::Missing | Shown::Twice | Shown::EveryChunk => {}
        }
        let mut details = Map::new();
        details.insert("cached_tokens".to_owned(), cached.into());
        details.insert("audio_tokens".to_owned(), 0.into());
        if cache_write > 0 {
            details.insert("cache_write_tokens".to_owned(), cache_write.into());
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
    pub(crate) fn deltas(&self) -> Vec<Delta<'_>> {
        let mut deltas = vec![Delta::Role];
        deltas.extend(chunks(&self.text, self.chunk_bytes).map(Delta::Text));
        deltas.extend(self.refusal.iter().flat_map(|text| chunks(text, self.chunk_bytes)).map(Delta::Refusal));
        for (index, (_, arguments)) in self.calls.iter().enumerate() {
            deltas.push(Delta::CallStart(index));
            deltas.extend(chunks(arguments, self.chunk_bytes).map(|part| Delta::CallPart(index, part)));
        }
        deltas
    }

    /// The events of a stream, each with its blank line. The role of the first choice comes alone in the first one.
    pub(crate) fn events(&self) -> Vec<String> {
        let head = self.head();
        let mut events = Vec::new();
        let chunk = |choices: &str| format!("data: {head}\"choices\":[{choices}]{}}}\n\n", self.running_usage());
        for index in 0..self.choices {
            for delta in self.deltas() {
                let delta = self.delta(delta);
                events.push(chunk(&format!(
                    r#"{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":null}}"#
                )));
            }
        }
        match self.broken {
            Broken::Cut(after) => {
                events.truncate(after);
                return events;
            }
            Broken::Error(after) => {
                events.truncate(after);
                let error = json!({"error": {"message": "the server had an error while it answered",
                    "type": "server_error", "param": null, "code": null}});
                events.push(format!("data: {error}\n\n"));
                return events;
            }
            Broken::Nowhere | Broken::NoDone => {}
        }
        let finish = Value::from(self.finish.as_str());
        for index in 0..self.choices {
            events
                .push(chunk(&format!(r#"{{"index":{index},"delta":{{}},"logprobs":null,"finish_reason":{finish}}}"#)));
        }
        if self.broken == Broken::NoDone {
            return events;
        }
        let times = match (self.include_usage, self.shown) {
            (false, _) | (true, Shown::Missing) => 0,
            (true, Shown::Twice) => 2,
            (true, Shown::Once | Shown::Null | Shown::Garbage | Shown::EveryChunk) => 1,
        };
        for _ in 0..times {
            events.push(format!("data: {head}\"choices\":[],\"usage\":{}}}\n\n", self.usage()));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// The fields that every chunk begins with.
    fn head(&self) -> String {
        let Self { id, created, model, .. } = self;
        let (id, model) = (Value::from(id.as_str()), Value::from(model.as_str()));
        format!(
            r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_simulated","#
        )
    }

    fn running_usage(&self) -> String {
        match (self.include_usage, self.shown) {
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
            Delta::CallStart(index) => {
                let name = self.calls.get(index).map_or("", |(name, _)| name.as_str());
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

/// Splits a text at character boundaries into pieces of about `bytes` bytes.
fn chunks(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?.len_utf8();
        let (piece, after) = rest.split_at(boundary(rest, bytes).max(first));
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_characters_whole() {
        assert_eq!(chunks("aäöb", 2).collect::<Vec<_>>(), ["a", "ä", "ö", "b"]);
        assert_eq!(chunks("aäöb", 3).collect::<Vec<_>>(), ["aä", "öb"]);
        assert_eq!(chunks("ä", 1).collect::<Vec<_>>(), ["ä"]);
        assert_eq!(chunks("", 1).count(), 0);
    }
}
