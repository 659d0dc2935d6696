//! What can be typed after `plimsoll alerts`.

use clap::{Subcommand, ValueEnum};

use super::BooksArguments;
use crate::domain::alert::AlertState;

/// See [`Command::Alerts`](super::Command::Alerts).
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List alerts, the newest first: those that wait, and the last that were delivered or given up
    List {
        /// Only those that stand so
        #[arg(long, value_name = "STATE")]
        state: Option<StateArgument>,
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a test to one of `[[alerts]]`, now, and say whether it arrived
    Test {
        /// Its name
        name: String,
    },
    /// Have an alert delivered anew, whatever became of it
    Retry {
        /// Its number
        alert: u64,
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// How an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArgument {
    /// To be delivered.
    Due,
    /// Delivered.
    Delivered,
    /// Given up.
    Dead,
}

impl From<StateArgument> for AlertState {
    fn from(state: StateArgument) -> Self {
        match state {
            StateArgument::Due => Self::Due,
            StateArgument::Delivered => Self::Delivered,
            StateArgument::Dead => Self::Dead,
        }
    }
}
