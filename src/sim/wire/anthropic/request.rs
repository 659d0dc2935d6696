//! A message request as the simulated provider reads it, and its refusal of one that breaks the wire's rules.
//!
//! As strict as the real one where a mistake of ours would otherwise show only there. Deliberately absent: the provider's
//! own tools, files by address, and prompts to be warmed.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::answer::signature;
use super::model::{always_thinks, generation, has_fast_mode, has_places, tool_prompt};
use crate::sim::chat::{BadRequest, Caching, Call, Chat, Choice, Format, Message, Role, Tool};
use crate::sim::picture::{self, Look};
use crate::sim::search::{FOUND_TOKENS, QUERY_TOKENS, UNBOUNDED};
use crate::sim::wire::Asked;
use crate::sim::wire::fields::{check_answers, check_name, flag, object, required_text, whole};

/// The first version whose keys are bearer tokens.
pub(super) const BEARER_SINCE: &str = "2026-10-21";
/// The versions that are known.
const VERSIONS: [&str; 3] = ["2023-06-01", "2026-10-21", "vertex-2023-10-16"];
/// The most output tokens that are asked for.
pub(super) const TOKENS_MAX: u64 = 10_000_000;
/// The smallest budget for thinking.
const BUDGET_MIN: u64 = 1_024;
/// The most marks of what is to be cached.
const MARKS_MAX: usize = 4;
/// Hundredths of the rates, for a place of one's choice and for the fast mode.
const PLACE_PERCENT: u64 = 110;
const FAST_TIMES: u64 = 2;

/// A version that the provider knows.
pub(super) fn check_version(version: Option<&str>) -> Result<(), BadRequest> {
    let version = version.ok_or_else(|| BadRequest::missing("anthropic-version"))?;
    let known = VERSIONS.contains(&version);
    if known { Ok(()) } else { Err(BadRequest::at("anthropic-version", format!("`{version}` is not a valid version"))) }
}

/// Reads a request.
pub(super) fn read<'a>(asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest> {
    let fields = object(asked.body)?;
    let model = match asked.door.model {
        Some(model) => model,
        None => required_text(fields, "model")?,
    };
    let mut reader = Reader { model, marks: 0, caching: Caching::Never, searches_max: None };
    let tools = reader.tools(fields)?;
    let messages = reader.messages(fields)?;
    let choice = read_choice(fields, &tools)?;
    let thinks = read_thinking(fields, model)?;
    check_thinking(fields, model, choice, thinks)?;
    check_sampling(fields, model)?;
    let forced = matches!(choice, Choice::Required | Choice::Named(_));
    Ok(Chat {
        choice,
        parallel_calls: !at(fields, "tool_choice", "disable_parallel_tool_use").is_some_and(|value| value == true),
        hidden_tokens: if tools.is_empty() { 0 } else { tool_prompt(model, forced) },
        tools,
        format: read_format(fields)?,
        tokens_max: Some(
            whole(fields, "max_tokens", 1..=TOKENS_MAX)?.ok_or_else(|| BadRequest::missing("max_tokens"))?,
        ),
        stream: asked.door.stream || flag(fields, "stream")?.unwrap_or(false),
        caching: reader.caching,
        searches_max: reader.searches_max,
        thinks,
        rate_percent: read_place(fields, model)? * read_speed(asked, fields, model)?,
        ..Chat::new(model, messages)
    })
}

fn at<'a>(fields: &'a Map<String, Value>, field: &str, inner: &str) -> Option<&'a Value> {
    fields.get(field)?.get(inner)
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Reads messages, and remembers the last mark of what is to be cached.
struct Reader<'m> {
    model: &'m str,
    marks: usize,
    caching: Caching,
    /// The most searches of the web, where it may search.
    searches_max: Option<u64>,
}

