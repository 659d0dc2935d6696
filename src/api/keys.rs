//! Keys: made, listed, rotated and revoked, each with who and why in the audit log.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{new_id, text_of};
use super::act::ActRequest;
use super::error::ApiError;
use super::service::Service;
use crate::domain::access::{Key, KeyMade, KeyRevoked, KeyRotated, Keys, Scope};
use crate::domain::audit::{Act, Change, NAME_CHARS_MAX};
use crate::domain::event::Labels;
use crate::domain::label;
use crate::store::Store;
use crate::units::Timestamp;

/// The body of `POST /v1/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Whose it is.
    pub name: String,
    /// What it lets do.
    pub scopes: BTreeSet<Scope>,
    /// The labels that it is bound to: its runs get them, and it sees no others.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Who makes it; a key's own name counts where there is a key.
    #[serde(default)]
    pub by: String,
    /// Why; it is kept in the audit log.
    pub reason: String,
}

/// A key, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRow {
    /// What it is called by.
    pub key: String,
    /// Whose it is.
    pub name: String,
    /// What it lets do.
    pub scopes: BTreeSet<Scope>,
    /// The labels that it is bound to.
    pub labels: Labels,
    /// When it was made.
    pub made: String,
    /// Who made it.
    pub by: String,
    /// When its text was changed last.
    pub rotated: Option<String>,
    /// When it was revoked.
    pub revoked: Option<String>,
}

impl From<&Key> for KeyRow {
    fn from(key: &Key) -> Self {
        let made = &key.made;
        let shown = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            key: made.id.clone(),
            name: made.name.clone(),
            scopes: made.scopes.clone(),
            labels: made.labels.clone(),
            made: key.at.to_string(),
            by: key.by.to_string(),
            rotated: shown(key.rotated),
            revoked: shown(key.revoked),
        }
    }
}

/// Keys, the newest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyPage {
    /// All that were ever made.
    pub keys: Vec<KeyRow>,
}

/// A key with its text, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewKey {
    /// What is sent as `Authorization: Bearer …`.
    pub secret: String,
    /// All else of it.
    #[serde(flatten)]
    pub row: KeyRow,
}

impl Service {
    /// All keys.
    ///
    /// # Errors
    /// The caller is bound to labels, or the audit log can't be read.
    pub async fn keys(&self) -> Result<KeyPage, ApiError> {
        self.caller().is_unbound()?;
        self.read(|books| {
            let keys = keys(books.store())?;
            let mut found: Vec<&Key> = keys.iter().collect();
            found.sort_by_key(|key| key.at);
            Ok(KeyPage { keys: found.into_iter().map(KeyRow::from).collect() })
        })
        .await
    }

    /// Makes a key.
    ///
    /// # Errors
    /// The caller is bound to labels, the request can't be understood, or the store can't write.
    pub async fn make_key(&self, request: &KeyRequest) -> Result<NewKey, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        if request.name.trim().is_empty() || request.name.chars().count() > NAME_CHARS_MAX {
            let message = format!("a key's name has 1 to {NAME_CHARS_MAX} characters; say whose it is");
            return Err(ApiError::BadRequest(message));
        }
        if request.scopes.is_empty() {
            let message = "a key without scopes lets do nothing; give it some of run, read, approve and admin";
            return Err(ApiError::BadRequest(message.to_owned()));
        }
        label::judge(&request.labels).map_err(|fault| ApiError::BadRequest(fault.to_string()))?;
        let id = new_id()?;
        let (secret, hash) = text_of(&id)?;
        let KeyRequest { name, scopes, labels, .. } = request.clone();
        let reason = Some(act.reason().to_owned());
        let made = KeyMade { id: id.clone(), name, scopes, labels, hash, reason };
        self.change(&act, Change::KeyMade(made)).await?;
        Ok(NewKey { secret, row: self.row(&id).await? })
    }

    /// Gives a key another text; the old one counts no more.
    ///
    /// # Errors
    /// As [`Self::make_key`]; or there is no such key.
    pub async fn rotate_key(&self, id: &str, request: &ActRequest) -> Result<NewKey, ApiError> {
        let act = self.act_on(id, request).await?;
        let (secret, hash) = text_of(id)?;
        let rotated = KeyRotated { id: id.to_owned(), hash, reason: Some(act.reason().to_owned()) };
        self.change(&act, Change::KeyRotated(rotated)).await?;
        Ok(NewKey { secret, row: self.row(id).await? })
    }

    /// Has a key count no more, for good.
    ///
    /// # Errors
    /// As [`Self::rotate_key`].
    pub async fn revoke_key(&self, id: &str, request: &ActRequest) -> Result<KeyRow, ApiError> {
        let act = self.act_on(id, request).await?;
        let revoked = KeyRevoked { id: id.to_owned(), reason: act.reason().to_owned() };
        self.change(&act, Change::KeyRevoked(revoked)).await?;
        self.row(id).await
    }

    async fn act_on(&self, id: &str, request: &ActRequest) -> Result<Act, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        if self.row(id).await?.revoked.is_some() {
            return Err(no_such(id));
        }
        Ok(act)
    }

    /// Notes a change of keys, and has it count. Whoever hangs up meanwhile, or a store that is slow, leaves no key that
    /// counts otherwise than the log says.
    async fn change(&self, act: &Act, change: Change) -> Result<(), ApiError> {
        let (store, keeper, by) = (self.runtime().store().clone(), self.gatekeeper().clone(), act.by());
        let changed = async move {
            store.note(by, change).await?;
            let counts = tokio::task::spawn_blocking(move || keeper.refresh(&store));
            Ok(counts.await.map_err(|error| ApiError::Task(error.to_string()))??)
        };
        self.runtime().beside(changed).await?
    }

    async fn row(&self, id: &str) -> Result<KeyRow, ApiError> {
        let id = id.to_owned();
        self.read(move |books| {
            let keys = keys(books.store())?;
            let found = keys.iter().find(|key| key.made.id == id).map(KeyRow::from);
            found.ok_or_else(|| no_such(&id))
        })
        .await
    }
}

fn no_such(id: &str) -> ApiError {
    ApiError::NoSuchKey(id.escape_debug().take(64).collect())
}

fn keys(store: &Store) -> Result<Keys, ApiError> {
    let mut keys = Keys::default();
    store.audit(&mut |entry| keys.apply(&entry))?;
    Ok(keys)
}
