//! Facts of waits for rate limits: what a call waited for before its money was reserved, and for how long.

use serde::{Deserialize, Serialize};

use super::Place;
use crate::domain::limits::Refusal;
use crate::ids::{AccountName, ModelName};
use crate::units::{Millis, Timestamp};

/// See [`Event::RateWaitBegan`](super::Event::RateWaitBegan).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWaitBegan {
    /// Where the call stands.
    pub place: Place,
    /// The model that it wants to ask.
    pub model: ModelName,
    /// The account of its provider; `None` for the provider's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// What says no for now: a rate, the provider's own word, or a breaker.
    pub refusal: Refusal,
    /// When it may go if nobody else is before it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// See [`Event::RateWaitEnded`](super::Event::RateWaitEnded).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWaitEnded {
    /// Where the call stands.
    pub place: Place,
    /// How long it waited.
    pub waited: Millis,
    /// Why it didn't go in the end: the wait would take longer than there is time for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Box<Refusal>>,
}
