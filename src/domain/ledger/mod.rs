//! The ledger: reserve, settle, void, admit, wait, land (LEDGER.md, rule by rule).
//!
//! [`Ledger::decide`] takes one run's [`Op`]: facts, which are booked whatever they say, and asks, which may be refused.
//! It answers with the events to append, in order; the state in memory has them already. The store writes them in one
//! durable write before anybody is told.
//!
//! Invariants: a write that raises `held` leaves settled + held ≤ cap on every account of the path; nothing is released
//! without a fact that says so. Deliberately absent: clock, IO, prices, and what a run does with a refusal.

mod account;
mod admit;
mod alerts;
mod apply;
mod expectation;
mod judge;
mod own;
mod period;
mod stored;
mod switched;
mod wait;

pub use account::{Account, Hold, RunMoney, ShadowSums, Shadowed};
pub use own::OwnAccounts;
pub use stored::{Dirty, Frozen, Snapshot};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::alert::{Alert, AlertRule};
use crate::domain::audit::{AuditEntry, PriceFrozen};
use crate::domain::budget::Budget;
use crate::domain::event::{AccountKey, Admitted, Event, Labels, Landing, Reserved, RunState, WaitEnd, WaitEnded};
use crate::domain::exception::Exceptions;
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::plan::Plan;
use crate::domain::policy::Share;
use crate::domain::switch::Switches;
use crate::ids::{AgentName, PriceId, ReservationId, RunId, StageName};
use crate::units::{Money, Timestamp, TokenPrice};
use expectation::Ring;

/// Runs that may wait in `queued` at once.
pub const QUEUE_MAX: usize = 10_000;

/// What one run asks of the store in one atomic write.
#[derive(Clone, Debug)]
pub struct Op {
    /// The root of the tree that asks.
    pub run: RunId,
    /// Facts, each with the run whose log it belongs to. Never refused.
    pub events: Vec<(RunId, Event)>,
    /// Judged after the facts, in order.
    pub asks: Vec<Ask>,
    /// The plan to store with the run's creation.
    pub plan: Option<Arc<Plan>>,
}

/// Something that may be refused.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Start, or go on after an interruption or a wait for a person (rule 7). Replaces an earlier ask of a queued run.
    Admit(AdmitAsk),
    /// Set money aside for an attempt (rules 1, 9, 11, 12, 14).
    Reserve(Box<ReserveAsk>),
    /// Give up the wait for budget.
    EndWait(WaitEnd),
}

/// See [`Ask::Admit`].
#[derive(Clone, Debug)]
pub struct AdmitAsk {
    /// The landing reserve to place; `None` where none is kept.
    pub landing: Option<Landing>,
    /// The bound of the first call, for the banker's test.
    pub bound: Money,
    /// The first call, if it is ready.
    pub first: Option<Box<ReserveAsk>>,
    /// True where the first call waits for rate limits: it is judged as if it could go now, and reserved once it can.
    pub first_waits: bool,
    /// True where a tighter ask follows if this one can't start at once: then the run takes no place in the queue, so
    /// that no news of this ask can cross the next one.
    pub provisional: bool,
}

/// See [`Ask::Reserve`].
#[derive(Clone, Debug)]
pub struct ReserveAsk {
    /// The event to append if granted. Its `landing` is the wanted landing reserve; the ledger writes what came of it.
    pub reserved: Reserved,
    /// How the call may be made cheaper (rule 9d); `None` where it may not, or not yet.
    pub lower: Option<Lower>,
    /// Until when the run may wait for budget (rule 9b); `None` where it goes on at once.
    pub wait_until: Option<Timestamp>,
}

/// A call's worst case falls by `rate` for each output token that is not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lower {
    /// The price of one output token in the worst case.
    pub rate: TokenPrice,
    /// The fewest output tokens worth asking for.
    pub output_min: u32,
}

/// What came of an ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Admitted, with the first call's reservation if there was one.
    Admitted(Option<Box<Reserved>>),
    /// Waits to start.
    Queued,
    /// Will not start: `limit` says why.
    TurnedAway(Refusal),
    /// The attempt may start, as this event says.
    Granted(Box<Reserved>),
    /// No money, and the run doesn't wait.
    Short(Short),
    /// The run waits for budget.
    Waiting,
    /// Not judged: an earlier ask of the same op was not placed.
    Behind,
    /// The attempt may not be made whatever the money: its price row is frozen, which bars the landing call too; or a budget
    /// counts by a label that the run hasn't, which doesn't.
    Frozen(Refusal),
    /// A switch holds the run: no call is made until it is lifted.
    Paused(Refusal),
    /// The wait is over.
    WaitEnded,
    /// There was no wait to end: a notice is on its way.
    NotWaiting,
    /// The run isn't admitted, has ended, or was asked to end: nothing is placed in its tree.
    NotRunning,
}

