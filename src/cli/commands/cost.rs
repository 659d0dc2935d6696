//! `cost`: what was spent, by dimension.

use super::Context;
use crate::api::{Books, CostQuery, ErrorBody};
use crate::cli::arguments::CostArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, when};
use crate::cli::remote;
use crate::cli::render::cost;
use crate::cli::render::text::one_line;
use crate::domain::report::{CostSums, CostTable, Dimension};
use crate::units::grouped;

pub(super) fn cost(context: &Context<'_>, arguments: &CostArguments) -> Result<Exit, CliError> {
    let by = dimensions(&arguments.by)?;
    let now = clock().now();
    let since = when("--since", &arguments.since, now)?;
    let until = arguments.until.as_ref().map_or(Ok(now), |text| when("--until", text, now))?;
    let only = arguments.only.iter().map(|text| only(text)).collect::<Result<_, _>>()?;
    let query = CostQuery { by, since, until, only, against_previous: arguments.against.is_some() };
    query.judge().map_err(|error| remote::plain(&ErrorBody::from(&error)))?;
    let project = configuration(context.project, arguments.books.sim)?;
    let here = |books: &Books| books.costs(&query);
    let table = remote::ask(context.output, &project, arguments.books.sim, "", here, async |holder| {
        holder.costs(&query).await
    })?;
    let table = table.unwrap_or_else(|| CostTable::of(&query.by, &[]));
    if arguments.json {
        context.output.json(&table)?;
    } else if arguments.csv {
        context.output.data(cost::csv(&table, query.days()).trim_end())?;
    } else if table.rows.is_empty() && table.movers.is_empty() {
        context.output.talk("nothing was spent in this time; `--since 365d` looks further back, `plimsoll run AGENT --input TEXT` spends something");
    } else {
        context.output.data(&cost::tables(&table, context.output.data_width()))?;
        tell_unknown(context, &table.total);
        tell_unsaid(context, &table.total);
    }
    Ok(Exit::Finished)
}

fn tell_unknown(context: &Context<'_>, total: &CostSums) {
    if total.mismatched > 0 {
        let of = if total.mismatched == 1 {
            "1 attempt".to_owned()
        } else {
            format!("{} attempts", grouped(total.mismatched))
        };
        context.output.talk(&format!(
            "* with {of} whose usage contradicts itself: what each reservation held is booked; `plimsoll trace RUN` shows the counts"
        ));
    }
    if !total.unknown_usd.is_zero() {
        context.output.talk(&format!(
            "{} of it is unknown: the provider gave no usage to go by, so the whole reservation counts until it is reconciled",
            total.unknown_usd
        ));
    }
}

/// Where units are known of some runs, those of the others are missed.
fn tell_unsaid(context: &Context<'_>, total: &CostSums) {
    for unit in total.worth.iter().flat_map(|worth| &worth.units) {
        if unit.units > 0 && unit.unsaid_runs > 0 {
            context.output.talk(&format!(
                "of {} of {} runs nobody said how many units they gave: `plimsoll outcome RUN --units N`, or `[outcome]` in the agent's file",
                grouped(unit.unsaid_runs),
                grouped(unit.runs)
            ));
        }
    }
}

fn only(text: &str) -> Result<(Dimension, String), CliError> {
    let usage = || Problem::usage(code::USAGE, format!("`{}` names no value", one_line(text, 40)));
    let (name, value) = text.split_once('=').ok_or_else(|| usage().help("write it as `feature=support`"))?;
    Ok((dimension(name)?, value.to_owned()))
}

fn dimensions(given: &[String]) -> Result<Vec<Dimension>, CliError> {
    given.iter().map(|text| dimension(text)).collect()
}

fn dimension(text: &str) -> Result<Dimension, CliError> {
    Dimension::named(text.trim()).ok_or_else(|| {
        let names: Vec<&str> = Dimension::ALL.iter().map(|dimension| dimension.name()).collect();
        let shown = one_line(text, 40);
        let near = crate::spec::fault::suggest(text, names.iter().copied(), "");
        Problem::usage(code::USAGE, format!("costs can't be grouped by `{shown}`")).help(near).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_that_does_not_exist_is_named() {
        assert!(dimensions(&["tenant".into(), "tennant".into()]).is_err());
        assert_eq!(dimensions(&["day".into()]).expect("a dimension"), [Dimension::Day]);
    }
}
