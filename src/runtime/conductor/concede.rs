//! What is conceded where the money for a model call isn't there (LEDGER rule 9), place by place.

use super::{Conductor, Flow, Pending};
use crate::domain::event::{Call, EndState, Ended, Place, Purpose};
use crate::domain::ledger::Short;
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::plan::ModelPlan;
use crate::domain::policy::{self, Stance};
use crate::runtime::RuntimeError;

impl Conductor {
    pub(super) async fn end_without_landing(&mut self) -> Result<Flow, RuntimeError> {
        let refusal = self.run.lands.clone();
        let ended = Ended { state: EndState::Stopped, refusal, output: None, error: None };
        self.end(ended).await
    }

    /// One concession after the other.
    pub(super) async fn concede(&mut self, pending: &Pending, short: Short) -> Result<Flow, RuntimeError> {
        self.wait_until = None;
        if is_landing(pending) {
            return self.end_without_landing().await;
        }
        if short.own_tree {
            return Ok(Flow::Wait);
        }
        let key = pending.key.as_ref();
        if is_summary(pending) {
            self.effort(key).trim = true;
            return Ok(Flow::On);
        }
        if pending.can_tighten {
            self.effort(key).tight = true;
        } else if let Some(stance) = self.downgrade(key) {
            let effort = self.effort(key);
            effort.settle();
            effort.stance = stance;
        } else if self.effort(key).lower {
            let declared = self.run.plan.limits.declared(LimitKind::Cost);
            return self.land(short.refusal(declared)).await;
        } else {
            let effort = self.effort(key);
            effort.lower = true;
            effort.waited = true;
        }
        Ok(Flow::On)
    }

    pub(super) fn downgrade(&mut self, key: Option<&Place>) -> Option<Stance> {
        let stance = self.effort(key).stance;
        policy::downgrade(self.model_of(key), stance)
    }

    fn model_of(&self, key: Option<&Place>) -> &ModelPlan {
        key.map_or(&self.run.plan.model, |place| self.run.plan.call_of(place).model)
    }

    /// A frozen price bars its model; where nobody else is left the run ends, landing included.
    pub(super) async fn avoid_frozen(&mut self, pending: &Pending, refusal: Refusal) -> Result<Flow, RuntimeError> {
        let model = match &pending.reserved.call {
            Call::Model(call) if call.purpose != Purpose::Landing => Some(call.model.clone()),
            Call::Model(_) | Call::Tool { .. } => None,
        };
        let effort = self.effort(pending.key.as_ref());
        if is_summary(pending) {
            effort.trim = true;
            return Ok(Flow::On);
        }
        match model {
            Some(model) if !effort.frozen.contains(&model) => {
                effort.frozen.push(model);
                Ok(Flow::On)
            }
            _ if self.run.is_busy() => self.land(refusal).await,
            _ => {
                let ended = self.run.stopped(refusal);
                self.end(ended).await
            }
        }
    }
}

fn is_summary(pending: &Pending) -> bool {
    matches!(&pending.reserved.call, Call::Model(call) if call.purpose == Purpose::Summary)
}

fn is_landing(pending: &Pending) -> bool {
    matches!(&pending.reserved.call, Call::Model(call) if call.purpose == Purpose::Landing)
}
