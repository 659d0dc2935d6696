//! Judges one reservation against every account of its path (rules 1, 6, 9d, 11, 12, 14). Writes nothing.

use super::apply::{is_landing, replaces_landing};
use super::{Decision, Ledger, Lower, ReserveAsk, Short, Verdict, Waiter};
use crate::domain::event::{AccountKey, Call, Event, Reserved, WaitBegan};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::ids::{PriceId, ReservationId, RunId};
use crate::units::{Money, MoneyDelta};

impl Ledger {
    /// Rule 1, and rule 9 as far as it is the ledger's: grant, let wait, or say where money is short.
    pub(super) fn reserve(&mut self, decision: &mut Decision, run: RunId, ask: ReserveAsk) -> Verdict {
        if let Some(refusal) = self.frozen_refusal(&ask.reserved) {
            return Verdict::Frozen(refusal);
        }
        match self.judge(&ask.reserved, ask.lower) {
            Ok(granted) => {
                self.append(decision, ask.reserved.reservation.run, Event::Reserved(Box::new(granted.clone())));
                Verdict::Granted(Box::new(granted))
            }
            Err(short) => self.wait_or_say_short(decision, run, ask, *short),
        }
    }

    fn wait_or_say_short(&mut self, decision: &mut Decision, run: RunId, ask: ReserveAsk, short: Short) -> Verdict {
        let Some(until) = ask.wait_until else { return Verdict::Short(short) };
        if short.own_tree || !self.others_hold(&short.account, run) {
            return Verdict::Short(short);
        }
        let began = WaitBegan { account: short.account.clone(), asked: short.asked, until };
        self.append(decision, run, Event::WaitBegan(began));
        self.waiters.push(Waiter { run, ask, short: short.account });
        Verdict::Waiting
    }

    /// The event to append if the reservation may be placed, with the landing reserve and the output cap that came of it.
    pub(super) fn judge(&self, asked: &Reserved, lower: Option<Lower>) -> Result<Reserved, Box<Short>> {
        let placement = Placement::of(self, asked);
        let mut granted = asked.clone();
        granted.budgets = placement.new_budgets();
        if placement.inside_reserve {
            granted.landing = Money::ZERO;
            return Ok(granted);
        }
        if let Some((key, judged)) = placement.short(self, asked.amount) {
            let lowered = lower.and_then(|lower| placement.lowered(self, &granted, lower));
            granted = lowered.ok_or_else(|| Box::new(self.short(asked, &placement, key, judged)))?;
        }
        granted.landing = placement.landing_after(self, granted.amount, asked.landing);
        Ok(granted)
    }

    fn short(&self, asked: &Reserved, placement: &Placement, key: &AccountKey, growth: Money) -> Short {
        let account = self.judged(key);
        Short {
            account: key.clone(),
            cap: account.cap,
            settled: account.settled,
            held: account.held,
            asked: growth,
            own_tree: self.own_attempts_hold(key, placement.root, asked.reservation),
            declared: self.live_budget(key).map(|live| live.budget.declared.clone()),
        }
    }

    /// True where attempts of the same tree hold money on the account: one of them will settle, so queue in the tree.
    fn own_attempts_hold(&self, key: &AccountKey, root: RunId, but: ReservationId) -> bool {
        let holds = self.runs.get(&root).into_iter().flat_map(|open| &open.holds);
        holds
            .filter(|id| **id != but)
            .filter_map(|id| self.holds.get(id))
            .any(|hold| !hold.landing && !hold.amount.is_zero() && hold.accounts.contains(key))
    }

    /// True where another open run holds money on the account.
    pub(super) fn others_hold(&self, key: &AccountKey, run: RunId) -> bool {
        self.holds.values().any(|hold| hold.root != run && !hold.amount.is_zero() && hold.accounts.contains(key))
    }

    /// The refusal of a frozen price row; the landing call is not spared.
    pub(super) fn frozen_refusal(&self, reserved: &Reserved) -> Option<Refusal> {
        let Call::Model(call) = &reserved.call else { return None };
        self.frozen.get(&call.price).map(|why| frozen(&call.price, why))
    }
}

fn frozen(price: &PriceId, why: &str) -> Refusal {
    Refusal {
        limit: LimitKind::FrozenPrice,
        subject: Some(price.to_string()),
        value: "frozen".into(),
        observed: format!("{why}; check the price, then run `plimsoll prices unfreeze`"),
        declared: Declared::Default,
    }
}

/// By how much a reservation of R would raise `held` on each account of its path: R + `shift`.
struct Placement<'a> {
    root: RunId,
    /// The growth beyond R: minus the landing reserve where the call takes its place, plus it where it moves to a new period.
    shifts: Vec<(AccountKey, MoneyDelta)>,
    /// The landing reserve as it stands.
    landing: Money,
    replaces_landing: bool,
    /// A landing call inside its own reserve: `held` doesn't grow.
    inside_reserve: bool,
    /// The path's budgets, and those that it had.
    budgets: Vec<AccountKey>,
    budgets_before: &'a [AccountKey],
}

