//! Questions to people: what is open, what was answered, and until when an answer is taken (limits `expires`, `deadline`).
//!
//! One rule for every question that a run can ask: whether a call may be made, or made again, an approval, an input. A run
//! that waits for people and for nothing else holds nothing (LEDGER rule 13); that a question isn't open any more follows
//! from the clock alone, whoever looks first.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Run;
use super::stage::{CallProgress, CallStatus, Lane, Stage};
use super::tree::Runs;
use crate::domain::event::{AskKind, Decision, Event, Parked, PersonAnswered, PersonAsked, Place, RunState};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::message::ToolAnswer;
use crate::domain::plan::{Plan, hex};
use crate::ids::ToolName;
use crate::units::Timestamp;

/// Who answers where nobody did in time.
pub const NOBODY: &str = "plimsoll";

/// A question of a run, and its answer once there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// Its number in the run, from 0.
    pub number: u32,
    /// What is asked for.
    pub kind: AskKind,
    /// Which lane waits for it; not known of questions of version 1.
    pub place: Option<Place>,
    /// The call that it is about.
    pub call_id: Option<String>,
    /// The tool of that call.
    pub tool: Option<ToolName>,
    /// The question, in words.
    pub question: String,
    /// What is shown, and may be edited; null for nothing.
    pub shown: Value,
    /// Hash of the question and what is shown.
    pub shown_hash: String,
    /// When it was asked.
    pub since: Timestamp,
    /// Until when an answer is taken.
    pub until: Timestamp,
    /// The answer.
    pub answered: Option<PersonAnswered>,
}

impl Asking {
    /// True while an answer is taken.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.answered.is_none() && now < self.until
    }

    fn of(asked: &PersonAsked, number: u32, at: Timestamp, until: Timestamp) -> Self {
        let kind = asked.what.unwrap_or(AskKind::InFlight);
        let shown = asked.shown.clone().unwrap_or(Value::Null);
        Self {
            number,
            kind,
            place: asked.place.clone(),
            call_id: asked.call_id.clone(),
            tool: asked.tool.clone(),
            question: asked.question.clone(),
            shown_hash: asked.shown_hash.clone().unwrap_or_else(|| hash_shown(kind, &asked.question, &shown)),
            shown,
            since: at,
            until,
            answered: None,
        }
    }
}

impl Run {
    /// Every question so far, by its number.
    #[must_use]
    pub fn asks(&self) -> &[Asking] {
        &self.asks
    }

    /// The questions that nobody has answered; none of a run that has ended.
    pub fn unanswered(&self) -> impl Iterator<Item = &Asking> {
        self.asks.iter().filter(|asking| self.ended.is_none() && asking.answered.is_none())
    }

