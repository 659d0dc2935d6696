//! `[[stage]]` resolved into [`StagePlan`]s.
//!
//! Deliberately absent: how the stages hang together, which `workflow` checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::limits::Limits;
use crate::domain::plan::{CallPlan, ModelPlan, OnError, Plan, StageKind, StagePlan, ToolPlan};
use crate::ids::{AgentName, StageName, ToolName};
use crate::spec::agent::Surroundings;
use crate::spec::fault::{Faults, code};
use crate::spec::json_schema;
use crate::spec::keys::stage::{KEYS_NEEDED, KEYS_OF_KINDS};
use crate::spec::limits;
use crate::spec::model;
use crate::spec::names::{NAME_FORM, is_name, unique};
use crate::spec::prompt::{self, Texts};
use crate::spec::reader::{At, Node};
use crate::spec::template::{self, Exact, Names, Place};

/// What the stages of an agent take from it, and what they may name.
pub(crate) struct Around<'a> {
    /// What every file refers to.
    pub(crate) surroundings: &'a Surroundings<'a>,
    /// The tools and agents of a `loop` that names neither.
    pub(crate) tools: &'a [ToolName],
    /// The names that the agent's own templates may use.
    pub(crate) names: &'a Names,
    /// The agent's texts.
    pub(crate) texts: Texts<'a>,
    /// How the agent asks a model.
    pub(crate) model: Option<&'a ModelPlan>,
    /// The agent's limits.
    pub(crate) limits: &'a Limits,
    /// The tools that the file names and that are good.
    pub(crate) tool_plans: &'a BTreeMap<ToolName, ToolPlan>,
    /// The agents that the file names and that are good.
    pub(crate) agents: &'a BTreeMap<AgentName, Arc<Plan>>,
}

/// The names that an agent's file gives in a list of its own, of a stage or of an item (`many`), and one by one (`one`).
pub(crate) fn named(agent: &Node<'_>, many: &str, one: &str) -> Vec<At<String>> {
    let mut names = agent.texts(many).map(|names| names.value).unwrap_or_default();
    for stage in agent.sections("stage") {
        for node in [Some(stage.clone()), stage.section("each")].into_iter().flatten() {
            names.extend(node.texts(many).map(|names| names.value).unwrap_or_default());
            names.extend(node.text(one));
        }
    }
    names
}

/// Reads the stages of an agent file; empty where it has none.
pub(crate) fn resolve(agent: &Node<'_>, around: &Around<'_>, faults: &mut Faults) -> Vec<StagePlan> {
    let mut stages: Vec<StagePlan> = Vec::new();
    for node in agent.sections("stage") {
        let Some(id) = node.text("id") else { continue };
        if !is_name(&id.value) || id.value == "main" {
            let message = format!("`{}` is no name of a stage", id.value);
            node.fault(faults, code::BAD_NAME, &id.span, message, format!("{NAME_FORM}; `main` is taken"));
        }
        if stages.iter().any(|stage| stage.id.as_str() == id.value) {
            let message = format!("there are two stages `{}`", id.value);
            node.fault(faults, code::CONFLICT, &id.span, message, "rename one of them");
        }
        let names = around.names.clone().open("stages");
        let stage = Stage { node, around };
        stages.extend(stage.resolve(StageName::from(id.value), &names, faults));
    }
    stages
}

/// A stage, or what is done with an item, that is being resolved.
struct Stage<'a> {
    node: Node<'a>,
    around: &'a Around<'a>,
}

