//! From chat completions, whole or in pieces, to a reply with usage in disjoint classes.
//!
//! Invariants: usage that can't be believed is none, never zero; the raw usage is kept beside it; words that we don't
//! know are kept as they are. Both forms of an answer go through one [`Draft`], so that they mean the same.
//! Deliberately absent: choices after the first (never asked for), audio, and the old `function_call`.

use serde_json::Value;

use crate::domain::message::{Assistant, Opaque, Reply, StopReason, ToolCall};
use crate::domain::pricing::{Factors, Tally};
use crate::ids::ToolName;
use crate::provider::fault::Broken;
use crate::provider::openai::usage::{CHAT, usage};
use crate::provider::openai::{CALLS_MAX, NAME_CHARS_MAX, at, name, text};
use crate::provider::told::Told;

/// Where servers put their counts; Groq has a field of its own for those of a stream.
const USAGE_PLACES: [&[&str]; 2] = [&["usage"], &["x_groq", "usage"]];

/// Reads a whole answer. `call_id` begins the ids of tool calls that come without one.
pub(super) fn whole(body: &[u8], call_id: &str) -> Result<Reply, Broken> {
    let document: Value = serde_json::from_slice(body).map_err(|error| Broken::Garbage(format!("no JSON: {error}")))?;
    let mut draft = Draft::default();
    draft.absorb(&document, "message")?;
    draft.end();
    if draft.choices_seen || draft.usage().is_some() {
        return Ok(draft.reply(call_id));
    }
    Err(Broken::Garbage("JSON without `choices`".to_owned()))
}

/// An answer so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    refusal: String,
    /// Reasoning as text, by the field that it came in.
    reasoning: Vec<(&'static str, String)>,
    /// Reasoning as blocks, unchanged.
    blocks: Vec<Value>,
    calls: Vec<CallDraft>,
    finish: Option<String>,
    raw_usage: Option<Value>,
    /// The usage came with or after the finish, so that it counts all of the answer.
    usage_is_last: bool,
    choices_seen: bool,
    output_seen: bool,
    model: Option<String>,
    service_tier: Option<String>,
    id: Option<String>,
}

#[derive(Debug, Default)]
struct CallDraft {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Draft {
    /// Takes in one document; what was said lies in its choices under `message` or `delta`. Gives the new text.
    pub(super) fn absorb(&mut self, document: &Value, said: &str) -> Result<String, Broken> {
        if !document.is_object() {
            return Err(Broken::Garbage("JSON, but no object".to_owned()));
        }
        if has_error(document) {
            return Err(Broken::Told(Box::new(Told::of(document).unwrap_or_default())));
        }
        for (field, kept) in
            [("model", &mut self.model), ("service_tier", &mut self.service_tier), ("id", &mut self.id)]
        {
            if let Some(word) = name(document.get(field)) {
                *kept = Some(word);
            }
        }
        let before = self.text.len();
        if let Some(choice) = first_choice(document) {
            self.choices_seen = true;
            self.absorb_choice(choice, said)?;
        }
        self.absorb_usage(document);
        Ok(self.text[before..].to_owned())
    }

    /// True once the answer says why it ended.
    pub(super) const fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// True once usage of the whole answer is there, or, after the last mark of a stream, any usage.
    pub(super) const fn has_last_usage(&self) -> bool {
        self.usage_is_last && self.raw_usage.is_some()
    }

    /// The last mark of a stream came, or the whole of an answer: what usage there is, is the last.
    pub(super) const fn end(&mut self) {
        self.usage_is_last = true;
    }

    /// True once any output was seen.
    pub(super) const fn output_seen(&self) -> bool {
        self.output_seen
    }

    /// The usage, if it is whole and can be believed.
    pub(super) fn usage(&self) -> Option<Tally> {
        self.raw_usage.as_ref().filter(|_| self.usage_is_last).and_then(|raw| usage(raw, &CHAT))
    }

    /// The reply, whatever is missing of it.
    pub(super) fn reply(self, call_id: &str) -> Reply {
        let (usage, mismatch) = self.usage().map_or((None, None), |tally| (Some(tally.usage), tally.mismatch));
        let stop = stop_reason(self.finish.as_deref(), !self.calls.is_empty(), !self.refusal.is_empty());
        let reasoning =
            self.reasoning.into_iter().map(|(field, text)| serde_json::json!({"type": field, "text": text}));
        let calls = self.calls.into_iter().enumerate().map(|(position, call)| call.finish(call_id, position));
        Reply {
            message: Assistant {
                text: self.text,
                refusal: Some(self.refusal).filter(|words| !words.is_empty()),
                calls: calls.collect(),
                reasoning: reasoning.chain(self.blocks).map(Opaque::kept).collect(),
                continuation: None,
            },
            stop,
            usage,
            mismatch,
            charged: None,
            raw_usage: self.raw_usage,
            response_model: self.model,
            service_tier: self.service_tier,
            factors: Factors::NONE,
            request_id: None,
            response_id: self.id,
        }
    }

