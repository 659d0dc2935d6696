//! A file of JSON lines, read a line at a time and never whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Take};
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
/// Hexadecimal digits of a hash in a key.
const KEY_DIGITS: usize = 16;
/// What some editors put before the first line.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A file of JSON lines, as it was when it was opened: what is appended later isn't read.
pub(super) struct Lines {
    reader: BufReader<Take<File>>,
    /// Where it lies, for messages.
    name: String,
    /// The first digits of its SHA-256.
    pub(super) hash: String,
    /// How many of its lines hold something.
    pub(super) count: u64,
    number: u64,
    /// The hash of what was read so far, to be compared at the end.
    seen: Sha256,
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
        let Survey { hash, lines, count, bytes } = survey(&mut file).map_err(unread)?;
        if lines > LINES_MAX {
            let message = format!("`{}` has {lines} lines, more than {LINES_MAX}", path.display());
            return Err(Problem::usage(code::FILE, message).help("split it").into());
        }
        file.seek(SeekFrom::Start(0)).map_err(unread)?;
        let (reader, name) = (BufReader::new(file.take(bytes)), path.display().to_string());
        Ok(Self { reader, name, hash, count, number: 0, seen: Sha256::new() })
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
        self.is_as_it_was()?;
        Ok(None)
    }

    /// Keys stand for the file that was opened: lines of another would be taken for its lines.
    fn is_as_it_was(&self) -> Result<(), CliError> {
        if digits(self.seen.clone()) == self.hash {
            return Ok(());
        }
        let message = format!("`{}` was changed while its lines were run", self.name);
        let help = "what ran is in `plimsoll runs`; give the same command again for the file as it is now, \
                    and change a copy next time";
        Err(Problem::new(code::FILE, message).help(help).into())
    }

    fn read(&mut self) -> Result<Option<Result<String, String>>, CliError> {
        let mut bytes = Vec::new();
        let name = self.name.clone();
        let unread = |error: std::io::Error| Problem::file("read", Path::new(&name), &error);
        let read = self.reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes).map_err(unread)?;
        if read == 0 {
            return Ok(None);
        }
        self.seen.update(&bytes);
        let whole = bytes.last() == Some(&b'\n');
        if !whole && u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LINE_BYTES_MAX {
            self.skip_rest().map_err(unread)?;
            return Ok(Some(Err(format!("it has more than {LINE_BYTES_MAX} bytes"))));
        }
        let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned());
        Ok(Some(text.map(|text| if self.number == 0 { unmarked(text) } else { text })))
    }

    /// Passes over the rest of a line that is too long.
    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let held = self.reader.fill_buf()?;
            let end = held.iter().position(|byte| *byte == b'\n');
            let (used, done) = end.map_or((held.len(), held.is_empty()), |at| (at + 1, true));
            self.seen.update(&held[..used]);
            self.reader.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}

fn unmarked(text: String) -> String {
    text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text)
}

/// What a first reading of a file tells.
struct Survey {
    /// The first digits of its hash.
    hash: String,
    /// Its lines, empty ones too.
    lines: u64,
    /// Its lines that hold something.
    count: u64,
    bytes: u64,
}

fn survey(file: &mut File) -> std::io::Result<Survey> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut lines, mut count, mut bytes) = (0, 0, 0);
    // Of the line that is being read: whether it has a byte, and one that is no space.
    let (mut begun, mut filled) = (false, false);
    loop {
        let read = file.read(&mut chunk)?;
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
        for byte in part {
            if *byte == b'\n' {
                (lines, count) = (lines + 1, count + u64::from(filled));
                (begun, filled) = (false, false);
            } else {
                (begun, filled) = (true, filled || !byte.is_ascii_whitespace());
            }
        }
    }
    let hash = digits(hasher);
    Ok(Survey { hash, lines: lines + u64::from(begun), count: count + u64::from(filled), bytes })
}

/// The digits of a hash that stand in a key.
pub(super) fn digits(hasher: Sha256) -> String {
    hex(&hasher.finalize()).chars().take(KEY_DIGITS).collect()
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
        assert_eq!((lines.count, numbers), (2, vec![1, 4]));
        assert_eq!(lines.hash.len(), KEY_DIGITS);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let (_, found) = lines_of("\u{feff}\"a\"\r\n\u{feff}\"b\"".as_bytes());
        assert_eq!(found[0].text.as_deref(), Ok("\"a\"\r\n"));
        assert_eq!(found[1].text.as_deref(), Ok("\u{feff}\"b\""), "only the first");
    }

    #[test]
    fn a_file_is_read_as_it_was_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines.jsonl");
        std::fs::write(&path, "\"a\"\n").expect("written");
        let mut appended = Lines::open(&path).expect("opens");
        std::fs::write(&path, "\"a\"\n\"b\"\n").expect("written");
        assert!(appended.next().expect("reads").is_some());
        assert_eq!(appended.next().expect("it is as it was"), None, "what is appended later is of another file");
        let mut changed = Lines::open(&path).expect("opens");
        std::fs::write(&path, "\"c\"\n\"d\"\n").expect("written");
        assert!(changed.next().expect("reads").is_some() && changed.next().expect("reads").is_some());
        assert!(changed.next().is_err(), "other lines than those that the keys stand for");
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
