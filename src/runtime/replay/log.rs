//! What a tree is judged from: its plan, its logs, and what was said in its thread before.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::{Created, Event, Recorded};
use crate::domain::message::{Message, Sent};
use crate::domain::plan::Plan;
use crate::ids::RunId;
use crate::runtime::{RuntimeError, thread};
use crate::store::Store;

/// A tree as it stands in a store. What is written as JSON reads back the same, so that another process can judge it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TreeLog {
    /// The root.
    pub root: RunId,
    /// The plan that it keeps, those of its sub-agents within it.
    pub plan: Arc<Plan>,
    /// What was said in its thread before.
    pub earlier: Vec<Message>,
    /// The log of every run of the tree.
    pub logs: BTreeMap<RunId, Vec<Recorded>>,
    /// True where its bodies, or those of a run before it in its thread, were taken out of the store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
}

impl TreeLog {
    /// Reads the tree that a run belongs to.
    ///
    /// # Errors
    /// There is no such run, or a log is damaged.
    pub fn read(store: &Store, run: RunId) -> Result<Self, RuntimeError> {
        let log = store.events(run)?;
        let created = created(&log).ok_or(RuntimeError::NoSuchRun { run })?;
        if let Some(parent) = &created.parent {
            return Self::read(store, parent.root);
        }
        let plan = store.plan(&created.plan)?.ok_or(RuntimeError::DamagedLog { run })?;
        let (earlier, forgets) = thread::remembered(store, created)?;
        let earlier = earlier.iter().map(|sent| Message::clone(sent)).collect();
        let erased = created.erased || forgets;
        let mut logs = BTreeMap::from([(run, log)]);
        let mut found = vec![run];
        while let Some(parent) = found.pop() {
            let children: Vec<RunId> = logs.get(&parent).into_iter().flatten().filter_map(began).collect();
            for child in children {
                logs.insert(child, store.events(child)?);
                found.push(child);
            }
        }
        Ok(Self { root: run, plan: Arc::new(plan), earlier, logs, erased })
    }

    /// How its root began.
    #[must_use]
    pub fn created(&self) -> Option<&Created> {
        created(self.logs.get(&self.root)?)
    }

    /// True where the logs say in which order the runs of the tree wrote: those of before there was such a number don't.
    pub(super) fn is_ordered(&self) -> bool {
        let mut below = self.logs.iter().filter(|(run, _)| **run != self.root).flat_map(|(_, log)| log);
        below.all(|recorded| recorded.order.is_some())
    }

    /// What was said before, ready to be sent.
    pub(super) fn history(&self) -> Vec<Sent> {
        self.earlier.iter().cloned().map(Sent::from).collect()
    }
}

fn created(log: &[Recorded]) -> Option<&Created> {
    if let Event::Created(created) = &log.first()?.event { Some(created) } else { None }
}

fn began(recorded: &Recorded) -> Option<RunId> {
    if let Event::ChildBegan(began) = &recorded.event { Some(began.child) } else { None }
}