impl Reader<'_> {
    /// Notes a mark on something behind which so many messages stand.
    fn mark(&mut self, block: &Value, messages: usize) -> Result<(), BadRequest> {
        let Some(mark) = block.get("cache_control").filter(|mark| !mark.is_null()) else { return Ok(()) };
        let long = match (kind(mark), mark.get("ttl").and_then(Value::as_str)) {
            ("ephemeral", None | Some("5m")) => false,
            ("ephemeral", Some("1h")) => true,
            _ => {
                return Err(BadRequest::at(
                    "cache_control",
                    "cache_control: the type is `ephemeral`, the ttl `5m` or `1h`",
                ));
            }
        };
        self.marks += 1;
        if self.marks > MARKS_MAX {
            return Err(BadRequest::at("cache_control", "a maximum of 4 blocks with cache_control may be provided"));
        }
        self.caching = Caching::Marked { messages, long };
        Ok(())
    }

    fn tools<'a>(&mut self, fields: &'a Map<String, Value>) -> Result<Vec<Tool<'a>>, BadRequest> {
        let list = fields.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut tools = Vec::with_capacity(list.len());
        for (index, tool) in list.iter().enumerate() {
            if kind(tool) == "web_search_20250305" {
                self.mark(tool, 0)?;
                self.searches_max = Some(tool.get("max_uses").and_then(Value::as_u64).unwrap_or(UNBOUNDED));
                continue;
            }
            let name = check_name(tool.get("name"), &format!("tools.{index}.name"))?;
            let schema = tool.get("input_schema").filter(|schema| kind(schema) == "object");
            let parameters = Some(schema.ok_or_else(|| {
                BadRequest::at(format!("tools.{index}.input_schema"), "input_schema.type: Input should be 'object'")
            })?);
            self.mark(tool, 0)?;
            tools.push(Tool { name, parameters, definition: tool });
        }
        Ok(tools)
    }

    fn messages<'a>(&mut self, fields: &'a Map<String, Value>) -> Result<Vec<Message<'a>>, BadRequest> {
        let mut messages = Vec::new();
        for block in blocks(fields.get("system").unwrap_or(&Value::Null)) {
            messages.push(Message::text(Role::System, text_of(&block, "system")?));
            self.mark(&block, messages.len())?;
        }
        let list = fields.get("messages").and_then(Value::as_array).filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| BadRequest::at("messages", "messages: at least one message is required"))?;
        if list.first().and_then(|first| first.get("role")).and_then(Value::as_str) != Some("user") {
            return Err(BadRequest::at("messages", "messages: first message must use the \"user\" role"));
        }
        for (index, message) in list.iter().enumerate() {
            let here = format!("messages.{index}");
            let content = message.get("content").unwrap_or(&Value::Null);
            match message.get("role").and_then(Value::as_str) {
                Some("user") => self.user(content, &here, &mut messages)?,
                Some("assistant") => self.assistant(content, &here, &mut messages)?,
                _ => return Err(BadRequest::at(here, "the role must be `user` or `assistant`")),
            }
        }
        check_answers(&messages)?;
        check_prefill(fields, &messages)?;
        Ok(messages)
    }

    fn user<'a>(&mut self, content: &'a Value, here: &str, messages: &mut Vec<Message<'a>>) -> Result<(), BadRequest> {
        let list = blocks(content);
        if list.is_empty() {
            return Err(BadRequest::at(here, "user messages must have non-empty content"));
        }
        for block in list {
            messages.push(match kind(&block) {
                "text" => Message::text(Role::User, text_of(&block, here)?),
                "image" | "document" => {
                    Message { other_tokens: file_tokens(&block, self.model, here)?, ..Message::text(Role::User, "") }
                }
                "tool_result" => {
                    let id = block.get("tool_use_id").and_then(Value::as_str).map(str::to_owned);
                    let id = id.ok_or_else(|| BadRequest::missing(format!("{here}.tool_use_id")))?;
                    let text =
                        block.get("content").map(|content| texts(content, here)).transpose()?.unwrap_or_default();
                    Message { call_id: Some(id.into()), ..Message::text(Role::Tool, text) }
                }
                other => {
                    return Err(BadRequest::at(here, format!("the simulator takes no blocks of type `{other}` here")));
                }
            });
            self.mark(&block, messages.len())?;
        }
        Ok(())
    }

    fn assistant<'a>(
        &mut self,
        content: &'a Value,
        here: &str,
        messages: &mut Vec<Message<'a>>,
    ) -> Result<(), BadRequest> {
        let mut said = Message::text(Role::Assistant, "");
        let list = content.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(text) = content.as_str() {
            said.text = text.into();
        }
        for block in list {
            match kind(block) {
                "text" => said.text.to_mut().push_str(&text_of(&Cow::Borrowed(block), here)?),
                "tool_use" => said.calls.push(read_call(block, here)?),
                "thinking" => said.other_tokens += check_thought(block, here)?,
                "redacted_thinking" => said.other_tokens += 1,
                "server_tool_use" => said.other_tokens += QUERY_TOKENS,
                "web_search_tool_result" => said.other_tokens += FOUND_TOKENS,
                other => {
                    return Err(BadRequest::at(here, format!("the simulator takes no blocks of type `{other}` here")));
                }
            }
            self.mark(block, messages.len() + 1)?;
        }
        if said.text.is_empty() && list.is_empty() {
            return Err(BadRequest::at(here, "assistant messages must have non-empty content"));
        }
        messages.push(said);
        Ok(())
    }
}

