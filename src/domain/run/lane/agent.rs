//! Stages that are a run of a sub-agent.

use super::Pass;
use crate::domain::run::stage::Lane;
use crate::ids::AgentName;

impl Pass<'_> {
    pub(super) fn call_agent(&mut self, lane: &Lane, agent: &AgentName) {
        let error = format!("stages of kind `agent` are not supported yet (agent `{agent}`)");
        self.fail(lane.place.clone(), error);
    }
}
