//! Costs as tables and as CSV: what was spent, what it was worth, what moved.

use super::table::{Column, Table};
use super::text::{one_line, percent, signed_percent};
use crate::domain::report::{CostSums, CostTable, Days, Dimension, Values, WorthSums, push_field};
use crate::units::{Money, grouped};

/// All that a cost table says, as text.
#[must_use]
pub fn tables(table: &CostTable, width: Option<u16>) -> String {
    let mut tables = vec![spent(table)];
    tables.extend(table.total.worth.is_some().then(|| worth(table)));
    tables.extend(table.before.is_some().then(|| moved(table)));
    tables.iter().map(|table| table.render(width)).collect::<Vec<_>>().join("\n")
}

fn last(table: &CostTable) -> Vec<String> {
    let mut last: Vec<String> = table.by.iter().map(|_| String::new()).collect();
    if let Some(first) = last.first_mut() {
        "total".clone_into(first);
    }
    last
}

fn known<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn spent(table: &CostTable) -> Table {
    let dimensions = table.by.iter().map(|dimension| Column::text(heading(*dimension)));
    let sums = ["COST", "UNKNOWN", "RETRIES", "RUNS ENDED", "CALLS", "ATTEMPTS", "TOKENS IN", "OUT", "P50", "P95"];
    let (saved, any_failed) = (Saved::of(&table.total), table.total.failures.is_some_and(|sums| sums.failed > 0));
    let failed = any_failed.then_some("FAILED");
    let columns = dimensions.chain(sums.into_iter().chain(failed).chain(saved.headings()).map(Column::number));
    let mut text = Table::new(columns);
    let failed = |sums: &CostSums| any_failed.then(|| failures(sums));
    let sums =
        |sums: &CostSums| cells(sums).into_iter().chain(failed(sums)).chain(saved.cells(sums)).collect::<Vec<_>>();
    for row in &table.rows {
        text.push(values(&row.values).into_iter().chain(sums(&row.sums)));
    }
    text.push(last(table).into_iter().chain(sums(&table.total)));
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

/// The share of the attempts that failed.
fn failures(sums: &CostSums) -> String {
    known(sums.failures.map(|sums| percent(sums.basis_points)))
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

fn values(values: &Values) -> Vec<String> {
    let shown = |(dimension, value): &(Dimension, Option<String>)| match (dimension, value) {
        (_, Some(value)) => one_line(value, 80),
        (Dimension::Model, None) => "(no model)".to_owned(),
        (_, None) => "-".to_owned(),
    };
    values.0.iter().map(shown).collect()
}

fn cells(sums: &CostSums) -> [String; 10] {
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
        known(sums.latency_p50_ms),
        known(sums.latency_p95_ms),
    ]
}

/// Root runs by the day of their end, and what they were worth.
fn worth(table: &CostTable) -> Table {
    let dimensions = table.by.iter().map(|dimension| Column::text(heading(*dimension)));
    let sums =
        ["RUNS", "PER RUN", "UNITS", "PER UNIT", "WITH FAILED", "QUALITY", "REVENUE", "MARGIN", "RUN P50", "P95"];
    let mut text = Table::new(dimensions.chain(sums.into_iter().map(Column::number)));
    for row in &table.rows {
        if let Some(worth) = &row.sums.worth {
            text.push(values(&row.values).into_iter().chain(worth_cells(worth)));
        }
    }
    if let Some(worth) = &table.total.worth {
        text.push(last(table).into_iter().chain(worth_cells(worth)));
    }
    text
}

fn worth_cells(worth: &WorthSums) -> [String; 10] {
    let (unit, units) = (worth.only_unit(), worth.units.iter().map(|unit| unit.units).sum::<u64>());
    // Cases and articles have no sum.
    let units =
        if units > 0 && unit.is_none() { "several".to_owned() } else { known(unit.map(|unit| grouped(unit.units))) };
    let margin = worth.margin_usd.map(|margin| match worth.margin_basis_points {
        Some(share) => format!("{margin} ({})", signed_percent(share)),
        None => margin.to_string(),
    });
    [
        grouped(worth.runs),
        known(worth.run_usd),
        units,
        known(unit.and_then(|unit| unit.unit_usd)),
        known(unit.and_then(|unit| unit.resolved_unit_usd)),
        known(worth.quality_average()),
        known(worth.revenue_usd),
        known(margin),
        known(worth.run_p50_ms),
        known(worth.run_p95_ms),
    ]
}

fn moved(table: &CostTable) -> Table {
    let dimensions = table.by.iter().map(|dimension| Column::text(heading(*dimension)));
    let mut text = Table::new(dimensions.chain(["BEFORE", "NOW", "CHANGE"].into_iter().map(Column::number)));
    for mover in &table.movers {
        let cells = [mover.before_usd.to_string(), mover.now_usd.to_string(), mover.change_usd.to_string()];
        text.push(values(&mover.values).into_iter().chain(cells));
    }
    if let Some(before) = &table.before {
        let (before, now) = (before.total.settled_usd, table.total.settled_usd);
        let cells = [before.to_string(), now.to_string(), now.minus(before).to_string()];
        text.push(last(table).into_iter().chain(cells));
    }
    text
}

/// The columns of CSV behind the dimensions.
const CSV_COLUMNS: [&str; 33] = [
    "settled_usd",
    "unknown_usd",
    "retries_usd",
    "fallbacks_usd",
    "calls",
    "attempts",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_hits",
    "avoided_usd",
    "cache_saved_usd",
    "latency_p50_ms",
    "latency_p95_ms",
    "runs",
    "runs_usd",
    "run_usd",
    "run_p50_ms",
    "run_p95_ms",
    "unit",
    "units",
    "unsaid_runs",
    "unit_usd",
    "resolved_unit_usd",
    "quality",
    "paid_runs",
    "revenue_usd",
    "margin_usd",
    "attempts_over",
    "attempts_failed",
    "before_usd",
];

/// The rows as CSV (RFC 4180), amounts as plain decimals; what isn't known is empty.
#[must_use]
pub fn csv(table: &CostTable, days: Days) -> String {
    let names =
        ["since", "until"].into_iter().chain(table.by.iter().map(|dimension| dimension.name())).chain(CSV_COLUMNS);
    let mut lines = vec![names.map(str::to_owned).collect::<Vec<_>>().join(",")];
    for row in &table.rows {
        let period = [days.from.to_string(), days.to.to_string()];
        let values = row.values.0.iter().map(|(_, value)| csv_text(value.as_deref().unwrap_or_default()));
        let cells = csv_cells(&row.sums).into_iter().chain([row.before_usd.map_or_else(String::new, Money::usd)]);
        lines.push(period.into_iter().chain(values).chain(cells).collect::<Vec<_>>().join(","));
    }
    lines.join("\r\n") + "\r\n"
}

fn csv_cells(sums: &CostSums) -> Vec<String> {
    let money = |amount: Option<Money>| amount.map_or_else(String::new, Money::usd);
    let text = |value: Option<String>| value.unwrap_or_default();
    let worth = sums.worth.as_ref();
    let unit = worth.and_then(WorthSums::only_unit);
    let tokens = &sums.tokens;
    let count = |count: u64| count.to_string();
    vec![
        sums.settled_usd.usd(),
        sums.unknown_usd.usd(),
        sums.retries_usd.usd(),
        sums.fallbacks_usd.usd(),
        count(sums.calls),
        count(sums.attempts),
        count(tokens.input.0),
        count(tokens.cache_read.0),
        count(tokens.cache_write.0),
        count(tokens.output.0),
        count(tokens.reasoning.0),
        count(sums.cache_hits),
        sums.avoided_usd.usd(),
        sums.cache_saved_usd.usd(),
        text(sums.latency_p50_ms.map(|time| count(time.0))),
        text(sums.latency_p95_ms.map(|time| count(time.0))),
        text(worth.map(|worth| count(worth.runs))),
        money(worth.map(|worth| worth.runs_usd)),
        money(worth.and_then(|worth| worth.run_usd)),
        text(worth.and_then(|worth| worth.run_p50_ms).map(|time| count(time.0))),
        text(worth.and_then(|worth| worth.run_p95_ms).map(|time| count(time.0))),
        unit.map_or_else(String::new, |unit| csv_text(&unit.unit)),
        text(unit.map(|unit| count(unit.units))),
        text(worth.map(|worth| count(worth.units.iter().map(|unit| unit.unsaid_runs).sum()))),
        money(unit.and_then(|unit| unit.unit_usd)),
        money(unit.and_then(|unit| unit.resolved_unit_usd)),
        text(worth.and_then(WorthSums::quality_average).map(|score| score.to_string())),
        text(worth.map(|worth| count(worth.paid_runs))),
        money(worth.and_then(|worth| worth.revenue_usd)),
        text(worth.and_then(|worth| worth.margin_usd).map(crate::units::MoneyDelta::usd)),
        text(sums.failures.map(|sums| count(sums.of))),
        text(sums.failures.map(|sums| count(sums.failed))),
    ]
}

/// A text in CSV.
fn csv_text(text: &str) -> String {
    let mut field = String::new();
    push_field(text, &mut field);
    field
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
        insta::assert_snapshot!(tables(&table, None));
    }
}
