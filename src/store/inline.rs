//! A store on a disk in memory whose writer works in the caller's place, without a thread: for simulations in virtual
//! time, which must go the same way each time they are told again.
//!
//! A [`Tap`] sees what is committed, and may lead ops and reads astray, as a fault of ours would. Only a disk in memory
//! can have one.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::event::Recorded;
use crate::domain::ledger::Op;
use crate::ids::RunId;
use crate::store::writer::{Command, Writer};
use crate::units::Millis;

/// What a simulation does and sees at an inline store. Each of its methods does nothing unless it is given.
pub trait Tap: Send + Sync + 'static {
    /// How long the next op is on its way to the writer, and how long its answer is on the way back.
    fn ways(&self) -> (Millis, Millis) {
        (Millis::ZERO, Millis::ZERO)
    }

    /// An op, before it is judged.
    fn op(&self, op: &mut Op) {
        let _ = op;
    }

    /// What one commit wrote, in order, before anybody else is told. What an open wrote too.
    fn committed(&self, events: &[(RunId, Recorded)]) {
        let _ = events;
    }

    /// A run's log, before a reader gets it.
    fn log(&self, run: RunId, log: &mut Vec<Recorded>) {
        let _ = (run, log);
    }
}

/// The writer of an inline store.
pub(crate) struct Inline {
    writer: Mutex<Writer>,
    pub(crate) tap: Arc<dyn Tap>,
}

impl Inline {
    pub(crate) fn new(writer: Writer, tap: Arc<dyn Tap>) -> Self {
        Self { writer: Mutex::new(writer), tap }
    }

    /// Decides and commits one command, and answers it.
    pub(crate) fn write(&self, mut command: Command) {
        if let Command::Submit(op, _) = &mut command {
            self.tap.op(op);
        }
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).alone(command);
    }
}

/// Lets virtual time go by.
pub(crate) async fn pass(time: Millis) {
    if time > Millis::ZERO {
        tokio::time::sleep(time.duration()).await;
    }
}
