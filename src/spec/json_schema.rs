//! The author's JSON Schemas: that they are ones, and what the defaults take from them.

use serde_json::Value;

use crate::spec::fault::{Faults, code, suggest};
use crate::spec::reader::{At, Node, one_line};

/// The most bytes of a schema as JSON.
const SCHEMA_BYTES_MAX: usize = 256 * 1024;
/// The most characters of a schema's own complaint.
const MESSAGE_CHARS_MAX: usize = 200;

/// The types that a schema can name.
const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
/// What a schema looks like.
const HELP: &str = "a schema has a `type`; one of an object holds a schema for each of its `properties`, and lists under `required` those that must be there";

/// Reads the JSON Schema under a key, and reports where it is none.
pub(crate) fn read(node: &Node<'_>, key: &str, faults: &mut Faults) -> Option<Value> {
    check(node, key, node.json(key)?, faults)
}

/// Reads the `[output]` of an agent: the JSON Schema, where there is one, and the stage that `from` names.
pub(crate) fn read_answer(node: &Node<'_>, key: &str, faults: &mut Faults) -> (Option<Value>, Option<At<String>>) {
    let Some(mut table) = node.json(key) else { return (None, None) };
    let from = table.value.as_object_mut().and_then(|table| table.shift_remove("from"));
    let span = node.pointed(key, "/from");
    let from = match from {
        Some(Value::String(stage)) => Some(At { value: stage, span }),
        Some(_) => {
            let message = "`from` is no text".to_owned();
            node.fault(faults, code::WRONG_TYPE, &span, message, "expected the name of a stage");
            None
        }
        None => None,
    };
    let is_empty = table.value.as_object().is_some_and(serde_json::Map::is_empty);
    let schema = if is_empty && from.is_some() { None } else { check(node, key, table, faults) };
    (schema, from)
}

fn check(node: &Node<'_>, key: &str, schema: At<Value>, faults: &mut Faults) -> Option<Value> {
    if schema.value.to_string().len() > SCHEMA_BYTES_MAX {
        let help = format!("at most {SCHEMA_BYTES_MAX} bytes as JSON");
        node.fault(faults, code::BAD_SCHEMA, &schema.span, format!("the schema of `[{key}]` is too large"), help);
        return None;
    }
    if let Err(error) = jsonschema::validator_for(&schema.value) {
        let pointer = error.instance_path().as_str();
        let detail = one_line(&error.masked_with("this").to_string());
        let (message, help) = match schema.value.pointer(pointer) {
            Some(Value::String(word)) if pointer.ends_with("/type") => {
                (format!("`{}` is no type of a JSON Schema", one_line(word)), suggest(word, TYPES, ""))
            }
            Some(_) | None => (format!("`[{key}]` is no JSON Schema: {}", shortened(&detail)), HELP.to_owned()),
        };
        node.fault(faults, code::BAD_SCHEMA, &node.pointed(key, pointer), message, help);
        return None;
    }
    Some(schema.value)
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Reads a schema that must describe an object.
pub(crate) fn read_object(node: &Node<'_>, key: &str, faults: &mut Faults) -> Option<Value> {
    let schema = read(node, key, faults)?;
    if schema.get("type") != Some(&Value::from("object")) {
        let message = format!("`[{key}]` doesn't describe an object");
        node.fault(faults, code::BAD_SCHEMA, &node.span_of(key), message, "write `type = \"object\"`");
        return None;
    }
    Some(schema)
}

/// What a call of an agent takes: its own input, or one text where it has plain text.
pub(crate) fn as_arguments(input: Option<&Value>) -> Value {
    input.cloned().unwrap_or_else(|| {
        serde_json::json!({
            "type": "object",
            "required": ["input"],
            "properties": { "input": { "type": "string" } },
            "additionalProperties": false,
        })
    })
}

/// The only property of an object's schema, where it is a required text: what plain text fills.
pub(crate) fn only_text(schema: &Value) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    let (name, property) = properties.iter().next()?;
    let required = schema.get("required")?.as_array()?.iter().any(|required| required.as_str() == Some(name));
    (properties.len() == 1 && required && property.get("type")?.as_str() == Some("string")).then_some(name)
}

/// The default user template: the only text of the input, or all of it, which prints as JSON where it isn't a text.
pub(crate) fn default_user_template(schema: Option<&Value>) -> String {
    match schema.and_then(only_text) {
        Some(name) if name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') => format!("{{{{ input.{name} }}}}"),
        // A JSON text is a literal of a template too.
        Some(name) => format!("{{{{ input[{}] }}}}", Value::from(name)),
        None => "{{ input }}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_prompt_is_the_input() {
        let text = json!({"properties": {"ticket": {"type": "string"}}, "required": ["ticket"]});
        let more = json!({"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]});
        let odd = json!({"properties": {"a-b": {"type": "string"}}, "required": ["a-b"]});
        assert_eq!(default_user_template(None), "{{ input }}");
        assert_eq!(default_user_template(Some(&text)), "{{ input.ticket }}");
        assert_eq!(default_user_template(Some(&more)), "{{ input }}");
        assert_eq!(default_user_template(Some(&odd)), "{{ input[\"a-b\"] }}");
    }
}
