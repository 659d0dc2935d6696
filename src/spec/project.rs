//! `plimsoll.toml`, resolved: live configuration that is not part of a plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::ability::{Abilities, Stated};
use crate::domain::account::{Account, Accounts};
use crate::domain::breaker::BreakerPolicy;
use crate::domain::budget::Budget;
use crate::domain::ledger::LedgerPolicy;
use crate::domain::limits::Limits;
use crate::domain::message::Media;
use crate::domain::policy::Approvals;
use crate::domain::pricing::{Ages, Factor, PriceBook, PriceRow};
use crate::domain::rate::RateLimit;
use crate::domain::vision::tokens_max;
use crate::ids::{ModelName, PolicyName, ProviderName};
use crate::spec::alerts::AlertConfig;
use crate::spec::google::is_priced_place;
use crate::spec::limits::Ceilings;
pub use crate::spec::policy::{Downgrade, Policy, Quality};
use crate::spec::prices::Imported;
use crate::units::Millis;
use crate::units::Tokens;

/// A project: the folder of `plimsoll.toml`, with `agents/` and `tools/` beside it.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its folder: absolute.
    pub root: PathBuf,
    /// The `environment` label of its runs.
    pub environment: String,
    /// The store's folder: absolute.
    pub store: PathBuf,
    /// How long bodies are kept of runs that are over; `None` for good.
    pub keep_bodies: Option<Millis>,
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
    /// Who is told of what, in the order of the file.
    pub alerts: Vec<AlertConfig>,
    /// Rate limits, in the order of the file.
    pub rates: Vec<RateLimit>,
    /// When breakers open.
    pub breaker: BreakerPolicy,
    /// Where traces and metrics go.
    pub telemetry: Telemetry,
    /// Limits of an agent that sets none: built in, or of `[defaults.limits]`, none above its ceiling.
    pub defaults: Limits,
    /// What no agent's limits may exceed.
    pub ceilings: Ceilings,
}

/// Where traces and metrics go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The collector, without a trailing `/`; nowhere if `None`.
    pub otlp: Option<String>,
    /// True where what people wrote, and what models and tools answered, is sent too.
    pub content: bool,
    /// Which of the GenAI conventions' names a collector gets.
    pub genai_names: GenAiNames,
    /// True where calls say what they cost in the attributes that the conventions may come to have, too.
    pub cost_attributes: bool,
}

/// Which names of OpenTelemetry's GenAI conventions are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenAiNames {
    /// Those since the conventions have a home of their own.
    #[default]
    New,
    /// Those of 1.41, the last core version that has them.
    V1_41,
    /// Both.
    Both,
}

impl GenAiNames {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::New, Self::V1_41, Self::Both];

    /// Its word in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::V1_41 => "1.41",
            Self::Both => "both",
        }
    }
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
    /// How Azure is reached, where this is Azure.
    pub azure: Option<Azure>,
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

impl Project {
    /// What the ledger judges by.
    #[must_use]
    pub fn ledger_policy(&self) -> LedgerPolicy {
        let alerts = self.alerts.iter().map(|alert| alert.rule.clone()).collect();
        LedgerPolicy { budgets: self.budgets.clone(), alerts }
    }
}

impl ProviderConfig {
    /// A provider without a key, and with nothing said beside where it is: what `OpenAI` itself takes on its wires.
    #[must_use]
    pub fn plain(name: &str, wire: Wire, base_url: &str) -> Self {
        Self {
            name: ProviderName::from(name),
            wire,
            base_url: base_url.to_owned(),
            key: KeySource::None,
            headers: BTreeMap::new(),
            quirks: Quirks::OPENAI,
            api_version: None,
            betas: Vec::new(),
            inference_geo: None,
            models: BTreeMap::new(),
            accounts: Vec::new(),
            strict: false,
            azure: None,
        }
    }

