//! How runs are ended or let go of from outside: cancelled, waited for, asked to stop.

use tokio::sync::oneshot;

use super::people::{DRIVERS_MAX, Request};
use super::{Runtime, RuntimeError};
use crate::domain::event::{CancelRequested, Event, RunState};
use crate::domain::ledger::Op;
use crate::domain::run::{Intent, Next, Tree};
use crate::ids::RunId;

impl Runtime {
    /// Ends a run: at once where nobody drives it, else as soon as what is in flight is drained. That it is to end is on disk
    /// then, whatever becomes of this process.
    ///
    /// # Errors
    /// There is no such run, it is a sub-agent's, or the store can't write.
    pub async fn cancel(&self, run: RunId, reason: &str) -> Result<RunState, RuntimeError> {
        for _ in 0..DRIVERS_MAX {
            if let Ok((_entered, _requests)) = self.enter(run) {
                return self.cancel_here(run, reason).await;
            }
            let (reply, heard) = oneshot::channel();
            self.request(run, Request::Cancel { reason: reason.to_owned(), reply }).await;
            // Whoever drives it may have left before they heard.
            let heard = heard.await.is_ok();
            let state = self.load(run)?.0.state;
            if heard || state.is_ended() {
                return Ok(state);
            }
            tokio::task::yield_now().await;
        }
        Err(RuntimeError::Driven { run })
    }

    async fn cancel_here(&self, run: RunId, reason: &str) -> Result<RunState, RuntimeError> {
        let (tree, _) = self.load_tree(run)?;
        if tree.root().state.is_ended() {
            return Ok(tree.root().state);
        }
        // Somebody may have asked for it before, and the process went down.
        let is_new = tree.root().cancelled.is_none();
        let asked = is_new.then(|| Event::CancelRequested(CancelRequested { reason: reason.to_owned() }));
        let following = self.telemetry().map(|telemetry| telemetry.follow(&tree, self.0.clock.now()));
        let events = self.ends_of(tree, asked.into_iter().collect());
        let committed = self.store().submit(Op { run, events, asks: vec![], plan: None }).await?;
        for (run, recorded) in &committed.events {
            following.iter().for_each(|following| following.hear(*run, recorded));
        }
        Ok(RunState::Cancelled)
    }

    /// How a tree that nobody drives ends after these facts of its root: the deepest runs first.
    fn ends_of(&self, mut tree: Tree, facts: Vec<Event>) -> Vec<(RunId, Event)> {
        let (now, root) = (self.0.clock.now(), tree.root().id);
        let mut events: Vec<(RunId, Event)> = facts.into_iter().map(|fact| (root, fact)).collect();
        events.iter().for_each(|(run, fact)| tree.apply(now, *run, fact));
        loop {
            match tree.next(now, &self.0.checks) {
                Next::Note(facts) => {
                    facts.iter().for_each(|(run, fact)| tree.apply(now, *run, fact));
                    events.extend(facts);
                }
                Next::Do(intents) => {
                    let ends = intents.into_iter().filter_map(|(run, intent)| match intent {
                        Intent::End(ended) => Some((run, Event::Ended(ended))),
                        Intent::Model(_) | Intent::Tool(_) | Intent::Child(_) | Intent::Refuse(_) | Intent::Land(_) => {
                            None
                        }
                    });
                    events.extend(ends);
                    return events;
                }
                Next::Park(_) | Next::Wait | Next::Ended => return events,
            }
        }
    }

    /// Waits until nobody drives a run; at once where nobody does.
    pub async fn let_go(&self, run: RunId) {
        let Some(driven) = self.driven().get(&run).cloned() else { return };
        driven.closed().await;
    }

    /// Asks every driven run to stop cleanly: what is in flight is drained, then the runs are `interrupted`.
    pub fn request_stop(&self) {
        self.0.stop.say();
    }
}
