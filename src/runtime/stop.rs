//! The wish that everything stops cleanly, and how those who wait hear of it.

use tokio::sync::{Notify, watch};

/// Said once, heard by all. Who waits is woken in the order in which the waits began, so that a simulation goes the same
/// way each time; a `watch` wakes in an order of its own.
pub(crate) struct Stop {
    said: watch::Sender<bool>,
    wake: Notify,
}

impl Stop {
    pub(crate) fn new(said: watch::Sender<bool>) -> Self {
        Self { said, wake: Notify::new() }
    }

    pub(crate) fn say(&self) {
        self.said.send_replace(true);
        self.wake.notify_waiters();
    }

    pub(crate) fn is_said(&self) -> bool {
        *self.said.borrow()
    }

    /// Until it is said; at once if it was.
    pub(crate) async fn heard(&self) {
        // In this order, nothing that is said in between is missed.
        let woken = self.wake.notified();
        if !self.is_said() {
            woken.await;
        }
    }
}
