//! JSON Schemas (draft-07) of the files, for editors; made from the description that the reader uses.

use serde_json::{Map, Value, json};

use crate::spec::keys::agent::AGENT;
use crate::spec::keys::project::PROJECT;
use crate::spec::keys::tool::TOOL;
use crate::spec::keys::{Field, Kind, Section};

/// The dialect that TOML editors know best.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of `agents/*.toml`.
#[must_use]
pub fn agent() -> Value {
    document("Plimsoll agent", &AGENT)
}

/// The schema of `tools/*.toml`.
#[must_use]
pub fn tool() -> Value {
    document("Plimsoll tool", &TOOL)
}

/// The schema of `plimsoll.toml`.
#[must_use]
pub fn project() -> Value {
    document("Plimsoll project", &PROJECT)
}

fn document(title: &str, section: &Section) -> Value {
    let mut schema = Map::from_iter([("$schema".to_owned(), json!(DIALECT)), ("title".to_owned(), json!(title))]);
    schema.extend(of_section(section));
    Value::Object(schema)
}

fn of_section(section: &Section) -> Map<String, Value> {
    // What is set elsewhere is left out: editors should mark it as the reader does.
    let fields = || section.fields.iter().filter(|field| !matches!(field.kind, Kind::Elsewhere(_)));
    let properties: Map<String, Value> = fields().map(|field| (field.key.to_owned(), of_field(field))).collect();
    let required: Vec<&str> = fields().filter(|field| field.required).map(|field| field.key).collect();
    let mut schema = Map::from_iter([
        ("description".to_owned(), json!(section.doc)),
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), Value::Object(properties)),
        ("additionalProperties".to_owned(), json!(false)),
    ]);
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn of_field(field: &Field) -> Value {
    let mut schema = of_kind(&field.kind);
    schema.insert("description".to_owned(), json!(field.doc));
    Value::Object(schema)
}

fn of_kind(kind: &Kind) -> Map<String, Value> {
    const DURATION: &str = r"\s*[0-9]+\s*(ms|s|m|min|h|d)\s*";
    const AMOUNT: &str = r"^\s*\$?[0-9][0-9_,]*(\.[0-9]+)?\s*$";
    let schema = match kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::AnyText => json!({ "type": "string" }),
        Kind::Choice { now, .. } => json!({ "type": "string", "enum": now }),
        Kind::Texts { min, max } => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": min, "maxItems": max })
        }
        Kind::TextsOrText { max } => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": max },
        ] }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Number { max } => json!({ "type": "number", "minimum": 0, "maximum": max }),
        Kind::Money | Kind::Price => json!({ "type": "string", "pattern": AMOUNT }),
        Kind::Duration { .. } => json!({ "type": "string", "pattern": format!("^{DURATION}$") }),
        Kind::Durations { .. } => {
            json!({ "type": "string", "pattern": format!(r"^{DURATION}(\.\.{DURATION})?$") })
        }
        // A TOML date reaches the editor's schema check as text.
        Kind::Instant => json!({ "type": "string" }),
        Kind::Table(section) => return of_section(section),
        Kind::Tables(section) => json!({ "type": "array", "items": Value::Object(of_section(section)) }),
        Kind::TablesByName(section) => {
            json!({ "type": "object", "additionalProperties": Value::Object(of_section(section)) })
        }
        Kind::TextsByName => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::JsonSchema | Kind::Json => json!({ "type": "object" }),
        Kind::Value => json!({ "type": ["string", "object"] }),
        Kind::Elsewhere(_) => json!(false),
    };
    schema.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that read values: each key must stand there as it is read.
    const READERS: [&str; 18] = [
        include_str!("alerts.rs"),
        include_str!("outcome.rs"),
        include_str!("accounts.rs"),
        include_str!("azure.rs"),
        include_str!("agent.rs"),
        include_str!("model.rs"),
        include_str!("tool.rs"),
        include_str!("configuration.rs"),
        include_str!("limits.rs"),
        include_str!("load.rs"),
        include_str!("names.rs"),
        include_str!("policy.rs"),
        include_str!("prices.rs"),
        include_str!("prompt.rs"),
        include_str!("rates.rs"),
        include_str!("readers.rs"),
        include_str!("stage.rs"),
        include_str!("workflow.rs"),
    ];

    fn keys(section: &'static Section, found: &mut Vec<&'static str>) {
        for field in section.fields {
            if let Kind::Table(inner) | Kind::Tables(inner) | Kind::TablesByName(inner) = field.kind {
                keys(inner, found);
            }
            if !matches!(field.kind, Kind::Elsewhere(_)) {
                found.push(field.key);
            }
        }
    }

    #[test]
    fn every_key_of_the_schemas_is_read() {
        let mut found = Vec::new();
        [&AGENT, &TOOL, &PROJECT].into_iter().for_each(|section| keys(section, &mut found));
        // The limits are read by their kind's name; `every_limit_that_is_described_can_be_set_and_read_back` has them.
        let limits: Vec<&str> = crate::spec::keys::LIMITS.iter().map(|field| field.key).collect();
        for key in found.iter().filter(|key| !limits.contains(key)) {
            let quoted = format!("\"{key}\"");
            assert!(READERS.iter().any(|source| source.contains(&quoted)), "`{key}` is described but never read");
        }
    }

    #[test]
    fn the_schemas_are_ones() {
        for schema in [agent(), tool(), project()] {
            jsonschema::draft7::meta::validate(&schema).expect("a draft-07 schema");
            jsonschema::draft7::new(&schema).expect("a schema that compiles");
        }
    }
}
