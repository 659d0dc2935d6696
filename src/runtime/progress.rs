//! What people may watch while a run goes on.

use std::sync::Arc;

use crate::domain::event::Recorded;
use crate::domain::limits::Refusal;
use crate::ids::RunId;

/// Something to show.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A fact that is on disk.
    Event {
        /// The run.
        run: RunId,
        /// The fact.
        recorded: &'a Recorded,
    },
    /// A piece of an answer that is being streamed: provisional until its attempt is settled.
    Text {
        /// The run.
        run: RunId,
        /// The piece.
        piece: &'a str,
    },
    /// A run that was to go on can't, and stays as it is.
    Refused {
        /// The run.
        run: RunId,
        /// The limit that says no.
        refusal: &'a Refusal,
    },
    /// What was streamed since the attempt began counts for nothing: the attempt failed.
    TextDiscarded {
        /// The run.
        run: RunId,
    },
}

/// Hears of progress, from several tasks at once. Must not block.
pub type Observer = Arc<dyn Fn(Progress<'_>) + Send + Sync>;

/// An observer that shows nothing.
#[must_use]
pub fn silent() -> Observer {
    Arc::new(|_| {})
}
