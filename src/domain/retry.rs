//! From the class of an error to what comes next: again, elsewhere, or stop, and when.
//!
//! Deliberately absent: the clock, randomness (jitter is a hash of run and attempt) and any sleeping.

use serde::{Deserialize, Serialize};

use crate::units::Millis;

/// The classes of provider errors (PROVIDERS §10). How each is billed is the wire's table, not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The request never left: no connection, no TLS, refused by our own checks.
    NotSent,
    /// 401.
    BadKey,
    /// 403.
    Forbidden,
    /// 404: model or deployment missing.
    NotFound,
    /// 400: our own mistake.
    BadRequest,
    /// 400: longer than the model's window.
    ContextTooLong,
    /// The provider's content filter, before or in the answer.
    ContentFilter,
    /// The model declined.
    Refused,
    /// 402, or a spend limit: the account has no money.
    Billing,
    /// 429: too fast; goes away by waiting.
    RateLimited,
    /// 429: the quota is used up; waiting doesn't help.
    QuotaExhausted,
    /// 408.
    RequestTimeout,
    /// 409.
    Conflict,
    /// 413.
    TooLarge,
    /// 422.
    Unprocessable,
    /// 498, 529 or 503 of an overload type.
    Overloaded,
    /// Other 5xx.
    Server,
    /// 499: the provider saw us hang up.
    ClientClosed,
    /// Our time limit passed after dispatch.
    TimedOut,
    /// No first token in time.
    FirstTokenLate,
    /// The answer broke off.
    CutStream,
    /// An error inside a stream that began well.
    StreamError,
    /// An answer that can't be read.
    Garbage,
    /// A larger answer than is read.
    Oversized,
    /// The run was cancelled, or the process went down, while the call was in flight.
    Interrupted,
}

impl ErrorClass {
    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::BadKey => "bad_key",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::BadRequest => "bad_request",
            Self::ContextTooLong => "context_too_long",
            Self::ContentFilter => "content_filter",
            Self::Refused => "refused",
            Self::Billing => "billing",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unprocessable => "unprocessable",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::ClientClosed => "client_closed",
            Self::TimedOut => "timed_out",
            Self::FirstTokenLate => "first_token_late",
            Self::CutStream => "cut_stream",
            Self::StreamError => "stream_error",
            Self::Garbage => "garbage",
            Self::Oversized => "oversized",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why an attempt gave no reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its class.
    pub class: ErrorClass,
    /// The HTTP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The provider's own code or type, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened, in words; free of secrets, at most 500 characters.
    pub message: String,
    /// How long the provider asks us to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Millis>,
}
