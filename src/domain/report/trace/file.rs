//! Files in a trace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::message::{File, Media};
use crate::units::Tokens;

/// A file that goes with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileLine {
    /// What the user calls it.
    pub name: String,
    /// What it is.
    pub media: Media,
    /// How many bytes it has.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// The most tokens that any of the run's models counts for it: what is set aside in each request.
    pub tokens_max: Tokens,
    /// True where the agent's file names it, so that it goes with every input.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_agent: bool,
}

impl FileLine {
    /// One that goes with an input.
    #[must_use]
    pub fn of(file: &File) -> Self {
        Self {
            name: file.name().to_owned(),
            media: file.media(),
            bytes: file.bytes(),
            sha256: file.sha256().to_owned(),
            tokens_max: file.tokens(),
            of_agent: false,
        }
    }

    /// One that goes with every input of its agent.
    #[must_use]
    pub fn of_agent(file: &File) -> Self {
        Self { of_agent: true, ..Self::of(file) }
    }
}
