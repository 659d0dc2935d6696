//! One step of the drive: what the run wants next, taken through the gate in one durable write.
//!
//! Facts and asks of all lanes ride together, numbered in the order in which the run wants them (LEDGER rule 16). Free
//! builtins run at once where nothing is asked for before them.

use super::{Conductor, Flow, Pending, Talk, Work};
use crate::domain::event::{Call, CallRefusal, CallRefused, Event, Place, Purpose, Reserved, StageEnd, StageEnded};
use crate::domain::ledger::{Ask, ReserveAsk, Short};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::run::{Intent, ModelIntent, ToolIntent};
use crate::failpoint;
use crate::gate::{Beside, Draft, Effort, Passage, Prepared, Rendered};
use crate::runtime::{RuntimeError, settle};
use crate::tool;
use crate::units::{Money, Timestamp};

/// What is asked for in one write.
#[derive(Default)]
struct Asked {
    list: Vec<(Pending, ReserveAsk)>,
    beside: Beside,
}

impl Asked {
    fn push(&mut self, pending: Pending, ask: ReserveAsk) {
        self.beside.count(&pending.reserved);
        self.list.push((pending, ask));
    }
}

impl Conductor {
    pub(super) async fn take(&mut self, intents: Vec<Intent>) -> Result<Flow, RuntimeError> {
        self.later = None;
        let (mut asked, mut moved) = (Asked::default(), false);
        for intent in intents {
            match intent {
                Intent::Refuse(refused) => {
                    self.note(Event::CallRefused(refused));
                    moved = true;
                }
                Intent::End(ended) => return self.end(ended).await,
                Intent::Land(refusal) => return self.land(refusal).await,
                Intent::AskPerson { call_id, tool } => return self.ask_person(call_id, tool).await,
                Intent::Model(intent) => match self.prepare(&intent, asked.beside) {
                    Ok(Prepared::Ready(draft)) => self.push_model(&intent, *draft, &mut asked),
                    Ok(Prepared::Later(until)) => self.wake_at(until),
                    // What was asked for before it comes first; then it comes again, alone.
                    Ok(Prepared::Refused(_) | Prepared::GiveUp(_)) if !asked.list.is_empty() => break,
                    Ok(Prepared::Refused(refusal)) if intent.purpose == Purpose::Landing => {
                        tracing::info!(run = %self.run.id, %refusal, "the landing doesn't fit");
                        return self.end_without_landing().await;
                    }
                    // What one call may carry is that call's own affair: the run may do without its place.
                    Ok(Prepared::Refused(refusal))
                        if refusal.limit == LimitKind::Context && self.run.plan.is_workflow() =>
                    {
                        self.end_place(intent.step.place(), StageEnd::Stopped, Some(*refusal), None);
                        moved = true;
                    }
                    Ok(Prepared::Refused(refusal)) => return self.land(*refusal).await,
                    Ok(Prepared::GiveUp(error)) if self.key(&intent).is_none() => {
                        let ended = self.run.failed(error);
                        return self.end(ended).await;
                    }
                    Ok(Prepared::GiveUp(error)) | Err(error) => {
                        self.fail_place(intent.step.place(), error);
                        moved = true;
                    }
                },
                Intent::Tool(intent) => moved |= self.take_tool(intent, &mut asked),
            }
        }
        match asked.list.is_empty() {
            false => self.ask(asked).await,
            true if moved || self.later.is_none() => Ok(Flow::On),
            true => {
                self.submit(vec![]).await?;
                Ok(Flow::Wait)
            }
        }
    }

    /// Whose conversation and concessions a call has: the stage's, or the run's own for a single loop and for a landing.
    pub(super) fn key(&self, intent: &ModelIntent) -> Option<Place> {
        (intent.purpose != Purpose::Landing && self.run.plan.is_workflow()).then(|| intent.step.place())
    }

