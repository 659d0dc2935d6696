//! Who may ask the service for what: keys, what each may do, and for whom.
//!
//! The keys are what the audit log tells of them: an entry each time one is made, rotated or revoked. Invariants: a key's own
//! text is in no entry, only its hash; a revoked key never counts again.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, Author, Change};
use super::event::Labels;
use crate::units::Timestamp;

/// What a key lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Make runs, go on with them, and cancel them.
    Run,
    /// See runs, traces and costs.
    Read,
    /// Answer what runs ask.
    Approve,
    /// All of that, and keys.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Run, Self::Read, Self::Approve, Self::Admin];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Read => "read",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| "scopes are run, read, approve and admin".to_owned())
    }
}

/// A key was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMade {
    /// What it is called by, and begins with.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// What it lets do.
    pub scopes: BTreeSet<Scope>,
    /// The labels that it is bound to: its runs get them, and it sees no others.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// SHA-256 of its text.
    pub hash: String,
    /// Why, where somebody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A key has a new text; the old one counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// Which.
    pub id: String,
    /// SHA-256 of its new text.
    pub hash: String,
    /// Why, where somebody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A key counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// Which.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// A key, as the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// How it was made.
    pub made: KeyMade,
    /// When.
    pub at: Timestamp,
    /// Who made it.
    pub by: Author,
    /// When its text was changed last.
    pub rotated: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub struct Keys(BTreeMap<String, Key>);

impl Keys {
    /// Goes on to the next entry of the audit log.
    pub fn apply(&mut self, entry: &AuditEntry) {
        match &entry.change {
            Change::KeyMade(made) => {
                let key = Key { made: made.clone(), at: entry.at, by: entry.by.clone(), rotated: None, revoked: None };
                self.0.entry(made.id.clone()).or_insert(key);
            }
            Change::KeyRotated(rotated) => {
                if let Some(key) = self.0.get_mut(&rotated.id) {
                    key.made.hash.clone_from(&rotated.hash);
                    key.rotated = Some(entry.at);
                }
            }
            Change::KeyRevoked(revoked) => {
                if let Some(key) = self.0.get_mut(&revoked.id) {
                    key.revoked.get_or_insert(entry.at);
                }
            }
            Change::PriceFrozen(_)
            | Change::PriceUnfrozen(_)
            | Change::SwitchSet(_)
            | Change::SwitchLifted(_)
            | Change::ExceptionAsked(_)
            | Change::ExceptionApproved(_)
            | Change::ExceptionEnded(_)
            | Change::BodiesErased(_)
            | Change::BudgetChanged(_)
            | Change::PricesChanged(_) => {}
        }
    }

    /// A key that counts.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.get(id).filter(|key| key.revoked.is_none())
    }

    /// True where a key was ever made: then nobody asks without one, also once all are revoked.
    #[must_use]
    pub fn are_asked_for(&self) -> bool {
        !self.0.is_empty()
    }

    /// All that were ever made, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, change: Change) -> AuditEntry {
        AuditEntry { number, at: Timestamp(number), by: Author::Person("me".to_owned()), change }
    }

    #[test]
    fn a_key_counts_from_its_making_until_it_is_revoked() {
        let made = KeyMade {
            id: "k".to_owned(),
            name: "web".to_owned(),
            scopes: [Scope::Run].into(),
            labels: Labels::new(),
            hash: "old".to_owned(),
            reason: None,
        };
        let mut keys = Keys::default();
        assert!(!keys.are_asked_for());
        keys.apply(&entry(1, Change::KeyMade(made.clone())));
        keys.apply(&entry(
            2,
            Change::KeyRotated(KeyRotated { id: "k".to_owned(), hash: "new".to_owned(), reason: None }),
        ));
        assert_eq!(keys.find("k").map(|key| (key.made.hash.as_str(), key.rotated)), Some(("new", Some(Timestamp(2)))));
        keys.apply(&entry(3, Change::KeyRevoked(KeyRevoked { id: "k".to_owned(), reason: "lost".to_owned() })));
        keys.apply(&entry(4, Change::KeyMade(made)));
        assert!(keys.find("k").is_none() && keys.are_asked_for(), "the same id doesn't come back");
    }

    #[test]
    fn a_scope_reads_back() {
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert!("all".parse::<Scope>().is_err());
    }
}
