//! Stages of a resolved agent: what each does, what it needs, and how it asks a model.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ModelPlan, Plan, PromptPlan};
use crate::domain::event::Place;
use crate::domain::limits::Limits;
use crate::ids::{AgentName, ModelName, StageName, ToolName};
use crate::units::{Millis, Money};

/// The one stage of an agent without `[[stage]]`.
const IMPLICIT_STAGE: &str = "main";

/// A stage of the workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Its id.
    pub id: StageName,
    /// What it does.
    pub kind: StageKind,
    /// The stages that must be over before it, as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StageName>,
    /// An expression (minijinja, strict) over `input` and `stages`; where it is false the stage is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What its failure means for the run.
    #[serde(default, skip_serializing_if = "OnError::is_fail")]
    pub on_error: OnError,
    /// Its limits: the smaller of the agent's and its own; `None`: the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<Limits>>,
    /// The cap of the stage's own account; `None`: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// True where its calls of a model (a map's: for each item) carry what was said in the thread before. Plans of before
    /// there was such a thing lack it, and their runs go on without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    /// How its answers are kept and given again; `None`: they aren't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePlan>,
}

/// How the answers of a stage are kept and given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePlan {
    /// How long an answer is given again.
    pub ttl: Millis,
    /// True where runs of every tenant are given it; else each value of the label `tenant` has answers of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
}

impl StagePlan {
    /// A stage that needs nothing, always runs, and has the agent's limits.
    #[must_use]
    pub const fn new(id: StageName, kind: StageKind) -> Self {
        Self {
            id,
            kind,
            needs: Vec::new(),
            when: None,
            on_error: OnError::Fail,
            limits: None,
            cost: None,
            history: false,
            cache: None,
        }
    }
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StageKind {
    /// Model calls and tool calls in turn, until the model answers without a call.
    Loop {
        /// The tools that the model may call, sub-agents among them.
        tools: Vec<ToolName>,
        /// How it asks a model, where that isn't the agent's way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Box<CallPlan>>,
    },
    /// One model call, without tools.
    Model {
        /// How it asks a model, where that isn't the agent's way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Box<CallPlan>>,
    },
    /// One call of a tool.
    Tool {
        /// The tool: a key of the plan's `tools`.
        tool: ToolName,
        /// Its arguments; each text in them is a template.
        arguments: Value,
        /// JSON Schema of what it gives; `None` for plain text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
    },
    /// The same for each item of a list, in the list's order.
    Map {
        /// An expression that gives the list.
        over: String,
        /// What is done with one item: never another map, never an approval.
        each: Box<StageKind>,
        /// What one item's failure means: with `Continue` null stands in its place.
        #[serde(default, skip_serializing_if = "OnError::is_fail")]
        on_error: OnError,
    },
    /// A person's yes.
    Approval {
        /// Template of the question.
        ask: String,
        /// An expression: what is approved, and may be edited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        show: Option<String>,
    },
    /// A run of a sub-agent.
    Agent {
        /// The sub-agent: a key of the plan's `agents`.
        agent: AgentName,
        /// Its input; each text in it is a template.
        input: Value,
    },
}

impl StageKind {
    /// Its name in agent files, output and docs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loop { .. } => "loop",
            Self::Model { .. } => "model",
            Self::Tool { .. } => "tool",
            Self::Map { .. } => "map",
            Self::Approval { .. } => "approval",
            Self::Agent { .. } => "agent",
        }
    }

    /// The tools that a model may call here.
    #[must_use]
    pub fn tools(&self) -> &[ToolName] {
        match self {
            Self::Loop { tools, .. } => tools,
            Self::Map { each, .. } => each.tools(),
            Self::Model { .. } | Self::Tool { .. } | Self::Approval { .. } | Self::Agent { .. } => &[],
        }
    }

    /// How a model is asked here, where that isn't the agent's way.
    #[must_use]
    pub fn call(&self) -> Option<&CallPlan> {
        match self {
            Self::Loop { call, .. } | Self::Model { call } => call.as_deref(),
            Self::Map { each, .. } => each.call(),
            Self::Tool { .. } | Self::Approval { .. } | Self::Agent { .. } => None,
        }
    }

    /// True for one call of a tool that no model asks for.
    #[must_use]
    pub const fn calls_a_tool(&self) -> bool {
        matches!(self, Self::Tool { .. })
    }

    /// What is done in one lane: for a map, what is done with an item.
    #[must_use]
    pub fn of_lane(&self) -> &Self {
        if let Self::Map { each, .. } = self { each } else { self }
    }
}

