//! What the writer keeps in memory of the open runs, and how a group of decisions becomes one batch.
//!
//! An event is serialised once, and those of one run and group are one record. A run's accounts and reservations are
//! one record too, since sled's time goes by the number of keys. Budgets and rollups are written once for each group. A
//! run's summary is written when it ends; before that, readers get it from memory and an open rebuilds it from the log.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::alert::{Alert, AlertRule};
use crate::domain::audit::{AuditEntry, Author, Change, Freeze, Freezes};
use crate::domain::event::{AccountKey, AnswerKey, Event, Recorded};
use crate::domain::ledger::{Dirty, RunMoney, ShadowSums, Shadowed};
use crate::domain::message::File;
use crate::domain::plan::Plan;
use crate::domain::rollup::{
    self, Counted, Day, Rollup, RollupCaches, RollupFailures, RollupKey, RollupMore, RollupWorth,
};
use crate::domain::summary::RunSummary;
use crate::domain::tightness::Tightness;
use crate::ids::{PlanHash, PriceId, RunId};
use crate::store::answers::Answers;
use crate::store::engine::{Batch, Reader};
use crate::store::error::StoreError;
use crate::store::keys::Table;
use crate::store::outbox::Outbox;
use crate::store::read;
use crate::store::{codec, keys};
use crate::units::Timestamp;

/// Rollup rows that are kept between groups.
const ROLLUPS_KEPT_MAX: usize = 4_096;
/// Plans that are known to be stored.
const PLANS_KNOWN_MAX: usize = 1_024;
/// Files that are known to be stored.
const FILES_KNOWN_MAX: usize = 1_024;

/// The open runs, and what the current group has changed.
pub(crate) struct Books {
    reader: Arc<dyn Reader>,
    /// Boxed, since a map in which the newest comes last is half empty.
    runs: BTreeMap<RunId, Box<OpenRun>>,
    touched: BTreeSet<RunId>,
    /// Of each tree that is written to, the number of its next fact.
    trees: BTreeMap<RunId, u32>,
    rollups: BTreeMap<RollupKey, Row>,
    changed: Vec<RollupKey>,
    plans: BTreeSet<PlanHash>,
    new_plans: Vec<(PlanHash, Arc<Plan>)>,
    /// Files that are known to be stored, by their hash.
    pub(super) files: BTreeSet<String>,
    new_files: Vec<File>,
    /// Files of erased runs that perhaps nobody names any more, each with the run that named it last.
    pub(super) unclaimed: BTreeMap<String, RunId>,
    /// Entries of the audit log of this group.
    audit: Vec<AuditEntry>,
    audit_next: u64,
    /// Answers that are kept.
    answers: Answers,
    /// What takes bodies out.
    pub(super) erasing: Batch,
    pub(crate) outbox: Outbox,
    bytes: usize,
}

/// A run that is open, or has attempts that are.
pub(crate) struct OpenRun {
    /// Shared with readers, who see it as of the last commit: what changes it makes one of its own.
    summary: Arc<RunSummary>,
    counted: Counted,
    stored: Stored,
    /// Events of this group, as stored: the last of the log.
    pending: Vec<Vec<u8>>,
    /// Its accounts and open reservations, where the group changed them. The ledger has them all the time.
    money: Option<RunMoney>,
    /// True where it has open reservations.
    pub(crate) holds_money: bool,
    /// The number behind that of its last stored fact among those of its tree.
    next_in_tree: u32,
}

/// How a run stands in the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    /// Not yet: this is its first group.
    Nothing,
    Open,
    /// Its log is in one record, its summary is written.
    Ended,
}

#[derive(Default)]
struct Row {
    rollup: Rollup,
    changed: bool,
}

/// What a commit changes in the summaries that readers share.
#[derive(Default)]
pub(crate) struct Published {
    /// The summaries of runs that are open.
    pub(crate) open: Vec<Arc<RunSummary>>,
    /// Runs that are now read from the store.
    pub(crate) closed: Vec<RunId>,
    /// True where alerts changed.
    pub(crate) alerts: bool,
    /// Days of rollups that are written to.
    pub(crate) days: BTreeSet<Day>,
}

