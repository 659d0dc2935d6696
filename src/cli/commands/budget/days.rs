//! `budget NAME --days`: how the current period was spent, day by day.

use super::Context;
use crate::api::client::Client;
use crate::api::{Books, BudgetDays};
use crate::cli::arguments::BudgetArguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::units::Money;

/// How wide the bar of a whole cap is.
const BAR_CHARS: u128 = 30;

pub(super) fn days(context: &Context<'_>, arguments: &BudgetArguments, name: &str) -> Result<Exit, CliError> {
    let (sim, scope) = (arguments.books.sim, arguments.scope.as_str());
    let project = configuration(context.project, sim)?;
    let here = |books: &Books| books.budget_days(name, scope);
    let there = async |client: &Client| client.budget_days(name, scope).await;
    match remote::ask(context.output, &project, sim, "", here, there)? {
        None => context.output.talk("nothing was spent yet: no run was ever made"),
        Some(spent) if arguments.json => context.output.json(&spent)?,
        Some(spent) => {
            context.output.data(&render(&spent).render(context.output.data_width()))?;
            if !spent.elsewhere_usd.is_zero() {
                context.output.talk(&format!(
                    "{} more are settled: before these days, which are those of UTC, or by agents below one that the budget names",
                    spent.elsewhere_usd
                ));
            }
        }
    }
    Ok(Exit::Finished)
}

fn render(spent: &BudgetDays) -> Table {
    let mut text = Table::new([
        Column::text("DAY"),
        Column::number("SPENT"),
        Column::number("LEFT"),
        Column::number("LEFT IF EVEN"),
        Column::text("LEFT OF THE CAP"),
    ]);
    for day in &spent.days {
        text.push([
            day.day.clone(),
            day.spent_usd.to_string(),
            day.left_usd.to_string(),
            day.even_left_usd.map_or_else(|| "-".to_owned(), |even| even.to_string()),
            bar(day.left_usd, spent.cap_usd),
        ]);
    }
    text
}

fn bar(left: Money, cap: Money) -> String {
    let chars = left.pico().saturating_mul(BAR_CHARS).checked_div(cap.pico()).unwrap_or_default();
    "#".repeat(usize::try_from(chars).unwrap_or_default())
}
