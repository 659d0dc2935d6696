//! `plimsoll.toml`, resolved: live configuration that is not part of a plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::ability::{Abilities, Stated};
use crate::domain::budget::Budget;
use crate::domain::limits::Limits;
use crate::domain::policy::Approvals;
use crate::domain::pricing::{Ages, Factor, PriceBook, PriceRow};
use crate::ids::{ModelName, PolicyName, ProviderName};
use crate::spec::limits::Ceilings;
pub use crate::spec::policy::{Downgrade, Policy, Quality};
use crate::spec::prices::Imported;
use crate::units::Millis;

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
    /// Models that are denied, in the project's environment.
    pub approvals: Approvals,
    /// The tiers of quality, the lowest first.
    pub qualities: Vec<String>,
    /// Prices over the built-in book and the imported ones, in the order of the file.
    pub prices: Vec<PriceRow>,
    /// Prices that were imported over the built-in book.
    pub imported: Imported,
    /// How old prices may be.
    pub ages: Ages,
    /// What the project says of models, whichever provider has them.
    pub models: BTreeMap<ModelName, Stated>,
    /// Budgets, in the order of the file.
    pub budgets: Vec<Budget>,
    /// Limits of an agent that sets none: built in, or of `[defaults.limits]`, none above its ceiling.
    pub defaults: Limits,
    /// What no agent's limits may exceed.
    pub ceilings: Ceilings,
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
    /// What the project says of this provider's models.
    pub models: BTreeMap<ModelName, Stated>,
}

impl ProviderConfig {
    /// The factor on every rate that the place decides where its API is reached.
    #[must_use]
    pub fn endpoint_factor(&self) -> Option<Factor> {
        match self.host()?.strip_suffix(OPENAI_REGIONAL)? {
            "us" => Some(Factor::ResidencyUs),
            // Only the rates of `us` and `eu` are published (PROVIDERS §1). The others are taken for no cheaper, so that
            // what is reserved there is rather too much.
            "eu" | "ae" | "au" | "in" | "jp" => Some(Factor::ResidencyEu),
            _ => None,
        }
    }

    /// The host of its address, without a port.
    fn host(&self) -> Option<&str> {
        host(&self.base_url)
    }

    /// What one of its models can do, as far as anybody says.
    #[must_use]
    pub fn abilities(&self, model: &ModelName) -> Abilities {
        Abilities::of(model, PriceBook::builtin().first_of(model), self.models.get(model))
    }
}

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

/// A wire format that this version speaks. Those of later versions are words of `spec::keys::project` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI Chat Completions, and whatever speaks it.
    OpenAiChat,
}

impl Wire {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::OpenAiChat];

    /// Its word in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
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
