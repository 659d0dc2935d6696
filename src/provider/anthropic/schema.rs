//! A JSON Schema in the subset that structured outputs take (the vendor's SDK 2.12.0 makes the same of it, read 2026-11-30).
//!
//! Constraints beyond the subset are left out: the answer is held against the whole schema by the run. What can't be told
//! without changing which answers fit is no native schema: free maps, recursion, anything goes.

use serde_json::{Map, Value, json};

/// The deepest nesting.
const DEPTH_MAX: u8 = 32;
/// Formats of texts that are kept.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// The schema as the wire takes it; `None` where it can't be had.
pub(super) fn native(schema: &Value) -> Option<Value> {
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    let defined = schema.get("$defs").and_then(Value::as_object);
    let recursive = defined.is_some_and(|defs| defs.values().any(refers));
    if is_object && !recursive { told(schema, 0) } else { None }
}

/// True where a schema refers to another, which within definitions may be a circle.
fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key("$ref") || fields.values().any(refers),
        Value::Array(items) => items.iter().any(refers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn told(schema: &Value, depth: u8) -> Option<Value> {
    let fields = schema.as_object().filter(|_| depth < DEPTH_MAX)?;
    let mut kept = Map::new();
    if let Some(defs) = fields.get("$defs") {
        kept.insert("$defs".to_owned(), each(defs, depth)?);
    }
    if let Some(target) = fields.get("$ref") {
        kept.insert("$ref".to_owned(), target.clone());
        return Some(kept.into());
    }
    for word in ["title", "description"] {
        kept.extend(fields.get(word).filter(|text| text.is_string()).map(|text| (word.to_owned(), text.clone())));
    }
    let chosen =
        ["enum", "const"].into_iter().filter_map(|word| Some((word, fields.get(word).filter(|v| is_plain(v))?)));
    let before = kept.len();
    kept.extend(chosen.map(|(word, value)| (word.to_owned(), value.clone())));
    let is_chosen = kept.len() > before;
    let variants = ["anyOf", "oneOf", "allOf"].into_iter().find_map(|word| Some((word, fields.get(word)?.as_array()?)));
    match (variants, fields.get("type")) {
        (Some((word, variants)), _) => {
            let variants = variants.iter().map(|variant| told(variant, depth + 1)).collect::<Option<Vec<_>>>()?;
            kept.insert(if word == "allOf" { word } else { "anyOf" }.to_owned(), variants.into());
        }
        (None, _) if is_chosen => {}
        (None, Some(Value::String(name))) => typed(&mut kept, name, fields, depth)?,
        (None, Some(Value::Array(names))) => {
            let of = |name: &Value| {
                let mut one = Map::new();
                typed(&mut one, name.as_str()?, fields, depth)?;
                Some(Value::from(one))
            };
            kept.insert("anyOf".to_owned(), names.iter().map(of).collect::<Option<Vec<_>>>()?.into());
        }
        (None, _) => return None,
    }
    Some(kept.into())
}

fn typed(kept: &mut Map<String, Value>, name: &str, fields: &Map<String, Value>, depth: u8) -> Option<()> {
    kept.insert("type".to_owned(), name.into());
    match name {
        "object" => {
            // Closed, it would allow nothing.
            let properties = fields.get("properties").filter(|properties| properties.is_object())?;
            if fields.get("additionalProperties").is_some_and(Value::is_object) {
                return None;
            }
            kept.insert("properties".to_owned(), each(properties, depth)?);
            kept.insert("additionalProperties".to_owned(), json!(false));
            kept.extend(fields.get("required").map(|names| ("required".to_owned(), names.clone())));
        }
        "array" => {
            kept.insert("items".to_owned(), told(fields.get("items")?, depth + 1)?);
            let least = fields.get("minItems").filter(|least| matches!(least.as_u64(), Some(0 | 1)));
            kept.extend(least.map(|least| ("minItems".to_owned(), least.clone())));
        }
        "string" => {
            let format = fields.get("format").filter(|format| format.as_str().is_some_and(|f| FORMATS.contains(&f)));
            kept.extend(format.map(|format| ("format".to_owned(), format.clone())));
        }
        _ => {}
    }
    Some(())
}

fn each(schemas: &Value, depth: u8) -> Option<Value> {
    let told = |(name, schema): (&String, &Value)| Some((name.clone(), told(schema, depth + 1)?));
    Some(Value::Object(schemas.as_object()?.iter().map(told).collect::<Option<Map<_, _>>>()?))
}

/// True of single values, and of lists of them.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(|item| !item.is_array() && !item.is_object()),
        Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_wire_takes_is_kept_and_the_rest_is_left_to_the_run() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "minLength": 3, "format": "email", "description": "Where to"},
            "b": {"type": ["integer", "null"], "minimum": 1},
            "c": {"type": "array", "minItems": 1, "maxItems": 4, "items": {"enum": ["x", 3, null]}},
            "d": {"oneOf": [{"type": "boolean"}, {"$ref": "#/$defs/e"}]}},
            "$defs": {"e": {"type": "object", "properties": {"f": {"const": 1}}}}});
        assert_eq!(
            native(&schema).expect("a schema"),
            json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
                "a": {"type": "string", "format": "email", "description": "Where to"},
                "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "c": {"type": "array", "minItems": 1, "items": {"enum": ["x", 3, null]}},
                "d": {"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/e"}]}},
                "$defs": {"e": {"type": "object", "additionalProperties": false, "properties": {"f": {"const": 1}}}}})
        );
    }

    #[test]
    fn what_would_change_which_answers_fit_is_no_native_schema() {
        let within = |inner: Value| json!({"type": "object", "properties": {"a": inner}});
        let deep = (0..40).fold(json!({"type": "string"}), |items, _| json!({"type": "array", "items": items}));
        for schema in [
            json!(true),
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "object"}),
            within(json!({})),
            within(json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}})),
            within(json!({"type": "array"})),
            within(json!({"enum": [{"x": 1}]})),
            within(deep),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}},
                "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}}),
        ] {
            assert_eq!(native(&schema), None, "{schema}");
        }
    }
}
