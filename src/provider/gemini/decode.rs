//! From answers of `generateContent`, whole or in pieces, to a reply with usage in disjoint classes.
//!
//! Invariants: usage that can't be believed is none, never zero; the raw usage is kept beside it; words that we don't know
//! are kept as they are; where the model signed a part, all its parts are kept as they came, to be given back unchanged.
//! Deliberately absent: candidates after the first (never asked for), audio, and Google's own tools.

use serde_json::{Value, json};

use super::errors;
use crate::domain::message::{Assistant, Form, Opaque, Reply, Request, StopReason, ToolCall};
use crate::domain::pricing::{Factors, Tally, Usage, believed};
use crate::ids::{ModelName, ToolName};
use crate::provider::CALLS_MAX;
use crate::provider::fault::Broken;
use crate::units::Tokens;

/// The longest name, id or word that is taken from a provider.
const NAME_CHARS_MAX: usize = 256;
/// The most parts of one answer that are kept.
const PARTS_MAX: usize = 4_096;

/// Reads a whole answer. `call_id` begins the ids of calls that come without one.
pub(super) fn whole(body: &[u8], request: &Request, call_id: &str) -> Result<Reply, Broken> {
    let document: Value = serde_json::from_slice(body).map_err(|error| Broken::Garbage(format!("no JSON: {error}")))?;
    let mut draft = Draft::new(request);
    // Asked for a stream without `alt=sse`, Google answers with an array of its pieces.
    match document.as_array() {
        Some(pieces) => pieces.iter().try_for_each(|piece| draft.absorb(piece).map(drop))?,
        None => draft.absorb(&document).map(drop)?,
    }
    if draft.candidate_seen || draft.is_finished() || draft.usage().is_some() {
        return Ok(draft.reply(call_id));
    }
    Err(Broken::Garbage("JSON without `candidates`".to_owned()))
}

/// An answer so far.
#[derive(Debug)]
pub(super) struct Draft {
    asked: ModelName,
    output_cap: u32,
    text: String,
    /// Every part, as it came; pieces of text that belong together are joined.
    parts: Vec<Value>,
    calls: Vec<CallDraft>,
    signed: bool,
    finish: Option<String>,
    blocked: bool,
    continuation: Option<Value>,
    raw_usage: Option<Value>,
    /// The usage came with or after the finish, so that it counts all of the answer.
    usage_is_last: bool,
    candidate_seen: bool,
    model: Option<String>,
    id: Option<String>,
}

/// A call, and the place of its part.
#[derive(Debug)]
struct CallDraft {
    id: String,
    name: String,
    arguments: String,
}

