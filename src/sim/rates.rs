//! What the simulated provider charges, by its own reading of its own price table.
//!
//! A second implementation on purpose: nothing here is shared with `domain::pricing`, so that an error in either
//! shows as a difference between ledger and invoice. `tariff.rs` has the arithmetic. Deliberately absent: batch tiers and audio.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sim::tariff::{Classes, Tier, week_spans};
pub use crate::sim::tariff::{Counts, Rate, Serving};
use crate::units::Timestamp;

/// List prices with their source and date.
const TABLE: &str = include_str!("rates.json");
/// The most rows that a scenario or a project adds.
pub(crate) const PRICES_MAX: usize = 10_000;
/// Digits after the point in a price per million tokens: one token then costs whole pico-dollars.
const DECIMALS: usize = 6;
/// The highest price: $1 a token. With bounded tokens no bill comes near the end of its integer.
const PICO_MAX: u64 = 1_000_000_000_000;
/// Digits after the point in a price of a call.
const CALL_DECIMALS: usize = 12;
/// The highest price of a call: $1,000.
const CALL_PICO_MAX: u64 = 1_000_000_000_000_000;
/// The largest factor, in ten-thousandths: 100 times.
const FACTOR_MAX: u64 = 1_000_000;

/// A price as plain data: USD per 1,000,000 tokens as decimal text, such as `"0.25"`. What a scenario or a project gives the
/// simulator, and what its own table has.
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
    /// Input written to a cache for the shorter time to live; `input` if no write has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<String>,
    /// Input written to a cache for the longer time to live; `input` if no write has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<String>,
    /// Rates of long prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<SimLong>,
    /// Other service tiers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, SimTier>,
    /// Other rates in some hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<SimHours>,
    /// Factors by name, such as `"1.1"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub factors: BTreeMap<String, String>,
    /// USD of each unit, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fees: BTreeMap<String, String>,
    /// USD of each billed call, beside its tokens; nothing if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_call: Option<String>,
    /// The longest prompt; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// It holds from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// It ends before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// What stands behind an Azure deployment, given to the simulator as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimDeployment {
    /// The deployment, as `provider/name`.
    pub name: String,
    /// The base model: what replies name, and whose price it has.
    pub model: String,
    /// Where it runs: `global`, `data-zone-us` or `data-zone-eu`.
    pub scope: String,
}

impl SimDeployment {
    /// What the scope makes of Azure's list price, in hundredths (PROVIDERS §4).
    fn percent(&self) -> u64 {
        match self.scope.as_str() {
            "data-zone-us" => 110,
            "data-zone-eu" => 120,
            _ => 100,
        }
    }
}

/// Rates of every token where the prompt is long; those left out stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimLong {
    /// The longest prompt that isn't long.
    pub above: u64,
    /// As in [`SimPrice`].
    pub input: Option<String>,
    /// As in [`SimPrice`].
    pub output: Option<String>,
    /// As in [`SimPrice`].
    pub cache_read: Option<String>,
    /// As in [`SimPrice`].
    pub cache_write: Option<String>,
    /// As in [`SimPrice`].
    pub cache_write_long: Option<String>,
}

/// Rates of a service tier; a class that is left out has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimTier {
    /// As in [`SimPrice`].
    pub input: String,
    /// As in [`SimPrice`].
    pub output: String,
    /// As in [`SimPrice`].
    pub cache_read: Option<String>,
    /// As in [`SimPrice`].
    pub cache_write: Option<String>,
    /// As in [`SimPrice`].
    pub cache_write_long: Option<String>,
    /// As in [`SimPrice`].
    pub long: Option<SimLong>,
}

/// Rates in some hours; a class that is left out costs what input costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimHours {
    /// When, such as `mon-fri 10:00-24:00`, in UTC.
    pub when: Vec<String>,
    /// What is charged then.
    pub rates: SimTier,
}

/// All prices, by provider and model.
#[derive(Clone, Debug)]
pub struct Rates {
    /// By model name as it goes over the wire, each version in its time.
    by_model: BTreeMap<String, Vec<Rate>>,
    /// By `provider/model`.
    by_full_name: BTreeMap<String, Vec<Rate>>,
    /// What replies of a deployment call the model, by `provider/name` and by the name alone.
    base_models: BTreeMap<String, String>,
}

impl Rates {
    /// The built-in table, with `prices` over it.
    ///
    /// # Errors
    /// Names the model whose price can't be read.
    pub fn new(prices: &[SimPrice]) -> Result<Self, PriceError> {
        if prices.len() > PRICES_MAX {
            return Err(PriceError::TooMany { count: prices.len() });
        }
        let mut rates = Self::built_in()?;
        // The versions of one model stand together over all that the table has of it.
        let mut given: BTreeMap<&str, Vec<Rate>> = BTreeMap::new();
        let mut order: Vec<&str> = Vec::new();
        for price in prices {
            let versions = given.entry(&price.model).or_default();
            if versions.is_empty() {
                order.push(&price.model);
            }
            // Of two for one time the later one counts: a scenario's own stands over the project's.
            versions.insert(0, price.rate()?);
        }
        for model in order {
            rates.put(model, given.remove(model).unwrap_or_default());
        }
        Ok(rates)
    }

