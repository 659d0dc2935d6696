//! `keys`: who may ask the service for what.

use super::Context;
use crate::api::client::Client;
use crate::api::{KeyPage, KeyRequest, KeyRow, NewKey, Service};
use crate::cli::act::act;
use crate::cli::arguments::KeysCommand;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{DerivedLabels, labels};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;

pub(super) fn keys(context: &Context<'_>, command: &KeysCommand) -> Result<Exit, CliError> {
    match command {
        KeysCommand::Create { name, scope, label, reason, common } => {
            let labels = labels(label, DerivedLabels::Refused)?;
            let (name, scopes) = (name.clone(), scope.iter().copied().collect());
            let reason = reason.clone().unwrap_or_else(|| format!("a key for {name}"));
            let request = KeyRequest { name, scopes, labels, by: common.by(), reason };
            let here = async |service: &Service| service.make_key(&request).await;
            let there = async |client: &Client| client.make_key(&request).await;
            let made = act(context, common.books, here, there)?;
            tell_new(context, &made, common.json, "is shown this once: keep it where nobody else reads")
        }
        KeysCommand::List { books, json } => {
            let here = async |service: &Service| service.keys().await;
            let there = async |client: &Client| client.keys().await;
            list(context, &act(context, *books, here, there)?, *json)
        }
        KeysCommand::Rotate { key, reason, common } => {
            let request = common.because(reason);
            let here = async |service: &Service| service.rotate_key(key, &request).await;
            let there = async |client: &Client| client.rotate_key(key, &request).await;
            let rotated = act(context, common.books, here, there)?;
            tell_new(context, &rotated, common.json, "counts from now on; the old text doesn't any more")
        }
        KeysCommand::Revoke { key, reason, common } => {
            let request = common.because(reason);
            let here = async |service: &Service| service.revoke_key(key, &request).await;
            let there = async |client: &Client| client.revoke_key(key, &request).await;
            let row = act(context, common.books, here, there)?;
            if common.json {
                context.output.json(&row)?;
            } else {
                let name = one_line(&row.name, 64);
                context.output.talk(&format!("key {} ({name}) counts no more", row.key));
            }
            Ok(Exit::Finished)
        }
    }
}

/// The text goes to stdout, so that a script can keep it.
fn tell_new(context: &Context<'_>, new: &NewKey, json: bool, what: &str) -> Result<Exit, CliError> {
    if json {
        context.output.json(new)?;
    } else {
        context.output.data(&new.secret)?;
        context.output.talk(&format!("key {} of {} {what}", new.row.key, one_line(&new.row.name, 64)));
    }
    Ok(Exit::Finished)
}

fn list(context: &Context<'_>, page: &KeyPage, json: bool) -> Result<Exit, CliError> {
    if json {
        context.output.json(page)?;
    } else if page.keys.is_empty() {
        context.output.talk(
            "no keys: the service answers this machine only; `plimsoll keys create NAME --scope run,read` makes one",
        );
    } else {
        context.output.data(&table(&page.keys).render(context.output.data_width()))?;
    }
    Ok(Exit::Finished)
}

fn table(rows: &[KeyRow]) -> Table {
    let mut table = Table::new([
        Column::id("KEY"),
        Column::text("NAME"),
        Column::text("SCOPES"),
        Column::text("LABELS"),
        Column::text("MADE"),
        Column::text("BY"),
        Column::text("STATE"),
    ]);
    for row in rows {
        let scopes: Vec<&str> = row.scopes.iter().map(|scope| scope.name()).collect();
        let labels: Vec<String> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let state = match (&row.revoked, &row.rotated) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("rotated {at}"),
            (None, None) => "counts".to_owned(),
        };
        table.push([
            row.key.clone(),
            one_line(&row.name, 40),
            scopes.join(","),
            one_line(&labels.join(" "), 60),
            row.made.clone(),
            one_line(&row.by, 40),
            state,
        ]);
    }
    table
}
