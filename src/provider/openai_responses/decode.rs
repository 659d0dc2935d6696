//! From a response object to a reply with usage in disjoint classes.
//!
//! Invariants: usage that can't be believed is none, never zero; the raw usage is kept beside it; words and items that we
//! don't know are kept as they are.

use serde_json::{Value, json};

use crate::domain::message::{Assistant, Form, Opaque, Reply, StopReason, ToolCall};
use crate::domain::pricing::{Factors, Fee, Fees, believed};
use crate::ids::{ModelName, ToolName};
use crate::provider::fault::Broken;
use crate::provider::openai::usage::{RESPONSES, usage};
use crate::provider::openai::{CALLS_MAX, at, name, text};
use crate::provider::told::Told;

/// Reads a whole answer of `model`. `call_id` begins the ids of tool calls that come without one.
pub(super) fn whole(body: &[u8], model: &ModelName, call_id: &str) -> Result<Reply, Broken> {
    let document: Value = serde_json::from_slice(body).map_err(|error| Broken::Garbage(format!("no JSON: {error}")))?;
    reply(&document, &[], model, call_id)
}

/// The error that a document is or holds.
pub(super) fn error(document: &Value) -> Option<Broken> {
    let told = |error: &Value| Told::of(&json!({"error": error})).unwrap_or_default();
    let failed = document.get("status").and_then(Value::as_str) == Some("failed");
    match document.get("error").filter(|error| !error.is_null()) {
        Some(error) => Some(Broken::Told(Box::new(told(error)))),
        None if failed => Some(Broken::Told(Box::new(told(&json!({"message": "it failed, without a word of why"}))))),
        None => None,
    }
}

/// The reply of a response object. `items` are those that a stream gave one by one, for servers whose last event has none.
pub(super) fn reply(response: &Value, items: &[Value], model: &ModelName, call_id: &str) -> Result<Reply, Broken> {
    if !response.is_object() {
        return Err(Broken::Garbage("JSON, but no object".to_owned()));
    }
    if let Some(error) = error(response) {
        return Err(error);
    }
    let status = response.get("status").and_then(Value::as_str).unwrap_or_default();
    if matches!(status, "in_progress" | "queued") {
        return Err(Broken::Garbage(format!("a response that is still `{status}`")));
    }
    let told = response.get("output").and_then(Value::as_array);
    let counts = response.get("usage").filter(|usage| usage.is_object());
    if told.is_none() && items.is_empty() && counts.is_none() {
        return Err(Broken::Garbage("JSON without `output`".to_owned()));
    }
    let mut draft = Draft::default();
    for item in told.filter(|output| !output.is_empty()).map_or(items, Vec::as_slice) {
        draft.absorb(item, model, call_id)?;
    }
    let beside = response.get("tool_usage").filter(|used| !used.is_null());
    let tally = counts.and_then(|raw| usage(raw, &RESPONSES)).map(|mut tally| {
        tally.usage.fees = fees(beside);
        tally
    });
    let (usage, mismatch) = tally.map_or((None, None), |tally| (Some(tally.usage), tally.mismatch));
    let reason = at(response, &["incomplete_details", "reason"]).and_then(Value::as_str);
    Ok(Reply {
        stop: stop_reason(status, reason, &draft),
        message: draft.message(),
        usage,
        mismatch,
        charged: None,
        raw_usage: raw_usage(counts, beside),
        response_model: name(response.get("model")),
        service_tier: name(response.get("service_tier")),
        factors: Factors::NONE,
        request_id: None,
        response_id: name(response.get("id")),
    })
}

/// The usage as it came; what tools of the provider's own used stands beside it on the wire, and is put in.
fn raw_usage(counts: Option<&Value>, beside: Option<&Value>) -> Option<Value> {
    let mut raw = counts.cloned();
    if let (Some(Value::Object(raw)), Some(beside)) = (&mut raw, beside) {
        raw.insert("tool_usage".to_owned(), beside.clone());
    }
    raw
}

/// Why it stopped, by its status; words that we don't know are kept.
fn stop_reason(status: &str, reason: Option<&str>, draft: &Draft) -> StopReason {
    match (status, reason) {
        ("completed", _) if !draft.calls.is_empty() => StopReason::ToolCalls,
        ("completed", _) if !draft.refusal.is_empty() => StopReason::Refusal,
        ("completed", _) => StopReason::End,
        ("incomplete", Some("max_output_tokens")) => StopReason::Length,
        ("incomplete", Some("content_filter")) => StopReason::ContentFilter,
        // `max_messages`, `steered`, and whatever comes to be.
        ("incomplete", Some(reason)) => StopReason::Unknown(reason.chars().take(64).collect()),
        ("", _) => StopReason::Unknown("missing".to_owned()),
        // `cancelled`, and whatever comes to be.
        (status, _) => StopReason::Unknown(status.chars().take(64).collect()),
    }
}

