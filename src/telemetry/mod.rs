//! What goes on in runs, told outwards: log lines, metrics, and OpenTelemetry's traces and metrics.
//!
//! Invariants: all of it follows from facts that are on disk, but for the time between pieces of an answer ([`Pieces`]),
//! which is kept nowhere; nobody decides anything by it; whoever listens must not block,
//! and what can't be sent in time is dropped and counted. No message, input, output or argument is told unless the project
//! asks for it (`content`), and never a key.
//! Deliberately absent: what a log tells better. An operator who wants every fact reads the store (`plimsoll export events`).

pub mod export;
pub mod log;
pub mod metrics;
mod names;
mod otlp;
mod peers;
mod pieces;
mod spans;
mod told;

use std::sync::{Arc, Mutex, PoisonError};

pub use metrics::{Gauges, Metrics};
pub use peers::{Peer, Peers};
pub use pieces::{PieceTold, Pieces};
pub use told::{AttemptTold, Came, Counts, QualityTold, RunTold, StageTold, Who};

use crate::domain::event::{Recorded, Settled};
use crate::domain::outcome::OutcomeRecorded;
use crate::domain::run::Tree;
use crate::domain::summary::RunSummary;
use crate::ids::{ModelName, RunId};
use crate::units::Timestamp;
use export::{Exporter, Sent};
use told::{Fold, Told};

/// Hears of what is over. Must not block.
pub(crate) trait Sink: Send + Sync {
    /// An attempt is over.
    fn attempt(&self, told: &AttemptTold<'_>);
    /// A stage is over, or left as it stands.
    fn stage(&self, told: &StageTold<'_>);
    /// A run is over, or left as it stands.
    fn run(&self, told: &RunTold<'_>);
    /// Somebody said how good a run was.
    fn quality(&self, told: &QualityTold<'_>);
    /// A piece of a streamed answer came after another.
    fn piece(&self, told: &PieceTold<'_>);
}

/// Whoever hears. Clones are the same.
#[derive(Clone, Default)]
pub struct Telemetry {
    metrics: Metrics,
    exporter: Option<Exporter>,
    peers: Arc<Peers>,
}

impl Telemetry {
    /// With an exporter, where there is one, and those who answer.
    #[must_use]
    pub fn new(exporter: Option<Exporter>, peers: Peers) -> Self {
        Self { metrics: Metrics::default(), exporter, peers: Arc::new(peers) }
    }

    /// Has what stands in the store told too, to a collector where there is one, until [`Self::unwatch`].
    pub fn watch(&self, gauges: impl Fn() -> Option<Gauges> + Send + Sync + 'static) {
        if let Some(exporter) = &self.exporter {
            exporter.watch(Some(Box::new(gauges)));
        }
    }

    /// Lets go of the store.
    pub fn unwatch(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.watch(None);
        }
    }

    /// What was sent to a collector, and what wasn't; nothing where there is none.
    #[must_use]
    pub fn sent(&self) -> Option<Sent> {
        self.exporter.as_ref().map(Exporter::sent)
    }

    /// Sends what has gathered, within the exporter's bound.
    pub async fn flush(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.flush().await;
        }
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Follows a tree from here on, for as long as it is driven.
    #[must_use]
    pub fn follow(&self, tree: &Tree, now: Timestamp) -> Following {
        Following { telemetry: self.clone(), fold: Arc::new(Mutex::new(Fold::of(tree, now, Arc::clone(&self.peers)))) }
    }

    /// Hears what a run was worth that isn't followed any more.
    pub fn hear_outcome(&self, run: &RunSummary, said: &OutcomeRecorded, at: Timestamp) {
        if let Some(quality) = said.outcome.quality {
            let who = Who::over(run);
            let told = Told::Quality(QualityTold { who: &who, at, quality });
            self.sinks().for_each(|sink| told.tell(sink));
        }
    }

    /// Hears of an attempt that a start found open in this log, and settled.
    pub fn hear_recovered(&self, run: RunId, log: &[Recorded], settled: &Settled, at: Timestamp) {
        let Some((who, began, reserved)) = told::recovered(run, log, settled.reservation) else { return };
        let peer = self.peers.of_attempt(reserved);
        let (who, came, peer) = (&who, Came::Settled(settled), peer.as_ref());
        let told = Told::Attempt(AttemptTold { who, reserved, began, ended: at, came, peer, by: None });
        self.sinks().for_each(|sink| told.tell(sink));
    }

    /// Measures the pieces of one streamed answer of a model.
    #[must_use]
    pub fn pieces(&self, model: &ModelName) -> Pieces {
        Pieces::new(self.clone(), self.peers.get(&model.provider()), model.model())
    }

    fn sinks(&self) -> impl Iterator<Item = &dyn Sink> {
        let exporter = self.exporter.as_ref().map(|exporter| exporter as &dyn Sink);
        std::iter::once(&self.metrics as &dyn Sink).chain(exporter)
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
