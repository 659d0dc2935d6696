//! `run --each`: an agent over many inputs in one process. A line's run is found again by what makes the job, and the
//! line's number, so that the same command goes on where it stopped.
//!
//! Invariants: a line has one run, whatever was killed; with `--json` a document is printed for each line that ended, once
//! over all commands, but for those that ended and were killed before they were shown: `--with-ended` shows them again.
//! Deliberately absent: an own list of what is done. The store knows.

mod attached;
mod lines;
mod threads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use self::attached::FileField;
use self::lines::{Line, Lines};
use self::threads::{InThread, ThreadField, Turnstile};
use super::Context;
use super::run::{given_up, sim_choice, tell_of_recording};
use crate::cli::arguments::RunArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::input;
use crate::cli::output::Output;
use crate::cli::project::{self, clock};
use crate::cli::render;
use crate::cli::render::text::{one_line, percent};
use crate::cli::session::{Session, Stopping, block_on};
use crate::cli::tally::{Bar, Tally};
use crate::domain::event::{Labels, RunState, THREAD};
use crate::domain::message::GivenFile;
use crate::domain::plan::Plan;
use crate::domain::report::{Beside, BudgetTable, RunDocument};
use crate::ids::RunId;
use crate::runtime::{NewRun, Observer, Runtime, RuntimeError};
use crate::spec::project::Project;

/// Stands in a job's hash before the name of a field; no label is called so.
const THREAD_FROM: &str = "--thread-from";
/// The same before the hash of a file.
const FILE: &str = "--file";
/// The same before the name of a field that names files.
const FILE_FROM: &str = "--file-from";
/// The most characters of an answer that stand in a line of text, and the fewest on a terminal.
const ANSWER_CHARS_MAX: usize = 200;
const ANSWER_CHARS_MIN: usize = 16;
/// What stands before it on a terminal, at most.
const COLUMNS_BEFORE: usize = 49;

/// A line as it is to be run; or what is wrong with it.
struct Ready {
    number: u64,
    thread: Option<String>,
    input: Result<serde_json::Value, String>,
    /// The files that it names.
    files: Vec<PathBuf>,
    bytes: usize,
}

