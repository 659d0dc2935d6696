//! A drive that outlives the wait for it: who goes away takes no money along.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{RuntimeError, Shared};
use crate::domain::event::RunState;

/// What drives a run.
type Drive = Pin<Box<dyn Future<Output = Result<RunState, RuntimeError>> + Send>>;

/// The wait for a drive. Dropped before its end, it has the run stop cleanly, in the background: its open reservations
/// must be settled, or others would wait for their money until the process goes down.
pub(crate) struct Driving {
    drive: Option<Drive>,
    hang_up: watch::Sender<bool>,
    shared: Arc<Shared>,
}

impl Driving {
    pub(crate) fn new(drive: Drive, hang_up: watch::Sender<bool>, shared: Arc<Shared>) -> Self {
        Self { drive: Some(drive), hang_up, shared }
    }
}

impl Future for Driving {
    type Output = Result<RunState, RuntimeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(drive) = &mut self.drive else { return Poll::Pending };
        let polled = drive.as_mut().poll(context);
        if polled.is_ready() {
            self.drive = None;
        }
        polled
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        // Without tokio nothing can go on: then the next start settles what is open.
        let (Some(drive), Ok(handle)) = (self.drive.take(), Handle::try_current()) else { return };
        if std::thread::panicking() {
            return;
        }
        self.hang_up.send_replace(true);
        let mut drains = self.shared.drains.lock().unwrap_or_else(PoisonError::into_inner);
        while drains.try_join_next().is_some() {}
        let drained = async move {
            if let Err(error) = drive.await {
                tracing::error!(%error, "a run whose caller went away can't be stopped cleanly");
            }
        };
        drains.spawn_on(drained, &handle);
    }
}
