//! What was taken out of the store for good: what people wrote and models answered. The sums stay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::Labels;

/// See [`Change::BodiesErased`](super::audit::Change::BodiesErased).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodiesErased {
    /// Whose runs: those with all of these labels.
    pub labels: Labels,
    /// How many trees of runs there were to erase.
    pub trees: u64,
    /// Why.
    pub reason: String,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// Trees of runs whose bodies are gone.
    pub trees: u64,
    /// Their runs, those of sub-agents included.
    pub runs: u64,
    /// Events that lost a text.
    pub events: u64,
    /// Answers of theirs that were kept to be given again.
    pub answers: u64,
    /// Files that no other run was given.
    pub files: u64,
}

impl Removed {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            trees: self.trees.saturating_add(other.trees),
            runs: self.runs.saturating_add(other.runs),
            events: self.events.saturating_add(other.events),
            answers: self.answers.saturating_add(other.answers),
            files: self.files.saturating_add(other.files),
        }
    }
}
