//! How the stages of an agent hang together, and whether the limits can hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::domain::limits::{AtLimit, LimitKind, Limits};
use crate::domain::plan::{Builtin, Plan, StageKind, StagePlan, ToolKind, ToolPlan};
use crate::ids::{AgentName, ToolName};
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::limits::value;
use crate::spec::reader::{At, Node};
use crate::spec::stage;

/// The most agents below one, each counted as often as it is reached: a plan holds them whole.
const AGENTS_MAX: usize = 256;

/// What an agent's file declares, to be looked at as a whole.
pub(crate) struct Workflow<'a> {
    /// The file.
    pub(crate) agent: &'a Node<'a>,
    /// The stages of `[[stage]]`.
    pub(crate) stages: &'a [StagePlan],
    /// The agents that it names.
    pub(crate) agents: &'a BTreeMap<AgentName, Arc<Plan>>,
    /// The tools that it names.
    pub(crate) tools: &'a BTreeMap<ToolName, ToolPlan>,
    /// The agent's limits.
    pub(crate) limits: &'a Limits,
    /// The agent's own schema of the answer.
    pub(crate) output: Option<&'a Value>,
    /// The stage that gives the answer, where the file says so.
    pub(crate) from: Option<&'a At<String>>,
}

impl Workflow<'_> {
    /// Finds what is wrong between the stages of an agent, and between them and the limits.
    pub(crate) fn check(&self, faults: &mut Faults) {
        self.check_names(faults);
        let circles = self.circles();
        circles.iter().for_each(|circle| self.tell_circle(circle, faults));
        let ids: BTreeSet<&str> = self.ids().collect();
        if circles.is_empty() && ids.len() == self.stages.len() {
            self.check_answer(faults);
        }
        if self.check_agents(faults) && circles.is_empty() {
            self.check_limits(faults);
        }
    }

    fn ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.stages.iter().map(|stage| stage.id.as_str())
    }

    /// The table of a stage.
    fn node(&self, id: &str) -> Option<Node<'_>> {
        self.agent.sections("stage").into_iter().find(|node| node.text("id").is_some_and(|own| own.value == id))
    }

    fn check_names(&self, faults: &mut Faults) {
        // A stage with a fault of its own has no plan, and its name is one all the same.
        let nodes = self.agent.sections("stage");
        let ids: BTreeSet<String> = nodes.iter().filter_map(|node| node.text("id")).map(|id| id.value).collect();
        let needs = nodes.iter().filter_map(|node| node.texts("needs")).flat_map(|needs| needs.value);
        for name in needs.chain(self.from.cloned()).filter(|name| !ids.contains(&name.value)) {
            let help =
                suggest(&name.value, ids.iter().map(String::as_str), "take it out: the agent has no `[[stage]]`");
            self.agent.fault(faults, code::UNKNOWN_NAME, &name.span, format!("no stage `{}`", name.value), help);
        }
    }

    /// The circles of `needs`, each once, as the stages from one back to itself.
    fn circles(&self) -> Vec<Vec<&str>> {
        let (mut done, mut circles) = (BTreeSet::new(), Vec::new());
        let is_known = |need: &str| self.ids().any(|id| id == need);
        loop {
            let is_ready = |stage: &&StagePlan, done: &BTreeSet<&str>| {
                let is_over = |need: &str| done.contains(need) || !is_known(need);
                !done.contains(stage.id.as_str()) && stage.needs.iter().all(|need| is_over(need.as_str()))
            };
            while let Some(next) = self.stages.iter().find(|stage| is_ready(stage, &done)) {
                done.insert(next.id.as_str());
            }
            let Some(first) = self.ids().find(|id| !done.contains(id)) else { return circles };
            let circle = self.circle_from(first, &done);
            done.extend(circle.iter().copied());
            circles.push(circle);
        }
    }

    /// Follows the needs that aren't over until a stage comes again.
    fn circle_from<'a>(&'a self, first: &'a str, done: &BTreeSet<&str>) -> Vec<&'a str> {
        let mut path = vec![first];
        loop {
            let last = path.last().copied().unwrap_or(first);
            let needs = self.stages.iter().find(|stage| stage.id.as_str() == last).map(|stage| &stage.needs);
            let open = |need: &&str| self.ids().any(|id| id == *need) && !done.contains(need);
            let Some(next) = needs.into_iter().flatten().map(|need| need.as_str()).find(open) else { return path };
            if let Some(at) = path.iter().position(|id| *id == next) {
                return path.split_off(at);
            }
            path.push(next);
        }
    }

    fn tell_circle(&self, circle: &[&str], faults: &mut Faults) {
        let (Some(first), Some(next)) = (circle.first(), circle.get(1).or(circle.first())) else { return };
        let Some(node) = self.node(first) else { return };
        let needs = node.texts("needs").map(|needs| needs.value).unwrap_or_default();
        let span = needs.iter().find(|need| need.value == *next).map_or(node.span.clone(), |need| need.span.clone());
        let (message, help) = if circle.len() == 1 {
            (format!("the stage `{first}` needs itself"), format!("take `{first}` out of its `needs`"))
        } else {
            let whole: Vec<String> = circle.iter().chain([first]).map(|id| format!("`{id}`")).collect();
            let message = format!("stages need each other in a circle: {}", whole.join(" → "));
            (message, "take one of them out of another's `needs`".to_owned())
        };
        node.fault(faults, code::STAGE_CIRCLE, &span, message, help);
    }

    /// The stages that no other needs.
    fn last(&self) -> Vec<&StagePlan> {
        let needed: BTreeSet<_> = self.stages.iter().flat_map(|stage| &stage.needs).collect();
        self.stages.iter().filter(|stage| !needed.contains(&stage.id)).collect()
    }

    fn check_answer(&self, faults: &mut Faults) {
        let last = self.last();
        if let (None, [_, .., unclear]) = (self.from, &last[..])
            && let Some(node) = self.node(unclear.id.as_str())
        {
            let ids: Vec<String> = last.iter().map(|stage| format!("`{}`", stage.id)).collect();
            let message = format!("several stages could give the run's answer: {}", ids.join(", "));
            let help = format!("name one: `from = \"{}\"` under `[output]`", unclear.id);
            node.fault(faults, code::OUTPUT_FROM, &node.span_of("id"), message, help);
            return;
        }
        let answers = match self.from {
            Some(from) => self.stages.iter().find(|stage| stage.id.as_str() == from.value),
            None => last.first().copied(),
        };
        let Some(node) = answers.and_then(|stage| self.node(stage.id.as_str())) else { return };
        if self.output.is_some() && node.has("output") {
            let id = node.text("id").map(|id| id.value).unwrap_or_default();
            let message = format!("two schemas for the answer: `[stage.output]` of `{id}`, and `[output]`");
            let help = "keep one of them: the stage gives the run's answer".to_owned();
            node.fault(faults, code::OUTPUT_FROM, &node.span_of("output"), message, help);
        }
    }

    /// Reports agents that are nested too deep or too often; false where they are.
    fn check_agents(&self, faults: &mut Faults) -> bool {
        let most = self.limits.depth;
        let mut fits = true;
        for name in stage::named(self.agent, "agents", "agent") {
            let Some(plan) = self.agents.get(&AgentName::from(name.value.as_str())) else { continue };
            let levels = levels(plan).saturating_add(1);
            if levels > most {
                fits = false;
                let message = format!("`depth` is {most}: with `{}` agents are nested {levels} deep", name.value);
                let help = self.raise(LimitKind::Depth, levels.into());
                self.agent.fault(faults, code::IMPOSSIBLE, &name.span, message, help);
            }
        }
        let all: usize = self.agents.values().map(|plan| nested(plan)).fold(0, usize::saturating_add);
        if all > AGENTS_MAX {
            fits = false;
            let key = if self.agent.has("agents") { "agents" } else { "stage" };
            let help = format!("at most {AGENTS_MAX}, each counted as often as it is reached");
            let message = format!("{all} agents below this one");
            self.agent.fault(faults, code::TOO_MANY, &self.agent.key_span(key), message, help);
        }
        fits
    }

    /// Reports limits that what surely happens can't keep to.
    fn check_limits(&self, faults: &mut Faults) {
        for stage in self.stages {
            if let (Some(limits), Some(node)) = (stage.limits.as_deref(), self.node(stage.id.as_str())) {
                let surely = Least::of_kind(&stage.kind, self.tools, self.agents);
                let what = format!("the stage `{}` needs at least", stage.id);
                self.check_counts(limits, surely, 0, (&node, &what), faults);
            }
        }
        let surely = Least::of(self.stages, self.tools, self.agents);
        let kept = u64::from(self.limits.at_limit == AtLimit::Land && !self.ends_with_a_last_call());
        let what = "the stages that always run need at least";
        self.check_counts(self.limits, surely, kept, (self.agent, what), faults);
    }

    /// True where the last stage's call may use what is kept back for the last answer: it is one.
    fn ends_with_a_last_call(&self) -> bool {
        let is_last_call = |kind: &StageKind| match kind {
            StageKind::Model { .. } => true,
            StageKind::Loop { tools, .. } => tools.is_empty(),
            StageKind::Tool { .. } | StageKind::Map { .. } | StageKind::Approval { .. } | StageKind::Agent { .. } => {
                false
            }
        };
        matches!(self.last()[..], [stage] if stage.when.is_none() && is_last_call(&stage.kind))
    }

    fn check_counts(
        &self,
        limits: &Limits,
        surely: Least,
        kept: u64,
        (node, what): (&Node<'_>, &str),
        faults: &mut Faults,
    ) {
        let counts = [
            (LimitKind::Steps, limits.steps, surely.steps, kept, "step"),
            (LimitKind::ModelCalls, limits.model_calls, surely.model_calls, kept, "model call"),
            (LimitKind::ToolCalls, limits.tool_calls, surely.tool_calls, 0, "tool call"),
            (LimitKind::Children, limits.children, surely.children, 0, "agent"),
        ];
        for (kind, most, least, kept, what_each) in counts {
            if least.saturating_add(kept) <= u64::from(most) {
                continue;
            }
            let place = node.section("limits").filter(|limits| limits.has(kind.name()));
            // What a stage doesn't set is the agent's, which is told there.
            if place.is_none() && !std::ptr::eq(node, self.agent) {
                continue;
            }
            let keeps = if kept == 0 { "" } else { ", one kept back for the last answer" };
            let plural = if least == 1 { "" } else { "s" };
            let message = format!("`{kind}` is {most}{keeps}, but {what} {least} {what_each}{plural}");
            let span = match &place {
                Some(place) => place.span_of(kind.name()),
                None => self.agent.key_span("stage"),
            };
            node.fault(faults, code::IMPOSSIBLE, &span, message, self.raise(kind, least.saturating_add(kept)));
        }
    }

    /// How to raise a limit, or that it is another's.
    fn raise(&self, kind: LimitKind, to: u64) -> String {
        let is = value(self.limits, kind).map_or_else(|| "off".to_owned(), |value| value.to_string());
        format!("raise `{kind}` to {to} at least (it is {is}, {}), or declare less", self.limits.declared(kind))
    }
}