    /// The rate of a model asked for at `provider`'s door, if the path names one.
    #[must_use]
    pub fn find(&self, provider: Option<&str>, model: &str, at: Timestamp) -> Option<&Rate> {
        let versions = provider
            .and_then(|provider| self.by_full_name.get(&format!("{provider}/{model}")))
            .or_else(|| self.by_model.get(model))
            .or_else(|| self.by_full_name.get(model))?;
        versions.iter().find(|rate| rate.holds(at))
    }

    /// Puts a deployment in. Without a price of its own it has its base model's, as its scope makes it; one whose base model
    /// has none isn't there.
    pub(crate) fn deploy(&mut self, deployment: &SimDeployment, prices: &[SimPrice]) {
        let SimDeployment { name, model, .. } = deployment;
        let alone = name.split_once('/').map_or(name.as_str(), |(_, alone)| alone);
        let own = self.by_full_name.get(name).filter(|_| prices.iter().any(|price| price.model == *name)).cloned();
        let percent = deployment.percent();
        let scaled = |versions: &Vec<Rate>| versions.iter().map(|rate| rate.scaled(percent)).collect::<Vec<_>>();
        let base = || self.by_full_name.get(&format!("azure/{model}")).map(scaled);
        let Some(versions) = own.or_else(base) else { return };
        self.by_full_name.insert(name.clone(), versions.clone());
        self.base_models.insert(name.clone(), model.clone());
        if !self.by_model.contains_key(alone) {
            self.by_model.insert(alone.to_owned(), versions);
            self.base_models.insert(alone.to_owned(), model.clone());
        }
    }

    /// The base model behind a deployment asked for at `provider`'s door.
    pub(crate) fn base_model(&self, provider: Option<&str>, model: &str) -> Option<&str> {
        let full = provider.and_then(|provider| self.base_models.get(&format!("{provider}/{model}")));
        full.or_else(|| self.base_models.get(model)).map(String::as_str)
    }

    /// The names of all models, in order.
    pub(crate) fn models(&self) -> impl Iterator<Item = &str> {
        self.by_model.keys().map(String::as_str)
    }

    fn built_in() -> Result<Self, PriceError> {
        let table: Table = serde_json::from_str(TABLE).map_err(|error| PriceError::Table(error.to_string()))?;
        let mut rates = Self { by_model: BTreeMap::new(), by_full_name: BTreeMap::new(), base_models: BTreeMap::new() };
        // The table names the first-party providers first, and theirs is the plain name.
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for row in &table.models {
            let Some((provider, model)) = row.model.split_once('/') else { continue };
            let rate = row.rate()?;
            let owner = owners.entry(model.to_owned()).or_insert_with(|| provider.to_owned());
            if owner == provider {
                rates.by_model.entry(model.to_owned()).or_default().push(rate.clone());
            }
            rates.by_full_name.entry(row.model.clone()).or_default().push(rate);
        }
        Ok(rates)
    }

