//! The conversation, provider-neutral: what goes to a model and what comes back.

mod cache;
mod file;
mod opaque;
mod sent;

use std::sync::Arc;

pub use cache::{CACHE_MARKS_MAX, CacheEnd, CacheMarks, CacheTtl};
pub use file::{FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, File, FileError, GivenFile, Media};
pub use opaque::{Form, Opaque};
pub(crate) use sent::DIGEST_BYTES;
pub use sent::Sent;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::pricing::{Charged, Factors, Mismatch, Usage};
use crate::ids::{ModelName, ToolName};
use crate::units::Tokens;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Instructions of the agent's author.
    System {
        /// The text.
        text: String,
    },
    /// What the user, or the runtime in the user's place, says.
    User {
        /// The text.
        text: String,
    },
    /// What the user hands over beside the text.
    File(File),
    /// What the model said.
    Assistant(Assistant),
    /// The answer to one tool call.
    Tool(ToolAnswer),
}

/// What a model said: text, a refusal, tool calls, or several of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assistant {
    /// The visible text; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The model's own words when it declines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Tool calls, in the order in which the model asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
    /// Blocks that only the provider understands, as it sent them and in their order: reasoning above all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Opaque>,
    /// What the provider wants back where it paused in the middle of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<Box<Opaque>>,
}

impl Assistant {
    /// The blocks that a request of this form to this model holds, in their order: those that this model said.
    pub fn returned_to<'a>(&'a self, form: Form, model: &'a ModelName) -> impl Iterator<Item = &'a Opaque> {
        self.reasoning.iter().filter(move |opaque| opaque.is_for(form, model))
    }

    /// The model that blocks of this form are given back to, if there are some.
    fn said_by(&self, form: Form) -> Option<&ModelName> {
        let blocks = self.reasoning.iter().chain(self.continuation.as_deref());
        blocks.filter(|opaque| opaque.form == form).find_map(|opaque| opaque.model.as_ref())
    }
}

/// One call of a tool that a model asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// The provider's id of the call; the answer names it.
    pub id: String,
    /// The tool that is asked for; may be one that doesn't exist.
    pub name: ToolName,
    /// The arguments as the model wrote them: JSON if it did well.
    pub arguments: String,
}

/// The answer to one tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolAnswer {
    /// The call that it answers.
    pub call_id: String,
    /// The tool that was called.
    pub name: ToolName,
    /// What the tool gave, or the error that the model can mend.
    pub content: String,
    /// True where `content` tells of an error or a refusal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// What the model calls it by.
    pub name: ToolName,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// The form that the answer must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// A name for the wire: `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    /// JSON Schema.
    pub schema: Value,
}

/// Whether the model may call tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it sees fit.
    Auto,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(ToolName),
    /// Not at all: landing and last calls.
    None,
}

/// How a model is asked to sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Temperature, as the author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<serde_json::Number>,
    /// Reasoning effort, such as `low`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Seed, where the provider takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Fields for compatible servers, passed as they are.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, Value>,
}

/// A provider's own search of the web, which it may make by itself while it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSearch {
    /// The most searches of one call.
    pub max_uses: u32,
}

impl WebSearch {
    /// The most sampling steps of one call, each of which is charged the whole conversation: one after each search, one for
    /// the answer, and one for a search beyond the maximum, which the provider turns down and the model reads of. That last
    /// one is our margin (MONEY says one step more than searches; neither provider writes of it).
    #[must_use]
    pub const fn steps(self) -> u32 {
        self.max_uses.saturating_add(2)
    }
}

/// One request to a model, provider-neutral and complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The model, as `provider/model`.
    pub model: ModelName,
    /// The conversation, system text first.
    pub messages: Vec<Sent>,
    /// The tools that the model may call; empty for none.
    pub tools: Arc<[ToolDefinition]>,
    /// Whether it may call them.
    pub tool_choice: ToolChoice,
    /// False where it may ask for one call at a time only.
    pub parallel_calls: bool,
    /// The form of the answer, if one is asked for.
    pub output: Option<Arc<OutputSchema>>,
    /// The output cap, reasoning included; always sent.
    pub max_output_tokens: u32,
    /// How to sample.
    pub sampling: Sampling,
    /// True to stream.
    pub stream: bool,
    /// Which beginnings of it the provider is asked to keep; `None` asks for nothing, and forbids it where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheMarks>,
    /// Whether the provider may search the web by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search: Option<WebSearch>,
}

/// Why a model stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    End,
    /// It met the output cap.
    Length,
    /// It asks for tools.
    ToolCalls,
    /// The provider's filter cut it off.
    ContentFilter,
    /// It declined.
    Refusal,
    /// The provider paused in the middle of an answer, and goes on when it is asked again.
    Paused,
    /// The conversation filled the model's window.
    ContextFull,
    /// It wrote what the provider can't read itself, such as a call that is none.
    Malformed,
    /// Something that we don't know, in the provider's word.
    Unknown(String),
}

/// One reply of a model, with what it cost in tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What it said.
    pub message: Assistant,
    /// Why it stopped.
    pub stop: StopReason,
    /// Usage in disjoint classes; `None` where the provider gave none that can be believed.
    pub usage: Option<Usage>,
    /// What contradicts itself in that usage; nobody knows then what the call costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
    /// What the provider says that it charged: a check beside our bill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charged>,
    /// The usage as the provider sent it.
    pub raw_usage: Option<Value>,
    /// The model that the provider says answered (its own name, without our provider prefix).
    pub response_model: Option<String>,
    /// The service tier that the provider says it used.
    pub service_tier: Option<String>,
    /// Factors on the price that the provider says apply.
    #[serde(default, skip_serializing_if = "Factors::is_none")]
    pub factors: Factors,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// The reply's own id, as its body has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
}

/// Sizes of one request by pot, in tokens or in bytes as upper bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pots {
    /// System text, the input's rendering and tool definitions.
    pub instructions: Tokens,
    /// Earlier turns of the conversation.
    pub history: Tokens,
    /// Documents.
    pub documents: Tokens,
    /// Results of tools.
    pub tool_output: Tokens,
}

impl Pots {
    /// All pots together.
    #[must_use]
    pub fn total(&self) -> Tokens {
        self.instructions.plus(self.history).plus(self.documents).plus(self.tool_output)
    }
}
