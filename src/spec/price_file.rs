//! `prices.toml` as it is written: what was imported, each version of a price in its time.
//!
//! A version is never changed: where a new file says something else, the old version ends and a new one begins. Where it
//! says the same, the version stays and is confirmed; a model that it has no more keeps its price, and grows old.

use std::fmt::Write as _;

use crate::domain::pricing::{PriceRow, Rates, STATED, TierPrice, changes, factor_text};
use crate::spec::prices::Imported;
use crate::units::{Timestamp, TokenPrice};

impl Imported {
    /// These prices with newly read ones over them, as of `at`.
    #[must_use]
    pub fn with(self, rows: Vec<PriceRow>, from: &Self, at: Timestamp) -> Self {
        let mut kept: Vec<PriceRow> = Vec::new();
        let mut new: Vec<PriceRow> = rows;
        for mut old in self.rows {
            let place = new.iter().position(|row| row.model == old.model);
            let Some(place) = place.filter(|_| old.is_valid_at(at)) else {
                kept.push(old);
                continue;
            };
            if changes([&old], [&new[place]]).is_empty() {
                new.remove(place);
                old.confirmed = Some(from.retrieved.clone());
                kept.push(old);
            } else {
                new[place].valid_from = Some(at);
                old.valid_to = Some(at);
                // One that began only now was never used.
                if old.valid_from.is_none_or(|begun| begun < at) {
                    kept.push(old);
                }
            }
        }
        kept.extend(new.into_iter().map(PriceRow::with_id));
        kept.sort_by(|one, other| (&one.model, one.valid_from).cmp(&(&other.model, other.valid_from)));
        Self { rows: kept, ..from.clone() }
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# Written by `plimsoll prices import`; prices of your own go into `[[prices]]` of plimsoll.toml.\n",
        );
        for (key, value) in [("source", &self.source), ("sha256", &self.sha256), ("retrieved", &self.retrieved)] {
            line(&mut text, key, &quoted(value));
        }
        self.rows.iter().for_each(|row| put_row(&mut text, row));
        text
    }
}

fn put_row(text: &mut String, row: &PriceRow) {
    text.push_str("\n[[prices]]\n");
    line(text, "model", &quoted(row.model.as_str()));
    put_rates(text, &row.price.rates);
    put_long(text, &row.price);
    if !row.per_call.is_zero() {
        line(text, "per_call", &quoted(&row.per_call.to_string()));
    }
    put_table(text, "multipliers", row.multipliers.iter().map(|(name, by)| (name.name(), factor_text(*by))));
    put_table(text, "fees", row.fees.iter().map(|(name, price)| (name.name(), price.to_string())));
    if let Some(window) = row.context_window {
        line(text, "context_tokens", &window.0.to_string());
    }
    if let Some(output) = row.max_output {
        line(text, "max_output_tokens", &output.to_string());
    }
    for (key, at) in [("valid_from", row.valid_from), ("valid_to", row.valid_to)] {
        at.into_iter().for_each(|at| line(text, key, &at.to_string()));
    }
    if row.retrieved != STATED {
        line(text, "retrieved", &quoted(&row.retrieved));
    }
    row.confirmed.iter().for_each(|day| line(text, "confirmed", &quoted(day)));
    line(text, "source", &quoted(&row.source));
    row.notes.iter().for_each(|note| comment(text, note));
    for (name, tier) in &row.service_tiers {
        let _infallible = writeln!(text, "[prices.service_tiers.{}]", quoted(name));
        put_rates(text, &tier.rates);
        put_long(text, tier);
    }
    for off_peak in &row.off_peak {
        text.push_str("[[prices.off_peak]]\n");
        let hours: Vec<String> = off_peak.hours.iter().map(|hours| quoted(&hours.to_string())).collect();
        line(text, "hours", &format!("[{}]", hours.join(", ")));
        put_rates(text, &off_peak.price.rates);
        put_long(text, &off_peak.price);
    }
}

fn put_long(text: &mut String, tier: &TierPrice) {
    let Some(long) = &tier.long else { return };
    let rates = named(&long.rates).map(|(key, rate)| format!(", {key} = {}", quoted(&rate.usd_per_million())));
    let _infallible = writeln!(text, "long = {{ above = {}{} }}", long.above.0, rates.collect::<String>());
}

