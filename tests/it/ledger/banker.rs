//! Why the banker (the table at the end of LEDGER.md): runs of four calls, $0.0098 each, share a budget that can pay for
//! few of them. The ledger is driven as a runtime would: the settlement and the next reservation in one op; short of
//! money, wait 30 s; then fewer output tokens; else land. Times come from a seed. Deliberately absent: prices and real time.

use std::collections::BTreeMap;

use plimsoll::domain::budget::Period;
use plimsoll::domain::event::{AccountKey, CostSource, EndState, Event, LandingBegan, Purpose, Reserved, WaitEnd};
use plimsoll::domain::ledger::{Ask, Decision, Ledger, LedgerPolicy, Lower, Notice, Op, ReserveAsk, Snapshot, Verdict};
use plimsoll::domain::limits::{Declared, LimitKind, Refusal};
use plimsoll::ids::RunId;
use plimsoll::units::{Money, Timestamp, TokenPrice};

use super::vocabulary::{Birth, OUTPUT, admit, at_once, budget, created, ended, id, labels, run, settled};

/// What one call costs: four of them are $0.0098.
const COST: Money = Money::from_micro(2_450);
const CALLS: u32 = 4;
const SEEDS: u64 = 20;
const BUDGET_WAIT: u64 = 30_000;

/// What is played: amounts in micro-dollars, the bound in tenths of a call's cost.
#[derive(Clone, Copy)]
struct Setting {
    cap: u64,
    runs: u32,
    bound: u64,
    /// Of the true cost, in tenths.
    expected: u64,
}

enum Next {
    /// The call in flight answers.
    Answer(u32),
    /// The wait for budget has lasted long enough; stale where the run has waited anew since.
    Expire(u32),
}

#[derive(Default)]
struct Clerk {
    /// Calls settled.
    made: u32,
    number: u32,
    call: Option<Reserved>,
    ask: Option<ReserveAsk>,
    waits_since: Option<u64>,
}

struct Office {
    ledger: Ledger,
    setting: Setting,
    clerks: Vec<Clerk>,
    agenda: BTreeMap<(u64, u64), Next>,
    tickets: u64,
    random: u64,
    now: u64,
    finished: u32,
}

impl Office {
    fn new(setting: Setting, seed: u64) -> Self {
        let cap = budget("all", setting.cap * 1_000_000, Period::Total, &[], &[]);
        let ledger = Ledger::restore(LedgerPolicy { budgets: vec![cap], alerts: Vec::new() }, Snapshot::default());
        let clerks = (0..setting.runs).map(|_| Clerk { number: 1, ..Clerk::default() }).collect();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { ledger, setting, clerks, agenda: BTreeMap::new(), tickets: 0, random, now: 0, finished: 0 }
    }

    /// All runs arrive at once; gives how many finished.
    fn open(mut self) -> u32 {
        for clerk in 0..self.setting.runs {
            self.arrive(clerk);
        }
        while let Some(((at, _), next)) = self.agenda.pop_first() {
            self.now = at;
            match next {
                Next::Answer(clerk) => self.answer(clerk),
                Next::Expire(clerk) => self.expire(clerk),
            }
        }
        assert!(self.ledger.holds().next().is_none(), "everything has ended");
        let all = self.ledger.accounts().find(|(key, _)| matches!(key, AccountKey::Budget { .. }));
        let all = all.expect("the budget's account").1;
        assert!(all.settled <= all.cap, "promise 2: {} of {}", all.settled, all.cap);
        self.finished
    }

    fn bound(&self) -> Money {
        Money::from_pico(COST.pico() * u128::from(self.setting.bound) / 10)
    }

