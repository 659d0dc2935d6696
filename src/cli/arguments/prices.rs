//! What can be typed after `plimsoll prices`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::BooksArguments;

/// See [`Command::Prices`](super::Command::Prices).
#[derive(Debug, Subcommand)]
pub enum PricesCommand {
    /// List the price of every model that holds now
    List {
        /// Only models whose name contains this
        part: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
    },
    /// Show every price of one model: tiers, long contexts, source and date, and whether it is frozen
    Show {
        /// The model, as provider/model, or the id of one of its prices
        model: String,
        /// Only the price that holds then: a length of time back, such as 30d, or a date, such as 2026-11-01
        #[arg(long, value_name = "DATE")]
        at: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
    },
    /// Show what differs: from the built-in prices, between two dates, or from a list of prices
    #[command(
        after_help = "Examples:\n  plimsoll prices diff\n  plimsoll prices diff --since 2026-11-01\n  plimsoll prices diff model_prices_and_context_window.json"
    )]
    Diff(DiffArguments),
    /// Take in the prices of LiteLLM's list; they stand over the built-in ones and under `[[prices]]`
    #[command(
        after_help = "Example:\n  plimsoll prices import model_prices_and_context_window.json --dry-run\n\nWhat is taken in is written to prices.toml, beside plimsoll.toml. Nothing is fetched."
    )]
    Import(ImportArguments),
    /// Show how tight the bounds of calls were, by model: 1.25x is a reservation of a quarter more than the bill
    Bounds(BoundsArguments),
    /// List the prices that a bill above its reservation froze: calls at such a price are refused
    Frozen(FrozenArguments),
    /// Let calls use a frozen price again; who did it and why is kept
    #[command(
        after_help = "Example:\n  plimsoll prices unfreeze openai/gpt-5-mini --reason 'the provider mended its count'"
    )]
    Unfreeze(UnfreezeArguments),
}

/// See [`PricesCommand::Diff`].
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// LiteLLM's list of prices, in JSON: compare the project's prices with it
    pub file: Option<PathBuf>,
    /// Compare with the prices of then: a length of time back, such as 30d, or a date, such as 2026-11-01
    #[arg(long, value_name = "DATE", conflicts_with = "file")]
    pub since: Option<String>,
    /// The prices that hold then [default: now]
    #[arg(long, value_name = "DATE")]
    pub at: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`PricesCommand::Import`].
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// LiteLLM's list of prices, in JSON
    pub file: PathBuf,
    /// Only models of this provider; may be given several times [default: the configured ones, else those of the built-in
    /// prices]
    #[arg(long, value_name = "NAME")]
    pub provider: Vec<String>,
    /// The day on which the list was fetched [default: today]
    #[arg(long, value_name = "DATE")]
    pub retrieved: Option<String>,
    /// Show what would change, and write nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`PricesCommand::Bounds`].
#[derive(Debug, Args)]
pub struct BoundsArguments {
    /// Only models whose name contains this
    pub part: Option<String>,
    /// From then on, in whole UTC days: a length of time back, such as 30d, or a date, such as 2026-11-01
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    pub since: String,
    /// Until then, that day included
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
}

/// See [`PricesCommand::Frozen`].
#[derive(Debug, Args)]
pub struct FrozenArguments {
    /// Show when prices were frozen and unfrozen, by whom and why, too
    #[arg(long)]
    pub history: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
}

/// See [`PricesCommand::Unfreeze`].
#[derive(Debug, Args)]
pub struct UnfreezeArguments {
    /// The model, as provider/model, or the id of one price, as `plimsoll prices frozen` shows it
    #[arg(value_name = "MODEL")]
    pub row: String,
    /// Why it is right to go on
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who says so [default: the user's name]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
}
