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
mod apply;
mod expectation;
mod judge;
mod wait;

pub use account::{Account, Hold};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::budget::Budget;
use crate::domain::event::{
    AccountKey, Admitted, CostSource, Event, Interrupted, Labels, Landing, Outcome, Recorded, Reserved, RunState,
    Settled, WaitEnd,
};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::plan::Plan;
use crate::domain::retry::{ErrorClass, Failure};
use crate::ids::{AgentName, BudgetName, PriceId, ReservationId, RunId};
use crate::units::{Millis, Money, Timestamp, TokenPrice};
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
    pub plan: Option<Box<Plan>>,
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
    /// Not judged: an earlier ask of the same op has to wait.
    Behind,
    /// The price row is frozen.
    Frozen(Refusal),
    /// The wait is over.
    WaitEnded,
    /// There was no wait to end: a notice is on its way.
    NotWaiting,
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
    /// True where attempts of the same tree hold money there (rule 9a).
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
}

/// Live configuration.
#[derive(Clone, Debug, Default)]
pub struct LedgerPolicy {
    /// The project's budgets.
    pub budgets: Vec<Budget>,
}

/// What the store kept.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Accounts.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Open reservations.
    pub holds: Vec<Hold>,
    /// Every run that hasn't ended, with its whole log.
    pub open_runs: Vec<(RunId, Vec<Recorded>)>,
    /// Frozen price rows.
    pub frozen: Vec<Frozen>,
    /// Costs of finished runs by agent, oldest first.
    pub rings: Vec<(AgentName, Vec<Money>)>,
    /// The highest start of a period that each budget and scope has seen.
    pub starts: Vec<((BudgetName, String), Timestamp)>,
}

/// A price row that a bill above its reservation froze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The row.
    pub price: PriceId,
    /// Why, in words.
    pub reason: String,
}

/// What changed since the store last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dirty {
    /// Accounts to write.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Holds to write.
    pub holds_set: Vec<Hold>,
    /// Holds to delete.
    pub holds_gone: Vec<ReservationId>,
    /// Price rows newly frozen.
    pub frozen: Vec<Frozen>,
    /// Price rows that are frozen no more.
    pub unfrozen: Vec<PriceId>,
    /// Rings to write.
    pub rings: Vec<(AgentName, Vec<Money>)>,
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
    load_line: Money,
    expected: Option<Money>,
    /// What its whole tree has settled.
    settled: Money,
    /// The bound of its last model call, else of its first.
    bound: Money,
    landing: Option<Landing>,
    /// The budget accounts on its path.
    budgets: Vec<AccountKey>,
    /// Its tree's open reservations, the landing reserve included.
    holds: BTreeSet<ReservationId>,
}

impl OpenRun {
    fn is_open(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::AwaitingBudget)
    }
}

/// Where a run hangs in its tree.
#[derive(Clone, Debug)]
struct Node {
    root: RunId,
    parent: Option<RunId>,
}

/// An attempt that waits for budget.
#[derive(Clone, Debug)]
struct Waiter {
    run: RunId,
    ask: ReserveAsk,
    short: AccountKey,
}

/// A run that waits to start.
#[derive(Clone, Debug)]
struct Queued {
    run: RunId,
    tenant: String,
    ask: AdmitAsk,
    /// The budget accounts on its path in the current periods.
    keys: Vec<AccountKey>,
}

/// Accounts, open reservations, and who waits. A fold of events.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    budgets: Vec<LiveBudget>,
    accounts: BTreeMap<AccountKey, Account>,
    holds: BTreeMap<ReservationId, Hold>,
    runs: BTreeMap<RunId, OpenRun>,
    nodes: BTreeMap<RunId, Node>,
    frozen: BTreeMap<PriceId, String>,
    rings: BTreeMap<AgentName, Ring>,
    /// Oldest first.
    waiters: Vec<Waiter>,
    /// Oldest first.
    queue: Vec<Queued>,
    /// The tenant that was admitted last, for the round.
    last_tenant: String,
    /// The highest start of a period that each budget has seen.
    starts: BTreeMap<BudgetName, Timestamp>,
    dirty_accounts: BTreeSet<AccountKey>,
    dirty_holds: BTreeSet<ReservationId>,
    dirty_frozen: BTreeSet<PriceId>,
    dirty_rings: BTreeSet<AgentName>,
}

