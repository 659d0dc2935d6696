//! Which beginnings of a request a provider is asked to keep for later requests.

use serde::{Deserialize, Serialize};

/// The most marks of one request; what every wire that knows marks takes (PROVIDERS §1, §3).
pub const CACHE_MARKS_MAX: usize = 4;

/// What a provider is asked to keep: each mark stands for the request from its beginning up to there. A wire that has no such
/// marks sends none, and one that takes fewer sends the last ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMarks {
    /// How long at least.
    pub ttl: CacheTtl,
    /// Where the beginnings end, the shortest first; at least one, and [`CACHE_MARKS_MAX`] at most.
    pub ends: Vec<CacheEnd>,
}

impl CacheMarks {
    /// True where the beginning up to and with the message of this index is asked to be kept.
    #[must_use]
    pub fn after_message(&self, index: usize) -> bool {
        self.ends.contains(&CacheEnd::Message(index))
    }

    /// True where the tool definitions are asked to be kept for themselves.
    #[must_use]
    pub fn after_tools(&self) -> bool {
        self.ends.contains(&CacheEnd::Tools)
    }
}

/// How long a beginning is kept. What a provider calls it is its wire's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheTtl {
    /// 5 minutes (Anthropic) or 30 minutes (OpenAI).
    #[default]
    Short,
    /// 1 hour (Anthropic) or 12 hours (OpenAI Responses); the shorter where a wire has no longer one.
    Long,
}

impl CacheTtl {
    /// True for the shorter time.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        matches!(self, Self::Short)
    }
}

/// Where a beginning ends that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheEnd {
    /// After the tool definitions: for requests without a system text.
    Tools,
    /// After the message of this index, tool definitions and all messages before it included.
    Message(usize),
}
