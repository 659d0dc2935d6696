//! Who asks over the network: judged by key, once for each request.
//!
//! Invariants: a key's text is compared by its hash, in a time that doesn't tell how much of it is right; a key that is bound
//! to labels makes runs with them and sees no others, nor learns that others exist.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use super::error::ApiError;
use crate::domain::access::{Key, Keys, Scope};
use crate::domain::event::Labels;
use crate::store::{Store, StoreError};
use crate::units::{Millis, Timestamp};

/// What every key begins with, so that it is known where one is found.
const PREFIX: &str = "plim";
/// Random bytes of a key's id.
const ID_BYTES: usize = 6;
/// Random bytes of its secret.
const SECRET_BYTES: usize = 32;
/// Failures of one address within [`FAILURE_TIME`] after which it isn't heard.
const FAILURES_MAX: u32 = 20;
/// How long failures count.
const FAILURE_TIME: Millis = Millis::from_secs(60);
/// Addresses whose failures are kept; those beyond share one.
const ADDRESSES_MAX: usize = 4_096;

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `None` for the user of this machine, who may do everything.
    key: Option<Arc<Key>>,
}

impl Caller {
    /// The user of this machine.
    #[must_use]
    pub const fn local() -> Self {
        Self { key: None }
    }

    /// The name of its key, and the id; `None` for the user of this machine.
    #[must_use]
    pub fn key(&self) -> Option<(&str, &str)> {
        self.key.as_ref().map(|key| (key.made.name.as_str(), key.made.id.as_str()))
    }

    /// The labels that it is bound to.
    #[must_use]
    pub fn labels(&self) -> Option<&Labels> {
        self.key.as_ref().map(|key| &key.made.labels).filter(|labels| !labels.is_empty())
    }

    /// The id of its key, where it has one.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.made.id.as_str())
    }

    /// Who it is: its key's own name, else the one that it gives.
    #[must_use]
    pub fn named(&self, given: &str) -> String {
        self.key.as_ref().map_or(given, |key| &key.made.name).trim().to_owned()
    }

    /// True where it may see what has these labels.
    #[must_use]
    pub fn sees(&self, labels: &Labels) -> bool {
        self.labels().is_none_or(|own| own.iter().all(|(name, value)| labels.get(name) == Some(value)))
    }

    /// Looks whether it may do something.
    ///
    /// # Errors
    /// It may not.
    pub fn may(&self, scope: Scope) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        if key.made.scopes.contains(&scope) || key.made.scopes.contains(&Scope::Admin) {
            return Ok(());
        }
        Err(ApiError::Scope(scope))
    }

    /// Looks whether it may see what is everybody's.
    ///
    /// # Errors
    /// It is bound to labels.
    pub fn is_unbound(&self) -> Result<(), ApiError> {
        if self.labels().is_none() { Ok(()) } else { Err(ApiError::Bound) }
    }

    /// The caller's own key of a request, kept apart from those of others.
    #[must_use]
    pub fn own_key(&self, key: &str) -> String {
        let Some(labels) = self.labels() else { return key.to_owned() };
        // So that no other caller's labels and key read the same.
        let escaped = |value: &str| value.replace('%', "%25").replace(',', "%2C").replace('/', "%2F");
        let bound: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        format!("{}/{key}", bound.join(","))
    }

    /// The labels of a new run: its own, and those that were given.
    ///
    /// # Errors
    /// One that was given contradicts its own.
    pub fn label(&self, mut given: Labels) -> Result<Labels, ApiError> {
        for (name, value) in self.labels().into_iter().flatten() {
            if given.insert(name.clone(), value.clone()).is_some_and(|given| given != *value) {
                return Err(ApiError::BoundLabel(name.clone()));
            }
        }
        Ok(given)
    }
}

/// Knows the keys. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Gatekeeper {
    keys: Arc<RwLock<Keys>>,
    failures: Arc<Mutex<BTreeMap<IpAddr, (Timestamp, u32)>>>,
}

