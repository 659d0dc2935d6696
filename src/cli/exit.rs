//! What the process answers to its caller. The numbers are part of the interface and don't change.

use crate::domain::event::RunState;

/// The run finished, or the command did what it was asked.
pub const FINISHED: u8 = 0;
/// The run, or the command, failed.
pub const FAILED: u8 = 1;
/// Bad usage or configuration: nothing was run.
pub const USAGE: u8 = 2;
/// The run was stopped by a limit.
pub const STOPPED: u8 = 3;
/// The run waits: for a person, for budget, or in the queue.
pub const WAITING: u8 = 4;
/// The run was cancelled.
pub const CANCELLED: u8 = 5;
/// The run was interrupted, and can be resumed.
pub const INTERRUPTED: u8 = 130;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// See [`FINISHED`].
    Finished,
    /// See [`WAITING`].
    Waiting,
    /// See [`STOPPED`].
    Stopped,
    /// See [`CANCELLED`].
    Cancelled,
    /// See [`FAILED`].
    Failed,
    /// See [`USAGE`].
    Usage,
    /// See [`INTERRUPTED`].
    Interrupted,
}

impl Exit {
    /// The number that the process answers.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Finished => FINISHED,
            Self::Failed => FAILED,
            Self::Usage => USAGE,
            Self::Stopped => STOPPED,
            Self::Waiting => WAITING,
            Self::Cancelled => CANCELLED,
            Self::Interrupted => INTERRUPTED,
        }
    }

    /// What a command answers that drove a run to this state.
    #[must_use]
    pub const fn of(state: RunState) -> Self {
        match state {
            RunState::Finished => Self::Finished,
            RunState::Stopped => Self::Stopped,
            RunState::Failed => Self::Failed,
            RunState::Cancelled => Self::Cancelled,
            RunState::Queued | RunState::AwaitingBudget | RunState::AwaitingApproval | RunState::AwaitingInput => {
                Self::Waiting
            }
            RunState::Running | RunState::Interrupted => Self::Interrupted,
        }
    }

    /// The worse of two, for commands that drive many runs: finished, waiting, stopped, cancelled, failed, bad usage,
    /// interrupted, from good to bad.
    #[must_use]
    pub const fn worse(self, other: Self) -> Self {
        if other.badness() > self.badness() { other } else { self }
    }

    const fn badness(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Waiting => 1,
            Self::Stopped => 2,
            Self::Cancelled => 3,
            Self::Failed => 4,
            Self::Usage => 5,
            Self::Interrupted => 6,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_numbers_stand() {
        let states = [
            (RunState::Finished, 0),
            (RunState::Failed, 1),
            (RunState::Stopped, 3),
            (RunState::AwaitingApproval, 4),
            (RunState::AwaitingBudget, 4),
            (RunState::Queued, 4),
            (RunState::Cancelled, 5),
            (RunState::Interrupted, 130),
        ];
        for (state, code) in states {
            assert_eq!(Exit::of(state).code(), code, "{state}");
        }
        assert_eq!(Exit::Usage.code(), 2);
    }

    #[test]
    fn many_runs_answer_with_the_worst() {
        assert_eq!(Exit::Finished.worse(Exit::Stopped), Exit::Stopped);
        assert_eq!(Exit::Failed.worse(Exit::Cancelled), Exit::Failed);
        assert_eq!(Exit::Interrupted.worse(Exit::Failed), Exit::Interrupted);
    }
}
