//! `runs`: lists runs, newest first.

use serde::Serialize;

use super::Context;
use crate::cli::arguments::RunsArguments;
use crate::cli::books;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{DerivedLabels, clock, configuration, labels, states, when};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::event::{Labels, RunState};
use crate::domain::limits::LimitKind;
use crate::domain::report::{CostDocument, TokenDocument};
use crate::domain::summary::RunSummary;
use crate::ids::{AgentName, RunId};
use crate::store::RunFilter;
use crate::units::{Millis, Money};

pub(super) fn runs(context: &Context<'_>, arguments: &RunsArguments) -> Result<Exit, CliError> {
    let project = configuration(context.project, arguments.books.sim)?;
    let now = clock().now();
    let point = |option: &str, text: &Option<String>| text.as_ref().map(|text| when(option, text, now)).transpose();
    let filter = RunFilter {
        agent: arguments.agent.as_deref().map(AgentName::from),
        states: states(&arguments.state)?,
        labels: labels(&arguments.label, DerivedLabels::Allowed)?,
        since: point("--since", &arguments.since)?,
        until: point("--until", &arguments.until)?,
        before: None,
        limit: usize::from(arguments.limit),
    };
    let found = match books::open(&project, arguments.books.sim)? {
        Some(store) => {
            books::tell_of_expired(&store, context.output);
            store.summaries(&filter)?
        }
        None => Vec::new(),
    };
    if arguments.json {
        let rows: Vec<RunRow<'_>> = found.iter().map(RunRow::of).collect();
        context.output.json(&serde_json::json!({ "runs": rows }))?;
        return Ok(Exit::Finished);
    }
    if found.is_empty() {
        context.output.talk("no runs to show; `plimsoll run AGENT --input TEXT` makes one");
    } else {
        context.output.data(&table(&found).render(context.output.data_width()))?;
    }
    if found.len() == filter.limit {
        context.output.talk(&format!("the newest {}; `--limit` shows more", found.len()));
    }
    Ok(Exit::Finished)
}

/// A run's document, as far as a list knows it, and what it is found by.
#[derive(Serialize)]
struct RunRow<'a> {
    run: RunId,
    agent: &'a AgentName,
    state: RunState,
    limit: Option<LimitKind>,
    cost: CostDocument,
    load_line_usd: Money,
    steps: u32,
    model_calls: u32,
    tool_calls: u32,
    attempts: u32,
    tokens: TokenDocument,
    wall_ms: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    created: String,
    ended: Option<String>,
    labels: &'a Labels,
    key: Option<&'a str>,
    simulated: bool,
}

impl<'a> RunRow<'a> {
    fn of(run: &'a RunSummary) -> Self {
        Self {
            run: run.id,
            agent: &run.agent,
            state: run.state,
            limit: run.limit,
            cost: CostDocument { settled_usd: run.settled, unknown_usd: run.unknown, held_usd: run.held },
            load_line_usd: run.load_line,
            steps: run.steps,
            model_calls: run.model_calls,
            tool_calls: run.tool_calls,
            attempts: run.attempts,
            tokens: TokenDocument::from(&run.usage),
            wall_ms: run.active,
            error: run.error.as_deref(),
            created: run.created.to_string(),
            ended: run.ended.map(|ended| ended.to_string()),
            labels: &run.labels,
            key: run.key.as_deref(),
            simulated: run.simulated,
        }
    }
}

fn table(runs: &[RunSummary]) -> Table {
    let mut table = Table::new([
        Column::id("RUN"),
        Column::text("AGENT"),
        Column::text("STATE"),
        Column::number("COST"),
        Column::number("STEPS"),
        Column::number("TIME"),
        Column::text("CREATED"),
        Column::text("LABELS"),
    ]);
    for run in runs {
        let by = run.limit.filter(|_| run.state == RunState::Stopped);
        let state = run.state.name().replace('_', " ");
        let unknown = if run.unknown.is_zero() { "" } else { " (unknown in it)" };
        table.push([
            run.id.to_string(),
            run.agent.to_string(),
            by.map_or(state.clone(), |limit| format!("{state} by {limit}")),
            format!("{}{unknown}", run.settled),
            run.steps.to_string(),
            run.active.to_string(),
            run.created.to_string().chars().take("2026-11-23T09:00:00".len()).collect(),
            own_labels(&run.labels),
        ]);
    }
    table
}

/// The labels that the caller gave; the others follow from the agent.
fn own_labels(labels: &Labels) -> String {
    let derived = ["agent", "owner", "feature", "environment"];
    let own = labels.iter().filter(|(name, _)| !derived.contains(&name.as_str()));
    let texts: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
    one_line(&texts.join(" "), 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::report::fixture;

    fn summary() -> RunSummary {
        let log = fixture::eventful();
        let Event::Created(created) = &log[0].event else { panic!("a log begins with its creation") };
        let mut summary = RunSummary::start(fixture::run_id(), log[0].at, created);
        log[1..].iter().for_each(|recorded| summary.apply(recorded.at, &recorded.event));
        summary
    }

    #[test]
    fn a_list_shows_what_each_run_cost() {
        insta::assert_snapshot!(table(&[summary()]).render(None));
    }

    #[test]
    fn a_row_of_the_list_agrees_with_the_runs_document() {
        let log = fixture::eventful();
        let run = crate::domain::report::replay(fixture::run_id(), fixture::plan(), &log).expect("a run");
        let document = crate::domain::report::RunDocument::of(&run, summary().load_line, log[log.len() - 1].at);
        let summary = summary();
        let (row, document) = (serde_json::to_value(RunRow::of(&summary)), serde_json::to_value(&document));
        let (row, document) = (row.expect("JSON"), document.expect("JSON"));
        for key in [
            "run",
            "agent",
            "state",
            "limit",
            "cost",
            "load_line_usd",
            "steps",
            "model_calls",
            "tool_calls",
            "attempts",
            "tokens",
        ] {
            assert_eq!(row[key], document[key], "{key}");
        }
    }
}
