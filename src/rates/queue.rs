//! Whose turn it is: tenants take turns, within a tenant the oldest goes first, and calls that need the same stand in line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{AccountName, ModelName};

/// What calls that need the same have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineKey {
    pub(super) tenant: String,
    pub(super) model: ModelName,
    pub(super) account: Option<AccountName>,
    /// It heeds the project's rates only.
    pub(super) last_try: bool,
    /// The limits that they count on, by number, each with the value.
    pub(super) counts: Vec<(usize, String)>,
}

/// The lines of waiting calls.
#[derive(Default)]
pub(super) struct Queue {
    lines: BTreeMap<LineKey, VecDeque<u64>>,
    /// When each tenant had its last turn. One that is new begins where the others are, so that it takes no turn ahead.
    turns: BTreeMap<String, u64>,
    turn: u64,
}

impl Queue {
    pub(super) fn push(&mut self, line: &LineKey, id: u64) {
        self.turns.entry(line.tenant.clone()).or_insert(self.turn);
        match self.lines.get_mut(line) {
            Some(waiting) => waiting.push_back(id),
            None => drop(self.lines.insert(line.clone(), VecDeque::from([id]))),
        }
    }

    pub(super) fn remove(&mut self, line: &LineKey, id: u64) {
        let Some(waiting) = self.lines.get_mut(line) else { return };
        waiting.retain(|waiting| *waiting != id);
        if waiting.is_empty() {
            self.lines.remove(line);
        }
    }

    /// The first of each line, in the order in which they are looked at.
    pub(super) fn heads(&self) -> Vec<(LineKey, u64)> {
        let mut heads: Vec<(u64, u64, &LineKey)> = self
            .lines
            .iter()
            .filter_map(|(line, waiting)| {
                let turn = self.turns.get(&line.tenant).copied().unwrap_or_default();
                Some((turn, *waiting.front()?, line))
            })
            .collect();
        heads.sort_unstable_by_key(|(turn, head, _)| (*turn, *head));
        heads.into_iter().map(|(_, head, line)| (line.clone(), head)).collect()
    }

    pub(super) fn first_of(&self, line: &LineKey) -> Option<u64> {
        self.lines.get(line)?.front().copied()
    }

    /// The first of a line goes: its tenant's turn is over.
    pub(super) fn pop(&mut self, line: &LineKey) {
        let Some(waiting) = self.lines.get_mut(line) else { return };
        waiting.pop_front();
        if waiting.is_empty() {
            self.lines.remove(line);
        }
        self.turn += 1;
        self.turns.insert(line.tenant.clone(), self.turn);
    }

    pub(super) fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    /// How many wait that count on a value of a limit.
    pub(super) fn waiting_for(&self, limit: usize, value: &str) -> usize {
        let counts = |line: &LineKey| line.counts.iter().any(|(of, at)| *of == limit && at == value);
        self.lines.iter().filter(|(line, _)| counts(line)).map(|(_, waiting)| waiting.len()).sum()
    }

    /// Forgets the turns of tenants that don't wait.
    pub(super) fn shrink(&mut self) {
        let waiting: BTreeSet<&String> = self.lines.keys().map(|line| &line.tenant).collect();
        self.turns.retain(|tenant, _| waiting.contains(tenant));
    }
}
