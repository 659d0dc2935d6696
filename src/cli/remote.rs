//! The books of a store, opened here, or asked of the process that holds it: both answer with the same types, so that
//! whoever shows them shows the same.

use crate::api::client::{Client, ClientError};
use crate::api::{ApiError, Books, ErrorBody, ExportQuery, code as api};
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::project::clock;
use crate::spec::project::Project;
use crate::units::{Millis, Timestamp};

/// How long a command waits for a holder that doesn't serve: it may just be starting, or ending.
const PATIENCE: Millis = Millis::from_secs(2);
/// The pause between two looks; there is no event to wait for.
const PAUSE: Millis = Millis(20);

/// How long a caller hears nothing.
const SILENCE: Millis = Millis::from_secs(2);

/// Where an answer comes from.
pub(crate) enum Reached<H> {
    /// This process opened it.
    Here(H),
    /// Another process holds it.
    There(Box<There>),
}

/// A holder, and what is wrong if it doesn't answer.
pub(crate) struct There {
    /// The way to it.
    pub(crate) client: Client,
    held: CliError,
}

/// The way to a store, for as long as it is worth trying.
pub(crate) struct Way<'a> {
    project: &'a Project,
    sim: bool,
    until: Timestamp,
}

impl<'a> Way<'a> {
    pub(crate) fn to(project: &'a Project, sim: bool) -> Self {
        Self { project, sim, until: clock().now().after(PATIENCE) }
    }

    /// Opens the store, or finds the way to its holder.
    ///
    /// # Errors
    /// Neither is possible.
    pub(crate) async fn reach<H>(&self, open: impl Fn() -> Result<H, CliError>) -> Result<Reached<H>, CliError> {
        loop {
            let held = match open() {
                Ok(here) => return Ok(Reached::Here(here)),
                Err(error) => error,
            };
            let Some(holder) = held.holder() else { return Err(held) };
            match Client::of(&books::folder(self.project, self.sim), holder.clone()) {
                Ok(client) => return Ok(Reached::There(Box::new(There { client, held }))),
                Err(ClientError::Gone { .. }) => self.pause(held).await?,
                Err(ClientError::Place(why)) => return Err(held.mended_by(format!("wait for it; {why}"))),
                Err(error) => return Err(unanswered(&error)),
            }
        }
    }

    /// Waits a little for a holder that serves nobody (yet).
    ///
    /// # Errors
    /// The store is held, and that was long enough.
    pub(crate) async fn pause(&self, held: CliError) -> Result<(), CliError> {
        if clock().now() >= self.until {
            return Err(held);
        }
        tokio::time::sleep(PAUSE.duration()).await;
        Ok(())
    }

    /// What a holder's answer means here; nothing where it went away, and the way must be found anew.
    ///
    /// # Errors
    /// What it says; or it doesn't answer.
    pub(crate) async fn heard<T>(
        &self,
        there: Box<There>,
        run: &str,
        answer: Result<T, ClientError>,
    ) -> Result<Option<T>, CliError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(ClientError::Gone { .. }) => self.pause(there.held).await.map(|()| None),
            Err(ClientError::Told(body)) => Err(told(self.project, self.sim, run, &body)),
            Err(error) => Err(unanswered(&error)),
        }
    }
}

/// What the API says, as the command line says it of a run that was typed.
#[must_use]
pub fn told(project: &Project, sim: bool, run: &str, body: &ErrorBody) -> CliError {
    if body.code == api::NO_SUCH_RUN { books::no_run(project, sim, run) } else { plain(body) }
}

/// Asks the books of a project's store, wherever they are; nothing where no run was ever made.
///
/// # Errors
/// The question's own, or the store can't be asked.
pub(crate) fn ask<T>(
    output: &Output,
    project: &Project,
    sim: bool,
    run: &str,
    here: impl Fn(&Books) -> Result<T, ApiError>,
    there: impl AsyncFn(&Client) -> Result<T, ClientError>,
) -> Result<Option<T>, CliError> {
    let way = Way::to(project, sim);
    block_on_one(async {
        loop {
            match way.reach(|| books::open_books(project, sim)).await? {
                Reached::Here(None) => return Ok(None),
                Reached::Here(Some(books)) => {
                    return here(&books).map(Some).map_err(|error| told(project, sim, run, &ErrorBody::from(&error)));
                }
                Reached::There(holder) => {
                    let answer = aloud(output, &holder.client, there(&holder.client)).await;
                    if let Some(answer) = way.heard(holder, run, answer).await? {
                        return Ok(Some(answer));
                    }
                }
            }
        }
    })
}

