//! From a provider-neutral request to the body of a message.
//!
//! Invariants: the same request gives the same bytes; the output is capped; nothing that decides the price is left to the
//! author's `extra` fields, or to the account's settings where the request can say it.
//! Deliberately absent: `speed` (some models refuse any without a beta, and unsaid it is the ordinary one), `container`,
//! `context_management`, servers of tools and server-side `fallbacks`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::shape::{Answering, Shape, Thinking};
use super::turns::{Turns, mark};
use crate::domain::message::{Request, ToolChoice, ToolDefinition};
use crate::provider::{ProviderError, check_files};
use crate::spec::project::ProviderConfig;

/// Fields that the runtime sets itself, or that could change what a call costs. `extra` may not name them.
const OWN_FIELDS: &[&str] = &[
    "model",
    "anthropic_version",
    "anthropic_beta",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "max_tokens",
    "stream",
    "stop_sequences",
    "thinking",
    "output_config",
    "output_format",
    "cache_control",
    "service_tier",
    "inference_geo",
    "speed",
    "container",
    "context_management",
    "mcp_servers",
    "fallbacks",
    "fallback_credit_token",
];

/// The body of a request, as it goes out; `head` is its first field.
///
/// # Errors
/// Where `extra` names a field that isn't the author's to set, or the model takes no such file.
pub(super) fn encode(config: &ProviderConfig, head: (&str, &str), request: &Request) -> Result<Vec<u8>, ProviderError> {
    let taken = |field: &&String| {
        OWN_FIELDS.contains(&field.as_str())
            || (field.as_str() == "temperature" && request.sampling.temperature.is_some())
    };
    if let Some(field) = request.sampling.extra.keys().find(taken) {
        return Err(ProviderError::ExtraField { model: request.model.clone(), field: field.clone() });
    }
    check_files(config, request)?;
    let shape = Shape::of(config, request);
    let turns = Turns::of(request, asked(request, &shape));
    let tools = tools(request, &shape);
    let rest = Value::from(rest(config, request, shape)).to_string();
    let mut body = format!("{{{}:{},", Value::from(head.0), Value::from(head.1));
    body.reserve(turns.system.len() + turns.messages.len() + tools.len() + rest.len() + 32);
    if !turns.system.is_empty() {
        body.push_str("\"system\":[");
        body.push_str(&turns.system);
        body.push_str("],");
    }
    body.push_str("\"messages\":[");
    body.push_str(&turns.messages);
    body.push_str("],");
    if !tools.is_empty() {
        body.push_str("\"tools\":");
        body.push_str(&tools);
        body.push(',');
    }
    body.push_str(rest.strip_prefix('{').unwrap_or(&rest));
    Ok(body.into_bytes())
}

/// The version of the provider's search that does nothing but search: later ones run code too, which has a price of its own.
const WEB_SEARCH: &str = "web_search_20250305";

/// Fields of a request that count, and that the way to a count takes.
const COUNTED_FIELDS: &[&str] = &["messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"];

/// The body that asks what a request counts: its fields that do. On Vertex a version goes with it.
pub(super) fn to_count(
    config: &ProviderConfig,
    version: Option<&str>,
    request: &Request,
) -> Result<Vec<u8>, ProviderError> {
    let whole = encode(config, ("model", request.model.model()), request)?;
    let mut fields: Map<String, Value> = serde_json::from_slice(&whole).expect("a body is an object");
    fields.retain(|field, _| COUNTED_FIELDS.contains(&field.as_str()));
    fields.extend(version.map(|version| ("anthropic_version".into(), version.into())));
    Ok(serde_json::to_vec(&fields).expect("a request has string keys only"))
}

/// The form of the answer in words, where the wire has no other way for it.
fn asked(request: &Request, shape: &Shape) -> Option<String> {
    let output = request.output.as_ref().filter(|_| shape.answering == Answering::Asked)?;
    Some(format!("Answer with JSON only, nothing before or behind it. It must fit this JSON Schema: {}", output.schema))
}