impl InThread for Ready {
    fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What one line came to.
struct Done {
    number: u64,
    thread: Option<String>,
    outcome: Outcome,
}

enum Outcome {
    /// Driven now, as far as it went.
    Run(Box<RunDocument>),
    /// It had ended before this command; its document where it is asked for.
    Skipped(RunState, Option<Box<RunDocument>>),
    /// It never became a run.
    Bad(String),
    /// A run of its thread is open: a person is asked, or another process drives it.
    Later(String),
    /// The store can't go on, and no other line could either.
    Fatal(CliError),
}

/// What all lines have in common.
pub(super) struct Shared {
    /// Their labels.
    pub(super) labels: Labels,
    /// The files that go with each.
    pub(super) files: Vec<GivenFile>,
}

pub(super) fn each(
    context: &Context<'_>,
    arguments: &RunArguments,
    project: &Project,
    plan: Plan,
    shared: Shared,
    file: &Path,
) -> Result<Exit, CliError> {
    let Shared { labels, files } = shared;
    let thread_from = thread_field(arguments, &plan, &labels)?;
    let file_from = arguments.file_from.as_ref().map(|field| FileField::of(&plan, field, file)).transpose()?;
    let lines = Lines::open(file)?;
    let plan = Arc::new(plan);
    block_on(async {
        let choice = sim_choice(arguments);
        let mut session = Session::open(project, project::only(Plan::clone(&plan)), &choice)?;
        session.serve();
        if !arguments.quiet {
            session.tell_of_costs(context.output, &choice);
        }
        let bar = Bar::new(context.output, lines.count, arguments.quiet);
        let mut batch = Batch {
            output: context.output,
            json: arguments.json,
            ended: if arguments.with_ended { Ended::Shown } else { Ended::Skipped },
            bar: bar.clone(),
            tally: Tally::default(),
            runtime: session.runtime.clone(),
            stopping: session.stopping(),
            project,
            job: job(&lines.hash, &project.environment, &labels, &files, (thread_from.as_ref(), file_from.as_ref())),
            plan,
            labels,
            files,
            thread_from,
            file_from,
            turnstile: Turnstile::default(),
            held: BTreeMap::new(),
        };
        let work = batch.work(lines, usize::from(arguments.parallel));
        let worked = session.until_told_to_stop(|line| bar.say_aloud(line), work).await;
        let (tally, fatal) = batch.end();
        let Some(worked) = worked else { return Ok(given_up(context.output)) };
        // What is in flight is settled, also where the result can't be written.
        let recorded = tell_of_recording(context.output, &session, arguments);
        session.close().await;
        worked?;
        recorded?;
        if !arguments.quiet {
            context.output.talk(&tally.summary("the same command goes on where this one stopped"));
        }
        fatal.map_or_else(|| Ok(tally.exit()), Err)
    })
}

/// Which field names a line's thread. One thread for all lines isn't what parallel lines are for, and its cost grows with
/// each of them.
fn thread_field(arguments: &RunArguments, plan: &Plan, labels: &Labels) -> Result<Option<ThreadField>, CliError> {
    let Some(field) = &arguments.thread_from else {
        if !labels.contains_key(THREAD) {
            return Ok(None);
        }
        let message = "with `--each` all lines would be in one thread, and none could begin before the last one's end";
        let help = "let each line name its thread, with `--thread-from FIELD`; or run the lines one by one";
        return Err(Problem::usage(code::USAGE, message).help(help).into());
    };
    if labels.contains_key(THREAD) {
        let message = "`--thread-from` and a thread for all lines exclude each other";
        return Err(Problem::usage(code::USAGE, message).help("leave one of them out").into());
    }
    ThreadField::of(plan, field).map(Some)
}

/// What a line's key begins with. The same file for another tenant, or in another environment, is another job; the store
/// keeps agents apart. What the agent's file says is left out: a mended agent goes on with the same job.
fn job(
    file: &str,
    environment: &str,
    labels: &Labels,
    files: &[GivenFile],
    (thread_from, file_from): (Option<&ThreadField>, Option<&FileField>),
) -> String {
    let mut hasher = Sha256::new();
    let thread = thread_from.map(|field| (THREAD_FROM, field.name()));
    let named = file_from.map(|field| (FILE_FROM, field.name()));
    let files = files.iter().map(|file| (FILE, file.sha256()));
    let given = [("environment", environment)].into_iter().chain(pairs(labels)).chain(files);
    for (name, value) in given.chain(thread).chain(named) {
        // Neither has a control character.
        hasher.update(format!("{name}\0{value}\0"));
    }
    format!("{file}:{}", lines::digits(hasher))
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Whether lines that ended before are shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Shown,
    Skipped,
}

/// Many runs under way.
struct Batch<'a> {
    output: &'a Output,
    json: bool,
    ended: Ended,
    bar: Bar,
    tally: Tally,
    runtime: Runtime,
    stopping: Stopping,
    project: &'a Project,
    job: String,
    plan: Arc<Plan>,
    labels: Labels,
    files: Vec<GivenFile>,
    thread_from: Option<ThreadField>,
    file_from: Option<FileField>,
    turnstile: Turnstile<Ready>,
    /// Threads with a run that stays open, and why: their further lines keep their order, and are for a later command.
    held: BTreeMap<String, String>,
}