    /// When the first question isn't open any more; `None` where the run doesn't wait for people alone.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.next_expiry().filter(|_| self.state.awaits_person())
    }

    /// When the first question isn't open any more, whatever else the run does.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.unanswered().map(|asking| asking.until).min()
    }

    /// The facts of questions that nobody answered in time.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<Event> {
        let late = self.unanswered().filter(|asking| !asking.is_open(now));
        let fact = |asking: &Asking| {
            Event::PersonAnswered(PersonAnswered {
                ask: Some(asking.number),
                decision: Decision::Expired,
                by: NOBODY.to_owned(),
                reason: None,
                shown_hash: Some(asking.shown_hash.clone()),
            })
        };
        late.map(fact).collect()
    }

    /// The limit that ends the wait for an answer.
    #[must_use]
    pub fn waits_by(&self, asking: &Asking) -> Refusal {
        let limits = asking.place.as_ref().map_or(&self.plan.limits, |place| self.plan.limits_of(&place.stage));
        let (limit, value) = match limits.deadline {
            Some(deadline) if deadline <= asking.until => (LimitKind::Deadline, deadline.to_string()),
            Some(_) | None => (LimitKind::Expires, limits.expires.to_string()),
        };
        let observed = format!("asked at {}, not answered by {}", asking.since, asking.until);
        Refusal { limit, subject: None, value, observed, declared: limits.declared(limit) }
    }

    /// Until when an answer is taken to what a place asks now.
    pub(super) fn asks_until(&self, place: Option<&Place>, now: Timestamp) -> Timestamp {
        let limits = place.map_or(&self.plan.limits, |place| self.plan.limits_of(&place.stage));
        let until = now.after(limits.expires);
        limits.deadline.map_or(until, |deadline| deadline.min(until))
    }

    pub(super) fn apply_asked(&mut self, at: Timestamp, asked: &PersonAsked) {
        let number = u32::try_from(self.asks.len()).unwrap_or(u32::MAX);
        let until = asked.until.unwrap_or_else(|| self.asks_until(asked.place.as_ref(), at));
        let asking = Asking::of(asked, number, at, until);
        match (asking.kind, &asking.place) {
            (AskKind::Stage, Some(place)) => {
                let active = self.active(self.last_at);
                if let Some(lane) = self.stage_mut(&place.stage).and_then(|stage| stage.enter(place, active)) {
                    lane.asked = Some(number);
                }
            }
            (AskKind::Stage | AskKind::Call | AskKind::Input | AskKind::InFlight, _) => {
                self.open_own_call(&asking);
                self.mark_asked(&asking);
            }
        }
        if asking.kind == AskKind::Input {
            self.count_question(&asking);
        }
        self.asks.push(asking);
        if asked.what.is_none() {
            self.pause(RunState::AwaitingApproval);
        }
    }

    /// A `tool` stage's own call has no reservation yet where a person is asked first.
    fn open_own_call(&mut self, asking: &Asking) {
        let (Some(place), Some(call_id), Some(tool)) = (&asking.place, &asking.call_id, &asking.tool) else { return };
        let question = || serde_json::json!({ "question": asking.question });
        let arguments = if asking.kind == AskKind::Input { question() } else { asking.shown.clone() };
        self.begin_own_call(&place.step(0), call_id, tool, &arguments);
    }

    /// A question of the model's own is a call that was made, though nobody performs it.
    fn count_question(&mut self, asking: &Asking) {
        self.count_unplaced(asking.place.as_ref().map(|place| &place.stage));
        let called = self.call_asked(asking.number).map(|call| super::hash_call(&call.call.name, &call.call.arguments));
        if let (Some(hash), Some(place)) = (called, &asking.place) {
            self.count_repeat(&place.stage, &hash);
        }
    }

    fn call_asked(&mut self, number: u32) -> Option<&mut CallProgress> {
        let mut calls = self.stages.iter_mut().flat_map(Stage::lanes_mut).flat_map(Lane::calls_mut);
        calls.find(|call| matches!(call.status, CallStatus::Asked(asked) if asked == number))
    }

    fn mark_asked(&mut self, asking: &Asking) {
        let lanes = self.stages.iter_mut().flat_map(Stage::lanes_mut);
        // Version 1 named no lane: the first one with such a call in doubt has asked.
        let lanes = lanes.filter(|lane| asking.place.as_ref().is_none_or(|place| lane.place == *place));
        let mut calls = lanes.flat_map(Lane::calls_mut).filter(|call| Some(&call.call.id) == asking.call_id.as_ref());
        let fits = |call: &&mut CallProgress| match asking.kind {
            AskKind::InFlight => matches!(call.status, CallStatus::InDoubt),
            AskKind::Call | AskKind::Input | AskKind::Stage => matches!(call.status, CallStatus::Pending),
        };
        if let Some(call) = calls.find(fits) {
            call.status = CallStatus::Asked(asking.number);
        }
    }

    pub(super) fn apply_answered(&mut self, answered: &PersonAnswered) {
        if self.state.awaits_person() {
            self.state = RunState::Interrupted;
        }
        let open = |asking: &&mut Asking| {
            asking.answered.is_none() && answered.ask.is_none_or(|number| number == asking.number)
        };
        let Some(asking) = self.asks.iter_mut().find(open) else { return };
        asking.answered = Some(answered.clone());
        let asking = asking.clone();
        let result = match &answered.decision {
            Decision::Allow { edited } => Err(edited.clone()),
            Decision::Answer { value } => Ok((as_text(value), false)),
            Decision::Deny => Ok((denied(&asking, answered), true)),
            Decision::Expired => Ok((late(asking.kind, &self.waits_by(&asking)), true)),
        };
        let Some(call) = self.call_asked(asking.number) else { return };
        call.status = match result {
            Err(edited) => {
                call.is_allowed = true;
                call.edited = edited.or_else(|| call.edited.take());
                CallStatus::Pending
            }
            Ok((content, is_error)) => {
                let (call_id, name) = (call.call.id.clone(), call.call.name.clone());
                CallStatus::Answered(ToolAnswer { call_id, name, content, is_error }.into())
            }
        };
    }
}

/// What a tree waits for, where nothing but people can move it.
pub(super) fn parked(runs: Option<&Runs>, root: &Run) -> Option<Parked> {
    let below = runs.into_iter().flat_map(Runs::values).map(Box::as_ref).filter(|run| run.id != root.id);
    let asks = || std::iter::once(root).chain(below.clone()).flat_map(Run::unanswered);
    let until = asks().map(|asking| asking.until).min()?;
    let approves = asks().any(|asking| asking.kind.state() == RunState::AwaitingApproval);
    let state = if approves { RunState::AwaitingApproval } else { RunState::AwaitingInput };
    Some(Parked { state, until })
}

/// A value as a tool's result: a text as it is.
pub(super) fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the model reads of a no.
fn denied(asking: &Asking, answered: &PersonAnswered) -> String {
    let because = answered.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    match asking.kind {
        AskKind::InFlight => format!("{IN_DOUBT}{because}"),
        AskKind::Input => format!("nobody answers{because}"),
        AskKind::Call | AskKind::Stage => format!("not called: {} did not allow it{because}", answered.by),
    }
}

const IN_DOUBT: &str = "the call was interrupted; whether it took effect is not known";

fn late(kind: AskKind, refusal: &Refusal) -> String {
    match kind {
        AskKind::InFlight => IN_DOUBT.to_owned(),
        AskKind::Input => format!("nobody answered in time: {refusal}"),
        AskKind::Call | AskKind::Stage => format!("not called: nobody allowed it in time: {refusal}"),
    }
}

/// What names what a person saw: 16 hexadecimal digits.
#[must_use]
pub fn hash_shown(kind: AskKind, question: &str, shown: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(kind.name());
    hasher.update([0]);
    hasher.update(question);
    hasher.update([0]);
    hasher.update(shown.to_string());
    hex(hasher.finalize().get(..8).unwrap_or_default())
}

/// A question that a place asks now.
pub(super) fn asked(
    run: &Run,
    (number, now): (u32, Timestamp),
    kind: AskKind,
    place: Place,
    question: String,
    shown: Value,
) -> PersonAsked {
    PersonAsked {
        call_id: None,
        tool: None,
        ask: Some(number),
        what: Some(kind),
        shown_hash: Some(hash_shown(kind, &question, &shown)),
        until: Some(run.asks_until(Some(&place), now)),
        place: Some(place),
        question,
        shown: (!shown.is_null()).then_some(shown),
    }
}

/// True where a person must say yes to each call of a tool.
pub(super) fn needs_a_person(plan: &Plan, tool: &ToolName) -> bool {
    plan.tools.get(tool).is_some_and(|tool| !tool.approval.is_never())
}