/// How a stage asks a model, where it differs from the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallPlan {
    /// Its models, output cap and sampling, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelPlan>,
    /// Its texts, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptPlan>,
    /// JSON Schema of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// What a failure means for what is around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It fails too.
    #[default]
    Fail,
    /// It goes on without the output.
    Continue,
}

impl OnError {
    /// True for the default.
    #[must_use]
    pub const fn is_fail(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

/// How a model is asked at one place of a workflow.
#[derive(Clone, Copy, Debug)]
pub struct CallView<'a> {
    /// Models, output cap and sampling.
    pub model: &'a ModelPlan,
    /// The texts.
    pub prompt: &'a PromptPlan,
    /// JSON Schema of the answer; `None` for plain text.
    pub output: Option<&'a Value>,
    /// The tools that the model may call.
    pub tools: &'a [ToolName],
}

impl Plan {
    /// True with `[[stage]]`: false for the one implicit loop `main`.
    #[must_use]
    pub fn is_workflow(&self) -> bool {
        !matches!(self.stages.as_slice(), [stage] if stage.id.as_str() == IMPLICIT_STAGE)
    }

    /// The stage of this name.
    #[must_use]
    pub fn stage(&self, id: &StageName) -> Option<&StagePlan> {
        self.stages.iter().find(|stage| stage.id == *id)
    }

    /// How a model is asked there: as the stage says, else as the agent says. The agent's own schema of the answer is that
    /// of the result stage.
    #[must_use]
    pub fn call_of(&self, place: &Place) -> CallView<'_> {
        let stage = self.stage(&place.stage);
        let call = stage.and_then(|stage| stage.kind.call());
        let is_result = || stage.is_some_and(|stage| self.gives_the_result(stage));
        let whole = || self.output.as_ref().filter(|_| place.item.is_none() && is_result());
        CallView {
            model: call.and_then(|call| call.model.as_ref()).unwrap_or(&self.model),
            prompt: call.and_then(|call| call.prompt.as_ref()).unwrap_or(&self.prompt),
            output: call.and_then(|call| call.output.as_ref()).or_else(whole),
            tools: stage.map_or(&[], |stage| stage.kind.tools()),
        }
    }

    /// True where calls there carry what was said in the run's thread before: those of a single loop, and of a stage that
    /// wants it.
    #[must_use]
    pub fn goes_on_with_thread(&self, stage: &StageName) -> bool {
        !self.is_workflow() || self.stage(stage).is_some_and(|stage| stage.history)
    }

    /// The limits of a stage.
    #[must_use]
    pub fn limits_of(&self, stage: &StageName) -> &Limits {
        self.stage(stage).and_then(|stage| stage.limits.as_deref()).unwrap_or(&self.limits)
    }

    /// The stage whose output is the run's: the one that `output.from` names, else the only one that nothing needs.
    #[must_use]
    pub fn result_stage(&self) -> Option<&StagePlan> {
        self.stages.iter().rev().find(|stage| self.gives_the_result(stage))
    }

    fn gives_the_result(&self, stage: &StagePlan) -> bool {
        match &self.output_from {
            Some(from) => stage.id == *from,
            None => self.stages.iter().all(|other| !other.needs.contains(&stage.id)),
        }
    }

    /// The stages that must be over before this one, directly or not; the stage itself is not among them.
    pub fn before<'a>(&'a self, stage: &StagePlan) -> Vec<&'a StageName> {
        let mut found: Vec<&StageName> = self.needed_by(stage).collect();
        let mut at = 0;
        while let Some(next) = found.get(at).and_then(|id| self.stage(id)) {
            at += 1;
            for id in self.needed_by(next) {
                if !found.contains(&id) {
                    found.push(id);
                }
            }
        }
        found
    }

    fn needed_by<'a>(&'a self, stage: &StagePlan) -> impl Iterator<Item = &'a StageName> {
        let needs = self.stage(&stage.id).map_or(&[][..], |own| &own.needs);
        needs.iter()
    }

    /// Every model that a run of this plan, or one below it, may ask.
    #[must_use]
    pub fn models(&self) -> BTreeSet<&ModelName> {
        let stages = self.stages.iter().filter_map(|stage| stage.kind.call()?.model.as_ref());
        let own = stages.chain([&self.model]).flat_map(ModelPlan::models);
        own.chain(self.agents.values().flat_map(|below| below.models())).collect()
    }

    /// The caps of the stages that have accounts of their own, for [`crate::domain::event::Created`].
    #[must_use]
    pub fn stage_caps(&self) -> BTreeMap<StageName, Money> {
        self.stages.iter().filter_map(|stage| Some((stage.id.clone(), stage.cost?))).collect()
    }
}
