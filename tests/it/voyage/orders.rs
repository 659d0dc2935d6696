//! What people order while ships sail: switches that are set and lifted, and exceptions of budgets. Drawn apart, so that what
//! else is drawn doesn't depend on it.

use plimsoll::domain::audit::{Author, Change};
use plimsoll::domain::exception::{ExceptionApproved, ExceptionAsked};
use plimsoll::domain::switch::{SwitchKind, SwitchLifted, SwitchSet};
use plimsoll::units::{Millis, Money, Timestamp};

use super::dice::Dice;
use super::draw::BudgetDraw;

/// The scopes that are held, ended or taken out of use.
const SCOPES: [&str; 7] =
    ["all", "tenant=acme", "tenant=bolt", "agent=a0", "agent=a1", "model=p/amber", "model=q/birch"];

/// Something that a person orders.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Set(&'static str, SwitchKind),
    Lift(&'static str),
    /// More for an account of a budget, for a while; asked for by one person and approved by another.
    Grant {
        budget: &'static str,
        scope: &'static str,
        amount: Money,
        lasts: Millis,
    },
}

/// What is ordered on one voyage, and when, in order; whatever is switched is switched back.
pub(super) fn draw(seed: u64, budgets: &[BudgetDraw]) -> Vec<(Millis, Order)> {
    let dice = &mut Dice::of(seed, &[5]);
    let mut orders = Vec::new();
    for _ in 0..if dice.chance(40) { dice.between(1, 3) } else { 0 } {
        let (scope, at) = (dice.pick(&SCOPES), dice.between(50, 15_000));
        let kind = if dice.chance(25) { SwitchKind::Kill } else { SwitchKind::Pause };
        orders.push((Millis(at), Order::Set(scope, kind)));
        orders.push((Millis(at + dice.between(200, 20_000)), Order::Lift(scope)));
    }
    for _ in 0..if budgets.is_empty() || !dice.chance(40) { 0 } else { dice.between(1, 2) } {
        let budget = &budgets[usize::try_from(dice.next() % 64).expect("small") % budgets.len()];
        let scope = if budget.has_tenants() { dice.pick(&["tenant=acme", "tenant=bolt"]) } else { "" };
        let (amount, lasts) = (Money::from_micro(dice.between(2_000, 40_000)), Millis(dice.between(500, 30_000)));
        orders.push((Millis(dice.between(0, 15_000)), Order::Grant { budget: budget.name, scope, amount, lasts }));
    }
    orders.sort_by_key(|(at, _)| *at);
    orders
}

impl Order {
    /// The changes that it makes, each with who makes it; `number` is that of the audit log's next entry.
    pub(super) fn changes(&self, number: u64, now: Timestamp) -> Vec<(Author, Change)> {
        let (ann, bob) = (Author::Person("ann".into()), Author::Person("bob".into()));
        let reason = "the harbour says so".to_owned();
        match self {
            Self::Set(scope, switch) => {
                let scope = scope.parse().expect("a scope");
                vec![(ann, Change::SwitchSet(SwitchSet { scope, switch: *switch, reason }))]
            }
            Self::Lift(scope) => {
                let scope = scope.parse().expect("a scope");
                vec![(ann, Change::SwitchLifted(SwitchLifted { scope, reason }))]
            }
            Self::Grant { budget, scope, amount, lasts } => {
                let (budget, scope, until) = ((*budget).into(), (*scope).to_owned(), now.after(*lasts));
                let asked = ExceptionAsked { budget, scope, amount_usd: *amount, until, reason };
                let approved = ExceptionApproved { exception: number, reason: String::new() };
                vec![(ann, Change::ExceptionAsked(asked)), (bob, Change::ExceptionApproved(approved))]
            }
        }
    }
}
