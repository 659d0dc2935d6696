//! OpenAI Chat Completions.

use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Completion, Stream};
use crate::sim::fault::{Fault, WireError};
use crate::sim::wire::{Asked, Dialect, Door, provider};

mod answer;
mod request;

/// The wire.
#[derive(Debug)]
pub(crate) struct OpenAiChat;

impl Dialect for OpenAiChat {
    fn door<'a>(&self, path: &'a str, _query: Option<&'a str>) -> Option<Door<'a>> {
        let base = path.strip_suffix("/chat/completions")?;
        Some(Door { provider: provider(base), ..Door::default() })
    }

    fn read<'a>(&self, asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest> {
        request::read(asked.body)
    }

    fn id(&self, number: u64) -> String {
        format!("chatcmpl-sim-{number}")
    }

    fn whole(&self, completion: &Completion) -> String {
        answer::whole(completion)
    }

    fn stream<'a>(&self, completion: &'a Completion) -> Stream<'a> {
        answer::stream(completion)
    }

    fn words(&self, status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
        words(status, fault)
    }

    fn error_body(&self, error: &WireError) -> String {
        let WireError { kind, code, param, message, .. } = error;
        serde_json::json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string()
    }
}

/// OpenAI's types and codes of errors.
fn words(status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
    let invalid = "invalid_request_error";
    match (fault, status) {
        (Some(Fault::RateLimit), _) => ("rate_limit_error", "rate_limit_exceeded"),
        (Some(Fault::Quota), _) => ("insufficient_quota", "credit_balance_exhausted"),
        (Some(Fault::Overloaded), _) => ("overloaded_error", "server_is_overloaded"),
        (Some(Fault::Unauthorized), _) => (invalid, "invalid_api_key"),
        (Some(Fault::PaymentRequired), _) => ("billing_error", "billing_not_active"),
        (Some(Fault::Forbidden), _) => ("permission_error", "model_not_allowed"),
        (Some(Fault::NotFound), _) => (invalid, "model_not_found"),
        (Some(Fault::RequestTimeout), _) => ("timeout_error", ""),
        (Some(Fault::Conflict), _) => ("conflict_error", ""),
        (Some(Fault::TooLarge), _) => (invalid, "request_too_large"),
        (Some(Fault::BadRequest), _) => (invalid, "invalid_value"),
        (Some(Fault::ContextLength), _) => (invalid, "context_length_exceeded"),
        (Some(Fault::FilteredInput), _) => (invalid, "content_filter"),
        (_, 429) => ("rate_limit_error", ""),
        (_, 500..) => ("server_error", ""),
        (_, _) => (invalid, ""),
    }
}

/// Reads a body of this wire, for tests of what all wires share.
#[cfg(test)]
pub(crate) fn read(body: &serde_json::Value) -> Result<Chat<'_>, BadRequest> {
    request::read(body)
}
