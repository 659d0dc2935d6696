//! `budget NAME --days`: how the current period was spent, day by day.

use super::Context;
use crate::api::Books;
use crate::api::client::Client;
use crate::cli::arguments::BudgetArguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::domain::report::BurnDown;
use crate::units::Money;

/// How wide the bar of a whole cap is.
const BAR_CHARS: u128 = 30;

pub(super) fn days(context: &Context<'_>, arguments: &BudgetArguments, name: &str) -> Result<Exit, CliError> {
    let (sim, scope) = (arguments.books.sim, arguments.scope.as_str());
    let project = configuration(context.project, sim)?;
    let here = |books: &Books| books.burn_down(name, scope);
    let there = async |client: &Client| client.burn_down(name, scope).await;
    match remote::ask(context.output, &project, sim, "", here, there)? {
        None => context.output.talk("nothing was spent yet: no run was ever made"),
        Some(burned) if arguments.json => context.output.json(&burned)?,
        Some(burned) => {
            context.output.data(&render(&burned).render(context.output.data_width()))?;
            if !burned.adds_up {
                context.output.talk(&format!(
                    "days are those of UTC, and the period is another: {} are settled in it",
                    burned.settled_usd
                ));
            }
        }
    }
    Ok(Exit::Finished)
}

fn render(burned: &BurnDown) -> Table {
    let mut text = Table::new([
        Column::text("DAY"),
        Column::number("SPENT"),
        Column::number("UNKNOWN"),
        Column::number("IN ALL"),
        Column::number("LEFT"),
        Column::number("LEFT IF EVEN"),
        Column::text("LEFT OF THE CAP"),
    ]);
    for day in &burned.days {
        text.push([
            day.day.clone(),
            day.spent_usd.to_string(),
            day.unknown_usd.to_string(),
            day.total_usd.to_string(),
            day.left_usd.to_string(),
            day.even_left_usd.map_or_else(|| "-".to_owned(), |even| even.to_string()),
            bar(day.left_usd, burned.cap_usd),
        ]);
    }
    text
}

fn bar(left: Money, cap: Money) -> String {
    let chars = left.pico().saturating_mul(BAR_CHARS).checked_div(cap.pico()).unwrap_or_default();
    "#".repeat(usize::try_from(chars).unwrap_or_default())
}