/// Asks whoever holds a project's store, as [`ask`] does; nothing where nobody does.
///
/// # Errors
/// The holder can't be asked.
pub(crate) fn ask_holder<T, H>(
    output: &Output,
    project: &Project,
    sim: bool,
    open: impl Fn() -> Result<H, CliError>,
    there: impl AsyncFn(&Client) -> Result<T, ClientError>,
) -> Result<Option<T>, CliError> {
    let way = Way::to(project, sim);
    block_on_one(async {
        loop {
            match way.reach(&open).await? {
                Reached::Here(_) => return Ok(None),
                Reached::There(holder) => {
                    let answer = aloud(output, &holder.client, there(&holder.client)).await;
                    if let Some(answer) = way.heard(holder, "", answer).await? {
                        return Ok(Some(answer));
                    }
                }
            }
        }
    })
}

/// Takes an export page by page, wherever the books are. False where no run was ever made.
///
/// # Errors
/// The store can't be asked, or what `take` says.
pub(crate) fn export(
    output: &Output,
    project: &Project,
    sim: bool,
    mut query: ExportQuery,
    open: &dyn Fn() -> Result<Option<Books>, CliError>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<bool, CliError> {
    let run = query.run.clone().unwrap_or_default();
    block_on_one(async {
        loop {
            // Whoever holds the store may end meanwhile: each page finds its own way.
            let way = Way::to(project, sim);
            let page = match way.reach(open).await? {
                Reached::Here(None) => return Ok(false),
                Reached::Here(Some(books)) => return all_pages(&books, query, take, project, sim).map(|()| true),
                Reached::There(holder) => {
                    let answer = aloud(output, &holder.client, holder.client.export(&query)).await;
                    way.heard(holder, &run, answer).await?
                }
            };
            let Some(page) = page else { continue };
            take(&page.text)?;
            query.after = page.next;
            if query.after.is_none() {
                return Ok(true);
            }
        }
    })
}

fn all_pages(
    books: &Books,
    mut query: ExportQuery,
    take: &mut dyn FnMut(&[u8]) -> Result<(), CliError>,
    project: &Project,
    sim: bool,
) -> Result<(), CliError> {
    loop {
        let run = query.run.as_deref().unwrap_or_default();
        let page = books.export(&query).map_err(|error| told(project, sim, run, &ErrorBody::from(&error)))?;
        take(&page.text)?;
        query.after = page.next;
        if query.after.is_none() {
            return Ok(());
        }
    }
}

/// Says whom it waits for, where that takes a while.
async fn aloud<T>(output: &Output, holder: &Client, answer: impl Future<Output = T>) -> T {
    let mut answer = std::pin::pin!(answer);
    match tokio::time::timeout(SILENCE.duration(), answer.as_mut()).await {
        Ok(answer) => answer,
        Err(_) => {
            output.talk(&format!("asking {}, which holds the store", holder.holder()));
            answer.await
        }
    }
}

/// What the API says, whoever asked.
#[must_use]
pub fn plain(body: &ErrorBody) -> CliError {
    let problem = match body.code.as_str() {
        api::NO_SUCH_RUN | api::SEVERAL_RUNS => Problem::usage(code::RUN, &body.detail),
        api::STATE => Problem::usage(code::STATE, &body.detail),
        api::BAD_REQUEST => Problem::usage(api::BAD_REQUEST, &body.detail),
        api::STORE_DAMAGED => Problem::new(code::STORE_DAMAGED, &body.detail),
        api::STORE => Problem::new(code::STORE, &body.detail),
        other => {
            let known = api::ALL.into_iter().find(|code| *code == other);
            Problem::new(known.unwrap_or(api::FAILED), &body.detail)
        }
    };
    problem.help(&body.help).into()
}

/// A holder that can't be understood, or isn't heard.
fn unanswered(error: &ClientError) -> CliError {
    let code = match error {
        ClientError::Told(body) => return plain(body),
        ClientError::Version { .. } | ClientError::Unreadable { .. } => api::VERSION,
        ClientError::Silent { .. } => api::SILENT,
        ClientError::Gone { .. } | ClientError::Place(_) | ClientError::Foreign { .. } => code::STORE_HELD,
    };
    Problem::told(code, error, Exit::Failed).into()
}

/// On this thread: a command that asks one question starts no others.
fn block_on_one<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(code::SYSTEM, format!("can't start: {error}")))?;
    runtime.block_on(future)
}
