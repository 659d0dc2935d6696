//! `run AGENT`: one run; with `--each`, many.

use std::sync::Arc;

use super::export::EventLine;
use super::resume::answered_in_place;
use super::{Context, dry_run, each};
use crate::cli::arguments::{RecordArguments, RunArguments};
use crate::cli::ask;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::input;
use crate::cli::output::Output;
use crate::cli::progress::{Quiet, Watch};
use crate::cli::project::{self, DerivedLabels};
use crate::cli::render;
use crate::cli::session::{Session, SimChoice, block_on};
use crate::domain::event::{Event, RunState};
use crate::domain::plan::Plan;
use crate::domain::policy::PRIORITY;
use crate::domain::report::Trace;
use crate::runtime::{NewRun, Observer, Progress};
use crate::spec::project::Project;

pub(super) fn run(context: &Context<'_>, arguments: &RunArguments) -> Result<Exit, CliError> {
    let nobody_bills = arguments.books.sim || arguments.cassette.is_some();
    let (project, plan) = project::agent(context.project, &arguments.agent, nobody_bills)?;
    let priority = arguments.priority.iter().map(|priority| format!("{PRIORITY}={priority}"));
    let given: Vec<String> = arguments.label.iter().cloned().chain(priority).collect();
    let labels = project::labels_in(&given, arguments.thread.as_deref(), DerivedLabels::Refused)?;
    if !arguments.dry_run && !project::is_simulated(&project, nobody_bills) {
        project::keys_are_there(&project, &plan)?;
    }
    let files = arguments.file.iter().map(|path| input::read_file(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(file) = &arguments.each {
        return each::each(context, arguments, &project, plan, each::Shared { labels, files }, file);
    }
    let input = read_input(&plan, arguments.input.as_deref())?;
    let new = NewRun { agent: plan.agent.clone(), input, labels, key: None, files, bound: vec![] };
    if arguments.dry_run {
        return dry_run::dry_run(context, arguments, &project, plan, &new);
    }
    one(context, arguments, &project, plan, &new)
}

/// `record AGENT --to FILE`.
pub(super) fn record(context: &Context<'_>, arguments: &RecordArguments) -> Result<Exit, CliError> {
    if arguments.run.cassette.is_some() || arguments.run.dry_run {
        let message = "`record` keeps what is answered, and with `--cassette` or `--dry-run` nobody is asked";
        return Err(Problem::usage(code::USAGE, message).help("leave that option out").into());
    }
    let mut arguments = arguments.clone();
    arguments.run.record = Some((arguments.to, arguments.overwrite));
    run(context, &arguments.run)
}

/// Who answers.
pub(super) fn sim_choice(arguments: &RunArguments) -> SimChoice {
    SimChoice {
        sim: arguments.books.sim,
        scenario: arguments.scenario.clone(),
        invoice: arguments.invoice.clone(),
        cassette: arguments.cassette.clone(),
        live_tools: arguments.live_tools,
        record: arguments.record.clone(),
    }
}

fn read_input(plan: &Plan, argument: Option<&str>) -> Result<serde_json::Value, CliError> {
    let schema = plan.input.as_ref();
    let input = match argument {
        Some(argument) => input::of_text(schema, &input::read_text(argument)?),
        None => input::of_nothing(schema),
    };
    input.map_err(|why| {
        let given = if argument.is_some() { "doesn't take this input" } else { "needs an input" };
        let message = format!("agent `{}` {given}: {why}", plan.agent);
        Problem::usage(code::INPUT, message).help("give it with `--input TEXT`, `--input @FILE` or `--input -`").into()
    })
}

fn one(
    context: &Context<'_>,
    arguments: &RunArguments,
    project: &Project,
    plan: Plan,
    new: &NewRun,
) -> Result<Exit, CliError> {
    let quiet = Quiet::of(arguments.quiet);
    let limits = plan.limits.clone();
    block_on(async {
        let choice = sim_choice(arguments);
        let mut session = Session::open(project, project::only(plan), &choice)?;
        session.serve();
        if quiet == Quiet::No {
            session.tell_of_costs(context.output, &choice);
        }
        // From here on only the watch may talk: a live line that others write beside leaves pieces of itself.
        let watch = Watch::new(context.output, Some(limits), if arguments.events { Quiet::Yes } else { quiet });
        let observer = if arguments.events { event_lines() } else { watch.observer() };
        let driven = session.until_told_to_stop(|line| watch.say(line), session.runtime.run(new, observer)).await;
        watch.end();
        let Some(driven) = driven else { return Ok(given_up(context.output)) };
        let (run, state) = driven?;
        let asks = if arguments.json || arguments.events { Quiet::Yes } else { quiet };
        let Some(state) = answered_in_place(context, &session, run, state, asks).await? else {
            return Ok(given_up(context.output));
        };
        let trace = session.trace(run)?;
        show(context.output, &trace, Shown { json: arguments.json, events: arguments.events, quiet })?;
        tell_of_recording(context.output, &session, arguments)?;
        session.close().await;
        Ok(Exit::of(state))
    })
}

/// Says where the recording is, and how to play it.
pub(super) fn tell_of_recording(output: &Output, session: &Session, arguments: &RunArguments) -> Result<(), CliError> {
    if let (Some(answers), Some((path, _))) = (session.finish_recording()?, &arguments.record) {
        let (agent, path) = (&arguments.agent, path.display());
        output.talk(&format!(
            "recorded {answers} answers into {path}; play them with: plimsoll run {agent} --cassette {path} --input …"
        ));
    }
    Ok(())
}

/// What the second signal leads to.
pub(super) fn given_up(output: &Output) -> Exit {
    output.talk("stopped at once; what was in flight counts as unknown. Go on with: plimsoll resume --all");
    Exit::Interrupted
}

/// How a run's end is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// `--json`.
    pub(super) json: bool,
    /// `--events`.
    pub(super) events: bool,
    /// `--quiet`.
    pub(super) quiet: Quiet,
}

/// Prints a run's result, and what it cost.
pub(super) fn show(output: &Output, trace: &Trace, shown: Shown) -> Result<(), CliError> {
    if shown.quiet == Quiet::No {
        output.talk(&render::trace::ending(trace, output.talk_width()));
        output.talk(next(trace).as_str());
    }
    if shown.json {
        return output.json(&trace.head);
    }
    match &trace.head.output {
        Some(answer) if !shown.events => output.data(&answer_text(output, answer)),
        Some(_) | None => Ok(()),
    }
}

fn answer_text(output: &Output, answer: &serde_json::Value) -> String {
    let text = match answer.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string_pretty(answer).unwrap_or_else(|_| answer.to_string()),
    };
    if output.data_terminal { render::text::harmless(&text) } else { text }
}

/// What to type next.
fn next(trace: &Trace) -> String {
    let run = trace.head.run;
    match trace.head.state {
        RunState::Interrupted | RunState::Running | RunState::Queued | RunState::AwaitingBudget => {
            format!("go on with it: plimsoll resume {run}")
        }
        RunState::AwaitingApproval | RunState::AwaitingInput => {
            trace.head.asks.iter().flat_map(ask::lines).collect::<Vec<_>>().join("\n")
        }
        RunState::Finished | RunState::Stopped | RunState::Failed | RunState::Cancelled => {
            format!("see it again: plimsoll trace {run}")
        }
    }
}

/// One JSON line for each event, as it becomes durable.
fn event_lines() -> Observer {
    let output = Output::of_process();
    Arc::new(move |progress| match progress {
        Progress::Event { run, recorded } => {
            // A reader that hung up stops hearing; the run goes on to its end.
            if output.json_line(&EventLine::new(run, recorded)).is_err() && !matches!(recorded.event, Event::Ended(_)) {
                tracing::warn!("an event could not be written to standard output");
            }
        }
        Progress::Refused { refusal, .. } => output.talk(&refusal.to_string()),
        Progress::Text { .. } | Progress::TextDiscarded { .. } => {}
    })
}
