//! What the writer keeps in memory of the open runs, and how a group of decisions becomes one batch.
//!
//! An event is serialised once. Accounts, reservations and rollups are written once for each group. A run's summary is
//! written when its state changes; between that, readers get it from memory and an open rebuilds it from the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::event::{AccountKey, Event, Recorded, RunState};
use crate::domain::ledger::Dirty;
use crate::domain::plan::Plan;
use crate::domain::rollup::{self, Dimensions, Rollup, RollupKey};
use crate::domain::summary::RunSummary;
use crate::ids::{PlanHash, RunId};
use crate::store::engine::{Batch, Reader};
use crate::store::error::StoreError;
use crate::store::{codec, keys, read};
use crate::units::Timestamp;

/// Rollup rows that are kept between groups.
const ROLLUPS_KEPT_MAX: usize = 4_096;
/// Plans that are known to be stored.
const PLANS_KNOWN_MAX: usize = 1_024;

/// The open runs, and what the current group has changed.
pub(crate) struct Books {
    reader: Arc<dyn Reader>,
    runs: BTreeMap<RunId, OpenRun>,
    touched: BTreeSet<RunId>,
    rollups: BTreeMap<RollupKey, Row>,
    changed: Vec<RollupKey>,
    plans: BTreeSet<PlanHash>,
    new_plans: Vec<(PlanHash, Plan)>,
    bytes: usize,
}

/// A run that is open, or has attempts that are.
pub(crate) struct OpenRun {
    summary: RunSummary,
    dimensions: Dimensions,
    /// The state under which the run is indexed and its summary stored; `None` until its first group.
    stored: Option<RunState>,
    /// True once its log is packed.
    packed: bool,
    /// Events of this group, as stored: the last of the log.
    pending: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Row {
    rollup: Rollup,
    changed: bool,
}

/// What a commit changes in the summaries that readers share.
pub(crate) struct Published {
    /// Runs that are open, with their summaries.
    pub(crate) open: Vec<RunSummary>,
    /// Runs that are now read from the store.
    pub(crate) closed: Vec<RunId>,
}

impl OpenRun {
    /// A run as its log tells it.
    pub(crate) fn from_log(run: RunId, log: &[Recorded], packed: bool) -> Result<Self, StoreError> {
        let Some((Recorded { at, event: Event::Created(created), .. }, rest)) = log.split_first() else {
            return Err(StoreError::damaged(format!("the log of run {run} doesn't begin with its creation")));
        };
        let mut summary = RunSummary::start(run, *at, created);
        rest.iter().for_each(|recorded| summary.apply(recorded.at, &recorded.event));
        let stored = Some(summary.state);
        Ok(Self { summary, dimensions: Dimensions::of(created), stored, packed, pending: Vec::new() })
    }

    pub(crate) fn summary(&self) -> &RunSummary {
        &self.summary
    }

    /// True where nothing but corrections can follow.
    pub(crate) fn is_closed(&self) -> bool {
        self.summary.state.is_ended() && self.summary.in_flight.is_empty()
    }

    /// The number of the first pending event.
    fn pending_from(&self) -> Result<u32, StoreError> {
        let pending = u32::try_from(self.pending.len()).ok();
        let from = pending.and_then(|pending| self.summary.events.checked_sub(pending));
        from.ok_or_else(|| StoreError::damaged(format!("run {} has more events than it counts", self.summary.id)))
    }
}

impl Books {
    pub(crate) fn new(reader: Arc<dyn Reader>, open: Vec<OpenRun>) -> Self {
        let runs = open.into_iter().map(|open| (open.summary.id, open)).collect();
        Self {
            reader,
            runs,
            touched: BTreeSet::new(),
            rollups: BTreeMap::new(),
            changed: Vec::new(),
            plans: BTreeSet::new(),
            new_plans: Vec::new(),
            bytes: 0,
        }
    }

