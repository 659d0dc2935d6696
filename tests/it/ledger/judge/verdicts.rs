//! Were the asks answered rightly? A no must be a real no, and a yes is judged by the caps.

use plimsoll::domain::event::{AccountKey, Event, Purpose, Reserved};
use plimsoll::domain::ledger::{AdmitAsk, Ask, Decision, Op, ReserveAsk, Verdict};
use plimsoll::ids::RunId;
use plimsoll::units::Money;

use super::super::vocabulary::{OUTPUT, OUTPUT_MIN, money, output_of, price_of, purpose_of};
use super::{Judge, LineState};

impl Judge {
    /// By how much `held` would grow on each account of the path; an account that wouldn't grow isn't judged.
    fn growths(&self, reserved: &Reserved, amount: Money) -> Vec<(AccountKey, Money)> {
        let run = reserved.reservation.run;
        let root = self.root(run);
        let purpose = purpose_of(reserved);
        let replaces = root == run && matches!(purpose, Some(Purpose::Last | Purpose::Landing));
        let landing = self.runs.get(&root).and_then(|seen| seen.landing).and_then(|id| self.lines.get(&id));
        let landing = landing.filter(|line| line.state == LineState::Open);
        let lands = replaces && purpose == Some(Purpose::Landing);
        let path = landing
            .filter(|_| lands)
            .map_or_else(|| self.path(run, &reserved.step.stage), |line| line.accounts.clone());
        let root_key = AccountKey::Node { run: root, stage: None };
        let grown = path.into_iter().filter_map(|key| {
            let there = landing.is_some_and(|line| line.accounts.contains(&key));
            let moves = landing.is_some() && !there && (key == root_key || matches!(key, AccountKey::Budget { .. }));
            let kept = landing.map_or(Money::ZERO, |line| line.amount);
            match (replaces, there, moves) {
                (true, true, _) if amount <= kept => None,
                (true, true, _) => Some((key, amount.left_after(kept))),
                (false, _, true) => Some((key, amount.plus(kept))),
                _ => Some((key, amount)),
            }
        });
        grown.collect()
    }

    pub(super) fn shorts(&self, reserved: &Reserved, amount: Money) -> Vec<AccountKey> {
        let grown = self.growths(reserved, amount).into_iter();
        grown
            .filter(|(key, growth)| {
                let sums = self.accounts.get(key).copied().unwrap_or_default();
                sums.settled.plus(sums.held).plus(*growth) > self.cap(key)
            })
            .map(|(key, _)| key)
            .collect()
    }

    /// A no must be a real no, and a yes is judged by the caps (rules 1, 9, 11 and 13).
    pub(super) fn asks_are_answered_rightly(&mut self, op: Option<&Op>, decision: &Decision) {
        let Some(op) = op else { return };
        for (ask, verdict) in op.asks.iter().zip(&decision.verdicts) {
            match ask {
                Ask::Reserve(ask) => self.reserve_is_right(op.run, ask, verdict, decision),
                Ask::Admit(ask) => {
                    self.turned_away_rightly(op.run, ask, verdict);
                    let granted = decision.appended.iter().find_map(|(run, event)| {
                        if let Event::Admitted(admitted) = event { (*run == op.run).then_some(admitted) } else { None }
                    });
                    if let (Verdict::Admitted(_), Some(admitted)) = (verdict, granted) {
                        let same = admitted.landing == ask.landing;
                        self.require(same, || format!("promise 13: {} is admitted without its reserve", op.run));
                    }
                }
                Ask::EndWait(_) => {}
            }
        }
    }

