//! The outbox: alerts that are to be delivered, and those that were or were given up.
//!
//! Invariants: an alert is written in the commit of what caused it, once for each who hears it; its number is never used
//! twice; both those that wait and those that are over are bounded in number. Deliberately absent: who delivers, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::domain::alert::{Alert, AlertEntry, AlertRule, AlertState, Tried, hearers};
use crate::ids::RunId;
use crate::store::engine::{Batch, Order, Reader, View};
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::writer::Command;
use crate::store::{Store, codec, read};
use crate::units::Timestamp;

/// The most alerts that wait to be delivered; one more, and the oldest is given up.
pub const ALERTS_WAITING_MAX: usize = 10_000;
/// The most alerts that are kept once they are delivered or given up; the oldest go.
pub const ALERTS_KEPT_MAX: usize = 1_000;

/// What a person or a deliverer does about an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AlertAct {
    /// It was tried.
    Tried(Tried),
    /// It is to be tried anew.
    Retry,
}

/// The outbox, as of the last group and this one.
pub(crate) struct Outbox {
    reader: Arc<dyn Reader>,
    rules: Vec<AlertRule>,
    next: u64,
    /// Those that wait, each with the time in its key.
    due: BTreeMap<u64, Timestamp>,
    over: BTreeSet<u64>,
    /// Changed by this group.
    changed: BTreeMap<u64, AlertEntry>,
    /// Keys that this group takes out.
    gone: BTreeSet<Vec<u8>>,
}

impl Outbox {
    /// Reads what is there.
    pub(crate) fn load(reader: Arc<dyn Reader>, rules: Vec<AlertRule>) -> Result<Self, StoreError> {
        let view = reader.view()?;
        let damaged = |key: &[u8]| StoreError::damaged(keys::describe(key));
        let (mut due, mut over) = (BTreeMap::new(), BTreeSet::new());
        for (key, _) in read::all(&*view, keys::alerts_due())? {
            let (next, number) = keys::alert_due_at(&key).ok_or_else(|| damaged(&key))?;
            due.insert(number, next);
        }
        for (key, _) in read::all(&*view, keys::alerts_over())? {
            over.insert(keys::last_number(&key).ok_or_else(|| damaged(&key))?);
        }
        drop(view);
        let last = due.last_key_value().map(|(number, _)| *number).max(over.last().copied());
        let next = last.map_or(0, |last| last.saturating_add(1));
        Ok(Self { reader, rules, next, due, over, changed: BTreeMap::new(), gone: BTreeSet::new() })
    }

    /// From here on these hear.
    pub(crate) fn set_rules(&mut self, rules: Vec<AlertRule>) {
        self.rules = rules;
    }

