//! Lets others hear that a run goes on, while they listen and not longer.
//!
//! Invariant: nobody who listens holds up a run: who is slow misses what is provisional, and reads the rest from the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::{Observer, Progress, Runtime};
use crate::ids::RunId;

/// Calls that one who listens may be behind.
const BEHIND_MAX: usize = 256;

/// Something that is heard of a run.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Its log is longer.
    Events,
    /// A piece of an answer that is being streamed: provisional until its attempt is settled.
    Text(Arc<str>),
    /// What was streamed since the attempt began counts for nothing.
    TextDiscarded,
}

type Calls = BTreeMap<RunId, broadcast::Sender<Heard>>;

/// Who listens to which run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo(Arc<Listened>);

#[derive(Debug, Default)]
struct Listened {
    calls: Mutex<Calls>,
    /// How many runs are listened to: where that is none, a run's progress costs one look.
    count: AtomicUsize,
}

impl Echo {
    /// Hears of a run from here on.
    pub(crate) fn listen(&self, run: RunId) -> broadcast::Receiver<Heard> {
        let mut calls = self.calls();
        // Who went away is forgotten when the next one comes.
        calls.retain(|_, call| call.receiver_count() > 0);
        let heard = calls.entry(run).or_insert_with(|| broadcast::Sender::new(BEHIND_MAX)).subscribe();
        self.0.count.store(calls.len(), Ordering::Release);
        heard
    }

    /// An observer that is heard here too.
    pub(crate) fn around(&self, observer: Observer) -> Observer {
        let echo = self.clone();
        Arc::new(move |progress| {
            observer(progress);
            if echo.0.count.load(Ordering::Acquire) > 0 {
                echo.tell(progress);
            }
        })
    }

    fn tell(&self, progress: Progress<'_>) {
        let (run, heard) = match progress {
            Progress::Event { run, .. } => (run, Heard::Events),
            Progress::Text { run, piece } => (run, Heard::Text(piece.into())),
            Progress::TextDiscarded { run } => (run, Heard::TextDiscarded),
            Progress::Refused { .. } => return,
        };
        if let Some(call) = self.calls().get(&run) {
            // Nobody hears it where nobody is left.
            call.send(heard).unwrap_or_default();
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime {
    /// Hears of a run while this process drives it, from here on.
    #[must_use]
    pub fn listen(&self, run: RunId) -> broadcast::Receiver<Heard> {
        self.0.echo.listen(run)
    }
}
