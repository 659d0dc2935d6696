//! A chat completion request as the simulated provider reads it, and its refusal of one that breaks the wire's rules.
//!
//! As strict as the real one where a mistake of ours would otherwise show only there; unknown fields are accepted.
//! Deliberately absent: audio, and files by address or id, as content (refused), the deprecated `functions`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::sim::chat::{BadRequest, Caching, Call, Chat, Choice, Format, Message, Role, Tool};
use crate::sim::wire::fields::{
    check_answers, check_name, check_strict, file_tokens, flag, object, required_text, whole,
};

/// The most tools in a request.
const TOOLS_MAX: usize = 128;
/// The most choices in a request.
const CHOICES_MAX: u64 = 128;
/// The most stop texts in a request.
const STOPS_MAX: usize = 4;
/// The most pairs of metadata.
const METADATA_MAX: usize = 16;
/// The most output tokens that are asked for.
const TOKENS_MAX: u64 = 10_000_000;

/// Reads a request.
pub(super) fn read(body: &Value) -> Result<Chat<'_>, BadRequest> {
    let fields = object(body)?;
    let model = required_text(fields, "model")?;
    let tools = read_tools(fields)?;
    let stream = flag(fields, "stream")?.unwrap_or(false);
    check_sampling(fields, model)?;
    Ok(Chat {
        choice: read_choice(fields, &tools)?,
        parallel_calls: read_parallel(fields, &tools)?,
        tools,
        format: read_format(fields)?,
        tokens_max: read_tokens_max(fields, model)?,
        choices: whole(fields, "n", 1..=CHOICES_MAX)?.unwrap_or(1),
        stream,
        include_usage: read_include_usage(fields, stream)?,
        caching: read_caching(fields),
        ..Chat::new(model, read_messages(fields, model)?)
    })
}

/// What the client asks of the cache: `explicit` keeps what its marks say, and nothing where there is none.
fn read_caching(fields: &Map<String, Value>) -> Caching {
    let mode = fields.get("prompt_cache_options").and_then(|options| options.get("mode"));
    if mode != Some(&Value::from("explicit")) {
        return Caching::ByItself;
    }
    let is_marked = |message: &Value| {
        let mut parts = message.get("content").and_then(Value::as_array).into_iter().flatten();
        parts.any(|part| part.get("prompt_cache_breakpoint").is_some())
    };
    let messages = fields.get("messages").and_then(Value::as_array);
    let last = messages.and_then(|messages| messages.iter().rposition(is_marked));
    last.map_or(Caching::ReadOnly, |at| Caching::Marked { messages: at + 1, long: false })
}

fn read_messages<'a>(fields: &'a Map<String, Value>, model: &str) -> Result<Vec<Message<'a>>, BadRequest> {
    let list = match fields.get("messages") {
        None => return Err(BadRequest::missing("messages")),
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(_) => return Err(BadRequest::kind("messages", "an array with at least one message")),
    };
    let messages: Vec<_> = list
        .iter()
        .enumerate()
        .map(|(index, message)| read_message(message, model, &format!("messages[{index}]")))
        .collect::<Result<_, _>>()?;
    check_answers(&messages)?;
    Ok(messages)
}

fn read_message<'a>(message: &'a Value, model: &str, at: &str) -> Result<Message<'a>, BadRequest> {
    let fields = message.as_object().ok_or_else(|| BadRequest::kind(at, "an object"))?;
    let role = match fields.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some(_) | None => {
            return Err(BadRequest::at(
                format!("{at}.role"),
                "the role must be `developer`, `system`, `user`, `assistant` or `tool`",
            ));
        }
    };
    let calls = match (role, fields.get("tool_calls")) {
        (_, None) => Vec::new(),
        (Role::Assistant, Some(calls)) => read_calls(calls, &format!("{at}.tool_calls"))?,
        (Role::System | Role::User | Role::Tool, Some(_)) => {
            return Err(BadRequest::at(format!("{at}.tool_calls"), "only an assistant message has `tool_calls`"));
        }
    };
    let mut other_tokens = 0;
    let text = match fields.get("content") {
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Some(Value::Array(parts)) => {
            let seen = (role == Role::User).then_some(model);
            let (text, files) = read_parts(parts, seen, &format!("{at}.content"))?;
            other_tokens = files;
            Cow::Owned(text)
        }
        None | Some(Value::Null) if role == Role::Assistant && (!calls.is_empty() || refused(fields)) => {
            Cow::Borrowed("")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            return Err(BadRequest::kind(format!("{at}.content"), "a string or an array of parts"));
        }
    };
    let call_id = match role {
        Role::Tool => {
            let id = fields.get("tool_call_id").and_then(Value::as_str);
            Some(Cow::Borrowed(id.ok_or_else(|| BadRequest::missing(format!("{at}.tool_call_id")))?))
        }
        Role::System | Role::User | Role::Assistant => None,
    };
    Ok(Message { role, text, calls, call_id, other_tokens })
}

