//! What `run` and `record` take.

use std::path::PathBuf;

use clap::Args;

use super::{BooksArguments, PARALLEL_MAX};
use crate::domain::policy::Priority;

/// See [`super::Command::Run`].
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The agent: a file's name in agents/, without .toml
    pub agent: String,
    /// The input: TEXT, @FILE, or - for standard input; JSON where the agent declares more than one text
    #[arg(long, short, value_name = "TEXT|@FILE|-", conflicts_with = "each")]
    pub input: Option<String>,
    /// An image (PNG, JPEG, GIF, WebP) or a PDF that goes with the input, of 4 MiB at most. May be repeated, 8 times at most
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// A label, such as tenant=acme; budgets and reports go by labels. May be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Go on with the conversation of this thread's run before; a label of the run, too
    #[arg(long, value_name = "ID")]
    pub thread: Option<String>,
    /// How much the run matters: what a policy downgrades by; a label of the run, too. `normal` by default, or what the
    /// agent says
    #[arg(long, value_name = "LEVEL", value_parser = Priority::NAMES)]
    pub priority: Option<String>,
    /// Print the run's document, with its cost, as JSON
    #[arg(long, conflicts_with = "events")]
    pub json: bool,
    /// Print one JSON line for each event
    #[arg(long)]
    pub events: bool,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Let the simulated provider play this scenario
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Let the simulated provider keep its invoice in this file
    #[arg(long, value_name = "FILE")]
    pub invoice: Option<PathBuf>,
    /// Take every answer of a model or a tool from a cassette: no call, no key, no bill
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "invoice", "dry_run"])]
    pub cassette: Option<PathBuf>,
    /// With --cassette: call tools all the same
    #[arg(long, requires = "cassette")]
    pub live_tools: bool,
    /// What `record` sets: the file, and whether it may be replaced.
    #[arg(skip)]
    pub record: Option<(PathBuf, bool)>,
    /// Show the plan, the first request and its worst case, and send nothing
    #[arg(long, conflicts_with_all = ["events", "each"])]
    pub dry_run: bool,
    /// Run the agent on every line of a file of JSON lines. The same command again goes on where it stopped
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "events")]
    pub each: Option<PathBuf>,
    /// Each line goes on with the thread that this field of it names, such as customer.id; a thread's lines run one after
    /// another
    #[arg(long, value_name = "FIELD", requires = "each")]
    pub thread_from: Option<String>,
    /// Each line goes with the files that this field of it names: a path, or a list of paths, relative to FILE.jsonl
    #[arg(long, value_name = "FIELD", requires = "each")]
    pub file_from: Option<String>,
    /// Print also what lines came to that ended in an earlier command
    #[arg(long, requires = "each")]
    pub with_ended: bool,
    /// How many of them at once
    #[arg(long, value_name = "N", default_value_t = 8, requires = "each",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(PARALLEL_MAX)))]
    pub parallel: u16,
    /// Say nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// See [`super::Command::Record`].
#[derive(Clone, Debug, Args)]
pub struct RecordArguments {
    /// The cassette
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Replace one that is there
    #[arg(long)]
    pub overwrite: bool,
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
}
