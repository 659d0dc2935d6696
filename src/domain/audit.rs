//! The audit log: what was changed in what is allowed; when, by whom and why.
//!
//! Invariants: the log is append-only, its entries are numbered from 0 without a gap, and an entry is written in the same
//! durable write as the change that it tells of. Each kind of change is a variant of [`Change`] with all that it takes to
//! understand it by itself. Deliberately absent: facts of runs, which are in their own logs, and any decision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access::{KeyMade, KeyRevoked, KeyRotated};
use super::erasure::BodiesErased;
use super::exception::{ExceptionApproved, ExceptionAsked, ExceptionEnded};
use super::switch::{SwitchLifted, SwitchSet};
use super::terms::{BudgetChanged, PricesChanged};
use crate::ids::{PriceId, ReservationId};
use crate::units::{Money, Timestamp};

/// The most characters of a reason.
pub const REASON_CHARS_MAX: usize = 1_000;
/// The most characters of a person's name.
pub const NAME_CHARS_MAX: usize = 100;
/// Overruns that are kept with one frozen price; calls in flight when it froze may add more, which are counted.
pub const OVERRUNS_KEPT_MAX: usize = 32;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 0 without a gap.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Author,
    /// What, and why.
    pub change: Change,
}

/// Who changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The ledger, by its own rules.
    Ledger,
    /// A person, by the name that was given.
    Person(String),
    /// The project's files, as this user first ran something by them. Who wrote them, and why, is where they are kept.
    Files(String),
}

impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger => f.pad("the ledger"),
            Self::Person(name) => f.pad(name),
            Self::Files(user) => f.pad(&format!("project files ({user})")),
        }
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A bill above its reservation froze a price row, or came in for one that was frozen already.
    PriceFrozen(PriceFrozen),
    /// A person let calls use a frozen price row again.
    PriceUnfrozen(PriceUnfrozen),
    /// A key of the service was made.
    KeyMade(KeyMade),
    /// It has a new text.
    KeyRotated(KeyRotated),
    /// It counts no more.
    KeyRevoked(KeyRevoked),
    /// Somebody holds or ends the runs of a scope, or takes a model out of use.
    SwitchSet(SwitchSet),
    /// Its runs may go on, and be made again.
    SwitchLifted(SwitchLifted),
    /// Somebody asks for more than a budget's cap, for a while.
    ExceptionAsked(ExceptionAsked),
    /// Another person approved it: it counts.
    ExceptionApproved(ExceptionApproved),
    /// It was refused, or taken back.
    ExceptionEnded(ExceptionEnded),
    /// Somebody has what was written and answered in runs taken out of the store.
    BodiesErased(BodiesErased),
    /// The project's files declare a budget otherwise, a new one, or one no more.
    BudgetChanged(Box<BudgetChanged>),
    /// The project's files, or the built-in book, have other prices.
    PricesChanged(Box<PricesChanged>),
}

impl Change {
    /// The kinds that there are.
    pub const KINDS: [&'static str; 13] = [
        "price_frozen",
        "price_unfrozen",
        "key_made",
        "key_rotated",
        "key_revoked",
        "switch_set",
        "switch_lifted",
        "exception_asked",
        "exception_approved",
        "exception_ended",
        "bodies_erased",
        "budget_changed",
        "prices_changed",
    ];

    /// Its kind, as it is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PriceFrozen(_) => "price_frozen",
            Self::PriceUnfrozen(_) => "price_unfrozen",
            Self::KeyMade(_) => "key_made",
            Self::KeyRotated(_) => "key_rotated",
            Self::KeyRevoked(_) => "key_revoked",
            Self::SwitchSet(_) => "switch_set",
            Self::SwitchLifted(_) => "switch_lifted",
            Self::ExceptionAsked(_) => "exception_asked",
            Self::ExceptionApproved(_) => "exception_approved",
            Self::ExceptionEnded(_) => "exception_ended",
            Self::BodiesErased(_) => "bodies_erased",
            Self::BudgetChanged(_) => "budget_changed",
            Self::PricesChanged(_) => "prices_changed",
        }
    }
}

/// See [`Change::PriceFrozen`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceFrozen {
    /// The row.
    pub price: PriceId,
    /// The bill.
    pub overrun: Overrun,
}

/// See [`Change::PriceUnfrozen`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceUnfrozen {
    /// The row.
    pub price: PriceId,
    /// Why it is right to go on.
    pub reason: String,
    /// What had frozen it.
    pub freeze: Freeze,
}

/// A bill above its reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrun {
    /// The attempt's reservation, which names its run.
    pub reservation: ReservationId,
    /// What was reserved.
    pub reserved_usd: Money,
    /// What was billed, and booked.
    pub billed_usd: Money,
}

/// Why a price row is frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Since when; `None` where a version froze it that kept no audit log.
    pub since: Option<Timestamp>,
    /// The overruns, oldest first; at most [`OVERRUNS_KEPT_MAX`].
    pub overruns: Vec<Overrun>,
    /// How many there were in all.
    pub count: u64,
}

impl Freeze {
    fn add(&mut self, at: Timestamp, overrun: &Overrun) {
        self.since.get_or_insert(at);
        self.count += 1;
        if self.overruns.len() < OVERRUNS_KEPT_MAX {
            self.overruns.push(overrun.clone());
        }
    }
}

/// The price rows that are frozen, as the log tells it.
#[derive(Clone, Debug, Default)]
pub struct Freezes(BTreeMap<PriceId, Freeze>);

