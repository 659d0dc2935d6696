//! An account, an open reservation, and all of them that are one run's.

use serde::{Deserialize, Serialize};

use crate::domain::event::AccountKey;
use crate::ids::{PriceId, ReservationId, RunId};
use crate::units::Money;

/// A cap and what counts against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The cap, as it was when last judged.
    pub cap: Money,
    /// What is known, or taken, to be spent; unknown money included.
    pub settled: Money,
    /// The part of `settled` that is a whole reservation, because nobody knows better.
    pub unknown: Money,
    /// The sum of open reservations.
    pub held: Money,
}

impl Account {
    /// What may still be placed.
    #[must_use]
    pub const fn room(&self) -> Money {
        self.cap.left_after(self.settled.plus(self.held))
    }

    /// True where `held` may grow by `growth`: equal to the cap is allowed.
    #[must_use]
    pub fn takes(&self, growth: Money) -> bool {
        self.settled.plus(self.held).plus(growth) <= self.cap
    }
}

/// An open reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub reservation: ReservationId,
    /// The root of its tree.
    pub root: RunId,
    /// How much.
    pub amount: Money,
    /// True for a landing reserve.
    pub landing: bool,
    /// The accounts that it is held on.
    pub accounts: Vec<AccountKey>,
    /// The price version pinned, for a model call.
    pub price: Option<PriceId>,
}

/// A placement that a budget which only watches would have refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The budget's account.
    pub account: AccountKey,
    /// What was placed.
    pub reservation: ReservationId,
    /// How much.
    pub amount: Money,
}

/// What a budget that only watches would have refused in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowSums {
    /// How many placements.
    pub refused: u64,
    /// What they would have set aside.
    pub amount: Money,
    /// The run of the last one.
    pub last: Option<RunId>,
}

/// All that is one run's: they change together, at every step, so the store keeps them together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMoney {
    /// Of the run and its stages, in order.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Its open reservations, in order.
    pub holds: Vec<(ReservationId, Hold)>,
}
