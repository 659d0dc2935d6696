//! Who changes something, and why, as requests say it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of requests that say no more: a key is rotated or revoked, an exception approved or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// Who does it.
    #[serde(default = "nobody_named")]
    pub by: String,
    /// Why.
    #[serde(default = "no_reason")]
    pub reason: String,
}

impl Default for ActRequest {
    fn default() -> Self {
        Self { by: nobody_named(), reason: no_reason() }
    }
}

/// Who it is where a request doesn't say.
pub(super) fn nobody_named() -> String {
    "somebody through the API".to_owned()
}

fn no_reason() -> String {
    "no reason given".to_owned()
}