/// Content as blocks: a text is one block of text.
fn blocks(content: &Value) -> Vec<Cow<'_, Value>> {
    match content {
        Value::String(text) => vec![Cow::Owned(serde_json::json!({"type": "text", "text": text}))],
        Value::Array(list) => list.iter().map(Cow::Borrowed).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn text_of(block: &Value, here: &str) -> Result<String, BadRequest> {
    let text = block.get("text").and_then(Value::as_str).filter(|_| kind(block) == "text");
    let text = text.ok_or_else(|| BadRequest::at(here, "a block of type `text` is expected"))?;
    if text.trim().is_empty() {
        return Err(BadRequest::at(here, "text content blocks must contain non-whitespace text"));
    }
    Ok(text.to_owned())
}

fn texts(content: &Value, here: &str) -> Result<String, BadRequest> {
    if let Value::String(text) = content {
        return Ok(text.clone());
    }
    blocks(content).iter().map(|block| text_of(block, here)).collect()
}

fn file_tokens(block: &Value, model: &str, here: &str) -> Result<u64, BadRequest> {
    let source = block.get("source").unwrap_or(&Value::Null);
    let text = |field: &str| source.get(field).and_then(Value::as_str);
    let (media, data) = match (kind(source), text("media_type"), text("data")) {
        ("base64", Some(media), Some(data)) => (media, data),
        _ => return Err(BadRequest::at(here, "the simulator takes files as base64 only")),
    };
    let tokens = picture::tokens(model, media, data, Look::Auto);
    tokens.ok_or_else(|| BadRequest::at(here, format!("{here}: Could not process {}", kind(block))))
}

fn read_call<'a>(block: &'a Value, here: &str) -> Result<Call<'a>, BadRequest> {
    let text = |field: &str| block.get(field).and_then(Value::as_str);
    let id = text("id").filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
    let input = block.get("input").filter(|input| input.is_object());
    let input = input.ok_or_else(|| BadRequest::at(here, "tool_use.input: Input should be a valid dictionary"))?;
    Ok(Call {
        id: id
            .ok_or_else(|| BadRequest::at(here, "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"))?
            .into(),
        name: check_name(block.get("name"), here)?,
        arguments: input.to_string().into(),
    })
}

/// A thought comes back as it was given: it bears our signature. Its words are input again.
fn check_thought(block: &Value, here: &str) -> Result<u64, BadRequest> {
    let text = block.get("thinking").and_then(Value::as_str).unwrap_or_default();
    if block.get("signature").and_then(Value::as_str) != Some(&*signature(text)) {
        return Err(BadRequest::at(here, format!("{here}: Invalid `signature` in `thinking` block")));
    }
    Ok(u64::try_from(text.len()).unwrap_or(u64::MAX) / 8)
}

