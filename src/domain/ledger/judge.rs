//! Judges one reservation against every account of its path (rules 1, 6, 9d, 11, 12, 14). Writes nothing.

use super::apply::{is_landing, replaces_landing, stage_of};
use super::{Decision, Ledger, Lower, ReserveAsk, Short, Verdict, Waiter};
use crate::domain::event::{AccountKey, Call, Downgraded, Event, PeriodMoved, Reserved, WaitBegan};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::switch::SwitchKind;
use crate::ids::{PriceId, ReservationId, RunId};
use crate::units::{Money, MoneyDelta};

/// Accounts without room, in the order of the path, each with the growth that was judged.
type Shorts = Vec<(AccountKey, Money)>;

impl Ledger {
    /// Rule 1, and rule 9 as far as it is the ledger's: grant, let wait, or say where money is short.
    pub(super) fn reserve(&mut self, decision: &mut Decision, run: RunId, ask: ReserveAsk) -> Verdict {
        if !self.may_place(ask.reserved.reservation.run) {
            return Verdict::NotRunning;
        }
        match self.switch_on(&ask.reserved) {
            Some((SwitchKind::Pause, refusal)) => return Verdict::Paused(refusal),
            Some((SwitchKind::Kill, refusal)) => return Verdict::Frozen(refusal),
            None => {}
        }
        if let Some(refusal) = self.barred(&ask.reserved) {
            return Verdict::Frozen(refusal);
        }
        if let Some(short) = self.waits_already(run, &ask.reserved) {
            return Verdict::Short(short);
        }
        match self.judge(&ask.reserved, ask.lower) {
            Ok(granted) => Verdict::Granted(self.grant(decision, granted)),
            Err(shorts) => self.wait_or_say_short(decision, run, ask, shorts),
        }
    }

    /// Appends a reservation that was judged. The budgets that a child's attempt moves to are a fact of its root's log
    /// (rule 14), so that the root's log folds alone.
    pub(super) fn grant(&mut self, decision: &mut Decision, mut granted: Reserved) -> Box<Reserved> {
        let run = granted.reservation.run;
        let root = self.root_of(run);
        if let Some(budgets) = granted.budgets.take_if(|_| root != run) {
            self.append(decision, root, Event::PeriodMoved(PeriodMoved { budgets }));
        }
        if let Some(downgraded) = Downgraded::of(&granted) {
            self.append(decision, run, Event::Downgraded(downgraded));
        }
        let granted = Box::new(granted);
        self.append(decision, run, Event::Reserved(granted.clone()));
        granted
    }

    /// True for a run of a tree that was admitted, hasn't ended and wasn't asked to end.
    fn may_place(&self, run: RunId) -> bool {
        let Some(node) = self.nodes.get(&run) else { return false };
        !node.ended && self.runs.get(&node.root).is_some_and(|open| open.is_open() && !open.cancelled)
    }

    /// Nobody waits while holding money beyond the landing reserve: a tree that waits queues its other calls.
    fn waits_already(&self, run: RunId, asked: &Reserved) -> Option<Short> {
        let waiter = self.waiters.iter().find(|waiter| waiter.run == run)?;
        let key = waiter.short.first()?;
        let mut short = self.short(asked, run, key, asked.amount);
        short.own_tree = true;
        Some(short)
    }

    fn wait_or_say_short(&mut self, decision: &mut Decision, run: RunId, ask: ReserveAsk, shorts: Shorts) -> Verdict {
        // Where one of the accounts is short for good, waiting for the others is pointless.
        let pointless = shorts.iter().find(|(key, _)| {
            !self.others_hold(key, run) && !self.own_attempts_hold(Some(key), run, ask.reserved.reservation)
        });
        let Some((key, growth)) = pointless.or(shorts.first()) else { return Verdict::NotRunning };
        let mut short = self.short(&ask.reserved, run, key, *growth);
        let Some(until) = ask.wait_until.filter(|_| pointless.is_none() && !short.own_tree) else {
            return Verdict::Short(short);
        };
        if self.own_attempts_hold(None, run, ask.reserved.reservation) {
            short.own_tree = true;
            return Verdict::Short(short);
        }
        let began = WaitBegan { account: short.account, asked: short.asked, until };
        self.append(decision, run, Event::WaitBegan(began));
        let short = shorts.into_iter().map(|(key, _)| key).collect();
        let place = self.waiters.partition_point(|waiter| waiter.run < run);
        self.waiters.insert(place, Waiter { run, ask, short });
        Verdict::Waiting
    }

    /// The event to append if the reservation may be placed, with the landing reserve and the output cap that came of it.
    pub(super) fn judge(&self, asked: &Reserved, lower: Option<Lower>) -> Result<Reserved, Shorts> {
        let placement = Placement::of(self, asked);
        let mut granted = asked.clone();
        granted.budgets = placement.new_budgets();
        if placement.inside_reserve {
            granted.landing = Money::ZERO;
            return Ok(granted);
        }
        let shorts = placement.shorts(self, asked.amount);
        if !shorts.is_empty() {
            let lowered = lower.and_then(|lower| lower_to(&granted, lower, placement.room(self)));
            granted = lowered.ok_or(shorts)?;
        }
        granted.landing = placement.landing_after(self, granted.amount, asked.landing);
        Ok(granted)
    }

    pub(super) fn short(&self, asked: &Reserved, root: RunId, key: &AccountKey, growth: Money) -> Short {
        let account = self.judged(key);
        Short {
            account: key.clone(),
            cap: account.cap,
            settled: account.settled,
            held: account.held,
            asked: growth,
            own_tree: self.own_attempts_hold(Some(key), root, asked.reservation),
            declared: self.live_budget(key).map(|live| live.budget.declared.clone()),
        }
    }

