//! Reads the files that `[documents]` names: text files of the project's folder, bounded in count and bytes.
//!
//! Deliberately absent: symbolic links (none is followed, so nothing outside the folder is read), hidden files and
//! folders, and files that aren't UTF-8 text: they are refused, not passed over.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::domain::context::Document;
use crate::spec::files;
use crate::units::grouped;

/// The most documents of one agent.
pub const DOCUMENTS_MAX: usize = 2_000;
/// The most bytes that they have together.
pub const DOCUMENTS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Entries of folders that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Folders in folders.
const DEPTH_MAX: usize = 16;

/// Why documents can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentsError {
    /// More than may be.
    #[error("`[documents]` names more than {} files; make the patterns narrower", grouped(u64::try_from(DOCUMENTS_MAX).unwrap_or(u64::MAX)))]
    TooMany,
    /// Longer than may be.
    #[error("the documents have more than {} bytes together; make the patterns narrower", grouped(DOCUMENTS_BYTES_MAX))]
    TooLong,
    /// More entries than are looked at.
    #[error("the folders of `[documents]` have more than {} entries; begin the patterns with a folder, such as `docs/**/*.md`", grouped(u64::try_from(ENTRIES_MAX).unwrap_or(u64::MAX)))]
    TooManyEntries,
    /// It can't be read.
    #[error("document `{file}` can't be read: {reason}")]
    Unreadable {
        /// The file, relative to the project.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// No text.
    #[error("document `{file}` is no UTF-8 text (byte {at}); save it as UTF-8, or leave it out by narrower patterns")]
    NotText {
        /// The file, relative to the project.
        file: String,
        /// The first byte that is no text.
        at: usize,
    },
}

/// The files that patterns match, by path.
///
/// # Errors
/// There are too many, or a folder can't be read.
pub fn matching(folder: &str, patterns: &[String]) -> Result<BTreeSet<PathBuf>, DocumentsError> {
    let root =
        Path::new(folder).canonicalize().map_err(|error| unreadable(Path::new(folder), Path::new(folder), &error))?;
    let mut found = BTreeSet::new();
    let mut entries = 0;
    for pattern in patterns {
        let start = root.join(literal_prefix(pattern));
        // A link in the way leads elsewhere.
        if start.canonicalize().ok().as_deref() != Some(start.as_path()) {
            continue;
        }
        let walk = WalkDir::new(&start).max_depth(DEPTH_MAX).follow_links(false).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry)) {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(&start).to_owned();
                unreadable(&root, &path, &std::io::Error::from(error))
            })?;
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(DocumentsError::TooManyEntries);
            }
            if entry.file_type().is_file() && matches(pattern, &files::relative(&root, entry.path())) {
                found.insert(entry.into_path());
            }
            if found.len() > DOCUMENTS_MAX {
                return Err(DocumentsError::TooMany);
            }
        }
    }
    Ok(found)
}

/// The documents that patterns name, by path; their names are relative to the folder.
///
/// # Errors
/// There are too many or they are too long; one can't be read or is no text.
pub fn read(folder: &str, patterns: &[String]) -> Result<Vec<Document>, DocumentsError> {
    let root =
        Path::new(folder).canonicalize().map_err(|error| unreadable(Path::new(folder), Path::new(folder), &error))?;
    let mut left = DOCUMENTS_BYTES_MAX;
    let mut documents = Vec::new();
    for path in matching(folder, patterns)? {
        let name = files::relative(&root, &path);
        let mut bytes = Vec::new();
        let opened = File::open(&path).and_then(|file| file.take(left + 1).read_to_end(&mut bytes));
        opened.map_err(|error| unreadable(&root, &path, &error))?;
        left =
            u64::try_from(bytes.len()).ok().and_then(|read| left.checked_sub(read)).ok_or(DocumentsError::TooLong)?;
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            return Err(DocumentsError::NotText { file: name, at });
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| DocumentsError::NotText { file: name.clone(), at: error.utf8_error().valid_up_to() })?;
        documents.push(Document { name, text });
    }
    Ok(documents)
}

