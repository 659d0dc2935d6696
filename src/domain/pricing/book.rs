//! The price book: the built-in facts, and the project's own prices over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::domain::pricing::{
    Capability, Factor, Fee, LongContext, OffPeak, PriceRow, PricingError, Rates, Served, TierPrice, Usage, midnight,
};
use crate::ids::{ModelName, PriceId, ProviderName};
use crate::units::{Money, Timestamp, TokenPrice, Tokens};

/// Facts about prices, with their source and the date on which it was read. Where a price changed, each of its versions has
/// its dates; where it isn't known until when a cheaper one held, the dearer one holds.
const FACTS: &str = include_str!("price_facts.json");

/// Price rows by model. Cheap to share, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceBook {
    rows: BTreeMap<ModelName, Vec<PriceRow>>,
    /// Rows that others stand over: no call is priced by them any more, and their versions are still found.
    replaced: Vec<PriceRow>,
}

impl PriceBook {
    /// The built-in book, parsed once.
    ///
    /// # Panics
    /// Never: a test reads the same facts.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BOOK: OnceLock<PriceBook> = OnceLock::new();
        BOOK.get_or_init(|| {
            let facts: Facts = serde_json::from_str(FACTS).expect("a test reads the built-in facts");
            let Facts { source, retrieved, rows } = facts;
            let book = Self::of(rows.into_iter().map(|row| row.resolve(&source, &retrieved)));
            // These facts once had no fees: what was pinned then keeps its name.
            let before = book.rows().filter(|row| !row.fees.is_empty());
            let replaced = before.map(|row| PriceRow { fees: BTreeMap::new(), ..row.clone() }.with_id()).collect();
            Self { replaced, ..book }
        })
    }

    /// A book with just these rows; of two for one model and time, the first counts.
    #[must_use]
    pub fn of(rows: impl IntoIterator<Item = PriceRow>) -> Self {
        let mut book = Self::default();
        for row in rows {
            book.rows.entry(row.model.clone()).or_default().push(row);
        }
        book
    }

    /// This book with other prices over it. A model that has one keeps none of the rows below, but for their versions.
    #[must_use]
    pub fn with_overrides(&self, rows: Vec<PriceRow>) -> Self {
        let mut book = self.clone();
        for (model, rows) in Self::of(rows).rows {
            book.replaced.extend(book.rows.insert(model, rows).into_iter().flatten());
        }
        book
    }

    /// This book where a provider is reached at an endpoint that a factor applies to: the provider's rows that have the
    /// factor are multiplied by it, each a version of its own.
    ///
    /// # Errors
    /// A rate that would not be whole.
    pub fn at_endpoint(&self, provider: &ProviderName, factor: Factor) -> Result<Self, PricingError> {
        let mut book = self.clone();
        for (_, rows) in book.rows.iter_mut().filter(|(model, _)| model.provider() == *provider) {
            for row in rows.iter_mut().filter(|row| row.multipliers.contains_key(&factor)) {
                let multiplied = row.multiplied(factor)?;
                book.replaced.push(std::mem::replace(row, multiplied));
            }
        }
        Ok(book)
    }

    /// The price of a model at a time, by its exact name.
    #[must_use]
    pub fn find(&self, model: &ModelName, now: Timestamp) -> Option<&PriceRow> {
        self.rows.get(model)?.iter().find(|row| row.is_valid_at(now))
    }

    /// All rows of a model, whenever they hold.
    pub fn versions_of(&self, model: &ModelName) -> impl Iterator<Item = &PriceRow> {
        self.rows.get(model).into_iter().flatten()
    }

    /// The first row of a model, whenever it holds: what its source says of the model itself.
    #[must_use]
    pub fn first_of(&self, model: &ModelName) -> Option<&PriceRow> {
        self.rows.get(model)?.first()
    }

    /// A price by its version: what an attempt pinned, also where other prices stand over it by now.
    #[must_use]
    pub fn find_version(&self, id: &PriceId) -> Option<&PriceRow> {
        let held = self.rows.get(&id.model()?).into_iter().flatten();
        held.chain(&self.replaced).find(|row| row.id == *id)
    }

    /// The price of the model that a response says answered, `pinned` being the row of the model that was asked (LEDGER
    /// rule 5). The asked model's own dated snapshot has its price; any other model must have a row of its own. Behind the
    /// project's word for a model the reply names what it stands for, and another one has its price in the same zone.
    #[must_use]
    pub fn find_answering<'a>(&'a self, pinned: &'a PriceRow, answering: &str, now: Timestamp) -> Option<&'a PriceRow> {
        let (family, asked) = match &pinned.stands_for {
            None => pinned.model.as_str().split_once('/')?,
            Some(priced) => priced.as_str().rsplit_once('/')?,
        };
        if answering == asked || answering == pinned.model.model() {
            return Some(pinned);
        }
        let named = |model: &str| ModelName::from(format!("{family}/{model}"));
        if let Some(row) = self.find(&named(answering), now) {
            return Some(row);
        }
        let base = without_date(answering)?;
        if base == asked { Some(pinned) } else { self.find(&named(base), now) }
    }

    /// The rows of a model as the price of `model`, the project's word for what the book knows as `priced`. None where
    /// nobody knows that price.
    #[must_use]
    pub fn standing_for(&self, model: &ModelName, of: &ModelName, priced: &ModelName) -> Vec<PriceRow> {
        let rows = self.rows.get(of).into_iter().flatten();
        rows.map(|row| row.standing_for(model.clone(), priced.clone())).collect()
    }

    /// What an attempt cost, `pinned` being the row of the model that was asked; `None` where nobody knows: the model that
    /// answered, or how it was served, or a class of what was used has no price.
    #[must_use]
    pub fn bill(
        &self,
        pinned: &PriceRow,
        usage: &Usage,
        answering: Option<&str>,
        served: Served<'_>,
        now: Timestamp,
    ) -> Option<Money> {
        let row = match answering {
            None => Some(pinned),
            Some(answering) => self.find_answering(pinned, answering, now),
        };
        row?.cost_as(usage, served).ok()
    }

    /// All rows, by model.
    pub fn rows(&self) -> impl Iterator<Item = &PriceRow> {
        self.rows.values().flatten()
    }
}

