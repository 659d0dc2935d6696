//! What people ask of runs while they go on, and the answers that they give.
//!
//! Invariants: an answer is judged by the run's own state, and counts once it is on disk; one that comes while somebody
//! drives the run goes through that driver, which alone writes to its log.

use std::sync::PoisonError;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Runtime, RuntimeError, silent};
use crate::domain::event::{Event, PersonAnswered};
use crate::domain::ledger::Op;
use crate::domain::run::Given;
use crate::failpoint;
use crate::ids::RunId;

/// Requests that a driver hasn't taken yet.
const REQUESTS_MAX: usize = 64;
/// Drivers that may leave while an answer is on its way to them.
const DRIVERS_MAX: u32 = 64;

/// What somebody wants of a run that is driven.
pub(crate) enum Request {
    /// That it ends.
    Cancel {
        /// Why.
        reason: String,
    },
    /// That it takes an answer.
    Answer {
        /// The answer.
        given: Given,
        /// What became of it.
        reply: oneshot::Sender<Result<PersonAnswered, RuntimeError>>,
    },
}

/// The way to whoever drives a run, or decides on it.
pub(super) struct Driver {
    requests: mpsc::Sender<Request>,
    present: watch::Sender<()>,
}

impl Driver {
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        (Self { requests, present: watch::Sender::new(()) }, received)
    }

    /// Closes when the driver has let go.
    pub(super) fn presence(&self) -> watch::Receiver<()> {
        self.present.subscribe()
    }
}

impl Runtime {
    /// Answers a question of a run: in its log at once, or through whoever drives it. The run goes on when it is driven.
    ///
    /// # Errors
    /// There is no such run, such a question isn't open (any more), the answer doesn't fit it, or the store can't write.
    pub async fn answer(&self, run: RunId, given: &Given) -> Result<PersonAnswered, RuntimeError> {
        for _ in 0..DRIVERS_MAX {
            if let Ok((_entered, _requests)) = self.enter(run) {
                return self.answer_here(run, given).await;
            }
            let (reply, answered) = oneshot::channel();
            self.request(run, Request::Answer { given: given.clone(), reply }).await;
            match answered.await {
                Ok(answered) => return answered,
                // It left before it heard.
                Err(_) => self.let_go(run).await,
            }
        }
        Err(RuntimeError::Driven { run })
    }

    async fn answer_here(&self, run: RunId, given: &Given) -> Result<PersonAnswered, RuntimeError> {
        let (state, _) = self.load(run)?;
        let now = self.0.clock.now();
        let answered = state.judge_answer(now, given, &self.0.checks);
        // Whatever comes of it, what is late is noted: the log says so from here on.
        let mut events: Vec<Event> = state.expired(now);
        events.extend(answered.iter().cloned().map(Event::PersonAnswered));
        if !events.is_empty() {
            failpoint::reach("answer.given");
            let events = events.into_iter().map(|event| (run, event)).collect();
            self.store().submit(Op { run, events, asks: vec![], plan: None }).await?;
            failpoint::reach("answer.written");
        }
        answered.map_err(|fault| RuntimeError::Answer { run, fault })
    }

    /// Goes on with a run beside the caller, as far as it gets while the process lives. Whoever drives it already goes on
    /// by themselves.
    pub fn go_on(&self, run: RunId) {
        let Ok(entered) = self.enter(run) else { return };
        let runtime = self.clone();
        let mut woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while woken.try_join_next().is_some() {}
        woken.spawn(async move {
            if let Err(error) = runtime.drive_entered(entered, run, silent()).await {
                tracing::error!(%run, %error, "a run that was answered can't go on");
            }
        });
    }

    /// Runs that go on beside the caller stop cleanly: what they have in flight is drained after that.
    pub(super) async fn let_woken_go(&self) {
        let mut woken = std::mem::take(&mut *self.0.woken.lock().unwrap_or_else(PoisonError::into_inner));
        woken.abort_all();
        while woken.join_next().await.is_some() {}
    }

    /// Tells whoever drives a run; nobody hears it where nobody does.
    pub(super) async fn request(&self, run: RunId, request: Request) {
        let driver = self.driven().get(&run).map(|driver| driver.requests.clone());
        if let Some(driver) = driver {
            driver.send(request).await.unwrap_or_default();
        }
    }
}
