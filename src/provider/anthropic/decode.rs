//! From messages, whole or in pieces, to a reply with usage in disjoint classes.
//!
//! Invariants: usage that can't be believed is none, never zero; the output count that opens a stream is a placeholder and
//! counts for nothing; the raw usage is kept beside what was made of it; words that we don't know are kept as they are.
//! Both forms of an answer go through one [`Draft`], so that they mean the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::errors;
use super::usage;
use crate::domain::message::{Assistant, Form, Opaque, Reply, StopReason, ToolCall};
use crate::domain::pricing::Usage;
use crate::ids::{ModelName, ToolName};
use crate::provider::CALLS_MAX;
use crate::provider::fault::Broken;

/// The most content blocks of one answer that are kept in memory.
pub(super) const BLOCKS_MAX: usize = 4 * CALLS_MAX;
/// The longest name or id that is taken from a provider.
const NAME_CHARS_MAX: usize = 256;
/// Kinds of refusals that cost nothing before any output, by PROVIDERS §3. One that isn't named here, nor by the provider as
/// billed, is taken for billed.
const FREE_REFUSALS: [&str; 2] = ["cyber", "general_harms"];

/// How a reply is read: what its request decides.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Who was asked, which blocks are given back to.
    pub(super) model: ModelName,
    /// The beginning of ids of calls that come without one.
    pub(super) call_id: String,
    /// The tool whose arguments are the answer.
    pub(super) answer_tool: Option<String>,
    /// The request asked to be kept for the longer time.
    pub(super) asks_long: bool,
    /// Some refusals before any output aren't billed here.
    pub(super) frees_refusals: bool,
}

/// Reads a whole answer.
pub(super) fn whole(reading: &Reading, body: &[u8]) -> Result<Reply, Broken> {
    let document: Value = serde_json::from_slice(body).map_err(|error| Broken::Garbage(format!("no JSON: {error}")))?;
    if !document.is_object() {
        return Err(Broken::Garbage("JSON, but no object".to_owned()));
    }
    if document.get("error").is_some_and(|error| !error.is_null()) {
        return Err(Broken::Told(Box::new(errors::told(body))));
    }
    let mut draft = Draft::default();
    draft.open(&document);
    let content = document.get("content").and_then(Value::as_array);
    for (index, block) in (0..).zip(content.into_iter().flatten()) {
        draft.begin(index, block)?;
    }
    draft.close(&document);
    draft.end_usage();
    if content.is_none() && draft.usage.is_empty() {
        return Err(Broken::Garbage("JSON without `content`".to_owned()));
    }
    Ok(draft.reply(reading))
}

/// One content block so far.
#[derive(Debug)]
enum Block {
    Text(String),
    Call {
        id: String,
        name: String,
        input: String,
    },
    /// What only the provider understands, with the pieces of its input that came behind it.
    Opaque {
        block: Value,
        input: String,
    },
}

/// An answer so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    blocks: BTreeMap<u64, Block>,
    stop: Option<String>,
    stop_details: Value,
    usage: Map<String, Value>,
    /// The output count is that of the whole answer.
    usage_is_last: bool,
    model: Option<String>,
    id: Option<String>,
}

impl Draft {
    /// Takes in what opens an answer: who answers, and the first usage.
    pub(super) fn open(&mut self, message: &Value) {
        for (field, kept) in [("model", &mut self.model), ("id", &mut self.id)] {
            let text = message.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            *kept = text.map(clipped).or(kept.take());
        }
        self.add_usage(message.get("usage"));
    }

    /// Takes in what closes it: why it ended, and usage that stands over what came before.
    pub(super) fn close(&mut self, message: &Value) {
        if let Some(word) = message.get("stop_reason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            self.stop = Some(clipped(word));
        }
        if let Some(details) = message.get("stop_details").filter(|details| details.is_object()) {
            self.stop_details = details.clone();
        }
    }

    /// Counts are cumulative: what comes later stands over what came before, and what is null says nothing.
    pub(super) fn add_usage(&mut self, usage: Option<&Value>) {
        for (field, value) in
            usage.and_then(Value::as_object).into_iter().flatten().filter(|(_, value)| !value.is_null())
        {
            self.usage.insert(field.clone(), value.clone());
        }
    }

