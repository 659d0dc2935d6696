//! How much longer each request of a conversation was than the one before it, pot by pot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::event::{BoundMethod, ModelCall};
use crate::domain::message::Pots;
use crate::units::Tokens;

/// By how many tokens a request was longer than the one before it; below zero where something was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Growth {
    /// How both were measured: by bytes it is as many tokens at most.
    pub method: BoundMethod,
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
    /// `None` where the two were measured in different ways.
    pub(super) fn between(before: &Measured, now: &Measured) -> Option<Self> {
        let signed = |tokens: Tokens| i64::try_from(tokens.0).unwrap_or(i64::MAX);
        let by = |pot: fn(&Pots) -> Tokens| signed(pot(&now.pots)).saturating_sub(signed(pot(&before.pots)));
        (before.method == now.method).then(|| Self {
            method: now.method,
            instructions: by(|pots| pots.instructions),
            history: by(|pots| pots.history),
            documents: by(|pots| pots.documents),
            tool_output: by(|pots| pots.tool_output),
        })
    }

    /// All pots together.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.instructions.saturating_add(self.history).saturating_add(self.documents).saturating_add(self.tool_output)
    }
}

/// A request's sizes.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    pots: Pots,
    method: BoundMethod,
}

impl Measured {
    pub(super) const fn of(call: &ModelCall) -> Self {
        Self { pots: call.pots, method: call.bound.method }
    }
}
