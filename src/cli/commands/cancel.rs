//! `cancel RUN`.

use std::collections::BTreeMap;

use super::Context;
use crate::cli::arguments::CancelArguments;
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::session::{Session, SimChoice, block_on};

/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 500;

pub(super) fn cancel(context: &Context<'_>, arguments: &CancelArguments) -> Result<Exit, CliError> {
    let sim = arguments.books.sim;
    if arguments.reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::usage(code::USAGE, format!("a reason has {REASON_CHARS_MAX} characters at most")).into());
    }
    let project = configuration(context.project, sim)?;
    if !books::folder(&project, sim).exists() {
        return Err(books::no_run(&project, sim, &arguments.run));
    }
    block_on(async {
        let choice = SimChoice { sim, ..SimChoice::default() };
        let session = Session::open(&project, BTreeMap::new(), &choice)?;
        let run = books::find(session.runtime.store(), &project, sim, &arguments.run)?;
        if run.state.is_ended() {
            let message = format!("run `{}` is {} already", run.id, run.state);
            return Err(Problem::usage(code::STATE, message).help("there is nothing to cancel").into());
        }
        let state = session.runtime.cancel(run.id, &arguments.reason).await?;
        if arguments.json {
            context.output.json(&session.document(run.id)?)?;
        } else {
            context.output.talk(&format!("run {} is {state}", run.id));
        }
        session.close().await;
        Ok(Exit::Finished)
    })
}