impl Draft {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            asked: request.model.clone(),
            output_cap: request.max_output_tokens,
            text: String::new(),
            parts: Vec::new(),
            calls: Vec::new(),
            signed: false,
            finish: None,
            blocked: false,
            continuation: None,
            raw_usage: None,
            usage_is_last: false,
            candidate_seen: false,
            model: None,
            id: None,
        }
    }

    /// Takes in one document, and gives the new text.
    pub(super) fn absorb(&mut self, document: &Value) -> Result<String, Broken> {
        if !document.is_object() {
            return Err(Broken::Garbage("JSON, but no object".to_owned()));
        }
        if document.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Broken::Told(Box::new(errors::told_of(document))));
        }
        for (field, kept) in [("modelVersion", &mut self.model), ("responseId", &mut self.id)] {
            if let Some(text) = word(document.get(field)) {
                *kept = Some(text);
            }
        }
        self.blocked |= document.pointer("/promptFeedback/blockReason").is_some_and(|reason| !reason.is_null());
        let before = self.text.len();
        if let Some(candidate) = first_candidate(document) {
            self.candidate_seen = true;
            self.absorb_candidate(candidate)?;
        }
        if let Some(raw) = document.get("usageMetadata").filter(|usage| usage.is_object()) {
            // Each piece counts all so far: the last one stands (PROVIDERS §5).
            self.raw_usage = Some(raw.clone());
            self.usage_is_last = self.is_finished();
        }
        Ok(self.text[before..].to_owned())
    }

    /// True once the answer says why it ended, or that it never began.
    pub(super) const fn is_finished(&self) -> bool {
        self.finish.is_some() || self.blocked
    }

    /// True once usage of the whole answer is there.
    pub(super) const fn has_last_usage(&self) -> bool {
        self.usage_is_last && self.raw_usage.is_some()
    }

    /// True once any output was seen.
    pub(super) const fn output_seen(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The usage, if it is whole and can be believed. A whole answer's is, whether it says why it ended or not.
    fn usage(&self) -> Option<Tally> {
        let raw = self.raw_usage.as_ref().filter(|_| self.usage_is_last || self.finish.is_none())?;
        // Output that was seen and isn't counted is no count of zero.
        let counted = |field| raw.get(field).is_some_and(|count| !count.is_null());
        let seen = self.output_seen() && !counted("candidatesTokenCount") && !counted("thoughtsTokenCount");
        usage(raw).filter(|_| !seen)
    }

    /// The reply, whatever is missing of it.
    pub(super) fn reply(self, call_id: &str) -> Reply {
        let (usage, mismatch) = self.usage().map_or((None, None), |tally| (Some(tally.usage), tally.mismatch));
        let stop = self.stop();
        let paused = stop == StopReason::Paused;
        let continuation = self.continuation.as_ref().filter(|_| paused).map(|token| self.pause(token, usage.as_ref()));
        let blocks = self.blocks();
        let service_tier = self.raw_usage.as_ref().and_then(service_tier);
        let response_model = self.model.as_deref().map(|answering| plain_model(answering, self.asked.model()));
        let calls = self.calls.into_iter().enumerate().map(|(position, call)| call.finish(call_id, position)).collect();
        let message = Assistant { text: self.text, refusal: None, calls, reasoning: blocks, continuation };
        Reply {
            message,
            stop,
            usage,
            mismatch,
            charged: None,
            raw_usage: self.raw_usage,
            response_model,
            service_tier,
            factors: Factors::NONE,
            request_id: None,
            response_id: self.id,
        }
    }

    fn absorb_candidate(&mut self, candidate: &Value) -> Result<(), Broken> {
        for part in candidate.pointer("/content/parts").and_then(Value::as_array).into_iter().flatten() {
            self.absorb_part(part)?;
        }
        if let Some(token) = candidate.get("continuationToken").filter(|token| token.is_string()) {
            self.continuation = Some(token.clone());
        }
        if let Some(finish) = word(candidate.get("finishReason")) {
            self.finish = Some(finish);
        }
        Ok(())
    }

    fn absorb_part(&mut self, part: &Value) -> Result<(), Broken> {
        if self.calls.len() == CALLS_MAX || self.parts.len() == PARTS_MAX {
            return Err(Broken::Garbage(format!("more than {CALLS_MAX} tool calls or {PARTS_MAX} parts")));
        }
        self.signed |= word(part.get("thoughtSignature")).is_some();
        if let Some(call) = part.get("functionCall") {
            self.calls.push(CallDraft::of(call));
        }
        let is_thought = part.get("thought").and_then(Value::as_bool) == Some(true);
        if let Some(text) = part.get("text").and_then(Value::as_str).filter(|_| !is_thought) {
            self.text.push_str(text);
        }
        match self.parts.last_mut() {
            Some(last) if joins(last, part) => {
                let joined = [&*last, part].map(|part| part["text"].as_str().unwrap_or_default()).concat();
                last["text"] = joined.into();
            }
            _ => self.parts.push(part.clone()),
        }
        Ok(())
    }

    fn stop(&self) -> StopReason {
        if self.blocked && self.finish.is_none() {
            return StopReason::ContentFilter;
        }
        stop_reason(self.finish.as_deref(), !self.calls.is_empty(), self.continuation.is_some())
    }

    /// What the model needs back: all its parts where it signed one, nothing otherwise. What it thought is kept to be read.
    fn blocks(&self) -> Vec<Opaque> {
        let mut call = 0;
        let mut block = |part: &Value| {
            let at = part.get("functionCall").is_some().then_some(call);
            call += u32::from(at.is_some());
            Opaque { form: Form::Gemini, model: Some(self.asked.clone()), call: at, block: part.clone() }
        };
        if self.signed {
            return self.parts.iter().map(&mut block).collect();
        }
        let is_thought = |part: &&Value| part.get("thought").is_some();
        self.parts.iter().filter(is_thought).map(|part| Opaque { model: None, ..block(part) }).collect()
    }

    /// What a pause needs back. What was thought comes back as input without its text, so it says how much that is; where
    /// nobody counted, all that could be put out.
    fn pause(&self, token: &Value, usage: Option<&Usage>) -> Box<Opaque> {
        let hidden = usage.map_or_else(|| Tokens(self.output_cap.into()), |usage| usage.reasoning);
        let block = json!({"continuationToken": token, "hiddenTokens": hidden});
        Box::new(Opaque { form: Form::Gemini, model: Some(self.asked.clone()), call: None, block })
    }
}

impl CallDraft {
    fn of(call: &Value) -> Self {
        let arguments = call.get("args").filter(|arguments| !arguments.is_null());
        Self {
            id: word(call.get("id")).unwrap_or_default(),
            name: word(call.get("name")).unwrap_or_default(),
            arguments: arguments.map_or_else(|| "{}".to_owned(), Value::to_string),
        }
    }

