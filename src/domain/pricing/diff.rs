//! What differs between prices: by model, term by term.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::pricing::{PriceRow, Rates, TierPrice};
use crate::ids::ModelName;
use crate::units::TokenPrice;

/// A model whose price isn't the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The model.
    pub model: ModelName,
    /// The terms that differ, each with what it was and what it is: `None` where a side doesn't have it.
    pub terms: Vec<Term>,
    /// Which sides have a price at all.
    pub kind: Kind,
}

/// Which sides have a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only the new one.
    Added,
    /// Only the old one.
    Removed,
    /// Both.
    Changed,
}

/// One term of a price that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// Its name: `input`, `tier flex: output`.
    pub what: String,
    /// What it was.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
}

/// The models whose prices differ, in their order. Of two rows for one model the last counts.
pub fn changes<'a>(
    old: impl IntoIterator<Item = &'a PriceRow>,
    new: impl IntoIterator<Item = &'a PriceRow>,
) -> Vec<Change> {
    let old: BTreeMap<&ModelName, &PriceRow> = old.into_iter().map(|row| (&row.model, row)).collect();
    let new: BTreeMap<&ModelName, &PriceRow> = new.into_iter().map(|row| (&row.model, row)).collect();
    let mut models: Vec<&ModelName> = old.keys().chain(new.keys()).copied().collect();
    models.sort_unstable();
    models.dedup();
    models.into_iter().filter_map(|model| change(model, old.get(model).copied(), new.get(model).copied())).collect()
}

fn change(model: &ModelName, old: Option<&PriceRow>, new: Option<&PriceRow>) -> Option<Change> {
    let kind = match (old, new) {
        (Some(_), Some(_)) => Kind::Changed,
        (Some(_), None) => Kind::Removed,
        (None, _) => Kind::Added,
    };
    let (old, new) = (old.map(terms).unwrap_or_default(), new.map(terms).unwrap_or_default());
    let mut differing: Vec<Term> = Vec::new();
    for (what, value) in &old {
        let new = new.get(what).cloned();
        if new.as_ref() != Some(value) {
            differing.push(Term { what: what.clone(), old: Some(value.clone()), new });
        }
    }
    let added = new.iter().filter(|(what, _)| !old.contains_key(*what));
    differing.extend(added.map(|(what, value)| Term { what: what.clone(), old: None, new: Some(value.clone()) }));
    (!differing.is_empty()).then(|| Change { model: model.clone(), terms: differing, kind })
}

/// Everything about a row that decides what a call costs, by name.
fn terms(row: &PriceRow) -> BTreeMap<String, String> {
    let mut terms = BTreeMap::new();
    put_tier(&mut terms, "", &row.price);
    for (name, tier) in &row.service_tiers {
        put_tier(&mut terms, &format!("tier {name}: "), tier);
    }
    for off_peak in &row.off_peak {
        let hours: Vec<String> = off_peak.hours.iter().map(ToString::to_string).collect();
        put_tier(&mut terms, &format!("{}: ", hours.join(", ")), &off_peak.price);
    }
    for (factor, basis_points) in &row.multipliers {
        terms.insert(format!("factor {}", factor.name()), factor_text(*basis_points));
    }
    for (fee, price) in &row.fees {
        terms.insert(format!("each {}", fee.name()), price.to_string());
    }
    if !row.per_call.is_zero() {
        terms.insert("each call".to_owned(), row.per_call.to_string());
    }
    if let Some(window) = row.context_window {
        terms.insert("window".to_owned(), window.to_string());
    }
    if let Some(output) = row.max_output {
        terms.insert("longest output".to_owned(), crate::units::grouped(output.into()));
    }
    terms
}

fn put_tier(terms: &mut BTreeMap<String, String>, prefix: &str, tier: &TierPrice) {
    put_rates(terms, prefix, &tier.rates);
    if let Some(long) = &tier.long {
        put_rates(terms, &format!("{prefix}above {}: ", long.above), &long.rates);
    }
}

fn put_rates(terms: &mut BTreeMap<String, String>, prefix: &str, rates: &Rates) {
    let Rates { input, output, cache_read, cache_write, cache_write_long } = *rates;
    let classes = [
        ("input", Some(input)),
        ("output", Some(output)),
        ("cache_read", cache_read),
        ("cache_write", cache_write),
        ("cache_write_long", cache_write_long),
    ];
    let known = classes.into_iter().filter_map(|(class, rate)| Some((class, rate?)));
    terms.extend(known.map(|(class, rate): (_, TokenPrice)| (format!("{prefix}{class}"), rate.usd_per_million())));
}

/// A factor in basis points as people write it: `1.1`.
#[must_use]
pub fn factor_text(basis_points: u32) -> String {
    let part = format!("{:04}", basis_points % 10_000);
    let text = format!("{}.{}", basis_points / 10_000, part.trim_end_matches('0'));
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::PriceBook;

    fn row(model: &str) -> PriceRow {
        PriceBook::builtin().first_of(&ModelName::from(model)).expect("a price").clone()
    }

    #[test]
    fn what_differs_is_told_term_by_term() {
        let (old, gone) = (row("openai/gpt-5-mini"), row("openai/gpt-5"));
        let mut new = old.clone();
        new.price.rates.input = TokenPrice::from_pico(300_000);
        new.fees.clear();
        let more = row("deepseek/deepseek-flash");
        let found = changes([&old, &gone], [&new, &more]);
        let told: Vec<String> =
            found.iter().map(|change| format!("{} {:?} {}", change.model, change.kind, change.terms.len())).collect();
        assert_eq!(told[1..], ["openai/gpt-5 Removed 14", "openai/gpt-5-mini Changed 2"], "{told:?}");
        assert!(told[0].starts_with("deepseek/deepseek-flash Added"), "{told:?}");
        let term = |what: &str, old: &str, new: Option<&str>| Term {
            what: what.to_owned(),
            old: Some(old.to_owned()),
            new: new.map(str::to_owned),
        };
        assert_eq!(found[2].terms, [term("each web_search", "$0.01", None), term("input", "0.25", Some("0.3"))]);
        assert_eq!(changes([&old], [&old]), []);
    }

    #[test]
    fn factors_are_shown_as_they_are_written() {
        assert_eq!([11_000, 20_000, 5_000, 10_001].map(factor_text), ["1.1", "2", "0.5", "1.0001"]);
    }
}
