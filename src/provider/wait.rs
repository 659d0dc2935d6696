//! How long an attempt is waited for: its time limit, the first token's, and a cancel.
//!
//! Invariant: what is waited for is dropped when the wait ends, which closes its connection.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use crate::gate::Permit;
use crate::provider::CancelSignal;
use crate::units::Millis;

/// How long a cancelled call is still read, so that its usage is known and not its worst case settled.
pub const DRAIN_TIME_MAX: Millis = Millis::from_secs(10);

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The call's time limit passed.
    TimeLimit,
    /// The first token didn't come in time.
    FirstToken,
    /// The call was cancelled, and its usage didn't come in [`DRAIN_TIME_MAX`].
    Cancelled,
}

/// Whether the request's body was ever asked for. Before that no byte of it can have left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Notes that the body goes out now.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once a byte of the body may have left.
    pub(crate) fn is_noted(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The bounds of one attempt.
#[derive(Debug)]
pub(crate) struct Wait {
    /// The limits as they were given, for messages.
    pub(crate) time_limit: Millis,
    pub(crate) first_token_limit: Millis,
    /// Whether the request left.
    pub(crate) sent: Sent,
    ends: Instant,
    first_token: Option<Instant>,
    /// `None` once it was heard, or can't be given any more.
    cancel: Option<CancelSignal>,
    cancelled: bool,
}

impl Wait {
    /// The bounds that a permit gives, from now on.
    pub(crate) fn new(permit: &Permit, cancel: CancelSignal) -> Self {
        let (time_limit, first_token_limit) = (permit.time_limit(), permit.first_token_limit());
        Self {
            time_limit,
            first_token_limit,
            sent: Sent::default(),
            ends: from_now(time_limit),
            first_token: None,
            cancel: Some(cancel),
            cancelled: false,
        }
    }

    /// From here on the first token is waited for too.
    pub(crate) fn expect_first_token(&mut self) {
        self.first_token = Some(from_now(self.first_token_limit)).filter(|_| !self.cancelled);
    }

    /// The first token came.
    pub(crate) fn heard_first_token(&mut self) {
        self.first_token = None;
    }

    /// True once the call was cancelled: nobody watches any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Waits for `future` within the bounds.
    pub(crate) async fn bound<F: Future>(&mut self, future: F) -> Result<F::Output, Ended> {
        let mut future = std::pin::pin!(future);
        loop {
            let (until, ended) = self.next_end();
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                () = tokio::time::sleep_until(until) => return Err(ended),
                () = heard(&mut self.cancel) => self.begin_drain()?,
            }
        }
    }

    fn next_end(&self) -> (Instant, Ended) {
        match self.first_token {
            Some(first_token) if first_token < self.ends => (first_token, Ended::FirstToken),
            _ if self.cancelled => (self.ends, Ended::Cancelled),
            _ => (self.ends, Ended::TimeLimit),
        }
    }

    /// A call that has left is read on for a while; one that hasn't ends at once.
    fn begin_drain(&mut self) -> Result<(), Ended> {
        self.cancelled = true;
        if !self.sent.is_noted() {
            return Err(Ended::Cancelled);
        }
        self.first_token = None;
        self.ends = self.ends.min(from_now(DRAIN_TIME_MAX));
        Ok(())
    }
}

/// Resolves when the signal turns true; never after that, and never when nobody can give it any more.
async fn heard(cancel: &mut Option<CancelSignal>) {
    if let Some(signal) = cancel {
        let told = signal.wait_for(|cancelled| *cancelled).await.is_ok();
        *cancel = None;
        if told {
            return;
        }
    }
    std::future::pending().await
}

fn from_now(length: Millis) -> Instant {
    // A year stands for whatever is longer, so that the sum can't overflow.
    Instant::now() + length.min(Millis::from_secs(365 * 86_400)).duration()
}
