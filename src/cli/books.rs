//! Opens a project's store for commands that only read, and finds runs in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::errors::{CliError, Problem, code};
use crate::cli::output::Output;
use crate::cli::project::{clock, is_simulated};
use crate::domain::event::Event;
use crate::domain::ledger::LedgerPolicy;
use crate::domain::report::Trace;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::runtime::simulated_folder;
use crate::spec::project::Project;
use crate::store::{RunFilter, Store};
use crate::units::Timestamp;

/// Characters of a run's id.
const ID_CHARS: usize = 26;
/// Bits of one character of a run's id.
const ID_CHAR_BITS: usize = 5;
/// Runs that a message names: where a beginning fits several, or where many have expired.
const CANDIDATES_MAX: usize = 5;

/// The folder of the store that a command means.
#[must_use]
pub fn folder(project: &Project, sim: bool) -> PathBuf {
    if is_simulated(project, sim) { simulated_folder(&project.store) } else { project.store.clone() }
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
    Ok(Some(Store::open(&folder, LedgerPolicy { budgets: project.budgets.clone() }, clock())?))
}

/// Opens the store of a command that names a run.
///
/// # Errors
/// As [`open`]; or no run was ever made.
pub fn open_for(project: &Project, sim: bool, run: &str) -> Result<Store, CliError> {
    open(project, sim)?.ok_or_else(|| no_run(project, sim, run))
}

/// Says which runs this start ended, because nobody answered them in time.
pub fn tell_of_expired(store: &Store, output: &Output) {
    let ends = store.recovered().iter().filter_map(|(run, recorded)| {
        let Event::Ended(ended) = &recorded.event else { return None };
        Some((run, ended.refusal.as_ref()?))
    });
    for (run, refusal) in ends.take(CANDIDATES_MAX) {
        output.talk(&format!("run {run} waited for a person for too long and is stopped: {refusal}"));
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
    let none = || no_run(project, sim, text);
    if text == "last" {
        let newest = store.summaries(&RunFilter { limit: 1, ..RunFilter::default() })?;
        return newest.into_iter().next().ok_or_else(none);
    }
    let beginning = text.trim().to_ascii_uppercase();
    let Some((first, after)) = range(&beginning) else { return Err(none()) };
    let filter = RunFilter { before: after, limit: CANDIDATES_MAX + 1, ..RunFilter::default() };
    let mut found: Vec<RunSummary> = store.summaries(&filter)?.into_iter().filter(|run| run.id >= first).collect();
    match found.len() {
        0 => Err(none()),
        1 => found.pop().ok_or_else(none),
        _ => Err(several(&beginning, &found)),
    }
}

fn several(beginning: &str, found: &[RunSummary]) -> CliError {
    let ids: Vec<String> = found.iter().take(CANDIDATES_MAX).map(|run| format!("{} ({})", run.id, run.agent)).collect();
    let more = if found.len() > CANDIDATES_MAX { ", and others" } else { "" };
    Problem::usage(code::RUN, format!("several runs begin with `{beginning}`: {}{more}", ids.join(", ")))
        .help("write more of the id")
        .into()
}

/// The first id that begins so, and the first behind all that do.
fn range(beginning: &str) -> Option<(RunId, Option<RunId>)> {
    let typed = beginning.len();
    if typed == 0 || typed > ID_CHARS || !beginning.is_ascii() {
        return None;
    }
    let first: RunId = format!("{beginning:0<ID_CHARS$}").parse().ok()?;
    let open_bits = u32::try_from((ID_CHARS - typed) * ID_CHAR_BITS).ok()?;
    let after = 1_u128.checked_shl(open_bits).and_then(|size| first.bits().checked_add(size));
    Some((first, after.map(RunId::from_bits)))
}

/// The trace of a run.
///
/// # Errors
/// Its log or its plan is damaged.
pub fn trace(store: &Store, run: RunId, now: Timestamp) -> Result<Trace, CliError> {
    let damaged =
        || Problem::new(code::STORE, format!("the log of run `{run}` has no beginning, or its plan is missing"));
    let summary = store.summary(run)?.ok_or_else(damaged)?;
    let plan = store.plan(&summary.plan)?.ok_or_else(damaged)?;
    Ok(Trace::of(run, Arc::new(plan), &store.events(run)?, now).ok_or_else(damaged)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_covers_exactly_the_ids_that_begin_so() {
        let id: RunId = "01KATA0Q5XV3R8K2M4N6P7S9T0".parse().expect("an id");
        for typed in [1, 6, 25, 26] {
            let (first, after) = range(&id.to_string()[..typed]).expect("a range");
            assert!(first <= id && after.is_none_or(|after| id < after), "{typed}");
        }
        let (first, after) = range("01KATA0R").expect("a range");
        assert!(id < first && after.is_some());
        assert_eq!(range(&id.to_string()).expect("a range").1, Some(RunId::from_bits(id.bits() + 1)));
        for bad in ["", "01KATA0Q5XV3R8K2M4N6P7S9T0X", "ü", "!!"] {
            assert!(range(bad).is_none(), "{bad}");
        }
    }
}
