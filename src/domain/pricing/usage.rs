//! What one call used: tokens in disjoint classes, units beside them, and what contradicts itself.
//!
//! Providers count in overlapping ways; each wire sorts their counts by [`Tally`], which never goes below zero and keeps
//! what doesn't add up as a [`Mismatch`]. A mismatch is told, not mended: nobody knows then what the call costs.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::units::Tokens;

/// What one call used; a class that isn't there is zero, *usage* that isn't there is `None` where this is optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that was neither read from a cache nor written to one.
    pub input: Tokens,
    /// Input read from a cache.
    pub cache_read: Tokens,
    /// Input written to a cache for the provider's shorter time to live (5 or 30 minutes).
    pub cache_write: Tokens,
    /// Input written to a cache for the longer time to live (1 or 12 hours).
    pub cache_write_long: Tokens,
    /// Output, reasoning included.
    pub output: Tokens,
    /// The part of `output` that is reasoning; shown, not billed again.
    pub reasoning: Tokens,
    /// Tokens of a class that no rate is known for; what has some has no exact cost.
    pub other: Tokens,
    /// Units that are billed beside the tokens.
    pub fees: Fees,
}

/// A class of tokens. No token is in two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Input that was neither read from a cache nor written to one.
    Fresh,
    /// Input read from a cache.
    CacheRead,
    /// Input written to a cache for the shorter time to live.
    CacheWrite,
    /// Input written to a cache for the longer time to live.
    CacheWriteLong,
    /// Output that is seen.
    Output,
    /// Output that is reasoning.
    Reasoning,
    /// Anything else that the provider counts.
    Other,
}

impl Class {
    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::CacheWriteLong => "cache_write_long",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::Other => "other",
        }
    }
}

impl Usage {
    /// The tokens by class, each counted once.
    #[must_use]
    pub const fn classes(&self) -> [(Class, Tokens); 7] {
        [
            (Class::Fresh, self.input),
            (Class::CacheRead, self.cache_read),
            (Class::CacheWrite, self.cache_write),
            (Class::CacheWriteLong, self.cache_write_long),
            (Class::Output, self.output.left_after(self.reasoning)),
            (Class::Reasoning, self.reasoning),
            (Class::Other, self.other),
        ]
    }

    /// All input, cached and written included: what context tiers are judged by.
    #[must_use]
    pub fn input_total(&self) -> Tokens {
        self.input.plus(self.cache_read).plus(self.cache_write).plus(self.cache_write_long)
    }

    /// Every token, once.
    #[must_use]
    pub fn total(&self) -> Tokens {
        self.classes().into_iter().map(|(_, count)| count).sum()
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
            other: self.other.plus(other.other),
            fees: self.fees.plus(other.fees),
        }
    }
}

/// Something that is billed by the piece, beside the tokens of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fee {
    /// A search of the provider's own.
    WebSearch,
    /// A page that the provider fetched.
    WebFetch,
    /// An answer grounded in maps.
    Maps,
    /// A container that ran code.
    Container,
    /// A unit that we don't know. It has never a price.
    Other,
}

impl Fee {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::WebSearch, Self::WebFetch, Self::Maps, Self::Container, Self::Other];

    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSearch => "web_search",
            Self::WebFetch => "web_fetch",
            Self::Maps => "maps",
            Self::Container => "container",
            Self::Other => "other",
        }
    }
}

/// How many of each [`Fee`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fees {
    /// Searches.
    #[serde(skip_serializing_if = "is_zero")]
    pub web_search: u32,
    /// Fetched pages.
    #[serde(skip_serializing_if = "is_zero")]
    pub web_fetch: u32,
    /// Answers grounded in maps.
    #[serde(skip_serializing_if = "is_zero")]
    pub maps: u32,
    /// Containers.
    #[serde(skip_serializing_if = "is_zero")]
    pub container: u32,
    /// Units that we don't know.
    #[serde(skip_serializing_if = "is_zero")]
    pub other: u32,
}

impl Fees {
    /// None at all.
    pub const NONE: Self = Self { web_search: 0, web_fetch: 0, maps: 0, container: 0, other: 0 };

