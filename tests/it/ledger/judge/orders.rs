//! Exceptions and switches, as the judge understands them.

use std::collections::BTreeMap;

use plimsoll::domain::audit::{AuditEntry, Change};
use plimsoll::domain::switch::SwitchScope;
use plimsoll::ids::{BudgetName, RunId};
use plimsoll::units::Money;

use super::Judge;

/// What was ordered.
#[derive(Default)]
pub(super) struct Orders {
    /// Exceptions by number: who asked, the budget, the amount, and whether it counts.
    exceptions: BTreeMap<u64, (String, BudgetName, Money, bool)>,
    /// Tenants whose runs are held.
    held: Vec<String>,
}

impl Judge {
    pub(in crate::ledger) fn heed(&mut self, entry: &AuditEntry) {
        let (by, orders) = (entry.by.to_string(), &mut self.orders);
        if let Change::ExceptionAsked(asked) = &entry.change {
            orders.exceptions.insert(entry.number, (by, asked.budget.clone(), asked.amount_usd, false));
        } else if let Change::ExceptionApproved(approved) = &entry.change {
            let exception = orders.exceptions.get_mut(&approved.exception).expect("it was asked for");
            exception.3 = exception.0 != by;
        } else if let Change::ExceptionEnded(ended) = &entry.change {
            orders.exceptions.remove(&ended.exception);
        } else if let Change::SwitchSet(set) = &entry.change {
            orders.held.extend(tenant(&set.scope));
        } else if let Change::SwitchLifted(lifted) = &entry.change {
            let lifted = tenant(&lifted.scope);
            orders.held.retain(|held| Some(held) != lifted.as_ref());
        }
    }

    /// What exceptions add to a budget's cap.
    pub(super) fn added(&self, budget: &BudgetName) -> Money {
        let counts = self.orders.exceptions.values().filter(|(_, of, _, counts)| of == budget && *counts);
        counts.map(|(_, _, amount, _)| *amount).sum()
    }

    /// True where a switch holds the root's runs.
    pub(super) fn is_held(&self, root: RunId) -> bool {
        let tenant = self.runs.get(&root).and_then(|seen| seen.labels.get("tenant"));
        tenant.is_some_and(|tenant| self.orders.held.contains(tenant))
    }
}

fn tenant(scope: &SwitchScope) -> Option<String> {
    if let SwitchScope::Label { value, .. } = scope { Some(value.clone()) } else { None }
}
