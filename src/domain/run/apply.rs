//! Folds one event into the run. Total: no clock, no IO, no refusal.

use serde_json::Value;

use super::stage::{CallProgress, CallStatus, Lane, ModelStep, Turn};
use super::{Attempt, AttemptKind, Run, Try};
use crate::domain::event::{
    Call, CallRefusal, CallRefused, CostSource, Decision, Event, InFlightResolved, ModelCall, Outcome, PersonAnswered,
    Purpose, Reserved, RunState, Settled, StepKey, Voided,
};
use crate::domain::message::{Assistant, Message, Sent, StopReason, ToolAnswer, ToolCall};
use crate::domain::retry::{ErrorClass, Failure};
use crate::ids::{ReservationId, StageName, ToolName};
use crate::units::{Millis, Timestamp};

impl Run {
    /// Folds one event.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        if !is_told_by_recovery(event) {
            self.last_at = self.last_at.max(at);
        }
        match event {
            Event::Created(_)
            | Event::LandingReleased(_)
            | Event::PeriodMoved(_)
            | Event::Downgraded(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_) => {}
            Event::OutcomeRecorded(said) => self.outcome = self.outcome.after(said),
            Event::ChildBegan(began) => self.begin_child(began),
            Event::ChildEnded(ended) => self.end_child(ended),
            Event::MapBegan(began) => {
                if let Some(stage) = self.stage_mut(&began.stage) {
                    stage.begin_map(began);
                }
            }
            Event::StageEnded(ended) => {
                if let Some(stage) = self.stage_mut(&ended.place.stage) {
                    stage.end(ended);
                }
            }
            Event::Admitted(admitted) => {
                self.landing.clone_from(&admitted.landing);
                let after = admitted.landing.as_ref().map_or(0, |landing| landing.reservation.number + 1);
                self.next_reservation = self.next_reservation.max(after);
                self.state = RunState::Running;
                self.active_since.get_or_insert(at);
            }
            Event::Reserved(reserved) => self.apply_reserved(reserved),
            Event::Settled(settled) => self.apply_settled(at, settled),
            Event::Voided(voided) => self.apply_voided(at, voided),
            Event::CallRefused(refused) => self.apply_refused(refused),
            Event::WaitBegan(_) => self.state = RunState::AwaitingBudget,
            Event::WaitEnded(_) => self.state = RunState::Running,
            Event::LandingBegan(began) => self.lands = Some(began.refusal.clone()),
            Event::CancelRequested(asked) => self.cancelled = Some(asked.reason.clone()),
            Event::Interrupted(_) => self.pause(RunState::Interrupted),
            Event::PersonAsked(asked) => self.apply_asked(at, asked),
            Event::PersonAnswered(answered) => self.apply_answered(answered),
            Event::Parked(parked) => self.pause(parked.state),
            Event::InFlightResolved(resolved) => self.apply_resolved(resolved),
            Event::Ended(ended) => {
                self.pause(ended.state.into());
                self.ended = Some(ended.clone());
            }
        }
        if matches!(event, Event::LandingReleased(_)) {
            self.landing = None;
        }
    }

    /// Closes the present stretch of active time at the last fact that this run's own process saw: down time doesn't count.
    pub(super) fn pause(&mut self, state: RunState) {
        if let Some(since) = self.active_since.take() {
            self.active = self.active.plus(self.last_at.since(since));
        }
        self.landing = None;
        self.state = state;
    }

    fn apply_reserved(&mut self, reserved: &Reserved) {
        self.next_reservation = self.next_reservation.max(reserved.reservation.number + 1);
        match &mut self.landing {
            Some(landing) if !reserved.landing.is_zero() => landing.amount = reserved.landing,
            landing => *landing = None,
        }
        let new_step = reserved.attempt == 1;
        self.counters.steps += u32::from(new_step);
        self.count_for_stage(reserved);
        let kind = match &reserved.call {
            Call::Model(call) => {
                self.counters.model_calls += u32::from(new_step);
                self.counters.attempts += 1;
                if call.purpose != Purpose::Summary {
                    self.latest_model = Some(call.model.clone());
                }
                if call.purpose != Purpose::Landing {
                    self.begin_model_try(reserved, call);
                }
                AttemptKind::Model {
                    model: call.model.clone(),
                    purpose: call.purpose,
                    input: call.bound.tokens,
                    output: call.output_at_most(),
                    sums_up: call.sums_up,
                }
            }
            Call::Tool { call_id, tool, arguments_hash, arguments, .. } => {
                self.counters.tool_calls += u32::from(new_step);
                if new_step {
                    self.count_repeat(&reserved.step.stage, arguments_hash);
                }
                if let Some(arguments) = arguments {
                    self.begin_own_call(&reserved.step, call_id, tool, arguments);
                }
                self.begin_tool_try(reserved, call_id);
                AttemptKind::Tool { call_id: call_id.clone() }
            }
        };
        let attempt = Attempt { step: reserved.step.clone(), kind, amount: reserved.amount };
        self.open.insert(reserved.reservation, Box::new(attempt));
    }

    fn count_for_stage(&mut self, reserved: &Reserved) {
        let new_step = u32::from(reserved.attempt == 1);
        let Some(stage) = self.stage_mut(&reserved.step.stage) else { return };
        stage.spent.steps += new_step;
        match &reserved.call {
            Call::Model(_) => {
                stage.spent.model_calls += new_step;
                stage.spent.attempts += 1;
            }
            Call::Tool { .. } => stage.spent.tool_calls += new_step,
        }
    }

    fn begin_model_try(&mut self, reserved: &Reserved, call: &ModelCall) {
        let (place, active) = (reserved.step.place(), self.active(self.last_at));
        let Some(lane) = self.stage_mut(&place.stage).and_then(|stage| stage.enter(&place, active)) else { return };
        if call.purpose == Purpose::Summary {
            lane.summed_up_at = Some(lane.turns.len());
        }
        if let (Some(turn), Some(remark)) = (lane.turns.last_mut(), &call.remark) {
            turn.remark = Some(Sent::from(Message::User { text: remark.clone() }));
        }
        match &mut lane.step {
            Some(step) => {
                step.step = reserved.step.step;
                step.in_flight = true;
            }
            None => lane.step = Some(ModelStep { step: reserved.step.step, tries: Vec::new(), in_flight: true }),
        }
    }

    /// The call of a `tool` stage opens its lane. What it is given was rendered once: a repeat is given the same.
    pub(super) fn begin_own_call(&mut self, step: &StepKey, call_id: &str, tool: &ToolName, arguments: &Value) {
        let is_own = self.plan.stage(&step.stage).is_some_and(|plan| plan.kind.of_lane().calls_a_tool());
        let (place, active) = (step.place(), self.active(self.last_at));
        let stage = self.stage_mut(&step.stage).filter(|_| is_own);
        let Some(lane) = stage.and_then(|stage| stage.enter(&place, active)) else { return };
        lane.call.get_or_insert_with(|| {
            CallProgress::new(ToolCall { id: call_id.to_owned(), name: tool.clone(), arguments: arguments.to_string() })
        });
    }

    fn begin_tool_try(&mut self, reserved: &Reserved, call_id: &str) {
        if let Some(call) = self.lane_mut(&reserved.step).and_then(|lane| lane.call_mut(call_id)) {
            call.step = Some(reserved.step.step);
            call.tries = reserved.attempt;
            call.status = CallStatus::InFlight;
        }
    }

    pub(super) fn lane_mut(&mut self, step: &StepKey) -> Option<&mut Lane> {
        self.stage_mut(&step.stage)?.lane_mut(step.item)
    }

    fn apply_settled(&mut self, at: Timestamp, settled: &Settled) {
        self.counters.settled = self.counters.settled.plus(settled.bill);
        if settled.source == CostSource::Unknown {
            self.counters.unknown = self.counters.unknown.plus(settled.bill);
        }
        if let Some(usage) = &settled.usage {
            self.counters.usage = self.counters.usage.plus(usage);
        }
        let Some(attempt) = self.open.remove(&settled.reservation) else { return };
        self.count_tokens(&attempt, settled);
        match &settled.outcome {
            Outcome::Reply { message, stop, .. } => self.take_reply(at, settled.reservation, &attempt, message, stop),
            Outcome::ToolResult { content, is_error, .. } => self.take_result(&attempt, content, *is_error),
            Outcome::Failed(failure) => self.take_failure(at, settled.reservation, &attempt, failure, false),
        }
    }

    fn apply_voided(&mut self, at: Timestamp, voided: &Voided) {
        if let Some(attempt) = self.open.remove(&voided.reservation) {
            self.take_failure(at, voided.reservation, &attempt, &voided.failure, true);
        }
    }

    /// Unknown means the most: an attempt without usage counts as what it was bounded by.
    fn count_tokens(&mut self, attempt: &Attempt, settled: &Settled) {
        let AttemptKind::Model { input, output, .. } = attempt.kind else { return };
        let counted = settled.counted((input, output));
        self.counters.input = self.counters.input.plus(counted.0);
        self.counters.output = self.counters.output.plus(counted.1);
        if let Some(stage) = self.stage_mut(&attempt.step.stage) {
            stage.spent.input = stage.spent.input.plus(counted.0);
            stage.spent.output = stage.spent.output.plus(counted.1);
        }
    }

    fn take_reply(
        &mut self,
        at: Timestamp,
        id: ReservationId,
        attempt: &Attempt,
        message: &Assistant,
        stop: &StopReason,
    ) {
        let AttemptKind::Model { purpose, sums_up, .. } = attempt.kind else { return };
        if purpose == Purpose::Landing {
            self.landed = Some(message.clone());
            return;
        }
        if let Some(failure) = declined(message, stop) {
            self.take_failure(at, id, attempt, &failure, false);
            return;
        }
        let Some(lane) = self.lane_mut(&attempt.step) else { return };
        lane.step = None;
        if purpose == Purpose::Summary {
            lane.take_summary(&message.text, sums_up);
            return;
        }
        lane.repairs += u32::from(purpose == Purpose::Repair);
        lane.push(Turn::of(message, stop));
    }

    fn take_result(&mut self, attempt: &Attempt, content: &str, is_error: bool) {
        let AttemptKind::Tool { call_id } = &attempt.kind else { return };
        let lane = self.lane_mut(&attempt.step).filter(|lane| lane.call.is_none());
        let edited = lane.and_then(|lane| lane.call_mut(call_id)?.edited.clone());
        match edited {
            // Else the model would take the result for that of its own arguments.
            Some(edited) => {
                let content = format!("a person changed the arguments to {edited}; the result:\n{content}");
                self.answer(&attempt.step, call_id, &content, is_error);
            }
            None => self.answer(&attempt.step, call_id, content, is_error),
        }
        if let Some(lane) = self.lane_mut(&attempt.step) {
            lane.tool_errors = if is_error { lane.tool_errors + 1 } else { 0 };
        }
    }

    pub(super) fn answer(&mut self, step: &StepKey, call_id: &str, content: &str, is_error: bool) {
        if let Some(call) = self.lane_mut(step).and_then(|lane| lane.call_mut(call_id)) {
            let (call_id, name) = (call.call.id.clone(), call.call.name.clone());
            let answer = ToolAnswer { call_id, name, content: content.to_owned(), is_error };
            call.status = CallStatus::Answered(answer.into());
        }
    }

    fn take_failure(
        &mut self,
        at: Timestamp,
        reservation: ReservationId,
        attempt: &Attempt,
        failure: &Failure,
        unbilled: bool,
    ) {
        match &attempt.kind {
            AttemptKind::Model { model, purpose, .. } => {
                let tried = Try { reservation, model: model.clone(), failure: failure.clone(), at, unbilled };
                if *purpose == Purpose::Landing {
                    self.landing_tries.push(tried);
                    return;
                }
                let Some(lane) = self.lane_mut(&attempt.step) else { return };
                if *purpose == Purpose::Summary {
                    // Nobody waits for it: what was to be summed up is cut.
                    lane.step = None;
                    return;
                }
                if let Some(step) = &mut lane.step {
                    step.in_flight = false;
                    step.tries.push(tried);
                }
            }
            AttemptKind::Tool { call_id } => self.take_tool_failure(attempt, call_id, failure),
        }
    }

    /// A tool call ends without a result only where the process went down: then it is made again if it is idempotent.
    fn take_tool_failure(&mut self, attempt: &Attempt, call_id: &str, failure: &Failure) {
        let interrupted = failure.class == ErrorClass::Interrupted;
        if !interrupted {
            if let Some(lane) = self.lane_mut(&attempt.step) {
                lane.tool_errors += 1;
            }
            self.answer(&attempt.step, call_id, &failure.message, true);
            return;
        }
        let plan = self.plan.clone();
        if let Some(call) = self.lane_mut(&attempt.step).and_then(|lane| lane.call_mut(call_id)) {
            let idempotent = plan.tools.get(&call.call.name).is_some_and(|tool| tool.idempotent);
            call.status = if idempotent { CallStatus::Pending } else { CallStatus::InDoubt };
        }
    }

    fn apply_refused(&mut self, refused: &CallRefused) {
        let text = match &refused.why {
            CallRefusal::Limit { refusal } => format!("not called: {refusal}"),
            CallRefusal::Invalid { message } => {
                self.count_unplaced(Some(&refused.step.stage));
                if let Some(lane) = self.lane_mut(&refused.step) {
                    lane.tool_errors += 1;
                }
                message.clone()
            }
        };
        self.answer(&refused.step, &refused.call_id, &text, true);
    }

    /// A call that counts for its stage and its run, though nothing was reserved for it.
    pub(super) fn count_unplaced(&mut self, stage: Option<&StageName>) {
        self.counters.steps += 1;
        self.counters.tool_calls += 1;
        if let Some(stage) = stage.and_then(|stage| self.stage_mut(stage)) {
            stage.spent.steps += 1;
            stage.spent.tool_calls += 1;
        }
    }

    /// Version 1's answer about a call in flight.
    fn apply_resolved(&mut self, resolved: &InFlightResolved) {
        let decision = if resolved.rerun { Decision::Allow { edited: None } } else { Decision::Deny };
        let by = resolved.by.clone();
        self.apply_answered(&PersonAnswered { ask: None, decision, by, reason: None, shown_hash: None });
    }

    /// The open attempts' reservations, for tests and recovery.
    pub fn open_attempts(&self) -> impl Iterator<Item = ReservationId> {
        self.open.keys().copied()
    }

    /// How long the run may wait at most, for budget or for a back-off, before its time is up.
    #[must_use]
    pub fn time_to_wait(&self, now: Timestamp) -> Millis {
        let limits = &self.plan.limits;
        let share =
            if self.can_land() { limits.model_call_time.min(Millis(limits.wall_time.0 / 5)) } else { Millis::ZERO };
        let until = limits.deadline.map_or(Millis(u64::MAX), |deadline| deadline.since(now).left_after(share));
        self.time_left(now, share).min(until)
    }

    /// What is left of a length of time, after what is kept back.
    pub(super) fn time_left(&self, now: Timestamp, kept_back: Millis) -> Millis {
        self.plan.limits.wall_time.left_after(self.active(now)).left_after(kept_back)
    }
}