/// News for a run that waited.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// It may start; as [`Verdict::Admitted`].
    Admitted(Option<Box<Reserved>>),
    /// It will not start.
    TurnedAway(Refusal),
    /// The money came.
    Granted(Box<Reserved>),
    /// Nobody else could free money: go on at rule 9c.
    Stalled,
}

/// Where money is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// The account.
    pub account: AccountKey,
    /// Its cap.
    pub cap: Money,
    /// What is settled.
    pub settled: Money,
    /// What is held.
    pub held: Money,
    /// By how much `held` would have grown.
    pub asked: Money,
    /// True where attempts of the same tree hold money there, or wait for it (rule 9a): queue in the tree.
    pub own_tree: bool,
    /// Where the cap is declared, for budgets.
    pub declared: Option<Declared>,
}

impl Short {
    /// The refusal that people see. `declared` says where the run's own `cost` limit stands.
    #[must_use]
    pub fn refusal(&self, declared: Declared) -> Refusal {
        let (limit, subject) = match &self.account {
            AccountKey::Node { stage: None, .. } => (LimitKind::Cost, None),
            AccountKey::Node { stage: Some(stage), .. } => (LimitKind::Cost, Some(format!("stage {stage}"))),
            AccountKey::Budget { .. } => (LimitKind::Budget, Some(self.account.to_string())),
        };
        Refusal {
            limit,
            subject,
            value: self.cap.to_string(),
            observed: format!("{} spent, {} held, {} more asked for", self.settled, self.held, self.asked),
            declared: self.declared.clone().unwrap_or(declared),
        }
    }

    /// How much higher the cap had to be, of a refusal of money: reads back what [`Short::refusal`] says.
    #[must_use]
    pub fn needs_more(refusal: &Refusal) -> Option<Money> {
        let money = |text: &str| Money::parse(text).ok();
        let parts = refusal.observed.split_once(" spent, ").and_then(|(settled, rest)| {
            let (held, rest) = rest.split_once(" held, ")?;
            Some(money(settled)?.plus(money(held)?).plus(money(rest.strip_suffix(" more asked for")?)?))
        });
        Some(parts?.left_after(money(&refusal.value)?))
    }
}

/// What the ledger decided.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Events to append, in order, each with the run whose log it belongs to.
    pub appended: Vec<(RunId, Event)>,
    /// One for each ask, in order.
    pub verdicts: Vec<Verdict>,
    /// News for other runs that waited.
    pub notices: Vec<(RunId, Notice)>,
    /// Bills above their reservations, for the audit log: each froze its price row (rule 3).
    pub overruns: Vec<PriceFrozen>,
    /// Thresholds of budgets that were passed.
    pub alerts: Vec<Alert>,
}

/// Live configuration.
#[derive(Clone, Debug, Default)]
pub struct LedgerPolicy {
    /// The project's budgets.
    pub budgets: Vec<Budget>,
    /// Who hears of what.
    pub alerts: Vec<AlertRule>,
}

/// A budget with the period that it is in.
#[derive(Clone, Debug)]
struct LiveBudget {
    budget: Budget,
    start: Timestamp,
    end: Option<Timestamp>,
}

/// A root run that hasn't ended.
#[derive(Clone, Debug)]
struct OpenRun {
    agent: AgentName,
    labels: Labels,
    state: RunState,
    /// What it may cost, where nobody knows better: the load line, or what is foreseen of it.
    foreseen: Money,
    expected: Option<Money>,
    /// The bound of its last model call, else of its first.
    bound: Money,
    landing: Option<Landing>,
    /// The budget accounts that it last placed money on: where its landing reserve lies.
    budgets: Vec<AccountKey>,
    /// The budget accounts on its path in the current periods, or why there is no path.
    current: Result<Vec<AccountKey>, Refusal>,
    /// Its tree's open reservations, the landing reserve included.
    holds: BTreeSet<ReservationId>,
    /// The runs of its tree, itself included.
    tree: Vec<RunId>,
    /// True where it was asked to end: nothing more is placed.
    cancelled: bool,
    /// What its kept answers would have cost: a run like it may have to ask.
    avoided: Money,
}

