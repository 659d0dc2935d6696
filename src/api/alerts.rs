//! Alerts: who was told of what, who couldn't be, and what waits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::books::Books;
use super::error::ApiError;
use super::service::Service;
use crate::domain::alert::{Alert, AlertEntry, AlertState};
use crate::store::{ALERTS_KEPT_MAX, ALERTS_WAITING_MAX};

/// The most alerts of each state that are listed.
pub const ALERTS_SHOWN_MAX: usize = 1_000;

/// An alert for one of those who hear it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRow {
    /// Its number.
    pub alert: u64,
    /// Who hears it: the name of `[[alerts]]`, or `log`.
    pub to: String,
    /// When it came about.
    pub at: String,
    /// How it stands.
    pub state: AlertState,
    /// In one sentence.
    pub text: String,
    /// Tries so far.
    pub tries: u32,
    /// When it is tried next; null where it isn't.
    pub next: Option<String>,
    /// Why the last try failed; null where none did.
    pub error: Option<String>,
    /// What happened, as who hears it reads it.
    pub what: Alert,
}

/// Alerts, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertTable {
    /// Those that wait, and the last that were delivered or given up.
    pub alerts: Vec<AlertRow>,
    /// How many wait, of those that are listed.
    pub due: u64,
    /// How many were given up, of those that are listed.
    pub dead: u64,
}

impl From<AlertEntry> for AlertRow {
    fn from(entry: AlertEntry) -> Self {
        Self {
            alert: entry.number,
            at: entry.at.to_string(),
            state: entry.state,
            text: entry.alert.text(),
            tries: entry.tries,
            next: (entry.state == AlertState::Due).then(|| entry.next.to_string()),
            to: entry.to,
            error: entry.error,
            what: entry.alert,
        }
    }
}

impl Books {
    /// Alerts that wait, and the last that were delivered or given up; at most so many of each.
    ///
    /// # Errors
    /// When a record is damaged, or not all may be seen.
    pub fn alerts(&self, most: usize) -> Result<AlertTable, ApiError> {
        self.sees_all()?;
        let most = most.min(ALERTS_SHOWN_MAX);
        let (due, over) = (self.store().alerts_due(most)?, self.store().alerts_over(most)?);
        let mut alerts: Vec<AlertRow> = due.into_iter().chain(over).map(AlertRow::from).collect();
        alerts.sort_by_key(|row| std::cmp::Reverse(row.alert));
        let count = |state| u64::try_from(alerts.iter().filter(|row| row.state == state).count()).unwrap_or(u64::MAX);
        Ok(AlertTable { due: count(AlertState::Due), dead: count(AlertState::Dead), alerts })
    }

    /// One of all that are kept; none where it isn't any more.
    fn alert(&self, number: u64) -> Result<Option<AlertRow>, ApiError> {
        let (due, over) = (self.store().alerts_due(ALERTS_WAITING_MAX)?, self.store().alerts_over(ALERTS_KEPT_MAX)?);
        Ok(due.into_iter().chain(over).find(|entry| entry.number == number).map(AlertRow::from))
    }
}

impl Service {
    /// Has an alert delivered anew, as often as a new one, whatever became of it.
    ///
    /// # Errors
    /// The caller is bound to labels, there is no such alert any more, or the store can't write.
    pub async fn retry_alert(&self, number: u64) -> Result<AlertRow, ApiError> {
        self.caller().is_unbound()?;
        self.runtime().store().retry_alert(number).await?;
        let row = self.read(move |books| books.alert(number)).await?;
        row.ok_or_else(|| {
            ApiError::BadRequest(format!("there is no alert {number} any more; `plimsoll alerts list` lists them"))
        })
    }
}
