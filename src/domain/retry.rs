//! From the class of an error to what comes next: again, elsewhere, or stop, and when.
//!
//! [`next`] is the one owner of retries: no provider, client library or tool retries by itself. It says whether another
//! attempt makes sense, never that it may be made: each one passes the gate under a reservation of its own, which is what
//! makes it safe after an ambiguous failure, where the first may have been billed.
//! Deliberately absent: the clock, randomness (jitter is a hash of run and attempt) and any sleeping.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::plan::RetryPlan;
use crate::ids::ReservationId;
use crate::units::Millis;

/// Tries on one model before a failure that may pass sends the step elsewhere, if it can go there.
const SAME_MODEL_TRIES_MAX: u32 = 2;
/// Doublings of the back-off that are reckoned with; more would be above any back-off that makes sense.
const DOUBLINGS_MAX: u32 = 20;

/// The classes of provider errors (PROVIDERS §10). How each is billed is the wire's table, not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The request never left: no connection, no TLS, refused by our own checks.
    NotSent,
    /// 401.
    BadKey,
    /// 401 to a key or token that was kept from before: the next try takes a new one.
    StaleKey,
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
            Self::StaleKey => "stale_key",
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// One failed attempt, as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// Why it failed.
    pub failure: &'a Failure,
    /// Its reservation: run and attempt, from which the jitter comes.
    pub reservation: ReservationId,
    /// Attempts of this step so far, this one included; at least 1.
    pub attempts: u32,
    /// How many of them, one after another, were on this model; at least 1.
    pub on_model: u32,
    /// Where else the step could go.
    pub exits: Exits,
}

/// Where else a step could go, by what the failure demands of the place; see [`crate::domain::policy::exits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// Another approved model is left.
    pub any: bool,
    /// One of another provider is.
    pub other_provider: bool,
    /// One with a larger window is, or one that is named for long requests.
    pub larger_window: bool,
    /// One that is named for what a content filter or a refusal stopped; never a default.
    pub after_filter: bool,
}

impl Exits {
    const fn has(self, exit: Exit) -> bool {
        match exit {
            Exit::Any => self.any,
            Exit::OtherProvider => self.other_provider,
            Exit::LargerWindow => self.larger_window,
            Exit::AfterFilter => self.after_filter,
        }
    }
}

/// What a failure demands of the model that takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// To be another one.
    Any,
    /// To be another provider's: key, quota or account failed.
    OtherProvider,
    /// To take a longer input, or to be named for it: `context_fallbacks`.
    LargerWindow,
    /// To be named for filtered content: `content_filter_fallbacks`.
    AfterFilter,
}

/// What comes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt on the same model.
    Again {
        /// How long to wait first.
        after: Millis,
    },
    /// Another attempt on another model.
    Elsewhere {
        /// How long to wait first.
        after: Millis,
        /// What the failure demands of that model.
        exit: Exit,
    },
    /// No further attempt: the step has failed.
    Stop(StopWhy),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWhy {
    /// `retry.attempts` of the step are used up.
    AttemptsUsed,
    /// The failure would only repeat itself.
    WouldRepeat,
    /// Only another model could help, and none is left.
    NobodyElse,
    /// The provider asks for a longer wait than `retry.retry_after`.
    WaitTooLong,
}

impl fmt::Display for StopWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AttemptsUsed => "the attempts of this step are used up",
            Self::WouldRepeat => "another attempt would fail the same way",
            Self::NobodyElse => "no other approved model could take over",
            Self::WaitTooLong => "the provider asks for a longer wait than `retry_after` allows",
        })
    }
}

/// What a class of failure calls for (PROVIDERS §10).
#[derive(Clone, Copy)]
enum Rule {
    /// May pass by itself: again, and elsewhere when it doesn't.
    AgainThenElsewhere,
    /// May pass by itself, but sooner elsewhere.
    ElsewhereThenAgain,
    /// May pass by itself; another model would meet the same.
    Again,
    /// Never passes here.
    Elsewhere(Exit),
    /// Refused a key that has been forgotten since: the next try takes a new one, so that it is met once for each key.
    WithNewKey,
    /// Wasn't the call's fault.
    AtOnce,
    /// Our own mistake.
    Stop,
}

