//! A resolved agent: what runs, with nothing left to doubt. Every limit is present, every name is found.
//!
//! Built by [`crate::spec`], stored by content hash; a run keeps the plan that it started with.
//! Deliberately absent: keys, base URLs and budgets. They are live project configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::limits::{Declared, Limits};
use crate::domain::message::Sampling;
use crate::ids::{AgentName, ModelName, PlanHash, PolicyName, StageName, ToolName};
use crate::units::{Millis, Money, Tokens};

/// The version of the plan's form; raised with every field.
pub const PLAN_VERSION: u16 = 1;

/// A resolved agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The form's version, [`PLAN_VERSION`].
    pub version: u16,
    /// The agent's name.
    pub agent: AgentName,
    /// One line for lists.
    pub description: String,
    /// Who decides on model, prompt, caching and budget changes.
    pub owner: Option<String>,
    /// The product feature that the agent serves.
    pub feature: Option<String>,
    /// What the business counts.
    pub unit: Option<String>,
    /// The model policy.
    pub model: ModelPlan,
    /// Name and texts of the prompt.
    pub prompt: PromptPlan,
    /// JSON Schema of the input, or `None` for plain text (then `input` is a string).
    pub input: Option<Value>,
    /// JSON Schema of the answer, or `None` for plain text.
    pub output: Option<Value>,
    /// Limits of the run.
    pub limits: Limits,
    /// Retry rules.
    pub retry: RetryPlan,
    /// Context budget.
    pub context: ContextPlan,
    /// Tools, by name: every one that a stage names.
    pub tools: BTreeMap<ToolName, ToolPlan>,
    /// Stages in the order of the file; an agent without `[[stage]]` has one loop named `main`.
    pub stages: Vec<StagePlan>,
}

impl Plan {
    /// The content hash: SHA-256 of the canonical JSON (fields in declared order, maps sorted).
    #[must_use]
    pub fn hash(&self) -> PlanHash {
        let bytes = serde_json::to_vec(self).expect("a plan has string keys only");
        PlanHash::from(hex(&Sha256::digest(bytes)))
    }
}

/// Lower-case hexadecimal digits of some bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("writing to a string can't fail");
        text
    })
}

/// Which models are approved, in what order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// The policy's name, where the agent names one.
    pub policy: Option<PolicyName>,
    /// Where the models are declared.
    pub declared: Declared,
    /// Approved models: the first is primary, the rest are fallbacks. Never empty.
    pub candidates: Vec<ModelName>,
    /// Who may take over what a content filter or a refusal stopped; nobody else does. Empty for no fallback.
    pub after_filter: Vec<ModelName>,
    /// Who takes over, after the candidates, where a request was too long for a model. The author names them, so that
    /// their windows need not be known.
    pub after_overflow: Vec<ModelName>,
    /// Where to go when money runs short (LEDGER rule 9c).
    pub downgrade: Option<DowngradePlan>,
    /// The output cap of one call.
    pub max_output_tokens: u32,
    /// As far as LEDGER rule 9d lowers it.
    pub min_output_tokens: u32,
    /// How to sample.
    pub sampling: Sampling,
    /// Stream from the provider (`stream`, default true).
    pub stream: bool,
}

impl ModelPlan {
    /// Every model that a run of this plan may ask, each once, the primary first.
    #[must_use]
    pub fn models(&self) -> Vec<&ModelName> {
        let downgrade = self.downgrade.iter().flat_map(|downgrade| &downgrade.candidates);
        let all = self.candidates.iter().chain(downgrade).chain(&self.after_filter).chain(&self.after_overflow);
        all.fold(Vec::new(), |mut models, model| {
            if !models.contains(&model) {
                models.push(model);
            }
            models
        })
    }
}

/// The policy to fall to when money runs short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DowngradePlan {
    /// Its name.
    pub policy: PolicyName,
    /// Its models.
    pub candidates: Vec<ModelName>,
}

/// The prompt: templates (minijinja, strict) over `input`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptPlan {
    /// The author's name of this version.
    pub version: Option<String>,
    /// Hash of the texts, first 16 hexadecimal digits.
    pub hash: String,
    /// The system text's template; empty for none.
    pub system: String,
    /// The user text's template.
    pub user: String,
}

