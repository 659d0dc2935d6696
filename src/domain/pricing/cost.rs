//! The exact cost of a call after it was made, from what the provider reports.

use crate::domain::pricing::{Class, PriceRow, PricingError, Rates, TierPrice, Usage};
use crate::units::{Money, TokenPrice, Tokens};

/// What servers call the ordinary service tier. `on_demand` is Groq's word.
const ORDINARY_TIERS: [&str; 3] = ["default", "standard", "on_demand"];
/// What servers without tiers echo; where a row has tiers it says nothing about what is charged.
const ECHOED_TIER: &str = "auto";

impl PriceRow {
    /// The exact cost of a billed call: its fee and its tokens.
    ///
    /// # Errors
    /// A service tier or a class of tokens without a rate, or counts that can't be believed. Nobody knows the cost then:
    /// the caller books the whole reservation as `unknown`, never zero and never another class's rate.
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Result<Money, PricingError> {
        believe(usage)?;
        if self.is_free() {
            return Ok(Money::ZERO);
        }
        let tier = self.tier(service_tier)?;
        let rates = self.rates(tier, usage.input_total())?;
        usage.classes().into_iter().try_fold(self.per_call, |sum, (class, count)| {
            self.class_cost(class, count, rates.of(class)).map(|cost| sum.plus(cost))
        })
    }

    fn tier(&self, reported: Option<&str>) -> Result<&TierPrice, PricingError> {
        match reported {
            None => Ok(&self.price),
            Some(tier) if ORDINARY_TIERS.contains(&tier) => Ok(&self.price),
            Some(tier) if tier == ECHOED_TIER && self.service_tiers.is_empty() => Ok(&self.price),
            Some(tier) => self.service_tiers.get(tier).ok_or_else(|| PricingError::UnknownServiceTier {
                price: self.id.clone(),
                tier: tier.chars().take(64).collect(),
            }),
        }
    }

    /// The rates of a request with this much input. Over the threshold all of it is at the long rates.
    fn rates<'a>(&self, tier: &'a TierPrice, input: Tokens) -> Result<&'a Rates, PricingError> {
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
    let wild = classes.into_iter().find(|(_, count)| *count > Tokens::BELIEVED_MAX);
    wild.map_or(Ok(()), |(class, count)| Err(PricingError::Unbelievable { class, count }))
}
