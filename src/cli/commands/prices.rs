//! `prices list|show|unfreeze`.

use std::collections::BTreeMap;

use super::Context;
use crate::cli::arguments::{BooksArguments, PricesCommand};
use crate::cli::books;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, price_book};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::cli::session::{Session, SimChoice, block_on};
use crate::domain::pricing::{PriceBook, PriceRow, Rates};
use crate::ids::ModelName;
use crate::units::TokenPrice;

pub(super) fn prices(context: &Context<'_>, command: &PricesCommand) -> Result<Exit, CliError> {
    match command {
        PricesCommand::List { part, json } => list(context, part.as_deref(), *json),
        PricesCommand::Show { model, json } => show(context, model, *json),
        PricesCommand::Unfreeze { model, reason, books } => unfreeze(context, model, reason, *books),
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

fn list(context: &Context<'_>, part: Option<&str>, json: bool) -> Result<Exit, CliError> {
    let (book, now) = (book(context)?, clock().now());
    let part = part.unwrap_or_default().to_lowercase();
    let valid = |row: &&PriceRow| row.is_valid_at(now) && row.model.as_str().to_lowercase().contains(&part);
    let rows: Vec<&PriceRow> = book.rows().filter(valid).collect();
    if json {
        context.output.json(&serde_json::json!({ "prices": rows }))?;
    } else if rows.is_empty() {
        context.output.talk("no such model; `plimsoll prices list` lists all, `[[prices]]` in plimsoll.toml adds one");
    } else {
        context.output.data(&table(&rows).render(context.output.data_width()))?;
        context.output.talk("USD per 1,000,000 tokens; `plimsoll prices show MODEL` has tiers, sources and dates");
    }
    Ok(Exit::Finished)
}

fn table(rows: &[&PriceRow]) -> Table {
    let mut table = Table::new([
        Column::id("MODEL"),
        Column::number("INPUT"),
        Column::number("CACHED"),
        Column::number("OUTPUT"),
        Column::number("WINDOW"),
        Column::text("SOURCE"),
    ]);
    for row in rows {
        let rates = &row.price.rates;
        table.push([
            row.model.to_string(),
            rates.input.usd_per_million(),
            rate(rates.cache_read),
            rates.output.usd_per_million(),
            row.context_window.map_or_else(|| "-".to_owned(), |window| window.to_string()),
            source(row),
        ]);
    }
    table
}

fn rate(rate: Option<TokenPrice>) -> String {
    rate.map_or_else(|| "-".to_owned(), TokenPrice::usd_per_million)
}

fn source(row: &PriceRow) -> String {
    if row.retrieved == "project" { row.source.clone() } else { format!("{}, read {}", row.source, row.retrieved) }
}

fn show(context: &Context<'_>, model: &str, json: bool) -> Result<Exit, CliError> {
    let book = book(context)?;
    let rows: Vec<&PriceRow> = book.rows().filter(|row| row.model.as_str() == model).collect();
    if rows.is_empty() {
        return Err(unknown(&book, model));
    }
    if json {
        context.output.json(&serde_json::json!({ "prices": rows }))?;
    } else {
        rows.iter().try_for_each(|row| context.output.data(&describe(row)))?;
    }
    Ok(Exit::Finished)
}

fn unknown(book: &PriceBook, model: &str) -> CliError {
    let names: Vec<&str> = book.rows().map(|row| row.model.as_str()).collect();
    let near = crate::spec::fault::nearest(model, names.iter().copied());
    let help = near.map_or_else(
        || "`plimsoll prices list` lists models; `[[prices]]` in plimsoll.toml adds one".to_owned(),
        |name| format!("did you mean `{name}`?"),
    );
    Problem::usage(code::MODEL, format!("there is no price for `{}`", one_line(model, 80))).help(help).into()
}

fn describe(row: &PriceRow) -> String {
    let mut lines = vec![format!("{}", row.id), "  USD per 1,000,000 tokens".to_owned()];
    lines.push(format!("  ordinary            {}", rates(&row.price.rates)));
    lines.extend(row.price.long.as_ref().map(|long| format!("  above {:<13} {}", long.above, rates(&long.rates))));
    for (name, tier) in &row.service_tiers {
        lines.push(format!("  tier {name:<14} {}", rates(&tier.rates)));
        lines.extend(tier.long.as_ref().map(|long| format!("    above {:<11} {}", long.above, rates(&long.rates))));
    }
    lines.extend(row.context_window.map(|window| format!("  window              {window} tokens")));
    lines.extend(
        row.max_output.map(|output| format!("  longest output      {} tokens", crate::units::grouped(output.into()))),
    );
    lines.extend(row.valid_from.map(|from| format!("  holds from          {from}")));
    lines.extend(row.valid_to.map(|to| format!("  holds until         {to}")));
    lines.push(format!("  source              {}", source(row)));
    lines.extend(row.reason.as_ref().map(|reason| format!("  reason              {}", one_line(reason, 200))));
    lines.extend(row.notes.iter().map(|note| format!("  note                {}", one_line(note, 200))));
    lines.join("\n")
}

fn rates(rates: &Rates) -> String {
    format!(
        "input {}, cached {}, written {}, output {}",
        rates.input.usd_per_million(),
        rate(rates.cache_read),
        rate(rates.cache_write),
        rates.output.usd_per_million()
    )
}

fn unfreeze(context: &Context<'_>, model: &str, reason: &str, books: BooksArguments) -> Result<Exit, CliError> {
    if reason.trim().is_empty() {
        return Err(Problem::usage(code::USAGE, "`--reason` is empty")
            .help("say why the price may be used again")
            .into());
    }
    let project = configuration(context.project, books.sim)?;
    let none = || {
        let message = format!("no price of `{}` is frozen", one_line(model, 80));
        CliError::from(Problem::usage(code::MODEL, message).help("`plimsoll prices list` lists models"))
    };
    if !books::folder(&project, books.sim).exists() {
        return Err(none());
    }
    block_on(async {
        let choice = SimChoice { sim: books.sim, ..SimChoice::default() };
        let session = Session::open(&project, BTreeMap::new(), &choice)?;
        let lifted = session.runtime.unfreeze(&ModelName::from(model), reason).await?;
        session.close().await;
        if lifted.is_empty() {
            return Err(none());
        }
        lifted.iter().for_each(|price| context.output.talk(&format!("{price} may be used again")));
        Ok(Exit::Finished)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_described_with_its_source() {
        let row = PriceBook::builtin().rows().find(|row| row.model.as_str() == "openai/gpt-5-mini").expect("a price");
        let text = describe(row);
        assert!(text.contains("input 0.25"), "{text}");
        assert!(text.contains("source"), "{text}");
        let line = table(&[row]).render(None);
        assert!(line.lines().nth(1).expect("a row").starts_with("openai/gpt-5-mini"), "{line}");
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_nearest() {
        let error = unknown(PriceBook::builtin(), "openai/gpt-5-minni");
        assert_eq!(error.exit(), Exit::Usage);
    }
}
