//! What the readers of several wires share: fields of a JSON object, names, strict schemas, and calls with their answers.

use serde_json::{Map, Value};

use crate::sim::chat::{BadRequest, Message};
use crate::sim::picture::{self, Look};

/// The longest name of a function or schema.
const NAME_BYTES_MAX: usize = 64;

/// The fields of a body.
pub(crate) fn object(body: &Value) -> Result<&Map<String, Value>, BadRequest> {
    body.as_object().ok_or_else(|| BadRequest {
        message: "the body must be a JSON object".to_owned(),
        param: None,
        code: None,
    })
}

pub(crate) fn check_name<'a>(name: Option<&'a Value>, at: &str) -> Result<&'a str, BadRequest> {
    let name = name.and_then(Value::as_str).ok_or_else(|| BadRequest::missing(at))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(BadRequest::at(at, format!("`{name}` is not of the form `^[a-zA-Z0-9_-]{{1,64}}$`")));
    }
    Ok(name)
}

/// A strict schema closes each object and requires each of its properties.
pub(crate) fn check_strict(schema: &Value, at: &str) -> Result<(), BadRequest> {
    let refuse = |text: &str| {
        let message = format!("invalid strict schema at `{at}`: {text}");
        Err(BadRequest { message, param: Some(at.to_owned()), code: Some("invalid_schema") })
    };
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return refuse("`additionalProperties` must be false");
        }
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if let Some(name) = properties.keys().find(|name| !required.iter().any(|known| known == name.as_str())) {
            return refuse(&format!("`required` must name every property; `{name}` is missing"));
        }
        for (name, property) in properties {
            check_strict(property, &format!("{at}.{name}"))?;
        }
    }
    if let Some(items) = schema.get("items") {
        check_strict(items, &format!("{at}.items"))?;
    }
    for variant in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        check_strict(variant, &format!("{at}.anyOf"))?;
    }
    Ok(())
}

pub(crate) fn required_text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, BadRequest> {
    match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(BadRequest::kind(name, "a string")),
        None => Err(BadRequest::missing(name)),
    }
}

pub(crate) fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, BadRequest> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(BadRequest::kind(name, "true or false")),
    }
}

pub(crate) fn whole(
    fields: &Map<String, Value>,
    name: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, BadRequest> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(BadRequest::kind(name, &format!("a whole number from {} to {}", range.start(), range.end()))),
        },
    }
}

/// Each call has one answer, right behind the message that asks for it, and each answer has its call.
pub(crate) fn check_answers(messages: &[Message<'_>]) -> Result<(), BadRequest> {
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if let Some(id) = message.call_id.as_deref() {
            let Some(place) = open.iter().position(|open| *open == id) else {
                let text =
                    format!("`{id}` answers no open call: a `tool` message must follow the `tool_calls` it answers");
                return Err(BadRequest::at(format!("messages[{index}].tool_call_id"), text));
            };
            open.remove(place);
            continue;
        }
        all_answered(&open, index)?;
        open.extend(message.calls.iter().map(|call| call.id.as_ref()));
    }
    all_answered(&open, messages.len())
}

fn all_answered(open: &[&str], index: usize) -> Result<(), BadRequest> {
    if open.is_empty() {
        return Ok(());
    }
    let text = format!("each of `tool_calls` needs a `tool` message right behind it; without one: {}", open.join(", "));
    Err(BadRequest::at(format!("messages[{index}]"), text))
}

/// Tokens of a file in an address that holds it.
pub(crate) fn file_tokens(model: &str, url: Option<&str>, detail: Option<&str>, at: &str) -> Result<u64, BadRequest> {
    let look = Look::of(detail).ok_or_else(|| BadRequest::at(at, "the detail is `auto`, `low` or `high`"))?;
    let file = url.and_then(picture::of_url);
    let (media, data) =
        file.ok_or_else(|| BadRequest::at(at, "the simulator takes files as `data:` addresses only"))?;
    let tokens = picture::tokens(model, media, data, look);
    tokens.ok_or_else(|| BadRequest {
        code: Some("invalid_image_format"),
        ..BadRequest::at(at, "this is no file that the model reads")
    })
}