    /// How many of one.
    #[must_use]
    pub const fn of(self, fee: Fee) -> u32 {
        match fee {
            Fee::WebSearch => self.web_search,
            Fee::WebFetch => self.web_fetch,
            Fee::Maps => self.maps,
            Fee::Container => self.container,
            Fee::Other => self.other,
        }
    }

    /// The same with so many of one.
    #[must_use]
    pub const fn with(mut self, fee: Fee, count: u32) -> Self {
        match fee {
            Fee::WebSearch => self.web_search = count,
            Fee::WebFetch => self.web_fetch = count,
            Fee::Maps => self.maps = count,
            Fee::Container => self.container = count,
            Fee::Other => self.other = count,
        }
        self
    }

    /// True for none at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// The sum, each for itself; at most `u32::MAX`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let add = |sum: Self, fee: Fee| sum.with(fee, self.of(fee).saturating_add(other.of(fee)));
        Fee::ALL.into_iter().fold(Self::NONE, add)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Two counts of a provider that contradict each other. The usage beside it is what could be sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mismatch {
    /// The count that doesn't fit, by the provider's name for it, such as `total_tokens`.
    pub what: String,
    /// What the classes come to.
    pub counted: Tokens,
    /// What the provider says.
    pub told: Tokens,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {} and the classes come to {}", self.what, self.told, self.counted)
    }
}

/// A provider's counts on their way into classes. The first contradiction is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The classes so far.
    pub usage: Usage,
    /// What doesn't fit.
    pub mismatch: Option<Mismatch>,
}

impl Tally {
    /// What is left of a whole after its parts; nothing, and a mismatch, where the parts are more. `what` names the whole.
    pub fn rest(&mut self, what: &str, whole: Tokens, parts: &[Tokens]) -> Tokens {
        let sum = parts.iter().copied().sum();
        if sum > whole {
            self.note(what, sum, whole);
        }
        whole.left_after(sum)
    }

    /// A part of a whole that is counted within it; all of it, and a mismatch, where the part is more. `what` names the part.
    pub fn part(&mut self, what: &str, part: Tokens, whole: Tokens) -> Tokens {
        if part > whole {
            self.note(what, whole, part);
        }
        part.min(whole)
    }

    /// Two names of one count: the larger, and a mismatch where they differ.
    pub fn same(&mut self, what: &str, counted: Tokens, told: Option<Tokens>) -> Tokens {
        let told = told.unwrap_or(counted);
        if told != counted {
            self.note(what, counted, told);
        }
        told.max(counted)
    }

    /// Holds the sum of the classes against the provider's own, where it gives one.
    pub fn hold_against(&mut self, what: &str, total: Option<Tokens>) {
        let counted = self.usage.total();
        if let Some(told) = total.filter(|told| *told != counted) {
            self.note(what, counted, told);
        }
    }

    fn note(&mut self, what: &str, counted: Tokens, told: Tokens) {
        self.mismatch.get_or_insert_with(|| Mismatch { what: what.to_owned(), counted, told });
    }
}

/// A count that no call can have, or that is none: negative, broken, text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbelievable;

/// A count as a provider sends it: `None` where it is missing or null.
///
/// # Errors
/// What is no whole number, or above [`Tokens::BELIEVED_MAX`].
pub fn believed(value: Option<&Value>) -> Result<Option<Tokens>, Unbelievable> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let count = value.as_u64().map(Tokens).filter(|count| *count <= Tokens::BELIEVED_MAX);
            count.map(Some).ok_or(Unbelievable)
        }
    }
}

/// How JSON shows a [`Usage`]. Fields that came later are left out where they say nothing.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Usage")]
struct Told {
    input: Tokens,
    cache_read: Tokens,
    cache_write: Tokens,
    #[serde(default)]
    cache_write_long: Tokens,
    output: Tokens,
    reasoning: Tokens,
    #[serde(default, skip_serializing_if = "is_none")]
    other: Tokens,
    #[serde(default, skip_serializing_if = "Fees::is_none")]
    fees: Fees,
}