    fn reserve_is_right(&mut self, root: RunId, ask: &ReserveAsk, verdict: &Verdict, decision: &Decision) {
        let asked = &ask.reserved;
        let id = asked.reservation;
        let frozen = price_of(asked).is_some_and(|price| self.frozen.contains(&price));
        let seen = self.runs.get(&root).cloned();
        let runs = seen.is_some_and(|seen| seen.admitted && !seen.cancelled && !seen.ended)
            && self.runs.get(&id.run).is_some_and(|seen| !seen.ended);
        match verdict {
            Verdict::Granted(granted) => {
                let appended = decision.appended.iter().any(|(run, event)| {
                    *run == id.run && matches!(event, Event::Reserved(reserved) if reserved == granted)
                });
                self.require(appended, || format!("promise 4: {id} is granted, and no event says so"));
                self.require(!frozen, || format!("rule 3: {id} is granted at a frozen price"));
                self.require(!self.is_held(root), || format!("switch: {id} is granted past one"));
                self.lowered_rightly(asked, granted);
            }
            Verdict::Short(_) | Verdict::Waiting => {
                self.require(runs && !frozen, || format!("{id} is short though it may not ask"));
                let fewer = if ask.lower.is_some() { u64::from(output_of(asked) - OUTPUT_MIN) } else { 0 };
                let least = asked.amount.left_after(money(fewer));
                let queues = self.waits.contains_key(&root);
                let short = !self.shorts(asked, least).is_empty();
                self.require(short || queues, || format!("rule 1: {id} of {} is refused and would fit", asked.amount));
                if *verdict == Verdict::Waiting {
                    self.require(ask.wait_until.is_some(), || format!("{id} waits and never said that it would"));
                }
                let lands = purpose_of(asked) == Some(Purpose::Landing);
                let inside = self.landing_of(root).is_some_and(|landing| asked.amount <= landing);
                self.require(!lands || !inside, || format!("promise 13: {root} can't land"));
            }
            Verdict::Paused(_) => self.require(self.is_held(root), || format!("{id} is held by no switch")),
            Verdict::Frozen(_) => self.require(frozen, || format!("{id} is refused at a price that isn't frozen")),
            Verdict::NotRunning => self.require(!runs, || format!("{id} is refused, and its run runs")),
            Verdict::Admitted(_)
            | Verdict::Queued
            | Verdict::TurnedAway(_)
            | Verdict::Behind
            | Verdict::WaitEnded
            | Verdict::NotWaiting => self.faults.push(format!("{id} asked for money and got {verdict:?}")),
        }
    }

    /// Rule 9d: one pico-dollar for each token less, in the request as in the reservation.
    fn lowered_rightly(&mut self, asked: &Reserved, granted: &Reserved) {
        let fewer = asked.amount.left_after(granted.amount);
        let tokens = u128::from(OUTPUT.saturating_sub(output_of(granted)));
        let right = granted.amount <= asked.amount && fewer.pico() == tokens && output_of(granted) >= OUTPUT_MIN;
        self.require(right, || format!("rule 9d: {asked:?} was lowered to {granted:?}"));
    }

    /// Rule 7: only what doesn't fit where nobody else could free money is turned away, or what may not be called.
    fn turned_away_rightly(&mut self, root: RunId, ask: &AdmitAsk, verdict: &Verdict) {
        let Verdict::TurnedAway(refusal) = verdict else { return };
        let first = ask.first.as_ref();
        let frozen =
            first.and_then(|first| price_of(&first.reserved)).is_some_and(|price| self.frozen.contains(&price));
        let fewer = first.filter(|first| first.lower.is_some()).map_or(0, |_| u64::from(OUTPUT - OUTPUT_MIN));
        let landing = ask.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
        let need = landing.plus(ask.bound.left_after(money(fewer)));
        let alone = |key: &AccountKey| {
            let open = self.lines.values().filter(|line| line.state == LineState::Open && !line.amount.is_zero());
            !open.filter(|line| line.root != root).any(|line| line.accounts.contains(key))
        };
        let hopeless = self.landing_path(root).into_iter().filter(alone).any(|key| {
            let sums = self.accounts.get(&key).copied().unwrap_or_default();
            sums.settled.plus(sums.held).plus(need) > self.cap(&key)
        });
        self.require(hopeless || frozen, || format!("rule 7: {root} is turned away and may yet fit: {refusal}"));
    }
}
