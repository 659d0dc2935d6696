//! The last alerts.

use crate::api::{AlertRow, AlertTable};
use crate::domain::alert::{Alert, AlertState};

/// Alerts that are shown.
pub(super) const ALERTS_SHOWN: usize = 5;

/// What people were told of last, and what didn't arrive.
pub(super) struct Alerts {
    pub(super) rows: Vec<Row>,
    /// True where some wait for another try, or were given up.
    pub(super) undelivered: bool,
}

/// An alert.
pub(super) struct Row {
    pub(super) at: String,
    pub(super) text: String,
    pub(super) to: String,
    pub(super) state: String,
    pub(super) run: Option<String>,
}

impl From<AlertTable> for Alerts {
    fn from(table: AlertTable) -> Self {
        let fails = |row: &AlertRow| row.state == AlertState::Dead || row.error.is_some();
        let undelivered = table.alerts.iter().any(fails);
        Self { undelivered, rows: table.alerts.into_iter().take(ALERTS_SHOWN).map(Row::from).collect() }
    }
}

impl From<AlertRow> for Row {
    fn from(row: AlertRow) -> Self {
        let run = match &row.what {
            Alert::Budget(alert) => alert.run,
            Alert::Run(alert) => Some(alert.run),
            Alert::Price(alert) => Some(alert.run),
            Alert::Test { .. } => None,
        };
        let state = match (row.state, row.tries) {
            (AlertState::Due, tries @ 1..) => format!("due, {tries} tries failed"),
            (AlertState::Dead, _) => "given up".to_owned(),
            (state, _) => state.name().to_owned(),
        };
        Self { at: row.at, text: row.text, to: row.to, state, run: run.map(|run| run.to_string()) }
    }
}
