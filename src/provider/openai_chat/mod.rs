//! OpenAI's Chat Completions, and whatever speaks it: Ollama, `vLLM`, llama.cpp, `OpenRouter`, Groq, `DeepSeek`, …
//!
//! Invariant: what failed is unbilled only by [`evidence`].
//! Deliberately absent: retries, fallbacks and prices. They are decided in the domain.

mod decode;
mod encode;
mod stream;

use reqwest::Url;

use self::stream::Stream;
use super::ProviderError;
use super::dialect::{Dialect, Reader};
use super::evidence::{Billing, Facts};
use super::exchange::{base_url, below};
use super::fault::Broken;
use super::openai::evidence::evidence;
use crate::domain::message::{Reply, Request};
use crate::domain::pricing::Charged;
use crate::spec::project::{ProviderConfig, ReportedCost};

/// Chat completions at one address.
#[derive(Debug)]
pub(super) struct OpenAiChat {
    config: ProviderConfig,
    url: Url,
}

impl OpenAiChat {
    pub(super) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        Ok(Self { url: below(&base_url(config)?, "chat/completions"), config: config.clone() })
    }
}

impl Dialect for OpenAiChat {
    fn base_url(&self) -> &Url {
        &self.url
    }

    fn url(&self, _request: &Request) -> Result<Url, ProviderError> {
        Ok(self.url.clone())
    }

    fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        encode::encode(&self.config, request)
    }

    fn whole(&self, _request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken> {
        Ok(with_charge(decode::whole(body, call_id)?, self.config.quirks.reported_cost))
    }

    fn reader(&self, _request: &Request, call_id: String) -> Box<dyn Reader> {
        let cost = self.config.quirks.reported_cost;
        Box::new(ChatReader { stream: Stream::default(), call_id, cost })
    }

    fn evidence(&self, facts: &Facts) -> Billing {
        evidence(facts)
    }
}

/// The reply with what the server says that it charged, where it says so in its usage.
fn with_charge(mut reply: Reply, cost: Option<ReportedCost>) -> Reply {
    let told = |field: &str| reply.raw_usage.as_ref()?.get(field)?.as_number();
    reply.charged = match cost {
        Some(ReportedCost::Usd) => told("cost").and_then(Charged::usd),
        Some(ReportedCost::UsdTicks) => told("cost_in_usd_ticks").and_then(Charged::ticks),
        None => None,
    };
    reply
}

/// A stream, the beginning of the ids of its calls, and where its cost stands.
#[derive(Debug)]
struct ChatReader {
    stream: Stream,
    call_id: String,
    cost: Option<ReportedCost>,
}

impl Reader for ChatReader {
    fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        self.stream.push(bytes, hear)
    }

    fn is_done(&self) -> bool {
        self.stream.is_done()
    }

    fn is_finished(&self) -> bool {
        self.stream.is_finished()
    }

    fn is_settled(&self) -> bool {
        self.stream.is_settled()
    }

    fn output_seen(&self) -> bool {
        self.stream.output_seen()
    }

    fn end(self: Box<Self>, why: &str) -> Result<Reply, Broken> {
        Ok(with_charge(self.stream.end(&self.call_id, why)?, self.cost))
    }
}