/// How records that don't describe themselves hold a [`Usage`]: as they did before there were other classes, which the
/// rollups, their only holder, keep behind the row.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Usage")]
struct Plain {
    input: Tokens,
    cache_read: Tokens,
    cache_write: Tokens,
    cache_write_long: Tokens,
    output: Tokens,
    reasoning: Tokens,
    #[serde(skip)]
    other: Tokens,
    #[serde(skip)]
    fees: Fees,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_none(count: &Tokens) -> bool {
    *count == Tokens::ZERO
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Told::serialize(self, serializer)
        } else {
            Plain::serialize(self, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Told::deserialize(deserializer)
        } else {
            Plain::deserialize(deserializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        Usage {
            input: Tokens(100),
            cache_read: Tokens(20),
            cache_write: Tokens(3),
            cache_write_long: Tokens(4),
            output: Tokens(50),
            reasoning: Tokens(30),
            other: Tokens(1),
            fees: Fees::NONE.with(Fee::WebSearch, 2),
        }
    }

    #[test]
    fn no_token_is_in_two_classes() {
        assert_eq!(usage().total(), Tokens(178));
        assert_eq!(usage().input_total(), Tokens(127));
        let classes = usage().classes().map(|(class, count)| (class.name(), count.0));
        assert_eq!(classes[4..], [("output", 20), ("reasoning", 30), ("other", 1)]);
        let twice = usage().plus(&usage());
        assert_eq!((twice.total(), twice.other, twice.fees.of(Fee::WebSearch)), (Tokens(356), Tokens(2), 4));
    }

    #[test]
    fn usage_of_older_logs_reads_back_and_new_fields_stay_out_where_they_say_nothing() {
        let old = r#"{"input":100,"cache_read":0,"cache_write":0,"output":20,"reasoning":0}"#;
        let read: Usage = serde_json::from_str(old).expect("version 1");
        assert_eq!(read, Usage { input: Tokens(100), output: Tokens(20), ..Usage::default() });
        let text = serde_json::to_string(&read).expect("JSON");
        assert!(!text.contains("other") && !text.contains("fees"), "{text}");
        let whole = serde_json::to_string(&usage()).expect("JSON");
        assert_eq!(serde_json::from_str::<Usage>(&whole).expect("it reads back"), usage());
    }

    #[test]
    fn small_records_stay_as_they_were() {
        let plain = Usage { other: Tokens::ZERO, fees: Fees::NONE, ..usage() };
        let bytes = postcard::to_stdvec(&usage()).expect("bytes");
        assert_eq!(bytes, [100, 20, 3, 4, 50, 30]);
        assert_eq!(postcard::from_bytes::<Usage>(&bytes).expect("it reads"), plain);
    }

    #[test]
    fn what_contradicts_itself_is_noted_once_and_never_below_zero() {
        let mut tally = Tally::default();
        assert_eq!(tally.rest("prompt_tokens", Tokens(10), &[Tokens(4), Tokens(6)]), Tokens(0));
        assert_eq!(tally.part("reasoning_tokens", Tokens(5), Tokens(5)), Tokens(5));
        assert_eq!(tally.same("prompt_cache_hit_tokens", Tokens(5), None), Tokens(5));
        tally.usage = usage();
        tally.hold_against("total_tokens", Some(Tokens(178)));
        tally.hold_against("total_tokens", None);
        assert_eq!(tally.mismatch, None);
        assert_eq!(tally.rest("prompt_tokens", Tokens(10), &[Tokens(11)]), Tokens(0));
        let first = Mismatch { what: "prompt_tokens".into(), counted: Tokens(11), told: Tokens(10) };
        assert_eq!(tally.mismatch.as_ref(), Some(&first));
        assert_eq!(tally.part("reasoning_tokens", Tokens(6), Tokens(5)), Tokens(5));
        assert_eq!(tally.same("hits", Tokens(5), Some(Tokens(7))), Tokens(7));
        tally.hold_against("total_tokens", Some(Tokens(1)));
        assert_eq!(tally.mismatch, Some(first));
    }

    #[test]
    fn counts_are_whole_and_believable_or_none() {
        use serde_json::json;
        assert_eq!(believed(None), Ok(None));
        assert_eq!(believed(Some(&Value::Null)), Ok(None));
        assert_eq!(believed(Some(&json!(7))), Ok(Some(Tokens(7))));
        for bad in [json!(-1), json!(1.0), json!("7"), json!(1_000_000_001_u64), json!([])] {
            assert_eq!(believed(Some(&bad)), Err(Unbelievable), "{bad}");
        }
    }
}