    /// True where somebody may hear how a run ended: then it is worth being told.
    pub(crate) fn hears_runs(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Takes an alert in, once for each who hears it.
    pub(crate) fn raise(&mut self, at: Timestamp, alert: &Alert) -> Result<(), StoreError> {
        for to in hearers(&self.rules, alert) {
            self.take_in(AlertEntry::new(self.next, to, at, alert.clone()))?;
        }
        Ok(())
    }

    fn take_in(&mut self, entry: AlertEntry) -> Result<(), StoreError> {
        self.next = self.next.saturating_add(1);
        self.put(entry);
        while self.due.len() > ALERTS_WAITING_MAX {
            self.give_up_oldest()?;
        }
        Ok(())
    }

    /// Books what was done about an alert; one that isn't there any more is passed over.
    pub(crate) fn act(&mut self, number: u64, act: AlertAct, now: Timestamp) -> Result<bool, StoreError> {
        let Some(mut entry) = self.entry(number)? else { return Ok(false) };
        match act {
            AlertAct::Tried(tried) => entry.book(tried, now),
            AlertAct::Retry => entry.begin_again(now),
        }
        self.put(entry);
        Ok(true)
    }

    /// Alerts of these runs no longer say why one ended: it may repeat what somebody wrote.
    pub(crate) fn forget_words(&mut self, runs: &BTreeSet<RunId>) -> Result<(), StoreError> {
        let numbers: Vec<u64> = self.due.keys().chain(&self.over).copied().collect();
        for number in numbers {
            let Some(mut entry) = self.entry(number)? else { continue };
            if let Alert::Run(told) = &mut entry.alert
                && runs.contains(&told.run)
                && told.why.take().is_some()
            {
                self.put(entry);
            }
        }
        Ok(())
    }

    fn give_up_oldest(&mut self) -> Result<(), StoreError> {
        let Some(number) = self.due.keys().next().copied() else { return Ok(()) };
        match self.entry(number)? {
            Some(mut entry) => {
                tracing::error!(alert = number, to = entry.to, "too many alerts wait: the oldest is given up");
                entry.give_up("too many alerts waited");
                self.put(entry);
            }
            None => drop(self.due.remove(&number)),
        }
        Ok(())
    }

    fn entry(&self, number: u64) -> Result<Option<AlertEntry>, StoreError> {
        if let Some(changed) = self.changed.get(&number) {
            return Ok(Some(changed.clone()));
        }
        let key = match self.due.get(&number) {
            Some(next) => keys::alert_due(*next, number),
            None => keys::alert_over(number),
        };
        self.reader.view()?.get(&key)?.map(|record| codec::open_json(&key, &record)).transpose()
    }

    /// Puts an entry in the place of its state.
    fn put(&mut self, entry: AlertEntry) {
        let number = entry.number;
        if let Some(next) = self.due.remove(&number) {
            self.gone.insert(keys::alert_due(next, number));
        }
        if self.over.remove(&number) {
            self.gone.insert(keys::alert_over(number));
        }
        match entry.state {
            AlertState::Due => drop(self.due.insert(number, entry.next)),
            AlertState::Delivered | AlertState::Dead => drop(self.over.insert(number)),
        }
        self.changed.insert(number, entry);
        while self.over.len() > ALERTS_KEPT_MAX {
            let Some(oldest) = self.over.pop_first() else { break };
            self.changed.remove(&oldest);
            self.gone.insert(keys::alert_over(oldest));
        }
    }

    /// What the group changed; true where it changed anything.
    pub(crate) fn write(&mut self, batch: &mut Batch) -> Result<bool, StoreError> {
        let changes = !self.changed.is_empty();
        let mut gone = std::mem::take(&mut self.gone);
        for (number, entry) in std::mem::take(&mut self.changed) {
            let key = match entry.state {
                AlertState::Due => keys::alert_due(entry.next, number),
                AlertState::Delivered | AlertState::Dead => keys::alert_over(number),
            };
            gone.remove(&key);
            let record = codec::seal_json(&key, &entry)?;
            batch.put(key, record);
        }
        gone.into_iter().for_each(|key| batch.delete(key));
        Ok(changes)
    }
}

impl Store {
    /// Books a try to deliver an alert. One that isn't kept any more is passed over.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn alert_tried(&self, number: u64, tried: Tried) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Alert(number, AlertAct::Tried(tried), reply), answer).await.map(drop)
    }

    /// Has an alert delivered anew, whatever became of it; false where it isn't kept any more.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub async fn retry_alert(&self, number: u64) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        let committed = self.send(Command::Alert(number, AlertAct::Retry, reply), answer).await?;
        Ok(committed.noted.is_some())
    }

    /// Waits until a commit has changed some alert. For one who waits at a time.
    pub async fn alerts_changed(&self) {
        self.0.shared.alerts.notified().await;
    }

    /// The alerts that wait to be delivered, those whose time comes first before others; `most` of them at most.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn alerts_due(&self, most: usize) -> Result<Vec<AlertEntry>, StoreError> {
        due(&*self.shared()?.reader.view()?, most)
    }

    /// The alerts that wait to be delivered, the first ones of each who hears them: `most` for each at most.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn alerts_due_each(&self, most: usize) -> Result<Vec<AlertEntry>, StoreError> {
        due_each(&*self.shared()?.reader.view()?, most)
    }

    /// The alerts that were delivered or given up, the newest first; `most` of them at most.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn alerts_over(&self, most: usize) -> Result<Vec<AlertEntry>, StoreError> {
        over(&*self.shared()?.reader.view()?, most)
    }
}

