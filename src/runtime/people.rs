//! What people answer to runs, while these go on or wait.
//!
//! Invariants: an answer is judged by the run's own state, and counts once it is on disk; one that comes while somebody
//! drives the tree goes through that driver, which alone writes to its logs.

use std::future::Future;
use std::sync::{MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Runtime, RuntimeError, silent};
use crate::domain::event::{Event, PersonAnswered};
use crate::domain::ledger::Op;
use crate::domain::run::{Given, Tree};
use crate::failpoint;
use crate::ids::RunId;

/// Drivers that may leave while something is on its way to them.
pub(super) const DRIVERS_MAX: u32 = 64;

/// What people ask of a tree that is driven.
#[derive(Debug)]
pub(crate) enum Request {
    /// To end it.
    Cancel {
        /// Why.
        reason: String,
        /// That it is on disk.
        reply: oneshot::Sender<()>,
    },
    /// That a question of one of its runs is answered.
    Answer {
        /// The run that asks.
        run: RunId,
        /// The answer.
        given: Given,
        /// What became of it.
        reply: oneshot::Sender<Result<PersonAnswered, RuntimeError>>,
    },
}

impl Runtime {
    /// Answers a question of a run: in its log at once, or through whoever drives its tree. Of a root that asks nothing
    /// itself, the one run below that asks is meant, where the answer names no question. The run goes on when it is
    /// driven. Says whose question it was.
    ///
    /// # Errors
    /// There is no such run, such a question isn't open (any more), the answer doesn't fit it, or the store can't write.
    pub async fn answer(&self, run: RunId, given: &Given) -> Result<(RunId, PersonAnswered), RuntimeError> {
        let root = self.root_of(run)?;
        let run = self.whose(root, run, given)?;
        for _ in 0..DRIVERS_MAX {
            if let Ok((_entered, _requests)) = self.enter(root) {
                return self.answer_here(root, run, given).await.map(|answered| (run, answered));
            }
            let (reply, answered) = oneshot::channel();
            self.request(root, Request::Answer { run, given: given.clone(), reply }).await;
            match answered.await {
                Ok(answered) => return answered.map(|answered| (run, answered)),
                // It left before it heard, or that run has ended.
                Err(_) => self.judge_ended(run, given)?,
            }
            tokio::task::yield_now().await;
        }
        Err(RuntimeError::Driven { run: root })
    }

    /// The root of a run's tree.
    pub(crate) fn root_of(&self, run: RunId) -> Result<RunId, RuntimeError> {
        let summary = self.store().summary(run)?.ok_or(RuntimeError::NoSuchRun { run })?;
        Ok(summary.root())
    }

    fn whose(&self, root: RunId, run: RunId, given: &Given) -> Result<RunId, RuntimeError> {
        if given.ask.is_some() || run != root {
            return Ok(run);
        }
        let (tree, _) = self.load_tree(root)?;
        let asks: Vec<RunId> = tree.runs().filter(|run| run.unanswered().next().is_some()).map(|run| run.id).collect();
        Ok(if let [only] = asks.as_slice() { *only } else { run })
    }

    /// Of a run that has ended nothing is asked any more, whoever drives its tree.
    fn judge_ended(&self, run: RunId, given: &Given) -> Result<(), RuntimeError> {
        let (state, _) = self.load(run)?;
        if state.ended.is_none() {
            return Ok(());
        }
        let judged = state.judge_answer(self.0.clock.now(), given, &self.0.checks);
        judged.map(drop).map_err(|fault| RuntimeError::Answer { run, fault })
    }

    async fn answer_here(&self, root: RunId, run: RunId, given: &Given) -> Result<PersonAnswered, RuntimeError> {
        let (tree, _) = self.load_tree(root)?;
        let now = self.0.clock.now();
        let answered = match tree.run(run) {
            Some(state) => state.judge_answer(now, given, &self.0.checks),
            None => self.load(run)?.0.judge_answer(now, given, &self.0.checks),
        };
        // Whatever comes of it, what is late is noted: the logs say so from here on.
        let mut events = self.late(&tree);
        let has_late = !events.is_empty();
        events.extend(answered.iter().map(|answered| (run, Event::PersonAnswered(answered.clone()))));
        if !events.is_empty() {
            failpoint::reach("answer.given");
            self.store().submit(Op { run: root, events, asks: vec![], plan: None }).await?;
            failpoint::reach("answer.written");
        }
        if has_late {
            self.tell_expired(root);
        }
        answered.map_err(|fault| RuntimeError::Answer { run, fault })
    }

    /// The facts of questions of a tree that nobody answered in time.
    pub(super) fn late(&self, tree: &Tree) -> Vec<(RunId, Event)> {
        let now = self.0.clock.now();
        let late = tree.runs().filter(|run| run.ended.is_none());
        late.flat_map(|run| run.expired(now).into_iter().map(|fact| (run.id, fact))).collect()
    }

    /// Goes on with a run's tree beside the caller, as far as it gets while the process lives. Whoever drives it already
    /// goes on by themselves.
    ///
    /// # Errors
    /// There is no such run.
    pub fn go_on(&self, run: RunId) -> Result<(), RuntimeError> {
        let run = self.root_of(run)?;
        let Ok(entered) = self.enter(run) else { return Ok(()) };
        let runtime = self.clone();
        self.woken().spawn(async move {
            if let Err(error) = runtime.drive_entered(entered, run, silent(), None).await {
                tracing::error!(%run, %error, "a run that was answered can't go on");
            }
        });
        Ok(())
    }

    /// Does some work to its end, whether or not the caller still waits for it; the process waits for that too.
    ///
    /// # Errors
    /// It broke down.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let (reply, done) = oneshot::channel();
        let work = async move {
            let done = work.await;
            // Nobody may hear it any more.
            reply.send(done).map_or((), drop)
        };
        self.drains().spawn(work);
        done.await.map_err(|error| RuntimeError::Task(error.to_string()))
    }

    fn woken(&self) -> MutexGuard<'_, JoinSet<()>> {
        let mut woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while woken.try_join_next().is_some() {}
        woken
    }

    fn drains(&self) -> MutexGuard<'_, JoinSet<()>> {
        let mut drains = self.0.drains.lock().unwrap_or_else(PoisonError::into_inner);
        while drains.try_join_next().is_some() {}
        drains
    }

    /// Runs that go on beside the caller stop cleanly: what they have in flight is drained after that.
    pub(super) async fn let_woken_go(&self) {
        let mut woken = std::mem::take(&mut *self.0.woken.lock().unwrap_or_else(PoisonError::into_inner));
        woken.abort_all();
        while woken.join_next().await.is_some() {}
    }

    /// Tells whoever drives a tree; nobody hears it where nobody does.
    pub(super) async fn request(&self, root: RunId, request: Request) {
        let driver = self.driven().get(&root).cloned();
        if let Some(driver) = driver {
            driver.send(Box::new(request)).await.unwrap_or_default();
        }
    }
}
