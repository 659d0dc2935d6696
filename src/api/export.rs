//! What a store holds, page by page: runs and events as JSON Lines, settled money as FOCUS.
//!
//! Whoever asks goes on behind the last run of a page until there is no more, so that nobody, on either side, holds more than
//! a page; of days, a page is a whole one. Each run is told as of one commit.

use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use super::books::Books;
use super::error::ApiError;
use super::types::RunRow;
use crate::domain::outcome::Outcome;
use crate::domain::report::focus::{self, Daily, FocusVersion, Grain, Source};
use crate::domain::rollup::Day;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::store::RunFilter;
use crate::units::Timestamp;

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
    /// Settled money added up day by day; a page is a day.
    FocusDaily(FocusVersion),
}

impl Exported {
    /// What it is called in paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Events => "events",
            Self::Focus(_) | Self::FocusDaily(_) => "focus",
        }
    }

    /// The line above all others.
    #[must_use]
    pub fn head(self) -> String {
        match self {
            Self::Runs | Self::Events => String::new(),
            Self::Focus(version) => focus::header(version, Grain::Attempt),
            Self::FocusDaily(version) => focus::header(version, Grain::Day),
        }
    }

    /// What its pages are, to HTTP.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Runs | Self::Events => "application/x-ndjson",
            Self::Focus(_) | Self::FocusDaily(_) => "text/csv; charset=utf-8; header=present",
        }
    }

    /// The version of FOCUS.
    #[must_use]
    pub const fn focus(self) -> Option<FocusVersion> {
        match self {
            Self::Runs | Self::Events => None,
            Self::Focus(version) | Self::FocusDaily(version) => Some(version),
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
    /// Only behind this run: the last of the page before. Of days: what the page of the day before gave.
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
        if let Exported::FocusDaily(version) = query.exported {
            return self.export_day(query, version, page);
        }
        if let Some(run) = &query.run {
            let run = self.find(run)?;
            self.write(query, &run, &mut page.text)?;
            return Ok(page);
        }
        let Some(filter) = self.seen_of(&query.filter) else { return Ok(page) };
        // Money may be of a run that is older than the time asked for.
        let looked = match query.exported {
            Exported::Focus(_) | Exported::FocusDaily(_) => RunFilter { since: None, ..filter },
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
            Exported::Focus(version) | Exported::FocusDaily(version) => {
                let mut rows = String::new();
                let during = (query.filter.since, query.filter.until);
                self.with_source(run, during, |source| focus::write(source, version, &mut rows))?;
                out.extend(rows.into_bytes());
            }
        }
        Ok(())
    }

    /// The money of a run, where some of it may be of that time.
    fn with_source(
        &self,
        run: &RunSummary,
        during: (Option<Timestamp>, Option<Timestamp>),
        take: impl FnOnce(&Source<'_>),
    ) -> Result<(), ApiError> {
        if during.0.is_some_and(|since| run.ended.is_some_and(|ended| ended < since)) {
            return Ok(());
        }
        let (log, outcome) = (self.store().events(run.id)?, self.worth_of(run)?);
        take(&Source { run: run.id, log: &log, outcome: outcome.as_deref(), book: self.prices(), during });
        Ok(())
    }

    /// The next day that has money, whole.
    fn export_day(
        &self,
        query: &ExportQuery,
        version: FocusVersion,
        mut page: ExportPage,
    ) -> Result<ExportPage, ApiError> {
        let (mut daily, mut rows) = (Daily::new(version), String::new());
        let asked = (query.filter.since, query.filter.until);
        if let Some(run) = &query.run {
            self.with_source(&self.find(run)?, asked, |source| daily.add(source))?;
        } else if let Some(filter) = self.seen_of(&query.filter)
            && let Some(day) = self.next_day(query)?
        {
            let end = Day(day.0.saturating_add(1)).start();
            let during = (asked.0.max(Some(day.start())), Some(asked.1.map_or(end, |until| until.min(end))));
            // Of all that were there by then: a run may go on for days.
            let looked = RunFilter { since: query.after.map(oldest_open), until: during.1, ..filter };
            let mut oldest = end;
            self.store().each_summary(&looked, None, usize::MAX, &mut |run| {
                self.in_time()?;
                if run.ended.is_none_or(|ended| ended >= end) {
                    oldest = oldest.min(Timestamp(run.id.millis()));
                }
                self.with_source(&run, during, |source| daily.add(source))?;
                Ok::<_, ApiError>(ControlFlow::Continue(()))
            })?;
            page.next = Some(day_over(day, oldest));
        }
        daily.write(&mut rows);
        page.text.extend(rows.into_bytes());
        Ok(page)
    }

    /// The first day behind the page before, and within what is asked, on which anything was settled.
    fn next_day(&self, query: &ExportQuery) -> Result<Option<Day>, ApiError> {
        let first = match (query.after, query.filter.since) {
            (Some(after), _) => Day(Day::of(Timestamp(after.millis())).0.saturating_add(1)),
            (None, Some(since)) => Day::of(since),
            (None, None) => {
                let mut first = None;
                self.store().each_summary(&RunFilter::default(), None, 1, &mut |run| {
                    first = Some(Day::of(run.created));
                    Ok::<_, ApiError>(ControlFlow::Break(()))
                })?;
                let Some(first) = first else { return Ok(None) };
                first
            }
        };
        let now = Day::of(self.clock().now());
        let last = query.filter.until.map_or(now, |until| now.min(Day::of(until)));
        for day in (first.0..=last.0).map(Day) {
            let mut has_money = false;
            self.store().each_rollup(day, day, &mut |_, _| {
                has_money = true;
                ControlFlow::Break(())
            })?;
            if has_money {
                return Ok(Some(day));
            }
        }
        Ok(None)
    }
}

/// What `after` is behind a day: the first id that could be drawn in it, and behind that when the oldest run was made that
/// went on at its end. Later days look at none that were made before.
fn day_over(day: Day, oldest: Timestamp) -> RunId {
    RunId::from_bits(RunId::first_in(day.start().0).bits() | u128::from(oldest.0))
}

/// See [`day_over`]. Of another id nothing is known.
fn oldest_open(after: RunId) -> Timestamp {
    let oldest = Timestamp(u64::try_from(after.bits() & u128::from(u64::MAX)).unwrap_or_default());
    let end = Day(Day::of(Timestamp(after.millis())).0.saturating_add(1)).start();
    if oldest <= end { oldest } else { Timestamp(0) }
}
