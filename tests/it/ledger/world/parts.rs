//! What a world is made of: commands, and trees of runs with what they have in flight.

use plimsoll::domain::event::Purpose;
use plimsoll::domain::ledger::ReserveAsk;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::units::Money;

use crate::ledger::vocabulary::id;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Kind {
    Start,
    Reserve,
    Settle,
    Child,
    EndChild,
    Expire,
    Land,
    Finish,
    Cancel,
    Ask,
    Park,
    Resume,
    Crash,
    Advance,
    StepBack,
    SetCap,
    Repeat,
    Unfreeze,
    Grant,
    Switch,
}

/// One command: numbers pick among what there is.
#[derive(Clone, Copy)]
pub(in crate::ledger) struct Command {
    pub(in crate::ledger) kind: Kind,
    pub(in crate::ledger) pick: u8,
    pub(in crate::ledger) size: u8,
    pub(in crate::ledger) luck: u8,
}

impl std::fmt::Debug for Command {
    /// One line, however it is asked for: a failing script is read as a list.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({}, {}, {})", self.kind, self.pick, self.size, self.luck)
    }
}

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
