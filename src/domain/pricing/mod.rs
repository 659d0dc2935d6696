//! The price book: the worst case before a call, the exact cost after it.
//!
//! Invariants: all arithmetic is on whole pico-dollars, so nothing is rounded; a class of tokens without a rate has no
//! cost, it has an error. A row is never changed: a later fact is a new version with an id of its own.
//! Deliberately absent: floats, clocks, and any guess. What has no price is refused. Batch prices and audio tokens are
//! absent too: no wire of ours can cause them.

mod age;
mod book;
mod charged;
mod cost;
mod diff;
mod factor;
mod hours;
mod itemised;
mod usage;
mod worst_case;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::caching::{CachePrices, cache_min};
use crate::domain::message::CacheTtl;
use crate::domain::plan::hex;
use crate::ids::{ModelName, PriceId};
use crate::units::{Money, Timestamp, TokenPrice, Tokens};

pub use age::{Age, Ages, midnight};
pub use book::PriceBook;
pub use charged::Charged;
pub use cost::Served;
pub use diff::{Change, Kind, Term, changes, factor_text};
pub use factor::{Factor, Factors};
pub use hours::{During, Hours, HoursError, OffPeak};
pub use itemised::{Itemised, Line, Meter};
pub use usage::{Class, Fee, Fees, Mismatch, Tally, Unbelievable, Usage, believed};
pub use worst_case::{CacheWrites, CallBound, ServiceTier, Terms};

/// What stands for the day on which a price was read where the project states it without one.
pub const STATED: &str = "project";

/// One version of one model's price. Serialises as `prices` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceRow {
    /// Names this version: model, date and a hash of the content.
    pub id: PriceId,
    /// The model, as `provider/model`.
    pub model: ModelName,
    /// The name that this is the price of, where the model's name is only the project's word for it: Azure's deployments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<ModelName>,
    /// What is charged where the provider serves the ordinary tier.
    pub price: TierPrice,
    /// What each billed call is charged beside its tokens, in every tier; no factor of `multipliers` applies to it.
    #[serde(skip_serializing_if = "is_nothing")]
    pub per_call: Money,
    /// What other service tiers charge, by the name that a response reports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_tiers: BTreeMap<String, TierPrice>,
    /// Factors that may apply to every rate, in basis points, such as `residency_eu` for a regional host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub multipliers: BTreeMap<Factor, u32>,
    /// What a unit beside the tokens is charged; no factor of `multipliers` applies to it. One that isn't here has no price.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fees: BTreeMap<Fee, Money>,
    /// Other rates of the ordinary tier in some hours of the week. No hour is in two of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off_peak: Vec<OffPeak>,
    /// The longest input that the model takes.
    pub context_window: Option<Tokens>,
    /// The longest output that the model gives.
    pub max_output: Option<u32>,
    /// The price holds from here on; `None` for always.
    pub valid_from: Option<Timestamp>,
    /// The price ends before this; `None` for never. That is often learned later: it is no part of the version's name.
    pub valid_to: Option<Timestamp>,
    /// Where the price is from: a table, or file and line of the project.
    pub source: String,
    /// The date on which the source was read, `project` for a price of the project.
    pub retrieved: String,
    /// The day on which the source was last seen to say the same, if not the day it was read; no part of the version's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<String>,
    /// Why the price is what it is; a price of zero has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the model can do; empty where nobody said.
    pub capabilities: BTreeSet<Capability>,
    /// Doubts and dates that people should see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Rates of one service tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierPrice {
    /// The rates.
    pub rates: Rates,
    /// The rates of requests with a long input, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long: Option<LongContext>,
}

/// Rates of the whole request, output included, where its input (cached and written included) is longer than `above`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LongContext {
    /// The longest input that doesn't count as long.
    pub above: Tokens,
    /// The rates.
    pub rates: Rates,
}

/// A rate for each class of tokens, in USD per 1,000,000. `None` is unknown, never free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// Fresh input.
    pub input: TokenPrice,
    /// Output, reasoning included.
    pub output: TokenPrice,
    /// Input read from a cache.
    pub cache_read: Option<TokenPrice>,
    /// Input written to a cache for the shorter time to live.
    pub cache_write: Option<TokenPrice>,
    /// Input written to a cache for the longer time to live.
    pub cache_write_long: Option<TokenPrice>,
}

impl Rates {
    /// The rate of a class; `None` where nobody knows it.
    const fn of(&self, class: Class) -> Option<TokenPrice> {
        match class {
            Class::Fresh => Some(self.input),
            Class::CacheRead => self.cache_read,
            Class::CacheWrite => self.cache_write,
            Class::CacheWriteLong => self.cache_write_long,
            Class::Output | Class::Reasoning => Some(self.output),
            Class::Other => None,
        }
    }