    /// The texts of a stage are rendered at its first call, and kept with its lane.
    pub(super) fn prepare(&mut self, intent: &ModelIntent, beside: Beside) -> Result<Prepared, String> {
        let key = self.key(intent);
        if let Some(place) = &key
            && !self.talks.contains_key(place)
        {
            let rendered = Rendered::at(&self.run, &self.forms, place)
                .map_err(|error| format!("its prompt can't be rendered: {error}"))?;
            self.talks.insert(place.clone(), Talk { rendered, effort: Effort::default() });
        }
        let Talk { rendered, effort } = key.and_then(|place| self.talks.get(&place)).unwrap_or(&self.own);
        Ok(self.shared.gate.prepare(&self.run, rendered, intent, effort, beside))
    }

    pub(super) fn effort(&mut self, key: Option<&Place>) -> &mut Effort {
        match key.and_then(|place| self.talks.get_mut(place)) {
            Some(talk) => &mut talk.effort,
            None => &mut self.own.effort,
        }
    }

    pub(super) fn fail_place(&mut self, place: Place, error: String) {
        self.end_place(place, StageEnd::Failed, None, Some(error));
    }

    fn end_place(&mut self, place: Place, end: StageEnd, refusal: Option<Refusal>, error: Option<String>) {
        let output = serde_json::Value::Null;
        self.take_notes(vec![Event::StageEnded(StageEnded { place, end, output, refusal, error })]);
    }

    fn wake_at(&mut self, until: Timestamp) {
        self.later = Some(self.later.map_or(until, |later| later.min(until)));
    }

    fn push_model(&mut self, intent: &ModelIntent, draft: Draft, asked: &mut Asked) {
        let key = self.key(intent);
        let effort = self.effort(key.as_ref()).clone();
        // Nobody waits for the money of a summary: what was to be summed up is cut instead.
        let sums_up = matches!(&draft.reserved.call, Call::Model(call) if call.purpose == Purpose::Summary);
        let wait = !sums_up && !draft.can_tighten && !effort.waited && intent.purpose != Purpose::Landing;
        let ask = ReserveAsk {
            reserved: draft.reserved.clone(),
            lower: effort.lower.then_some(draft.lower),
            wait_until: wait.then(|| self.budget_wait_until()),
        };
        let can_tighten = draft.can_tighten;
        let work = Work::Model(Box::new(draft.request));
        asked.push(Pending { reserved: draft.reserved, work, key, can_tighten }, ask);
    }

    /// True for the call of a `tool` stage, which no model asks for.
    pub(super) fn is_own_call(&self, reserved: &Reserved) -> bool {
        let stage = self.run.plan.stage(&reserved.step.stage);
        matches!(reserved.call, Call::Tool { .. }) && stage.is_some_and(|stage| stage.kind.of_lane().calls_a_tool())
    }

    fn budget_wait_until(&self) -> Timestamp {
        let now = self.now();
        now.after(self.run.plan.limits.budget_wait.min(self.run.time_to_wait(now)))
    }

