//! Threads: a run goes on with the conversation of the run before it.
//!
//! A thread is a label of its runs, so that lists, budgets and costs know it. At most one of its runs is open, and what
//! ended doesn't change: whoever resumes or replays a run sees the same history.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Entered, Request, Runtime, RuntimeError, load};
use crate::domain::event::{Created, EndState, THREAD, ThreadLink};
use crate::domain::message::{Assistant, File, Message, Sent};
use crate::domain::template;
use crate::ids::RunId;
use crate::store::{RunFilter, Store};

/// Runs of a thread that a run can know of.
const RUNS_MAX: usize = 100;
/// Bytes of history that are read for each token of its pot.
const BYTES_PER_TOKEN: u64 = 8;
/// Runs that are looked at to find the newest of a thread: those of its sub-agents have its label too.
const PAGE: usize = 50;

impl Runtime {
    /// Enters a new run, as the only open one of its thread.
    pub(super) fn enter_new(
        &self,
        run: RunId,
        created: &mut Created,
    ) -> Result<(Entered, mpsc::Receiver<Box<Request>>), RuntimeError> {
        let Some(id) = created.labels.get(THREAD).cloned() else { return self.enter(run) };
        let key = (created.agent.clone(), id);
        let mut threads = self.0.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(open) = threads.get(&key).filter(|open| self.driven().contains_key(open)) {
            return Err(RuntimeError::ThreadBusy { thread: key.1, run: *open });
        }
        created.thread = self.thread(created)?;
        let entered = self.enter(run)?;
        threads.retain(|_, open| self.driven().contains_key(open));
        threads.insert(key, run);
        Ok(entered)
    }

    /// Where a new run stands in its thread.
    pub(super) fn thread(&self, created: &Created) -> Result<Option<ThreadLink>, RuntimeError> {
        let Some(id) = created.labels.get(THREAD) else { return Ok(None) };
        let filter = RunFilter {
            agent: Some(created.agent.clone()),
            labels: [(THREAD.to_owned(), id.clone())].into(),
            limit: PAGE,
            ..RunFilter::default()
        };
        let newest = self.store().summaries(&filter)?.into_iter().find(|run| run.parent.is_none());
        match newest {
            Some(open) if !open.state.is_ended() => Err(RuntimeError::ThreadBusy { thread: id.clone(), run: open.id }),
            newest => Ok(Some(ThreadLink { id: id.clone(), after: newest.map(|run| run.id) })),
        }
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
