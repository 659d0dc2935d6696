//! Anthropic's Messages: its own API in both header generations, Claude on Foundry (another address), Claude on Vertex.
//!
//! Invariants: what failed is unbilled only by [`errors::evidence`]; how a request is shaped and how its reply is read follow
//! one decision, [`Shape`]. Sources are PROVIDERS §3 and the types of the vendor's SDK 2.12.0, as of 2026-11-23.
//! Deliberately absent: the provider's own tools, server-side fallbacks, containers and batches; retries and prices.

mod decode;
mod encode;
mod errors;
mod schema;
mod shape;
mod stream;
mod turns;
mod usage;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use self::decode::Reading;
use self::shape::Shape;
use self::stream::MessageReader;
use super::ProviderError;
use super::auth::Secret;
use super::dialect::{Dialect, Reader};
use super::evidence::{Billing, Facts};
use super::exchange::{base_url, below};
use super::fault::Broken;
use super::told::Told;
use crate::domain::message::{Reply, Request};
use crate::domain::retry::ErrorClass;
use crate::spec::project::{ProviderConfig, Wire};

/// The first version whose keys are bearer tokens; the versions before it take `x-api-key`.
const BEARER_SINCE: &str = "2026-10-21";
/// The version where the project names none: the one that every server of this wire knows.
const VERSION: &str = "2023-06-01";
/// The same on Vertex, where it stands in the body.
const VERTEX_VERSION: &str = "vertex-2023-10-16";

/// Messages at one address.
#[derive(Debug)]
pub(super) struct Anthropic {
    config: ProviderConfig,
    url: Url,
}

impl Anthropic {
    pub(super) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        let path = if config.wire == Wire::VertexAnthropic { "publishers/anthropic/models" } else { "messages" };
        Ok(Self { url: below(&base_url(config)?, path), config: config.clone() })
    }

    fn is_vertex(&self) -> bool {
        self.config.wire == Wire::VertexAnthropic
    }

    fn version(&self) -> &str {
        self.config.api_version.as_deref().unwrap_or(if self.is_vertex() { VERTEX_VERSION } else { VERSION })
    }

    fn reading(&self, request: &Request, call_id: String) -> Reading {
        Reading {
            model: request.model.clone(),
            call_id,
            answer_tool: Shape::of(&self.config, request).answer_tool(),
            asks_long: request.cache.as_ref().is_some_and(|marks| marks.ttl == crate::domain::message::CacheTtl::Long),
            // Told of Anthropic's own API only; elsewhere what is counted is taken for billed.
            frees_refusals: !self.is_vertex() && !self.config.is_azure(),
        }
    }
}

impl Dialect for Anthropic {
    fn base_url(&self) -> &Url {
        &self.url
    }

    fn url(&self, request: &Request) -> Result<Url, ProviderError> {
        if !self.is_vertex() {
            return Ok(self.url.clone());
        }
        let verb = if request.stream { "streamRawPredict" } else { "rawPredict" };
        Ok(below(&self.url, &format!("{}:{verb}", request.model.model())))
    }

    fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        let head = match self.is_vertex() {
            true => ("anthropic_version", self.version()),
            false => ("model", request.model.model()),
        };
        encode::encode(&self.config, head, request)
    }

    /// Free by Anthropic's word, for itself and for Vertex (PROVIDERS §3, §6, §13); of Foundry nobody says it. It calls the
    /// count an estimate, which may have tokens that aren't billed.
    fn counting(&self, request: &Request) -> Option<Result<(Url, Vec<u8>), ProviderError>> {
        if self.config.is_azure() {
            return None;
        }
        let url = match self.is_vertex() {
            true => below(&self.url, "count-tokens:rawPredict"),
            false => below(&self.url, "count_tokens"),
        };
        let version = self.is_vertex().then(|| self.version());
        Some(encode::to_count(&self.config, version, request).map(|body| (url, body)))
    }

    fn counted(&self, body: &Value) -> Option<u64> {
        body.get("input_tokens")?.as_u64()
    }

    fn headers(&self, _request: &Request, headers: &mut HeaderMap) {
        let version = HeaderValue::from_str(self.version()).ok().filter(|_| !self.is_vertex());
        if let Some(version) = version {
            headers.insert("anthropic-version", version);
        }
        let betas = HeaderValue::from_str(&self.config.betas.join(",")).ok().filter(|betas| !betas.is_empty());
        if let Some(betas) = betas {
            headers.insert("anthropic-beta", betas);
        }
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["anthropic-beta", "anthropic-version", "authorization", "x-api-key"]
    }

    fn credential(&self, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
        if self.is_vertex() || self.version() >= BEARER_SINCE {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).ok()?;
            return Some((AUTHORIZATION, bearer));
        }
        Some((HeaderName::from_static("x-api-key"), HeaderValue::from_str(secret.expose()).ok()?))
    }

    fn request_ids(&self) -> &'static [&'static str] {
        &["request-id", "x-request-id"]
    }

    fn whole(&self, request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken> {
        decode::whole(&self.reading(request, call_id.to_owned()), body)
    }

    fn reader(&self, request: &Request, call_id: String) -> Box<dyn Reader> {
        Box::new(MessageReader::new(self.reading(request, call_id)))
    }

    fn told(&self, body: &[u8]) -> Told {
        errors::told(body)
    }

    fn class(&self, status: u16, told: &Told) -> ErrorClass {
        errors::class(status, told)
    }

    fn evidence(&self, facts: &Facts) -> Billing {
        errors::evidence(facts)
    }
}