impl Gatekeeper {
    /// Reads the keys of a store anew.
    ///
    /// # Errors
    /// The audit log can't be read.
    pub fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        // Held while the log is read: who read it earlier can't set what they read later.
        let mut kept = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut keys = Keys::default();
        store.audit(&mut |entry| keys.apply(&entry))?;
        *kept = keys;
        drop(kept);
        Ok(())
    }

    /// True where nobody asks without a key.
    #[must_use]
    pub fn asks_for_keys(&self) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).are_asked_for()
    }

    /// Who asks, by the `Authorization` of a request.
    ///
    /// # Errors
    /// No key, one that doesn't count, or too many such from this address.
    pub(super) fn admit(&self, headers: &HeaderMap, from: IpAddr, now: Timestamp) -> Result<Caller, ApiError> {
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.admit_key(text.strip_prefix("Bearer ").unwrap_or_default().trim(), from, now)
    }

    /// Who asks, by the text of a key.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(crate) fn admit_key(&self, text: &str, from: IpAddr, now: Timestamp) -> Result<Caller, ApiError> {
        if !self.asks_for_keys() {
            return Ok(Caller::local());
        }
        // A right key is let in whatever others at its address do: behind a proxy all come from one.
        if let Some(key) = self.find(text) {
            return Ok(Caller { key: Some(Arc::new(key)) });
        }
        if text.is_empty() {
            return Err(ApiError::NoKey);
        }
        self.heed_failures(from, now)?;
        self.count_failure(from, now);
        Err(ApiError::WrongKey)
    }

    /// True where whoever was let in once still would be: their key wasn't revoked or rotated since.
    pub(crate) fn still_admits(&self, caller: &Caller) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = &caller.key else { return !keys.are_asked_for() };
        keys.find(&key.made.id).is_some_and(|now| now.made.hash == key.made.hash)
    }

    fn find(&self, text: &str) -> Option<Key> {
        let id =
            text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')?.split('_').next()).unwrap_or_default();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.find(id);
        // Who names no key is compared too, and takes as long.
        let expected = key.map_or("", |key| key.made.hash.as_str());
        let hash = hash(text);
        let is_right = verify_slices_are_equal(hash.as_bytes(), expected.as_bytes()).is_ok();
        key.filter(|_| is_right).cloned()
    }

    fn heed_failures(&self, from: IpAddr, now: Timestamp) -> Result<(), ApiError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = failures.get(&counted_at(&failures, from)).copied().unwrap_or_default();
        let left = FAILURE_TIME.0.saturating_sub(now.since(since).0);
        if count >= FAILURES_MAX && left > 0 {
            return Err(ApiError::Failures { retry_after: left.div_ceil(1_000) });
        }
        Ok(())
    }

    fn count_failure(&self, from: IpAddr, now: Timestamp) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| now.since(*since) < FAILURE_TIME);
        let place = counted_at(&failures, from);
        let (_, count) = failures.entry(place).or_insert((now, 0));
        *count = count.saturating_add(1);
    }
}

/// Where failures from an address are counted: those of many addresses share a place.
fn counted_at(failures: &BTreeMap<IpAddr, (Timestamp, u32)>, from: IpAddr) -> IpAddr {
    if failures.len() < ADDRESSES_MAX || failures.contains_key(&from) { from } else { IpAddr::from([0, 0, 0, 0]) }
}

/// The text of a key, and its hash, under an id.
///
/// # Errors
/// The system gives no random bytes.
pub(super) fn text_of(id: &str) -> Result<(String, String), ApiError> {
    let text = format!("{PREFIX}_{id}_{}", random::<SECRET_BYTES>()?);
    let hash = hash(&text);
    Ok((text, hash))
}

/// An id for a new key.
///
/// # Errors
/// The system gives no random bytes.
pub(super) fn new_id() -> Result<String, ApiError> {
    random::<ID_BYTES>()
}

/// Random bytes, as hexadecimal digits.
///
/// # Errors
/// The system gives none.
pub(crate) fn random<const BYTES: usize>() -> Result<String, ApiError> {
    let mut bytes = [0_u8; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ApiError::Task("the system gives no random bytes".to_owned()))?;
    Ok(hex(&bytes))
}

