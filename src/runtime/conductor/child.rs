//! Runs of sub-agents: how they begin, and begin again.

use std::sync::Arc;

use super::Conductor;
use crate::domain::event::{
    Admitted, ChildBegan, ChildEnded, Created, EVENT_VERSION, Event, LandingBegan, Parent, RunState, StageEnded,
};
use crate::domain::limits::Refusal;
use crate::domain::run::{ChildIntent, NodeRef};
use crate::failpoint;
use crate::ids::RunId;
use crate::runtime::Agent;

impl Conductor {
    /// Begins a sub-agent's run: facts of its parent and of itself, which ride in the write of its first reservation.
    pub(super) fn begin_child(&mut self, parent: RunId, intent: ChildIntent) {
        let ChildIntent { agent: name, place, mut call, input } = intent;
        let Some(agent) = self.agent_of(parent).and_then(|agent| agent.agents.get(&name).cloned()) else { return };
        let Some(above) = self.tree.run(parent) else { return };
        if let Some(call) = &mut call {
            // What was asked for before it in the same look has no number yet.
            call.step = above.counters.steps + 1;
        }
        let known = self.shared.answers.documents(&name, &input);
        let found = known.map_or_else(|| self.shared.documents(&agent.plan, &agent.forms.own, &input), Ok);
        let (documents, unread) = match found {
            Ok(documents) => (documents.map(Arc::new), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (root, plan) = (self.root(), &agent.plan);
        let created = Created {
            version: EVENT_VERSION,
            agent: name.clone(),
            plan: agent.hash.clone(),
            prompt_version: plan.prompt.label().to_owned(),
            input,
            labels: root.labels.clone(),
            cap: plan.limits.cost,
            load_line: plan.limits.cost,
            expected: None,
            foreseen: None,
            parent: Some(Parent { root: root.id, run: parent, stage: place.stage.clone() }),
            key: None,
            simulated: root.simulated,
            stage_caps: plan.stage_caps(),
            thread: None,
            documents,
            files: vec![],
            unit: plan.unit.clone(),
        };
        let child = self.shared.clock.run_id();
        self.agents.insert(child, agent);
        self.note(parent, Event::ChildBegan(ChildBegan { child, agent: name, place, call }));
        self.note(child, Event::Created(created));
        self.note(child, Event::Admitted(Admitted { budgets: vec![], landing: None }));
        failpoint::reach("child.began");
        if let Some(error) = unread {
            self.fail_child(child, error);
        }
    }

    /// What follows from a run's plan: for a run below, as its parent's agent has it.
    pub(super) fn agent_of(&mut self, run: RunId) -> Option<Arc<Agent>> {
        if let Some(agent) = self.agents.get(&run) {
            return Some(agent.clone());
        }
        let (parent, name) =
            self.tree.run(run).and_then(|run| Some((run.parent.as_ref()?.run, run.plan.agent.clone())))?;
        let agent = self.agent_of(parent)?.agents.get(&name)?.clone();
        self.agents.insert(run, agent.clone());
        Some(agent)
    }

    /// The runs below go on with their root: their active time begins again.
    pub(super) fn admit_children(&mut self) {
        let root = self.root().id;
        let paused = |state| state != RunState::Running;
        let below = self.tree.runs().filter(|run| run.id != root && run.ended.is_none() && paused(run.state));
        let below: Vec<RunId> = below.map(|run| run.id).collect();
        for run in below {
            self.note(run, Event::Admitted(Admitted { budgets: vec![], landing: None }));
        }
    }

    /// A sub-agent's run ends by an error.
    pub(super) fn fail_child(&mut self, child: RunId, error: String) {
        let Some(run) = self.tree.run(child) else { return };
        let Some(parent) = run.parent.as_ref().map(|parent| parent.run) else { return };
        let (end, spent) = (run.failed(error), self.tree.spent(child));
        self.note(child, Event::Ended(end.clone()));
        self.note(parent, Event::ChildEnded(ChildEnded { child, end, spent }));
    }

    /// A sub-agent's run, or a stage, met a limit: it is stopped. False for the root, which lands.
    pub(super) fn stop_node(&mut self, node: NodeRef, refusal: Refusal) -> bool {
        match node {
            NodeRef::Run(run) if run == self.root().id => return false,
            // Two calls of one write may meet the same limit.
            node if self.is_stopped(&node) => {}
            NodeRef::Run(run) => self.note(run, Event::LandingBegan(LandingBegan { refusal })),
            NodeRef::Stage(run, stage) => self.note(run, Event::StageEnded(StageEnded::stopped(stage, refusal))),
        }
        true
    }

    fn is_stopped(&self, node: &NodeRef) -> bool {
        let (NodeRef::Run(run) | NodeRef::Stage(run, _)) = node;
        self.tree.run(*run).is_none_or(|run| match node {
            NodeRef::Run(_) => run.lands.is_some() || run.ended.is_some(),
            NodeRef::Stage(_, stage) => run.stage_over(stage).is_some(),
        })
    }
}
