//! `outcome RUN`: what a run was worth.

use super::Context;
use crate::api::client::Client;
use crate::api::{OutcomeRequest, Service};
use crate::cli::act::act;
use crate::cli::arguments::OutcomeArguments;
use crate::cli::ask::who;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::render::outcome::parts;
use crate::cli::{books, render};
use crate::domain::outcome::Score;
use crate::units::Money;

pub(super) fn outcome(context: &Context<'_>, arguments: &OutcomeArguments) -> Result<Exit, CliError> {
    let request = request(arguments)?;
    let (run, sim) = (&arguments.run, arguments.books.sim);
    let project = configuration(context.project, sim)?;
    if !books::folder(&project, sim).exists() {
        return Err(books::no_run(&project, sim, run));
    }
    let here = async |service: &Service| service.record_outcome(run.clone(), &request).await;
    let there = async |client: &Client| client.record_outcome(run, &request).await;
    let document = act(context, arguments.books, here, there)?;
    if arguments.json {
        context.output.json(&document)?;
    } else {
        let known = parts(&document.outcome);
        let known = if known.is_empty() { "nothing is known of it".to_owned() } else { known.join(", ") };
        let cost = document.cost.settled_usd;
        context.output.talk(&format!(
            "run {} ({}), which cost {cost}: {known}",
            document.run,
            render::trace::state(&document)
        ));
    }
    Ok(Exit::Finished)
}

fn request(arguments: &OutcomeArguments) -> Result<OutcomeRequest, CliError> {
    let usage = |message: String| CliError::from(Problem::usage(code::USAGE, message));
    let quality = arguments.quality.as_deref().map(Score::parse).transpose();
    let revenue = arguments.revenue.as_deref().map(Money::parse).transpose();
    Ok(OutcomeRequest {
        units: arguments.units,
        quality: quality.map_err(|error| usage(format!("`--quality`: {error}")))?,
        source: arguments.source,
        revenue_usd: revenue.map_err(|error| usage(format!("`--revenue`: {error}")))?,
        unknown: arguments.unknown.clone(),
        by: arguments.by.clone().unwrap_or_else(who),
        note: arguments.note.clone(),
    })
}
