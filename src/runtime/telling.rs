//! Tells telemetry what runs do.

use std::sync::Arc;

use super::{Observer, Progress, Runtime};
use crate::domain::run::Run;
use crate::telemetry::{Following, Telemetry};

impl Runtime {
    /// Tells what its runs do, from here on and for good: a second one isn't told.
    pub fn tell(&self, telemetry: Telemetry) {
        self.0.telemetry.set(telemetry).unwrap_or_default();
    }

    /// Who is told what its runs do.
    #[must_use]
    pub fn telemetry(&self) -> Option<&Telemetry> {
        self.0.telemetry.get()
    }
}

/// What every line of the log that belongs to a tree stands in, whatever its level.
pub(super) fn span_of(root: &Run) -> tracing::Span {
    let tenant = root.labels.get("tenant");
    tracing::error_span!("run", run = %root.id, agent = %root.plan.agent, tenant)
}

/// An observer whose facts are followed too.
pub(super) fn around(following: Option<Following>, observer: Observer) -> Observer {
    let Some(following) = following else { return observer };
    Arc::new(move |progress| {
        if let Progress::Event { run, recorded } = progress {
            following.hear(run, recorded);
        }
        observer(progress);
    })
}
