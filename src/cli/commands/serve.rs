//! `serve`: takes runs in over HTTP, drives them, and answers about them, until it is told to stop.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use super::Context;
use super::run::given_up;
use crate::api::tcp::Tcp;
use crate::api::tls::Tls;
use crate::api::{IntakeOptions, Service};
use crate::cli::arguments::ServeArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::project::{folder, is_simulated, keys_are_there, load_options};
use crate::cli::render::text::count;
use crate::cli::session::{Hangups, Session, Signals, SimChoice, block_on};
use crate::domain::plan::Plan;
use crate::ids::AgentName;
use crate::runtime::{Changed, Reload, Reloaded, Runtime, RuntimeError};
use crate::spec::load::{LoadOptions, load_project};
use crate::spec::project::Project;
use crate::store::StoreError;
use crate::units::Millis;

/// How long requests that are being answered still are, once runs have stopped.
const LAST_ANSWERS_TIME_MAX: Millis = Millis::from_secs(5);

/// How often it is looked whose bodies are no longer kept.
const SWEEP_EACH: Millis = Millis::from_secs(30);
const TLS_HELP: &str =
    "`--tls-cert` takes the chain, the server's own certificate first, and `--tls-key` its key, both in PEM";

pub(super) fn serve(context: &Context<'_>, arguments: &ServeArguments) -> Result<Exit, CliError> {
    let sim = arguments.books.sim;
    let (project, plans) = load_project(&folder(context.project)?, &load_options(sim))?;
    if plans.is_empty() {
        let help = "write agents/NAME.toml, or make a first one with `plimsoll init`";
        return Err(Problem::usage(code::USAGE, "there is no agent to serve").help(help).into());
    }
    if !is_simulated(&project, sim) {
        plans.values().try_for_each(|plan| keys_are_there(&project, plan))?;
    }
    block_on(until_stopped(context, arguments, &project, plans))
}

async fn until_stopped(
    context: &Context<'_>,
    arguments: &ServeArguments,
    project: &Project,
    plans: BTreeMap<AgentName, Plan>,
) -> Result<Exit, CliError> {
    // Before anyone can know the address: who reads it may ask for the end at once.
    let (mut signals, hangups) = (Signals::listen(), Hangups::listen());
    let choice = SimChoice {
        sim: arguments.books.sim,
        scenario: arguments.scenario.clone(),
        invoice: arguments.invoice.clone(),
        ..SimChoice::default()
    };
    let agents = count(u64::try_from(plans.len()).unwrap_or(u64::MAX), "agent");
    let mut session = Session::open(project, plans, &choice)?;
    session.tell();
    session.take_runs_in(options(arguments));
    session.serve();
    let (stop, stop_answers) = (watch::Sender::new(false), watch::Sender::new(false));
    let intake = session.intake().cloned().ok_or_else(|| RuntimeError::Task("nothing takes runs in".to_owned()))?;
    let service = session.service();
    service.gatekeeper().refresh(session.runtime.store())?;
    let (tcp, url) = bound(arguments, &service).await?;
    let (mut answers, mut work) = (JoinSet::new(), JoinSet::new());
    answers.spawn(tcp.serve(service.clone(), stop_answers.subscribe()));
    let stopped = stop.subscribe();
    work.spawn(async move { intake.work(stopped).await });
    let mut beside = JoinSet::new();
    beside.spawn(sweep(session.runtime.clone(), stop.subscribe()));
    let first = service.clone();
    beside.spawn(async move { first.read_ahead().await });
    // A script waits for this line, and reads the address from it.
    context.output.data(&url)?;
    session.tell_of_costs(context.output, &choice);
    greet(context.output, &agents, &url, &service, arguments);
    let mut follows = Follows::begin(&session, project, &load_options(arguments.books.sim), hangups);
    loop {
        tokio::select! {
            () = signals.next() => break,
            // Without anybody who drives runs, nothing is worth being served.
            ended = work.join_next() => return Err(broken(ended)),
            reloaded = follows.next() => tell(context.output, &reloaded),
        }
    }
    follows.tasks.shutdown().await;
    context
        .output
        .talk("stopping: no run is taken in any more, and what goes on is finished first; once more to stop at once");
    stop.send_replace(true);
    tokio::select! {
        ended = work.join_next() => worked(ended)?,
        () = signals.next() => return Ok(given_up(context.output)),
    }
    let closed = async {
        stop_answers.send_replace(true);
        if tokio::time::timeout(LAST_ANSWERS_TIME_MAX.duration(), answers.join_next()).await.is_err() {
            tracing::warn!("somebody asked something that takes too long, and gets no answer");
            answers.shutdown().await;
        }
        // They hold the store for as long as they go on.
        beside.shutdown().await;
        session.close().await;
    };
    tokio::select! {
        () = closed => Ok(Exit::Finished),
        () = signals.next() => Ok(given_up(context.output)),
    }
}

