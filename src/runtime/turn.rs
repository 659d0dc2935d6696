//! A drive among others that want its place: it leaves where a switch holds its run, or where it only waits for money that
//! others hold, and comes again.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::{Runtime, RuntimeError, silent};
use crate::domain::event::RunState;
use crate::domain::switch::SwitchScope;
use crate::ids::RunId;

/// Why a drive left a run that hasn't ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The switch of this scope holds it.
    Held(SwitchScope),
    /// It waited in the ledger's queue, and others could begin.
    Queued,
}

/// What a drive hears of whoever gave it its place, and tells them. Cheap to clone.
#[derive(Clone)]
pub struct Turn(Arc<Inner>);

struct Inner {
    gives_way: Box<dyn Fn() -> bool + Send + Sync>,
    left: OnceLock<Left>,
}

impl Turn {
    /// `gives_way` tells whether one that waits for money leaves.
    pub fn new(gives_way: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { gives_way: Box::new(gives_way), left: OnceLock::new() }))
    }

    /// Why it left, if it did.
    #[must_use]
    pub fn left(&self) -> Option<&Left> {
        self.0.left.get()
    }

    pub(super) fn gives_way(&self) -> bool {
        (self.0.gives_way)()
    }

    pub(super) fn leave(&self, why: Left) {
        // The first reason stands.
        self.0.left.set(why).unwrap_or_default();
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turn").field(&self.left()).finish()
    }
}

impl Runtime {
    /// As [`Runtime::drive`]; but a run that a switch holds isn't waited for, nor one that waits for money where others could
    /// begin in its place; the turn says so.
    ///
    /// # Errors
    /// As [`Runtime::drive`].
    pub async fn drive_in_turn(&self, run: RunId, turn: &Turn) -> Result<RunState, RuntimeError> {
        let entered = self.enter(run)?;
        self.drive_entered(entered, run, silent(), Some(turn.clone())).await
    }
}
