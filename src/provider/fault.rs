//! Everything that can go wrong with an attempt, in one place, and what the ledger is told of it.

use super::dialect::Dialect;
use super::evidence::{Billing, Facts, Host};
use super::told::{Told, status_inside};
use crate::domain::retry::{ErrorClass, Failure};
use crate::provider::auth::{Secret, redact};
use crate::provider::http::{BODY_BYTES_MAX, explain};
use crate::provider::wait::{DRAIN_TIME_MAX, Ended, Wait};
use crate::provider::{AnswerResult, ProviderError};
use crate::units::Millis;

/// Why an answer with a good status is no reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It can't be read.
    Garbage(String),
    /// It is an error.
    Told(Box<Told>),
    /// It is larger than what is read.
    Oversized,
    /// It ended before its end.
    Cut(String),
}

/// Why an attempt gave no reply.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Our own checks, the key, or the client.
    Local(ProviderError),
    /// The wait ended first.
    Ended(Ended),
    /// No answer at all.
    Transport(reqwest::Error),
    /// An answer with a bad status.
    Refused(Box<Refused>),
    /// A good status, and no reply after it.
    Broken { status: u16, broken: Broken, output_seen: bool },
}

/// An answer with a bad status.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) told: Told,
    pub(crate) retry_after: Option<Millis>,
    /// Where a redirect points to.
    pub(crate) location: Option<String>,
    /// A key was refused that had been kept from before: there may be a new one.
    pub(crate) stale_key: bool,
}

impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        Self::Local(error)
    }
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

/// What was true of the attempt when it failed.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The provider's name.
    pub(crate) provider: &'a str,
    /// The wire that it speaks.
    pub(crate) dialect: &'a dyn Dialect,
    pub(crate) host: Host,
    pub(crate) secret: Option<&'a Secret>,
    pub(crate) wait: &'a Wait,
}

impl Fault {
    /// The failure, and by the evidence whether it was billed.
    pub(crate) fn result(self, context: &Context<'_>) -> AnswerResult {
        let (failure, mut facts) = self.describe(context);
        facts.class = failure.class;
        let failure = Failure {
            message: redact(&failure.message, context.secret),
            code: failure.code.map(|code| redact(&code, context.secret)),
            ..failure
        };
        match context.dialect.evidence(&facts) {
            Billing::Unbilled => AnswerResult::Unbilled(failure),
            Billing::Unknown => AnswerResult::Unknown(failure),
        }
    }

    fn describe(self, context: &Context<'_>) -> (Failure, Facts) {
        let sent = context.wait.sent.is_noted();
        let facts = Facts {
            sent,
            status: None,
            provider_body: false,
            class: ErrorClass::NotSent,
            output_seen: false,
            host: context.host,
        };
        match self {
            // Our own checks come before the request leaves, so that `sent` is false here.
            Self::Local(error) => (plain(error.class(), error.to_string()), facts),
            Self::Ended(ended) => (ended_failure(ended, context), facts),
            Self::Transport(error) => (transport_failure(error, context), facts),
            Self::Refused(refused) => {
                let facts = Facts {
                    status: Some(refused.status),
                    provider_body: refused.told.provider_body,
                    host: if refused.told.azure { Host::Azure } else { context.host },
                    ..facts
                };
                (refused.failure(context), facts)
            }
            Self::Broken { status, broken, output_seen } => (
                broken_failure(status, broken, output_seen, context),
                Facts { status: Some(status), output_seen, ..facts },
            ),
        }
    }
}

impl Refused {
    fn failure(self, context: &Context<'_>) -> Failure {
        let provider = context.provider;
        let class = context.dialect.class(self.status, &self.told);
        let class = if class == ErrorClass::BadKey && self.stale_key { ErrorClass::StaleKey } else { class };
        let name = self.told.name().map(|name| format!(" (`{name}`)")).unwrap_or_default();
        let words = match &self.location {
            Some(location) => format!("a redirect to `{location}`, and none is followed; mend `base_url`"),
            None if self.told.message.is_empty() => "without a word".to_owned(),
            None => self.told.message.clone(),
        };
        Failure {
            class,
            status: Some(self.status),
            code: self.told.name().map(str::to_owned),
            message: format!("`{provider}` answered {}{name}: {words}", self.status),
            retry_after: self.retry_after,
        }
    }
}

fn plain(class: ErrorClass, message: String) -> Failure {
    Failure { class, status: None, code: None, message, retry_after: None }
}

fn ended_failure(ended: Ended, context: &Context<'_>) -> Failure {
    let (provider, wait) = (context.provider, context.wait);
    match ended {
        Ended::Cancelled if wait.sent.is_noted() => plain(
            ErrorClass::Interrupted,
            format!("cancelled, and `{provider}` gave no usage within {DRAIN_TIME_MAX} after that"),
        ),
        Ended::Cancelled => {
            plain(ErrorClass::Interrupted, format!("cancelled before the request to `{provider}` left"))
        }
        Ended::TimeLimit | Ended::FirstToken if !wait.sent.is_noted() => {
            let limit = if ended == Ended::FirstToken { wait.first_token_limit } else { wait.time_limit };
            plain(ErrorClass::NotSent, format!("the request to `{provider}` could not leave within {limit}"))
        }
        Ended::TimeLimit => {
            plain(ErrorClass::TimedOut, format!("`{provider}` gave no whole answer within {}", wait.time_limit))
        }
        Ended::FirstToken => plain(
            ErrorClass::FirstTokenLate,
            format!("`{provider}` gave no first token within {}", wait.first_token_limit),
        ),
    }
}

fn transport_failure(error: reqwest::Error, context: &Context<'_>) -> Failure {
    let provider = context.provider;
    if context.wait.sent.is_noted() {
        return plain(ErrorClass::CutStream, format!("`{provider}` broke off before it answered: {}", explain(error)));
    }
    plain(ErrorClass::NotSent, format!("the request to `{provider}` could not leave: {}", explain(error)))
}

fn broken_failure(status: u16, broken: Broken, output_seen: bool, context: &Context<'_>) -> Failure {
    let provider = context.provider;
    let failure = |class, message| Failure { status: Some(status), ..plain(class, message) };
    match broken {
        Broken::Garbage(what) => {
            failure(ErrorClass::Garbage, format!("`{provider}` answered what can't be read: {what}"))
        }
        Broken::Oversized => failure(
            ErrorClass::Oversized,
            format!("`{provider}` answered more than {BODY_BYTES_MAX} bytes, or one event too large"),
        ),
        Broken::Cut(why) => failure(ErrorClass::CutStream, format!("the answer of `{provider}` broke off: {why}")),
        Broken::Told(told) => {
            // In the middle of an answer the error's own code says little of what to do next.
            let class =
                if output_seen { ErrorClass::StreamError } else { context.dialect.class(status_inside(&told), &told) };
            let message = format!("`{provider}` put an error into its answer: {}", told.message);
            Failure { code: told.name().map(str::to_owned), ..failure(class, message) }
        }
    }
}
