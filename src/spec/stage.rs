//! `[[stage]]` resolved into [`StagePlan`]s.
//!
//! Deliberately absent: how the stages hang together, which `workflow` checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::limits::Limits;
use crate::domain::plan::{CachePlan, CallPlan, ModelPlan, OnError, Plan, StageKind, StagePlan, ToolPlan};
use crate::domain::template::sole_expression;
use crate::ids::{AgentName, StageName, ToolName};
use crate::spec::agent::{self, Surroundings};
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::json_schema;
use crate::spec::keys::stage::{KEYS_NEEDED, KEYS_OF_KINDS, STAGES_MAX};
use crate::spec::limits;
use crate::spec::model;
use crate::spec::names::{NAME_FORM, is_name, unique};
use crate::spec::prompt::{self, Texts};
use crate::spec::reader::{At, Node, one_line};
use crate::spec::shape::{Shape, TEXT};
use crate::spec::template::{self, Barred, Exact, Names, Place};

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
    /// The agent's own JSON Schema of the answer.
    pub(crate) output: Option<&'a Value>,
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

/// Reads the stages of an agent file; empty where it has none. `from` is the stage that gives the answer, if the file
/// names one.
pub(crate) fn resolve(
    agent: &Node<'_>,
    around: &Around<'_>,
    from: Option<&str>,
    faults: &mut Faults,
) -> Vec<StagePlan> {
    let nodes = agent.sections("stage");
    if let Some(one_more) = nodes.get(STAGES_MAX) {
        let message = format!("the agent has {} stages", nodes.len());
        let help = format!("at most {STAGES_MAX}; give a part of the work to an agent of its own");
        one_more.fault(faults, code::TOO_MANY, &one_more.span, message, help);
        return Vec::new();
    }
    let all = Outlines::of(&nodes, around, from);
    let mut stages: Vec<StagePlan> = Vec::new();
    for node in nodes {
        let Some(id) = node.text("id") else { continue };
        if !is_name(&id.value) || id.value == "main" {
            let message = format!("`{}` is no name of a stage", id.value);
            node.fault(faults, code::BAD_NAME, &id.span, message, format!("{NAME_FORM}; `main` is taken"));
        }
        if stages.iter().any(|stage| stage.id.as_str() == id.value) {
            let message = format!("there are two stages `{}`", id.value);
            node.fault(faults, code::CONFLICT, &id.span, message, "rename one of them");
        }
        let names = all.names_at(&id.value, around.names);
        let stage = Stage { node, around };
        stages.extend(stage.resolve(StageName::from(id.value), &names, faults));
    }
    stages
}

/// What each stage needs and gives, before its own templates are looked at.
struct Outlines(BTreeMap<String, Outline>);

struct Outline {
    needs: Vec<String>,
    gives: Shape,
}

impl Outlines {
    fn of(nodes: &[Node<'_>], around: &Around<'_>, from: Option<&str>) -> Self {
        let needs = |node: &Node<'_>| node.texts("needs").map(|needs| needs.value).unwrap_or_default();
        let needed: Vec<String> = nodes.iter().flat_map(needs).map(|need| need.value).collect();
        let open = around.names.clone().with("stages", Shape::Any);
        let outline = |node: &Node<'_>| {
            let id = node.text("id")?.value;
            let gives_the_answer = from.map_or_else(|| !needed.contains(&id), |from| from == id);
            let agents_own = around.output.filter(|_| gives_the_answer);
            let stage = Stage { node: node.clone(), around };
            // The faults are told when the names are known.
            let kind = stage.kind(&open, &mut Faults::new());
            let gives = kind.map_or(Shape::Any, |kind| Shape::of_kind(&kind, agents_own, around.agents));
            let needs = needs(node).into_iter().map(|need| need.value).collect();
            Some((id, Outline { needs, gives }))
        };
        Self(nodes.iter().filter_map(outline).collect())
    }

