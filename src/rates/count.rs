//! One `[[rates]]` of the project, live: its buckets, and how many calls are out, by value.

use std::collections::BTreeMap;

use super::bucket::Bucket;
use crate::domain::limits::Refusal;
use crate::domain::rate::{CallTokens, RateKind, RateLimit};
use crate::units::{Timestamp, grouped};

/// A limit and its counts.
pub(super) struct Count {
    pub(super) limit: RateLimit,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// Calls that are out, by value; a value without any isn't there.
    out: BTreeMap<String, u32>,
}

impl Count {
    pub(super) fn new(limit: RateLimit, now: Timestamp) -> Self {
        let bucket = |limit: Option<_>| limit.map(|limit| Bucket::new(limit, now));
        Self { requests: bucket(limit.requests), tokens: bucket(limit.tokens), out: BTreeMap::new(), limit }
    }

    /// What it counts.
    pub(super) fn kinds(&self) -> impl Iterator<Item = RateKind> + '_ {
        RateKind::ALL.into_iter().filter(|kind| self.limit.limit(*kind).is_some())
    }

    /// What is in a call's way, if something is, and when it is out of it.
    pub(super) fn blocks(
        &self,
        kind: RateKind,
        value: &str,
        tokens: CallTokens,
        now: Timestamp,
    ) -> Option<(Refusal, Option<Timestamp>)> {
        let until = match kind {
            RateKind::Concurrent => {
                let most = self.limit.concurrent?.get();
                (self.out(value) >= most).then_some(None)?
            }
            RateKind::Requests => Some(self.requests.as_ref()?.ready_at(value, 1, now)?),
            RateKind::Tokens => Some(self.tokens.as_ref()?.ready_at(value, tokens.sum(), now)?),
        };
        Some((self.refusal(kind, value, tokens, until.map(|until| until.since(now).to_string())), until))
    }

    fn refusal(&self, kind: RateKind, value: &str, tokens: CallTokens, ready: Option<String>) -> Refusal {
        let ready = ready.map_or_else(|| "all are out".to_owned(), |wait| format!("there in {wait}"));
        let observed = match kind {
            RateKind::Tokens => format!("{} asked, {ready}", grouped(tokens.sum())),
            RateKind::Requests | RateKind::Concurrent => ready,
        };
        Refusal {
            limit: kind.limit(),
            subject: Some(self.limit.subject(value)),
            value: self.limit.limit(kind).map_or_else(String::new, |limit| grouped(limit.get().into())),
            observed,
            declared: self.limit.declared.clone(),
        }
    }

    pub(super) fn take(&mut self, value: &str, tokens: CallTokens, now: Timestamp) {
        if let Some(requests) = &self.requests {
            requests.take(value, 1, now);
        }
        if let Some(bucket) = &self.tokens {
            bucket.take(value, tokens.sum(), now);
        }
        if self.limit.concurrent.is_some() {
            *self.out.entry(value.to_owned()).or_default() += 1;
        }
    }

    /// A call that took `taken` is over.
    pub(super) fn done(&mut self, value: &str, taken: CallTokens, used: &super::Used, now: Timestamp) {
        if let Some(out) = self.out.get_mut(value) {
            *out = out.saturating_sub(1);
            if *out == 0 {
                self.out.remove(value);
            }
        }
        if let Some(requests) = self.requests.as_ref().filter(|_| !used.sent) {
            requests.refund(value, 1);
        }
        let (Some(bucket), Some(tokens)) = (&self.tokens, used.tokens) else { return };
        match tokens.sum().checked_sub(taken.sum()) {
            None => bucket.refund(value, taken.sum() - tokens.sum()),
            Some(more) => bucket.owe_more(value, more, now),
        }
    }

    pub(super) fn out(&self, value: &str) -> u32 {
        self.out.get(value).copied().unwrap_or_default()
    }

    /// What may go at once now: calls, or tokens.
    pub(super) fn free(&self, kind: RateKind, value: &str, now: Timestamp) -> u64 {
        match kind {
            RateKind::Requests => self.requests.as_ref().map_or(0, |bucket| bucket.free(value, now)),
            RateKind::Tokens => self.tokens.as_ref().map_or(0, |bucket| bucket.free(value, now)),
            RateKind::Concurrent => {
                self.limit.concurrent.map_or(0, |most| most.get().saturating_sub(self.out(value)).into())
            }
        }
    }

    /// The values that aren't as if they had never been used.
    pub(super) fn values(&self, now: Timestamp) -> std::collections::BTreeSet<String> {
        let buckets = self.requests.iter().chain(&self.tokens).flat_map(|bucket| bucket.values(now));
        buckets.chain(self.out.keys().cloned()).collect()
    }

    pub(super) fn retain_recent(&self, now: Timestamp) {
        self.requests.iter().chain(&self.tokens).for_each(|bucket| bucket.retain_recent(now));
    }
}
