//! Follows every commit with books of its own, and says which invariant of DURABILITY §7 is broken, by its number.

mod closing;
mod money;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll::domain::event::{
    AccountKey, Admitted, Call, CallRefusal, CostSource, Created, Event, Landing, Place, Purpose, Recorded, Reserved,
    RunState, Settled,
};
use plimsoll::domain::plan::Plan;
use plimsoll::ids::{BudgetName, PlanHash, PriceId, ReservationId, RunId, StageName};
use plimsoll::store::Store;
use plimsoll::units::{Millis, Money, Timestamp};

use super::invoice::Invoice;

/// Commits of one voyage; more are a loop without an end.
const COMMITS_MAX: u64 = 4_000;

/// The label by which a run is known to be of one root of the sheet.
pub(super) const ROOT: &str = "root";

#[derive(Default)]
pub(super) struct Judge {
    /// Plans as they are meant, by the hash of what the runtime was given.
    pub(super) plans: BTreeMap<PlanHash, Arc<Plan>>,
    /// The caps in force, and the highest that there were.
    pub(super) caps: BTreeMap<BudgetName, (Money, Money)>,
    pub(super) runs: BTreeMap<RunId, Known>,
    open: BTreeMap<ReservationId, Open>,
    closed: BTreeMap<ReservationId, Closed>,
    accounts: BTreeMap<AccountKey, Book>,
    frozen: BTreeSet<PriceId>,
    pub(super) invoice: Invoice,
    pub(super) commits: u64,
    pub(super) now: Timestamp,
    /// Events of an open are read from the logs, not heard.
    pub(super) opening: bool,
    /// True while what nobody was told of is folded: the order between logs isn't known then.
    catching_up: bool,
    /// The store of this life.
    pub(super) store: Option<Store>,
    pub(super) broken: Option<String>,
    /// The commit that was judged last.
    pub(super) last: Vec<(RunId, Recorded)>,
    pub(super) seen: BTreeMap<&'static str, u32>,
}

/// A run as its log tells it.
pub(super) struct Known {
    pub(super) log: Vec<Recorded>,
    pub(super) created: Created,
    plan: Arc<Plan>,
    root: RunId,
    pub(super) state: RunState,
    landing: Option<Landing>,
    budgets: Vec<AccountKey>,
    next_number: u32,
    steps: u32,
    /// Numbers of steps that were reserved. A refused call's may stand twice: what the ledger refuses counts for nothing.
    steps_used: BTreeSet<u32>,
    model_calls: u32,
    tool_calls: u32,
    attempts: u32,
    repeats: BTreeMap<String, u32>,
    settled: Money,
    unknown: Money,
    cancelled: bool,
    asks: u32,
    answers: BTreeSet<u32>,
    /// When its wait for budget ends by itself.
    wait: Option<Timestamp>,
    /// Stages and items that are over.
    over: BTreeSet<Place>,
    maps: BTreeSet<StageName>,
    active: Millis,
    active_since: Option<Timestamp>,
    last_at: Timestamp,
}

/// A reservation whose end isn't known yet.
struct Open {
    amount: Money,
    accounts: Vec<AccountKey>,
    landing: bool,
    sent: bool,
    price: Option<PriceId>,
}

/// One whose end is known.
struct Closed {
    /// `None` for a void.
    bill: Option<Money>,
    accounts: Vec<AccountKey>,
    unknown: bool,
}

/// An account in the judge's own books.
#[derive(Default)]
struct Book {
    settled: Money,
    held: Money,
    over: Money,
}

impl Known {
    /// The fact that would admit it once more, with a landing reserve.
    pub(super) fn admitted_again(&self, run: RunId, amount: Money) -> Admitted {
        let reservation = ReservationId { run, number: self.next_number };
        Admitted { budgets: self.budgets.clone(), landing: Some(Landing { reservation, amount }) }
    }
}

