//! The worst case of a call before it is made, and what fits into a room of money.
//!
//! Everything takes the dearest rate that a call inside its bounds can reach: of fresh, cached and written input, of the
//! long-context rates where the bound crosses their threshold, of every service tier where none is pinned, of every hour of the
//! week, and times every factor that a reply may report. What each call costs beside its tokens comes on top.

use crate::domain::message::CacheTtl;
use crate::domain::message::WebSearch;
use crate::domain::pricing::{Factor, Factors, Fee, Fees, PriceRow, PricingError, Rates, TierPrice};
use crate::units::{Money, TokenPrice, Tokens};

/// What the request allows the provider to charge for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which cache writes may be charged though the request asks for none.
    pub cache_writes: CacheWrites,
    /// The longest time for which a request can ask to be kept; `None` where the wire has no marks for it.
    pub marks: Option<CacheTtl>,
    /// Whether the request pins the service tier.
    pub service_tier: ServiceTier,
    /// Factors that the reply may report: those that the request doesn't rule out.
    pub factors: Factors,
}

impl Default for Terms {
    /// Writes for the shorter time to live may happen; the service tier is pinned to the ordinary one, and no factor applies.
    fn default() -> Self {
        let (cache_writes, service_tier) = (CacheWrites::Short, ServiceTier::Pinned);
        Self { cache_writes, marks: None, service_tier, factors: Factors::NONE }
    }
}

impl Terms {
    /// The terms of a request that asks to be kept so long: writes for that time may be charged too.
    #[must_use]
    pub fn asking(self, ttl: Option<CacheTtl>) -> Self {
        let asked = match ttl {
            None => CacheWrites::Never,
            Some(CacheTtl::Short) => CacheWrites::Short,
            Some(CacheTtl::Long) => CacheWrites::Long,
        };
        Self { cache_writes: self.cache_writes.max(asked), ..self }
    }
}

/// Which cache writes a request may be charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheWrites {
    /// None: the request forbids them.
    Never,
    /// For the shorter time to live: what providers do by themselves.
    Short,
    /// For the longer time to live, which a request asks for.
    Long,
}

/// Whether a request pins the service tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceTier {
    /// To the ordinary one.
    Pinned,
    /// It doesn't: the account's setting decides, and any tier may be charged.
    Any,
}

/// The bound of one call with its input fixed: its worst case is a straight line in the output cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBound {
    /// The most that the call can cost before its first output: its fee, and its input.
    pub before_output: Money,
    /// The dearest rate of output.
    pub output_rate: TokenPrice,
}

impl CallBound {
    /// The most that a call with this output cap can cost.
    #[must_use]
    pub fn worst_case(&self, max_output: u32) -> Money {
        self.before_output.plus(self.output_rate.cost(Tokens(u64::from(max_output))))
    }

    /// The largest output cap whose worst case is at most `room` (LEDGER rule 9d), or `None` where fee and input
    /// alone are more.
    #[must_use]
    pub fn output_within(&self, room: Money) -> Option<u32> {
        let left = room.checked_minus(self.before_output)?.pico();
        let most = left.checked_div(u128::from(self.output_rate.pico())).unwrap_or(u128::MAX);
        Some(u32::try_from(most).unwrap_or(u32::MAX))
    }
}

impl PriceRow {
    /// The bound of a call with at most `input` tokens of input, on the given terms.
    #[must_use]
    pub fn bound(&self, input: Tokens, terms: Terms) -> CallBound {
        let dearest = self.dearest(input, terms).times(self.dearest_factor(terms.factors));
        CallBound { before_output: self.per_call.plus(dearest.input.cost(input)), output_rate: dearest.output }
    }

