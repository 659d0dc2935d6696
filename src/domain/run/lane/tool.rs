//! Stages that call one tool.

use super::Pass;
use crate::domain::run::stage::Lane;
use crate::ids::ToolName;

impl Pass<'_> {
    pub(super) fn call_tool(&mut self, lane: &Lane, tool: &ToolName) {
        let error = format!("stages of kind `tool` are not supported yet (tool `{tool}`)");
        self.fail(lane.place.clone(), error);
    }
}
