//! `erase`: takes what was written and answered in somebody's runs out of the store.

use super::Context;
use crate::api::client::Client;
use crate::api::{EraseRequest, ErasedDocument, Service};
use crate::cli::act::act;
use crate::cli::arguments::EraseArguments;
use crate::cli::ask::{agrees, is_somebody_there, who};
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{DerivedLabels, configuration, labels};
use crate::cli::render::text::count;
use crate::domain::erasure::Removed;

pub(super) fn erase(context: &Context<'_>, arguments: &EraseArguments) -> Result<Exit, CliError> {
    let request = EraseRequest {
        labels: labels(&arguments.label, DerivedLabels::Allowed)?,
        reason: arguments.reason.clone(),
        by: arguments.by.clone().unwrap_or_else(who),
        dry_run: true,
    };
    let project = configuration(context.project, arguments.books.sim)?;
    let whose = arguments.label.join(", ");
    if !books::folder(&project, arguments.books.sim).exists() {
        return told(context, arguments, &whose, &ErasedDocument::default());
    }
    let found = asked(context, arguments, &request)?;
    if arguments.dry_run || found.left == 0 {
        return told(context, arguments, &whose, &found);
    }
    if !arguments.yes && !is_wanted(context, &format!("{} of {whose}", count(found.left, "run")))? {
        context.output.talk("nothing was erased");
        return Ok(Exit::Cancelled);
    }
    let request = EraseRequest { dry_run: false, ..request };
    let mut all = Removed::default();
    loop {
        let erased = asked(context, arguments, &request)?;
        all = all.plus(erased.removed);
        // What is left for the next request gets less each time.
        if erased.left == 0 || erased.removed.trees == 0 {
            return told(context, arguments, &whose, &ErasedDocument { removed: all, ..erased });
        }
        context.output.talk(&format!("{} erased, {} left", count(all.trees, "run"), erased.left));
    }
}

/// Nobody is asked who said it, and who can't be asked must have.
fn is_wanted(context: &Context<'_>, what: &str) -> Result<bool, CliError> {
    if !is_somebody_there(context.output) {
        let message = format!("nothing was erased: nobody can be asked here whether {what} shall be, for good");
        return Err(Problem::usage(code::USAGE, message).help("add `--yes` to erase, or `--dry-run`").into());
    }
    let failed = |error| Problem::new(code::OUTPUT, format!("can't ask: {error}"));
    Ok(agrees(&format!("erase the texts of {what}, for good?")).map_err(failed)?)
}

fn asked(
    context: &Context<'_>,
    arguments: &EraseArguments,
    request: &EraseRequest,
) -> Result<ErasedDocument, CliError> {
    let here = async |service: &Service| service.erase(request).await;
    let there = async |client: &Client| client.erase(request).await;
    act(context, arguments.books, here, there)
}

fn told(
    context: &Context<'_>,
    arguments: &EraseArguments,
    whose: &str,
    document: &ErasedDocument,
) -> Result<Exit, CliError> {
    let ErasedDocument { removed, open, left } = document;
    if arguments.json {
        context.output.json(document)?;
    } else if arguments.dry_run {
        context.output.talk(&format!("{} of {whose} to erase; nothing was removed", count(*left, "run")));
    } else if removed.trees == 0 {
        context.output.talk(&format!("no run of {whose} has anything to erase"));
    } else {
        context.output.talk(&words(whose, removed));
    }
    if *open > 0 {
        context.output.talk(&format!(
            "{} of {whose} isn't over and stays as it is: `plimsoll cancel RUN` ends one; then erase again",
            count(*open, "run")
        ));
    }
    // Whoever must have it done learns that it isn't.
    Ok(if *left > 0 && !arguments.dry_run || *open > 0 { Exit::Waiting } else { Exit::Finished })
}

/// `erased the texts of 2 runs of tenant=acme, with 1 run of sub-agents below: 14 events, 1 file, 0 kept answers; …`.
fn words(whose: &str, removed: &Removed) -> String {
    let below = removed.runs - removed.trees;
    let below = if below == 0 { String::new() } else { format!(", with {} of sub-agents", count(below, "run")) };
    format!(
        "erased the texts of {} of {whose}{below}: {}, {}, {}; what they cost is kept",
        count(removed.trees, "run"),
        count(removed.events, "event"),
        count(removed.files, "file"),
        count(removed.answers, "kept answer")
    )
}