impl OpenRun {
    fn new(summary: RunSummary, counted: Counted) -> Self {
        let (summary, pending) = (Arc::new(summary), Vec::new());
        let (money, stored) = (None, Stored::Nothing);
        Self { summary, counted, stored, pending, money, holds_money: false, next_in_tree: 0 }
    }

    /// A run as its log tells it.
    pub(crate) fn from_log(run: RunId, log: &[Recorded]) -> Result<Self, StoreError> {
        let (Some(Recorded { event: Event::Created(created), .. }), Some(summary)) =
            (log.first(), RunSummary::of(run, log))
        else {
            return Err(read::headless(run));
        };
        let stored = if summary.state.is_ended() { Stored::Ended } else { Stored::Open };
        let next_in_tree = log.last().map_or(0, |last| last.place_in_tree().saturating_add(1));
        Ok(Self { stored, next_in_tree, ..Self::new(summary, Counted::of(created)) })
    }

    pub(crate) fn summary(&self) -> &RunSummary {
        &self.summary
    }

    /// True where nothing but corrections can follow.
    pub(crate) fn is_closed(&self) -> bool {
        self.summary.state.is_ended() && self.summary.in_flight.is_empty() && !self.holds_money
    }

    /// The number of the first pending event.
    fn pending_from(&self) -> Result<u32, StoreError> {
        let pending = u32::try_from(self.pending.len()).ok();
        let from = pending.and_then(|pending| self.summary.events.checked_sub(pending));
        from.ok_or_else(|| StoreError::damaged(format!("run {} has more events than it counts", self.summary.id)))
    }
}

impl Books {
    pub(crate) fn new(
        reader: Arc<dyn Reader>,
        runs: BTreeMap<RunId, Box<OpenRun>>,
        hearing: Vec<AlertRule>,
    ) -> Result<Self, StoreError> {
        let view = reader.view()?;
        let (audit_next, answers) = (read::audit_next(&*view)?, Answers::load(&*view)?);
        let unclaimed = read::unclaimed(&*view)?;
        drop(view);
        Ok(Self {
            outbox: Outbox::load(Arc::clone(&reader), hearing)?,
            reader,
            runs,
            touched: BTreeSet::new(),
            trees: BTreeMap::new(),
            rollups: BTreeMap::new(),
            changed: Vec::new(),
            plans: BTreeSet::new(),
            new_plans: Vec::new(),
            files: BTreeSet::new(),
            new_files: Vec::new(),
            unclaimed,
            audit: Vec::new(),
            audit_next,
            answers,
            erasing: Batch::default(),
            bytes: 0,
        })
    }

    pub(super) const fn reader(&self) -> &Arc<dyn Reader> {
        &self.reader
    }

    /// True where more is known of a run here than on disk.
    pub(super) fn is_open(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// Takes out an answer that is kept; false where none is.
    pub(super) fn forget_answer(&mut self, key: AnswerKey) -> bool {
        self.answers.forget(key)
    }

    /// Has the group's commit make these changes too.
    pub(super) fn erasing(&mut self, batch: Batch) {
        self.erasing.append(batch);
    }

    /// The summaries of all open runs.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = &Arc<RunSummary>> {
        self.runs.values().map(|open| &open.summary)
    }

    /// The root of a run's tree, where the run is open.
    pub(crate) fn root(&self, run: RunId) -> RunId {
        self.runs.get(&run).map_or(run, |open| open.summary.root())
    }