const fn rule(class: ErrorClass) -> Rule {
    match class {
        ErrorClass::NotSent
        | ErrorClass::RateLimited
        | ErrorClass::RequestTimeout
        | ErrorClass::Unprocessable
        | ErrorClass::Server
        | ErrorClass::TimedOut
        | ErrorClass::FirstTokenLate
        | ErrorClass::CutStream
        | ErrorClass::StreamError
        | ErrorClass::Garbage => Rule::AgainThenElsewhere,
        ErrorClass::Overloaded => Rule::ElsewhereThenAgain,
        ErrorClass::Conflict => Rule::Again,
        ErrorClass::Forbidden | ErrorClass::NotFound | ErrorClass::ClientClosed | ErrorClass::Oversized => {
            Rule::Elsewhere(Exit::Any)
        }
        ErrorClass::BadKey | ErrorClass::Billing | ErrorClass::QuotaExhausted | ErrorClass::TooLarge => {
            Rule::Elsewhere(Exit::OtherProvider)
        }
        ErrorClass::ContextTooLong => Rule::Elsewhere(Exit::LargerWindow),
        ErrorClass::ContentFilter | ErrorClass::Refused => Rule::Elsewhere(Exit::AfterFilter),
        ErrorClass::StaleKey => Rule::WithNewKey,
        ErrorClass::Interrupted => Rule::AtOnce,
        ErrorClass::BadRequest => Rule::Stop,
    }
}

/// What a failure demands of whoever takes over; it holds for the rest of the step.
#[must_use]
pub const fn demand(class: ErrorClass) -> Exit {
    match rule(class) {
        Rule::Elsewhere(exit) => exit,
        Rule::AgainThenElsewhere
        | Rule::ElsewhereThenAgain
        | Rule::Again
        | Rule::WithNewKey
        | Rule::AtOnce
        | Rule::Stop => Exit::Any,
    }
}

/// Decides what comes after a failed attempt.
///
/// An attempt that only the end of our own process broke off ([`ErrorClass::Interrupted`]) is made again at once when the
/// run goes on, whatever `retry.attempts` says: the limit `attempts` of the run bounds it. A cancelled run doesn't ask.
#[must_use]
pub fn next(tried: &Tried<'_>, plan: &RetryPlan) -> Next {
    let rule = rule(tried.failure.class);
    if let Rule::AtOnce = rule {
        return Next::Again { after: Millis::ZERO };
    }
    if tried.attempts >= plan.attempts {
        return Next::Stop(StopWhy::AttemptsUsed);
    }
    match rule {
        Rule::AgainThenElsewhere if tried.on_model < SAME_MODEL_TRIES_MAX => again_or_elsewhere(tried, plan),
        Rule::AgainThenElsewhere | Rule::ElsewhereThenAgain => elsewhere_or_again(tried, plan),
        Rule::WithNewKey => Next::Again { after: Millis::ZERO },
        Rule::Again => again(tried, plan).unwrap_or(Next::Stop(StopWhy::WaitTooLong)),
        Rule::Elsewhere(exit) => elsewhere(tried, exit).unwrap_or(Next::Stop(nobody(exit))),
        Rule::AtOnce | Rule::Stop => Next::Stop(StopWhy::WouldRepeat),
    }
}

fn again_or_elsewhere(tried: &Tried<'_>, plan: &RetryPlan) -> Next {
    again(tried, plan).or_else(|| elsewhere(tried, Exit::Any)).unwrap_or(Next::Stop(StopWhy::WaitTooLong))
}

