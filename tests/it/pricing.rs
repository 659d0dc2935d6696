//! The price book against a slow reading of the same facts, and its bounds against its costs.

mod bounds;
mod invoice;

use plimsoll::domain::pricing::{
    CacheWrites, During, Factor, PriceBook, PriceRow, PricingError, Rates, Served, ServiceTier, Terms, Usage, midnight,
};
use plimsoll::ids::{ModelName, PriceId, ProviderName};
use plimsoll::units::{Money, Timestamp, TokenPrice, Tokens};
use proptest::prelude::*;
use serde_json::Value;

const NOW: Timestamp = Timestamp(1_795_392_000_000);
const FACTS: &str = include_str!("../../src/domain/pricing/price_facts.json");

fn row(model: &str) -> &'static PriceRow {
    PriceBook::builtin().find(&ModelName::from(model), NOW).expect("a model of the built-in book")
}

fn usage(input: u64, cache_read: u64, cache_write: u64, output: u64) -> Usage {
    Usage {
        input: Tokens(input),
        cache_read: Tokens(cache_read),
        cache_write: Tokens(cache_write),
        output: Tokens(output),
        ..Usage::default()
    }
}

#[test]
fn every_fact_becomes_a_row_with_an_id_of_its_own() {
    let facts: Value = serde_json::from_str(FACTS).expect("the facts are JSON");
    let rows: Vec<_> = PriceBook::builtin().rows().collect();
    assert_eq!(rows.len(), facts["rows"].as_array().expect("rows").len());
    for row in rows {
        let at = row.valid_to.map_or(NOW, |end| Timestamp(end.0 - 1));
        assert_eq!(PriceBook::builtin().find(&row.model, at), Some(row));
        assert_eq!(PriceBook::builtin().find_version(&row.id), Some(row));
        assert!(row.id.as_str().starts_with(&format!("{}@2026-11-23#", row.model)), "{}", row.id);
    }
}

#[test]
fn known_prices_are_read_exactly() {
    let mini = row("openai/gpt-5-mini");
    assert_eq!(mini.price.rates.input.usd_per_million(), "0.25");
    assert_eq!(mini.cost(&usage(1_000, 0, 0, 200), None), Ok(Money::parse("0.00065").expect("an amount")));
    assert_eq!(mini.context_window, Some(Tokens(272_000)));
    // The promotional rate may be over: the list rate stands.
    assert_eq!(row("openai/gpt-5.6-sol").price.rates.input.usd_per_million(), "5");
    // No rate published for cached input: it costs what input costs.
    assert_eq!(row("openai/gpt-5.5-pro").price.rates.cache_read, Some(TokenPrice::from_pico(30_000_000)));
}

#[test]
fn over_the_threshold_every_token_is_at_the_long_rates() {
    let sol = row("openai/gpt-6.1-sol");
    let at = sol.cost(&usage(271_000, 500, 500, 10), None).expect("a cost");
    let over = sol.cost(&usage(271_000, 500, 501, 10), None).expect("a cost");
    assert_eq!(at.pico(), 271_000 * 2_000_000 + 500 * 100_000 + 500 * 2_500_000 + 10 * 10_000_000);
    assert_eq!(over.pico(), 271_000 * 4_000_000 + 500 * 200_000 + 501 * 5_000_000 + 10 * 15_000_000);
    assert_eq!(sol.worst_case(Tokens(272_000), 10).pico(), 272_000 * 2_500_000 + 10 * 10_000_000);
    assert_eq!(sol.worst_case(Tokens(272_001), 10).pico(), 272_001 * 5_000_000 + 10 * 15_000_000);
    // xAI's threshold counts itself as long.
    let grok = row("xai/grok-4.7");
    assert_eq!(grok.cost(&usage(199_999, 0, 0, 0), None).expect("a cost").pico(), 199_999 * 2_000_000);
    assert_eq!(grok.cost(&usage(200_000, 0, 0, 0), None).expect("a cost").pico(), 200_000 * 4_000_000);
}

