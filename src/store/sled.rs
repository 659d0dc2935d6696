//! The engine on sled 0.34.7, guarded: as it comes, its `flush` on Linux doesn't survive a power cut.
//!
//! The guards, none of them optional:
//! - One writer. Each commit is one `apply_batch` on one tree, then `flush`, then our own `fdatasync` of its file.
//!   `apply_batch` and not a transaction: both write one log manifest and are recovered whole or not at all, but a
//!   transaction runs a closure that may run again, and keeps a cache of reads; we decide in memory before we write.
//! - Never `flush_async` (it locks up), never a second thread that writes.
//! - Values are cut into parts of `PART_BYTES`: sled moves an item of more than a quarter of a segment into a file of
//!   its own under `blobs/`, and never syncs that file. A leaf is such an item too, with all its entries.
//! - `*.generating`, left by a crash during an open, is removed before the next, which would take it for a snapshot.
//! - Each commit counts itself, in the batch and, once synced, in a file of ours. sled takes damage in the middle of its
//!   log for the end of it, drops the rest and opens without a word; a count below the file's tells. The file isn't
//!   synced each time: it survives a kill, and after a power cut it only says less.
//! - sled asserts in places where it could give an error: a panic of its own becomes an error, and poisons.
//! - Readers wait while a commit is between its write and its sync: nobody sees what isn't on disk.
//!
//! - sled overwrites what lies behind damage while it opens: `tail.rs` refuses before that where it can be told, and keeps
//!   aside what sled would overwrite where it can't.
//!
//! Deliberately absent: deleting anything of a damaged store, and shrinking (`store compact` writes a fresh folder).

mod tail;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use self::tail::{Look, Tail};
use crate::store::engine::{
    Batch, Change, Engine, EngineError, Entry, KEY_BYTES_MAX, Order, Reader, SCAN_ENTRIES_MAX, Span, View,
};

/// Memory for sled's page cache.
const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest part of a value.
const PART_BYTES: usize = 4_000;
/// sled's segment.
const SEGMENT_BYTES: usize = 512 * 1024;
/// sled splits a leaf above 16 entries when it next passes by, and may merge one of up to 3 into it before that.
const LEAF_ENTRIES_MAX: usize = 16 + 1 + 3;
/// Lengths and headers that sled adds to an entry, generously.
const ENTRY_OVERHEAD: usize = 64;
const _: () = assert!(
    LEAF_ENTRIES_MAX * (PART_BYTES + KEY_BYTES_MAX + ENTRY_OVERHEAD) < SEGMENT_BYTES / 4 - 64,
    "a full leaf must stay below sled's threshold for files of their own, which it doesn't sync"
);
/// How often an open is tried again while sled's own threads of a store just closed let go of its file.
const OPEN_TRIES_MAX: u32 = 500;
/// The wait between two such tries.
const OPEN_TRY_WAIT: Duration = Duration::from_millis(10);
/// The file that holds the number of acknowledged commits, and its checksum.
const MARK_FILE: &str = "acknowledged";
/// The key of the number of commits; above every table, and below every part.
const COUNT_KEY: [u8; 1] = [PARTS];
/// The first byte of the keys of parts; above every table.
const PARTS: u8 = 0xff;
/// The last byte of a value that stands whole.
const WHOLE: u8 = 0;
/// The last byte of a value whose parts stand apart; before it comes their number.
const APART: u8 = 1;

/// The engine.
#[derive(Debug)]
pub struct SledEngine {
    shared: Arc<Shared>,
    /// sled's file, on a handle of our own.
    file: File,
    /// [`MARK_FILE`].
    mark: File,
    commits: u64,
}

#[derive(Debug)]
struct Shared {
    db: ::sled::Db,
    path: PathBuf,
    /// Writers from their write to their sync, readers while they look.
    gate: RwLock<()>,
    failed: OnceLock<String>,
}

