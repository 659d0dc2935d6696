//! Every error of the library as people see it: a stable code, what and where, why, and how to mend it.

use std::fmt;
use std::path::Path;

use miette::{Diagnostic, LabeledSpan, SourceCode};

use crate::api;
use crate::cli::exit::Exit;
use crate::runtime::RuntimeError;
use crate::sim::SimError;
use crate::spec::fault::{Fault, Faults};
use crate::store::StoreError;
use crate::store::lock::Holder;

/// The stable codes of the command line's own errors, listed in `docs/errors.md`.
pub mod code {
    /// Arguments that don't fit together.
    pub const USAGE: &str = "plimsoll::cli::usage";
    /// A label that is none.
    pub const LABEL: &str = "plimsoll::cli::label";
    /// An input that the agent doesn't take.
    pub const INPUT: &str = "plimsoll::cli::input";
    /// A file that can't be read or written.
    pub const FILE: &str = "plimsoll::cli::file";
    /// A file that `init` won't write over.
    pub const EXISTS: &str = "plimsoll::cli::exists";
    /// No such run, or more than one.
    pub const RUN: &str = "plimsoll::cli::run";
    /// A run that isn't in a state for this.
    pub const STATE: &str = "plimsoll::cli::state";
    /// No such model in the price book.
    pub const MODEL: &str = "plimsoll::cli::model";
    /// A scenario or an invoice of the simulated provider.
    pub const SIM: &str = "plimsoll::cli::sim";
    /// A cassette that can't be read, understood or written.
    pub const CASSETTE: &str = "plimsoll::cli::cassette";
    /// A collector that can't be reached as it is configured.
    pub const TELEMETRY: &str = "plimsoll::cli::telemetry";
    /// An alert didn't arrive.
    pub const ALERT: &str = "plimsoll::cli::alert";
    /// The result can't be written.
    pub const OUTPUT: &str = "plimsoll::cli::output";
    /// The machine refuses what the process needs.
    pub const SYSTEM: &str = "plimsoll::cli::system";
    /// The store can't be read or written.
    pub const STORE: &str = "plimsoll::store::failed";
    /// Another process has the store.
    pub const STORE_HELD: &str = "plimsoll::store::held";
    /// The store's folder is another's, or of another version.
    pub const STORE_FOREIGN: &str = "plimsoll::store::foreign";
    /// The store is damaged.
    pub const STORE_DAMAGED: &str = "plimsoll::store::damaged";
    /// A provider is configured wrongly.
    pub const PROVIDER: &str = "plimsoll::runtime::provider";
    /// A budget counts by a label that the run hasn't.
    pub const MISSING_LABEL: &str = "plimsoll::runtime::missing_label";
    /// A prompt that can't be rendered over an input.
    pub const PROMPT: &str = "plimsoll::runtime::prompt";
    /// Something in the runtime broke down.
    pub const RUNTIME: &str = "plimsoll::runtime::failed";
    /// Every code.
    pub const ALL: [&str; 22] = [
        CASSETTE,
        TELEMETRY,
        ALERT,
        USAGE,
        LABEL,
        INPUT,
        FILE,
        EXISTS,
        RUN,
        STATE,
        MODEL,
        SIM,
        OUTPUT,
        SYSTEM,
        STORE,
        STORE_HELD,
        STORE_FOREIGN,
        STORE_DAMAGED,
        PROVIDER,
        MISSING_LABEL,
        PROMPT,
        RUNTIME,
    ];
}

/// Why a command didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The project's files are wrong.
    #[error("{}", summary(.0))]
    Faults(Faults),
    /// Anything else.
    #[error(transparent)]
    Problem(#[from] Box<Problem>),
}

impl CliError {
    /// What the process answers.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Faults(_) => Exit::Usage,
            Self::Problem(problem) => problem.exit,
        }
    }

    /// Who has the store, where that is why.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Faults(_) => None,
            Self::Problem(problem) => problem.holder.as_deref(),
        }
    }

    /// The same, with another way to mend it.
    #[must_use]
    pub fn mended_by(self, help: String) -> Self {
        match self {
            Self::Faults(_) => self,
            Self::Problem(problem) => problem.help(help).into(),
        }
    }
}

/// One thing that went wrong, with how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    code: &'static str,
    message: String,
    help: String,
    exit: Exit,
    /// Who has the store, where that is the problem.
    holder: Option<Box<Holder>>,
}

