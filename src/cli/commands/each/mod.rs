//! `run --each`: an agent over many inputs in one process. A line's run is found again by the file's hash and the line's
//! number, so that the same command goes on where it stopped.

mod lines;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinSet;

use self::lines::{Line, Lines};
use super::Context;
use super::run::{given_up, sim_choice};
use crate::cli::arguments::RunArguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::input;
use crate::cli::output::Output;
use crate::cli::project::{self, clock};
use crate::cli::render;
use crate::cli::render::text::{one_line, percent};
use crate::cli::session::{Session, Stopping, block_on};
use crate::cli::tally::{Bar, Tally};
use crate::domain::event::{Labels, RunState};
use crate::domain::plan::Plan;
use crate::domain::report::{BudgetTable, RunDocument};
use crate::ids::RunId;
use crate::runtime::{NewRun, Observer, Runtime, RuntimeError};
use crate::spec::project::Project;

/// The most characters of an answer that stand in a line of text.
const ANSWER_CHARS_MAX: usize = 200;

/// What one line came to.
struct Done {
    number: u64,
    outcome: Outcome,
}

enum Outcome {
    /// Driven, now or by an earlier command.
    Run(Box<RunDocument>),
    /// It had ended before this command.
    Skipped,
    /// It never became a run.
    Bad(String),
    /// The store can't go on, and no other line could either.
    Fatal(CliError),
}

pub(super) fn each(
    context: &Context<'_>,
    arguments: &RunArguments,
    project: &Project,
    plan: Plan,
    labels: Labels,
    file: &Path,
) -> Result<Exit, CliError> {
    let lines = Lines::open(file)?;
    let plan = Arc::new(plan);
    block_on(async {
        let choice = sim_choice(arguments);
        let session = Session::open(project, project::only(Plan::clone(&plan)), &choice)?;
        if !arguments.quiet {
            session.tell_of_simulation(context.output, &choice);
        }
        let mut batch = Batch {
            output: context.output,
            json: arguments.json,
            bar: Bar::new(context.output, lines.count, arguments.quiet),
            tally: Tally::default(),
            runtime: session.runtime.clone(),
            stopping: session.stopping(),
            project,
            plan,
            labels,
        };
        let work = batch.work(lines, usize::from(arguments.parallel));
        let worked = session.until_told_to_stop(context.output, work).await;
        let (tally, fatal) = batch.end();
        let Some(worked) = worked else { return Ok(given_up(context.output)) };
        worked?;
        session.close().await;
        if !arguments.quiet {
            context.output.talk(&tally.summary("the same command goes on where this one stopped"));
        }
        fatal.map_or_else(|| Ok(tally.exit()), Err)
    })
}

/// Many runs under way.
struct Batch<'a> {
    output: &'a Output,
    json: bool,
    bar: Bar,
    tally: Tally,
    runtime: Runtime,
    stopping: Stopping,
    project: &'a Project,
    plan: Arc<Plan>,
    labels: Labels,
}