    fn arrive(&mut self, clerk: u32) {
        let birth = Birth {
            labels: labels(&[("tenant", "acme")]),
            cap: Money::from_micro(250_000),
            load_line: Money::from_micro(250_000),
            expected: Some(Money::from_pico(COST.pico() * u128::from(CALLS) * u128::from(self.setting.expected) / 10)),
            foreseen: None,
            parent: None,
            stage_caps: Default::default(),
        };
        let first = self.call(clerk, Purpose::Turn, self.bound());
        // The first call may be made cheaper where nobody else could free money.
        let first = ReserveAsk { lower: Some(self.lower()), ..at_once(first) };
        let asks = vec![Ask::Admit(admit(Some((id(root(clerk), 0), self.bound())), first))];
        let decision = self.op(clerk, vec![created(birth)], asks);
        match decision.verdicts.into_iter().next() {
            Some(Verdict::Admitted(Some(first))) => self.send(clerk, *first),
            Some(Verdict::Queued) => {}
            Some(Verdict::TurnedAway(_)) => drop(self.op(clerk, vec![ended(EndState::Stopped)], Vec::new())),
            other => unreachable!("{other:?}"),
        }
        self.tell(decision.notices);
    }

    fn call(&mut self, clerk: u32, purpose: Purpose, amount: Money) -> Reserved {
        let number = self.clerks[clerk as usize].number;
        self.clerks[clerk as usize].number += 1;
        super::vocabulary::reserved(id(root(clerk), number), amount, purpose, self.bound())
    }

    /// Output is a third of the bound; half of it may be left out.
    fn lower(&self) -> Lower {
        let rate = u64::try_from(self.bound().pico()).expect("a small bound") / 3 / u64::from(OUTPUT);
        Lower { rate: TokenPrice::from_pico(rate), output_min: OUTPUT / 2 }
    }

    fn op(&mut self, clerk: u32, events: Vec<Event>, asks: Vec<Ask>) -> Decision {
        let events = events.into_iter().map(|event| (root(clerk), event)).collect();
        self.ledger.decide(Op { run: root(clerk), events, asks, plan: None }, Timestamp(self.now))
    }

    fn at(&mut self, delay: u64, next: Next) {
        self.tickets += 1;
        self.agenda.insert((self.now + delay, self.tickets), next);
    }

    fn send(&mut self, clerk: u32, call: Reserved) {
        // xorshift: latencies between half a second and one and a half. Where calls take three times as long, a few more
        // of 256 runs wait longer than `budget_wait`, and land.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.clerks[clerk as usize].call = Some(call);
        self.at(500 + self.random % 1_000, Next::Answer(clerk));
    }

    fn answer(&mut self, clerk: u32) {
        let call = self.clerks[clerk as usize].call.take().expect("a call in flight");
        let lands = super::vocabulary::purpose_of(&call) == Some(Purpose::Landing);
        let bill = COST.min(call.amount);
        let paid = settled(call.reservation, bill, CostSource::Reported);
        self.clerks[clerk as usize].made += 1;
        if lands || self.clerks[clerk as usize].made == CALLS {
            self.finished += u32::from(!lands);
            let state = if lands { EndState::Stopped } else { EndState::Finished };
            let decision = self.op(clerk, vec![paid, ended(state)], Vec::new());
            return self.tell(decision.notices);
        }
        let next = self.call(clerk, Purpose::Turn, self.bound());
        let ask = ReserveAsk { wait_until: Some(Timestamp(self.now + BUDGET_WAIT)), ..at_once(next) };
        self.clerks[clerk as usize].ask = Some(ask.clone());
        let decision = self.op(clerk, vec![paid], vec![Ask::Reserve(Box::new(ask))]);
        self.hear(clerk, decision);
    }

    fn hear(&mut self, clerk: u32, mut decision: Decision) {
        match decision.verdicts.pop() {
            Some(Verdict::Granted(granted)) => self.send(clerk, *granted),
            Some(Verdict::Waiting) => {
                self.clerks[clerk as usize].waits_since = Some(self.now);
                self.at(BUDGET_WAIT, Next::Expire(clerk));
            }
            Some(Verdict::Short(_)) => {
                self.tell(std::mem::take(&mut decision.notices));
                self.go_cheaper(clerk, false);
            }
            Some(Verdict::NotWaiting) | None => {}
            other => unreachable!("{other:?}"),
        }
        self.tell(decision.notices);
    }