impl Stage<'_> {
    fn resolve(&self, id: StageName, names: &Names, faults: &mut Faults) -> Option<StagePlan> {
        let needs = self.node.texts("needs").map(|needs| needs.value).unwrap_or_default();
        unique(&self.node, &needs, "the stage", faults);
        let when = self.expression("when", names, faults);
        let ceilings = &self.around.surroundings.project.ceilings;
        let limits = self.node.section("limits");
        let limits = limits.map(|node| limits::of_stage(self.around.limits, &node, ceilings, faults));
        let cost = limits.as_ref().and_then(|limits| limits.cost);
        Some(StagePlan {
            id,
            kind: self.kind(names, faults)?,
            needs: needs.into_iter().map(|need| StageName::from(need.value)).collect(),
            when,
            on_error: self.on_error(),
            limits: limits.map(|limits| Box::new(limits.limits)),
            cost,
        })
    }

    fn kind(&self, names: &Names, faults: &mut Faults) -> Option<StageKind> {
        let kind = self.node.text("kind")?.value;
        self.check_keys(&kind, faults);
        Some(match kind.as_str() {
            "model" => StageKind::Model { call: self.call(names, faults) },
            "loop" => StageKind::Loop { tools: self.tools(), call: self.call(names, faults) },
            "tool" => StageKind::Tool {
                tool: ToolName::from(self.node.text("tool")?.value),
                arguments: self.values("args", names, faults).unwrap_or_else(|| json!({})),
                output: json_schema::read(&self.node, "output", faults),
            },
            "map" => self.map(names, faults)?,
            "approval" => StageKind::Approval {
                show: self.expression("show", names, faults),
                ask: self.template("ask", names, faults)?,
            },
            _ => {
                let agent = self.node.text("agent").map(|agent| AgentName::from(agent.value));
                let input = self.values("input", names, faults);
                StageKind::Agent { agent: agent?, input: input? }
            }
        })
    }

    fn map(&self, names: &Names, faults: &mut Faults) -> Option<StageKind> {
        let over = self.expression("over", names, faults);
        let each = Stage { node: self.node.section("each")?, around: self.around };
        let kind = each.kind(&names.clone().open("item").open("index"), faults);
        Some(StageKind::Map { over: over?, each: Box::new(kind?), on_error: each.on_error() })
    }

    /// Reports keys that this kind doesn't have, and those that it can't do without.
    fn check_keys(&self, kind: &str, faults: &mut Faults) {
        let node = &self.node;
        for (key, kinds) in KEYS_OF_KINDS {
            if node.has_described(key) && !kinds.contains(&kind) {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
                let message = format!("a stage of kind `{kind}` has no `{key}`");
                let help = format!("`{key}` is a key of kind {}", kinds.join(" and "));
                node.fault(faults, code::UNKNOWN_KEY, &node.key_span(key), message, help);
            }
        }
        for (_, key, why) in KEYS_NEEDED.into_iter().filter(|(of, key, _)| *of == kind && !node.has(key)) {
            let message = format!("a stage of kind `{kind}` needs `{key}`");
            node.fault(faults, code::MISSING_KEY, &node.span, message, why);
        }
    }

    fn on_error(&self) -> OnError {
        let goes_on = self.node.text("on_error").is_some_and(|word| word.value == "continue");
        if goes_on { OnError::Continue } else { OnError::Fail }
    }

    /// How a model is asked, where that isn't the agent's way.
    fn call(&self, names: &Names, faults: &mut Faults) -> Option<Box<CallPlan>> {
        let around = self.around;
        let section = self.node.section("prompt");
        let root = around.surroundings.root;
        let prompt = section.and_then(|node| prompt::resolve(root, Some(&node), names, around.texts, faults));
        let model = model::of_stage(&self.node, around.model, around.surroundings, faults);
        let call = CallPlan { model, prompt, output: json_schema::read(&self.node, "output", faults) };
        (call != CallPlan::default()).then(|| Box::new(call))
    }

    /// The tools of a `loop`, and the agents that it calls as tools.
    fn tools(&self) -> Vec<ToolName> {
        if !self.node.has("tools") && !self.node.has("agents") {
            return self.around.tools.to_vec();
        }
        let lists = ["tools", "agents"].into_iter().filter_map(|key| self.node.texts(key));
        lists.flat_map(|names| names.value).map(|name| ToolName::from(name.value)).collect()
    }

    fn expression(&self, key: &str, names: &Names, faults: &mut Faults) -> Option<String> {
        let text = self.node.text(key)?;
        template::check_expression(&text.value, &self.place(&text.span), names, faults);
        Some(text.value)
    }

    fn template(&self, key: &str, names: &Names, faults: &mut Faults) -> Option<String> {
        let text = self.node.text(key)?;
        template::check(&text.value, &self.place(&text.span), names, faults);
        Some(text.value)
    }

    /// A value whose texts are templates.
    fn values(&self, key: &str, names: &Names, faults: &mut Faults) -> Option<Value> {
        let value = self.node.json(key)?.value;
        for (pointer, text) in texts(&value) {
            template::check(text, &self.place(&self.node.pointed(key, &pointer)), names, faults);
        }
        Some(value)
    }

    fn place(&self, span: &std::ops::Range<usize>) -> Place<'_> {
        Place { source: self.node.source, span: span.clone(), exact: Exact::No }
    }
}

/// Every text in a value, with its JSON pointer. Recursion is bounded by the TOML parser's own bound.
fn texts(value: &Value) -> Vec<(String, &str)> {
    let inside = |(key, value)| {
        let key: String = key;
        texts(value).into_iter().map(move |(pointer, text)| (format!("/{key}{pointer}"), text))
    };
    match value {
        Value::String(text) => vec![(String::new(), text)],
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).flat_map(inside).collect()
        }
        Value::Object(fields) => {
            let escaped = |key: &String| key.replace('~', "~0").replace('/', "~1");
            fields.iter().map(|(key, value)| (escaped(key), value)).flat_map(inside).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}
