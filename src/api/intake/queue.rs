//! The order in which runs that were taken in begin: tenants take turns, weighed by priority; within a tenant by priority,
//! then oldest first. And who may still join.
//!
//! Pure: whose turn it is follows from what was put in and taken out. A tenant's turn comes once as much was begun as its
//! next run weighs, counted from its last turn, or from when it joined: nobody is passed over for longer than that, however
//! urgent others say that they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::event::Labels;
use crate::domain::label::{AGENT, TENANT};
use crate::domain::policy::{PRIORITY, Priority};
use crate::ids::RunId;

/// How many times as many runs of one tenant may wait as there are places left: alone it fills four fifths of the line, and
/// somebody else finds a place.
const SHARE: usize = 4;

/// How far a run's tenant goes back for it. Of tenants whose runs have other priorities, high ones begin three times as often
/// as normal ones, and those three times as often as low ones.
const fn weight(priority: Priority) -> u64 {
    match priority {
        Priority::High => 1,
        Priority::Normal => 3,
        Priority::Low => 9,
    }
}

/// Where a run stands in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    priority: Priority,
    /// Empty where the run is nobody's.
    tenant: String,
    agent: String,
}

/// Runs that mostly wait for the same money: a tenant's, of one agent.
pub(super) type Kin = (String, String);

impl Place {
    /// By the labels of a run.
    pub(super) fn of(labels: &Labels) -> Self {
        let priority = labels.get(PRIORITY).and_then(|text| text.parse().ok()).unwrap_or(Priority::Normal);
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        Self { priority, tenant: label(TENANT), agent: label(AGENT) }
    }

    /// Whom it is like.
    pub(super) fn kin(&self) -> Kin {
        (self.tenant.clone(), self.agent.clone())
    }

    /// Whose run it is.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }
}

/// Why nobody may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The line is.
    Line,
    /// The tenant has its share of it, which is so many.
    Share(usize),
}

/// Runs of one tenant.
#[derive(Debug, Default)]
struct Line {
    /// High, normal, low.
    runs: [VecDeque<(Place, RunId)>; 3],
    /// What had begun at its last turn, or when it joined.
    since: u64,
    /// Its place among turns that come at once.
    order: u64,
}

impl Line {
    fn length(&self) -> usize {
        self.runs.iter().map(VecDeque::len).sum()
    }

    /// When its turn comes; nothing where nobody waits.
    fn turn(&self) -> Option<(u64, u64)> {
        let next = self.runs.iter().find_map(VecDeque::front)?;
        Some((self.since.saturating_add(weight(next.0.priority)), self.order))
    }
}

/// Runs that wait to begin.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<String, Line>,
    /// Whose turn comes when.
    turns: BTreeSet<((u64, u64), String)>,
    /// What has begun, by weight.
    begun: u64,
    /// Turns that were given out.
    given: u64,
    length: usize,
    /// How many of each kin wait.
    kins: BTreeMap<Kin, usize>,
    /// Places that are kept for runs that are being made.
    kept: BTreeMap<String, usize>,
}

