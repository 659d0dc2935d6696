//! One process at a time: a `lock` file that the system frees when its holder dies, with the holder's name in it.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::store::error::StoreError;
use crate::units::Timestamp;

/// The file's name in the store's folder.
pub const LOCK_FILE: &str = "lock";
/// The most that is read of it.
const HOLDER_BYTES_MAX: u64 = 4_096;
/// The most of a command line that is kept.
const COMMAND_CHARS_MAX: usize = 200;

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
}

/// Who holds a store. All absent where the holder is just starting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: Option<u32>,
    /// Its command line, shortened.
    pub command: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("another process")?,
        }
        if let Some(command) = &self.command {
            write!(f, " (`{command}`)")?;
        }
        self.since.map_or(Ok(()), |since| write!(f, " since {since}"))
    }
}

impl StoreLock {
    /// Takes the lock of a folder that exists, without waiting, and writes our name into it.
    ///
    /// # Errors
    /// [`StoreError::Held`] names the process that has it.
    pub fn take(folder: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let path = folder.join(LOCK_FILE);
        let fault = |what| move |error: std::io::Error| StoreError::io(what, &folder.join(LOCK_FILE), &error);
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(fault("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Held { path: folder.to_owned(), holder: Box::new(read_holder(&file)) });
            }
            Err(TryLockError::Error(error)) => return Err(fault("lock")(error)),
        }
        let text = serde_json::to_string(&ourselves(now)).unwrap_or_default();
        file.set_len(0).map_err(fault("write"))?;
        file.rewind().map_err(fault("write"))?;
        file.write_all(text.as_bytes()).map_err(fault("write"))?;
        Ok(Self { file })
    }
}

impl Drop for StoreLock {
    /// Closing the file isn't enough: a tool's process that is just being started has it open for a moment, too.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the store's lock goes with its file");
        }
    }
}

fn ourselves(now: Timestamp) -> Holder {
    // Arguments may carry a person's input: the program and its first argument say enough.
    let words: Vec<String> = std::env::args_os().take(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let command = words.join(" ").chars().take(COMMAND_CHARS_MAX).collect();
    Holder { pid: Some(std::process::id()), command: Some(command), since: Some(now) }
}

/// What the holder wrote; nothing where it is just starting.
fn read_holder(file: &File) -> Holder {
    let mut text = String::new();
    let read = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_the_third_gets_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = StoreLock::take(folder.path(), Timestamp(1_000)).expect("free");
        let Err(StoreError::Held { holder, .. }) = StoreLock::take(folder.path(), Timestamp(2_000)) else {
            panic!("it is held")
        };
        assert_eq!((holder.pid, holder.since), (Some(std::process::id()), Some(Timestamp(1_000))));
        drop(first);
        StoreLock::take(folder.path(), Timestamp(3_000)).expect("free again");
    }

    #[test]
    fn a_holder_is_named_in_words() {
        let holder = Holder { pid: Some(123), command: Some("plimsoll serve".to_owned()), since: Some(Timestamp(0)) };
        assert_eq!(holder.to_string(), "process 123 (`plimsoll serve`) since 1970-01-01T00:00:00.000Z");
        assert_eq!(Holder::default().to_string(), "another process");
    }
}