#[test]
fn a_reported_tier_settles_at_its_own_rates_or_not_at_all() {
    let mini = row("openai/gpt-5-mini");
    let used = usage(1_000, 0, 0, 0);
    for ordinary in [None, Some("default"), Some("standard")] {
        assert_eq!(mini.cost(&used, ordinary).expect("a cost").pico(), 250_000_000);
    }
    assert_eq!(mini.cost(&used, Some("priority")).expect("a cost").pico(), 450_000_000);
    assert_eq!(mini.cost(&used, Some("flex")).expect("a cost").pico(), 125_000_000);
    for strange in ["scale", "auto", "batch", ""] {
        let error = mini.cost(&used, Some(strange)).expect_err("no rates for it");
        assert!(matches!(error, PricingError::UnknownServiceTier { .. }), "{error}");
    }
    // A tier without rates for long requests doesn't borrow them.
    let pro = row("openai/gpt-5.5");
    assert!(matches!(pro.cost(&usage(300_000, 0, 0, 0), Some("priority")), Err(PricingError::NoRate { .. })));
}

#[test]
fn a_class_without_a_rate_is_an_error_and_garbage_is_no_bill() {
    let azure = row("azure/gpt-6.1-sol");
    let long_write = Usage { cache_write_long: Tokens(1), ..usage(5, 0, 0, 0) };
    assert!(matches!(azure.cost(&long_write, None), Err(PricingError::NoRate { class: "cache_write_long", .. })));
    let wild = usage(1_000_000_001, 0, 0, 0);
    assert!(matches!(azure.cost(&wild, None), Err(PricingError::Unbelievable { .. })));
}

#[test]
fn an_answering_model_has_its_own_price_or_none() {
    let book = PriceBook::builtin();
    let mini = row("openai/gpt-5-mini");
    let found = |name: &str| book.find_answering(mini, name, NOW).map(|row| row.model.to_string());
    for own in ["gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-mini-20250807", "gpt-5-mini@20250807"] {
        assert_eq!(found(own).as_deref(), Some("openai/gpt-5-mini"), "{own}");
    }
    assert_eq!(found("gpt-5-nano").as_deref(), Some("openai/gpt-5-nano"));
    assert_eq!(found("gpt-5-nano-2025-08-07").as_deref(), Some("openai/gpt-5-nano"));
    for strange in [
        "",
        "gpt-5-mini-fast",
        "gpt-5-mini-fast-2025-08-07",
        "gpt-5-mini-2025",
        "gpt-7",
        "-2025-08-07",
        "GPT-5-MINI",
        "gpt-5-minié2025-08-07",
    ] {
        assert_eq!(found(strange), None, "{strange}");
    }
    assert_eq!(book.find(&ModelName::from("openai/gpt-5-mini-2025-08-07"), NOW), None);
}

fn stated(model: &str, input: &str, output: &str) -> PriceRow {
    let price = |text| TokenPrice::parse_per_million(text).expect("a price");
    let rates = Rates { input: price(input), output: price(output), ..Rates::default() };
    PriceRow::stated(ModelName::from(model), rates, "plimsoll.toml:31".to_owned())
}

fn custom(input: &str, output: &str) -> PriceRow {
    stated("openai/gpt-5-mini", input, output)
}

#[test]
fn a_projects_price_stands_over_the_book_whose_versions_are_still_found() {
    let dear = custom("3", "9");
    let book = PriceBook::builtin().with_overrides(vec![dear.clone()]);
    let found = book.find(&dear.model, NOW).expect("a price");
    assert_eq!(found.price.rates.input.usd_per_million(), "3");
    let below = row("openai/gpt-5-mini");
    assert_eq!(book.find_version(&below.id), Some(below), "what an attempt pinned");
    assert!(book.rows().all(|row| row.id != below.id), "and no call uses");
    assert!(found.id.as_str().starts_with("openai/gpt-5-mini@project#"), "{}", found.id);
    assert_ne!(found.id, custom("3.1", "9").id);
    let free = custom("0", "0");
    assert_eq!(free.cost(&usage(9, 9, 9, 9), Some("whatever")), Ok(Money::ZERO));
    assert_eq!(free.output_within(Tokens(1_000), Money::ZERO), Some(u32::MAX));
}

/// A project's price with a fee for each call.
fn with_fee(input: &str, output: &str, per_call: u64) -> PriceRow {
    let plain = stated("local/metered", input, output);
    PriceRow { per_call: Money::from_pico(per_call.into()), ..plain }.with_id()
}