/// A reply that is no answer: the provider's filter, the model's own no, or nothing at all for a reason that we don't know.
/// Billed, and a failed try all the same.
fn declined(message: &Assistant, stop: &StopReason) -> Option<Failure> {
    let silent = message.text.is_empty() && message.calls.is_empty();
    let (class, words) = match (stop, &message.refusal) {
        (StopReason::ContentFilter, _) => {
            (ErrorClass::ContentFilter, "the provider's content filter cut the answer off".to_owned())
        }
        (StopReason::ContextFull, _) => {
            (ErrorClass::ContextTooLong, "the conversation filled the model's window".to_owned())
        }
        (StopReason::Malformed, _) => {
            (ErrorClass::Unprocessable, "the model wrote a call or an answer that can't be read".to_owned())
        }
        (_, Some(refusal)) => (ErrorClass::Refused, refusal.clone()),
        (StopReason::Refusal, None) => (ErrorClass::Refused, "the model declined".to_owned()),
        (StopReason::Unknown(word), None) if silent => {
            (ErrorClass::Garbage, format!("the model said nothing, and stopped with `{word}`"))
        }
        _ => return None,
    };
    let message = words.chars().take(500).collect();
    Some(Failure { class, status: None, code: None, message, retry_after: None })
}

/// True for facts that a restart tells of a process that is gone: their time is the restart's.
fn is_told_by_recovery(event: &Event) -> bool {
    match event {
        Event::Interrupted(interrupted) => !interrupted.clean,
        Event::Settled(settled) => {
            matches!(&settled.outcome, Outcome::Failed(failure) if failure.class == ErrorClass::Interrupted)
        }
        Event::Created(_)
        | Event::Admitted(_)
        | Event::Reserved(_)
        | Event::Voided(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::WaitEnded(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::LandingBegan(_)
        | Event::LandingReleased(_)
        | Event::CancelRequested(_)
        | Event::PersonAsked(_)
        | Event::InFlightResolved(_)
        | Event::PersonAnswered(_)
        | Event::Parked(_)
        | Event::MapBegan(_)
        | Event::StageEnded(_)
        | Event::ChildBegan(_)
        | Event::ChildEnded(_)
        | Event::PeriodMoved(_)
        | Event::OutcomeRecorded(_)
        | Event::Ended(_) => false,
    }
}
