//! `cost`: what was spent, by dimension.

use super::Context;
use crate::api::{Books, CostQuery};
use crate::cli::arguments::CostArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, when};
use crate::cli::remote;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::report::{CostRow, CostSums, CostTable, Dimension};
use crate::units::{Money, grouped};

pub(super) fn cost(context: &Context<'_>, arguments: &CostArguments) -> Result<Exit, CliError> {
    let by = dimensions(&arguments.by)?;
    let now = clock().now();
    let since = when("--since", &arguments.since, now)?;
    let until = arguments.until.as_ref().map_or(Ok(now), |text| when("--until", text, now))?;
    let query = CostQuery { by, since, until };
    let project = configuration(context.project, arguments.books.sim)?;
    let here = |books: &Books| books.costs(&query);
    let table = remote::ask(context.output, &project, arguments.books.sim, "", here, async |holder| {
        holder.costs(&query).await
    })?;
    let table = table.unwrap_or_else(|| CostTable::of(&query.by, &[]));
    if arguments.json {
        context.output.json(&table)?;
    } else if table.rows.is_empty() {
        context.output.talk("nothing was spent in this time; `--since 365d` looks further back, `plimsoll run AGENT --input TEXT` spends something");
    } else {
        context.output.data(&render(&table).render(context.output.data_width()))?;
        tell_unknown(context, &table.total);
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

fn dimensions(given: &[String]) -> Result<Vec<Dimension>, CliError> {
    let named = |text: &String| {
        Dimension::named(text.trim()).ok_or_else(|| {
            let names: Vec<&str> = Dimension::ALL.iter().map(|dimension| dimension.name()).collect();
            let shown = one_line(text, 40);
            let near = crate::spec::fault::suggest(text, names.iter().copied(), "");
            Problem::usage(code::USAGE, format!("costs can't be grouped by `{shown}`")).help(near).into()
        })
    };
    given.iter().map(named).collect()
}

fn render(table: &CostTable) -> Table {
    let dimensions = table.by.iter().map(|dimension| Column::text(heading(*dimension)));
    let sums = ["COST", "UNKNOWN", "RETRIES", "RUNS ENDED", "CALLS", "ATTEMPTS", "TOKENS IN", "OUT", "AVG TIME"];
    let saved = Saved::of(&table.total);
    let columns = dimensions.chain(sums.into_iter().chain(saved.headings()).map(Column::number));
    let mut text = Table::new(columns);
    let sums = |sums: &CostSums| cells(sums).into_iter().chain(saved.cells(sums)).collect::<Vec<_>>();
    for row in &table.rows {
        text.push(values(row).into_iter().chain(sums(&row.sums)));
    }
    let mut last: Vec<String> = table.by.iter().map(|_| String::new()).collect();
    if let Some(first) = last.first_mut() {
        "total".clone_into(first);
    }
    text.push(last.into_iter().chain(sums(&table.total)));
    text
}

/// What caches did, where they did anything: a column for each kind.
#[derive(Clone, Copy)]
struct Saved {
    by_answers: bool,
    by_providers: bool,
}

impl Saved {
    fn of(total: &CostSums) -> Self {
        Self { by_answers: total.cache_hits > 0, by_providers: !total.cache_saved_usd.is_zero() }
    }

    fn headings(self) -> impl Iterator<Item = &'static str> {
        let answers = self.by_answers.then_some(["HITS", "AVOIDED"]).into_iter().flatten();
        answers.chain(self.by_providers.then_some("CACHE SAVED"))
    }

    fn cells(self, sums: &CostSums) -> impl Iterator<Item = String> {
        let answers = self.by_answers.then(|| [grouped(sums.cache_hits), some(sums.avoided_usd)]).into_iter().flatten();
        answers.chain(self.by_providers.then(|| some(sums.cache_saved_usd)))
    }
}

fn some(amount: Money) -> String {
    if amount.is_zero() { "-".to_owned() } else { amount.to_string() }
}

const fn heading(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Tenant => "TENANT",
        Dimension::Feature => "FEATURE",
        Dimension::Environment => "ENVIRONMENT",
        Dimension::Agent => "AGENT",
        Dimension::Owner => "OWNER",
        Dimension::Model => "MODEL",
        Dimension::PromptVersion => "PROMPT",
        Dimension::Day => "DAY",
        Dimension::Thread => "THREAD",
    }
}

fn values(row: &CostRow) -> Vec<String> {
    let shown = |(dimension, value): &(Dimension, Option<String>)| match (dimension, value) {
        (_, Some(value)) => one_line(value, 80),
        (Dimension::Model, None) => "(no model)".to_owned(),
        (_, None) => "-".to_owned(),
    };
    row.values.0.iter().map(shown).collect()
}

fn cells(sums: &CostSums) -> [String; 9] {
    let input = sums.tokens.input.plus(sums.tokens.cache_read).plus(sums.tokens.cache_write);
    [
        sums.settled_usd.to_string(),
        some(sums.unknown_usd) + if sums.mismatched > 0 { "*" } else { "" },
        some(sums.retries_usd),
        grouped(sums.ended.values().sum()),
        grouped(sums.calls),
        grouped(sums.attempts),
        input.to_string(),
        sums.tokens.output.to_string(),
        sums.latency_ms.map_or_else(|| "-".to_owned(), |latency| latency.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EndState;
    use crate::domain::rollup::{Day, Dimensions, Rollup};
    use crate::units::Millis;

    #[test]
    fn costs_are_a_table_with_a_total() {
        let dimensions = Dimensions {
            agent: "support".into(),
            model: Some("openai/gpt-5-mini".into()),
            tenant: Some("acme".into()),
            feature: None,
            environment: None,
            owner: None,
            prompt_version: "v1".into(),
            thread: None,
        };
        let rollup = Rollup {
            calls: 1_200,
            attempts: 1_234,
            settled: Money::from_micro(1_234_500),
            unknown: Money::from_micro(9_000),
            mismatched: 2,
            latency: Millis(1_234_000),
            over: 1_234,
            ended: [(EndState::Finished, 300)].into(),
            ..Rollup::default()
        };
        let tools = Rollup { calls: 5, attempts: 5, over: 5, ..Rollup::default() };
        let rollups =
            [((Day(20_780), dimensions.clone()), rollup), ((Day(20_780), dimensions.with_model(None)), tools)];
        let table = CostTable::of(&[Dimension::Tenant, Dimension::Model], &rollups);
        insta::assert_snapshot!(render(&table).render(None));
    }

    #[test]
    fn a_dimension_that_does_not_exist_is_named() {
        assert!(dimensions(&["tenant".into(), "tennant".into()]).is_err());
        assert_eq!(dimensions(&["day".into()]).expect("a dimension"), [Dimension::Day]);
    }
}
