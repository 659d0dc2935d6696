//! Why a request isn't answered: a stable code, what is wrong, how to mend it, and the HTTP status that goes with it.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, PROGRAM_VERSION};
use crate::domain::access::Scope;
use crate::domain::event::RunState;
use crate::domain::exception::ExceptionFault;
use crate::domain::outcome::OutcomeFault;
use crate::domain::run::AnswerFault;
use crate::ids::{AgentName, RunId};
use crate::runtime::RuntimeError;
use crate::store::StoreError;
use crate::units::Millis;

/// The stable codes of the API, listed in `docs/errors.md`.
pub mod code {
    /// No such run.
    pub const NO_SUCH_RUN: &str = "plimsoll::api::no_such_run";
    /// The beginning of an id fits several runs.
    pub const SEVERAL_RUNS: &str = "plimsoll::api::several_runs";
    /// The run has ended, or isn't in a state for this.
    pub const STATE: &str = "plimsoll::api::state";
    /// A parameter or a body that can't be understood.
    pub const BAD_REQUEST: &str = "plimsoll::api::bad_request";
    /// No such path.
    pub const NO_SUCH_PATH: &str = "plimsoll::api::no_such_path";
    /// The path takes another method.
    pub const METHOD: &str = "plimsoll::api::method";
    /// A body that is too large.
    pub const TOO_LARGE: &str = "plimsoll::api::too_large";
    /// The store takes too long.
    pub const SLOW: &str = "plimsoll::api::slow";
    /// The other side speaks another version of the API.
    pub const VERSION: &str = "plimsoll::api::version";
    /// Something in the process broke down.
    pub const FAILED: &str = "plimsoll::api::failed";
    /// The holder of the store gives no answer.
    pub const SILENT: &str = "plimsoll::api::silent";
    /// No such agent.
    pub const NO_SUCH_AGENT: &str = "plimsoll::api::no_such_agent";
    /// An input, or labels, that the agent or a budget doesn't take.
    pub const INPUT: &str = "plimsoll::api::input";
    /// The key of a request was used for another one, or its request is under way.
    pub const KEY: &str = "plimsoll::api::key";
    /// The line of runs is full, or there are too many streams.
    pub const FULL: &str = "plimsoll::api::full";
    /// No key, or one that doesn't count.
    pub const UNAUTHORIZED: &str = "plimsoll::api::unauthorized";
    /// No such key.
    pub const NO_SUCH_KEY: &str = "plimsoll::api::no_such_key";
    /// No such exception.
    pub const NO_SUCH_EXCEPTION: &str = "plimsoll::api::no_such_exception";
    /// Whoever asks may not.
    pub const FORBIDDEN: &str = "plimsoll::api::forbidden";
    /// The process ends, or takes no runs in.
    pub const CLOSED: &str = "plimsoll::api::closed";
    /// The store can't be read or written.
    pub const STORE: &str = "plimsoll::store::failed";
    /// The store is damaged.
    pub const STORE_DAMAGED: &str = "plimsoll::store::damaged";
    /// Every code that only the API has.
    pub const ALL: [&str; 20] = [
        NO_SUCH_RUN,
        SEVERAL_RUNS,
        STATE,
        BAD_REQUEST,
        NO_SUCH_PATH,
        METHOD,
        TOO_LARGE,
        SLOW,
        VERSION,
        FAILED,
        SILENT,
        NO_SUCH_AGENT,
        INPUT,
        KEY,
        FULL,
        CLOSED,
        FORBIDDEN,
        UNAUTHORIZED,
        NO_SUCH_KEY,
        NO_SUCH_EXCEPTION,
    ];
}

/// What can be wrong, as the document tells it.
pub(super) struct Problem {
    /// The stable code.
    pub(super) code: &'static str,
    /// The statuses that it comes with.
    pub(super) statuses: &'static [u16],
    /// What it means.
    pub(super) says: &'static str,
}

impl Problem {
    const fn new(code: &'static str, statuses: &'static [u16], says: &'static str) -> Self {
        Self { code, statuses, says }
    }

