//! Reads a project's files, bounded, and names them relative to the project.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use crate::spec::fault::{Fault, Faults, Source, code};
use crate::spec::reader::{At, Node};

/// The largest file of a project that is read.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The most agents that a project may have, and the most tools.
pub(crate) const FILES_MAX: usize = 1_000;
/// The most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// A file's name relative to the project, with `/`; the whole path where it lies outside.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let text = inside.to_string_lossy().into_owned();
    if std::path::MAIN_SEPARATOR == '/' { text } else { text.replace(std::path::MAIN_SEPARATOR, "/") }
}

/// A path with `.` and `..` taken out, by its text alone.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => cleaned.push(part),
        }
    }
    cleaned
}

/// A fault of a file as a whole, such as one that can't be read.
pub(crate) fn fault(root: &Path, path: &Path, message: String, help: impl Into<String>) -> Fault {
    Source::new(&relative(root, path), String::new()).fault(code::FILE, 0..0, message, help.into())
}

/// The bytes of a file; one more than `most` of a larger one.
pub(crate) fn bytes(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a file lies that an agent's file names: relative to the project, or else to `agents/`. `None` after a fault.
pub(crate) fn named(root: &Path, node: &Node<'_>, name: &At<String>, faults: &mut Faults) -> Option<PathBuf> {
    let folders = [root.to_owned(), root.join("agents")];
    let found = folders.map(|folder| clean(&folder.join(&name.value))).into_iter().find(|path| path.is_file());
    if found.is_none() {
        let help = "files are relative to the project, or else to `agents/`";
        node.fault(faults, code::FILE, &name.span, format!("no file `{}`", name.value), help);
    }
    found
}

/// Reads a text file of at most [`FILE_BYTES_MAX`].
pub(crate) fn read(root: &Path, path: &Path) -> Result<Source, Fault> {
    let failed = |error: std::io::Error| {
        let help = "check that the file is there and that it may be read";
        fault(root, path, format!("can't read the file: {error}"), help)
    };
    let bytes = bytes(path, FILE_BYTES_MAX).map_err(failed)?;
    if bytes.len() > usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX) {
        let help = format!("at most {} bytes", crate::units::grouped(FILE_BYTES_MAX));
        return Err(fault(root, path, "the file is too large".to_owned(), help));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(&relative(root, path), text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(fault(root, path, format!("the file isn't UTF-8: byte {at} is none"), "save it as UTF-8"))
        }
    }
}

/// The `*.toml` files of a folder by name without `.toml`; none where there is no folder.
pub(crate) fn list(root: &Path, folder: &Path) -> Result<BTreeMap<String, PathBuf>, Fault> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(fault(root, folder, format!("can't read the folder: {error}"), "")),
    };
    let mut files = BTreeMap::new();
    for (index, entry) in entries.enumerate() {
        let entry = entry.map_err(|error| fault(root, folder, format!("can't read the folder: {error}"), ""))?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
            && !stem.starts_with('.')
        {
            files.insert(stem.to_owned(), path.clone());
        }
        if files.len() > FILES_MAX || index > ENTRIES_MAX {
            let mut fault = fault(root, folder, "the folder has too many files".to_owned(), "");
            fault.code = code::TOO_MANY;
            fault.help = format!("at most {FILES_MAX} `.toml` files, and {ENTRIES_MAX} entries in all");
            return Err(fault);
        }
    }
    Ok(files)
}
