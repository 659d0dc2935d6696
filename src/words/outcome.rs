//! What a run was worth, in one line.

use super::text::one_line;
use crate::domain::outcome::{Outcome, OutcomeRecorded, Part};
use crate::units::grouped;

/// `worth: 1 unit, quality 0.93 (human), $12.50 revenue, says ann: looked at it`.
#[must_use]
pub fn line(said: &OutcomeRecorded) -> String {
    let OutcomeRecorded { outcome, unknown, by, note } = said;
    let mut parts = parts(outcome);
    if !unknown.is_empty() {
        let names = unknown.iter().map(|part| match part {
            Part::Units => "units",
            Part::Quality => "quality",
            Part::Revenue => "revenue",
        });
        parts.push(format!("{} unknown", names.collect::<Vec<_>>().join(" and ")));
    }
    let note = note.as_deref().map_or_else(String::new, |note| format!(": {}", one_line(note, 200)));
    format!("worth: {}, says {}{note}", parts.join(", "), one_line(&by.to_string(), 64))
}

/// What is known, in words; empty where nothing is.
#[must_use]
pub fn parts(outcome: &Outcome) -> Vec<String> {
    let units = outcome.units.map(|units| format!("{} {}", grouped(units), if units == 1 { "unit" } else { "units" }));
    let quality = outcome.quality.map(|quality| format!("quality {} ({})", quality.score, quality.source.name()));
    let revenue = outcome.revenue_usd.map(|revenue| format!("{revenue} revenue"));
    [units, quality, revenue].into_iter().flatten().collect()
}
