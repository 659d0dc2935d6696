//! The price book: the worst case before a call, the exact cost after it.
//!
//! Deliberately absent: floats, clocks, and any guess. What has no price is refused.

use serde::{Deserialize, Serialize};

use crate::units::Tokens;

/// Tokens of one call in disjoint classes; absent classes are zero, absent *usage* is `None` where this is optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input that was neither read from a cache nor written to one.
    pub input: Tokens,
    /// Input read from a cache.
    pub cache_read: Tokens,
    /// Input written to a cache for the provider's shorter time to live (5 or 30 minutes).
    pub cache_write: Tokens,
    /// Input written to a cache for the longer time to live (1 or 12 hours).
    #[serde(default)]
    pub cache_write_long: Tokens,
    /// Output, reasoning included.
    pub output: Tokens,
    /// The part of `output` that is reasoning; shown, not billed again.
    pub reasoning: Tokens,
}

impl Usage {
    /// All input, cached and written included: what context tiers are judged by.
    #[must_use]
    pub fn input_total(&self) -> Tokens {
        self.input.plus(self.cache_read).plus(self.cache_write).plus(self.cache_write_long)
    }

    /// The sum, class by class.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.plus(other.input),
            cache_read: self.cache_read.plus(other.cache_read),
            cache_write: self.cache_write.plus(other.cache_write),
            cache_write_long: self.cache_write_long.plus(other.cache_write_long),
            output: self.output.plus(other.output),
            reasoning: self.reasoning.plus(other.reasoning),
        }
    }
}