    /// Fills what the source leaves out, as it documents: cached input and writes then cost what input costs. A longer
    /// write beside a known shorter one stays unknown, since it is dearer wherever both are published.
    #[must_use]
    pub fn with_documented_defaults(self) -> Self {
        let no_writes = self.cache_write.is_none() && self.cache_write_long.is_none();
        let write = |rate: Option<TokenPrice>| if no_writes { Some(self.input) } else { rate };
        Self {
            cache_read: self.cache_read.or(Some(self.input)),
            cache_write: write(self.cache_write),
            cache_write_long: write(self.cache_write_long),
            ..self
        }
    }

    /// The same rates times a factor in basis points, or `None` where that isn't whole pico-dollars.
    fn times(self, basis_points: u32) -> Option<Self> {
        let one = |rate: TokenPrice| {
            let product = rate.pico().checked_mul(u64::from(basis_points))?;
            product.is_multiple_of(10_000).then(|| TokenPrice::from_pico(product / 10_000))
        };
        let class = |rate: Option<TokenPrice>| match rate {
            None => Some(None),
            Some(rate) => one(rate).map(Some),
        };
        Some(Self {
            input: one(self.input)?,
            output: one(self.output)?,
            cache_read: class(self.cache_read)?,
            cache_write: class(self.cache_write)?,
            cache_write_long: class(self.cache_write_long)?,
        })
    }
}

impl TierPrice {
    fn times(&self, basis_points: u32) -> Option<Self> {
        let long = match &self.long {
            None => None,
            Some(long) => Some(LongContext { above: long.above, rates: long.rates.times(basis_points)? }),
        };
        Some(Self { rates: self.rates.times(basis_points)?, long })
    }
}

/// Something that a model can do, as far as the price book knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Reasons before it answers; the reasoning is billed as output.
    Reasoning,
    /// Calls tools.
    Tools,
    /// Calls several tools at once.
    ParallelTools,
    /// Reads images.
    Vision,
    /// Answers in a given JSON Schema.
    JsonSchema,
    /// Caches prompts.
    PromptCache,
}

impl PriceId {
    /// The model whose price it is.
    #[must_use]
    pub fn model(&self) -> Option<ModelName> {
        self.as_str().rsplit_once('@').map(|(model, _)| ModelName::from(model))
    }

    /// True where a person who types `text` means this row: it is its id, or its model.
    #[must_use]
    pub fn is_named(&self, text: &str) -> bool {
        self.as_str() == text || self.model().is_some_and(|model| model.as_str() == text)
    }
}

/// Why a price can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// The response names a service tier that the row has no rates for.
    #[error(
        "`{price}` has no rates for the service tier `{tier}` that the provider reports; pin the tier or add a price"
    )]
    UnknownServiceTier {
        /// The row.
        price: PriceId,
        /// The tier, as reported.
        tier: String,
    },
    /// Tokens of a class that the row has no rate for.
    #[error("`{price}` has no rate for `{class}` tokens; add one under `[[prices]]` in `plimsoll.toml`")]
    NoRate {
        /// The row.
        price: PriceId,
        /// The class.
        class: &'static str,
    },
    /// More tokens than any call can have.
    #[error("{count} `{class}` tokens in one call can't be believed")]
    Unbelievable {
        /// The class.
        class: &'static str,
        /// The count.
        count: Tokens,
    },
    /// A unit beside the tokens that the row has no price for.
    #[error("`{price}` has no price for a `{fee}`; don't allow it, or add a price")]
    NoFee {
        /// The row.
        price: PriceId,
        /// The unit.
        fee: &'static str,
    },
    /// The provider may make several steps by itself, and nobody knows how long one can be.
    #[error(
        "`{price}` has no `context_tokens`, so that a provider's own search has no bound; add it under `[[prices]]`"
    )]
    NoWindow {
        /// The row.
        price: PriceId,
    },
    /// A factor that the row doesn't have, or that doesn't give whole pico-dollars.
    #[error("`{price}` can't be multiplied by `{multiplier}`; add a price of its own for that endpoint")]
    Multiplier {
        /// The row.
        price: PriceId,
        /// The factor's name.
        multiplier: &'static str,
    },
}

impl PriceRow {
    /// A row with nothing but what tokens cost, as a project states it: `retrieved` is `project`.
    #[must_use]
    pub fn stated(model: ModelName, rates: Rates, source: String) -> Self {
        let row = Self {
            id: PriceId::from(""),
            model,
            stands_for: None,
            price: TierPrice { rates: rates.with_documented_defaults(), long: None },
            per_call: Money::ZERO,
            service_tiers: BTreeMap::new(),
            multipliers: BTreeMap::new(),
            fees: BTreeMap::new(),
            off_peak: Vec::new(),
            context_window: None,
            max_output: None,
            valid_from: None,
            valid_to: None,
            source,
            retrieved: STATED.to_owned(),
            confirmed: None,
            reason: None,
            capabilities: BTreeSet::new(),
            notes: Vec::new(),
        };
        row.with_id()
    }

