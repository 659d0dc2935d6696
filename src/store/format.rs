//! What makes a folder a store: a marker file with magic and version, the same in the engine, and the way from old
//! formats to this one.
//!
//! The marker is read before anything is opened or written, so that a foreign or newer store stays untouched. It says
//! `new` until the engine holds its head: a crash while a store is made is mended by making it again.

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ids::RunId;
use crate::store::engine::{Batch, Engine, Order, Span};
use crate::store::error::StoreError;
use crate::store::{codec, keys, lock, migrate};

/// The format that this version writes.
pub const FORMAT_VERSION: u16 = 7;
/// What every store says of itself.
pub const MAGIC: &str = "plimsoll-store";
/// The marker's name in the folder.
const MARKER_FILE: &str = "format";
/// The marker while it is written.
const MARKER_DRAFT: &str = "format.new";
/// The most that is read of a marker.
const MARKER_BYTES_MAX: u64 = 1_024;
/// The engine's folder in the store's.
pub const ENGINE_FOLDER: &str = "sled";
/// What else may lie in the folder of a store that is yet to be made.
const HARMLESS: [&str; 5] = [lock::LOCK_FILE, MARKER_DRAFT, ".gitignore", "socket", "sim"];

/// The head of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`MAGIC`].
    pub magic: String,
    /// The format.
    pub format: u16,
    /// Names this store for ever.
    pub id: RunId,
}

/// What the marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    magic: String,
    format: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The engine may not hold its head yet.
    New,
    /// The engine holds its head.
    Ready,
}

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Not there, or empty, or left while a store was made.
    Fresh,
    /// A store.
    Store,
}

/// One step from a format to the next. It may take several commits: it must bear being broken off and begun again.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The format that it starts from; it ends at the next.
    pub from: u16,
    /// What it does.
    pub apply: fn(&mut dyn Engine) -> Result<(), StoreError>,
}

/// The steps that are known. Format 1 is the first. Format 2 has facts of workflows, trees and people: nothing that is there
/// changes, but who doesn't know them can't read such logs. So has format 3: usage that contradicts itself, blocks that only
/// a provider understands, reasons to stop, and rollups with more behind the row. Format 4 writes less: of an open run no
/// summary, and no place in the list by state (the records of money list the open runs); the log of one that ended takes the
/// place of its first record. It has answers that are kept and facts of caches, and still more behind the rows: what
/// caches did, and how tight bounds were, of runs that are made from here on. Format 5 has outcomes: facts behind a run's end, and
/// behind the rows what runs were worth. Format 6 has the attempts that failed behind them, of runs that are made from here on.
/// Format 7 has the end of its period in the key of a budget's account.
pub const MIGRATIONS: &[Migration] = &[
    Migration { from: 1, apply: |_| Ok(()) },
    Migration { from: 2, apply: |_| Ok(()) },
    Migration { from: 3, apply: |_| Ok(()) },
    Migration { from: 4, apply: |_| Ok(()) },
    Migration { from: 5, apply: |_| Ok(()) },
    Migration { from: 6, apply: migrate::periods_apart },
];