impl SledEngine {
    /// Opens the folder, and makes it if it isn't there. The caller holds the store's lock.
    ///
    /// # Errors
    /// When the disk fails, or the files are damaged; then nothing is deleted.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let fault = |what| move |error: std::io::Error| io_error(what, path, &error);
        std::fs::create_dir_all(path).map_err(fault("make the folder of"))?;
        sweep(path).map_err(fault("sweep"))?;
        match Tail::look(path).map_err(fault("read"))? {
            Look::Found(tail) => Self::recover(path).map_err(|error| kept(error, &tail, path)),
            Look::Lost(why) => Err(EngineError::Damaged { path: path.display().to_string(), why }),
        }
    }

    /// Lets sled open its files, and proves that nothing acknowledged is lost.
    fn recover(path: &Path) -> Result<Self, EngineError> {
        let fault = |what| move |error: std::io::Error| io_error(what, path, &error);
        let db = open_patiently(path)?;
        let options = File::options().read(true).write(true).clone();
        let file = options.open(path.join("db")).map_err(fault("open"))?;
        let shared = Shared { db, path: path.to_owned(), gate: RwLock::new(()), failed: OnceLock::new() };
        let commits = shared.commits()?;
        let mark = open_mark(path, commits)?;
        let engine = Self { shared: Arc::new(shared), file, mark, commits };
        engine.acknowledge().and_then(|()| engine.sync_all()).map_err(fault("sync"))?;
        Ok(engine)
    }

    /// Notes that all commits so far are on disk.
    fn acknowledge(&self) -> std::io::Result<()> {
        let mut mark = &self.mark;
        mark.rewind()?;
        mark.write_all(&write_mark(self.commits))
    }

    /// Syncs what sled doesn't: its settings, and the names of its files in their folders.
    fn sync_all(&self) -> std::io::Result<()> {
        let path = &self.shared.path;
        self.file.sync_all()?;
        self.mark.sync_all()?;
        File::open(path.join("conf"))?.sync_all()?;
        File::open(path.join("blobs"))?.sync_all()?;
        File::open(path)?.sync_all()?;
        path.parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }

    /// The whole commit; any error in it poisons the engine.
    fn write(&mut self, batch: Batch) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        let mut writes = ::sled::Batch::default();
        for change in batch.into_changes() {
            shared.stage(change, &mut writes)?;
        }
        let next = self.commits + 1;
        writes.insert(&COUNT_KEY, &next.to_be_bytes());
        let _alone = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        shared.ask("write", || shared.db.apply_batch(writes))?;
        shared.ask("flush", || shared.db.flush())?;
        crate::failpoint::reach("store.flushed");
        self.file.sync_data().map_err(|error| io_error("sync", &shared.path, &error))?;
        self.commits = next;
        self.acknowledge().map_err(|error| io_error("write", &shared.path, &error))
    }
}

impl Engine for SledEngine {
    fn commit(&mut self, batch: Batch) -> Result<(), EngineError> {
        self.shared.sound()?;
        self.write(batch).inspect_err(|error| self.shared.fail(&error.to_string()))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.shared) as Arc<dyn Reader>
    }
}

impl Drop for SledEngine {
    /// The number outlives a power cut after a clean end. Without it nothing is lost but the proof.
    fn drop(&mut self) {
        drop(self.mark.sync_data());
    }
}

impl Shared {
    /// Asks sled something; a panic of its own is an error, after which nothing is asked any more.
    fn ask<T>(&self, what: &'static str, question: impl FnOnce() -> ::sled::Result<T>) -> Result<T, EngineError> {
        match std::panic::catch_unwind(AssertUnwindSafe(question)) {
            Ok(answer) => answer.map_err(|error| sled_error(what, &self.path, &error)),
            Err(_) => {
                let error = self.damage("sled gave up on its own pages");
                self.fail(&error.to_string());
                Err(error)
            }
        }
    }

    fn read(&self, key: &[u8]) -> Result<Option<::sled::IVec>, EngineError> {
        self.ask("read", || self.db.get(key))
    }

    /// Remembers the first failure.
    fn fail(&self, why: &str) {
        // A later one follows from the first.
        drop(self.failed.set(why.to_owned()));
    }

    /// How many commits sled holds.
    fn commits(&self) -> Result<u64, EngineError> {
        let Some(count) = self.read(&COUNT_KEY)? else { return Ok(0) };
        let count = (&*count).try_into().map_err(|_| self.damage("the number of its commits can't be read"))?;
        Ok(u64::from_be_bytes(count))
    }

    fn sound(&self) -> Result<(), EngineError> {
        self.failed.get().map_or(Ok(()), |why| Err(EngineError::Poisoned { why: why.clone() }))
    }

