//! `prices show`: every version of one model's price, or the one that holds at a time.

use super::{FrozenRow, MEND, book, document, frozen_row, frozen_rows, rate, source, unknown};
use crate::cli::arguments::BooksArguments;
use crate::cli::commands::Context;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, when};
use crate::cli::render::text::one_line;
use crate::domain::pricing::{PriceBook, PriceRow, Rates, TierPrice, factor_text};
use crate::ids::PriceId;
use crate::units::Timestamp;

pub(super) fn show(
    context: &Context<'_>,
    model: &str,
    at: Option<&str>,
    json: bool,
    books: BooksArguments,
) -> Result<Exit, CliError> {
    let (book, now) = (book(context)?, clock().now());
    let at = at.map(|text| when("--at", text, now)).transpose()?;
    let rows = found(&book, model, at)?;
    let frozen = frozen_rows(context, books)?;
    if json {
        context.output.json(&document(&rows, frozen))?;
    } else {
        let frozen = frozen.unwrap_or_default();
        let told = |row: &&PriceRow| context.output.data(&describe(row, frozen_row(row, &frozen), now));
        rows.iter().try_for_each(told)?;
    }
    Ok(Exit::Finished)
}

fn found<'a>(book: &'a PriceBook, model: &str, at: Option<Timestamp>) -> Result<Vec<&'a PriceRow>, CliError> {
    let mut rows: Vec<&PriceRow> = book.rows().filter(|row| row.id.is_named(model)).collect();
    // A version that other prices stand over is still there by its own name.
    rows.extend(rows.is_empty().then(|| book.find_version(&PriceId::from(model))).flatten());
    if rows.is_empty() {
        return Err(unknown(book, model));
    }
    let Some(at) = at else { return Ok(rows) };
    rows.retain(|row| row.is_valid_at(at));
    if rows.is_empty() {
        let message = format!("`{}` has no price at {at}", one_line(model, 80));
        let help = format!("`plimsoll prices show {}` shows when it has one", one_line(model, 80));
        return Err(Problem::usage(code::MODEL, message).help(help).into());
    }
    Ok(rows)
}

fn describe(row: &PriceRow, frozen: Option<&FrozenRow>, now: Timestamp) -> String {
    let mut lines = vec![row.id.to_string()];
    lines.extend(frozen.map(|frozen| format!("  FROZEN              {}\n  to mend it          {MEND}", frozen.why())));
    lines.push("  USD per 1,000,000 tokens".to_owned());
    tier(&mut lines, "  ", "ordinary", &row.price);
    for off_peak in &row.off_peak {
        let hours: Vec<String> = off_peak.hours.iter().map(ToString::to_string).collect();
        lines.push(format!("  in some hours, UTC  {}", hours.join(", ")));
        tier(&mut lines, "    ", "then", &off_peak.price);
    }
    let beside = || format!("  each call           {}, beside its tokens", row.per_call);
    lines.extend((!row.per_call.is_zero()).then(beside));
    lines.extend(row.fees.iter().map(|(fee, price)| format!("  each {:<14} {price}", fee.name())));
    for (name, price) in &row.service_tiers {
        tier(&mut lines, "  ", &format!("tier {name}"), price);
    }
    for (factor, by) in &row.multipliers {
        lines.push(format!("  times {:<13} with {}", factor_text(*by), factor.name()));
    }
    lines.extend(row.context_window.map(|window| format!("  window              {window} tokens")));
    let output = |output: u32| format!("  longest output      {} tokens", crate::units::grouped(output.into()));
    lines.extend(row.max_output.map(output));
    lines.extend(dates(row, now));
    lines.push(format!("  source              {}", source(row)));
    lines.extend(row.confirmed.as_ref().map(|day| format!("  confirmed           {day}")));
    lines.extend(row.reason.as_ref().map(|reason| format!("  reason              {}", one_line(reason, 200))));
    lines.extend(row.notes.iter().map(|note| format!("  note                {}", one_line(note, 200))));
    lines.join("\n")
}

/// Only where there are any: most prices hold always.
fn dates(row: &PriceRow, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(row.valid_from.map(|from| format!("  holds from          {from}")));
    lines.extend(row.valid_to.map(|to| format!("  holds until         {to}")));
    if !lines.is_empty() && row.is_valid_at(now) {
        lines.push("  holds now           yes".to_owned());
    }
    lines
}

fn tier(lines: &mut Vec<String>, indent: &str, name: &str, tier: &TierPrice) {
    let width = 22 - indent.len();
    lines.push(format!("{indent}{name:<width$}{}", rates(&tier.rates)));
    if let Some(long) = &tier.long {
        let above = format!("  above {}", long.above);
        lines.push(format!("{indent}{above:<width$}{}", rates(&long.rates)));
    }
}

fn rates(rates: &Rates) -> String {
    let mut text = format!(
        "input {}, cached {}, written {}, output {}",
        rates.input.usd_per_million(),
        rate(rates.cache_read),
        rate(rates.cache_write),
        rates.output.usd_per_million()
    );
    if rates.cache_write_long.is_some_and(|long| Some(long) != rates.cache_write) {
        text.push_str(", written for long ");
        text.push_str(&rate(rates.cache_write_long));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_392_000_000);

    fn described(model: &str) -> String {
        let rows = found(PriceBook::builtin(), model, Some(NOW)).expect("a price");
        rows.iter().map(|row| describe(row, None, NOW)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_price_is_described_with_all_that_it_depends_on() {
        let text = ["openai/gpt-5.6-sol", "deepseek/deepseek-flash"].map(described).join("\n");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_price_is_found_by_date_and_by_version() {
        let book = PriceBook::builtin();
        let model = "openai/gpt-5.6-sol";
        assert_eq!(found(book, model, None).expect("versions").len(), 3);
        let then = found(book, model, Some(Timestamp(1_790_000_000_000))).expect("the promotion");
        assert_eq!(then[0].price.rates.input.usd_per_million(), "4");
        let mut row = then[0].clone();
        row.valid_to = None;
        let over = book.with_overrides(vec![row]);
        let replaced = book.find(&model.into(), NOW).expect("a price").id.to_string();
        assert_eq!(found(&over, &replaced, None).expect("the version")[0].id.as_str(), replaced);
        assert_eq!(found(&over, model, Some(Timestamp(0))).expect_err("none yet").exit(), Exit::Usage);
    }
}
