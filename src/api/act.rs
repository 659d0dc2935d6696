//! Who changes something, and why, as requests say it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::service::Service;
use crate::domain::audit::Act;

/// The body of requests that say no more: a key is rotated or revoked, an exception approved or ended.
///
/// Here and in every other request that the audit log tells of, `by` may be left out only by who has a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// Who does it; a key's own name counts where there is a key.
    #[serde(default)]
    pub by: String,
    /// Why; it is kept in the audit log.
    pub reason: String,
}

/// Who it is where a request doesn't say, and the audit log doesn't ask.
pub(super) fn nobody_named() -> String {
    "somebody through the API".to_owned()
}

impl Service {
    /// An act on what is everybody's. A key's own name counts, whoever the request says it is.
    ///
    /// # Errors
    /// The caller is bound to labels; or as [`Service::own_act`].
    pub(super) fn act(&self, by: &str, reason: &str) -> Result<Act, ApiError> {
        self.caller().is_unbound()?;
        self.own_act(by, reason)
    }

    /// An act on what is the caller's own.
    ///
    /// # Errors
    /// A name or a reason that is empty or too long.
    pub(super) fn own_act(&self, by: &str, reason: &str) -> Result<Act, ApiError> {
        Act::new(&self.caller().named(by), reason).map_err(|error| ApiError::BadRequest(error.to_string()))
    }
}
