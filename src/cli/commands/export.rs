//! `export`: JSON lines and FOCUS, the way out of any store. Written page by page, from this process or from the one that holds
//! the store.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::Context;
use crate::api::{ExportQuery, Exported};
use crate::cli::arguments::{ExportArguments, ExportCommand};
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{configuration, filter, is_simulated, price_book_for};
use crate::cli::render::text::count;
use crate::cli::{books, remote};
use crate::domain::event::Recorded;
use crate::domain::report::focus::FocusVersion;
use crate::ids::RunId;
use crate::spec::load::Answering;
use crate::spec::project::Project;

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

pub(super) fn export(context: &Context<'_>, command: &ExportCommand) -> Result<Exit, CliError> {
    let (exported, run, arguments) = match command {
        ExportCommand::Runs { arguments } => (Exported::Runs, None, arguments),
        ExportCommand::Events { run, arguments } => (Exported::Events, run.clone(), arguments),
        ExportCommand::Focus { spec, daily, arguments } => {
            let version = spec.parse::<FocusVersion>().unwrap_or_default();
            (if *daily { Exported::FocusDaily(version) } else { Exported::Focus(version) }, None, arguments)
        }
    };
    let project = configuration(context.project, arguments.books.sim)?;
    let query = ExportQuery { exported, filter: filter(&arguments.which, None, &arguments.made)?, run, after: None };
    match &arguments.out {
        None => to_stdout(context, &project, arguments, query),
        Some(path) => to_file(context, &project, arguments, query, path),
    }
}

fn to_file(
    context: &Context<'_>,
    project: &Project,
    arguments: &ExportArguments,
    query: ExportQuery,
    path: &Path,
) -> Result<Exit, CliError> {
    let exported = query.exported;
    let created = File::create_new(path).map_err(|error| Problem::file("write", path, &error));
    let mut file = BufWriter::new(created?);
    let written = write(context, project, arguments, query, &mut file).and_then(|lines| {
        let file = file.into_inner().map_err(|error| Problem::file("write", path, error.error()))?;
        file.sync_all().map_err(|error| Problem::file("write", path, &error))?;
        Ok(lines)
    });
    // Half of it would look like all of it.
    let Some(lines) = written.inspect_err(|_| std::fs::remove_file(path).unwrap_or_default())? else {
        return Ok(Exit::Finished);
    };
    let what = match exported {
        Exported::Runs => count(lines, "run"),
        Exported::Events => count(lines, "event"),
        Exported::Focus(_) | Exported::FocusDaily(_) => count(lines.saturating_sub(1), "row"),
    };
    context.output.talk(&format!("{what} written to {}", path.display()));
    Ok(Exit::Finished)
}

fn to_stdout(
    context: &Context<'_>,
    project: &Project,
    arguments: &ExportArguments,
    query: ExportQuery,
) -> Result<Exit, CliError> {
    let mut stdout = Patient { inner: BufWriter::new(std::io::stdout().lock()), hung_up: false };
    let written = write(context, project, arguments, query, &mut stdout);
    match written.and_then(|_| stdout.flush().map_err(broken)) {
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

/// Writes all pages; gives the number of lines, or nothing where no run was ever made.
fn write(
    context: &Context<'_>,
    project: &Project,
    arguments: &ExportArguments,
    query: ExportQuery,
    out: &mut dyn Write,
) -> Result<Option<u64>, CliError> {
    let sim = arguments.books.sim;
    let simulated = is_simulated(project, sim);
    let answering = if simulated { Answering::Simulated } else { Answering::Configured };
    let prices = match query.exported {
        Exported::Focus(_) | Exported::FocusDaily(_) => Some(Arc::new(price_book_for(project, answering)?)),
        Exported::Runs | Exported::Events => None,
    };
    let open = || {
        let found = books::open_books(project, sim)?;
        let prices = prices.clone();
        Ok(found.map(|books| prices.into_iter().fold(books, |books, prices| books.priced_by(prices))))
    };
    if simulated && query.exported.focus().is_some() {
        context.output.talk("these are the simulated provider's costs: no money was spent");
    }
    let (mut lines, exported) = (0, query.exported);
    let any = remote::export(context.output, project, sim, query, &open, &mut |text| {
        lines += text.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        out.write_all(text).map_err(broken)
    })?;
    if !any {
        out.write_all(exported.head().as_bytes()).map_err(broken)?;
        context.output.talk("there is nothing to export yet; `plimsoll run AGENT --input TEXT` makes a run");
    }
    Ok(any.then_some(lines))
}
