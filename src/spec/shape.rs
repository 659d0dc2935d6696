//! What is known of a value before it exists: its fields, the items of a list, or that it is a plain text.
//!
//! It comes from JSON Schemas and from the kinds of stages. What isn't known for sure is [`Shape::Any`]: no template is
//! refused on a guess.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::plan::{CallPlan, Plan, StageKind};
use crate::ids::AgentName;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Nothing.
    Any,
    /// It has no parts; what it is, in words.
    Plain(&'static str),
    /// A list; what is known of each item.
    List(Box<Shape>),
    /// An object with these fields and no others.
    Object(BTreeMap<String, Shape>),
}

/// A text.
pub(crate) const TEXT: Shape = Shape::Plain("a text");

/// Words of a JSON Schema that could add to what stands beside them.
const OPEN: [&str; 8] = ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "propertyNames"];

impl Shape {
    /// The shape that a JSON Schema gives. Recursion is bounded by the TOML parser's own bound.
    pub(crate) fn of_schema(schema: &Value) -> Self {
        let Some(object) = schema.as_object() else { return Self::Any };
        if OPEN.iter().any(|key| object.contains_key(*key)) {
            return Self::Any;
        }
        match object.get("type").and_then(Value::as_str) {
            Some("string") => TEXT,
            Some("number" | "integer") => Self::Plain("a number"),
            Some("boolean") => Self::Plain("true or false"),
            Some("array") if object.contains_key("prefixItems") => Self::List(Box::new(Self::Any)),
            Some("array") => Self::List(Box::new(object.get("items").map_or(Self::Any, Self::of_schema))),
            Some("object") => of_object(schema),
            None if !object.contains_key("type") && object.contains_key("properties") => of_object(schema),
            None if is_enum_of_texts(schema) => TEXT,
            Some(_) | None => Self::Any,
        }
    }

    /// What an agent gives.
    pub(crate) fn of_plan(plan: &Plan) -> Self {
        match (&plan.output, plan.result_stage()) {
            (Some(schema), _) => Self::of_schema(schema),
            (None, Some(stage)) => Self::of_kind(&stage.kind, None, &plan.agents),
            (None, None) => Self::Any,
        }
    }

    /// What a stage gives. `agents_own` is the agent's `[output]`, for the stage that gives the run's answer.
    pub(crate) fn of_kind(
        kind: &StageKind,
        agents_own: Option<&Value>,
        agents: &BTreeMap<AgentName, Arc<Plan>>,
    ) -> Self {
        let by = |schema: Option<&Value>| schema.or(agents_own).map_or(TEXT, Self::of_schema);
        match kind {
            StageKind::Loop { call, .. } | StageKind::Model { call } => {
                by(call.as_deref().and_then(|call: &CallPlan| call.output.as_ref()))
            }
            StageKind::Tool { output, .. } => output.as_ref().map_or(TEXT, Self::of_schema),
            StageKind::Map { each, .. } => Self::List(Box::new(Self::of_kind(each, None, agents))),
            StageKind::Approval { .. } => Self::object([
                ("approved", Self::Plain("true or false")),
                ("by", TEXT),
                ("reason", TEXT),
                ("value", Self::Any),
            ]),
            StageKind::Agent { agent, .. } => agents.get(agent).map_or(Self::Any, |plan| Self::of_plan(plan)),
        }
    }

    /// An object of these fields.
    pub(crate) fn object<const N: usize>(fields: [(&str, Self); N]) -> Self {
        Self::Object(fields.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect())
    }

    /// The names of its fields, where it has these and no others.
    pub(crate) fn fields(&self) -> Option<impl Iterator<Item = &str> + Clone> {
        if let Self::Object(fields) = self { Some(fields.keys().map(String::as_str)) } else { None }
    }

    /// A part of it; `None` where it surely has no such part.
    pub(crate) fn part(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Any => Some(&Self::Any),
            Self::Plain(_) => None,
            Self::List(item) => name.bytes().all(|byte| byte.is_ascii_digit()).then_some(&**item),
            Self::Object(fields) => fields.get(name),
        }
    }

    /// What it is, in words.
    pub(crate) const fn in_words(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Plain(what) => what,
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// An object's schema, where it says nothing that could add properties.
fn of_object(schema: &Value) -> Shape {
    let more = schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
    let properties = schema.get("properties").and_then(Value::as_object).filter(|_| !more);
    properties.map_or(Shape::Any, |properties| {
        Shape::Object(properties.iter().map(|(name, schema)| (name.clone(), Shape::of_schema(schema))).collect())
    })
}

fn is_enum_of_texts(schema: &Value) -> bool {
    schema.get("enum").and_then(Value::as_array).is_some_and(|values| values.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_tells_no_more_than_it_says() {
        let schema = json!({
            "type": "object",
            "properties": {
                "kind": { "enum": ["a", "b"] },
                "parts": { "type": "array", "items": { "type": "object", "properties": { "n": { "type": "integer" } } } },
                "more": { "anyOf": [{ "type": "string" }] },
                "open": { "type": "object" },
                "maybe": { "type": ["string", "null"] },
            },
        });
        let shape = Shape::of_schema(&schema);
        let at = |path: &str| path.split('.').try_fold(&shape, |shape, name| shape.part(name));
        assert_eq!(at("kind"), Some(&TEXT));
        assert_eq!(at("parts.0.n"), Some(&Shape::Plain("a number")));
        for unknown in ["more.x", "open.x", "maybe.x"] {
            assert_eq!(at(unknown), Some(&Shape::Any), "{unknown}");
        }
        for absent in ["other", "kind.x", "parts.n", "parts.0.m"] {
            assert_eq!(at(absent), None, "{absent}");
        }
        let open = json!({ "type": "object", "properties": {}, "additionalProperties": true });
        assert_eq!(Shape::of_schema(&open), Shape::Any);
    }
}
