//! Whether a JSON Schema can be promised strictly: OpenAI refuses a request whose strict schema breaks its rules.
//!
//! Errs on the side of no: a schema that isn't promised is still asked for, and the answer is checked by us anyway.

use serde_json::Value;

/// Keywords that strict schemas may hold, besides those that hold schemas (OpenAI's guide to structured outputs, read 2026-11-23).
const KEYWORDS: &[&str] = &[
    "type",
    "required",
    "additionalProperties",
    "enum",
    "const",
    "$ref",
    "title",
    "description",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
];
/// The deepest nesting of a strict schema.
const DEPTH_MAX: u8 = 10;

/// True where `schema` is an object at its root, every object lists all its properties as required and allows no
/// others, and no keyword is beyond the strict subset.
pub(in crate::provider) fn is_strict(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object") && schema.get("anyOf").is_none() && fits(schema, 0)
}

fn fits(schema: &Value, depth: u8) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    let inner_fits = |keyword: &str, inner: &Value| match (keyword, inner) {
        ("properties" | "$defs", Value::Object(map)) => map.values().all(|value| fits(value, depth + 1)),
        ("anyOf", Value::Array(list)) => list.iter().all(|value| fits(value, depth + 1)),
        ("items", items) => fits(items, depth + 1),
        ("properties" | "$defs" | "anyOf", _) => false,
        _ => KEYWORDS.contains(&keyword),
    };
    depth < DEPTH_MAX
        && fields.iter().all(|(keyword, inner)| inner_fits(keyword, inner))
        && (!is_object(schema) || is_closed(schema))
}

fn is_object(schema: &Value) -> bool {
    let named = match schema.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => false,
    };
    named || schema.get("properties").is_some()
}

fn is_closed(schema: &Value) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &String| required.is_some_and(|list| list.iter().any(|entry| entry == name.as_str()));
    schema.get("additionalProperties") == Some(&Value::Bool(false))
        && schema.get("properties").and_then(Value::as_object).is_some_and(|map| map.keys().all(is_required))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_closed_object_is_strict() {
        assert!(is_strict(&json!({"type": "object", "additionalProperties": false, "required": ["a", "b"],
            "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {
                "type": "object", "additionalProperties": false, "required": ["c"],
                "properties": {"c": {"type": ["string", "null"], "enum": ["x", null]}}}}}})));
    }

    #[test]
    fn what_breaks_a_rule_is_not() {
        let closed = |inner: Value| json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": inner}});
        assert!(is_strict(&closed(json!({"type": "string"}))));
        for schema in [
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string"}}}),
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "object", "additionalProperties": false}),
            json!(true),
            closed(json!({"type": "string", "minLength": 1})),
            closed(json!({"type": "object", "properties": {}})),
            closed(json!({"allOf": []})),
            closed(json!({"anyOf": "x"})),
            closed(json!({"type": "array", "items": true})),
        ] {
            assert!(!is_strict(&schema), "{schema}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut schema = json!({"type": "string"});
        for _ in 0..200 {
            schema = json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": schema}});
        }
        assert!(!is_strict(&schema));
    }
}