    /// The bound of a call that may be charged for units beside its tokens, at most `fees` of them. What such a unit adds to
    /// the input is the caller's to bound: a provider's own tool sends the conversation again each time.
    ///
    /// # Errors
    /// A unit without a price: the call has no bound.
    pub fn bound_with(&self, input: Tokens, terms: Terms, fees: Fees) -> Result<CallBound, PricingError> {
        let bound = self.bound(input, terms);
        Ok(CallBound { before_output: bound.before_output.plus(self.fees_cost(fees)?), ..bound })
    }

    /// The bound of a call in which the provider may search the web by itself, with the input that it may count: each of its
    /// steps is charged the conversation so far, at most the model's window, and may write up to the output cap.
    ///
    /// # Errors
    /// The row has no price for a search, or nobody knows the model's window: the call has no bound.
    pub fn bound_searching(&self, terms: Terms, search: WebSearch) -> Result<(Tokens, CallBound), PricingError> {
        let window = self.context_window.ok_or_else(|| PricingError::NoWindow { price: self.id.clone() })?;
        let steps = u64::from(search.steps());
        let input = Tokens(window.0.saturating_mul(steps));
        let bound = self.bound_with(input, terms, Fees::NONE.with(Fee::WebSearch, search.max_uses))?;
        let output_rate = TokenPrice::from_pico(bound.output_rate.pico().saturating_mul(steps));
        Ok((input, CallBound { output_rate, ..bound }))
    }

    /// What the dearest of these factors that can apply together come to, each in basis points. Those of one family
    /// exclude each other; what the row doesn't have is no cost that could be settled.
    fn dearest_factor(&self, factors: Factors) -> [u32; FAMILIES.len()] {
        FAMILIES.map(|family| {
            let may = family.iter().filter(|factor| factors.has(**factor));
            may.filter_map(|factor| self.multipliers.get(factor)).copied().fold(WHOLE, u32::max)
        })
    }

    /// The most that a call can cost on the usual terms: `worst_case(i, 0) + output_rate(i) × o`.
    #[must_use]
    pub fn worst_case(&self, input: Tokens, max_output: u32) -> Money {
        self.bound(input, Terms::default()).worst_case(max_output)
    }

    /// The rate of output that the worst case uses, on the usual terms.
    #[must_use]
    pub fn output_rate(&self, input: Tokens) -> TokenPrice {
        self.bound(input, Terms::default()).output_rate
    }

    /// The largest output cap whose worst case is at most `room`, on the usual terms; see [`CallBound::output_within`].
    #[must_use]
    pub fn output_within(&self, input: Tokens, room: Money) -> Option<u32> {
        self.bound(input, Terms::default()).output_within(room)
    }

    /// The longest input whose worst case with this output cap is at most `room` (a landing that must fit its reserve), or
    /// `None` where fee and output alone are more. At most [`Tokens::BELIEVED_MAX`].
    #[must_use]
    pub fn input_within(&self, max_output: u32, room: Money, terms: Terms) -> Option<Tokens> {
        let fits = |input: Tokens| self.bound(input, terms).worst_case(max_output) <= room;
        if !fits(Tokens::ZERO) {
            return None;
        }
        // The worst case never falls as the input grows, so halving finds the edge, threshold or not: 30 steps at most.
        let (mut within, mut beyond) = (0, Tokens::BELIEVED_MAX.0 + 1);
        while within + 1 < beyond {
            let middle = within.midpoint(beyond);
            if fits(Tokens(middle)) { within = middle } else { beyond = middle }
        }
        Some(Tokens(within))
    }

    /// The dearest rates of input and output that a call with at most this much input can meet.
    fn dearest(&self, input: Tokens, terms: Terms) -> Dearest {
        let hours = self.off_peak.iter().map(|off_peak| &off_peak.price).chain([&self.price]);
        let each = hours.map(|price| dearest_of(price, &self.price, input, terms.cache_writes));
        let ordinary = each.reduce(Dearest::or).unwrap_or_default();
        match terms.service_tier {
            ServiceTier::Pinned => ordinary,
            ServiceTier::Any => {
                let others = self.service_tiers.values();
                others.map(|tier| dearest_of(tier, &self.price, input, terms.cache_writes)).fold(ordinary, Dearest::or)
            }
        }
    }
}