    /// True where asking again may be worth it, and when is said.
    pub(super) fn comes_back(&self, status: u16) -> bool {
        matches!(status, 429 | 503) || self.code == code::KEY
    }
}

/// Every code of the API, but for the client's own.
pub(super) const PROBLEMS: [Problem; 21] = [
    Problem::new(code::BAD_REQUEST, &[400], "a parameter or the body can't be understood"),
    Problem::new(code::VERSION, &[400], "the caller speaks another version of the API"),
    Problem::new(code::SEVERAL_RUNS, &[400], "the beginning of an id fits several runs"),
    Problem::new(code::UNAUTHORIZED, &[401, 429], "no key, one that doesn't count, or too many such"),
    Problem::new(code::FORBIDDEN, &[403], "whoever asks may not"),
    Problem::new(code::NO_SUCH_PATH, &[404], "there is no such path"),
    Problem::new(code::NO_SUCH_RUN, &[404], "there is no such run, or the key may not see it"),
    Problem::new(code::NO_SUCH_AGENT, &[404], "there is no such agent"),
    Problem::new(code::NO_SUCH_KEY, &[404], "there is no such key that counts"),
    Problem::new(code::NO_SUCH_EXCEPTION, &[404], "there is no such exception"),
    Problem::new(code::METHOD, &[405], "the path doesn't take this method"),
    Problem::new(code::STATE, &[409], "it isn't in a state for this"),
    Problem::new(code::KEY, &[409], "the caller's key was used for another request, or its request is under way"),
    Problem::new(code::TOO_LARGE, &[413], "the body is too large"),
    Problem::new(code::INPUT, &[422], "the agent, or a budget, doesn't take this input or these labels"),
    Problem::new(
        code::FULL,
        &[429, 503],
        "the line of runs is full, or a tenant's share of it, or too many streams are open",
    ),
    Problem::new(code::SLOW, &[503], "the store takes too long"),
    Problem::new(code::CLOSED, &[503], "the process takes no runs in"),
    Problem::new(code::FAILED, &[500], "something in the process broke down"),
    Problem::new(code::STORE, &[500], "the store can't be read or written"),
    Problem::new(code::STORE_DAMAGED, &[500], "the store is damaged"),
];

/// When who is told that the service stops may ask again.
const CLOSING_RETRY_SECONDS: u64 = 5;
/// Agents that a message names.
const AGENTS_SHOWN_MAX: usize = 20;

