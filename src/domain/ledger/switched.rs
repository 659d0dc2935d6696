//! What people have switched off: runs that are held or ended, models that aren't asked.

use super::Ledger;
use crate::domain::event::{Call, Labels, Reserved};
use crate::domain::limits::Refusal;
use crate::domain::switch::SwitchKind;
use crate::ids::RunId;

impl Ledger {
    /// The switch that keeps an attempt from being made, by its run and the root of that.
    pub(super) fn switch_on(&self, reserved: &Reserved) -> Option<(SwitchKind, Refusal)> {
        self.switch_on_run(reserved.reservation.run)
    }

    /// The switch that keeps a root from being admitted. One that holds a run below it holds it too: it would have to stop
    /// again at once.
    pub(super) fn switch_on_tree(&self, root: RunId) -> Option<(SwitchKind, Refusal)> {
        let own = self.switch_on_run(root);
        if own.is_some() || self.switches.count() == 0 {
            return own;
        }
        let below = self.runs.get(&root).into_iter().flat_map(|open| &open.tree);
        let live = below.filter(|run| self.nodes.get(run).is_some_and(|node| !node.ended));
        live.filter_map(|run| self.switch_on_run(*run)).find(|(kind, _)| *kind == SwitchKind::Pause)
    }

    fn switch_on_run(&self, run: RunId) -> Option<(SwitchKind, Refusal)> {
        if self.switches.count() == 0 {
            return None;
        }
        let root = self.root_of(run);
        let labels = &self.runs.get(&root)?.labels;
        let found = self.switches.of_run(labels);
        if found.is_some() || run == root {
            return found;
        }
        // A sub-agent's run has its root's labels, and an agent of its own.
        let agent = self.nodes.get(&run)?.agent.to_string();
        let own: Labels = labels.clone().into_iter().chain([("agent".to_owned(), agent)]).collect();
        self.switches.of_run(&own)
    }

    /// What keeps the model of a call from being asked.
    pub(super) fn switch_on_model(&self, reserved: &Reserved) -> Option<Refusal> {
        let Call::Model(call) = &reserved.call else { return None };
        self.switches.of_model(&call.model)
    }
}