impl Problem {
    /// Something that failed.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: String::new(), exit: Exit::Failed, holder: None }
    }

    /// Something that was asked for wrongly: nothing was run.
    #[must_use]
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(code, message) }
    }

    /// How to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// A file that can't be read or written.
    #[must_use]
    pub fn file(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let hints = [
            (std::io::ErrorKind::NotFound, "look at the path; it is taken from the current folder"),
            (std::io::ErrorKind::AlreadyExists, "name another file: none is written over"),
            (std::io::ErrorKind::PermissionDenied, "look at the permissions of the file and of its folder"),
        ];
        let hint = hints.into_iter().find(|(kind, _)| *kind == error.kind());
        let help = hint.map_or("look at the path and at the disk", |(_, help)| help);
        Self::usage(code::FILE, format!("can't {what} `{}`: {error}", path.display())).help(help)
    }

    /// What went wrong, from a library error whose message ends in how to mend it, after a `;`.
    #[must_use]
    pub fn told(code: &'static str, error: &dyn fmt::Display, exit: Exit) -> Self {
        let (message, help) = api::parted(&error.to_string());
        Self { code, message, help, exit, holder: None }
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (code, exit) = match &error {
            StoreError::Held { .. } => (code::STORE_HELD, Exit::Failed),
            StoreError::Foreign { .. } | StoreError::Newer { .. } | StoreError::TooOld { .. } => {
                (code::STORE_FOREIGN, Exit::Usage)
            }
            StoreError::Damaged { .. } | StoreError::Record { .. } => (code::STORE_DAMAGED, Exit::Failed),
            StoreError::Unwritable { .. }
            | StoreError::Io { .. }
            | StoreError::Engine(_)
            | StoreError::Poisoned { .. }
            | StoreError::Closed
            | StoreError::Export { .. } => (code::STORE, Exit::Failed),
        };
        let mut problem = Problem::told(code, &error, exit);
        if let StoreError::Held { holder, .. } = error {
            problem.holder = Some(holder);
        }
        problem.into()
    }
}

impl From<RuntimeError> for CliError {
    fn from(error: RuntimeError) -> Self {
        let (code, exit) = match error {
            RuntimeError::Store(error) => return error.into(),
            RuntimeError::Files { ref help, .. } => {
                return Problem::told(code::INPUT, &error, Exit::Usage).help(help.clone()).into();
            }
            RuntimeError::FileMissing { .. } => (code::STORE_DAMAGED, Exit::Failed),
            RuntimeError::Provider(_) => (code::PROVIDER, Exit::Usage),
            RuntimeError::NoSuchAgent { .. } => (code::USAGE, Exit::Usage),
            RuntimeError::NoSuchRun { .. } => (code::RUN, Exit::Usage),
            RuntimeError::DamagedLog { .. } => (code::STORE_DAMAGED, Exit::Failed),
            RuntimeError::Answer { .. }
            | RuntimeError::Outcome { .. }
            | RuntimeError::Driven { .. }
            | RuntimeError::ThreadBusy { .. }
            | RuntimeError::SubAgent { .. } => (code::STATE, Exit::Usage),
            RuntimeError::Input { .. } => (code::INPUT, Exit::Usage),
            RuntimeError::Prompt { .. } => (code::PROMPT, Exit::Usage),
            RuntimeError::Documents { .. } => (code::INPUT, Exit::Usage),
            RuntimeError::MissingLabel(_) => (code::MISSING_LABEL, Exit::Usage),
            RuntimeError::Task(_) => (code::RUNTIME, Exit::Failed),
        };
        Problem::told(code, &error, exit).into()
    }
}

impl From<SimError> for CliError {
    fn from(error: SimError) -> Self {
        Problem::told(code::SIM, &error, Exit::Usage).into()
    }
}

impl From<Faults> for CliError {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display + 'a>)
    }
}

/// A fault as a report shows it: the excerpt stands beside the message, so that the message doesn't repeat it.
#[derive(Debug)]
pub(crate) struct ShownFault<'a>(pub(crate) &'a Fault);

impl fmt::Display for ShownFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source_code() {
            Some(_) => f.write_str(&self.0.message),
            None => write!(f, "{}: {}", self.0.file(), self.0.message),
        }
    }
}

impl std::error::Error for ShownFault<'_> {}

impl Diagnostic for ShownFault<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.code()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.0.labels()
    }
}

/// `3 faults in 2 files; nothing was run`.
fn summary(faults: &Faults) -> String {
    let files: std::collections::BTreeSet<&str> = faults.all().iter().map(|fault| fault.file()).collect();
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    format!("{} in {}; nothing was run", count(faults.all().len(), "fault"), count(files.len(), "file"))
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
    fn the_way_to_mend_becomes_the_help() {
        let problem = Problem::told(code::STORE, &"the store is closed; start the process again", Exit::Failed);
        assert_eq!(
            (problem.message.as_str(), problem.help.as_str()),
            ("the store is closed", "start the process again")
        );
    }
}
