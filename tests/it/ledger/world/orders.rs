//! What people order beside the runs: exceptions that raise a cap, and switches that hold a tenant's runs.

use plimsoll::domain::audit::{AuditEntry, Author, Change};
use plimsoll::domain::event::{Event, Interrupted};
use plimsoll::domain::exception::{ExceptionApproved, ExceptionAsked, ExceptionEnded};
use plimsoll::domain::switch::{SwitchKind, SwitchLifted, SwitchScope, SwitchSet};
use plimsoll::ids::RunId;
use plimsoll::units::Timestamp;

use super::{Phase, World};
use crate::ledger::subject::Subject;
use crate::ledger::vocabulary::money;

/// What was ordered.
#[derive(Default)]
pub(super) struct Orders {
    /// Entries of the audit log.
    entries: u64,
    /// Exceptions that count.
    granted: Vec<u64>,
    held: Vec<SwitchScope>,
}

impl<S: Subject> World<S> {
    /// Asks for an exception and approves it, or takes one back.
    pub(super) fn grant(&mut self, size: u8, luck: u8) {
        if luck < 90
            && let Some(exception) = self.orders.granted.pop()
        {
            self.order("bob", Change::ExceptionEnded(ExceptionEnded { exception, reason: "over".into() }));
            return;
        }
        let exception = self.orders.entries;
        let (budget, scope, reason) = ("all".into(), String::new(), "a fair".to_owned());
        let (amount_usd, until) = (money(u64::from(size) + 1), Timestamp(u64::MAX));
        self.order("ann", Change::ExceptionAsked(ExceptionAsked { budget, scope, amount_usd, until, reason }));
        // Nobody approves their own.
        let by = if luck < 120 { "ann" } else { "bob" };
        self.order(by, Change::ExceptionApproved(ExceptionApproved { exception, reason: String::new() }));
        self.orders.granted.push(exception);
    }

    /// Holds a tenant's runs, or lets them go.
    pub(super) fn switch(&mut self, pick: usize) {
        let value = ["acme", "bolt", "core"][pick % 3].to_owned();
        let scope = SwitchScope::Label { name: "tenant".into(), value };
        if self.orders.held.contains(&scope) {
            return self.lift(scope);
        }
        self.orders.held.push(scope.clone());
        self.order("ann", Change::SwitchSet(SwitchSet { scope, switch: SwitchKind::Pause, reason: "odd".into() }));
    }

    pub(super) fn lift_all(&mut self) {
        std::mem::take(&mut self.orders.held).into_iter().for_each(|scope| self.lift(scope));
    }

    fn lift(&mut self, scope: SwitchScope) {
        self.orders.held.retain(|held| *held != scope);
        self.order("bob", Change::SwitchLifted(SwitchLifted { scope, reason: "mended".into() }));
    }

    fn order(&mut self, by: &str, change: Change) {
        let entry = AuditEntry { number: self.orders.entries, at: self.now, by: Author::Person(by.into()), change };
        self.orders.entries += 1;
        self.judge.heed(&entry);
        let decision = self.subject.heed(&entry, self.now);
        self.without_op(decision);
    }

    /// A switch holds the tree: once nothing is in flight, it is interrupted.
    pub(super) fn rest(&mut self, tree: usize) {
        if self.trees[tree].in_flight() > 0 {
            return;
        }
        let open: Vec<RunId> =
            self.trees[tree].nodes.iter().rev().filter(|node| !node.ended).map(|node| node.run).collect();
        let interrupted = Event::Interrupted(Interrupted { why: "held".into(), clean: true });
        self.op(tree, open.into_iter().map(|run| (run, interrupted.clone())).collect(), Vec::new());
        self.trees[tree].phase = Phase::Interrupted;
        self.spread_news();
    }
}