/// The alerts that wait, those that are due first before others; `most` of them at most.
pub(crate) fn due(view: &dyn View, most: usize) -> Result<Vec<AlertEntry>, StoreError> {
    entries(view.scan(&keys::alerts_due(), Order::Ascending, most)?)
}

/// The first of each who hears them, those that are due first before others. All that wait are looked at, which is bounded.
pub(crate) fn due_each(view: &dyn View, most: usize) -> Result<Vec<AlertEntry>, StoreError> {
    let mut entries = entries(read::all(view, keys::alerts_due())?)?;
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    entries.retain(|entry| {
        let count = found.entry(entry.to.clone()).or_default();
        *count += 1;
        *count <= most
    });
    Ok(entries)
}

/// The alerts that were delivered or given up, the newest first; `most` of them at most.
pub(crate) fn over(view: &dyn View, most: usize) -> Result<Vec<AlertEntry>, StoreError> {
    entries(view.scan(&keys::alerts_over(), Order::Descending, most)?)
}

fn entries(found: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<AlertEntry>, StoreError> {
    found.into_iter().map(|(key, record)| codec::open_json(&key, &record)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::Engine as _;
    use crate::store::memory::MemoryDisk;

    fn outbox(disk: &MemoryDisk) -> Outbox {
        Outbox::load(disk.open().reader(), Vec::new()).expect("it reads")
    }

    fn raise(outbox: &mut Outbox, at: u64) {
        let entry = AlertEntry::new(outbox.next, "a".to_owned(), Timestamp(at), Alert::Test { at: Timestamp(at) });
        outbox.take_in(entry).expect("it fits");
    }

    fn commit(outbox: &mut Outbox, disk: &MemoryDisk) {
        let mut batch = Batch::default();
        outbox.write(&mut batch).expect("it writes");
        disk.open().commit(batch).expect("it commits");
    }

    #[test]
    fn a_long_backlog_of_one_who_hears_hides_nobody_elses() {
        let disk = MemoryDisk::default();
        let mut first = outbox(&disk);
        (0..3_000).for_each(|at| raise(&mut first, at));
        let late = AlertEntry::new(first.next, "b".to_owned(), Timestamp(9_000), Alert::Test { at: Timestamp(9_000) });
        first.take_in(late).expect("it fits");
        commit(&mut first, &disk);
        let found = due_each(&*disk.open().reader().view().expect("a view"), 2).expect("it reads");
        let found: Vec<(u64, &str)> = found.iter().map(|entry| (entry.number, entry.to.as_str())).collect();
        assert_eq!(found, [(0, "a"), (1, "a"), (3_000, "b")]);
    }

    #[test]
    fn both_those_that_wait_and_those_that_are_over_are_bounded() {
        let disk = MemoryDisk::default();
        let mut first = outbox(&disk);
        (0..10_050).for_each(|at| raise(&mut first, at));
        assert_eq!((first.due.len(), first.over.len()), (ALERTS_WAITING_MAX, 50), "the oldest were given up");
        commit(&mut first, &disk);
        let mut again = outbox(&disk);
        assert_eq!((again.due.len(), again.over.len(), again.next), (ALERTS_WAITING_MAX, 50, 10_050));
        for number in 50..1_250 {
            assert!(again.act(number, AlertAct::Tried(Tried::Delivered), Timestamp(1)).expect("it reads"));
        }
        commit(&mut again, &disk);
        let last = outbox(&disk);
        assert_eq!((last.due.len(), last.over.len()), (ALERTS_WAITING_MAX - 1_200, ALERTS_KEPT_MAX));
        assert_eq!(last.over.first(), Some(&250), "the oldest go");
        let entries = over(&*disk.open().reader().view().expect("a view"), 2).expect("it reads");
        assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1_249, 1_248]);
    }
}
