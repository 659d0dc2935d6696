//! The invoice: one line for each chat request that was received, with what it would cost by the provider's count.
//!
//! Invariants: a line is written before the first byte of its answer leaves; numbers run on without a gap, over
//! restarts too; the total covers every line ever written, the lines kept in memory are the newest.
//! A line is handed to the operating system, so it outlives the process, not a power cut: the simulator's own
//! crash is no promise of the runtime's. Deliberately absent: corrections; what is billed stays billed.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sim::rates::Counts;
use crate::units::{Money, Timestamp};

/// Lines that are kept in memory; older ones count in the totals only, and stay in the file.
pub const LINES_KEPT_MAX: usize = 65_536;
/// The longest line of an invoice file.
const LINE_BYTES_MAX: usize = 65_536;
/// More than any bounded call can cost; a file that says more is none of ours, and could not be added up.
const AMOUNT_PICO_MAX: u128 = 1_000_000_000_000_000_000_000_000;
/// What every line begins with, a torn one too.
const LINE_START: &[u8] = b"{\"number\":";

/// How much of a call is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    /// Nothing: the call was refused before any work.
    None,
    /// The input only.
    Input,
    /// The input, and the output up to where the answer was cut.
    SoFar,
    /// All of it.
    Whole,
}

/// One line of the invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// From 1, without a gap.
    pub number: u64,
    /// The provider's id of the call, as in the `x-request-id` header.
    pub id: String,
    /// When the request had been read.
    pub at: Timestamp,
    /// The model that answered, or was asked for.
    pub model: String,
    /// `X-Client-Request-Id`, if the client sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    /// SHA-256 of the request's body, in hexadecimal digits.
    pub body_sha256: String,
    /// Assistant messages in the request.
    pub turn: u64,
    /// 1 for the first request of this turn of this conversation, 2 for its first repeat, and so on.
    pub attempt: u64,
    /// The HTTP status of the answer; 0 where none is given.
    pub status: u16,
    /// The fault that was played, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How much is billed.
    pub billed: Billed,
    /// Tokens that are billed.
    pub tokens: Counts,
    /// Searches of the web that are billed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub web_searches: u64,
    /// The amount, exact: a decimal of USD.
    pub amount_usd: Money,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A copy of the invoice at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoice {
    /// The newest lines, oldest first; at most [`LINES_KEPT_MAX`].
    pub lines: Vec<Line>,
    /// Lines ever written, unbilled ones too.
    pub count: u64,
    /// Lines with something billed.
    pub billed_count: u64,
    /// The sum of all lines ever written.
    pub total: Money,
}

impl Invoice {
    /// Reads an invoice file, also while a simulator writes it. A last line without its end is left out.
    ///
    /// # Errors
    /// Where the file can't be read, or a line is none of an invoice.
    pub fn read(path: &Path) -> Result<Self, InvoiceError> {
        let (mut invoice, mut lines) = (Self::default(), VecDeque::new());
        read_lines(path, |line| {
            invoice.count += 1;
            invoice.billed_count += u64::from(line.billed != Billed::None);
            invoice.total = invoice.total.plus(line.amount_usd);
            keep(&mut lines, line, LINES_KEPT_MAX);
        })?;
        invoice.lines = lines.into();
        Ok(invoice)
    }

    /// The lines with something billed.
    pub fn billed(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.billed != Billed::None)
    }

    /// Lines whose body had been sent before: a step that was settled must not be among them.
    #[must_use]
    pub fn repeats(&self) -> Vec<&Line> {
        let mut seen = std::collections::BTreeSet::new();
        self.lines.iter().filter(|line| !seen.insert(line.body_sha256.as_str())).collect()
    }

    /// Lines by `X-Client-Request-Id`; those without one are left out.
    #[must_use]
    pub fn by_client_id(&self) -> BTreeMap<&str, Vec<&Line>> {
        let mut lines: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        for line in &self.lines {
            if let Some(id) = &line.client_request_id {
                lines.entry(id).or_default().push(line);
            }
        }
        lines
    }
}

/// Why an invoice can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// The file can't be opened, read or written.
    #[error("the invoice `{path}` can't be {doing}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: `opened`, `read` or `written`.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A line of something else.
    #[error("line {number} of `{path}` is no line of an invoice: {detail}; name another file, or move this one away")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        number: u64,
        /// What is wrong with it.
        detail: String,
    },
}

/// The invoice as the simulator keeps it.
#[derive(Debug)]
pub(crate) struct Books {
    lines: VecDeque<Line>,
    count: u64,
    billed_count: u64,
    total: Money,
    file: Option<(PathBuf, File)>,
}

