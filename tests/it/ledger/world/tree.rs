//! Where a tree of runs stands, as whoever plays it sees it.

use plimsoll::domain::event::Purpose;
use plimsoll::domain::ledger::ReserveAsk;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::units::Money;

use super::super::vocabulary::id;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued,
    Running,
    Waiting,
    Landing,
    Stopping,
    Person,
    Interrupted,
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: ReservationId,
    pub(super) amount: Money,
    pub(super) purpose: Purpose,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) run: RunId,
    pub(super) parent: usize,
    pub(super) depth: u8,
    pub(super) next: u32,
    pub(super) attempts: Vec<Attempt>,
    pub(super) ended: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) phase: Phase,
    pub(super) lands: bool,
    /// The landing reserve's reservation, and what is wanted of it.
    pub(super) landing: (ReservationId, Money),
    pub(super) ask: Option<ReserveAsk>,
}

impl Tree {
    pub(super) fn root(&self) -> RunId {
        self.nodes[0].run
    }

    pub(super) fn in_flight(&self) -> usize {
        self.nodes.iter().map(|node| node.attempts.len()).sum()
    }

    pub(super) fn number(&mut self, node: usize) -> ReservationId {
        let node = &mut self.nodes[node];
        node.next += 1;
        id(node.run, node.next - 1)
    }
}
