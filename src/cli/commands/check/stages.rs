//! What `check` tells of an agent's stages and of the agents below it.

use serde::Serialize;

use super::LimitRow;
use super::lints::{Warning, code};
use crate::cli::render::table::{Column, Table};
use crate::domain::limits::{LimitKind, Limits};
use crate::domain::plan::{Approval, Builtin, OnError, Plan, StageKind, StagePlan, ToolKind};
use crate::ids::{AgentName, ModelName, StageName, ToolName};
use crate::spec::limits::SETTABLE;
use crate::units::Money;

/// A stage: what it does, what it waits for, and what bounds it.
#[derive(Serialize)]
pub(super) struct StageRow {
    stage: StageName,
    kind: &'static str,
    /// What a map does with each item.
    #[serde(skip_serializing_if = "Option::is_none")]
    each: Option<&'static str>,
    needs: Vec<StageName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    on_error: OnError,
    /// The models that it asks.
    models: Vec<ModelName>,
    /// The tools and agents that it calls, or that its model may call.
    calls: Vec<String>,
    /// Its own limits, those of the agent that bound this kind of stage, and the `cost` of the agent that it runs.
    bounded_by: Vec<LimitRow>,
}

/// An agent below another.
#[derive(Serialize)]
pub(super) struct BelowRow {
    agent: AgentName,
    /// The stages that call it; empty where the agent above is a single loop.
    called_by: Vec<StageName>,
    models: Vec<ModelName>,
    /// What one run of it can cost at most by its own limits.
    load_line_usd: Money,
    cost: LimitRow,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<BelowRow>,
}

/// The stages of a plan in order; none of a single loop.
pub(super) fn stages(plan: &Plan) -> Vec<StageRow> {
    if plan.is_workflow() { plan.stages.iter().map(|stage| StageRow::of(plan, stage)).collect() } else { Vec::new() }
}

/// The agents below a plan; `load_line` gives that of one.
pub(super) fn below(plan: &Plan, load_line: &impl Fn(&Plan) -> Money) -> Vec<BelowRow> {
    let row = |(name, agent): (&AgentName, &std::sync::Arc<Plan>)| {
        let calls = |stage: &&StagePlan| agents_of(plan, &stage.kind).contains(&name);
        let called_by = plan.stages.iter().filter(|_| plan.is_workflow()).filter(calls);
        BelowRow {
            agent: name.clone(),
            called_by: called_by.map(|stage| stage.id.clone()).collect(),
            models: agent.model.candidates.clone(),
            load_line_usd: load_line(agent),
            cost: LimitRow::of(&agent.limits, LimitKind::Cost),
            agents: below(agent, load_line),
        }
    };
    plan.agents.iter().map(row).collect()
}

/// The agents that a stage runs, or that its model may call.
fn agents_of<'a>(plan: &'a Plan, kind: &'a StageKind) -> Vec<&'a AgentName> {
    match kind.of_lane() {
        StageKind::Agent { agent, .. } => vec![agent],
        other @ (StageKind::Loop { .. }
        | StageKind::Model { .. }
        | StageKind::Tool { .. }
        | StageKind::Map { .. }
        | StageKind::Approval { .. }) => {
            let tools = other.tools().iter().filter_map(|tool| plan.tools.get(tool));
            tools
                .filter_map(|tool| if let ToolKind::Agent { agent } = &tool.kind { Some(agent) } else { None })
                .collect()
        }
    }
}

impl StageRow {
    fn of(plan: &Plan, stage: &StagePlan) -> Self {
        let lane = stage.kind.of_lane();
        let asks_a_model = matches!(lane, StageKind::Loop { .. } | StageKind::Model { .. });
        let model = stage.kind.call().and_then(|call| call.model.as_ref()).unwrap_or(&plan.model);
        let limits = plan.limits_of(&stage.id);
        let bounds = bounds(plan, stage).into_iter().map(|kind| LimitRow::of(limits, kind));
        let child = if let StageKind::Agent { agent, .. } = lane { plan.agents.get(agent) } else { None };
        let of_child = child.map(|child| LimitRow::of(&child.limits, LimitKind::Cost));
        Self {
            stage: stage.id.clone(),
            kind: stage.kind.name(),
            each: matches!(stage.kind, StageKind::Map { .. }).then(|| lane.name()),
            needs: stage.needs.clone(),
            when: stage.when.clone(),
            on_error: stage.on_error,
            models: if asks_a_model { model.candidates.clone() } else { Vec::new() },
            calls: calls(lane),
            bounded_by: bounds.chain(of_child).collect(),
        }
    }

    fn kind(&self) -> String {
        self.each.map_or_else(|| self.kind.to_owned(), |each| format!("{} of {each}", self.kind))
    }

    fn after(&self) -> String {
        let needs: Vec<&str> = self.needs.iter().map(StageName::as_str).collect();
        let when = self.when.iter().map(|when| format!("when {when}"));
        [needs.join(", ")].into_iter().filter(|needs| !needs.is_empty()).chain(when).collect::<Vec<_>>().join("; ")
    }

    fn uses(&self) -> String {
        let models = self.models.iter().map(ModelName::as_str);
        models.chain(self.calls.iter().map(String::as_str)).collect::<Vec<_>>().join(", ")
    }
}

