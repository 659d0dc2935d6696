//! `trace RUN`.

use super::Context;
use crate::cli::arguments::TraceArguments;
use crate::cli::books;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration};
use crate::cli::render;

pub(super) fn trace(context: &Context<'_>, arguments: &TraceArguments) -> Result<Exit, CliError> {
    let sim = arguments.books.sim;
    let project = configuration(context.project, sim)?;
    let store = books::open_for(&project, sim, &arguments.run)?;
    let run = books::find(&store, &project, sim, &arguments.run)?;
    let trace = books::trace(&store, run.id, clock().now())?;
    if arguments.json {
        context.output.json(&trace)?;
    } else {
        context.output.data(&render::trace::trace(&trace, context.output.data_width()))?;
    }
    Ok(Exit::Finished)
}