/// Newer models don't go on with a text of the assistant.
fn check_prefill(fields: &Map<String, Value>, messages: &[Message<'_>]) -> Result<(), BadRequest> {
    let model = fields.get("model").and_then(Value::as_str).unwrap_or_default();
    let prefilled = messages.last().is_some_and(|last| last.role == Role::Assistant && last.other_tokens == 0);
    if prefilled && generation(model) >= 46 {
        return Err(BadRequest::at("messages", "This model does not support assistant message prefill"));
    }
    Ok(())
}

fn read_choice<'a>(fields: &'a Map<String, Value>, tools: &[Tool<'_>]) -> Result<Choice<'a>, BadRequest> {
    let Some(choice) = fields.get("tool_choice").filter(|choice| !choice.is_null()) else { return Ok(Choice::Auto) };
    if tools.is_empty() {
        return Err(BadRequest::at("tool_choice", "tool_choice may only be specified while providing tools"));
    }
    let named = choice.get("name").and_then(Value::as_str);
    match (kind(choice), named) {
        ("auto", _) => Ok(Choice::Auto),
        ("none", _) => Ok(Choice::None),
        ("any", _) => Ok(Choice::Required),
        ("tool", Some(name)) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Named(name)),
        _ => Err(BadRequest::at(
            "tool_choice",
            "tool_choice: the type is `auto`, `any`, `none`, or `tool` with its name",
        )),
    }
}

/// True where the model thinks.
fn read_thinking(fields: &Map<String, Value>, model: &str) -> Result<bool, BadRequest> {
    let refuse = |text: &str| Err(BadRequest::at("thinking", format!("thinking: {text}")));
    let Some(thinking) = fields.get("thinking").filter(|thinking| !thinking.is_null()) else {
        return Ok(always_thinks(model));
    };
    match kind(thinking) {
        "adaptive" if generation(model) < 46 => refuse("adaptive thinking is not supported on this model"),
        "adaptive" | "between_tools" => Ok(true),
        "disabled" if always_thinks(model) => refuse("thinking can't be disabled on this model"),
        "disabled" => Ok(false),
        "enabled" if generation(model) >= 47 => refuse("`enabled` is not supported on this model; use `adaptive`"),
        "enabled" => {
            let budget = thinking.get("budget_tokens").and_then(Value::as_u64).unwrap_or(0);
            let most = fields.get("max_tokens").and_then(Value::as_u64).unwrap_or(0);
            if budget < BUDGET_MIN || budget >= most {
                return refuse("budget_tokens must be at least 1024 and less than max_tokens");
            }
            Ok(true)
        }
        _ => refuse("the type is `adaptive`, `enabled`, `between_tools` or `disabled`"),
    }
}

/// Who thinks isn't made to call, and goes on with a turn of calls by the thoughts that began it.
fn check_thinking(
    fields: &Map<String, Value>,
    model: &str,
    choice: Choice<'_>,
    thinks: bool,
) -> Result<(), BadRequest> {
    if thinks && matches!(choice, Choice::Required | Choice::Named(_)) {
        let text = "Thinking may not be enabled when tool_choice forces tool use";
        return Err(BadRequest::at("tool_choice", text));
    }
    let enabled = at(fields, "thinking", "type").is_some_and(|kind| kind == "enabled");
    let said = fields.get("messages").and_then(Value::as_array).into_iter().flatten().rev();
    let mut said = said.filter(|message| message.get("role").is_some_and(|role| role == "assistant"));
    let first = said.next().and_then(|message| message.get("content")?.as_array()?.first());
    let open =
        fields.get("messages").and_then(Value::as_array).and_then(|list| list.last()?.get("content")?.as_array());
    let goes_on = open.is_some_and(|blocks| blocks.iter().any(|block| kind(block) == "tool_result"));
    if enabled && goes_on && first.is_some_and(|block| !kind(block).ends_with("thinking")) {
        let text = "Expected `thinking` or `redacted_thinking`, but found another block: a final assistant message must start with a thinking block";
        return Err(BadRequest::at("messages", text));
    }
    if let Some(effort) = at(fields, "output_config", "effort").filter(|effort| !effort.is_null()) {
        let known = effort.as_str().is_some_and(|word| ["low", "medium", "high", "xhigh", "max"].contains(&word));
        if !known || generation(model) < 45 {
            return Err(BadRequest::at("output_config.effort", "output_config.effort: not an effort of this model"));
        }
    }
    Ok(())
}

fn read_format(fields: &Map<String, Value>) -> Result<Format<'_>, BadRequest> {
    let Some(format) = at(fields, "output_config", "format").filter(|format| !format.is_null()) else {
        return Ok(Format::Text);
    };
    let schema = format.get("schema").filter(|schema| kind(format) == "json_schema" && schema.is_object());
    let schema = schema
        .ok_or_else(|| BadRequest::at("output_config.format", "a `json_schema` with its `schema` is expected"))?;
    check_closed(schema)?;
    Ok(Format::Schema(schema))
}