    /// True where attempts of the same tree hold money on the account, or on any: one of them will settle, so queue in
    /// the tree.
    fn own_attempts_hold(&self, key: Option<&AccountKey>, root: RunId, but: ReservationId) -> bool {
        let holds = self.runs.get(&root).into_iter().flat_map(|open| &open.holds);
        holds
            .filter(|id| **id != but)
            .filter_map(|id| self.holds.get(id))
            .any(|hold| !hold.landing && !hold.amount.is_zero() && key.is_none_or(|key| hold.accounts.contains(key)))
    }

    /// True where another run holds money on the account; nobody else holds any on a run's own.
    pub(super) fn others_hold(&self, key: &AccountKey, run: RunId) -> bool {
        self.holders.get(key).is_some_and(|holders| holders.keys().any(|holder| *holder != run))
    }

    /// Why the attempt may not be made whatever the money: a frozen price row or a model that is switched off, which don't
    /// spare the landing call, or a budget that can't tell whom it counts, which does.
    pub(super) fn barred(&self, reserved: &Reserved) -> Option<Refusal> {
        let frozen = self.frozen_refusal(reserved).or_else(|| self.switch_on_model(reserved));
        if frozen.is_some() || is_landing(reserved) {
            return frozen;
        }
        self.runs.get(&self.root_of(reserved.reservation.run))?.current.as_ref().err().cloned()
    }

    /// The refusal of a frozen price row; the landing call is not spared.
    fn frozen_refusal(&self, reserved: &Reserved) -> Option<Refusal> {
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
    /// True for an attempt of a child: it leaves the landing reserve as it is.
    below: bool,
    /// The growth beyond R: minus the landing reserve where the call takes its place, or what falls of it where less is
    /// wanted; plus it where it moves to a new period.
    shifts: Vec<(AccountKey, MoneyDelta)>,
    /// The landing reserve as it stands.
    landing: Money,
    replaces_landing: bool,
    /// A landing call inside its own reserve: `held` doesn't grow.
    inside_reserve: bool,
    /// The path's budgets, and those that it had.
    budgets: &'a [AccountKey],
    budgets_before: &'a [AccountKey],
}

impl<'a> Placement<'a> {
    fn of(ledger: &'a Ledger, asked: &Reserved) -> Self {
        let run = asked.reservation.run;
        let root = ledger.root_of(run);
        let open = ledger.runs.get(&root);
        let landing = open.and_then(|open| open.landing.as_ref()).map_or(Money::ZERO, |landing| landing.amount);
        let replaces_landing = replaces_landing(asked, root) && !landing.is_zero();
        let before = open.map_or(&[][..], |open| &open.budgets);
        // The landing call is placed where its reserve lies, even where that period has ended.
        let lands = replaces_landing && is_landing(asked);
        let budgets = if lands { before } else { open.map_or(before, |open| open.current()) };
        let stays = match replaces_landing {
            true => Money::ZERO,
            false if asked.landing.is_zero() || run != root => landing,
            false => landing.min(asked.landing),
        };
        let (replaced, moved) = (stays.minus(landing), MoneyDelta::from(stays));
        let root_key = AccountKey::Node { run: root, stage: None };
        let nodes = ledger.node_path(run, stage_of(asked)).into_iter().map(|key| {
            let shift = if key == root_key { replaced } else { MoneyDelta::ZERO };
            (key, shift)
        });
        let on_budgets = budgets.iter().map(|key| (key.clone(), if before.contains(key) { replaced } else { moved }));
        let shifts = nodes.chain(on_budgets).collect();
        let inside_reserve = lands && asked.amount <= landing;
        Self {
            root,
            below: run != root,
            shifts,
            landing,
            replaces_landing,
            inside_reserve,
            budgets,
            budgets_before: before,
        }
    }

    fn new_budgets(&self) -> Option<Vec<AccountKey>> {
        (self.budgets != self.budgets_before).then(|| self.budgets.to_vec())
    }

    /// The accounts on which R doesn't fit, each with the growth that was judged.
    fn shorts(&self, ledger: &Ledger, amount: Money) -> Shorts {
        let grown = self.shifts.iter().filter_map(|(key, shift)| Some((key, growth(amount, *shift)?)));
        grown
            .filter(|(key, growth)| !ledger.judged(key).takes(*growth))
            .map(|(key, growth)| (key.clone(), growth))
            .collect()
    }

    /// The largest R that fits on every account; as large as what it replaces is never a growth.
    fn room(&self, ledger: &Ledger) -> Money {
        let rooms = self.shifts.iter().map(|(key, shift)| {
            let account = ledger.judged(key);
            let free = account.cap.minus(account.settled.plus(account.held)).minus(*shift);
            let replaced = MoneyDelta::ZERO.minus(*shift);
            Money::from_pico(u128::try_from(free.max(replaced).pico()).unwrap_or(0))
        });
        rooms.min().unwrap_or_default()
    }

    /// The landing reserve after the write (rule 6): gone; raised where the money is there; lowered where a tighter bound
    /// of the last call wants less; else as it was.
    fn landing_after(&self, ledger: &Ledger, amount: Money, wanted: Money) -> Money {
        if self.replaces_landing || self.landing.is_zero() {
            return Money::ZERO;
        }
        if self.below {
            return self.landing;
        }
        let Some(raise) = wanted.checked_minus(self.landing) else {
            return if wanted.is_zero() { self.landing } else { wanted };
        };
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
    lowered.amount = asked.amount.checked_minus(Money::from_pico(fewer.checked_mul(rate)?))?;
    if let Call::Model(call) = &mut lowered.call {
        call.max_output_tokens = u32::try_from(output).ok()?;
    }
    Some(lowered)
}
