//! Where a run would have gone another way, and what sent it there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::lines::{Line, called, id, known};
use super::live::{Found, Told, Unknown};
use super::record::Record;
use crate::domain::event::{CallRefusal, EndState, Ended, Event, Place, Recorded, RunState};
use crate::domain::limits::{LimitKind, Refusal};
use crate::ids::{AgentName, ReservationId, RunId};
use crate::units::Money;

/// See [`super::what_if`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It comes to the same end, or waits for the same person.
    Same {
        /// Where it stands then.
        state: RunState,
    },
    /// A limit would have stopped it, or a part of it, where none did.
    Stopped(Box<Stop>),
    /// It would have failed.
    Failed {
        /// Before this step of the root; `None` where no other was recorded.
        before_step: Option<u32>,
        /// Why.
        error: String,
    },
    /// It would not have been stopped where it was: what comes then isn't known.
    GoesOn {
        /// What stopped it; `None` where the log ends there, since the run was interrupted, cancelled or still goes on.
        stopped_by: Option<Refusal>,
        /// Whom it calls then: a model or a tool.
        calls: String,
        /// The most that this can cost.
        bound_usd: Money,
    },
    /// From a call on nobody knows what it would be answered.
    Unknown {
        /// Its step.
        step: u32,
        /// Why.
        why: String,
    },
}

/// See [`Verdict::Stopped`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Whose limit it is: the root, or a run below.
    pub run: RunId,
    /// Its agent.
    pub agent: AgentName,
    /// The stage that is stopped, where it isn't the run.
    pub stage: Option<String>,
    /// The call that is refused, where only that is: the model is told.
    pub call: Option<String>,
    /// The first recorded step of that run that would not be; `None` where no other was recorded.
    pub before_step: Option<u32>,
    /// How many steps it made.
    pub steps: u32,
    /// The limit.
    pub refusal: Refusal,
    /// How much higher the root's `cost` had to be for that call, where it is that limit: with it the call is made, with a
    /// pico-dollar less it isn't.
    pub needs_more_usd: Option<Money>,
    /// What the root and all below it had cost by then.
    pub spent_usd: Money,
    /// The most that the last answer could still have cost; `None` where there would have been none.
    pub landing_usd: Option<Money>,
}

/// What tells one no from another: whose, where, which limit, and after how many attempts of that run.
type No = (RunId, Option<Place>, Option<String>, LimitKind, usize);

pub(super) fn verdict(record: &Record, told: &Told, lines: &[Line]) -> Verdict {
    let was = refusals_of(record);
    let mut left: Vec<&No> = was.iter().map(|(no, _)| no).collect();
    let mut now = Vec::new();
    for (no, refusal) in refusals(told.events.iter().filter_map(|(run, one)| Some((*told.runs.get(run)?, one)))) {
        match left.iter().position(|was| **was == no) {
            Some(index) => drop(left.remove(index)),
            None => now.push((no, refusal)),
        }
    }
    if let Some((no, refusal)) = first_of(record.log.root, now) {
        return Verdict::Stopped(Box::new(stop(record, told, lines, no, refusal)));
    }
    let stopped_by = was.iter().find(|(no, _)| left.contains(&no)).map(|(_, refusal)| (*refusal).clone());
    if let Some(stuck) = told.stuck {
        return stuck_at(record, told, stuck, stopped_by);
    }
    let root = record.log.root;
    let ended = ended(told.events.iter().filter(|(run, _)| *run == root).map(|(_, one)| one));
    let recorded = ended_of_log(record);
    match ended {
        Some(ended) if ended.state == EndState::Failed && recorded.is_none_or(|was| was.state != EndState::Failed) => {
            let error = ended.error.clone().unwrap_or_default();
            Verdict::Failed { before_step: before(record, told, root), error }
        }
        Some(ended) => Verdict::Same { state: RunState::from(ended.state) },
        None => Verdict::Same { state: parked(told, root) },
    }
}

/// The first no; that of the root where it stops by the same, as after a refused call.
fn first_of(root: RunId, now: Vec<(No, &Refusal)>) -> Option<(No, &Refusal)> {
    let first = now.first()?;
    let (run, _, _, limit, made) = &first.0;
    let of_root = now.iter().find(|((by, place, ..), _)| *run == root && *by == root && place.is_none());
    let same = of_root.filter(|((.., stopped_by, made_then), _)| stopped_by == limit && made_then == made);
    Some(same.unwrap_or(first).clone())
}