/// All but the first field, the system text, the messages and the tools; never empty.
fn rest(config: &ProviderConfig, request: &Request, shape: Shape) -> Map<String, Value> {
    let mut fields = request.sampling.extra.clone();
    fields.insert("max_tokens".into(), request.max_output_tokens.into());
    if request.stream {
        fields.insert("stream".into(), true.into());
    }
    if config.quirks.pin_service_tier {
        fields.insert("service_tier".into(), "standard_only".into());
    }
    if !request.sampling.stop.is_empty() {
        fields.insert("stop_sequences".into(), request.sampling.stop.clone().into());
    }
    fields.extend(shape.choice.map(|choice| ("tool_choice".into(), with_parallel(choice, request))));
    fields.extend(shape.place.map(|place| ("inference_geo".into(), place.into())));
    let mut output = Map::new();
    if let Answering::Native(schema) = shape.answering {
        output.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    output.extend(shape.effort.map(|effort| ("effort".into(), effort.into())));
    if !output.is_empty() {
        fields.insert("output_config".into(), output.into());
    }
    // Beside reasoning the wire takes no temperature.
    if matches!(shape.thinking, Thinking::Unsaid | Thinking::Off) {
        let sampled =
            request.sampling.temperature.as_ref().filter(|_| !config.abilities(&request.model).sampling.is_no());
        fields.extend(sampled.map(|temperature| ("temperature".into(), Value::from(temperature.clone()))));
    }
    fields.extend(thinking(&shape.thinking).map(|thinking| ("thinking".into(), thinking)));
    fields
}

fn thinking(thinking: &Thinking) -> Option<Value> {
    Some(match thinking {
        Thinking::Unsaid => return None,
        Thinking::Adaptive => json!({"type": "adaptive"}),
        Thinking::Budget(tokens) => json!({"type": "enabled", "budget_tokens": tokens}),
        Thinking::BetweenTools => json!({"type": "between_tools"}),
        Thinking::Off => json!({"type": "disabled"}),
    })
}

/// One tool, as the wire has it.
#[derive(Serialize)]
struct Tool<'a> {
    /// Of one of the provider's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Value>,
}

impl<'a> Tool<'a> {
    const fn named(name: &'a str) -> Self {
        Self { r#type: None, name, max_uses: None, input_schema: None, description: "", cache_control: None }
    }
}

/// The tools, and behind them the one whose arguments are the answer, with a mark at the end where one is asked for; empty
/// where there are none. They are many in each request, so that they are written as they stand.
fn tools(request: &Request, shape: &Shape) -> String {
    let mut tools: Vec<Tool<'_>> = request.tools.iter().map(tool).collect();
    tools.extend(request.web_search.map(|search| Tool {
        r#type: Some(WEB_SEARCH),
        max_uses: Some(search.max_uses),
        ..Tool::named("web_search")
    }));
    if let (Answering::Tool(name), Some(output)) = (&shape.answering, &request.output) {
        let description = "Gives the answer. Call it once, when the answer is ready.";
        let input_schema = Some(Cow::Borrowed(&output.schema));
        tools.push(Tool { input_schema, description, ..Tool::named(name) });
    }
    let marks = request.cache.as_ref().filter(|marks| marks.after_tools());
    if let (Some(marks), Some(last)) = (marks, tools.last_mut()) {
        last.cache_control = Some(mark(marks.ttl));
    }
    if tools.is_empty() { String::new() } else { serde_json::to_string(&tools).expect("tools have string keys only") }
}

fn tool(definition: &ToolDefinition) -> Tool<'_> {
    let schema = Some(&definition.parameters).filter(|schema| schema.is_object());
    let input_schema = schema.map_or_else(|| Cow::Owned(json!({"type": "object"})), Cow::Borrowed);
    let (name, description) = (definition.name.as_str(), definition.description.as_str());
    Tool { input_schema: Some(input_schema), description, ..Tool::named(name) }
}

fn with_parallel(mut choice: Value, request: &Request) -> Value {
    if !request.parallel_calls && request.tool_choice != ToolChoice::None {
        choice["disable_parallel_tool_use"] = true.into();
    }
    choice
}
