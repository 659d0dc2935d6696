//! The store: the log, the accounts, the rollups and the indexes, in one atomic durable append.
//!
//! [`Store::submit`] hands an op to the one writer thread, which judges it by the ledger in memory and answers when it
//! is on disk. Reads are synchronous, work from any thread, and show what is on disk and nothing else.
//!
//! Invariants: what was acknowledged survives `kill -9` and a power cut; a run's events are numbered from 0 without a
//! gap; an account holds the sum of its open reservations, proved at every open; a store that is foreign, newer or
//! damaged is refused, and nothing is written to it.
//! Deliberately absent: any decision (the ledger decides), retention by time, and a second writer.

mod answers;
mod books;
mod codec;
mod days;
pub mod engine;
mod erase;
mod error;
pub mod format;
pub mod inline;
pub mod keys;
mod load;
pub mod lock;
pub mod memory;
mod migrate;
mod orders;
mod outbox;
mod read;
pub mod sled;
mod verify;
mod writer;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::domain::audit::{Act, Author, Change, Freeze, Freezes};
use crate::domain::event::{AccountKey, AnswerKey, KeptAnswer, Recorded, RunState};
use crate::domain::ledger::{Account, Frozen, Hold, Ledger, LedgerPolicy, Op, ShadowSums};
use crate::domain::plan::Plan;
use crate::domain::rollup::{Day, Rollup, RollupKey};
use crate::domain::run::Run;
use crate::domain::summary::RunSummary;
use crate::ids::{AgentName, PlanHash, PriceId, RunId};
use crate::store::books::Books;
use crate::store::days::KeptDays;
use crate::store::engine::Engine;
use crate::store::format::{Folder, Head};
use crate::store::inline::{Inline, Tap};
use crate::store::keys::Table;
use crate::store::lock::StoreLock;
use crate::store::memory::MemoryDisk;
use crate::store::orders::KeptOrders;
use crate::store::sled::SledEngine;
use crate::store::writer::{Command, QUEUE_OPS_MAX, Shared, Writer};
use crate::units::Timestamp;

pub use crate::store::answers::{ANSWERS_BYTES_MAX, ANSWERS_MAX};
pub use crate::store::days::Rows;
pub use crate::store::error::StoreError;
pub use crate::store::orders::Orders;
pub use crate::store::outbox::{ALERTS_KEPT_MAX, ALERTS_WAITING_MAX};
pub use crate::store::read::{Found, LOOKS_MAX, RUNS_MAX, RunFilter};
pub use crate::store::verify::Verified;
pub use crate::store::writer::{Committed, NOTICES_MAX, NoticeCommitted};

/// A store that is open. Clones are the same store; it closes when the last one is dropped.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    head: Head,
    recovered: Vec<(RunId, Recorded)>,
    waits: Vec<(Timestamp, RunId)>,
    writing: Writing,
    orders: KeptOrders,
    days: KeptDays,
    /// Dropped last: the next process may only come in when our files are closed.
    _lock: Option<StoreLock>,
}

/// Who writes.
enum Writing {
    /// A thread of its own; ended by the end of its queue.
    Thread { commands: Option<mpsc::Sender<Command>>, thread: Option<JoinHandle<()>> },
    /// The caller.
    Inline(Box<Inline>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("head", &self.0.head).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    /// Lets the writer finish what has queued, then frees the lock.
    fn drop(&mut self) {
        let Writing::Thread { commands, thread } = &mut self.writing else { return };
        drop(commands.take());
        if let Some(thread) = thread.take() {
            // A writer that panicked has closed its queue already.
            drop(thread.join());
        }
    }
}

impl Store {
    /// Opens the store in a folder, and makes it where there is none. What the last process left open is settled
    /// (LEDGER rule 15), durably, before this returns; [`Store::recovered`] tells what.
    ///
    /// # Errors
    /// When another process holds it, when the folder is foreign, newer or damaged, or when the disk fails.
    pub fn open(folder: &Path, policy: LedgerPolicy, clock: Clock) -> Result<Self, StoreError> {
        format::inspect(folder)?;
        make_folder(folder).map_err(|error| StoreError::io("make the folder", folder, &error))?;
        let lock = StoreLock::take(folder, clock.now())?;
        // Again, since another process may have made it meanwhile.
        match format::inspect(folder)? {
            Folder::Fresh => format::mark_new(folder)?,
            Folder::Store => {
                format::check_engine_folder(folder)?;
                // Before anything is moved: an earlier version must not write to what is half moved.
                format::mark_ready(folder)?;
            }
        }
        let engine = SledEngine::open(&folder.join(format::ENGINE_FOLDER))?;
        let store = Self::on(Box::new(engine), &folder.display().to_string(), Some(lock), policy, clock)?;
        format::mark_ready(folder)?;
        Ok(store)
    }

