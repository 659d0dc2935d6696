//! `prices bounds`: how tight the bounds of calls were, by model.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::arguments::BoundsArguments;
use crate::cli::books;
use crate::cli::commands::Context;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, when};
use crate::cli::render::table::{Column, Table};
use crate::domain::rollup::{Day, Rollup, RollupKey};
use crate::domain::tightness::{Ratio, Tightness};
use crate::ids::ModelName;
use crate::units::{Money, Tokens, grouped};

/// What `--json` prints. Ratios are in percent: 125 is a bound of a quarter more than what was used.
#[derive(Serialize)]
struct Document {
    bounds: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    model: ModelName,
    calls: u64,
    input: Shown<Tokens>,
    output: Shown<Tokens>,
    money: Shown<Money>,
}

/// One ratio, with what it is of.
#[derive(Serialize)]
struct Shown<T> {
    calls: u64,
    bound: T,
    used: T,
    overall_percent: Option<u32>,
    least_percent: Option<u32>,
    p50_percent: Option<u32>,
    p95_percent: Option<u32>,
    most_percent: Option<u32>,
}

impl<T> Shown<T> {
    fn of(ratio: &Ratio, unit: impl Fn(u128) -> T) -> Self {
        let (bound, used) = ratio.sums();
        Self {
            calls: ratio.count(),
            bound: unit(bound),
            used: unit(used),
            overall_percent: ratio.overall(),
            least_percent: ratio.extremes().map(|(least, _)| least),
            p50_percent: ratio.percentile(50),
            p95_percent: ratio.percentile(95),
            most_percent: ratio.extremes().map(|(_, most)| most),
        }
    }

    fn cell(&self) -> String {
        let shown = [self.overall_percent, self.p50_percent, self.p95_percent, self.most_percent].map(times);
        shown.join(" ")
    }
}

pub(super) fn bounds(context: &Context<'_>, arguments: &BoundsArguments) -> Result<Exit, CliError> {
    let now = clock().now();
    let since = when("--since", &arguments.since, now)?;
    let until = arguments.until.as_ref().map_or(Ok(now), |text| when("--until", text, now))?;
    let project = configuration(context.project, arguments.books.sim)?;
    let store = books::open(&project, arguments.books.sim)?;
    let rollups = store.map_or_else(|| Ok(Vec::new()), |store| store.rollups(Day::of(since), Day::of(until)))?;
    let document = Document { bounds: by_model(&rollups, arguments.part.as_deref().unwrap_or_default()) };
    if arguments.json {
        context.output.json(&document)?;
    } else if document.bounds.is_empty() {
        context.output.talk("no call with known usage in this time; `--since 365d` looks further back");
    } else {
        context.output.data(&table(&document).render(context.output.data_width()))?;
        context
            .output
            .talk("bound to used: of all calls, of half of them at most, of 95 in 100 at most, and the loosest");
        if document.bounds.iter().any(Model::is_broken) {
            context.output.talk("a bound below 1x was too low; `plimsoll prices frozen` shows what that froze");
        }
    }
    Ok(Exit::Finished)
}

impl Model {
    fn is_broken(&self) -> bool {
        [self.input.least_percent, self.output.least_percent, self.money.least_percent]
            .iter()
            .flatten()
            .any(|p| *p < 100)
    }
}

fn by_model(rollups: &[(RollupKey, Rollup)], part: &str) -> Vec<Model> {
    let mut sums: BTreeMap<&ModelName, Tightness> = BTreeMap::new();
    for ((_, dimensions), rollup) in rollups {
        if let Some(model) = &dimensions.model {
            sums.entry(model).or_default().add(&rollup.tightness);
        }
    }
    let part = part.to_lowercase();
    let fits = |model: &ModelName| model.as_str().to_lowercase().contains(&part);
    let known = sums.into_iter().filter(|(model, sums)| sums.input.count() > 0 && fits(model));
    let tokens = |count: u128| Tokens(u64::try_from(count).unwrap_or(u64::MAX));
    let shown = |(model, sums): (&ModelName, Tightness)| Model {
        model: model.clone(),
        calls: sums.input.count(),
        input: Shown::of(&sums.input, tokens),
        output: Shown::of(&sums.output, tokens),
        money: Shown::of(&sums.money, Money::from_pico),
    };
    known.map(shown).collect()
}

fn table(document: &Document) -> Table {
    let mut table = Table::new([
        Column::id("MODEL"),
        Column::number("CALLS"),
        Column::number("INPUT"),
        Column::number("OUTPUT"),
        Column::number("MONEY"),
        Column::number("RESERVED"),
        Column::number("BILLED"),
    ]);
    for model in &document.bounds {
        table.push([
            model.model.to_string(),
            grouped(model.calls),
            model.input.cell(),
            model.output.cell(),
            model.money.cell(),
            model.money.bound.to_string(),
            model.money.used.to_string(),
        ]);
    }
    table
}

/// `1.25x` of 125 percent.
fn times(percent: Option<u32>) -> String {
    let shown = |percent: u32| match percent {
        0..1_000 => format!("{}.{:02}x", percent / 100, percent % 100),
        _ => format!("{}x", percent.div_ceil(100)),
    };
    percent.map_or_else(|| "-".to_owned(), shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rollup::Dimensions;

    #[test]
    fn bounds_are_summed_by_model_over_days_and_agents() {
        let dimensions = Dimensions {
            agent: "support".into(),
            model: None,
            tenant: None,
            feature: None,
            environment: None,
            owner: None,
            prompt_version: "v1".into(),
            thread: None,
        };
        let of = |model: Option<&str>| dimensions.with_model(model.map(ModelName::from));
        let rollup = |bound: u128| {
            let mut rollup = Rollup::default();
            rollup.tightness.input.record(bound, 100);
            rollup.tightness.output.record(2_048, 64);
            rollup.tightness.money.record(bound * 1_000_000, 90_000_000);
            rollup
        };
        let rollups = [
            ((Day(1), of(Some("openai/gpt-5-mini"))), rollup(110)),
            ((Day(2), of(Some("openai/gpt-5-mini"))), rollup(130)),
            ((Day(2), of(Some("openai/o3"))), Rollup::default()),
            ((Day(2), of(None)), Rollup::default()),
        ];
        let document = Document { bounds: by_model(&rollups, "MINI") };
        insta::assert_snapshot!(table(&document).render(None), @r"
        MODEL              CALLS                    INPUT           OUTPUT                    MONEY  RESERVED    BILLED
        openai/gpt-5-mini      2  1.20x 1.10x 1.30x 1.30x  32x 32x 32x 32x  1.34x 1.25x 1.45x 1.45x  $0.00024  $0.00018
        ");
        assert!(!document.bounds[0].is_broken() && by_model(&rollups, "o3").is_empty());
        assert_eq!(
            [99, 100, 999, 1_000, 1_001].map(|percent| times(Some(percent))),
            ["0.99x", "1.00x", "9.99x", "10x", "11x"]
        );
    }
}
