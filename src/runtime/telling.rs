//! Tells telemetry what runs do.

use std::sync::Arc;

use super::{Observer, Progress, Runtime};
use crate::domain::event::Event;
use crate::domain::run::Run;
use crate::store::StoreError;
use crate::telemetry::{Following, Telemetry, log};

impl Runtime {
    /// Tells what its runs do, from here on and for good: a second one isn't told. What the start found open, and settled
    /// since nobody knows what it cost, is told first.
    pub fn tell(&self, telemetry: Telemetry) {
        let recovered = telemetry.clone();
        if self.0.telemetry.set(telemetry).is_ok() {
            self.tell_recovered(&recovered);
        }
    }

    fn tell_recovered(&self, telemetry: &Telemetry) {
        // Those of a run follow each other: its log is read once.
        let mut last = None;
        for (run, recorded) in self.store().recovered() {
            log::fact(*run, recorded);
            let Event::Settled(settled) = &recorded.event else { continue };
            if last.as_ref().is_none_or(|(of, _)| of != run) {
                let facts = self.store().events(*run);
                let warn = |error: &StoreError| tracing::warn!(%run, %error, "what the start settled can't be told");
                last = Some((*run, facts.inspect_err(warn).unwrap_or_default()));
            }
            if let Some((_, facts)) = &last {
                telemetry.hear_recovered(*run, facts, settled, recorded.at);
            }
        }
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