    /// Bytes of events that the group holds so far.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one fact in: gives it its number, and folds it into the run's summary and the rollups.
    pub(crate) fn record(&mut self, run: RunId, at: Timestamp, event: Event) -> Result<Recorded, StoreError> {
        let seq = if let Event::Created(created) = &event {
            self.refuse_twice(run)?;
            self.keep_files(&created.files);
            let summary = RunSummary::start(run, at, created);
            let counted = Counted::of(created);
            self.runs.insert(run, Box::new(OpenRun::new(summary, counted)));
            0
        } else {
            self.fetch(run)?;
            self.fold(run, at, &event)?
        };
        if let Event::Settled(settled) = &event {
            self.answers.keep(at, settled)?;
        }
        self.tell_of_end(run, at, &event)?;
        let order = Some(self.place_in_tree(run, seq)?).filter(|order| *order != seq);
        let recorded = Recorded { seq, at, order, event };
        let content =
            serde_json::to_vec(&recorded).map_err(|error| StoreError::unwritable(&keys::event(run, seq), &error))?;
        self.bytes += content.len();
        self.touched.insert(run);
        if let Some(open) = self.runs.get_mut(&run) {
            open.pending.push(content);
            open.next_in_tree = recorded.place_in_tree().saturating_add(1);
        }
        Ok(recorded)
    }

    /// Whoever hears of it is told how a root run ended.
    fn tell_of_end(&mut self, run: RunId, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        let Event::Ended(ended) = event else { return Ok(()) };
        let summary = self.runs.get(&run).map(|open| &open.summary).filter(|run| run.parent.is_none());
        match summary.filter(|_| self.outbox.hears_runs()) {
            Some(summary) => self.outbox.raise(at, &Alert::of_run(summary, ended.state)),
            None => Ok(()),
        }
    }

    /// The number of a tree's next fact, which is one of this run.
    fn place_in_tree(&mut self, run: RunId, seq: u32) -> Result<u32, StoreError> {
        let root = self.root(run);
        let next = match self.trees.get(&root) {
            Some(next) => *next,
            None if run == root && seq == 0 => 0,
            None => self.next_in_tree(root)?,
        };
        self.trees.insert(root, next.saturating_add(1));
        Ok(next)
    }

    /// The same of a tree that wasn't written to since the store was opened: what has the last number is its root, or open.
    fn next_in_tree(&self, root: RunId) -> Result<u32, StoreError> {
        let open = self.runs.values().filter(|open| open.summary.root() == root).map(|open| open.next_in_tree).max();
        let log = if self.runs.contains_key(&root) { vec![] } else { read::log(&*self.reader.view()?, root)? };
        let of_root = log.last().map(|last| last.place_in_tree().saturating_add(1));
        Ok(open.max(of_root).unwrap_or_default())
    }

    /// Takes a plan in, unless it is known to be stored.
    pub(crate) fn keep_plan(&mut self, plan: Arc<Plan>, named: Option<&PlanHash>) {
        if named.is_some_and(|named| self.plans.contains(named)) {
            return;
        }
        let hash = plan.hash();
        if self.plans.len() >= PLANS_KNOWN_MAX {
            self.plans.clear();
        }
        if self.plans.insert(hash.clone()) {
            // Runs of its sub-agents name their plans by hashes of their own.
            for below in plan.agents.values() {
                self.keep_plan(below.clone(), None);
            }
            self.keep_files(&plan.files);
            self.new_plans.push((hash, plan));
        }
    }

    /// Takes the bytes of files in, unless they are known to be stored: many runs may be given the same.
    fn keep_files(&mut self, files: &[File]) {
        for file in files.iter().filter(|file| !file.data().is_empty()) {
            if self.unclaimed.remove(file.sha256()).is_some() {
                self.erasing.delete(keys::unclaimed(file.sha256()));
            }
            if self.files.len() >= FILES_KNOWN_MAX {
                self.files.clear();
            }
            if self.files.insert(file.sha256().to_owned()) {
                self.bytes += file.data().len();
                self.new_files.push(file.clone());
            }
        }
    }

