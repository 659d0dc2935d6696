//! `[[stage]]`: the stages of a workflow. So far those that talk to a model: `model` and `loop`.
//!
//! Deliberately absent yet: the other kinds, limits and models of a stage, and most checks of the graph.

use crate::domain::plan::{CallPlan, PromptPlan, StageKind, StagePlan};
use crate::ids::{StageName, ToolName};
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::json_schema;
use crate::spec::keys::agent::{PROMPT, TOOLS_MAX};
use crate::spec::keys::{Field, Kind, Section, optional, required};
use crate::spec::names::{NAME_FORM, is_name};
use crate::spec::reader::Node;
use crate::spec::template::{self, Exact, Names, Place};

/// The most stages of an agent.
const STAGES_MAX: usize = 64;

/// `[[stage]]`.
pub(crate) static STAGE: Section = Section { doc: "A stage of the workflow", fields: &FIELDS };

static FIELDS: [Field; 9] = [
    required("id", Kind::Text, "Its name, for `needs`, for templates (`stages.ID.output`) and for traces"),
    required(
        "kind",
        Kind::Choice { now: &["model", "loop", "approval"], later: &["tool", "map", "agent"] },
        "What it does: `model` (one call, without tools), `loop` (calls and tools in turn) or `approval` (a person's yes)",
    ),
    optional("needs", Kind::Texts { min: 0, max: STAGES_MAX }, "The stages that must be over before it"),
    optional("when", Kind::Text, "An expression, without braces; where it is false the stage is skipped"),
    optional("prompt", Kind::Table(&PROMPT), "Its prompt; what is left out is the agent's"),
    optional("tools", Kind::Texts { min: 0, max: TOOLS_MAX }, "Tools of a `loop`; the agent's by default"),
    optional("ask", Kind::AnyText, "Template of an `approval`'s question"),
    optional("show", Kind::Text, "An expression, without braces: what is approved, and may be edited"),
    optional("output", Kind::JsonSchema, "JSON Schema of its answer; without it the answer is plain text"),
];

/// What a stage takes from its agent where it says nothing itself.
pub(crate) struct Inherited<'a> {
    /// The agent's tools, in the order of the file.
    pub(crate) tools: &'a [ToolName],
    /// The names that the agent's own templates may use.
    pub(crate) names: &'a Names,
}

/// Reads the stages of an agent file; empty where it has none. `prompt` reads the prompt of one.
pub(crate) fn resolve(
    agent: &Node<'_>,
    inherited: &Inherited<'_>,
    mut prompt: impl FnMut(Option<&Node<'_>>, &Names, &mut Faults) -> Option<PromptPlan>,
    faults: &mut Faults,
) -> Vec<StagePlan> {
    let nodes = agent.sections("stage");
    let mut stages: Vec<StagePlan> = Vec::new();
    for node in &nodes {
        let Some(id) = node.text("id") else { continue };
        if !is_name(&id.value) || id.value == "main" {
            let message = format!("`{}` is no name of a stage", id.value);
            node.fault(faults, code::BAD_NAME, &id.span, message, format!("{NAME_FORM}; `main` is taken"));
        }
        if stages.iter().any(|stage| stage.id.as_str() == id.value) {
            let message = format!("there are two stages `{}`", id.value);
            node.fault(faults, code::CONFLICT, &id.span, message, "rename one of them");
        }
        let names = inherited.names.clone().open("stages");
        let section = node.section("prompt");
        let prompt = section.as_ref().and_then(|section| prompt(Some(section), &names, faults));
        let call = CallPlan { model: None, prompt, output: json_schema::read(node, "output", faults) };
        let call = (call != CallPlan::default()).then(|| Box::new(call));
        let kind = match node.text("kind").map(|kind| kind.value).as_deref() {
            Some("loop") => StageKind::Loop { tools: tools(node, inherited), call },
            Some("approval") => StageKind::Approval {
                ask: node.text("ask").map(|ask| ask.value).unwrap_or_default(),
                show: node.text("show").map(|show| show.value),
            },
            _ => StageKind::Model { call },
        };
        let needs = node.texts("needs").map(|needs| needs.value).unwrap_or_default();
        let needs = needs.into_iter().map(|need| StageName::from(need.value)).collect();
        let when = node.text("when").map(|when| {
            let place = Place { source: node.source, span: when.span.clone(), exact: Exact::No };
            template::check_expression(&when.value, &place, &names, faults);
            when.value
        });
        stages.push(StagePlan { needs, when, ..StagePlan::new(StageName::from(id.value), kind) });
    }
    check_graph(&nodes, &stages, faults);
    stages
}

fn tools(node: &Node<'_>, inherited: &Inherited<'_>) -> Vec<ToolName> {
    match node.texts("tools") {
        Some(names) => names.value.into_iter().map(|name| ToolName::from(name.value)).collect(),
        None => inherited.tools.to_vec(),
    }
}

/// Needs that don't exist or go in a circle, and more than one stage that could give the answer.
fn check_graph(nodes: &[Node<'_>], stages: &[StagePlan], faults: &mut Faults) {
    let known = || stages.iter().map(|stage| stage.id.as_str());
    for node in nodes {
        for need in node.texts("needs").map(|needs| needs.value).unwrap_or_default() {
            if !known().any(|id| id == need.value) {
                let help = suggest(&need.value, known(), "");
                node.fault(faults, code::UNKNOWN_NAME, &need.span, format!("no stage `{}`", need.value), help);
            }
        }
    }
    let mut done: Vec<&str> = Vec::new();
    while let Some(next) = stages.iter().find(|stage| {
        !done.contains(&stage.id.as_str())
            && stage.needs.iter().all(|need| done.contains(&need.as_str()) || !known().any(|id| id == need.as_str()))
    }) {
        done.push(next.id.as_str());
    }
    let circle: Vec<&str> = known().filter(|id| !done.contains(id)).collect();
    let Some(first) = nodes.first() else { return };
    if !circle.is_empty() {
        let message = format!("stages need each other in a circle: {}", circle.join(", "));
        first.fault(faults, code::CONFLICT, &first.span, message, "take one out of the other's `needs`");
    }
    let last: Vec<&str> =
        known().filter(|id| stages.iter().all(|stage| stage.needs.iter().all(|need| need.as_str() != *id))).collect();
    if circle.is_empty() && last.len() > 1 {
        let message = format!("several stages could give the run's answer: {}", last.join(", "));
        first.fault(faults, code::CONFLICT, &first.span, message, "add a stage that needs them all");
    }
}
