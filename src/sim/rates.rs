//! What the simulated provider charges, by its own reading of its own price table.
//!
//! A second implementation on purpose: nothing here is shared with `domain::pricing`, so that an error in either
//! shows as a difference between ledger and invoice. Deliberately absent: batch, flex and priority tiers, regions,
//! audio and off-peak hours; the simulator always serves the default tier at the peak rate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Money;

/// List prices with their source and date.
const TABLE: &str = include_str!("rates.json");
/// The most rows that a scenario or a project adds.
pub(crate) const PRICES_MAX: usize = 1_000;
/// Digits after the point in a price per million tokens: one token then costs whole pico-dollars.
const DECIMALS: usize = 6;
/// The highest price: $1 a token. With bounded tokens no bill comes near the end of its integer.
const PICO_MAX: u64 = 1_000_000_000_000;
/// Digits after the point in a price of a call.
const CALL_DECIMALS: usize = 12;
/// The highest price of a call: $1,000.
const CALL_PICO_MAX: u64 = 1_000_000_000_000_000;

/// A price given to the simulator as plain data: USD per 1,000,000 tokens as decimal text, such as `"0.25"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimPrice {
    /// The model as it goes over the wire, or as `provider/model`.
    pub model: String,
    /// Input that no cache holds.
    pub input: String,
    /// Output, reasoning included.
    pub output: String,
    /// Input read from a cache; `input` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    /// Input written to a cache; `input` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<String>,
    /// Input written to a cache for the longer time to live; `cache_write` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<String>,
    /// USD of each billed call, beside its tokens; nothing if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_call: Option<String>,
}

/// What one call used, in the provider's own terms: cached and written tokens are part of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of the prompt.
    pub prompt: u64,
    /// The part of it that a cache held.
    pub cached: u64,
    /// The part of it that was written to a cache.
    pub cache_write: u64,
    /// The part of it that was written to a cache for the longer time to live.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_long: u64,
    /// All of the output.
    pub completion: u64,
    /// The part of it that was reasoning.
    pub reasoning: u64,
}

/// What a model costs, in pico-dollars a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    base: Tier,
    /// Pico-dollars of each billed call.
    per_call: u64,
    /// Rates of every token where the prompt has more tokens than this.
    long: Option<(u64, Tier)>,
    /// The longest prompt that the model takes.
    pub(crate) context: Option<u64>,
    /// True where writing to the cache has a price of its own.
    pub(crate) writes: bool,
}

impl Rate {
    /// The exact bill of a call that is billed, its tokens at `percent` hundredths of the rates.
    pub(crate) fn amount(&self, counts: &Counts, percent: u64) -> Money {
        let tier = match self.long {
            Some((over, long)) if counts.prompt > over => long,
            Some(_) | None => self.base,
        };
        let fresh = counts.prompt.saturating_sub(counts.cached).saturating_sub(counts.cache_write);
        let fresh = fresh.saturating_sub(counts.cache_write_long);
        let sum = [
            (fresh, tier.input),
            (counts.cached, tier.cache_read),
            (counts.cache_write, tier.cache_write),
            (counts.cache_write_long, tier.cache_write_long),
            (counts.completion, tier.output),
        ];
        let tokens: u128 = sum.iter().map(|(count, price)| u128::from(*count) * u128::from(*price)).sum();
        // Published rates keep the hundredths whole; a price of a project's own may not, and providers round up.
        let tokens = (tokens * u128::from(percent)).div_ceil(100);
        Money::from_pico(u128::from(self.per_call) + tokens)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tier {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_long: u64,
    output: u64,
}

/// All prices, by provider and model.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    /// By model name as it goes over the wire.
    by_model: BTreeMap<String, Rate>,
    /// By `provider/model`.
    by_full_name: BTreeMap<String, Rate>,
}

impl Rates {
    /// The built-in table, with `prices` over it.
    ///
    /// # Errors
    /// Names the model whose price can't be read.
    pub(crate) fn new(prices: &[SimPrice]) -> Result<Self, PriceError> {
        if prices.len() > PRICES_MAX {
            return Err(PriceError::TooMany { count: prices.len() });
        }
        let mut rates = Self::built_in()?;
        for price in prices {
            rates.put(price)?;
        }
        Ok(rates)
    }

    /// The rate of a model asked for at `provider`'s door, if the path names one.
    pub(crate) fn find(&self, provider: Option<&str>, model: &str) -> Option<&Rate> {
        provider
            .and_then(|provider| self.by_full_name.get(&format!("{provider}/{model}")))
            .or_else(|| self.by_model.get(model))
            .or_else(|| self.by_full_name.get(model))
    }

