//! What people have switched off, looked at before the ledger is asked, which judges it again.

use super::{Conductor, Key};
use crate::domain::event::Labels;
use crate::domain::limits::Refusal;
use crate::domain::switch::{SwitchKind, Switches};
use crate::ids::{ModelName, RunId};
use crate::runtime::{Left, RuntimeError};

impl Conductor {
    /// True where the tree leaves before it asks to start: a switch would hold it in the queue, and others want its place.
    pub(super) fn leaves_held(&mut self) -> Result<bool, RuntimeError> {
        let held = self.held_in_turn()?;
        if let Some(refusal) = &held {
            self.tell_turn(refusal);
        }
        Ok(held.is_some())
    }

    /// The switch that holds the tree, where others want its place. None holds up its end.
    pub(super) fn held_in_turn(&self) -> Result<Option<Refusal>, RuntimeError> {
        if self.turn.is_none() || self.root().cancelled.is_some() {
            return Ok(None);
        }
        let orders = self.shared.gate.store().orders()?;
        let own = self.switch_on(&orders.switches, self.root().id);
        let pauses = |found: Option<(SwitchKind, Refusal)>| {
            found.filter(|(kind, _)| *kind == SwitchKind::Pause).map(|(_, refusal)| refusal)
        };
        // One that ends the root goes before any that holds a run below it.
        if own.is_some() || orders.switches.count() == 0 {
            return Ok(pauses(own));
        }
        let mut live = self.tree.runs().filter(|run| run.ended.is_none());
        Ok(live.find_map(|run| pauses(self.switch_on(&orders.switches, run.id))))
    }

    /// Says why it leaves.
    pub(super) fn tell_turn(&self, refusal: &Refusal) {
        let scope = refusal.subject.as_deref().and_then(|subject| subject.parse().ok());
        if let Some((turn, scope)) = self.turn.as_ref().zip(scope) {
            turn.leave(Left::Held(scope));
        }
    }

    /// True where a switch holds a run or ends it, as far as can be read: what needs nobody's leave asks for it then.
    pub(super) fn is_switched(&self, run: RunId) -> bool {
        let orders = self.shared.gate.store().orders();
        orders.map_or(true, |orders| self.switch_on(&orders.switches, run).is_some())
    }

    /// True where a call of a run to this model would be refused for a switch.
    pub(super) fn is_switched_off(&self, run: RunId, model: &ModelName) -> Result<bool, RuntimeError> {
        let orders = self.shared.gate.store().orders()?;
        Ok(self.switch_on(&orders.switches, run).is_some() || orders.switches.of_model(model).is_some())
    }

    /// Models that were passed over for a switch are asked again once that is lifted.
    pub(super) fn ask_lifted_again(&mut self, key: &Key) -> Result<(), String> {
        if self.effort(key).switched.is_empty() {
            return Ok(());
        }
        let orders = self.shared.gate.store().orders().map_err(|error| error.to_string())?;
        self.effort(key).switched.retain(|(model, _)| orders.switches.of_model(model).is_some());
        Ok(())
    }

    fn switch_on(&self, switches: &Switches, run: RunId) -> Option<(SwitchKind, Refusal)> {
        let root = self.root();
        let found = switches.of_run(&root.labels);
        if found.is_some() || run == root.id {
            return found;
        }
        // A sub-agent's run has its root's labels, and an agent of its own.
        let agent = self.tree.run(run)?.plan.agent.to_string();
        let own: Labels = root.labels.clone().into_iter().chain([("agent".to_owned(), agent)]).collect();
        switches.of_run(&own)
    }
}
