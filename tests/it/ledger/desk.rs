//! A desk to try single commands at: a ledger, a day, and runs that are numbered by age.

use plimsoll::domain::budget::Budget;
use plimsoll::domain::event::{AccountKey, CostSource, EndState, Event, Parent, Purpose, Reserved};
use plimsoll::domain::ledger::{
    Account, AdmitAsk, Ask, Decision, Ledger, LedgerPolicy, Notice, Op, ReserveAsk, Short, Snapshot, Verdict,
};
use plimsoll::domain::limits::LimitKind;
use plimsoll::ids::RunId;
use plimsoll::units::{Money, Timestamp};

use super::vocabulary::{
    Birth, DAY, admit, at_once, created, ended, id, labels, money, patient, reserved, run, settled,
};

/// Noon of the tenth day.
pub(super) const NOON: Timestamp = Timestamp(10 * DAY + DAY / 2);

pub(super) struct Desk {
    pub(super) ledger: Ledger,
    pub(super) now: Timestamp,
}

/// How a run is born; amounts in pico-dollars.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) tenant: &'static str,
    pub(super) cap: u64,
    pub(super) expected: Option<u64>,
    pub(super) foreseen: Option<u64>,
    pub(super) landing: u64,
    pub(super) first: u64,
}

/// A run that expects next to nothing, so that the banker lets it start.
pub(super) const MODEST: Wish =
    Wish { tenant: "acme", cap: 1_000, expected: Some(0), foreseen: None, landing: 10, first: 20 };

impl Desk {
    pub(super) fn new(budgets: Vec<Budget>) -> Self {
        Self::with_costs(budgets, Vec::new())
    }

    /// With what runs of the agent cost before.
    pub(super) fn with_costs(budgets: Vec<Budget>, costs: Vec<u64>) -> Self {
        let rings = vec![("clerk".into(), costs.into_iter().map(money).collect())];
        let snapshot = Snapshot { rings, ..Snapshot::default() };
        Self { ledger: Ledger::restore(LedgerPolicy { budgets, alerts: Vec::new() }, snapshot), now: NOON }
    }

    pub(super) fn op(&mut self, run: RunId, events: Vec<Event>, asks: Vec<Ask>) -> Decision {
        let events = events.into_iter().map(|event| (run, event)).collect();
        self.ledger.decide(Op { run, events, asks, plan: None }, self.now)
    }

    /// Creates run `number` and asks to admit it, with landing reserve 0 and first call 1.
    pub(super) fn arrive(&mut self, number: u32, wish: Wish) -> Verdict {
        let landing = (wish.landing > 0).then(|| (id(root(number), 0), money(wish.landing)));
        let first = at_once(call(number, 1, wish.first, wish.landing));
        self.arrive_with(number, wish, admit(landing, first))
    }

    pub(super) fn arrive_with(&mut self, number: u32, wish: Wish, ask: AdmitAsk) -> Verdict {
        let birth = Birth {
            labels: labels(&[("tenant", wish.tenant)]),
            cap: money(wish.cap),
            load_line: money(wish.cap),
            expected: wish.expected.map(money),
            foreseen: wish.foreseen.map(money),
            parent: None,
            stage_caps: Default::default(),
        };
        verdict(self.op(root(number), vec![created(birth)], vec![Ask::Admit(ask)]))
    }

    /// A child of run `parent`, with number `number` among all children.
    pub(super) fn child(&mut self, number: u32, parent: RunId, of: RunId, cap: u64) -> RunId {
        let child = run(1_000 + u128::from(number));
        let birth = Birth {
            labels: labels(&[]),
            cap: money(cap),
            load_line: money(cap),
            expected: None,
            foreseen: None,
            parent: Some(Parent { root: of, run: parent, stage: "main".into() }),
            stage_caps: Default::default(),
        };
        let events = vec![(child, created(birth))];
        self.ledger.decide(Op { run: of, events, asks: Vec::new(), plan: None }, self.now);
        child
    }

    pub(super) fn reserve(&mut self, root: RunId, ask: ReserveAsk) -> Verdict {
        verdict(self.op(root, Vec::new(), vec![Ask::Reserve(Box::new(ask))]))
    }

    /// Run `number` asks for `amount`, ready to wait.
    pub(super) fn patiently(&mut self, number: u32, attempt: u32, amount: u64) -> Verdict {
        let until = self.now.0 + 30_000;
        self.reserve(root(number), patient(call(number, attempt, amount, 0), until))
    }

    pub(super) fn settle(&mut self, number: u32, attempt: u32, bill: u64) -> Decision {
        let paid = settled(id(root(number), attempt), money(bill), CostSource::Reported);
        self.op(root(number), vec![paid], Vec::new())
    }

    pub(super) fn end(&mut self, number: u32) -> Decision {
        self.op(root(number), vec![ended(EndState::Finished)], Vec::new())
    }

    /// Settled and held of a budget without `each`, in its latest period.
    pub(super) fn budget(&self, name: &str) -> (u64, u64) {
        let named = |key: &AccountKey| matches!(key, AccountKey::Budget { budget, .. } if budget.as_str() == name);
        self.ledger.accounts().filter(|(key, _)| named(key)).last().map_or((0, 0), |(_, account)| sums(account))
    }

    /// Settled and held of a run.
    pub(super) fn node(&self, run: RunId) -> (u64, u64) {
        self.ledger.account(&AccountKey::Node { run, stage: None }).map_or((0, 0), sums)
    }
}

pub(super) fn sums(account: &Account) -> (u64, u64) {
    (pico(account.settled), pico(account.held))
}

pub(super) fn pico(amount: Money) -> u64 {
    u64::try_from(amount.pico()).expect("a small amount")
}

pub(super) fn root(number: u32) -> RunId {
    run(u128::from(number))
}

/// A turn of run `number`; `landing` is the reserve that is wanted after it.
pub(super) fn call(number: u32, attempt: u32, amount: u64, landing: u64) -> Reserved {
    reserved(id(root(number), attempt), money(amount), Purpose::Turn, money(landing))
}

pub(super) fn verdict(mut decision: Decision) -> Verdict {
    decision.verdicts.pop().expect("an answer")
}

pub(super) fn granted(verdict: &Verdict) -> &Reserved {
    let (Verdict::Granted(granted) | Verdict::Admitted(Some(granted))) = verdict else {
        unreachable!("{verdict:?} isn't granted")
    };
    granted
}

pub(super) fn short(verdict: &Verdict) -> &Short {
    let Verdict::Short(short) = verdict else { unreachable!("{verdict:?} isn't short") };
    short
}

/// The limit that turned a run away, or refused a call.
pub(super) fn limit(verdict: &Verdict) -> LimitKind {
    let (Verdict::TurnedAway(refusal) | Verdict::Frozen(refusal)) = verdict else {
        unreachable!("{verdict:?} is no refusal")
    };
    refusal.limit
}

/// Who was told what, by the run's number.
pub(super) fn news(decision: &Decision) -> Vec<(u32, &'static str)> {
    let told = decision.notices.iter().map(|(run, notice)| {
        let what = match notice {
            Notice::Admitted(_) => "admitted",
            Notice::TurnedAway(_) => "turned away",
            Notice::Granted(_) => "granted",
            Notice::Stalled => "stalled",
        };
        (u32::try_from(run.bits()).expect("a small number"), what)
    });
    told.collect()
}
