//! How much longer each request of a conversation was than the one before it, pot by pot.

use serde::{Deserialize, Serialize};

use crate::domain::message::Pots;
use crate::units::Tokens;

/// By how many tokens a request was longer than the one before it; below zero where something was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// System text, input and tool definitions.
    pub instructions: i64,
    /// Earlier turns.
    pub history: i64,
    /// Documents.
    pub documents: i64,
    /// Results of tools.
    pub tool_output: i64,
}

impl Growth {
    pub(super) fn between(before: &Pots, now: &Pots) -> Self {
        let signed = |tokens: Tokens| i64::try_from(tokens.0).unwrap_or(i64::MAX);
        let by = |pot: fn(&Pots) -> Tokens| signed(pot(now)).saturating_sub(signed(pot(before)));
        Self {
            instructions: by(|pots| pots.instructions),
            history: by(|pots| pots.history),
            documents: by(|pots| pots.documents),
            tool_output: by(|pots| pots.tool_output),
        }
    }

    /// All pots together.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.instructions.saturating_add(self.history).saturating_add(self.documents).saturating_add(self.tool_output)
    }
}
