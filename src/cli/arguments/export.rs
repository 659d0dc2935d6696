//! The options of `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{BooksArguments, MadeArguments, WhichArguments};
use crate::domain::report::focus::FocusVersion;

/// See [`super::Command::Export`].
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Every run, one JSON line each, oldest first
    #[command(
        after_help = "Example:\n  plimsoll export runs --since 2026-11-01 --until 2026-12-01 --out november.jsonl"
    )]
    Runs {
        /// Of which runs, and where to.
        #[command(flatten)]
        arguments: ExportArguments,
    },
    /// Every event of every run, one JSON line each, run by run
    #[command(after_help = "Example:\n  plimsoll export events --run last")]
    Events {
        /// Only of this run
        #[arg(long, value_name = "RUN", conflicts_with_all = ["agent", "state", "label", "since", "until"])]
        run: Option<String>,
        /// Of which runs, and where to.
        #[command(flatten)]
        arguments: ExportArguments,
    },
    /// What was settled, as a CSV of FOCUS, the FinOps Open Cost and Usage Specification
    #[command(after_help = "\
Example:
  plimsoll export focus --since 2026-11-01 --until 2026-12-01 --out november.csv

One row for each attempt and meter: fresh input, cached input, output, a search. The rows of a time
add up to what `plimsoll cost` shows for it. --since and --until go by when money was reserved.")]
    Focus {
        /// The version of FOCUS: 1.3 adds who sells and who runs, 1.4 drops the provider's and publisher's names
        #[arg(long, value_name = "VERSION", default_value = FocusVersion::V1_2.name(),
              value_parser = FocusVersion::ALL.map(FocusVersion::name))]
        spec: String,
        /// One row for each day (UTC), account, model, meter, price and set of tags, instead of one for each attempt
        #[arg(long)]
        daily: bool,
        /// Of which runs, and where to.
        #[command(flatten)]
        arguments: ExportArguments,
    },
}

/// What every export has.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Of which runs.
    #[command(flatten)]
    pub which: WhichArguments,
    /// Of which time.
    #[command(flatten)]
    pub made: MadeArguments,
    /// Write to this file, which must not exist yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
}
