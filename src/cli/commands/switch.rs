//! `switch`: what people hold, end, or take out of use.

use super::Context;
use crate::api::client::Client;
use crate::api::{LiftRequest, Service, SwitchRequest, SwitchTable};
use crate::cli::act::act;
use crate::cli::arguments::{SwitchCommand, WhoArguments};
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::switch::{SwitchKind, SwitchScope};

pub(super) fn switch(context: &Context<'_>, command: &SwitchCommand) -> Result<Exit, CliError> {
    match command {
        SwitchCommand::Pause { scope, reason, who } => set(context, SwitchKind::Pause, scope, reason, who),
        SwitchCommand::Kill { scope, reason, who } => set(context, SwitchKind::Kill, scope, reason, who),
        SwitchCommand::Lift { scope, reason, who } => {
            let request = LiftRequest { scope: scope.clone(), reason: reason.clone(), by: who.by() };
            let here = async |service: &Service| service.lift_switch(&request).await;
            let there = async |client: &Client| client.lift_switch(&request).await;
            let table = act(context, who.books, here, there)?;
            if who.json {
                context.output.json(&table)?;
            } else {
                context.output.talk(&format!(
                    "{scope} is let go: runs that were held go on, `plimsoll resume --all` those of ended processes"
                ));
            }
            Ok(Exit::Finished)
        }
        SwitchCommand::List { books, json } => {
            let here = async |service: &Service| service.switches().await;
            let there = async |client: &Client| client.switches().await;
            let table = act(context, *books, here, there)?;
            list(context, &table, *json)
        }
    }
}

fn set(
    context: &Context<'_>,
    kind: SwitchKind,
    scope: &SwitchScope,
    reason: &str,
    who: &WhoArguments,
) -> Result<Exit, CliError> {
    let request = SwitchRequest { scope: scope.clone(), switch: kind, reason: reason.to_owned(), by: who.by() };
    let here = async |service: &Service| service.set_switch(&request).await;
    let there = async |client: &Client| client.set_switch(&request).await;
    let table = act(context, who.books, here, there)?;
    if who.json {
        context.output.json(&table)?;
        return Ok(Exit::Finished);
    }
    let what = match (scope, kind) {
        (SwitchScope::Model(_), _) => "isn't asked any more; other approved models take over",
        (_, SwitchKind::Pause) => "is held: its runs make no call from here on, and new ones wait",
        (_, SwitchKind::Kill) => "is off: its runs end at their next call, and new ones are turned away",
    };
    context.output.talk(&format!("{scope} {what}; `plimsoll switch lift {scope} --reason TEXT` lifts it"));
    Ok(Exit::Finished)
}

fn list(context: &Context<'_>, table: &SwitchTable, json: bool) -> Result<Exit, CliError> {
    if json {
        context.output.json(table)?;
    } else if table.switches.is_empty() {
        context.output.talk("no switch is set; `plimsoll switch pause feature=NAME --reason TEXT` holds a feature");
    } else {
        let mut text = Table::new(["SCOPE", "SWITCH", "SINCE", "BY", "WHY"].map(Column::text));
        for row in &table.switches {
            let scope = one_line(&row.scope.to_string(), 80);
            let switch = row.switch.name().to_owned();
            text.push([scope, switch, row.at.clone(), one_line(&row.by, 40), one_line(&row.reason, 200)]);
        }
        context.output.data(&text.render(context.output.data_width()))?;
    }
    Ok(Exit::Finished)
}
