//! Rollups of days, decoded, kept between readings: reports look at the same days again and again, and of all but the last
//! nothing changes, unless somebody says late what a run was worth. Threads are put together: they may be as many as runs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::Reader;
use super::error::StoreError;
use super::read;
use crate::domain::rollup::{Day, Rollup, RollupKey, Together};

/// The most days of one reading that are kept, and of all together.
const DAYS_KEPT_MAX: u32 = 400;
/// The most rows that are kept, of some 700 bytes each.
const ROWS_KEPT_MAX: usize = 100_000;

/// How often a day is read again that is written to meanwhile.
const READS_MAX: u32 = 3;

/// Rows of one day, or of several, shared with those who read them too.
pub type Rows = Arc<Vec<(RollupKey, Rollup)>>;

/// How often each day was written to since the store was opened, as of the last commit. A day's count rises after what was
/// written can be read: what is read before that is read again.
#[derive(Debug, Default)]
pub(crate) struct DayCounts(Mutex<BTreeMap<Day, u64>>);

impl DayCounts {
    pub(crate) fn count(&self, days: impl IntoIterator<Item = Day>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for day in days {
            *counts.entry(day).or_default() += 1;
        }
    }

    fn of(&self, day: Day) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&day).copied().unwrap_or_default()
    }
}

/// The days that were read, each with its count then.
#[derive(Debug, Default)]
pub(super) struct KeptDays(Mutex<BTreeMap<Day, (u64, Rows)>>);

impl KeptDays {
    /// The rows of the days from `from` to `to`, both included.
    pub(super) fn read(
        &self,
        reader: &dyn Reader,
        counts: &DayCounts,
        from: Day,
        to: Day,
    ) -> Result<Vec<Rows>, StoreError> {
        if to.0.saturating_sub(from.0) >= DAYS_KEPT_MAX {
            return Ok(vec![together(reader, from, to)?]);
        }
        (from.0..=to.0).map(|day| self.day(reader, counts, Day(day))).collect()
    }

    fn day(&self, reader: &dyn Reader, counts: &DayCounts, day: Day) -> Result<Rows, StoreError> {
        // Before anything is read: what is written in between is read twice.
        let mut count = counts.of(day);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&day).cloned();
        if let Some((_, rows)) = kept.filter(|(then, _)| *then == count) {
            return Ok(rows);
        }
        let mut rows = together(reader, day, day)?;
        // So that they are as of one commit, as far as commits leave the time for that.
        for _ in 0..READS_MAX {
            if counts.of(day) == count {
                break;
            }
            count = counts.of(day);
            rows = together(reader, day, day)?;
        }
        let mut days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        days.insert(day, (count, Arc::clone(&rows)));
        let mut all: usize = days.values().map(|(_, rows)| rows.len()).sum();
        // The oldest go first: they are looked at least.
        while all > ROWS_KEPT_MAX
            && let Some((_, (_, rows))) = days.pop_first()
        {
            all -= rows.len();
        }
        Ok(rows)
    }
}

fn together(reader: &dyn Reader, from: Day, to: Day) -> Result<Rows, StoreError> {
    let mut together = Together::default();
    read::each_rollup(reader, from, to, &mut |key, rollup| {
        together.add(key, rollup);
        ControlFlow::Continue(())
    })?;
    Ok(Arc::new(together.rows()))
}
