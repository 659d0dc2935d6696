//! The agent that plays where no scenario speaks: calls each fitting tool once, then answers in the asked form.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::sim::cache::Cache;
use crate::sim::chat::{Chat, Choice, Format, Role, Tool};
use crate::sim::material::Material;
use crate::sim::schema::{Filler, Purpose};

/// The most tools that are called at once.
const CALLS_MAX: usize = 8;

/// What a model says: text, or tool calls by name and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speech {
    pub(crate) text: String,
    pub(crate) calls: Vec<(String, String)>,
}

/// Plays the next turn of a conversation.
pub(crate) fn play(chat: &Chat<'_>) -> Speech {
    let material = Material::gather(chat);
    let calls = if chat.may_call() { choose(chat, &material) } else { Vec::new() };
    if calls.is_empty() {
        Speech { text: answer(chat, &material), calls }
    } else {
        Speech { text: String::new(), calls }
    }
}

/// Arguments for a tool, whatever it takes: as fit as can be, else invented.
pub(crate) fn arguments(chat: &Chat<'_>, name: &str) -> String {
    let material = Material::gather(chat);
    let tool = chat.tools.iter().find(|tool| tool.name == name);
    tool.map_or_else(|| "{}".to_owned(), |tool| forced(tool, &material).1)
}

fn choose(chat: &Chat<'_>, material: &Material) -> Vec<(String, String)> {
    if let Choice::Named(name) = chat.choice {
        return chat.tools.iter().filter(|tool| tool.name == name).map(|tool| forced(tool, material)).collect();
    }
    let called =
        |tool: &&Tool<'_>| chat.messages.iter().flat_map(|message| &message.calls).any(|call| call.name == tool.name);
    let fresh = chat.tools.iter().filter(|tool| !called(tool));
    let calls_max = if chat.parallel_calls { CALLS_MAX } else { 1 };
    let mut calls: Vec<_> = fresh.filter_map(|tool| drawn(tool, material, Purpose::Argument)).take(calls_max).collect();
    if calls.is_empty() && chat.choice == Choice::Required {
        calls.extend(chat.tools.first().map(|tool| forced(tool, material)));
    }
    calls
}

fn forced(tool: &Tool<'_>, material: &Material) -> (String, String) {
    drawn(tool, material, Purpose::Argument)
        .or_else(|| drawn(tool, material, Purpose::Answer))
        .unwrap_or_else(|| (tool.name.to_owned(), "{}".to_owned()))
}

/// The call of a tool, where its required arguments can be had and really fit its schema.
fn drawn(tool: &Tool<'_>, material: &Material, purpose: Purpose) -> Option<(String, String)> {
    let nothing = Value::Object(Map::new());
    let Some(schema) = tool.parameters else { return Some((tool.name.to_owned(), nothing.to_string())) };
    let arguments = Filler::new(material, schema, purpose).fill()?;
    static COMPILED: Cache<Arc<jsonschema::Validator>> = Cache::new();
    let make = || jsonschema::validator_for(schema).ok().map(Arc::new);
    let validator = COMPILED.of(&schema.to_string(), make)?;
    validator.is_valid(&arguments).then(|| (tool.name.to_owned(), arguments.to_string()))
}

fn answer(chat: &Chat<'_>, material: &Material) -> String {
    let fill =
        |schema: &Value| Filler::new(material, schema, Purpose::Answer).fill().unwrap_or(Value::Null).to_string();
    match chat.format {
        Format::Text => asked_in_words(chat).map_or_else(|| material.answer(), |schema| fill(&schema)),
        Format::Object => json!({"answer": material.answer()}).to_string(),
        Format::Schema(schema) => fill(schema),
    }
}