fn elsewhere_or_again(tried: &Tried<'_>, plan: &RetryPlan) -> Next {
    elsewhere(tried, Exit::Any).or_else(|| again(tried, plan)).unwrap_or(Next::Stop(StopWhy::WaitTooLong))
}

/// Another attempt on the same model; not where the provider asks for a longer wait than is honoured. A wait that was asked
/// for is never shortened.
fn again(tried: &Tried<'_>, plan: &RetryPlan) -> Option<Next> {
    let asked = tried.failure.retry_after.unwrap_or_default();
    (asked <= plan.retry_after_max).then(|| Next::Again { after: asked.max(backoff(tried, plan)) })
}

/// Another attempt on another model, at once: what delayed this one doesn't delay that one.
fn elsewhere(tried: &Tried<'_>, exit: Exit) -> Option<Next> {
    tried.exits.has(exit).then_some(Next::Elsewhere { after: Millis::ZERO, exit })
}

/// Without a model for filtered content the author wants no fallback; else there is nobody.
const fn nobody(exit: Exit) -> StopWhy {
    match exit {
        Exit::AfterFilter => StopWhy::WouldRepeat,
        Exit::Any | Exit::OtherProvider | Exit::LargerWindow => StopWhy::NobodyElse,
    }
}

/// Doubles with each attempt up to the longest, of which the upper half is jitter.
fn backoff(tried: &Tried<'_>, plan: &RetryPlan) -> Millis {
    let doublings = tried.attempts.saturating_sub(1).min(DOUBLINGS_MAX);
    let full = plan.backoff_min.0.saturating_mul(1 << doublings).min(plan.backoff_max.0);
    let floor = full - full / 2;
    Millis(floor + jitter(tried.reservation) % (full / 2 + 1))
}

