//! Whether a recorded decision is what the core decides in the state before it.

use super::calls::{No, is_of_shared};
use super::difference::{Difference, kind};
use super::look::{Look, is_of_time, same, same_refusal};
use super::{Agent, Player, WRITE_TIME_MAX};
use crate::domain::event::{
    Admitted, Call, CallRefusal, CallRefused, ChildBegan, ChildEnded, Created, Downgraded, EVENT_VERSION, EndState,
    Ended, Event, LandingBegan, Parent, Purpose, Recorded, Reserved, RunState, StageEnd, StageEnded, StepKey,
};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::run::{ChildIntent, Intent};
use crate::ids::RunId;
use crate::units::Timestamp;
use std::sync::Arc;

impl Player<'_> {
    /// Looks at what was decided before and isn't all written, and at the tree as it stands: at the write's time, and at
    /// the earliest time at which it could be decided.
    pub(super) fn is_decided(&mut self, run: RunId, recorded: &Recorded) -> bool {
        let event = &recorded.event;
        if !self.stands_together(run, event) {
            return false;
        }
        if let Some(decided) = self.follows(run, recorded) {
            return decided;
        }
        (self.is_fresh && self.takes_before(run, event))
            || self.takes_at(self.at, run, event)
            || (!self.is_fresh && self.takes_before(run, event))
            || self.takes_at(self.earliest, run, event)
            || self.takes_queued(run, event)
            || (is_stop_by_time(event) && self.takes_at(self.at.after(WRITE_TIME_MAX), run, event))
    }

    fn takes_at(&mut self, now: Timestamp, run: RunId, event: &Event) -> bool {
        let mut look = Look::at(&self.tree, now, self.checks);
        let taken = self.takes(&mut look, run, event);
        if taken {
            (self.look, self.is_fresh) = (look, true);
        }
        taken
    }

    fn takes_before(&mut self, run: RunId, event: &Event) -> bool {
        let mut look = std::mem::take(&mut self.look);
        let taken = self.takes(&mut look, run, event);
        self.look = look;
        taken
    }

    fn takes_queued(&mut self, run: RunId, event: &Event) -> bool {
        let mut look = std::mem::take(&mut self.queued);
        let taken = matches!(event, Event::Admitted(_) | Event::Reserved(_)) && self.takes(&mut look, run, event);
        self.queued = look;
        taken
    }

    /// The end of a run below is told to its parent at once.
    fn stands_together(&self, run: RunId, event: &Event) -> bool {
        let parent = self.tree.run(run).and_then(|run| run.parent.as_ref());
        let (Event::Ended(_), Some(parent)) = (event, parent) else { return true };
        let told = self.head(parent.run).map(|recorded| &recorded.event);
        matches!(told, Some(Event::ChildEnded(ended)) if ended.child == run)
    }

    /// What follows from the fact before it, without a look; `None` for what needs one.
    fn follows(&mut self, run: RunId, recorded: &Recorded) -> Option<bool> {
        let is_below = run != self.log.root;
        let event = &recorded.event;
        if let Event::Created(created) = event {
            return Some(self.is_creation(run, created));
        }
        if let Event::Admitted(admitted) = event {
            return is_below.then(|| *admitted == Admitted { budgets: vec![], landing: None });
        }
        if let Event::ChildEnded(ended) = event {
            return Some(self.is_end_of_child(ended));
        }
        if let Event::Downgraded(downgraded) = event {
            return Some(self.is_of_next(run, downgraded));
        }
        if let Event::PersonAnswered(_) = event {
            return Some(self.tree.run(run).is_some_and(|run| run.expired(self.at).contains(event)));
        }
        // Documents that couldn't be read are no matter of the core.
        let is_unread = |ended: &Ended| recorded.seq == 2 && is_below && ended.state == EndState::Failed;
        if let Event::Ended(ended) = event { is_unread(ended).then_some(true) } else { None }
    }

    /// The event after the next one of a run, or the one before it.
    fn beside(&self, run: RunId, after: bool) -> Option<&Event> {
        let place = *self.places.get(&run)?;
        let place = if after { place.checked_add(1) } else { place.checked_sub(1) };
        Some(&self.log.logs.get(&run)?.get(place?)?.event)
    }

    fn is_of_next(&self, run: RunId, downgraded: &Downgraded) -> bool {
        let Some(Event::Reserved(reserved)) = self.beside(run, true) else { return false };
        Downgraded::of(reserved).as_ref() == Some(downgraded)
    }

    /// Whether the look decides this fact; what is taken of it is taken away.
    fn takes(&mut self, look: &mut Look, run: RunId, event: &Event) -> bool {
        if look.takes_note(run, event) {
            return true;
        }
        match event {
            Event::Reserved(reserved) => self.takes_reservation(look, run, reserved),
            Event::CallRefused(refused) => self.takes_refusal(look, run, refused),
            Event::ChildBegan(began) => self.takes_child(look, run, began),
            Event::Admitted(admitted) => self.takes_admission(look, admitted),
            Event::LandingBegan(began) => self.takes_landing(look, run, &began.refusal),
            Event::StageEnded(ended) => self.takes_stage(look, run, ended),
            Event::Ended(ended) if run == self.log.root => self.takes_end(look, ended),
            Event::Ended(ended) => ended.error.as_deref().is_some_and(|error| {
                *ended == failed(error) && self.says_no(look, |by, _| by == run, No::Error(error))
            }),
            Event::Parked(parked) => look.parked.as_ref() == Some(parked),
            Event::WaitBegan(_) => {
                look.intents.iter().any(|(_, intent)| matches!(intent, Intent::Model(_) | Intent::Tool(_)))
            }
            // Noted, or not decided here.
            Event::Created(_)
            | Event::Downgraded(_)
            | Event::Settled(_)
            | Event::Voided(_)
            | Event::WaitEnded(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::LandingReleased(_)
            | Event::CancelRequested(_)
            | Event::Interrupted(_)
            | Event::PersonAsked(_)
            | Event::InFlightResolved(_)
            | Event::PersonAnswered(_)
            | Event::MapBegan(_)
            | Event::ChildEnded(_)
            | Event::PeriodMoved(_)
            | Event::OutcomeRecorded(_) => false,
        }
    }

    fn takes_reservation(&mut self, look: &mut Look, run: RunId, reserved: &Reserved) -> bool {
        // A call that asks a cheaper model has its downgrade right before it.
        let downgraded = Downgraded::of(reserved).map(Event::Downgraded);
        if downgraded.is_some() && self.beside(run, false) != downgraded.as_ref() {
            return false;
        }
        let mut found = None;
        for (index, (by, intent)) in look.intents.iter().enumerate().filter(|(_, (by, _))| *by == run) {
            let waiting = self.waiting(look, index);
            let is_it = match intent {
                Intent::Model(intent) => {
                    let mut intent = intent.clone();
                    renumber(&mut intent.step, intent.attempt, &reserved.step, waiting);
                    self.makes(look, *by, &intent, reserved)
                }
                Intent::Tool(intent) => {
                    let mut intent = intent.clone();
                    renumber(&mut intent.step, intent.attempt, &reserved.step, waiting);
                    self.calls(*by, &intent, reserved)
                }
                Intent::Child(_) | Intent::Refuse(_) | Intent::Land(_) | Intent::End(_) => false,
            };
            if is_it {
                found = Some(index);
                break;
            }
        }
        if found.is_some() && matches!(reserved.call, Call::Model(_)) {
            self.same.requests += 1;
        }
        found.map(|index| look.intents.remove(index)).is_some()
    }

    /// A call that the core refuses, or one that the money isn't there for.
    fn takes_refusal(&mut self, look: &mut Look, run: RunId, refused: &CallRefused) -> bool {
        let recorded = Event::CallRefused(refused.clone());
        let is_it = |(index, (by, intent)): (usize, &(RunId, Intent))| {
            let Intent::Refuse(now) = intent else { return false };
            let mut now = now.clone();
            renumber(&mut now.step, 1, &refused.step, self.waiting(look, index));
            *by == run && same(&recorded, &Event::CallRefused(now))
        };
        if let Some(index) = look.intents.iter().enumerate().position(is_it) {
            look.intents.remove(index);
            return true;
        }
        let CallRefusal::Limit { refusal } = &refused.why else { return false };
        let is_asked = look.intents.iter().any(|(by, intent)| {
            *by == run && matches!(intent, Intent::Tool(intent) if intent.call.id == refused.call_id)
        });
        let place = refused.step.place();
        is_asked && self.says_no(look, |by, at| by == run && *at == place, No::Refusal(refusal))
    }

    /// How many new steps of the same run before this one in a look wait for rates: it is numbered as if they weren't there.
    fn waiting(&self, look: &Look, index: usize) -> u32 {
        let Some((run, _)) = look.intents.get(index) else { return 0 };
        let Some(places) = self.rate_waits.get(run) else { return 0 };
        let waits = |(by, intent): &&(RunId, Intent)| {
            let Intent::Model(intent) = intent else { return false };
            by == run && intent.attempt == 1 && places.contains(&intent.step.place())
        };
        u32::try_from(look.intents.iter().take(index).filter(waits).count()).unwrap_or(u32::MAX)
    }

    fn takes_child(&mut self, look: &mut Look, run: RunId, began: &ChildBegan) -> bool {
        let step = self.tree.run(run).map_or(0, |run| run.counters.steps + 1);
        let is_it = |(by, intent): &(RunId, Intent)| {
            let Intent::Child(ChildIntent { agent, place, call, .. }) = intent else { return false };
            let call = call.clone().map(|mut call| {
                call.step = step;
                call
            });
            *by == run && (agent, place, &call) == (&began.agent, &began.place, &began.call)
        };
        let Some(index) = look.intents.iter().position(is_it) else { return false };
        if let (_, Intent::Child(child)) = look.intents.remove(index) {
            self.input = child.input;
        }
        // Where sub-agents begin, whatever else was wanted is asked for anew, and numbered behind them.
        look.intents.retain(|(_, intent)| matches!(intent, Intent::Child(_)));
        true
    }

    fn is_creation(&mut self, run: RunId, created: &Created) -> bool {
        let Some(Parent { run: parent, .. }) = &created.parent else { return false };
        let Some(agent) = self.agents.get(parent).and_then(|agent| agent.agents.get(&created.agent).cloned()) else {
            return false;
        };
        let root = self.tree.root();
        let plan = &agent.plan;
        let now = Created {
            version: created.version.min(EVENT_VERSION),
            agent: created.agent.clone(),
            plan: agent.hash.clone(),
            prompt_version: plan.prompt.label().to_owned(),
            input: std::mem::take(&mut self.input),
            labels: root.labels.clone(),
            cap: plan.limits.cost,
            load_line: plan.limits.cost,
            expected: None,
            foreseen: None,
            parent: created.parent.clone(),
            key: None,
            simulated: root.simulated,
            stage_caps: plan.stage_caps(),
            thread: None,
            documents: created.documents.clone(),
            files: vec![],
            // A log of before there was such a thing doesn't say it.
            unit: plan.unit.clone().filter(|_| created.unit.is_some()),
        };
        self.agents.insert(run, Arc::<Agent>::clone(&agent));
        now == *created
    }

    fn is_end_of_child(&self, ended: &ChildEnded) -> bool {
        let end = self.tree.run(ended.child).and_then(|run| run.ended.clone());
        let spent = self.tree.spent(ended.child);
        end.is_some_and(|end| *ended == ChildEnded { child: ended.child, end, spent })
    }

    fn takes_admission(&mut self, look: &Look, admitted: &Admitted) -> bool {
        let number = self.tree.root().next_reservation();
        let is_numbered = admitted.landing.as_ref().is_none_or(|landing| landing.reservation == number);
        is_numbered && self.keeps(look, admitted.landing.as_ref().map(|landing| landing.amount))
    }

    fn takes_landing(&mut self, look: &Look, run: RunId, refusal: &Refusal) -> bool {
        let is_it = |(by, intent): &(RunId, Intent)| {
            *by == run && matches!(intent, Intent::Land(now) if same_refusal(refusal, now))
        };
        look.intents.iter().any(is_it) || self.says_no(look, |_, _| true, No::Refusal(refusal))
    }

    /// A stage that the gate said no to; what the core notes of it was taken before.
    fn takes_stage(&mut self, look: &Look, run: RunId, ended: &StageEnded) -> bool {
        if !ended.output.is_null() {
            return false;
        }
        let place = &ended.place;
        match (ended.end, &ended.refusal, &ended.error) {
            (StageEnd::Stopped, Some(refusal), None) if refusal.limit == LimitKind::Context => {
                self.says_no(look, |by, at| by == run && at == place, No::Refusal(refusal))
            }
            (StageEnd::Stopped, Some(refusal), None) => self.says_no(look, |_, _| true, No::Refusal(refusal)),
            (StageEnd::Failed, None, Some(error)) => {
                self.says_no(look, |by, at| by == run && at == place, No::Error(error))
            }
            (StageEnd::Finished | StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped, _, _) => false,
        }
    }

    fn takes_end(&mut self, look: &Look, ended: &Ended) -> bool {
        let root = self.log.root;
        let recorded = Event::Ended(ended.clone());
        let is = |now: Ended| same(&recorded, &Event::Ended(now));
        let (state, can_land, lands) = {
            let root = self.tree.root();
            (root.state, root.can_land(), root.lands.clone())
        };
        let stops = |refusal: &Refusal| {
            is(Ended { state: EndState::Stopped, refusal: Some(refusal.clone()), output: None, error: None })
        };
        let intent = look.intents.first().filter(|(by, _)| *by == root).map(|(_, intent)| intent);
        match intent {
            Some(Intent::End(now)) if is(now.clone()) => return true,
            Some(Intent::Land(refusal)) if stops(refusal) && (!can_land || state == RunState::Queued) => return true,
            // The last answer doesn't fit, or there is no money for it.
            Some(Intent::Model(intent)) if intent.purpose == Purpose::Landing => {
                return lands.as_ref().is_some_and(stops) && !self.lands_now(look, intent) || self.ends_by(look, ended);
            }
            _ => {}
        }
        self.ends_by(look, ended)
    }

    /// A root that the gate said no to: before it began, or where it may not land.
    fn ends_by(&mut self, look: &Look, ended: &Ended) -> bool {
        match (ended.state, &ended.refusal, &ended.error) {
            (EndState::Failed, None, Some(error)) => {
                *ended == failed(error) && self.says_no(look, |_, _| true, No::Error(error))
            }
            (EndState::Stopped, Some(refusal), None) if ended.output.is_none() => {
                let is_money = refusal.limit == LimitKind::Cost || is_of_shared(refusal);
                (is_money && self.tree.root().state == RunState::Queued)
                    || self.says_no(look, |_, _| true, No::Refusal(refusal))
            }
            (EndState::Finished | EndState::Stopped | EndState::Failed | EndState::Cancelled, _, _) => false,
        }
    }

    /// What is decided in place of a recorded fact.
    pub(super) fn difference(&mut self, run: RunId, recorded: &Recorded) -> Box<Difference> {
        let look = Look::at(&self.tree, self.at, self.checks);
        if let Some(now) = self.nearest(&look, run, &recorded.event) {
            return Difference::of_field(run, recorded, &now);
        }
        Difference::of_event(run, recorded, told(&look))
    }

    /// What is decided now that is of the same kind.
    fn nearest(&mut self, look: &Look, run: RunId, event: &Event) -> Option<Event> {
        let noted = look.notes.iter().find(|(by, note)| *by == run && kind(note) == kind(event));
        if let Some((_, note)) = noted {
            return Some(note.clone());
        }
        if let Event::ChildEnded(ended) = event {
            let (child, spent) = (ended.child, self.tree.spent(ended.child));
            let end = self.tree.run(child)?.ended.clone()?;
            return Some(Event::ChildEnded(ChildEnded { child, end, spent }));
        }
        look.intents.iter().filter(|(by, _)| *by == run).find_map(|(by, intent)| match (intent, event) {
            (Intent::Model(intent), Event::Reserved(reserved)) => {
                let Call::Model(call) = &reserved.call else { return None };
                self.made(look, *by, intent, call).map(|now| Event::Reserved(Box::new(now)))
            }
            (Intent::Tool(intent), Event::Reserved(reserved)) if matches!(reserved.call, Call::Tool { .. }) => {
                self.called(*by, intent).map(|now| Event::Reserved(Box::new(now)))
            }
            (Intent::Refuse(now), Event::CallRefused(_)) => Some(Event::CallRefused(now.clone())),
            (Intent::Land(refusal), Event::LandingBegan(_)) => {
                Some(Event::LandingBegan(LandingBegan { refusal: refusal.clone() }))
            }
            (Intent::End(now), Event::Ended(_)) => Some(Event::Ended(now.clone())),
            _ => None,
        })
    }
}

