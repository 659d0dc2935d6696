//! `plimsoll.toml`, resolved: live configuration that is not part of a plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::ability::{Abilities, Stated};
use crate::domain::account::{Account, Accounts};
use crate::domain::breaker::BreakerPolicy;
use crate::domain::budget::Budget;
use crate::domain::limits::{Declared, Limits};
use crate::domain::pricing::{Factor, PriceBook};
use crate::domain::rate::RateLimit;
use crate::ids::{ModelName, PolicyName, ProviderName};
use crate::spec::google::priced_location;
use crate::spec::limits::Ceilings;
use crate::units::{Millis, Money, TokenPrice};

/// A project: the folder of `plimsoll.toml`, with `agents/` and `tools/` beside it.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its folder: absolute.
    pub root: PathBuf,
    /// The `environment` label of its runs.
    pub environment: String,
    /// The store's folder: absolute.
    pub store: PathBuf,
    /// Providers, by their key.
    pub providers: BTreeMap<ProviderName, ProviderConfig>,
    /// Model policies, by their key.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// Prices over the built-in book, in the order of the file.
    pub prices: Vec<PriceOverride>,
    /// What the project says of models, whichever provider has them.
    pub models: BTreeMap<ModelName, Stated>,
    /// Budgets, in the order of the file.
    pub budgets: Vec<Budget>,
    /// Rate limits, in the order of the file.
    pub rates: Vec<RateLimit>,
    /// When breakers open.
    pub breaker: BreakerPolicy,
    /// Limits of an agent that sets none: built in, or of `[defaults.limits]`, none above its ceiling.
    pub defaults: Limits,
    /// What no agent's limits may exceed.
    pub ceilings: Ceilings,
}

/// A model policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its key under `[policies]`.
    pub name: PolicyName,
    /// What the business may expect of it.
    pub quality: Option<String>,
    /// Approved models: the first is primary, the rest are fallbacks.
    pub models: Vec<ModelName>,
    /// Who may take over what a content filter or a refusal stopped.
    pub content_filter_fallbacks: Vec<ModelName>,
    /// Who takes over, after `models`, where a request was too long.
    pub context_fallbacks: Vec<ModelName>,
    /// The policy to fall to when money runs short.
    pub downgrade: Option<PolicyName>,
    /// Where it was declared.
    pub declared: Declared,
}

/// A price over the built-in book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceOverride {
    /// The model.
    pub model: ModelName,
    /// Of input tokens.
    pub input: TokenPrice,
    /// Of output tokens, reasoning included.
    pub output: TokenPrice,
    /// Of input read from a cache.
    pub cache_read: Option<TokenPrice>,
    /// Of input written to a cache.
    pub cache_write: Option<TokenPrice>,
    /// Of each call, beside the tokens.
    pub per_call: Money,
    /// The model's window.
    pub context_tokens: Option<u32>,
    /// The model's largest output.
    pub max_output_tokens: Option<u32>,
    /// Why this is the price; there is one where a price is 0.
    pub reason: Option<String>,
    /// Where it was declared.
    pub declared: Declared,
}

/// How a provider is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderConfig {
    /// Its key under `[providers]`.
    pub name: ProviderName,
    /// The wire format that it speaks.
    pub wire: Wire,
    /// Where its API begins, without a trailing `/`: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Where its key comes from.
    pub key: KeySource,
    /// Headers sent with every request, such as `OpenAI-Organization`; never secrets.
    pub headers: BTreeMap<String, String>,
    /// Which request fields the server takes.
    pub quirks: Quirks,
    /// The version of the API that is asked for, on wires that have some; the wire's own default if `None`.
    pub api_version: Option<String>,
    /// Features that the provider gives to those who name them, on wires that have some.
    pub betas: Vec<String>,
    /// Where requests are served, on wires where they can say so.
    pub inference_geo: Option<String>,
    /// What the project says of this provider's models.
    pub models: BTreeMap<ModelName, Stated>,
    /// Its accounts beside its own key, in the order of the file.
    pub accounts: Vec<ProviderAccount>,
    /// True where a run that no account is for is refused, instead of being paid by the provider's own key.
    pub strict: bool,
}

/// An account of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderAccount {
    /// Its name and the runs that it pays for.
    pub account: Account,
    /// Where its key comes from.
    pub key: KeySource,
    /// Headers sent with its requests, over those of the provider; never secrets.
    pub headers: BTreeMap<String, String>,
}

impl ProviderConfig {
    /// The factor on every rate that the place decides where its API is reached.
    #[must_use]
    pub fn endpoint_factor(&self) -> Option<Factor> {
        match self.wire {
            Wire::OpenAiChat => self.openai_factor(),
            Wire::Anthropic | Wire::Gemini => None,
            // Every location but the global one costs more, where the model's row says so (PROVIDERS §5).
            Wire::Vertex => priced_location(&self.base_url).map(|_| Factor::VertexNonGlobalEndpoint),
            Wire::VertexAnthropic => self
                .host()
                .filter(|host| host.ends_with(GOOGLE) && *host != VERTEX_GLOBAL)
                .map(|_| Factor::VertexNonGlobalEndpoint),
        }
    }