/// SHA-256 of a text, as hexadecimal digits.
pub(crate) fn hash(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::{KeyMade, KeyRevoked};
    use crate::domain::audit::{AuditEntry, Author, Change};

    fn keeper(scopes: &[Scope], labels: &[(&str, &str)]) -> (Gatekeeper, String) {
        let id = new_id().expect("an id");
        let (text, hash) = text_of(&id).expect("a key");
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let made = KeyMade {
            id,
            name: "web".to_owned(),
            scopes: scopes.iter().copied().collect(),
            labels,
            hash,
            reason: None,
        };
        let keeper = Gatekeeper::default();
        keeper.keys.write().expect("whole").apply(&entry(0, Change::KeyMade(made)));
        (keeper, text)
    }

    fn entry(number: u64, change: Change) -> AuditEntry {
        AuditEntry { number, at: Timestamp(1), by: Author::Ledger, change }
    }

    fn asks(keeper: &Gatekeeper, text: &str, at: u64) -> Result<Caller, ApiError> {
        let mut headers = HeaderMap::new();
        if !text.is_empty() {
            headers.insert(header::AUTHORIZATION, format!("Bearer {text}").parse().expect("a header"));
        }
        keeper.admit(&headers, IpAddr::from([10, 0, 0, 1]), Timestamp(at))
    }

    #[test]
    fn only_the_whole_key_is_let_in_until_it_is_revoked() {
        let (keeper, text) = keeper(&[Scope::Read], &[]);
        let caller = asks(&keeper, &text, 1).expect("it is right");
        assert!(caller.may(Scope::Read).is_ok() && caller.may(Scope::Run).is_err());
        assert!(matches!(asks(&keeper, "", 1), Err(ApiError::NoKey)));
        for wrong in [&text[..text.len() - 1], &format!("{text}0"), &text.to_uppercase(), "plim", "plim_x_y"] {
            assert!(matches!(asks(&keeper, wrong, 1), Err(ApiError::WrongKey)), "{wrong}");
        }
        let id = text.split('_').nth(1).expect("an id").to_owned();
        let revoked = Change::KeyRevoked(KeyRevoked { id, reason: "lost".to_owned() });
        keeper.keys.write().expect("whole").apply(&entry(1, revoked));
        assert!(matches!(asks(&keeper, &text, 1), Err(ApiError::WrongKey)), "and nobody is let in without");
    }

    #[test]
    fn who_fails_often_is_not_heard_for_a_while() {
        let (keeper, text) = keeper(&[Scope::Read], &[]);
        for _ in 0..FAILURES_MAX {
            assert!(matches!(asks(&keeper, "plim_x_y", 1_000), Err(ApiError::WrongKey)));
        }
        assert!(matches!(asks(&keeper, "plim_x_y", 2_000), Err(ApiError::Failures { retry_after: 59 })));
        assert!(asks(&keeper, &text, 2_000).is_ok(), "others at its address, behind a proxy, don't lock it out");
        assert!(matches!(asks(&keeper, "", 2_000), Err(ApiError::NoKey)), "no key is no guess");
        assert!(matches!(asks(&keeper, "plim_x_y", 61_000), Err(ApiError::WrongKey)));
    }

    #[test]
    fn failures_beyond_many_addresses_are_counted_together() {
        let (keeper, _) = keeper(&[Scope::Read], &[]);
        let places = u32::try_from(ADDRESSES_MAX).expect("few") + FAILURES_MAX;
        let asks =
            |number: u32| keeper.admit_key("plim_x_y", IpAddr::from((1 << 24 | number).to_be_bytes()), Timestamp(1));
        assert!((0..places).all(|number| matches!(asks(number), Err(ApiError::WrongKey))));
        assert!(matches!(asks(places), Err(ApiError::Failures { .. })));
        assert!(matches!(asks(0), Err(ApiError::WrongKey)), "one that was counted before has its own place");
    }

    #[test]
    fn a_bound_key_sees_its_labels_only() {
        let (keeper, text) = keeper(&[Scope::Admin], &[("tenant", "acme")]);
        let caller = asks(&keeper, &text, 1).expect("it is right");
        let labels = |tenant: &str| Labels::from([("tenant".to_owned(), tenant.to_owned())]);
        assert!(caller.sees(&labels("acme")) && !caller.sees(&labels("other")) && !caller.sees(&Labels::new()));
        assert_eq!(caller.label(Labels::new()).expect("it fits"), labels("acme"));
        assert!(caller.label(labels("other")).is_err());
        assert_eq!(caller.own_key("k"), "tenant=acme/k");
        let (keeper, text) = self::keeper(&[Scope::Run], &[("tenant", "acme/k")]);
        assert_eq!(asks(&keeper, &text, 1).expect("it is right").own_key("x"), "tenant=acme%2Fk/x", "not acme's `k/x`");
    }
}