    /// The summaries of all open runs.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = &RunSummary> {
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
            let summary = RunSummary::start(run, at, created);
            let dimensions = Dimensions::of(created);
            let open = OpenRun { summary, dimensions, stored: None, packed: false, pending: Vec::new() };
            self.runs.insert(run, open);
            0
        } else {
            self.fetch(run)?;
            self.fold(run, at, &event)?
        };
        let recorded = Recorded { seq, at, event };
        let content =
            serde_json::to_vec(&recorded).map_err(|error| StoreError::unwritable(&keys::event(run, seq), &error))?;
        self.bytes += content.len();
        self.touched.insert(run);
        if let Some(open) = self.runs.get_mut(&run) {
            open.pending.push(content);
        }
        Ok(recorded)
    }

    /// Takes a plan in, unless it is known to be stored.
    pub(crate) fn keep_plan(&mut self, plan: Plan, named: Option<&PlanHash>) {
        if named.is_some_and(|named| self.plans.contains(named)) {
            return;
        }
        let hash = plan.hash();
        if self.plans.len() >= PLANS_KNOWN_MAX {
            self.plans.clear();
        }
        if self.plans.insert(hash.clone()) {
            self.new_plans.push((hash, plan));
        }
    }

    /// All that the group changed, as one batch.
    pub(crate) fn close_group(&mut self, dirty: Dirty) -> Result<(Batch, Published), StoreError> {
        let mut batch = Batch::default();
        self.bytes = 0;
        for (hash, plan) in std::mem::take(&mut self.new_plans) {
            let key = keys::plan(&hash);
            let record = codec::seal_json(&key, &plan)?;
            batch.put(key, record);
        }
        let mut published = Published { open: Vec::new(), closed: Vec::new() };
        for run in std::mem::take(&mut self.touched) {
            let Some(open) = self.runs.get_mut(&run) else { continue };
            write_run(&*self.reader, open, &mut batch)?;
            if open.is_closed() {
                drop_nodes(&*self.reader, run, &mut batch)?;
                self.runs.remove(&run);
                published.closed.push(run);
            } else {
                published.open.push(open.summary.clone());
            }
        }
        self.write_rollups(&mut batch)?;
        self.write_dirty(dirty, &mut batch)?;
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
        rollup::fold(&open.summary, &open.dimensions, at, event, &mut row)?;
        let seq = open.summary.events;
        open.summary.apply(at, event);
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
        let (log, packed) = read::log(&*self.reader.view()?, run)?;
        if log.is_empty() {
            return Err(unknown(run));
        }
        self.runs.insert(run, OpenRun::from_log(run, &log, packed)?);
        Ok(())
    }

    fn write_rollups(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for key in std::mem::take(&mut self.changed) {
            let Some(row) = self.rollups.get_mut(&key) else { continue };
            row.changed = false;
            let place = keys::rollup(key.0, &key.1);
            let record = codec::seal_compact(&place, &(&key, &row.rollup))?;
            batch.put(place, record);
        }
        // What is let go of is in the batch: if that fails, the store is poisoned.
        if self.rollups.len() > ROLLUPS_KEPT_MAX {
            self.rollups.clear();
        }
        Ok(())
    }

    fn write_dirty(&self, dirty: Dirty, batch: &mut Batch) -> Result<(), StoreError> {
        // The last value of each account stands.
        let accounts: BTreeMap<_, _> = dirty.accounts.into_iter().collect();
        for (account, value) in accounts {
            if matches!(&account, AccountKey::Node { run, .. } if !self.runs.contains_key(run)) {
                continue;
            }
            let key = keys::account(&account);
            let record = codec::seal_compact(&key, &(account, value))?;
            batch.put(key, record);
        }
        let gone: BTreeSet<_> = dirty.holds_gone.into_iter().collect();
        for hold in dirty.holds_set.iter().filter(|hold| !gone.contains(&hold.reservation)) {
            let key = keys::hold(hold.reservation);
            let record = codec::seal_compact(&key, hold)?;
            batch.put(key, record);
        }
        gone.into_iter().for_each(|reservation| batch.delete(keys::hold(reservation)));
        dirty.unfrozen.iter().for_each(|price| batch.delete(keys::frozen(price)));
        for frozen in &dirty.frozen {
            let key = keys::frozen(&frozen.price);
            let record = codec::seal_compact(&key, frozen)?;
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

fn unknown(run: RunId) -> StoreError {
    StoreError::damaged(format!("an event of run {run} was decided, but no such run is stored"))
}

/// One run's part of a batch: its events, single or packed, and its summary and indexes where they changed.
fn write_run(reader: &dyn Reader, open: &mut OpenRun, batch: &mut Batch) -> Result<(), StoreError> {
    let run = open.summary.id;
    let from = open.pending_from()?;
    let ended = open.summary.state.is_ended();
    if ended && !open.packed {
        pack(reader, run, from, &open.pending, batch)?;
        open.packed = true;
    } else {
        for (seq, content) in (from..).zip(&open.pending) {
            let key = keys::event(run, seq);
            let record = codec::seal_bytes(&key, content);
            batch.put(key, record);
        }
    }
    open.pending.clear();
    if ended || open.stored != Some(open.summary.state) {
        write_summary(open, batch)?;
    }
    Ok(())
}

/// All events of a run in one record; the single ones go.
fn pack(reader: &dyn Reader, run: RunId, from: u32, pending: &[Vec<u8>], batch: &mut Batch) -> Result<(), StoreError> {
    let stored = if from == 0 { Vec::new() } else { read::contents(&*reader.view()?, run)?.0 };
    if u32::try_from(stored.len()) != Ok(from) {
        return Err(StoreError::damaged(format!("run {run} has {} events, and {from} were written", stored.len())));
    }
    crate::failpoint::reach("store.pack");
    let key = keys::pack(run);
    let record = codec::seal_pack(&key, stored.iter().chain(pending).map(Vec::as_slice))?;
    batch.put(key, record);
    (0..from).for_each(|seq| batch.delete(keys::event(run, seq)));
    Ok(())
}

fn write_summary(open: &mut OpenRun, batch: &mut Batch) -> Result<(), StoreError> {
    let summary = &open.summary;
    let key = keys::summary(summary.id);
    let record = codec::seal_json(&key, summary)?;
    batch.put(key, record);
    match open.stored {
        Some(before) if before == summary.state => return Ok(()),
        Some(before) => batch.delete(keys::by_state(before, summary.id)),
        None => index_new(summary, batch),
    }
    batch.put(keys::by_state(summary.state, summary.id), Vec::new());
    open.stored = Some(summary.state);
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

/// Removes a closed run's accounts: its summary has what they said.
fn drop_nodes(reader: &dyn Reader, run: RunId, batch: &mut Batch) -> Result<(), StoreError> {
    let view = reader.view()?;
    for (key, _) in read::all(&*view, keys::nodes(run))? {
        batch.delete(key);
    }
    Ok(())
}