    /// From here on the output count is that of the whole answer.
    pub(super) const fn end_usage(&mut self) {
        self.usage_is_last = true;
    }

    /// Begins a block; gives its text, if it comes with some.
    pub(super) fn begin(&mut self, index: u64, block: &Value) -> Result<String, Broken> {
        if self.blocks.len() >= BLOCKS_MAX {
            return Err(Broken::Garbage(format!("more than {BLOCKS_MAX} content blocks")));
        }
        let text = |field: &str| block.get(field).and_then(Value::as_str).unwrap_or_default();
        let begun = match text("type") {
            "text" => Block::Text(text("text").to_owned()),
            "tool_use" => {
                let given = block.get("input").filter(|input| input.as_object().is_some_and(|input| !input.is_empty()));
                let input = given.map(Value::to_string).unwrap_or_default();
                Block::Call { id: clipped(text("id")), name: clipped(text("name")), input }
            }
            _ => Block::Opaque { block: block.clone(), input: String::new() },
        };
        let said = if let Block::Text(text) = &begun { text.clone() } else { String::new() };
        self.blocks.insert(index, begun);
        Ok(said)
    }

    /// Adds a piece to a block; gives the text in it.
    pub(super) fn add(&mut self, index: u64, delta: &Value) -> Result<String, Broken> {
        let Some(block) = self.blocks.get_mut(&index) else {
            return Err(Broken::Garbage(format!("a piece of block {index}, which never began")));
        };
        let piece = |field: &str| delta.get(field).and_then(Value::as_str).unwrap_or_default();
        match block {
            Block::Text(text) => {
                text.push_str(piece("text"));
                return Ok(piece("text").to_owned());
            }
            Block::Call { input, .. } => input.push_str(piece("partial_json")),
            Block::Opaque { block, input } => {
                for field in ["thinking", "signature"] {
                    append(block, field, piece(field));
                }
                input.push_str(piece("partial_json"));
            }
        }
        Ok(String::new())
    }

    /// True once the answer says why it ended.
    pub(super) const fn is_finished(&self) -> bool {
        self.stop.is_some()
    }

    /// True once usage of the whole answer is there.
    pub(super) fn has_last_usage(&self) -> bool {
        self.usage_is_last && self.usage.contains_key("output_tokens")
    }

    /// True once any output was seen.
    pub(super) fn output_seen(&self) -> bool {
        self.blocks.values().any(|block| match block {
            Block::Text(text) => !text.is_empty(),
            Block::Call { .. } | Block::Opaque { .. } => true,
        })
    }

    /// True of usage that counts all of the answer and can be believed.
    pub(super) fn is_counted(&self, reading: &Reading) -> bool {
        self.has_last_usage() && usage::tally(&self.usage, reading.asks_long).is_some()
    }

    /// The reply, whatever is missing of it.
    pub(super) fn reply(self, reading: &Reading) -> Reply {
        let refused = self.stop.as_deref() == Some("refusal");
        let unbilled = refused && reading.frees_refusals && !self.output_seen() && is_free(&self.stop_details);
        let tally = if self.has_last_usage() { usage::tally(&self.usage, reading.asks_long) } else { None };
        let (usage, mismatch) = match tally {
            // The counts are there, and nothing is charged for them.
            Some(_) if unbilled => (Some(Usage::default()), None),
            Some(tally) => (Some(tally.usage), tally.mismatch),
            None => (None, None),
        };
        let said = Said::of(self.blocks, reading, self.stop.as_deref());
        let stop = stop_reason(self.stop.as_deref(), !said.message.calls.is_empty(), said.answered);
        let words = self.stop_details.get("explanation").and_then(Value::as_str).filter(|text| !text.is_empty());
        let refusal = refused.then(|| words.unwrap_or("the model declined").to_owned());
        Reply {
            message: Assistant { refusal, ..said.message },
            stop,
            usage,
            mismatch,
            charged: None,
            response_model: self.model,
            service_tier: self.usage.get("service_tier").and_then(Value::as_str).map(clipped),
            factors: usage::factors(&self.usage),
            raw_usage: (!self.usage.is_empty()).then_some(Value::Object(self.usage)),
            request_id: None,
            response_id: self.id,
        }
    }
}

