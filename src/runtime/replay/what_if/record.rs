//! What was recorded of a tree, found by where it stands: by the run that called, the place, and the how-manieth call it
//! was there. Steps have other numbers where a limit lets calls wait, and runs other ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::event::{
    Call, ChildBegan, Event, Outcome, PersonAnswered, Place, Purpose, Recorded, Reserved, Settled, Voided,
};
use crate::domain::retry::ErrorClass;
use crate::ids::{AgentName, ReservationId, RunId};
use crate::runtime::replay::TreeLog;
use crate::units::{Millis, Timestamp};

/// An attempt as it was recorded.
#[derive(Clone, Debug)]
pub(super) struct Try {
    pub(super) at: Timestamp,
    pub(super) reserved: Reserved,
    /// How it ended, and when that was written.
    pub(super) end: Option<(Timestamp, TryEnd)>,
}

#[derive(Clone, Debug)]
pub(super) enum TryEnd {
    Settled(Box<Settled>),
    Voided(Voided),
}

impl Try {
    /// From its reservation to its end, as it was written.
    pub(super) fn took(&self) -> Millis {
        // What the process took with it when it went down isn't time of the run.
        let broke_off = self.settled().is_some_and(
            |settled| matches!(&settled.outcome, Outcome::Failed(failure) if failure.class == ErrorClass::Interrupted),
        );
        self.end.as_ref().filter(|_| !broke_off).map_or(Millis::ZERO, |(end, _)| end.since(self.at))
    }

    pub(super) fn settled(&self) -> Option<&Settled> {
        if let Some((_, TryEnd::Settled(settled))) = &self.end { Some(settled) } else { None }
    }
}

/// What calls are told apart by, beside their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Model,
    Landing,
    Tool { call_id: String, arguments_hash: String },
}

impl What {
    pub(super) fn of(call: &Call) -> Self {
        match call {
            Call::Model(call) if call.purpose == Purpose::Landing => Self::Landing,
            Call::Model(_) => Self::Model,
            Call::Tool { call_id, arguments_hash, .. } => {
                Self::Tool { call_id: call_id.clone(), arguments_hash: arguments_hash.clone() }
            }
        }
    }
}

/// Where a step stands; of several such the how-manieth is said beside it.
pub(super) type Spot = (RunId, Place, What);

#[derive(Debug)]
pub(super) struct Record {
    pub(super) log: Arc<TreeLog>,
    /// The tries of each step.
    steps: BTreeMap<Spot, Vec<Vec<Arc<Try>>>>,
    children: BTreeMap<(RunId, Place), Vec<RunId>>,
    /// All tries, in the order in which they were written.
    tries: Vec<Arc<Try>>,
}

impl Record {
    pub(super) fn of(log: Arc<TreeLog>) -> Self {
        let (mut steps, mut children) = (BTreeMap::<Spot, Vec<Vec<Arc<Try>>>>::new(), BTreeMap::new());
        let mut tries = tries(&log);
        tries.sort_by_key(|tried| (tried.at, tried.reserved.reservation));
        for tried in &tries {
            let reserved = &tried.reserved;
            let spot = (reserved.reservation.run, reserved.step.place(), What::of(&reserved.call));
            let there = steps.entry(spot).or_default();
            let step = there.iter_mut().rev().find(|step| is_of_step(step, reserved)).filter(|_| reserved.attempt > 1);
            match step {
                Some(step) => step.push(tried.clone()),
                None => there.push(vec![tried.clone()]),
            }
        }
        for (run, began) in log.logs.iter().flat_map(|(run, log)| log.iter().filter_map(move |one| began(*run, one))) {
            children.entry((run, began.place.clone())).or_insert_with(Vec::new).push(began.child);
        }
        Self { log, steps, children, tries }
    }

    pub(super) fn tries(&self) -> &[Arc<Try>] {
        &self.tries
    }

    /// The try of this number, from 1, of one of the steps at a spot.
    pub(super) fn find(&self, spot: &Spot, step: usize, attempt: u32) -> Option<&Arc<Try>> {
        self.steps.get(spot)?.get(step)?.iter().find(|tried| tried.reserved.attempt == attempt)
    }

    /// The run that was called there, of several the one of this number, from 0.
    pub(super) fn child(&self, parent: RunId, place: &Place, number: usize) -> Option<RunId> {
        self.children.get(&(parent, place.clone()))?.get(number).copied()
    }

    /// What a person answered to a question of a run, and how long that took.
    pub(super) fn answer(&self, run: RunId, ask: u32) -> Option<(Millis, &PersonAnswered)> {
        let log = self.log.logs.get(&run)?;
        let asked = log.iter().find(|one| matches!(&one.event, Event::PersonAsked(asked) if asked.ask == Some(ask)))?;
        log.iter().find_map(|one| {
            let Event::PersonAnswered(answered) = &one.event else { return None };
            (answered.ask == Some(ask)).then(|| (one.at.since(asked.at), answered))
        })
    }

    /// The agent of a run; the root's for one that wasn't recorded.
    pub(super) fn agent(&self, run: RunId) -> AgentName {
        let first = self.log.logs.get(&run).and_then(|log| log.first());
        match first.map(|first| &first.event) {
            Some(Event::Created(created)) => created.agent.clone(),
            Some(_) | None => self.log.plan.agent.clone(),
        }
    }

    /// The steps that a run made.
    pub(super) fn steps(&self, run: RunId) -> u32 {
        let made = self.tries.iter().filter(|tried| tried.reserved.reservation.run == run);
        made.map(|tried| tried.reserved.step.step).max().unwrap_or_default()
    }
}

fn is_of_step(step: &[Arc<Try>], reserved: &Reserved) -> bool {
    step.first().is_some_and(|first| first.reserved.step == reserved.step)
}

fn began(run: RunId, recorded: &Recorded) -> Option<(RunId, &ChildBegan)> {
    if let Event::ChildBegan(began) = &recorded.event { Some((run, began)) } else { None }
}

fn tries(log: &TreeLog) -> Vec<Arc<Try>> {
    let mut ends: BTreeMap<ReservationId, (Timestamp, TryEnd)> = BTreeMap::new();
    for recorded in log.logs.values().flatten() {
        if let Event::Settled(settled) = &recorded.event {
            ends.insert(settled.reservation, (recorded.at, TryEnd::Settled(settled.clone())));
        } else if let Event::Voided(voided) = &recorded.event {
            ends.insert(voided.reservation, (recorded.at, TryEnd::Voided(voided.clone())));
        }
    }
    let reserved = log.logs.values().flatten().filter_map(|recorded| {
        let Event::Reserved(reserved) = &recorded.event else { return None };
        Some((recorded.at, Reserved::clone(reserved)))
    });
    let of = |(at, reserved): (Timestamp, Reserved)| {
        let end = ends.remove(&reserved.reservation);
        Arc::new(Try { at, reserved, end })
    };
    reserved.map(of).collect()
}