fn refused(fields: &Map<String, Value>) -> bool {
    fields.get("refusal").is_some_and(Value::is_string)
}

/// The text of some parts, and the tokens of their files, which a user may send.
fn read_parts(parts: &[Value], seen_by: Option<&str>, at: &str) -> Result<(String, u64), BadRequest> {
    let (mut text, mut tokens) = (String::new(), 0);
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let field = |path: &str| part.pointer(path).and_then(Value::as_str);
        match (part.get("type").and_then(Value::as_str), seen_by) {
            (Some("text"), _) => text.push_str(field("/text").ok_or_else(|| BadRequest::missing(&at))?),
            (Some("image_url"), Some(model)) => {
                tokens += file_tokens(model, field("/image_url/url"), field("/image_url/detail"), &at)?;
            }
            (Some("file"), Some(model)) => tokens += file_tokens(model, field("/file/file_data"), None, &at)?,
            (Some(_) | None, _) => {
                let message = "the simulator takes parts of text, and of a user also images and files";
                return Err(BadRequest::at(at, message));
            }
        }
    }
    Ok((text, tokens))
}

fn read_calls<'a>(calls: &'a Value, at: &str) -> Result<Vec<Call<'a>>, BadRequest> {
    let list = match calls {
        Value::Array(list) if !list.is_empty() => list,
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            return Err(BadRequest::kind(at, "an array with at least one call"));
        }
    };
    let mut read = Vec::with_capacity(list.len());
    for (index, call) in list.iter().enumerate() {
        let function = call.get("function");
        let text = |value: Option<&'a Value>, name: &str| {
            value.and_then(Value::as_str).ok_or_else(|| BadRequest::missing(format!("{at}[{index}].{name}")))
        };
        if text(call.get("type"), "type")? != "function" {
            return Err(BadRequest::at(format!("{at}[{index}].type"), "the type must be `function`"));
        }
        read.push(Call {
            id: text(call.get("id"), "id")?.into(),
            name: text(function.and_then(|function| function.get("name")), "function.name")?,
            arguments: text(function.and_then(|function| function.get("arguments")), "function.arguments")?.into(),
        });
    }
    Ok(read)
}

fn read_tools(fields: &Map<String, Value>) -> Result<Vec<Tool<'_>>, BadRequest> {
    let list = match fields.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if (1..=TOOLS_MAX).contains(&list.len()) => list,
        Some(_) => return Err(BadRequest::kind("tools", &format!("an array of 1 to {TOOLS_MAX} tools"))),
    };
    list.iter().enumerate().map(|(index, tool)| read_tool(tool, &format!("tools[{index}]"))).collect()
}

fn read_tool<'a>(tool: &'a Value, at: &str) -> Result<Tool<'a>, BadRequest> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err(BadRequest::at(format!("{at}.type"), "the simulator offers tools of type `function` only"));
    }
    let function = tool.get("function").ok_or_else(|| BadRequest::missing(format!("{at}.function")))?;
    let name = check_name(function.get("name"), &format!("{at}.function.name"))?;
    let parameters = match function.get("parameters") {
        None => None,
        Some(schema @ Value::Object(_)) => Some(schema),
        Some(_) => return Err(BadRequest::kind(format!("{at}.function.parameters"), "a JSON Schema object")),
    };
    if function.get("strict") == Some(&Value::Bool(true)) {
        check_strict(parameters.unwrap_or(&Value::Null), &format!("{at}.function.parameters"))?;
    }
    Ok(Tool { name, parameters, definition: tool })
}

