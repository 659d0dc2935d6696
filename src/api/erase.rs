//! Bodies that somebody has taken out of the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::service::Service;
use crate::domain::access::Scope;
use crate::domain::erasure::Removed;
use crate::domain::event::Labels;

/// The body of `POST /v1/erase`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// Whose runs: those with all of these labels. At least one.
    pub labels: Labels,
    /// Why.
    pub reason: String,
    /// Who wants it; a key's own name counts where there is a key.
    #[serde(default)]
    pub by: String,
    /// True to learn how much there is, and remove nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasedDocument {
    /// What was removed.
    pub removed: Removed,
    /// Trees of runs that aren't over, and stay as they are.
    pub open: u64,
    /// Trees that are still to be erased. Ask again: one request goes on for some seconds only.
    pub left: u64,
}

impl Service {
    /// Takes the bodies of runs out of the store; sums, labels and states stay.
    ///
    /// # Errors
    /// No label, no reason, a label that the caller's own contradicts, or the store can't be read or written.
    pub async fn erase(&self, request: &EraseRequest) -> Result<ErasedDocument, ApiError> {
        self.caller().may(Scope::Admin)?;
        let labels = self.caller().label(request.labels.clone())?;
        if labels.is_empty() {
            let why = "`labels` names nobody; say whose runs they are, such as {\"tenant\": \"acme\"}";
            return Err(ApiError::BadRequest(why.to_owned()));
        }
        let act = self.own_act(&request.by, &request.reason)?;
        let runtime = self.runtime();
        // Where the caller hangs up, each tree is whole or erased, and the next sweep removes what files are left.
        let erased =
            if request.dry_run { runtime.erasable(&labels).await? } else { runtime.erase(&labels, &act).await? };
        Ok(ErasedDocument { removed: erased.removed, open: erased.open, left: erased.left })
    }
}
