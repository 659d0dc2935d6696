//! Bugs planted in the ledger, each of which the judge must find: a judge that finds none of them proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::domain::audit::{AuditEntry, Change};
use plimsoll::domain::event::{AccountKey, CostSource, Event, Reserved, WaitBegan};
use plimsoll::domain::ledger::{Account, Ask, Decision, LedgerPolicy, Op, ReserveAsk, Verdict};
use plimsoll::ids::{PriceId, ReservationId, RunId};
use plimsoll::units::{Money, Timestamp};

use super::properties::{ordered_script, script};
use super::subject::{Honest, Subject};
use super::vocabulary::{id, money, reserved, settled, voided};
use super::world::{World, budgets};

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 400;
/// Seeds of an honest ledger.
const SEEDS_HONEST: u64 = 120;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    CheckAfterTheFact,
    DoubleSettle,
    VoidOnAnyError,
    EqualToCapRefused,
    CapPassedByOne,
    LandingNotReserved,
    RetryWithoutReservation,
    ReleasedOnRestart,
    ChildNotInItsAncestor,
    WaitsWhileHolding,
    OneOfTwoBudgets,
    FrozenPriceUsed,
    PlacesAfterCancel,
    ForgetsToWake,
    ChildAdmissionTakesRoot,
    StageForgotten,
    ParkHolds,
    PeriodNotTold,
    ChildForgottenOnRestart,
    PausedCallMade,
    ExceptionForgotten,
}

/// Each bug, with what the judge must say of it.
const BUGS: [(Bug, &str); 21] = [
    (Bug::CheckAfterTheFact, "promise 2"),
    (Bug::DoubleSettle, "invariant 3"),
    (Bug::VoidOnAnyError, "invariant 7"),
    (Bug::EqualToCapRefused, "rule 1:"),
    (Bug::CapPassedByOne, "promise 2"),
    (Bug::LandingNotReserved, "promise 13"),
    (Bug::RetryWithoutReservation, "promise 1:"),
    (Bug::ReleasedOnRestart, "invariant 7"),
    (Bug::ChildNotInItsAncestor, "invariant 3"),
    (Bug::WaitsWhileHolding, "rule 9"),
    (Bug::OneOfTwoBudgets, "invariant 3"),
    (Bug::FrozenPriceUsed, "rule 3"),
    (Bug::PlacesAfterCancel, "invariant 12"),
    (Bug::ForgetsToWake, "rule 10"),
    (Bug::ChildAdmissionTakesRoot, "invariant 3"),
    (Bug::StageForgotten, "invariant 3"),
    (Bug::ParkHolds, "rule 13"),
    (Bug::PeriodNotTold, "rule 14"),
    (Bug::ChildForgottenOnRestart, "rule 15"),
    (Bug::PausedCallMade, "switch"),
    (Bug::ExceptionForgotten, "rule 1:"),
];

/// A ledger with a bug.
struct Mutant {
    honest: Honest,
    bug: Bug,
    /// Attempts of child runs: each one's root, amount, bill, and whether it is open.
    children: BTreeMap<ReservationId, (RunId, Money, Money, bool)>,
    roots: BTreeMap<RunId, RunId>,
    settled: BTreeSet<ReservationId>,
}

impl Mutant {
    fn new(bug: Bug) -> Self {
        let honest = Honest::new(LedgerPolicy::default());
        Self { honest, bug, children: BTreeMap::new(), roots: BTreeMap::new(), settled: BTreeSet::new() }
    }

    /// What the ledger would say to the same op with its reservation changed.
    fn probe(&self, op: &Op, now: Timestamp, change: impl Fn(&mut ReserveAsk)) -> Option<Verdict> {
        let mut op = op.clone();
        op.asks.iter_mut().for_each(|ask| {
            if let Ask::Reserve(ask) = ask {
                change(ask);
            }
        });
        self.honest.clone().ledger.decide(op, now).verdicts.pop()
    }

    /// Grants what was refused, by booking it as a fact.
    fn force(&mut self, decision: &mut Decision, asked: &Reserved, now: Timestamp) {
        let reserved = Reserved { landing: self.landing_of(asked.reservation.run), ..asked.clone() };
        let fact = (asked.reservation.run, Event::Reserved(Box::new(reserved.clone())));
        let op = Op { run: asked.reservation.run, events: vec![fact], asks: Vec::new(), plan: None };
        let booked = self.honest.decide(op, now);
        decision.appended.extend(booked.appended);
        decision.notices.extend(booked.notices);
        decision.verdicts.pop();
        decision.verdicts.push(Verdict::Granted(Box::new(reserved)));
    }

