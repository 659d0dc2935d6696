//! Takes bodies out of the store: what people wrote and models answered in runs that are over. The sums stay.
//!
//! Invariant: a tree is erased whole, in one commit, or not at all; and only where each of its runs has ended and holds
//! nothing, so that nothing in memory knows more than the disk does.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use crate::domain::audit::{Author, Change};
use crate::domain::erasure::Removed;
use crate::domain::event::{AnswerKey, Event, Recorded};
use crate::domain::message::File;
use crate::domain::plan::Plan;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::store::books::Books;
use crate::store::engine::{Batch, Reader, View};
use crate::store::error::StoreError;
use crate::store::keys::{self, Table};
use crate::store::writer::Command;
use crate::store::{Store, codec, read};

impl Store {
    /// Takes the bodies of trees of runs out of the store, in one commit, and writes who wanted it into the audit log. Trees
    /// that aren't over, or were erased before, stay as they are. Reads their logs; keep the number small.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn erase(&self, roots: Vec<RunId>, said: Option<(Author, Change)>) -> Result<Removed, StoreError> {
        let (reply, answer) = oneshot::channel();
        Ok(self.send(Command::Erase(roots, said.map(Box::new), reply), answer).await?.removed)
    }

    /// The files of erased runs that perhaps nobody names any more, and whether a run or a plan does. Looks at every run where
    /// there are any.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn unclaimed(&self) -> Result<Vec<Unclaimed>, StoreError> {
        let reader = &*self.shared()?.reader;
        let view = reader.view()?;
        let found = read::unclaimed(&*view)?;
        let mut unnamed: BTreeSet<String> = found.keys().cloned().collect();
        if unnamed.is_empty() {
            return Ok(Vec::new());
        }
        for (key, record) in read::all(&*view, Table::Plan.span())? {
            let plan: Plan = codec::open_json(&key, &record)?;
            plan.files.iter().for_each(|file| unname(file, &mut unnamed));
        }
        drop(view);
        unname_given(reader, &mut unnamed)?;
        let looked = |(sha256, run)| Unclaimed { is_named: !unnamed.contains(&sha256), sha256, run };
        Ok(found.into_iter().map(looked).collect())
    }

    /// Removes those of these files that nobody names, unless a new run was given one meanwhile.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn drop_files(&self, files: Vec<Unclaimed>) -> Result<Removed, StoreError> {
        let (reply, answer) = oneshot::channel();
        Ok(self.send(Command::DropFiles(files, reply), answer).await?.removed)
    }
}

/// A file that the runs which named it were erased of, as far as [`Store::unclaimed`] looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclaimed {
    /// Its hash.
    pub(crate) sha256: String,
    /// The run that named it last.
    pub(crate) run: RunId,
    /// Another run or a plan names it.
    pub(crate) is_named: bool,
}

impl Books {
    /// Erases trees, with the group's commit; not those that aren't over, or were erased before.
    pub(crate) fn erase(&mut self, roots: &[RunId]) -> Result<Removed, StoreError> {
        let (mut removed, mut runs) = (Removed::default(), BTreeSet::new());
        for root in roots {
            removed = removed.plus(self.erase_tree(*root, &mut runs)?);
        }
        if !runs.is_empty() {
            self.outbox.forget_words(&runs)?;
        }
        Ok(removed)
    }

    fn erase_tree(&mut self, root: RunId, runs: &mut BTreeSet<RunId>) -> Result<Removed, StoreError> {
        let reader = self.reader().clone();
        let view = reader.view()?;
        let logs = tree(&*view, root)?;
        let is_whole = logs.get(&root).and_then(|log| log.first()).is_some_and(|first| !is_erased(first));
        if !is_whole || logs.keys().any(|run| self.is_open(*run)) {
            return Ok(Removed::default());
        }
        let mut removed = Removed { trees: 1, ..Removed::default() };
        let mut batch = Batch::default();
        for (run, log) in logs {
            for recorded in &log {
                removed.answers += u64::from(kept(recorded).is_some_and(|key| self.forget_answer(key)));
            }
            removed.runs += 1;
            if let Some(Event::Created(created)) = log.first().map(|first| &first.event) {
                created.files.iter().for_each(|file| self.unclaim(file.sha256(), run));
            }
            removed.events += rewrite(&*view, run, log, &mut batch)?;
            runs.insert(run);
        }
        self.erasing(batch);
        Ok(removed)
    }

