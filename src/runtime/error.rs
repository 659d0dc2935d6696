//! What can go wrong before or beside a run. What goes wrong inside one is in its log.

use crate::domain::budget::MissingLabel;
use crate::domain::outcome::OutcomeFault;
use crate::domain::run::AnswerFault;
use crate::domain::template::TemplateError;
use crate::ids::{AgentName, RunId};
use crate::provider::ProviderError;
use crate::store::StoreError;

/// Why the runtime can't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A provider's configuration.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// No such agent.
    #[error("there is no agent `{agent}`")]
    NoSuchAgent {
        /// What was asked for.
        agent: AgentName,
        /// What there is.
        known: Vec<AgentName>,
    },
    /// No such run.
    #[error("there is no run `{run}` in this store")]
    NoSuchRun {
        /// What was asked for.
        run: RunId,
    },
    /// A sub-agent's run, which does what its root does.
    #[error("run `{run}` is a sub-agent's: it goes on and ends with its root, `{root}`")]
    SubAgent {
        /// What was asked for.
        run: RunId,
        /// Its root.
        root: RunId,
    },
    /// A log without its first event or its plan.
    #[error("the log of run `{run}` is damaged: it has no beginning, or its plan is missing")]
    DamagedLog {
        /// The run.
        run: RunId,
    },
    /// Somebody drives it already.
    #[error("run `{run}` is being driven by this process already")]
    Driven {
        /// The run.
        run: RunId,
    },
    /// An outcome isn't taken.
    #[error("run `{run}`: {fault}")]
    Outcome {
        /// The run.
        run: RunId,
        /// Why.
        fault: OutcomeFault,
    },
    /// An answer isn't taken.
    #[error("run `{run}`: {fault}")]
    Answer {
        /// The run.
        run: RunId,
        /// Why.
        fault: AnswerFault,
    },
    /// The input doesn't fit the agent.
    #[error("the input of agent `{agent}` doesn't fit: {fault}")]
    Input {
        /// The agent.
        agent: AgentName,
        /// The violations.
        fault: String,
    },
    /// The prompt can't be rendered.
    #[error("the prompt of agent `{agent}` can't be rendered over this input: {fault}")]
    Prompt {
        /// The agent.
        agent: AgentName,
        /// Why.
        fault: TemplateError,
    },
    /// The documents can't be had.
    #[error("the documents of agent `{agent}` can't be had: {fault}")]
    Documents {
        /// The agent.
        agent: AgentName,
        /// Why.
        fault: String,
    },
    /// Files that can't go with the input.
    #[error("the files can't go to agent `{agent}`: {fault}")]
    Files {
        /// The agent.
        agent: AgentName,
        /// Why.
        fault: String,
        /// How to mend it.
        help: String,
    },
    /// A file that was to be kept with a run.
    #[error("file `{file}` of run `{run}` isn't in this store any more, or is another")]
    FileMissing {
        /// The run.
        run: RunId,
        /// The file.
        file: String,
    },
    /// A thread's run is open.
    #[error("thread `{thread}` has an open run, `{run}`; a thread goes on when that has ended")]
    ThreadBusy {
        /// The thread.
        thread: String,
        /// The open run.
        run: RunId,
    },
    /// A budget counts by a label that the run hasn't.
    #[error(transparent)]
    MissingLabel(#[from] MissingLabel),
    /// A task of the runtime broke down.
    #[error("a task of the runtime broke down: {0}")]
    Task(String),
}