#[test]
fn a_call_costs_its_fee_beside_its_tokens() {
    let row = with_fee("1", "2", 2_000_000_001);
    assert_eq!(row.cost(&usage(3, 0, 0, 1), None).expect("a cost").pico(), 2_000_000_001 + 5_000_000);
    assert_eq!(row.cost(&usage(0, 0, 0, 0), None).expect("a cost").pico(), 2_000_000_001, "answered is billed");
    assert_eq!(row.worst_case(Tokens(3), 1).pico(), 2_000_000_001 + 5_000_000);
    let without = with_fee("1", "2", 0);
    assert_ne!(row.id, without.id, "another fee is another version");
    // Tokens for nothing, and still not free: neither a bound nor a bill may be zero.
    let flat = with_fee("0", "0", 5);
    assert!(!flat.is_free() && with_fee("0", "0", 0).is_free());
    assert_eq!(flat.cost(&usage(9, 9, 9, 9), None).expect("a cost").pico(), 5);
    assert_eq!(flat.output_within(Tokens(9), Money::from_pico(4)), None);
    assert_eq!(flat.input_within(9, Money::from_pico(4), Terms::default()), None);
    assert_eq!(flat.output_within(Tokens(9), Money::from_pico(5)), Some(u32::MAX));
}

#[test]
fn prices_begin_and_end() {
    let old = PriceRow { valid_to: Some(Timestamp(100)), ..custom("1", "1") }.with_id();
    let new =
        PriceRow { valid_from: Some(Timestamp(100)), valid_to: Some(Timestamp(200)), ..custom("2", "2") }.with_id();
    assert!(!old.overlaps(&new) && !new.overlaps(&old));
    assert!(
        custom("1", "1").overlaps(&new) && PriceRow { valid_to: Some(Timestamp(101)), ..old.clone() }.overlaps(&new)
    );
    assert_eq!(old.id, custom("1", "1").id, "when a version ends is no part of its name");
    assert_ne!(new.id, custom("2", "2").id, "when it begins is");
    let model = old.model.clone();
    let book = PriceBook::of([old, new]);
    let input = |at| book.find(&model, Timestamp(at)).map(|row| row.price.rates.input.usd_per_million());
    assert_eq!(input(99).as_deref(), Some("1"));
    assert_eq!(input(100).as_deref(), Some("2"));
    assert_eq!(input(200), None);
}

#[test]
fn no_built_in_model_has_two_prices_at_once_or_a_time_without_one() {
    let rows: Vec<_> = PriceBook::builtin().rows().collect();
    for pair in rows.windows(2) {
        let [before, after] = pair else { continue };
        assert!(!before.overlaps(after), "{}", before.model);
        assert!(before.model != after.model || before.valid_to == after.valid_from, "{}", before.model);
    }
    let versions = |model: &str| PriceBook::builtin().versions_of(&ModelName::from(model)).count();
    assert_eq!(["openai/gpt-5.6-sol", "anthropic/claude-sonnet-5-5", "openai/gpt-5-mini"].map(versions), [3, 2, 1]);
    let at = |date: &str| midnight(date).expect("a date");
    let input = |date| {
        PriceBook::builtin().find(&ModelName::from("openai/gpt-5.6-sol"), at(date)).expect("a price").price.rates.input
    };
    assert_eq!(["2026-08-21", "2026-09-01", "2026-11-23"].map(|date| input(date).usd_per_million()), ["5", "4", "5"]);
}

#[test]
fn rates_follow_the_hour_and_the_bound_is_the_dearest() {
    let flash = row("deepseek/deepseek-flash");
    let used = usage(1_000, 200, 0, 100);
    // A Monday; 00:00-01:00, 04:00-06:00 and from 10:00 on are cheaper.
    let minute = |minute: u64| Timestamp(NOW.0 + minute * 60_000);
    let cost = |from, to| {
        let served = Served { during: Some(During { from: minute(from), to: minute(to) }), ..Served::default() };
        flash.cost_as(&used, served).expect("a cost").pico()
    };
    let (peak, off_peak) =
        (1_000 * 300_000 + 200 * 6_000 + 100 * 1_200_000, 1_000 * 150_000 + 200 * 3_000 + 100 * 600_000);
    assert_eq!((cost(0, 0), cost(59, 59), cost(60, 60), cost(239, 239)), (off_peak, off_peak, peak, peak));
    assert_eq!((cost(240, 241), cost(600, 600 + 13 * 60)), (off_peak, off_peak));
    assert_eq!((cost(59, 60), cost(239, 240)), (peak, peak), "nobody knows which minute counts");
    assert_eq!(cost(0, 400), peak, "a long call met the dear hours between");
    assert_eq!(cost(5 * 1_440, 6 * 1_440 + 59), off_peak, "a weekend");
    assert_eq!(flash.cost(&used, None).expect("a cost").pico(), peak, "an hour that nobody knows");
    assert_eq!(flash.worst_case(Tokens(1_200), 100).pico(), 1_200 * 300_000 + 100 * 1_200_000);
}