impl Batch<'_> {
    /// Reads lines as places become free, and takes results as they come.
    async fn work(&mut self, mut lines: Lines, parallel: usize) -> Result<(), CliError> {
        let mut tasks = JoinSet::new();
        let mut more = true;
        loop {
            while tasks.len() < parallel && !self.is_stopping() {
                if let Some(ready) = self.turnstile.pass_waiting() {
                    self.start(&mut tasks, ready);
                    continue;
                }
                if !more || !self.turnstile.has_room() {
                    break;
                }
                match lines.next() {
                    Ok(Some(line)) => {
                        let ready = self.ready(line);
                        if let Some(ready) = self.turnstile.pass(ready) {
                            self.start(&mut tasks, ready);
                        }
                    }
                    Ok(None) => more = false,
                    Err(error) => drop(self.tally.fatal.get_or_insert(error)),
                }
            }
            match tasks.join_next().await {
                Some(Ok(done)) => self.take(done)?,
                Some(Err(error)) => return Err(RuntimeError::Task(error.to_string()).into()),
                None => break,
            }
        }
        // Where it was told to stop as the last line began, nothing is left.
        self.tally.left = !self.turnstile.is_empty() || more && lines.next()?.is_some();
        Ok(())
    }

    /// True where no further line is to begin: also where nobody reads what it would come to.
    fn is_stopping(&self) -> bool {
        self.tally.fatal.is_some() || self.stopping.is_asked() || self.output.hung_up()
    }

    fn ready(&self, line: Line) -> Ready {
        let (number, schema) = (line.number, self.plan.input.as_ref());
        let bytes = line.text.as_ref().map_or(0, String::len);
        let read = line.text.and_then(|text| {
            let value = serde_json::from_str(&text).map_err(|error| not_json(&error))?;
            let (value, files) = match &self.file_from {
                Some(field) => field.split(value)?,
                None => (value, vec![]),
            };
            Ok((input::of_json(schema, value)?, files))
        });
        let (mut input, files) = read.map_or_else(|why| (Err(why), vec![]), |(input, files)| (Ok(input), files));
        let mut thread = None;
        if let (Some(field), Ok(value)) = (&self.thread_from, &input) {
            match field.thread_of(value) {
                Ok(id) => thread = Some(id),
                Err(why) => input = Err(why),
            }
        }
        Ready { number, thread, input, files, bytes }
    }

    fn start(&self, tasks: &mut JoinSet<Done>, ready: Ready) {
        let Ready { number, thread, input, files, .. } = ready;
        let held = thread.as_ref().and_then(|thread| self.held.get(thread));
        let at_once = match input {
            Err(why) => Err(Outcome::Bad(why)),
            Ok(input) => held.map_or(Ok(input), |why| Err(Outcome::Later(why.clone()))),
        };
        match at_once {
            Err(outcome) => {
                tasks.spawn(async move { Done { number, thread, outcome } });
            }
            Ok(input) => {
                let key = Some(format!("{}:{number}", self.job));
                let mut labels = self.labels.clone();
                labels.extend(thread.iter().map(|id| (THREAD.to_owned(), id.clone())));
                let new = NewRun {
                    agent: self.plan.agent.clone(),
                    input,
                    labels,
                    key,
                    files: self.files.clone(),
                    bound: vec![],
                };
                let (runtime, observer, ended) = (self.runtime.clone(), self.bar.observer(), self.ended);
                tasks.spawn(async move {
                    let outcome = drive(&runtime, new, files, ended, observer).await;
                    Done { number, thread, outcome }
                });
            }
        }
    }

    fn take(&mut self, done: Done) -> Result<(), CliError> {
        let number = done.number;
        self.leave(&done);
        match done.outcome {
            Outcome::Run(document) => {
                self.tally.count(&document);
                // One that goes on later is shown later, so that each line is shown once.
                if document.state.is_ended() {
                    self.print(number, &document)?;
                }
                self.tell(number, &document);
            }
            Outcome::Skipped(state, document) => {
                *self.tally.skipped.entry(state).or_default() += 1;
                document.map_or(Ok(()), |document| self.print(number, &document))?;
            }
            Outcome::Bad(why) => {
                self.tally.bad += 1;
                self.bar.say(&format!("line {number}: {}", one_line(&why, 500)));
                if self.json {
                    let bad = BadLine { line: number, state: RunState::Failed, error: &why };
                    self.bar.around(|| self.output.json_line(&bad))?;
                }
            }
            Outcome::Later(why) => {
                self.tally.later += 1;
                self.bar.say(&format!("line {number}: {}", one_line(&why, 500)));
            }
            Outcome::Fatal(error) => {
                self.tally.fatal.get_or_insert(error);
            }
        }
        self.bar.advance(&self.tally, || self.tightest());
        Ok(())
    }

    /// The next line of its thread may begin; or none may, where the run stays open.
    fn leave(&mut self, done: &Done) {
        let Some(thread) = &done.thread else { return };
        self.turnstile.free(thread);
        let why = match &done.outcome {
            Outcome::Run(document) if !document.state.is_ended() => {
                format!("it goes on with thread `{thread}` when run {} of it has ended", document.run)
            }
            Outcome::Later(why) => why.clone(),
            Outcome::Run(_) | Outcome::Skipped(..) | Outcome::Bad(_) | Outcome::Fatal(_) => return,
        };
        self.held.entry(thread.clone()).or_insert(why);
    }

    fn print(&self, number: u64, document: &RunDocument) -> Result<(), CliError> {
        if self.json {
            return self.bar.around(|| self.output.json_line(&LineDocument { line: number, document }));
        }
        let most = self.output.data_width().map_or(ANSWER_CHARS_MAX, |columns| {
            usize::from(columns).saturating_sub(COLUMNS_BEFORE).clamp(ANSWER_CHARS_MIN, ANSWER_CHARS_MAX)
        });
        let answer = document.output.as_ref().map(|output| one_line(&render::trace::as_words(output), most));
        let state = render::trace::state(document);
        let line = format!("{number}\t{state}\t{}\t{}", document.cost.settled_usd, answer.unwrap_or_default());
        self.bar.around(|| self.output.data(&line))
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
        let table = BudgetTable::of(&self.project.budgets, &accounts, &Beside::default(), clock().now());
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
async fn drive(runtime: &Runtime, new: NewRun, files: Vec<PathBuf>, ended: Ended, observer: Observer) -> Outcome {
    let names_files = !files.is_empty();
    match try_drive(runtime, new, files, ended, observer).await {
        Ok(outcome) => outcome,
        // Others name other files.
        Err(RuntimeError::Files { fault, help, .. }) if names_files => Outcome::Bad(format!("{fault}; {help}")),
        Err(error) => failed(error),
    }
}

async fn try_drive(
    runtime: &Runtime,
    mut new: NewRun,
    files: Vec<PathBuf>,
    ended: Ended,
    observer: Observer,
) -> Result<Outcome, RuntimeError> {
    let key = new.key.as_deref().unwrap_or_default();
    let Some(run) = runtime.store().run_by_key(&new.agent, key)? else {
        match attached::read(files).await {
            Ok(own) => new.files.extend(own),
            Err(why) => return Ok(Outcome::Bad(why)),
        }
        let (run, _) = runtime.run(&new, observer).await?;
        return document(runtime, run).map(Outcome::Run);
    };
    if let Some(summary) = runtime.store().summary(run)?.filter(|summary| summary.state.is_ended()) {
        let shown = (ended == Ended::Shown).then(|| document(runtime, run)).transpose()?;
        return Ok(Outcome::Skipped(summary.state, shown));
    }
    runtime.drive(run, observer).await?;
    document(runtime, run).map(Outcome::Run)
}

fn document(runtime: &Runtime, run: RunId) -> Result<Box<RunDocument>, RuntimeError> {
    let (tree, created) = runtime.load_tree(run)?;
    Ok(Box::new(RunDocument::of_tree(&tree, created.load_line, clock().now())))
}

fn failed(error: RuntimeError) -> Outcome {
    match error {
        RuntimeError::Input { .. } | RuntimeError::Prompt { .. } | RuntimeError::Documents { .. } => {
            Outcome::Bad(error.to_string())
        }
        RuntimeError::ThreadBusy { .. } => Outcome::Later(error.to_string()),
        RuntimeError::Store(_)
        | RuntimeError::Provider(_)
        | RuntimeError::NoSuchAgent { .. }
        | RuntimeError::NoSuchRun { .. }
        | RuntimeError::DamagedLog { .. }
        | RuntimeError::Files { .. }
        | RuntimeError::FileMissing { .. }
        | RuntimeError::Driven { .. }
        | RuntimeError::Answer { .. }
        | RuntimeError::Outcome { .. }
        | RuntimeError::SubAgent { .. }
        | RuntimeError::MissingLabel(_)
        | RuntimeError::Task(_) => Outcome::Fatal(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_environment_or_label_is_another_job() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let photo = |text: &str| GivenFile::of("a.gif", format!("GIF89a {text}").as_bytes()).expect("a file");
        let acme = [("case", "1"), ("tenant", "acme")];
        let jobs = [
            job("f00", "test", &labels(&[]), &[], (None, None)),
            job("f01", "test", &labels(&[]), &[], (None, None)),
            job("f00", "production", &labels(&[]), &[], (None, None)),
            job("f00", "test", &labels(&acme), &[], (None, None)),
            job("f00", "test", &labels(&[("case", "1"), ("tenant", "globex")]), &[], (None, None)),
            job("f00", "test", &labels(&[("case", "1")]), &[], (None, None)),
            job("f00", "test", &labels(&[]), &[photo("one")], (None, None)),
            job("f00", "test", &labels(&[]), &[photo("two")], (None, None)),
            job("f00", "test", &labels(&[]), &[], (Some(&ThreadField::named("case")), None)),
        ];
        assert_eq!(jobs.iter().collect::<std::collections::BTreeSet<_>>().len(), jobs.len(), "{jobs:?}");
        let turned = [acme[1], acme[0]];
        assert_eq!(
            job("f00", "test", &labels(&turned), &[], (None, None)),
            jobs[3],
            "the order in which labels are given is nothing"
        );
    }
}