fn stuck_at(record: &Record, told: &Told, stuck: ReservationId, stopped_by: Option<Refusal>) -> Verdict {
    let reserved = told.events.iter().find_map(|(_, one)| {
        let Event::Reserved(reserved) = &one.event else { return None };
        (reserved.reservation == stuck).then_some(reserved)
    });
    let step = reserved.map_or(0, |reserved| reserved.step.step);
    let goes_on = |stopped_by| Verdict::GoesOn {
        stopped_by,
        calls: reserved.map_or_else(String::new, |reserved| called(reserved)),
        bound_usd: reserved.map_or(Money::ZERO, |reserved| reserved.amount),
    };
    let ends_there = ended_of_log(record).is_none_or(|ended| ended.state == EndState::Cancelled);
    let why = match told.found.get(&stuck) {
        Some(Found::Unknown(Unknown::NeverMade)) if stopped_by.is_some() || ends_there => {
            return goes_on(stopped_by);
        }
        Some(Found::Unknown(Unknown::Open)) => return goes_on(stopped_by),
        Some(Found::Unknown(Unknown::Longer(most, came))) => {
            format!("it would be asked for at most {most} tokens of answer, and gave {came}")
        }
        Some(Found::Unknown(Unknown::WentDown)) => "the process went down while it was in flight".into(),
        Some(Found::Unknown(Unknown::OtherRequest)) => "something else would be asked".into(),
        Some(Found::Unknown(Unknown::NeverMade) | Found::Known(_)) | None => "no such call was recorded".into(),
    };
    Verdict::Unknown { step, why }
}

fn stop(record: &Record, told: &Told, lines: &[Line], no: No, refusal: &Refusal) -> Stop {
    let (run, place, call, _, _) = no;
    let is_root = run == record.log.root;
    let landing = lines.iter().find(|line| line.lands && line.would.is_some()).and_then(|line| line.would);
    let lands = landing.filter(|_| is_root && place.is_none());
    Stop {
        run,
        agent: record.agent(run),
        stage: place.filter(|_| call.is_none()).map(|place| place.to_string()),
        call,
        before_step: before(record, told, run),
        steps: record.steps(run),
        needs_more_usd: None,
        refusal: refusal.clone(),
        spent_usd: lines.iter().filter(|line| !line.lands).filter_map(|line| line.would?.cost_usd).sum(),
        landing_usd: lands.map(|landing| landing.bound_usd),
    }
}

/// The first recorded step of a run that isn't made now.
fn before(record: &Record, told: &Told, run: RunId) -> Option<u32> {
    let made: BTreeSet<ReservationId> = told.found.values().filter_map(known).map(id).collect();
    let mut left = record.tries().iter().filter(|tried| tried.reserved.reservation.run == run);
    left.find(|tried| !made.contains(&id(tried))).map(|tried| tried.reserved.step.step)
}

fn refusals_of(record: &Record) -> Vec<(No, &Refusal)> {
    refusals(record.log.logs.iter().flat_map(|(run, log)| log.iter().map(|one| (*run, one))))
}

/// Each no in the order of the facts; one that follows from another of its run stands behind it.
fn refusals<'a>(facts: impl Iterator<Item = (RunId, &'a Recorded)>) -> Vec<(No, &'a Refusal)> {
    let mut attempts: BTreeMap<RunId, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (run, one) in facts {
        let made = attempts.entry(run).or_default();
        if let Event::Reserved(_) = &one.event {
            *made += 1;
        }
        if let Some((place, call, refusal)) = refusal_of(&one.event) {
            found.push(((run, place, call, refusal.limit, *made), refusal));
        }
    }
    found
}

fn refusal_of(event: &Event) -> Option<(Option<Place>, Option<String>, &Refusal)> {
    if let Event::LandingBegan(began) = event {
        return Some((None, None, &began.refusal));
    }
    if let Event::StageEnded(ended) = event {
        return Some((Some(ended.place.clone()), None, ended.refusal.as_ref()?));
    }
    if let Event::CallRefused(refused) = event
        && let CallRefusal::Limit { refusal } = &refused.why
    {
        return Some((Some(refused.step.place()), Some(refused.tool.to_string()), refusal));
    }
    if let Event::Ended(ended) = event {
        return Some((None, None, ended.refusal.as_ref()?));
    }
    None
}

fn ended<'a>(mut log: impl Iterator<Item = &'a Recorded>) -> Option<&'a Ended> {
    log.find_map(|one| if let Event::Ended(ended) = &one.event { Some(ended) } else { None })
}

fn ended_of_log(record: &Record) -> Option<&Ended> {
    ended(record.log.logs.get(&record.log.root).into_iter().flatten())
}

fn parked(told: &Told, root: RunId) -> RunState {
    let of_root = told.events.iter().rev().filter(|(run, _)| *run == root);
    let parked =
        of_root.filter_map(|(_, one)| if let Event::Parked(parked) = &one.event { Some(parked.state) } else { None });
    parked.into_iter().next().unwrap_or(RunState::Interrupted)
}