fn unreadable(root: &Path, path: &Path, error: &std::io::Error) -> DocumentsError {
    DocumentsError::Unreadable { file: files::relative(root, path), reason: error.kind().to_string() }
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// The folders before the first part with a wildcard; a file's own folder where there is none.
fn literal_prefix(pattern: &str) -> PathBuf {
    let mut parts: Vec<&str> = pattern.split('/').collect();
    parts.pop();
    parts.into_iter().take_while(|part| !part.contains(['*', '?'])).filter(|part| *part != ".").collect()
}

/// True where a path has the form of a pattern: `*` and `?` stand for letters of one part, `**` for any parts.
fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|part| *part != ".").collect();
    parts_match(&pattern, &path.split('/').collect::<Vec<_>>())
}

fn parts_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|from| parts_match(rest, &path[from..])),
        ([part, rest @ ..], [name, names @ ..]) => {
            let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
            part_matches(&part, &name) && parts_match(rest, names)
        }
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

/// Walks along, and back to the last `*` where a letter doesn't fit.
fn part_matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut of, mut back) = (0, 0, None);
    while of < name.len() {
        match pattern.get(at) {
            Some('*') => {
                back = Some((at, of));
                at += 1;
            }
            Some('?') => (at, of) = (at + 1, of + 1),
            Some(letter) if *letter == name[of] => (at, of) = (at + 1, of + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (at, of) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

/// What is wrong with a pattern, if anything is.
pub(crate) fn bad_pattern(pattern: &str) -> Option<&'static str> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let doubled = parts.windows(2).filter(|pair| pair == &["**", "**"]).count();
    if pattern.starts_with('/') || pattern.contains('\\') || pattern.contains(':') {
        Some("patterns are relative to the project's folder and use `/`")
    } else if parts.contains(&"..") {
        Some("patterns stay within the project's folder")
    } else if parts.len() > DEPTH_MAX || doubled > 0 || parts.iter().filter(|part| **part == "**").count() > 2 {
        Some("at most two `**`, and not side by side")
    } else if parts.last().is_some_and(|part| part.is_empty() || *part == "**") {
        Some("end it with files, such as `*.md`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_parts_of_paths() {
        for (pattern, path) in [
            ("docs/*.md", "docs/a.md"),
            ("docs/**/*.md", "docs/a.md"),
            ("docs/**/*.md", "docs/x/y/a.md"),
            ("./docs/a?.md", "docs/ab.md"),
            ("**/*.txt", "a.txt"),
            ("d*s/*a*b*", "docs/xaxxbx"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("docs/*.md", "docs/x/a.md"), ("docs/*.md", "docs/a.mdx"), ("?.md", "ab.md"), ("**/a", "b")]
        {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        assert!(["/a", "../a", "a/**", "a/", "**/**/a"].into_iter().all(|pattern| bad_pattern(pattern).is_some()));
        assert_eq!(literal_prefix("docs/help/*.md"), PathBuf::from("docs/help"));
    }

    #[test]
    fn nothing_outside_the_folder_is_read() {
        let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let write = |path: PathBuf, bytes: &[u8]| {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        };
        write(folder.path().join("docs/b.md"), b"two");
        write(folder.path().join("docs/a/a.md"), b"one");
        write(folder.path().join("docs/.hidden.md"), b"no");
        write(outside.path().join("secret.md"), b"no");
        std::os::unix::fs::symlink(outside.path().join("secret.md"), folder.path().join("docs/link.md"))
            .expect("a link");
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).expect("a link");
        let root = folder.path().to_string_lossy().into_owned();
        let names = |pattern: &str| -> Vec<String> {
            let read = read(&root, &[pattern.to_owned()]).expect("it reads");
            read.into_iter().map(|document| document.name).collect()
        };
        assert_eq!(names("docs/**/*.md"), ["docs/a/a.md", "docs/b.md"]);
        assert_eq!(names("out/*.md"), Vec::<String>::new());
        assert_eq!(names("**/secret.md"), Vec::<String>::new());
        write(folder.path().join("docs/image.md"), b"a\xffb");
        let refused = read(&root, &["docs/*.md".to_owned()]).expect_err("no text");
        assert_eq!(refused, DocumentsError::NotText { file: "docs/image.md".into(), at: 1 });
    }
}
