//! What the simulated providers and tools charge, by their own count: the judge of the books.

use std::collections::BTreeMap;

use plimsoll::ids::ReservationId;
use plimsoll::units::Money;

/// One line for each call that was billed.
#[derive(Clone, Debug, Default)]
pub(super) struct Invoice {
    pub(super) lines: BTreeMap<ReservationId, Money>,
}

impl Invoice {
    /// Bills a call; once.
    pub(super) fn bill(&mut self, id: ReservationId, amount: Money) -> bool {
        self.lines.insert(id, amount).is_none()
    }

    pub(super) fn total(&self) -> Money {
        self.lines.values().copied().sum()
    }
}
