//! Follows every commit with books of its own, and says which invariant of DURABILITY §7 is broken, by its number.

mod closing;
mod counts;
mod known;
mod money;
mod orders;
mod people;
mod stages;
mod times;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll::domain::event::{
    AccountKey, Call, CallRefusal, CostSource, Created, Event, Purpose, Recorded, Reserved, RunState, Settled, Spent,
};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::plan::Plan;
use plimsoll::domain::run::Tree;
use plimsoll::ids::{BudgetName, PlanHash, PriceId, ReservationId, RunId, StageName};
use plimsoll::store::Store;
use plimsoll::units::{Millis, Money, Timestamp, Tokens};

use super::invoice::Invoice;
use known::Known;

/// Commits of one voyage; more are a loop without an end.
const COMMITS_MAX: u64 = 4_000;

/// The label by which a run is known to be of one root of the sheet.
pub(super) const ROOT: &str = "root";

#[derive(Default)]
pub(super) struct Judge {
    /// Plans as they are meant, by the hash of what the runtime was given.
    plans: BTreeMap<PlanHash, Arc<Plan>>,
    /// Plans as the runtime was given them.
    given: BTreeMap<PlanHash, Arc<Plan>>,
    /// Trees, folded fact by fact.
    trees: BTreeMap<RunId, Tree>,
    /// The caps in force, and the highest that there were.
    pub(super) caps: BTreeMap<BudgetName, (Money, Money)>,
    /// What people ordered.
    pub(super) orders: orders::Orders,
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

/// A reservation whose end isn't known yet.
struct Open {
    amount: Money,
    accounts: Vec<AccountKey>,
    /// The stage that works; `None` for a landing reserve.
    stage: Option<StageName>,
    sent: bool,
    price: Option<PriceId>,
    /// Of a model call: input and output at worst.
    tokens: (Tokens, Tokens),
    /// The last answer of its run, which is no stage's.
    lands: bool,
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

    pub(super) fn saw(&mut self, what: &'static str) {
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
            self.follow_tree(*run, recorded);
        }
        self.whole(events);
        self.look_around();
        self.compare_accounts();
        self.compare_trees(events);
        let commits = self.commits;
        self.check(commits < COMMITS_MAX, || format!("(18) {commits} commits and no end"));
    }

    /// After an open: what was acknowledged is there, and nothing but its continuation (13). What was written and not told
    /// is folded now.
    pub(super) fn reopened(&mut self, logs: Vec<(RunId, Vec<Recorded>)>) {
        let runs: Vec<RunId> = logs.iter().map(|(run, _)| *run).collect();
        let lost: Vec<RunId> = self.runs.keys().copied().filter(|run| !runs.contains(run)).collect();
        self.check(lost.is_empty(), || format!("(13) {lost:?} are gone"));
        let depths = depths(&logs);
        let mut news = Vec::new();
        for (run, log) in logs {
            let known = self.runs.get(&run).map_or(&[][..], |known| &known.log);
            if !log.starts_with(known) {
                let other = log.iter().zip(known).find(|(one, other)| one != other);
                return self.broken(format!("(13) the log of {run} lost or changed what was acknowledged: {other:?}"));
            }
            news.extend(log.into_iter().skip(known.len()).map(|recorded| (run, recorded)));
        }
        // Ids of one millisecond are in no order: who hangs below comes later.
        news.sort_by_key(|(run, recorded)| (recorded.at, depths[run], *run, recorded.seq));
        // A power cut may keep a commit that nobody was told of.
        let asked_for = |event: &Event| matches!(event, Event::Created(_) | Event::Admitted(_) | Event::Reserved(_));
        if news.iter().any(|(_, recorded)| asked_for(&recorded.event)) {
            self.saw("kept untold");
        }
        self.catching_up = true;
        for (run, recorded) in &news {
            self.fold(*run, recorded);
        }
        self.whole(&news);
        self.catching_up = false;
        self.load_trees();
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
        let again = self.runs.insert(run, Known::of(run, plan, created, at)).is_some();
        self.check(!again, || format!("(9) {run} is made twice"));
        self.hang(run, created);
    }

    fn known(&mut self, run: RunId) -> &mut Known {
        self.runs.get_mut(&run).expect("it was made")
    }

