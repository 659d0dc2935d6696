//! Judges a tree again from its logs: each recorded decision is what the core decides at that place (promise 11).
//!
//! The logs of a tree are folded together, in the order in which they were written. Before each fact that is a decision, the core is
//! asked what it decides in the state so far; the gate's first half prepares each model call anew; each bill is priced
//! anew from its usage, at its pinned version. What came from outside is taken from the log: what providers, tools and
//! people said, when, which ids runs have, what shared budgets and rates allowed, and which documents were found.
//!
//! Clock readings too: the log has the time of each write, and a decision was taken shortly before it. So what follows from
//! the clock alone (a call's time limit, the active time that a refusal names) is held against the time between the write
//! before and its own.
//!
//! Deliberately absent: calls, writes, and a second copy of any decision.

mod calls;
mod difference;
mod judge;
mod log;
mod look;
mod outside;
mod what_if;

pub use difference::Difference;
pub use log::TreeLog;
pub use what_if::{Change, Figures, Instead, Line, Stop, Verdict, WhatIf, WhatIfError, what_if};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checks::Checks;
use super::known::{payers_of, terms_of};
use super::{Agent, Runtime, RuntimeError};
use crate::domain::event::{Call, Event, Place, Recorded, Reserved, RunState};
use crate::domain::ledger::OwnAccounts;
use crate::domain::pricing::PriceBook;
use crate::domain::run::{Run, Tree};
use crate::gate::{Appraiser, Providers, Rendered};
use crate::ids::{ReservationId, RunId};
use crate::spec::project::Project;
use crate::units::{Millis, Timestamp};
use look::Look;

/// The longest that a write is taken to come after its decision.
const WRITE_TIME_MAX: Millis = Millis::from_secs(10);

/// How much was decided the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Same {
    /// Runs of the tree.
    pub runs: u64,
    /// Facts of their logs.
    pub events: u64,
    /// Those of them that the core decided.
    pub decisions: u64,
    /// Requests to models among these: their text, their bound and their worst case.
    pub requests: u64,
    /// Settlements, each priced again.
    pub bills: u64,
}

/// A desk for runs that nobody drives: a price book, and the providers as a project has them; the simulated one answers
/// whatever a plan names.
#[must_use]
pub fn desk(project: &Project, book: PriceBook, simulated: bool) -> Appraiser {
    let terms = project.providers.iter().map(|(name, config)| (name.clone(), terms_of(config)));
    let terms = Arc::new(terms.collect());
    let known = if simulated { Providers::Any(terms) } else { Providers::Configured(terms) };
    Appraiser::new(Arc::new(book), known)
        .with_approvals(project.approvals.clone())
        .with_ages(project.ages.clone())
        .with_accounts(payers_of(project))
}

/// Judges a tree again, with the book and the terms that a desk has.
///
/// # Errors
/// The first decision that is another now.
pub fn replay(log: &TreeLog, desk: &Appraiser) -> Result<Same, Box<Difference>> {
    if !log.is_ordered() {
        let why = "several runs wrote to it, and its log is older than the numbers that say in which order";
        return Err(Box::new(Difference { untold: true, ..*Difference::of_log(log.root, why) }));
    }
    if log.erased {
        let why = "bodies were taken out of the store, and what was decided went by them";
        return Err(Box::new(Difference { untold: true, ..*Difference::of_log(log.root, why) }));
    }
    let checks = Checks::default();
    let mut player = Player::new(log, desk, &checks)?;
    while let Some((run, recorded)) = player.next() {
        player.step(run, recorded)?;
    }
    Ok(player.same)
}

impl Runtime {
    /// Judges the tree of a run again from its logs, with the prices and the providers in force.
    ///
    /// # Errors
    /// There is no such run, or a log is damaged.
    pub fn replay(&self, run: RunId) -> Result<Result<Same, Box<Difference>>, RuntimeError> {
        Ok(replay(&TreeLog::read(self.store(), run)?, self.0.gate.appraiser()))
    }

    /// Tells the tree of a run again under a change, with the prices and the providers in force; no call is made.
    ///
    /// # Errors
    /// There is no such run, a log is damaged, or as [`what_if`].
    pub fn what_if(&self, run: RunId, change: &Change) -> Result<WhatIf, WhatIfError> {
        what_if(&TreeLog::read(self.store(), run)?, self.0.gate.appraiser(), change)
    }
}

