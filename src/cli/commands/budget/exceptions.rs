//! `budget grant|approve|end|exceptions`: more than a cap, for a while.

use crate::api::client::Client;
use crate::api::{ExceptionRequest, ExceptionRow, ExceptionTable, Service};
use crate::cli::act::act;
use crate::cli::arguments::{BudgetCommand, WhoArguments};
use crate::cli::commands::Context;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::ids::BudgetName;

pub(super) fn exceptions(context: &Context<'_>, command: &BudgetCommand) -> Result<Exit, CliError> {
    match command {
        BudgetCommand::Grant { budget, scope, amount, until, reason, who } => {
            let request = ExceptionRequest {
                budget: BudgetName::from(budget.as_str()),
                scope: scope.clone(),
                amount_usd: *amount,
                until: until.clone(),
                reason: reason.clone(),
                by: who.by(),
            };
            let here = async |service: &Service| service.ask_exception(&request).await;
            let there = async |client: &Client| client.ask_exception(&request).await;
            let row = act(context, who.books, here, there)?;
            let number = row.exception;
            let next = format!("it counts once another person runs `plimsoll budget approve {number} --by NAME`");
            told(context, who, &row, &next)
        }
        BudgetCommand::Approve { exception, reason, who } => {
            let request = who.because(reason);
            let here = async |service: &Service| service.approve_exception(*exception, &request).await;
            let there = async |client: &Client| client.approve_exception(*exception, &request).await;
            let row = act(context, who.books, here, there)?;
            told(context, who, &row, &format!("it counts until {}", row.until))
        }
        BudgetCommand::End { exception, reason, who } => {
            let request = who.because(reason);
            let here = async |service: &Service| service.end_exception(*exception, &request).await;
            let there = async |client: &Client| client.end_exception(*exception, &request).await;
            let row = act(context, who.books, here, there)?;
            told(context, who, &row, "it counts no more")
        }
        BudgetCommand::Exceptions { books, json } => {
            let here = async |service: &Service| service.exceptions().await;
            let there = async |client: &Client| client.exceptions().await;
            list(context, &act(context, *books, here, there)?, *json)
        }
    }
}

fn told(context: &Context<'_>, who: &WhoArguments, row: &ExceptionRow, next: &str) -> Result<Exit, CliError> {
    if who.json {
        context.output.json(row)?;
    } else {
        let ExceptionRow { exception, budget, amount_usd, .. } = row;
        context.output.talk(&format!("exception {exception}, {amount_usd} on budget {budget}: {next}"));
    }
    Ok(Exit::Finished)
}

fn list(context: &Context<'_>, table: &ExceptionTable, json: bool) -> Result<Exit, CliError> {
    if json {
        context.output.json(table)?;
    } else if table.exceptions.is_empty() {
        context
            .output
            .talk("no exceptions; `plimsoll budget grant BUDGET --amount USD --until 3d --reason TEXT` asks for one");
    } else {
        let heads = ["BUDGET", "FOR", "STATE", "UNTIL", "ASKED BY", "APPROVED BY", "WHY"].map(Column::text);
        let mut text = Table::new([Column::number("NO"), Column::number("ADDS")].into_iter().chain(heads));
        for row in &table.exceptions {
            text.push([
                row.exception.to_string(),
                row.amount_usd.to_string(),
                row.budget.to_string(),
                if row.scope.is_empty() { "all".to_owned() } else { one_line(&row.scope, 60) },
                row.state.name().to_owned(),
                row.until.clone(),
                one_line(&row.by, 40),
                one_line(row.approved_by.as_deref().unwrap_or("-"), 40),
                one_line(&row.reason, 120),
            ]);
        }
        context.output.data(&text.render(context.output.data_width()))?;
    }
    Ok(Exit::Finished)
}
