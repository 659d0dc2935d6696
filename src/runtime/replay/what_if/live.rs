//! What happens while a tree is told again: its facts as they are written, and for each call the recorded one that
//! answers it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::record::{Record, Spot, Try, TryEnd, What};
use crate::domain::event::{
    Call, CallRefusal, ChildBegan, Decision, Event, Outcome, PersonAsked, Place, Recorded, Reserved, Settled,
};
use crate::domain::run::Given;
use crate::ids::{ReservationId, RunId};
use crate::store::inline::Tap;
use crate::units::{Timestamp, Tokens};

/// Why nobody knows what a call would be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// No such call was recorded.
    NeverMade,
    /// Its end isn't in the log.
    Open,
    /// Something else would be said.
    OtherRequest,
    /// Its answer would be cut: asked for at most so many tokens, and this many came.
    Longer(Tokens, Tokens),
    /// It was in flight when the process went down.
    WentDown,
}

/// The recorded call that answers one.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Known(Arc<Try>),
    Unknown(Unknown),
}

/// A question that was answered, or whose time was up, and when that is now.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) run: RunId,
    /// `None` where nobody answered in time.
    pub(super) given: Option<Given>,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    /// Every fact, in the order in which they were written.
    pub(super) events: Vec<(RunId, Recorded)>,
    /// Each run's recorded one.
    pub(super) runs: BTreeMap<RunId, RunId>,
    /// The recorded call of each attempt.
    pub(super) found: BTreeMap<ReservationId, Found>,
    pub(super) due: Vec<Due>,
    /// The first call that nobody can answer.
    pub(super) stuck: Option<ReservationId>,
    steps: BTreeMap<(RunId, u32), (Spot, usize)>,
    next: BTreeMap<Spot, usize>,
    children: BTreeMap<(RunId, Place), usize>,
    /// Places whose conversation isn't the recorded one any more.
    astray: BTreeSet<(RunId, Place)>,
}

/// The eye on a store, with what was recorded.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) record: Record,
    /// True where other models are asked: requests may then be fitted otherwise.
    other_models: bool,
    told: Mutex<Told>,
    /// Something is due, or nothing more can be known.
    pub(super) news: Notify,
}

impl Live {
    pub(super) fn of(record: Record, other_models: bool) -> Self {
        let root = record.log.root;
        let told = Told { runs: BTreeMap::from([(root, root)]), ..Told::default() };
        Self { record, other_models, told: Mutex::new(told), news: Notify::new() }
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self, told: &mut Told, run: RunId, began: &ChildBegan) {
        let Some(parent) = told.runs.get(&run).copied() else { return };
        let number = told.children.entry((parent, began.place.clone())).or_default();
        if let Some(child) = self.record.child(parent, &began.place, *number) {
            told.runs.insert(began.child, child);
        }
        *number += 1;
    }

    fn reserved(&self, told: &mut Told, run: RunId, reserved: &Reserved) {
        let found = self.find(told, run, reserved).map_or_else(Found::Unknown, Found::Known);
        told.found.insert(reserved.reservation, found);
    }

    /// The recorded call in whose place this one stands, and whose answer is its own.
    fn find(&self, told: &mut Told, run: RunId, reserved: &Reserved) -> Result<Arc<Try>, Unknown> {
        let of = *told.runs.get(&run).ok_or(Unknown::NeverMade)?;
        let place = reserved.step.place();
        let key = (run, reserved.step.step);
        if !told.steps.contains_key(&key) {
            let spot = (of, place.clone(), What::of(&reserved.call));
            let next = told.next.entry(spot.clone()).or_default();
            told.steps.insert(key, (spot, *next));
            *next += 1;
        }
        let (spot, step) = told.steps.get(&key).ok_or(Unknown::NeverMade)?;
        let tried = self.record.find(spot, *step, reserved.attempt).ok_or(Unknown::NeverMade)?;
        if told.astray.contains(&(of, place)) {
            return Err(Unknown::OtherRequest);
        }
        self.answers(reserved, tried).map(|()| tried.clone())
    }

    fn answers(&self, reserved: &Reserved, tried: &Try) -> Result<(), Unknown> {
        let Some((_, end)) = &tried.end else { return Err(Unknown::Open) };
        let (Call::Model(now), Call::Model(was)) = (&reserved.call, &tried.reserved.call) else {
            let lost = |settled: &Settled| matches!(settled.outcome, Outcome::Failed(_));
            let is_lost = matches!(end, TryEnd::Settled(settled) if lost(settled));
            return if is_lost { Err(Unknown::WentDown) } else { Ok(()) };
        };
        let is_same = now.request_hash == was.request_hash || self.other_models || now.model != was.model;
        if now.purpose != was.purpose || !is_same {
            return Err(Unknown::OtherRequest);
        }
        let most = Tokens(now.max_output_tokens.into());
        let came =
            tried.settled().and_then(|settled| settled.usage.as_ref()).map_or(Tokens::ZERO, |usage| usage.output);
        if now.max_output_tokens < was.max_output_tokens && came > most {
            return Err(Unknown::Longer(most, came));
        }
        Ok(())
    }

    fn asked(&self, told: &mut Told, run: RunId, at: Timestamp, asked: &PersonAsked) {
        let answer = told.runs.get(&run).zip(asked.ask).and_then(|(of, ask)| self.record.answer(*of, ask));
        let Some((after, answered)) = answer else { return };
        let given = (answered.decision != Decision::Expired).then(|| Given {
            ask: answered.ask,
            decision: answered.decision.clone(),
            by: answered.by.clone(),
            reason: answered.reason.clone(),
            shown_hash: None,
        });
        told.due.push(Due { at: at.after(after), run, given });
        self.news.notify_one();
    }

    /// A call that a limit refuses now is told to the model, which was told something else.
    fn refused(&self, told: &mut Told, run: RunId, event: &Event) {
        let Event::CallRefused(refused) = event else { return };
        let Some(of) = told.runs.get(&run).copied() else { return };
        let was = self.record.log.logs.get(&of).into_iter().flatten();
        let is_limit = matches!(refused.why, CallRefusal::Limit { .. });
        let mut same = was.filter(|one| {
            matches!(&one.event, Event::CallRefused(was) if was.call_id == refused.call_id && was.step == refused.step)
        });
        if is_limit && same.next().is_none() {
            told.astray.insert((of, refused.step.place()));
        }
    }
}

impl Tap for Live {
    fn committed(&self, events: &[(RunId, Recorded)]) {
        let mut told = self.told();
        for (run, recorded) in events {
            if let Event::ChildBegan(began) = &recorded.event {
                self.began(&mut told, *run, began);
            } else if let Event::Reserved(reserved) = &recorded.event {
                self.reserved(&mut told, *run, reserved);
            } else if let Event::PersonAsked(asked) = &recorded.event {
                self.asked(&mut told, *run, recorded.at, asked);
            } else {
                self.refused(&mut told, *run, &recorded.event);
            }
            told.events.push((*run, recorded.clone()));
        }
    }
}
