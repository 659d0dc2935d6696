//! What must not be written: the values of the variables that providers and tools are given.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::domain::plan::{Plan, ToolKind};
use crate::ids::AgentName;
use crate::spec::project::{KeySource, Project};
use crate::tool::variables::{SECRET_BYTES_MIN, Variables};

/// Values and their names; the longest first, so that a secret inside another leaves no rest.
#[derive(Clone, Default)]
pub struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// Those that the project's providers and the agents' tools name.
    #[must_use]
    pub fn of(project: &Project, plans: &BTreeMap<AgentName, Plan>, variables: &Variables) -> Self {
        let mut names: Vec<&str> = project.providers.values().filter_map(|provider| variable(&provider.key)).collect();
        plans.values().for_each(|plan| listed(plan, &mut names));
        let values = names.into_iter().filter_map(|name| Some((name.to_owned(), variables.read(name)?)));
        Self::new(values.collect())
    }

    pub(super) fn new(mut values: Vec<(String, String)>) -> Self {
        values.retain(|(_, value)| value.len() >= SECRET_BYTES_MIN);
        values.sort_by(|(_, one), (_, other)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        Self(values)
    }

    /// A value with its texts' secrets, and its keys', replaced by their names.
    pub(super) fn out_of(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.out_of_text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.out_of(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (self.out_of_text(name), self.out_of(value))).collect()
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
        }
    }

    fn out_of_text(&self, mut text: String) -> String {
        for (name, value) in &self.0 {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), &format!("[{name} redacted]"));
            }
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} of them)", self.0.len())
    }
}

fn variable(key: &KeySource) -> Option<&str> {
    match key {
        KeySource::Env(name) => Some(name),
        KeySource::None
        | KeySource::Command(_)
        | KeySource::TokenCommand { .. }
        | KeySource::File(_)
        | KeySource::ServiceAccount(_)
        | KeySource::MetadataServer(_) => None,
    }
}

fn listed<'a>(plan: &'a Plan, names: &mut Vec<&'a str>) {
    for tool in plan.tools.values() {
        if let ToolKind::Command { env, .. } | ToolKind::Http { env, .. } = &tool.kind {
            names.extend(env.iter().map(String::as_str));
        }
    }
    plan.agents.values().for_each(|agent| listed(agent, names));
}
