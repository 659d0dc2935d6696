//! What is conceded where the money for a model call isn't there (LEDGER rule 9), place by place.

use super::{Conductor, Flow, Key, Pending};
use crate::domain::event::{AccountKey, Call, EndState, Ended, Purpose};
use crate::domain::ledger::Short;
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::plan::ModelPlan;
use crate::domain::policy::{self, Stance};
use crate::domain::run::NodeRef;
use crate::domain::switch::spares_other_models;
use crate::runtime::RuntimeError;

impl Conductor {
    pub(super) async fn end_without_landing(&mut self) -> Result<Flow, RuntimeError> {
        let refusal = self.root().lands.clone();
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
            // What it had of the rates is free for others meanwhile, and none of the tree's calls asks for it again before.
            self.short_within = true;
            self.rate_waits.leave_queue();
            return Ok(Flow::Wait);
        }
        let key = &pending.key;
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
            return self.out_of_money(&short).await;
        } else {
            let effort = self.effort(key);
            effort.lower = true;
            effort.waited = true;
        }
        Ok(Flow::On)
    }

    /// Whose account is short is who ends: a sub-agent's run, a stage; the root lands.
    pub(super) async fn out_of_money(&mut self, short: &Short) -> Result<Flow, RuntimeError> {
        let refusal = short.refusal(self.cost_declared(&short.account));
        let node = match &short.account {
            AccountKey::Node { run, stage: Some(stage) } => NodeRef::Stage(*run, stage.clone()),
            AccountKey::Node { run, stage: None } => NodeRef::Run(*run),
            AccountKey::Budget { .. } => NodeRef::Run(self.root().id),
        };
        if self.stop_node(node, refusal.clone()) { Ok(Flow::On) } else { self.land(refusal).await }
    }

    /// Where the cap of an account of the tree is declared, which the ledger doesn't know.
    pub(super) fn cost_declared(&self, account: &AccountKey) -> Declared {
        let root = &self.root().plan.limits;
        let limits = match account {
            AccountKey::Node { run, stage } => self.tree.run(*run).map_or(root, |run| match stage {
                Some(stage) => run.plan.limits_of(stage),
                None => &run.plan.limits,
            }),
            AccountKey::Budget { .. } => root,
        };
        limits.declared(LimitKind::Cost)
    }

    pub(super) fn downgrade(&mut self, key: &Key) -> Option<Stance> {
        let stance = self.effort(key).stands();
        policy::downgrade(self.model_of(key), stance)
    }

    pub(super) fn model_of(&self, (run, place): &Key) -> &ModelPlan {
        let plan = &self.tree.run(*run).unwrap_or(self.root()).plan;
        place.as_ref().map_or(&plan.model, |place| plan.call_of(place).model)
    }

    /// A frozen price, or a switch, bars its model; where nobody else is left the run ends, landing included.
    pub(super) async fn avoid_frozen(&mut self, pending: &Pending, refusal: Refusal) -> Result<Flow, RuntimeError> {
        let model = match &pending.reserved.call {
            Call::Model(call) if call.purpose != Purpose::Landing && spares_other_models(&refusal) => {
                Some(call.model.clone())
            }
            Call::Model(_) | Call::Tool { .. } => None,
        };
        let effort = self.effort(&pending.key);
        if is_summary(pending) {
            effort.trim = true;
            return Ok(Flow::On);
        }
        match model {
            Some(model) if effort.bar(model.clone(), &refusal) => Ok(Flow::On),
            _ if self.stop_node(NodeRef::Run(pending.key.0), refusal.clone()) => Ok(Flow::On),
            _ if self.tree.is_busy() || self.tree.runs().len() > 1 => self.land(refusal).await,
            _ => {
                let ended = self.root().stopped(refusal);
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