/// How deep the agents below one are nested.
fn levels(plan: &Plan) -> u32 {
    plan.agents.values().map(|below| levels(below).saturating_add(1)).max().unwrap_or(0)
}

/// The agents of a plan, itself among them, each as often as it is reached.
fn nested(plan: &Plan) -> usize {
    plan.agents.values().map(|below| nested(below)).fold(1, usize::saturating_add)
}

/// What surely happens in a run that nothing stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Least {
    steps: u64,
    model_calls: u64,
    tool_calls: u64,
    children: u64,
}

impl Least {
    const MODEL_CALL: Self = Self { steps: 1, model_calls: 1, tool_calls: 0, children: 0 };
    const TOOL_CALL: Self = Self { steps: 1, model_calls: 0, tool_calls: 1, children: 0 };
    const CHILD: Self = Self { steps: 0, model_calls: 0, tool_calls: 0, children: 1 };

    /// What the stages take that always run.
    fn of(stages: &[StagePlan], tools: &BTreeMap<ToolName, ToolPlan>, agents: &BTreeMap<AgentName, Arc<Plan>>) -> Self {
        let always = stages.iter().filter(|stage| stage.when.is_none());
        always.map(|stage| Self::of_kind(&stage.kind, tools, agents)).fold(Self::default(), Self::plus)
    }

    fn of_kind(
        kind: &StageKind,
        tools: &BTreeMap<ToolName, ToolPlan>,
        agents: &BTreeMap<AgentName, Arc<Plan>>,
    ) -> Self {
        match kind {
            StageKind::Loop { .. } | StageKind::Model { .. } => Self::MODEL_CALL,
            StageKind::Tool { tool, .. } => match tools.get(tool).map(|plan| &plan.kind) {
                // A question to a person is no call.
                Some(ToolKind::Builtin(Builtin::AskUser)) => Self::default(),
                Some(
                    ToolKind::Command { .. } | ToolKind::Http { .. } | ToolKind::Builtin(_) | ToolKind::Agent { .. },
                )
                | None => Self::TOOL_CALL,
            },
            // The list may be empty.
            StageKind::Map { .. } | StageKind::Approval { .. } => Self::default(),
            StageKind::Agent { agent, .. } => agents
                .get(agent)
                .map_or(Self::CHILD, |plan| Self::of(&plan.stages, &plan.tools, &plan.agents).plus(Self::CHILD)),
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps.saturating_add(other.steps),
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tool_calls: self.tool_calls.saturating_add(other.tool_calls),
            children: self.children.saturating_add(other.children),
        }
    }
}
