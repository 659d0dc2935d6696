//! Opens a project's store for commands that only read.

use std::path::{Path, PathBuf};

use crate::api::{Books, ErrorBody};
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::output::Output;
use crate::cli::project::{clock, is_simulated};
use crate::cli::remote;
use crate::domain::event::Event;
use crate::domain::summary::RunSummary;
use crate::runtime::simulated_folder;
use crate::spec::project::Project;
use crate::store::Store;

/// Runs that have expired and that are named.
const EXPIRED_MAX: usize = 5;

/// The folder of the store that a command means.
#[must_use]
pub fn folder(project: &Project, sim: bool) -> PathBuf {
    if is_simulated(project, sim) { simulated_folder(&project.store) } else { project.store.clone() }
}

/// Opens the store to ask it, or nothing where no run was ever made.
///
/// # Errors
/// As [`open`].
pub fn open_books(project: &Project, sim: bool) -> Result<Option<Books>, CliError> {
    Ok(open(project, sim)?.map(|store| Books::new(store, &project.budgets, clock())))
}

/// Opens the store, or nothing where no run was ever made.
///
/// # Errors
/// It is held, foreign or damaged.
pub fn open(project: &Project, sim: bool) -> Result<Option<Store>, CliError> {
    let folder = folder(project, sim);
    if !folder.exists() {
        return Ok(None);
    }
    Ok(Some(Store::open(&folder, project.ledger_policy(), clock())?))
}

/// Says whose questions nobody answered in time, as this start found.
pub fn tell_of_expired(store: &Store, output: &Output) {
    let late = store.recovered().iter().filter_map(|(run, recorded)| {
        let Event::PersonAnswered(answered) = &recorded.event else { return None };
        Some((run, answered.ask?))
    });
    for (run, ask) in late.take(EXPIRED_MAX) {
        output.talk(&format!(
            "nobody answered question {ask} of run {run} in time; it goes on without: plimsoll resume {run}"
        ));
    }
}

/// Says that there is no such run, and where else to look.
#[must_use]
pub fn no_run(project: &Project, sim: bool, run: &str) -> CliError {
    let simulated = is_simulated(project, sim);
    let other = if simulated { project.store.clone() } else { simulated_folder(&project.store) };
    let help = match (simulated, exists(&other)) {
        (false, true) => "`plimsoll runs` lists runs; with `--sim`, those of the simulated provider",
        (true, true) if sim => "`plimsoll runs --sim` lists runs; without `--sim`, those of the real providers",
        (_, _) => "`plimsoll runs` lists runs; `plimsoll run AGENT --input TEXT` makes one",
    };
    let shown = crate::cli::render::text::one_line(run, 64);
    let message = if run == "last" { "there is no run yet".to_owned() } else { format!("there is no run `{shown}`") };
    Problem::usage(code::RUN, message).help(help).into()
}

fn exists(folder: &Path) -> bool {
    folder.is_dir()
}

/// Finds the one run that an id, the beginning of one, or `last` names.
///
/// # Errors
/// There is none, or more than one.
pub fn find(store: &Store, project: &Project, sim: bool, text: &str) -> Result<RunSummary, CliError> {
    let found = Books::new(store.clone(), &project.budgets, clock()).find(text);
    found.map_err(|error| remote::told(project, sim, text, &ErrorBody::from(&error)))
}
