//! What holds whatever was played: limits, replay, ends with their reasons, one answer for each call.

use std::collections::BTreeSet;

use plimsoll::domain::event::{Call, EndState, Event, Place, Purpose, StageEnd, StageEnded};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::message::Message;
use plimsoll::domain::run::{Counters, Next, Run};
use plimsoll::units::Timestamp;
use serde_json::Value;

use super::{Check, ITEMS, Player};

impl Player {
    /// Promise 14: a resume resets nothing, and no count passes its limit.
    pub(super) fn judge_limits(&mut self, counters: &Counters) {
        let limits = self.plan.limits.clone();
        let repeats = counters.repeats.values().copied().max().unwrap_or_default();
        for (kind, limit, count) in [
            (LimitKind::Steps, limits.steps, counters.steps),
            (LimitKind::ModelCalls, limits.model_calls, counters.model_calls),
            (LimitKind::ToolCalls, limits.tool_calls, counters.tool_calls),
            (LimitKind::Attempts, limits.attempts, counters.attempts),
            (LimitKind::Repeats, limits.repeats, repeats),
        ] {
            self.fault_unless(count <= limit, || format!("limit {kind} is {limit} and {count} were made"));
        }
        let calls = self.open.len();
        self.fault_unless(calls <= limits.parallel as usize, || format!("{calls} calls at once"));
        let stages: BTreeSet<_> = self.open.values().map(|(reserved, _)| &reserved.step.stage).collect();
        let beside = stages.len() > 1;
        self.meet("beside", beside);
        let stages: Vec<_> = self.run.stage_names().cloned().collect();
        for stage in stages {
            let calls = self.open.values().filter(|(reserved, _)| reserved.step.stage == stage).count();
            let parallel = self.plan.limits_of(&stage).parallel;
            self.fault_unless(calls <= parallel as usize, || format!("{calls} calls at once in `{stage}`"));
            self.meet("items beside", calls > 1 && self.run.map_items(&stage).is_some());
        }
        if let Some(tokens) = limits.tokens {
            let used = counters.input.plus(counters.output);
            self.fault_unless(used <= tokens, || format!("{used} tokens of {tokens}"));
        }
    }

    /// Nothing is done at a place that is over, and items begin in their order.
    pub(super) fn judge_place(&mut self, place: &Place) {
        let is_over = self.over.contains_key(place) && self.run.lands.is_none();
        self.fault_unless(!is_over, || format!("promise 7: `{place}` again"));
        for item in 0..place.item.unwrap_or_default() {
            let before = Place { item: Some(item), ..place.clone() };
            let is_behind = self.begun.contains(&before) || self.over.contains_key(&before);
            self.fault_unless(is_behind, || format!("`{place}` began before `{before}`"));
        }
        self.begun.insert(place.clone());
    }

    /// Each place is over once; a list has what its items gave, in their order.
    pub(super) fn judge_over(&mut self, ended: &StageEnded) {
        let StageEnded { place, end, output, .. } = ended;
        let again = self.over.insert(place.clone(), output.clone()).is_some();
        self.fault_unless(!again, || format!("`{place}` is over twice"));
        self.meet("item lost", place.item.is_some() && *end != StageEnd::Finished);
        let busy = self.open.values().any(|(reserved, _)| {
            reserved.step.stage == place.stage && (place.item.is_none() || reserved.step.item == place.item)
        });
        self.fault_unless(!busy, || format!("`{place}` is over with a call in flight"));
        let is_broken = *end == StageEnd::Failed && self.run.map_items(&place.stage).is_some();
        self.meet("map broken", is_broken && place.item.is_none());
        let Some(items) = self.run.map_items(&place.stage).filter(|_| place.item.is_none()) else { return };
        if *end == StageEnd::Finished {
            let gave = (0..).zip(items).map(|(item, _)| self.over.get(&Place { item: Some(item), ..place.clone() }));
            let gave: Option<Vec<_>> = gave.map(Option::<&Value>::cloned).collect();
            let right = gave.is_some_and(|gave| Value::Array(gave) == *output);
            self.meet("list", true);
            self.fault_unless(right, || format!("`{place}` gave {output}"));
        }
    }

