//! Has something changed: in the store, where it is free, or by the process that holds it.

use std::collections::BTreeMap;

use crate::api::client::{Client, ClientError};
use crate::api::{ApiError, ErrorBody, Service};
use crate::cli::arguments::BooksArguments;
use crate::cli::commands::Context;
use crate::cli::errors::CliError;
use crate::cli::project::configuration;
use crate::cli::remote::{self, Reached, Way};
use crate::cli::session::{Session, SimChoice, block_on};

/// Asks the store here, or the process that holds it, which heeds a change at once.
///
/// # Errors
/// What it says; or the store can't be reached.
pub(crate) fn act<T>(
    context: &Context<'_>,
    books: BooksArguments,
    here: impl AsyncFn(&Service) -> Result<T, ApiError>,
    there: impl AsyncFn(&Client) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    let project = configuration(context.project, books.sim)?;
    let choice = SimChoice { sim: books.sim, ..SimChoice::default() };
    let way = Way::to(&project, books.sim);
    block_on(async {
        loop {
            match way.reach(|| Session::open(&project, BTreeMap::new(), &choice)).await? {
                Reached::Here(session) => {
                    let answer = here(&session.service()).await;
                    session.close().await;
                    return answer.map_err(|error| remote::plain(&ErrorBody::from(&error)));
                }
                Reached::There(holder) => {
                    let answer = there(&holder.client).await;
                    if let Some(answer) = way.heard(holder, "", answer).await? {
                        return Ok(answer);
                    }
                }
            }
        }
    })
}