impl Freezes {
    /// Goes on to the next entry.
    pub fn apply(&mut self, entry: &AuditEntry) {
        match &entry.change {
            Change::PriceFrozen(frozen) => {
                self.0.entry(frozen.price.clone()).or_default().add(entry.at, &frozen.overrun);
            }
            Change::PriceUnfrozen(unfrozen) => drop(self.0.remove(&unfrozen.price)),
            Change::KeyMade(_)
            | Change::KeyRotated(_)
            | Change::KeyRevoked(_)
            | Change::SwitchSet(_)
            | Change::SwitchLifted(_)
            | Change::ExceptionAsked(_)
            | Change::ExceptionApproved(_)
            | Change::ExceptionEnded(_)
            | Change::BodiesErased(_)
            | Change::BudgetChanged(_)
            | Change::PricesChanged(_) => {}
        }
    }

    /// Why a row is frozen; nothing is known where the log doesn't tell of it.
    #[must_use]
    pub fn of(&self, price: &PriceId) -> Freeze {
        self.0.get(price).cloned().unwrap_or_default()
    }

    /// The rows.
    pub fn prices(&self) -> impl Iterator<Item = &PriceId> {
        self.0.keys()
    }
}

/// What a person does that the log must tell of: who, and why. Neither is ever empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    by: String,
    reason: String,
}

impl Act {
    /// An act of a person, with line breaks and other control characters made spaces.
    ///
    /// # Errors
    /// A name or a reason that is empty or too long.
    pub fn new(by: &str, reason: &str) -> Result<Self, ActError> {
        let (by, reason) = (plain(by), plain(reason));
        if reason.is_empty() {
            return Err(ActError::NoReason);
        }
        if by.is_empty() {
            return Err(ActError::Nobody);
        }
        for (what, text, most) in [("reason", &reason, REASON_CHARS_MAX), ("name", &by, NAME_CHARS_MAX)] {
            let chars = text.chars().count();
            if chars > most {
                return Err(ActError::TooLong { what, chars, most });
            }
        }
        Ok(Self { by, reason })
    }

    /// Who.
    #[must_use]
    pub fn by(&self) -> Author {
        Author::Person(self.by.clone())
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

fn plain(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why an act isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No reason.
    #[error("the reason is empty; say why: it is kept in the audit log")]
    NoReason,
    /// No name.
    #[error("nobody is named; say who does it: the name is kept in the audit log")]
    Nobody,
    /// Too long.
    #[error("the {what} has {chars} characters; the most is {most}")]
    TooLong {
        /// `reason` or `name`.
        what: &'static str,
        /// How long it is.
        chars: usize,
        /// The most.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;

    fn frozen(number: u64, price: &str) -> AuditEntry {
        let reservation = ReservationId { run: RunId::from_bits(7), number: 3 };
        let overrun = Overrun { reservation, reserved_usd: Money::from_micro(5), billed_usd: Money::from_micro(9) };
        let change = Change::PriceFrozen(PriceFrozen { price: price.into(), overrun });
        AuditEntry { number, at: Timestamp(1_000 + number), by: Author::Ledger, change }
    }

    #[test]
    fn a_row_is_frozen_from_its_first_overrun_until_somebody_lifts_it() {
        let mut freezes = Freezes::default();
        for number in 0..40 {
            freezes.apply(&frozen(number, "a"));
        }
        freezes.apply(&frozen(40, "b"));
        let freeze = freezes.of(&"a".into());
        assert_eq!(
            (freeze.since, freeze.count, freeze.overruns.len()),
            (Some(Timestamp(1_000)), 40, OVERRUNS_KEPT_MAX)
        );
        let change = Change::PriceUnfrozen(PriceUnfrozen { price: "a".into(), reason: "seen".into(), freeze });
        freezes.apply(&AuditEntry { number: 41, at: Timestamp(2_000), by: Author::Person("ann".into()), change });
        assert_eq!(freezes.of(&"a".into()), Freeze::default());
        assert_eq!(freezes.prices().collect::<Vec<_>>(), [&PriceId::from("b")]);
        freezes.apply(&frozen(42, "a"));
        assert_eq!(freezes.of(&"a".into()).since, Some(Timestamp(1_042)), "frozen anew");
    }

    #[test]
    fn an_act_has_a_name_and_a_reason() {
        let act = Act::new(" ann\n", "the provider\r\n mended\u{1b} it ").expect("both");
        assert_eq!((act.by().to_string().as_str(), act.reason()), ("ann", "the provider mended it"));
        assert_eq!(Act::new("ann", " \n"), Err(ActError::NoReason));
        assert_eq!(Act::new("\t", "why"), Err(ActError::Nobody));
        assert!(matches!(Act::new("ann", &"x".repeat(1_001)), Err(ActError::TooLong { what: "reason", .. })));
        assert!(matches!(Act::new(&"x".repeat(101), "why"), Err(ActError::TooLong { what: "name", .. })));
        assert!(Act::new(&"é".repeat(100), &"é".repeat(1_000)).is_ok());
    }

    #[test]
    fn an_entry_reads_as_it_is_written() {
        let entry = frozen(3, "m@d#h");
        let text = serde_json::to_string(&entry).expect("it writes");
        assert_eq!(
            text,
            r#"{"number":3,"at":1003,"by":"ledger","change":{"kind":"price_frozen","price":"m@d#h","overrun":{"reservation":{"run":"00000000000000000000000007","number":3},"reserved_usd":"0.000005","billed_usd":"0.000009"}}}"#
        );
        assert_eq!(serde_json::from_str::<AuditEntry>(&text).expect("it reads"), entry);
        assert!(
            text.contains(&format!(r#""kind":"{}""#, entry.change.kind()))
                && Change::KINDS.contains(&entry.change.kind())
        );
    }
}
