//! What can be typed after `plimsoll erase`.

use clap::Args;

use super::BooksArguments;

/// See [`Command::Erase`](super::Command::Erase).
#[derive(Debug, Args)]
pub struct EraseArguments {
    /// Whose runs: NAME=VALUE, such as `tenant=acme`; repeatable, and all must fit
    #[arg(long, value_name = "NAME=VALUE", required = true)]
    pub label: Vec<String>,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who wants it [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Don't ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Say how much there is, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Whose books
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print what was removed as JSON
    #[arg(long)]
    pub json: bool,
}
