//! Checks of JSON against schemas, each schema compiled once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::domain::plan::{Plan, ToolPlan};
use crate::domain::run::CallCheck;
use crate::tool::arguments::Schemas;

/// Compiled schemas that are kept; an agent has one or two.
const SCHEMAS_MAX: usize = 256;
/// Violations that one message names.
const VIOLATIONS_MAX: usize = 8;

/// Checks inputs, arguments and answers.
#[derive(Default)]
pub(crate) struct Checks {
    arguments: Schemas,
    compiled: Mutex<BTreeMap<String, Arc<jsonschema::Validator>>>,
}

impl Checks {
    /// Whether an input fits an agent.
    pub(crate) fn input(&self, plan: &Plan, input: &Value) -> Result<(), String> {
        match &plan.input {
            Some(schema) => self.validate(schema, input),
            None if input.is_string() => Ok(()),
            None => Err("it declares no `[input]`, so its input is text".into()),
        }
    }

    fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let validator = self.validator(schema)?;
        let violations: Vec<String> = validator
            .iter_errors(value)
            .take(VIOLATIONS_MAX)
            .map(|error| match error.instance_path().as_str() {
                "" => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(violations.join("; ")) }
    }

    fn validator(&self, schema: &Value) -> Result<Arc<jsonschema::Validator>, String> {
        let key = schema.to_string();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(validator) = compiled.get(&key) {
            return Ok(validator.clone());
        }
        let validator =
            jsonschema::validator_for(schema).map_err(|error| format!("its schema is no schema: {error}"))?;
        if compiled.len() >= SCHEMAS_MAX {
            compiled.clear();
        }
        let validator = Arc::new(validator);
        compiled.insert(key, validator.clone());
        Ok(validator)
    }
}

impl CallCheck for Checks {
    fn arguments(&self, tool: &ToolPlan, raw: &str) -> Result<(), String> {
        self.arguments.check(tool, raw).map(drop)
    }

    fn output(&self, schema: &Value, text: &str) -> Result<Value, String> {
        let value: Value = serde_json::from_str(unfenced(text)).map_err(|error| format!("it is no JSON ({error})"))?;
        self.validate(schema, &value)?;
        Ok(value)
    }
}

/// Some models wrap JSON in a Markdown fence.
fn unfenced(text: &str) -> &str {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix("```json").or_else(|| trimmed.strip_prefix("```"));
    inner.and_then(|inner| inner.strip_suffix("```")).map_or(trimmed, str::trim)
}