/// The name before a snapshot's date: `gpt-5-mini` of `gpt-5-mini-2025-08-07`, `-20250807` or `@20250807`.
fn without_date(model: &str) -> Option<&str> {
    let dashed =
        || model.len().checked_sub(11).and_then(|at| split(model, at)).filter(|(_, date)| is_date(date, "-dddd-dd-dd"));
    let plain = || {
        let at = model.len().checked_sub(9)?;
        split(model, at).filter(|(_, date)| is_date(date, "-dddddddd") || is_date(date, "@dddddddd"))
    };
    dashed().or_else(plain).map(|(base, _)| base).filter(|base| !base.is_empty())
}

fn split(text: &str, at: usize) -> Option<(&str, &str)> {
    text.is_char_boundary(at).then(|| text.split_at(at))
}

/// True where `text` has the pattern's characters, with a digit for each `d`.
fn is_date(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        })
}

/// The built-in facts as they are written.
#[derive(Deserialize)]
struct Facts {
    source: String,
    retrieved: String,
    rows: Vec<Fact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    model: ModelName,
    #[serde(default)]
    valid_from: Option<String>,
    #[serde(default)]
    valid_to: Option<String>,
    context: Tokens,
    max_output: u32,
    rates: RatesFact,
    #[serde(default)]
    long: Option<LongFact>,
    #[serde(default)]
    service_tiers: BTreeMap<String, TierFact>,
    #[serde(default)]
    multipliers: BTreeMap<Factor, Money>,
    /// USD of each unit.
    #[serde(default)]
    fees: BTreeMap<Fee, Money>,
    #[serde(default)]
    off_peak: Vec<OffPeakFact>,
    #[serde(default)]
    capabilities: BTreeSet<Capability>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierFact {
    rates: RatesFact,
    #[serde(default)]
    long: Option<LongFact>,
}

/// Other rates in some hours. What it leaves out is charged as its input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OffPeakFact {
    hours: Vec<String>,
    rates: RatesFact,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongFact {
    above: Tokens,
    rates: RatesFact,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RatesFact {
    r#in: TokenPrice,
    out: TokenPrice,
    #[serde(default)]
    cache_read: Option<TokenPrice>,
    #[serde(default)]
    cache_write: Option<TokenPrice>,
    #[serde(default)]
    cache_write_long: Option<TokenPrice>,
}

impl RatesFact {
    fn rates(self) -> Rates {
        Rates {
            input: self.r#in,
            output: self.out,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cache_write_long: self.cache_write_long,
        }
    }
}

impl LongFact {
    fn resolve(self) -> LongContext {
        LongContext { above: self.above, rates: self.rates.rates() }
    }
}

impl Fact {
    fn resolve(self, source: &str, retrieved: &str) -> PriceRow {
        let rates = self.rates.rates().with_documented_defaults();
        let date = |text: Option<String>| text.map(|text| midnight(&text).expect("a test reads the built-in facts"));
        let price = TierPrice { rates, long: self.long.map(|long| over(self.rates, long)) };
        let off_peak = self.off_peak.into_iter().map(|hours| hours.resolve().of_every_length(&price)).collect();
        let row = PriceRow {
            id: PriceId::from(""),
            model: self.model,
            stands_for: None,
            price,
            per_call: Money::ZERO,
            service_tiers: self.service_tiers.into_iter().map(|(name, tier)| (name, tier.resolve())).collect(),
            multipliers: self.multipliers.into_iter().map(|(name, factor)| (name, basis_points(factor))).collect(),
            fees: self.fees,
            off_peak,
            context_window: Some(self.context),
            max_output: Some(self.max_output),
            valid_from: date(self.valid_from),
            valid_to: date(self.valid_to),
            source: source.to_owned(),
            retrieved: retrieved.to_owned(),
            confirmed: None,
            reason: None,
            capabilities: self.capabilities,
            notes: self.notes,
        };
        row.with_id()
    }
}

impl OffPeakFact {
    fn resolve(self) -> OffPeak {
        let hours = self.hours.iter().map(|text| text.parse().expect("a test reads the built-in facts"));
        let rates = self.rates.rates().with_documented_defaults();
        OffPeak { hours: hours.collect(), price: TierPrice { rates, long: None } }
    }
}

impl TierFact {
    /// A rate that a service tier leaves out is unknown: no default is documented for it.
    fn resolve(self) -> TierPrice {
        TierPrice { rates: self.rates.rates(), long: self.long.map(LongFact::resolve) }
    }
}

/// Long-context rates of the ordinary tier: what they leave out stays at the base rate where that is published, and
/// follows the long input rate where the base rate itself only follows input.
fn over(published: RatesFact, long: LongFact) -> LongContext {
    let LongContext { above, rates } = long.resolve();
    let rates = Rates {
        cache_read: rates.cache_read.or(published.cache_read),
        cache_write: rates.cache_write.or(published.cache_write),
        cache_write_long: rates.cache_write_long.or(published.cache_write_long),
        ..rates
    };
    LongContext { above, rates: rates.with_documented_defaults() }
}

/// A factor such as `1.1` in basis points.
fn basis_points(factor: Money) -> u32 {
    let share = factor.basis_points_of(Money::from_micro(1_000_000)).expect("a factor is a small number");
    u32::try_from(share).expect("a factor is a small number")
}
