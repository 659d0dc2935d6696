//! What goes on in runs, told outwards: log lines and metrics.
//!
//! Invariants: all of it follows from facts that are on disk; nobody decides anything by it; whoever listens must not block,
//! and no message, input, output or argument is told, and never a key.
//! Deliberately absent: what a log tells better. An operator who wants every fact reads the store (`plimsoll export events`).

pub mod log;
pub mod metrics;
mod told;

use std::sync::{Arc, Mutex, PoisonError};

pub use metrics::{Gauges, Metrics};
pub use told::{AttemptTold, Came, Counts, RunTold, StageTold, Who};

use crate::domain::event::Recorded;
use crate::domain::run::Tree;
use crate::ids::RunId;
use crate::units::Timestamp;
use told::Fold;

/// Hears of what is over. Must not block.
pub(crate) trait Sink: Send + Sync {
    /// An attempt is over.
    fn attempt(&self, told: &AttemptTold<'_>);
    /// A stage is over, or left as it stands.
    fn stage(&self, told: &StageTold<'_>);
    /// A run is over, or left as it stands.
    fn run(&self, told: &RunTold<'_>);
}

/// Whoever hears. Clones are the same.
#[derive(Clone, Default)]
pub struct Telemetry {
    metrics: Metrics,
}

impl Telemetry {
    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Follows a tree from here on, for as long as it is driven.
    #[must_use]
    pub fn follow(&self, tree: &Tree, now: Timestamp) -> Following {
        Following { telemetry: self.clone(), fold: Arc::new(Mutex::new(Fold::of(tree, now))) }
    }

    fn sinks(&self) -> impl Iterator<Item = &dyn Sink> {
        std::iter::once(&self.metrics as &dyn Sink)
    }
}

/// A tree that is followed.
#[derive(Clone)]
pub struct Following {
    telemetry: Telemetry,
    fold: Arc<Mutex<Fold>>,
}

impl Following {
    /// Hears of a fact.
    pub fn hear(&self, run: RunId, recorded: &Recorded) {
        let mut fold = self.fold.lock().unwrap_or_else(PoisonError::into_inner);
        fold.apply(run, recorded, &mut |told| self.telemetry.sinks().for_each(|sink| told.tell(sink)));
    }

    /// The tree isn't driven any more: what is still open of it is told as it stands.
    pub fn leave(&self) {
        let mut fold = self.fold.lock().unwrap_or_else(PoisonError::into_inner);
        fold.leave(&mut |told| self.telemetry.sinks().for_each(|sink| told.tell(sink)));
    }
}
