//! Facts of caches: what a provider's saved, and answers of our own that were kept and given again.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::plan::hex;
use crate::ids::ReservationId;
use crate::units::{Money, Timestamp};

/// Names a request and everything else that shapes its answer: a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerKey(pub [u8; 32]);

impl fmt::Display for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for AnswerKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut key = [0; 32];
        for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(key))
    }
}

impl Serialize for AnswerKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

written_as_text!(AnswerKey, "AnswerKey", "The hash under which an answer is kept.", {});

impl<'de> Deserialize<'de> for AnswerKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What caches had to do with an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheFacts {
    /// What the input that the provider's cache held would have cost more as fresh input. What writing it cost is in the
    /// bill.
    #[serde(default, skip_serializing_if = "nothing")]
    pub saved: Money,
    /// The answer is kept, in the same write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptAs>,
    /// The answer is one that was kept: nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit: Option<CacheHit>,
}

impl CacheFacts {
    /// True where no cache had to do with it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn nothing(amount: &Money) -> bool {
    amount.is_zero()
}

/// Under what name an answer is kept, and until when it is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptAs {
    /// Its name.
    pub key: AnswerKey,
    /// From then on it isn't given any more.
    pub until: Timestamp,
}

/// An answer that was given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheHit {
    /// Its name.
    pub key: AnswerKey,
    /// The attempt that was answered first.
    pub from: ReservationId,
    /// When that was.
    pub at: Timestamp,
    /// What that attempt cost, and this one therefore didn't.
    pub avoided: Money,
}

/// The longest text of an answer that is kept.
pub const KEPT_BYTES_MAX: usize = 64 * 1024;

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// From then on it isn't given any more.
    pub until: Timestamp,
    /// When it was given first.
    pub at: Timestamp,
    /// The attempt that was answered so.
    pub from: ReservationId,
    /// What that attempt cost.
    pub cost: Money,
    /// The text.
    pub text: String,
    /// The model that the provider said answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_digits() {
        let key = AnswerKey(std::array::from_fn(|at| u8::try_from(at * 7).unwrap_or(0)));
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in ["", "00", &"zz".repeat(32), &"ü".repeat(32)] {
            assert!(bad.parse::<AnswerKey>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&CacheFacts::default()).expect("it writes"), "{}");
    }
}
