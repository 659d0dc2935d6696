//! Budgets and the periods that they are in (rule 14): they only ever move on.

use super::account::Account;
use super::{Ledger, LedgerPolicy, LiveBudget};
use crate::domain::event::{AccountKey, Labels};
use crate::domain::limits::{LimitKind, Refusal};
use crate::ids::RunId;
use crate::units::{Money, Timestamp};

/// More than all that is ever placed, and little enough to reckon with: a million times the largest cap.
const NO_CAP: Money = Money::from_pico(1_000_000_000_000_000_000_000_000_000_000);

impl Ledger {
    /// When the next period of any budget begins.
    #[must_use]
    pub fn next_period(&self) -> Option<Timestamp> {
        self.budgets.iter().filter_map(|live| live.end).min()
    }

    pub(super) fn adopt(&mut self, policy: LedgerPolicy) {
        let latest = self.latest;
        let live = policy.budgets.into_iter().map(|budget| {
            // A period that ended never grants again: budgets begin at the latest time that was seen.
            let (start, end) = budget.period.window(&budget.time_zone, latest);
            LiveBudget { budget, start, end }
        });
        self.budgets = live.collect();
        self.refresh_paths();
    }

    /// The latest time that what was stored speaks of: a clock that stepped back while the process was down is behind it.
    pub(super) fn remember_time(&mut self, logged: Timestamp) {
        let starts = self.accounts.keys().filter_map(|key| match key {
            AccountKey::Budget { start, .. } => Some(*start),
            AccountKey::Node { .. } => None,
        });
        self.latest = starts.chain([logged]).max().unwrap_or_default();
    }

    /// Moves budgets on to the period that `now` lies in, never back; true where one moved.
    pub(super) fn roll(&mut self, now: Timestamp) -> bool {
        self.latest = now.max(self.latest);
        let mut moved = false;
        for live in &mut self.budgets {
            if live.end.is_some_and(|end| now >= end) {
                (live.start, live.end) = live.budget.period.window(&live.budget.time_zone, now);
                moved = true;
            }
        }
        if moved {
            self.refresh_paths();
        }
        moved
    }

    /// Finds every open run's path anew, after periods or budgets changed.
    fn refresh_paths(&mut self) {
        let runs: Vec<RunId> = self.runs.keys().copied().collect();
        runs.into_iter().for_each(|run| self.refresh_path(run));
    }

    /// Finds the budget accounts on a root run's path in the current periods.
    pub(super) fn refresh_path(&mut self, root: RunId) {
        let current = self.runs.get(&root).map(|open| self.budget_keys(&open.labels));
        if let (Some(open), Some(current)) = (self.runs.get_mut(&root), current) {
            open.current = current;
        }
    }

    /// The budget accounts that count runs with these labels in the current periods. A label that a budget counts by and
    /// that is missing is a refusal, not a budget that doesn't apply.
    fn budget_keys(&self, labels: &Labels) -> Result<Vec<AccountKey>, Refusal> {
        let matching = self.budgets.iter().filter(|live| live.budget.matches(labels));
        matching
            .map(|live| {
                let scope = live.budget.scope_value(labels).map_err(|missing| unlabelled(live, &missing.label))?;
                Ok(AccountKey::Budget { budget: live.budget.name.clone(), scope, start: live.start, end: live.end })
            })
            .collect()
    }

    pub(super) fn live_budget(&self, key: &AccountKey) -> Option<&LiveBudget> {
        match key {
            AccountKey::Budget { budget, .. } => self.budgets.iter().find(|live| live.budget.name == *budget),
            AccountKey::Node { .. } => None,
        }
    }

    /// The account as it would be judged now: a budget's cap is the live one with the exceptions that count, as much as
    /// anybody may want where it only watches, and nothing where the budget is gone.
    pub(super) fn judged(&self, key: &AccountKey) -> Account {
        let (cap, watches) = self.cap_of(key);
        let cap = if watches { NO_CAP } else { cap };
        Account { cap, ..self.accounts.get(key).copied().unwrap_or_default() }
    }

    /// The effective cap of an account, and whether it only watches.
    pub(super) fn cap_of(&self, key: &AccountKey) -> (Money, bool) {
        match (self.live_budget(key), key) {
            (Some(live), AccountKey::Budget { budget, scope, .. }) => {
                let added = self.exceptions.added(budget, scope, self.latest);
                (live.budget.cap.plus(added), live.budget.shadow)
            }
            _ => (self.accounts.get(key).map_or(Money::ZERO, |account| account.cap), false),
        }
    }
}

fn unlabelled(live: &LiveBudget, label: &str) -> Refusal {
    Refusal {
        limit: LimitKind::Budget,
        subject: Some(live.budget.name.to_string()),
        value: live.budget.cap.to_string(),
        observed: format!(
            "it counts by `{label}`, and the run has no such label; start it with `--label {label}=VALUE`"
        ),
        declared: live.budget.declared.clone(),
    }
}
