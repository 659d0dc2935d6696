//! What a new run is made of.

use std::sync::Arc;

use super::{Agent, NewRun, Runtime, RuntimeError};
use crate::domain::event::{Created, EVENT_VERSION, Labels};
use crate::domain::plan::Plan;
use crate::domain::policy::PRIORITY;
use crate::ids::RunId;
use crate::spec::readers::Unread;

impl Runtime {
    /// Checks a new run's input and labels; nothing is written.
    pub(crate) fn created(&self, new: &NewRun) -> Result<(RunId, Created, Arc<Agent>), RuntimeError> {
        let roster = self.roster();
        let agent = roster.agent(&new.agent).ok_or_else(|| self.unknown_agent(&new.agent))?;
        let plan = &agent.plan;
        self.0
            .checks
            .input(plan, &new.input)
            .map_err(|fault| RuntimeError::Input { agent: new.agent.clone(), fault })?;
        let labels = self.labels(plan, &new.labels);
        for budget in self.0.budgets.iter().filter(|budget| budget.matches(&labels)) {
            budget.scope_value(&labels)?;
        }
        let load_line = roster.load_line(plan);
        let (book, now) = (self.0.gate.book(), self.0.clock.now());
        let created = Created {
            version: EVENT_VERSION,
            agent: new.agent.clone(),
            plan: agent.hash.clone(),
            prompt_version: plan.prompt.label().to_owned(),
            input: new.input.clone(),
            labels,
            cap: plan.limits.cost,
            load_line,
            expected: plan.limits.expected_cost,
            foreseen: self.0.foresight.of(self.store(), book, agent, now).filter(|foreseen| *foreseen < load_line),
            parent: None,
            key: new.key.clone(),
            simulated: self.0.simulated,
            stage_caps: plan.stage_caps(),
            thread: None,
            documents: self.0.documents(plan, &agent.forms.own, &new.input)?.map(Arc::new),
            files: self.0.readers.files(plan, &new.files).map_err(|unread| unread_by(plan, unread))?,
            unit: plan.unit.clone(),
            erased: false,
        };
        Ok((self.0.clock.run_id(), created, agent.clone()))
    }

    /// All labels of a new run.
    ///
    /// # Errors
    /// The agent isn't known.
    pub(crate) fn labels_of(&self, new: &NewRun) -> Result<Labels, RuntimeError> {
        let roster = self.roster();
        let agent = roster.agent(&new.agent).ok_or_else(|| self.unknown_agent(&new.agent))?;
        Ok(self.labels(&agent.plan, &new.labels))
    }

    fn labels(&self, plan: &Plan, given: &Labels) -> Labels {
        let mut labels = given.clone();
        let mut derive = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                labels.insert(key.to_owned(), value.to_owned());
            }
        };
        derive("agent", Some(plan.agent.as_str()));
        derive("owner", plan.owner.as_deref());
        derive("feature", plan.feature.as_deref());
        derive("environment", Some(&self.0.environment));
        if let Some(priority) = plan.priority {
            labels.entry(PRIORITY.to_owned()).or_insert_with(|| priority.name().to_owned());
        }
        labels
    }
}

fn unread_by(plan: &Plan, Unread { fault, help }: Unread) -> RuntimeError {
    RuntimeError::Files { agent: plan.agent.clone(), fault, help }
}
