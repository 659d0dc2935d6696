//! `resume RUN|--all`: goes on with runs that are queued, interrupted, or wait.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::Context;
use super::run::{Shown, given_up, show};
use crate::cli::arguments::{InFlight, ResumeArguments};
use crate::cli::ask::{self, who};
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::progress::{Quiet, Watch};
use crate::cli::project::{clock, configuration};
use crate::cli::remote::{Reached, Way};
use crate::cli::render;
use crate::cli::session::{Session, Signals, SimChoice, block_on};
use crate::cli::tally::{Bar, Tally};
use crate::domain::event::{AskKind, Decision, RunState};
use crate::domain::limits::Limits;
use crate::domain::report::{RunDocument, Trace};
use crate::domain::run::Given;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::runtime::{Observer, Runtime, RuntimeError};
use crate::spec::project::Project;
use crate::store::RunFilter;
use crate::store::lock::Holder;

/// The most decisions about calls in flight that one command takes for one run.
const DECISIONS_MAX: u32 = 64;

pub(super) fn resume(context: &Context<'_>, arguments: &ResumeArguments) -> Result<Exit, CliError> {
    let sim = arguments.books.sim;
    let project = configuration(context.project, sim)?;
    let folder = books::folder(&project, sim);
    let Some(run) = &arguments.run else {
        if !folder.exists() {
            return Ok(nothing(context));
        }
        return all(context, arguments, &project);
    };
    if !folder.exists() {
        return Err(books::no_run(&project, sim, run));
    }
    one(context, arguments, &project, run)
}

fn nothing(context: &Context<'_>) -> Exit {
    context.output.talk("no run is queued or interrupted; `plimsoll runs` lists all");
    Exit::Finished
}

/// Nothing can go on by itself; what waits for a person is said.
fn nothing_by_itself(context: &Context<'_>, runtime: &Runtime) -> Result<Exit, CliError> {
    let states = BTreeSet::from([RunState::AwaitingApproval, RunState::AwaitingInput]);
    let asked = runtime.store().summaries(&RunFilter { states, ..RunFilter::default() })?.len();
    if asked == 0 {
        return Ok(nothing(context));
    }
    let who = if asked == 1 { "1 run waits".to_owned() } else { format!("{asked} runs wait") };
    context.output.talk(&format!("{who} for a person's answer; `plimsoll runs` shows what is asked"));
    Ok(Exit::Waiting)
}

fn choice(arguments: &ResumeArguments) -> SimChoice {
    SimChoice {
        sim: arguments.books.sim,
        scenario: arguments.scenario.clone(),
        invoice: arguments.invoice.clone(),
        ..SimChoice::default()
    }
}

fn one(context: &Context<'_>, arguments: &ResumeArguments, project: &Project, text: &str) -> Result<Exit, CliError> {
    let quiet = Quiet::of(arguments.quiet);
    block_on(async {
        let choice = choice(arguments);
        let mut session = match reach(context, arguments, project, text).await? {
            Ok(session) => session,
            Err(exit) => return Ok(exit),
        };
        session.serve();
        if !arguments.quiet {
            session.tell_of_costs(context.output, &choice);
            books::tell_of_expired(session.runtime.store(), context.output);
        }
        let run = books::find(session.runtime.store(), project, arguments.books.sim, text)?;
        tell_ended(context, quiet, run.id, run.state);
        let way = GoOn { in_flight: arguments.in_flight, quiet, json: arguments.json };
        go_on(context, session, run.id, way).await
    })
}

/// How a run is gone on with.
struct GoOn {
    in_flight: Option<InFlight>,
    quiet: Quiet,
    json: bool,
}

/// Goes on with a run that was answered.
pub(super) async fn go_on_here(
    context: &Context<'_>,
    session: Session,
    run: RunId,
    quiet: Quiet,
    json: bool,
) -> Result<Exit, CliError> {
    go_on(context, session, run, GoOn { in_flight: None, quiet, json }).await
}

/// Drives a run, asks whoever sits at the terminal what it asks, and shows what came of it.
async fn go_on(context: &Context<'_>, session: Session, run: RunId, way: GoOn) -> Result<Exit, CliError> {
    let GoOn { in_flight, quiet, json } = way;
    let watch = Watch::new(context.output, limits(&session, run)?, quiet);
    let drive = decide_and_drive(&session.runtime, run, in_flight, watch.observer());
    let driven = session.until_told_to_stop(|line| watch.say(line), drive).await;
    watch.end();
    let Some(driven) = driven else { return Ok(given_up(context.output)) };
    let asks = if json { Quiet::Yes } else { quiet };
    let Some(state) = answered_in_place(context, &session, run, driven?, asks).await? else {
        return Ok(given_up(context.output));
    };
    show(context.output, &session.trace(run)?, Shown { json, events: false, quiet })?;
    session.close().await;
    Ok(Exit::of(state))
}