    /// Rule 9d, and then 9e.
    fn go_cheaper(&mut self, clerk: u32, expired: bool) {
        let lower = Some(self.lower());
        let state = &mut self.clerks[clerk as usize];
        state.waits_since = None;
        let ask = ReserveAsk { lower, wait_until: None, ..state.ask.clone().expect("an ask") };
        let mut asks = if expired { vec![Ask::EndWait(WaitEnd::Expired)] } else { Vec::new() };
        asks.push(Ask::Reserve(Box::new(ask)));
        let mut decision = self.op(clerk, Vec::new(), asks);
        if let Some(Verdict::Granted(granted)) = decision.verdicts.pop() {
            self.send(clerk, *granted);
            return self.tell(decision.notices);
        }
        self.tell(decision.notices);
        let landing = self.call(clerk, Purpose::Landing, self.bound());
        let began = Event::LandingBegan(LandingBegan { refusal: short_of_money() });
        let decision = self.op(clerk, vec![began], vec![Ask::Reserve(Box::new(at_once(landing)))]);
        assert!(matches!(decision.verdicts.first(), Some(Verdict::Granted(_))), "promise 13: it lands");
        self.hear(clerk, decision);
    }

    fn expire(&mut self, clerk: u32) {
        if self.clerks[clerk as usize].waits_since.is_some_and(|since| since + BUDGET_WAIT <= self.now) {
            self.go_cheaper(clerk, true);
        }
    }

    fn tell(&mut self, notices: Vec<(RunId, Notice)>) {
        for (told, notice) in notices {
            let clerk = u32::try_from(told.bits() - 1).expect("a clerk's number");
            match notice {
                Notice::Admitted(first) => self.send(clerk, *first.expect("the first call")),
                Notice::Granted(granted) => {
                    self.clerks[clerk as usize].waits_since = None;
                    self.send(clerk, *granted);
                }
                Notice::Stalled => self.go_cheaper(clerk, false),
                Notice::TurnedAway(_) => {
                    let decision = self.op(clerk, vec![ended(EndState::Stopped)], Vec::new());
                    self.tell(decision.notices);
                }
            }
        }
    }
}

fn root(clerk: u32) -> RunId {
    run(u128::from(clerk) + 1)
}

fn short_of_money() -> Refusal {
    Refusal {
        limit: LimitKind::Budget,
        subject: Some("all".into()),
        value: "$0.10".into(),
        observed: "nothing left".into(),
        declared: Declared::Default,
    }
}

/// The median of what some seeds finish.
fn median(setting: Setting, seeds: u64) -> u32 {
    let mut finished: Vec<u32> = (0..seeds).map(|seed| Office::new(setting, seed).open()).collect();
    finished.sort_unstable();
    finished[finished.len() / 2]
}

#[test]
fn ten_cents_finish_nine_runs_of_ten() {
    for (bound, expected) in [(13, 10), (20, 10), (13, 20), (20, 20)] {
        let finished = median(Setting { cap: 100_000, runs: 50, bound, expected }, SEEDS);
        assert!(finished >= 9, "{finished} of 10 at {bound}/10 of the cost, expecting {expected}/10");
    }
}

#[test]
fn a_dollar_finishes_ninety_nine_runs_of_a_hundred_and_two() {
    for bound in [13, 20] {
        let finished = median(Setting { cap: 1_000_000, runs: 256, bound, expected: 10 }, SEEDS);
        assert!(finished >= 99, "{finished} of 102 at {bound}/10 of the cost");
    }
}

/// Without the banker's foresight the same money finishes few: the measure above isn't met by chance.
#[test]
fn an_expectation_that_is_too_low_finishes_fewer() {
    let low = median(Setting { cap: 1_000_000, runs: 256, bound: 13, expected: 5 }, 3);
    assert!(low < 90, "{low} of 102");
}