    /// Notes that a run names a file no longer.
    pub(super) fn unclaim(&mut self, sha256: &str, run: RunId) {
        let key = keys::unclaimed(sha256);
        let record = codec::seal_bytes(&key, &run.bits().to_be_bytes());
        self.erasing.put(key, record);
        self.unclaimed.insert(sha256.to_owned(), run);
    }

    /// Takes out what was learned of unclaimed files: the note, where it is still that one, and the file, where nobody names
    /// it. True for a file that goes.
    pub(super) fn resolve(&mut self, file: &Unclaimed) -> bool {
        if self.unclaimed.get(&file.sha256) != Some(&file.run) {
            return false;
        }
        self.unclaimed.remove(&file.sha256);
        self.erasing.delete(keys::unclaimed(&file.sha256));
        if file.is_named {
            return false;
        }
        self.files.remove(&file.sha256);
        self.erasing.delete(keys::file(&file.sha256));
        true
    }
}

fn unname(file: &File, unnamed: &mut BTreeSet<String>) {
    unnamed.remove(file.sha256());
}

/// Takes out what runs name.
fn unname_given(reader: &dyn Reader, unnamed: &mut BTreeSet<String>) -> Result<(), StoreError> {
    read::each_run(reader, Table::Summary.span(), &mut |run| {
        if unnamed.is_empty() {
            return Ok(());
        }
        let files = read::created(&*reader.view()?, run)?.map(|created| created.files).unwrap_or_default();
        files.iter().for_each(|file| unname(file, unnamed));
        Ok(())
    })
}

/// The logs of a run and of all below it.
fn tree(view: &dyn View, root: RunId) -> Result<BTreeMap<RunId, Vec<Recorded>>, StoreError> {
    let (mut logs, mut open) = (BTreeMap::new(), vec![root]);
    while let Some(run) = open.pop() {
        let log = read::log(view, run)?;
        let child = |recorded: &Recorded| {
            if let Event::ChildBegan(began) = &recorded.event { Some(began.child) } else { None }
        };
        open.extend(log.iter().filter_map(child));
        logs.insert(run, log);
    }
    Ok(logs)
}

fn is_erased(first: &Recorded) -> bool {
    if let Event::Created(created) = &first.event { created.erased } else { false }
}

/// Under what name a fact says that its answer is kept.
fn kept(recorded: &Recorded) -> Option<AnswerKey> {
    if let Event::Settled(settled) = &recorded.event { settled.cache.kept.map(|kept| kept.key) } else { None }
}

/// A run's log in one record, without bodies, and its summary as that tells it. Gives how many facts lost something.
fn rewrite(view: &dyn View, run: RunId, log: Vec<Recorded>, batch: &mut Batch) -> Result<u64, StoreError> {
    let (place, mut changed, mut bare, mut contents) = (keys::event(run, 0), 0, Vec::new(), Vec::new());
    for recorded in log {
        let event = recorded.event.clone().without_bodies();
        changed += u64::from(event != recorded.event);
        let recorded = Recorded { event, ..recorded };
        let content = serde_json::to_vec(&recorded).map_err(|error| StoreError::unwritable(&place, &error))?;
        contents.push(content);
        bare.push(recorded);
    }
    let summary = RunSummary::of(run, &bare).ok_or_else(|| read::headless(run))?;
    for (key, _) in read::all(view, keys::events(run))?.into_iter().filter(|(key, _)| *key != place) {
        batch.delete(key);
    }
    batch.delete(keys::pack(run));
    let record = codec::seal_pack(&place, contents.iter().map(Vec::as_slice))?;
    batch.put(place, record);
    let key = keys::summary(run);
    let record = codec::seal_json(&key, &summary)?;
    batch.put(key, record);
    Ok(changed)
}