    fn put(&mut self, named: &str, versions: Vec<Rate>) {
        if let Some((_, model)) = named.split_once('/') {
            self.by_full_name.insert(named.to_owned(), versions.clone());
            self.by_model.insert(model.to_owned(), versions);
        } else {
            self.by_model.insert(named.to_owned(), versions);
            self.by_full_name.retain(|name, _| name.split_once('/').is_none_or(|(_, known)| known != named));
        }
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
    /// A text that is no factor.
    #[error("the factor `{text}` of `{model}` is no decimal, such as `1.1`, with at most 4 decimals and at most 100")]
    Factor {
        /// The model.
        model: String,
        /// The text.
        text: String,
    },
    /// A text that is no hours of a week.
    #[error("`{text}` of `{model}` is no hours of a week, such as `mon-fri 10:00-24:00`")]
    Hours {
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
    models: Vec<SimPrice>,
}

impl SimPrice {
    fn rate(&self) -> Result<Rate, PriceError> {
        let name = self.model.as_str();
        let own = SimTier {
            input: self.input.clone(),
            output: self.output.clone(),
            cache_read: self.cache_read.clone(),
            cache_write: self.cache_write.clone(),
            cache_write_long: self.cache_write_long.clone(),
            long: self.long.clone(),
        };
        let mut tiers = BTreeMap::new();
        for (tier, rates) in &self.tiers {
            tiers.insert(tier.clone(), rates.read(name, Otherwise::Unknown)?);
        }
        let mut hours = Vec::new();
        for block in &self.hours {
            let spans: Option<Vec<_>> = block.when.iter().map(|text| week_spans(text)).collect();
            let bad = || PriceError::Hours { model: name.to_owned(), text: block.when.join(", ") };
            hours.push((spans.ok_or_else(bad)?.concat(), block.rates.read(name, Otherwise::AsInput)?));
        }
        let base = own.read(name, Otherwise::AsInput)?;
        // Hours without rates of their own for long prompts charge those alike.
        for (_, tier) in &mut hours {
            tier.long = tier.long.or_else(|| base.long.map(|(above, _)| (above, tier.rates)));
        }
        Ok(Rate {
            from: self.from,
            to: self.to,
            base,
            tiers,
            hours,
            factors: named(&self.factors, |text| ten_thousandths(name, text))?,
            fees: named(&self.fees, |text| pico_a_call(name, text))?,
            per_call: self.per_call.as_deref().map_or(Ok(0), |text| pico_a_call(name, text))?,
            context: self.context,
            writes: self.cache_write.is_some(),
        })
    }
}

impl Rate {
    /// The same at so many hundredths of each rate of tokens.
    fn scaled(&self, percent: u64) -> Self {
        let tiers = self.tiers.iter().map(|(name, tier)| (name.clone(), tier.scaled(percent))).collect();
        let hours = self.hours.iter().map(|(spans, tier)| (spans.clone(), tier.scaled(percent))).collect();
        Self { base: self.base.scaled(percent), tiers, hours, ..self.clone() }
    }
}

impl Tier {
    fn scaled(self, percent: u64) -> Self {
        let long = self.long.map(|(above, classes)| (above, classes.scaled(percent)));
        Self { rates: self.rates.scaled(percent), long }
    }
}

fn named(
    texts: &BTreeMap<String, String>,
    read: impl Fn(&str) -> Result<u64, PriceError>,
) -> Result<BTreeMap<String, u64>, PriceError> {
    texts.iter().map(|(name, text)| Ok((name.clone(), read(text)?))).collect()
}

/// What a class is charged that has no rate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// As input. A longer write beside a shorter one has no rate then: it is dearer wherever both have one.
    AsInput,
    /// Nobody knows.
    Unknown,
}

impl SimTier {
    fn read(&self, model: &str, otherwise: Otherwise) -> Result<Tier, PriceError> {
        let text = |text: &Option<String>| text.as_deref().map(|text| pico_a_token(model, text)).transpose();
        let stated = Classes {
            input: pico_a_token(model, &self.input)?,
            output: pico_a_token(model, &self.output)?,
            cached: text(&self.cache_read)?,
            written: text(&self.cache_write)?,
            written_long: text(&self.cache_write_long)?,
        };
        let long = match &self.long {
            None => None,
            Some(long) => {
                let own = |own: &Option<String>, base| Ok(text(own)?.or(base));
                let classes = Classes {
                    input: text(&long.input)?.unwrap_or(stated.input),
                    output: text(&long.output)?.unwrap_or(stated.output),
                    cached: own(&long.cache_read, stated.cached)?,
                    written: own(&long.cache_write, stated.written)?,
                    written_long: own(&long.cache_write_long, stated.written_long)?,
                };
                Some((long.above, classes.or(otherwise)))
            }
        };
        Ok(Tier { rates: stated.or(otherwise), long })
    }
}

impl Classes {
    fn scaled(self, percent: u64) -> Self {
        let scaled = |rate: u64| rate * percent / 100;
        Self {
            input: scaled(self.input),
            output: scaled(self.output),
            cached: self.cached.map(scaled),
            written: self.written.map(scaled),
            written_long: self.written_long.map(scaled),
        }
    }

    fn or(self, otherwise: Otherwise) -> Self {
        if otherwise == Otherwise::Unknown {
            return self;
        }
        let input = Some(self.input);
        let unwritten = self.written.is_none() && self.written_long.is_none();
        let written = |rate| if unwritten { input } else { rate };
        Self {
            cached: self.cached.or(input),
            written: written(self.written),
            written_long: written(self.written_long),
            ..self
        }
    }
}

/// Reads a factor such as `1.1`.
fn ten_thousandths(model: &str, text: &str) -> Result<u64, PriceError> {
    decimal_shifted(text.trim(), 4)
        .filter(|factor| (1..=FACTOR_MAX).contains(factor))
        .ok_or_else(|| PriceError::Factor { model: model.to_owned(), text: text.to_owned() })
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

    const NOW: Timestamp = Timestamp(1_795_392_000_000);

    fn bill(rates: &Rates, model: &str, counts: &Counts) -> u128 {
        let rate = rates.find(None, model, NOW).expect("a rate");
        rate.amount(counts, &Serving::ordinary(NOW)).expect("a bill").pico()
    }

    fn amount(model: &str, counts: Counts) -> u128 {
        bill(&Rates::new(&[]).expect("the table"), model, &counts)
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
            let rate = rates.find(provider, model, NOW).expect("a rate");
            assert_eq!(rate.amount(&one, &Serving::ordinary(NOW)).expect("a bill").pico(), 1_000_000);
        }
        assert!(rates.find(None, "nobody", NOW).is_none());
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
        assert_eq!(bill(&rates, "m", &counts), 2_000_000_001 + 5_000_000);
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
