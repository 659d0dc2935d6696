//! Who answers: a client for each provider, the terms that each asks, and what tools share.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Live, RuntimeError, RuntimeOptions};
use crate::clock::Clock;
use crate::domain::account::Accounts;
use crate::domain::message::CacheTtl;
use crate::domain::pricing::{CacheWrites, Factor, Factors, ServiceTier, Terms};
use crate::ids::ProviderName;
use crate::provider::{Client, Http};
use crate::spec::project::{KeySource, Project, ProviderConfig, Quirks, Wire};
use crate::tool::ToolContext;

/// Clients for whoever answers, and the terms that each asks.
pub(super) fn live(
    project: &Project,
    options: &RuntimeOptions,
    tools: ToolContext,
) -> Result<(Live, BTreeMap<ProviderName, Terms>), RuntimeError> {
    let http = Http::new(options.clock.clone());
    let simulated = options.simulated.as_ref();
    let config = |base_url: &String| ProviderConfig { models: project.models.clone(), ..simulated_config(base_url) };
    let simulated = simulated.map(|base_url| Client::new(&config(base_url), http.clone())).transpose()?;
    let mut providers = BTreeMap::new();
    let mut terms = BTreeMap::new();
    for (name, config) in &project.providers {
        let stand_in = options.simulated.as_ref().map(|base_url| stand_in(config, base_url));
        providers.insert(name.clone(), Client::new(stand_in.as_ref().unwrap_or(config), http.clone())?);
        terms.insert(name.clone(), terms_of(config));
    }
    Ok((Live { providers, simulated, tools }, terms))
}

/// Who pays for which runs, at each provider.
pub(super) fn payers_of(project: &Project) -> Arc<BTreeMap<ProviderName, Accounts>> {
    Arc::new(project.providers.iter().map(|(name, config)| (name.clone(), config.payers())).collect())
}

/// The signal that ends everything, and what tools share.
pub(super) fn tools_of(clock: &Clock) -> (watch::Sender<bool>, ToolContext) {
    let (stop, stopped) = watch::channel(false);
    (stop, ToolContext::new(clock.clone(), stopped))
}

/// A provider as the simulated one stands in for it: its own wire and ways, at another door and without a key, so that
/// what is tried is what will be sent.
fn stand_in(config: &ProviderConfig, base_url: &str) -> ProviderConfig {
    let host = base_url.strip_suffix("/v1").unwrap_or(base_url);
    // Azure's paths begin behind the resource.
    let door = if config.wire == Wire::AzureOpenAi { "" } else { "/v1" };
    let mut config = ProviderConfig { key: KeySource::None, ..config.clone() };
    config.accounts.iter_mut().for_each(|account| account.key = KeySource::None);
    ProviderConfig { base_url: format!("{host}/{}{door}", config.name), ..config }
}

pub(super) fn simulated_config(base_url: &str) -> ProviderConfig {
    ProviderConfig::plain("simulated", Wire::OpenAiChat, base_url)
}

/// What a provider's requests allow it to charge for.
pub(crate) fn terms_of(config: &ProviderConfig) -> Terms {
    match config.wire {
        Wire::OpenAiChat | Wire::OpenAiResponses | Wire::AzureOpenAi => openai_terms(&config.quirks),
        Wire::Anthropic | Wire::VertexAnthropic => anthropic_terms(config),
        Wire::Gemini | Wire::Vertex => GOOGLE_TERMS,
    }
}

/// Nothing is written to a cache but what marks ask for, and the place is said wherever it decides the price.
fn anthropic_terms(config: &ProviderConfig) -> Terms {
    Terms {
        cache_writes: CacheWrites::Never,
        marks: Some(CacheTtl::Long),
        service_tier: if config.quirks.pin_service_tier { ServiceTier::Pinned } else { ServiceTier::Any },
        factors: match config.inference_geo.as_deref() {
            Some("us") => Factors::NONE.with(Factor::InferenceGeoUs),
            Some(_) | None => Factors::NONE,
        },
    }
}

/// Google charges nothing for what it caches by itself, and nothing else is asked for; the tier is pinned.
const GOOGLE_TERMS: Terms =
    Terms { cache_writes: CacheWrites::Never, marks: None, service_tier: ServiceTier::Pinned, factors: Factors::NONE };

const fn openai_terms(quirks: &Quirks) -> Terms {
    Terms {
        cache_writes: if quirks.no_cache_writes { CacheWrites::Never } else { CacheWrites::Short },
        // For 30 minutes: chat completions know nothing longer, and Responses aren't asked for more.
        marks: if quirks.no_cache_writes { Some(CacheTtl::Short) } else { None },
        service_tier: if quirks.pin_service_tier { ServiceTier::Pinned } else { ServiceTier::Any },
        // No server of this wire reports any.
        factors: Factors::NONE,
    }
}