    fn landing_of(&self, run: RunId) -> Money {
        let root = self.roots.get(&run).copied().unwrap_or(run);
        let kept = self.honest.ledger.holds().find(|hold| hold.landing && hold.root == root);
        kept.map_or(Money::ZERO, |hold| hold.amount)
    }

    fn learn_roots(&mut self, events: &[(RunId, Event)]) {
        for (run, event) in events {
            if let Event::Created(created) = event {
                self.roots.insert(*run, created.parent.as_ref().map_or(*run, |parent| parent.root));
            }
        }
    }

    fn remember(&mut self, decision: &Decision) {
        for (run, event) in &decision.appended {
            let root = self.roots.get(run).copied().unwrap_or(*run);
            if let Event::Reserved(reserved) = event
                && root != *run
            {
                self.children.insert(reserved.reservation, (root, reserved.amount, Money::ZERO, true));
            }
            if let Event::Settled(settled) = event {
                self.settled.insert(settled.reservation);
                if let Some(line) = self.children.get_mut(&settled.reservation).filter(|line| line.3) {
                    (line.2, line.3) = (settled.bill, false);
                }
            }
            if let Event::Voided(voided) = event {
                self.children.remove(&voided.reservation);
            }
        }
    }

    /// Moves the money of a settlement that was booked before once more, without a word.
    fn settle_again(&mut self, op: &Op, now: Timestamp) {
        for (run, event) in &op.events {
            let Event::Settled(again) = event else { continue };
            if self.settled.contains(&again.reservation) && !again.bill.is_zero() {
                let ghost = id(*run, again.reservation.number + 1_000);
                let purpose = plimsoll::domain::event::Purpose::Turn;
                let landing = self.landing_of(*run);
                let events = vec![
                    (*run, Event::Reserved(Box::new(reserved(ghost, again.bill, purpose, landing)))),
                    (*run, settled(ghost, again.bill, CostSource::Reported)),
                ];
                self.honest.decide(Op { run: *run, events, asks: Vec::new(), plan: None }, now);
            }
        }
    }

    fn distort_op(&mut self, op: &mut Op, now: Timestamp) {
        match self.bug {
            Bug::DoubleSettle => self.settle_again(op, now),
            Bug::VoidOnAnyError => {
                for (_, event) in &mut op.events {
                    if let Event::Settled(settled) = event
                        && settled.source == CostSource::Unknown
                    {
                        *event = voided(settled.reservation);
                    }
                }
            }
            Bug::LandingNotReserved => {
                for ask in &mut op.asks {
                    if let Ask::Admit(ask) = ask {
                        ask.landing = None;
                    }
                }
            }
            Bug::ChildAdmissionTakesRoot => {
                for (run, event) in &mut op.events {
                    if let (Event::Admitted(_), Some(root)) = (&*event, self.roots.get(run)) {
                        *run = *root;
                    }
                }
            }
            Bug::StageForgotten => {
                for (_, event) in &mut op.events {
                    if let Event::Created(created) = event {
                        created.stage_caps.clear();
                    }
                }
            }
            Bug::ParkHolds if op.events.iter().any(|(_, event)| matches!(event, Event::Parked(_))) => {
                op.events.retain(|(_, event)| !matches!(event, Event::LandingReleased(_)));
            }
            Bug::ParkHolds
            | Bug::EqualToCapRefused
            | Bug::CheckAfterTheFact
            | Bug::CapPassedByOne
            | Bug::RetryWithoutReservation
            | Bug::ReleasedOnRestart
            | Bug::ChildNotInItsAncestor
            | Bug::WaitsWhileHolding
            | Bug::OneOfTwoBudgets
            | Bug::FrozenPriceUsed
            | Bug::PlacesAfterCancel
            | Bug::ForgetsToWake
            | Bug::PeriodNotTold
            | Bug::PausedCallMade
            | Bug::ExceptionForgotten
            | Bug::ChildForgottenOnRestart => {}
        }
    }