    /// Promise 11: the log alone gives the same state, and the same next thing.
    pub(super) fn judge_replay(&mut self) {
        let mut again = Run::new(self.run.id, self.plan.clone(), &self.created, Timestamp(1_000_000));
        for (at, event) in &self.log {
            let text = serde_json::to_string(event).expect("JSON");
            again.apply(*at, &serde_json::from_str(&text).expect("an event"));
        }
        self.fault_unless(format!("{again:?}") == format!("{:?}", self.run), || "promise 11: a replay differs".into());
        let (next, next_again) = (self.run.next(self.now, &Check), again.next(self.now, &Check));
        self.fault_unless(format!("{next:?}") == format!("{next_again:?}"), || {
            "promise 11: a replay wants else".into()
        });
    }

    pub(super) fn judge_the_end(&mut self) {
        self.judge_replay();
        let Some(ended) = self.run.ended.clone() else { return };
        self.fault_unless(matches!(self.run.next(self.now, &Check), Next::Ended), || "it goes on after the end".into());
        let (case, right) = match ended.state {
            EndState::Finished => ("finished", ended.output.is_some() && ended.refusal.is_none()),
            EndState::Stopped => ("stopped", ended.refusal.is_some()),
            EndState::Failed => ("failed", ended.error.is_some()),
            EndState::Cancelled => ("cancelled", self.run.cancelled.is_some()),
        };
        self.meet(case, true);
        self.fault_unless(right, || format!("an end without its reason: {ended:?}"));
        let mut repairs = BTreeSet::new();
        let twice =
            self.log.iter().filter_map(|(_, event)| first_repair(event)).find(|place| !repairs.insert(place.clone()));
        self.fault_unless(twice.is_none(), || format!("`{twice:?}` is mended twice"));
        let twice = self.answered.iter().find(|(_, count)| **count > 1);
        let twice = twice.map(|(call, count)| format!("call `{call}` has {count} answers"));
        self.faults.extend(twice);
        self.judge_pairs();
    }

    /// Every call of a whole turn has one answer, right behind it and in order.
    fn judge_pairs(&mut self) {
        let stages: Vec<_> = self.run.stage_names().cloned().collect();
        for stage in stages {
            (0..ITEMS).for_each(|item| self.judge_pairs_of(&Place { stage: stage.clone(), item: Some(item) }));
            self.judge_pairs_of(&Place::stage(stage));
        }
    }

    fn judge_pairs_of(&mut self, place: &Place) {
        let turns = self.run.turns_at(place);
        let mut due: Vec<String> = Vec::new();
        for message in &turns {
            match &**message {
                Message::Assistant(said) => {
                    self.fault_unless(due.is_empty(), || format!("calls without an answer: {due:?}"));
                    due = said.calls.iter().rev().map(|call| call.id.clone()).collect();
                }
                Message::Tool(answer) => {
                    let expected = due.pop();
                    let right = expected.as_deref() == Some(answer.call_id.as_str());
                    self.fault_unless(right, || format!("{answer:?} answers nothing"));
                }
                Message::System { .. } | Message::User { .. } | Message::File(_) => {}
            }
        }
        self.fault_unless(due.is_empty(), || format!("calls without an answer: {due:?}"));
    }
}

fn first_repair(event: &Event) -> Option<Place> {
    let Event::Reserved(reserved) = event else { return None };
    let repairs = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Repair);
    (repairs && reserved.attempt == 1).then(|| reserved.step.place())
}

pub(super) fn never_fell(before: &Counters, after: &Counters) -> bool {
    let repeats = before.repeats.iter().all(|(call, count)| after.repeats.get(call) >= Some(count));
    let counts = |counters: &Counters| [counters.steps, counters.model_calls, counters.tool_calls, counters.attempts];
    let rose = counts(before).iter().zip(counts(after)).all(|(before, after)| *before <= after);
    let tokens = before.input <= after.input && before.output <= after.output;
    repeats && rose && tokens && before.settled <= after.settled && before.unknown <= after.unknown
}
