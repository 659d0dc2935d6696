//! What `replay` takes.

use std::path::PathBuf;

use clap::Args;

use super::BooksArguments;

/// See [`super::Command::Replay`].
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The run: its id, the beginning of it, or `last`
    pub run: String,
    /// Other limits of the run: `KEY=VALUE` as under `[limits]`, or a file with `[limits]`; several with commas
    #[arg(long, value_name = "KEY=VALUE|FILE", value_delimiter = ',')]
    pub limits: Vec<String>,
    /// Other prices: a file with `[[prices]]`, as in `plimsoll.toml`
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Other models: `OLD=NEW`, or one in the place of all; several with commas
    #[arg(long, value_name = "OLD=NEW|MODEL", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
