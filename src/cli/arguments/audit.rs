//! What can be typed after `plimsoll audit`.

use clap::Args;

use super::BooksArguments;

/// See [`Command::Audit`](super::Command::Audit).
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// From then on: a length of time back, such as 30d, or a date, such as 2026-11-01
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Of a kind, such as `key_made` or `price_frozen`. May be repeated, or separated by commas
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// By somebody; `ledger` for what the ledger did by its own rules
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