    fn absorb_choice(&mut self, choice: &Value, said: &str) -> Result<(), Broken> {
        if let Some(said) = choice.get(said) {
            self.absorb_content(said.get("content"));
            add(&mut self.refusal, said.get("refusal"));
            self.absorb_reasoning(said);
            for call in said.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                self.absorb_call(call)?;
            }
        }
        self.output_seen |= !(self.text.is_empty() && self.refusal.is_empty() && self.calls.is_empty())
            || self.reasoning.iter().any(|(_, text)| !text.is_empty())
            || !self.blocks.is_empty();
        if let Some(finish) = name(choice.get("finish_reason")) {
            self.finish = Some(finish);
        }
        Ok(())
    }

    /// Text, or parts as Mistral sends them: `text`, `refusal`, and reasoning of several names.
    fn absorb_content(&mut self, content: Option<&Value>) {
        for part in content.and_then(Value::as_array).into_iter().flatten() {
            match part.get("type").and_then(Value::as_str) {
                Some("text") | None => add(&mut self.text, part.get("text")),
                Some("refusal") => add(&mut self.refusal, part.get("refusal")),
                Some(_) => self.blocks.push(part.clone()),
            }
        }
        add(&mut self.text, content);
    }

    fn absorb_reasoning(&mut self, said: &Value) {
        for field in ["reasoning_content", "reasoning"] {
            let Some(piece) = said.get(field).and_then(Value::as_str).filter(|piece| !piece.is_empty()) else {
                continue;
            };
            match self.reasoning.iter_mut().find(|(known, _)| *known == field) {
                Some((_, text)) => text.push_str(piece),
                None => self.reasoning.push((field, piece.to_owned())),
            }
        }
        self.blocks.extend(said.get("reasoning_details").and_then(Value::as_array).into_iter().flatten().cloned());
    }

    fn absorb_call(&mut self, piece: &Value) -> Result<(), Broken> {
        let position = self.call_of(piece);
        if position == self.calls.len() {
            if self.calls.len() == CALLS_MAX {
                return Err(Broken::Garbage(format!("more than {CALLS_MAX} tool calls")));
            }
            let index = piece.get("index").and_then(Value::as_u64);
            self.calls.push(CallDraft { index, ..CallDraft::default() });
        }
        self.calls[position].absorb(piece);
        Ok(())
    }

    /// The call that a piece belongs to; the number of calls where it begins one. The `index` decides, but for servers
    /// that number all calls 0 and tell them apart by id. Without an index the id decides; without both, a name begins
    /// a call and what has none goes on with the last.
    fn call_of(&self, piece: &Value) -> usize {
        let (id, name) = (text(piece.get("id")), text(at(piece, &["function", "name"])));
        let index = piece.get("index").and_then(Value::as_u64);
        let last = |fits: &dyn Fn(&CallDraft) -> bool| self.calls.iter().rposition(fits);
        let found = match index {
            Some(_) => last(&|call| call.index == index)
                .filter(|position| {
                    id.is_empty() || self.calls[*position].id.is_empty() || self.calls[*position].id == id
                })
                .or_else(|| last(&|call| call.index == index && !id.is_empty() && call.id == id)),
            None if !id.is_empty() => last(&|call| call.id == id),
            None if name.is_empty() => self.calls.len().checked_sub(1),
            None => None,
        };
        found.unwrap_or(self.calls.len())
    }

    fn absorb_usage(&mut self, document: &Value) {
        let told = USAGE_PLACES.iter().find_map(|place| at(document, place).filter(|usage| usage.is_object()));
        if let Some(raw) = told {
            self.raw_usage = Some(raw.clone());
            // A count before the finish is one of those that grow with each chunk (`vLLM`).
            self.usage_is_last = self.is_finished();
        }
    }
}

impl CallDraft {
    fn absorb(&mut self, piece: &Value) {
        if self.id.is_empty() {
            self.id = text(piece.get("id")).chars().take(NAME_CHARS_MAX).collect();
        }
        let name = text(at(piece, &["function", "name"]));
        // Some servers repeat the name with every piece.
        if self.name != name {
            self.name = self.name.chars().chain(name.chars()).take(NAME_CHARS_MAX).collect();
        }
        match at(piece, &["function", "arguments"]) {
            Some(Value::String(more)) => self.arguments.push_str(more),
            Some(Value::Null) | None => {}
            // Some servers send an object where the wire has its text.
            Some(object) => self.arguments.push_str(&object.to_string()),
        }
    }

    /// Arguments stay as they were written, JSON or not; none at all are an empty object.
    fn finish(self, call_id: &str, position: usize) -> ToolCall {
        let id = if self.id.is_empty() { format!("{call_id}_{position}") } else { self.id };
        let arguments = if self.arguments.trim().is_empty() { "{}".to_owned() } else { self.arguments };
        ToolCall { id, name: ToolName::from(self.name), arguments }
    }
}

