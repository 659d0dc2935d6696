//! A file of JSON lines, read a line at a time and never whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::cli::errors::{CliError, Problem, code};
use crate::domain::plan::hex;

/// The most bytes of one line.
pub(super) const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// The most lines of a file.
pub(super) const LINES_MAX: u64 = 1_000_000;
/// Bytes that are hashed at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Hexadecimal digits of the hash that keys begin with.
const KEY_DIGITS: usize = 16;

/// A file of JSON lines.
pub(super) struct Lines {
    reader: BufReader<File>,
    /// Where it lies, for messages.
    name: String,
    /// The first digits of its SHA-256.
    pub(super) hash: String,
    /// How many lines it has, empty ones too.
    pub(super) count: u64,
    number: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its text, or what is wrong with it.
    pub(super) text: Result<String, String>,
}

impl Lines {
    /// Opens a file, and reads it once for its hash and its number of lines.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let unread = |error: std::io::Error| Problem::file("read", path, &error);
        let mut file = File::open(path).map_err(unread)?;
        if !file.metadata().map_err(unread)?.is_file() {
            let message = format!("`{}` is no file", path.display());
            return Err(Problem::usage(code::FILE, message)
                .help("`--each` reads a file twice: write the lines into one")
                .into());
        }
        let (hash, count) = survey(&mut file).map_err(unread)?;
        if count > LINES_MAX {
            let message = format!("`{}` has {count} lines, more than {LINES_MAX}", path.display());
            return Err(Problem::usage(code::FILE, message).help("split it").into());
        }
        file.seek(SeekFrom::Start(0)).map_err(unread)?;
        Ok(Self { reader: BufReader::new(file), name: path.display().to_string(), hash, count, number: 0 })
    }

    /// The key of a line's run: the same file and line are the same run.
    pub(super) fn key(&self, number: u64) -> String {
        format!("{}:{number}", self.hash)
    }

    /// The next line that isn't empty.
    pub(super) fn next(&mut self) -> Result<Option<Line>, CliError> {
        while let Some(line) = self.read()? {
            self.number += 1;
            if self.number > LINES_MAX {
                return Ok(None);
            }
            if line.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            return Ok(Some(Line { number: self.number, text: line }));
        }
        Ok(None)
    }

    fn read(&mut self) -> Result<Option<Result<String, String>>, CliError> {
        let mut bytes = Vec::new();
        let name = self.name.clone();
        let unread = |error: std::io::Error| Problem::file("read", Path::new(&name), &error);
        let read = self.reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes).map_err(unread)?;
        if read == 0 {
            return Ok(None);
        }
        let whole = bytes.last() == Some(&b'\n');
        if !whole && u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LINE_BYTES_MAX {
            self.skip_rest().map_err(unread)?;
            return Ok(Some(Err(format!("it has more than {LINE_BYTES_MAX} bytes"))));
        }
        Ok(Some(String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())))
    }

    /// Passes over the rest of a line that is too long.
    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let held = self.reader.fill_buf()?;
            let end = held.iter().position(|byte| *byte == b'\n');
            let (used, done) = end.map_or((held.len(), held.is_empty()), |at| (at + 1, true));
            self.reader.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}

/// The first digits of a file's hash, and its number of lines.
fn survey(file: &mut File) -> std::io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        lines += u64::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u64::MAX);
        last = bytes[bytes.len() - 1];
    }
    let digits: String = hex(&hasher.finalize()).chars().take(KEY_DIGITS).collect();
    Ok((digits, lines + u64::from(last != b'\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8]) -> (Lines, Vec<Line>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines.jsonl");
        std::fs::write(&path, bytes).expect("written");
        let mut lines = Lines::open(&path).expect("opens");
        let mut found = Vec::new();
        while let Some(line) = lines.next().expect("reads") {
            found.push(line);
        }
        (lines, found)
    }

    #[test]
    fn empty_lines_are_passed_over_and_numbers_stay() {
        let (lines, found) = lines_of(b"\"a\"\n\n  \n\"b\"");
        let numbers: Vec<u64> = found.iter().map(|line| line.number).collect();
        assert_eq!((lines.count, numbers), (4, vec![1, 4]));
        assert_eq!(lines.key(4), format!("{}:4", lines.hash));
        assert_eq!(lines.hash.len(), KEY_DIGITS);
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let mut bytes = vec![b'x'; usize::try_from(LINE_BYTES_MAX).expect("fits") + 70_000];
        bytes.extend(b"\n\xff\xfe\n\"c\"\n");
        let (_, found) = lines_of(&bytes);
        assert!(found[0].text.is_err() && found[1].text.is_err());
        assert_eq!(found[2], Line { number: 3, text: Ok("\"c\"\n".to_owned()) });
    }

    #[test]
    fn a_file_without_a_line_has_none() {
        assert_eq!(lines_of(b"").1, []);
        assert_eq!(lines_of(b"").0.count, 0);
    }
}