impl Judge {
    /// Notes the first thing that is wrong.
    pub(super) fn broken(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.broken.get_or_insert(what);
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken(what());
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Folds one commit, and looks at the whole.
    pub(super) fn committed(&mut self, events: &[(RunId, Recorded)]) {
        self.commits += 1;
        if self.opening {
            return;
        }
        if self.broken.is_none() {
            self.last = events.to_vec();
        }
        for (run, recorded) in events {
            self.fold(*run, recorded);
        }
        self.look_around();
        self.compare_accounts();
        let commits = self.commits;
        self.check(commits < COMMITS_MAX, || format!("(18) {commits} commits and no end"));
    }

    /// After an open: what was acknowledged is there, and nothing but its continuation (13). What was written and not told
    /// is folded now.
    pub(super) fn reopened(&mut self, logs: Vec<(RunId, Vec<Recorded>)>) {
        let runs: Vec<RunId> = logs.iter().map(|(run, _)| *run).collect();
        let lost: Vec<RunId> = self.runs.keys().copied().filter(|run| !runs.contains(run)).collect();
        self.check(lost.is_empty(), || format!("(13) {lost:?} are gone"));
        let mut news = Vec::new();
        for (run, log) in logs {
            let known = self.runs.get(&run).map_or(&[][..], |known| &known.log);
            if !log.starts_with(known) {
                return self.broken(format!("(13) the log of {run} lost or changed what was acknowledged"));
            }
            news.extend(log.into_iter().skip(known.len()).map(|recorded| (run, recorded)));
        }
        news.sort_by_key(|(run, recorded)| (recorded.at, *run, recorded.seq));
        // A power cut may keep a commit that nobody was told of.
        let asked_for = |event: &Event| matches!(event, Event::Created(_) | Event::Admitted(_) | Event::Reserved(_));
        if news.iter().any(|(_, recorded)| asked_for(&recorded.event)) {
            self.saw("kept untold");
        }
        self.catching_up = true;
        for (run, recorded) in news {
            self.fold(run, &recorded);
        }
        self.catching_up = false;
        let running: Vec<ReservationId> = self.open.keys().copied().collect();
        self.check(running.is_empty(), || format!("(6) a restart left {running:?} open"));
        self.look_around();
        self.compare_accounts();
    }

    fn fold(&mut self, run: RunId, recorded: &Recorded) {
        self.now = self.now.max(recorded.at);
        if let Event::Created(created) = &recorded.event {
            self.create(run, created, recorded.at);
        }
        let Some(known) = self.runs.get_mut(&run) else {
            return self.broken(format!("(9) {run} has facts and was never made"));
        };
        let expected = u32::try_from(known.log.len()).expect("few");
        known.log.push(recorded.clone());
        if recorded.seq != expected {
            self.broken(format!("(9) {run} has {} where {expected} comes", recorded.seq));
        }
        self.fold_event(run, recorded.at, &recorded.event);
        self.tell_time(run, recorded.at, &recorded.event);
    }

    fn create(&mut self, run: RunId, created: &Created, at: Timestamp) {
        // A resumed run keeps the plan that it began with (15).
        let Some(plan) = self.plans.get(&created.plan).cloned() else {
            return self.broken(format!("(15) {run} has a plan that nobody knows"));
        };
        let known = Known {
            log: Vec::new(),
            created: created.clone(),
            plan,
            root: created.parent.as_ref().map_or(run, |parent| parent.root),
            state: RunState::Queued,
            landing: None,
            budgets: Vec::new(),
            next_number: 0,
            steps: 0,
            steps_used: BTreeSet::new(),
            model_calls: 0,
            tool_calls: 0,
            attempts: 0,
            repeats: BTreeMap::new(),
            settled: Money::ZERO,
            unknown: Money::ZERO,
            cancelled: false,
            asks: 0,
            answers: BTreeSet::new(),
            wait: None,
            over: BTreeSet::new(),
            maps: BTreeSet::new(),
            active: Millis::ZERO,
            active_since: None,
            last_at: at,
        };
        let again = self.runs.insert(run, known).is_some();
        self.check(!again, || format!("(9) {run} is made twice"));
    }

    fn known(&mut self, run: RunId) -> &mut Known {
        self.runs.get_mut(&run).expect("it was made")
    }

    fn fold_event(&mut self, run: RunId, at: Timestamp, event: &Event) {
        let state = self.known(run).state;
        let closes = matches!(event, Event::Settled(_) | Event::Voided(_));
        self.check(closes || !state.is_ended(), || format!("(11) {run} has ended and goes on: {event:?}"));
        match event {
            Event::Created(_) | Event::LandingBegan(_) => {}
            Event::Admitted(admitted) => {
                self.saw("admitted");
                self.release_landing(run);
                let known = self.known(run);
                known.state = RunState::Running;
                known.budgets.clone_from(&admitted.budgets);
                if let Some(landing) = &admitted.landing {
                    self.place_landing(run, landing);
                }
            }
            Event::Reserved(reserved) => self.reserve(run, reserved),
            Event::Settled(settled) => self.settle(run, settled),
            Event::Voided(voided) => {
                self.close(run, voided.reservation, None, false);
            }
            Event::CallRefused(refused) => {
                if let CallRefusal::Invalid { .. } = refused.why {
                    let known = self.known(run);
                    known.steps += 1;
                    known.tool_calls += 1;
                }
            }
            Event::WaitBegan(began) => self.begin_wait(run, at, began.until),
            Event::WaitEnded(_) => {
                let known = self.known(run);
                known.wait = None;
                known.state = RunState::Running;
            }
            Event::LandingReleased(released) => self.release(run, released.reservation),
            Event::CancelRequested(_) => self.known(run).cancelled = true,
            Event::Interrupted(_) => {
                self.saw("interrupted");
                self.rest(run, RunState::Interrupted);
            }
            Event::PersonAsked(asked) => {
                self.saw("person asked");
                let known = self.known(run);
                let next = Some(known.asks);
                known.asks += 1;
                self.check(asked.ask == next, || format!("(17) {run} asks with number {:?}, not {next:?}", asked.ask));
            }
            Event::PersonAnswered(answered) => {
                self.saw("person answered");
                let known = self.known(run);
                let asked = answered.ask.is_some_and(|ask| ask < known.asks && known.answers.insert(ask));
                if known.state.awaits_person() {
                    known.state = RunState::Interrupted;
                }
                self.check(asked, || format!("(17) {run} is answered twice, or didn't ask: {answered:?}"));
            }
            Event::Parked(parked) => {
                self.saw("parked");
                self.rest(run, parked.state);
            }
            Event::StageEnded(ended) => {
                self.saw(if ended.place.item.is_some() { "item over" } else { "stage over" });
                let new = self.known(run).over.insert(ended.place.clone());
                self.check(new, || format!("(11) `{}` of {run} is over twice", ended.place));
            }
            Event::MapBegan(began) => {
                let new = self.known(run).maps.insert(began.stage.clone());
                self.check(new, || format!("(11) map `{}` of {run} begins twice", began.stage));
            }
            Event::ChildBegan(_) | Event::ChildEnded(_) | Event::InFlightResolved(_) | Event::PeriodMoved(_) => {
                self.broken(format!("{run} is a single loop, and its log has {event:?}"))
            }
            Event::Ended(ended) => {
                self.saw(RunState::from(ended.state).name());
                self.rest(run, ended.state.into());
            }
        }
    }

    fn begin_wait(&mut self, run: RunId, at: Timestamp, until: Timestamp) {
        self.saw("wait");
        let known = self.known(run);
        let wait = known.plan.limits.budget_wait;
        known.wait = Some(until);
        known.state = RunState::AwaitingBudget;
        self.check(until <= at.after(wait), || format!("(18) {run} may wait too long"));
    }

    /// The run stops: its landing reserve goes, and its wait.
    fn rest(&mut self, run: RunId, state: RunState) {
        self.release_landing(run);
        let known = self.known(run);
        known.wait = None;
        known.state = state;
    }

    fn reserve(&mut self, run: RunId, reserved: &Reserved) {
        let id = reserved.reservation;
        let known = self.known(run);
        let (state, cancelled, number) = (known.state, known.cancelled, known.next_number);
        self.check(!cancelled, || format!("(12) {id} is placed after the cancel"));
        self.check(state == RunState::Running, || format!("(18) {id} is placed while the run is {state}"));
        self.check(id.number == number, || format!("(9) {id} is placed where {number} comes"));
        self.known(run).next_number = id.number + 1;
        let place = reserved.step.place();
        let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
        let is_over = !lands && self.known(run).over.contains(&place);
        self.check(!is_over, || format!("(11) {id} is placed at `{place}`, which is over"));
        self.place(run, reserved);
        if let Call::Model(call) = &reserved.call {
            let frozen = self.frozen.contains(&call.price);
            self.check(!frozen, || format!("(5) {id} is at a frozen price"));
        }
        self.count(run, reserved);
    }

    /// Steps and attempts go on where they were, and no limit is passed (10).
    fn count(&mut self, run: RunId, reserved: &Reserved) {
        let id = reserved.reservation;
        let in_flight = self.open.iter().filter(|(open, each)| open.run == run && !each.landing).count();
        let known = self.known(run);
        let limits = known.plan.limits.clone();
        if reserved.attempt == 1 {
            known.steps += 1;
            let step = reserved.step.step;
            let is_new = known.steps_used.insert(step);
            let counted = match &reserved.call {
                Call::Model(_) => &mut known.model_calls,
                Call::Tool { .. } => &mut known.tool_calls,
            };
            *counted += 1;
            self.check(is_new, || format!("(10) {id} is step {step}, which was made already"));
        }
        let known = self.known(run);
        let mut repeats = 0;
        match &reserved.call {
            Call::Model(_) => known.attempts += 1,
            Call::Tool { arguments_hash, .. } if reserved.attempt == 1 => {
                let counted = known.repeats.entry(arguments_hash.clone()).or_default();
                *counted += 1;
                repeats = *counted;
            }
            Call::Tool { .. } => {}
        }
        let known = self.known(run);
        let counts = [
            ("steps", known.steps, limits.steps),
            ("model_calls", known.model_calls, limits.model_calls),
            ("tool_calls", known.tool_calls, limits.tool_calls),
            ("attempts", known.attempts, limits.attempts),
            ("repeats", repeats, limits.repeats),
            ("parallel", u32::try_from(in_flight).expect("few"), limits.parallel),
        ];
        for (name, count, limit) in counts {
            self.check(count <= limit, || format!("(10) {id} makes `{name}` {count} of {limit}"));
        }
        if let Call::Model(call) = &reserved.call {
            match call.purpose {
                Purpose::Landing => self.saw("landing"),
                Purpose::Last => self.saw("last call"),
                Purpose::Repair => self.saw("repair"),
                Purpose::Summary => self.saw("summary"),
                Purpose::Turn => self.saw("turn"),
            }
        }
    }

    fn settle(&mut self, run: RunId, settled: &Settled) {
        let unknown = settled.source == CostSource::Unknown;
        let known = self.known(run);
        known.settled = known.settled.plus(settled.bill);
        if unknown {
            known.unknown = known.unknown.plus(settled.bill);
            self.saw("unknown");
        }
        self.close(run, settled.reservation, Some(settled.bill), unknown);
    }

    /// Somebody makes a call: it must be on disk, open, and nobody's before (4); its run must go on (11), and have the
    /// time that the call may take (10).
    pub(super) fn sent(&mut self, id: ReservationId, worst_case: Money, limit: Millis) {
        let state = self.runs.get(&id.run).map(|known| known.state);
        if let Some(known) = self.runs.get(&id.run) {
            let left = known.plan.limits.wall_time.left_after(known.active_at(self.now)).plus(times::SLACK);
            self.check(limit <= left, || format!("(10) {id} may take {limit}, and {left} of its run's time are left"));
        }
        match self.open.get_mut(&id) {
            None => self.broken(format!("(4) {id} is called and isn't on disk")),
            Some(open) => {
                let (again, amount) = (std::mem::replace(&mut open.sent, true), open.amount);
                self.check(!again, || format!("(4) {id} is called twice"));
                self.check(amount == worst_case, || format!("(4) {id} is called with {worst_case}, and has {amount}"));
            }
        }
        self.check(state.is_some_and(|state| !state.is_ended()), || format!("(11) {id} is called after the end"));
    }

    /// The run of a root of the sheet.
    pub(super) fn run_of(&self, root: usize) -> Option<RunId> {
        let root = root.to_string();
        self.runs.iter().find(|(_, known)| known.created.labels.get(ROOT) == Some(&root)).map(|(run, _)| *run)
    }
}
