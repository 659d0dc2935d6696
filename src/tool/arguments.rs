//! A model's arguments against a tool's JSON Schema: all that is wrong, in one message that the model can mend.
//!
//! Deliberately absent: references to other files or hosts, and repair of what the model wrote.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;

use super::output;
use crate::domain::plan::ToolPlan;
use crate::ids::ToolName;
use crate::units::grouped;

/// The longest arguments that are read.
pub const ARGUMENTS_BYTES_MAX: usize = 256 * 1024;
/// The most faults that one message names.
const FAULTS_MAX: usize = 20;
/// The longest description of one fault.
const FAULT_BYTES_MAX: usize = 300;
/// Compiled schemas that are kept.
const SCHEMAS_MAX: usize = 1_024;

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::default);

/// Parses and checks the arguments that a model wrote. Empty text and `null` stand for `{}`.
///
/// # Errors
/// Says all that is wrong, for the model.
pub fn check_arguments(tool: &ToolPlan, raw: &str) -> Result<Value, String> {
    SCHEMAS.check(tool, raw)
}

/// Compiles a tool's schema and throws it away: for the check of a tool file.
///
/// # Errors
/// Says what is wrong with the schema.
pub fn check_schema(schema: &Value) -> Result<(), String> {
    compile(schema).map(|_| ())
}

/// Compiled schemas by tool. Each is compiled once; plans may hold different ones under one name.
#[derive(Default)]
pub struct Schemas(Mutex<BTreeMap<ToolName, Vec<Compiled>>>);

struct Compiled {
    schema: Value,
    validator: Arc<Validator>,
}

impl Schemas {
    /// As [`check_arguments`].
    ///
    /// # Errors
    /// Says all that is wrong, for the model.
    pub fn check(&self, tool: &ToolPlan, raw: &str) -> Result<Value, String> {
        let arguments = parse(tool, raw)?;
        let validator = self.validator(tool).map_err(|fault| format!("`{}` can't be called: {fault}", tool.name))?;
        let faults = faults(&validator, &arguments);
        if faults.is_empty() { Ok(arguments) } else { Err(message(tool, &faults)) }
    }

    fn validator(&self, tool: &ToolPlan) -> Result<Arc<Validator>, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(&tool.name).and_then(|all| all.iter().find(|one| one.schema == tool.input));
        if let Some(found) = found {
            return Ok(Arc::clone(&found.validator));
        }
        let validator = Arc::new(compile(&tool.input)?);
        if kept.values().map(Vec::len).sum::<usize>() >= SCHEMAS_MAX {
            kept.clear();
        }
        let compiled = Compiled { schema: tool.input.clone(), validator: Arc::clone(&validator) };
        kept.entry(tool.name.clone()).or_default().push(compiled);
        Ok(validator)
    }
}

fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| format!("its schema is no JSON Schema: {error}"))
}

fn parse(tool: &ToolPlan, raw: &str) -> Result<Value, String> {
    if raw.len() > ARGUMENTS_BYTES_MAX {
        let (given, most) = (byte_count(raw.len()), byte_count(ARGUMENTS_BYTES_MAX));
        return Err(format!("the arguments of `{}` have {given} bytes; at most {most} are read", tool.name));
    }
    let raw = raw.trim();
    let parsed = if raw.is_empty() { Ok(Value::Null) } else { serde_json::from_str(raw) };
    match parsed {
        Ok(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(format!("the arguments of `{}` must be one JSON object, such as {{\"name\": \"value\"}}", tool.name))
        }
        Err(error) => Err(format!("the arguments of `{}` are no JSON: {error}; send one JSON object", tool.name)),
    }
}

fn byte_count(length: usize) -> String {
    grouped(u64::try_from(length).unwrap_or(u64::MAX))
}

/// What is wrong, one line each: where, what was found, what was expected.
fn faults(validator: &Validator, arguments: &Value) -> Vec<String> {
    if validator.is_valid(arguments) {
        return Vec::new();
    }
    validator.iter_errors(arguments).take(FAULTS_MAX + 1).map(|error| fault(&error)).collect()
}

