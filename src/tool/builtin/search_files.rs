//! `search_files`: lines that hold the words of a query, best first.
//!
//! A line ranks by how many different words it holds, then by how many its file holds, then by path and line. A word
//! of three letters or more may be part of a longer one, so `refund` finds `refunds`; a shorter one stands alone.
//! Deliberately absent: an index, word stems, regular expressions, hidden and binary files, and symbolic links.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use walkdir::{DirEntry, WalkDir};

use super::folders::{Folder, Folders};
use super::{Until, number, text};
use crate::domain::builtin::{QUERY_CHARS_MAX, RESULTS_MAX};
use crate::tool::output;
use crate::units::grouped;

/// Results, where the model asks for no number.
const RESULTS_DEFAULT: u64 = 10;
/// Words of a query that are looked for.
const WORDS_MAX: usize = 20;
/// Letters from which on a word may be part of a longer one.
const PART_CHARS_MIN: usize = 3;
/// Files that are searched.
const FILES_MAX: usize = 10_000;
/// Larger files are passed over.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What is read in all.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Folders in folders.
const DEPTH_MAX: usize = 16;
/// The longest line that is shown whole.
const LINE_BYTES_MAX: usize = 300;

/// Lines as `path:line: text`, and a note if not all files were searched.
pub(super) fn answer(folders: &[String], arguments: &Value, until: &Until) -> Result<String, String> {
    let query: String = text(arguments, "query")?.chars().take(QUERY_CHARS_MAX).collect();
    let words = words(&query);
    if words.is_empty() {
        return Err("the query has no word; name one or more words to look for".to_owned());
    }
    let most = number(arguments, "max_results", RESULTS_DEFAULT, RESULTS_MAX)?;
    let mut search = Search { words, most: usize::try_from(most).unwrap_or(usize::MAX), ..Search::default() };
    for folder in Folders::open(folders)?.iter() {
        search.folder(folder, until)?;
    }
    Ok(search.told(&query))
}

/// The different words of a query, in lower case.
fn words(query: &str) -> Vec<String> {
    let found: BTreeSet<String> = split(&query.to_lowercase()).map(str::to_owned).collect();
    found.into_iter().take(WORDS_MAX).collect()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// A search on its way through the files.
#[derive(Default)]
struct Search {
    words: Vec<String>,
    most: usize,
    files: usize,
    bytes: u64,
    /// True where a bound kept files out.
    short: bool,
    hits: Vec<Hit>,
}

/// A line, in the order in which it is shown.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    in_line: Reverse<usize>,
    in_file: Reverse<usize>,
    path: String,
    line: usize,
    text: String,
}

impl Search {
    fn folder(&mut self, folder: &Folder, until: &Until) -> Result<(), String> {
        let visible = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
        let walk =
            WalkDir::new(&folder.root).max_depth(DEPTH_MAX).sort_by_file_name().into_iter().filter_entry(visible);
        for entry in walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
            if self.files >= FILES_MAX || self.bytes >= READ_BYTES_MAX {
                self.short = true;
                return Ok(());
            }
            until.check()?;
            self.files += 1;
            if let Some(content) = self.read(entry.path()) {
                self.file(&folder.shown(entry.path()), &content);
            }
        }
        Ok(())
    }

    /// The text of a file that is neither binary nor too large.
    fn read(&mut self, path: &Path) -> Option<String> {
        let mut content = Vec::new();
        File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).ok()?;
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.bytes += length;
        self.short |= length > FILE_BYTES_MAX;
        (length <= FILE_BYTES_MAX && !content.contains(&0)).then(|| String::from_utf8_lossy(&content).into_owned())
    }

    fn file(&mut self, path: &str, content: &str) {
        let lines = content.lines().enumerate().filter_map(|(index, line)| {
            let held = self.held(line);
            (!held.is_empty()).then_some((index + 1, line, held))
        });
        let lines: Vec<_> = lines.collect();
        let mut all = self.held(path);
        all.extend(lines.iter().flat_map(|(_, _, held)| held));
        for (line, text, held) in lines {
            let text = text.trim();
            let text = text[..output::floor(text, LINE_BYTES_MAX)].to_owned();
            let (in_line, in_file) = (Reverse(held.len()), Reverse(all.len()));
            self.hits.push(Hit { in_line, in_file, path: path.to_owned(), line, text });
        }
        self.hits.sort();
        self.hits.truncate(self.most);
    }

    /// Which words of the query a text holds.
    fn held(&self, text: &str) -> BTreeSet<usize> {
        let text = text.to_lowercase();
        let holds = |word: &str| match word.chars().count() {
            PART_CHARS_MIN.. => text.contains(word),
            _ => split(&text).any(|other| other == word),
        };
        (0..self.words.len()).filter(|index| holds(&self.words[*index])).collect()
    }

    fn told(&self, query: &str) -> String {
        let mut lines: Vec<_> =
            self.hits.iter().map(|hit| format!("{}:{}: {}", hit.path, hit.line, hit.text)).collect();
        if lines.is_empty() {
            let files = grouped(u64::try_from(self.files).unwrap_or(u64::MAX));
            lines.push(format!("no match for `{query}` in {files} files; try other words"));
        }
        if self.short {
            lines.push("[not all files were searched: some are too large or too many]".to_owned());
        }
        lines.join("\n")
    }
}
