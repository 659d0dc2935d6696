//! Server-sent events: bytes in, events out, cut anywhere.
//!
//! Invariants: how the bytes are split changes nothing; an event never holds more than [`EVENT_BYTES_MAX`].
//! Deliberately absent: reconnecting, `id` and `retry`. A model's stream can't be taken up again.

use super::fault::Broken;

/// The largest event that is held in memory.
pub(crate) const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The mark that a text file may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One event: its name, where it has one, and its data lines joined by a line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event` field.
    pub(crate) name: Option<String>,
    /// The `data` fields.
    pub(crate) data: String,
}

/// An event larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventTooLarge;

/// Reads events from pieces of a stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line that is not yet whole.
    line: Vec<u8>,
    /// The data of the event that is not yet whole; `None` before its first `data` line.
    data: Option<Vec<u8>>,
    name: Option<String>,
    /// The last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    /// A line was read, so that a byte order mark is none any more.
    begun: bool,
}

impl Parser {
    /// Reads a piece and adds the events that it completes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), EventTooLarge> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.hold(bytes);
            };
            self.hold(&bytes[..end])?;
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events);
        }
        Ok(())
    }

    /// Reads a piece: each event that it completes is taken in by `absorb`, and the text that this gives is told to `hear`.
    /// Events before one that is too large count.
    pub(crate) fn hear_out(
        &mut self,
        bytes: &[u8],
        hear: &mut dyn FnMut(&str),
        mut absorb: impl FnMut(&Event) -> Result<String, Broken>,
    ) -> Result<(), Broken> {
        let mut events = Vec::new();
        let pushed = self.push(bytes, &mut events);
        for event in &events {
            let text = absorb(event)?;
            if !text.is_empty() {
                hear(&text);
            }
        }
        pushed.map_err(|_| Broken::Oversized)
    }

    /// Ends the stream: gives what a server that forgets the last blank line left open, or what a cut left of it.
    pub(crate) fn finish(&mut self) -> Option<Event> {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut events);
        }
        self.dispatch(&mut events);
        events.pop()
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        if held + bytes.len() > EVENT_BYTES_MAX {
            return Err(EventTooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let text = if std::mem::replace(&mut self.begun, true) {
            line.as_slice()
        } else {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line)
        };
        if text.is_empty() {
            self.dispatch(events);
        } else {
            self.field(text);
        }
        self.line = line;
        self.line.clear();
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, rest) = line.split_at(colon);
        let value = rest.strip_prefix(b":").unwrap_or(rest);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => self.add_data(value),
            b"event" => self.name = Some(String::from_utf8_lossy(value).into_owned()),
            // A comment has an empty name; `id`, `retry` and what we don't know change nothing.
            _ => {}
        }
    }

    fn add_data(&mut self, value: &[u8]) {
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = self.name.take();
        if let Some(data) = self.data.take() {
            events.push(Event { name, data: String::from_utf8_lossy(&data).into_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "\u{feff}: OPENROUTER PROCESSING\n\ndata: one\r\n\r\nevent: ping\rdata\r\rdata:two\ndata:  three ü€🦀\n\nid: 7\nretry: 5\n\ndata: [DONE]\n\n";

    fn read(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut events).expect("small events");
        }
        events.extend(parser.finish());
        events
    }

    fn event(name: Option<&str>, data: &str) -> Event {
        Event { name: name.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn all_line_ends_comments_and_many_lines_are_read() {
        let expected =
            [event(None, "one"), event(Some("ping"), ""), event(None, "two\n three ü€🦀"), event(None, "[DONE]")];
        assert_eq!(read(&[STREAM.as_bytes()]), expected);
    }

    #[test]
    fn bytes_one_by_one_give_the_same_events() {
        let pieces: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(read(&pieces), read(&[STREAM.as_bytes()]));
    }

    #[test]
    fn an_open_event_at_the_end_is_given() {
        assert_eq!(read(&[b"data: a\n\ndata: [DONE]"]), [event(None, "a"), event(None, "[DONE]")]);
        assert_eq!(read(&[b"data: a\n"]), [event(None, "a")]);
        assert_eq!(read(&[b": only a comment"]), []);
    }

    #[test]
    fn an_event_is_bounded_over_pieces_and_lines() {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        let half = vec![b'x'; EVENT_BYTES_MAX / 2 - 64];
        for part in [b"data: ".as_slice(), &half, b"\ndata: ", &half] {
            assert_eq!(parser.push(part, &mut events), Ok(()));
        }
        assert_eq!(parser.push(&[b'y'; 256], &mut events), Err(EventTooLarge));
    }

    proptest! {
        #[test]
        fn splitting_anywhere_changes_nothing(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), Just(b'a'), Just(b't'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let text = [b"data: ".as_slice(), &bytes].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&text]));
        }
    }
}
