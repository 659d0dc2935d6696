//! What carries the store: an ordered byte map with ONE atomic, durable commit. Small, so that a successor is one file.
//!
//! Invariants: a commit is seen whole or not at all, after a crash too; what a [`View`] shows is on disk.
//! Deliberately absent: transactions with reads, several writers, and any sync that returns before it is done.

use std::sync::Arc;

/// The longest key that a batch may carry.
pub const KEY_BYTES_MAX: usize = 128;
/// The most entries that one [`View::scan`] gives.
pub const SCAN_ENTRIES_MAX: usize = 1_024;

/// An ordered byte map; its one writer.
pub trait Engine: Send + 'static {
    /// Writes all changes or none. On return they are on disk. After an error nothing more is taken.
    ///
    /// # Errors
    /// When the disk fails; whether the batch is there is then known only after opening again.
    fn commit(&mut self, batch: Batch) -> Result<(), EngineError>;

    /// A way to read from any thread, also while a commit runs.
    fn reader(&self) -> Arc<dyn Reader>;
}

/// Reads an engine from any thread.
pub trait Reader: Send + Sync + 'static {
    /// The map between two commits. Holds commits up while it lives: keep it short.
    ///
    /// # Errors
    /// When the engine failed before.
    fn view(&self) -> Result<Box<dyn View + '_>, EngineError>;
}

/// An entry: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The map as it stands between two commits.
pub trait View {
    /// The value of a key.
    ///
    /// # Errors
    /// When the disk fails, or its bytes are damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The first entries of a span in the given order; at most `limit`, and never more than [`SCAN_ENTRIES_MAX`].
    ///
    /// # Errors
    /// As [`View::get`].
    fn scan(&self, span: &Span, order: Order, limit: usize) -> Result<Vec<Entry>, EngineError>;
}

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Keys from `from` to `to`, exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first key that is in.
    pub from: Vec<u8>,
    /// The first key that is out.
    pub to: Vec<u8>,
}

impl Span {
    /// All keys that begin with `prefix`, which must not be all `0xff`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: successor(prefix) }
    }

    /// What is left of the span after `key`, in the given order.
    #[must_use]
    pub fn after(self, key: &[u8], order: Order) -> Self {
        match order {
            Order::Ascending => Self { from: next(key), to: self.to },
            Order::Descending => Self { from: self.from, to: key.to_vec() },
        }
    }

    /// True where no key can be in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// The smallest key above every key that begins with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let keep = prefix.iter().rposition(|byte| *byte < u8::MAX).map_or(0, |last| last + 1);
    let mut end = prefix[..keep].to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// The smallest key above `key`.
fn next(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key, whether it is there or not.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, whether it is there or not.
    Delete(Vec<u8>),
}

/// Changes that belong together. Of two to one key, the later stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        debug_assert!(key.len() <= KEY_BYTES_MAX, "keys are of fixed, short width");
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.changes.push(Change::Delete(key));
    }

    /// Adds the changes of another, behind these.
    pub fn append(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.changes.extend(other.changes);
    }

    /// Bytes of keys and values.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// True without a change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes, in order.
    #[must_use]
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// Why an engine can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The disk said no.
    #[error("can't {what} the store in `{path}`: {why}")]
    Io {
        /// What was tried: `write`, `sync`.
        what: &'static str,
        /// The folder.
        path: String,
        /// The system's words.
        why: String,
    },
    /// Bytes are not what they were written as.
    #[error("the store in `{path}` is damaged: {why}; leave the folder as it is, and go on from a backup or an export")]
    Damaged {
        /// The folder.
        path: String,
        /// What was found.
        why: String,
    },
    /// An earlier commit failed.
    #[error("the store takes nothing more, since an earlier write failed: {why}; start the process again")]
    Poisoned {
        /// The earlier error.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_span_ends_where_the_prefix_ends() {
        assert_eq!(Span::prefix(&[1, 2]).to, [1, 3]);
        assert_eq!(Span::prefix(&[1, 0xff, 0xff]).to, [2]);
        assert!(Span::prefix(&[1]).after(&[1, 0xff], Order::Descending).to == [1, 0xff]);
    }
}
