//! The exact cost of a call after it was made, from what the provider reports.

use std::collections::BTreeSet;

use crate::domain::pricing::{Class, During, Factors, Fee, PriceRow, PricingError, Rates, TierPrice, Usage};
use crate::units::{Money, TokenPrice, Tokens};

/// What servers call the ordinary service tier. `on_demand` is Groq's word.
const ORDINARY_TIERS: [&str; 3] = ["default", "standard", "on_demand"];
/// What servers without tiers echo; where a row has tiers it says nothing about what is charged.
const ECHOED_TIER: &str = "auto";
/// The most units of a kind that are believed of one call.
const UNITS_BELIEVED_MAX: Tokens = Tokens(1_000_000);

/// How a provider says that it served a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served<'a> {
    /// The service tier.
    pub tier: Option<&'a str>,
    /// Factors on every rate, but for those of the endpoint, which the row has already.
    pub factors: Factors,
    /// When, for rates that depend on the hour; `None` where that isn't known: the dearest hour counts then.
    pub during: Option<During>,
}

impl<'a> Served<'a> {
    /// The service tier, where it isn't the ordinary one.
    #[must_use]
    pub fn other_tier(&self) -> Option<&'a str> {
        self.tier.filter(|tier| !ORDINARY_TIERS.contains(tier) && *tier != ECHOED_TIER)
    }
}

impl PriceRow {
    /// The exact cost of a billed call, served without factors; see [`PriceRow::cost_as`].
    ///
    /// # Errors
    /// As [`PriceRow::cost_as`].
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Result<Money, PricingError> {
        self.cost_as(usage, Served { tier: service_tier, ..Served::default() })
    }

    /// The exact cost of a billed call: the call itself, its tokens, and the units beside them. The service tier first,
    /// then the length of the input, then the factors on every rate (PROVIDERS §8).
    ///
    /// # Errors
    /// A service tier, a factor, a unit or a class of tokens without a price, or counts that can't be believed. Nobody knows
    /// the cost then: the caller books the whole reservation as `unknown`, never zero and never another class's rate.
    pub fn cost_as(&self, usage: &Usage, served: Served<'_>) -> Result<Money, PricingError> {
        believe(usage)?;
        let beside = self.fees_cost(usage.fees)?.plus(self.per_call);
        if self.is_free() {
            return Ok(Money::ZERO);
        }
        let mut costs = self.tiers(served)?.into_iter().map(|tier| self.tokens_cost(tier, usage, served.factors));
        costs.try_fold(Money::ZERO, |dearest, cost| cost.map(|cost| dearest.max(cost))).map(|cost| cost.plus(beside))
    }

    fn tokens_cost(&self, tier: &TierPrice, usage: &Usage, factors: Factors) -> Result<Money, PricingError> {
        let rates = self.multiplied_rates(*self.rates(tier, usage.input_total())?, factors)?;
        usage.classes().into_iter().map(|(class, count)| self.class_cost(class, count, rates.of(class))).sum()
    }

    pub(super) fn multiplied_rates(&self, rates: Rates, factors: Factors) -> Result<Rates, PricingError> {
        factors.each().try_fold(rates, |rates, factor| {
            let multiplied = self.multipliers.get(&factor).and_then(|basis_points| rates.times(*basis_points));
            multiplied.ok_or_else(|| self.no_factor(factor))
        })
    }

    /// What was charged; several where the call met hours with different rates.
    pub(super) fn tiers(&self, served: Served<'_>) -> Result<Vec<&TierPrice>, PricingError> {
        match served.tier {
            None => Ok(self.ordinary(served.during)),
            Some(tier) if ORDINARY_TIERS.contains(&tier) => Ok(self.ordinary(served.during)),
            Some(tier) if tier == ECHOED_TIER && self.service_tiers.is_empty() => Ok(self.ordinary(served.during)),
            Some(tier) => match self.service_tiers.get(tier) {
                Some(price) => Ok(vec![price]),
                None => Err(PricingError::UnknownServiceTier {
                    price: self.id.clone(),
                    tier: tier.chars().take(64).collect(),
                }),
            },
        }
    }

    /// What the ordinary tier charges in each of these hours.
    fn ordinary(&self, during: Option<During>) -> Vec<&TierPrice> {
        let other = |at| self.off_peak.iter().position(|off_peak| off_peak.is_at(at));
        let met: BTreeSet<Option<usize>> = match during {
            _ if self.off_peak.is_empty() => [None].into(),
            Some(during) => during.minutes().map(other).collect(),
            None => (0..self.off_peak.len()).map(Some).chain([None]).collect(),
        };
        let price = |place: Option<usize>| match place {
            None => Some(&self.price),
            Some(place) => self.off_peak.get(place).map(|off_peak| &off_peak.price),
        };
        met.into_iter().filter_map(price).collect()
    }

    /// The rates of a request with this much input. Over the threshold all of it is at the long rates.
    pub(super) fn rates<'a>(&self, tier: &'a TierPrice, input: Tokens) -> Result<&'a Rates, PricingError> {
        match (&tier.long, &self.price.long) {
            (Some(long), _) if input > long.above => Ok(&long.rates),
            (None, Some(usual)) if input > usual.above => {
                Err(PricingError::NoRate { price: self.id.clone(), class: "long context" })
            }
            (Some(_) | None, _) => Ok(&tier.rates),
        }
    }

    fn class_cost(&self, class: Class, count: Tokens, rate: Option<TokenPrice>) -> Result<Money, PricingError> {
        match rate {
            Some(rate) => Ok(rate.cost(count)),
            None if count == Tokens::ZERO => Ok(Money::ZERO),
            None => Err(PricingError::NoRate { price: self.id.clone(), class: class.name() }),
        }
    }
}

/// Counts that no call can have are garbage, not a bill.
fn believe(usage: &Usage) -> Result<(), PricingError> {
    let classes = [
        ("input", usage.input_total()),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("other", usage.other),
    ];
    let units = Fee::ALL.into_iter().map(|fee| (fee.name(), Tokens(usage.fees.of(fee).into())));
    if let Some((class, count)) = units.into_iter().find(|(_, count)| *count > UNITS_BELIEVED_MAX) {
        return Err(PricingError::Unbelievable { class, count });
    }
    let wild = classes.into_iter().find(|(_, count)| *count > Tokens::BELIEVED_MAX);
    wild.map_or(Ok(()), |(class, count)| Err(PricingError::Unbelievable { class, count }))
}
