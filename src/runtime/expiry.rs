//! The end of waits for people that take too long (limit `expires`), while the process lives. Those that a start finds
//! past their time have been ended by the store.
//!
//! One timer for all waits. It holds the runtime only while it ends a run, so that a store closes with its last user.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Runtime, RuntimeError, Shared};
use crate::clock::Clock;
use crate::domain::ledger::Op;
use crate::ids::RunId;
use crate::units::{Millis, Timestamp};

/// How long a wait that is over waits for whoever has its tree in hand.
const IN_HAND_TIME: Millis = Millis::from_secs(1);

/// Who waits until when, and the timer. Dropped, it ends with it.
#[derive(Default)]
pub(crate) struct Expiry {
    waits: Arc<Waits>,
    timer: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Waits {
    /// As many as there are runs that wait: each is in the store.
    due: Mutex<BTreeSet<(Timestamp, RunId)>>,
    changed: Notify,
    /// Trees whose wait is over, until somebody goes on with them. No more than waited: each is in the store.
    over: Mutex<BTreeSet<RunId>>,
    ended: Notify,
}

impl Waits {
    fn over(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> MutexGuard<'_, BTreeSet<(Timestamp, RunId)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first wait that is over, which is forgotten; else how long until one is.
    fn next(&self, now: Timestamp) -> Result<RunId, Option<Millis>> {
        let mut due = self.due();
        match due.first() {
            Some((until, _)) if *until > now => Err(Some(until.since(now))),
            Some(_) => due.pop_first().map(|(_, run)| run).ok_or(None),
            None => Err(None),
        }
    }
}

impl Runtime {
    /// Has these waits end when their time is over.
    pub(super) fn watch_waits(&self, waits: impl IntoIterator<Item = (Timestamp, RunId)>) {
        let expiry = &self.0.expiry;
        expiry.waits.due().extend(waits);
        if expiry.waits.due().is_empty() {
            return;
        }
        expiry.waits.changed.notify_one();
        // Without tokio nothing runs here for long, and the next start looks.
        let Ok(handle) = Handle::try_current() else { return };
        let mut timer = expiry.timer.lock().unwrap_or_else(PoisonError::into_inner);
        while timer.try_join_next().is_some() {}
        if timer.is_empty() {
            let (shared, waits, clock) = (Arc::downgrade(&self.0), expiry.waits.clone(), self.0.clock.clone());
            timer.spawn_on(end_when_due(shared, waits, clock), &handle);
        }
    }

    /// The next root that nobody drives and whose question is no longer open, since nobody answered it in time: whoever asks
    /// goes on with it. For one who asks at a time.
    pub(crate) async fn expired(&self) -> RunId {
        let waits = &self.0.expiry.waits;
        loop {
            let ended = waits.ended.notified();
            if let Some(root) = waits.over().pop_first() {
                return root;
            }
            ended.await;
        }
    }

    /// Has whoever asks for it go on with a tree.
    pub(super) fn tell_expired(&self, root: RunId) {
        self.0.expiry.waits.over().insert(root);
        self.0.expiry.waits.ended.notify_one();
    }

    /// Notes of a tree that nobody drives which of its questions nobody answered in time. It goes on when it is resumed, or
    /// by whoever asks for such. False where somebody has it in hand.
    pub(super) async fn expire(&self, run: RunId) -> Result<bool, RuntimeError> {
        let run = self.root_of(run)?;
        let Ok(entered) = self.enter(run) else { return Ok(false) };
        let (tree, _) = self.load_tree(run)?;
        let events = self.late(&tree);
        if !events.is_empty() {
            self.store().submit(Op { run, events, asks: vec![], plan: None }).await?;
            // Whoever hears of it drives it.
            drop(entered);
            self.tell_expired(run);
        }
        Ok(true)
    }
}

async fn end_when_due(shared: Weak<Shared>, waits: Arc<Waits>, clock: Clock) {
    loop {
        match waits.next(clock.now()) {
            Ok(run) => {
                let Some(runtime) = shared.upgrade().map(Runtime) else { return };
                match runtime.expire(run).await {
                    Ok(true) => {}
                    // Whoever looks at an answer, say, may have read the clock just before.
                    Ok(false) => drop(waits.due().insert((clock.now().after(IN_HAND_TIME), run))),
                    Err(error) => {
                        tracing::error!(%run, %error, "a run that waits for a person for too long can't be told so");
                    }
                }
            }
            Err(Some(left)) => tokio::select! {
                biased;
                () = tokio::time::sleep(left.duration()) => {}
                () = waits.changed.notified() => {}
            },
            Err(None) => waits.changed.notified().await,
        }
    }
}