impl<'a> Placement<'a> {
    fn of(ledger: &'a Ledger, asked: &Reserved) -> Self {
        let run = asked.reservation.run;
        let root = ledger.root_of(run);
        let open = ledger.runs.get(&root);
        let landing = open.and_then(|open| open.landing.as_ref()).map_or(Money::ZERO, |landing| landing.amount);
        let replaces_landing = replaces_landing(asked) && !landing.is_zero();
        let inside_reserve = is_landing(asked) && !landing.is_zero() && asked.amount <= landing;
        let before: &[AccountKey] = open.map_or(&[], |open| &open.budgets);
        let budgets = match open {
            Some(open) if !inside_reserve => ledger.budget_keys(&open.labels),
            _ => before.to_vec(),
        };
        let replaced = if replaces_landing { MoneyDelta::ZERO.minus(landing.into()) } else { MoneyDelta::ZERO };
        let moved = if replaces_landing { MoneyDelta::ZERO } else { landing.into() };
        let root_key = AccountKey::Node { run: root, stage: None };
        let nodes = ledger.node_path(run).into_iter().map(|key| {
            let shift = if key == root_key { replaced } else { MoneyDelta::ZERO };
            (key, shift)
        });
        let on_budgets = budgets.iter().map(|key| (key.clone(), if before.contains(key) { replaced } else { moved }));
        let shifts = nodes.chain(on_budgets).collect();
        Self { root, shifts, landing, replaces_landing, inside_reserve, budgets, budgets_before: before }
    }

    fn new_budgets(&self) -> Option<Vec<AccountKey>> {
        (self.budgets != self.budgets_before).then(|| self.budgets.clone())
    }

    /// The first account on which R doesn't fit, with the growth that was judged.
    fn short(&self, ledger: &Ledger, amount: Money) -> Option<(&AccountKey, Money)> {
        self.shifts.iter().find_map(|(key, shift)| {
            let growth = growth(amount, *shift)?;
            (!ledger.judged(key).takes(growth)).then_some((key, growth))
        })
    }

    /// The largest R that fits on every account.
    fn room(&self, ledger: &Ledger) -> Money {
        let rooms = self.shifts.iter().map(|(key, shift)| {
            let account = ledger.judged(key);
            let free = account.cap.minus(account.settled.plus(account.held)).minus(*shift);
            Money::from_pico(u128::try_from(free.pico()).unwrap_or(0))
        });
        rooms.min().unwrap_or_default()
    }

    /// The same call with as low an output cap as the room needs, if that is worth asking for (rule 9d).
    fn lowered(&self, ledger: &Ledger, asked: &Reserved, lower: Lower) -> Option<Reserved> {
        lower_to(asked, lower, self.room(ledger))
    }

    /// The landing reserve after the write: gone, raised where the money is there, else as it was (rule 6).
    fn landing_after(&self, ledger: &Ledger, amount: Money, wanted: Money) -> Money {
        if self.replaces_landing || self.landing.is_zero() {
            return Money::ZERO;
        }
        let Some(raise) = wanted.checked_minus(self.landing) else { return self.landing };
        let fits = self.shifts.iter().all(|(key, shift)| {
            let on_reserve = matches!(key, AccountKey::Budget { .. })
                || matches!(key, AccountKey::Node { run, stage: None } if *run == self.root);
            let raised = if on_reserve { amount.plus(raise) } else { amount };
            growth(raised, *shift).is_none_or(|growth| ledger.judged(key).takes(growth))
        });
        if fits { wanted } else { self.landing }
    }
}

/// What R raises `held` by; `None` where it doesn't rise: caps are judged on growth only.
fn growth(amount: Money, shift: MoneyDelta) -> Option<Money> {
    let grown = MoneyDelta::from(amount).plus(shift).pico();
    if shift.pico() < 0 && grown <= 0 {
        return None;
    }
    u128::try_from(grown).ok().map(Money::from_pico)
}

/// A call cut down to a room by asking for fewer output tokens; `None` where that isn't enough.
pub(super) fn lower_to(asked: &Reserved, lower: Lower, room: Money) -> Option<Reserved> {
    let Call::Model(call) = &asked.call else { return None };
    let missing = asked.amount.left_after(room).pico();
    let rate = u128::from(lower.rate.pico());
    let fewer = missing.div_ceil(rate.max(1));
    let output = u128::from(call.max_output_tokens).checked_sub(fewer)?;
    if rate == 0 || output < u128::from(lower.output_min) {
        return None;
    }
    let mut lowered = asked.clone();
    lowered.amount = Money::from_pico(asked.amount.pico() - fewer * rate);
    if let Call::Model(call) = &mut lowered.call {
        call.max_output_tokens = u32::try_from(output).ok()?;
    }
    Some(lowered)
}
