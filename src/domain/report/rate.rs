//! Rates as they stand: what may go out now, what providers say is left, and breakers that aren't closed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{text, text_or_null};
use crate::domain::limits::{Declared, LimitKind};
use crate::ids::{AccountName, ModelName};
use crate::units::Timestamp;

/// All of it, of one process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateTable {
    /// Calls that wait.
    pub waiting: usize,
    /// The project's limits, in the order of its file.
    pub rates: Vec<RateRow>,
    /// What providers say of their own limits, where they said something that still holds.
    pub providers: Vec<ProviderRateRow>,
    /// Breakers that aren't as new.
    pub breakers: Vec<BreakerRow>,
}

/// One limit, for one value of its `each`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateRow {
    /// Which limit.
    pub limit: LimitKind,
    /// What it is for.
    pub of: String,
    /// Its value.
    pub value: u64,
    /// What may go out at once now.
    pub free: u64,
    /// Calls that wait and count on it.
    pub waiting: usize,
    /// Where it was declared.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub declared: Declared,
}

/// One window of a provider's own limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderRateRow {
    /// The model.
    pub model: ModelName,
    /// The account; null for the provider's own key.
    pub account: Option<AccountName>,
    /// What it counts: `requests`, `tokens`, `input tokens`, `output tokens`; `retry-after` where it asks to be left alone.
    pub what: String,
    /// What is left by now.
    pub left: u64,
    /// The whole, where it was told.
    pub value: Option<u64>,
    /// When all of it is back.
    #[serde(with = "text")]
    #[schemars(with = "super::TimeText")]
    pub full_at: Timestamp,
}

/// One breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerRow {
    /// A model, or an account.
    pub of: String,
    /// How it stands.
    pub state: BreakerState,
    /// Until when it is open.
    #[serde(with = "text_or_null")]
    #[schemars(with = "Option<super::TimeText>")]
    pub until: Option<Timestamp>,
    /// How much the failures in a row come to.
    pub failures: u32,
    /// The class of the last one.
    pub last: Option<String>,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through; some have failed.
    Closed,
    /// Nobody asks.
    Open,
    /// The next call tries first.
    HalfOpen,
    /// One call tries first.
    Probing,
}

impl BreakerState {
    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half open",
            Self::Probing => "probing",
        }
    }
}