    /// Adds to the audit log; the entry is in the same batch as the change that it tells of.
    pub(crate) fn note(&mut self, at: Timestamp, by: Author, change: Change) -> AuditEntry {
        let entry = AuditEntry { number: self.audit_next, at, by, change };
        self.audit.push(entry.clone());
        self.audit_next += 1;
        entry
    }

    /// Why a price row is frozen, as the audit log tells it, this group included.
    pub(crate) fn freeze_of(&self, price: &PriceId) -> Result<Freeze, StoreError> {
        let mut freezes = Freezes::default();
        read::each_audit(&*self.reader.view()?, &mut |entry| freezes.apply(&entry))?;
        self.audit.iter().for_each(|entry| freezes.apply(entry));
        Ok(freezes.of(price))
    }

    /// All that the group changed, as one batch.
    pub(crate) fn close_group(&mut self, dirty: Dirty) -> Result<(Batch, Published), StoreError> {
        let mut batch = Batch::default();
        self.bytes = 0;
        for (hash, plan) in std::mem::take(&mut self.new_plans) {
            let key = keys::plan(&hash);
            let record = codec::seal_json(&key, &*plan)?;
            batch.put(key, record);
        }
        for file in std::mem::take(&mut self.new_files) {
            let key = keys::file(file.sha256());
            let record = codec::seal_bytes(&key, &file.raw().unwrap_or_default());
            batch.put(key, record);
        }
        self.write_dirty(dirty, &mut batch)?;
        for entry in std::mem::take(&mut self.audit) {
            let key = keys::audit(entry.number);
            let record = codec::seal_json(&key, &entry)?;
            batch.put(key, record);
        }
        let mut published = Published::default();
        for run in std::mem::take(&mut self.touched) {
            let Some(open) = self.runs.get_mut(&run) else { continue };
            write_run(&*self.reader, open, &mut batch)?;
            if open.is_closed() {
                let root = open.summary.root();
                self.runs.remove(&run);
                if !self.runs.contains_key(&root) {
                    self.trees.remove(&root);
                }
                published.closed.push(run);
            } else {
                published.open.push(open.summary.clone());
            }
        }
        self.answers.write(&mut batch);
        batch.append(std::mem::take(&mut self.erasing));
        published.alerts = self.outbox.write(&mut batch)?;
        published.days = self.changed.iter().map(|(day, _)| *day).collect();
        self.write_rollups(&mut batch)?;
        Ok((batch, published))
    }

    /// Folds a fact into a run that is in memory, and gives the fact's number.
    fn fold(&mut self, run: RunId, at: Timestamp, event: &Event) -> Result<u32, StoreError> {
        let Self { reader, runs, rollups, changed, .. } = self;
        let open = runs.get_mut(&run).ok_or_else(|| unknown(run))?;
        let mut row = |key: RollupKey, change: &dyn Fn(&mut Rollup)| -> Result<(), StoreError> {
            if !rollups.contains_key(&key) {
                let rollup = read::rollup(&**reader, &key)?.unwrap_or_default();
                rollups.insert(key.clone(), Row { rollup, changed: false });
            }
            let row = rollups.entry(key.clone()).or_default();
            change(&mut row.rollup);
            if !std::mem::replace(&mut row.changed, true) {
                changed.push(key);
            }
            Ok(())
        };
        rollup::fold(&open.summary, &open.counted, at, event, &mut row)?;
        let seq = open.summary.events;
        Arc::make_mut(&mut open.summary).apply(at, event);
        Ok(seq)
    }

    fn refuse_twice(&self, run: RunId) -> Result<(), StoreError> {
        let known = self.runs.contains_key(&run) || self.reader.view()?.get(&keys::summary(run))?.is_some();
        if known { Err(StoreError::damaged(format!("run {run} would be created twice"))) } else { Ok(()) }
    }

    /// Brings a run into memory that isn't there: it ended, and something is learned of it later.
    fn fetch(&mut self, run: RunId) -> Result<(), StoreError> {
        if self.runs.contains_key(&run) {
            return Ok(());
        }
        let log = read::log(&*self.reader.view()?, run)?;
        if log.is_empty() {
            return Err(unknown(run));
        }
        self.runs.insert(run, Box::new(OpenRun::from_log(run, &log)?));
        Ok(())
    }

