//! One model of LiteLLM's map.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Origin, number};
use crate::domain::pricing::{Factor, Fee, Hours, LongContext, OffPeak, PriceRow, Rates, TierPrice};
use crate::ids::ModelName;
use crate::spec::prices::basis_points;
use crate::units::{Money, TokenPrice, Tokens};

/// Service tiers by the ending of their fields.
const TIERS: [&str; 4] = ["flex", "priority", "ultrafast", "balanced"];
/// Ways of asking that no wire of ours has.
const NOT_ASKED: [&str; 2] = ["batches", "decisions"];
/// What no wire of ours causes, or what is no price of a call.
const PASSED_OVER: [&str; 13] = [
    "audio",
    "video",
    "character",
    "second",
    "dbu",
    "session",
    "file_search",
    "vector_store",
    "computer_use",
    "per_image",
    "output_cost_per_image_token",
    "input_cost_per_query",
    "ocr",
];
/// The provider whose threshold counts itself as long (price facts, read 2026-11-23); that of others doesn't.
const THRESHOLD_IS_LONG: &str = "xai";

/// Why a model's price can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    /// Its name is none of ours.
    #[error("its name has white space, or is too long")]
    Name,
    /// There is no price for a class that every call has.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A price of zero.
    #[error("`{0}` is 0: state it under `[[prices]]`, with a reason")]
    Zero(&'static str),
    /// Not whole pico-dollars.
    #[error("`{0}` = {1} is not whole pico-dollars")]
    Number(String, String),
    /// Several thresholds.
    #[error("it has rates above {0} and above {1} tokens, and a row has one threshold")]
    Thresholds(u64, u64),
    /// A price that a row can't say.
    #[error("`{0}` can't be said in a row")]
    Unsayable(String),
    /// Two prices of one thing.
    #[error("`{0}` isn't `{1}`, and a row has one rate for both")]
    Differs(String, &'static str),
    /// A factor or a rate after it.
    #[error("the factor `{0}` doesn't leave whole pico-dollars")]
    Factor(&'static str),
}

/// A model of the map, its fields as they are written.
pub(super) struct Entry<'a> {
    name: &'a str,
    fields: BTreeMap<String, Box<RawValue>>,
    provider: String,
    mode: String,
}

/// A class of tokens in a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Input,
    Output,
    Read,
    Write,
    WriteLong,
}

/// Where a rate belongs: the service tier, empty for the ordinary one; whether for long inputs; the class.
type Place = (String, bool, Class);

/// A rate's field, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Field<'a> {
    class: Class,
    tier: Option<&'a str>,
    /// Thousands of tokens above which it holds.
    above: Option<u64>,
}

impl<'a> Field<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let suffix = TIERS
            .iter()
            .chain(&NOT_ASKED)
            .find(|tier| name.strip_suffix(**tier).is_some_and(|rest| rest.ends_with('_')));
        let rest = suffix.map_or(name, |tier| &name[..name.len() - tier.len() - 1]);
        let (rest, above) = match rest.rsplit_once("_above_") {
            Some((before, above)) if above.ends_with("k_tokens") => {
                (before, Some(above.strip_suffix("k_tokens")?.parse().ok()?))
            }
            Some(_) | None => (rest, None),
        };
        let class = match rest {
            "input_cost_per_token" => Class::Input,
            "output_cost_per_token" => Class::Output,
            "cache_read_input_token_cost" => Class::Read,
            "cache_creation_input_token_cost" => Class::Write,
            "cache_creation_input_token_cost_above_1hr" | "cache_creation_input_token_cost_above_12hr" => {
                Class::WriteLong
            }
            _ => return None,
        };
        Some(Self { class, tier: suffix.copied(), above })
    }
}

impl<'a> Entry<'a> {
    /// `None` for what is no model: a sample, or an entry without provider and kind.
    pub(super) fn read(name: &'a str, text: &str) -> Option<Self> {
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
        let word = |key: &str| fields.get(key).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let (provider, mode) = (word("litellm_provider")?, word("mode")?);
        (name != "sample_spec").then_some(Self { name, fields, provider, mode })
    }

    pub(super) fn mode(&self) -> &str {
        &self.mode
    }

