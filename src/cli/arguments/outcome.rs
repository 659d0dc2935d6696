//! What can be typed after `plimsoll outcome`.

use clap::Args;

use super::BooksArguments;
use crate::domain::outcome::{Part, QualitySource};

/// See [`Command::Outcome`](super::Command::Outcome).
#[derive(Debug, Args)]
pub struct OutcomeArguments {
    /// The run: its id, the beginning of it, or `last`
    pub run: String,
    /// How many units it gave, such as resolved cases; 0 for none
    #[arg(long, value_name = "N")]
    pub units: Option<u64>,
    /// How good it was, from 0 to 1, such as 0.93
    #[arg(long, value_name = "SCORE")]
    pub quality: Option<String>,
    /// Whose judgement that is: human, judge or metric
    #[arg(long, value_name = "WHO", default_value = "human", value_parser = source, requires = "quality")]
    pub source: QualitySource,
    /// What it brought in, in USD, such as 12.50
    #[arg(long, value_name = "USD")]
    pub revenue: Option<String>,
    /// What is taken back, and unknown again: units, quality, revenue
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = part)]
    pub unknown: Vec<Part>,
    /// More, in words; kept in the run's log
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Who says it [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print the run's document as JSON
    #[arg(long)]
    pub json: bool,
}

fn source(text: &str) -> Result<QualitySource, String> {
    text.parse().map_err(|()| "write human, judge or metric".to_owned())
}

fn part(text: &str) -> Result<Part, String> {
    text.parse().map_err(|()| "write units, quality or revenue".to_owned())
}
