//! The order in which runs that were taken in begin: by priority, then in turn between tenants, then oldest first.
//!
//! Pure: whose turn it is follows from what was put in and taken out.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::event::Labels;
use crate::domain::label::TENANT;
use crate::domain::policy::{PRIORITY, Priority};
use crate::ids::RunId;

/// Where a run stands in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    priority: Priority,
    /// Empty where the run is nobody's.
    tenant: String,
}

impl Place {
    /// By the labels of a run.
    pub(super) fn of(labels: &Labels) -> Self {
        let priority = labels.get(PRIORITY).and_then(|text| text.parse().ok()).unwrap_or(Priority::Normal);
        Self { priority, tenant: labels.get(TENANT).cloned().unwrap_or_default() }
    }
}

/// Runs of one priority.
#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<String, VecDeque<RunId>>,
    /// The tenant whose run began last.
    last: String,
}

impl Line {
    fn take(&mut self) -> Option<RunId> {
        let behind =
            self.waiting.range::<String, _>((std::ops::Bound::Excluded(&self.last), std::ops::Bound::Unbounded));
        let next = behind.chain(self.waiting.iter()).next().map(|(tenant, _)| tenant.clone())?;
        let runs = self.waiting.get_mut(&next)?;
        let run = runs.pop_front();
        if runs.is_empty() {
            self.waiting.remove(&next);
        }
        self.last = next;
        run
    }
}

/// Runs that wait to begin.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// High, normal, low.
    lines: [Line; 3],
    length: usize,
}

impl Queue {
    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Puts a run at the end of its tenant's line.
    pub(super) fn put(&mut self, place: Place, run: RunId) {
        let line = match place.priority {
            Priority::High => &mut self.lines[0],
            Priority::Normal => &mut self.lines[1],
            Priority::Low => &mut self.lines[2],
        };
        line.waiting.entry(place.tenant).or_default().push_back(run);
        self.length += 1;
    }

    /// Takes the next.
    pub(super) fn take(&mut self) -> Option<RunId> {
        let run = self.lines.iter_mut().find_map(Line::take)?;
        self.length -= 1;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: &str, tenant: &str) -> Place {
        Place::of(&[(PRIORITY, priority), (TENANT, tenant)].map(|(name, value)| (name.into(), value.into())).into())
    }

    #[test]
    fn the_urgent_go_first_and_tenants_take_turns() {
        let mut queue = Queue::default();
        let run = RunId::from_bits;
        for (number, tenant) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "b")] {
            queue.put(place("normal", tenant), run(number));
        }
        queue.put(place("low", "d"), run(7));
        queue.put(place("high", "a"), run(8));
        queue.put(Place::of(&Labels::new()), run(9));
        assert_eq!(queue.len(), 9);
        let order: Vec<u128> = std::iter::from_fn(|| queue.take()).map(RunId::bits).collect();
        assert_eq!(order, [8, 1, 4, 5, 9, 2, 6, 3, 7]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_comes_later_waits_for_one_run_of_each_other_tenant_at_most() {
        let mut queue = Queue::default();
        (0..100).for_each(|number| queue.put(place("normal", "busy"), RunId::from_bits(number)));
        queue.take();
        queue.put(place("normal", "other"), RunId::from_bits(1_000));
        assert_eq!(queue.take(), Some(RunId::from_bits(1_000)));
    }
}