/// A tree while it is judged again.
struct Player<'a> {
    log: &'a TreeLog,
    desk: Appraiser,
    /// The same without what calls pinned.
    in_force: Appraiser,
    checks: &'a Checks,
    tree: Tree,
    /// The accounts that nobody else shares.
    own: OwnAccounts,
    agents: BTreeMap<RunId, Arc<Agent>>,
    /// The root's own conversation.
    talk: Rendered,
    /// Those of places and of runs below, as their first calls had them.
    talks: BTreeMap<(RunId, Option<Place>), Rendered>,
    /// The next event of each run that has begun.
    places: BTreeMap<RunId, usize>,
    open: BTreeMap<ReservationId, &'a Reserved>,
    /// Where calls of each run wait for rates, and so are made after what comes behind them.
    rate_waits: BTreeMap<RunId, Vec<Place>>,
    /// The rates said no to the landing.
    landing_refused: bool,
    /// What was last decided and isn't all written; and whether nothing came from outside since.
    look: Look,
    is_fresh: bool,
    /// What was decided when the root began to wait for its turn: people may answer meanwhile.
    queued: Look,
    /// The time of the write that is folded, and of the one before that a decision could follow.
    at: Timestamp,
    earliest: Timestamp,
    /// True where what was written last only let a decision through that was taken before it.
    waited: bool,
    /// The input of the child that begins.
    input: Value,
    same: Same,
}

impl<'a> Player<'a> {
    fn new(log: &'a TreeLog, desk: &Appraiser, checks: &'a Checks) -> Result<Self, Box<Difference>> {
        let root = log.root;
        let no_run = || Difference::of_log(root, "its log doesn't begin with its creation");
        let first = log.logs.get(&root).and_then(|log| log.first()).ok_or_else(no_run)?;
        let Event::Created(created) = &first.event else { return Err(no_run()) };
        let agent = Arc::new(Agent::new(log.plan.clone()));
        if agent.hash != created.plan {
            return Err(Difference::of_log(root, "its plan isn't the one that it began with"));
        }
        let talk = Rendered::of(&log.plan, agent.forms.own.clone(), &created.input);
        let talk = talk.map_err(|fault| Difference::of_log(root, &format!("its prompt can't be rendered: {fault}")))?;
        let run = Run::new(root, log.plan.clone(), created, first.at);
        let mut own = OwnAccounts::default();
        own.apply(root, &first.event);
        let mut player = Self {
            log,
            desk: desk.clone(),
            in_force: desk.clone(),
            checks,
            talk: talk.with_input_of(&run).with_earlier(log.history()),
            tree: Tree::of(run),
            own,
            agents: BTreeMap::from([(root, agent)]),
            talks: BTreeMap::new(),
            places: BTreeMap::from([(root, 1)]),
            open: BTreeMap::new(),
            rate_waits: BTreeMap::new(),
            landing_refused: false,
            look: Look::default(),
            is_fresh: false,
            queued: Look::default(),
            at: first.at,
            earliest: first.at,
            waited: false,
            input: Value::Null,
            same: Same { runs: 1, events: 1, ..Same::default() },
        };
        player.pin_all()?;
        Ok(player)
    }

    /// Prices stand as they were pinned first; a later version is pinned by its call.
    fn pin_all(&mut self) -> Result<(), Box<Difference>> {
        for (run, log) in self.log.logs.iter().rev() {
            for recorded in log.iter().rev() {
                let Event::Reserved(reserved) = &recorded.event else { continue };
                let Call::Model(call) = &reserved.call else { continue };
                if !self.pin(call, recorded.at) {
                    let now = format!(
                        "price version `{}` isn't in the price book: its bounds and bills can't be told",
                        call.price
                    );
                    return Err(Difference::of_event(*run, recorded, now));
                }
            }
        }
        Ok(())
    }