impl Ledger {
    /// A ledger from what the store kept. Nothing is decided yet: call [`Ledger::recover`] next.
    #[must_use]
    pub fn restore(policy: LedgerPolicy, snapshot: Snapshot) -> Self {
        let mut ledger = Self {
            accounts: snapshot.accounts.into_iter().collect(),
            frozen: snapshot.frozen.into_iter().map(|frozen| (frozen.price, frozen.reason)).collect(),
            starts: snapshot
                .starts
                .into_iter()
                .map(|((budget, _), start)| (budget, start))
                .fold(BTreeMap::new(), highest),
            rings: snapshot.rings.into_iter().map(|(agent, costs)| (agent, Ring::from_costs(costs))).collect(),
            ..Self::default()
        };
        for (run, log) in &snapshot.open_runs {
            for recorded in log {
                ledger.track(*run, &recorded.event);
            }
        }
        for hold in snapshot.holds {
            if let Some(open) = ledger.runs.get_mut(&hold.root) {
                open.holds.insert(hold.reservation);
            }
            ledger.holds.insert(hold.reservation, hold);
        }
        ledger.adopt(policy);
        ledger
    }

    /// After a start, the store's lock proves that nobody runs (rule 15): every open attempt is settled at its whole
    /// reservation as `unknown`, every landing reserve is released, and the runs that ran are `interrupted`.
    pub fn recover(&mut self, _now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        let attempts: Vec<Hold> = self.holds.values().filter(|hold| !hold.landing).cloned().collect();
        for hold in attempts {
            self.append(&mut decision, hold.reservation.run, settled_unknown(&hold));
        }
        let ran: Vec<RunId> = self.runs.iter().filter(|(_, open)| open.is_open()).map(|(run, _)| *run).collect();
        for run in ran {
            let interrupted = Interrupted { why: "the process went down".into(), clean: false };
            self.append(&mut decision, run, Event::Interrupted(interrupted));
        }
        decision
    }

    /// Books an op's facts, then judges its asks, then offers what was freed to those who wait.
    pub fn decide(&mut self, op: Op, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        let freed = self.roll(now) | op.events.iter().any(|(_, event)| frees_money(event));
        for (run, event) in op.events {
            self.append(&mut decision, run, event);
        }
        if freed {
            self.offer_to_waiters(&mut decision);
        }
        for ask in op.asks {
            // Attempts are decided one after another (rule 16): none overtakes one that has to wait.
            let behind =
                matches!(decision.verdicts.last(), Some(Verdict::Short(_) | Verdict::Waiting | Verdict::Behind));
            let verdict = if behind { Verdict::Behind } else { self.judge_ask(&mut decision, op.run, ask) };
            decision.verdicts.push(verdict);
        }
        self.wake(&mut decision, freed);
        decision
    }

    /// Takes new budgets; caps and periods are judged anew, and those who wait are offered what that frees.
    pub fn set_policy(&mut self, policy: LedgerPolicy, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        self.adopt(policy);
        self.roll(now);
        self.offer_to_waiters(&mut decision);
        self.wake(&mut decision, true);
        decision
    }

    /// Wakes those who wait where a new period has begun; call it when [`Ledger::next_period`] has come.
    pub fn tick(&mut self, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        if self.roll(now) {
            self.offer_to_waiters(&mut decision);
            self.wake(&mut decision, true);
        }
        decision
    }

    /// When the next period of any budget begins.
    #[must_use]
    pub fn next_period(&self) -> Option<Timestamp> {
        self.budgets.iter().filter_map(|live| live.end).min()
    }

