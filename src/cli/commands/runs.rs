//! `runs`: lists runs, newest first.

use super::Context;
use crate::api::{Books, RunQuery, RunRow};
use crate::cli::arguments::RunsArguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, filter};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::cli::{books, remote};
use crate::domain::event::{AskKind, Labels, RunState};
use crate::domain::summary::AskLine;
use crate::store::RunFilter;
use crate::units::Timestamp;

/// Questions that are shown whole.
const QUESTIONS_MAX: usize = 10;
/// The most characters of one.
const QUESTION_CHARS_MAX: usize = 160;
/// The columns that a terminal has at least for the whole table; a narrower one is shown what fits without a break.
const WHOLE_WIDTH: u16 = 110;

pub(super) fn runs(context: &Context<'_>, arguments: &RunsArguments) -> Result<Exit, CliError> {
    let project = configuration(context.project, arguments.books.sim)?;
    let filter = RunFilter {
        cost_min: arguments.cost_min,
        cost_max: arguments.cost_max,
        roots: !arguments.children,
        limit: usize::from(arguments.limit),
        ..filter(&arguments.which, arguments.thread.as_deref(), &arguments.made)?
    };
    let query = RunQuery(filter);
    let here = |books: &Books| {
        books::tell_of_expired(books.store(), context.output);
        books.runs(&query.0, usize::MAX)
    };
    let found =
        remote::ask(context.output, &project, arguments.books.sim, "", here, async |holder| holder.runs(&query).await)?;
    let found = found.map_or_else(Vec::new, |page| page.runs);
    if arguments.json {
        context.output.json(&serde_json::json!({ "runs": found }))?;
        return Ok(Exit::Finished);
    }
    if found.is_empty() {
        context.output.talk(none(&query.0));
    } else {
        let width = context.output.data_width();
        context.output.data(&table(&found, width).render(width))?;
        open_questions(&found, clock().now()).iter().for_each(|line| context.output.talk(line));
    }
    if found.len() == query.0.limit {
        context.output.talk(&format!("the newest {}; `--limit` shows more", found.len()));
    }
    Ok(Exit::Finished)
}

/// What to do where no run is found.
fn none(filter: &RunFilter) -> &'static str {
    let any = RunFilter { roots: filter.roots, limit: filter.limit, ..RunFilter::default() };
    if *filter == any {
        "no runs to show; `plimsoll run AGENT --input TEXT` makes one"
    } else {
        "no run fits what was asked for; `plimsoll runs` lists the newest of all"
    }
}

fn table(runs: &[RunRow], width: Option<u16>) -> Table {
    let narrow = width.is_some_and(|width| width < WHOLE_WIDTH);
    let is_shown = |name: &str| !narrow || !["STEPS", "CREATED", "LABELS"].contains(&name);
    let columns = [
        Column::id("RUN"),
        Column::text("AGENT"),
        Column::text("STATE"),
        Column::number("COST"),
        Column::number("STEPS"),
        Column::number("TIME"),
        Column::text("CREATED"),
        Column::text("LABELS"),
    ];
    let mut table = Table::new(columns.into_iter().filter(|column| is_shown(column.name())));
    for run in runs {
        let by = run.limit.filter(|_| run.state == RunState::Stopped && !narrow);
        let state = run.state.name().replace('_', " ");
        // What is unknown counts at its worst: the sum is the most that it can have been.
        let (most, unknown) = match (run.cost.unknown_usd.is_zero(), narrow) {
            (true, _) => ("", ""),
            (false, true) => ("≤", ""),
            (false, false) => ("", " (unknown in it)"),
        };
        let agent = match run.parent {
            Some(_) if narrow => format!("{} (below)", run.agent),
            Some(parent) => format!("{}, below {parent}", run.agent),
            None => run.agent.to_string(),
        };
        let cells = [
            run.run.to_string(),
            agent,
            by.map_or(state.clone(), |limit| format!("{state} by {limit}")),
            format!("{most}{}{unknown}", run.cost.settled_usd),
            run.steps.to_string(),
            run.wall_ms.to_string(),
            run.created.chars().take("2026-11-23T09:00:00".len()).collect(),
            own_labels(&run.labels),
        ];
        let shown = columns.iter().zip(cells).filter(|(column, _)| is_shown(column.name()));
        table.push(shown.map(|(_, cell)| cell));
    }
    table
}

/// What the runs ask, and the command that answers it.
fn open_questions(runs: &[RunRow], now: Timestamp) -> Vec<String> {
    let told = |run: &RunRow, asking: &AskLine| {
        let ask = asking.ask.unwrap_or_default();
        let question = one_line(&asking.question, QUESTION_CHARS_MAX);
        let how = match asking.until {
            Some(until) if until <= now => {
                return format!("{} waited for an answer until {until}: plimsoll resume {0}", run.run);
            }
            Some(_) | None if asking.what == AskKind::Input => format!("plimsoll answer {} --ask {ask} TEXT", run.run),
            Some(_) | None => format!("plimsoll approve {} --ask {ask}, or with --deny", run.run),
        };
        format!("{} asks: {question}\n  {how}", run.run)
    };
    let asks = runs.iter().flat_map(|run| run.asked.iter().map(move |asking| (run, asking)));
    let mut lines: Vec<String> = asks.clone().take(QUESTIONS_MAX).map(|(run, asking)| told(run, asking)).collect();
    let more = asks.count().saturating_sub(QUESTIONS_MAX);
    lines.extend((more > 0).then(|| format!("and {more} more questions; `plimsoll trace RUN` shows a run's")));
    lines
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
    use crate::domain::summary::RunSummary;

    fn row() -> RunRow {
        let log = fixture::eventful();
        let Event::Created(created) = &log[0].event else { panic!("a log begins with its creation") };
        let mut summary = RunSummary::start(fixture::run_id(), log[0].at, created);
        log[1..].iter().for_each(|recorded| summary.apply(recorded.at, &recorded.event));
        RunRow::from(&summary)
    }

    #[test]
    fn a_list_shows_what_each_run_cost() {
        insta::assert_snapshot!(table(&[row()], None).render(None));
    }

    #[test]
    fn a_narrow_terminal_shows_a_run_in_one_line() {
        let below = RunRow { parent: Some(fixture::run_id()), ..row() };
        let text = table(&[row(), below], Some(80)).render(Some(80));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[2].contains("(below)") && !text.contains("CREATED"), "{text}");
    }
}
