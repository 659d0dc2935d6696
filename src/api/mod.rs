//! The API: what another process, on this machine or over the network, may ask of the process that holds a store.
//!
//! [`Books`] answers from a store, [`Service`] from a runtime that drives runs in it, [`Intake`] takes new ones in, [`router()`]
//! speaks HTTP, `socket` serves it on a private Unix socket in the store's folder, `tcp` on an address, and `client` asks there. Whoever opens the store
//! itself asks the same [`Books`], so that both ways show the same.
//!
//! Invariants: only the store's holder serves its socket, and only to the user who owns the store; every request, answer,
//! connection and wait is bounded; an error has a stable code, a message and a way to mend it; nobody who asks holds up a
//! run, nor waits for a commit without end.
//! Who asks over the network is judged by key (`access`). Deliberately absent: rendering (the pages and the command line do it).

mod access;
mod act;
mod agents;
mod alerts;
mod books;
pub mod client;
mod days;
mod door;
mod erase;
mod error;
mod events;
mod export;
mod guest;
mod intake;
mod keys;
pub mod openapi;
mod orders;
mod outcome;
mod parameters;
mod place;
mod query;
mod room;
mod router;
mod routes;
mod service;
#[cfg(unix)]
pub mod socket;
pub mod tcp;
pub mod tls;
mod types;

pub use access::{Caller, Gatekeeper};
pub(crate) use access::{hash, random};
pub use act::ActRequest;
pub use agents::{AgentRow, AgentTable, Binding, FaultRow, WorstCallRow};
pub use alerts::{ALERTS_SHOWN_MAX, AlertRow, AlertTable};
pub use books::Books;
pub use days::{BudgetDay, BudgetDays};
pub use erase::{EraseRequest, ErasedDocument};
pub(crate) use error::parted;
pub use error::{ApiError, ErrorBody, code};
pub use export::{ExportPage, ExportQuery, Exported};
pub use intake::{Intake, IntakeOptions, KEY_CHARS_MAX, Taken};
pub use keys::{KeyPage, KeyRequest, KeyRow, NewKey};
pub use orders::{ExceptionRequest, ExceptionRow, ExceptionTable, LiftRequest, SwitchRequest, SwitchRow, SwitchTable};
pub use outcome::OutcomeRequest;
pub use place::{PlaceError, SOCKET_FILE, SOCKET_PATH_BYTES_MAX};
pub(crate) use query::pairs;
pub use query::{AuditQuery, CostQuery, RunQuery};
pub(crate) use room::Seat;
pub use router::{BODY_BYTES_MAX, REQUEST_TIME_MAX, RUN_BYTES_MAX, router};
pub use service::Service;
pub use types::{
    AnswerRequest, CancelRequest, FileRequest, Health, REASON_CHARS_MAX, ResumeRequest, RunPage, RunRequest, RunRow,
    WAIT_TIME_MAX,
};

/// The version of paths and types. Two programs of different versions don't guess at each other's words.
pub const API_VERSION: u32 = 1;
/// The header that carries [`API_VERSION`], in requests and answers.
pub const VERSION_HEADER: &str = "plimsoll-api";
/// The header of answers that names the program's own version.
pub const PROGRAM_HEADER: &str = "plimsoll-version";
/// The header of an export's page that says what `after` must be for the next one.
pub const NEXT_HEADER: &str = "plimsoll-next";
/// The program's own version.
pub const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");