impl Batch<'_> {
    /// Reads lines as places become free, and takes results as they come.
    async fn work(&mut self, mut lines: Lines, parallel: usize) -> Result<(), CliError> {
        let mut tasks = JoinSet::new();
        let mut more = true;
        loop {
            while more && tasks.len() < parallel && !self.is_stopping() {
                match lines.next()? {
                    Some(line) => {
                        let key = lines.key(line.number);
                        self.start(&mut tasks, line, key);
                    }
                    None => more = false,
                }
            }
            match tasks.join_next().await {
                Some(Ok(done)) => self.take(done)?,
                Some(Err(error)) => return Err(RuntimeError::Task(error.to_string()).into()),
                None => return Ok(()),
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.tally.fatal.is_some() || self.stopping.is_asked()
    }

    fn start(&self, tasks: &mut JoinSet<Done>, line: Line, key: String) {
        let number = line.number;
        let schema = self.plan.input.as_ref();
        let parsed = line.text.and_then(|text| {
            let value = serde_json::from_str(&text).map_err(|error| not_json(&error))?;
            input::of_json(schema, value)
        });
        match parsed {
            Err(why) => {
                tasks.spawn(async move { Done { number, outcome: Outcome::Bad(why) } });
            }
            Ok(input) => {
                let new = NewRun { agent: self.plan.agent.clone(), input, labels: self.labels.clone(), key: Some(key) };
                let (runtime, observer) = (self.runtime.clone(), self.bar.refusals());
                tasks.spawn(async move { Done { number, outcome: drive(&runtime, &new, observer).await } });
            }
        }
    }

    fn take(&mut self, done: Done) -> Result<(), CliError> {
        let number = done.number;
        match done.outcome {
            Outcome::Run(document) => {
                self.tally.count(&document);
                if document.state.is_ended() || self.json {
                    self.print(number, &document)?;
                }
                self.tell(number, &document);
            }
            Outcome::Skipped => self.tally.skipped += 1,
            Outcome::Bad(why) => {
                self.tally.bad += 1;
                self.bar.say(&format!("line {number}: {}", one_line(&why, 500)));
                if self.json {
                    self.output.json_line(&BadLine { line: number, state: RunState::Failed, error: &why })?;
                }
            }
            Outcome::Fatal(error) => {
                self.tally.fatal.get_or_insert(error);
            }
        }
        self.bar.advance(&self.tally, || self.tightest());
        Ok(())
    }

    fn print(&self, number: u64, document: &RunDocument) -> Result<(), CliError> {
        if self.json {
            return self.output.json_line(&LineDocument { line: number, document });
        }
        let answer =
            document.output.as_ref().map(|output| one_line(&render::trace::as_words(output), ANSWER_CHARS_MAX));
        let state = render::trace::state(document);
        self.output.data(&format!("{number}\t{state}\t{}\t{}", document.cost.settled_usd, answer.unwrap_or_default()))
    }

    fn tell(&self, number: u64, document: &RunDocument) {
        if document.state != RunState::Finished {
            let why = document.error.as_ref().map_or(String::new(), |error| format!(": {}", one_line(error, 300)));
            let state = render::trace::state(document);
            self.bar.say(&format!("line {number}: run {} is {state}{why}", document.run));
        }
    }

    /// The budget on these runs' way that is used up most.
    fn tightest(&self) -> Option<String> {
        let accounts = self.runtime.store().accounts().ok()?;
        let table = BudgetTable::of(&self.project.budgets, &accounts, clock().now());
        let current = table.budgets.into_iter().filter(|row| row.current);
        let row = current.max_by_key(|row| row.used_basis_points)?;
        let used = row.settled_usd.plus(row.held_usd);
        let share = percent(row.used_basis_points.unwrap_or_default());
        Some(format!("budget {}: {used} of {} ({share})", row.budget, row.cap_usd))
    }

    /// Takes the bar away; gives what was counted, and what made it impossible to go on.
    fn end(self) -> (Tally, Option<CliError>) {
        self.bar.end();
        let mut tally = self.tally;
        let fatal = tally.fatal.take();
        (tally, fatal)
    }
}

/// What is wrong with a line, without the number that the parser gives it.
fn not_json(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let what = told.rsplit_once(" at line ").map_or(told.as_str(), |(what, _)| what);
    format!("it is no JSON: {what} at column {}", error.column())
}

/// A run's document, with the line that it is of.
#[derive(Serialize)]
struct LineDocument<'a> {
    line: u64,
    #[serde(flatten)]
    document: &'a RunDocument,
}

/// A line that never became a run.
#[derive(Serialize)]
struct BadLine<'a> {
    line: u64,
    state: RunState,
    error: &'a str,
}

/// Makes a line's run, or goes on with the one that an earlier command made.
async fn drive(runtime: &Runtime, new: &NewRun, observer: Observer) -> Outcome {
    match try_drive(runtime, new, observer).await {
        Ok(Some(run)) => document(runtime, run),
        Ok(None) => Outcome::Skipped,
        Err(error) => failed(error),
    }
}

async fn try_drive(runtime: &Runtime, new: &NewRun, observer: Observer) -> Result<Option<RunId>, RuntimeError> {
    let key = new.key.as_deref().unwrap_or_default();
    let Some(run) = runtime.store().run_by_key(&new.agent, key)? else {
        return runtime.run(new, observer).await.map(|(run, _)| Some(run));
    };
    if runtime.store().summary(run)?.is_some_and(|summary| summary.state.is_ended()) {
        return Ok(None);
    }
    runtime.drive(run, observer).await.map(|_| Some(run))
}

fn document(runtime: &Runtime, run: RunId) -> Outcome {
    match runtime.load(run) {
        Ok((state, created)) => Outcome::Run(Box::new(RunDocument::of(&state, created.load_line, clock().now()))),
        Err(error) => failed(error),
    }
}

fn failed(error: RuntimeError) -> Outcome {
    match error {
        RuntimeError::Input { .. } | RuntimeError::Prompt { .. } => Outcome::Bad(error.to_string()),
        RuntimeError::Store(_)
        | RuntimeError::Provider(_)
        | RuntimeError::NoSuchAgent { .. }
        | RuntimeError::NoSuchRun { .. }
        | RuntimeError::DamagedLog { .. }
        | RuntimeError::Driven { .. }
        | RuntimeError::NothingAsked { .. }
        | RuntimeError::MissingLabel(_)
        | RuntimeError::Task(_) => Outcome::Fatal(error.into()),
    }
}
