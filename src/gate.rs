//! The gate: the one place that admits or refuses an attempt, and the only mint of [`Permit`].

use crate::ids::ReservationId;
use crate::units::{Millis, Money};

/// Proof that a worst case is reserved and on disk. A provider or tool takes it by value: one permit, one call.
///
/// Only this module can make one: its fields are private, and it has neither `Clone` nor serde. It has no `Drop` that
/// frees money: an unused permit holds its reservation until that is settled or voided.
#[must_use = "an unused permit holds money until it is voided"]
#[derive(Debug)]
pub struct Permit {
    reservation: ReservationId,
    worst_case: Money,
    time_limit: Millis,
    first_token_limit: Millis,
}

impl Permit {
    /// The reservation that this permit stands for.
    #[must_use]
    pub const fn reservation(&self) -> ReservationId {
        self.reservation
    }

    /// What is reserved.
    #[must_use]
    pub const fn worst_case(&self) -> Money {
        self.worst_case
    }

    /// How long the call may take in all.
    #[must_use]
    pub const fn time_limit(&self) -> Millis {
        self.time_limit
    }

    /// How long the first token may take, for streams.
    #[must_use]
    pub const fn first_token_limit(&self) -> Millis {
        self.first_token_limit
    }

    /// Turns the permit into its reservation's id: the call is made, or will never be.
    #[must_use]
    pub const fn spend(self) -> ReservationId {
        self.reservation
    }

    /// A permit without a reservation, for the tests of adapters. Not compiled into the product.
    #[cfg(test)]
    pub(crate) fn for_test(time_limit: Millis, first_token_limit: Millis) -> Self {
        let reservation = ReservationId { run: crate::ids::RunId::from_bits(1), number: 0 };
        Self { reservation, worst_case: Money::from_micro(10_000), time_limit, first_token_limit }
    }
}
