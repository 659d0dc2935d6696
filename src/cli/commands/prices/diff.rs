//! `prices diff`: what differs from the built-in prices, between two dates, or from a list of prices.

use std::path::Path;

use serde::Serialize;

use super::book;
use super::import::{Listed, listed, wanted};
use crate::cli::arguments::DiffArguments;
use crate::cli::commands::Context;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, when};
use crate::cli::render::table::{Column, Table};
use crate::domain::pricing::{Change, Kind, PriceBook, PriceRow, Term, changes};
use crate::units::Timestamp;

/// Terms that are shown of a price that only one side has.
const WHOLE: [&str; 2] = ["input", "output"];

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    old: &'a str,
    new: &'a str,
    changes: &'a [Change],
}

pub(super) fn diff(context: &Context<'_>, arguments: &DiffArguments) -> Result<Exit, CliError> {
    let (now, ours) = (clock().now(), book(context)?);
    let at = arguments.at.as_deref().map_or(Ok(now), |text| when("--at", text, now))?;
    let since = arguments.since.as_deref().map(|text| when("--since", text, now)).transpose()?;
    let (old, new, found) = match (&arguments.file, since) {
        (Some(file), _) => against_list(context, &ours, file, at)?,
        (None, Some(since)) => {
            let found = changes(holding(&ours, since), holding(&ours, at));
            (format!("the prices of {since}"), format!("those of {at}"), found)
        }
        (None, None) => {
            let found = changes(holding(PriceBook::builtin(), at), holding(&ours, at));
            ("the built-in prices".to_owned(), "the project's".to_owned(), found)
        }
    };
    if arguments.json {
        context.output.json(&Document { old: &old, new: &new, changes: &found })?;
    } else if found.is_empty() {
        context.output.talk(&format!("no difference between {old} and {new}"));
    } else {
        context.output.talk(&format!("from {old} to {new}"));
        context.output.data(&table(&found).render(context.output.data_width()))?;
    }
    Ok(Exit::Finished)
}

/// A list says nothing of models that it doesn't have.
fn against_list(
    context: &Context<'_>,
    ours: &PriceBook,
    file: &Path,
    at: Timestamp,
) -> Result<(String, String, Vec<Change>), CliError> {
    let project = configuration(context.project, true).ok();
    let Listed { map, .. } = listed(file, &wanted(project.as_ref(), &[]), "today")?;
    let has = |row: &&PriceRow| map.rows.iter().any(|listed| listed.model == row.model);
    let found = changes(holding(ours, at).filter(has), &map.rows);
    Ok(("the prices in force".to_owned(), format!("those of {}", file.display()), found))
}

pub(super) fn holding(book: &PriceBook, at: Timestamp) -> impl Iterator<Item = &PriceRow> {
    book.rows().filter(move |row| row.is_valid_at(at))
}

/// One line for each term that differs; of a model that only one side has, what tells it best.
pub(super) fn table(changes: &[Change]) -> Table {
    let columns = [Column::id("MODEL"), Column::text("WHAT"), Column::number("WAS"), Column::number("IS")];
    let mut table = Table::new(columns);
    for change in changes {
        let mark = match change.kind {
            Kind::Added => " (new)",
            Kind::Removed => " (gone)",
            Kind::Changed => "",
        };
        // Of a price that only one side has, the rest is `prices show`'s.
        let told = |term: &&Term| change.kind == Kind::Changed || WHOLE.contains(&term.what.as_str());
        for (place, term) in change.terms.iter().filter(told).enumerate() {
            let model = if place == 0 { format!("{}{mark}", change.model) } else { String::new() };
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            table.push([model, term.what.clone(), shown(&term.old), shown(&term.new)]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_between_dates_are_shown_by_term() {
        let book = PriceBook::builtin();
        let (then, now) = (Timestamp(1_790_000_000_000), Timestamp(1_795_392_000_000));
        let found = changes(holding(book, then), holding(book, now));
        let text = table(&found).render(None);
        assert!(text.contains("anthropic/claude-sonnet-5-5  cache_read"), "{text}");
        assert!(text.lines().any(|line| line.contains("openai/gpt-5.6-sol")), "{text}");
    }
}