/// Why a request isn't answered. Messages end in how to mend it, after a `; `.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No such run.
    #[error("there is no run `{0}`; `GET /v1/runs` lists runs")]
    NoSuchRun(String),
    /// A beginning that fits several.
    #[error("several runs begin with `{beginning}`: {found}; write more of the id")]
    SeveralRuns {
        /// What was asked for.
        beginning: String,
        /// Some of them.
        found: String,
    },
    /// It has ended.
    #[error("run `{run}` is {state} already; there is nothing to cancel")]
    Ended {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
    },
    /// It has ended, and doesn't go on.
    #[error("run `{run}` is {state} already; start another with `POST /v1/runs`")]
    Over {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
    },
    /// An answer isn't taken.
    #[error("run `{run}`: {fault}")]
    Answer {
        /// The run.
        run: RunId,
        /// Why.
        fault: AnswerFault,
    },
    /// An outcome isn't taken.
    #[error("run `{run}`: {fault}")]
    Outcome {
        /// The run.
        run: RunId,
        /// Why.
        fault: OutcomeFault,
    },
    /// An exception isn't taken, or not approved.
    #[error(transparent)]
    Exception(#[from] ExceptionFault),
    /// It is a sub-agent's.
    #[error("run `{run}` is a sub-agent's: it goes on and ends with its root; ask for `{root}`")]
    SubAgent {
        /// The run.
        run: RunId,
        /// Its root.
        root: RunId,
    },
    /// A log without its beginning or its plan.
    #[error("the log of run `{0}` has no beginning, or its plan is missing; go on from a backup or an export")]
    DamagedLog(RunId),
    /// What was asked for can't be understood.
    #[error("{0}")]
    BadRequest(String),
    /// No such path.
    #[error("there is no `{0}`; `GET /healthz` answers, and so do the paths under `/v1`")]
    NoSuchPath(String),
    /// Another method.
    #[error("this path doesn't take `{0}`; read with GET, change with POST")]
    Method(String),
    /// A large body.
    #[error("a body has {0} bytes at most; send less")]
    TooLarge(usize),
    /// The store takes too long.
    #[error("the store didn't answer within {0}: its disk is slow, or much is asked at once; ask again, or for less")]
    Slow(Millis),
    /// Another version.
    #[error(
        "this is plimsoll {PROGRAM_VERSION} with API {API_VERSION}, and API {0} was asked for; use the same version on both sides"
    )]
    Version(String),
    /// An agent that isn't served.
    #[error("there is no agent `{agent}` here; {}", agents(.known))]
    NoSuchAgent {
        /// What was asked for.
        agent: AgentName,
        /// What there is.
        known: Vec<AgentName>,
    },
    /// What a run can't be made of.
    #[error("{0}")]
    Input(String),
    /// The key made another run.
    #[error(
        "this `Idempotency-Key` made run `{run}` from another agent, input, files or labels; send a new key for a new request"
    )]
    KeyReused {
        /// That run.
        run: RunId,
    },
    /// The key's request is under way.
    #[error("a request with this `Idempotency-Key` is under way; ask again in a moment")]
    KeyInUse,
    /// A thread's run is open.
    #[error("thread `{thread}` has an open run, `{run}`; go on with the thread when that has ended")]
    ThreadBusy {
        /// The thread.
        thread: String,
        /// The run.
        run: RunId,
    },
    /// The line is full.
    #[error("{waiting} runs wait already, and no more may; ask again in {retry_after} s")]
    Full {
        /// How many wait.
        waiting: usize,
        /// Seconds.
        retry_after: u64,
    },
    /// One tenant has its share of the line.
    #[error(
        "{waiting} runs {} wait already, and the other places in line are left to others; ask again in {retry_after} s", whose(.tenant)
    )]
    Share {
        /// Whose; empty for nobody's.
        tenant: String,
        /// How many of theirs wait.
        waiting: usize,
        /// Seconds.
        retry_after: u64,
    },
    /// As many as may are held by switches, and this one would be too.
    #[error(
        "{held} runs wait for a switch to be lifted, and no more may; see `GET /v1/switches`, and ask again once it is"
    )]
    Held {
        /// How many.
        held: usize,
        /// Seconds.
        retry_after: u64,
    },
    /// Too many listen.
    #[error("{0} streams of events are open, and no more may be; close some, or ask for the run with `?wait=20s`")]
    Streams(usize),
    /// Another origin.
    #[error("the `{0}` of this request isn't this machine's; ask by `localhost` or `127.0.0.1`")]
    Foreign(&'static str),
    /// A form whose session is over, or that isn't ours.
    #[error("this form is of a session that has ended; load the page again, and send it once more")]
    OldForm,
    /// No key.
    #[error("this service asks for a key; send `Authorization: Bearer …`, with a key that `plimsoll keys create` gave")]
    NoKey,
    /// A key that doesn't count.
    #[error("this key doesn't count: it is misspelt, replaced or revoked; ask who gave it for another")]
    WrongKey,
    /// Too many wrong ones.
    #[error("too many requests with wrong keys came from your address; ask again in {retry_after} s")]
    Failures {
        /// Seconds.
        retry_after: u64,
    },
    /// The key may not do that.
    #[error("this key's scopes don't hold `{0}`; ask with one that has it")]
    Scope(Scope),
    /// What can't be shown for some labels only.
    #[error("this key is bound to labels, and that can't be shown for them alone; ask with a key that isn't bound")]
    Bound,
    /// A label that the key gives.
    #[error("this key is bound to another `{0}`; leave the label out")]
    BoundLabel(String),
    /// No such key.
    #[error("there is no key `{0}` that counts; `GET /v1/keys` lists keys")]
    NoSuchKey(String),
    /// It ends.
    #[error("the service is stopping and takes no runs in; ask again in {CLOSING_RETRY_SECONDS} s")]
    Closing,
    /// It doesn't take runs in.
    #[error(
        "the process that holds the store takes no runs in; start `plimsoll serve`, or wait until that process has ended"
    )]
    NoIntake,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime.
    #[error(transparent)]
    Runtime(RuntimeError),
    /// A task broke down.
    #[error("a task of the API broke down: {0}")]
    Task(String),
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Store(error) => Self::Store(error),
            RuntimeError::NoSuchRun { run } => Self::NoSuchRun(run.to_string()),
            RuntimeError::DamagedLog { run } => Self::DamagedLog(run),
            RuntimeError::Answer { run, fault } => Self::Answer { run, fault },
            RuntimeError::Outcome { run, fault } => Self::Outcome { run, fault },
            RuntimeError::SubAgent { run, root } => Self::SubAgent { run, root },
            RuntimeError::NoSuchAgent { agent, known } => Self::NoSuchAgent { agent, known },
            RuntimeError::ThreadBusy { thread, run } => Self::ThreadBusy { thread, run },
            RuntimeError::MissingLabel(missing) => Self::Input(missing.to_string()),
            input @ (RuntimeError::Input { .. } | RuntimeError::Prompt { .. } | RuntimeError::Documents { .. }) => {
                Self::Input(input.to_string())
            }
            RuntimeError::Files { agent, fault, help } => {
                Self::Input(format!("the files can't go to agent `{agent}`: {fault}; {help}"))
            }
            other @ (RuntimeError::Provider(_)
            | RuntimeError::Driven { .. }
            | RuntimeError::FileMissing { .. }
            | RuntimeError::Task(_)) => Self::Runtime(other),
        }
    }
}

