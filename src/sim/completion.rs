//! An answer before it has a wire's form: what is said, how it ends, what it used, and where its stream breaks.

use crate::sim::count::boundary;
use crate::sim::fault::WireError;
use crate::sim::rates::Counts;
use crate::sim::wire::Dialect;

/// Bytes of text in one chunk where the scenario doesn't say.
pub(crate) const CHUNK_BYTES: usize = 32;

/// How the usage is shown to the client; what is billed doesn't depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    #[default]
    Once,
    Missing,
    Null,
    Garbage,
    Twice,
    EveryChunk,
}

/// Where a stream breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nowhere,
    /// The connection closes after so many chunks.
    Cut(usize),
    /// An error object comes after so many chunks.
    Error(usize),
    /// The stream ends without usage and without its last mark.
    NoDone,
}

/// Why an answer ended; each wire has words of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model was done.
    #[default]
    Stop,
    /// The output reached its limit.
    Length,
    /// The model calls tools.
    Calls,
    /// A content filter.
    Filter,
    /// The word that the scenario gives.
    Given(String),
}

/// One completion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completion {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) refusal: Option<String>,
    /// What kind of refusal it is, where the scenario says so.
    pub(crate) category: Option<String>,
    /// Names and arguments.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) finish: Finish,
    /// What is shown as usage.
    pub(crate) usage: Counts,
    pub(crate) shown: Shown,
    pub(crate) broken: Broken,
    /// How many choices; 0 for a fault.
    pub(crate) choices: u64,
    pub(crate) include_usage: bool,
    pub(crate) chunk_bytes: usize,
    /// What the tokens cost, in hundredths of the model's rates.
    pub(crate) rate_percent: u64,
    /// Searches of the web that were made for it.
    pub(crate) searches: u64,
}

/// One event of a stream as it goes over the wire, with what it says for the count.
#[derive(Clone, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) wire: String,
    pub(crate) said: &'a str,
    /// True where all of the reasoning is said once this event is.
    pub(crate) reasoned: bool,
}

impl<'a> Event<'a> {
    pub(crate) fn new(wire: String, said: &'a str) -> Self {
        Self { wire, said, reasoned: false }
    }
}

/// A stream in its parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream<'a> {
    /// What is said; a stream that breaks, breaks in here.
    pub(crate) said: Vec<Event<'a>>,
    /// Why it ended, where that comes before the usage.
    pub(crate) finish: Vec<String>,
    /// The usage and the last mark.
    pub(crate) last: Vec<String>,
}

impl Completion {
    /// The events of its stream over a wire, each with its blank line, up to where the stream breaks.
    pub(crate) fn events(&self, wire: &dyn Dialect) -> Vec<String> {
        let Stream { said, finish, last } = wire.stream(self);
        let said = said.into_iter().map(|event| event.wire);
        match self.broken {
            Broken::Cut(after) => said.take(after).collect(),
            Broken::Error(after) => {
                let error = WireError::new(wire, 500, None, "the server had an error while it answered");
                said.take(after).chain([wire.error_event(&error)]).collect()
            }
            Broken::NoDone => said.chain(finish).collect(),
            Broken::Nowhere => said.chain(finish).chain(last).collect(),
        }
    }

    /// What the first `after` events of its stream say, and whether all of the reasoning is among it.
    pub(crate) fn said(&self, wire: &dyn Dialect, after: usize) -> (String, bool) {
        let events = wire.stream(self).said.into_iter().take(after);
        events.fold((String::new(), false), |(said, reasoned), event| (said + event.said, reasoned || event.reasoned))
    }

    /// A text in the pieces that it is streamed in.
    pub(crate) fn chunks<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        chunks(text, self.chunk_bytes)
    }
}

/// Splits a text at character boundaries into pieces of about `bytes` bytes.
fn chunks(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?.len_utf8();
        let (piece, after) = rest.split_at(boundary(rest, bytes).max(first));
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_characters_whole() {
        assert_eq!(chunks("aäöb", 2).collect::<Vec<_>>(), ["a", "ä", "ö", "b"]);
        assert_eq!(chunks("aäöb", 3).collect::<Vec<_>>(), ["aä", "öb"]);
        assert_eq!(chunks("ä", 1).collect::<Vec<_>>(), ["ä"]);
        assert_eq!(chunks("", 1).count(), 0);
    }
}
