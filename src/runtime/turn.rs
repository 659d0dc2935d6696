//! A drive among others that want its place: it leaves where a switch holds its run, and comes again once that is lifted.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Runtime, RuntimeError, silent};
use crate::domain::event::RunState;
use crate::domain::switch::SwitchScope;
use crate::ids::RunId;

/// What a drive says to whoever gave it its place. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<Mutex<Option<SwitchScope>>>);

impl Turn {
    /// The scope of the switch that it left for.
    #[must_use]
    pub fn held_by(&self) -> Option<SwitchScope> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn leave(&self, scope: SwitchScope) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(scope);
    }
}

impl Runtime {
    /// As [`Runtime::drive`]; but a run that a switch holds isn't waited for, and the turn says so.
    ///
    /// # Errors
    /// As [`Runtime::drive`].
    pub async fn drive_in_turn(&self, run: RunId, turn: &Turn) -> Result<RunState, RuntimeError> {
        let entered = self.enter(run)?;
        self.drive_entered(entered, run, silent(), Some(turn.clone())).await
    }
}
