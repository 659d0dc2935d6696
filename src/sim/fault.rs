//! The faults that a scenario can play, and how each error looks on the wire.

use serde::Deserialize;
use serde_json::json;

use crate::sim::invoice::Billed;

/// A fault, by its name in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// 429 with `retry-after`.
    RateLimit,
    /// 429 that no waiting mends: no credit left.
    Quota,
    /// 500.
    ServerError,
    /// 502.
    BadGateway,
    /// 503.
    Unavailable,
    /// 504.
    GatewayTimeout,
    /// 529 of an overload type.
    Overloaded,
    /// 401.
    Unauthorized,
    /// 402.
    PaymentRequired,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 408.
    RequestTimeout,
    /// 409.
    Conflict,
    /// 413.
    TooLarge,
    /// 422.
    Unprocessable,
    /// 400.
    BadRequest,
    /// 400 `context_length_exceeded`.
    ContextLength,
    /// 400 `content_filter`.
    FilteredInput,
    /// 500 as plain text, without the provider's body.
    PlainError,
    /// 307 to another path.
    Redirect,
    /// 200 with an HTML page.
    WrongType,
    /// 200 with a body that is no JSON.
    Garbage,
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Drop,
    /// Answers, but lets the first token wait.
    SlowFirstToken,
    /// Closes the connection in the middle of the answer.
    CutStream,
    /// An error object in the middle of a 200 stream.
    StreamError,
    /// Ends the stream without usage and without `[DONE]`.
    NoDone,
    /// No usage in the answer.
    MissingUsage,
    /// `usage: null` in the answer.
    NullUsage,
    /// Usage that can't be true.
    GarbageUsage,
    /// The usage twice.
    DuplicateUsage,
    /// Running usage in every chunk.
    UsageEveryChunk,
    /// 200 with an empty list of choices.
    NoChoices,
    /// An answer of megabytes.
    Oversized,
    /// Usage above what was asked, billed as reported.
    Overrun,
    /// Finish `content_filter`.
    ContentFilter,
    /// The model declines.
    Refusal,
    /// A call of a tool that was not offered.
    UnknownTool,
    /// A tool call whose arguments are no JSON.
    InvalidArguments,
}

/// An error as the wire shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireError {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) code: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
}

impl WireError {
    pub(crate) fn new(status: u16, kind: &str, code: &str, message: impl Into<String>) -> Self {
        let code = (!code.is_empty()).then(|| code.to_owned());
        Self { status, kind: kind.to_owned(), code, param: None, message: message.into() }
    }

    /// The error that stands for a bare status.
    pub(crate) fn of_status(status: u16) -> Self {
        let kind = match status {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        Self::new(status, kind, "", format!("the scenario answers with status {status}"))
    }

    /// The body, in OpenAI's shape.
    pub(crate) fn body(&self) -> String {
        let Self { kind, code, param, message, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string()
    }
}

impl Fault {
    /// The error that is answered in place of a completion, for faults that are one.
    pub(crate) fn error(self) -> Option<WireError> {
        let invalid = "invalid_request_error";
        let (status, kind, code, message) = match self {
            Self::RateLimit => (429, "rate_limit_error", "rate_limit_exceeded", "rate limit reached; try again later"),
            Self::Quota => (429, "insufficient_quota", "credit_balance_exhausted", "no credit is left on this account"),
            Self::ServerError => (500, "server_error", "", "the server had an error"),
            Self::BadGateway => (502, "server_error", "", "bad gateway"),
            Self::Unavailable => (503, "server_error", "", "the service is unavailable"),
            Self::GatewayTimeout => (504, "server_error", "", "the gateway timed out"),
            Self::Overloaded => (529, "overloaded_error", "server_is_overloaded", "the server is overloaded"),
            Self::Unauthorized => (401, invalid, "invalid_api_key", "the API key is not known"),
            Self::PaymentRequired => (402, "billing_error", "billing_not_active", "the account has no active billing"),
            Self::Forbidden => (403, "permission_error", "model_not_allowed", "this project may not use this model"),
            Self::NotFound => (404, invalid, "model_not_found", "the model doesn't exist"),
            Self::RequestTimeout => (408, "timeout_error", "", "the request timed out"),
            Self::Conflict => (409, "conflict_error", "", "the resource is in use"),
            Self::TooLarge => (413, invalid, "request_too_large", "the request is too large"),
            Self::Unprocessable => (422, invalid, "", "the model made a call that can't be processed"),
            Self::BadRequest => (400, invalid, "invalid_value", "the request can't be taken"),
            Self::ContextLength => (400, invalid, "context_length_exceeded", "the prompt is longer than the context"),
            Self::FilteredInput => (400, invalid, "content_filter", "the prompt was stopped by the content filter"),
            Self::PlainError
            | Self::Redirect
            | Self::WrongType
            | Self::Garbage
            | Self::Hang
            | Self::Drop
            | Self::SlowFirstToken
            | Self::CutStream
            | Self::StreamError
            | Self::NoDone
            | Self::MissingUsage
            | Self::NullUsage
            | Self::GarbageUsage
            | Self::DuplicateUsage
            | Self::UsageEveryChunk
            | Self::NoChoices
            | Self::Oversized
            | Self::Overrun
            | Self::ContentFilter
            | Self::Refusal
            | Self::UnknownTool
            | Self::InvalidArguments => return None,
        };
        Some(WireError::new(status, kind, code, message))
    }

    /// The name in scenarios and on the invoice.
    pub(crate) fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

/// What an error costs where the scenario doesn't say: refusals nothing, work that failed what `failed` says.
pub(crate) fn billed_of_error(error: &WireError, failed: Billed) -> Billed {
    let overloaded = error.status == 503 && error.kind == "overloaded_error";
    match error.status {
        400 | 401 | 402 | 403 | 404 | 409 | 413 | 429 | 529 => Billed::None,
        300..400 => Billed::None,
        _ if overloaded => Billed::None,
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_one_that_scenarios_use() {
        for fault in [Fault::RateLimit, Fault::Hang, Fault::UsageEveryChunk] {
            let name = serde_json::Value::from(fault.name());
            assert_eq!(serde_json::from_value::<Fault>(name).expect("a fault"), fault);
        }
    }

    #[test]
    fn refusals_are_free_and_failed_work_is_not() {
        let billed = |fault: Fault| billed_of_error(&fault.error().expect("an error"), Billed::Input);
        for fault in [Fault::RateLimit, Fault::Quota, Fault::Unauthorized, Fault::ContextLength, Fault::Overloaded] {
            assert_eq!(billed(fault), Billed::None);
        }
        for fault in [Fault::ServerError, Fault::RequestTimeout, Fault::Unprocessable, Fault::Unavailable] {
            assert_eq!(billed(fault), Billed::Input);
        }
    }
}