/// True of a document that is an error: `vLLM` and Mistral say so by its `object`.
fn has_error(document: &Value) -> bool {
    document.get("error").is_some_and(|error| !error.is_null())
        || document.get("object").and_then(Value::as_str) == Some("error")
}

fn first_choice(document: &Value) -> Option<&Value> {
    let choices = document.get("choices").and_then(Value::as_array)?;
    choices.iter().find(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0)
}

fn add(text: &mut String, piece: Option<&Value>) {
    text.push_str(self::text(piece));
}

fn stop_reason(finish: Option<&str>, has_calls: bool, has_refusal: bool) -> StopReason {
    match finish {
        Some("content_filter") => StopReason::ContentFilter,
        Some("length" | "model_length" | "max_tokens") => StopReason::Length,
        Some("stop" | "tool_calls" | "function_call" | "eos") if has_calls => StopReason::ToolCalls,
        Some("stop" | "eos") if has_refusal => StopReason::Refusal,
        Some("stop" | "eos") => StopReason::End,
        Some("tool_calls" | "function_call") => StopReason::ToolCalls,
        Some(word) => StopReason::Unknown(word.to_owned()),
        None => StopReason::Unknown("missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn why_a_model_stopped_is_told_and_unknown_words_are_kept() {
        let rows = [
            (Some("stop"), false, false, StopReason::End),
            (Some("stop"), true, false, StopReason::ToolCalls),
            (Some("stop"), false, true, StopReason::Refusal),
            (Some("tool_calls"), true, false, StopReason::ToolCalls),
            (Some("function_call"), false, false, StopReason::ToolCalls),
            (Some("length"), true, false, StopReason::Length),
            (Some("content_filter"), false, true, StopReason::ContentFilter),
            (
                Some("insufficient_system_resource"),
                false,
                false,
                StopReason::Unknown("insufficient_system_resource".into()),
            ),
            (None, false, false, StopReason::Unknown("missing".into())),
        ];
        for (finish, calls, refusal, expected) in rows {
            assert_eq!(stop_reason(finish, calls, refusal), expected, "{finish:?}");
        }
    }

    fn reply(document: &Value) -> Result<Reply, Broken> {
        whole(document.to_string().as_bytes(), "call")
    }

    #[test]
    fn a_refusal_is_a_reply() {
        let said = json!({"choices": [{"finish_reason": "stop", "message": {"content": null, "refusal": "I can't."}}]});
        let reply = reply(&said).expect("a reply");
        assert_eq!(reply.stop, StopReason::Refusal);
        assert_eq!(reply.message.refusal.as_deref(), Some("I can't."));
        assert_eq!((reply.usage, reply.raw_usage), (None, None));
    }

    #[test]
    fn calls_are_kept_whatever_their_arguments_are() {
        let said = json!({"choices": [{"finish_reason": "tool_calls", "message": {"content": "", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{broken"}},
            {"type": "function", "function": {"name": "g", "arguments": {"x": 1}}},
            {"id": "", "function": {"name": "h", "arguments": ""}},
        ]}}]});
        let calls = reply(&said).expect("a reply").message.calls;
        let shown: Vec<_> = calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(shown, [("a", "f", "{broken"), ("call_1", "g", r#"{"x":1}"#), ("call_2", "h", "{}")]);
    }

    #[test]
    fn parts_and_reasoning_are_kept_apart() {
        let said = json!({"choices": [{"finish_reason": "stop", "message": {
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}],
            "reasoning_content": "let me see"}}]});
        let message = reply(&said).expect("a reply").message;
        assert_eq!(message.text, "Hi");
        assert_eq!(
            message.reasoning,
            [json!({"type": "reasoning_content", "text": "let me see"}), json!({"type": "thinking", "thinking": "hm"})]
                .map(Opaque::kept)
        );
    }

    #[test]
    fn usage_without_a_choice_is_still_a_bill() {
        let said = json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 0}});
        let reply = reply(&said).expect("a reply");
        assert_eq!(reply.stop, StopReason::Unknown("missing".into()));
        assert!(reply.usage.is_some());
    }

    #[test]
    fn what_is_no_answer_is_told() {
        assert!(matches!(reply(&json!({"choices": []})), Err(Broken::Garbage(_))));
        assert!(matches!(reply(&json!([])), Err(Broken::Garbage(_))));
        assert!(matches!(whole(b"<html>", "call"), Err(Broken::Garbage(_))));
        assert!(matches!(reply(&json!({"error": {"message": "m", "code": 429}})), Err(Broken::Told(_))));
        assert!(matches!(reply(&json!({"object": "error", "message": "m"})), Err(Broken::Told(_))));
    }

    #[test]
    fn tool_calls_are_bounded() {
        let call = json!({"id": "", "function": {"name": "f", "arguments": "{}"}});
        let calls = vec![call; CALLS_MAX + 1];
        assert!(matches!(reply(&json!({"choices": [{"message": {"tool_calls": calls}}]})), Err(Broken::Garbage(_))));
    }
}