    fn finish(self, call_id: &str, position: usize) -> ToolCall {
        let id = if self.id.is_empty() { format!("{call_id}_{position}") } else { self.id };
        ToolCall { id, name: ToolName::from(self.name), arguments: self.arguments }
    }
}

/// True of two pieces of one text: neither is signed, and both are thoughts or both aren't.
fn joins(last: &Value, part: &Value) -> bool {
    let is_text = |part: &Value| {
        part.get("text").is_some_and(Value::is_string)
            && part.as_object().is_some_and(|fields| fields.keys().all(|key| key == "text" || key == "thought"))
    };
    is_text(last) && is_text(part) && last.get("thought") == part.get("thought")
}

fn first_candidate(document: &Value) -> Option<&Value> {
    let candidates = document.get("candidates").and_then(Value::as_array)?;
    candidates.iter().find(|candidate| candidate.get("index").and_then(Value::as_u64).unwrap_or(0) == 0)
}

/// A text that says something, at most so long; a signature's is only looked at.
fn word(value: Option<&Value>) -> Option<String> {
    let text = value.and_then(Value::as_str).filter(|text| !text.is_empty())?;
    Some(text.chars().take(NAME_CHARS_MAX).collect())
}

/// Why the model stopped (`google-genai` 3.4.0, `FinishReason`). Calls of functions end with `STOP`.
fn stop_reason(finish: Option<&str>, has_calls: bool, can_go_on: bool) -> StopReason {
    match finish {
        Some("STOP") if has_calls => StopReason::ToolCalls,
        Some("STOP") => StopReason::End,
        Some("MAX_TOKENS") => StopReason::Length,
        Some(
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "MODEL_ARMOR"
            | "ESCALATION"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION",
        ) => StopReason::ContentFilter,
        Some("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MALFORMED_RESPONSE") => {
            StopReason::Malformed
        }
        Some("CONTINUATION") if can_go_on => StopReason::Paused,
        Some(word) => StopReason::Unknown(word.to_owned()),
        None => StopReason::Unknown("missing".to_owned()),
    }
}

/// The tier that was charged: Vertex says it as the kind of traffic, the Gemini API by its name. A word that has no rates
/// makes the cost unknown.
fn service_tier(raw: &Value) -> Option<String> {
    let tier = word(raw.get("trafficType")).or_else(|| word(raw.get("serviceTier")))?;
    Some(match tier.as_str() {
        "ON_DEMAND" | "unspecified" => "standard".to_owned(),
        "ON_DEMAND_PRIORITY" => "priority".to_owned(),
        "ON_DEMAND_FLEX" => "flex".to_owned(),
        other => other.to_ascii_lowercase(),
    })
}

/// The model that answered, without a path, and without the number of the asked model's own version (`-001`).
fn plain_model(answering: &str, asked: &str) -> String {
    let name = answering.rsplit('/').next().unwrap_or(answering);
    let version = name.strip_prefix(asked).and_then(|rest| rest.strip_prefix('-'));
    let is_version = version.is_some_and(|text| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()));
    if is_version { asked.to_owned() } else { name.to_owned() }
}

/// Usage in disjoint classes (PROVIDERS §5, §8): cached tokens are part of the prompt, thoughts stand beside the candidates,
/// and what tools brought in stands beside the prompt. `None` for what can't be read, or has no prompt.
pub(super) fn usage(raw: &Value) -> Option<Tally> {
    let count = |field: &str| believed(raw.get(field)).ok();
    let prompt = count("promptTokenCount")?.filter(|prompt| *prompt != Tokens::ZERO)?;
    let cached = count("cachedContentTokenCount")?.unwrap_or_default();
    let candidates = count("candidatesTokenCount")?.unwrap_or_default();
    let thoughts = count("thoughtsTokenCount")?.unwrap_or_default();
    let tools = count("toolUsePromptTokenCount")?.unwrap_or_default();
    let total = count("totalTokenCount")?;
    let mut tally = Tally::default();
    let cached = tally.part("cachedContentTokenCount", cached, prompt);
    // In some replies the thoughts are counted among the candidates already: the total tells.
    let inside = total == Some(prompt.plus(tools).plus(candidates));
    let output = if inside { candidates } else { candidates.plus(thoughts) };
    let reasoning = tally.part("thoughtsTokenCount", thoughts, output);
    let input = tally.rest("promptTokenCount", prompt, &[cached]).plus(tools);
    tally.usage = Usage { input, cache_read: cached, output, reasoning, ..Usage::default() };
    tally.hold_against("totalTokenCount", total);
    Some(tally)
}