    fn openai_factor(&self) -> Option<Factor> {
        match self.host()?.strip_suffix(OPENAI_REGIONAL)? {
            "us" => Some(Factor::ResidencyUs),
            // Only the rates of `us` and `eu` are published (PROVIDERS §1). The others are taken for no cheaper, so that
            // what is reserved there is rather too much.
            "eu" | "ae" | "au" | "in" | "jp" => Some(Factor::ResidencyEu),
            _ => None,
        }
    }

    /// True where Azure answers, whose places, tiers and bills differ.
    #[must_use]
    pub fn is_azure(&self) -> bool {
        is_azure(&self.base_url)
    }

    /// The host of its address, without a port.
    fn host(&self) -> Option<&str> {
        host(&self.base_url)
    }

    /// Where its key comes from, and those of its accounts.
    pub fn keys(&self) -> impl Iterator<Item = &KeySource> {
        std::iter::once(&self.key).chain(self.accounts.iter().map(|account| &account.key))
    }

    /// Who pays for which runs.
    #[must_use]
    pub fn payers(&self) -> Accounts {
        let list = self.accounts.iter().map(|account| account.account.clone()).collect();
        Accounts { list, strict: self.strict }
    }

    /// What one of its models can do, as far as anybody says.
    #[must_use]
    pub fn abilities(&self, model: &ModelName) -> Abilities {
        Abilities::of(model, PriceBook::builtin().first_of(model), self.models.get(model))
    }
}

/// What Google's hosts end with, and Vertex's host of no place in particular.
const GOOGLE: &str = ".googleapis.com";
const VERTEX_GLOBAL: &str = "aiplatform.googleapis.com";
/// What the hosts of OpenAI's regions end with.
const OPENAI_REGIONAL: &str = ".api.openai.com";

/// The host of an address, without its port.
pub(crate) fn host(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.split(':').next()
}

/// True for OpenAI's own hosts.
pub(crate) fn is_openai(url: &str) -> bool {
    host(url).is_some_and(|host| host == "api.openai.com" || host.ends_with(OPENAI_REGIONAL))
}

/// True for Azure's hosts.
pub(crate) fn is_azure(url: &str) -> bool {
    host(url).is_some_and(|host| host.ends_with(".azure.com"))
}

/// A wire format that this version speaks. Those of later versions are words of `spec::keys::project` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI Chat Completions, and whatever speaks it.
    OpenAiChat,
    /// Anthropic Messages: its own API, and Claude on Foundry.
    Anthropic,
    /// Anthropic Messages on Vertex AI.
    VertexAnthropic,
    /// Google's Gemini API.
    Gemini,
    /// Gemini on Google's Vertex AI.
    Vertex,
}

impl Wire {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OpenAiChat, Self::Anthropic, Self::VertexAnthropic, Self::Gemini, Self::Vertex];

    /// Its word in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::Anthropic => "anthropic",
            Self::VertexAnthropic => "vertex-anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
        }
    }

    /// The wire of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wire| wire.name() == word)
    }
}

/// Where a provider's key comes from. Never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The provider takes none.
    None,
    /// An environment variable, by name.
    Env(String),
    /// A program (no shell) that prints the key, which is kept until it is refused.
    Command(Vec<String>),
    /// A program (no shell) that prints a token, and how long that is good.
    TokenCommand {
        /// The program and its arguments.
        command: Vec<String>,
        /// How long a token of it is good.
        lifetime: Millis,
    },
    /// A file with the key on its first line, read anew for each request. Absolute.
    File(PathBuf),
    /// The JSON file of a Google service account, whose key is exchanged for tokens. Absolute.
    ServiceAccount(PathBuf),
    /// Google's metadata server, by its address: tokens of the machine's own account.
    MetadataServer(String),
}

/// What a server of OpenAI's wire does differently, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// The name of the output cap's field: `max_completion_tokens` (OpenAI) or `max_tokens`.
    pub output_cap_field: OutputCapField,
    /// Send `service_tier: "default"`, which pins the price (OpenAI).
    pub pin_service_tier: bool,
    /// Send `stream_options.include_usage`.
    pub stream_usage: bool,
    /// Send `prompt_cache_options: {mode: "explicit"}`: no cache writes are charged (OpenAI from gpt-5.6 on).
    pub no_cache_writes: bool,
}

/// The field that caps the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputCapField {
    /// `max_completion_tokens`.
    MaxCompletionTokens,
    /// `max_tokens`.
    MaxTokens,
}