/// Looks at a folder without writing to it.
///
/// # Errors
/// When it holds something else, a newer store, or a marker that can't be read.
pub fn inspect(folder: &Path) -> Result<Folder, StoreError> {
    if let Some(marker) = read_marker(folder)? {
        let place = || folder.display().to_string();
        if marker.format > FORMAT_VERSION {
            return Err(StoreError::Newer { place: place(), found: marker.format, known: FORMAT_VERSION });
        }
        return Ok(if marker.state == State::New { Folder::Fresh } else { Folder::Store });
    }
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Folder::Fresh),
        other => other.map_err(|error| StoreError::io("read", folder, &error))?,
    };
    for entry in entries {
        let name = entry.map_err(|error| StoreError::io("read", folder, &error))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(StoreError::Foreign { path: folder.to_owned(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(Folder::Fresh)
}

/// Says that a store is being made here.
///
/// # Errors
/// When the disk fails.
pub fn mark_new(folder: &Path) -> Result<(), StoreError> {
    write_marker(folder, State::New)
}

/// Says that the store is whole, in this format.
///
/// # Errors
/// When the disk fails.
pub fn mark_ready(folder: &Path) -> Result<(), StoreError> {
    write_marker(folder, State::Ready)
}

/// Makes sure that the engine's folder is there where the marker says so.
///
/// # Errors
/// When it isn't.
pub fn check_engine_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.join(ENGINE_FOLDER).join("db").is_file() {
        return Ok(());
    }
    let missing = format!("`{}` has lost its folder `{ENGINE_FOLDER}` or the file `db` in it", folder.display());
    Err(StoreError::damaged(missing))
}

/// Brings an engine to the current format: writes the head of an empty one, migrates an old one.
///
/// # Errors
/// When the engine holds something else, a newer format, or one from which no way is known.
pub fn settle(
    engine: &mut dyn Engine,
    place: &str,
    fresh_id: RunId,
    migrations: &[Migration],
) -> Result<Head, StoreError> {
    let Some(mut head) = read_head(engine)? else {
        if !is_empty(engine)? {
            return Err(StoreError::damaged(format!("`{place}` holds records, but not the store's head")));
        }
        let head = Head { magic: MAGIC.to_owned(), format: FORMAT_VERSION, id: fresh_id };
        write_head(engine, &head)?;
        return Ok(head);
    };
    if head.magic != MAGIC {
        return Err(StoreError::damaged(format!("the head in `{place}` says `{}`, not `{MAGIC}`", head.magic)));
    }
    let found = head.format;
    if found > FORMAT_VERSION {
        return Err(StoreError::Newer { place: place.to_owned(), found, known: FORMAT_VERSION });
    }
    // All steps must be there before the first is taken.
    let step = |from| migrations.iter().find(|migration| migration.from == from);
    let steps: Option<Vec<&Migration>> = (found..FORMAT_VERSION).map(step).collect();
    let too_old = || StoreError::TooOld { place: place.to_owned(), found, known: FORMAT_VERSION };
    for migration in steps.ok_or_else(too_old)? {
        (migration.apply)(engine)?;
        head.format = migration.from + 1;
        write_head(engine, &head)?;
    }
    Ok(head)
}

/// The head that an engine holds, if it holds one.
///
/// # Errors
/// When it can't be read.
pub fn read_head(engine: &dyn Engine) -> Result<Option<Head>, StoreError> {
    let key = keys::meta();
    let reader = engine.reader();
    let record = reader.view()?.get(&key)?;
    record.map(|record| codec::open_json(&key, &record)).transpose()
}

fn write_head(engine: &mut dyn Engine, head: &Head) -> Result<(), StoreError> {
    let key = keys::meta();
    let record = codec::seal_json(&key, head)?;
    let mut batch = Batch::default();
    batch.put(key, record);
    Ok(engine.commit(batch)?)
}

fn is_empty(engine: &dyn Engine) -> Result<bool, StoreError> {
    let all = Span { from: Vec::new(), to: vec![u8::MAX] };
    let reader = engine.reader();
    let first = reader.view()?.scan(&all, Order::Ascending, 1)?;
    Ok(first.is_empty())
}

fn read_marker(folder: &Path) -> Result<Option<Marker>, StoreError> {
    let path = folder.join(MARKER_FILE);
    let mut text = String::new();
    match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            let found = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(StoreError::Foreign { path: folder.to_owned(), found });
        }
        Err(error) => return Err(StoreError::io("read", &path, &error)),
        Ok(file) => {
            let read = file.take(MARKER_BYTES_MAX).read_to_string(&mut text);
            read.map_err(|error| StoreError::io("read", &path, &error))?;
        }
    }
    let foreign = || StoreError::Foreign { path: folder.to_owned(), found: MARKER_FILE.to_owned() };
    if !text.contains(MAGIC) {
        return Err(foreign());
    }
    let marker: Marker = serde_json::from_str(&text)
        .map_err(|error| StoreError::damaged(format!("`{}` can't be understood: {error}", path.display())))?;
    if marker.magic == MAGIC { Ok(Some(marker)) } else { Err(foreign()) }
}

/// Writes the marker beside its place, and moves it there when it is on disk.
fn write_marker(folder: &Path, state: State) -> Result<(), StoreError> {
    let marker = Marker { magic: MAGIC.to_owned(), format: FORMAT_VERSION, state };
    let text = serde_json::to_string(&marker).map_err(|error| StoreError::damaged(error.to_string()))?;
    let (draft, path) = (folder.join(MARKER_DRAFT), folder.join(MARKER_FILE));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| StoreError::io("write", &path, &error))
}
