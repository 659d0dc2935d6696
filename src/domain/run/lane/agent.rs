//! Sub-agents: stages that are a run of one, and calls of a model that one answers.

use serde_json::Value;

use super::Pass;
use crate::domain::event::{ChildCall, EndState, Ended, Place, StageEnd};
use crate::domain::limits::Refusal;
use crate::domain::plan::Plan;
use crate::domain::run::stage::{ChildState, Lane};
use crate::domain::run::{ChildIntent, Intent};
use crate::domain::template;
use crate::ids::{AgentName, RunId};

impl Pass<'_> {
    /// A stage, or an item of a map, that is a run of a sub-agent.
    pub(super) fn call_agent(&mut self, lane: &Lane, agent: &AgentName, input: &Value) {
        match &lane.child {
            Some(ChildState::Open(child)) => self.look_below(*child, &lane.place),
            Some(ChildState::Ended(ended)) => self.child_over(lane, agent, ended),
            None if self.is_full() => {}
            None => self.begin_agent(lane, agent, input),
        }
    }

    /// The run that answers a call is looked at where the call stands.
    pub(super) fn look_below(&mut self, child: RunId, place: &Place) {
        self.descend(child, place, Pass::look);
    }

    fn begin_agent(&mut self, lane: &Lane, agent: &AgentName, input: &Value) {
        let place = lane.place.clone();
        let Some(plan) = self.run.plan.agents.get(agent) else {
            return self.fail(place, format!("there is no sub-agent `{agent}`"));
        };
        let input = match template::fill(input, &self.run.names_at(&place)) {
            Ok(input) => input,
            Err(error) => return self.fail(place, format!("the input of agent `{agent}` can't be rendered: {error}")),
        };
        let input = match self.fits(plan, input) {
            Ok(input) => input,
            Err(fault) => return self.fail(place, format!("the input doesn't fit agent `{agent}`: {fault}")),
        };
        if let Err(refusal) = self.judge_child(&place) {
            return self.stop(place, refusal, Value::Null);
        }
        self.ask_child(ChildIntent { agent: agent.clone(), place, call: None, input });
    }

    /// A call of a model that a sub-agent answers; its arguments fit.
    pub(super) fn ask_agent(&mut self, place: &Place, agent: &AgentName, call: ChildCall, arguments: &str) {
        let input = self.run.plan.agents.get(agent).map_or(Value::Null, |plan| input_of(plan, arguments));
        self.ask_child(ChildIntent { agent: agent.clone(), place: place.clone(), call: Some(call), input });
    }

    fn ask_child(&mut self, child: ChildIntent) {
        self.tally.count_child();
        self.ask(Intent::Child(child));
    }

    fn fits(&self, plan: &Plan, input: Value) -> Result<Value, String> {
        match (&plan.input, input) {
            (Some(schema), input) => self.check.output(schema, &input.to_string()),
            (None, input @ Value::String(_)) => Ok(input),
            (None, input) => Ok(Value::String(input.to_string())),
        }
    }

    /// What the sub-agent gave is what its place gives.
    fn child_over(&mut self, lane: &Lane, agent: &AgentName, ended: &Ended) {
        let place = lane.place.clone();
        let output = ended.output.clone().unwrap_or_default();
        match (ended.state, &ended.refusal) {
            (EndState::Finished, _) => self.over(place, StageEnd::Finished, output, None),
            (EndState::Stopped, Some(refusal)) => {
                let subject = refusal.subject.clone().or_else(|| Some(format!("agent {agent}")));
                self.stop(place, Refusal { subject, ..refusal.clone() }, output);
            }
            (EndState::Stopped | EndState::Failed, _) => {
                let why = ended.error.as_deref().unwrap_or("it gave no reason");
                self.fail(place, format!("agent `{agent}`: {why}"));
            }
            (EndState::Cancelled, _) => self.fail(place, format!("agent `{agent}` was cancelled")),
        }
    }
}

/// Arguments of a model's call as an agent's input: whole, or their one text where the agent takes text.
fn input_of(plan: &Plan, arguments: &str) -> Value {
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let value: Value = serde_json::from_str(arguments).unwrap_or_else(|_| Value::String(arguments.to_owned()));
    if plan.input.is_some() {
        return value;
    }
    let texts = value.as_object().map(|fields| fields.values().filter_map(Value::as_str).collect::<Vec<_>>());
    let text = texts.filter(|texts| texts.len() == 1).and_then(|texts| texts.first().map(|text| (*text).to_owned()));
    Value::String(text.unwrap_or_else(|| arguments.to_owned()))
}
