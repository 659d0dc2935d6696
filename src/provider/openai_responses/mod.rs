//! OpenAI's Responses, stateless: every request holds all of its conversation, and nothing is kept at the provider unless
//! the project's `store` says so.
//!
//! Invariants: no field that brings in context which isn't in the body is ever sent; what failed is unbilled only by
//! [`evidence`].
//! Deliberately absent: `previous_response_id`, `conversation`, `prompt`, `truncation`, `context_management`, background
//! answers, and the provider's own tools.

mod decode;
mod encode;
mod stream;

#[cfg(test)]
mod tests;

use reqwest::Url;

use self::stream::Stream;
use super::ProviderError;
use super::dialect::{Dialect, Reader};
use super::evidence::{Billing, Facts};
use super::exchange::{base_url, below};
use super::fault::Broken;
use super::openai::evidence::evidence;
use crate::domain::message::{Reply, Request};
use crate::spec::project::ProviderConfig;

/// Responses at one address.
#[derive(Debug)]
pub(super) struct OpenAiResponses {
    config: ProviderConfig,
    url: Url,
}

impl OpenAiResponses {
    pub(super) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        Ok(Self { url: below(&base_url(config)?, "responses"), config: config.clone() })
    }
}

impl Dialect for OpenAiResponses {
    fn base_url(&self) -> &Url {
        &self.url
    }

    fn url(&self, _request: &Request) -> Result<Url, ProviderError> {
        Ok(self.url.clone())
    }

    fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        encode::encode(&self.config, request)
    }

    fn whole(&self, request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken> {
        decode::whole(body, &request.model, call_id)
    }

    fn reader(&self, request: &Request, call_id: String) -> Box<dyn Reader> {
        Box::new(Stream::new(request.model.clone(), call_id))
    }

    /// The hosts, and so the rows, are those of chat completions. An answer whose status is `failed` is an error inside a
    /// 200: it may have run, and no row calls it unbilled.
    fn evidence(&self, facts: &Facts) -> Billing {
        evidence(facts)
    }
}