/// A limit of time counts from a decision, and the log has its write, which is a little later.
fn is_stop_by_time(event: &Event) -> bool {
    let of_time = |refusal: Option<&Refusal>| refusal.is_some_and(|refusal| is_of_time(refusal.limit));
    matches!(event, Event::LandingBegan(began) if is_of_time(began.refusal.limit))
        || matches!(event, Event::StageEnded(ended) if of_time(ended.refusal.as_ref()))
        || matches!(event, Event::Ended(ended) if of_time(ended.refusal.as_ref()))
}

/// Gives a new step its recorded number, if that is one that it may have behind so many that wait.
fn renumber(step: &mut StepKey, attempt: u32, recorded: &StepKey, waiting: u32) {
    if attempt == 1 && (step.step.saturating_sub(waiting)..=step.step).contains(&recorded.step) {
        step.step = recorded.step;
    }
}

fn failed(error: &str) -> Ended {
    Ended { state: EndState::Failed, refusal: None, output: None, error: Some(error.to_owned()) }
}

/// What a look comes to, in words.
fn told(look: &Look) -> String {
    let notes = look.notes.iter().map(|(run, note)| format!("{} of run {run}", kind(note)));
    let intents = look.intents.iter().map(|(run, intent)| {
        let what = match intent {
            Intent::Model(intent) => {
                format!("a model call of step {} in stage {}", intent.step.step, intent.step.place())
            }
            Intent::Tool(intent) => format!("a call of {} in stage {}", intent.call.name, intent.step.place()),
            Intent::Child(child) => format!("agent {} begins in stage {}", child.agent, child.place),
            Intent::Refuse(refused) => format!("a call of {} is refused", refused.tool),
            Intent::Land(refusal) => format!("a landing by {refusal}"),
            Intent::End(ended) => format!("the end: {}", RunState::from(ended.state)),
        };
        format!("{what} of run {run}")
    });
    let all: Vec<String> = notes.chain(intents).collect();
    match (all.is_empty(), &look.parked) {
        (false, _) => all.join("; "),
        (true, Some(_)) => "the run waits for a person".into(),
        (true, None) => "nothing, until something in flight is over".into(),
    }
}