fn read_choice<'a>(fields: &'a Map<String, Value>, tools: &[Tool<'_>]) -> Result<Choice<'a>, BadRequest> {
    let Some(choice) = fields.get("tool_choice").filter(|choice| !choice.is_null()) else { return Ok(Choice::Auto) };
    if tools.is_empty() {
        return Err(BadRequest::at("tool_choice", "`tool_choice` is only allowed where `tools` are given"));
    }
    let named = choice.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
    match (choice.as_str(), named) {
        (Some("auto"), _) => Ok(Choice::Auto),
        (Some("none"), _) => Ok(Choice::None),
        (Some("required"), _) => Ok(Choice::Required),
        (None, Some(name)) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Named(name)),
        (None, Some(name)) => Err(BadRequest::at("tool_choice", format!("no tool is named `{name}`"))),
        (Some(_) | None, _) => {
            Err(BadRequest::at("tool_choice", "`tool_choice` must be `none`, `auto`, `required` or name a function"))
        }
    }
}

fn read_parallel(fields: &Map<String, Value>, tools: &[Tool<'_>]) -> Result<bool, BadRequest> {
    match flag(fields, "parallel_tool_calls")? {
        Some(_) if tools.is_empty() => {
            Err(BadRequest::at("parallel_tool_calls", "`parallel_tool_calls` is only allowed where `tools` are given"))
        }
        Some(parallel) => Ok(parallel),
        None => Ok(true),
    }
}

fn read_format(fields: &Map<String, Value>) -> Result<Format<'_>, BadRequest> {
    let Some(format) = fields.get("response_format").filter(|format| !format.is_null()) else {
        return Ok(Format::Text);
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Object),
        Some("json_schema") => {
            let at = "response_format.json_schema";
            let named = format.get("json_schema").ok_or_else(|| BadRequest::missing(at))?;
            check_name(named.get("name"), "response_format.json_schema.name")?;
            let schema = named
                .get("schema")
                .filter(|schema| schema.is_object())
                .ok_or_else(|| BadRequest::missing("response_format.json_schema.schema"))?;
            if named.get("strict") == Some(&Value::Bool(true)) {
                check_strict(schema, "response_format.json_schema.schema")?;
            }
            Ok(Format::Schema(schema))
        }
        Some(_) | None => {
            Err(BadRequest::at("response_format.type", "the type must be `text`, `json_object` or `json_schema`"))
        }
    }
}

fn read_tokens_max(fields: &Map<String, Value>, model: &str) -> Result<Option<u64>, BadRequest> {
    let new = whole(fields, "max_completion_tokens", 1..=TOKENS_MAX)?;
    let old = whole(fields, "max_tokens", 1..=TOKENS_MAX)?;
    match (new, old) {
        (Some(_), Some(_)) => {
            Err(BadRequest::at("max_tokens", "give `max_tokens` or `max_completion_tokens`, not both"))
        }
        (None, Some(_)) if is_o_series(model) => Err(BadRequest::unsupported(
            "max_tokens",
            format!("`max_tokens` is not supported with `{model}`; use `max_completion_tokens`"),
        )),
        (new, old) => Ok(new.or(old)),
    }
}

fn is_o_series(model: &str) -> bool {
    let mut start = model.bytes();
    start.next() == Some(b'o') && start.next().is_some_and(|byte| byte.is_ascii_digit())
}

fn read_include_usage(fields: &Map<String, Value>, stream: bool) -> Result<bool, BadRequest> {
    let Some(options) = fields.get("stream_options").filter(|options| !options.is_null()) else { return Ok(false) };
    if !stream {
        return Err(BadRequest::at("stream_options", "`stream_options` is only allowed where `stream` is true"));
    }
    let options = options.as_object().ok_or_else(|| BadRequest::kind("stream_options", "an object"))?;
    Ok(flag(options, "include_usage")?.unwrap_or(false))
}

