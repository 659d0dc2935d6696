//! Rate limits: how many calls and tokens may go out in a minute and how many calls at once, by provider, model, account and
//! any label; and what a provider itself says is left ([`OwnLimits`]).
//!
//! Pure data and arithmetic: times come in as arguments. Deliberately absent: the buckets themselves and whoever waits for
//! them (`crate::rates`).

mod own;

pub use own::{Measure, OwnLimits, ToldRates, ToldWindow};

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::domain::event::Labels;
use crate::domain::limits::{Declared, LimitKind};
use crate::ids::{AccountName, ModelName};

/// What stands for a provider's own key, where none of its accounts was chosen.
pub const OWN_KEY: &str = "default";
/// Scope words that aren't labels of the run.
pub const CALL_WORDS: [&str; 3] = ["provider", "model", "account"];

/// One `[[rates]]` of `plimsoll.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What a call must be to count here: `provider`, `model`, `account`, and labels of its run. Every call, where empty.
    pub scope: BTreeMap<String, String>,
    /// What has a count of its own for each value.
    pub each: Vec<String>,
    /// Calls in a minute.
    pub requests: Option<NonZeroU32>,
    /// Tokens in a minute, input and output.
    pub tokens: Option<NonZeroU32>,
    /// Calls at once.
    pub concurrent: Option<NonZeroU32>,
    /// Where it was declared.
    pub declared: Declared,
}

/// A model call, as far as rates look at it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The model.
    pub model: &'a ModelName,
    /// The account of its provider; `None` for the provider's own key.
    pub account: Option<&'a AccountName>,
    /// The labels of its run.
    pub labels: &'a Labels,
}

impl Caller<'_> {
    /// A label that a run doesn't have is empty: such runs share a count.
    fn value(&self, word: &str) -> String {
        match word {
            "provider" => self.model.provider().to_string(),
            "model" => self.model.to_string(),
            "account" => self.account.map_or(OWN_KEY, AccountName::as_str).to_owned(),
            label => self.labels.get(label).cloned().unwrap_or_default(),
        }
    }
}

impl RateLimit {
    /// Which count of it a call counts on: the values of `each`, as `model=openai/gpt-5,tenant=acme`; `None` where it
    /// doesn't count here at all.
    #[must_use]
    pub fn count_of(&self, caller: &Caller<'_>) -> Option<String> {
        if self.scope.iter().any(|(word, value)| caller.value(word) != *value) {
            return None;
        }
        let values: Vec<String> = self.each.iter().map(|word| format!("{word}={}", caller.value(word))).collect();
        Some(values.join(","))
    }

    /// What it is for, in words: `openai`, `openai, tenant=acme`, `all models`.
    #[must_use]
    pub fn subject(&self, count: &str) -> String {
        let scope = self.scope.iter().map(|(word, value)| match word.as_str() {
            "provider" | "model" => value.clone(),
            word => format!("{word}={value}"),
        });
        let words: Vec<String> = scope.chain((!count.is_empty()).then(|| count.replace(',', ", "))).collect();
        if words.is_empty() { "all models".to_owned() } else { words.join(", ") }
    }

    /// One of its limits, where it has that one.
    #[must_use]
    pub const fn limit(&self, kind: RateKind) -> Option<NonZeroU32> {
        match kind {
            RateKind::Requests => self.requests,
            RateKind::Tokens => self.tokens,
            RateKind::Concurrent => self.concurrent,
        }
    }
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RateKind {
    /// Calls in a minute.
    Requests,
    /// Tokens in a minute.
    Tokens,
    /// Calls at once.
    Concurrent,
}

impl RateKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Concurrent];

    /// The limit that it is.
    #[must_use]
    pub const fn limit(self) -> LimitKind {
        match self {
            Self::Requests => LimitKind::RequestsPerMinute,
            Self::Tokens => LimitKind::TokensPerMinute,
            Self::Concurrent => LimitKind::Concurrent,
        }
    }

    /// What it counts, in words.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Requests => "requests/min",
            Self::Tokens => "tokens/min",
            Self::Concurrent => "calls at once",
        }
    }
}

/// The most tokens of one call, or those that it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTokens {
    /// Of the input.
    pub input: u64,
    /// Of the output.
    pub output: u64,
}

impl CallTokens {
    /// Both.
    #[must_use]
    pub const fn sum(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(scope: &[(&str, &str)], each: &[&str]) -> RateLimit {
        RateLimit {
            scope: scope.iter().map(|(word, value)| ((*word).to_owned(), (*value).to_owned())).collect(),
            each: each.iter().map(|word| (*word).to_owned()).collect(),
            requests: None,
            tokens: NonZeroU32::new(60_000),
            concurrent: None,
            declared: Declared::Default,
        }
    }

    #[test]
    fn a_call_counts_where_the_scope_is_its_own_and_by_each_value() {
        let (model, account) = (ModelName::from("openai/gpt-5-mini"), AccountName::from("acme"));
        let labels = Labels::from([("tenant".to_owned(), "acme".to_owned())]);
        let caller = Caller { model: &model, account: Some(&account), labels: &labels };
        let count = |scope: &[(&str, &str)], each: &[&str]| rate(scope, each).count_of(&caller);
        assert_eq!(count(&[], &[]).as_deref(), Some(""));
        assert_eq!(
            count(&[("provider", "openai")], &["model", "tenant"]).as_deref(),
            Some("model=openai/gpt-5-mini,tenant=acme")
        );
        assert_eq!(count(&[("model", "openai/gpt-5-mini"), ("account", "acme")], &[]).as_deref(), Some(""));
        assert_eq!(count(&[("provider", "anthropic")], &[]), None);
        assert_eq!(count(&[("tenant", "other")], &[]), None);
        assert_eq!(count(&[], &["user"]).as_deref(), Some("user="), "runs without the label share a count");
        let own = Caller { account: None, ..caller };
        assert_eq!(rate(&[("account", "default")], &["account"]).count_of(&own).as_deref(), Some("account=default"));
    }

    #[test]
    fn what_it_is_for_is_said_in_words() {
        let of = |scope: &[(&str, &str)], count: &str| rate(scope, &[]).subject(count);
        assert_eq!(of(&[], ""), "all models");
        assert_eq!(of(&[("provider", "openai"), ("feature", "support")], ""), "feature=support, openai");
        assert_eq!(of(&[("provider", "openai")], "model=openai/a,tenant=b"), "openai, model=openai/a, tenant=b");
    }
}
