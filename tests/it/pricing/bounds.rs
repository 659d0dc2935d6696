//! No bill inside its bounds is above its reservation: random rows, terms and usages.
//!
//! `PLIMSOLL_PRICE_CASES=100000` draws as many.

use std::collections::BTreeMap;

use plimsoll::domain::pricing::{
    CacheWrites, Factor, Factors, Fee, Fees, LongContext, PriceRow, PricingError, Rates, Served, ServiceTier, Terms,
    TierPrice, Usage,
};
use plimsoll::units::{Money, TokenPrice, Tokens};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::row;

pub(super) const CASES: u32 = 2_000;
const TIERS: [&str; 2] = ["flex", "priority"];
const MAY_BE_REPORTED: [Factor; 3] = [Factor::InferenceGeoUs, Factor::SpeedFast, Factor::ResidencyEu];
const UNITS: [Fee; 3] = [Fee::WebSearch, Fee::Maps, Fee::Other];

pub(super) fn cases() -> u32 {
    std::env::var("PLIMSOLL_PRICE_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(CASES)
}

/// Mostly multiples of 100 pico-dollars, so that factors give whole ones; some not, which no factor may apply to.
fn rate() -> impl Strategy<Value = TokenPrice> {
    prop_oneof![8 => (0u64..1_000_000).prop_map(|price| price * 100), 1 => 0u64..100_000_000]
        .prop_map(TokenPrice::from_pico)
}

fn rates() -> impl Strategy<Value = Rates> {
    let some = || prop::option::weighted(0.8, rate());
    (rate(), rate(), some(), some(), some()).prop_map(|(input, output, cache_read, cache_write, cache_write_long)| {
        Rates { input, output, cache_read, cache_write, cache_write_long }
    })
}

fn tier() -> impl Strategy<Value = TierPrice> {
    let long = (1u64..2_000, rates()).prop_map(|(above, rates)| LongContext { above: Tokens(above), rates });
    (rates(), prop::option::of(long)).prop_map(|(rates, long)| TierPrice { rates, long })
}

fn any_row() -> impl Strategy<Value = PriceRow> {
    let factor = prop_oneof![Just(11_000u32), Just(20_000), Just(5_000), Just(10_001)];
    let fee = (0u64..50_000_000_000).prop_map(|pico| Money::from_pico(pico.into()));
    let beside = (0u64..1_000_000_000).prop_map(|pico| Money::from_pico(pico.into()));
    (
        tier(),
        beside,
        prop::collection::btree_map(prop::sample::select(TIERS.map(str::to_owned).to_vec()), tier(), 0..3),
        prop::collection::btree_map(prop::sample::select(MAY_BE_REPORTED.to_vec()), factor, 0..4),
        prop::collection::btree_map(prop::sample::select(UNITS[..2].to_vec()), fee, 0..3),
    )
        .prop_map(|(price, per_call, service_tiers, multipliers, fees)| PriceRow {
            price,
            per_call,
            service_tiers,
            multipliers,
            fees,
            ..row("openai/gpt-5-mini").clone()
        })
}

/// What a request allows, and what a provider may do within it.
#[derive(Clone, Debug)]
struct Call {
    terms: Terms,
    allowed: Fees,
    input: u64,
    max_output: u32,
    usage: Usage,
    tier: Option<&'static str>,
    factors: Factors,
}

fn any_factors() -> impl Strategy<Value = Factors> {
    prop::collection::vec(prop::sample::select(MAY_BE_REPORTED.to_vec()), 0..3).prop_map(Factors::from_iter)
}

fn any_call() -> impl Strategy<Value = Call> {
    let writes = prop_oneof![Just(CacheWrites::Never), Just(CacheWrites::Short), Just(CacheWrites::Long)];
    let pinned = prop_oneof![Just(ServiceTier::Pinned), Just(ServiceTier::Any)];
    let counts = (0u64..2_500, 0u64..500, 0u64..500, 0u64..500, 0u64..1_000, 0u64..1_000);
    let spare = (0u64..300, 0u32..300);
    let units = (0u32..3, 0u32..3, 0u32..3);
    let tier = prop::option::of(prop::sample::select(TIERS.to_vec()));
    (writes, pinned, any_factors(), any_factors(), counts, spare, units, tier).prop_map(
        |(cache_writes, service_tier, may, reported, counts, spare, units, tier)| {
            let (input, read, short, long, output, reasoning) = counts;
            let short = if cache_writes == CacheWrites::Never { 0 } else { short };
            let long = if cache_writes == CacheWrites::Long { long } else { 0 };
            let used = Fees::NONE.with(Fee::WebSearch, units.0).with(Fee::Maps, units.1);
            let usage = Usage {
                input: Tokens(input),
                cache_read: Tokens(read),
                cache_write: Tokens(short),
                cache_write_long: Tokens(long),
                output: Tokens(output),
                reasoning: Tokens(reasoning.min(output)),
                other: Tokens::ZERO,
                fees: used,
            };
            Call {
                terms: Terms { cache_writes, marks: None, service_tier, factors: may },
                allowed: used.with(Fee::WebSearch, units.0 + units.2),
                input: usage.input_total().0 + spare.0,
                max_output: u32::try_from(output).expect("small") + spare.1,
                usage,
                tier: tier.filter(|_| service_tier == ServiceTier::Any),
                factors: reported.each().filter(|factor| may.has(*factor)).collect(),
            }
        },
    )
}

/// Draws until so many cases had a cost: what has none is booked at its reservation.
#[test]
fn no_bill_inside_its_bounds_is_above_its_reservation() {
    let mut runner = TestRunner::new(ProptestConfig { cases: cases(), ..ProptestConfig::default() });
    let (billed, tight) = (std::cell::Cell::new(0u32), std::cell::Cell::new(0u32));
    runner
        .run(&(any_row(), any_call()), |(row, call)| {
            let Ok(bound) = row.bound_with(Tokens(call.input), call.terms, call.allowed) else { return Ok(()) };
            let Ok(bill) = row.cost_as(&call.usage, Served { tier: call.tier, factors: call.factors, during: None })
            else {
                return Ok(());
            };
            let most = bound.worst_case(call.max_output);
            billed.set(billed.get() + 1);
            tight.set(tight.get() + u32::from(bill.times(2) > most));
            prop_assert!(bill <= most, "{bill} is above {most}");
            Ok(())
        })
        .expect("no bill above its reservation");
    assert!(billed.get() > cases() / 8, "only {} of {} cases had a bill", billed.get(), cases());
    assert!(tight.get() > billed.get() / 20, "the bounds are far from the bills: {} of {}", tight.get(), billed.get());
}

fn fable() -> PriceRow {
    let fees = BTreeMap::from([(Fee::WebSearch, Money::parse("0.01").expect("an amount"))]);
    PriceRow { fees, ..row("anthropic/claude-opus-5-5").clone() }
}

#[test]
fn factors_multiply_and_units_come_on_top() {
    let row = fable();
    let used = Usage {
        input: Tokens(1_000),
        output: Tokens(100),
        fees: Fees::NONE.with(Fee::WebSearch, 3),
        ..Usage::default()
    };
    let cost = |factors: &[Factor]| {
        let served = Served { tier: Some("standard"), factors: factors.iter().copied().collect(), during: None };
        row.cost_as(&used, served).expect("a cost").pico()
    };
    let (tokens, searches) = (1_000 * 4_000_000 + 100 * 20_000_000, 30_000_000_000);
    assert_eq!(cost(&[]), tokens + searches);
    assert_eq!(cost(&[Factor::SpeedFast]), tokens * 2 + searches);
    assert_eq!(cost(&[Factor::SpeedFast, Factor::InferenceGeoUs]), tokens * 22 / 10 + searches);
    let factors = Factors::NONE.with(Factor::SpeedFast).with(Factor::InferenceGeoUs);
    let terms = Terms { cache_writes: CacheWrites::Never, factors, ..Terms::default() };
    let bound = row.bound_with(Tokens(1_000), terms, used.fees).expect("a bound");
    assert_eq!(bound.worst_case(100).pico(), tokens * 22 / 10 + searches);
}

#[test]
fn what_has_no_price_has_neither_a_bound_nor_a_cost() {
    let row = fable();
    let fetched = Fees::NONE.with(Fee::WebFetch, 1);
    let no_fee = |error: PricingError| matches!(error, PricingError::NoFee { fee: "web_fetch", .. });
    assert!(no_fee(row.bound_with(Tokens(1), Terms::default(), fetched).expect_err("no price")));
    assert!(no_fee(row.cost(&Usage { fees: fetched, ..Usage::default() }, None).expect_err("no price")));
    let wild = Usage { fees: Fees::NONE.with(Fee::WebSearch, 1_000_001), ..Usage::default() };
    assert!(matches!(row.cost(&wild, None), Err(PricingError::Unbelievable { class: "web_search", .. })));
    let strange = Served { factors: Factors::NONE.with(Factor::Unknown), ..Served::default() };
    assert!(matches!(row.cost_as(&Usage::default(), strange), Err(PricingError::Multiplier { .. })));
    let other = Usage { other: Tokens(1), ..Usage::default() };
    assert!(matches!(row.cost(&other, None), Err(PricingError::NoRate { class: "other", .. })));
}