    /// The factor on every rate that the place decides where its API is reached.
    #[must_use]
    pub fn endpoint_factor(&self) -> Option<Factor> {
        match self.wire {
            Wire::OpenAiChat | Wire::OpenAiResponses => self.openai_factor(),
            Wire::AzureOpenAi | Wire::Anthropic | Wire::Gemini => None,
            // Every location but the global one costs more, where the model's row says so (PROVIDERS §5).
            Wire::Vertex | Wire::VertexAnthropic => {
                is_priced_place(&self.base_url, self.host()).then_some(Factor::VertexNonGlobalEndpoint)
            }
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
        let served = self.served(model);
        Abilities::of(&served, PriceBook::builtin().first_of(&served), self.models.get(model))
    }

    /// The most tokens that a file of this kind counts for one of its models; `None` where nobody says.
    #[must_use]
    pub fn file_tokens(&self, model: &ModelName, media: Media) -> Option<Tokens> {
        tokens_max(&self.served(model), media, self.models.get(model))
    }

    /// The model that answers where this one is asked: Azure's base model of a deployment, else the model itself.
    #[must_use]
    pub fn served(&self, model: &ModelName) -> ModelName {
        let deployment = self.azure.as_ref().and_then(|azure| azure.deployments.get(model.model()));
        deployment.map_or_else(|| model.clone(), |deployment| deployment.scope.names(&deployment.model).base)
    }

    /// The name that the price of a deployment is known by; `None` for what is none.
    #[must_use]
    pub fn priced_as(&self, model: &ModelName) -> Option<ModelName> {
        let deployment = self.azure.as_ref()?.deployments.get(model.model())?;
        Some(deployment.scope.names(&deployment.model).priced)
    }
}

/// How Azure `OpenAI` is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// The version of classic deployments' API, such as `2024-10-21`; `None` for the v1 path, which has none.
    pub api_version: Option<String>,
    /// Which of `OpenAI`'s wires its deployments are asked by.
    pub api: AzureApi,
    /// What the key is.
    pub auth: AzureAuth,
    /// The base model and the scope of each deployment: what it costs.
    pub deployments: BTreeMap<String, Deployment>,
}

/// Which of `OpenAI`'s wires Azure is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureApi {
    /// Chat completions.
    Chat,
    /// Responses.
    Responses,
}

/// What Azure is shown. Never both: the one that isn't meant could be the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureAuth {
    /// A key of the resource, in the header `api-key`.
    ApiKey,
    /// A token of Entra, in `Authorization`.
    Entra,
}

/// What stands behind the name of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The base model, as replies name it: `gpt-6.1-sol`.
    pub model: String,
    /// Where it runs.
    pub scope: DeploymentScope,
}

/// Where a deployment runs, which decides its price (PROVIDERS §4). One with provisioned throughput isn't billed by the
/// token, and has no word here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentScope {
    /// Anywhere.
    Global,
    /// In the data zone of the United States.
    DataZoneUs,
    /// In the European data zone.
    DataZoneEu,
}

impl DeploymentScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Global, Self::DataZoneUs, Self::DataZoneEu];

    /// Its word in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::DataZoneUs => "data-zone-us",
            Self::DataZoneEu => "data-zone-eu",
        }
    }

    /// What the price book calls the price of a base model here.
    fn names(self, model: &str) -> DeploymentNames {
        let zone = match self {
            Self::Global => "",
            Self::DataZoneUs => "us/",
            Self::DataZoneEu => "eu/",
        };
        let name = |zone: &str| ModelName::from(format!("azure/{zone}{model}"));
        DeploymentNames { base: name(""), priced: name(zone) }
    }
}

/// What the price book calls a base model.
struct DeploymentNames {
    base: ModelName,
    priced: ModelName,
}

/// What the hosts of OpenAI's regions end with.
const OPENAI_REGIONAL: &str = ".api.openai.com";

/// The host of an address, without its port.
pub(crate) fn host(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.split(':').next()
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
    /// OpenAI Responses.
    OpenAiResponses,
    /// Either of them at Azure.
    AzureOpenAi,
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
    pub const ALL: [Self; 7] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::AzureOpenAi,
        Self::Anthropic,
        Self::VertexAnthropic,
        Self::Gemini,
        Self::Vertex,
    ];

    /// Its word in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::AzureOpenAi => "azure-openai",
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
    /// Let the provider keep its answers: `store` of OpenAI Responses.
    pub store: bool,
    /// Where the server tells what it charged, beside the counts.
    pub reported_cost: Option<ReportedCost>,
}

impl Quirks {
    /// Those of `OpenAI` itself.
    pub const OPENAI: Self = Self {
        output_cap_field: OutputCapField::MaxCompletionTokens,
        pin_service_tier: true,
        stream_usage: true,
        no_cache_writes: true,
        store: false,
        reported_cost: None,
    };
    /// Those of Azure, whose older versions refuse the fields that pin a price: bounds take the dearest there, unless the
    /// project says that its deployments take them.
    pub const AZURE: Self = Self { pin_service_tier: false, no_cache_writes: false, ..Self::OPENAI };
    /// Those of a server that nobody knows: the fields that all take.
    pub const COMPATIBLE: Self = Self {
        output_cap_field: OutputCapField::MaxTokens,
        pin_service_tier: false,
        stream_usage: true,
        no_cache_writes: false,
        store: false,
        reported_cost: None,
    };
}

/// How a server tells what it charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedCost {
    /// `usage.cost`, a decimal of USD.
    Usd,
    /// `usage.cost_in_usd_ticks`, whole ticks of a ten-thousand-millionth of a dollar.
    UsdTicks,
}

/// The field that caps the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputCapField {
    /// `max_completion_tokens`.
    MaxCompletionTokens,
    /// `max_tokens`.
    MaxTokens,
}
