//! The engine for simulations and tests: a disk in memory that loses or tears what wasn't synced.
//!
//! A commit appends one frame (length, checksum, changes) to a journal, syncs it, and applies it. A crash may keep any
//! part of an unsynced frame; the next open believes a frame only whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::store::engine::{Batch, Change, Engine, EngineError, Entry, Order, Reader, SCAN_ENTRIES_MAX, Span, View};

/// Length and checksum of a frame.
const FRAME_HEAD_BYTES: usize = 8;

/// A disk in memory. Clones are the same disk; it outlives the engines that are opened on it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    synced: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What was written and not synced: at most one frame.
    unsynced: Vec<u8>,
    /// Raised by each crash: an engine opened before it is dead.
    life: u64,
    failure: Option<(u64, Failpoint)>,
    commits: u64,
}

/// Where a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// Before anything is written.
    Write,
    /// After the write, before the sync: the disk may keep all, some or nothing of it.
    Sync,
}

/// What a crash does to what wasn't synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is gone.
    Lose,
    /// Some bytes of it are there: which, the number decides.
    Tear(u64),
    /// It is there, though nobody was told.
    Keep,
}

impl MemoryDisk {
    /// Opens an engine on what the disk holds. What an unfinished commit left is believed only if it is whole.
    #[must_use]
    pub fn open(&self) -> MemoryEngine {
        let mut disk = self.lock();
        let left = std::mem::take(&mut disk.unsynced);
        if let Some(changes) = read_frame(&left) {
            changes.into_iter().for_each(|change| apply(&mut disk.synced, change));
        }
        let map = RwLock::new(disk.synced.clone());
        let shared = Shared { map, disk: self.clone(), life: disk.life, failed: Mutex::new(None) };
        MemoryEngine { shared: Arc::new(shared) }
    }

    /// The power goes: engines that are open are dead, and what wasn't synced suffers.
    pub fn crash(&self, crash: Crash) {
        let mut disk = self.lock();
        disk.life += 1;
        disk.failure = None;
        match crash {
            Crash::Keep => {}
            Crash::Lose => disk.unsynced.clear(),
            Crash::Tear(seed) => tear(&mut disk.unsynced, seed),
        }
    }

    /// Makes the commit after `commits` more fail.
    pub fn fail_after(&self, commits: u64, point: Failpoint) {
        let mut disk = self.lock();
        disk.failure = Some((disk.commits + commits, point));
    }

    /// How many commits there have been.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Changes bytes behind the engine's back, as a broken disk would. Seen at the next open.
    pub fn tamper(&self, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
        change(&mut self.lock().synced);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine.
#[derive(Debug)]
pub struct MemoryEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    map: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    disk: MemoryDisk,
    life: u64,
    failed: Mutex<Option<String>>,
}

impl Engine for MemoryEngine {
    fn commit(&mut self, batch: Batch) -> Result<(), EngineError> {
        self.shared.sound()?;
        let mut map = self.shared.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut disk = self.shared.disk.lock();
        let failure = disk.failure.filter(|(at, _)| *at == disk.commits).map(|(_, point)| point);
        disk.commits += 1;
        if failure == Some(Failpoint::Write) {
            return Err(self.shared.fail("write"));
        }
        disk.unsynced = write_frame(&batch);
        if failure == Some(Failpoint::Sync) {
            return Err(self.shared.fail("sync"));
        }
        disk.unsynced.clear();
        for change in batch.into_changes() {
            apply(&mut disk.synced, change.clone());
            apply(&mut map, change);
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.shared) as Arc<dyn Reader>
    }
}

impl Shared {
    fn sound(&self) -> Result<(), EngineError> {
        if let Some(why) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(EngineError::Poisoned { why: why.clone() });
        }
        if self.disk.lock().life != self.life {
            return Err(EngineError::Poisoned { why: "the disk in memory crashed".to_owned() });
        }
        Ok(())
    }

    fn fail(&self, what: &'static str) -> EngineError {
        let why = "a failure that the test asked for".to_owned();
        let error = EngineError::Io { what, path: "memory".to_owned(), why };
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        error
    }
}

impl Reader for Shared {
    fn view(&self) -> Result<Box<dyn View + '_>, EngineError> {
        self.sound()?;
        Ok(Box::new(MemoryView(self.map.read().unwrap_or_else(PoisonError::into_inner))))
    }
}

struct MemoryView<'a>(RwLockReadGuard<'a, BTreeMap<Vec<u8>, Vec<u8>>>);

impl View for MemoryView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, span: &Span, order: Order, limit: usize) -> Result<Vec<Entry>, EngineError> {
        if span.is_empty() {
            return Ok(Vec::new());
        }
        let mut range = self.0.range(span.from.clone()..span.to.clone());
        let step = || match order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        let entries = std::iter::from_fn(step).take(limit.min(SCAN_ENTRIES_MAX));
        Ok(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

fn apply(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: Change) {
    match change {
        Change::Put(key, value) => {
            map.insert(key, value);
        }
        Change::Delete(key) => {
            map.remove(&key);
        }
    }
}

/// Length, checksum, and each change as: kind, key, value, each with its length.
fn write_frame(batch: &Batch) -> Vec<u8> {
    let mut body = Vec::with_capacity(batch.bytes());
    for change in batch.changes() {
        let (kind, key, value) = match change {
            Change::Put(key, value) => (1, key, &value[..]),
            Change::Delete(key) => (0, key, &[][..]),
        };
        body.push(kind);
        for bytes in [&key[..], value] {
            body.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            body.extend_from_slice(bytes);
        }
    }
    let mut frame = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    frame.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// The changes of a frame, if it is whole.
fn read_frame(frame: &[u8]) -> Option<Vec<Change>> {
    let (head, body) = frame.split_at_checked(FRAME_HEAD_BYTES)?;
    let length = u32::try_from(body.len()).ok()?.to_be_bytes();
    if head[..4] != length || head[4..] != crc32fast::hash(body).to_be_bytes() {
        return None;
    }
    let mut changes = Vec::new();
    let mut rest = body;
    while let Some((kind, after)) = rest.split_first() {
        let (key, after) = read_bytes(after)?;
        let (value, after) = read_bytes(after)?;
        changes.push(if *kind == 1 { Change::Put(key, value) } else { Change::Delete(key) });
        rest = after;
    }
    Some(changes)
}

fn read_bytes(from: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (length, rest) = from.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((bytes.to_vec(), rest))
}

/// Cuts the tail off, or blanks sectors of 64 bytes, as the seed says. At least one byte changes.
fn tear(bytes: &mut Vec<u8>, seed: u64) {
    let Some(last) = bytes.len().checked_sub(1) else { return };
    let mut state = seed;
    let mut draw = || {
        // SplitMix64: enough to choose sectors by.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    if draw() % 2 == 0 {
        let keep = usize::try_from(draw()).unwrap_or(usize::MAX) % bytes.len();
        bytes.truncate(keep);
        return;
    }
    for sector in bytes.chunks_mut(64) {
        if draw() % 2 == 0 {
            sector.fill(0);
        }
    }
    bytes[last] ^= 0xff;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_frame_is_never_believed() {
        let mut batch = Batch::default();
        (0..20u8).for_each(|number| batch.put(vec![number], vec![number; 40]));
        batch.delete(vec![3]);
        let frame = write_frame(&batch);
        assert_eq!(read_frame(&frame).expect("it is whole"), batch.changes());
        for seed in 0..1_000 {
            let mut torn = frame.clone();
            tear(&mut torn, seed);
            assert_eq!(read_frame(&torn), None, "seed {seed}");
        }
    }
}
