//! Exceptions of budgets: an amount on top of a cap for a while, asked for by one person and approved by another.
//!
//! Invariants: an exception only ever raises what admission sees, and only while it lasts: from its approval until its end,
//! or until it is taken back. What was placed in that time stays placed. Nobody approves their own. The audit log tells of
//! each, and is where they are kept: an exception's number is that of the entry that asks for it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, Author, Change};
use crate::ids::BudgetName;
use crate::units::{Millis, Money, Timestamp};

/// The most exceptions that aren't over.
pub const EXCEPTIONS_MAX: usize = 1_000;
/// The longest that one lasts.
pub const EXCEPTION_TIME_MAX: Millis = Millis::from_secs(92 * 86_400);

/// See [`Change::ExceptionAsked`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionAsked {
    /// The budget.
    pub budget: BudgetName,
    /// The value of its `each`, as `tenant=acme`; empty where it has none.
    pub scope: String,
    /// How much is added to the cap.
    pub amount_usd: Money,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

/// See [`Change::ExceptionApproved`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionApproved {
    /// The exception.
    pub exception: u64,
    /// Why; empty of one of before that was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// See [`Change::ExceptionEnded`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionEnded {
    /// The exception.
    pub exception: u64,
    /// Why.
    pub reason: String,
}

/// An exception, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// What was asked for.
    pub asked: ExceptionAsked,
    /// When.
    pub at: Timestamp,
    /// Who asked.
    pub by: Author,
    /// Who approved it, and when.
    pub approved: Option<(Author, Timestamp)>,
    /// Who refused it or took it back, and when.
    pub ended: Option<(Author, Timestamp)>,
}

/// How an exception stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionState {
    /// Another person is to approve it.
    Asked,
    /// It counts.
    Counts,
    /// Its time is up.
    Expired,
    /// It was refused or taken back.
    Ended,
}

impl ExceptionState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Counts => "counts",
            Self::Expired => "expired",
            Self::Ended => "ended",
        }
    }
}

impl Exception {
    /// How it stands at a time.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ExceptionState {
        match (&self.ended, &self.approved) {
            (Some(_), _) => ExceptionState::Ended,
            (None, _) if now >= self.asked.until => ExceptionState::Expired,
            (None, Some(_)) => ExceptionState::Counts,
            (None, None) => ExceptionState::Asked,
        }
    }

    /// Looks whether somebody may approve it.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_approval(&self, by: &Author, now: Timestamp) -> Result<(), ExceptionFault> {
        match self.state(now) {
            ExceptionState::Asked if same(by, &self.by) => Err(ExceptionFault::Own(self.by.to_string())),
            ExceptionState::Asked => Ok(()),
            state @ (ExceptionState::Counts | ExceptionState::Expired | ExceptionState::Ended) => {
                Err(ExceptionFault::State(state.name()))
            }
        }
    }
}

/// Whether two names are one person's.
fn same(one: &Author, other: &Author) -> bool {
    one.to_string().trim().to_lowercase() == other.to_string().trim().to_lowercase()
}

/// Why an exception isn't taken, or not approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExceptionFault {
    /// No such exception.
    #[error("there is no exception {0}; `plimsoll budget exceptions` lists them")]
    Unknown(u64),
    /// No such budget.
    #[error("there is no budget `{0}`; `plimsoll budget` lists budgets")]
    Budget(String),
    /// The scope isn't of the form that the budget's `each` has.
    #[error("budget `{budget}` has {form}; name one of its accounts")]
    Scope {
        /// The budget.
        budget: BudgetName,
        /// What its accounts are named by.
        form: String,
    },
    /// Nothing.
    #[error("an exception adds something; give an amount above 0")]
    Nothing,
    /// More than anybody has.
    #[error("an exception adds {} at most; give a smaller amount", Money::TYPED_MAX)]
    Much,
    /// Too many that aren't over.
    #[error("there are {EXCEPTIONS_MAX} exceptions that aren't over; end some with `plimsoll budget end`")]
    Many,
    /// It never lasts, or too long.
    #[error("an exception ends within {EXCEPTION_TIME_MAX} from now, and not before; give another end")]
    Until,
    /// Nobody approves their own.
    #[error("`{0}` asked for it, and nobody approves their own; have another person approve it")]
    Own(String),
    /// Too late or too early.
    #[error("the exception is {0}; ask for another one")]
    State(&'static str),
}

/// All exceptions that were ever asked for.
#[derive(Clone, Debug, Default)]
pub struct Exceptions(BTreeMap<u64, Exception>);