    /// Our name for it: the provider as the price book calls it, and the model without the map's prefix.
    pub(super) fn model(&self) -> ModelName {
        let after = |prefix: &str| self.name.strip_prefix(prefix).unwrap_or(self.name);
        let (provider, model) = match self.provider.as_str() {
            "vertex_ai-anthropic_models" => ("vertex_anthropic", after("vertex_ai/")),
            "vertex_ai-language-models" => ("vertex", after("vertex_ai/")),
            "azure_ai" if self.name.contains("claude") => ("azure_foundry_anthropic", after("azure_ai/")),
            other => {
                (other, self.name.strip_prefix(other).and_then(|rest| rest.strip_prefix('/')).unwrap_or(self.name))
            }
        };
        ModelName::from(format!("{provider}/{model}"))
    }

    /// The row.
    pub(super) fn row(&self, model: ModelName, origin: Origin<'_>) -> Result<PriceRow, Why> {
        let (rates, threshold) = self.rates()?;
        let ordinary = rates_at(&rates, "", false);
        let stated = Rates {
            input: positive(ordinary.get(&Class::Input), "input_cost_per_token")?,
            output: positive(ordinary.get(&Class::Output), "output_cost_per_token")?,
            ..classes(&ordinary)
        };
        let above = threshold.map(|thousands| self.above(thousands));
        let long = above.filter(|_| rates.keys().any(|(tier, long, _)| tier.is_empty() && *long));
        let long = long.map(|above| long_of(above, stated, &rates_at(&rates, "", true)));
        let row = PriceRow::stated(model, stated, origin.source.to_owned());
        let price = TierPrice { rates: row.price.rates, long };
        let (service_tiers, mut notes) = tiers(&rates, above);
        let off_peak = self.off_peak(stated)?.map(|off_peak| off_peak.of_every_length(&price));
        let mut row = PriceRow {
            price,
            service_tiers,
            off_peak: off_peak.into_iter().collect(),
            context_window: self.count("max_input_tokens").map(Tokens),
            max_output: self.count("max_output_tokens").and_then(|count| u32::try_from(count).ok()),
            retrieved: origin.retrieved.to_owned(),
            ..row
        };
        self.others(&mut row, &mut notes)?;
        let bent = row.multipliers.keys().find(|factor| row.multiplied(**factor).is_err());
        if let Some(factor) = bent {
            return Err(Why::Factor(factor.name()));
        }
        row.notes = notes;
        Ok(row.with_id())
    }

    fn raw(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(|raw| raw.get()).filter(|text| *text != "null")
    }

    fn count(&self, key: &str) -> Option<u64> {
        self.raw(key).and_then(number::count).filter(|count| *count > 0)
    }

    fn parsed<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Why> {
        let parse = |text| serde_json::from_str(text).map_err(|_| Why::Unsayable(key.to_owned()));
        self.raw(key).map(parse).transpose()
    }

    fn price(&self, key: &str) -> Result<Option<TokenPrice>, Why> {
        let read = |text: &str| number::token_price(text).ok_or_else(|| Why::Number(key.to_owned(), text.to_owned()));
        self.raw(key).map(read).transpose()
    }

    /// Every rate, and the one threshold in thousands of tokens. A rate of zero is taken for none, but for input and output.
    fn rates(&self) -> Result<(BTreeMap<Place, TokenPrice>, Option<u64>), Why> {
        let (mut rates, mut thresholds) = (BTreeMap::new(), BTreeSet::new());
        for name in self.fields.keys() {
            let Some(field) = Field::of(name) else { continue };
            if field.tier.is_some_and(|tier| NOT_ASKED.contains(&tier)) {
                continue;
            }
            let Some(price) = self.price(name)? else { continue };
            let billed = matches!(field.class, Class::Input | Class::Output);
            if price.pico() == 0 && !billed {
                continue;
            }
            thresholds.extend(field.above);
            rates.insert((field.tier.unwrap_or_default().to_owned(), field.above.is_some(), field.class), price);
        }
        let thresholds: Vec<u64> = thresholds.into_iter().collect();
        match thresholds.as_slice() {
            [first, second, ..] => Err(Why::Thresholds(first * 1_000, second * 1_000)),
            [one] => Ok((rates, Some(*one))),
            [] => Ok((rates, None)),
        }
    }

    fn above(&self, thousands: u64) -> Tokens {
        let threshold = thousands.saturating_mul(1_000);
        Tokens(if self.provider == THRESHOLD_IS_LONG { threshold.saturating_sub(1) } else { threshold })
    }

