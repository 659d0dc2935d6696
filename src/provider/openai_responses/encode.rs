//! From a provider-neutral request to the body of a response.
//!
//! Invariants: the same request gives the same bytes; the output is capped; nothing that decides the price, or brings in
//! context from elsewhere, is left to the author's `extra` fields.
//! Reasoning goes back unchanged, in front of what it led to, to the model that said it.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::{Value, json};

use crate::domain::ability::Reasons;
use crate::domain::message::{Assistant, File, Form, Message, Opaque, Request, Sent, ToolChoice, ToolDefinition};
use crate::ids::ModelName;
use crate::provider::openai::{BREAKPOINT, forbids_cache_writes, fragments, joined, strict};
use crate::provider::{ProviderError, check_files};
use crate::spec::project::ProviderConfig;

/// Fields that decide what a call costs or what it is a bound of, and those that the runtime sets. `extra` may not name
/// them.
const OWN_FIELDS: &[&str] = &[
    // What is asked, of whom.
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "include",
    "stream",
    "stream_options",
    // Input that is not in the body, or that the server changes (PROVIDERS §2).
    "previous_response_id",
    "conversation",
    "prompt",
    "truncation",
    "context_management",
    // How much may come back, how often, and when.
    "max_output_tokens",
    "max_tool_calls",
    "background",
    "background_options",
    "store",
    "n",
    // What a token costs; `mode` of `reasoning` has a bill that nobody documents.
    "reasoning",
    "service_tier",
    "prompt_cache_options",
    "prompt_cache_retention",
    "modalities",
    "audio",
];

/// What makes reasoning come back in a form that can be handed on without being kept at the provider.
const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// The body of a request, as it goes out.
///
/// # Errors
/// Where `extra` names a field that isn't the author's to set, or the request asks for what this wire doesn't have.
pub(super) fn encode(config: &ProviderConfig, request: &Request) -> Result<Vec<u8>, ProviderError> {
    let sampling = &request.sampling;
    let taken = |field: &&String| {
        OWN_FIELDS.contains(&field.as_str()) || (*field == "temperature" && sampling.temperature.is_some())
    };
    if let Some(field) = sampling.extra.keys().find(taken) {
        return Err(ProviderError::ExtraField { model: request.model.clone(), field: field.clone() });
    }
    let absent = [("stop", !sampling.stop.is_empty()), ("seed", sampling.seed.is_some())];
    if let Some((setting, _)) = absent.into_iter().find(|(_, asked)| *asked) {
        return Err(ProviderError::Setting { model: request.model.clone(), setting, wire: config.wire.name() });
    }
    check_files(config, request)?;
    let rest = serde_json::to_vec(&Body { config, request }).expect("a request has string keys only");
    let fragments = fragments(config, request, marked, fragment);
    Ok(joined(request.model.model(), "input", &fragments, &rest))
}

/// All but the model and the input; never empty.
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
        if self.request.stream {
            map.serialize_entry("stream", &true)?;
        }
        for (field, value) in &self.request.sampling.extra {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

impl Body<'_> {
    fn tools<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(search) = self.request.web_search {
            map.serialize_entry("max_tool_calls", &search.max_uses)?;
        }
        if self.request.tools.is_empty() && self.request.web_search.is_none() {
            return Ok(());
        }
        map.serialize_entry("tools", &Tools { own: &self.request.tools, search: self.request.web_search.is_some() })?;
        if self.request.tools.is_empty() {
            return Ok(());
        }
        let choice = match &self.request.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({"type": "function", "name": name}),
            ToolChoice::None => json!("none"),
        };
        map.serialize_entry("tool_choice", &choice)?;
        if !self.request.parallel_calls {
            map.serialize_entry("parallel_tool_calls", &false)?;
        }
        Ok(())
    }

    fn output<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(output) = &self.request.output {
            let strict = strict::is_strict(&output.schema);
            let format = json!({"type": "json_schema", "name": output.name, "schema": output.schema, "strict": strict});
            map.serialize_entry("text", &json!({"format": format}))?;
        }
        map.serialize_entry("max_output_tokens", &self.request.max_output_tokens)
    }

    fn sampling<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let sampling = &self.request.sampling;
        if let Some(temperature) = &sampling.temperature {
            map.serialize_entry("temperature", temperature)?;
        }
        if let Some(effort) = &sampling.reasoning {
            map.serialize_entry("reasoning", &json!({"effort": effort}))?;
        }
        // A model that never reasons refuses to be asked for it.
        if self.config.abilities(&self.request.model).reasoning != Reasons::Never {
            map.serialize_entry("include", &[ENCRYPTED_REASONING])?;
        }
        Ok(())
    }

    fn price<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let quirks = &self.config.quirks;
        map.serialize_entry("store", &quirks.store)?;
        if quirks.pin_service_tier {
            map.serialize_entry("service_tier", "default")?;
        }
        if forbids_cache_writes(self.config, self.request) {
            map.serialize_entry("prompt_cache_options", &json!({"mode": "explicit"}))?;
        }
        Ok(())
    }
}