    /// The stages that are over before this one, itself among them only in a circle.
    fn before<'a>(&'a self, id: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open = vec![id];
        while let Some(next) = open.pop() {
            let needs = self.0.get(next).map(|outline| &outline.needs[..]).unwrap_or_default();
            open.extend(needs.iter().map(String::as_str).filter(|need| found.insert(*need)));
        }
        found
    }

    /// What the templates of a stage may use.
    fn names_at(&self, id: &str, names: &Names) -> Names {
        let before = self.before(id);
        let told = |gives: &Shape| Shape::object([("output", gives.clone()), ("state", TEXT), ("error", TEXT)]);
        let usable = self.0.iter().filter(|(other, _)| before.contains(other.as_str()) && *other != id);
        let usable = usable.map(|(other, outline)| (other.clone(), told(&outline.gives))).collect();
        let names = names.clone().with("stages", Shape::Object(usable));
        let barred = self.0.keys().filter(|other| !before.contains(other.as_str()) || *other == id);
        barred.fold(names, |names, other| {
            let why = if other == id {
                Barred::Itself
            } else if self.before(other).contains(id) {
                Barred::NeedsThis
            } else {
                Barred::NotNeeded
            };
            names.barring(other, why)
        })
    }
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
            history: self.history(),
            cache: self.cache(),
        })
    }

    /// Of a map, what is said of each item.
    fn cache(&self) -> Option<CachePlan> {
        agent::cache(&self.node).or_else(|| agent::cache(&self.node.section("each")?))
    }

    fn kind(&self, names: &Names, faults: &mut Faults) -> Option<StageKind> {
        let kind = self.node.text("kind")?.value;
        self.check_keys(&kind, faults);
        Some(match kind.as_str() {
            "model" => StageKind::Model { call: self.call(names, faults) },
            "loop" => StageKind::Loop { tools: self.tools(), call: self.call(names, faults) },
            "tool" => self.tool(names, faults)?,
            "map" => self.map(names, faults)?,
            "approval" => StageKind::Approval {
                show: self.expression("show", names, faults),
                ask: self.template("ask", names, faults)?,
            },
            _ => self.agent(names, faults)?,
        })
    }

    fn map(&self, names: &Names, faults: &mut Faults) -> Option<StageKind> {
        let over = self.expression("over", names, faults);
        let item = over.as_ref().map_or(Shape::Any, |over| self.item_of(over, names, faults));
        let each = Stage { node: self.node.section("each")?, around: self.around };
        let names = names.clone().with("item", item).with("index", Shape::Plain("a number"));
        let kind = each.kind(&names, faults);
        Some(StageKind::Map { over: over?, each: Box::new(kind?), on_error: each.on_error() })
    }

    /// What is known of the items of a list; reports an expression that surely gives none.
    fn item_of(&self, over: &str, names: &Names, faults: &mut Faults) -> Shape {
        match names.shape_of(over) {
            Some(Shape::List(item)) => (**item).clone(),
            Some(Shape::Any) | None => Shape::Any,
            Some(other @ (Shape::Plain(_) | Shape::Object(_))) => {
                let message = format!("`over` must give a list, but `{}` is {}", over.trim(), other.in_words());
                let help = if *other == TEXT {
                    format!("split it, such as `{} | split('\\n')`, or name a list", over.trim())
                } else {
                    "name a list, such as a field of it".to_owned()
                };
                self.node.fault(faults, code::BAD_TEMPLATE, &self.node.span_of("over"), message, help);
                Shape::Any
            }
        }
    }

    fn tool(&self, names: &Names, faults: &mut Faults) -> Option<StageKind> {
        let arguments = self.values("args", names, faults).unwrap_or_else(|| json!({}));
        let output = json_schema::read(&self.node, "output", faults);
        let tool = ToolName::from(self.node.text("tool")?.value);
        if let Some(plan) = self.around.tool_plans.get(&tool) {
            let taker = Taker { name: format!("the tool `{tool}`"), key: "args", schema: &plan.input };
            taker.check(&self.node, &arguments, faults);
        }
        Some(StageKind::Tool { tool, arguments, output })
    }

    fn agent(&self, names: &Names, faults: &mut Faults) -> Option<StageKind> {
        let input = self.values("input", names, faults);
        let agent = AgentName::from(self.node.text("agent")?.value);
        let mut input = input?;
        if let Some(plan) = self.around.agents.get(&agent) {
            input = self.input_of(plan, input, names, faults);
        }
        Some(StageKind::Agent { agent, input })
    }

    /// The input as the agent takes it: a text fills the only field of one that takes an object of one text.
    fn input_of(&self, plan: &Plan, input: Value, names: &Names, faults: &mut Faults) -> Value {
        let takes_text = |schema: &Value| schema.get("type") == Some(&Value::from("string"));
        let wrong = |takes: &str, faults: &mut Faults| {
            let message = format!("the agent `{}` takes {takes}", plan.agent);
            let help = if takes == "a text" {
                "write one text, such as `input = \"{{ input }}\"`".to_owned()
            } else {
                let fields = plan.input.as_ref().map_or(Shape::Any, Shape::of_schema);
                let fields: Vec<String> =
                    fields.fields().into_iter().flatten().map(|name| format!("{name} = \"…\"")).collect();
                format!("write a table: `input = {{ {} }}`", fields.join(", "))
            };
            self.node.fault(faults, code::BAD_VALUE, &self.node.span_of("input"), message, help);
        };
        let Some(schema) = plan.input.as_ref().filter(|schema| !takes_text(schema)) else {
            if !input.is_string() {
                wrong("a text", faults);
            }
            return input;
        };
        match &input {
            Value::String(text) => {
                let whole = sole_expression(text).and_then(|inner| names.shape_of(inner));
                let is_no_object = !matches!(whole, Some(Shape::Object(_)));
                if let Some(field) = json_schema::only_text(schema).filter(|_| is_no_object) {
                    return json!({ field: input });
                }
                if sole_expression(text).is_none() || matches!(whole, Some(Shape::Plain(_) | Shape::List(_))) {
                    wrong("an object", faults);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                let taker = Taker { name: format!("the agent `{}`", plan.agent), key: "input", schema };
                taker.check(&self.node, &input, faults);
            }
        }
        input
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

    /// A thread's history goes to whoever talks, as long as nothing else is said; to the items of a map only where that is
    /// said, since each of them would pay for it.
    fn history(&self) -> bool {
        let said = |node: &Node<'_>| node.boolean("history");
        match self.node.text("kind").map(|kind| kind.value).as_deref() {
            Some("model" | "loop") => said(&self.node).unwrap_or(true),
            Some("map") => self.node.section("each").and_then(|each| said(&each)).unwrap_or(false),
            Some(_) | None => false,
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

/// Who takes a table of values: a tool or an agent.
struct Taker<'a> {
    name: String,
    key: &'static str,
    schema: &'a Value,
}

impl Taker<'_> {
    /// Reports keys that the schema hasn't, those that it lacks, and constants that don't fit it.
    fn check(&self, node: &Node<'_>, given: &Value, faults: &mut Faults) {
        let (Value::Object(given), shape) = (given, Shape::of_schema(self.schema)) else { return };
        let Some(known) = shape.fields() else { return };
        let Self { name, key, .. } = self;
        for (field, value) in given {
            let span = node.pointed(key, &format!("/{}", escaped(field)));
            if !known.clone().any(|known| known == field) {
                let help = suggest(field, known.clone(), "it takes nothing");
                node.fault(faults, code::BAD_VALUE, &span, format!("{name} takes no `{field}`"), help);
            } else if let Some(problem) = self.misfit(field, value) {
                let message = format!("`{field}` of {name} doesn't take this: {problem}");
                let help = format!("see `properties.{field}` of its `[input]`");
                node.fault(faults, code::BAD_VALUE, &span, message, help);
            }
        }
        let required = self.schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for field in required.filter_map(Value::as_str).filter(|field| !given.contains_key(*field)) {
            let span = if node.has(key) { node.span_of(key) } else { node.span.clone() };
            let help = format!("add `{field}` to `{key}`");
            node.fault(faults, code::BAD_VALUE, &span, format!("{name} needs `{field}`"), help);
        }
    }

    /// Why a value without templates doesn't fit.
    fn misfit(&self, field: &str, value: &Value) -> Option<String> {
        let is_template = texts(value).iter().any(|(_, text)| text.contains("{{") || text.contains("{%"));
        let schema = self.schema.get("properties")?.get(field).filter(|_| !is_template)?;
        let error = jsonschema::validator_for(schema).ok()?.validate(value).err()?.to_string();
        Some(one_line(&error))
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
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
        Value::Object(fields) => fields.iter().map(|(key, value)| (escaped(key), value)).flat_map(inside).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}
