//! The tool calls of a turn: free builtins at once, all others through the gate, in their order (LEDGER rule 16).

use super::{Flow, Orchestrator, Pending, Work};
use crate::domain::event::{Call, CallRefusal, CallRefused, Event, Reserved};
use crate::domain::ledger::{Ask, ReserveAsk, Short};
use crate::domain::limits::LimitKind;
use crate::domain::run::ToolIntent;
use crate::gate::Passage;
use crate::runtime::{RuntimeError, settle};
use crate::tool;
use crate::units::Money;

impl Orchestrator {
    /// A free builtin runs at once and its facts ride in the next write; anything else is asked for.
    pub(super) fn take_tool(&mut self, intent: ToolIntent, at_once: bool) -> Option<Pending> {
        let agent = self.run.plan.clone();
        let plan = agent.tools.get(&intent.call.name)?;
        let reserved = Reserved {
            reservation: self.run.next_reservation(),
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
                arguments: None,
            },
        };
        let Some(permit) = self.shared.gate.instant(plan, &reserved).filter(|_| at_once) else {
            return Some(Pending { reserved, work: Work::Tool(intent.call) });
        };
        self.note(Event::Reserved(Box::new(reserved.clone())));
        let arguments = arguments_of(&intent.call.arguments);
        let outcome = tool::call_instant(permit, plan, &arguments, &self.shared.tools);
        self.note(settle::tool(&reserved, outcome));
        None
    }

    pub(super) async fn ask_tools(&mut self, mut asked: Vec<Pending>) -> Result<Flow, RuntimeError> {
        let first = self.run.next_reservation().number;
        for (index, pending) in asked.iter_mut().enumerate() {
            pending.reserved.reservation.number = first + u32::try_from(index).unwrap_or(u32::MAX);
        }
        let asks = asked
            .iter()
            .map(|pending| {
                let reserved = pending.reserved.clone();
                Ask::Reserve(Box::new(ReserveAsk { reserved, lower: None, wait_until: None }))
            })
            .collect();
        let passages = self.submit(asks).await?;
        let mut flow = Flow::On;
        for (pending, passage) in asked.into_iter().zip(passages) {
            match passage {
                Passage::Granted(pass) => self.perform(pass, pending.work),
                Passage::Short(short) if short.own_tree => flow = Flow::Wait,
                Passage::Behind => flow = Flow::Wait,
                Passage::Short(short) => self.refuse_tool(&pending.reserved, &short),
                Passage::Admitted(_)
                | Passage::Queued
                | Passage::TurnedAway(_)
                | Passage::Waiting
                | Passage::Frozen(_)
                | Passage::WaitEnded
                | Passage::NotWaiting
                | Passage::Stalled => {}
                Passage::NotRunning => return Err(self.not_running()),
            }
        }
        Ok(if self.run.is_busy() { Flow::Wait } else { flow })
    }

    /// A paid tool that the money isn't there for: the model is told.
    pub(super) fn refuse_tool(&mut self, reserved: &Reserved, short: &Short) {
        let Call::Tool { call_id, tool, .. } = &reserved.call else { return };
        let refusal = short.refusal(self.run.plan.limits.declared(LimitKind::Cost));
        self.note(Event::CallRefused(CallRefused {
            step: reserved.step.clone(),
            call_id: call_id.clone(),
            tool: tool.clone(),
            why: CallRefusal::Limit { refusal },
        }));
    }
}

/// The arguments of a call that was checked before.
pub(super) fn arguments_of(raw: &str) -> serde_json::Value {
    let text = if raw.trim().is_empty() { "{}" } else { raw };
    serde_json::from_str(text).unwrap_or(serde_json::Value::Null)
}
