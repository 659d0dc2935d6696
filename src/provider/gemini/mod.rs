//! Google's `generateContent`: the Gemini API by its key, and Vertex AI by a token or an express key.
//!
//! Both speak one body at different addresses. Facts are from PROVIDERS §5 (read 2026-11-23) and from the types of Google's
//! own client, `google-genai` 3.4.0.
//! Invariants: the output is capped, one candidate is asked for, and the service tier is pinned; no tool of Google's own,
//! no cached content and no file by address goes out, so that a request is all that is billed.
//! Deliberately absent: what a request's labels would be on Vertex's bill (a request has no labels here), and following a
//! continuation by itself: it is a step of its own.

mod decode;
mod encode;
mod errors;
mod stream;
#[cfg(test)]
mod tests;
mod thinking;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::Value;

use self::stream::Stream;
use super::ProviderError;
use super::auth::Secret;
use super::dialect::{Dialect, Reader};
use super::evidence::{Billing, Facts};
use super::exchange::base_url;
use super::fault::Broken;
use super::told::Told;
use crate::domain::message::{Reply, Request};
use crate::domain::retry::ErrorClass;
use crate::spec::project::{ProviderConfig, Wire};

/// The header of an API key.
const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Gemini's models at one address.
#[derive(Debug)]
pub(super) struct Gemini {
    config: ProviderConfig,
    base: Url,
}

impl Gemini {
    pub(super) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        Ok(Self { base: base_url(config)?, config: config.clone() })
    }

    fn is_vertex(&self) -> bool {
        self.config.wire == Wire::Vertex
    }

    /// Vertex is asked with a token where the path names a project, and else with an express key.
    fn takes_token(&self) -> bool {
        self.is_vertex() && self.base.path().contains("/projects/")
    }
}

impl Dialect for Gemini {
    fn base_url(&self) -> &Url {
        &self.base
    }

    fn url(&self, request: &Request) -> Result<Url, ProviderError> {
        let mut url = self.base.clone();
        let method = if request.stream { "streamGenerateContent" } else { "generateContent" };
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if self.is_vertex() {
                path.extend(["publishers", "google"]);
            }
            path.extend(["models", &format!("{}:{method}", request.model.model())]);
        }
        url.set_query(request.stream.then_some("alt=sse"));
        url.set_fragment(None);
        Ok(url)
    }

    fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        encode::encode(&self.config, request)
    }

    /// Free on the Gemini API (PROVIDERS §5); of Vertex nobody says it. Of how exact it is nothing is said.
    fn counting(&self, request: &Request) -> Option<Result<(Url, Vec<u8>), ProviderError>> {
        if self.is_vertex() {
            return None;
        }
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["models", &format!("{}:countTokens", request.model.model())]);
        }
        Some(encode::to_count(&self.config, request).map(|body| (url, body)))
    }

    fn counted(&self, body: &Value) -> Option<u64> {
        body.get("totalTokens")?.as_u64()
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["authorization", "x-goog-api-key"]
    }

    fn credential(&self, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
        if self.takes_token() {
            return Some((AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", secret.expose())).ok()?));
        }
        Some((API_KEY, HeaderValue::from_str(secret.expose()).ok()?))
    }

    /// Google names none that lasts; the body's `responseId` stands in (PROVIDERS §11).
    fn request_ids(&self) -> &'static [&'static str] {
        &[]
    }

    fn whole(&self, request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken> {
        decode::whole(body, request, call_id)
    }

    fn reader(&self, request: &Request, call_id: String) -> Box<dyn Reader> {
        Box::new(Stream::new(request, call_id))
    }

    fn told(&self, body: &[u8]) -> Told {
        errors::told(body)
    }

    fn class(&self, status: u16, told: &Told) -> ErrorClass {
        errors::class(status, told)
    }

    fn evidence(&self, facts: &Facts) -> Billing {
        errors::evidence(facts, self.is_vertex())
    }
}