    /// What changed since the last call, for the store to write.
    pub fn take_dirty(&mut self) -> Dirty {
        let accounts = std::mem::take(&mut self.dirty_accounts);
        let (set, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dirty_holds).into_iter().partition(|id| self.holds.contains_key(id));
        let (frozen, unfrozen): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dirty_frozen).into_iter().partition(|price| self.frozen.contains_key(price));
        let reason = |price: &PriceId| self.frozen.get(price).cloned().unwrap_or_default();
        Dirty {
            accounts: accounts.into_iter().filter_map(|key| self.accounts.get(&key).map(|a| (key, *a))).collect(),
            holds_set: set.iter().filter_map(|id| self.holds.get(id).cloned()).collect(),
            holds_gone: gone,
            frozen: frozen.into_iter().map(|price| Frozen { reason: reason(&price), price }).collect(),
            unfrozen,
            rings: std::mem::take(&mut self.dirty_rings)
                .into_iter()
                .filter_map(|agent| self.rings.get(&agent).map(|ring| (agent.clone(), ring.costs())))
                .collect(),
        }
    }

    /// Lifts a price row's freeze; false where it wasn't frozen.
    pub fn unfreeze(&mut self, price: &PriceId) -> bool {
        self.dirty_frozen.insert(price.clone());
        self.frozen.remove(price).is_some()
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
        self.holds.values()
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

    fn judge_ask(&mut self, decision: &mut Decision, run: RunId, ask: Ask) -> Verdict {
        match ask {
            Ask::Admit(admit) => self.enter_queue(decision, run, admit),
            Ask::Reserve(reserve) => self.reserve(decision, run, *reserve),
            Ask::EndWait(why) => self.end_wait(decision, run, why),
        }
    }

    /// Books an event and notes it for the log.
    fn append(&mut self, decision: &mut Decision, run: RunId, event: Event) {
        self.apply(run, &event);
        decision.appended.push((run, event));
    }

    fn adopt(&mut self, policy: LedgerPolicy) {
        self.budgets = policy
            .budgets
            .into_iter()
            .map(|budget| {
                // A period that ended never grants again: the highest start that was stored is where this one begins.
                let start = self.starts.get(&budget.name).copied().unwrap_or_default();
                let (start, end) = budget.period.window(&budget.time_zone, start);
                LiveBudget { budget, start, end }
            })
            .collect();
        self.refresh_queue();
    }

    /// Moves budgets on to the period that `now` lies in, never back; true where one moved.
    fn roll(&mut self, now: Timestamp) -> bool {
        let mut moved = false;
        for live in &mut self.budgets {
            if live.end.is_some_and(|end| now >= end) {
                (live.start, live.end) = live.budget.period.window(&live.budget.time_zone, now);
                self.starts.insert(live.budget.name.clone(), live.start);
                moved = true;
            }
        }
        if moved {
            self.refresh_queue();
        }
        moved
    }

    /// The budget accounts that count runs with these labels in the current periods.
    fn budget_keys(&self, labels: &Labels) -> Vec<AccountKey> {
        self.budgets
            .iter()
            .filter(|live| live.budget.matches(labels))
            .filter_map(|live| {
                let scope = live.budget.scope_value(labels).ok()?;
                Some(AccountKey::Budget { budget: live.budget.name.clone(), scope, start: live.start, end: live.end })
            })
            .collect()
    }

    fn live_budget(&self, key: &AccountKey) -> Option<&LiveBudget> {
        match key {
            AccountKey::Budget { budget, .. } => self.budgets.iter().find(|live| live.budget.name == *budget),
            AccountKey::Node { .. } => None,
        }
    }

    /// The account as it would be judged now: a budget's cap is the live one, and nothing where the budget is gone.
    fn judged(&self, key: &AccountKey) -> Account {
        let mut account = self.accounts.get(key).copied().unwrap_or_default();
        if let Some(live) = self.live_budget(key) {
            account.cap = live.budget.cap;
        }
        account
    }
}

/// Keeps the highest start of each budget.
fn highest(
    mut starts: BTreeMap<BudgetName, Timestamp>,
    (budget, start): (BudgetName, Timestamp),
) -> BTreeMap<BudgetName, Timestamp> {
    let kept = starts.entry(budget).or_default();
    *kept = start.max(*kept);
    starts
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
        | Event::LandingBegan(_) => true,
        Event::Created(_)
        | Event::Admitted(Admitted { .. })
        | Event::Reserved(_)
        | Event::CallRefused(_)
        | Event::WaitBegan(_)
        | Event::CancelRequested(_)
        | Event::PersonAsked(_)
        | Event::InFlightResolved(_) => false,
    }
}

/// An attempt whose end nobody saw: the whole reservation.
fn settled_unknown(hold: &Hold) -> Event {
    let failure = Failure {
        class: ErrorClass::Interrupted,
        status: None,
        code: None,
        message: "the process went down while the call was in flight".into(),
        retry_after: None,
    };
    Event::Settled(Box::new(Settled {
        reservation: hold.reservation,
        bill: hold.amount,
        source: CostSource::Unknown,
        usage: None,
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::Failed(failure),
    }))
}
