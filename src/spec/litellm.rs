//! LiteLLM's map of models and prices (`model_prices_and_context_window.json`) read into rows of the price book.
//!
//! Its fields are those of version 1.109.1, read on 2026-11-23. Numbers are taken from the file's own digits, never through
//! a float, and each must be whole pico-dollars. A model with a price that our rows can't say is refused, by name and with
//! the reason; batch prices and those of audio, images, video and time are passed over, since no wire of ours causes them.

mod entry;
mod number;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::domain::pricing::PriceRow;
use crate::ids::{ModelName, ProviderName};
use crate::spec::names::is_model;
use entry::{Entry, Why};

/// The largest file that is read.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most rows that are taken from one file.
const ROWS_MAX: usize = 5_000;
/// Kinds of model that our wires ask.
const MODES: [&str; 2] = ["chat", "responses"];

/// What a file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Prices, in the order of their models.
    pub rows: Vec<PriceRow>,
    /// Models whose price can't be taken, in the order of their names, and why.
    pub refused: BTreeMap<String, String>,
    /// Models of other kinds, such as `embedding`, and how many.
    pub other_modes: BTreeMap<String, u64>,
    /// Models of providers that weren't asked for.
    pub other_providers: u64,
}

/// Where a file is from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// What its rows name as their source.
    pub source: &'a str,
    /// The day on which it was read.
    pub retrieved: &'a str,
}

/// Why a file is no map of prices.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// It isn't JSON of that form.
    #[error("it is no map of models in JSON: {0}")]
    Form(serde_json::Error),
    /// Too much of it was asked for.
    #[error("it has more than {ROWS_MAX} prices of these providers; name fewer")]
    TooMany,
}

/// Reads the prices of the wanted providers.
///
/// # Errors
/// The text is none of this form, or has too many prices.
pub fn read(text: &str, wanted: &dyn Fn(&ProviderName) -> bool, origin: Origin<'_>) -> Result<Map, MapError> {
    let entries: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(MapError::Form)?;
    let (mut map, mut rows) = (Map::default(), BTreeMap::<ModelName, (String, PriceRow)>::new());
    for (name, raw) in &entries {
        let Some(entry) = Entry::read(name, raw.get()) else { continue };
        let model = entry.model();
        if !wanted(&model.provider()) {
            map.other_providers += 1;
        } else if !MODES.contains(&entry.mode()) {
            *map.other_modes.entry(entry.mode().to_owned()).or_default() += 1;
        } else {
            let named = if is_model(model.as_str()) { Ok(model) } else { Err(Why::Name) };
            match named.and_then(|model| entry.row(model, origin)) {
                Err(why) => drop(map.refused.insert(name.clone(), why.to_string())),
                Ok(row) => put(&mut rows, &mut map.refused, name, row),
            }
        }
        if rows.len() > ROWS_MAX {
            return Err(MapError::TooMany);
        }
    }
    map.rows = rows.into_values().map(|(_, row)| row).collect();
    Ok(map)
}

/// Two entries of one model are one where they say the same, and none where they don't.
fn put(
    rows: &mut BTreeMap<ModelName, (String, PriceRow)>,
    refused: &mut BTreeMap<String, String>,
    name: &str,
    row: PriceRow,
) {
    match rows.get(&row.model) {
        None => drop(rows.insert(row.model.clone(), (name.to_owned(), row))),
        Some((_, other)) if crate::domain::pricing::changes([other], [&row]).is_empty() => {}
        Some((first, _)) => {
            let why = format!("`{first}` and `{name}` are `{}` at different prices", row.model);
            refused.insert(first.clone(), why.clone());
            refused.insert(name.to_owned(), why);
            rows.remove(&row.model);
        }
    }
}

#[cfg(test)]
mod tests;