/// Factors that exclude each other stand together.
const FAMILIES: [&[Factor]; 5] = [
    &[Factor::DataZoneEu, Factor::DataZoneUs],
    &[Factor::InferenceGeoUs],
    &[Factor::ResidencyEu, Factor::ResidencyUs],
    &[Factor::SpeedFast],
    &[Factor::VertexNonGlobalEndpoint],
];
/// A factor of 1, in basis points.
const WHOLE: u32 = 10_000;

/// The dearest rates that can apply.
#[derive(Clone, Copy, Default)]
struct Dearest {
    input: TokenPrice,
    output: TokenPrice,
}

impl Dearest {
    fn or(self, other: Self) -> Self {
        Self { input: self.input.max(other.input), output: self.output.max(other.output) }
    }

    /// These rates times factors in basis points, rounded up.
    fn times(self, factors: [u32; FAMILIES.len()]) -> Self {
        let one = |rate: TokenPrice, factor: u32| {
            let product = (u128::from(rate.pico()) * u128::from(factor)).div_ceil(u128::from(WHOLE));
            TokenPrice::from_pico(u64::try_from(product).unwrap_or(u64::MAX))
        };
        let times =
            |dearest: Self, factor| Self { input: one(dearest.input, factor), output: one(dearest.output, factor) };
        factors.into_iter().fold(self, times)
    }

    /// These rates, scaled as `long` stands to `base`, rounded up.
    fn scaled_up(self, long: Self, base: Self) -> Self {
        Self {
            input: scaled_up(self.input, long.input, base.input),
            output: scaled_up(self.output, long.output, base.output),
        }
    }
}

/// The dearest rates of one service tier. What it leaves out of what the ordinary tier has is taken from there, and its
/// long-context rates are scaled alike: an upper bound, as the source of the prices documents it.
fn dearest_of(tier: &TierPrice, ordinary: &TierPrice, input: Tokens, writes: CacheWrites) -> Dearest {
    let base = dearest_rates(&tier.rates, &ordinary.rates, writes);
    let long = match (&tier.long, &ordinary.long) {
        (Some(own), usual) => {
            let fallback = usual.as_ref().map_or(&ordinary.rates, |usual| &usual.rates);
            (input > own.above).then(|| dearest_rates(&own.rates, fallback, writes))
        }
        (None, Some(usual)) => (input > usual.above).then(|| {
            let usual_base = dearest_rates(&ordinary.rates, &ordinary.rates, writes);
            base.scaled_up(dearest_rates(&usual.rates, &usual.rates, writes), usual_base)
        }),
        (None, None) => None,
    };
    long.map_or(base, |long| base.or(long))
}

fn dearest_rates(rates: &Rates, fallback: &Rates, writes: CacheWrites) -> Dearest {
    let read = rates.cache_read.or(fallback.cache_read);
    let short = rates.cache_write.or(fallback.cache_write);
    let long = rates.cache_write_long.or(fallback.cache_write_long);
    let written = match writes {
        CacheWrites::Never => None,
        CacheWrites::Short => short,
        CacheWrites::Long => short.max(long),
    };
    let input = rates.input.max(read.unwrap_or_default()).max(written.unwrap_or_default());
    Dearest { input, output: rates.output }
}

/// `rate × long / base`, rounded up; `long` where there is no base to scale by.
fn scaled_up(rate: TokenPrice, long: TokenPrice, base: TokenPrice) -> TokenPrice {
    let product = u128::from(rate.pico()) * u128::from(long.pico());
    let scaled = if base.pico() == 0 { u128::from(long.pico()) } else { product.div_ceil(u128::from(base.pico())) };
    TokenPrice::from_pico(u64::try_from(scaled).unwrap_or(u64::MAX))
}
