//! Names and numbers that identify things, one type for each, so that they can't be swapped.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Identifies one run. A ULID: sorts by the time of creation, prints as 26 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u128);

impl RunId {
    /// An id from its 128 bits; the caller draws them (see [`crate::clock::Clock::run_id`]).
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits; big-endian bytes of them sort by time.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The milliseconds since 1970 at which it was drawn.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0 >> 80).unwrap_or(u64::MAX)
    }

    /// The smallest id that can be drawn in a millisecond since 1970: every id of before is smaller.
    #[must_use]
    pub fn first_in(millis: u64) -> Self {
        Self(u128::from(millis) << 80)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&ulid::Ulid(self.0).to_string())
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        ulid::Ulid::from_string(text).map(|id| Self(id.0)).map_err(|_| IdError(text.to_owned()))
    }
}

/// A text that is no run id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no run id: a run id has 26 letters and digits, such as `01JD0Q5XV3R8K2M4N6P7S9T0WA`")]
pub struct IdError(String);

written_as_text!(RunId, "RunId", "A run: 26 letters and digits, which sort by the time of its creation.", {
    "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
    "examples": ["01KATA0Q5XV3R8K2M4N6P7S9T0"],
});

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&ulid::Ulid(self.0))
        } else {
            self.0.to_be_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 16]>::deserialize(deserializer).map(|bytes| Self(u128::from_be_bytes(bytes)));
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Identifies one reservation for ever: the run whose log holds it, and its number there, from 0 without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ReservationId {
    /// The run (root or child) that the attempt belongs to.
    pub run: RunId,
    /// Its number in that run.
    pub number: u32,
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.run, self.number)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )+};
}

names! {
    /// An agent's name: its file's name without `.toml`.
    AgentName,
    /// A tool's name: its file's name without `.toml`; what the model calls it by.
    ToolName,
    /// A stage's `id` within its agent.
    StageName,
    /// A model as agents name it: `provider/model`, such as `openai/gpt-5-mini`.
    ModelName,
    /// A provider's key under `[providers]`.
    ProviderName,
    /// An account of a provider: its `name` under `[[providers.NAME.accounts]]`.
    AccountName,
    /// A policy's key under `[policies]`.
    PolicyName,
    /// A budget's `name`.
    BudgetName,
    /// The content hash of a plan: 64 hexadecimal digits of SHA-256.
    PlanHash,
    /// Identifies one version of one price row, such as `openai/gpt-5-mini@2026-11-23#3f2a90c1`.
    PriceId,
}

impl ModelName {
    /// The provider's part, before the first `/`.
    #[must_use]
    pub fn provider(&self) -> ProviderName {
        ProviderName::from(self.0.split_once('/').map_or(&*self.0, |(provider, _)| provider))
    }

    /// The model's part, after the first `/`: what goes over the wire.
    #[must_use]
    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }

    /// True of a family's own model and its dated snapshots, whoever serves it: `gpt-5-mini-2025-08-07`,
    /// `claude-haiku-4-5@20251001`. `claude-sonnet-5-5` is another model than `claude-sonnet-5`.
    #[must_use]
    pub fn is_of(&self, family: &str) -> bool {
        let name = self.model().rsplit('/').next().unwrap_or_default();
        name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('@') || is_date(rest))
    }
}

/// True for what a dated snapshot adds to a model's name.
fn is_date(rest: &str) -> bool {
    let digits = |date: &str| date.chars().filter(char::is_ascii_digit).count();
    rest.strip_prefix('-')
        .is_some_and(|date| digits(date) == 8 && (date.len() == 8 || date.len() == 10 && date.split('-').count() == 3))
}
