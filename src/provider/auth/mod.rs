//! Keys and tokens: where they come from, and how they stay out of everything that is shown or kept.
//!
//! Invariants: a key is read when it is needed, is never logged, and never part of a failure's message. One that costs time
//! to get is kept until it is due to be renewed or is refused, and got once for all who wait for it.
//! Deliberately absent: keys in `plimsoll.toml`, any store of keys, and retries (see [`token`]).

mod command;
mod google;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use self::google::Signer;
use self::token::{Given, NoToken, Token};
use super::http::Http;
use crate::ids::ProviderName;
use crate::provider::ProviderError;
use crate::spec::project::KeySource;
use crate::units::{Millis, Timestamp};

/// How long a `key_command` may take.
pub const KEY_COMMAND_TIME_MAX: Millis = Millis::from_secs(10);
/// How much a `key_command` may print.
pub const KEY_COMMAND_BYTES_MAX: u64 = 16 * 1024;
/// The largest file of a key or of a service account.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// The longest message of a failure.
pub const MESSAGE_CHARS_MAX: usize = 500;
/// A shorter key is a stand-in (`x`, `key`): to hide it would only garble messages.
const SECRET_BYTES_MIN: usize = 4;

/// A key. Its text is read with `expose` only, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text, for the header that carries it.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// A key for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The key itself.
    pub(crate) secret: Secret,
    /// It was kept from an earlier request: where it is refused, a new one may be taken.
    pub(crate) kept: bool,
}

/// The key of one provider.
#[derive(Debug)]
pub(crate) struct Keys {
    provider: ProviderName,
    source: KeySource,
    kept: Mutex<Arc<Kept>>,
}

/// A key that is kept, or is being got, and the one before it.
#[derive(Debug, Default)]
struct Kept {
    token: OnceCell<Token>,
    before: Option<Token>,
}

impl Keys {
    pub(crate) fn new(provider: ProviderName, source: KeySource) -> Self {
        Self { provider, source, kept: Mutex::default() }
    }

    /// The key, or `None` where the provider takes none.
    pub(crate) async fn key(&self, http: &Http) -> Result<Option<Key>, ProviderError> {
        let read = |secret| Ok(Some(Key { secret, kept: false }));
        match &self.source {
            KeySource::None => Ok(None),
            KeySource::Env(variable) => read(self.read_variable(variable)?),
            KeySource::File(path) => read(self.read_file(path)?),
            KeySource::Command(_)
            | KeySource::TokenCommand { .. }
            | KeySource::ServiceAccount(_)
            | KeySource::MetadataServer(_) => self.kept_key(http).await.map(Some),
        }
    }

    /// Says whether the key can be there, without running or asking anything.
    pub(crate) fn check(&self) -> Result<(), ProviderError> {
        match &self.source {
            KeySource::Env(variable) => self.read_variable(variable).map(drop),
            KeySource::File(path) => self.read_file(path).map(drop),
            KeySource::ServiceAccount(path) => Signer::read(path).map(drop).map_err(|why| self.no_token(why)),
            KeySource::None | KeySource::Command(_) | KeySource::TokenCommand { .. } | KeySource::MetadataServer(_) => {
                Ok(())
            }
        }
    }

