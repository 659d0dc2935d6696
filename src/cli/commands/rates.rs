//! `rates`: what may go out now, what providers say that they still take, and breakers.

use super::Context;
use crate::api::client::Client;
use crate::cli::arguments::RatesArguments;
use crate::cli::books;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration};
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::report::{BreakerRow, ProviderRateRow, RateRow, RateTable};
use crate::rates::Rates;
use crate::spec::project::Project;
use crate::units::grouped;

/// The most characters of what a row is for.
const SUBJECT_CHARS_MAX: usize = 80;

pub(super) fn rates(context: &Context<'_>, arguments: &RatesArguments) -> Result<Exit, CliError> {
    let project = configuration(context.project, arguments.books.sim)?;
    let sim = arguments.books.sim;
    let live = remote::ask_holder(context.output, &project, sim, || books::open(&project, sim), Client::rates)?;
    let table = live.unwrap_or_else(|| at_rest(&project));
    let output = context.output;
    if arguments.json {
        output.json(&table)?;
        return Ok(Exit::Finished);
    }
    let empty = table.rates.is_empty() && table.providers.is_empty() && table.breakers.is_empty();
    if empty {
        output.talk("no rates; write `[[rates]]` with `scope = { provider = \"…\" }` and `tokens_per_minute` into plimsoll.toml");
        return Ok(Exit::Finished);
    }
    let text = [rate_table(&table.rates), provider_table(&table.providers), breaker_table(&table.breakers)];
    let text: Vec<String> = text.into_iter().flatten().map(|table| table.render(output.data_width())).collect();
    output.data(&text.join("\n"))?;
    match table.waiting {
        0 => {}
        1 => output.talk("1 call waits"),
        waiting => output.talk(&format!("{waiting} calls wait")),
    }
    Ok(Exit::Finished)
}

/// Nobody drives runs: every count is fresh.
fn at_rest(project: &Project) -> RateTable {
    let now = clock().now();
    Rates::new(project.rates.clone(), project.breaker, now).standing(now)
}

fn rate_table(rows: &[RateRow]) -> Option<Table> {
    let mut table = Table::new([
        Column::text("LIMIT"),
        Column::text("FOR"),
        Column::number("VALUE"),
        Column::number("FREE NOW"),
        Column::number("WAITING"),
        Column::text("DECLARED"),
    ]);
    for row in rows {
        table.push([
            row.limit.to_string(),
            one_line(&row.of, SUBJECT_CHARS_MAX),
            grouped(row.value),
            grouped(row.free),
            row.waiting.to_string(),
            row.declared.to_string(),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}

fn provider_table(rows: &[ProviderRateRow]) -> Option<Table> {
    let mut table = Table::new([
        Column::text("PROVIDER SAYS OF"),
        Column::text("WHAT"),
        Column::number("LEFT"),
        Column::number("OF"),
        Column::text("ALL IS BACK"),
    ]);
    for row in rows {
        let account = row.account.as_ref().map_or(String::new(), |account| format!(", account {account}"));
        table.push([
            format!("{}{account}", row.model),
            row.what.clone(),
            grouped(row.left),
            row.value.map_or_else(|| "-".to_owned(), grouped),
            row.full_at.to_string(),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}

fn breaker_table(rows: &[BreakerRow]) -> Option<Table> {
    let mut table = Table::new([
        Column::text("BREAKER OF"),
        Column::text("STATE"),
        Column::text("UNTIL"),
        Column::number("FAILURES"),
        Column::text("LAST"),
    ]);
    for row in rows {
        table.push([
            row.of.clone(),
            row.state.name().to_owned(),
            row.until.map_or_else(|| "-".to_owned(), |until| until.to_string()),
            row.failures.to_string(),
            row.last.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    (!rows.is_empty()).then_some(table)
}
