//! A resolved agent: what runs, with nothing left to doubt. Every limit is present, every name is found.
//!
//! Built by [`crate::spec`], stored by content hash; a run keeps the plan that it started with.
//! Deliberately absent: keys, base URLs and budgets. They are live project configuration.

mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use stage::{CachePlan, CallPlan, CallView, OnError, StageKind, StagePlan};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::caching::CacheMode;
use crate::domain::limits::{Declared, Limits};
use crate::domain::message::{CacheTtl, File, Sampling, WebSearch};
use crate::domain::outcome::OutcomeRules;
use crate::domain::policy::{DowngradeRules, Priority};
use crate::ids::{AgentName, ModelName, PlanHash, PolicyName, StageName, ToolName};
use crate::units::{Millis, Money, Tokens};

/// The version of the plan's form; raised with every field.
pub const PLAN_VERSION: u16 = 4;

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
    /// Sub-agents by name, whole: the hash pins them. A plan can't hold itself, so circles are a fault of `check`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<AgentName, Arc<Plan>>,
    /// The stage whose output is the run's; `None`: the only stage that nothing needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_from: Option<StageName>,
    /// Documents that go with the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<DocumentsPlan>,
    /// The priority of its runs, where the caller names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Files that go with every input. Only what they are counts for the hash; their bytes are kept beside the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Rules that say what a run that finished was worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeRules>,
}

impl Plan {
    /// The content hash: SHA-256 of the canonical JSON (fields in declared order, maps sorted).
    #[must_use]
    pub fn hash(&self) -> PlanHash {
        let bytes = serde_json::to_vec(self).expect("a plan has string keys only");
        PlanHash::from(hex(&Sha256::digest(bytes)))
    }

    /// The longest time for which a request of a run, or of one below it, may ask to be kept.
    #[must_use]
    pub fn asks_to_keep(&self) -> Option<CacheTtl> {
        let below = self.agents.values().filter_map(|below| below.asks_to_keep());
        self.context.asks_to_keep().into_iter().chain(below).max()
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
    /// Whether the provider may search the web by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search: Option<WebSearch>,
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
    /// What else than missing money sends a run there.
    #[serde(default, skip_serializing_if = "DowngradeRules::is_empty")]
    pub rules: DowngradeRules,
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
    /// Have a model sum up what is oldest; cut it where that can't be had.
    Summarise,
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
    /// Who sums up, with `overflow = "summarise"`; `None`: the last model of the downgrade, else the lane's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_model: Option<ModelName>,
    /// Whether providers are asked to keep the beginnings of requests.
    #[serde(default, skip_serializing_if = "CacheMode::is_off")]
    pub cache: CacheMode,
    /// How long they keep them.
    #[serde(default, skip_serializing_if = "CacheTtl::is_short")]
    pub cache_ttl: CacheTtl,
    /// Who counts a request before its money is set aside.
    #[serde(default, skip_serializing_if = "CountBy::is_own")]
    pub count: CountBy,
}

/// Who counts a request before its money is set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountBy {
    /// The runtime, by its own bounds.
    #[default]
    Own,
    /// The provider too: what it counts can raise a bound, and never lowers one.
    Provider,
}

impl CountBy {
    /// True where nobody else is asked.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }
}

impl ContextPlan {
    /// The longest time for which requests may ask to be kept; `None` where none asks.
    #[must_use]
    pub const fn asks_to_keep(&self) -> Option<CacheTtl> {
        if self.cache.is_off() { None } else { Some(self.cache_ttl) }
    }
}

/// Documents that go with the input, ranked within their pot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum DocumentsPlan {
    /// Files.
    Files {
        /// The folder that the patterns start from: absolute.
        folder: String,
        /// Globs, such as `docs/**/*.md`.
        patterns: Vec<String>,
    },
    /// Texts of the input.
    Input {
        /// An expression, such as `input.documents`: a text, or a list of texts or of `{name, text}`.
        expression: String,
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
    /// Whether a person must say yes to each call.
    #[serde(default, skip_serializing_if = "Approval::is_never")]
    pub approval: Approval,
}

/// Whether a person must say yes before a tool is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody is asked.
    #[default]
    Never,
    /// Each call waits for a person.
    Always,
}

impl Approval {
    /// True where nobody is asked.
    #[must_use]
    pub const fn is_never(&self) -> bool {
        matches!(self, Self::Never)
    }
}

impl ToolPlan {
    /// True for a free, idempotent tool that runs in the process: its result may ride in the next write (LEDGER rule 3).
    #[must_use]
    pub fn is_instant(&self) -> bool {
        let runs_here = matches!(self.kind, ToolKind::Builtin(_));
        self.price.is_zero() && self.idempotent && self.approval.is_never() && runs_here
    }

    /// The tool as it is where these limits let a call give less than its own; `None` where they don't.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Option<Self> {
        (limits.output_bytes < self.output_bytes).then(|| Self { output_bytes: limits.output_bytes, ..self.clone() })
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
    /// A sub-agent that is offered to the model: a call is a run below this one.
    Agent {
        /// The sub-agent: a key of the plan's `agents`.
        agent: AgentName,
    },
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
    /// Puts a question to a person, whose answer is the result; argument `question`. It is never performed.
    AskUser,
}
