//! `read_file`: a text file under the tool's folders, or some lines of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use super::folders::Folders;
use super::{Until, number, text};
use crate::domain::builtin::{LINES_MAX, PATH_CHARS_MAX};
use crate::units::grouped;

/// How far into a file lines are looked for.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Room for the note on what was left out.
const NOTE_BYTES_MAX: usize = 80;

/// The lines, as far as they fit, and a note of what is left out.
pub(super) fn answer(folders: &[String], arguments: &Value, limit: usize, until: &Until) -> Result<String, String> {
    let path = text(arguments, "path")?;
    let shown: String = path.chars().take(PATH_CHARS_MAX).collect();
    let file = Folders::open(folders)?.find(path).ok_or_else(|| format!("there is no file `{shown}`"))?;
    let from = number(arguments, "from_line", 1, u64::MAX)?;
    let lines = number(arguments, "lines", LINES_MAX, LINES_MAX)?;
    let read = read(&file, from, lines, limit.saturating_sub(NOTE_BYTES_MAX), until)?;
    told(&shown, from, read)
}

/// Some lines of a file.
struct Lines {
    text: String,
    /// The line after the last one that is whole in `text`.
    next: u64,
    /// True where lines after them are left out.
    more: bool,
    /// True where the last line is cut.
    cut: bool,
}

fn read(file: &Path, from: u64, lines: u64, room: usize, until: &Until) -> Result<Lines, String> {
    let file = File::open(file).map_err(|error| format!("the file can't be read: {error}"))?;
    let mut reader = BufReader::new(file.take(FILE_BYTES_MAX));
    let mut found = Lines { text: String::new(), next: 1, more: false, cut: false };
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(|error| format!("the file can't be read: {error}"))?;
        if length == 0 {
            // A file longer than is read ends here too; it is told as one that goes on.
            found.more |= reader.get_ref().limit() == 0;
            return Ok(found);
        }
        if line.contains(&0) {
            return Err("the file is no text".to_owned());
        }
        if found.next >= from {
            if found.next - from >= lines {
                return Ok(Lines { more: true, ..found });
            }
            let line = String::from_utf8_lossy(&line);
            if found.text.len() + line.len() > room {
                let first = found.text.is_empty();
                found.text.push_str(if first { &line[..super::super::output::floor(&line, room)] } else { "" });
                return Ok(Lines { more: true, cut: first, ..found });
            }
            found.text.push_str(&line);
        } else if found.next.is_multiple_of(1_000) {
            until.check()?;
        }
        found.next += 1;
    }
}

fn told(shown: &str, from: u64, mut read: Lines) -> Result<String, String> {
    if read.text.is_empty() {
        let lines = grouped(read.next.saturating_sub(1));
        return if read.next <= 1 {
            Ok(format!("`{shown}` is empty"))
        } else {
            Err(format!("`{shown}` has {lines} lines; line {from} is after its end"))
        };
    }
    let note = match (read.more, read.cut) {
        (true, true) => format!("[line {} is longer than can be given]", read.next),
        (true, false) => format!("[more from line {} on]", read.next),
        (false, _) => return Ok(read.text),
    };
    if !read.text.ends_with('\n') {
        read.text.push('\n');
    }
    Ok(read.text + &note)
}
