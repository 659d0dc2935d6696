//! `replay RUN`.

use serde::Serialize;

use super::Context;
use crate::cli::arguments::TraceArguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{configuration, is_simulated, project_rows};
use crate::cli::render::text::{count, one_line};
use crate::cli::{books, remote};
use crate::domain::pricing::PriceBook;
use crate::ids::RunId;
use crate::runtime::replay::{self, Difference, Same, TreeLog};
use crate::spec::load::Answering;
use crate::spec::project::Project;

/// The most characters of a difference that are shown; `--json` has all.
const SHOWN_CHARS_MAX: usize = 600;

/// What `--json` prints.
#[derive(Serialize)]
struct ReplayDocument<'a> {
    run: RunId,
    same: bool,
    decided: Option<Same>,
    difference: Option<&'a Difference>,
}

pub(super) fn replay(context: &Context<'_>, arguments: &TraceArguments) -> Result<Exit, CliError> {
    let (sim, run) = (arguments.books.sim, arguments.run.as_str());
    let project = configuration(context.project, sim)?;
    let here = |books: &crate::api::Books| books.tree_log(books.find(run)?.id);
    let log = remote::ask(context.output, &project, sim, run, here, async |holder| holder.tree_log(run).await)?;
    let log = log.ok_or_else(|| books::no_run(&project, sim, run))?;
    let desk = replay::desk(&project, book(&project, sim)?, is_simulated(&project, sim));
    let judged = replay::replay(&log, &desk);
    if arguments.json {
        let (decided, difference) = (judged.as_ref().ok().copied(), judged.as_ref().err().map(AsRef::as_ref));
        context.output.json(&ReplayDocument { run: log.root, same: decided.is_some(), decided, difference })?;
    } else {
        context.output.data(&told(&log, judged.as_ref().map_err(AsRef::as_ref)))?;
    }
    Ok(if judged.is_ok() { Exit::Finished } else { Exit::Failed })
}

/// The prices in force where the run was made.
fn book(project: &Project, sim: bool) -> Result<PriceBook, CliError> {
    let answering = if is_simulated(project, sim) { Answering::Simulated } else { Answering::Configured };
    Ok(PriceBook::builtin().with_overrides(project_rows(project, answering)?))
}

fn told(log: &TreeLog, judged: Result<&Same, &Difference>) -> String {
    match judged {
        Ok(same) => {
            let runs =
                if same.runs > 1 { format!(" (with {} below)", count(same.runs - 1, "run")) } else { String::new() };
            format!(
                "run {}{runs} decides the same: {}, {}, {}, from {}\n",
                log.root,
                count(same.decisions, "decision"),
                count(same.requests, "request"),
                count(same.bills, "bill"),
                count(same.events, "event"),
            )
        }
        Err(difference) => {
            let told = if difference.untold { "" } else { "differs: " };
            format!("{told}{}\n", one_line(&difference.to_string(), SHOWN_CHARS_MAX))
        }
    }
}
