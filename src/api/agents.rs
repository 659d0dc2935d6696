//! Agents as they are configured now: what one run of each can cost at most and why, and what is wrong with files that changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::service::Service;
use crate::domain::limits::{AtLimit, LimitKind};
use crate::domain::plan::Plan;
use crate::domain::pricing::PriceBook;
use crate::ids::{AgentName, ModelName, PlanHash, PolicyName};
use crate::spec::fault::Fault;
use crate::spec::load_line::load_line_of;
use crate::units::{Money, Timestamp, Tokens};

/// The agents that runs can be made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentTable {
    /// By name.
    pub agents: Vec<AgentRow>,
    /// What is wrong with files that changed since the start: their agents go on as they were.
    pub faults: Vec<FaultRow>,
}

/// An agent as the next run gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentRow {
    /// Its name.
    pub agent: AgentName,
    /// What it is for.
    pub description: String,
    /// The hash of its plan.
    pub plan: PlanHash,
    /// Its prompt's version.
    pub prompt_version: String,
    /// Who decides on it; null where nobody is named.
    pub owner: Option<String>,
    /// The product feature that it serves.
    pub feature: Option<String>,
    /// What the business counts.
    pub unit: Option<String>,
    /// The policy that its models are of, where it names one.
    pub policy: Option<PolicyName>,
    /// The models that it asks, the first before the others.
    pub models: Vec<ModelName>,
    /// The policy that it goes to when money runs short.
    pub downgrade: Option<PolicyName>,
    /// The most that one run can cost.
    pub load_line_usd: Money,
    /// The limits without which that would be more.
    pub binds: Vec<Binding>,
    /// Its dearest call; null where no model has a price.
    pub worst_call: Option<WorstCallRow>,
    /// What a run does that meets a limit.
    pub at_limit: AtLimit,
    /// What is kept back for one last answer.
    pub landing_usd: Money,
    /// Models that have no price here: calls of them are refused.
    pub unpriced: Vec<ModelName>,
}

/// A limit that makes a load line what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Binding {
    /// The limit.
    pub limit: LimitKind,
    /// Where it was declared, such as `agents/support.toml:12`, or `default`.
    pub declared: String,
}

/// The dearest call that a plan allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorstCallRow {
    /// The model.
    pub model: ModelName,
    /// The most tokens of its input.
    pub input_tokens: Tokens,
    /// The most tokens of its answer.
    pub output_tokens: Tokens,
    /// What it costs.
    pub cost_usd: Money,
}

/// Something that is wrong with a project's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultRow {
    /// The file, relative to the project.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl From<&Fault> for FaultRow {
    fn from(fault: &Fault) -> Self {
        Self {
            file: fault.file().to_owned(),
            line: fault.line(),
            column: fault.column(),
            code: fault.code.to_owned(),
            message: fault.message.clone(),
            help: fault.help.clone(),
        }
    }
}

impl AgentRow {
    /// Of a plan, at the prices of a time.
    #[must_use]
    pub fn of(plan: &Plan, book: &PriceBook, now: Timestamp) -> Self {
        let line = load_line_of(plan, book, now);
        let bound = |limit: &LimitKind| Binding { limit: *limit, declared: plan.limits.declared(*limit).to_string() };
        Self {
            agent: plan.agent.clone(),
            description: plan.description.clone(),
            plan: plan.hash(),
            prompt_version: plan.prompt.label().to_owned(),
            owner: plan.owner.clone(),
            feature: plan.feature.clone(),
            unit: plan.unit.clone(),
            policy: plan.model.policy.clone(),
            models: plan.model.candidates.clone(),
            downgrade: plan.model.downgrade.as_ref().map(|downgrade| downgrade.policy.clone()),
            load_line_usd: line.amount,
            binds: line.binds.iter().map(bound).collect(),
            worst_call: line.worst_call.map(|call| WorstCallRow {
                model: call.model,
                input_tokens: call.input,
                output_tokens: Tokens(call.output.into()),
                cost_usd: call.cost,
            }),
            at_limit: plan.limits.at_limit,
            landing_usd: line.landing,
            unpriced: line.unpriced,
        }
    }
}

impl Service {
    /// The agents as they are configured now. What is wrong with files is told to who may see everything.
    #[must_use]
    pub fn agents(&self) -> AgentTable {
        let (runtime, now) = (self.runtime(), self.now());
        let agents = runtime.plans().iter().map(|plan| AgentRow::of(plan, runtime.prices(), now)).collect();
        let faults = self.caller().is_unbound().map(|()| runtime.faults().iter().map(FaultRow::from).collect());
        AgentTable { agents, faults: faults.unwrap_or_else(|_: ApiError| Vec::new()) }
    }
}