fn limits(session: &Session, run: RunId) -> Result<Option<Limits>, CliError> {
    let (run, _) = session.runtime.load(run)?;
    Ok(Some(run.plan.limits.clone()))
}

/// Puts what a run asks to whoever sits at the terminal, and goes on with it, until it ends, they say later, or nobody is
/// there. Nothing where they gave up on it.
pub(super) async fn answered_in_place(
    context: &Context<'_>,
    session: &Session,
    run: RunId,
    mut state: RunState,
    quiet: Quiet,
) -> Result<Option<RunState>, CliError> {
    while state.awaits_person() && quiet == Quiet::No && ask::is_somebody_there(context.output) {
        let document = session.trace(run)?.head;
        let asked = tokio::task::spawn_blocking(move || ask::in_place(&document));
        let mut signals = Signals::listen();
        let given = tokio::select! {
            biased;
            () = signals.next() => None,
            given = asked => given.map_err(|error| RuntimeError::Task(error.to_string()))?,
        };
        let Some(given) = given else { break };
        for (asks, given) in given {
            if let Err(error) = session.runtime.answer(asks, &given).await {
                context.output.report(&error.into());
            }
        }
        let watch = Watch::new(context.output, limits(session, run)?, quiet);
        let drive = session.runtime.drive(run, watch.observer());
        let driven = session.until_told_to_stop(|line| watch.say(line), drive).await;
        watch.end();
        let Some(driven) = driven else { return Ok(None) };
        state = driven?;
    }
    Ok(Some(state))
}

/// Opens the store; where another process holds it, that process says how the run stands, and nothing is driven here.
async fn reach(
    context: &Context<'_>,
    arguments: &ResumeArguments,
    project: &Project,
    run: &str,
) -> Result<Result<Session, Exit>, CliError> {
    let choice = choice(arguments);
    let way = Way::to(project, choice.sim);
    loop {
        match way.reach(|| Session::open(project, BTreeMap::new(), &choice)).await? {
            Reached::Here(session) => return Ok(Ok(session)),
            Reached::There(there) => {
                let holder = there.client.holder().clone();
                let trace = there.client.trace(run).await;
                let Some(trace) = way.heard(there, run, trace).await? else { continue };
                if !trace.head.state.is_ended() {
                    return Err(elsewhere(&trace.head, &holder));
                }
                return ended(context, arguments, &trace).map(Err);
            }
        }
    }
}

fn ended(context: &Context<'_>, arguments: &ResumeArguments, trace: &Trace) -> Result<Exit, CliError> {
    let quiet = Quiet::of(arguments.quiet);
    tell_ended(context, quiet, trace.head.run, trace.head.state);
    show(context.output, trace, Shown { json: arguments.json, events: false, quiet })?;
    Ok(Exit::of(trace.head.state))
}

fn tell_ended(context: &Context<'_>, quiet: Quiet, run: RunId, state: RunState) {
    if state.is_ended() && quiet == Quiet::No {
        context.output.talk(&format!("run {run} is {state} already: nothing to go on with"));
    }
}

/// A run that can't be driven here.
fn elsewhere(run: &RunDocument, holder: &Holder) -> CliError {
    let (id, state) = (run.run, run.state);
    match state {
        RunState::Running | RunState::AwaitingBudget | RunState::Queued => {
            let state = state.name().replace('_', " ");
            Problem::usage(code::STATE, format!("run `{id}` is {state} already: it is driven by {holder}"))
                .help(format!("`plimsoll trace {id}` shows how far it is, `plimsoll cancel {id}` ends it"))
                .into()
        }
        RunState::Interrupted
        | RunState::AwaitingApproval
        | RunState::AwaitingInput
        | RunState::Finished
        | RunState::Stopped
        | RunState::Failed
        | RunState::Cancelled => {
            Problem::new(code::STORE_HELD, format!("run `{id}` can't go on here: the store is held by {holder}"))
                .help("wait until that process has ended, and try again")
                .into()
        }
    }
}