    fn distort_answer(&mut self, op: &Op, decision: &mut Decision, now: Timestamp, before: &Self) {
        let asked = op.asks.iter().find_map(|ask| if let Ask::Reserve(ask) = ask { Some(&**ask) } else { None });
        let (Some(ask), Some(verdict)) = (asked, decision.verdicts.last().cloned()) else { return };
        let short = matches!(&verdict, Verdict::Short(short) if !short.own_tree);
        match self.bug {
            Bug::CheckAfterTheFact if short => self.force(decision, &ask.reserved, now),
            Bug::CapPassedByOne if short => {
                let one_less = |ask: &mut ReserveAsk| {
                    ask.reserved.amount = ask.reserved.amount.left_after(money(1));
                    ask.lower = None;
                };
                if matches!(before.probe(op, now, one_less), Some(Verdict::Granted(_))) {
                    self.force(decision, &ask.reserved, now);
                }
            }
            Bug::FrozenPriceUsed if matches!(verdict, Verdict::Frozen(_)) => self.force(decision, &ask.reserved, now),
            Bug::PausedCallMade if matches!(verdict, Verdict::Paused(_)) => self.force(decision, &ask.reserved, now),
            Bug::PlacesAfterCancel if verdict == Verdict::NotRunning => self.force(decision, &ask.reserved, now),
            Bug::RetryWithoutReservation if matches!(op.events.first(), Some((_, Event::Voided(_)))) => {
                decision.verdicts.pop();
                decision.verdicts.push(Verdict::Granted(Box::new(ask.reserved.clone())));
            }
            Bug::WaitsWhileHolding => {
                if let (Verdict::Short(short), Some(until)) = (&verdict, ask.wait_until)
                    && short.own_tree
                {
                    let began = WaitBegan { account: short.account.clone(), asked: short.asked, until };
                    decision.appended.push((op.run, Event::WaitBegan(began)));
                    decision.verdicts.pop();
                    decision.verdicts.push(Verdict::Waiting);
                }
            }
            Bug::CheckAfterTheFact
            | Bug::CapPassedByOne
            | Bug::FrozenPriceUsed
            | Bug::PlacesAfterCancel
            | Bug::RetryWithoutReservation
            | Bug::DoubleSettle
            | Bug::VoidOnAnyError
            | Bug::EqualToCapRefused
            | Bug::LandingNotReserved
            | Bug::ReleasedOnRestart
            | Bug::ChildNotInItsAncestor
            | Bug::OneOfTwoBudgets
            | Bug::ForgetsToWake
            | Bug::ChildAdmissionTakesRoot
            | Bug::StageForgotten
            | Bug::ParkHolds
            | Bug::PeriodNotTold
            | Bug::PausedCallMade
            | Bug::ExceptionForgotten
            | Bug::ChildForgottenOnRestart => {}
        }
    }
}

impl Subject for Mutant {
    fn decide(&mut self, mut op: Op, now: Timestamp) -> Decision {
        let said = op.events.clone();
        self.learn_roots(&op.events);
        self.distort_op(&mut op, now);
        let before = Self { honest: self.honest.clone(), roots: self.roots.clone(), ..Self::new(self.bug) };
        if self.bug == Bug::EqualToCapRefused && op.asks.len() == 1 {
            let one_more = |ask: &mut ReserveAsk| ask.reserved.amount = ask.reserved.amount.plus(money(1));
            let granted = matches!(self.probe(&op, now, |_| {}), Some(Verdict::Granted(_)));
            let full = self.probe(&op, now, one_more).filter(|_| granted);
            if let Some(refused @ Verdict::Short(_)) = full {
                op.asks.clear();
                let mut decision = self.honest.decide(op, now);
                decision.verdicts.push(refused);
                return decision;
            }
        }
        let mut decision = self.honest.decide(op.clone(), now);
        self.distort_answer(&op, &mut decision, now, &before);
        if self.bug == Bug::ForgetsToWake {
            self.sleep_on(&mut decision);
        }
        if self.bug == Bug::PeriodNotTold {
            decision.appended.retain(|(_, event)| !matches!(event, Event::PeriodMoved(_)));
        }
        if matches!(self.bug, Bug::ChildAdmissionTakesRoot | Bug::StageForgotten) {
            say_as_asked(&mut decision, &op.events, said);
        }
        self.remember(&decision);
        decision
    }

    fn set_policy(&mut self, mut policy: LedgerPolicy, now: Timestamp) -> Decision {
        if self.bug == Bug::OneOfTwoBudgets {
            policy.budgets.truncate(1);
        }
        self.honest.set_policy(policy, now)
    }

