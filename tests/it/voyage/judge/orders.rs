//! What people ordered, in the judge's own books: nothing is placed past a switch, and an exception raises a cap while it
//! lasts.

use std::collections::BTreeMap;

use plimsoll::domain::audit::{AuditEntry, Change};
use plimsoll::domain::event::{AccountKey, Call, Reserved};
use plimsoll::ids::RunId;
use plimsoll::units::{Money, Timestamp};

use super::Judge;

#[derive(Default)]
pub(in crate::voyage) struct Orders {
    /// Scopes that have a switch.
    switches: BTreeMap<String, &'static str>,
    asked: BTreeMap<u64, More>,
    /// Those that another person approved.
    granted: Vec<More>,
    /// The number of the log's next entry.
    pub(in crate::voyage) next: u64,
}

/// An exception.
#[derive(Clone)]
struct More {
    budget: String,
    scope: String,
    amount: Money,
    until: Timestamp,
}

impl Orders {
    /// Goes on to the next entry of the audit log.
    pub(in crate::voyage) fn follow(&mut self, number: u64, change: &Change) {
        self.next = number + 1;
        if let Change::SwitchSet(set) = change {
            self.switches.insert(set.scope.to_string(), set.switch.name());
        } else if let Change::SwitchLifted(lifted) = change {
            self.switches.remove(&lifted.scope.to_string());
        } else if let Change::ExceptionAsked(asked) = change {
            let (budget, scope) = (asked.budget.to_string(), asked.scope.clone());
            self.asked.insert(number, More { budget, scope, amount: asked.amount_usd, until: asked.until });
        } else if let Change::ExceptionApproved(approved) = change {
            self.granted.extend(self.asked.remove(&approved.exception));
        }
    }

    /// What is added to an account's cap for a time; for ever, where none is named.
    fn added(&self, key: &AccountKey, now: Option<Timestamp>) -> Money {
        let AccountKey::Budget { budget, scope, .. } = key else { return Money::ZERO };
        let counts = |more: &&More| {
            more.budget == budget.as_str() && more.scope == *scope && now.is_none_or(|now| now < more.until)
        };
        self.granted.iter().filter(counts).map(|more| more.amount).sum()
    }
}

impl Judge {
    /// What the audit log tells, after an open.
    pub(in crate::voyage) fn read_orders(&mut self, entries: &[AuditEntry]) {
        self.orders = Orders::default();
        entries.iter().for_each(|entry| self.orders.follow(entry.number, &entry.change));
    }

    /// What exceptions add to the cap of an account now, and what they ever added.
    pub(super) fn added(&self, key: &AccountKey) -> (Money, Money) {
        (self.orders.added(key, Some(self.now)), self.orders.added(key, None))
    }

    /// No call is placed, and no run starts, past a switch.
    pub(super) fn heeds_switches(&mut self, run: RunId, reserved: Option<&Reserved>) {
        // A sub-agent's run begins by a fact of its parent; it is its calls that are held.
        let begins_below = reserved.is_none() && self.runs[&run].created.parent.is_some();
        if self.catching_up || self.orders.switches.is_empty() || begins_below {
            return;
        }
        let root = &self.runs[&self.runs[&run].root].created.labels;
        let own = format!("agent={}", self.runs[&run].created.agent);
        let mut scopes: Vec<String> = root.iter().map(|(name, value)| format!("{name}={value}")).collect();
        scopes.extend(["all".to_owned(), own]);
        if let Some(Call::Model(call)) = reserved.map(|reserved| &reserved.call) {
            scopes.push(format!("model={}", call.model));
        }
        let past = scopes.iter().find_map(|scope| Some((scope, *self.orders.switches.get(scope)?)));
        if let Some((scope, kind)) = past {
            let what = format!("(switch) {run} goes on past the {kind} of {scope}");
            self.broken(what);
        }
    }
}
