//! What a request asks for beside its messages, by what its model takes: reasoning, the answer's form, and which tools.
//!
//! Pure, and decided once for each direction: the reply to a request is read by the same shape that it was sent in.

use serde_json::{Value, json};

use super::schema;
use crate::domain::ability::{Abilities, Reasons};
use crate::domain::message::{Assistant, Form, Message, Request, ToolChoice};
use crate::domain::pricing::{Factor, PriceBook};
use crate::spec::project::ProviderConfig;

/// The smallest budget that may be given for reasoning (PROVIDERS §3).
const BUDGET_MIN: u32 = 1_024;
/// The first generation that decides itself how long it reasons, as major and minor number.
const ADAPTIVE_SINCE: (u32, u32) = (4, 6);
/// The first generation that takes no budget any more.
const NO_BUDGET_SINCE: (u32, u32) = (4, 7);

/// How reasoning is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Not at all: the model does as it does.
    Unsaid,
    /// As long as the model sees fit.
    Adaptive,
    /// For so many tokens of the output at most.
    Budget(u32),
    /// Between tool calls only.
    BetweenTools,
    /// Turned off.
    Off,
}

/// How an answer in a form is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answering {
    /// In any form.
    Free,
    /// By the wire's own means, in this schema.
    Native(Value),
    /// As the arguments of a tool of this name.
    Tool(String),
    /// In words; the run checks what comes.
    Asked,
}

/// What a request asks for beside its messages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) thinking: Thinking,
    /// `output_config.effort`.
    pub(super) effort: Option<String>,
    pub(super) answering: Answering,
    /// `tool_choice` without its switch for parallel calls; `None` where there are no tools.
    pub(super) choice: Option<Value>,
    /// `inference_geo`, where the model's price depends on it.
    pub(super) place: Option<String>,
}

impl Shape {
    pub(super) fn of(config: &ProviderConfig, request: &Request) -> Self {
        let abilities = config.abilities(&request.model);
        let (thinking, effort) = thinking(request, &abilities);
        let may_force = matches!(thinking, Thinking::Unsaid | Thinking::Off)
            && abilities.reasoning != Reasons::Always
            && !abilities.forced_tools.is_no();
        let answering = answering(request, &abilities, may_force);
        Self {
            choice: choice(request, &answering, may_force),
            place: place(config, request),
            thinking,
            effort,
            answering,
        }
    }

    /// The tool whose arguments are the answer.
    pub(super) fn answer_tool(self) -> Option<String> {
        if let Answering::Tool(name) = self.answering { Some(name) } else { None }
    }
}

/// Reasoning as the model takes it: newer ones decide its length themselves and take an effort, older ones a budget.
fn thinking(request: &Request, abilities: &Abilities) -> (Thinking, Option<String>) {
    let Some(word) = request.sampling.reasoning.as_deref() else { return (Thinking::Unsaid, None) };
    let generation = generation(request.model.model());
    let adaptive = generation.is_none_or(|generation| generation >= ADAPTIVE_SINCE);
    match word {
        "none" | "off" | "disabled" if abilities.reasoning == Reasons::Always => (Thinking::Unsaid, None),
        "none" | "off" | "disabled" => (Thinking::Off, None),
        "between_tools" => (Thinking::BetweenTools, None),
        "adaptive" => (Thinking::Adaptive, None),
        word => match word.parse() {
            Ok(_) if generation.is_none_or(|generation| generation >= NO_BUDGET_SINCE) => (Thinking::Adaptive, None),
            Ok(budget) => (budgeted(request, budget), None),
            Err(_) if adaptive => (Thinking::Adaptive, Some(if word == "minimal" { "low" } else { word }.to_owned())),
            Err(_) => (budgeted(request, share(word, request.max_output_tokens)), None),
        },
    }
}

/// A budget for an effort: a part of the output, which it counts into.
fn share(effort: &str, output: u32) -> u32 {
    match effort {
        "minimal" | "low" => output / 4,
        "high" => output / 4 * 3,
        "xhigh" | "max" => output / 8 * 7,
        _ => output / 2,
    }
}

