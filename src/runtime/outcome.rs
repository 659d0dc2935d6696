//! What runs were worth, as it is said of them.

use super::{Runtime, RuntimeError};
use crate::domain::event::Event;
use crate::domain::ledger::Op;
use crate::domain::outcome::{NOTE_CHARS_MAX, OutcomeBy, OutcomeFault, OutcomeRecorded, OutcomeRules};
use crate::domain::run::Run;
use crate::ids::RunId;

impl Runtime {
    /// Records what a run that ended was worth. What changes nothing isn't written: saying it twice is saying it once.
    ///
    /// # Errors
    /// There is no such run, the outcome isn't taken, or the store can't write.
    pub async fn record_outcome(&self, run: RunId, said: OutcomeRecorded) -> Result<(), RuntimeError> {
        let known = self.store().summary(run)?.ok_or(RuntimeError::NoSuchRun { run })?;
        if known.erased && said.note.is_some() {
            return Err(RuntimeError::Outcome { run, fault: OutcomeFault::Erased });
        }
        said.judge(&known).map_err(|fault| RuntimeError::Outcome { run, fault })?;
        if known.outcome().after(&said) == known.outcome() {
            return Ok(());
        }
        let events = vec![(run, Event::OutcomeRecorded(Box::new(said.clone())))];
        self.store().submit(Op { run, events, asks: vec![], plan: None }).await?;
        if let Some(telemetry) = self.telemetry() {
            telemetry.hear_outcome(&known, &said, self.0.clock.now());
        }
        Ok(())
    }
}

/// What the rules of a run's agent say of its answer; `None` where they say nothing.
pub(super) fn derived(run: &Run, rules: &OutcomeRules, output: &serde_json::Value) -> Option<Event> {
    let labels = serde_json::to_value(&run.labels).unwrap_or_default();
    let (outcome, faults) = rules.outcome(&run.input, output, &labels);
    let note: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let note: String = note.join("; ").chars().take(NOTE_CHARS_MAX).collect();
    let note = Some(note).filter(|note| !note.is_empty());
    let says = !outcome.is_empty() || note.is_some();
    says.then(|| {
        Event::OutcomeRecorded(Box::new(OutcomeRecorded { outcome, unknown: vec![], by: OutcomeBy::Rules, note }))
    })
}
