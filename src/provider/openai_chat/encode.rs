//! From a provider-neutral request to the body of a chat completion.
//!
//! Invariants: the same request gives the same bytes; the output is capped; nothing that decides the price is left to
//! the author's `extra` fields.
//! Deliberately absent: `n` and `store` (never sent), and reasoning of earlier turns (this wire has no place for it).

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Value, json};

use crate::domain::message::{
    Assistant, File, Form, Message, Request, Sent, ToolAnswer, ToolCall, ToolChoice, ToolDefinition,
};
use crate::ids::ModelName;
use crate::provider::openai::{BREAKPOINT, forbids_cache_writes, joined, marks, strict};
use crate::provider::{ProviderError, check_files};
use crate::spec::project::{OutputCapField, ProviderConfig};

/// Fields that decide what a call costs, or what it is a bound of. `extra` may not name them.
const OWN_FIELDS: &[&str] = &[
    // What is asked, of whom.
    "model",
    "models",
    "messages",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "stream",
    "stream_options",
    "store",
    "background",
    // How much may come back, and how often.
    "n",
    "best_of",
    "use_beam_search",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "n_predict",
    // What a token costs, and what is billed beside tokens.
    "service_tier",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prediction",
    "modalities",
    "audio",
    "web_search_options",
    "plugins",
];

/// The body of a request, as it goes out.
///
/// # Errors
/// Where `extra` names a field that isn't the author's to set.
pub(in crate::provider) fn encode(config: &ProviderConfig, request: &Request) -> Result<Vec<u8>, ProviderError> {
    if let Some(field) = request.sampling.extra.keys().find(|field| is_taken(request, field)) {
        return Err(ProviderError::ExtraField { model: request.model.clone(), field: field.clone() });
    }
    check_files(config, request)?;
    let rest = serde_json::to_vec(&Body { config, request }).expect("a request has string keys only");
    let fragments = fragments(config, request);
    Ok(joined(request.model.model(), "messages", &fragments, &rest))
}

/// True of a field that decides the price, and of one that the agent file sets by its own key.
fn is_taken(request: &Request, field: &str) -> bool {
    let sampling = &request.sampling;
    OWN_FIELDS.contains(&field)
        || match field {
            "temperature" => sampling.temperature.is_some(),
            "seed" => sampling.seed.is_some(),
            "stop" => !sampling.stop.is_empty(),
            "reasoning_effort" => sampling.reasoning.is_some(),
            "parallel_tool_calls" => !request.parallel_calls,
            _ => false,
        }
}

/// All but the model and the messages; never empty.
struct Body<'a> {
    config: &'a ProviderConfig,
    request: &'a Request,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.tools(&mut map)?;
        self.output(&mut map)?;
        self.sampling(&mut map)?;
        self.price(&mut map)?;
        self.stream(&mut map)?;
        for (field, value) in &self.request.sampling.extra {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

impl Body<'_> {
    fn tools<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if self.request.tools.is_empty() {
            return Ok(());
        }
        map.serialize_entry("tools", &Tools(&self.request.tools))?;
        let choice = match &self.request.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
            ToolChoice::None => json!("none"),
        };
        map.serialize_entry("tool_choice", &choice)?;
        if !self.request.parallel_calls {
            map.serialize_entry("parallel_tool_calls", &false)?;
        }
        Ok(())
    }

    fn output<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(output) = &self.request.output {
            let strict = strict::is_strict(&output.schema);
            let format = json!({"name": output.name, "schema": output.schema, "strict": strict});
            map.serialize_entry("response_format", &json!({"type": "json_schema", "json_schema": format}))?;
        }
        let field = match self.config.quirks.output_cap_field {
            OutputCapField::MaxCompletionTokens => "max_completion_tokens",
            OutputCapField::MaxTokens => "max_tokens",
        };
        map.serialize_entry(field, &self.request.max_output_tokens)
    }

    fn sampling<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let sampling = &self.request.sampling;
        if let Some(temperature) = &sampling.temperature {
            map.serialize_entry("temperature", temperature)?;
        }
        if let Some(seed) = sampling.seed {
            map.serialize_entry("seed", &seed)?;
        }
        if !sampling.stop.is_empty() {
            map.serialize_entry("stop", &sampling.stop)?;
        }
        if let Some(effort) = &sampling.reasoning {
            map.serialize_entry("reasoning_effort", effort)?;
        }
        Ok(())
    }

    fn price<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if self.config.quirks.pin_service_tier {
            map.serialize_entry("service_tier", "default")?;
        }
        if forbids_cache_writes(self.config, self.request) {
            map.serialize_entry("prompt_cache_options", &json!({"mode": "explicit"}))?;
        }
        Ok(())
    }

    fn stream<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if !self.request.stream {
            return Ok(());
        }
        map.serialize_entry("stream", &true)?;
        if self.config.quirks.stream_usage {
            map.serialize_entry("stream_options", &json!({"include_usage": true}))?;
        }
        Ok(())
    }
}

/// A message as the wire has it, encoded when it first goes out.
fn fragment_of<'a>(message: &'a Sent, model: &ModelName) -> Cow<'a, str> {
    message.fragment(Form::OpenAiChat, model, |message| encoded(message).into_boxed_str())
}