/// A hash of run and attempt: spreads waits as randomness would, and a replay waits as long.
fn jitter(reservation: ReservationId) -> u64 {
    let bits = reservation.run.bits().to_be_bytes();
    let number = reservation.number.to_be_bytes();
    bits.iter().chain(&number).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        let mixed = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        mixed ^ (mixed >> 29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;

    const ALL: Exits = Exits { any: true, other_provider: true, larger_window: true, after_filter: true };
    const NONE: Exits = Exits { any: false, other_provider: false, larger_window: false, after_filter: false };
    /// Without back-off, so that the table shows the rule alone.
    const PLAN: RetryPlan =
        RetryPlan { attempts: 4, backoff_min: Millis(0), backoff_max: Millis(0), retry_after_max: Millis(20_000) };
    const AGAIN: Next = Next::Again { after: Millis(0) };

    fn failure(class: ErrorClass) -> Failure {
        Failure { class, status: None, code: None, message: String::new(), retry_after: None }
    }

    fn tried(failure: &Failure, exits: Exits, on_model: u32) -> Tried<'_> {
        let reservation = ReservationId { run: RunId::from_bits(7), number: on_model };
        Tried { failure, reservation, attempts: on_model, on_model, exits }
    }

    fn elsewhere(exit: Exit) -> Next {
        Next::Elsewhere { after: Millis(0), exit }
    }

    /// For each class: the first failure with everywhere to go, the second on the same model, and the first with nowhere.
    fn table() -> Vec<(ErrorClass, Next, Next, Next)> {
        use ErrorClass as C;
        let stop = |why| Next::Stop(why);
        let (any, nobody) = (elsewhere(Exit::Any), stop(StopWhy::NobodyElse));
        let passing = |class| (class, AGAIN, any, AGAIN);
        let other = |class| (class, elsewhere(Exit::OtherProvider), elsewhere(Exit::OtherProvider), nobody);
        let filtered =
            |class| (class, elsewhere(Exit::AfterFilter), elsewhere(Exit::AfterFilter), stop(StopWhy::WouldRepeat));
        vec![
            passing(C::NotSent),
            other(C::BadKey),
            (C::StaleKey, AGAIN, AGAIN, AGAIN),
            (C::Forbidden, any, any, nobody),
            (C::NotFound, any, any, nobody),
            (C::BadRequest, stop(StopWhy::WouldRepeat), stop(StopWhy::WouldRepeat), stop(StopWhy::WouldRepeat)),
            (C::ContextTooLong, elsewhere(Exit::LargerWindow), elsewhere(Exit::LargerWindow), nobody),
            filtered(C::ContentFilter),
            filtered(C::Refused),
            other(C::Billing),
            passing(C::RateLimited),
            other(C::QuotaExhausted),
            passing(C::RequestTimeout),
            (C::Conflict, AGAIN, AGAIN, AGAIN),
            other(C::TooLarge),
            passing(C::Unprocessable),
            (C::Overloaded, any, any, AGAIN),
            passing(C::Server),
            (C::ClientClosed, any, any, nobody),
            passing(C::TimedOut),
            passing(C::FirstTokenLate),
            passing(C::CutStream),
            passing(C::StreamError),
            passing(C::Garbage),
            (C::Oversized, any, any, nobody),
            (C::Interrupted, AGAIN, AGAIN, AGAIN),
        ]
    }

    #[test]
    fn each_class_has_its_rule() {
        for (class, first, second, nowhere) in table() {
            let failure = failure(class);
            assert_eq!(next(&tried(&failure, ALL, 1), &PLAN), first, "first {class:?}");
            assert_eq!(next(&tried(&failure, ALL, 2), &PLAN), second, "second {class:?}");
            assert_eq!(next(&tried(&failure, NONE, 1), &PLAN), nowhere, "nowhere {class:?}");
        }
    }

    #[test]
    fn the_attempts_of_a_step_are_bounded_but_for_interruptions() {
        for (class, ..) in table() {
            let failure = failure(class);
            let expected = if class == ErrorClass::Interrupted { AGAIN } else { Next::Stop(StopWhy::AttemptsUsed) };
            assert_eq!(next(&tried(&failure, ALL, 4), &PLAN), expected, "{class:?}");
        }
    }

    #[test]
    fn a_wait_that_is_asked_for_is_honoured_or_left_never_shortened() {
        let limited = |ms| Failure { retry_after: Some(Millis(ms)), ..failure(ErrorClass::RateLimited) };
        assert_eq!(next(&tried(&limited(20_000), ALL, 1), &PLAN), Next::Again { after: Millis(20_000) });
        assert_eq!(next(&tried(&limited(20_001), ALL, 1), &PLAN), elsewhere(Exit::Any));
        assert_eq!(next(&tried(&limited(20_001), NONE, 1), &PLAN), Next::Stop(StopWhy::WaitTooLong));
        let patient = RetryPlan { backoff_min: Millis(9_000), backoff_max: Millis(9_000), ..PLAN };
        let Next::Again { after } = next(&tried(&limited(10), ALL, 1), &patient) else { panic!("again") };
        assert!(after >= Millis(4_500), "the longer of both waits: {after}");
    }

    #[test]
    fn back_off_doubles_is_bounded_spreads_and_replays() {
        let plan = RetryPlan { attempts: 40, ..RetryPlan::default() };
        let wait = |run: u128, attempts| {
            let failure = failure(ErrorClass::Conflict);
            let reservation = ReservationId { run: RunId::from_bits(run), number: attempts };
            let tried = Tried { failure: &failure, reservation, attempts, on_model: attempts, exits: NONE };
            let Next::Again { after } = next(&tried, &plan) else { panic!("again") };
            after.0
        };
        for run in 0..50 {
            assert!((100..=200).contains(&wait(run, 1)));
            assert!((200..=400).contains(&wait(run, 2)));
            assert!((2_500..=5_000).contains(&wait(run, 39)));
            assert_eq!(wait(run, 2), wait(run, 2));
        }
        let different: std::collections::BTreeSet<_> = (0..50).map(|run| wait(run, 6)).collect();
        assert!(different.len() > 40, "{}", different.len());
    }
}
