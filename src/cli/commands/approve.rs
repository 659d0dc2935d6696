//! `approve RUN` and `answer RUN TEXT`: decides what a run asks, here or in the process that holds the store, and goes on
//! with it there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Context;
use super::resume::go_on_here;
use super::run::{Shown, show};
use crate::api::client::{Client, ClientError};
use crate::api::{AnswerRequest, ErrorBody, WAIT_TIME_MAX};
use crate::cli::arguments::{AnswerArguments, ApproveArguments, DecideArguments};
use crate::cli::ask::who;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::progress::Quiet;
use crate::cli::project::{clock, configuration};
use crate::cli::remote::{Reached, Way};
use crate::cli::session::{Session, SimChoice, block_on};
use crate::cli::{books, remote};
use crate::domain::event::RunState;
use crate::domain::report::{RunDocument, Trace};
use crate::spec::project::Project;
use crate::units::Millis;

/// How often the holder is asked how far the run is; each time it may wait for a while.
const LOOKS_MAX: u32 = 10_000;
/// How long a run that nobody drives may stay so in its holder, before it is taken as left there.
const LEFT_TIME: Millis = Millis::from_secs(2);
/// The pause between two looks at such a run.
const PAUSE: Millis = Millis(50);

pub(super) fn approve(context: &Context<'_>, arguments: &ApproveArguments) -> Result<Exit, CliError> {
    let args = arguments.args.as_deref().map(json).transpose()?;
    let answer = arguments.answer.clone().map(Value::String);
    let request = AnswerRequest { deny: arguments.deny, args, answer, ..AnswerRequest::default() };
    decide(context, &arguments.run, &arguments.how, request)
}

pub(super) fn answer(context: &Context<'_>, arguments: &AnswerArguments) -> Result<Exit, CliError> {
    let answer = Some(Value::String(arguments.text.clone()));
    decide(
        context,
        &arguments.run,
        &arguments.how,
        AnswerRequest { answer, only_input: true, ..AnswerRequest::default() },
    )
}

fn json(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("`--args` is no JSON: {error}");
        Problem::usage(code::USAGE, message).help("such as `--args '{\"amount\": 5}'`, or `--args '\"a text\"'`").into()
    })
}

fn decide(context: &Context<'_>, run: &str, how: &DecideArguments, request: AnswerRequest) -> Result<Exit, CliError> {
    let sim = how.books.sim;
    let project = configuration(context.project, sim)?;
    if !books::folder(&project, sim).exists() {
        return Err(books::no_run(&project, sim, run));
    }
    let by = how.by.clone().unwrap_or_else(who);
    let reason = how.reason.clone();
    let request = AnswerRequest { ask: how.ask, by, reason, only: how.only, ..request };
    block_on(Deciding { context, project: &project, how, request, asked: None }.wherever(run))
}

/// A decision on its way to whoever holds the store.
struct Deciding<'a> {
    context: &'a Context<'a>,
    project: &'a Project,
    how: &'a DecideArguments,
    request: AnswerRequest,
    /// The run, once a holder has taken the decision.
    asked: Option<String>,
}

impl Deciding<'_> {
    async fn wherever(mut self, text: &str) -> Result<Exit, CliError> {
        let (sim, project) = (self.how.books.sim, self.project);
        let choice = SimChoice {
            sim,
            scenario: self.how.scenario.clone(),
            invoice: self.how.invoice.clone(),
            ..SimChoice::default()
        };
        let way = Way::to(project, sim);
        loop {
            match way.reach(|| Session::open(project, BTreeMap::new(), &choice)).await? {
                Reached::Here(session) => return self.here(session, &choice, text).await,
                Reached::There(holder) => {
                    let done = self.there(&holder.client, text).await;
                    if let Some(exit) = way.heard(holder, text, done).await? {
                        return exit;
                    }
                }
            }
        }
    }

    async fn here(self, mut session: Session, choice: &SimChoice, text: &str) -> Result<Exit, CliError> {
        let (sim, project) = (self.how.books.sim, self.project);
        session.serve();
        if !self.how.quiet {
            session.tell_of_costs(self.context.output, choice);
        }
        let run = match &self.asked {
            // Its holder took the decision, and has gone before the run was over.
            Some(run) => books::find(session.runtime.store(), project, sim, run)?.id,
            None => {
                // Who only records has nobody drive the run, and so does who drives it here.
                let request = AnswerRequest { only: true, ..self.request.clone() };
                let decided = session.service().answer(text.to_owned(), &request).await;
                decided.map_err(|error| remote::told(project, sim, text, &ErrorBody::from(&error)))?.run
            }
        };
        if self.how.only {
            let trace = session.trace(run)?;
            session.close().await;
            return self.recorded(&trace.head);
        }
        let quiet = Quiet::of(self.how.quiet);
        go_on_here(self.context, session, run, quiet, self.how.json).await
    }

    /// Nobody needs to hear more of a decision that is only recorded.
    fn recorded(&self, document: &RunDocument) -> Result<Exit, CliError> {
        if self.how.json {
            self.context.output.json(document)?;
        } else if !self.how.quiet {
            let run = document.run;
            self.context.output.talk(&format!("recorded; go on with it: plimsoll resume {run}"));
        }
        Ok(Exit::Finished)
    }

    /// Has the holder take the decision and go on, and waits for what comes of it.
    async fn there(&mut self, holder: &Client, text: &str) -> Result<Result<Exit, CliError>, ClientError> {
        let mut document = match self.asked.clone() {
            Some(run) => holder.run(&run, Millis::ZERO).await?,
            None => holder.decide(text, &self.request).await?,
        };
        let run = document.run.to_string();
        self.asked = Some(run.clone());
        if self.how.only {
            return Ok(self.recorded(&document));
        }
        if !self.how.quiet {
            self.context.output.talk(&format!("{} goes on with run {run}", holder.holder()));
        }
        let mut left = clock().now();
        for _ in 0..LOOKS_MAX {
            match document.state {
                RunState::Running | RunState::AwaitingBudget => left = clock().now(),
                RunState::Queued | RunState::Interrupted if clock().now().since(left) < LEFT_TIME => {
                    tokio::time::sleep(PAUSE.duration()).await;
                }
                RunState::Queued
                | RunState::Interrupted
                | RunState::AwaitingApproval
                | RunState::AwaitingInput
                | RunState::Finished
                | RunState::Stopped
                | RunState::Failed
                | RunState::Cancelled => break,
            }
            document = holder.run(&run, WAIT_TIME_MAX).await?;
        }
        let trace = holder.trace(&run).await?;
        Ok(self.shown(&trace))
    }

    fn shown(&self, trace: &Trace) -> Result<Exit, CliError> {
        let quiet = Quiet::of(self.how.quiet);
        show(self.context.output, trace, Shown { json: self.how.json, events: false, quiet })?;
        Ok(Exit::of(trace.head.state))
    }
}