    /// Turns one change into sled's, cutting what is long, and removing parts that would be left behind.
    fn stage(&self, change: Change, writes: &mut ::sled::Batch) -> Result<(), EngineError> {
        match change {
            Change::Put(key, mut value) if value.len() < PART_BYTES => {
                // A long value that a short one replaces leaves its parts: unread bytes, until the store is compacted.
                value.push(WHOLE);
                writes.insert(key, value);
            }
            Change::Put(key, value) => {
                let parts = value.len().div_ceil(PART_BYTES);
                let count = u32::try_from(parts).map_err(|_| self.damage("a value above 16 TB"))?;
                self.drop_parts(&key, count, writes)?;
                for (number, part) in (0..count).zip(value.chunks(PART_BYTES)) {
                    writes.insert(part_key(&key, number), part);
                }
                let mut head = count.to_be_bytes().to_vec();
                head.push(APART);
                writes.insert(key, head);
            }
            Change::Delete(key) => {
                self.drop_parts(&key, 0, writes)?;
                writes.remove(key);
            }
        }
        Ok(())
    }

    /// Removes the parts of the stored value from number `keep` on.
    fn drop_parts(&self, key: &[u8], keep: u32, writes: &mut ::sled::Batch) -> Result<(), EngineError> {
        let head = self.read(key)?;
        if let Some(count) = head.as_deref().and_then(parts_of) {
            (keep..count).for_each(|number| writes.remove(part_key(key, number)));
        }
        Ok(())
    }

    /// The value that sled's value stands for.
    fn whole(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, EngineError> {
        if let Some(count) = parts_of(stored) {
            let mut value = Vec::new();
            for number in 0..count {
                let part = self.read(&part_key(key, number))?;
                value.extend_from_slice(&part.ok_or_else(|| self.damage("a part of a long value is missing"))?);
            }
            return Ok(value);
        }
        match stored.split_last() {
            Some((&WHOLE, value)) => Ok(value.to_vec()),
            Some(_) | None => Err(self.damage("a value has no known form")),
        }
    }

    fn damage(&self, why: &str) -> EngineError {
        EngineError::Damaged { path: self.path.display().to_string(), why: why.to_owned() }
    }
}

impl Reader for Shared {
    fn view(&self) -> Result<Box<dyn View + '_>, EngineError> {
        let shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.sound()?;
        Ok(Box::new(SledView { shared: self, _gate: shared }))
    }
}

struct SledView<'a> {
    shared: &'a Shared,
    _gate: RwLockReadGuard<'a, ()>,
}

impl View for SledView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let stored = self.shared.read(key)?;
        stored.map(|stored| self.shared.whole(key, &stored)).transpose()
    }

    fn scan(&self, span: &Span, order: Order, limit: usize) -> Result<Vec<Entry>, EngineError> {
        // Parts stand above every table, and never show.
        let to = if span.to.is_empty() || span.to[0] == PARTS { &[PARTS][..] } else { &span.to[..] };
        if span.from.as_slice() >= to {
            return Ok(Vec::new());
        }
        let mut range = self.shared.db.range(&span.from[..]..to);
        let step = || match order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        let page = std::iter::from_fn(step).take(limit.min(SCAN_ENTRIES_MAX));
        let stored = self.shared.ask("read", || page.collect::<::sled::Result<Vec<_>>>())?;
        stored.into_iter().map(|(key, stored)| Ok((key.to_vec(), self.shared.whole(&key, &stored)?))).collect()
    }
}

/// The error of an open, with where the end of the log is kept if that is damaged.
fn kept(error: EngineError, tail: &Tail, path: &Path) -> EngineError {
    match error {
        EngineError::Damaged { path: place, why } => {
            let why = match tail.keep(path) {
                Ok(kept) => {
                    format!("{why} (the end of its log, as it was before this open, is kept in `{}`)", kept.display())
                }
                Err(error) => format!("{why} (the end of its log could not be kept aside: {error})"),
            };
            EngineError::Damaged { path: place, why }
        }
        error @ (EngineError::Io { .. } | EngineError::Poisoned { .. }) => error,
    }
}

/// The number of parts, where the value's parts stand apart.
fn parts_of(stored: &[u8]) -> Option<u32> {
    let (&APART, count) = stored.split_last()? else { return None };
    Some(u32::from_be_bytes(count.try_into().ok()?))
}