impl PromptPlan {
    /// What reports call this prompt: the author's name, else its hash.
    #[must_use]
    pub fn label(&self) -> &str {
        self.version.as_deref().unwrap_or(&self.hash)
    }
}

/// Retry rules of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPlan {
    /// Tries of one step, retries and fallbacks together; at least 1.
    pub attempts: u32,
    /// The shortest back-off.
    pub backoff_min: Millis,
    /// The longest back-off.
    pub backoff_max: Millis,
    /// The longest retry-after that is honoured.
    pub retry_after_max: Millis,
}

impl Default for RetryPlan {
    fn default() -> Self {
        Self { attempts: 3, backoff_min: Millis(200), backoff_max: Millis(5_000), retry_after_max: Millis(20_000) }
    }
}

/// What to do with what doesn't fit its pot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Cut it, oldest first, and say so.
    Trim,
    /// Refuse the step.
    Refuse,
}

/// The context budget of one request, in tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextPlan {
    /// The whole request; what the other pots leave goes to instructions.
    pub tokens: Tokens,
    /// Earlier turns.
    pub history: Tokens,
    /// Documents.
    pub documents: Tokens,
    /// All tool results together, newest kept.
    pub tool_output: Tokens,
    /// What to do with what doesn't fit.
    pub overflow: Overflow,
    /// Where the context budget was declared.
    pub declared: Declared,
}

/// A stage of the workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Its id.
    pub id: StageName,
    /// What it does.
    pub kind: StageKind,
}

/// What a stage does. More kinds follow with workflows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StageKind {
    /// Model calls and tool calls in turn, until the model answers without a call.
    Loop {
        /// The tools that the model may call.
        tools: Vec<ToolName>,
    },
}

/// A resolved tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolPlan {
    /// What the model calls it by.
    pub name: ToolName,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input: Value,
    /// Time limit of one call.
    pub timeout: Millis,
    /// The most bytes that one call may give; more is cut with a note.
    pub output_bytes: u64,
    /// True where calling again loses nothing.
    pub idempotent: bool,
    /// Price of one call.
    pub price: Money,
    /// How it is called.
    pub kind: ToolKind,
}

impl ToolPlan {
    /// True for a free, idempotent tool that runs in the process: its result may ride in the next write (LEDGER rule 3).
    #[must_use]
    pub fn is_instant(&self) -> bool {
        self.price.is_zero() && self.idempotent && matches!(self.kind, ToolKind::Builtin(_))
    }
}

/// How a tool is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToolKind {
    /// A program with arguments, each a template over `args`; never a shell.
    Command {
        /// Program and arguments. A program with a `/` is relative to `directory`.
        command: Vec<String>,
        /// The working directory: absolute.
        directory: String,
        /// Names of environment variables that are passed on; nothing else is but `PATH`.
        env: Vec<String>,
        /// Template of what goes to standard input; `None` for nothing.
        stdin: Option<String>,
    },
    /// An HTTP request.
    Http {
        /// `GET`, `POST`, …
        method: String,
        /// Template of the URL; values are percent-encoded.
        url: String,
        /// Headers; values are templates. `{{ env.NAME }}` reads a variable that `env` lists.
        headers: BTreeMap<String, String>,
        /// Template of the body; `None` for none, or the arguments as JSON for `POST`, `PUT` and `PATCH`.
        body: Option<String>,
        /// Hosts that may be asked: `api.example.com` or `*.example.com`.
        allowed_hosts: Vec<String>,
        /// True to allow private, loopback and link-local addresses.
        allow_private: bool,
        /// Names of environment variables that headers may use.
        env: Vec<String>,
    },
    /// Runs in the process.
    Builtin(Builtin),
}

/// The tools that run in the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "builtin", rename_all = "snake_case")]
pub enum Builtin {
    /// Finds lines in files under the given folders; arguments `query`, and optionally `max_results`.
    SearchFiles {
        /// Folders: absolute.
        folders: Vec<String>,
    },
    /// Reads one file under the given folders; arguments `path`, and optionally `from_line`, `lines`.
    ReadFile {
        /// Folders: absolute.
        folders: Vec<String>,
    },
    /// The time; argument `time_zone` (optional).
    Now,
    /// Exact arithmetic; argument `expression`.
    Calculate,
    /// Answers with a rendered template over `args`.
    Template {
        /// The template.
        template: String,
    },
}
