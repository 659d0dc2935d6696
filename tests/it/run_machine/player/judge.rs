//! What holds whatever was played: limits, replay, ends with their reasons, one answer for each call.

use std::collections::BTreeSet;

use plimsoll::domain::event::{Call, EndState, Event, Purpose};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::message::Message;
use plimsoll::domain::run::{Counters, Next, Run};
use plimsoll::ids::StageName;
use plimsoll::units::Timestamp;

use super::{Check, Player};

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
        if let Some(tokens) = limits.tokens {
            let used = counters.input.plus(counters.output);
            self.fault_unless(used <= tokens, || format!("{used} tokens of {tokens}"));
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
        let repairs = self.log.iter().filter(|(_, event)| is_first_repair(event)).count();
        self.fault_unless(repairs <= self.plan.stages.len(), || format!("{repairs} repairs"));
        let twice = self.answered.iter().find(|(_, count)| **count > 1);
        let twice = twice.map(|(call, count)| format!("call `{call}` has {count} answers"));
        self.faults.extend(twice);
        self.judge_pairs();
    }

    /// Every call of a whole turn has one answer, right behind it and in order.
    fn judge_pairs(&mut self) {
        let stages: Vec<_> = self.run.stage_names().cloned().collect();
        stages.iter().for_each(|stage| self.judge_pairs_of(stage));
    }

    fn judge_pairs_of(&mut self, stage: &StageName) {
        let turns = self.run.turns(stage);
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
                Message::System { .. } | Message::User { .. } => {}
            }
        }
        self.fault_unless(due.is_empty(), || format!("calls without an answer: {due:?}"));
    }
}

fn is_first_repair(event: &Event) -> bool {
    matches!(event, Event::Reserved(reserved) if reserved.attempt == 1
        && matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Repair))
}

pub(super) fn never_fell(before: &Counters, after: &Counters) -> bool {
    let repeats = before.repeats.iter().all(|(call, count)| after.repeats.get(call) >= Some(count));
    let counts = |counters: &Counters| [counters.steps, counters.model_calls, counters.tool_calls, counters.attempts];
    let rose = counts(before).iter().zip(counts(after)).all(|(before, after)| *before <= after);
    let tokens = before.input <= after.input && before.output <= after.output;
    repeats && rose && tokens && before.settled <= after.settled && before.unknown <= after.unknown
}
