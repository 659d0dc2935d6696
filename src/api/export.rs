//! What a store holds, page by page: runs and events as JSON Lines, settled money as FOCUS.
//!
//! Whoever asks goes on behind the last run of a page until there is no more, so that nobody, on either side, holds more than
//! a page. Each run is told as of one commit.

use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use super::books::Books;
use super::error::ApiError;
use super::types::RunRow;
use crate::domain::outcome::Outcome;
use crate::domain::report::focus::{self, FocusVersion};
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::store::RunFilter;

/// The bytes from which on a page takes no further run.
const PAGE_BYTES: usize = 64 * 1024;
/// The most runs that are looked at for a page.
const PAGE_LOOKS_MAX: usize = 4_096;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// A run for each line, as lists show it.
    Runs,
    /// An event for each line.
    Events,
    /// Settled money, an attempt's meter for each row.
    Focus(FocusVersion),
}

impl Exported {
    /// What it is called in paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Events => "events",
            Self::Focus(_) => "focus",
        }
    }

    /// The line above all others.
    #[must_use]
    pub fn head(self) -> String {
        match self {
            Self::Runs | Self::Events => String::new(),
            Self::Focus(version) => focus::header(version),
        }
    }

    /// What its pages are, to HTTP.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Runs | Self::Events => "application/x-ndjson",
            Self::Focus(_) => "text/csv; charset=utf-8; header=present",
        }
    }
}

impl FromStr for Exported {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Runs, Self::Events, Self::Focus(FocusVersion::default())];
        all.into_iter().find(|one| one.name() == text).ok_or(())
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportQuery {
    /// What.
    pub exported: Exported,
    /// Of which runs. Times are those of the runs' creation; of money, those of its reservation.
    pub filter: RunFilter,
    /// Only of this run: its id, the beginning of it, or `last`.
    pub run: Option<String>,
    /// Only behind this run: the last of the page before.
    pub after: Option<RunId>,
}

/// A part of what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportPage {
    /// Its lines.
    pub text: Vec<u8>,
    /// What `after` must be for the next page; `None` on the last one.
    pub next: Option<RunId>,
}

impl Books {
    /// A page of what the store holds.
    ///
    /// # Errors
    /// A record is damaged; or there is no such run.
    pub fn export(&self, query: &ExportQuery) -> Result<ExportPage, ApiError> {
        let mut page = ExportPage::default();
        if query.after.is_none() {
            page.text.extend(query.exported.head().into_bytes());
        }
        if let Some(run) = &query.run {
            let run = self.find(run)?;
            self.write(query, &run, &mut page.text)?;
            return Ok(page);
        }
        let Some(filter) = self.seen_of(&query.filter) else { return Ok(page) };
        // Money may be of a run that is older than the time asked for.
        let looked = match query.exported {
            Exported::Focus(_) => RunFilter { since: None, ..filter },
            Exported::Runs | Exported::Events => filter,
        };
        let text = &mut page.text;
        page.next = self.store().each_summary(&looked, query.after, PAGE_LOOKS_MAX, &mut |run| {
            self.write(query, &run, text)?;
            let is_full = text.len() >= PAGE_BYTES;
            Ok::<_, ApiError>(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(page)
    }

    /// What the tree of a run was worth, as it was said last.
    fn worth_of(&self, run: &RunSummary) -> Result<Option<Arc<Outcome>>, ApiError> {
        if run.parent.is_none() {
            return Ok(run.outcome.clone());
        }
        Ok(self.store().summary(run.root())?.and_then(|root| root.outcome))
    }

    fn write(&self, query: &ExportQuery, run: &RunSummary, out: &mut Vec<u8>) -> Result<(), ApiError> {
        match query.exported {
            Exported::Runs => {
                let line = serde_json::to_vec(&RunRow::from(run)).map_err(|error| ApiError::Task(error.to_string()))?;
                out.extend(line);
                out.push(b'\n');
            }
            Exported::Events => drop(self.store().export_events_of(run.id, out)?),
            Exported::Focus(version) => {
                let RunFilter { since, until, .. } = query.filter;
                if since.is_some_and(|since| run.ended.is_some_and(|ended| ended < since)) {
                    return Ok(());
                }
                let (log, mut rows) = (self.store().events(run.id)?, String::new());
                let outcome = self.worth_of(run)?;
                focus::write(run.id, &log, outcome.as_deref(), self.prices(), version, (since, until), &mut rows);
                out.extend(rows.into_bytes());
            }
        }
        Ok(())
    }
}