    /// The provider refused this key: true where the next request gets another, since this one was kept, or its file holds
    /// another by now. One that was renewed meanwhile stays.
    pub(crate) fn forget(&self, refused: &Key) -> bool {
        let mut kept = self.lock();
        if kept.token.get().is_some_and(|token| token.secret == refused.secret) {
            *kept = Arc::default();
        }
        match &self.source {
            KeySource::File(path) => self.read_file(path).is_ok_and(|secret| secret != refused.secret),
            KeySource::None
            | KeySource::Env(_)
            | KeySource::Command(_)
            | KeySource::TokenCommand { .. }
            | KeySource::ServiceAccount(_)
            | KeySource::MetadataServer(_) => refused.kept,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that is kept; a new one where there is none or it is due to be renewed. While it is still good, it is used
    /// where a new one can't be had.
    async fn kept_key(&self, http: &Http) -> Result<Key, ProviderError> {
        let kept = self.current(http.clock().now());
        let mut is_new = false;
        let token = kept.token.get_or_try_init(|| {
            is_new = true;
            self.get(http)
        });
        let token = token.await.cloned();
        let now = http.clock().now();
        match (token, &kept.before) {
            (Ok(token), _) => Ok(Key { secret: token.secret, kept: !is_new }),
            (Err(error), Some(before)) if before.is_good(now) => {
                tracing::warn!(provider = %self.provider, %error, "no new token; the old one is good for a while");
                Ok(Key { secret: before.secret.clone(), kept: true })
            }
            (Err(error), _) => Err(error),
        }
    }

    fn current(&self, now: Timestamp) -> Arc<Kept> {
        let mut kept = self.lock();
        if let Some(due) = kept.token.get().filter(|token| token.is_due(now)) {
            *kept = Arc::new(Kept { token: OnceCell::new(), before: Some(due.clone()) });
        }
        Arc::clone(&kept)
    }

    async fn get(&self, http: &Http) -> Result<Token, ProviderError> {
        let (secret, lifetime) = match &self.source {
            KeySource::Command(command) => (self.run(command).await?, None),
            KeySource::TokenCommand { command, lifetime } => (self.run(command).await?, Some(*lifetime)),
            KeySource::ServiceAccount(path) => self.given(service_account_token(path, http).await)?,
            KeySource::MetadataServer(base) => self.given(google::metadata_token(base, http).await)?,
            KeySource::None | KeySource::Env(_) | KeySource::File(_) => unreachable!("read anew for each request"),
        };
        Ok(Token::new(secret, lifetime, http.clock().now()))
    }

    fn given(&self, given: Result<Given, NoToken>) -> Result<(Secret, Option<Millis>), ProviderError> {
        given.map(|given| (given.secret, given.lifetime)).map_err(|why| self.no_token(why))
    }

    fn no_token(&self, NoToken { reason, may_pass }: NoToken) -> ProviderError {
        ProviderError::Token { provider: self.provider.clone(), from: from(&self.source), reason, may_pass }
    }

    fn read_variable(&self, variable: &str) -> Result<Secret, ProviderError> {
        let text = std::env::var(variable).unwrap_or_default();
        match text.trim() {
            "" => Err(ProviderError::KeyMissing { provider: self.provider.clone(), variable: variable.to_owned() }),
            key => Ok(Secret::from(key)),
        }
    }

    fn read_file(&self, path: &Path) -> Result<Secret, ProviderError> {
        let text = read_small(path).map_err(|reason| self.no_token(NoToken::lasting(reason)))?;
        match text.lines().next().map_or("", str::trim) {
            "" => Err(self.no_token(NoToken::lasting("holds no key on its first line"))),
            key => Ok(Secret::from(key)),
        }
    }

    async fn run(&self, command: &[String]) -> Result<Secret, ProviderError> {
        command::first_line(command).await.map_err(|reason| ProviderError::KeyCommand {
            provider: self.provider.clone(),
            program: command.first().cloned().unwrap_or_default(),
            reason,
        })
    }
}

async fn service_account_token(path: &Path, http: &Http) -> Result<Given, NoToken> {
    Signer::read(path)?.token(http).await
}

/// What a token comes from, in words.
fn from(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => format!("the file `{}`", path.display()),
        KeySource::ServiceAccount(path) => format!("the service account `{}`", path.display()),
        KeySource::MetadataServer(base) => format!("the metadata server `{base}`"),
        KeySource::None | KeySource::Env(_) | KeySource::Command(_) | KeySource::TokenCommand { .. } => {
            "nowhere".to_owned()
        }
    }
}

/// The text of a small file. Local disks answer at once, so it is read where it is needed.
fn read_small(path: &Path) -> Result<String, String> {
    let unread = |error: std::io::Error| format!("can't be read: {error}");
    let file = File::open(path).map_err(unread)?;
    if !file.metadata().map_err(unread)?.is_file() {
        return Err("is no file".to_owned());
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unread)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > KEY_FILE_BYTES_MAX {
        return Err(format!("has more than {KEY_FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// A text for people: without the key, in one line, at most [`MESSAGE_CHARS_MAX`] characters.
pub(crate) fn redact(text: &str, secret: Option<&Secret>) -> String {
    let hidden = match secret {
        Some(secret) if secret.0.len() >= SECRET_BYTES_MIN => text.replace(&*secret.0, "[redacted]"),
        Some(_) | None => text.to_owned(),
    };
    let mut line: String = hidden.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some((end, _)) = line.char_indices().nth(MESSAGE_CHARS_MAX) {
        line.truncate(end);
        line.pop();
        line.push('…');
    }
    line
}