    /// This row with every rate multiplied, such as by `residency_eu` where the provider is reached at its European host.
    ///
    /// # Errors
    /// The row has no such factor, or a rate would not be whole.
    pub fn multiplied(&self, factor: Factor) -> Result<Self, PricingError> {
        let fail = || self.no_factor(factor);
        let basis_points = *self.multipliers.get(&factor).ok_or_else(fail)?;
        let mut row = self.clone();
        row.price = self.price.times(basis_points).ok_or_else(fail)?;
        for tier in row.service_tiers.values_mut() {
            *tier = tier.times(basis_points).ok_or_else(fail)?;
        }
        for off_peak in &mut row.off_peak {
            off_peak.price = off_peak.price.times(basis_points).ok_or_else(fail)?;
        }
        row.multipliers.remove(&factor);
        row.notes.push(format!("multiplied by `{}`", factor.name()));
        Ok(row.with_id())
    }

    /// This row as the price of `model`, the project's word for what the price book knows as `priced`.
    #[must_use]
    pub fn standing_for(&self, model: ModelName, priced: ModelName) -> Self {
        Self { model, stands_for: Some(priced), ..self.clone() }.with_id()
    }

    fn no_factor(&self, factor: Factor) -> PricingError {
        PricingError::Multiplier { price: self.id.clone(), multiplier: factor.name() }
    }

    /// The price of units beside tokens.
    fn fees_cost(&self, fees: Fees) -> Result<Money, PricingError> {
        let counted = Fee::ALL.into_iter().map(|fee| (fee, fees.of(fee))).filter(|(_, count)| *count > 0);
        counted.map(|(fee, count)| self.fee_cost(fee, count)).sum()
    }

    fn fee_cost(&self, fee: Fee, count: u32) -> Result<Money, PricingError> {
        let price = self.fees.get(&fee).ok_or(PricingError::NoFee { price: self.id.clone(), fee: fee.name() })?;
        Ok(price.times(count.into()))
    }

    /// True where the price holds at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| from <= now) && self.valid_to.is_none_or(|to| now < to)
    }

    /// What a token of a request's beginning costs, kept for so long or not, by the ordinary rates.
    #[must_use]
    pub fn cache_prices(&self, ttl: CacheTtl) -> CachePrices {
        let Rates { input, cache_read, cache_write, cache_write_long, .. } = self.price.rates;
        let write = match ttl {
            CacheTtl::Short => cache_write,
            CacheTtl::Long => cache_write_long,
        };
        CachePrices { input, read: cache_read, write, min: cache_min(&self.model) }
    }

    /// True where nothing ever costs anything, the call itself included.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let free = |rates: &Rates| {
            let classes = [rates.cache_read, rates.cache_write, rates.cache_write_long];
            rates.input.pico() == 0 && rates.output.pico() == 0 && classes.iter().flatten().all(|rate| rate.pico() == 0)
        };
        let tier = |tier: &TierPrice| free(&tier.rates) && tier.long.as_ref().is_none_or(|long| free(&long.rates));
        let beside = self.per_call.is_zero() && self.fees.values().all(|price| price.is_zero());
        let off_peak = self.off_peak.iter().all(|off_peak| tier(&off_peak.price));
        beside && off_peak && tier(&self.price) && self.service_tiers.values().all(tier)
    }

    /// True where the model is known to be able to; false where it isn't known.
    #[must_use]
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// True where both hold at some moment.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |end: Option<Timestamp>, start: Option<Timestamp>| {
            end.is_some_and(|end| start.is_some_and(|start| end <= start))
        };
        self.model == other.model
            && !before(self.valid_to, other.valid_from)
            && !before(other.valid_to, self.valid_from)
    }

    /// Names the version after its content, so that two different prices can't share an id. When it ends, and when it was
    /// last confirmed, is learned later and stays out of it.
    #[must_use]
    pub fn with_id(mut self) -> Self {
        let named = Self { id: PriceId::from(""), valid_to: None, confirmed: None, ..self.clone() };
        let content = serde_json::to_vec(&named).expect("a price row has string keys only");
        let hash = hex(&Sha256::digest(content)[..4]);
        self.id = PriceId::from(format!("{}@{}#{hash}", self.model, self.retrieved));
        self
    }
}

/// Left out of a row's JSON, and so of its version's hash: a row without it keeps the id that it had before there was one.
fn is_nothing(amount: &Money) -> bool {
    amount.is_zero()
}
