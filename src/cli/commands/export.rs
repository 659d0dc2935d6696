//! `export events`: JSON lines, the way out of any store.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::Context;
use crate::cli::arguments::BooksArguments;
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::domain::event::Recorded;
use crate::ids::RunId;
use crate::store::{Store, StoreError};

/// One event of one run, as `export events` and `run --events` print it.
#[derive(Serialize)]
pub(crate) struct EventLine<'a> {
    run: RunId,
    #[serde(flatten)]
    recorded: &'a Recorded,
}

impl<'a> EventLine<'a> {
    pub(crate) const fn new(run: RunId, recorded: &'a Recorded) -> Self {
        Self { run, recorded }
    }
}

pub(super) fn events(
    context: &Context<'_>,
    run: Option<&str>,
    out: Option<&Path>,
    choice: BooksArguments,
) -> Result<Exit, CliError> {
    let project = configuration(context.project, choice.sim)?;
    let Some(store) = books::open(&project, choice.sim)? else {
        context.output.talk("there is nothing to export yet; `plimsoll run AGENT --input TEXT` makes a run");
        return Ok(Exit::Finished);
    };
    let run = run.map(|text| books::find(&store, &project, choice.sim, text)).transpose()?.map(|run| run.id);
    let Some(path) = out else { return to_stdout(&store, run) };
    let created = File::create_new(path).map_err(|error| Problem::file("write", path, &error));
    let mut file = BufWriter::new(created?);
    let lines = write(&store, run, &mut file)?;
    let file = file.into_inner().map_err(|error| Problem::file("write", path, error.error()))?;
    file.sync_all().map_err(|error| Problem::file("write", path, &error))?;
    context.output.talk(&format!("{} written to {}", crate::cli::render::text::count(lines, "event"), path.display()));
    Ok(Exit::Finished)
}

fn to_stdout(store: &Store, run: Option<RunId>) -> Result<Exit, CliError> {
    let mut stdout = Patient { inner: BufWriter::new(std::io::stdout().lock()), hung_up: false };
    match write(store, run, &mut stdout).and_then(|_| stdout.flush().map_err(broken)) {
        Err(_) if stdout.hung_up => Ok(Exit::Finished),
        Err(error) => Err(error),
        Ok(()) => Ok(Exit::Finished),
    }
}

/// Remembers that the reader hung up, which is no failure.
struct Patient<W: Write> {
    inner: W,
    hung_up: bool,
}

impl<W: Write> Patient<W> {
    fn noticed<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        self.hung_up |= matches!(&result, Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes);
        self.noticed(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.inner.flush();
        self.noticed(flushed)
    }
}

fn broken(error: std::io::Error) -> CliError {
    Problem::new(code::OUTPUT, format!("the export broke off: {error}")).into()
}

fn write(store: &Store, run: Option<RunId>, out: &mut dyn Write) -> Result<u64, CliError> {
    let Some(run) = run else {
        return store.export_events(out).map_err(|error| {
            if let StoreError::Export { why } = &error {
                return Problem::new(code::OUTPUT, format!("the export broke off: {why}")).into();
            }
            error.into()
        });
    };
    let log = store.events(run)?;
    for recorded in &log {
        serde_json::to_writer(&mut *out, &EventLine::new(run, recorded)).map_err(|error| broken(error.into()))?;
        out.write_all(b"\n").map_err(broken)?;
    }
    Ok(u64::try_from(log.len()).unwrap_or(u64::MAX))
}
