//! `prices list|show|diff|import|bounds|frozen|unfreeze`.

mod bounds;
mod diff;
mod frozen;
mod import;
mod show;

use super::Context;
use crate::cli::aged::age_warnings;
use crate::cli::arguments::{BooksArguments, PricesCommand};
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, price_book};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::pricing::{Ages, PriceBook, PriceRow};
use crate::spec::project::Project;
use crate::units::TokenPrice;

pub(super) use frozen::FrozenRow;

/// What to do about a frozen price.
pub(super) const MEND: &str =
    "find out why the bill was above its bound, then `plimsoll prices unfreeze MODEL --reason TEXT`";

pub(super) fn prices(context: &Context<'_>, command: &PricesCommand) -> Result<Exit, CliError> {
    match command {
        PricesCommand::List { part, json, books } => list(context, part.as_deref(), *json, *books),
        PricesCommand::Show { model, at, json, books } => show::show(context, model, at.as_deref(), *json, *books),
        PricesCommand::Diff(arguments) => diff::diff(context, arguments),
        PricesCommand::Import(arguments) => import::import(context, arguments),
        PricesCommand::Bounds(arguments) => bounds::bounds(context, arguments),
        PricesCommand::Frozen(arguments) => frozen::frozen(context, arguments),
        PricesCommand::Unfreeze(arguments) => frozen::unfreeze(context, arguments),
    }
}

/// The project's price book, or the built-in one where there is no project.
fn book(context: &Context<'_>) -> Result<PriceBook, CliError> {
    match configuration(context.project, true) {
        Ok(project) => price_book(&project),
        Err(error) if context.project.is_some() => Err(error),
        Err(_) => Ok(PriceBook::builtin().clone()),
    }
}

/// How old prices may be.
fn ages(context: &Context<'_>) -> Ages {
    configuration(context.project, true).map_or(Ages::DEFAULT, |project| project.ages)
}

/// The frozen rows; `None` where they can't be told, which is said. Prices are shown all the same.
fn frozen_rows(context: &Context<'_>, books: BooksArguments) -> Result<Option<Vec<FrozenRow>>, CliError> {
    match configuration(context.project, books.sim) {
        Ok(project) => Ok(frozen_or_told(context, &project, books.sim)),
        Err(error) if context.project.is_some() => Err(error),
        Err(_) => Ok(Some(Vec::new())),
    }
}

/// The frozen rows of a project's books; `None` where they can't be told, which is said.
pub(super) fn frozen_or_told(context: &Context<'_>, project: &Project, sim: bool) -> Option<Vec<FrozenRow>> {
    let open = || -> Result<Vec<FrozenRow>, CliError> {
        let store = books::open(project, sim)?;
        let freezes = store.map_or_else(|| Ok(Vec::new()), |store| store.freezes())?;
        Ok(freezes.into_iter().map(FrozenRow::of).collect())
    };
    open().inspect_err(|error| context.output.talk(&format!("which prices are frozen can't be told now: {error}"))).ok()
}

fn list(context: &Context<'_>, part: Option<&str>, json: bool, books: BooksArguments) -> Result<Exit, CliError> {
    let (book, now) = (book(context)?, clock().now());
    let part = part.unwrap_or_default().to_lowercase();
    let valid = |row: &&PriceRow| row.is_valid_at(now) && row.model.as_str().to_lowercase().contains(&part);
    let rows: Vec<&PriceRow> = book.rows().filter(valid).collect();
    let frozen = frozen_rows(context, books)?;
    if json {
        context.output.json(&document(&rows, frozen))?;
    } else if rows.is_empty() {
        context.output.talk("no such model; `plimsoll prices list` lists all, `[[prices]]` in plimsoll.toml adds one");
    } else {
        let frozen: Vec<FrozenRow> = frozen.unwrap_or_default();
        let frozen: Vec<&FrozenRow> = rows.iter().filter_map(|row| frozen_row(row, &frozen)).collect();
        context.output.data(&table(&rows, &frozen).render(context.output.data_width()))?;
        context.output.talk("USD per 1,000,000 tokens; `plimsoll prices show MODEL` has tiers, sources and dates");
        if !frozen.is_empty() {
            context.output.talk(&format!("a frozen price is refused; {MEND}"));
        }
        age_warnings(&rows, &ages(context), now).iter().for_each(|warning| context.output.talk(warning));
    }
    Ok(Exit::Finished)
}

