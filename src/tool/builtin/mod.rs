//! Tools that run in the process: they read, and change nothing.
//!
//! Invariants: no network, no writing; files only under the folders that the tool file names; each call looks at its
//! time limit and the cancel signal as it goes.
//! Deliberately absent: their schemas, which are [`crate::domain::builtin`]'s.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Given, Stop, Stopped, ToolContext, deadline};
use crate::clock::Clock;
use crate::domain::plan::{Builtin, ToolKind, ToolPlan};
use crate::domain::template;
use crate::units::{Millis, Timestamp};

pub mod calculate;
mod folders;
mod now;
mod read_file;
mod search_files;

/// Answers on a thread of its own where files are read, else at once.
pub(super) async fn call(tool: &ToolPlan, arguments: &Value, context: &ToolContext, stop: Stop) -> Given {
    let until = Until::new(context, stop.time_limit);
    if !reads_files(tool) {
        return answer(tool, arguments, &until);
    }
    let (tool, arguments) = (tool.clone(), arguments.clone());
    let work = tokio::task::spawn_blocking(move || answer(&tool, &arguments, &until));
    tokio::select! {
        biased;
        stopped = stop.wait() => Given::error(format!("the call {}", stopped.words())),
        given = work => given.unwrap_or_else(|_| Given::error("the tool failed by a fault of its own")),
    }
}

fn reads_files(tool: &ToolPlan) -> bool {
    match &tool.kind {
        ToolKind::Builtin(Builtin::SearchFiles { .. } | Builtin::ReadFile { .. }) => true,
        ToolKind::Builtin(Builtin::Now | Builtin::Calculate | Builtin::Template { .. } | Builtin::AskUser)
        | ToolKind::Command { .. }
        | ToolKind::Http { .. }
        | ToolKind::Agent { .. } => false,
    }
}

/// Answers on this thread.
pub(super) fn answer(tool: &ToolPlan, arguments: &Value, until: &Until) -> Given {
    let ToolKind::Builtin(builtin) = &tool.kind else {
        return Given::never_began(format!("`{}` doesn't run in the process", tool.name));
    };
    let answer = match builtin {
        Builtin::SearchFiles { folders } => search_files::answer(folders, arguments, until),
        Builtin::ReadFile { folders } => read_file::answer(folders, arguments, super::output::limit(tool), until),
        Builtin::Now => now::answer(arguments, until.clock.now()),
        Builtin::Calculate => text(arguments, "expression")
            .and_then(|expression| calculate::calculate(expression).map_err(|error| error.to_string())),
        Builtin::Template { template } => {
            template::render(template, &json!({ "args": arguments })).map_err(|error| error.to_string())
        }
        Builtin::AskUser => return Given::never_began("a question is put to a person, not called".to_owned()),
    };
    answer.map_or_else(Given::error, Given::result)
}

/// When work has to end.
#[derive(Clone, Debug)]
pub(super) struct Until {
    clock: Clock,
    deadline: Timestamp,
    time_limit: Millis,
    cancel: watch::Receiver<bool>,
}

impl Until {
    pub(super) fn new(context: &ToolContext, time_limit: Millis) -> Self {
        let deadline = deadline(&context.clock, time_limit);
        Self { clock: context.clock.clone(), deadline, time_limit, cancel: context.cancel.clone() }
    }

    /// Says why, if the work has to end now.
    fn check(&self) -> Result<(), String> {
        let stopped = if *self.cancel.borrow() {
            Stopped::Cancelled
        } else if self.clock.now() >= self.deadline {
            Stopped::TimedOut(self.time_limit)
        } else {
            return Ok(());
        };
        Err(format!("the call {}", stopped.words()))
    }
}

/// A text argument that must be there. A tool file may have loosened the schema.
fn text<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, String> {
    arguments[name].as_str().ok_or_else(|| format!("the argument `{name}` must be a text"))
}

/// A number argument that may be left out, held between bounds.
fn number(arguments: &Value, name: &str, default: u64, most: u64) -> Result<u64, String> {
    let given = &arguments[name];
    if given.is_null() {
        return Ok(default.min(most));
    }
    let number = given.as_u64().filter(|number| *number >= 1).map(|number| number.min(most));
    number.ok_or_else(|| format!("the argument `{name}` must be a whole number from 1"))
}

#[cfg(test)]
#[path = "builtin_tests.rs"]
mod tests;
