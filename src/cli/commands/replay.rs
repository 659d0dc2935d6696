//! `replay RUN`.

use serde::Serialize;

use super::Context;
use crate::cli::arguments::ReplayArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{configuration, current_folder, is_simulated, price_book_for};
use crate::cli::render::text::{count, one_line};
use crate::cli::{books, remote, render};
use crate::domain::pricing::PriceBook;
use crate::ids::{ModelName, RunId};
use crate::runtime::replay::{self, Change, Difference, Instead, Same, TreeLog, Verdict, WhatIfError};
use crate::spec::change;
use crate::spec::load::Answering;
use crate::spec::names::is_model;
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

pub(super) fn replay(context: &Context<'_>, arguments: &ReplayArguments) -> Result<Exit, CliError> {
    let (sim, run) = (arguments.books.sim, arguments.run.as_str());
    let project = configuration(context.project, sim)?;
    let here = |books: &crate::api::Books| books.tree_log(books.find(run)?.id);
    let log = remote::ask(context.output, &project, sim, run, here, async |holder| holder.tree_log(run).await)?;
    let log = log.ok_or_else(|| books::no_run(&project, sim, run))?;
    let is_what_if = !arguments.limits.is_empty() || arguments.prices.is_some() || !arguments.models.is_empty();
    if is_what_if {
        return what_if(context, arguments, &project, &log);
    }
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

/// Tells where the run would have been stopped, or what it would have cost.
fn what_if(
    context: &Context<'_>,
    arguments: &ReplayArguments,
    project: &Project,
    log: &TreeLog,
) -> Result<Exit, CliError> {
    let change = change(arguments, log)?;
    // Whose models are named may have no provider here yet.
    let desk = replay::desk(project, book(project, arguments.books.sim)?, true);
    let told = replay::what_if(log, &desk, &change).map_err(cannot_tell)?;
    if arguments.json {
        context.output.json(&told)?;
    } else {
        context.output.data(&render::what_if::what_if(&told, context.output.data_width()))?;
    }
    Ok(match told.verdict {
        Verdict::Stopped(_) => Exit::Stopped,
        Verdict::Failed { .. } => Exit::Failed,
        Verdict::Same { .. } | Verdict::GoesOn { .. } | Verdict::Unknown { .. } => Exit::Finished,
    })
}

fn change(arguments: &ReplayArguments, log: &TreeLog) -> Result<Change, CliError> {
    let folder = current_folder()?;
    let stated = &arguments.limits;
    let limits = (!stated.is_empty()).then(|| change::limits(&log.plan.limits, stated, &folder)).transpose()?;
    let prices = arguments.prices.as_ref().map(|path| change::prices(path, &folder)).transpose()?.unwrap_or_default();
    let models = arguments.models.iter().map(|text| instead(text)).collect::<Result<_, _>>()?;
    Ok(Change { limits, prices, models })
}

/// `old=new`, or `new` for all.
fn instead(text: &str) -> Result<Instead, CliError> {
    let (of, model) = text.split_once('=').map_or((None, text), |(of, model)| (Some(of.trim()), model.trim()));
    if let Some(name) = of.into_iter().chain([model]).find(|name| !is_model(name)) {
        let message = format!("`{}` is no name of a model", one_line(name, SHOWN_CHARS_MAX));
        let help = "write `provider/model`, such as `openai/gpt-5-nano`, or `OLD=NEW`";
        return Err(Problem::usage(code::MODEL, message).help(help).into());
    }
    Ok(Instead { of: of.map(ModelName::from), model: ModelName::from(model) })
}

fn cannot_tell(error: WhatIfError) -> CliError {
    let help = error.help().to_owned();
    let problem = match &error {
        WhatIfError::NotAsked { .. } | WhatIfError::NoPrice { .. } => Problem::usage(code::MODEL, error.to_string()),
        WhatIfError::Difference(_) => Problem::new(code::RUNTIME, one_line(&error.to_string(), SHOWN_CHARS_MAX)),
        WhatIfError::Runtime(_) => Problem::new(code::RUNTIME, error.to_string()),
    };
    problem.help(help).into()
}

/// The prices in force where the run was made, and what was imported below those: it may have been pinned before.
fn book(project: &Project, sim: bool) -> Result<PriceBook, CliError> {
    let answering = if is_simulated(project, sim) { Answering::Simulated } else { Answering::Configured };
    price_book_for(project, answering)
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
