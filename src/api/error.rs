//! Why a request isn't answered: a stable code, what is wrong, how to mend it, and the HTTP status that goes with it.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, PROGRAM_VERSION};
use crate::domain::event::RunState;
use crate::domain::run::AnswerFault;
use crate::ids::RunId;
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
    /// The store can't be read or written.
    pub const STORE: &str = "plimsoll::store::failed";
    /// The store is damaged.
    pub const STORE_DAMAGED: &str = "plimsoll::store::damaged";
    /// Every code that only the API has.
    pub const ALL: [&str; 11] =
        [NO_SUCH_RUN, SEVERAL_RUNS, STATE, BAD_REQUEST, NO_SUCH_PATH, METHOD, TOO_LARGE, SLOW, VERSION, FAILED, SILENT];
}

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
    /// An answer isn't taken.
    #[error("run `{run}`: {fault}")]
    Answer {
        /// The run.
        run: RunId,
        /// Why.
        fault: AnswerFault,
    },
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
    #[error("the store didn't answer within {0}: its disk is slow, or much is asked at once; ask again")]
    Slow(Millis),
    /// Another version.
    #[error(
        "this is plimsoll {PROGRAM_VERSION} with API {API_VERSION}, and API {0} was asked for; use the same version on both sides"
    )]
    Version(String),
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
            RuntimeError::SubAgent { run, root } => Self::SubAgent { run, root },
            other @ (RuntimeError::Provider(_)
            | RuntimeError::NoSuchAgent { .. }
            | RuntimeError::Driven { .. }
            | RuntimeError::Input { .. }
            | RuntimeError::Prompt { .. }
            | RuntimeError::Documents { .. }
            | RuntimeError::Files { .. }
            | RuntimeError::FileMissing { .. }
            | RuntimeError::ThreadBusy { .. }
            | RuntimeError::MissingLabel(_)
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
            Self::Ended { .. } | Self::Answer { .. } | Self::SubAgent { .. } => code::STATE,
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

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchRun(_) | Self::NoSuchPath(_) => StatusCode::NOT_FOUND,
            Self::SeveralRuns { .. } | Self::BadRequest(_) | Self::Version(_) => StatusCode::BAD_REQUEST,
            Self::Answer { fault, .. } if fault.is_misspelt() => StatusCode::BAD_REQUEST,
            Self::Ended { .. } | Self::Answer { .. } | Self::SubAgent { .. } => StatusCode::CONFLICT,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::DamagedLog(_) | Self::Store(_) | Self::Runtime(_) | Self::Task(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// An error as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty where nobody knows.
    pub help: String,
}

impl From<&ApiError> for ErrorBody {
    fn from(error: &ApiError) -> Self {
        let (message, help) = parted(&error.to_string());
        Self { code: error.code().to_owned(), message, help }
    }
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
        let expected = ["plimsoll::api::too_large", "a body has 3 bytes at most", "send less"];
        assert_eq!([body.code, body.message, body.help], expected.map(str::to_owned));
    }
}