/// The form that instructions ask for in words: the schema behind the name of such.
fn asked_in_words(chat: &Chat<'_>) -> Option<Value> {
    let told = chat.messages.iter().filter(|message| message.role == Role::System).rev();
    told.filter_map(|message| message.text.split_once("JSON Schema: ")).find_map(|(_, schema)| {
        let mut values = serde_json::Deserializer::from_str(schema).into_iter::<Value>();
        values.next()?.ok().filter(Value::is_object)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::wire::openai_chat::read;
    use proptest::prelude::*;

    fn tool(name: &str, parameters: Value) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    }

    fn order_tool() -> Value {
        tool(
            "lookup_order",
            json!({"type": "object", "required": ["order"], "additionalProperties": false,
            "properties": {"order": {"type": "string", "pattern": "^[0-9]{4,8}$"}, "verbose": {"type": "boolean"}}}),
        )
    }

    fn search_tool() -> Value {
        tool(
            "search_help",
            json!({"type": "object", "required": ["query"],
            "properties": {"query": {"type": "string", "maxLength": 20}, "limit": {"type": "integer", "minimum": 1}}}),
        )
    }

    fn said(body: &Value) -> Speech {
        play(&read(body).expect("a request"))
    }

    #[test]
    fn fitting_tools_are_called_once_and_at_once() {
        let mut body = json!({"model": "m", "tools": [order_tool(), search_tool()],
            "messages": [{"role": "user", "content": "My parcel 44112 never arrived, refund me"}]});
        let calls = said(&body).calls;
        assert_eq!(
            calls,
            [
                ("lookup_order".to_owned(), r#"{"order":"44112"}"#.to_owned()),
                ("search_help".to_owned(), r#"{"query":"parcel 44112 never"}"#.to_owned()),
            ]
        );
        body["parallel_tool_calls"] = json!(false);
        assert_eq!(said(&body).calls.len(), 1);
        body["tool_choice"] = json!("none");
        assert_eq!(said(&body).calls.len(), 0);
    }

    #[test]
    fn a_tool_whose_arguments_are_not_there_is_left_alone() {
        let mut body =
            json!({"model": "m", "tools": [order_tool()], "messages": [{"role": "user", "content": "Hello!"}]});
        assert!(said(&body).calls.is_empty());
        body["tool_choice"] = json!({"type": "function", "function": {"name": "lookup_order"}});
        let (_, arguments) = said(&body).calls.remove(0);
        let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
        assert!(jsonschema::is_valid(&body["tools"][0]["function"]["parameters"], &arguments), "{arguments}");
    }

    #[test]
    fn an_answer_uses_what_the_tools_gave() {
        let body = json!({"model": "m", "tools": [order_tool()],
            "messages": [
                {"role": "user", "content": "My parcel 44112 never arrived"},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
                    "function": {"name": "lookup_order", "arguments": "{\"order\":\"44112\"}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "{\"status\":\"lost\",\"carrier\":\"DHL\"}"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object",
                "required": ["reply", "resolved"], "properties": {"reply": {"type": "string"},
                "resolved": {"type": "boolean"}, "status": {"type": "string"}}}}}});
        let answer: Value = serde_json::from_str(&said(&body).text).expect("JSON");
        assert!(answer["reply"].as_str().expect("text").contains("status lost, carrier DHL"), "{answer}");
        assert_eq!((&answer["resolved"], &answer["status"]), (&json!(true), &json!("lost")));
    }

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            (0..40_u64, 0..40_u64)
                .prop_map(|(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})),
            prop::sample::select(vec![
                "^[0-9]{4,8}$",
                "^(open|closed)-[a-z]+$",
                "^[A-Z]{2}\\d{3}$",
                "^\\S+@\\S+\\.com$"
            ])
            .prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
            prop::sample::select(vec!["email", "date", "date-time", "uri", "uuid", "ipv4"])
                .prop_map(|format| json!({"type": "string", "format": format})),
            (-500..500_i64, 0..50_i64)
                .prop_map(|(least, more)| json!({"type": "integer", "minimum": least, "maximum": least + more})),
            (1..9_i64, 1..50_i64)
                .prop_map(|(step, least)| json!({"type": "integer", "multipleOf": step, "minimum": least})),
            Just(json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})),
            Just(json!({"type": "number", "minimum": 0, "maximum": 1})),
            Just(json!({"type": ["string", "null"]})),
            Just(json!({"enum": ["refund", "delivery", 3, null]})),
            Just(json!({"const": {"kind": "fixed"}})),
            Just(json!({"type": "boolean"})),
        ]
    }

    fn schema() -> impl Strategy<Value = Value> {
        leaf().prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                (prop::collection::btree_map("[a-z]{1,8}", inner.clone(), 0..4), any::<bool>()).prop_map(|(properties, all)| {
                    let required: Vec<_> = properties.keys().filter(|name| all || name.len() > 4).cloned().collect();
                    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
                }),
                (inner.clone(), 0..4_u64, 0..3_u64).prop_map(|(items, least, more)| {
                    json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
                }),
                (inner.clone(), inner).prop_map(|(one, other)| json!({"anyOf": [one, other]})),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_answer_fits_its_schema(schema in schema(), ticket in "[ -~]{0,80}") {
            let body = json!({"model": "m", "messages": [{"role": "user", "content": ticket}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}});
            let answer: Value = serde_json::from_str(&said(&body).text).expect("JSON");
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            let error = validator.validate(&answer).err().map(|error| error.to_string());
            prop_assert!(error.is_none(), "{answer}: {error:?}");
        }

        #[test]
        fn drawn_arguments_fit_the_tool(schema in schema(), ticket in "[ -~]{0,80}") {
            let body = json!({"model": "m", "messages": [{"role": "user", "content": ticket}],
                "tools": [tool("t", json!({"type": "object", "required": ["x"], "properties": {"x": schema}}))]});
            for (_, arguments) in said(&body).calls {
                let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
                prop_assert!(jsonschema::is_valid(&body["tools"][0]["function"]["parameters"], &arguments), "{arguments}");
            }
        }
    }

    #[test]
    fn a_schema_that_asks_for_too_much_ends_soon() {
        let deep = (0..12)
            .fold(json!({"type": "string"}), |items, _| json!({"type": "array", "minItems": 200, "items": items}));
        for schema in [deep, json!({"type": "string", "pattern": "^((a{0}|b){60000}){60000}x$"})] {
            let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}});
            assert_eq!(said(&body).text, "null");
        }
    }

    #[test]
    fn references_and_recursion_end() {
        let schema = json!({"$defs": {"node": {"type": "object", "required": ["name", "next"], "properties": {
                "name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}},
            "allOf": [{"$ref": "#/$defs/node"}], "properties": {"tags": {"type": "array", "uniqueItems": true,
                "minItems": 3, "items": {"type": "string"}}}, "required": ["tags"]});
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}});
        let answer: Value = serde_json::from_str(&said(&body).text).expect("JSON");
        assert!(jsonschema::is_valid(&schema, &answer), "{answer}");
    }
}
