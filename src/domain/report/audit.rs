//! The audit log as it is shown: who changed what, when and why, newest first, one line for each entry.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;
use crate::domain::access::KeyMade;
use crate::domain::audit::{AuditEntry, Author, Change};
use crate::domain::switch::{SwitchKind, SwitchScope};
use crate::ids::{PriceId, RunId};
use crate::units::Timestamp;

/// Rows of prices that one entry names.
const PRICES_SHOWN_MAX: usize = 8;

/// A page of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditTable {
    /// Newest first.
    pub entries: Vec<AuditLine>,
    /// What `before` must be for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditLine {
    /// Its number, from 0 without a gap.
    pub number: u64,
    /// When.
    #[serde(with = "text")]
    #[schemars(with = "super::TimeText")]
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What was done, as `key_made`.
    pub kind: String,
    /// What it was done to: a price row, a key.
    pub of: String,
    /// That in words.
    pub what: String,
    /// Why.
    pub reason: Option<String>,
    /// The run that it came of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// What is wanted of the log. Nothing said is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// Only these kinds; none for all.
    pub kinds: Vec<String>,
    /// Only by this one; `ledger` is the ledger itself.
    pub who: Option<String>,
    /// Only entries with smaller numbers.
    pub before: Option<u64>,
    /// How many at most; 0 for all.
    pub limit: usize,
}

impl AuditFilter {
    fn admits(&self, entry: &AuditEntry) -> bool {
        self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && self.before.is_none_or(|before| entry.number < before)
            && self.who.as_deref().is_none_or(|who| is_by(&entry.by, who))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == entry.change.kind()))
    }
}

fn is_by(by: &Author, who: &str) -> bool {
    match by {
        Author::Ledger => matches!(who, "ledger" | "the ledger"),
        Author::Person(name) | Author::Files(name) => name == who,
    }
}

/// A page while the log is read, newest entry first.
#[derive(Debug)]
pub struct AuditPage {
    filter: AuditFilter,
    table: AuditTable,
}

impl AuditPage {
    /// A page of what a filter lets through.
    #[must_use]
    pub const fn new(filter: AuditFilter) -> Self {
        Self { filter, table: AuditTable { entries: Vec::new(), next: None } }
    }

    /// Goes on to the entry before; breaks where the page is full.
    pub fn apply(&mut self, entry: &AuditEntry) -> ControlFlow<()> {
        if !self.filter.admits(entry) {
            return ControlFlow::Continue(());
        }
        if self.filter.limit > 0 && self.table.entries.len() == self.filter.limit {
            self.table.next = self.table.entries.last().map(|oldest| oldest.number);
            return ControlFlow::Break(());
        }
        self.table.entries.push(AuditLine::from(entry));
        ControlFlow::Continue(())
    }

    /// What was let through.
    #[must_use]
    pub fn table(self) -> AuditTable {
        self.table
    }
}

impl From<&AuditEntry> for AuditLine {
    fn from(entry: &AuditEntry) -> Self {
        let Told { of, what, reason, run } = told(&entry.change);
        let AuditEntry { number, at, by, change } = entry;
        Self { number: *number, at: *at, by: by.to_string(), kind: change.kind().to_owned(), of, what, reason, run }
    }
}

/// A change in words.
#[derive(Default)]
struct Told {
    of: String,
    what: String,
    reason: Option<String>,
    run: Option<RunId>,
}

fn told(change: &Change) -> Told {
    match change {
        Change::PriceFrozen(frozen) => {
            let overrun = &frozen.overrun;
            let (billed, reserved) = (overrun.billed_usd, overrun.reserved_usd);
            Told {
                of: frozen.price.to_string(),
                what: format!("froze the price: {billed} was billed, and {reserved} reserved"),
                run: Some(overrun.reservation.run),
                ..Told::default()
            }
        }
        Change::PriceUnfrozen(unfrozen) => Told {
            of: unfrozen.price.to_string(),
            what: "let the price be used again".to_owned(),
            reason: Some(unfrozen.reason.clone()),
            run: unfrozen.freeze.overruns.first().map(|overrun| overrun.reservation.run),
        },
        Change::KeyMade(made) => {
            Told { of: made.id.clone(), what: key_made(made), reason: made.reason.clone(), ..Told::default() }
        }
        Change::KeyRotated(rotated) => {
            let (of, what) = (rotated.id.clone(), "gave the key another text".to_owned());
            Told { of, what, reason: rotated.reason.clone(), ..Told::default() }
        }
        Change::KeyRevoked(revoked) => because(&revoked.id, "revoked the key".to_owned(), &revoked.reason),
        Change::SwitchSet(set) => {
            let what = match (&set.scope, set.switch) {
                (SwitchScope::Model(_), _) => "took the model out of use",
                (_, SwitchKind::Pause) => "holds its runs",
                (_, SwitchKind::Kill) => "ends its runs at their next call",
            };
            because(&set.scope, what.to_owned(), &set.reason)
        }
        Change::SwitchLifted(lifted) => because(&lifted.scope, "lifted the switch".to_owned(), &lifted.reason),
        Change::ExceptionAsked(asked) => {
            let scope = if asked.scope.is_empty() { String::new() } else { format!(" for {}", asked.scope) };
            let what = format!("asks for {} more{scope} until {}", asked.amount_usd, asked.until);
            because(&asked.budget, what, &asked.reason)
        }
        Change::ExceptionApproved(approved) => {
            let of = format!("exception {}", approved.exception);
            because(&of, "approved it: it counts".to_owned(), &approved.reason)
        }
        Change::ExceptionEnded(ended) => {
            because(&format!("exception {}", ended.exception), "ended it".to_owned(), &ended.reason)
        }
        Change::BodiesErased(erased) => {
            let labels: Vec<String> = erased.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let what = format!("takes the bodies of {} trees of runs out of the store", erased.trees);
            because(&labels.join(" "), what, &erased.reason)
        }
        Change::BudgetChanged(changed) => Told {
            of: changed.budget.to_string(),
            what: match (&changed.before, &changed.after) {
                (Some(before), Some(after)) => format!("is {after}; it was {before}"),
                (None, Some(after)) => format!("is new: {after}"),
                (Some(before), None) => format!("is gone; it was {before}"),
                (None, None) => "is gone".to_owned(),
            },
            ..Told::default()
        },
        Change::PricesChanged(changed) => {
            let rows = |rows: &BTreeSet<PriceId>| {
                let shown: Vec<String> = rows.iter().take(PRICES_SHOWN_MAX).map(ToString::to_string).collect();
                let more = rows.len().saturating_sub(shown.len());
                shown.join(", ") + &if more == 0 { String::new() } else { format!(" and {more} more") }
            };
            let book = changed.book.iter().map(|book| format!("the built-in book is another: {book}"));
            let added = (!changed.added.is_empty()).then(|| format!("new: {}", rows(&changed.added)));
            let removed = (!changed.removed.is_empty()).then(|| format!("gone: {}", rows(&changed.removed)));
            let what: Vec<String> = book.chain(added).chain(removed).collect();
            Told { of: "prices".to_owned(), what: what.join("; "), ..Told::default() }
        }
    }
}