/// The messages, with those of a user that follow each other as one: many servers' templates take no two of a role in a row.
fn fragments<'a>(config: &ProviderConfig, request: &'a Request) -> Vec<Cow<'a, str>> {
    let is_users = |message: &Message| matches!(message, Message::User { .. } | Message::File(_));
    let ends = marks(config, request);
    let mut index = 0;
    let groups = request.messages.chunk_by(|one, next| is_users(one) && is_users(next));
    let one = |group: &'a [Sent]| {
        let is_marked = |at: usize| ends.is_some_and(|ends| ends.after_message(index + at));
        let fragment = match group {
            [message] if is_marked(0) => marked(message).map(Cow::Owned),
            [_] => None,
            several => Some(Cow::Owned(together(several, is_marked))),
        };
        index += group.len();
        fragment.or_else(|| group.first().map(|message| fragment_of(message, &request.model))).unwrap_or_default()
    };
    groups.map(one).collect()
}

/// What a user said in several messages, as one: a text where it is only that, else its parts.
fn together(messages: &[Sent], is_marked: impl Fn(usize) -> bool) -> String {
    let text = |message: &Sent| match &**message {
        Message::User { text } => Some(text.clone()),
        Message::File(_) | Message::System { .. } | Message::Assistant(_) | Message::Tool(_) => None,
    };
    let texts: Option<Vec<String>> = messages.iter().map(text).collect();
    let content = match texts {
        Some(texts) if !(0..messages.len()).any(&is_marked) => Value::from(texts.join("\n\n")),
        _ => messages.iter().enumerate().filter_map(|(at, message)| part(message, is_marked(at))).collect(),
    };
    json!({"role": "user", "content": content}).to_string()
}

/// A user's message as a part of one.
fn part(message: &Message, is_marked: bool) -> Option<Value> {
    match message {
        Message::User { text } if text.is_empty() => None,
        Message::User { text } if is_marked => Some(marked_part(text)),
        Message::User { text } => Some(json!({"type": "text", "text": text})),
        Message::File(file) => Some(file_part(file)),
        Message::System { .. } | Message::Assistant(_) | Message::Tool(_) => None,
    }
}

fn marked_part(text: &str) -> Value {
    json!({"type": "text", "text": text, BREAKPOINT: {"mode": "explicit"}})
}

/// A message with a mark at its end; `None` for those that have no place for one. Its tokens are the same without.
fn marked(message: &Message) -> Option<String> {
    let part = |text: &str| (!text.is_empty()).then(|| json!([marked_part(text)]));
    let marked = match message {
        Message::System { text } => json!({"role": "system", "content": part(text)?}),
        Message::User { text } => json!({"role": "user", "content": part(text)?}),
        Message::Tool(answer) => {
            json!({"role": "tool", "tool_call_id": answer.call_id, "content": part(&answer.content)?})
        }
        Message::File(_) | Message::Assistant(_) => return None,
    };
    Some(marked.to_string())
}

fn encoded(message: &Message) -> String {
    let text = match message {
        Message::System { text } => serde_json::to_string(&Plain { role: "system", content: text }),
        Message::User { text } => serde_json::to_string(&Plain { role: "user", content: text }),
        Message::File(file) => serde_json::to_string(&json!({"role": "user", "content": [file_part(file)]})),
        Message::Assistant(said) => serde_json::to_string(&AssistantBody::from(said)),
        Message::Tool(answer) => serde_json::to_string(&AnswerBody::from(answer)),
    };
    text.expect("a message has string keys only")
}

#[derive(Serialize)]
struct Plain<'a> {
    role: &'static str,
    content: &'a str,
}

/// An image with its detail pinned, which bounds what it counts (PROVIDERS §13), or a document.
fn file_part(file: &File) -> Value {
    if file.media().is_image() {
        json!({"type": "image_url", "image_url": {"url": file.data_url(), "detail": "high"}})
    } else {
        json!({"type": "file", "file": {"filename": file.name(), "file_data": file.data_url()}})
    }
}

#[derive(Serialize)]
struct AssistantBody<'a> {
    role: &'static str,
    /// Null only where there are calls: servers ask for one of the two.
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody<'a>>,
}

impl<'a> From<&'a Assistant> for AssistantBody<'a> {
    /// A refusal goes back as text: compatible servers don't know the field.
    fn from(said: &'a Assistant) -> Self {
        let text = if said.text.is_empty() { said.refusal.as_deref().unwrap_or_default() } else { &said.text };
        let content = Some(text).filter(|text| !text.is_empty() || said.calls.is_empty());
        Self { role: "assistant", content, tool_calls: said.calls.iter().map(CallBody::from).collect() }
    }
}

#[derive(Serialize)]
struct CallBody<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for CallBody<'a> {
    fn from(call: &'a ToolCall) -> Self {
        let function = CalledFunction { name: call.name.as_str(), arguments: &call.arguments };
        Self { id: &call.id, r#type: "function", function }
    }
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    role: &'static str,
    tool_call_id: &'a str,
    content: &'a str,
}

impl<'a> From<&'a ToolAnswer> for AnswerBody<'a> {
    fn from(answer: &'a ToolAnswer) -> Self {
        Self { role: "tool", tool_call_id: &answer.call_id, content: &answer.content }
    }
}

struct Tools<'a>(&'a [ToolDefinition]);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|tool| ToolBody {
            r#type: "function",
            function: DeclaredFunction {
                name: tool.name.as_str(),
                description: &tool.description,
                parameters: &tool.parameters,
            },
        }))
    }
}

#[derive(Serialize)]
struct ToolBody<'a> {
    r#type: &'static str,
    function: DeclaredFunction<'a>,
}

#[derive(Serialize)]
struct DeclaredFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}
