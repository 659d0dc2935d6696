//! The agents as they are configured now. A run keeps the plan that it began with; this says what the next one gets.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Runtime, RuntimeError};
use crate::domain::plan::Plan;
use crate::gate::Forms;
use crate::ids::{AgentName, PlanHash};
use crate::spec::fault::Fault;
use crate::spec::load_line::load_line_of;
use crate::units::Money;

/// An agent as it is configured now, and what follows from its plan, reckoned once.
pub(crate) struct Agent {
    pub(crate) plan: Arc<Plan>,
    pub(crate) hash: PlanHash,
    pub(crate) forms: Arc<Forms>,
    /// Its sub-agents.
    pub(crate) agents: BTreeMap<AgentName, Arc<Self>>,
}

impl Agent {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let agents = plan.agents.iter().map(|(name, plan)| (name.clone(), Arc::new(Self::new(plan.clone()))));
        Self { hash: plan.hash(), forms: Arc::new(Forms::of(&plan)), agents: agents.collect(), plan }
    }
}

/// All of them, with what each can cost at most, and what is wrong with files that came since.
#[derive(Default)]
pub(super) struct Roster {
    agents: BTreeMap<AgentName, Arc<Agent>>,
    load_lines: BTreeMap<AgentName, Money>,
    faults: Arc<[Fault]>,
}

impl Roster {
    pub(super) fn new(plans: BTreeMap<AgentName, Plan>, load_lines: BTreeMap<AgentName, Money>) -> Self {
        let agents = plans.into_iter().map(|(name, plan)| (name, Arc::new(Agent::new(Arc::new(plan)))));
        Self { agents: agents.collect(), load_lines, faults: Arc::default() }
    }

    pub(super) fn agent(&self, name: &AgentName) -> Option<&Arc<Agent>> {
        self.agents.get(name)
    }

    /// What a run of this plan can cost at most.
    pub(super) fn load_line(&self, plan: &Plan) -> Money {
        self.load_lines.get(&plan.agent).copied().unwrap_or(plan.limits.cost)
    }
}

/// What became of the agents when their files were read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Those that are new, or others than before.
    pub taken: Vec<AgentName>,
    /// Those that are gone.
    pub gone: Vec<AgentName>,
}

impl Runtime {
    /// The agents as they are configured now.
    pub(super) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.0.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The plan of an agent as it is configured now.
    #[must_use]
    pub fn plan(&self, agent: &AgentName) -> Option<Arc<Plan>> {
        self.roster().agent(agent).map(|agent| agent.plan.clone())
    }

    /// The plans of all agents as they are configured now, by name.
    #[must_use]
    pub fn plans(&self) -> Vec<Arc<Plan>> {
        self.roster().agents.values().map(|agent| agent.plan.clone()).collect()
    }

    /// What is wrong with the files that were read since the start: the agents that they are of go on as they were.
    #[must_use]
    pub fn faults(&self) -> Arc<[Fault]> {
        Arc::clone(&self.roster().faults)
    }

    /// Has runs that are made from here on follow these plans; those under way keep their own.
    pub(super) fn configure(&self, plans: BTreeMap<AgentName, Arc<Plan>>, faults: Arc<[Fault]>) -> Changed {
        let (before, now, mut changed) = (self.roster(), self.0.clock.now(), Changed::default());
        let mut next = Roster { faults, ..Roster::default() };
        for (name, plan) in plans {
            let known = before.agent(&name).filter(|known| known.hash == plan.hash());
            let agent = known.map_or_else(|| Arc::new(Agent::new(plan)), Arc::clone);
            if known.is_none() {
                changed.taken.push(name.clone());
            }
            next.load_lines.insert(name.clone(), load_line_of(&agent.plan, self.prices(), now).amount);
            next.agents.insert(name, agent);
        }
        changed.gone = before.agents.keys().filter(|name| !next.agents.contains_key(*name)).cloned().collect();
        *self.0.roster.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        changed
    }

    pub(super) fn unknown_agent(&self, agent: &AgentName) -> RuntimeError {
        RuntimeError::NoSuchAgent { agent: agent.clone(), known: self.roster().agents.keys().cloned().collect() }
    }
}
