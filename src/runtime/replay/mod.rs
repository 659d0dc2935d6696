//! Judges a tree again from its logs: each recorded decision is what the core decides at that place (promise 11).
//!
//! The logs of a tree are folded together, in the order of their times. Before each fact that is a decision, the core is
//! asked what it decides in the state so far; the gate's first half prepares each model call anew; each bill is priced
//! anew from its usage, at its pinned version. What came from outside is taken from the log: what providers, tools and
//! people said, when, which ids runs have, what shared budgets and rates allowed, and which documents were found.
//!
//! Clock readings too: the log has the time of each write, and a decision was taken shortly before it. So what follows from
//! the clock alone (a call's time limit, the active time that a refusal names) is held against the time between the write
//! before and its own. Where several runs of a tree wrote in the same millisecond, their order is one that fits.
//!
//! Deliberately absent: calls, writes, and a second copy of any decision.

mod calls;
mod difference;
mod judge;
mod log;
mod look;
mod outside;

pub use difference::Difference;
pub use log::TreeLog;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Agent;
use super::checks::Checks;
use crate::domain::event::{Event, Place, Recorded, Reserved};
use crate::domain::ledger::OwnAccounts;
use crate::domain::run::{Run, Tree};
use crate::gate::{Appraiser, Rendered};
use crate::ids::{ReservationId, RunId};
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

/// Judges a tree again, with the book and the terms that a desk has.
///
/// # Errors
/// The first decision that is another now.
pub fn replay(log: &TreeLog, desk: &Appraiser) -> Result<Same, Box<Difference>> {
    Player::new(log, desk)?.play()
}

/// A tree while it is judged again.
struct Player<'a> {
    log: &'a TreeLog,
    desk: Appraiser,
    checks: Checks,
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
    /// What was last decided and isn't all written.
    look: Look,
    /// The time of the write that is folded, and of the one before that a decision could follow.
    at: Timestamp,
    earliest: Timestamp,
    /// True where what was written last only let a decision through that was taken before it.
    waited: bool,
    /// Whose fact comes next: those of a child's beginning and end stand together.
    next: Option<RunId>,
    /// The input of the child that begins.
    input: Value,
    same: Same,
}

impl<'a> Player<'a> {
    fn new(log: &'a TreeLog, desk: &Appraiser) -> Result<Self, Box<Difference>> {
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
        let mut own = OwnAccounts::default();
        own.apply(root, &first.event);
        Ok(Self {
            log,
            desk: desk.clone(),
            checks: Checks::default(),
            tree: Tree::of(Run::new(root, log.plan.clone(), created, first.at)),
            own,
            agents: BTreeMap::from([(root, agent)]),
            talk: talk.with_documents(created.documents.clone()).with_earlier(log.history()),
            talks: BTreeMap::new(),
            places: BTreeMap::from([(root, 1)]),
            open: BTreeMap::new(),
            look: Look::default(),
            at: first.at,
            earliest: first.at,
            waited: false,
            next: None,
            input: Value::Null,
            same: Same { runs: 1, events: 1, ..Same::default() },
        })
    }

    fn play(mut self) -> Result<Same, Box<Difference>> {
        while let Some((run, recorded)) = self.next_event()? {
            self.fold(run, recorded);
        }
        Ok(self.same)
    }

    /// The next event of a run.
    fn head(&self, run: RunId) -> Option<&'a Recorded> {
        self.log.logs.get(&run)?.get(*self.places.get(&run)?)
    }

    /// Whose event comes next. Of several of one time a decision that is taken now goes first, then what came from outside.
    fn next_event(&mut self) -> Result<Option<(RunId, &'a Recorded)>, Box<Difference>> {
        let heads: Vec<(RunId, &Recorded)> = match self.next.take().and_then(|run| Some((run, self.head(run)?))) {
            Some(head) => vec![head],
            None => self.places.keys().filter_map(|run| Some((*run, self.head(*run)?))).collect(),
        };
        let Some(at) = heads.iter().map(|(_, recorded)| recorded.at).min() else { return Ok(None) };
        self.reach(at);
        let (mut outside, mut differs) = (None, None);
        for (run, recorded) in heads.into_iter().filter(|(_, recorded)| recorded.at == at) {
            if recorded.seq as usize != self.places.get(&run).copied().unwrap_or_default() {
                return Err(Difference::of_event(run, recorded, "an event before it is missing".into()));
            }
            if is_from_outside(&recorded.event) {
                match self.check_outside(run, recorded) {
                    Ok(()) => drop(outside.get_or_insert((run, recorded))),
                    Err(now) => drop(differs.get_or_insert((run, recorded, Some(now)))),
                }
            } else if self.is_decided(run, recorded) {
                self.same.decisions += 1;
                return Ok(Some((run, recorded)));
            } else {
                differs.get_or_insert((run, recorded, None));
            }
        }
        match (outside, differs) {
            (Some(outside), _) => Ok(Some(outside)),
            (None, Some((run, recorded, now))) => Err(self.difference(run, recorded, now)),
            (None, None) => Ok(None),
        }
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
        self.tree.apply(recorded.at, run, event);
        self.own.apply(run, event);
        self.same.events += 1;
        *self.places.entry(run).or_default() += 1;
        self.waited = matches!(event, Event::Admitted(_) | Event::WaitBegan(_) | Event::WaitEnded(_) | Event::PeriodMoved(_));
        self.follow(run, event);
    }

    /// What isn't the tree's own state: who comes next, and what was kept for who is over.
    fn follow(&mut self, run: RunId, event: &'a Event) {
        match event {
            Event::Reserved(reserved) => drop(self.open.insert(reserved.reservation, reserved)),
            Event::Settled(settled) => {
                self.open.remove(&settled.reservation);
                self.same.bills += 1;
            }
            Event::Voided(voided) => drop(self.open.remove(&voided.reservation)),
            Event::ChildBegan(began) => {
                self.places.insert(began.child, 0);
                self.same.runs += 1;
                self.next = Some(began.child);
            }
            Event::Created(_) => self.next = Some(run),
            Event::Ended(_) => self.next = self.tree.run(run).and_then(|run| Some(run.parent.as_ref()?.run)),
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
            // Who goes on with it renders its texts anew.
            Event::Interrupted(_) | Event::Parked(_) => self.talks.clear(),
            Event::Admitted(_)
            | Event::CallRefused(_)
            | Event::WaitBegan(_)
            | Event::WaitEnded(_)
            | Event::LandingBegan(_)
            | Event::LandingReleased(_)
            | Event::CancelRequested(_)
            | Event::PersonAsked(_)
            | Event::InFlightResolved(_)
            | Event::PersonAnswered(_)
            | Event::MapBegan(_)
            | Event::PeriodMoved(_) => {}
        }
    }
}

/// True for what isn't decided by the core but told to it.
fn is_from_outside(event: &Event) -> bool {
    match event {
        Event::Settled(_)
        | Event::Voided(_)
        | Event::WaitEnded(_)
        | Event::LandingReleased(_)
        | Event::CancelRequested(_)
        | Event::Interrupted(_)
        | Event::InFlightResolved(_)
        | Event::PeriodMoved(_) => true,
        Event::PersonAnswered(answered) => !outside::is_too_late(answered),
        Event::Created(_)
        | Event::Admitted(_)
        | Event::Reserved(_)
        | Event::CallRefused(_)
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
