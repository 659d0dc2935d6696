//! The live standing of rate limits, of what providers say that they still take, and of breakers: what one process keeps in
//! memory, and who waits for it.
//!
//! Invariants: whoever waits holds nothing; a call takes all that it needs at once or nothing; who waits for one count holds
//! up only those behind it that need the same count, tenants take turns, and within a tenant the oldest goes first; what
//! wasn't used goes back. No lock is held while anybody waits: a [`Ticket`] is woken, and looks.
//! Deliberately absent: sleeping, events, and money. A restart begins with full buckets: at most one burst more.

mod bucket;
mod count;
mod queue;
mod standing;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::breaker::{BreakerPolicy, Sign};
use crate::domain::event::Labels;
use crate::domain::limits::Refusal;
use crate::domain::rate::{CallTokens, RateLimit, ToldRates};
use crate::domain::report::RateTable;
use crate::domain::retry::ErrorClass;
use crate::ids::{AccountName, ModelName};
use crate::units::{Millis, Timestamp};
use state::State;

/// Calls that wait at once.
pub const WAITING_MAX: usize = 100_000;

/// Rates, breakers and whoever waits for them. Cheap to clone.
#[derive(Clone)]
pub struct Rates(Arc<Mutex<State>>);

/// A call that asks to go out.
#[derive(Clone)]
pub struct Asking {
    /// The model.
    pub model: ModelName,
    /// The account of its provider; `None` for the provider's own key.
    pub account: Option<AccountName>,
    /// The labels of its run.
    pub labels: Labels,
    /// The most tokens that it may use.
    pub tokens: CallTokens,
    /// The last try of its run: it heeds the project's rates, and neither breakers nor what its provider says. If it doesn't
    /// go now it never will, and a no costs nothing.
    pub last_try: bool,
    /// Woken where there is news of it.
    pub wake: Arc<Notify>,
}

/// What a call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The limit that says no for now.
    pub refusal: Box<Refusal>,
    /// When it may go, if nobody else is in the way; `None` where that isn't known: others are before it, or calls must end.
    pub until: Option<Timestamp>,
}

/// The answer to a call that asks.
pub enum Pass {
    /// It may go now.
    Now(Hold),
    /// It waits.
    Waits(Ticket, Wait),
    /// Too many wait.
    Full(Refusal),
}

/// What an answer came to, for the counts.
#[derive(Clone, Debug)]
pub struct Used {
    /// True where the request left.
    pub sent: bool,
    /// The tokens that it used; `None` where nobody knows: all that it may have used.
    pub tokens: Option<CallTokens>,
    /// What it says of whoever was asked, and the class of its failure.
    pub sign: (Sign, Option<ErrorClass>),
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Millis>,
    /// What the provider says of its own limits.
    pub told: ToldRates,
}

/// Why a model shouldn't be asked just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
    /// In words: `its breaker is open until …`.
    pub why: String,
}

impl Used {
    /// Of a call that nothing is heard of.
    #[must_use]
    pub fn nothing_heard(sent: bool) -> Self {
        let tokens = (!sent).then(CallTokens::default);
        Self { sent, tokens, sign: (Sign::Nothing, None), retry_after: None, told: ToldRates::default() }
    }
}

impl Rates {
    /// Fresh counts.
    #[must_use]
    pub fn new(limits: Vec<RateLimit>, breaker: BreakerPolicy, now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State::new(limits, breaker, now))))
    }

    /// Takes what a call needs, or puts it in the queue.
    #[must_use]
    pub fn ask(&self, asking: Asking, now: Timestamp) -> Pass {
        let mut state = self.lock();
        if state.waiting() >= WAITING_MAX {
            return Pass::Full(state::queue_is_full());
        }
        let id = state.enter(asking, now);
        drop(state);
        match (Ticket { rates: self.clone(), id, used: false }).look(now) {
            Ok(hold) => Pass::Now(hold),
            Err((ticket, wait)) => Pass::Waits(ticket, wait),
        }
    }

    /// Why a model shouldn't be asked now, if so: a breaker is open, or the provider asks to be left alone for longer than
    /// `patience`.
    #[must_use]
    pub fn closed(
        &self,
        model: &ModelName,
        account: Option<&AccountName>,
        patience: Millis,
        now: Timestamp,
    ) -> Option<Closed> {
        self.lock().closed(model, account, patience, now)
    }

    /// Every count that isn't fresh, every breaker that isn't closed, and how many wait.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> RateTable {
        self.lock().standing(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for a reason why a model shouldn't be asked just now: the words of [`Rates::closed`].
#[must_use]
pub fn is_why_closed(why: &str) -> bool {
    state::is_why_closed(why)
}

/// A place in the queue. Dropped, it is free, and what it was given goes back.
pub struct Ticket {
    rates: Rates,
    id: u64,
    /// True once it was let through: what it was given is the hold's.
    used: bool,
}

impl Ticket {
    /// Looks whether it may go.
    ///
    /// # Errors
    /// It still waits, for this.
    pub fn look(mut self, now: Timestamp) -> Result<Hold, (Self, Wait)> {
        let looked = self.rates.lock().look(self.id, now);
        match looked {
            Ok(()) => {
                self.used = true;
                Ok(Hold { rates: self.rates.clone(), id: self.id, sent: false })
            }
            Err(wait) => Err((self, wait)),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            self.rates.lock().leave(self.id);
        }
    }
}

/// What a call has taken. Dropped before it was sent, all of it goes back; after that, as if it had used all.
pub struct Hold {
    rates: Rates,
    id: u64,
    sent: bool,
}

impl Hold {
    /// True where nothing was counted for it and no breaker hears of it: nothing of it grows old.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.rates.lock().is_free(self.id)
    }

    /// The call is on its way.
    pub const fn send(&mut self) {
        self.sent = true;
    }

    /// The call is over.
    pub fn done(self, used: &Used, now: Timestamp) {
        self.rates.lock().done(self.id, used, now);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // After `done` nothing is known of it any more, and nothing is left to do.
        self.rates.lock().give_up(self.id, self.sent);
    }
}