    /// What costs beside the rates, and what has no place in a row.
    fn others(&self, row: &mut PriceRow, notes: &mut Vec<String>) -> Result<(), Why> {
        for name in self.fields.keys().filter(|name| Field::of(name).is_none()) {
            let Some(text) = self.raw(name) else { continue };
            match name.as_str() {
                "output_cost_per_reasoning_token" => {
                    self.same(name, row.price.rates.output, "output_cost_per_token")?
                }
                "input_cost_per_image_token" => self.same(name, row.price.rates.input, "input_cost_per_token")?,
                "input_cost_per_token_cache_hit" | "explicit_cache_read_input_token_cost" => {
                    let read = row.price.rates.cache_read.unwrap_or(row.price.rates.input);
                    self.same(name, read, "cache_read_input_token_cost")?;
                }
                "input_cost_per_request" => row.per_call = self.money(name, text)?,
                "google_maps_grounding_cost_per_query" => drop(row.fees.insert(Fee::Maps, self.money(name, text)?)),
                "search_context_cost_per_query" => self.searches(name, row, notes)?,
                "regional_processing_uplift_multiplier_eu" => self.factor(row, Factor::ResidencyEu, text)?,
                "regional_processing_uplift_multiplier_us" => self.factor(row, Factor::ResidencyUs, text)?,
                "regional_endpoint_uplift_multiplier" => self.factor(row, Factor::VertexNonGlobalEndpoint, text)?,
                "provider_specific_entry" => self.specific(row)?,
                "off_peak_pricing" => {}
                other if PASSED_OVER.iter().any(|part| other.contains(part)) => {}
                other if is_price(other) && number::shifted(text, 0) != Some(0) => {
                    return Err(Why::Unsayable(other.to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn same(&self, key: &str, rate: TokenPrice, as_key: &'static str) -> Result<(), Why> {
        let price = self.price(key)?.filter(|price| price.pico() != 0);
        if price.is_none_or(|price| price == rate) { Ok(()) } else { Err(Why::Differs(key.to_owned(), as_key)) }
    }

    fn money(&self, key: &str, text: &str) -> Result<Money, Why> {
        number::money(text).ok_or_else(|| Why::Number(key.to_owned(), text.to_owned()))
    }

    fn factor(&self, row: &mut PriceRow, factor: Factor, text: &str) -> Result<(), Why> {
        let basis_points = basis_points(text).ok_or(Why::Factor(factor.name()))?;
        if basis_points != 10_000 {
            row.multipliers.insert(factor, basis_points);
        }
        Ok(())
    }

    /// A search has one price whatever it reads; where the map has several, a search has none here.
    fn searches(&self, key: &str, row: &mut PriceRow, notes: &mut Vec<String>) -> Result<(), Why> {
        let by_size: BTreeMap<String, Box<RawValue>> = self.parsed(key)?.unwrap_or_default();
        let prices: Result<BTreeSet<Money>, Why> = by_size.values().map(|raw| self.money(key, raw.get())).collect();
        match prices?.into_iter().collect::<Vec<_>>().as_slice() {
            [] => {}
            [one] if one.is_zero() => {}
            [one] => drop(row.fees.insert(Fee::WebSearch, *one)),
            _ => notes.push("a search has several prices by its size, so it has none here".to_owned()),
        }
        Ok(())
    }

    fn specific(&self, row: &mut PriceRow) -> Result<(), Why> {
        let factors: BTreeMap<String, Box<RawValue>> = self.parsed("provider_specific_entry")?.unwrap_or_default();
        for (name, raw) in factors {
            match name.as_str() {
                "us" => self.factor(row, Factor::InferenceGeoUs, raw.get())?,
                "fast" => self.factor(row, Factor::SpeedFast, raw.get())?,
                other => return Err(Why::Unsayable(format!("provider_specific_entry.{other}"))),
            }
        }
        Ok(())
    }

    /// Other rates in some hours; what they leave out stays.
    fn off_peak(&self, stated: Rates) -> Result<Option<OffPeak>, Why> {
        let key = "off_peak_pricing";
        let Some(block) = self.parsed::<BTreeMap<String, Box<RawValue>>>(key)?.filter(|block| !block.is_empty()) else {
            return Ok(None);
        };
        let unsayable = |part: &str| Why::Unsayable(format!("{key}.{part}"));
        let mut rates = stated.with_documented_defaults();
        let mut hours = Vec::new();
        for (name, raw) in &block {
            let price =
                || number::token_price(raw.get()).ok_or_else(|| Why::Number(name.clone(), raw.get().to_owned()));
            match name.as_str() {
                "input_cost_per_token" => rates.input = price()?,
                "output_cost_per_token" => rates.output = price()?,
                "cache_read_input_token_cost" => rates.cache_read = Some(price()?),
                "cache_creation_input_token_cost" => rates.cache_write = Some(price()?),
                "hours_utc" => hours.extend(spans(raw.get(), &[1, 2, 3, 4, 5, 6, 7]).ok_or_else(|| unsayable(name))?),
                "windows" => hours.extend(windows(raw.get()).ok_or_else(|| unsayable(name))?),
                other => return Err(unsayable(other)),
            }
        }
        let price = TierPrice { rates, long: None };
        Ok((!hours.is_empty()).then_some(OffPeak { hours, price }))
    }
}

/// True for a field that may be a price.
fn is_price(name: &str) -> bool {
    ["cost", "pricing", "price", "multiplier"].iter().any(|part| name.contains(part))
}

fn positive(price: Option<&TokenPrice>, key: &'static str) -> Result<TokenPrice, Why> {
    match price {
        None => Err(Why::Missing(key)),
        Some(price) if price.pico() == 0 => Err(Why::Zero(key)),
        Some(price) => Ok(*price),
    }
}

fn rates_at(rates: &BTreeMap<Place, TokenPrice>, tier: &str, long: bool) -> BTreeMap<Class, TokenPrice> {
    let here = rates.iter().filter(|((of, is_long, _), _)| of == tier && *is_long == long);
    here.map(|((_, _, class), price)| (*class, *price)).collect()
}

/// Reads and writes; input and output are the caller's.
fn classes(rates: &BTreeMap<Class, TokenPrice>) -> Rates {
    let of = |class| rates.get(&class).copied();
    Rates {
        cache_read: of(Class::Read),
        cache_write: of(Class::Write),
        cache_write_long: of(Class::WriteLong),
        ..Rates::default()
    }
}

/// What long inputs leave out stays at the base rate as it is stated.
fn long_of(above: Tokens, base: Rates, own: &BTreeMap<Class, TokenPrice>) -> LongContext {
    let other = classes(own);
    let rates = Rates {
        input: own.get(&Class::Input).copied().unwrap_or(base.input),
        output: own.get(&Class::Output).copied().unwrap_or(base.output),
        cache_read: other.cache_read.or(base.cache_read),
        cache_write: other.cache_write.or(base.cache_write),
        cache_write_long: other.cache_write_long.or(base.cache_write_long),
    };
    LongContext { above, rates: rates.with_documented_defaults() }
}

/// Service tiers; one without a rate for input or output is left out, and noted.
fn tiers(rates: &BTreeMap<Place, TokenPrice>, above: Option<Tokens>) -> (BTreeMap<String, TierPrice>, Vec<String>) {
    let (mut tiers, mut notes) = (BTreeMap::new(), Vec::new());
    for name in TIERS {
        let (own, long) = (rates_at(rates, name, false), rates_at(rates, name, true));
        if own.is_empty() && long.is_empty() {
            continue;
        }
        let both = |rates: &BTreeMap<Class, TokenPrice>| {
            let (input, output) = (*rates.get(&Class::Input)?, *rates.get(&Class::Output)?);
            Some(Rates { input, output, ..classes(rates) })
        };
        let Some(base) = both(&own) else {
            notes.push(format!("the tier `{name}` lacks a rate, so it has none here"));
            continue;
        };
        let long = above.zip(both(&long)).map(|(above, rates)| LongContext { above, rates });
        tiers.insert(name.to_owned(), TierPrice { rates: base, long });
    }
    (tiers, notes)
}

/// `"16:30-00:30"`, or a list of such, on these days.
fn spans(text: &str, days: &[u8]) -> Option<Vec<Hours>> {
    let one = serde_json::from_str::<String>(text).map(|text| vec![text]);
    let texts = one.or_else(|_| serde_json::from_str::<Vec<String>>(text)).ok()?;
    let span = |text: &String| {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (from.trim(), to.trim());
        // One that ends where it begins is the whole day.
        if from == to { Hours::of(days, "00:00", "00:00") } else { Hours::of(days, from, to) }
    };
    let spans: Option<Vec<Vec<Hours>>> = texts.iter().map(span).collect();
    spans.map(|spans| spans.concat())
}

/// Hours by day of the week: 1 is Monday.
fn windows(text: &str) -> Option<Vec<Hours>> {
    let windows: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(text).ok()?;
    let each = windows.iter().map(|window| {
        let days: Vec<u8> = serde_json::from_str(window.get("weekdays")?.get()).ok()?;
        let known = window.keys().all(|key| ["weekdays", "hours_utc"].contains(&key.as_str()));
        spans(window.get("hours_utc")?.get(), &days).filter(|_| known)
    });
    let each: Option<Vec<Vec<Hours>>> = each.collect();
    each.map(|each| each.concat())
}