fn fault(error: &jsonschema::ValidationError) -> String {
    let path = error.instance_path().to_string();
    let mut words = error.to_string();
    if words.len() > FAULT_BYTES_MAX {
        // The text holds the offending value, which may be long; what was expected comes after it.
        words = error.masked_with("the value").to_string();
    }
    words.truncate(output::floor(&words, FAULT_BYTES_MAX));
    if path.is_empty() { words } else { format!("at `{path}`: {words}") }
}

fn message(tool: &ToolPlan, faults: &[String]) -> String {
    let mut text = format!("the arguments of `{}` don't fit its schema; mend them and call again:", tool.name);
    for fault in faults.iter().take(FAULTS_MAX) {
        write!(text, "\n- {fault}").expect("writing to a string can't fail");
    }
    if faults.len() > FAULTS_MAX {
        text.push_str("\n- and more");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tool::fixture;

    fn tool(input: Value) -> ToolPlan {
        ToolPlan { input, ..fixture::template_tool("ok") }
    }

    fn order() -> ToolPlan {
        tool(json!({
            "type": "object",
            "required": ["order"],
            "properties": { "order": { "type": "string", "pattern": "^[0-9]{4,8}$" }, "count": { "type": "integer" } },
            "additionalProperties": false,
        }))
    }

    #[test]
    fn arguments_that_fit_are_parsed() {
        assert_eq!(check_arguments(&order(), r#" {"order": "1234"} "#), Ok(json!({"order": "1234"})));
        for empty in ["", "  ", "null", "{}"] {
            assert_eq!(check_arguments(&tool(json!({"type": "object"})), empty), Ok(json!({})), "{empty:?}");
        }
    }

    #[test]
    fn every_fault_is_named_with_its_place_and_what_was_expected() {
        let message = check_arguments(&order(), r#"{"order": "12", "count": "x", "extra": 1}"#).expect_err("3 faults");
        for part in ["`stub`", "at `/order`", "^[0-9]{4,8}$", "at `/count`", "integer", "extra"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert_eq!(message.lines().count(), 4, "{message}");
        let message = check_arguments(&order(), "").expect_err("missing");
        assert!(message.contains("\"order\" is a required property"), "{message}");
    }

    #[test]
    fn what_is_no_object_is_refused_with_how_to_mend_it() {
        for raw in ["{\"order\": ", "[1]", "7", "\"order\"", "{'order': 1}"] {
            let message = check_arguments(&order(), raw).expect_err(raw);
            assert!(message.contains("JSON object"), "{message}");
        }
    }

    #[test]
    fn size_and_messages_are_bounded() {
        let long = format!(r#"{{"order": "{}"}}"#, "x".repeat(ARGUMENTS_BYTES_MAX));
        assert!(check_arguments(&order(), &long).expect_err("too long").contains("at most 262,144 are read"));
        let long = format!(r#"{{"order": "{}"}}"#, "x".repeat(100_000));
        let message = check_arguments(&order(), &long).expect_err("no match");
        assert!(message.len() < 1_000 && message.contains("^[0-9]{4,8}$"), "{message}");
        let list = tool(json!({"properties": {"list": {"items": {"type": "string"}}}}));
        let message = check_arguments(&list, &json!({ "list": vec![1; 5_000] }).to_string()).expect_err("5,000 faults");
        assert!(message.len() < 8_000 && message.ends_with("and more"), "{message}");
        assert!(check_arguments(&order(), &"[".repeat(10_000)).is_err());
    }

    #[test]
    fn two_schemas_under_one_name_are_kept_apart() {
        let schemas = Schemas::default();
        let (loose, strict) = (tool(json!({})), order());
        for _ in 0..3 {
            assert!(schemas.check(&loose, "{}").is_ok());
            assert!(schemas.check(&strict, "{}").is_err());
        }
        let kept = schemas.0.lock().expect("no panic");
        assert_eq!(kept.values().map(Vec::len).sum::<usize>(), 2, "each is compiled once");
    }

    #[test]
    fn a_schema_is_checked_by_itself_and_reaches_no_other_place() {
        assert!(check_schema(&json!({"type": "object"})).is_ok());
        assert!(check_schema(&json!({"type": "objekt"})).is_err());
        assert!(check_schema(&json!({"$ref": "https://example.com/schema.json"})).is_err());
        assert!(check_schema(&json!({"$ref": "file:///etc/hostname"})).is_err());
    }
}
