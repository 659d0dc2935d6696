//! `prices bounds`: how tight the bounds of calls were, by model.

use crate::cli::arguments::BoundsArguments;
use crate::cli::books;
use crate::cli::commands::Context;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration, when};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::times;
use crate::domain::report::{BoundRatio, BoundRow, BoundTable};
use crate::domain::rollup::Day;
use crate::units::grouped;

pub(super) fn bounds(context: &Context<'_>, arguments: &BoundsArguments) -> Result<Exit, CliError> {
    let now = clock().now();
    let since = when("--since", &arguments.since, now)?;
    let until = arguments.until.as_ref().map_or(Ok(now), |text| when("--until", text, now))?;
    let project = configuration(context.project, arguments.books.sim)?;
    let store = books::open(&project, arguments.books.sim)?;
    let rollups = store.map_or_else(|| Ok(Vec::new()), |store| store.rollups(Day::of(since), Day::of(until)))?;
    let document = BoundTable::of(&rollups, arguments.part.as_deref().unwrap_or_default());
    if arguments.json {
        context.output.json(&document)?;
    } else if document.bounds.is_empty() {
        context.output.talk("no call with known usage in this time; `--since 365d` looks further back");
    } else {
        context.output.data(&table(&document).render(context.output.data_width()))?;
        context
            .output
            .talk("bound to used: of all calls, of half of them at most, of 95 in 100 at most, and the loosest");
        if document.bounds.iter().any(BoundRow::is_broken) {
            context.output.talk("a bound below 1x was too low; `plimsoll prices frozen` shows what that froze");
        }
    }
    Ok(Exit::Finished)
}

fn table(document: &BoundTable) -> Table {
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
            cell(&model.input),
            cell(&model.output),
            cell(&model.money),
            model.money.bound.to_string(),
            model.money.used.to_string(),
        ]);
    }
    table
}

fn cell<T>(ratio: &BoundRatio<T>) -> String {
    let shown = [ratio.overall_percent, ratio.p50_percent, ratio.p95_percent, ratio.most_percent].map(times);
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rollup::{Dimensions, Rollup};
    use crate::ids::ModelName;

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
        let document = BoundTable::of(&rollups, "MINI");
        insta::assert_snapshot!(table(&document).render(None), @r"
        MODEL              CALLS                    INPUT           OUTPUT                    MONEY  RESERVED    BILLED
        openai/gpt-5-mini      2  1.20x 1.10x 1.30x 1.30x  32x 32x 32x 32x  1.34x 1.25x 1.45x 1.45x  $0.00024  $0.00018
        ");
        assert!(!document.bounds[0].is_broken() && BoundTable::of(&rollups, "o3").bounds.is_empty());
        assert_eq!(
            [99, 100, 999, 1_000, 1_001].map(|percent| times(Some(percent))),
            ["0.99x", "1.00x", "9.99x", "10x", "11x"]
        );
    }
}