    /// Opens a store on a disk in memory.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_memory(disk: &MemoryDisk, policy: LedgerPolicy, clock: Clock) -> Result<Self, StoreError> {
        Self::on(Box::new(disk.open()), "memory", None, policy, clock)
    }

    /// Opens a store on a disk in memory whose writer works in the caller's place, so that what is written when depends
    /// on nothing but who calls when.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_memory_inline(
        disk: &MemoryDisk,
        policy: LedgerPolicy,
        clock: Clock,
        tap: Arc<dyn Tap>,
    ) -> Result<Self, StoreError> {
        let (mut handle, writer) = Self::opened(Box::new(disk.open()), "memory", policy, clock, Some(tap.clone()))?;
        handle.writing = Writing::Inline(Box::new(Inline::new(writer, tap)));
        Ok(Self(Arc::new(handle)))
    }

    /// Opens a store on an engine, with a thread that writes.
    fn on(
        engine: Box<dyn Engine>,
        place: &str,
        lock: Option<StoreLock>,
        policy: LedgerPolicy,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let (mut handle, writer) = Self::opened(engine, place, policy, clock, None)?;
        let (sender, receiver) = mpsc::channel(QUEUE_OPS_MAX);
        let builder = std::thread::Builder::new().name("plimsoll-store".to_owned());
        let thread = builder
            .spawn(move || writer.run(receiver))
            .map_err(|error| StoreError::io("start the writer of", Path::new(place), &error))?;
        handle.writing = Writing::Thread { commands: Some(sender), thread: Some(thread) };
        handle._lock = lock;
        Ok(Self(Arc::new(handle)))
    }

    /// What an engine holds, read and settled, with a writer that nobody has called yet.
    fn opened(
        mut engine: Box<dyn Engine>,
        place: &str,
        policy: LedgerPolicy,
        clock: Clock,
        tap: Option<Arc<dyn Tap>>,
    ) -> Result<(Handle, Writer), StoreError> {
        let head = format::settle(&mut *engine, place, clock.run_id(), format::MIGRATIONS)?;
        let reader = engine.reader();
        let (snapshot, open) = load::load(&*reader, &policy.budgets, clock.now())?;
        let waiting = load::waiting(&*reader, &snapshot, &open)?;
        let books = Books::new(Arc::clone(&reader), open, policy.alerts.clone())?;
        let ledger = Ledger::restore(policy, snapshot);
        let shared = Arc::new(Shared::new(reader));
        let mut writer = Writer { engine, ledger, books, clock, shared: Arc::clone(&shared), tap, tapped: Vec::new() };
        let recovered = writer.start(&waiting)?;
        let ended = |run: &Run| recovered.iter().any(|(ended, _)| *ended == run.id);
        let waits =
            waiting.iter().filter(|run| !ended(run)).filter_map(|run| Some((run.expires_at()?, run.id))).collect();
        let writing = Writing::Thread { commands: None, thread: None };
        Ok((
            Handle {
                shared,
                head,
                recovered,
                waits,
                writing,
                orders: KeptOrders::default(),
                days: KeptDays::default(),
                _lock: None,
            },
            writer,
        ))
    }

    /// Hands an op to the writer, and waits until what it comes to is on disk. Dropping the future ends the wait, not
    /// the op.
    ///
    /// # Errors
    /// When a commit failed, now or earlier; what became of this op is then known only after opening again.
    pub async fn submit(&self, op: Op) -> Result<Committed, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Submit(Box::new(op), reply), answer).await
    }

    /// Replaces the live configuration that the ledger judges by.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn set_policy(&self, policy: LedgerPolicy) -> Result<Committed, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SetPolicy(Box::new(policy), reply), answer).await
    }

    /// Lifts a price row's freeze, and says so in the audit log by the same write. Of a row that isn't frozen nothing is
    /// written.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn unfreeze(&self, price: PriceId, act: Act) -> Result<Committed, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Unfreeze(price, Box::new(act), reply), answer).await
    }

    /// Writes what a person changed into the audit log.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn note(&self, by: Author, change: Change) -> Result<Committed, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Note(by, Box::new(change), reply), answer).await
    }

    async fn send(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<Committed, StoreError>>,
    ) -> Result<Committed, StoreError> {
        match &self.0.writing {
            Writing::Thread { commands, .. } => {
                let commands = commands.as_ref().ok_or(StoreError::Closed)?;
                commands.send(command).await.map_err(|_| StoreError::Closed)?;
                answer.await.map_err(|_| StoreError::Closed)?
            }
            Writing::Inline(inline) => {
                let (there, back) = inline.tap.ways();
                inline::pass(there).await;
                inline.write(command);
                inline::pass(back).await;
                answer.await.map_err(|_| StoreError::Closed)?
            }
        }
    }

    /// Listens for what other runs' ops bring to a tree of runs. A receiver that is [`NOTICES_MAX`] behind, or whose
    /// root run is told nothing more, sees the end of its channel; then the log has everything.
    #[must_use]
    pub fn attach(&self, root: RunId) -> mpsc::Receiver<Box<NoticeCommitted>> {
        self.0.shared.attach(root)
    }

    /// Names this store for ever, with its format.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.0.head
    }

    /// What the open wrote: for runs that a process left when it went down, and for those that waited for a person for
    /// longer than their limit `expires`.
    #[must_use]
    pub fn recovered(&self) -> &[(RunId, Recorded)] {
        &self.0.recovered
    }

    /// The runs that waited for a person when the store was opened, each with the time at which that ends.
    #[must_use]
    pub fn waits(&self) -> &[(Timestamp, RunId)] {
        &self.0.waits
    }

    /// A run's whole log; empty for a run that doesn't exist.
    ///
    /// # Errors
    /// When a record is damaged or missing.
    pub fn events(&self, run: RunId) -> Result<Vec<Recorded>, StoreError> {
        let view = self.shared()?.reader.view()?;
        let mut log = read::log(&*view, run)?;
        if let Writing::Inline(inline) = &self.0.writing {
            inline.tap.log(run, &mut log);
        }
        Ok(log)
    }

    /// A run's log from this number on; empty where it isn't as long.
    ///
    /// # Errors
    /// When a record is damaged or missing.
    pub fn events_from(&self, run: RunId, first: u32) -> Result<Vec<Recorded>, StoreError> {
        read::log_from(&*self.shared()?.reader.view()?, run, first)
    }

    /// A run in one line.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn summary(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        let shared = self.shared()?;
        live(shared, run).map_or_else(|| read::stored_summary(&*shared.reader.view()?, run), |live| Ok(Some(live)))
    }

    /// The runs that a filter lets through, newest first.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn summaries(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        self.found(filter, usize::MAX).map(|found| found.runs)
    }

    /// The same, of which at most so many runs are looked at.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn found(&self, filter: &RunFilter, looks_max: usize) -> Result<Found, StoreError> {
        let shared = self.shared()?;
        read::summaries(&*shared.reader, filter, looks_max, &|run| live(shared, run))
    }

    /// Every run that a filter lets through, newest first, page by page: for states in which few runs are at once.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn every(&self, mut filter: RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let mut found = Vec::new();
        loop {
            let page = self.summaries(&filter)?;
            let Some(last) = page.last() else { return Ok(found) };
            filter.before = Some(last.id);
            found.extend(page);
        }
    }

    /// How many runs are open, by state.
    ///
    /// # Errors
    /// A commit failed.
    pub fn open_runs(&self) -> Result<BTreeMap<RunState, u64>, StoreError> {
        let mut states = BTreeMap::new();
        for run in self.shared()?.live.read().unwrap_or_else(PoisonError::into_inner).values() {
            *states.entry(run.state).or_default() += 1;
        }
        Ok(states)
    }

    /// A plan by its hash.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn plan(&self, hash: &PlanHash) -> Result<Option<Plan>, StoreError> {
        read::plan(&*self.shared()?.reader.view()?, hash)
    }

    /// The bytes of a file that went with an input, by its SHA-256 in hexadecimal digits.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn file(&self, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
        read::file(&*self.shared()?.reader.view()?, sha256)
    }

    /// Every budget account of every period.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn budgets(&self) -> Result<Vec<(AccountKey, Account)>, StoreError> {
        read::budgets(&*self.shared()?.reader.view()?)
    }

    /// Of each budget and scope the account whose period began last: one, however many periods there were.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn budgets_latest(&self) -> Result<Vec<(AccountKey, Account)>, StoreError> {
        read::latest(&*self.shared()?.reader.view()?, Table::Budget)
    }

    /// Every account of budgets, and those of runs that are open or hold money.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn accounts(&self) -> Result<Vec<(AccountKey, Account)>, StoreError> {
        read::accounts(&*self.shared()?.reader.view()?)
    }

    /// One budget account; `None` where nothing was ever placed on it.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn budget(&self, key: &AccountKey) -> Result<Option<Account>, StoreError> {
        read::budget(&*self.shared()?.reader.view()?, key)
    }

    /// An answer that is kept; its time may be up.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn answer(&self, key: &AnswerKey) -> Result<Option<KeptAnswer>, StoreError> {
        read::answer(&*self.shared()?.reader.view()?, key)
    }

    /// What budgets that only watch would have refused, by account.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn shadowed(&self) -> Result<Vec<(AccountKey, ShadowSums)>, StoreError> {
        read::records(&*self.shared()?.reader.view()?, Table::Shadow.span())
    }

    /// The switches that are set, and all exceptions of budgets, as of one commit.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn orders(&self) -> Result<Arc<Orders>, StoreError> {
        self.0.orders.read(&*self.shared()?.reader.view()?)
    }

    /// Every open reservation.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        read::holds(&*self.shared()?.reader.view()?)
    }

    /// Rollups of the days from `from` to `to`, both included.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn rollups(&self, from: Day, to: Day) -> Result<Vec<(RollupKey, Rollup)>, StoreError> {
        read::rollups(&*self.shared()?.reader.view()?, from, to)
    }

    /// Calls back with each of the same, until it breaks off; each is as of one commit, all of them may not be.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn each_rollup(
        &self,
        from: Day,
        to: Day,
        visit: &mut dyn FnMut(RollupKey, Rollup) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        read::each_rollup(&*self.shared()?.reader, from, to, visit)
    }

    /// The same with those of all threads together, decoded once for all who look at the same days: for reports of a process
    /// that goes on.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn rollups_kept(&self, from: Day, to: Day) -> Result<Vec<Rows>, StoreError> {
        let shared = self.shared()?;
        self.0.days.read(&*shared.reader, &shared.days, from, to)
    }

    /// The latest run of an agent that was created with a caller's key.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn run_by_key(&self, agent: &AgentName, key: &str) -> Result<Option<RunId>, StoreError> {
        read::run_by_key(&*self.shared()?.reader.view()?, agent, key)
    }

    /// Price rows that are frozen.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn frozen(&self) -> Result<Vec<Frozen>, StoreError> {
        read::frozen(&*self.shared()?.reader.view()?)
    }

    /// Price rows that are frozen, oldest first, each with why as the audit log tells it.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn freezes(&self) -> Result<Vec<(PriceId, Freeze)>, StoreError> {
        let view = self.shared()?.reader.view()?;
        let frozen = read::frozen(&*view)?;
        let mut freezes = Freezes::default();
        if !frozen.is_empty() {
            read::each_audit(&*view, &mut |entry| freezes.apply(&entry))?;
        }
        let mut freezes: Vec<(PriceId, Freeze)> =
            frozen.into_iter().map(|frozen| (frozen.price.clone(), freezes.of(&frozen.price))).collect();
        freezes.sort_by(|(one, a), (other, b)| (a.since, one).cmp(&(b.since, other)));
        Ok(freezes)
    }

    /// Calls back with the runs of a filter behind one, oldest first, until told to stop; the filter's limit is none here.
    /// Gives the last run that was looked at where there may be more behind it: it was told to stop, or looked at
    /// `looks_max`.
    ///
    /// # Errors
    /// When a record is damaged; or what `visit` says.
    pub fn each_summary<E: From<StoreError>>(
        &self,
        filter: &RunFilter,
        after: Option<RunId>,
        looks_max: usize,
        visit: &mut dyn FnMut(RunSummary) -> Result<ControlFlow<()>, E>,
    ) -> Result<Option<RunId>, E> {
        let shared = self.shared()?;
        let live = |run| live(shared, run);
        read::each_summary(&*shared.reader, filter, after, looks_max, &live, visit)
    }

    /// Writes a run's events as JSON Lines, as of one commit: `run`, `seq`, `at`, `event`. Gives the number of lines.
    ///
    /// # Errors
    /// When a record is damaged, or `out` takes no more.
    pub fn export_events_of(&self, run: RunId, out: &mut dyn std::io::Write) -> Result<u64, StoreError> {
        let broken = |error: std::io::Error| StoreError::Export { why: error.to_string() };
        let contents = read::contents(&*self.shared()?.reader.view()?, run)?;
        for content in &contents {
            // The stored JSON begins with `{`, and is passed on as it was written.
            write!(out, r#"{{"run":"{run}","#).map_err(broken)?;
            out.write_all(&content[1..]).map_err(broken)?;
            out.write_all(b"\n").map_err(broken)?;
        }
        Ok(u64::try_from(contents.len()).unwrap_or(u64::MAX))
    }

    /// Writes every event of every run as JSON Lines, in the order of the runs' creation. Gives the number of lines.
    ///
    /// # Errors
    /// As [`Store::export_events_of`].
    pub fn export_events(&self, out: &mut dyn std::io::Write) -> Result<u64, StoreError> {
        let mut lines = 0;
        read::each_run(&*self.shared()?.reader, Table::Summary.span(), &mut |run| {
            lines += self.export_events_of(run, out)?;
            Ok(())
        })?;
        Ok(lines)
    }

    /// Folds every event again, and compares accounts, rollups and summaries with what is stored, exactly. Reads the
    /// whole store; nothing else may write meanwhile.
    ///
    /// # Errors
    /// Names the first thing that doesn't fit.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let shared = self.shared()?;
        verify::verify(&*shared.reader, &|run| live(shared, run))
    }

    fn shared(&self) -> Result<&Shared, StoreError> {
        self.0.shared.sound()?;
        Ok(&self.0.shared)
    }
}

/// Makes a folder where there is none: its owner's alone, since it holds what people wrote and what models answered.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn live(shared: &Shared, run: RunId) -> Option<RunSummary> {
    shared.live.read().unwrap_or_else(PoisonError::into_inner).get(&run).map(|live| RunSummary::clone(live))
}
