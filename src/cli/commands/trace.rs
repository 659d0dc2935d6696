//! `trace RUN`.

use super::Context;
use crate::cli::arguments::TraceArguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::{books, remote, render};

pub(super) fn trace(context: &Context<'_>, arguments: &TraceArguments) -> Result<Exit, CliError> {
    let (sim, run) = (arguments.books.sim, arguments.run.as_str());
    let project = configuration(context.project, sim)?;
    let here = |books: &crate::api::Books| books.trace(books.find(run)?.id);
    let trace = remote::ask(context.output, &project, sim, run, here, async |holder| holder.trace(run).await)?;
    let trace = trace.ok_or_else(|| books::no_run(&project, sim, run))?;
    if arguments.json {
        context.output.json(&trace)?;
    } else {
        context.output.data(&render::trace::trace(&trace, context.output.data_width()))?;
    }
    Ok(Exit::Finished)
}