/// What was said, in our order.
struct Said {
    message: Assistant,
    /// The answer came as the arguments of a tool.
    answered: bool,
}

impl Said {
    fn of(blocks: BTreeMap<u64, Block>, reading: &Reading, stop: Option<&str>) -> Self {
        let whole: Vec<Value> = blocks.values().map(Block::shown).collect();
        let mut said = Self { message: Assistant::default(), answered: false };
        let (mut ordered, mut text_open) = (true, true);
        for block in blocks.into_values() {
            let message = &mut said.message;
            match block {
                Block::Text(text) => {
                    ordered &= text_open && message.calls.is_empty();
                    message.text.push_str(&text);
                }
                Block::Call { name, input, .. } if reading.answer_tool.as_ref() == Some(&name) => {
                    message.text.push_str(&input);
                    said.answered = true;
                }
                Block::Call { id, name, input } => {
                    let id = if id.is_empty() { format!("{}_{}", reading.call_id, message.calls.len()) } else { id };
                    let arguments = if input.trim().is_empty() { "{}".to_owned() } else { input };
                    message.calls.push(ToolCall { id, name: ToolName::from(name), arguments });
                }
                Block::Opaque { block, input } => {
                    let before_all = message.text.is_empty() && message.calls.is_empty();
                    text_open &= before_all;
                    let call = u32::try_from(message.calls.len()).ok().filter(|_| !before_all);
                    message.reasoning.push(reading.opaque(with_input(block, &input), call));
                }
            }
        }
        // What our order can't tell is kept as it came, and so is what the provider will go on with.
        if !said.message.reasoning.is_empty() && !said.answered && (!ordered || stop == Some("pause_turn")) {
            said.message.continuation = Some(Box::new(reading.opaque(whole.into(), None)));
            said.message.reasoning.clear();
        }
        said
    }
}

impl Reading {
    fn opaque(&self, block: Value, call: Option<u32>) -> Opaque {
        Opaque { form: Form::Anthropic, model: Some(self.model.clone()), call, block }
    }
}

impl Block {
    /// The block as it goes back.
    fn shown(&self) -> Value {
        match self {
            Self::Text(text) => serde_json::json!({"type": "text", "text": text}),
            Self::Call { id, name, input } => {
                let block = serde_json::json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                with_input(block, input)
            }
            Self::Opaque { block, input } => with_input(block.clone(), input),
        }
    }
}

/// A block whose input came in pieces.
fn with_input(mut block: Value, input: &str) -> Value {
    if let Ok(input) = serde_json::from_str::<Value>(input) {
        block["input"] = input;
    }
    block
}

fn append(block: &mut Value, field: &str, piece: &str) {
    if piece.is_empty() {
        return;
    }
    let before = block.get(field).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{before}{piece}");
    if let Some(fields) = block.as_object_mut() {
        fields.insert(field.to_owned(), text.into());
    }
}

/// Since 2026-09-24 a refusal before any output is billed in three categories only (PROVIDERS §3, two mirrored copies of
/// the provider's page); one whose category is new to us is taken for billed.
fn is_free(details: &Value) -> bool {
    match details.get("category") {
        None | Some(Value::Null) => true,
        Some(category) => category.as_str().is_some_and(|category| FREE_REFUSALS.contains(&category)),
    }
}

fn stop_reason(word: Option<&str>, calls: bool, answered: bool) -> StopReason {
    match word {
        Some("tool_use") if answered && !calls => StopReason::End,
        Some("end_turn" | "stop_sequence") if calls => StopReason::ToolCalls,
        Some("end_turn" | "stop_sequence") => StopReason::End,
        Some("max_tokens") => StopReason::Length,
        Some("tool_use") => StopReason::ToolCalls,
        Some("pause_turn") => StopReason::Paused,
        Some("refusal") => StopReason::Refusal,
        Some("model_context_window_exceeded") => StopReason::ContextFull,
        Some(word) => StopReason::Unknown(word.to_owned()),
        None => StopReason::Unknown("missing".to_owned()),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}
