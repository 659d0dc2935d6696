//! A model call on its way to the gate, and what is conceded where the money for it isn't there (LEDGER rule 9).

use super::{Flow, Orchestrator, Pending, Work};
use crate::domain::event::{Call, EndState, Ended, Purpose};
use crate::domain::ledger::{Ask, ReserveAsk, Short};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::policy::{self, Stance};
use crate::domain::run::ModelIntent;
use crate::gate::{Draft, Passage, Prepared};
use crate::runtime::RuntimeError;

impl Orchestrator {
    pub(super) async fn call_model(&mut self, intent: &ModelIntent) -> Result<Flow, RuntimeError> {
        match self.shared.gate.prepare(&self.run, &self.rendered, intent, &self.effort) {
            Prepared::Ready(draft) => self.ask_model(intent, *draft).await,
            Prepared::Refused(refusal) if intent.purpose == Purpose::Landing => {
                tracing::info!(run = %self.run.id, %refusal, "the landing doesn't fit");
                self.end_without_landing().await
            }
            Prepared::Refused(refusal) => self.land(*refusal).await,
            Prepared::GiveUp(error) => {
                let ended = self.run.failed(error);
                self.end(ended).await
            }
            Prepared::Later(until) => {
                self.later = Some(until);
                self.submit(vec![]).await?;
                Ok(Flow::Wait)
            }
        }
    }

    pub(super) async fn end_without_landing(&mut self) -> Result<Flow, RuntimeError> {
        let refusal = self.run.lands.clone();
        let ended = Ended { state: EndState::Stopped, refusal, output: None, error: None };
        self.end(ended).await
    }

    pub(super) async fn ask_model(&mut self, intent: &ModelIntent, draft: Draft) -> Result<Flow, RuntimeError> {
        let can_tighten = draft.can_tighten;
        let wait = !can_tighten && !self.effort.waited && intent.purpose != Purpose::Landing;
        let mut ask = self.reserve_ask(&draft, self.effort.lower);
        ask.wait_until =
            wait.then(|| self.now().after(self.run.plan.limits.budget_wait.min(self.run.time_to_wait(self.now()))));
        self.wait_until = ask.wait_until;
        self.pending = Some(Pending { reserved: draft.reserved, work: Work::Model(Box::new(draft.request)) });
        let passages = self.submit(vec![Ask::Reserve(Box::new(ask))]).await?;
        match passages.into_iter().next() {
            Some(Passage::Short(short)) => self.concede(intent.purpose, can_tighten, short).await,
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    pub(super) fn reserve_ask(&self, draft: &Draft, lower: bool) -> ReserveAsk {
        ReserveAsk { reserved: draft.reserved.clone(), lower: lower.then_some(draft.lower), wait_until: None }
    }

    /// LEDGER rule 9, one concession after the other.
    pub(super) async fn concede(
        &mut self,
        purpose: Purpose,
        can_tighten: bool,
        short: Short,
    ) -> Result<Flow, RuntimeError> {
        self.wait_until = None;
        if purpose == Purpose::Landing {
            return self.end_without_landing().await;
        }
        if short.own_tree {
            return Ok(Flow::Wait);
        }
        if can_tighten {
            self.effort.tight = true;
        } else if let Some(stance) = self.downgrade() {
            self.effort.settle();
            self.effort.stance = stance;
        } else if self.effort.lower {
            let declared = self.run.plan.limits.declared(LimitKind::Cost);
            return self.land(short.refusal(declared)).await;
        } else {
            self.effort.lower = true;
            self.effort.waited = true;
        }
        Ok(Flow::On)
    }

    pub(super) fn downgrade(&self) -> Option<Stance> {
        policy::downgrade(&self.run.plan.model, self.effort.stance)
    }

    /// A frozen price bars its model; where nobody else is left the run ends, landing included.
    pub(super) async fn avoid_frozen(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        let model = self.pending.take().and_then(|pending| match pending.reserved.call {
            Call::Model(call) if call.purpose != Purpose::Landing => Some(call.model),
            Call::Model(_) | Call::Tool { .. } => None,
        });
        match model {
            Some(model) if !self.effort.frozen.contains(&model) => {
                self.effort.frozen.push(model);
                Ok(Flow::On)
            }
            _ => {
                let ended = self.run.stopped(refusal);
                self.end(ended).await
            }
        }
    }
}