    /// Takes in what a run has. A closed run keeps its sums in its summary.
    fn take_money(&mut self, run: RunId, money: RunMoney) -> Result<(), StoreError> {
        if !money.holds.is_empty() {
            self.fetch(run)?;
        }
        if let Some(open) = self.runs.get_mut(&run) {
            open.holds_money = !money.holds.is_empty();
            open.money = Some(money);
            self.touched.insert(run);
        }
        Ok(())
    }

    fn write_rollups(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for key in std::mem::take(&mut self.changed) {
            let Some(row) = self.rollups.get_mut(&key) else { continue };
            row.changed = false;
            let place = keys::rollup(key.0, &key.1);
            let record = codec::seal_parts(&place, &parts_of(&key, &row.rollup, &place)?);
            batch.put(place, record);
        }
        // What is let go of is in the batch: if that fails, the store is poisoned.
        if self.rollups.len() > ROLLUPS_KEPT_MAX {
            self.rollups.clear();
        }
        Ok(())
    }

    /// Adds what budgets that only watch would have refused to what is stored of it.
    fn write_shadowed(&self, shadowed: &[Shadowed], batch: &mut Batch) -> Result<(), StoreError> {
        let mut sums: BTreeMap<&AccountKey, ShadowSums> = BTreeMap::new();
        for one in shadowed {
            let sum = match sums.entry(&one.account) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert(read::shadow(&*self.reader.view()?, &one.account)?.unwrap_or_default())
                }
            };
            sum.refused += 1;
            sum.amount = sum.amount.plus(one.amount);
            sum.last = Some(one.reservation.run);
        }
        for (account, sum) in sums {
            let Some(key) = keys::account(Table::Shadow, account) else { continue };
            let record = codec::seal_compact(&key, &(account, sum))?;
            batch.put(key, record);
        }
        Ok(())
    }

    fn write_dirty(&mut self, dirty: Dirty, batch: &mut Batch) -> Result<(), StoreError> {
        for (account, value) in dirty.budgets {
            let Some(key) = keys::account(Table::Budget, &account) else { continue };
            let record = codec::seal_compact(&key, &(account, value))?;
            batch.put(key, record);
        }
        for (run, money) in dirty.runs {
            self.take_money(run, money)?;
        }
        dirty.unfrozen.iter().for_each(|price| batch.delete(keys::frozen(price)));
        for frozen in &dirty.frozen {
            let key = keys::frozen(&frozen.price);
            let record = codec::seal_compact(&key, frozen)?;
            batch.put(key, record);
        }
        self.write_shadowed(&dirty.shadowed, batch)?;
        for one in &dirty.told {
            let Some(key) = keys::account(Table::Told, &one.0) else { continue };
            let record = codec::seal_compact(&key, one)?;
            batch.put(key, record);
        }
        for ring in &dirty.rings {
            let key = keys::ring(&ring.0);
            let record = codec::seal_compact(&key, ring)?;
            batch.put(key, record);
        }
        Ok(())
    }
}

/// A row, and what came later behind it. Each part needs those before it; no thread has an empty name.
fn parts_of(key: &RollupKey, rollup: &Rollup, place: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let (thread, more, caches) = (key.1.thread.as_deref(), RollupMore::of(rollup), RollupCaches::of(rollup));
    let says = [
        true,
        thread.is_some(),
        more.is_some(),
        caches.is_some(),
        rollup.tightness != Tightness::default(),
        rollup.worth != RollupWorth::default(),
        rollup.failures != RollupFailures::default(),
    ];
    let used = says.iter().rposition(|says| *says).map_or(1, |last| last + 1);
    let parts: [&dyn Fn() -> Result<Vec<u8>, StoreError>; 7] = [
        &|| codec::compact(place, &(key, rollup)),
        &|| codec::compact(place, thread.unwrap_or_default()),
        &|| codec::compact(place, &more.unwrap_or_default()),
        &|| codec::compact(place, &caches),
        &|| codec::compact(place, &rollup.tightness),
        &|| codec::compact(place, &rollup.worth),
        &|| codec::compact(place, &rollup.failures),
    ];
    parts.iter().take(used).map(|part| part()).collect()
}

