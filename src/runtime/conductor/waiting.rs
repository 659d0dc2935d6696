//! Waiting: for what is in flight, for news of the ledger, for time, and for people.

use super::{COMPLETIONS_MAX, Conductor, Flow};
use tokio::sync::oneshot;

use crate::domain::event::{CancelRequested, Event, PersonAnswered, RunState, WaitEnd};
use crate::domain::ledger::{Ask, Op};
use crate::domain::run::{Given, Intent, Next, Run};
use crate::failpoint;
use crate::gate::Submitted;
use crate::ids::RunId;
use crate::runtime::{Request, RuntimeError, Turn};
use crate::store::NoticeCommitted;
use crate::units::{Millis, Timestamp};

/// How often a queued run has the ledger look whether a new period began.
const QUEUE_LOOK: Millis = Millis::from_secs(5);

impl Conductor {
    /// Until an attempt is over, news come, or a time has come.
    pub(super) async fn wait(&mut self) -> Result<Flow, RuntimeError> {
        let timer = self.timer();
        let (shared, rates) = (self.shared.clone(), self.rate_waits.wake.clone());
        tokio::select! {
            biased;
            done = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                let mut done = done;
                for _ in 0..COMPLETIONS_MAX {
                    let Some(over) = done.take() else { break };
                    self.take_done(over);
                    done = self.tasks.try_join_next_with_id();
                }
                Ok(Flow::On)
            }
            Some(news) = self.notices.recv() => self.hear(*news).await,
            () = rates.notified(), if !self.short_within => Ok(Flow::On),
            () = shared.stop.heard() => Ok(Flow::On),
            Ok(()) = self.hung_up.changed() => Ok(Flow::On),
            Some(request) = self.requests.recv() => {
                self.heard.push_back(request);
                Ok(Flow::Wait)
            }
            () = sleep_for(timer) => Box::pin(self.time_came()).await,
        }
    }

    /// What other runs' ops brought.
    pub(super) async fn hear(&mut self, news: NoticeCommitted) -> Result<Flow, RuntimeError> {
        let Submitted { events, passages } = self.receive(news);
        self.fold(&events, 0);
        match passages.into_iter().next() {
            Some(passage) => Box::pin(self.follow(passage)).await,
            None => Ok(Flow::Wait),
        }
    }

    /// When to look again, whatever happens: the end of a back-off or of a wait, and of the run's own time.
    pub(super) fn timer(&self) -> Option<Millis> {
        let now = self.now();
        if self.queued {
            return Some(QUEUE_LOOK);
        }
        // Beside a wait for budget nothing is asked for, and so no question is looked at.
        let late = self.tree.runs().filter_map(Run::next_expiry).filter(|_| self.wait_until.is_none()).min();
        let rates = self.rate_waits.next_look().filter(|_| self.wait_until.is_none());
        let at = self.later.into_iter().chain(self.wait_until).chain(late).chain(rates).min()?;
        // Once the run's time is up, that has been looked at: what is in flight drains.
        let left = Some(self.root().time_to_wait(now)).filter(|left| *left > Millis::ZERO);
        Some(left.into_iter().fold(at.since(now), Ord::min))
    }

    pub(super) async fn time_came(&mut self) -> Result<Flow, RuntimeError> {
        if self.queued {
            return match self.held_in_turn()? {
                Some(refusal) => Ok(self.hold_back(refusal)),
                None if self.turn.as_ref().is_some_and(Turn::gives_way) => self.leave_queue().await,
                None => self.look_at_queue().await,
            };
        }
        // A back-off beside a wait for budget is over by itself: what comes next is asked when the wait is.
        let until = self.wait_until;
        if self.later.take_if(|later| until.is_none_or(|until| *later <= until)).is_some() {
            return Ok(Flow::On);
        }
        if self.wait_until.take().is_none() {
            return Ok(Flow::On);
        }
        self.stop_waiting(WaitEnd::Expired).await
    }

    pub(super) async fn stop_waiting(&mut self, why: WaitEnd) -> Result<Flow, RuntimeError> {
        let passages = self.submit(vec![Ask::EndWait(why)]).await?;
        match passages.into_iter().next() {
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    /// A period may have begun since, and nobody else may have written: the ledger looks at its queue with every op. A new
    /// run whose time is up ends there; one that goes on waits until it may land.
    pub(super) async fn look_at_queue(&mut self) -> Result<Flow, RuntimeError> {
        if self.root().state == RunState::Queued
            && let Next::Do(intents) = self.tree.next(self.now(), &self.shared.checks)
            && let Some((_, Intent::Land(refusal))) = intents.into_iter().next()
        {
            return self.stop_before_start(refusal).await;
        }
        let op = Op { run: self.root().id, events: vec![], asks: vec![], plan: None };
        let submitted = self.shared.gate.submit(op, &|reserved| self.first_token_limit(reserved)).await?;
        // If it is this run that is admitted by it, the facts come here, and the pass as news.
        self.fold(&submitted.events, 0);
        Ok(Flow::Wait)
    }

    /// What a person asks of the tree.
    pub(super) async fn take_request(&mut self, request: Request, flow: Flow) -> Result<Flow, RuntimeError> {
        match request {
            Request::Cancel { reason, reply } => {
                let flow = if self.root().cancelled.is_none() { self.cancel(reason).await? } else { flow };
                // Who has gone meanwhile finds it in the log.
                reply.send(()).unwrap_or_default();
                Ok(flow)
            }
            Request::Answer { run, given, reply } => {
                self.take_answer(run, &given, reply).await?;
                Ok(if matches!(flow, Flow::Leave) { flow } else { Flow::On })
            }
        }
    }

    /// A person answered a question of one of the runs while others of their lanes go on.
    async fn take_answer(
        &mut self,
        run: RunId,
        given: &Given,
        reply: oneshot::Sender<Result<PersonAnswered, RuntimeError>>,
    ) -> Result<(), RuntimeError> {
        let Some(asks) = self.tree.run(run) else {
            // It has ended: its own log tells how.
            drop(reply);
            return Ok(());
        };
        let answered = asks.judge_answer(self.now(), given, &self.shared.checks);
        if let Ok(answered) = &answered {
            failpoint::reach("answer.given");
            self.note(run, Event::PersonAnswered(answered.clone()));
            self.submit(vec![]).await?;
            failpoint::reach("answer.written");
        }
        // Who has gone meanwhile finds the answer in the log.
        reply.send(answered.map_err(|fault| RuntimeError::Answer { run, fault })).unwrap_or_default();
        Ok(())
    }

    /// Nothing new starts, what is in flight is drained.
    async fn cancel(&mut self, reason: String) -> Result<Flow, RuntimeError> {
        self.cancel.send_replace(true);
        self.later = None;
        self.queued = false;
        if self.wait_until.take().is_some() {
            self.stop_waiting(WaitEnd::Cancelled).await?;
        }
        self.note_root(Event::CancelRequested(CancelRequested { reason }));
        self.submit(vec![]).await?;
        Ok(Flow::On)
    }

    /// False where the run was asked to stop or to end before that.
    pub(super) async fn sleep_until(&mut self, until: Timestamp) -> bool {
        let time = until.since(self.now());
        tokio::select! {
            biased;
            () = sleep_for(Some(time)) => true,
            () = self.shared.stop.heard() => false,
            Some(request) = self.requests.recv() => {
                self.heard.push_back(request);
                false
            }
        }
    }
}

/// Never, without a time.
async fn sleep_for(time: Option<Millis>) {
    match time {
        Some(time) => tokio::time::sleep(time.duration()).await,
        None => std::future::pending().await,
    }
}
