//! Cassettes: real replies recorded once, and runs answered from them, without a call, a key or a bill.
//!
//! A cassette is a file of JSON lines: a head, then one line for each answer of a model or a tool, in the order in which
//! they came. Invariants: an answer is found by what was asked, never by its place in the file, so stages and runs beside
//! each other can be recorded and played in any order; no secret is written. Deliberately absent: headers, addresses and
//! requests themselves.

mod key;
pub(super) mod play;
pub(super) mod record;
mod secrets;

use serde::{Deserialize, Serialize};

use crate::domain::message::Reply;
use crate::domain::retry::Failure;
use crate::ids::{ModelName, ToolName};
use crate::units::Millis;

pub use play::Player;
pub use record::Recorder;
pub use secrets::Secrets;

/// The version that is written and read.
pub const CASSETTE_VERSION: u32 = 1;
/// The longest line that is read: an answer of the largest size, as JSON.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest cassette that is read.
pub const CASSETTE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Who answers a runtime's calls.
#[derive(Debug, Default)]
pub enum Tape {
    /// Whoever is configured, live.
    #[default]
    None,
    /// As above, and what they say is kept.
    Record(Recorder),
    /// A cassette.
    Play(Player),
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    plimsoll_cassette: u32,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
enum Line {
    /// Of a model.
    Model {
        key: String,
        model: ModelName,
        latency_ms: Millis,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_token_ms: Option<Millis>,
        came: Came,
    },
    /// Of a tool.
    Tool {
        key: String,
        tool: ToolName,
        latency_ms: Millis,
        content: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(default)]
        cut_bytes: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        never_began: bool,
    },
}

/// What came of a model's attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Came {
    Replied(Box<Reply>),
    Unbilled(Failure),
    Unknown(Failure),
}

/// Why a cassette can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CassetteError {
    /// It can't be read.
    #[error("the cassette `{path}` can't be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// It is too large.
    #[error("the cassette `{path}` has {bytes} bytes, more than {CASSETTE_BYTES_MAX}; record fewer runs into one")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// It is something else, or damaged.
    #[error("line {line} of `{path}` is no line of a cassette: {reason}; record it again")]
    Form {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// It is of another version.
    #[error(
        "the cassette `{path}` is of version {version}, and this program reads {CASSETTE_VERSION}; record it again"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// It is there already.
    #[error("`{path}` is there already; nothing was run. Give another name, or say that it may be replaced")]
    Exists {
        /// The file.
        path: String,
    },
    /// It can't be written.
    #[error(
        "the cassette `{path}` can't be written: {source}; what was recorded is lost, and the runs are in the store"
    )]
    Write {
        /// The file.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