/// The tools and agents that are called in a lane.
fn calls(lane: &StageKind) -> Vec<String> {
    match lane {
        StageKind::Loop { tools, .. } => tools.iter().map(ToolName::to_string).collect(),
        StageKind::Tool { tool, .. } => vec![tool.to_string()],
        StageKind::Agent { agent, .. } => vec![agent.to_string()],
        StageKind::Model { .. } | StageKind::Map { .. } | StageKind::Approval { .. } => Vec::new(),
    }
}

/// The limits that a stage sets itself, and those that bound its kind.
fn bounds(plan: &Plan, stage: &StagePlan) -> Vec<LimitKind> {
    let limits = plan.limits_of(&stage.id);
    let is_own = |kind: LimitKind| limits.declared(kind) != plan.limits.declared(kind);
    let lane = stage.kind.of_lane();
    let (is_map, calls_agents) = (matches!(stage.kind, StageKind::Map { .. }), !agents_of(plan, lane).is_empty());
    let waits = matches!(stage.kind, StageKind::Approval { .. }) || asks_a_person(plan, lane);
    let of_kind = [
        (LimitKind::Items, is_map),
        (LimitKind::Parallel, is_map),
        (LimitKind::Children, is_map && calls_agents),
        (LimitKind::Expires, waits),
        (LimitKind::ToolCallTime, matches!(lane, StageKind::Tool { .. })),
    ];
    let is_of_kind = |kind: LimitKind| of_kind.contains(&(kind, true));
    SETTABLE.into_iter().filter(|kind| is_own(*kind) || is_of_kind(*kind)).collect()
}

/// True where a tool may put something to a person.
fn asks_a_person(plan: &Plan, lane: &StageKind) -> bool {
    let names = if let StageKind::Tool { tool, .. } = lane { std::slice::from_ref(tool) } else { lane.tools() };
    names
        .iter()
        .filter_map(|name| plan.tools.get(name))
        .any(|tool| tool.approval == Approval::Always || matches!(tool.kind, ToolKind::Builtin(Builtin::AskUser)))
}

/// What will run, and may well meet a limit: a map of more items than there are calls, an agent that no model can choose.
pub(super) fn warnings(plan: &Plan) -> Vec<Warning> {
    let maps = plan.stages.iter().filter_map(|stage| map_warning(stage, plan.limits_of(&stage.id)));
    let offered = plan.tools.values().filter_map(|tool| {
        let ToolKind::Agent { agent } = &tool.kind else { return None };
        let silent = plan.agents.get(agent).is_some_and(|plan| plan.description.is_empty());
        let message = format!("agent `{agent}` has no `description`: a model that may call it can't know what it does");
        silent.then(|| Warning::new(code::NO_DESCRIPTION, message, "add `description = \"…\"` to its file"))
    });
    maps.chain(offered).collect()
}

fn map_warning(stage: &StagePlan, limits: &Limits) -> Option<Warning> {
    let StageKind::Map { each, on_error: OnError::Fail, .. } = &stage.kind else { return None };
    let (kind, most) = match **each {
        StageKind::Model { .. } | StageKind::Loop { .. } => {
            (LimitKind::ModelCalls, limits.model_calls.min(limits.steps))
        }
        StageKind::Tool { .. } => (LimitKind::ToolCalls, limits.tool_calls.min(limits.steps)),
        StageKind::Agent { .. } => (LimitKind::Children, limits.children),
        StageKind::Map { .. } | StageKind::Approval { .. } => return None,
    };
    let kind = if most == limits.steps && kind != LimitKind::Children { LimitKind::Steps } else { kind };
    let items = limits.items;
    (items > most).then(|| {
        let message = format!("stage `{}` may have {items} items, more than `{kind}` = {most} allows", stage.id);
        let help = format!("raise `{kind}`, lower `items`, or let items fail with `on_error = \"continue\"`");
        Warning::new(code::ITEMS, message, help)
    })
}

/// The stages as a table.
pub(super) fn table(rows: &[StageRow], width: Option<u16>) -> String {
    let columns = [
        Column::id("STAGE"),
        Column::text("KIND"),
        Column::text("AFTER"),
        Column::text("USES"),
        Column::text("BOUNDED BY"),
    ];
    let mut table = Table::new(columns);
    for row in rows {
        let bounds: Vec<String> = row.bounded_by.iter().map(LimitRow::in_words).collect();
        table.push([row.stage.to_string(), row.kind(), row.after(), row.uses(), bounds.join(", ")]);
    }
    table.render(width)
}

/// The agents below as a table, each under the one that calls it.
pub(super) fn table_of_agents(rows: &[BelowRow], width: Option<u16>) -> String {
    let columns = [
        Column::id("AGENT BELOW"),
        Column::text("CALLED BY"),
        Column::text("USES"),
        Column::number("LOAD LINE"),
        Column::text("BOUNDED BY"),
    ];
    let mut table = Table::new(columns);
    push_agents(&mut table, rows, 0);
    table.render(width)
}

fn push_agents(table: &mut Table, rows: &[BelowRow], depth: usize) {
    for row in rows {
        let called_by: Vec<&str> = row.called_by.iter().map(StageName::as_str).collect();
        let called_by = if called_by.is_empty() { "its model".to_owned() } else { called_by.join(", ") };
        let models: Vec<&str> = row.models.iter().map(ModelName::as_str).collect();
        let name = format!("{}{}", "  ".repeat(depth), row.agent);
        table.push([name, called_by, models.join(", "), row.load_line_usd.to_string(), row.cost.in_words()]);
        push_agents(table, &row.agents, depth + 1);
    }
}