impl Exceptions {
    /// Goes on to the next entry of the audit log; true where it changed one. What no rule allows changes nothing, whoever
    /// wrote it.
    pub fn apply(&mut self, entry: &AuditEntry) -> bool {
        let AuditEntry { number, at, by, change } = entry;
        if let Change::ExceptionAsked(asked) = change {
            let exception = Exception { asked: asked.clone(), at: *at, by: by.clone(), approved: None, ended: None };
            self.0.insert(*number, exception);
            return true;
        }
        if let Change::ExceptionApproved(approved) = change
            && let Some(exception) = self.0.get_mut(&approved.exception)
            && exception.judge_approval(by, *at).is_ok()
        {
            exception.approved = Some((by.clone(), *at));
            return true;
        }
        if let Change::ExceptionEnded(ended) = change
            && let Some(exception) = self.0.get_mut(&ended.exception)
        {
            exception.ended.get_or_insert((by.clone(), *at));
            return true;
        }
        false
    }

    /// What is added to the cap of an account at a time.
    #[must_use]
    pub fn added(&self, budget: &BudgetName, scope: &str, now: Timestamp) -> Money {
        let counts = |exception: &&Exception| {
            exception.asked.budget == *budget
                && exception.asked.scope == scope
                && exception.state(now) == ExceptionState::Counts
        };
        // The newest come last, and none lasts longer than that: those of long ago are passed over.
        let recent = self.0.values().rev().take_while(|exception| now < exception.at.after(EXCEPTION_TIME_MAX));
        // A log may say more than anybody may ask for.
        recent.filter(counts).map(|exception| exception.asked.amount_usd.min(Money::TYPED_MAX)).sum()
    }

    /// How many aren't over.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> usize {
        let recent = self.0.values().rev().take_while(|exception| now < exception.at.after(EXCEPTION_TIME_MAX));
        let stands =
            |exception: &&Exception| matches!(exception.state(now), ExceptionState::Counts | ExceptionState::Asked);
        recent.filter(stands).count()
    }

    /// An exception by its number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Exception> {
        self.0.get(&number)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Exception)> {
        self.0.iter().map(|(number, exception)| (*number, exception))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, at: u64, by: &str, change: Change) -> AuditEntry {
        AuditEntry { number, at: Timestamp(at), by: Author::Person(by.into()), change }
    }

    fn asked(number: u64, by: &str) -> AuditEntry {
        let (budget, scope, reason) = ("month".into(), "tenant=acme".to_owned(), "a fair".to_owned());
        let asked = ExceptionAsked { budget, scope, amount_usd: Money::from_micro(5), until: Timestamp(100), reason };
        entry(number, 10, by, Change::ExceptionAsked(asked))
    }

    fn approved(number: u64, at: u64, by: &str) -> AuditEntry {
        entry(number, at, by, Change::ExceptionApproved(ExceptionApproved { exception: 0, reason: String::new() }))
    }

    #[test]
    fn no_log_adds_more_than_a_sum_can_hold() {
        let mut all = Exceptions::default();
        for number in 0..3 {
            let AuditEntry { at, by, mut change, .. } = asked(number, "ann");
            if let Change::ExceptionAsked(asked) = &mut change {
                asked.amount_usd = Money::from_pico(u128::MAX);
            }
            all.apply(&AuditEntry { number, at, by, change });
            let approved = ExceptionApproved { exception: number, reason: String::new() };
            all.apply(&entry(10 + number, 20, "bob", Change::ExceptionApproved(approved)));
        }
        assert_eq!(all.added(&"month".into(), "tenant=acme", Timestamp(20)), Money::TYPED_MAX.times(3));
        assert_eq!((all.standing(Timestamp(20)), all.standing(Timestamp(100))), (3, 0));
    }

    #[test]
    fn an_exception_counts_from_another_persons_approval_until_its_end() {
        let mut all = Exceptions::default();
        let added = |all: &Exceptions, at| all.added(&"month".into(), "tenant=acme", Timestamp(at));
        all.apply(&asked(0, "ann"));
        assert!(!all.apply(&approved(1, 20, "Ann ")), "nobody approves their own");
        assert_eq!(added(&all, 20), Money::ZERO);
        assert!(all.apply(&approved(2, 30, "bob")));
        assert_eq!(
            (added(&all, 30), added(&all, 99), added(&all, 100)),
            (Money::from_micro(5), Money::from_micro(5), Money::ZERO)
        );
        assert_eq!(all.added(&"month".into(), "", Timestamp(30)), Money::ZERO, "another account");
        assert!(!all.apply(&approved(3, 40, "cleo")), "once");
        let ended = Change::ExceptionEnded(ExceptionEnded { exception: 0, reason: "over".into() });
        assert!(all.apply(&entry(4, 50, "bob", ended)));
        assert_eq!(added(&all, 50), Money::ZERO);
        all.apply(&asked(5, "ann"));
        assert!(
            !all.apply(&entry(
                6,
                100,
                "bob",
                Change::ExceptionApproved(ExceptionApproved { exception: 5, reason: String::new() })
            )),
            "too late"
        );
    }
}