    /// The names of all models, in order.
    pub(crate) fn models(&self) -> impl Iterator<Item = &str> {
        self.by_model.keys().map(String::as_str)
    }

    fn built_in() -> Result<Self, PriceError> {
        let table: Table = serde_json::from_str(TABLE).map_err(|error| PriceError::Table(error.to_string()))?;
        let mut rates = Self { by_model: BTreeMap::new(), by_full_name: BTreeMap::new() };
        for row in table.models {
            let rate = row.rate()?;
            rates.by_full_name.insert(format!("{}/{}", row.provider, row.id), rate);
            // The table names the first-party providers first, and theirs is the plain name.
            rates.by_model.entry(row.id).or_insert(rate);
        }
        Ok(rates)
    }

    fn put(&mut self, price: &SimPrice) -> Result<(), PriceError> {
        let read = |text: &str| pico_a_token(&price.model, text);
        let input = read(&price.input)?;
        let or_input = |text: &Option<String>| text.as_deref().map_or(Ok(input), read);
        let cache_write = or_input(&price.cache_write)?;
        let base = Tier {
            input,
            output: read(&price.output)?,
            cache_read: or_input(&price.cache_read)?,
            cache_write,
            cache_write_long: price.cache_write_long.as_deref().map_or(Ok(cache_write), read)?,
        };
        let per_call = price.per_call.as_deref().map_or(Ok(0), |text| pico_a_call(&price.model, text))?;
        let rate = Rate { base, per_call, long: None, context: None, writes: price.cache_write.is_some() };
        if let Some((_, model)) = price.model.split_once('/') {
            self.by_full_name.insert(price.model.clone(), rate);
            self.by_model.insert(model.to_owned(), rate);
        } else {
            self.by_model.insert(price.model.clone(), rate);
            let model = &price.model;
            self.by_full_name.retain(|name, _| name.split_once('/').is_none_or(|(_, known)| known != model));
        }
        Ok(())
    }
}

/// Why a price can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// A text that is no price.
    #[error(
        "the price `{text}` of `{model}` is no decimal of USD per 1,000,000 tokens, such as `0.25`, with at most 6 decimals and at most 1000000"
    )]
    Form {
        /// The model.
        model: String,
        /// The text.
        text: String,
    },
    /// A text that is no price of a call.
    #[error(
        "the `per_call` price `{text}` of `{model}` is no decimal of USD, such as `0.002`, with at most 12 decimals and at most 1000"
    )]
    Call {
        /// The model.
        model: String,
        /// The text.
        text: String,
    },
    /// More prices than are kept.
    #[error(
        "{count} prices are more than the {PRICES_MAX} that the simulator keeps; give only those that scenarios use"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The built-in table is damaged.
    #[error("the built-in price table can't be read: {0}; build the program again")]
    Table(String),
}

#[derive(Deserialize)]
struct Table {
    models: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    provider: String,
    id: String,
    context: u64,
    #[serde(rename = "in")]
    input: String,
    out: String,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_long: Option<String>,
    long: Option<LongRow>,
}

/// Rates over the threshold; one that is missing stays at the base rate.
#[derive(Deserialize)]
struct LongRow {
    over: u64,
    #[serde(rename = "in")]
    input: Option<String>,
    out: Option<String>,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_long: Option<String>,
}