/// Each object is closed, and no constraint is beyond what structured outputs take.
fn check_closed(schema: &Value) -> Result<(), BadRequest> {
    let refuse =
        |text: &str| Err(BadRequest::at("output_config.format.schema", format!("output_config.format.schema: {text}")));
    let Some(fields) = schema.as_object() else { return refuse("every schema is an object") };
    if kind(schema) == "object" && fields.get("additionalProperties") != Some(&Value::Bool(false)) {
        return refuse("For 'object' type, 'additionalProperties' must be explicitly set to false");
    }
    for word in ["minimum", "maximum", "minLength", "maxLength", "multipleOf", "maxItems", "pattern"] {
        if fields.contains_key(word) {
            return refuse(&format!("property '{word}' is not supported"));
        }
    }
    let of_objects = ["properties", "$defs"].into_iter().filter_map(|word| fields.get(word)?.as_object());
    let of_lists = ["anyOf", "allOf"].into_iter().filter_map(|word| fields.get(word)?.as_array());
    let mut inner = of_objects.flat_map(Map::values).chain(of_lists.flatten()).chain(fields.get("items"));
    inner.try_for_each(check_closed)
}

fn check_sampling(fields: &Map<String, Value>, model: &str) -> Result<(), BadRequest> {
    for name in ["temperature", "top_p", "top_k"] {
        if fields.get(name).is_some_and(|value| !value.is_null()) && generation(model) >= 47 {
            return Err(BadRequest::at(name, format!("`{name}` is not supported on this model")));
        }
    }
    let tier = fields.get("service_tier").map(|tier| tier.as_str().unwrap_or_default());
    if tier.is_some_and(|tier| !["auto", "standard_only"].contains(&tier)) {
        return Err(BadRequest::at("service_tier", "service_tier: Input should be 'auto' or 'standard_only'"));
    }
    let known = |name: &str| {
        let names = [
            "model",
            "messages",
            "system",
            "tools",
            "tool_choice",
            "max_tokens",
            "stream",
            "stop_sequences",
            "thinking",
            "output_config",
            "service_tier",
            "inference_geo",
            "speed",
            "metadata",
            "temperature",
            "top_p",
            "top_k",
            "anthropic_version",
            "cache_control",
        ];
        names.contains(&name)
    };
    match fields.keys().find(|name| !known(name)) {
        Some(name) => Err(BadRequest::at(name.as_str(), format!("{name}: Extra inputs are not permitted"))),
        None => Ok(()),
    }
}

/// Hundredths of the rates by the place that is asked for.
fn read_place(fields: &Map<String, Value>, model: &str) -> Result<u64, BadRequest> {
    match fields.get("inference_geo").map(Value::as_str) {
        None => Ok(100),
        Some(_) if !has_places(model) => {
            Err(BadRequest::at("inference_geo", "inference_geo: not supported on this model"))
        }
        Some(Some("global")) => Ok(100),
        Some(Some("us")) => Ok(PLACE_PERCENT),
        Some(_) => Err(BadRequest::at("inference_geo", "inference_geo: no such place")),
    }
}

/// How many times the rates, by the speed that is asked for.
fn read_speed(asked: &Asked<'_>, fields: &Map<String, Value>, model: &str) -> Result<u64, BadRequest> {
    let Some(speed) = fields.get("speed") else { return Ok(1) };
    let beta = asked.header("anthropic-beta").is_some_and(|betas| betas.contains("fast-mode"));
    match speed.as_str() {
        Some("standard") if beta => Ok(1),
        Some("fast") if beta && has_fast_mode(model) => Ok(FAST_TIMES),
        Some(_) | None => Err(BadRequest::at("speed", "speed: Extra inputs are not permitted")),
    }
}