impl ApiError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchRun(_) => code::NO_SUCH_RUN,
            Self::SeveralRuns { .. } => code::SEVERAL_RUNS,
            Self::Answer { fault, .. } if fault.is_misspelt() => code::BAD_REQUEST,
            Self::Outcome { fault, .. } if fault.is_misspelt() => code::BAD_REQUEST,
            Self::Exception(ExceptionFault::Own(_)) => code::FORBIDDEN,
            Self::Exception(ExceptionFault::State(_)) => code::STATE,
            Self::Exception(ExceptionFault::Unknown(_)) => code::NO_SUCH_EXCEPTION,
            Self::Exception(_) => code::BAD_REQUEST,
            Self::Ended { .. }
            | Self::Over { .. }
            | Self::Answer { .. }
            | Self::Outcome { .. }
            | Self::SubAgent { .. }
            | Self::ThreadBusy { .. } => code::STATE,
            Self::NoSuchAgent { .. } => code::NO_SUCH_AGENT,
            Self::Input(_) => code::INPUT,
            Self::KeyReused { .. } | Self::KeyInUse => code::KEY,
            Self::Full { .. } | Self::Share { .. } | Self::Held { .. } | Self::Streams(_) => code::FULL,
            Self::Closing | Self::NoIntake => code::CLOSED,
            Self::Foreign(_) | Self::OldForm | Self::Scope(_) | Self::Bound | Self::BoundLabel(_) => code::FORBIDDEN,
            Self::NoKey | Self::WrongKey | Self::Failures { .. } => code::UNAUTHORIZED,
            Self::NoSuchKey(_) => code::NO_SUCH_KEY,
            Self::DamagedLog(_) | Self::Store(StoreError::Damaged { .. } | StoreError::Record { .. }) => {
                code::STORE_DAMAGED
            }
            Self::BadRequest(_) => code::BAD_REQUEST,
            Self::NoSuchPath(_) => code::NO_SUCH_PATH,
            Self::Method(_) => code::METHOD,
            Self::TooLarge(_) => code::TOO_LARGE,
            Self::Slow(_) => code::SLOW,
            Self::Version(_) => code::VERSION,
            Self::Store(_) => code::STORE,
            Self::Runtime(_) | Self::Task(_) => code::FAILED,
        }
    }

    /// After how many seconds asking again is worth it; nothing where it isn't by itself.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u64> {
        if let Self::Full { retry_after, .. }
        | Self::Share { retry_after, .. }
        | Self::Held { retry_after, .. }
        | Self::Failures { retry_after } = self
        {
            return Some(*retry_after);
        }
        if matches!(self, Self::Closing | Self::NoIntake | Self::Streams(_)) {
            return Some(CLOSING_RETRY_SECONDS);
        }
        if matches!(self, Self::Slow(_) | Self::KeyInUse) { Some(1) } else { None }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchRun(_) | Self::NoSuchPath(_) | Self::NoSuchAgent { .. } => StatusCode::NOT_FOUND,
            Self::Input(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Foreign(_) | Self::OldForm | Self::Scope(_) | Self::Bound | Self::BoundLabel(_) => {
                StatusCode::FORBIDDEN
            }
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::NoSuchKey(_) => StatusCode::NOT_FOUND,
            Self::Full { .. } | Self::Share { .. } | Self::Held { .. } | Self::Failures { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::SeveralRuns { .. } | Self::BadRequest(_) | Self::Version(_) => StatusCode::BAD_REQUEST,
            Self::Answer { fault, .. } if fault.is_misspelt() => StatusCode::BAD_REQUEST,
            Self::Outcome { fault, .. } if fault.is_misspelt() => StatusCode::BAD_REQUEST,
            Self::Exception(ExceptionFault::Own(_)) => StatusCode::FORBIDDEN,
            Self::Exception(ExceptionFault::State(_)) => StatusCode::CONFLICT,
            Self::Exception(ExceptionFault::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Exception(_) => StatusCode::BAD_REQUEST,
            Self::Ended { .. }
            | Self::Over { .. }
            | Self::Answer { .. }
            | Self::Outcome { .. }
            | Self::SubAgent { .. }
            | Self::KeyReused { .. }
            | Self::KeyInUse
            | Self::ThreadBusy { .. } => StatusCode::CONFLICT,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) | Self::Closing | Self::NoIntake | Self::Streams(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::DamagedLog(_) | Self::Store(_) | Self::Runtime(_) | Self::Task(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// An error as it travels: a problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What kind of problem it is: a link to the code in this program's own list.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// How to mend it; empty where nobody knows.
    pub help: String,
}

impl From<&ApiError> for ErrorBody {
    fn from(error: &ApiError) -> Self {
        let (detail, help) = parted(&error.to_string());
        let (code, status) = (error.code(), error.status());
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let kind = format!("/errors#{}", code.replace("::", "-"));
        Self { kind, title, status: status.as_u16(), detail, code: code.to_owned(), help }
    }
}

fn whose(tenant: &str) -> String {
    if tenant.is_empty() { "without a tenant".to_owned() } else { format!("of tenant `{tenant}`") }
}

/// The agents that could be meant.
fn agents(known: &[AgentName]) -> String {
    let names: Vec<&str> = known.iter().take(AGENTS_SHOWN_MAX).map(AgentName::as_str).collect();
    let more = if known.len() > names.len() { ", and others" } else { "" };
    if names.is_empty() { "none is served".to_owned() } else { format!("there are {}{more}", names.join(", ")) }
}

/// What went wrong, and how to mend it: our messages end in that, after a `;`. Empty where nobody knows.
pub(crate) fn parted(text: &str) -> (String, String) {
    match text.rsplit_once("; ") {
        Some((message, help)) if !help.contains('\n') => (message.to_owned(), help.to_owned()),
        Some(_) | None => (text.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_in_the_docs() {
        let docs = include_str!("../../docs/errors.md");
        for code in code::ALL {
            assert!(docs.contains(&format!("`{code}`")), "{code} is missing in docs/errors.md");
        }
    }

    #[test]
    fn an_error_travels_with_its_way_to_mend_it() {
        let body = ErrorBody::from(&ApiError::TooLarge(3));
        let expected = ErrorBody {
            kind: "/errors#plimsoll-api-too_large".to_owned(),
            title: "Payload Too Large".to_owned(),
            status: 413,
            detail: "a body has 3 bytes at most".to_owned(),
            code: "plimsoll::api::too_large".to_owned(),
            help: "send less".to_owned(),
        };
        assert_eq!(body, expected);
    }
}