/// What is billed beside tokens: searches, where they were asked for. A unit that we don't know has never a price.
fn fees(beside: Option<&Value>) -> Fees {
    let used = beside.and_then(Value::as_object).into_iter().flatten();
    used.fold(Fees::NONE, |fees, (tool, used)| match (tool.as_str(), believed(used.get("num_requests"))) {
        ("web_search", Ok(Some(count))) => {
            fees.plus(Fees::NONE.with(Fee::WebSearch, u32::try_from(count.0).unwrap_or(u32::MAX)))
        }
        _ if is_nothing(used) => fees,
        _ => fees.plus(Fees::NONE.with(Fee::Other, 1)),
    })
}

/// True of what counts nothing: null, 0, and what holds only such.
fn is_nothing(used: &Value) -> bool {
    match used {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(list) => list.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

/// What was said so far.
#[derive(Debug, Default)]
struct Draft {
    text: String,
    refusal: String,
    calls: Vec<ToolCall>,
    blocks: Vec<Opaque>,
}

impl Draft {
    fn absorb(&mut self, item: &Value, model: &ModelName, call_id: &str) -> Result<(), Broken> {
        match item.get("type").and_then(Value::as_str) {
            Some("message") => self.absorb_message(item),
            Some("function_call") => self.absorb_call(item, call_id)?,
            Some("reasoning") => self.absorb_reasoning(item, model),
            Some("web_search_call") => self.absorb_search(item, model),
            // Items of tools that nobody offered, and whatever comes to be.
            Some(_) | None => self.keep(item),
        }
        Ok(())
    }

    /// Several messages are paragraphs of one text.
    fn absorb_message(&mut self, item: &Value) {
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
            match part.get("type").and_then(Value::as_str) {
                Some("output_text") => self.text.push_str(text(part.get("text"))),
                Some("refusal") => self.refusal.push_str(text(part.get("refusal"))),
                Some(_) | None => self.keep(part),
            }
        }
    }

    /// Arguments stay as they were written, JSON or not; none at all are an empty object.
    fn absorb_call(&mut self, item: &Value, call_id: &str) -> Result<(), Broken> {
        if self.calls.len() == CALLS_MAX {
            return Err(Broken::Garbage(format!("more than {CALLS_MAX} tool calls")));
        }
        let id = name(item.get("call_id")).or_else(|| name(item.get("id")));
        let id = id.unwrap_or_else(|| format!("{call_id}_{}", self.calls.len()));
        let arguments = text(item.get("arguments"));
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments }.to_owned();
        self.calls.push(ToolCall { id, name: ToolName::from(name(item.get("name")).unwrap_or_default()), arguments });
        Ok(())
    }

    /// Goes back unchanged where it can: what isn't encrypted is known by its id only, at a provider that keeps nothing.
    fn absorb_reasoning(&mut self, item: &Value, model: &ModelName) {
        let model = Some(model.clone()).filter(|_| !text(item.get("encrypted_content")).is_empty());
        self.blocks.push(Opaque { form: Form::OpenAiResponses, model, call: self.place(), block: item.clone() });
    }

    /// A search of the provider's own goes back too: the reasoning before it can't stand without it.
    fn absorb_search(&mut self, item: &Value, model: &ModelName) {
        let (model, call) = (Some(model.clone()), self.place());
        self.blocks.push(Opaque { form: Form::OpenAiResponses, model, call, block: item.clone() });
    }

    /// Kept to be read, never given back.
    fn keep(&mut self, block: &Value) {
        self.blocks.push(Opaque { form: Form::OpenAiResponses, model: None, call: self.place(), block: block.clone() });
    }

    /// Where a block stands that comes now: before the text, or before the next call.
    fn place(&self) -> Option<u32> {
        let nothing_yet = self.text.is_empty() && self.refusal.is_empty() && self.calls.is_empty();
        if nothing_yet { None } else { u32::try_from(self.calls.len()).ok() }
    }

    /// What was said. Reasoning that led to nothing, in an answer that was cut short, can't go back: the wire asks for what
    /// it led to behind it.
    fn message(self) -> Assistant {
        let next = self.place();
        let mut blocks = self.blocks;
        for block in blocks.iter_mut().filter(|block| block.call == next) {
            block.model = None;
        }
        Assistant {
            text: self.text,
            refusal: Some(self.refusal).filter(|words| !words.is_empty()),
            calls: self.calls,
            reasoning: blocks,
            continuation: None,
        }
    }
}