    fn fold_event(&mut self, run: RunId, at: Timestamp, event: &Event) {
        let state = self.known(run).state;
        let closes = matches!(event, Event::Settled(_) | Event::Voided(_) | Event::OutcomeRecorded(_));
        self.check(closes || !state.is_ended(), || format!("(11) {run} has ended and goes on: {event:?}"));
        match event {
            Event::Created(_) | Event::Downgraded(_) => {}
            Event::OutcomeRecorded(_) => {
                self.check(state.is_ended(), || format!("{run} is worth something before its end"))
            }
            Event::LandingBegan(_) => self.known(run).lands = true,
            Event::Admitted(admitted) => {
                self.saw("admitted");
                self.heeds_switches(run, None);
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
                    self.spend(run, &refused.step.stage, &Spent { steps: 1, tool_calls: 1, ..Spent::default() });
                }
            }
            Event::WaitBegan(began) => self.begin_wait(run, at, began.until),
            Event::WaitEnded(_) => {
                let known = self.known(run);
                known.wait = None;
                known.state = RunState::Running;
            }
            Event::RateWaitBegan(began) => self.begin_rate_wait(run, began),
            Event::RateWaitEnded(_) => {}
            Event::LandingReleased(released) => self.release(run, released.reservation),
            Event::CancelRequested(_) => self.known(run).cancelled = true,
            Event::Interrupted(_) => {
                self.saw("interrupted");
                self.rest(run, RunState::Interrupted);
            }
            Event::PersonAsked(asked) => self.ask(run, at, asked),
            Event::PersonAnswered(answered) => self.answer(run, at, answered),
            Event::InFlightResolved(_) => self.broken(format!("{run} is answered as in version 1")),
            Event::Parked(parked) => self.park(run, *parked),
            Event::MapBegan(began) => self.begin_map(run, began),
            Event::StageEnded(ended) => self.end_stage(run, ended),
            Event::ChildBegan(began) => self.begin_child(run, began),
            Event::ChildEnded(ended) => self.end_child(run, ended),
            Event::PeriodMoved(moved) => self.move_period(run, moved),
            Event::Ended(ended) => {
                self.saw(RunState::from(ended.state).name());
                if ended.refusal.as_ref().is_some_and(|refusal| refusal.limit == LimitKind::Switch) {
                    self.saw("stopped by a switch");
                }
                self.rest(run, ended.state.into());
                self.end(run, ended);
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
        self.heeds_switches(run, Some(reserved));
        let id = reserved.reservation;
        let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
        for above in self.chain(run) {
            let known = &self.runs[&above];
            let (state, cancelled, is_landing) = (known.state, known.cancelled, known.lands);
            self.check(!cancelled, || format!("(12) {id} is placed after the cancel"));
            // Of what nobody was told the order between logs isn't known.
            let is_known = !self.catching_up || above == run;
            self.check(!is_known || state == RunState::Running, || {
                format!("(18) {id} is placed while {above} is {state}")
            });
            self.check(lands || !is_landing, || format!("(11) {id} is placed while {above} lands"));
        }
        let known = self.known(run);
        let number = std::mem::replace(&mut known.next_number, id.number + 1);
        self.check(id.number == number, || format!("(9) {id} is placed where {number} comes"));
        if !lands {
            self.enter(run, &reserved.step.place());
            self.begin_work(run, &reserved.step.place());
        }
        self.place(run, reserved);
        if let Call::Model(call) = &reserved.call {
            let frozen = self.frozen.contains(&call.price);
            self.check(!frozen, || format!("(5) {id} is at a frozen price"));
        }
        self.count(run, reserved);
    }

    fn settle(&mut self, run: RunId, settled: &Settled) {
        let unknown = settled.source == CostSource::Unknown;
        let mut spent = Spent { settled: settled.bill, ..Spent::default() };
        if unknown {
            spent.unknown = settled.bill;
            self.saw("unknown");
        }
        if let Some(open) = self.open.get(&settled.reservation)
            && let Some(stage) = open.stage.clone()
        {
            let reported = settled.usage.map(|usage| (usage.input_total(), usage.output));
            let is_model = open.price.is_some();
            (spent.input, spent.output) = reported.filter(|_| is_model).unwrap_or(open.tokens);
            self.spend(run, &stage, &spent);
        }
        self.close(run, settled.reservation, Some(settled.bill), unknown);
    }

    /// Somebody makes a call: it must be on disk, open, and nobody's before (4); its run must go on (11), and have the
    /// time that the call may take (10).
    pub(super) fn sent(&mut self, id: ReservationId, worst_case: Money, limit: Millis) {
        let state = self.runs.get(&id.run).map(|known| known.state);
        for above in self.chain(id.run) {
            let known = &self.runs[&above];
            let left = known.plan.limits.wall_time.left_after(known.active_at(self.now)).plus(times::SLACK);
            self.check(limit <= left, || {
                format!("(10) {id} may take {limit}, and {left} of the time of {above} are left")
            });
        }
        self.judge_time_of_stages(id, limit);
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
        let is_it = |known: &Known| known.created.parent.is_none() && known.created.labels.get(ROOT) == Some(&root);
        self.runs.iter().find(|(_, known)| is_it(known)).map(|(run, _)| *run)
    }
}

/// How far below its root each run hangs.
fn depths(logs: &[(RunId, Vec<Recorded>)]) -> BTreeMap<RunId, usize> {
    let parent = |recorded: &Recorded| {
        if let Event::Created(created) = &recorded.event {
            created.parent.as_ref().map(|parent| parent.run)
        } else {
            None
        }
    };
    let parents: BTreeMap<RunId, RunId> =
        logs.iter().filter_map(|(run, log)| Some((*run, parent(log.first()?)?))).collect();
    let depth = |run: &RunId| std::iter::successors(parents.get(run), |run| parents.get(run)).count();
    logs.iter().map(|(run, _)| (*run, depth(run))).collect()
}
