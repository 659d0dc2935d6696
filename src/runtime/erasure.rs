//! Bodies of runs that are over are taken out of the store: because somebody wants it, or since their time is up
//! (`keep_bodies`). Sums stay.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::{Runtime, RuntimeError};
use crate::domain::audit::{Act, Change};
use crate::domain::erasure::{BodiesErased, Removed};
use crate::domain::event::Labels;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::store::{RunFilter, StoreError};
use crate::units::Millis;

/// Trees that one commit erases.
const TREES_MAX: usize = 32;
/// How long one request goes on; what is left then is for the next.
const TIME_MAX: Millis = Millis::from_secs(10);

/// What came of erasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// What was removed.
    pub removed: Removed,
    /// Trees that aren't over, and stay as they are.
    pub open: u64,
    /// Trees that are still to be erased: there was no time for them, or it was only asked how many they are.
    pub left: u64,
}

/// How far the keeping of bodies has looked: the last root up to which all are erased.
#[derive(Debug, Default)]
pub(crate) struct Swept(Mutex<Option<RunId>>);

impl Runtime {
    /// How many trees with these labels there are to erase, and how many aren't over.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn erasable(&self, labels: &Labels) -> Result<Erased, RuntimeError> {
        let (trees, open) = self.trees_of(labels).await?;
        Ok(Erased { open, left: count(trees.len()), ..Erased::default() })
    }

    /// Takes the bodies of runs with these labels out of the store. Runs that aren't over stay as they are. It may be asked
    /// again, and goes on with what is left.
    ///
    /// # Errors
    /// The store can't be read or written. What was erased before stays so.
    pub async fn erase(&self, labels: &Labels, act: &Act) -> Result<Erased, RuntimeError> {
        let (trees, open) = self.trees_of(labels).await?;
        let change =
            BodiesErased { labels: labels.clone(), trees: count(trees.len()), reason: act.reason().to_owned() };
        let mut said = Some((act.by(), Change::BodiesErased(change)));
        let began = self.0.clock.now();
        let (mut erased, mut done) = (Erased { open, ..Erased::default() }, 0);
        for some in trees.chunks(TREES_MAX) {
            if self.0.clock.now().since(began) >= TIME_MAX {
                break;
            }
            let removed = self.store().erase(some.to_vec(), said.take()).await?;
            erased.removed = erased.removed.plus(removed);
            done += some.len();
        }
        erased.left = count(trees.len() - done);
        erased.removed = erased.removed.plus(self.drop_files().await?);
        Ok(erased)
    }

    /// Erases what `keep_bodies` says is no longer kept, and removes the files that nobody names any more.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn sweep(&self) -> Result<Removed, RuntimeError> {
        let mut removed = Removed::default();
        while let Some(keep) = self.0.keep_bodies {
            let (due, upto) = self.looked(move |runtime| runtime.due(keep)).await?;
            let found = due.len();
            let erased = if due.is_empty() { Removed::default() } else { self.store().erase(due, None).await? };
            removed = removed.plus(erased);
            // A tree that still settles something is passed over: it is found again the next time.
            if erased.trees < count(found) {
                break;
            }
            *self.swept() = upto;
            if found < TREES_MAX {
                break;
            }
        }
        removed = removed.plus(self.drop_files().await?);
        if removed.runs > 0 {
            tracing::info!(runs = removed.runs, "bodies whose time was up are erased");
        }
        Ok(removed)
    }

    /// Some trees whose time is up, and the last root up to which no other is.
    fn due(&self, keep: Millis) -> Result<(Vec<RunId>, Option<RunId>), RuntimeError> {
        let (now, mut upto, mut is_gapless, mut due) = (self.0.clock.now(), *self.swept(), true, Vec::new());
        let filter = RunFilter { roots: true, ..RunFilter::default() };
        let after = upto;
        self.store().each_summary(&filter, after, usize::MAX, &mut |run: RunSummary| {
            let is_due = !run.erased && run.ended.is_some_and(|ended| now.since(ended) >= keep);
            if is_due {
                due.push(run.id);
            }
            is_gapless &= is_due || run.erased;
            if is_gapless {
                upto = Some(run.id);
            }
            Ok::<_, StoreError>(if due.len() < TREES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok((due, upto))
    }

    /// The trees with these labels that are over and whole, oldest first, and how many aren't over.
    async fn trees_of(&self, labels: &Labels) -> Result<(Vec<RunId>, u64), RuntimeError> {
        let filter = RunFilter { labels: labels.clone(), roots: true, ..RunFilter::default() };
        self.looked(move |runtime| runtime.trees(&filter)).await
    }

    fn trees(&self, filter: &RunFilter) -> Result<(Vec<RunId>, u64), RuntimeError> {
        let (mut trees, mut open) = (Vec::new(), 0);
        self.store().each_summary(filter, None, usize::MAX, &mut |run: RunSummary| {
            if !run.state.is_ended() {
                open += 1;
            } else if !run.erased {
                trees.push(run.id);
            }
            Ok::<_, StoreError>(ControlFlow::Continue(()))
        })?;
        Ok((trees, open))
    }

    /// Removes the files that nobody names any more, those of an erasing that a process died in too.
    async fn drop_files(&self) -> Result<Removed, RuntimeError> {
        let files = self.looked(|runtime| Ok(runtime.store().unclaimed()?)).await?;
        Ok(if files.is_empty() { Removed::default() } else { self.store().drop_files(files).await? })
    }

    /// What is read of many runs is read beside the threads that drive runs.
    async fn looked<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let runtime = self.clone();
        let looked = tokio::task::spawn_blocking(move || look(&runtime)).await;
        looked.map_err(|error| RuntimeError::Task(error.to_string()))?
    }

    fn swept(&self) -> std::sync::MutexGuard<'_, Option<RunId>> {
        self.0.swept.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
