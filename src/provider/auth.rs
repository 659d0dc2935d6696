//! Keys: where they come from, and how they stay out of everything that is shown or kept.
//!
//! Invariants: a key is read when it is needed, is never logged, and never part of a failure's message.
//! Deliberately absent: keys in files of the project, and any store of keys.

use std::fmt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;

use crate::ids::ProviderName;
use crate::provider::ProviderError;
use crate::spec::project::KeySource;
use crate::units::Millis;

/// How long a `key_command` may take.
pub const KEY_COMMAND_TIME_MAX: Millis = Millis::from_secs(10);
/// How much a `key_command` may print.
pub const KEY_COMMAND_BYTES_MAX: u64 = 16 * 1024;
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

/// The key of one provider. A command's key is kept until the provider refuses it.
#[derive(Debug)]
pub(crate) struct Keys {
    provider: ProviderName,
    source: KeySource,
    printed: Mutex<Arc<OnceCell<Secret>>>,
}

impl Keys {
    pub(crate) fn new(provider: ProviderName, source: KeySource) -> Self {
        Self { provider, source, printed: Mutex::default() }
    }

    /// The key, or `None` where the provider takes none.
    pub(crate) async fn secret(&self) -> Result<Option<Secret>, ProviderError> {
        match &self.source {
            KeySource::None => Ok(None),
            KeySource::Env(variable) => self.read_variable(variable).map(Some),
            KeySource::Command(command) => {
                let cell = Arc::clone(&self.printed.lock().unwrap_or_else(PoisonError::into_inner));
                cell.get_or_try_init(|| self.run_command(command)).await.cloned().map(Some)
            }
        }
    }

    /// Says whether the key can be there, without running anything.
    pub(crate) fn check(&self) -> Result<(), ProviderError> {
        match &self.source {
            KeySource::Env(variable) => self.read_variable(variable).map(drop),
            KeySource::None | KeySource::Command(_) => Ok(()),
        }
    }

    /// The provider refused the key: a command is asked anew.
    pub(crate) fn forget(&self) {
        *self.printed.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    fn read_variable(&self, variable: &str) -> Result<Secret, ProviderError> {
        let text = std::env::var(variable).unwrap_or_default();
        match text.trim() {
            "" => Err(ProviderError::KeyMissing { provider: self.provider.clone(), variable: variable.to_owned() }),
            key => Ok(Secret::from(key)),
        }
    }

    async fn run_command(&self, command: &[String]) -> Result<Secret, ProviderError> {
        let failed = |reason: String| ProviderError::KeyCommand {
            provider: self.provider.clone(),
            program: command.first().cloned().unwrap_or_default(),
            reason,
        };
        let printed = tokio::time::timeout(KEY_COMMAND_TIME_MAX.duration(), run(command))
            .await
            .map_err(|_| failed(format!("took longer than {KEY_COMMAND_TIME_MAX}")))?
            .map_err(failed)?;
        match printed.lines().next().map_or("", str::trim) {
            "" => Err(failed("printed no key on its first line".to_owned())),
            key => Ok(Secret::from(key)),
        }
    }
}

/// A running program; dropped before its end, it is killed with what it started.
struct Running {
    child: Box<dyn ChildWrapper>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended && self.child.start_kill().is_err() {
            tracing::debug!("the key command ended by itself");
        }
    }
}

/// Runs a program without a shell and gives what it prints.
async fn run(command: &[String]) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("names no program")?;
    let mut wrapped = CommandWrap::with_new(program, |command| {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    });
    wrapped.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
    let child = wrapped.spawn().map_err(|error| format!("can't be started: {error}"))?;
    let mut running = Running { child, ended: false };
    let printed = read_bounded(&mut running.child).await?;
    let status = running.child.wait().await.map_err(|error| format!("can't be waited for: {error}"))?;
    running.ended = true;
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    String::from_utf8(printed).map_err(|_| "printed what is no UTF-8".to_owned())
}

async fn read_bounded(child: &mut Box<dyn ChildWrapper>) -> Result<Vec<u8>, String> {
    let stdout = child.stdout().take().ok_or("has no standard output")?;
    let mut printed = Vec::new();
    let read = stdout.take(KEY_COMMAND_BYTES_MAX + 1).read_to_end(&mut printed).await;
    let count = read.map_err(|error| format!("can't be read: {error}"))?;
    if u64::try_from(count).unwrap_or(u64::MAX) > KEY_COMMAND_BYTES_MAX {
        return Err(format!("printed more than {KEY_COMMAND_BYTES_MAX} bytes"));
    }
    Ok(printed)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Keys {
        Keys::new(ProviderName::from("p"), KeySource::Command(words.iter().map(|word| (*word).to_owned()).collect()))
    }

    async fn failure(words: &[&str]) -> String {
        command(words).secret().await.expect_err("no key").to_string()
    }

    #[tokio::test]
    async fn the_first_line_of_a_command_is_the_key() {
        let keys = command(&["printf", "  sk-test-1234 \nsecond line\n"]);
        assert_eq!(keys.secret().await.expect("a key"), Some(Secret::from("sk-test-1234")));
    }

    #[tokio::test]
    async fn a_commands_key_is_kept_until_it_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let count = folder.path().join("count");
        let script = format!("echo x >> {0}; wc -l < {0} | tr -d ' '", count.display());
        let keys = command(&["sh", "-c", &script]);
        for expected in ["1", "1"] {
            assert_eq!(keys.secret().await.expect("a key"), Some(Secret::from(expected)));
        }
        keys.forget();
        assert_eq!(keys.secret().await.expect("a key"), Some(Secret::from("2")));
    }

    #[tokio::test]
    async fn a_command_that_gives_no_key_says_why() {
        assert!(failure(&["false"]).await.contains("exit status: 1"));
        assert!(failure(&["true"]).await.contains("no key on its first line"));
        assert!(failure(&["./no-such-program"]).await.contains("can't be started"));
        assert!(failure(&[]).await.contains("names no program"));
        assert!(failure(&["sh", "-c", "yes | head -c 20000"]).await.contains("more than 16384 bytes"));
    }

    #[tokio::test]
    async fn a_variable_is_the_key() {
        let keys = Keys::new(ProviderName::from("openai"), KeySource::Env("PATH".to_owned()));
        let path = std::env::var("PATH").expect("every process has one");
        assert_eq!(keys.secret().await.expect("a key"), Some(Secret::from(path.trim())));
        assert_eq!(keys.check(), Ok(()));
    }

    #[tokio::test]
    async fn a_variable_that_is_not_set_is_named() {
        let keys = Keys::new(ProviderName::from("openai"), KeySource::Env("PLIMSOLL_TEST_NO_SUCH_KEY".to_owned()));
        let told = keys.secret().await.expect_err("no key").to_string();
        assert!(told.contains("`PLIMSOLL_TEST_NO_SUCH_KEY`") && told.contains("`openai`"), "{told}");
        assert!(keys.check().is_err());
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::from("sk-test-1234");
        assert!(!format!("{secret:?}").contains("1234"));
        assert_eq!(redact("bad key sk-test-1234,\n bye", Some(&secret)), "bad key [redacted],  bye");
        assert_eq!(redact(&"ü".repeat(600), None).chars().count(), MESSAGE_CHARS_MAX);
    }
}