fn frozen_row<'a>(row: &PriceRow, frozen: &'a [FrozenRow]) -> Option<&'a FrozenRow> {
    frozen.iter().find(|frozen| frozen.price == row.id)
}

/// Rows, and those of them that are frozen: null where that can't be told.
fn document(rows: &[&PriceRow], frozen: Option<Vec<FrozenRow>>) -> serde_json::Value {
    let shown = |frozen: &FrozenRow| rows.iter().any(|row| row.id == frozen.price);
    let frozen = frozen.map(|frozen| frozen.into_iter().filter(shown).collect::<Vec<_>>());
    serde_json::json!({ "prices": rows, "frozen": frozen })
}

/// Columns that say nothing about any row are left out.
fn table(rows: &[&PriceRow], frozen: &[&FrozenRow]) -> Table {
    let fees = rows.iter().any(|row| !row.per_call.is_zero());
    let columns = [
        Some(Column::id("MODEL")),
        Some(Column::number("INPUT")),
        Some(Column::number("CACHED")),
        Some(Column::number("OUTPUT")),
        fees.then(|| Column::number("A CALL")),
        Some(Column::number("WINDOW")),
        (!frozen.is_empty()).then(|| Column::text("FROZEN SINCE")),
        Some(Column::text("SOURCE")),
    ];
    let mut table = Table::new(columns.into_iter().flatten());
    for row in rows {
        let rates = &row.price.rates;
        let since = || {
            let freeze = frozen.iter().find(|frozen| frozen.price == row.id);
            freeze.map_or_else(
                || "-".to_owned(),
                |frozen| frozen.freeze.since.map_or("long ago".to_owned(), |at| at.to_string()),
            )
        };
        let cells = [
            Some(row.model.to_string()),
            Some(rates.input.usd_per_million()),
            Some(rate(rates.cache_read)),
            Some(rates.output.usd_per_million()),
            fees.then(|| if row.per_call.is_zero() { "-".to_owned() } else { row.per_call.to_string() }),
            Some(row.context_window.map_or_else(|| "-".to_owned(), |window| window.to_string())),
            (!frozen.is_empty()).then(since),
            Some(source(row)),
        ];
        table.push(cells.into_iter().flatten());
    }
    table
}

fn rate(rate: Option<TokenPrice>) -> String {
    rate.map_or_else(|| "-".to_owned(), TokenPrice::usd_per_million)
}

fn source(row: &PriceRow) -> String {
    if row.retrieved == "project" { row.source.clone() } else { format!("{}, read {}", row.source, row.retrieved) }
}

fn unknown(book: &PriceBook, model: &str) -> CliError {
    let names: Vec<&str> = book.rows().map(|row| row.model.as_str()).collect();
    // A name without its provider is near none of them, and means one all the same.
    let bare = names.iter().filter(|name| name.split_once('/').is_some_and(|(_, bare)| bare == model));
    let bare: Vec<String> = bare.map(|name| format!("`{name}`")).collect();
    let near = crate::spec::fault::nearest(model, names.iter().copied());
    let help = match (bare.is_empty(), near) {
        (false, _) => format!("write it with its provider: {}", bare.join(" or ")),
        (true, Some(name)) => format!("did you mean `{name}`?"),
        (true, None) => "`plimsoll prices list` lists models; `[[prices]]` in plimsoll.toml adds one".to_owned(),
    };
    Problem::usage(code::MODEL, format!("there is no price for `{}`", one_line(model, 80))).help(help).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_listed_with_its_source() {
        let row = PriceBook::builtin().rows().find(|row| row.model.as_str() == "openai/gpt-5-mini").expect("a price");
        let line = table(&[row], &[]).render(None);
        assert!(line.lines().nth(1).expect("a row").starts_with("openai/gpt-5-mini"), "{line}");
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_nearest() {
        let error = unknown(PriceBook::builtin(), "openai/gpt-5-minni");
        assert_eq!(error.exit(), Exit::Usage);
    }
}