/// The API and the pages at their address, and its URL.
async fn bound(arguments: &ServeArguments, service: &Service) -> Result<(Tcp, String), CliError> {
    let refused = |error| CliError::from(Problem::told(code::SYSTEM, &error, Exit::Usage));
    let tls = tls(arguments)?;
    let tcp = Tcp::bind(arguments.listen, service.gatekeeper()).await.map_err(refused)?;
    let tcp = tcp.with_origins(&arguments.allow_origin).map_err(refused)?;
    let pages = crate::pages::router(service.clone(), tls.is_some())
        .map_err(|error| Problem::told(code::SYSTEM, &error, Exit::Failed))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", tcp.address());
    Ok((tcp.with_pages(pages).with_tls(tls), url))
}

fn greet(output: &Output, agents: &str, url: &str, service: &Service, arguments: &ServeArguments) {
    let to = if service.gatekeeper().asks_for_keys() { "to who has a key" } else { "to this machine only" };
    output.talk(&format!(
        "{agents} served there, {to}; Ctrl-C stops it. Pages for a browser are at the same address, and what the API takes at /docs. Try: curl {url}/v1/runs -d '{{\"agent\": \"…\", \"input\": \"…\"}}'"
    ));
    if arguments.tls_cert.is_none() && !arguments.listen.ip().is_loopback() {
        output.talk(
            "keys and answers go over the network in the clear: give `--tls-cert` and `--tls-key`, or listen on 127.0.0.1 behind a proxy that speaks TLS",
        );
    }
}

/// Erases what `keep_bodies` no longer keeps, as long as runs are driven.
async fn sweep(runtime: Runtime, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = runtime.sweep().await {
            tracing::warn!(%error, "bodies whose time is up could not be erased");
        }
        let stopped = stop.wait_for(|stop| *stop);
        if tokio::time::timeout(SWEEP_EACH.duration(), stopped).await.is_ok() {
            return;
        }
    }
}

/// What connections are secured with, where two files say so.
fn tls(arguments: &ServeArguments) -> Result<Option<Tls>, CliError> {
    let (Some(cert), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else { return Ok(None) };
    let read = Tls::read(cert.clone(), key.clone());
    read.map(Some).map_err(|error| Problem::told(code::TLS, &error, Exit::Usage).help(TLS_HELP).into())
}

fn options(arguments: &ServeArguments) -> IntakeOptions {
    IntakeOptions {
        parallel: usize::from(arguments.parallel),
        waiting: usize::try_from(arguments.queue).unwrap_or(usize::MAX),
        grace: arguments.grace,
    }
}

/// Has agents follow their files.
struct Follows {
    hangups: Hangups,
    ask: mpsc::Sender<()>,
    told: mpsc::Receiver<Reloaded>,
    tasks: JoinSet<()>,
}

impl Follows {
    fn begin(session: &Session, project: &Project, options: &LoadOptions, hangups: Hangups) -> Self {
        let ((ask, asked), (tell, told)) = (mpsc::channel(1), mpsc::channel(1));
        let reload = Reload::new(session.runtime.clone(), project, options.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(reload.follow(asked, tell));
        Self { hangups, ask, told, tasks }
    }

    /// What became of files that were read again: they changed, or a SIGHUP asked for it.
    async fn next(&mut self) -> Reloaded {
        loop {
            tokio::select! {
                // One that waits is enough.
                () = self.hangups.next() => self.ask.try_send(()).unwrap_or_default(),
                Some(reloaded) = self.told.recv() => return reloaded,
                else => std::future::pending().await,
            }
        }
    }
}

fn tell(output: &Output, reloaded: &Reloaded) {
    let names = |agents: &[AgentName]| agents.iter().map(AgentName::as_str).collect::<Vec<_>>().join(", ");
    for fault in &*reloaded.faults {
        output.talk(&fault.to_string());
    }
    let Changed { taken, gone } = &reloaded.changed;
    if !taken.is_empty() {
        output.talk(&format!("new runs of {} follow its file as it is now", names(taken)));
    }
    if !gone.is_empty() {
        output.talk(&format!("{} is served no more: its file is gone", names(gone)));
    }
    match (reloaded.faults.is_empty(), taken.is_empty() && gone.is_empty()) {
        (false, _) => output.talk("what is wrong with these files changes nothing: their agents go on as they were"),
        (true, true) => output.talk("the project's files were read again: no agent changed"),
        (true, false) => {}
    }
}

type Ended = Option<Result<Result<(), StoreError>, JoinError>>;

fn worked(ended: Ended) -> Result<(), CliError> {
    let Some(ended) = ended else { return Ok(()) };
    Ok(ended.map_err(|error| RuntimeError::Task(error.to_string()))??)
}

fn broken(ended: Ended) -> CliError {
    worked(ended).err().unwrap_or_else(|| RuntimeError::Task("the service ended by itself".to_owned()).into())
}