fn part_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut part = Vec::with_capacity(key.len() + 5);
    part.push(PARTS);
    part.extend_from_slice(key);
    part.extend_from_slice(&number.to_be_bytes());
    part
}

/// Removes what a crash during an open left behind: a half-written snapshot, made from the log and not yet in use.
fn sweep(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "generating") {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Opens sled. Its own lock can outlive its handle for a moment, since its threads hold the file; the store's lock
/// proves that no other process has it, so waiting is right.
fn open_patiently(path: &Path) -> Result<::sled::Db, EngineError> {
    let config = ::sled::Config::new().path(path).mode(::sled::Mode::LowSpace).cache_capacity(CACHE_BYTES_MAX);
    let mut tries = 0;
    loop {
        tries += 1;
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if tries < OPEN_TRIES_MAX && is_lock(&error) => std::thread::sleep(OPEN_TRY_WAIT),
            Ok(Err(error)) => return Err(sled_error("open", path, &error)),
            Err(_) => {
                let why = "sled gave up on its files while opening them".to_owned();
                return Err(EngineError::Damaged { path: path.display().to_string(), why });
            }
        }
    }
}

/// The file with the number of acknowledged commits. sled must hold as many, or its log has lost its end.
fn open_mark(path: &Path, commits: u64) -> Result<File, EngineError> {
    let place = path.join(MARK_FILE);
    let damaged = |why: String| EngineError::Damaged { path: path.display().to_string(), why };
    let options = File::options().read(true).write(true).clone();
    let mut file = match options.open(&place) {
        Err(error) if error.kind() == ErrorKind::NotFound && commits == 0 => {
            return options
                .clone()
                .create(true)
                .truncate(false)
                .open(&place)
                .map_err(|error| io_error("make", path, &error));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(damaged(format!("its file `{MARK_FILE}` is gone")));
        }
        other => other.map_err(|error| io_error("open", path, &error))?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| io_error("read", path, &error))?;
    let acknowledged = if bytes.is_empty() { Some(0) } else { read_mark(&bytes) };
    let acknowledged = acknowledged.ok_or_else(|| damaged(format!("its file `{MARK_FILE}` can't be read")))?;
    if commits < acknowledged {
        return Err(damaged(format!("{acknowledged} commits were acknowledged, and its log holds {commits}")));
    }
    Ok(file)
}

fn write_mark(commits: u64) -> [u8; 12] {
    let mut mark = [0; 12];
    mark[..8].copy_from_slice(&commits.to_be_bytes());
    mark[8..].copy_from_slice(&crc32fast::hash(&commits.to_be_bytes()).to_be_bytes());
    mark
}

fn read_mark(bytes: &[u8]) -> Option<u64> {
    let commits = u64::from_be_bytes(*bytes.first_chunk::<8>()?);
    (bytes == write_mark(commits)).then_some(commits)
}

fn is_lock(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn sled_error(what: &'static str, path: &Path, error: &::sled::Error) -> EngineError {
    let path = path.display().to_string();
    match error {
        ::sled::Error::Corruption { .. } | ::sled::Error::Unsupported(_) | ::sled::Error::ReportableBug(_) => {
            EngineError::Damaged { path, why: error.to_string() }
        }
        ::sled::Error::Io(_) | ::sled::Error::CollectionNotFound(_) => {
            EngineError::Io { what, path, why: error.to_string() }
        }
    }
}

fn io_error(what: &'static str, path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Io { what, path: path.display().to_string(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_long_value_go_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut engine = SledEngine::open(folder.path()).expect("it opens");
        let entries = |engine: &SledEngine| engine.shared.db.len();
        let commit = |engine: &mut SledEngine, change: &dyn Fn(&mut Batch)| {
            let mut batch = Batch::default();
            change(&mut batch);
            engine.commit(batch).expect("it commits");
        };
        commit(&mut engine, &|batch| batch.put(vec![1], vec![7; 5 * PART_BYTES]));
        assert_eq!(entries(&engine), 1 + 6, "with the number of commits");
        commit(&mut engine, &|batch| batch.put(vec![1], vec![7; 2 * PART_BYTES]));
        assert_eq!(entries(&engine), 1 + 3);
        commit(&mut engine, &|batch| batch.delete(vec![1]));
        assert_eq!(entries(&engine), 1);
    }
}