fn because(of: &impl ToString, what: String, reason: &str) -> Told {
    Told { of: of.to_string(), what, reason: Some(reason.to_owned()), run: None }
}

/// `made a key for web: read, run; only tenant=acme`.
fn key_made(made: &KeyMade) -> String {
    let scopes: Vec<&str> = made.scopes.iter().map(|scope| scope.name()).collect();
    let labels: Vec<String> = made.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let bound = if labels.is_empty() { String::new() } else { format!("; only {}", labels.join(", ")) };
    format!("made a key for {}: {}{bound}", made.name, scopes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::{KeyRevoked, Scope};
    use crate::domain::audit::{Overrun, PriceFrozen};
    use crate::ids::ReservationId;
    use crate::units::Money;

    fn log() -> Vec<AuditEntry> {
        let made = KeyMade {
            id: "ab12".to_owned(),
            name: "web".to_owned(),
            scopes: [Scope::Run, Scope::Read].into(),
            labels: [("tenant".to_owned(), "acme".to_owned())].into(),
            hash: "0123456789".to_owned(),
            reason: None,
        };
        let reservation = ReservationId { run: RunId::from_bits(7), number: 3 };
        let overrun = Overrun { reservation, reserved_usd: Money::from_micro(5), billed_usd: Money::from_micro(9) };
        let ann = || Author::Person("ann".to_owned());
        let changes = [
            (ann(), Change::KeyMade(made)),
            (Author::Ledger, Change::PriceFrozen(PriceFrozen { price: "m@d#h".into(), overrun })),
            (ann(), Change::KeyRevoked(KeyRevoked { id: "ab12".to_owned(), reason: "lost".to_owned() })),
        ];
        let numbered = (0..).zip(changes);
        numbered.map(|(number, (by, change))| AuditEntry { number, at: Timestamp(number * 10), by, change }).collect()
    }

    fn numbers(filter: AuditFilter) -> (Vec<u64>, Option<u64>) {
        let mut page = AuditPage::new(filter);
        let _ = log().iter().rev().try_for_each(|entry| page.apply(entry));
        let table = page.table();
        (table.entries.iter().map(|line| line.number).collect(), table.next)
    }

    #[test]
    fn the_newest_stand_first_and_filters_hold_together() {
        let all = AuditFilter::default();
        assert_eq!(numbers(all.clone()), (vec![2, 1, 0], None));
        assert_eq!(numbers(AuditFilter { limit: 2, ..all.clone() }), (vec![2, 1], Some(1)));
        assert_eq!(numbers(AuditFilter { before: Some(1), limit: 2, ..all.clone() }), (vec![0], None));
        assert_eq!(numbers(AuditFilter { who: Some("ledger".to_owned()), ..all.clone() }), (vec![1], None));
        assert_eq!(numbers(AuditFilter { who: Some("ann".to_owned()), limit: 3, ..all.clone() }), (vec![2, 0], None));
        let kinds = vec!["key_made".to_owned(), "price_frozen".to_owned()];
        assert_eq!(numbers(AuditFilter { kinds, ..all.clone() }), (vec![1, 0], None));
        let times = AuditFilter { since: Some(Timestamp(10)), until: Some(Timestamp(20)), ..all };
        assert_eq!(numbers(times), (vec![1], None));
    }

    #[test]
    fn each_entry_is_told_in_words_and_shows_no_hash() {
        let mut page = AuditPage::new(AuditFilter::default());
        let _ = log().iter().rev().try_for_each(|entry| page.apply(entry));
        let text = serde_json::to_string_pretty(&page.table()).expect("JSON");
        assert!(!text.contains("0123456789"));
        assert!(serde_json::from_str::<AuditTable>(&text).is_ok(), "it reads back");
        insta::assert_snapshot!(text);
    }
}