fn unknown(run: RunId) -> StoreError {
    StoreError::damaged(format!("an event of run {run} was decided, but no such run is stored"))
}

/// One run's part of a batch: its events, single or packed, and its summary and indexes where they changed.
fn write_run(reader: &dyn Reader, open: &mut OpenRun, batch: &mut Batch) -> Result<(), StoreError> {
    let run = open.summary.id;
    let from = open.pending_from()?;
    let ended = open.summary.state.is_ended();
    if ended && open.stored != Stored::Ended {
        pack(reader, run, from, &open.pending, batch)?;
    } else if !open.pending.is_empty() {
        let key = keys::event(run, from);
        let record = codec::seal_pack(&key, open.pending.iter().map(Vec::as_slice))?;
        batch.put(key, record);
    }
    open.pending.clear();
    if ended || open.stored == Stored::Nothing {
        write_summary(open, batch)?;
    }
    let money = open.money.take();
    if open.is_closed() {
        batch.delete(keys::money(run));
    } else if let Some(money) = money {
        let key = keys::money(run);
        let record = codec::seal_compact(&key, &money)?;
        batch.put(key, record);
    }
    Ok(())
}

/// All events of a run in one record, in the place of the first; those of later writes go.
fn pack(reader: &dyn Reader, run: RunId, from: u32, pending: &[Vec<u8>], batch: &mut Batch) -> Result<(), StoreError> {
    let before = if from == 0 { Vec::new() } else { read::all(&*reader.view()?, keys::events(run))? };
    let place = keys::event(run, 0);
    let mut stored = Vec::new();
    for (key, record) in &before {
        stored.extend(codec::open_pack(key, record)?);
        if *key != place {
            batch.delete(key.clone());
        }
    }
    if u32::try_from(stored.len()) != Ok(from) {
        return Err(StoreError::damaged(format!("run {run} has {} events, and {from} were written", stored.len())));
    }
    crate::failpoint::reach("store.pack");
    let record = codec::seal_pack(&place, stored.into_iter().chain(pending.iter().map(Vec::as_slice)))?;
    batch.put(place, record);
    Ok(())
}

/// The summary of a run that ended, and its place among those that ended so. The summary of an open one is in memory, and
/// an open of the store folds it again: only its key stands, as the list of all runs; its money lists it among the open ones.
fn write_summary(open: &mut OpenRun, batch: &mut Batch) -> Result<(), StoreError> {
    let (summary, ended) = (&open.summary, open.summary.state.is_ended());
    let key = keys::summary(summary.id);
    if ended {
        let record = codec::seal_json(&key, &**summary)?;
        batch.put(key, record);
    } else if open.stored == Stored::Nothing {
        batch.put(key, Vec::new());
    }
    if open.stored == Stored::Nothing {
        index_new(summary, batch);
    }
    if ended && open.stored != Stored::Ended {
        batch.put(keys::by_state(summary.state, summary.id), Vec::new());
    }
    open.stored = if ended { Stored::Ended } else { Stored::Open };
    Ok(())
}

/// The indexes that never change.
fn index_new(summary: &RunSummary, batch: &mut Batch) {
    let run = summary.id;
    batch.put(keys::by_agent(&summary.agent, run), Vec::new());
    for (name, value) in &*summary.labels {
        batch.put(keys::by_label(name, value, run), Vec::new());
    }
    if let Some(caller) = &summary.key {
        batch.put(keys::by_key(&summary.agent, caller), run.bits().to_be_bytes().to_vec());
    }
}