    /// A free builtin runs at once and its facts ride in the next write; anything else is asked for. True for the former.
    fn take_tool(&mut self, intent: ToolIntent, asked: &mut Asked) -> bool {
        let agent = self.run.plan.clone();
        let Some(plan) = agent.tools.get(&intent.call.name) else { return false };
        let reserved = Reserved {
            reservation: asked.beside.next_reservation(&self.run),
            step: intent.step,
            attempt: intent.attempt,
            amount: plan.price,
            landing: self.run.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount),
            budgets: None,
            time_limit: intent.time_limit,
            call: Call::Tool {
                call_id: intent.call.id.clone(),
                tool: intent.call.name.clone(),
                arguments_hash: intent.hash,
                idempotent: plan.idempotent,
                arguments: intent.arguments,
            },
        };
        // Calls are decided in their order (LEDGER rule 16): none overtakes one that must be asked for.
        let at_once = self.shared.instants && asked.list.is_empty();
        let Some(permit) = self.shared.gate.instant(plan, &reserved).filter(|_| at_once) else {
            let waits = self.is_own_call(&reserved) && !self.own.effort.waited;
            let wait_until = waits.then(|| self.budget_wait_until());
            let ask = ReserveAsk { reserved: reserved.clone(), lower: None, wait_until };
            asked.push(Pending { reserved, work: Work::Tool(intent.call), key: None, can_tighten: false }, ask);
            return false;
        };
        self.note(Event::Reserved(Box::new(reserved.clone())));
        let arguments = arguments_of(&intent.call.arguments);
        let outcome = tool::call_instant(permit, plan, &arguments, &self.shared.tools);
        self.note(settle::tool(&reserved, outcome));
        true
    }

    /// One write for all; each answer is followed in its order.
    async fn ask(&mut self, asked: Asked) -> Result<Flow, RuntimeError> {
        let (pendings, asks): (Vec<_>, Vec<_>) = asked.list.into_iter().unzip();
        let waits: Vec<_> = asks.iter().map(|ask: &ReserveAsk| ask.wait_until).collect();
        let passages = self.submit(asks.into_iter().map(|ask| Ask::Reserve(Box::new(ask))).collect()).await?;
        let mut next = Flow::Wait;
        for ((pending, wait_until), passage) in pendings.into_iter().zip(waits).zip(passages) {
            match self.answer(pending, wait_until, passage).await? {
                Flow::Leave => return Ok(Flow::Leave),
                Flow::On => next = Flow::On,
                Flow::Wait => {}
            }
        }
        Ok(next)
    }

    /// Follows the gate's answer to one ask.
    async fn answer(
        &mut self,
        pending: Pending,
        wait_until: Option<Timestamp>,
        passage: Passage,
    ) -> Result<Flow, RuntimeError> {
        match passage {
            Passage::Granted(pass) => {
                self.perform(pass, pending);
                Ok(Flow::Wait)
            }
            // No model is there that could be told: the run can't go on.
            Passage::Short(short) if !short.own_tree && self.is_own_call(&pending.reserved) => {
                self.land(short.refusal(self.run.plan.limits.declared(LimitKind::Cost))).await
            }
            Passage::Short(short) if !short.own_tree && matches!(pending.work, Work::Tool(_)) => {
                self.refuse_tool(&pending.reserved, &short);
                // With others in flight it rides with what they give.
                Ok(if self.run.is_busy() { Flow::Wait } else { Flow::On })
            }
            Passage::Short(short) => self.concede(&pending, short).await,
            Passage::Waiting => {
                self.wait_until = wait_until;
                self.pending = Some(pending);
                Ok(Flow::Wait)
            }
            Passage::Frozen(refusal) => self.avoid_frozen(&pending, refusal).await,
            Passage::Stalled => {
                self.effort(pending.key.as_ref()).waited = true;
                Ok(Flow::On)
            }
            Passage::NotRunning => Err(self.not_running()),
            Passage::Behind
            | Passage::Admitted(_)
            | Passage::Queued
            | Passage::TurnedAway(_)
            | Passage::WaitEnded
            | Passage::NotWaiting => Ok(Flow::Wait),
        }
    }

    /// A paid tool that the money isn't there for: the model is told.
    fn refuse_tool(&mut self, reserved: &Reserved, short: &Short) {
        let Call::Tool { call_id, tool, .. } = &reserved.call else { return };
        let refusal = short.refusal(self.run.plan.limits.declared(LimitKind::Cost));
        self.note(Event::CallRefused(CallRefused {
            step: reserved.step.clone(),
            call_id: call_id.clone(),
            tool: tool.clone(),
            why: CallRefusal::Limit { refusal },
        }));
    }

    /// Facts that follow from the state; the conversations of places that are over are dropped.
    pub(super) fn take_notes(&mut self, facts: Vec<Event>) {
        for fact in facts {
            if let Event::StageEnded(ended) = &fact {
                // With a map its items are over too.
                let Place { stage, item } = &ended.place;
                self.talks.retain(|place, _| place.stage != *stage || (item.is_some() && place.item != *item));
                failpoint::reach("stage.ended");
            }
            self.note(fact);
        }
    }
}

/// The arguments of a call that was checked before.
pub(super) fn arguments_of(raw: &str) -> serde_json::Value {
    let text = if raw.trim().is_empty() { "{}" } else { raw };
    serde_json::from_str(text).unwrap_or(serde_json::Value::Null)
}
