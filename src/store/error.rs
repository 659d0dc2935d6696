//! Why the store can't do what it was asked: what, where, and how to mend it.

use std::path::{Path, PathBuf};

use crate::store::engine::EngineError;
use crate::store::keys;

/// Why the store says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store in `{}` is held by {holder}; wait for it, or stop it", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// Who holds it.
        holder: Box<crate::store::lock::Holder>,
    },
    /// The folder belongs to something else.
    #[error("`{}` is no Plimsoll store: it holds `{found}`; name an empty or a new folder as `store`", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Something that is in it.
        found: String,
    },
    /// A later version wrote it.
    #[error(
        "the store in `{place}` has format {found}, and this version knows formats up to {known}; use a newer plimsoll"
    )]
    Newer {
        /// The folder.
        place: String,
        /// Its format.
        found: u16,
        /// The latest that is known.
        known: u16,
    },
    /// The way from an old format is not known.
    #[error(
        "the store in `{place}` has format {found}, and there is no way from there to format {known}; export it with the version that wrote it"
    )]
    TooOld {
        /// The folder.
        place: String,
        /// Its format.
        found: u16,
        /// The one that is wanted.
        known: u16,
    },
    /// The whole doesn't fit together.
    #[error("the store is damaged: {why}; leave the folder as it is, and go on from a backup or an export")]
    Damaged {
        /// What doesn't fit.
        why: String,
    },
    /// One record is not what was written.
    #[error(
        "the store is damaged: {what} can't be read: {why}; leave the folder as it is, and go on from a backup or an export"
    )]
    Record {
        /// Which record.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something can't be put into a record: an error of ours.
    #[error("{what} can't be written: {why}; this is an error of Plimsoll itself, please report it")]
    Unwritable {
        /// Which record.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the folder can't be read or written.
    #[error("can't {what} `{}`: {why}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// The engine can't go on.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A write failed earlier; whether its ops took place is known only after opening again.
    #[error("the store takes nothing more, since a write failed: {why}; start the process again, and resume its runs")]
    Poisoned {
        /// The failure.
        why: String,
    },
    /// The store is closed, or its writer went down.
    #[error("the store is closed; start the process again, and resume its runs")]
    Closed,
    /// The receiver of an export can't take it.
    #[error("the export broke off: {why}")]
    Export {
        /// The system's words.
        why: String,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), why: error.to_string() }
    }

    pub(crate) fn unwritable(key: &[u8], error: &dyn std::error::Error) -> Self {
        Self::Unwritable { what: keys::describe(key), why: error.to_string() }
    }

    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged { why: why.into() }
    }
}