/// A message as the wire has it, one item or several, encoded when it first goes out.
fn fragment<'a>(message: &'a Sent, model: &ModelName) -> Cow<'a, str> {
    message.fragment(Form::OpenAiResponses, model, |message| encoded(message, model).into_boxed_str())
}

/// A message with a mark at its end; `None` for those that have no place for one. Its tokens are the same without.
fn marked(message: &Message) -> Option<String> {
    let part = |text: &str| {
        let part = json!({"type": "input_text", "text": text, BREAKPOINT: {"mode": "explicit"}});
        (!text.is_empty()).then(|| json!([part]))
    };
    let marked = match message {
        Message::System { text } => json!({"role": "system", "content": part(text)?}),
        Message::User { text } => json!({"role": "user", "content": part(text)?}),
        Message::Tool(answer) => {
            json!({"type": "function_call_output", "call_id": answer.call_id, "output": part(&answer.content)?})
        }
        Message::File(_) | Message::Assistant(_) => return None,
    };
    Some(marked.to_string())
}

fn encoded(message: &Message, model: &ModelName) -> String {
    let text = match message {
        Message::System { text } => serde_json::to_string(&Plain { role: "system", content: text }),
        Message::User { text } => serde_json::to_string(&Plain { role: "user", content: text }),
        Message::File(file) => serde_json::to_string(&file_item(file)),
        Message::Assistant(said) => return said_items(said, model).join(","),
        Message::Tool(answer) => serde_json::to_string(&AnswerItem {
            r#type: "function_call_output",
            call_id: &answer.call_id,
            output: &answer.content,
        }),
    };
    text.expect("a message has string keys only")
}

#[derive(Serialize)]
struct Plain<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct AnswerItem<'a> {
    r#type: &'static str,
    call_id: &'a str,
    output: &'a str,
}

#[derive(Serialize)]
struct CallItem<'a> {
    r#type: &'static str,
    call_id: &'a str,
    name: &'a str,
    arguments: &'a str,
}

/// An image with its detail pinned, which bounds what it counts (PROVIDERS §13), or a document.
fn file_item(file: &File) -> Value {
    let part = if file.media().is_image() {
        json!({"type": "input_image", "image_url": file.data_url(), "detail": "high"})
    } else {
        json!({"type": "input_file", "filename": file.name(), "file_data": file.data_url()})
    };
    json!({"role": "user", "content": [part]})
}

/// What the model said as items, each block of reasoning in front of what it led to. A refusal goes back as text.
fn said_items(said: &Assistant, model: &ModelName) -> Vec<String> {
    let json = |item: Result<String, serde_json::Error>| item.expect("an item has string keys only");
    let blocks: Vec<&Opaque> = said.returned_to(Form::OpenAiResponses, model).collect();
    let before = |call: Option<u32>| blocks.iter().filter(move |opaque| opaque.call == call);
    let mut items: Vec<String> = before(None).map(|opaque| opaque.block.to_string()).collect();
    let text = if said.text.is_empty() { said.refusal.as_deref().unwrap_or_default() } else { &said.text };
    if !text.is_empty() || (said.calls.is_empty() && items.is_empty()) {
        items.push(json(serde_json::to_string(&Plain { role: "assistant", content: text })));
    }
    for (number, call) in (0..).zip(&said.calls) {
        items.extend(before(Some(number)).map(|opaque| opaque.block.to_string()));
        let (name, arguments) = (call.name.as_str(), call.arguments.as_str());
        items.push(json(serde_json::to_string(&CallItem {
            r#type: "function_call",
            call_id: &call.id,
            name,
            arguments,
        })));
    }
    items
}

struct Tools<'a> {
    own: &'a [ToolDefinition],
    search: bool,
}

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for tool in self.own {
            list.serialize_element(&ToolItem {
                r#type: "function",
                name: tool.name.as_str(),
                description: &tool.description,
                parameters: &tool.parameters,
                strict: false,
            })?;
        }
        if self.search {
            list.serialize_element(&json!({"type": "web_search"}))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct ToolItem<'a> {
    r#type: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
    /// Said, since this wire takes its absence for true.
    strict: bool,
}