#[test]
fn a_regional_host_multiplies_every_rate_exactly() {
    let sol = row("openai/gpt-6.1-sol");
    let regional = sol.multiplied(Factor::ResidencyEu).expect("a factor");
    let used = usage(1_000, 200, 300, 40);
    let (plain, dearer) = (sol.cost(&used, None).expect("a cost"), regional.cost(&used, None).expect("a cost"));
    assert_eq!(dearer.pico() * 10, plain.pico() * 11);
    assert_ne!(sol.id, regional.id);
    assert!(matches!(sol.multiplied(Factor::SpeedFast), Err(PricingError::Multiplier { .. })));
    for row in PriceBook::builtin().rows() {
        for factor in row.multipliers.keys() {
            assert!(row.multiplied(*factor).is_ok(), "{} {factor:?}", row.model);
        }
    }
}

#[test]
fn an_endpoint_multiplies_the_rows_that_have_its_factor() {
    let book = PriceBook::builtin();
    let regional = book.at_endpoint(&ProviderName::from("openai"), Factor::ResidencyEu).expect("whole rates");
    let found = |book: &PriceBook, model: &str| book.find(&ModelName::from(model), NOW).expect("a row").id.clone();
    let dearer = row("openai/gpt-6.1-sol").multiplied(Factor::ResidencyEu).expect("a factor");
    assert_eq!(found(&regional, "openai/gpt-6.1-sol"), dearer.id);
    assert_eq!(regional.find_version(&dearer.id), Some(&dearer));
    for same in ["openai/gpt-5-mini", "anthropic/claude-opus-5-5"] {
        assert_eq!(found(&regional, same), found(book, same), "{same}");
    }
}

/// A version's name is in every log: what rows can hold may grow, what old rows are called may not change.
#[test]
fn versions_keep_their_names() {
    for id in ["openai/gpt-6.1-sol@2026-11-23#b4095609", "anthropic/claude-opus-5-5@2026-11-23#eb311e42"] {
        assert!(PriceBook::builtin().find_version(&PriceId::from(id)).is_some(), "{id}");
    }
}

/// USD per million, as a decimal string, times tokens: in pico-dollars, by shifting digits.
fn slow(rate: &Value, count: u64) -> u128 {
    let text = rate.as_str().expect("a decimal string");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{part:0<6}").parse::<u128>().expect("digits") * u128::from(count)
}