    fn tick(&mut self, now: Timestamp) -> Decision {
        self.honest.tick(now)
    }

    fn crash(&mut self, now: Timestamp) -> Decision {
        let mut released = Decision::default();
        if self.bug == Bug::ReleasedOnRestart {
            for hold in self.honest.open_attempts() {
                let run = hold.reservation.run;
                let op = Op { run, events: vec![(run, voided(hold.reservation))], asks: Vec::new(), plan: None };
                released.appended.extend(self.honest.decide(op, now).appended);
            }
        }
        let mut decision = self.honest.crash(now);
        if self.bug == Bug::ChildForgottenOnRestart {
            let is_root = |run: &RunId| self.roots.get(run).is_none_or(|root| root == run);
            decision.appended.retain(|(run, event)| !matches!(event, Event::Interrupted(_)) || is_root(run));
        }
        released.appended.extend(decision.appended);
        self.remember(&released);
        released
    }

    fn heed(&mut self, entry: &AuditEntry, now: Timestamp) -> Decision {
        if self.bug == Bug::ExceptionForgotten && matches!(entry.change, Change::ExceptionApproved(_)) {
            return Decision::default();
        }
        let decision = self.honest.heed(entry, now);
        self.remember(&decision);
        decision
    }

    fn unfreeze(&mut self, price: &PriceId) {
        self.honest.unfreeze(price);
    }

    fn accounts(&self) -> BTreeMap<AccountKey, Account> {
        let mut accounts = self.honest.accounts();
        if self.bug == Bug::ChildNotInItsAncestor {
            for (root, amount, bill, open) in self.children.values() {
                let Some(account) = accounts.get_mut(&AccountKey::Node { run: *root, stage: None }) else { continue };
                account.settled = account.settled.left_after(*bill);
                account.held = account.held.left_after(if *open { *amount } else { Money::ZERO });
            }
        }
        accounts
    }

    fn frozen(&self) -> BTreeSet<PriceId> {
        self.honest.frozen()
    }
}

impl Mutant {
    /// Takes back what the last write did for those who wait: as if nobody had been offered the freed money.
    fn sleep_on(&mut self, decision: &mut Decision) {
        let granted = |notice: &plimsoll::domain::ledger::Notice| {
            matches!(notice, plimsoll::domain::ledger::Notice::Granted(_) | plimsoll::domain::ledger::Notice::Stalled)
        };
        let woken: Vec<RunId> =
            decision.notices.iter().filter(|(_, notice)| granted(notice)).map(|(run, _)| *run).collect();
        decision.notices.retain(|(_, notice)| !granted(notice));
        decision.appended.retain(|(run, event)| !woken.contains(run) || !matches!(event, Event::WaitEnded(_)));
    }
}

/// The log says what was asked for, whatever was booked.
fn say_as_asked(decision: &mut Decision, booked: &[(RunId, Event)], said: Vec<(RunId, Event)>) {
    for (booked, said) in booked.iter().zip(said) {
        if let Some(entry) = decision.appended.iter_mut().find(|entry| *entry == booked) {
            *entry = said;
        }
    }
}

/// The first seed whose script makes the judge say so.
fn caught(bug: Bug, said: &str) -> Option<u64> {
    (0..SEEDS_MAX).find(|seed| {
        let is_ordered = matches!(bug, Bug::PausedCallMade | Bug::ExceptionForgotten);
        let (caps, commands) = if is_ordered { ordered_script(*seed) } else { script(*seed) };
        let mut world = World::new(Mutant::new(bug), budgets(caps));
        world.play(&commands);
        world.judge.faults.iter().any(|fault| fault.starts_with(said))
    })
}

#[test]
fn every_planted_bug_is_caught() {
    for (bug, said) in BUGS {
        assert!(caught(bug, said).is_some(), "{bug:?} isn't found within {SEEDS_MAX} seeds");
    }
}

#[test]
fn the_ledger_without_a_bug_is_left_in_peace() {
    for seed in 0..SEEDS_HONEST {
        let (caps, commands) = script(seed);
        let mut world = World::new(Honest::new(LedgerPolicy::default()), budgets(caps));
        world.play(&commands);
        assert!(world.judge.faults.is_empty(), "seed {seed}: {:#?}", world.judge.faults);
    }
}