/// A budget within the output cap. Where none fits, or a tool loop goes on that another model began, there is no reasoning:
/// a request that goes on with a turn of calls must begin that turn with the blocks that the model gave.
fn budgeted(request: &Request, budget: u32) -> Thinking {
    let budget = budget.min(request.max_output_tokens.saturating_sub(1));
    if budget < BUDGET_MIN || !opens_with_thoughts(request) { Thinking::Off } else { Thinking::Budget(budget) }
}

fn opens_with_thoughts(request: &Request) -> bool {
    let before = request.messages.iter().rev().map(|sent| &**sent);
    let mut before = before.skip_while(|message| matches!(message, Message::Tool(_)));
    match before.next() {
        Some(Message::Assistant(said)) if !said.calls.is_empty() => begins_with_thoughts(said, request),
        Some(_) | None => true,
    }
}

fn begins_with_thoughts(said: &Assistant, request: &Request) -> bool {
    said.continuation.is_some() || said.returned_to(Form::Anthropic, &request.model).any(|block| block.call.is_none())
}

/// The generation of a model by its name: `claude-opus-4-7`, `claude-sonnet-5`, `claude-haiku-4-5@20251001`.
fn generation(model: &str) -> Option<(u32, u32)> {
    let name = model.rsplit('/').next()?.split('@').next()?;
    let mut numbers = name.strip_prefix("claude-")?.split('-').skip_while(|part| part.parse::<u32>().is_err());
    let major = numbers.next()?.parse().ok()?;
    // What follows with more than two digits is a date.
    let minor = numbers.next().filter(|part| part.len() <= 2).and_then(|part| part.parse().ok());
    Some((major, minor.unwrap_or(0)))
}

fn answering(request: &Request, abilities: &Abilities, may_force: bool) -> Answering {
    let Some(output) = &request.output else { return Answering::Free };
    if let Some(schema) = schema::native(&output.schema).filter(|_| !abilities.json_schema.is_no()) {
        return Answering::Native(schema);
    }
    let is_free = request.tools.iter().all(|tool| tool.name.as_str() != output.name);
    let is_object = output.schema.get("type").and_then(Value::as_str) == Some("object");
    // A tool that must be called leaves no room for a search before it.
    let may_force = may_force && request.web_search.is_none();
    if may_force && is_free && is_object && !abilities.tools.is_no() {
        return Answering::Tool(output.name.clone());
    }
    Answering::Asked
}

/// A choice that the model takes: what can't be forced is left to it, and the run judges what comes.
fn choice(request: &Request, answering: &Answering, may_force: bool) -> Option<Value> {
    let may_call = !request.tools.is_empty() && request.tool_choice != ToolChoice::None;
    match (answering, &request.tool_choice) {
        (Answering::Tool(_), ToolChoice::Named(name)) => Some(json!({"type": "tool", "name": name})),
        (Answering::Tool(_), _) if may_call => Some(json!({"type": "any"})),
        (Answering::Tool(name), _) => Some(json!({"type": "tool", "name": name})),
        _ if request.tools.is_empty() => None,
        (_, ToolChoice::None) => Some(json!({"type": "none"})),
        (_, ToolChoice::Required) if may_force => Some(json!({"type": "any"})),
        (_, ToolChoice::Named(name)) if may_force => Some(json!({"type": "tool", "name": name})),
        (_, ToolChoice::Auto | ToolChoice::Required | ToolChoice::Named(_)) => Some(json!({"type": "auto"})),
    }
}

/// Where the request is served, said wherever it decides the price: unsaid, the workspace's setting would. Vertex and Foundry
/// are reached at a place and have no such field; nor have models whose price is the same everywhere.
fn place(config: &ProviderConfig, request: &Request) -> Option<String> {
    let row = PriceBook::builtin().first_of(&request.model)?;
    let depends = row.multipliers.contains_key(&Factor::InferenceGeoUs);
    depends.then(|| config.inference_geo.clone().unwrap_or_else(|| "global".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_read_from_the_name() {
        for (model, expected) in [
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-haiku-4-5@20251001", Some((4, 5))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-3-5-haiku-20241022", Some((3, 5))),
            ("anthropic/claude-fable-5-1", Some((5, 1))),
            ("claude-next", None),
            ("qwen", None),
        ] {
            assert_eq!(generation(model), expected, "{model}");
        }
    }
}