impl OpenRun {
    fn is_open(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::AwaitingBudget)
    }

    fn current(&self) -> &[AccountKey] {
        self.current.as_deref().unwrap_or_default()
    }
}

/// Where a run hangs in its tree.
#[derive(Clone, Debug)]
struct Node {
    agent: AgentName,
    root: RunId,
    parent: Option<RunId>,
    /// The stage of the parent that called it.
    calls_from: Option<StageName>,
    /// Its stages that have accounts of their own.
    capped: BTreeSet<StageName>,
    ended: bool,
}

/// An attempt that waits for budget.
#[derive(Clone, Debug)]
struct Waiter {
    run: RunId,
    ask: ReserveAsk,
    /// The accounts without room.
    short: Vec<AccountKey>,
}

/// A run that waits to start.
#[derive(Clone, Debug)]
struct Queued {
    run: RunId,
    tenant: String,
    ask: AdmitAsk,
}

/// Accounts, open reservations, and who waits. A fold of events.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    budgets: Vec<LiveBudget>,
    /// The latest time that was seen.
    latest: Timestamp,
    accounts: BTreeMap<AccountKey, Account>,
    holds: BTreeMap<ReservationId, Box<Hold>>,
    /// For each budget account, the root runs that hold money on it, each with how many reservations.
    holders: BTreeMap<AccountKey, BTreeMap<RunId, u32>>,
    /// Boxed, as the reservations are, since a map in which the newest comes last is half empty.
    runs: BTreeMap<RunId, Box<OpenRun>>,
    nodes: BTreeMap<RunId, Node>,
    frozen: BTreeMap<PriceId, String>,
    switches: Switches,
    exceptions: Exceptions,
    /// What budgets that only watch would have refused, since the store last asked.
    shadowed: Vec<Shadowed>,
    /// The thresholds of each account that people were told of.
    told: BTreeMap<AccountKey, BTreeSet<Share>>,
    rings: BTreeMap<AgentName, Ring>,
    /// Oldest run first.
    waiters: Vec<Waiter>,
    /// Oldest first.
    queue: Vec<Queued>,
    /// Accounts of runs that have ended: they leave memory once they are written.
    gone: Vec<AccountKey>,
    /// The tenant that was admitted last, for the round.
    last_tenant: String,
    dirty_budgets: BTreeSet<AccountKey>,
    dirty_runs: BTreeSet<RunId>,
    dirty_frozen: BTreeSet<PriceId>,
    dirty_rings: BTreeSet<AgentName>,
    dirty_told: BTreeSet<AccountKey>,
}

impl Ledger {
    /// Books an op's facts, then judges its asks; what they free is offered to older waiters before, to younger ones after.
    pub fn decide(&mut self, op: Op, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        let mut freed = self.roll(now) | op.events.iter().any(|(_, event)| frees_money(event));
        for (run, event) in op.events {
            self.append(&mut decision, run, event);
        }
        let held = self.held_by(op.run);
        for ask in op.asks {
            // Older waiters first (rule 3); a run that gives up its wait isn't offered money in the same write.
            match &ask {
                Ask::Reserve(_) if freed => self.offer_to_waiters(&mut decision, Some(op.run)),
                Ask::Admit(_) if freed => self.offer_to_waiters(&mut decision, None),
                Ask::Reserve(_) | Ask::Admit(_) | Ask::EndWait(_) => {}
            }
            // Attempts are decided one after another (rule 16): none overtakes one that was not placed.
            let behind = decision.verdicts.last().is_some_and(leaves_behind);
            let verdict = if behind { Verdict::Behind } else { self.judge_ask(&mut decision, op.run, ask) };
            decision.verdicts.push(verdict);
        }
        // A call that takes the place of a larger landing reserve frees money too.
        freed |= self.held_by(op.run) < held;
        if freed {
            self.offer_to_waiters(&mut decision, None);
        }
        self.wake(&mut decision, freed);
        decision
    }

    /// Takes new budgets; caps and periods are judged anew, and those who wait are offered what that frees.
    pub fn set_policy(&mut self, policy: LedgerPolicy, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        self.adopt(policy);
        self.roll(now);
        self.offer_to_waiters(&mut decision, None);
        self.wake(&mut decision, true);
        self.judge_all_thresholds(&mut decision);
        decision
    }