/// The cost of a usage, read from the facts by the words of their documentation.
fn slow_cost(fact: &Value, used: &Usage) -> Option<u128> {
    let base = &fact["rates"];
    let long =
        fact["long"]["above"].as_u64().filter(|above| used.input_total().0 > *above).map(|_| &fact["long"]["rates"]);
    let rate = |class: &str| long.and_then(|long| long.get(class)).or_else(|| base.get(class));
    let input = rate("in")?;
    let writes_known = base.get("cache_write").is_some() || base.get("cache_write_long").is_some();
    let write = |class: &str| rate(class).or(if writes_known { None } else { Some(input) });
    let long_write =
        if used.cache_write_long.0 == 0 { 0 } else { slow(write("cache_write_long")?, used.cache_write_long.0) };
    Some(
        slow(input, used.input.0)
            + slow(rate("cache_read").unwrap_or(input), used.cache_read.0)
            + slow(write("cache_write")?, used.cache_write.0)
            + long_write
            + slow(rate("out")?, used.output.0),
    )
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let edge = prop_oneof![0u64..2_000, 0u64..400_000, Just(272_000), Just(272_001), Just(200_000), Just(100_001)];
    (edge, 0u64..3_000, 0u64..3_000, 0u64..3, 0u64..130_000).prop_map(|(input, read, write, long, output)| Usage {
        cache_write_long: Tokens(long),
        ..usage(input, read, write, output)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cost_equals_a_slow_reading_of_the_facts(used in any_usage()) {
        let facts: Value = serde_json::from_str(FACTS).expect("the facts are JSON");
        let holds = |fact: &&Value| fact.get("valid_to").is_none();
        for fact in facts["rows"].as_array().expect("rows").iter().filter(holds) {
            let found = row(fact["model"].as_str().expect("a name"));
            prop_assert_eq!(found.cost(&used, None).ok().map(Money::pico), slow_cost(fact, &used), "{}", found.model);
        }
    }

    #[test]
    fn no_call_inside_its_bounds_costs_more_than_its_worst_case(
        used in any_usage(), more_input in 0u64..100_000, more_output in 0u64..5_000, long_writes in any::<bool>(),
    ) {
        let (input, output) = (used.input_total().0 + more_input, u32::try_from(used.output.0 + more_output).expect("small"));
        for row in PriceBook::builtin().rows() {
            let usual = Usage { cache_write_long: Tokens::ZERO, ..used };
            prop_assert!(row.cost(&usual, None).expect("a cost") <= row.worst_case(Tokens(input), output), "{}", row.model);
            let writes = if long_writes { CacheWrites::Long } else { CacheWrites::Short };
            let any_tier = Terms { cache_writes: writes, service_tier: ServiceTier::Any, ..Terms::default() };
            let reported = if long_writes { &used } else { &usual };
            let most = row.bound(Tokens(input), any_tier).worst_case(output);
            for tier in row.service_tiers.keys() {
                if let Ok(cost) = row.cost(reported, Some(tier)) {
                    prop_assert!(cost <= most, "{} {tier}", row.model);
                }
            }
        }
    }

    #[test]
    fn a_fee_comes_on_top_exactly_once(
        used in any_usage(), fee in 0u64..10_000_000_000_000, spare in 0u128..1_000_000, output in 0u32..5_000,
    ) {
        let used = Usage { cache_write_long: Tokens::ZERO, ..used };
        let (plain, dear) = (with_fee("0.25", "2", 0), with_fee("0.25", "2", fee));
        let on_top = |amount: Money| amount.plus(Money::from_pico(fee.into()));
        prop_assert_eq!(dear.cost(&used, None).expect("a cost"), on_top(plain.cost(&used, None).expect("a cost")));
        let input = used.input_total();
        let most = dear.worst_case(input, output);
        prop_assert_eq!(most, on_top(plain.worst_case(input, output)));
        let within = Usage { output: Tokens(used.output.0.min(output.into())), ..used };
        prop_assert!(dear.cost(&within, None).expect("a cost") <= most);
        let room = most.plus(Money::from_pico(spare));
        let largest = dear.output_within(input, room).expect("it fits");
        prop_assert!(dear.worst_case(input, largest) <= room && dear.worst_case(input, largest + 1) > room);
        let longest = dear.input_within(output, room, Terms::default()).expect("it fits");
        prop_assert!(dear.worst_case(longest, output) <= room);
        prop_assert!(dear.worst_case(Tokens(longest.0 + 1), output) > room);
    }

    #[test]
    fn the_worst_case_is_a_line_that_reads_backwards(input in 0u64..500_000, output in 0u32..200_000, spare in 0u128..1_000_000) {
        for row in PriceBook::builtin().rows() {
            let most = row.worst_case(Tokens(input), output);
            let rate = row.output_rate(Tokens(input));
            prop_assert_eq!(most, row.worst_case(Tokens(input), 0).plus(rate.cost(Tokens(u64::from(output)))));
            let room = most.plus(Money::from_pico(spare));
            let largest = row.output_within(Tokens(input), room).expect("the input fits");
            prop_assert!(row.worst_case(Tokens(input), largest) <= room);
            prop_assert!(row.worst_case(Tokens(input), largest + 1) > room);
            let longest = row.input_within(output, room, Terms::default()).expect("the output fits");
            prop_assert!(longest.0 >= input && row.worst_case(longest, output) <= room);
            prop_assert!(row.worst_case(Tokens(longest.0 + 1), output) > room);
        }
        let short = row("openai/gpt-5-mini");
        prop_assert_eq!(short.output_within(Tokens(input + 1), short.worst_case(Tokens(input), 0)), None);
    }
}
