//! `audit`: who changed what is allowed, when and why.

use super::Context;
use crate::api::{AuditQuery, Books};
use crate::cli::arguments::AuditArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, when};
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::audit::Change;
use crate::domain::report::{AuditFilter, AuditTable};

pub(super) fn audit(context: &Context<'_>, arguments: &AuditArguments) -> Result<Exit, CliError> {
    let now = clock().now();
    let point = |option: &str, text: &Option<String>| text.as_ref().map(|text| when(option, text, now)).transpose();
    let query = AuditQuery(AuditFilter {
        since: point("--since", &arguments.since)?,
        until: point("--until", &arguments.until)?,
        kinds: kinds(&arguments.kind)?,
        who: arguments.who.clone(),
        before: None,
        limit: usize::from(arguments.limit),
    });
    let project = configuration(context.project, arguments.books.sim)?;
    let here = |books: &Books| books.audit(&query.0);
    let there = async |holder: &crate::api::client::Client| holder.audit(&query).await;
    let table = remote::ask(context.output, &project, arguments.books.sim, "", here, there)?.unwrap_or_default();
    if arguments.json {
        context.output.json(&table)?;
        return Ok(Exit::Finished);
    }
    if table.entries.is_empty() {
        context.output.talk(
            "nothing to show: nobody changed what is allowed in this time; `plimsoll keys create` is such a change",
        );
    } else {
        context.output.data(&render(&table).render(context.output.data_width()))?;
    }
    if table.next.is_some() {
        context.output.talk(&format!("the newest {}; `--limit` shows more", table.entries.len()));
    }
    Ok(Exit::Finished)
}

fn kinds(given: &[String]) -> Result<Vec<String>, CliError> {
    let known = |text: &String| {
        let kind = text.trim();
        if Change::KINDS.contains(&kind) {
            return Ok(kind.to_owned());
        }
        let help = crate::spec::fault::suggest(kind, Change::KINDS, "");
        Err(Problem::usage(code::USAGE, format!("there is no kind of change `{}`", one_line(kind, 40)))
            .help(help)
            .into())
    };
    given.iter().map(known).collect()
}

fn render(table: &AuditTable) -> Table {
    let mut text = Table::new([
        Column::id("WHEN"),
        Column::text("WHO"),
        Column::text("KIND"),
        Column::text("OF"),
        Column::text("WHAT"),
        Column::text("WHY"),
    ]);
    for line in &table.entries {
        let run = line.run.map(|run| format!("run {run}"));
        text.push([
            line.at.to_string().chars().take("2026-11-23T09:00:00".len()).collect(),
            one_line(&line.by, 40),
            line.kind.clone(),
            one_line(&line.of, 120),
            one_line(&line.what, 200),
            line.reason.as_deref().map(|why| one_line(why, 200)).or(run).unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::AuditLine;
    use crate::units::Timestamp;

    #[test]
    fn the_log_is_a_table() {
        let line = |kind: &str, what: &str, reason: Option<&str>| AuditLine {
            number: 0,
            at: Timestamp(1_795_392_000_123),
            by: "ann".to_owned(),
            kind: kind.to_owned(),
            of: "ab12".to_owned(),
            what: what.to_owned(),
            reason: reason.map(str::to_owned),
            run: None,
        };
        let entries = vec![
            line("key_revoked", "revoked the key", Some("lost\u{1b}[2J")),
            line("key_made", "made a key for web: run", None),
        ];
        insta::assert_snapshot!(render(&AuditTable { entries, next: None }).render(None));
    }

    #[test]
    fn a_kind_that_does_not_exist_is_named() {
        assert!(kinds(&["key_maed".to_owned()]).is_err());
        assert_eq!(kinds(&["key_made".to_owned()]).expect("a kind"), ["key_made"]);
    }
}