fn put_rates(text: &mut String, rates: &Rates) {
    named(rates).for_each(|(key, rate)| line(text, key, &quoted(&rate.usd_per_million())));
}

fn named(rates: &Rates) -> impl Iterator<Item = (&'static str, TokenPrice)> + use<> {
    let Rates { input, output, cache_read, cache_write, cache_write_long } = *rates;
    let all = [
        ("input", Some(input)),
        ("output", Some(output)),
        ("cache_read", cache_read),
        ("cache_write", cache_write),
        ("cache_write_long", cache_write_long),
    ];
    all.into_iter().filter_map(|(key, rate)| Some((key, rate?)))
}

fn put_table<'a>(text: &mut String, key: &str, entries: impl Iterator<Item = (&'a str, String)>) {
    let entries: Vec<String> = entries.map(|(name, value)| format!("{name} = {}", quoted(&value))).collect();
    if !entries.is_empty() {
        line(text, key, &format!("{{ {} }}", entries.join(", ")));
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _infallible = writeln!(text, "{key} = {value}");
}

fn comment(text: &mut String, words: &str) {
    let _infallible = writeln!(text, "# {}", words.split_whitespace().collect::<Vec<_>>().join(" "));
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _infallible = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::PriceBook;
    use crate::spec::load::{LoadOptions, load_configuration};

    fn read(text: &str) -> Imported {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("prices.toml"), text).expect("a file");
        let project = load_configuration(folder.path(), &LoadOptions::default());
        project.map_err(|faults| faults.to_string()).expect("a good file").imported
    }

    fn head(day: &str) -> Imported {
        Imported { rows: Vec::new(), source: "a \"map\"\n".into(), sha256: "00".into(), retrieved: day.into() }
    }

    fn builtin(part: &str) -> Vec<PriceRow> {
        let rows = PriceBook::builtin().rows().filter(|row| row.model.as_str().contains(part)).cloned();
        let plain = |row: PriceRow| PriceRow { capabilities: [].into(), notes: Vec::new(), ..row }.with_id();
        rows.map(plain).collect()
    }

    #[test]
    fn every_built_in_price_reads_back_as_it_was_written() {
        let written = Imported { rows: builtin(""), ..head("2026-11-30") };
        assert!(written.rows.len() > 100);
        let read = read(&written.to_toml());
        assert_eq!((read.source.as_str(), read.sha256.as_str()), ("a \"map\"\n", "00"));
        for (was, is) in written.rows.iter().zip(&read.rows) {
            assert_eq!(was, is);
        }
        assert_eq!(written, read);
    }

    #[test]
    fn a_new_price_ends_the_old_version_and_leaves_it_named() {
        let (first, second, third) = (Timestamp(1_000_000), Timestamp(2_000_000), Timestamp(3_000_000));
        let rows = builtin("openai/gpt-5-");
        let names = |imported: &Imported| imported.rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>();
        let imported = Imported::default().with(rows.clone(), &head("2026-11-23"), first);
        assert_eq!(imported.rows, rows);
        let same = imported.clone().with(rows.clone(), &head("2026-12-01"), second);
        assert_eq!(names(&same), names(&imported), "the same versions");
        assert!(same.rows.iter().all(|row| row.confirmed.as_deref() == Some("2026-12-01")));

        let mut dearer = rows[0].clone();
        dearer.price.rates.input = TokenPrice::from_pico(9_000_000);
        let changed = same.clone().with(vec![dearer.clone()], &head("2026-12-24"), third);
        assert_eq!(changed.rows.len(), rows.len() + 1);
        let book = PriceBook::of(changed.rows.clone());
        let (before, after) = (Timestamp(third.0 - 1), third);
        let old = book.find(&dearer.model, before).expect("the old price");
        assert_eq!((&old.id, old.valid_to), (&rows[0].id, Some(third)), "the version is named as it was");
        let new = book.find(&dearer.model, after).expect("the new price");
        assert_eq!(new.price.rates.input, TokenPrice::from_pico(9_000_000));
        assert_eq!(book.find_version(&rows[0].id), Some(old));
        assert_eq!(read(&changed.to_toml()), changed);
        let again = changed.clone().with(vec![rows[0].clone()], &head("2026-12-24"), third);
        assert_eq!(again.rows.len(), changed.rows.len(), "what began in this moment leaves no trace");
    }
}