impl Queue {
    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Keeps a place in a line of so many, for a run that is being made; so many of its tenant's wait elsewhere.
    pub(super) fn keep(&mut self, tenant: &str, most: usize, elsewhere: usize) -> Result<(), Full> {
        let left = most.saturating_sub(self.length + self.kept.values().sum::<usize>());
        let making = self.kept.get(tenant).copied().unwrap_or_default();
        let own = self.lines.get(tenant).map_or(0, Line::length) + making + elsewhere;
        if left == 0 {
            return Err(Full::Line);
        }
        if own >= left.saturating_mul(SHARE) {
            return Err(Full::Share(own));
        }
        *self.kept.entry(tenant.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Gives such a place back: the run stands in it now, or isn't made.
    pub(super) fn give_back(&mut self, tenant: &str) {
        if let Some(kept) = self.kept.get_mut(tenant) {
            *kept -= 1;
            if *kept == 0 {
                self.kept.remove(tenant);
            }
        }
    }

    /// The kins of those who wait.
    pub(super) fn kins(&self) -> impl Iterator<Item = &Kin> {
        self.kins.keys()
    }

    /// Puts a run at the end of its tenant's runs of its priority.
    pub(super) fn put(&mut self, place: Place, run: RunId) {
        self.join(place, run, VecDeque::push_back);
    }

    /// Puts one that stood there before at their head.
    pub(super) fn put_back(&mut self, place: Place, run: RunId) {
        self.join(place, run, VecDeque::push_front);
    }

    fn join(&mut self, place: Place, run: RunId, push: impl FnOnce(&mut VecDeque<(Place, RunId)>, (Place, RunId))) {
        *self.kins.entry(place.kin()).or_default() += 1;
        let tenant = place.tenant.clone();
        let mut line = self.lines.remove(&tenant).unwrap_or_else(|| {
            self.given += 1;
            Line { since: self.begun, order: self.given, ..Line::default() }
        });
        if let Some(turn) = line.turn() {
            self.turns.remove(&(turn, tenant.clone()));
        }
        let [high, normal, low] = &mut line.runs;
        let runs = match place.priority {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        };
        push(runs, (place, run));
        self.length += 1;
        self.stand(tenant, line);
    }

    /// Takes the next.
    pub(super) fn take(&mut self) -> Option<(Place, RunId)> {
        let ((turn, _), tenant) = self.turns.pop_first()?;
        let mut line = self.lines.remove(&tenant)?;
        let next = line.runs.iter_mut().find_map(VecDeque::pop_front)?;
        self.length -= 1;
        let kin = next.0.kin();
        if let Some(count) = self.kins.get_mut(&kin) {
            *count -= 1;
            if *count == 0 {
                self.kins.remove(&kin);
            }
        }
        self.begun = turn;
        self.given += 1;
        (line.since, line.order) = (turn, self.given);
        self.stand(tenant, line);
        Some(next)
    }

    fn stand(&mut self, tenant: String, line: Line) {
        if let Some(turn) = line.turn() {
            self.turns.insert((turn, tenant.clone()));
            self.lines.insert(tenant, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: &str, tenant: &str) -> Place {
        Place::of(&[(PRIORITY, priority), (TENANT, tenant)].map(|(name, value)| (name.into(), value.into())).into())
    }

    fn next(queue: &mut Queue) -> Option<u128> {
        queue.take().map(|(_, run)| run.bits())
    }

    #[test]
    fn tenants_take_turns_and_each_ones_urgent_runs_go_first() {
        let mut queue = Queue::default();
        let run = RunId::from_bits;
        for (number, tenant) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "b")] {
            queue.put(place("normal", tenant), run(number));
        }
        queue.put(place("low", "d"), run(7));
        queue.put(place("high", "a"), run(8));
        queue.put(Place::of(&Labels::new()), run(9));
        assert_eq!(queue.len(), 9);
        let order: Vec<u128> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(order, [8, 4, 5, 9, 1, 6, 2, 7, 3]);
        assert_eq!((queue.len(), queue.lines.len(), queue.turns.len()), (0, 0, 0), "nobody is remembered");
        assert_eq!(queue.kins().count(), 0);
    }

    #[test]
    fn who_comes_later_waits_for_one_run_of_each_other_tenant_at_most() {
        let mut queue = Queue::default();
        (0..100).for_each(|number| queue.put(place("normal", "busy"), RunId::from_bits(number)));
        queue.take();
        queue.put(place("normal", "other"), RunId::from_bits(1_000));
        let (first, second) = (next(&mut queue), next(&mut queue));
        assert!([first, second].contains(&Some(1_000)), "{first:?} {second:?}");
    }

    #[test]
    fn one_tenants_urgent_runs_begin_three_times_as_often_and_starve_nobody() {
        let mut queue = Queue::default();
        for number in 0..300 {
            queue.put(place("high", "loud"), RunId::from_bits(number));
            queue.put(place("normal", "plain"), RunId::from_bits(1_000 + number));
        }
        let begun: Vec<u128> = (0..40).filter_map(|_| next(&mut queue)).collect();
        assert_eq!(begun.iter().filter(|run| **run >= 1_000).count(), 10, "{begun:?}");
        // Nor does one who always comes anew, one at a time.
        let mut waited = 0;
        while next(&mut queue).is_some_and(|run| !(1_000..2_000).contains(&run)) {
            queue.put(place("high", &format!("new {waited}")), RunId::from_bits(3_000 + waited));
            waited += 1;
        }
        assert!(waited < 10, "{waited}");
    }

    #[test]
    fn one_tenant_leaves_places_for_others() {
        let mut queue = Queue::default();
        let mut join = |tenant: &str, number: u128| {
            let kept = queue.keep(tenant, 10, 0);
            if kept.is_ok() {
                queue.put(place("normal", tenant), RunId::from_bits(number));
                queue.give_back(tenant);
            }
            kept
        };
        let joined = (0..10).take_while(|number| join("busy", *number).is_ok()).count();
        assert_eq!((joined, join("busy", 20)), (8, Err(Full::Share(8))));
        assert_eq!((join("other", 21), join("other", 22)), (Ok(()), Ok(())));
        assert_eq!(join("third", 23), Err(Full::Line), "and then it is full");
        assert!(queue.kept.is_empty());
    }

    #[test]
    fn a_short_line_is_one_tenants_own() {
        let mut queue = Queue::default();
        assert_eq!(queue.keep("a", 1, 0), Ok(()));
        assert_eq!(queue.keep("a", 1, 0), Err(Full::Line), "a place that is kept counts");
        queue.give_back("a");
        assert_eq!(queue.keep("a", 1, 0), Ok(()));
    }
}
