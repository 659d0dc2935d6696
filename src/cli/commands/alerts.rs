//! `alerts`: who was told of what, a test of the way, and another try.

use super::Context;
use crate::api::client::Client;
use crate::api::{ALERTS_SHOWN_MAX, AlertTable, Books, Service};
use crate::cli::act::act;
use crate::cli::arguments::{AlertsCommand, BooksArguments};
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration};
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::cli::session::block_on;
use crate::domain::alert::AlertState;
use crate::runtime::alerts::Courier;
use crate::spec::fault::suggest;

pub(super) fn alerts(context: &Context<'_>, command: &AlertsCommand) -> Result<Exit, CliError> {
    match command {
        AlertsCommand::List { state, books, json } => list(context, state.map(Into::into), *books, *json),
        AlertsCommand::Test { name } => test(context, name),
        AlertsCommand::Retry { alert, books, json } => retry(context, *alert, *books, *json),
    }
}

fn list(context: &Context<'_>, state: Option<AlertState>, books: BooksArguments, json: bool) -> Result<Exit, CliError> {
    let project = configuration(context.project, books.sim)?;
    let here = |books: &Books| books.alerts(ALERTS_SHOWN_MAX);
    let table = remote::ask(context.output, &project, books.sim, "", here, Client::alerts)?;
    let mut table = table.unwrap_or_default();
    table.alerts.retain(|row| state.is_none_or(|state| row.state == state));
    if json {
        context.output.json(&table)?;
    } else if table.alerts.is_empty() && project.alerts.is_empty() {
        context.output.talk(
            "no alerts; write `alerts_at = [\"50%\", \"80%\", \"100%\"]` under a budget, and `[[alerts]]`, into plimsoll.toml",
        );
    } else if table.alerts.is_empty() {
        context.output.talk("no alerts; `plimsoll alerts test NAME` tries whether one arrives");
    } else {
        context.output.data(&render(&table).render(context.output.data_width()))?;
        tell_of_dead(context, &table);
    }
    Ok(Exit::Finished)
}

fn render(table: &AlertTable) -> Table {
    let mut text = Table::new([
        Column::number("ALERT"),
        Column::text("AT"),
        Column::text("TO"),
        Column::text("STATE"),
        Column::number("TRIES"),
        Column::text("WHAT"),
        Column::text("ERROR"),
    ]);
    for row in &table.alerts {
        let state = match &row.next {
            Some(next) if row.tries > 0 => format!("{}, again at {next}", row.state.name()),
            Some(_) | None => row.state.name().to_owned(),
        };
        let error = row.error.as_deref().map_or_else(|| "-".to_owned(), |error| one_line(error, 200));
        let (number, tries) = (row.alert.to_string(), row.tries.to_string());
        text.push([number, row.at.clone(), one_line(&row.to, 64), state, tries, one_line(&row.text, 300), error]);
    }
    text
}

fn tell_of_dead(context: &Context<'_>, table: &AlertTable) {
    if let Some(dead) = table.alerts.iter().find(|row| row.state == AlertState::Dead) {
        context.output.talk(&format!("{} given up; `plimsoll alerts retry {}` tries one anew", table.dead, dead.alert));
    }
}

fn test(context: &Context<'_>, name: &str) -> Result<Exit, CliError> {
    let project = configuration(context.project, false)?;
    let names = project.alerts.iter().map(|alert| alert.rule.name.as_str());
    if !names.clone().any(|known| known == name) {
        let help = suggest(name, names, "write `[[alerts]]` into plimsoll.toml");
        return Err(Problem::usage(code::USAGE, format!("`[[alerts]]` has no `{}`", one_line(name, 64)))
            .help(help)
            .into());
    }
    let courier = Courier::new(&project, clock(), false);
    let arrived = block_on(async { Ok(courier.test(name).await) })?;
    arrived.map_err(|why| {
        let message = format!("the test didn't arrive at `{name}`: {why}");
        Problem::new(code::ALERT, message).help("look at its row of `[[alerts]]` and at who receives it")
    })?;
    context.output.talk(&format!("a test was delivered to {name}"));
    Ok(Exit::Finished)
}

fn retry(context: &Context<'_>, number: u64, books: BooksArguments, json: bool) -> Result<Exit, CliError> {
    let here = async |service: &Service| service.retry_alert(number).await;
    let there = async |client: &Client| client.retry_alert(number).await;
    let row = act(context, books, here, there)?;
    if json {
        context.output.json(&row)?;
    } else {
        context.output.talk(&format!("alert {number} is due again; `plimsoll serve`, or the next run, delivers it"));
    }
    Ok(Exit::Finished)
}
