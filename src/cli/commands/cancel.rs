//! `cancel RUN`: here, or in the process that holds the store.

use std::collections::BTreeMap;

use super::Context;
use crate::api::client::{Client, ClientError};
use crate::api::{ApiError, CancelRequest, ErrorBody, REASON_CHARS_MAX, WAIT_TIME_MAX};
use crate::cli::arguments::CancelArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::remote::{Reached, Way};
use crate::cli::session::{Session, SimChoice, block_on};
use crate::cli::{books, remote};
use crate::domain::event::RunState;
use crate::domain::report::RunDocument;
use crate::spec::project::Project;
use crate::units::Millis;

/// How often a process that holds the run is asked whether it has ended; each time it may wait for a while.
const LOOKS_MAX: u32 = 30;
/// How long the caller hears nothing.
const SILENCE: Millis = Millis(500);

pub(super) fn cancel(context: &Context<'_>, arguments: &CancelArguments) -> Result<Exit, CliError> {
    let sim = arguments.books.sim;
    if arguments.reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::usage(code::USAGE, format!("a reason has {REASON_CHARS_MAX} characters at most")).into());
    }
    let project = configuration(context.project, sim)?;
    if !books::folder(&project, sim).exists() {
        return Err(books::no_run(&project, sim, &arguments.run));
    }
    let document = block_on(wherever(context, &project, arguments))?;
    if arguments.json {
        context.output.json(&document)?;
    } else {
        context.output.talk(&format!("run {} is {}", document.run, document.state));
    }
    Ok(Exit::Finished)
}

async fn wherever(
    context: &Context<'_>,
    project: &Project,
    arguments: &CancelArguments,
) -> Result<RunDocument, CliError> {
    let sim = arguments.books.sim;
    let way = Way::to(project, sim);
    let choice = SimChoice { sim, ..SimChoice::default() };
    // What a holder was asked already, before it went away.
    let mut asked: Option<String> = None;
    loop {
        match way.reach(|| Session::open(project, BTreeMap::new(), &choice)).await? {
            Reached::Here(session) => {
                let run = asked.as_ref().unwrap_or(&arguments.run);
                let done = here(&session, run, &arguments.reason, asked.is_some()).await;
                session.close().await;
                return done.map_err(|error| remote::told(project, sim, &arguments.run, &ErrorBody::from(&error)));
            }
            Reached::There(holder) => {
                let run = asked.clone().unwrap_or_else(|| arguments.run.clone());
                let done = there(context, &holder.client, &run, &arguments.reason, &mut asked).await;
                if let Some(document) = way.heard(holder, &arguments.run, done).await? {
                    return Ok(document);
                }
            }
        }
    }
}

async fn here(session: &Session, run: &str, reason: &str, was_asked: bool) -> Result<RunDocument, ApiError> {
    let service = session.service();
    let request = CancelRequest { reason: reason.to_owned(), wait: None };
    match service.cancel(run.to_owned(), &request).await {
        // The holder ended it before it went away.
        Err(ApiError::Ended { run, state: RunState::Cancelled }) if was_asked => {
            service.run(run.to_string(), Millis::ZERO).await
        }
        done => done,
    }
}

/// Asks the holder, and waits for the run's end there.
async fn there(
    context: &Context<'_>,
    holder: &Client,
    run: &str,
    reason: &str,
    asked: &mut Option<String>,
) -> Result<RunDocument, ClientError> {
    // `last` may be another one by the next question.
    let found = holder.run(run, Millis::ZERO).await?;
    let run = found.run.to_string();
    if found.state == RunState::Cancelled && asked.is_some() {
        return Ok(found);
    }
    if !found.state.is_ended() {
        *asked = Some(run.clone());
    }
    let mut document = holder.cancel(&run, reason, SILENCE).await?;
    for look in 0..LOOKS_MAX {
        if document.state.is_ended() {
            break;
        }
        if look == 0 {
            context
                .output
                .talk(&format!("{} ends run {run} as soon as what is in flight is finished", holder.holder()));
        }
        document = holder.run(&run, WAIT_TIME_MAX).await?;
    }
    Ok(document)
}
