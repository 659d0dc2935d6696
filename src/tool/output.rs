//! What a tool gave, kept within `output_bytes`: the head and the tail, and a note of what is missing between them.

use std::collections::VecDeque;

use crate::domain::plan::ToolPlan;
use crate::units::grouped;

/// The most bytes that are kept whatever a tool file says.
const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Room for the note on what was cut.
const NOTE_BYTES_MAX: usize = 64;
/// Below this, only the head is kept and no note is written.
const NOTE_WORTH_BYTES: usize = 256;

/// The bound of a tool's output.
pub(super) fn limit(tool: &ToolPlan) -> usize {
    usize::try_from(tool.output_bytes).unwrap_or(usize::MAX).min(OUTPUT_BYTES_MAX)
}

/// A text of at most `limit` bytes, and how many bytes of the original are missing in it.
pub(super) fn shortened(text: String, limit: usize) -> (String, u64) {
    if text.len() <= limit {
        return (text, 0);
    }
    join(&text, &text, limit, count(text.len()))
}

/// The first bytes of a stream, and the last ones.
#[derive(Debug)]
pub(super) struct Kept {
    limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Kept {
    /// Keeps `limit` bytes from the start and as many from the end.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    /// How many bytes came in all.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.total = self.total.saturating_add(count(piece.len()));
        let (head, rest) = piece.split_at(piece.len().min(self.limit - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.limit)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.limit);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// The text of at most `limit` bytes, and how many bytes are missing in it. `clean` sees each piece before it is
    /// cut to length; a piece is open where the stream goes on unseen.
    pub(super) fn text(mut self, limit: usize, clean: impl Fn(String, Open) -> String) -> (String, u64) {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if self.total == count(self.head.len() + self.tail.len()) {
            self.head.extend(&self.tail);
            let total = self.total;
            let text = clean(lossy(&self.head), Open::Nowhere);
            return if text.len() <= limit { (text, 0) } else { join(&text, &text, limit, total) };
        }
        let head = clean(lossy(&self.head), Open::End);
        let tail = clean(lossy(self.tail.make_contiguous()), Open::Start);
        join(&head, &tail, limit, self.total)
    }

    /// The first bytes as text.
    pub(super) fn head_text(self, clean: impl Fn(String) -> String) -> String {
        clean(String::from_utf8_lossy(&self.head).into_owned())
    }

    /// The last `limit` bytes as text.
    pub(super) fn tail_text(mut self, limit: usize, clean: impl Fn(String, Open) -> String) -> String {
        let whole = self.total == count(self.head.len() + self.tail.len());
        if whole {
            self.head.extend(&self.tail);
        } else {
            self.head = self.tail.into();
        }
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let text = clean(text, if whole { Open::Nowhere } else { Open::Start });
        text[ceiling(&text, text.len().saturating_sub(limit))..].to_owned()
    }
}

/// Where a piece of a text goes on unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    Nowhere,
    Start,
    End,
}

/// The start of `head`, a note, and the end of `tail`, in `limit` bytes together.
fn join(head: &str, tail: &str, limit: usize, total: u64) -> (String, u64) {
    if limit < NOTE_WORTH_BYTES {
        let kept = &head[..floor(head, limit)];
        return (kept.to_owned(), total.saturating_sub(count(kept.len())).max(1));
    }
    let half = (limit - NOTE_BYTES_MAX) / 2;
    let head = &head[..floor(head, half)];
    let tail = &tail[ceiling(tail, tail.len().saturating_sub(half))..];
    let cut = total.saturating_sub(count(head.len() + tail.len())).max(1);
    (format!("{head}\n[… {} bytes cut …]\n{tail}", grouped(cut)), cut)
}

/// The last place not after `at` where a text may be cut.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The first place not before `at` where a text may be cut.
fn ceiling(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: String, _: Open) -> String {
        text
    }

    #[test]
    fn what_fits_is_whole() {
        let mut kept = Kept::new(1_000);
        kept.push(b"hello ");
        kept.push(b"world");
        assert_eq!(kept.text(1_000, plain), ("hello world".to_owned(), 0));
    }

    #[test]
    fn what_does_not_fit_keeps_both_ends_and_says_how_much_is_missing() {
        for pieces in [1, 7, 4096] {
            let bytes: Vec<u8> = (0..100_000_u32).map(|n| b'a' + u8::try_from(n % 26).expect("a letter")).collect();
            let mut kept = Kept::new(1_000);
            bytes.chunks(pieces).for_each(|piece| kept.push(piece));
            let (text, cut) = kept.text(1_000, plain);
            assert!(text.len() <= 1_000);
            assert!(text.starts_with("abcdef") && text.ends_with("abcd"), "{text}");
            assert!(text.contains(&format!("[… {} bytes cut …]", grouped(cut))));
            assert_eq!(cut, 100_000 - 2 * ((1_000 - 64) / 2));
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_bound() {
        let mut kept = Kept::new(1_000);
        kept.push(&[0xff; 900]);
        let (text, cut) = kept.text(1_000, plain);
        assert!(text.len() <= 1_000 && cut > 0, "{}", text.len());
    }

    #[test]
    fn a_tiny_bound_is_kept_too() {
        assert_eq!(shortened("äöü".to_owned(), 3), ("ä".to_owned(), 4));
        assert_eq!(shortened(String::new(), 0), (String::new(), 0));
        let mut kept = Kept::new(0);
        kept.push(b"abc");
        assert_eq!(kept.text(0, plain), (String::new(), 3));
    }

    #[test]
    fn the_tail_is_the_end() {
        let mut kept = Kept::new(10);
        kept.push(b"0123456789abcdefghijklmnopqrstuvwxyz");
        assert_eq!(kept.tail_text(4, plain), "wxyz");
    }
}
