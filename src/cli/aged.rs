//! Old prices, in words.

use std::collections::BTreeSet;

use crate::domain::plan::Plan;
use crate::domain::pricing::{Age, Ages, PriceBook, PriceRow};
use crate::ids::ModelName;
use crate::units::{Millis, Timestamp};

/// How to get newer prices.
pub(crate) const REFRESH: &str = "`plimsoll prices import FILE` takes in newer ones";
/// Old prices that are named.
const AGED_SHOWN_MAX: usize = 3;

/// Which of these prices are old, and which too old to be used; and how to mend it.
pub(crate) fn age_warnings(rows: &[&PriceRow], ages: &Ages, now: Timestamp) -> Vec<String> {
    aged(rows, ages, now).into_iter().map(|message| format!("{message}; {REFRESH}")).collect()
}

fn aged(rows: &[&PriceRow], ages: &Ages, now: Timestamp) -> Vec<String> {
    let (mut old, mut too_old) = (Vec::new(), Vec::new());
    for row in rows {
        match ages.judge(row, now) {
            Age::Fresh => {}
            Age::Old { .. } => old.push(row.model.as_str()),
            Age::TooOld { .. } => too_old.push(row.model.as_str()),
        }
    }
    let told = |models: &[&str], age: Millis, what: &str| {
        let named = models.iter().take(AGED_SHOWN_MAX).map(|model| format!("`{model}`")).collect::<Vec<_>>().join(", ");
        let more = if models.len() > AGED_SHOWN_MAX {
            format!(" and {} more", models.len() - AGED_SHOWN_MAX)
        } else {
            String::new()
        };
        format!("read more than {age} ago{what}: the price of {named}{more}")
    };
    let lines = [
        (!too_old.is_empty()).then(|| told(&too_old, ages.refuse_after, ", so no call uses it")),
        (!old.is_empty()).then(|| told(&old, ages.warn_after, "")),
    ];
    lines.into_iter().flatten().collect()
}

/// The same of the prices that some agents may use.
pub(crate) fn plan_age_warnings<'a>(
    plans: impl IntoIterator<Item = &'a Plan>,
    book: &PriceBook,
    ages: &Ages,
    now: Timestamp,
) -> Vec<String> {
    age_warnings(&rows_of(plans, book, now), ages, now)
}

/// Which prices that an agent may use are old, without how to mend it ([`REFRESH`]).
pub(crate) fn aged_of(plan: &Plan, book: &PriceBook, ages: &Ages, now: Timestamp) -> Vec<String> {
    aged(&rows_of([plan], book, now), ages, now)
}

fn rows_of<'a, 'b>(
    plans: impl IntoIterator<Item = &'a Plan>,
    book: &'b PriceBook,
    now: Timestamp,
) -> Vec<&'b PriceRow> {
    let models: BTreeSet<&ModelName> = plans.into_iter().flat_map(Plan::models).collect();
    models.into_iter().filter_map(|model| book.find(model, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_prices_are_named_and_those_of_no_day_are_not() {
        let row = |model: &str| PriceBook::builtin().first_of(&model.into()).expect("a price").clone();
        let dated = |model: &str, retrieved: &str| PriceRow { retrieved: retrieved.to_owned(), ..row(model) };
        let (old, ancient) = (dated("openai/gpt-5", "2026-10-01"), dated("openai/gpt-4o", "2025-01-01"));
        let confirmed = PriceRow { confirmed: Some("2026-11-20".into()), ..dated("openai/gpt-5-mini", "2025-01-01") };
        let stated = dated("openai/gpt-5-nano", "project");
        let told = age_warnings(&[&old, &ancient, &confirmed, &stated], &Ages::DEFAULT, Timestamp(1_795_392_000_000));
        assert_eq!(
            told,
            [
                "read more than 366d ago, so no call uses it: the price of `openai/gpt-4o`; `plimsoll prices import FILE` takes in newer ones",
                "read more than 45d ago: the price of `openai/gpt-5`; `plimsoll prices import FILE` takes in newer ones",
            ]
        );
    }
}
