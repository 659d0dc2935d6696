//! The gate: the one place that admits or refuses an attempt, and the only mint of [`Permit`].
//!
//! An attempt passes in two halves. [`Appraiser::prepare`] chooses the model, fits the request into its pots, bounds and
//! prices it; then [`Gate::submit`] lets the ledger judge the money inside the atomic durable write, and mints a permit
//! for what was granted. Deliberately absent: sending anything, retries, and decisions about what a run does next.
//!
//! A permit can't be forged, cloned or used twice:
//! ```compile_fail,E0451
//! use plimsoll::{gate::Permit, ids::{ReservationId, RunId}, units::{Millis, Money}};
//! let reservation = ReservationId { run: RunId::from_bits(1), number: 0 };
//! let forged = Permit { reservation, worst_case: Money::ZERO, time_limit: Millis(1), first_token_limit: Millis(1), account: None };
//! ```
//! ```compile_fail,E0599
//! fn twice(permit: plimsoll::gate::Permit) -> (plimsoll::gate::Permit, plimsoll::gate::Permit) {
//!     (permit.clone(), permit)
//! }
//! ```
//! ```compile_fail,E0382
//! fn twice(permit: plimsoll::gate::Permit) {
//!     let first = permit.spend();
//!     let second = permit.spend();
//! }
//! ```
//! ```compile_fail,E0277
//! fn read_back(text: &str) -> plimsoll::gate::Permit {
//!     serde_json::from_str(text).unwrap()
//! }
//! ```

mod caching;
mod choose;
mod form;
mod prepare;
mod summary;
mod traffic;

pub use form::{Beside, Form, Forms, Rendered};
pub(crate) use prepare::hash;
pub use prepare::{Appraiser, Circumstances, Counted, Draft, Effort, Prepared, Providers};
pub use traffic::{Closed, Traffic};

use std::sync::Arc;

use crate::domain::event::{Call, Recorded, Reserved};
use crate::domain::ledger::{Notice, Op, Short, Verdict};
use crate::domain::limits::Refusal;
use crate::domain::plan::ToolPlan;
use crate::domain::pricing::PriceBook;
use crate::ids::{AccountName, ReservationId, RunId};
use crate::store::{NoticeCommitted, Store, StoreError};
use crate::units::{Millis, Money};

/// The longest that a provider is waited for to count a request; then the runtime's own bound stands.
pub const COUNT_TIME_MAX: Millis = Millis::from_secs(5);

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
    account: Option<AccountName>,
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

    /// The account of its provider that pays; `None` for the provider's own key.
    #[must_use]
    pub const fn account(&self) -> Option<&AccountName> {
        self.account.as_ref()
    }

    /// Turns the permit into its reservation's id: the call is made, or will never be.
    #[must_use]
    pub fn spend(self) -> ReservationId {
        self.reservation
    }

    /// A permit without a reservation, for the tests of adapters. Not compiled into the product.
    #[cfg(test)]
    pub(crate) fn for_test(time_limit: Millis, first_token_limit: Millis) -> Self {
        let reservation = ReservationId { run: RunId::from_bits(1), number: 0 };
        Self { reservation, worst_case: Money::from_micro(10_000), time_limit, first_token_limit, account: None }
    }

    /// The same, paid by an account.
    #[cfg(test)]
    pub(crate) fn paid_by(self, account: &str) -> Self {
        Self { account: Some(account.into()), ..self }
    }
}

/// A granted attempt: its event, and the permit to make it.
#[derive(Debug)]
pub struct Pass {
    /// The event, as it was written.
    pub reserved: Box<Reserved>,
    /// The permit.
    pub permit: Permit,
}

/// The gate's answer to one ask; [`Verdict`] with permits.
#[derive(Debug)]
pub enum Passage {
    /// The run may start, with its first attempt if that was ready.
    Admitted(Option<Pass>),
    /// The run waits to start.
    Queued,
    /// The run will not start.
    TurnedAway(Refusal),
    /// The attempt may be made.
    Granted(Pass),
    /// No money, and the run doesn't wait.
    Short(Short),
    /// The run waits for budget.
    Waiting,
    /// Not judged: an earlier ask has to wait.
    Behind,
    /// The price row is frozen, or a switch bars the call.
    Frozen(Refusal),
    /// A switch holds the run.
    Paused(Refusal),
    /// The wait for budget is over.
    WaitEnded,
    /// There was no wait to end.
    NotWaiting,
    /// The run isn't admitted, has ended, or was asked to end: nothing is placed in its tree.
    NotRunning,
    /// Nobody else could free money: go on without waiting.
    Stalled,
}

/// What one write came to: the events as they stand in the logs, and the answer to each ask.
#[derive(Debug)]
pub struct Submitted {
    /// The events, in order.
    pub events: Vec<(RunId, Recorded)>,
    /// One for each ask.
    pub passages: Vec<Passage>,
}

