//! Which files agents are made of, and whether one of them changed: by its size and the time of its last change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::spec::load::PROJECT_FILE;
use crate::spec::prices::PRICES_FILE;

/// The folders whose `*.toml` files are looked at.
const FOLDERS: [&str; 2] = ["agents", "tools"];
/// The most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// The longest text that may name a file.
const NAME_BYTES_MAX: usize = 1_024;

/// What is known of each file; nothing of one that isn't there.
type Prints = BTreeMap<PathBuf, Option<(SystemTime, u64)>>;

/// The files of a project that agents are made of.
pub(super) struct Watched {
    folder: PathBuf,
    /// Files that those of `FOLDERS` name: prompts, schemas.
    named: BTreeSet<PathBuf>,
    /// As they were when they were read.
    read: Prints,
    /// As they were at the last look.
    seen: Prints,
}

impl Watched {
    /// As a project's files are now.
    pub(super) fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        let mut watched = Self { folder, named: BTreeSet::new(), read: Prints::new(), seen: Prints::new() };
        watched.read();
        watched
    }

    /// They are being read: what changes from here on is new.
    pub(super) fn read(&mut self) {
        let listed = self.listed();
        self.named = listed.iter().flat_map(|path| self.names(path)).collect();
        self.read = self.prints(listed);
        self.seen = self.read.clone();
    }

    /// True where they are others than when they were read, and stand still since the last look: who writes a file isn't
    /// always done at once.
    pub(super) fn look(&mut self) -> bool {
        let now = self.prints(self.listed());
        let stands_still = now == self.seen;
        self.seen = now;
        stands_still && self.seen != self.read
    }

    fn listed(&self) -> BTreeSet<PathBuf> {
        let own = [PROJECT_FILE, PRICES_FILE].map(|name| self.folder.join(name));
        let entries = FOLDERS.into_iter().flat_map(|name| {
            let entries = fs::read_dir(self.folder.join(name)).into_iter().flatten();
            entries.take(ENTRIES_MAX).filter_map(|entry| Some(entry.ok()?.path()))
        });
        let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        own.into_iter().chain(files).collect()
    }

    fn prints(&self, listed: BTreeSet<PathBuf>) -> Prints {
        let print = |path: &PathBuf| fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
        let all = listed.into_iter().chain(self.named.iter().cloned());
        all.map(|path| (path.clone(), print(&path))).collect()
    }

    /// The files that a file names: every text of it that is the name of one. What can't be read names what it named before.
    fn names(&self, path: &Path) -> BTreeSet<PathBuf> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let Ok(table) = text.parse::<toml::Table>() else { return self.named.clone() };
        let mut texts = Vec::new();
        gather(&toml::Value::Table(table), &mut texts);
        let names = texts.iter().filter(|text| text.len() <= NAME_BYTES_MAX && !text.contains('\n'));
        let places = names.flat_map(|name| [self.folder.join(name), self.folder.join("agents").join(name)]);
        places.filter(|path| path.is_file()).collect()
    }
}

fn gather(value: &toml::Value, texts: &mut Vec<String>) {
    match value {
        toml::Value::String(text) => texts.push(text.clone()),
        toml::Value::Array(values) => values.iter().for_each(|value| gather(value, texts)),
        toml::Value::Table(table) => table.iter().for_each(|(_, value)| gather(value, texts)),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) | toml::Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_stands_still_also_of_files_that_are_only_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
        fs::create_dir(folder.path().join("agents")).expect("a folder");
        write("agents/a.toml", "[prompt]\nuser_file = \"a.md\"\n");
        write("a.md", "one");
        let mut watched = Watched::new(folder.path());
        assert!(!watched.look() && !watched.look(), "nothing changed");
        write("a.md", "longer");
        assert!(!watched.look(), "it may still be written");
        assert!(watched.look() && watched.look(), "until it is read");
        watched.read();
        assert!(!watched.look());
        write("agents/b.toml", "");
        assert!(!watched.look() && watched.look(), "a new one");
        watched.read();
        fs::remove_file(folder.path().join("a.md")).expect("it goes");
        assert!(!watched.look() && watched.look(), "one that is gone");
    }
}
