//! Thresholds of budgets: each is told of once in each period of an account, in the write of what passed it.
//!
//! They are shares of the effective cap that is settled, unknown money included: what is held may still come back. The
//! whole cap counts as reached, too, where a run ended since nothing more fitted.

use super::Ledger;
use crate::domain::alert::{Alert, BudgetAlert};
use crate::domain::event::{AccountKey, Ended, Event};
use crate::domain::ledger::Decision;
use crate::domain::limits::LimitKind;
use crate::domain::policy::Share;
use crate::ids::RunId;

impl Ledger {
    /// The budget accounts that a fact may bring over a threshold; before the fact is booked.
    pub(super) fn touched(&self, run: RunId, event: &Event) -> Vec<AccountKey> {
        if self.budgets.iter().all(|live| live.budget.alerts_at.is_empty()) {
            return Vec::new();
        }
        if let Event::Ended(ended) = event {
            return self.refused_on(run, ended).into_iter().collect();
        }
        let Event::Settled(settled) = event else { return Vec::new() };
        let keys = self.holds.get(&settled.reservation).map(|hold| hold.accounts.as_slice());
        keys.unwrap_or_default().iter().filter(|key| matches!(key, AccountKey::Budget { .. })).cloned().collect()
    }

    /// The budget account that a run ended for.
    fn refused_on(&self, run: RunId, ended: &Ended) -> Option<AccountKey> {
        let refusal = ended.refusal.as_ref().filter(|refusal| refusal.limit == LimitKind::Budget)?;
        let open = self.runs.get(&run)?;
        let mut keys = open.budgets.iter().chain(open.current());
        keys.find(|key| Some(key.to_string()) == refusal.subject).cloned()
    }

    /// Judges every account in its current period: what is configured, or added by exceptions, may have changed.
    pub(super) fn judge_all_thresholds(&mut self, decision: &mut Decision) {
        let is_current = |key: &&AccountKey| match (key, self.live_budget(key)) {
            (AccountKey::Budget { start, .. }, Some(live)) => live.start == *start && !live.budget.alerts_at.is_empty(),
            (AccountKey::Budget { .. } | AccountKey::Node { .. }, _) => false,
        };
        let keys: Vec<AccountKey> = self.accounts.keys().filter(is_current).cloned().collect();
        for key in keys {
            self.judge_thresholds(decision, &key, None, false);
        }
    }

    /// Judges an account; `full` where a run ended since nothing more fits there.
    pub(super) fn judge_thresholds(
        &mut self,
        decision: &mut Decision,
        key: &AccountKey,
        run: Option<RunId>,
        full: bool,
    ) {
        let AccountKey::Budget { budget, scope, start, end } = key else { return };
        let Some(live) = self.live_budget(key) else { return };
        let (cap, _) = self.cap_of(key);
        let account = self.accounts.get(key).copied().unwrap_or_default();
        let spent = if account.settled.is_zero() { Share(0) } else { Share::of(account.settled.pico(), cap.pico()) };
        let told = self.told.get(key);
        let is_passed = |threshold: Share| threshold <= spent || (full && threshold == Share::WHOLE);
        let is_new = |threshold: &&Share| is_passed(**threshold) && told.is_none_or(|told| !told.contains(*threshold));
        let passed: Vec<Share> = live.budget.alerts_at.iter().filter(is_new).copied().collect();
        for threshold in passed {
            decision.alerts.push(Alert::Budget(BudgetAlert {
                budget: budget.clone(),
                scope: scope.clone(),
                start: *start,
                end: *end,
                threshold,
                cap_usd: cap,
                settled_usd: account.settled,
                unknown_usd: account.unknown,
                run,
                full: threshold > spent,
            }));
            self.told.entry(key.clone()).or_default().insert(threshold);
            self.dirty_told.insert(key.clone());
        }
    }
}
