//! `budget`: caps, what is settled and held, what is left.

mod days;
mod exceptions;

use super::Context;
use crate::api::Books;
use crate::api::client::Client;
use crate::cli::arguments::BudgetArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration};
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::{one_line, percent};
use crate::domain::budget::Period;
use crate::domain::report::{Beside, BudgetRow, BudgetTable};
use crate::spec::project::Project;

pub(super) fn budget(context: &Context<'_>, arguments: &BudgetArguments) -> Result<Exit, CliError> {
    if let Some(command) = &arguments.command {
        return exceptions::exceptions(context, command);
    }
    if let Some(name) = arguments.budget.as_ref().filter(|_| arguments.days) {
        return days::days(context, arguments, name);
    }
    let project = configuration(context.project, arguments.books.sim)?;
    let table = remote::ask(context.output, &project, arguments.books.sim, "", Books::budgets, Client::budgets)?;
    let mut table = table.unwrap_or_else(|| BudgetTable::of(&project.budgets, &[], &Beside::default(), clock().now()));
    if let Some(name) = &arguments.budget {
        table.budgets.retain(|row| row.budget.as_str() == name);
        if table.budgets.is_empty() && !project.budgets.iter().any(|budget| budget.name.as_str() == name) {
            return Err(unknown(&project, name));
        }
    }
    table.budgets.retain(|row| row.current || arguments.past);
    if arguments.json {
        context.output.json(&table)?;
    } else if project.budgets.is_empty() && table.budgets.is_empty() {
        context.output.talk(
            "no budgets; write `[[budgets]]` with `name`, `cap = \"$500\"` and `per = \"month\"` into plimsoll.toml",
        );
    } else if table.budgets.is_empty() {
        context
            .output
            .talk("nothing to show: a budget with `each` has an account from the first run that counts on it");
    } else {
        context.output.data(&render(&table).render(context.output.data_width()))?;
        tell_beside(context, &table);
    }
    Ok(Exit::Finished)
}

fn unknown(project: &Project, name: &str) -> CliError {
    let names = project.budgets.iter().map(|budget| budget.name.as_str());
    let help = crate::spec::fault::suggest(name, names, "plimsoll.toml declares no budget");
    Problem::usage(code::USAGE, format!("there is no budget `{}`", one_line(name, 64))).help(help).into()
}

fn render(table: &BudgetTable) -> Table {
    let mut text = Table::new([
        Column::text("BUDGET"),
        Column::text("FOR"),
        Column::text("PERIOD"),
        Column::number("CAP"),
        Column::number("SETTLED"),
        Column::number("UNKNOWN"),
        Column::number("HELD"),
        Column::number("LEFT"),
        Column::number("USED"),
        Column::number("FORECAST"),
        Column::text("DECLARED"),
    ]);
    for row in &table.budgets {
        text.push([
            row.budget.to_string(),
            if row.scope.is_empty() { "all".to_owned() } else { one_line(&row.scope, 80) },
            period(row),
            row.cap_usd.to_string(),
            row.settled_usd.to_string(),
            row.unknown_usd.to_string(),
            row.held_usd.to_string(),
            row.left_usd.to_string(),
            row.used_basis_points.map_or_else(|| "-".to_owned(), percent),
            forecast(row),
            row.declared.as_ref().map_or_else(|| "no more".to_owned(), ToString::to_string),
        ]);
    }
    text
}

/// What the period comes to, as it goes now.
fn forecast(row: &BudgetRow) -> String {
    let end = row.forecast.as_ref().and_then(|forecast| forecast.end_usd);
    end.map_or_else(|| "-".to_owned(), |end| end.to_string())
}

/// What stands beside the caps: exceptions, watching budgets, and those that run out.
fn tell_beside(context: &Context<'_>, table: &BudgetTable) {
    for row in &table.budgets {
        let name = if row.scope.is_empty() {
            row.budget.to_string()
        } else {
            format!("{} ({})", row.budget, one_line(&row.scope, 60))
        };
        if !row.exceptions_usd.is_zero() {
            context.output.talk(&format!("{name}: {} of the cap are exceptions", row.exceptions_usd));
        }
        if let Some(shadow) = &row.shadow {
            let last = shadow.last.map_or_else(String::new, |run| format!(", last of run {run}"));
            context
                .output
                .talk(&format!("{name} only watches: it would have refused {} placements{last}", shadow.refused));
        }
        if let Some(at) = row.forecast.as_ref().and_then(|forecast| forecast.runs_out) {
            context
                .output
                .talk(&format!("{name} reaches its cap on {at}, if it goes on as it did since the period began"));
        }
    }
}

/// `month, until 2026-12-01T00:00`.
fn period(row: &BudgetRow) -> String {
    let until =
        |end: &crate::units::Timestamp| end.to_string().chars().take("2026-12-01T00:00".len()).collect::<String>();
    let name = row.per.map_or("period", Period::name);
    match (&row.end, row.current) {
        (None, _) => name.to_owned(),
        (Some(end), true) => format!("{name}, until {}Z", until(end)),
        (Some(end), false) => format!("{name}, over since {}Z", until(end)),
    }
}
