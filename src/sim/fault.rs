//! The faults that a scenario can play; how each looks on a wire is the wire's.

use serde::Deserialize;

use crate::sim::wire::Dialect;
use crate::units::Millis;

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

/// An error as a wire shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireError {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) code: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    /// How long it asks to wait.
    pub(crate) wait: Option<Millis>,
}

impl WireError {
    /// An error of a status, in a wire's words for `fault` where it is one.
    pub(crate) fn new(wire: &dyn Dialect, status: u16, fault: Option<Fault>, message: impl Into<String>) -> Self {
        let (kind, code) = wire.words(status, fault);
        let code = (!code.is_empty()).then(|| code.to_owned());
        Self { status, kind: kind.to_owned(), code, param: None, message: message.into(), wait: None }
    }

    /// The error that a fault is, with a message of its own.
    pub(crate) fn of(wire: &dyn Dialect, fault: Fault, message: impl Into<String>) -> Self {
        Self::new(wire, fault.error().map_or(500, |(status, _)| status), Some(fault), message)
    }

    /// The error that stands for a bare status.
    pub(crate) fn of_status(wire: &dyn Dialect, status: u16) -> Self {
        Self::new(wire, status, None, format!("the scenario answers with status {status}"))
    }
}

impl Fault {
    /// Status and message of a fault that is an error in place of a completion.
    pub(crate) const fn error(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::RateLimit => (429, "rate limit reached; try again later"),
            Self::Quota => (429, "no credit is left on this account"),
            Self::ServerError => (500, "the server had an error"),
            Self::BadGateway => (502, "bad gateway"),
            Self::Unavailable => (503, "the service is unavailable"),
            Self::GatewayTimeout => (504, "the gateway timed out"),
            Self::Overloaded => (529, "the server is overloaded"),
            Self::Unauthorized => (401, "the API key is not known"),
            Self::PaymentRequired => (402, "the account has no active billing"),
            Self::Forbidden => (403, "this project may not use this model"),
            Self::NotFound => (404, "the model doesn't exist"),
            Self::RequestTimeout => (408, "the request timed out"),
            Self::Conflict => (409, "the resource is in use"),
            Self::TooLarge => (413, "the request is too large"),
            Self::Unprocessable => (422, "the model made a call that can't be processed"),
            Self::BadRequest => (400, "the request can't be taken"),
            Self::ContextLength => (400, "prompt is too long: it is longer than the context"),
            Self::FilteredInput => (400, "the prompt was stopped by the content filter"),
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
        })
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
}