    /// Follows what an entry of the audit log says of switches and exceptions. Those who wait are offered what it frees, or
    /// hear that they may not go on.
    pub fn heed(&mut self, entry: &AuditEntry, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        self.roll(now);
        // Both look at it.
        if self.switches.apply(entry) | self.exceptions.apply(entry) {
            self.offer_to_waiters(&mut decision, None);
            self.wake(&mut decision, true);
            self.judge_all_thresholds(&mut decision);
        }
        decision
    }

    /// Wakes those who wait where a new period has begun; call it when [`Ledger::next_period`] has come.
    pub fn tick(&mut self, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        if self.roll(now) {
            self.offer_to_waiters(&mut decision, None);
            self.wake(&mut decision, true);
        }
        decision
    }

    /// Lifts a price row's freeze; false where it wasn't frozen.
    pub fn unfreeze(&mut self, price: &PriceId) -> bool {
        let lifted = self.frozen.remove(price).is_some();
        if lifted {
            self.dirty_frozen.insert(price.clone());
        }
        lifted
    }

    /// An account as it stands.
    #[must_use]
    pub fn account(&self, key: &AccountKey) -> Option<&Account> {
        self.accounts.get(key)
    }

    /// All accounts in order.
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountKey, &Account)> {
        self.accounts.iter()
    }

    /// All open reservations in order.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values().map(|hold| &**hold)
    }

    /// Frozen price rows, each with why.
    pub fn frozen(&self) -> impl Iterator<Item = (&PriceId, &str)> {
        self.frozen.iter().map(|(price, why)| (price, why.as_str()))
    }

    /// The state of a root run that hasn't ended.
    #[must_use]
    pub fn state(&self, run: RunId) -> Option<RunState> {
        self.runs.get(&run).map(|open| open.state)
    }

    /// What a run's whole tree holds.
    fn held_by(&self, root: RunId) -> Money {
        self.accounts.get(&AccountKey::Node { run: root, stage: None }).map_or(Money::ZERO, |account| account.held)
    }

    fn judge_ask(&mut self, decision: &mut Decision, run: RunId, ask: Ask) -> Verdict {
        match ask {
            Ask::Admit(admit) => self.enter_queue(decision, run, admit),
            Ask::Reserve(reserve) => self.reserve(decision, run, *reserve),
            Ask::EndWait(why) => self.end_wait(decision, run, why),
        }
    }

    /// Books an event and notes it for the log. Who is asked to end waits no more, and a tree doesn't wait for an attempt
    /// of a child that has ended.
    fn append(&mut self, decision: &mut Decision, run: RunId, event: Event) {
        decision.overruns.extend(self.overrun(&event));
        let cancelled = matches!(event, Event::CancelRequested(_)).then_some(run);
        let over = matches!(event, Event::Ended(_)).then(|| self.waits_for_child(run)).flatten();
        let (touched, root) = (self.touched(run, &event), self.root_of(run));
        let full = matches!(event, Event::Ended(_));
        self.apply(run, &event);
        for key in touched {
            self.judge_thresholds(decision, &key, Some(root), full);
        }
        decision.appended.push((run, event));
        if let Some(root) = cancelled.or(over).filter(|root| self.stop_waiting(*root)) {
            self.append(decision, root, Event::WaitEnded(WaitEnded { why: WaitEnd::Cancelled }));
        }
    }
}

/// True where an attempt was asked for and not placed: its number is the next one's, so that a log has no gap.
const fn leaves_behind(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Short(_) | Verdict::Waiting | Verdict::Behind | Verdict::Frozen(_) | Verdict::Paused(_))
}

/// True where an event may free money, or make somebody stop waiting.
fn frees_money(event: &Event) -> bool {
    match event {
        Event::Settled(_)
        | Event::Voided(_)
        | Event::LandingReleased(_)
        | Event::Ended(_)
        | Event::Interrupted(_)
        | Event::WaitEnded(_)
        | Event::LandingBegan(_)
        // A run that waits for a person claims nothing.
        | Event::Parked(_) => true,
        Event::Created(_)
        | Event::Admitted(Admitted { .. })
        | Event::Reserved(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::CancelRequested(_)
        | Event::PersonAsked(_)
        | Event::InFlightResolved(_)
        | Event::PersonAnswered(_)
        | Event::MapBegan(_)
        | Event::StageEnded(_)
        | Event::ChildBegan(_)
        | Event::ChildEnded(_)
        | Event::PeriodMoved(_)
        | Event::OutcomeRecorded(_) => false,
    }
}
