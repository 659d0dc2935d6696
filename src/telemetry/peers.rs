//! Who answers model calls, as OpenTelemetry's conventions call them, and where they are reached.
//!
//! A project may call a provider what it likes: its wire and its host say who it is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use reqwest::Url;

use crate::domain::event::{Call, Reserved};
use crate::ids::ProviderName;
use crate::spec::project::{Project, ProviderConfig, Wire};

/// What the conventions call OpenAI, and whoever speaks its wire and has no name of its own there.
pub(super) const OPENAI: &str = "openai";
/// What they call it at Azure.
pub(super) const AZURE_OPENAI: &str = "azure.ai.openai";
/// Whoever speaks OpenAI's wire and has a name of its own, by the end of its host.
const COMPATIBLE: [(&str, &str); 7] = [
    ("deepseek.com", "deepseek"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral_ai"),
    ("moonshot.ai", "moonshot_ai"),
    ("perplexity.ai", "perplexity"),
    ("x.ai", "x_ai"),
    ("googleapis.com", "gcp.gemini"),
];

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// What the conventions call it: `gen_ai.provider.name`.
    pub system: Cow<'static, str>,
    /// The host and the port at which it is reached, where anybody knows.
    pub address: Option<(String, Option<u16>)>,
    /// The service tier that it is asked for.
    pub asked_tier: Option<&'static str>,
}

/// All of them, by the project's own names.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    known: BTreeMap<ProviderName, Peer>,
    /// Where whoever isn't known is reached.
    address: Option<(String, Option<u16>)>,
}

impl Peers {
    /// Those of a project, where it says that they are.
    #[must_use]
    pub fn of(project: &Project) -> Self {
        let known = project.providers.iter().map(|(name, config)| (name.clone(), Peer::of(config)));
        Self { known: known.collect(), address: None }
    }

    /// The same where one stands in for all: the simulated provider at its address, or a cassette, which has none.
    #[must_use]
    pub fn all_at(mut self, base_url: Option<&str>) -> Self {
        self.address = base_url.and_then(address);
        self.known.values_mut().for_each(|peer| peer.address.clone_from(&self.address));
        self
    }

    /// Who is asked by an attempt; nobody by one of a tool.
    #[must_use]
    pub(super) fn of_attempt(&self, reserved: &Reserved) -> Option<Peer> {
        match &reserved.call {
            Call::Model(call) => Some(self.get(&call.model.provider())),
            Call::Tool { .. } => None,
        }
    }

    /// Who a provider is.
    #[must_use]
    pub fn get(&self, provider: &ProviderName) -> Peer {
        let unknown = || Peer { system: by_key(provider), address: self.address.clone(), asked_tier: None };
        self.known.get(provider).cloned().unwrap_or_else(unknown)
    }
}

impl Peer {
    fn of(config: &ProviderConfig) -> Self {
        let system = system(config);
        let is_openai = system == OPENAI || system == AZURE_OPENAI;
        let asked_tier = (is_openai && config.quirks.pin_service_tier).then_some("default");
        Self { system: system.into(), address: address(&config.base_url), asked_tier }
    }

    /// True for those whose service tier the conventions have a name for.
    #[must_use]
    pub fn is_openai(&self) -> bool {
        self.system == OPENAI || self.system == AZURE_OPENAI
    }
}

fn system(config: &ProviderConfig) -> &'static str {
    match config.wire {
        Wire::AzureOpenAi => AZURE_OPENAI,
        Wire::OpenAiChat | Wire::OpenAiResponses if config.is_azure() => AZURE_OPENAI,
        Wire::OpenAiChat | Wire::OpenAiResponses => compatible(&config.base_url),
        Wire::Anthropic if config.is_azure() => "azure.ai.inference",
        Wire::Anthropic => "anthropic",
        Wire::Gemini => "gcp.gemini",
        Wire::Vertex | Wire::VertexAnthropic => "gcp.vertex_ai",
    }
}

fn compatible(base_url: &str) -> &'static str {
    let host = address(base_url).map(|(host, _)| host).unwrap_or_default();
    let is_at = |end: &str| host.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    COMPATIBLE.iter().find(|(end, _)| is_at(end)).map_or(OPENAI, |(_, name)| name)
}

/// Of whom nothing is known but the name that prices have for it.
fn by_key(provider: &ProviderName) -> Cow<'static, str> {
    Cow::Borrowed(match provider.as_str() {
        "azure" => AZURE_OPENAI,
        "azure_foundry_anthropic" => "azure.ai.inference",
        "gemini" => "gcp.gemini",
        "vertex" | "vertex_anthropic" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        other => return Cow::Owned(other.to_owned()),
    })
}

fn address(base_url: &str) -> Option<(String, Option<u16>)> {
    let url = Url::parse(base_url).ok()?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_known_by_its_wire_and_host_and_not_by_its_name() {
        let system = |wire, base_url: &str| Peer::of(&ProviderConfig::plain("prod", wire, base_url)).system;
        for (wire, base_url, name) in [
            (Wire::OpenAiChat, "https://api.openai.com/v1", "openai"),
            (Wire::OpenAiResponses, "https://eu.api.openai.com/v1", "openai"),
            (Wire::OpenAiChat, "http://127.0.0.1:8000/v1", "openai"),
            (Wire::OpenAiChat, "https://api.groq.com/openai/v1", "groq"),
            (Wire::OpenAiChat, "https://api.x.ai/v1", "x_ai"),
            (Wire::OpenAiChat, "https://notx.ai/v1", "openai"),
            (Wire::AzureOpenAi, "https://here.openai.azure.com", "azure.ai.openai"),
            (Wire::Anthropic, "https://api.anthropic.com", "anthropic"),
            (Wire::Anthropic, "https://here.services.ai.azure.com/anthropic", "azure.ai.inference"),
            (Wire::VertexAnthropic, "https://aiplatform.googleapis.com", "gcp.vertex_ai"),
            (Wire::Vertex, "https://aiplatform.googleapis.com", "gcp.vertex_ai"),
            (Wire::Gemini, "https://generativelanguage.googleapis.com", "gcp.gemini"),
        ] {
            assert_eq!(system(wire, base_url), name, "{base_url}");
        }
        let peer = Peer::of(&ProviderConfig::plain("prod", Wire::OpenAiChat, "http://[::1]:8000/v1"));
        assert_eq!(peer.address, Some(("[::1]".to_owned(), Some(8000))));
        let played = Peers::default().all_at(None).get(&ProviderName::from("vertex"));
        assert_eq!((played.system.as_ref(), played.address), ("gcp.vertex_ai", None));
    }
}
