//! Tools: one file for each kind. One call, never a retry, and only for a [`Permit`].
//!
//! Invariants: a call takes a permit by value and ends within its time limit, or on the cancel signal, with nothing
//! left running; what a tool gives is at most `output_bytes` long; a failing tool is an answer for the model, never an
//! error of ours. A tool sees of our environment only the variables that its file lists, and their values are taken
//! out of what it says.
//! Deliberately absent: retries, limits and money (they are decided before), confinement of programs beyond their
//! process group and environment, and `mcp`.

use tokio::sync::watch;

use crate::clock::Clock;
use crate::domain::plan::{ToolKind, ToolPlan};
use crate::gate::Permit;
use crate::ids::ReservationId;
use crate::units::{Millis, Timestamp};

pub mod address;
pub mod arguments;
pub mod builtin;
pub mod command;
pub mod http;
mod output;
pub mod variables;

pub use arguments::check_arguments;

use builtin::Until;
use output::shortened;
use variables::Variables;

/// What a tool call came to. A failing tool never kills a run: the model is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOutcome {
    /// The reservation of the attempt.
    pub reservation: ReservationId,
    /// What the model is told.
    pub content: String,
    /// True where it tells of an error.
    pub is_error: bool,
    /// Bytes that were cut off to keep `output_bytes`.
    pub cut_bytes: u64,
    /// Time from start to end.
    pub latency: Millis,
    /// True where the call was never begun (the program doesn't exist, the host isn't allowed): nothing is billed.
    pub never_began: bool,
}

/// What tool calls share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ToolContext {
    /// Reads time, for latencies and for `now`.
    pub clock: Clock,
    /// Turns true when the call is to end at once. A sender that is gone never cancels.
    pub cancel: watch::Receiver<bool>,
    /// Clients for `http` tools.
    pub web: http::Web,
    /// The environment variables that tool files may name.
    pub variables: Variables,
}

impl ToolContext {
    /// A context with our own environment.
    #[must_use]
    pub fn new(clock: Clock, cancel: watch::Receiver<bool>) -> Self {
        Self { clock, cancel, web: http::Web::default(), variables: Variables::system() }
    }

    /// The same context with another cancel signal: one for each run.
    #[must_use]
    pub fn with_cancel(&self, cancel: watch::Receiver<bool>) -> Self {
        Self { cancel, ..self.clone() }
    }
}

/// Makes one tool call. `arguments` have passed [`check_arguments`].
pub async fn call(
    permit: Permit,
    tool: &ToolPlan,
    arguments: &serde_json::Value,
    context: &ToolContext,
) -> ToolOutcome {
    let began = context.clock.now();
    let time_limit = permit.time_limit().min(tool.timeout);
    let reservation = permit.spend();
    let stop = Stop { time_limit, cancel: context.cancel.clone() };
    let given = match &tool.kind {
        ToolKind::Command { .. } => Box::pin(command::call(tool, arguments, context, stop)).await,
        ToolKind::Http { .. } => Box::pin(http::call(tool, arguments, context, stop)).await,
        // A sub-agent's run is no call of a tool: `builtin` says so, should one come here.
        ToolKind::Builtin(_) | ToolKind::Agent { .. } => builtin::call(tool, arguments, context, stop).await,
    };
    given.outcome(reservation, tool, context.clock.now().since(began))
}

/// Makes one call of a built-in tool on this thread; meant for those of which [`ToolPlan::is_instant`] is true.
/// Another kind of tool isn't begun.
#[must_use]
pub fn call_instant(
    permit: Permit,
    tool: &ToolPlan,
    arguments: &serde_json::Value,
    context: &ToolContext,
) -> ToolOutcome {
    let began = context.clock.now();
    let until = Until::new(context, permit.time_limit().min(tool.timeout));
    let reservation = permit.spend();
    let given = builtin::answer(tool, arguments, &until);
    given.outcome(reservation, tool, context.clock.now().since(began))
}

/// What a kind of tool gave, before it is bounded and timed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    content: String,
    is_error: bool,
    cut_bytes: u64,
    never_began: bool,
}

impl Given {
    fn result(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: false, cut_bytes: 0, never_began: false }
    }

    fn error(content: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::result(content) }
    }

    fn never_began(content: impl Into<String>) -> Self {
        Self { never_began: true, ..Self::error(content) }
    }

    fn outcome(self, reservation: ReservationId, tool: &ToolPlan, latency: Millis) -> ToolOutcome {
        let (content, cut) = shortened(self.content, output::limit(tool));
        ToolOutcome {
            reservation,
            content,
            is_error: self.is_error,
            cut_bytes: self.cut_bytes.saturating_add(cut),
            latency,
            never_began: self.never_began,
        }
    }
}

/// What ends a call before its own end.
struct Stop {
    time_limit: Millis,
    cancel: watch::Receiver<bool>,
}

/// Why a call ended before its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    TimedOut(Millis),
    Cancelled,
}

impl Stop {
    /// Waits for the time limit or the cancel signal.
    async fn wait(mut self) -> Stopped {
        let cancelled = async {
            if self.cancel.wait_for(|cancel| *cancel).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = cancelled => Stopped::Cancelled,
            () = tokio::time::sleep(self.time_limit.duration()) => Stopped::TimedOut(self.time_limit),
        }
    }
}

impl Stopped {
    /// In words, after the name of what was stopped.
    fn words(self) -> String {
        match self {
            Self::TimedOut(limit) => format!("took longer than {limit} and was stopped"),
            Self::Cancelled => "was stopped: the run was cancelled".to_owned(),
        }
    }
}

/// The point in time `limit` from now.
fn deadline(clock: &Clock, limit: Millis) -> Timestamp {
    clock.now().after(limit)
}

#[cfg(test)]
mod fixture;