impl Books {
    /// Opens the books; with a file, carries on where it ends.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, InvoiceError> {
        let Some(path) = path else {
            return Ok(Self { lines: VecDeque::new(), count: 0, billed_count: 0, total: Money::ZERO, file: None });
        };
        let failed = |doing| move |source| InvoiceError::File { path: path.to_owned(), doing, source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("opened"))?;
        let mut lines = VecDeque::new();
        let (mut count, mut billed_count, mut total) = (0, 0, Money::ZERO);
        let whole_bytes = read_lines(path, |line| {
            (count, total) = (line.number, total.plus(line.amount_usd));
            billed_count += u64::from(line.billed != Billed::None);
            keep(&mut lines, line, LINES_KEPT_MAX);
        })?;
        // What a kill left of a last line is cut off: its answer never left.
        file.set_len(whole_bytes).map_err(failed("written"))?;
        file.seek(SeekFrom::Start(whole_bytes)).map_err(failed("read"))?;
        Ok(Self { lines, count, billed_count, total, file: Some((path.to_owned(), file)) })
    }

    /// The number that the next line gets.
    pub(crate) const fn next_number(&self) -> u64 {
        self.count + 1
    }

    /// Writes a line; afterwards its answer may leave.
    pub(crate) fn write(&mut self, line: Line) -> Result<(), InvoiceError> {
        if let Some((path, file)) = &mut self.file {
            let mut bytes = serde_json::to_vec(&line).expect("a line has string keys only");
            bytes.push(b'\n');
            file.write_all(&bytes).map_err(|source| InvoiceError::File {
                path: path.clone(),
                doing: "written",
                source,
            })?;
        }
        self.count = line.number;
        self.billed_count += u64::from(line.billed != Billed::None);
        self.total = self.total.plus(line.amount_usd);
        keep(&mut self.lines, line, LINES_KEPT_MAX);
        Ok(())
    }

    /// A copy.
    pub(crate) fn snapshot(&self) -> Invoice {
        Invoice {
            lines: self.lines.iter().cloned().collect(),
            count: self.count,
            billed_count: self.billed_count,
            total: self.total,
        }
    }
}

/// Adds an item to a ring of at most `kept_max`.
pub(crate) fn keep<T>(ring: &mut VecDeque<T>, item: T, kept_max: usize) {
    if ring.len() >= kept_max {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// Hands each whole line to `take`; gives the bytes of the whole lines.
fn read_lines(path: &Path, mut take: impl FnMut(Line)) -> Result<u64, InvoiceError> {
    let failed = |doing| move |source| InvoiceError::File { path: path.to_owned(), doing, source };
    let mut reader = BufReader::new(File::open(path).map_err(failed("opened"))?);
    let (mut bytes, mut number) = (0_u64, 0);
    let mut text = Vec::new();
    let longest = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    loop {
        text.clear();
        let read = std::io::Read::take(&mut reader, longest).read_until(b'\n', &mut text).map_err(failed("read"))?;
        number += 1;
        let bad = |detail| InvoiceError::Line { path: path.to_owned(), number, detail };
        if text.last() != Some(&b'\n') && read < LINE_BYTES_MAX {
            let torn = text.iter().zip(LINE_START).all(|(found, expected)| found == expected);
            return if torn { Ok(bytes) } else { Err(bad("it ends in the middle".to_owned())) };
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if line.number != number {
            return Err(bad(format!("its number is {} instead of {number}", line.number)));
        }
        if line.amount_usd.pico() > AMOUNT_PICO_MAX {
            return Err(bad(format!("its amount is {}", line.amount_usd)));
        }
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
        take(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, pico: u128) -> Line {
        Line {
            number,
            id: format!("chatcmpl-sim-{number}"),
            at: Timestamp(7),
            model: "gpt-5-mini".to_owned(),
            client_request_id: None,
            body_sha256: "00".repeat(32),
            turn: 0,
            attempt: 1,
            status: 200,
            fault: None,
            billed: if pico == 0 { Billed::None } else { Billed::Whole },
            tokens: Counts::default(),
            web_searches: 0,
            amount_usd: Money::from_pico(pico),
        }
    }

    #[test]
    fn an_invoice_carries_on_after_a_kill_in_the_middle_of_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("invoice.jsonl");
        let mut books = Books::open(Some(&path)).expect("books");
        books.write(line(1, 5)).expect("a line");
        books.write(line(2, 0)).expect("a line");
        drop(books);
        let mut file = OpenOptions::new().append(true).open(&path).expect("the file");
        file.write_all(b"{\"number\":3,\"id\":\"chat").expect("a torn line");

        assert_eq!(Invoice::read(&path).expect("an invoice").count, 2);
        let mut books = Books::open(Some(&path)).expect("books");
        assert_eq!((books.next_number(), books.total.pico()), (3, 5));
        books.write(line(3, 7)).expect("a line");
        let read = Invoice::read(&path).expect("an invoice");
        assert_eq!(read, books.snapshot());
        assert_eq!((read.count, read.billed_count, read.total.pico()), (3, 2, 12));
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        for notes in ["my notes\n", "my notes"] {
            std::fs::write(&path, notes).expect("a file");
            let error = Books::open(Some(&path)).expect_err("no invoice").to_string();
            assert!(error.starts_with("line 1 of"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("the file"), notes);
        }
    }

    #[test]
    fn a_body_that_comes_again_is_a_repeat() {
        let mut other = line(2, 1);
        other.body_sha256 = "11".repeat(32);
        let invoice = Invoice { lines: vec![line(1, 1), other, line(3, 1)], ..Invoice::default() };
        assert_eq!(invoice.repeats().iter().map(|line| line.number).collect::<Vec<_>>(), [3]);
    }
}