impl Row {
    fn rate(&self) -> Result<Rate, PriceError> {
        let read = |text: &Option<String>, otherwise: u64| {
            text.as_deref().map_or(Ok(otherwise), |text| pico_a_token(&self.id, text))
        };
        let input = pico_a_token(&self.id, &self.input)?;
        let base = Tier {
            input,
            output: pico_a_token(&self.id, &self.out)?,
            cache_read: read(&self.cache_read, input)?,
            cache_write: read(&self.cache_write, input)?,
            cache_write_long: read(&self.cache_write_long, read(&self.cache_write, input)?)?,
        };
        let long = self.long.as_ref().map(|long| {
            let input = read(&long.input, base.input)?;
            // A class without a base rate of its own is charged as input, over the threshold too.
            let otherwise = |own: &Option<String>, base: u64| if own.is_some() { base } else { input };
            let tier = Tier {
                input,
                output: read(&long.out, base.output)?,
                cache_read: read(&long.cache_read, otherwise(&self.cache_read, base.cache_read))?,
                cache_write: read(&long.cache_write, otherwise(&self.cache_write, base.cache_write))?,
                cache_write_long: read(
                    &long.cache_write_long,
                    otherwise(&self.cache_write_long, base.cache_write_long),
                )?,
            };
            Ok((long.over, tier))
        });
        let (long, context) = (long.transpose()?, Some(self.context));
        Ok(Rate { base, per_call: 0, long, context, writes: self.cache_write.is_some() })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Reads USD per million tokens as pico-dollars a token: the same digits, six places on.
fn pico_a_token(model: &str, text: &str) -> Result<u64, PriceError> {
    decimal_shifted(text.trim().trim_start_matches('$'), DECIMALS)
        .filter(|pico| *pico <= PICO_MAX)
        .ok_or_else(|| PriceError::Form { model: model.to_owned(), text: text.to_owned() })
}

/// Reads USD as pico-dollars: the same digits, twelve places on.
fn pico_a_call(model: &str, text: &str) -> Result<u64, PriceError> {
    decimal_shifted(text.trim().trim_start_matches('$'), CALL_DECIMALS)
        .filter(|pico| *pico <= CALL_PICO_MAX)
        .ok_or_else(|| PriceError::Call { model: model.to_owned(), text: text.to_owned() })
}

/// A plain decimal times ten to the power of `places`; `None` where it has more decimals, or is none.
pub(crate) fn decimal_shifted(text: &str, places: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(part) || part.len() > places {
        return None;
    }
    format!("{whole}{part:0<places$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(model: &str, counts: Counts) -> u128 {
        Rates::new(&[]).expect("the table").find(None, model).expect("a rate").amount(&counts, 100).pico()
    }

    #[test]
    fn a_bill_is_what_a_person_reckons() {
        // gpt-5-mini: $0.25 in, $0.025 cached, $2 out. 600 fresh, 400 cached, 50 out.
        let counts = Counts { prompt: 1_000, cached: 400, completion: 50, ..Counts::default() };
        assert_eq!(amount("gpt-5-mini", counts), 150_000_000 + 10_000_000 + 100_000_000);
        // gpt-6.1-sol: $2 in, $0.1 cached, $2.5 written, $10 out.
        let counts =
            Counts { prompt: 100, cached: 10, cache_write: 20, completion: 1, reasoning: 1, ..Counts::default() };
        assert_eq!(amount("gpt-6.1-sol", counts), 70 * 2_000_000 + 10 * 100_000 + 20 * 2_500_000 + 10_000_000);
    }

    #[test]
    fn over_the_threshold_every_token_is_at_the_long_rate() {
        let at = |prompt| Counts { prompt, completion: 10, ..Counts::default() };
        assert_eq!(amount("gpt-5.4", at(272_000)), 272_000 * 2_500_000 + 10 * 15_000_000);
        assert_eq!(amount("gpt-5.4", at(272_001)), 272_001 * 5_000_000 + 10 * 22_500_000);
        assert_eq!(amount("grok-4.3", at(200_000)), 200_000 * 2_500_000 + 10 * 5_000_000);
    }

    #[test]
    fn a_given_price_stands_over_the_table() {
        let price = |model: &str| SimPrice {
            model: model.to_owned(),
            input: "1".to_owned(),
            output: "0".to_owned(),
            ..SimPrice::default()
        };
        let rates = Rates::new(&[price("local/qwen"), price("gpt-5-mini")]).expect("prices");
        let one = Counts { prompt: 1, ..Counts::default() };
        for (provider, model) in [(None, "qwen"), (Some("local"), "qwen"), (Some("openai"), "gpt-5-mini")] {
            assert_eq!(rates.find(provider, model).expect("a rate").amount(&one, 100).pico(), 1_000_000);
        }
        assert!(rates.find(None, "nobody").is_none());
    }

    #[test]
    fn a_call_is_charged_beside_its_tokens() {
        let price = |per_call: &str| SimPrice {
            model: "m".to_owned(),
            input: "1".to_owned(),
            output: "2".to_owned(),
            per_call: Some(per_call.to_owned()),
            ..SimPrice::default()
        };
        let rates = Rates::new(&[price("0.002000000001")]).expect("prices");
        let counts = Counts { prompt: 3, completion: 1, ..Counts::default() };
        assert_eq!(rates.find(None, "m").expect("a rate").amount(&counts, 100).pico(), 2_000_000_001 + 5_000_000);
        for text in ["", "-1", "1e3", "0.0000000000001", "1000.1"] {
            assert!(Rates::new(&[price(text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in ["", "-1", "1.", ".5", "1e3", "0.0000001", "1000000.1", "99999999999999999999"] {
            let price = SimPrice { model: "m".to_owned(), input: text.to_owned(), ..SimPrice::default() };
            assert!(Rates::new(&[price]).is_err(), "{text}");
        }
    }
}