/// Drives a run; where it asks what to do with calls in flight, and the command line says it, decides and goes on.
async fn decide_and_drive(
    runtime: &Runtime,
    run: RunId,
    in_flight: Option<InFlight>,
    observer: Observer,
) -> Result<RunState, RuntimeError> {
    let mut state = runtime.drive(run, observer.clone()).await?;
    for _ in 0..DECISIONS_MAX {
        let (true, Some(what)) = (state.awaits_person(), in_flight) else { break };
        let (tree, _) = runtime.load_tree(run)?;
        let asks = tree.runs().flat_map(|run| run.unanswered().map(|asking| (run.id, asking)));
        let in_doubt = asks.filter(|(_, asking)| asking.kind == AskKind::InFlight);
        let in_doubt: Vec<(RunId, u32)> = in_doubt.map(|(run, asking)| (run, asking.number)).collect();
        if in_doubt.is_empty() {
            break;
        }
        for (asks, ask) in in_doubt {
            let decision = match what {
                InFlight::Rerun => Decision::Allow { edited: None },
                InFlight::Skip => Decision::Deny,
            };
            let given = Given { ask: Some(ask), decision, by: who(), reason: None, shown_hash: None };
            runtime.answer(asks, &given).await?;
        }
        state = runtime.drive(run, observer.clone()).await?;
    }
    Ok(state)
}

fn all(context: &Context<'_>, arguments: &ResumeArguments, project: &Project) -> Result<Exit, CliError> {
    block_on(async {
        let choice = choice(arguments);
        let mut session = Session::open(project, BTreeMap::new(), &choice)?;
        session.serve();
        if !arguments.quiet {
            session.tell_of_costs(context.output, &choice);
            books::tell_of_expired(session.runtime.store(), context.output);
        }
        let runs = resumable(&session.runtime, arguments.in_flight)?;
        if runs.is_empty() {
            return nothing_by_itself(context, &session.runtime);
        }
        let total = u64::try_from(runs.len()).unwrap_or(u64::MAX);
        let bar = Bar::new(context.output, total, arguments.quiet);
        let mut tally = Tally::default();
        let work = drive_all(context, arguments, &session, runs, &bar, &mut tally);
        let worked = session.until_told_to_stop(|line| bar.say_aloud(line), work).await;
        bar.end();
        let Some(worked) = worked else { return Ok(given_up(context.output)) };
        worked?;
        session.close().await;
        if !arguments.quiet {
            context.output.talk(&tally.summary("go on: plimsoll resume --all"));
        }
        Ok(tally.exit())
    })
}

/// Runs to go on with, oldest first: also those that wait for a decision, where the command line takes it.
fn resumable(runtime: &Runtime, in_flight: Option<InFlight>) -> Result<Vec<RunId>, CliError> {
    let mut states =
        BTreeSet::from([RunState::Queued, RunState::Running, RunState::AwaitingBudget, RunState::Interrupted]);
    states.extend(in_flight.map(|_| RunState::AwaitingApproval));
    let mut runs = Vec::new();
    for state in states {
        let filter = RunFilter { states: BTreeSet::from([state]), ..RunFilter::default() };
        // A child is driven by its root: answered, it goes on with it.
        runs.extend(runtime.store().every(filter)?.iter().map(RunSummary::root));
    }
    runs.sort();
    runs.dedup();
    Ok(runs)
}

async fn drive_all(
    context: &Context<'_>,
    arguments: &ResumeArguments,
    session: &Session,
    runs: Vec<RunId>,
    bar: &Bar,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let (runtime, stopping) = (&session.runtime, session.stopping());
    let mut waiting = runs.into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < usize::from(arguments.parallel) && !stopping.is_asked() {
            let Some(run) = waiting.next() else { break };
            let (runtime, in_flight, observer) = (runtime.clone(), arguments.in_flight, bar.observer());
            tasks.spawn(async move { (run, decide_and_drive(&runtime, run, in_flight, observer).await) });
        }
        let Some(joined) = tasks.join_next().await else { return Ok(()) };
        let (run, driven) = joined.map_err(|error| RuntimeError::Task(error.to_string()))?;
        if let Err(error) = driven {
            // One run that can't go on doesn't hold the others back; it stays as it is.
            bar.say(&format!("run {run} can't go on: {error}"));
            *tally.states.entry(RunState::Interrupted).or_default() += 1;
            continue;
        }
        let (tree, created) = runtime.load_tree(run)?;
        let document = RunDocument::of_tree(&tree, created.load_line, clock().now());
        tally.count(&document);
        bar.advance(tally, || None);
        if arguments.json {
            bar.around(|| context.output.json_line(&document))?;
        } else {
            bar.say(&format!("run {run} is {}", render::trace::state(&document)));
        }
    }
}
