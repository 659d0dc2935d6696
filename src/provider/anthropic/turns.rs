//! Messages as this wire has them: content blocks, joined into turns that a user and the model take by turns.
//!
//! Each message is encoded once as its blocks; whose turn they belong to is decided when a request is put together, since
//! all answers to one turn of calls stand in one turn. Blocks that the model gave are given back to it unchanged.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::domain::message::{Assistant, CacheMarks, CacheTtl, Form, Message, Request, Sent};
use crate::ids::ModelName;

/// Stands where a text has no character that is seen: the wire refuses such blocks.
const NOTHING: &str = "(empty)";

/// The system text, and the turns, each as JSON text.
pub(super) struct Turns {
    pub(super) system: String,
    pub(super) messages: String,
}

/// Who has a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    User,
    Assistant,
}

impl Turns {
    /// Of a request; `asked` is more of the system text.
    pub(super) fn of(request: &Request, asked: Option<String>) -> Self {
        let is_system = |sent: &&Sent| matches!(&***sent, Message::System { .. });
        let leading = request.messages.iter().take_while(is_system).count();
        let blocks = |index: usize| request.messages.get(index).map(|sent| blocks_of(sent, index, request));
        let mut system: Vec<_> = (0..leading).filter_map(blocks).collect();
        system.extend(asked.map(|text| Cow::Owned(json!({"type": "text", "text": text}).to_string())));
        let mut turns = Joined::default();
        for (index, sent) in request.messages.iter().enumerate().skip(leading) {
            let side = if matches!(&**sent, Message::Assistant(_)) { Side::Assistant } else { Side::User };
            turns.add(side, &blocks_of(sent, index, request));
        }
        Self { system: system.join(","), messages: turns.end() }
    }
}

/// Turns on their way.
#[derive(Default)]
struct Joined {
    text: String,
    last: Option<Side>,
}

impl Joined {
    fn add(&mut self, side: Side, blocks: &str) {
        if self.last.is_none() && side == Side::Assistant {
            // The first turn is a user's.
            self.add(Side::User, &json!({"type": "text", "text": NOTHING}).to_string());
        }
        if self.last == Some(side) {
            self.text.push(',');
        } else {
            self.text.push_str(if self.last.is_some() { "]}," } else { "" });
            let role = if side == Side::User { "user" } else { "assistant" };
            self.text.push_str(&format!(r#"{{"role":"{role}","content":["#));
            self.last = Some(side);
        }
        self.text.push_str(blocks);
    }

    fn end(mut self) -> String {
        if self.last.is_some() {
            self.text.push_str("]}");
        }
        self.text
    }
}

/// A message's blocks, encoded when it first goes out; with a mark they are encoded for themselves.
fn blocks_of<'a>(sent: &'a Sent, index: usize, request: &Request) -> Cow<'a, str> {
    let marked = request.cache.as_ref().filter(|marks| marks.after_message(index));
    match marked {
        Some(marks) => Cow::Owned(joined(marked_blocks(blocks(sent, &request.model), marks))),
        None => sent.fragment(Form::Anthropic, &request.model, |message| {
            joined(blocks(message, &request.model)).into_boxed_str()
        }),
    }
}

fn joined(blocks: Vec<Value>) -> String {
    blocks.iter().map(Value::to_string).collect::<Vec<_>>().join(",")
}

/// Marks the last block that takes a mark.
fn marked_blocks(mut blocks: Vec<Value>, marks: &CacheMarks) -> Vec<Value> {
    let takes = |block: &&mut Value| block["type"] != "thinking" && block["type"] != "redacted_thinking";
    if let Some(fields) = blocks.iter_mut().rev().find(takes).and_then(Value::as_object_mut) {
        fields.insert("cache_control".to_owned(), mark(marks.ttl));
    }
    blocks
}

/// A mark: what comes before it is kept so long.
pub(super) fn mark(ttl: CacheTtl) -> Value {
    match ttl {
        CacheTtl::Short => json!({"type": "ephemeral", "ttl": "5m"}),
        CacheTtl::Long => json!({"type": "ephemeral", "ttl": "1h"}),
    }
}

fn blocks(message: &Message, model: &ModelName) -> Vec<Value> {
    match message {
        Message::System { text } | Message::User { text } => vec![text_block(text)],
        Message::File(file) => {
            let source = json!({"type": "base64", "media_type": file.media().name(), "data": file.data()});
            vec![match file.media().is_image() {
                true => json!({"type": "image", "source": source}),
                false => json!({"type": "document", "source": source, "title": file.name()}),
            }]
        }
        Message::Assistant(said) => assistant_blocks(said, model),
        Message::Tool(answer) => {
            let mut block =
                json!({"type": "tool_result", "tool_use_id": name(&answer.call_id), "content": answer.content});
            if answer.is_error {
                block["is_error"] = true.into();
            }
            vec![block]
        }
    }
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": if text.trim().is_empty() { NOTHING } else { text }})
}

/// What the model said, in its order: blocks before the text, the text, then each call behind the blocks before it.
fn assistant_blocks(said: &Assistant, model: &ModelName) -> Vec<Value> {
    let whole = said.continuation.as_deref().filter(|whole| whole.is_for(Form::Anthropic, model));
    if let Some(Value::Array(blocks)) = whole.map(|whole| &whole.block) {
        return blocks.clone();
    }
    let returned = |call: Option<u32>| {
        let here = said.returned_to(Form::Anthropic, model).filter(move |opaque| opaque.call == call);
        here.map(|opaque| opaque.block.clone())
    };
    let mut blocks: Vec<Value> = returned(None).collect();
    let text = if said.text.trim().is_empty() { said.refusal.as_deref().unwrap_or_default() } else { &said.text };
    if !text.trim().is_empty() {
        blocks.push(text_block(text));
    }
    for (place, call) in (0..).zip(&said.calls) {
        blocks.extend(returned(Some(place)));
        blocks.push(json!({"type": "tool_use", "id": name(&call.id), "name": name(call.name.as_str()),
            "input": input(&call.arguments)}));
    }
    blocks
        .extend(returned(u32::try_from(said.calls.len()).ok()).filter(|_| !said.calls.is_empty() || !text.is_empty()));
    if blocks.is_empty() { vec![text_block("")] } else { blocks }
}

/// Arguments as the object that the wire asks for; those that are none go back as the model wrote them, in a field.
fn input(arguments: &str) -> Value {
    let parsed = serde_json::from_str::<Value>(arguments).ok().filter(Value::is_object);
    parsed.unwrap_or_else(|| json!({"arguments": arguments}))
}

/// An id or name in the characters that the wire takes: other wires' models choose freely.
fn name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}