fn check_sampling(fields: &Map<String, Value>, model: &str) -> Result<(), BadRequest> {
    for (name, least, most) in [("temperature", 0.0, 2.0), ("top_p", 0.0, 1.0)] {
        let value = fields.get(name).filter(|value| !value.is_null());
        if value.is_some_and(|value| !value.as_f64().is_some_and(|number| (least..=most).contains(&number))) {
            return Err(BadRequest::at(name, format!("`{name}` must be a number from {least} to {most}")));
        }
    }
    match fields.get("stop") {
        None | Some(Value::Null) => {}
        Some(_) if model.starts_with("o3") || model.starts_with("o4-mini") => {
            return Err(BadRequest::unsupported("stop", format!("`stop` is not supported with `{model}`")));
        }
        Some(Value::String(_)) => {}
        Some(Value::Array(stops)) if stops.len() <= STOPS_MAX && stops.iter().all(Value::is_string) => {}
        Some(_) => return Err(BadRequest::kind("stop", &format!("a string or an array of up to {STOPS_MAX} strings"))),
    }
    match fields.get("reasoning_effort").map(Value::as_str) {
        None | Some(Some("none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max")) => {}
        Some(_) => return Err(BadRequest::at("reasoning_effort", "this is no known reasoning effort")),
    }
    if fields.get("metadata").and_then(Value::as_object).is_some_and(|pairs| pairs.len() > METADATA_MAX) {
        return Err(BadRequest::at("metadata", format!("at most {METADATA_MAX} pairs are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(change: impl FnOnce(&mut Value)) -> (String, &'static str) {
        let mut body = json!({
            "model": "gpt-5-mini",
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "b", "content": "2"},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        });
        read(&body).expect("a good request");
        change(&mut body);
        let bad = read(&body).expect_err("a bad request");
        (bad.param.unwrap_or_default(), bad.code.unwrap_or_default())
    }

    #[test]
    fn what_breaks_the_rules_is_refused_by_name() {
        let missing = |param: &str| (param.to_owned(), "missing_required_parameter");
        assert_eq!(refusal(|b| drop(b.as_object_mut().unwrap().remove("model"))), missing("model"));
        assert_eq!(refusal(|b| drop(b.as_object_mut().unwrap().remove("messages"))), missing("messages"));
        assert_eq!(refusal(|b| b["messages"][0]["role"] = json!("owner")).0, "messages[0].role");
        assert_eq!(refusal(|b| b["messages"][0]["content"] = json!(1)).0, "messages[0].content");
        assert_eq!(refusal(|b| b["messages"][2]["tool_call_id"] = json!("c")).0, "messages[2].tool_call_id");
        assert_eq!(refusal(|b| drop(b["messages"].as_array_mut().unwrap().pop())).0, "messages[3]");
        assert_eq!(refusal(|b| b["tools"][0]["function"]["name"] = json!("a b")).0, "tools[0].function.name");
        assert_eq!(refusal(|b| b["tools"] = json!([])).0, "tools");
        assert_eq!(refusal(|b| b["tool_choice"] = json!("maybe")).0, "tool_choice");
        assert_eq!(refusal(|b| b["response_format"] = json!({"type": "xml"})).0, "response_format.type");
        assert_eq!(refusal(|b| b["stream_options"] = json!({"include_usage": true})).0, "stream_options");
        assert_eq!(refusal(|b| b["max_completion_tokens"] = json!(0)).0, "max_completion_tokens");
        assert_eq!(refusal(|b| b["temperature"] = json!(2.5)).0, "temperature");
    }

    #[test]
    fn both_limits_of_output_or_an_old_one_for_a_new_model_are_refused() {
        let both = refusal(|b| (b["max_tokens"], b["max_completion_tokens"]) = (json!(5), json!(5)));
        assert_eq!(both, ("max_tokens".to_owned(), "invalid_value"));
        let old = refusal(|b| (b["max_tokens"], b["model"]) = (json!(5), json!("o3")));
        assert_eq!(old, ("max_tokens".to_owned(), "unsupported_parameter"));
    }

    #[test]
    fn a_strict_schema_must_be_closed_and_complete() {
        let format = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
        let open = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        assert_eq!(refusal(|b| b["response_format"] = format(open)).1, "invalid_schema");
        let loose = json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false});
        assert_eq!(refusal(|b| b["response_format"] = format(loose)).1, "invalid_schema");
    }

    #[test]
    fn a_choice_without_tools_is_refused() {
        let bare = |b: &mut Value| {
            b.as_object_mut().unwrap().remove("tools");
        };
        assert_eq!(
            refusal(|b| {
                bare(b);
                b["tool_choice"] = json!("none");
            })
            .0,
            "tool_choice"
        );
        assert_eq!(
            refusal(|b| {
                bare(b);
                b["parallel_tool_calls"] = json!(false);
            })
            .0,
            "parallel_tool_calls"
        );
    }
}