/// Admits and refuses attempts.
#[derive(Clone)]
pub struct Gate {
    store: Store,
    appraiser: Appraiser,
    traffic: Traffic,
}

impl Gate {
    /// A gate before a store, with what calls to providers wait for.
    #[must_use]
    pub const fn new(store: Store, appraiser: Appraiser, traffic: Traffic) -> Self {
        Self { store, appraiser, traffic }
    }

    /// Its first half.
    #[must_use]
    pub const fn appraiser(&self) -> &Appraiser {
        &self.appraiser
    }

    /// The store behind the gate.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The price book that is in force.
    #[must_use]
    pub const fn book(&self) -> &Arc<PriceBook> {
        self.appraiser.book()
    }

    /// Writes facts and asks in one durable write; permits come back for what was granted. The time to the first token is
    /// that of the stage that asks.
    ///
    /// # Errors
    /// The store can't write: nothing was granted.
    pub async fn submit(
        &self,
        op: Op,
        first_token_limit: &(dyn Fn(&Reserved) -> Millis + Sync),
    ) -> Result<Submitted, StoreError> {
        let committed = self.store.submit(op).await?;
        let passages = committed.verdicts.into_iter().map(|verdict| passage(verdict, first_token_limit)).collect();
        Ok(Submitted { events: committed.events, passages })
    }

    /// News that a waiting run got, with a permit where money came. Time went by since the attempt was asked for, so the
    /// permit has at most `time_left`.
    #[must_use]
    pub fn receive(&self, news: NoticeCommitted, limits: impl Fn(&Reserved) -> (Millis, Millis)) -> Submitted {
        let late = |reserved: Box<Reserved>| {
            let (first_token_limit, time_left) = limits(&reserved);
            let mut pass = pass(reserved, first_token_limit);
            pass.permit.time_limit = pass.permit.time_limit.min(time_left);
            pass
        };
        let passage = match news.notice {
            Notice::Admitted(first) => Passage::Admitted(first.map(late)),
            Notice::TurnedAway(refusal) => Passage::TurnedAway(refusal),
            Notice::Granted(reserved) => Passage::Granted(late(reserved)),
            Notice::Stalled => Passage::Stalled,
        };
        Submitted { events: news.events, passages: vec![passage] }
    }

    /// A permit to ask a provider what a draft counts, which costs nothing by the provider's own word: there is nothing to
    /// reserve. Providers of which nobody says that aren't asked by it.
    pub fn to_count(&self, draft: &Draft) -> Permit {
        Permit {
            reservation: draft.reserved.reservation,
            worst_case: Money::ZERO,
            time_limit: COUNT_TIME_MAX,
            first_token_limit: COUNT_TIME_MAX,
            account: account_of(&draft.reserved),
        }
    }

    /// A permit for a free, idempotent tool that runs in this process: there is nothing to reserve and nothing leaves,
    /// so its facts ride in the next write (LEDGER rule 3). `None` for any other tool.
    #[must_use]
    pub fn instant(&self, tool: &ToolPlan, reserved: &Reserved) -> Option<Permit> {
        (tool.is_instant() && reserved.amount.is_zero()).then(|| mint(reserved, Millis::ZERO))
    }
}

fn passage(verdict: Verdict, first_token_limit: &(dyn Fn(&Reserved) -> Millis + Sync)) -> Passage {
    let pass = |reserved: Box<Reserved>| {
        let limit = first_token_limit(&reserved);
        pass(reserved, limit)
    };
    match verdict {
        Verdict::Admitted(first) => Passage::Admitted(first.map(pass)),
        Verdict::Queued => Passage::Queued,
        Verdict::TurnedAway(refusal) => Passage::TurnedAway(refusal),
        Verdict::Granted(reserved) => Passage::Granted(pass(reserved)),
        Verdict::Short(short) => Passage::Short(short),
        Verdict::Waiting => Passage::Waiting,
        Verdict::Behind => Passage::Behind,
        Verdict::Frozen(refusal) => Passage::Frozen(refusal),
        Verdict::Paused(refusal) => Passage::Paused(refusal),
        Verdict::WaitEnded => Passage::WaitEnded,
        Verdict::NotWaiting => Passage::NotWaiting,
        Verdict::NotRunning => Passage::NotRunning,
    }
}

fn pass(reserved: Box<Reserved>, first_token_limit: Millis) -> Pass {
    let permit = mint(&reserved, first_token_limit);
    Pass { reserved, permit }
}

fn mint(reserved: &Reserved, first_token_limit: Millis) -> Permit {
    Permit {
        reservation: reserved.reservation,
        worst_case: reserved.amount,
        time_limit: reserved.time_limit,
        first_token_limit,
        account: account_of(reserved),
    }
}

fn account_of(reserved: &Reserved) -> Option<AccountName> {
    match &reserved.call {
        Call::Model(call) => call.account.clone(),
        Call::Tool { .. } => None,
    }
}
