//! Threads: a run goes on with the conversation of the run before it.
//!
//! A thread is a label of its runs, so that lists, budgets and costs know it. It is its agent's and its tenant's, and within
//! the labels that its maker is bound to: the same name elsewhere is another thread. At most one of its runs is open, and
//! what ended doesn't change: whoever resumes or replays a run sees the same history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Entered, Request, Runtime, RuntimeError, load};
use crate::domain::event::{Created, EndState, Labels, THREAD, ThreadLink};
use crate::domain::label::TENANT;
use crate::domain::message::{Assistant, File, Message, Sent};
use crate::domain::summary::RunSummary;
use crate::domain::template;
use crate::ids::{AgentName, RunId};
use crate::store::{RUNS_MAX as PAGE_MAX, RunFilter, Store};

/// Runs of a thread that a run can know of.
const RUNS_MAX: usize = 100;
/// Bytes of history that are read for each token of its pot.
const BYTES_PER_TOKEN: u64 = 8;

/// Whose conversation it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ThreadKey {
    agent: AgentName,
    /// The thread, the tenant if it has one, and what its maker is bound to.
    labels: Labels,
}

impl ThreadKey {
    /// That of a new run, if it is in a thread.
    fn of(created: &Created, bound: &[String]) -> Option<Self> {
        let is_of_it = |name: &String| name == THREAD || name == TENANT || bound.contains(name);
        let labels = created.labels.iter().filter(|(name, _)| is_of_it(name));
        let labels: Labels = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
        labels.contains_key(THREAD).then(|| Self { agent: created.agent.clone(), labels })
    }

    fn id(&self) -> String {
        self.labels.get(THREAD).cloned().unwrap_or_default()
    }

    /// What a new run goes on with.
    fn link(&self, store: &Store) -> Result<ThreadLink, RuntimeError> {
        match self.newest(store)? {
            Some(open) if !open.state.is_ended() => Err(RuntimeError::ThreadBusy { thread: self.id(), run: open.id }),
            newest => Ok(ThreadLink { id: self.id(), after: newest.map(|run| run.id) }),
        }
    }

    fn newest(&self, store: &Store) -> Result<Option<RunSummary>, RuntimeError> {
        let tenant = self.labels.get(TENANT);
        // That a label isn't there can't be asked for.
        let limit = if tenant.is_some() { 1 } else { PAGE_MAX };
        let filter = RunFilter {
            agent: Some(self.agent.clone()),
            labels: self.labels.clone(),
            roots: true,
            limit,
            ..RunFilter::default()
        };
        Ok(store.summaries(&filter)?.into_iter().find(|run| run.labels.get(TENANT) == tenant))
    }
}

/// Threads whose newest run was begun here, which the store may not know yet.
#[derive(Debug, Default)]
pub(super) struct Threads {
    newest: BTreeMap<ThreadKey, RunId>,
    /// Those that are being written.
    making: BTreeSet<RunId>,
}

/// A run that is being written. Dropped, it is in the store or will never be.
pub(super) struct Making {
    runtime: Runtime,
    run: RunId,
}

impl Drop for Making {
    fn drop(&mut self) {
        self.runtime.threads().making.remove(&self.run);
    }
}

impl Runtime {
    /// Enters a new run, as the only open one of its thread.
    pub(super) fn enter_new(
        &self,
        run: RunId,
        created: &mut Created,
        bound: &[String],
    ) -> Result<(Entered, mpsc::Receiver<Box<Request>>), RuntimeError> {
        self.begin_in_thread(run, created, bound, |_| self.enter(run))
    }

    /// A new run that is written and not driven, as the only open one of its thread.
    pub(super) fn make_new(&self, run: RunId, created: &mut Created, bound: &[String]) -> Result<Making, RuntimeError> {
        self.begin_in_thread(run, created, bound, |threads| {
            threads.making.insert(run);
            Ok(Making { runtime: self.clone(), run })
        })
    }

    fn begin_in_thread<T>(
        &self,
        run: RunId,
        created: &mut Created,
        bound: &[String],
        begin: impl FnOnce(&mut Threads) -> Result<T, RuntimeError>,
    ) -> Result<T, RuntimeError> {
        let mut threads = self.threads();
        let Some(key) = ThreadKey::of(created, bound) else { return begin(&mut threads) };
        let is_open = |threads: &Threads, run: &RunId| threads.making.contains(run) || self.driven().contains_key(run);
        if let Some(open) = threads.newest.get(&key).copied().filter(|open| is_open(&threads, open)) {
            return Err(RuntimeError::ThreadBusy { thread: key.id(), run: open });
        }
        created.thread = Some(key.link(self.store())?);
        let begun = begin(&mut threads)?;
        let Threads { newest, making } = &mut *threads;
        newest.retain(|_, open| making.contains(open) || self.driven().contains_key(open));
        newest.insert(key, run);
        Ok(begun)
    }

    /// Where a new run would stand in its thread.
    pub(super) fn thread(&self, created: &Created, bound: &[String]) -> Result<Option<ThreadLink>, RuntimeError> {
        ThreadKey::of(created, bound).map(|key| key.link(self.store())).transpose()
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Threads> {
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn earlier(&self, created: &Created) -> Result<Vec<Sent>, RuntimeError> {
        earlier(self.store(), created)
    }
}

/// What was said in the thread before a run, oldest first: each run's user text and its answer. About as much as the
/// history's pot can hold; what is older isn't read.
pub(super) fn earlier(store: &Store, created: &Created) -> Result<Vec<Sent>, RuntimeError> {
    remembered(store, created).map(|(said, _)| said)
}

/// The same, and true where the bodies of one of those runs are no longer there.
pub(super) fn remembered(store: &Store, created: &Created) -> Result<(Vec<Sent>, bool), RuntimeError> {
    let mut forgets = false;
    let mut after = created.thread.as_ref().and_then(|thread| thread.after);
    let mut exchanges: Vec<[Sent; 2]> = Vec::new();
    let mut left: Option<u64> = None;
    while let Some(run) = after.filter(|_| exchanges.len() < RUNS_MAX) {
        let (state, before) = load(store, run)?;
        after = before.thread.as_ref().and_then(|thread| thread.after);
        forgets |= before.erased;
        let ended = state.ended.as_ref().filter(|ended| matches!(ended.state, EndState::Finished | EndState::Stopped));
        let Some(output) = ended.and_then(|ended| ended.output.as_ref()) else { continue };
        let asked = template::render(&state.plan.prompt.user, &json!({ "input": before.input }))
            .map_err(|fault| RuntimeError::Prompt { agent: before.agent.clone(), fault })?;
        let asked = with_names(asked, &before.files);
        let said = as_text(output);
        let room = left.unwrap_or_else(|| state.plan.context.history.0.saturating_mul(BYTES_PER_TOKEN));
        let bytes = u64::try_from(asked.len() + said.len()).unwrap_or(u64::MAX);
        let Some(rest) = room.checked_sub(bytes) else { break };
        left = Some(rest);
        let answer = Message::Assistant(Assistant { text: said, ..Assistant::default() });
        exchanges.push([Message::User { text: asked }.into(), answer.into()]);
    }
    exchanges.reverse();
    Ok((exchanges.into_iter().flatten().collect(), forgets))
}

/// What an earlier run was asked: files aren't sent again, but for their names.
fn with_names(asked: String, files: &[File]) -> String {
    let names: Vec<&str> = files.iter().map(File::name).collect();
    if names.is_empty() { asked } else { format!("{asked}\n\n[with the files {}]", names.join(", ")) }
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