    /// The next event of a run.
    fn head(&self, run: RunId) -> Option<&'a Recorded> {
        self.log.logs.get(&run)?.get(*self.places.get(&run)?)
    }

    /// The next fact of the tree, and whose it is.
    fn next(&self) -> Option<(RunId, &'a Recorded)> {
        let heads = self.places.keys().filter_map(|run| Some((*run, self.head(*run)?)));
        heads.min_by_key(|(_, recorded)| recorded.place_in_tree())
    }

    /// Folds one fact: a decision that is taken now, or what came from outside.
    fn step(&mut self, run: RunId, recorded: &'a Recorded) -> Result<(), Box<Difference>> {
        self.reach(recorded.at);
        if !self.is_next(run, recorded) {
            return Err(Difference::of_event(run, recorded, "an event before it is missing".into()));
        }
        if is_from_outside(&recorded.event) {
            self.check_outside(run, recorded).map_err(|now| Difference::of_event(run, recorded, now))?;
        } else if self.is_decided(run, recorded) {
            self.same.decisions += 1;
        } else {
            return Err(self.difference(run, recorded));
        }
        self.fold(run, recorded);
        Ok(())
    }

    /// True where no event of its log is missing before it.
    fn is_next(&self, run: RunId, recorded: &Recorded) -> bool {
        self.places.get(&run).is_some_and(|place| usize::try_from(recorded.seq) == Ok(*place))
    }

    /// The clock goes on to a write's time.
    fn reach(&mut self, at: Timestamp) {
        if at > self.at {
            if !self.waited {
                self.earliest = self.at;
            }
            self.at = at;
        }
    }

    fn fold(&mut self, run: RunId, recorded: &'a Recorded) {
        let event = &recorded.event;
        if matches!(event, Event::PersonAnswered(_)) && self.tree.root().state == RunState::Queued {
            let look = Look::at(&self.tree, self.at, self.checks);
            if !look.intents.is_empty() {
                self.queued = look;
            }
        }
        self.tree.apply(recorded.at, run, event);
        self.own.apply(run, event);
        self.same.events += 1;
        *self.places.entry(run).or_default() += 1;
        // A downgrade belongs to the call behind it.
        if !matches!(event, Event::Downgraded(_)) {
            self.waited =
                matches!(event, Event::Admitted(_) | Event::WaitBegan(_) | Event::WaitEnded(_) | Event::PeriodMoved(_));
        }
        self.follow(run, event);
    }

    /// What isn't the tree's own state: who comes next, and what was kept for who is over.
    fn follow(&mut self, run: RunId, event: &'a Event) {
        match event {
            Event::Reserved(reserved) => drop(self.open.insert(reserved.reservation, reserved)),
            Event::Settled(settled) => {
                let made = self.open.remove(&settled.reservation);
                self.same.bills += 1;
                // A free builtin that took no time may have run at once: the look goes on behind it.
                let is_tool = made.is_some_and(|made| matches!(made.call, Call::Tool { .. }) && made.amount.is_zero());
                self.is_fresh &= is_tool && settled.latency == Millis::ZERO;
            }
            Event::Voided(voided) => {
                self.open.remove(&voided.reservation);
                self.is_fresh = false;
            }
            Event::ChildBegan(began) => {
                self.places.insert(began.child, 0);
                self.same.runs += 1;
            }
            Event::ChildEnded(ended) => {
                self.agents.remove(&ended.child);
                self.talks.retain(|(of, _), _| *of != ended.child);
            }
            Event::StageEnded(ended) => self.talks.retain(|(of, place), _| {
                let is_over = |at: &Place| {
                    at.stage == ended.place.stage && (ended.place.item.is_none() || at.item == ended.place.item)
                };
                *of != run || !place.as_ref().is_some_and(is_over)
            }),
            // Who goes on with it renders its texts anew, and waits for nothing yet.
            Event::Interrupted(_) | Event::Parked(_) => {
                self.talks.clear();
                self.rate_waits.clear();
                self.landing_refused = false;
            }
            Event::RateWaitBegan(began) => self.rate_waits.entry(run).or_default().push(began.place.clone()),
            // Once it may go, all is judged again.
            Event::RateWaitEnded(ended) => {
                let waits = self.rate_waits.entry(run).or_default();
                if let Some(index) = waits.iter().position(|place| *place == ended.place) {
                    waits.remove(index);
                }
                self.landing_refused |= ended.refused.is_some() && self.tree.root().lands.is_some();
                self.is_fresh = false;
            }
            Event::PersonAnswered(_) | Event::InFlightResolved(_) | Event::CancelRequested(_) => self.is_fresh = false,
            Event::Created(_)
            | Event::Admitted(_)
            | Event::CallRefused(_)
            | Event::Downgraded(_)
            | Event::WaitBegan(_)
            | Event::WaitEnded(_)
            | Event::LandingBegan(_)
            | Event::LandingReleased(_)
            | Event::PersonAsked(_)
            | Event::MapBegan(_)
            | Event::Ended(_)
            | Event::PeriodMoved(_)
            | Event::OutcomeRecorded(_) => {}
        }
    }
}

/// True for what isn't decided by the core but told to it.
fn is_from_outside(event: &Event) -> bool {
    match event {
        Event::Settled(_)
        | Event::Voided(_)
        | Event::WaitEnded(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::LandingReleased(_)
        | Event::CancelRequested(_)
        | Event::Interrupted(_)
        | Event::InFlightResolved(_)
        | Event::PeriodMoved(_)
        | Event::OutcomeRecorded(_) => true,
        Event::PersonAnswered(answered) => !outside::is_too_late(answered),
        Event::Created(_)
        | Event::Admitted(_)
        | Event::Reserved(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::LandingBegan(_)
        | Event::PersonAsked(_)
        | Event::Parked(_)
        | Event::MapBegan(_)
        | Event::StageEnded(_)
        | Event::ChildBegan(_)
        | Event::ChildEnded(_)
        | Event::Ended(_) => false,
    }
}
