//! The ledger's price book against the simulator's: two readings of the same facts, by two tables and two implementations.
//!
//! For every price there is: random requests, and everything that a provider may do within what they allow. The bill is never
//! above the reservation, and what is settled equals the bill exactly; what has no bill has no cost, and settles at the
//! reservation. `PLIMSOLL_PRICE_CASES=100000` draws as many.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll::domain::message::{Media, WebSearch};
use plimsoll::domain::pricing::{
    CacheWrites, During, Factor, Factors, Fee, Fees, PriceBook, PriceRow, Served, ServiceTier, Terms, Usage,
};
use plimsoll::domain::vision::tokens_max;
use plimsoll::sim::{Counts, Rates, Serving, file_tokens};
use plimsoll::units::{Timestamp, Tokens};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::bounds::cases;

/// What replies report; the others are the endpoint's, and multiplied into the row.
const REPORTED: [Factor; 2] = [Factor::InferenceGeoUs, Factor::SpeedFast];
const FEES: [Fee; 4] = [Fee::WebSearch, Fee::WebFetch, Fee::Maps, Fee::Container];
const MINUTE_MS: u64 = 60_000;
const WEEK_MINUTES: u64 = 7 * 24 * 60;

/// A request and what comes of it, before it is known which price it meets.
#[derive(Clone, Debug)]
struct Drawn {
    row: Index,
    writes: CacheWrites,
    pinned: bool,
    tier: Index,
    endpoint: Index,
    /// Which factors the request doesn't rule out, and which apply.
    may: [bool; 2],
    apply: [bool; 2],
    /// Units allowed, and used, of each kind.
    units: [(u32, u32); 4],
    prompt: Length,
    /// Parts of the prompt in ten-thousandths: cached, written, written for long.
    parts: [u64; 3],
    output: (u32, u32, u32),
    spare: (u64, u32),
    /// The provider searches by itself, in so many of the steps that it may make.
    steps: Option<Index>,
    /// Width and height of the images that go with it.
    images: Vec<(u32, u32)>,
    minute: u64,
    /// How long it took.
    minutes: u64,
}

/// How long a prompt is.
#[derive(Clone, Copy, Debug)]
enum Length {
    Short(u64),
    /// So far from the threshold, or from half the window where there is none.
    Edge(i64),
    /// In ten-thousandths of the window.
    Share(u64),
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        3 => (0u64..4_000).prop_map(Length::Short),
        3 => (-2i64..3).prop_map(Length::Edge),
        2 => (0u64..10_001).prop_map(Length::Share),
    ]
}

/// Of an image: small, large, long and thin, and about where families begin to scale down.
fn side_lengths() -> impl Strategy<Value = (u32, u32)> {
    let side = || prop_oneof![1u32..64, 1u32..5_000, Just(1_568u32), Just(2_576u32), 1u32..65_536];
    (side(), side())
}

/// The head of an image in base64: all that anybody looks at here.
pub(super) fn png((width, height): (u32, u32)) -> String {
    STANDARD.encode([&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &width.to_be_bytes(), &height.to_be_bytes()].concat())
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let writes = prop_oneof![Just(CacheWrites::Never), Just(CacheWrites::Short), Just(CacheWrites::Long)];
    // Often none, and often the whole prompt.
    let part = || prop_oneof![Just(0u64), Just(10_000u64), 0u64..10_001];
    let unit = || prop_oneof![3 => Just((0u32, 0u32)), 1 => (0u32..4, 0u32..4)];
    let indexes = (any::<Index>(), any::<Index>(), any::<Index>());
    let output = prop_oneof![Just((1_000u32, 1_000u32, 1_000u32)), (1u32..130_000, 0u32..130_000, 0u32..130_000)];
    let when = (0u64..WEEK_MINUTES, prop_oneof![Just(0u64), 0u64..3, 0u64..600]);
    let spare = (prop_oneof![Just(0u64), 0u64..5_000], prop_oneof![Just(0u32), 0u32..2_000]);
    (
        (indexes, writes, any::<bool>(), any::<[bool; 2]>(), any::<[bool; 2]>()),
        ([unit(), unit(), unit(), unit()], length(), [part(), part(), part()]),
        (output, spare, when, prop::collection::vec(side_lengths(), 0..4), prop::option::weighted(0.3, any::<Index>())),
    )
        .prop_map(
            |((indexes, writes, pinned, may, apply), (units, prompt, parts), (output, spare, when, images, steps))| {
                Drawn {
                    row: indexes.0,
                    writes,
                    pinned,
                    tier: indexes.1,
                    endpoint: indexes.2,
                    may,
                    apply,
                    units,
                    prompt,
                    parts,
                    output,
                    spare,
                    steps,
                    images,
                    minute: when.0,
                    minutes: when.1,
                }
            },
        )
}

impl Drawn {
    fn prompt(&self, row: &PriceRow) -> u64 {
        let window = row.context_window.map_or(1_000_000, |window| window.0);
        let edge = row.price.long.as_ref().map_or(window / 2, |long| long.above.0);
        match self.prompt {
            Length::Short(length) => length,
            Length::Edge(by) => edge.saturating_add_signed(by),
            Length::Share(share) => window * share / 10_000,
        }
    }

    /// What the provider may do by itself, and how many steps it makes of those that it may: one without a search.
    fn searching(&self, row: &PriceRow) -> (Option<WebSearch>, u64) {
        let search = WebSearch { max_uses: self.units[0].0 };
        match self.steps {
            Some(steps) if row.bound_searching(Terms::default(), search).is_ok() => {
                let most = usize::try_from(search.steps()).expect("few");
                (Some(search), 1 + u64::try_from(steps.index(most)).expect("few"))
            }
            Some(_) | None => (None, 1),
        }
    }

    /// Units allowed, and used: those that have a price.
    fn fees(&self, row: &PriceRow, search: Option<WebSearch>) -> (Fees, Fees) {
        let priced = |fee: &Fee| row.fees.contains_key(fee) && (search.is_none() || *fee == Fee::WebSearch);
        let units = FEES.iter().zip(self.units).filter(|(fee, _)| priced(fee));
        units.fold((Fees::NONE, Fees::NONE), |fees, (fee, (allowed, used))| {
            (fees.0.with(*fee, allowed), fees.1.with(*fee, used.min(allowed)))
        })
    }

    /// The parts of the prompt, each of what those before it left.
    fn counts(&self, row: &PriceRow, steps: u64) -> Counts {
        let prompt = self.prompt(row) * steps;
        let mut left = prompt;
        let mut take = |share: u64, allowed: bool| {
            let part = if allowed { left * share / 10_000 } else { 0 };
            left -= part;
            part
        };
        let long = take(self.parts[2], self.writes == CacheWrites::Long);
        let short = take(self.parts[1], self.writes != CacheWrites::Never);
        let cached = take(self.parts[0], true);
        let (max, output, reasoning) = self.output;
        let completion = u64::from(output.min(max)) * steps;
        Counts {
            prompt,
            cached,
            cache_write: short,
            cache_write_long: long,
            completion,
            reasoning: u64::from(reasoning).min(completion),
        }
    }

    /// A moment at which the row holds.
    fn at(&self, row: &PriceRow) -> Timestamp {
        let from = row.valid_from.map_or(1_780_000_000_000, |from| from.0);
        let end = row.valid_to.map_or(u64::MAX, |to| to.0 - (self.minutes + 1) * MINUTE_MS);
        Timestamp((from + self.minute * MINUTE_MS).min(end))
    }
}

fn usage_of(counts: &Counts, fees: Fees) -> Usage {
    let Counts { prompt, cached, cache_write, cache_write_long, completion, reasoning } = *counts;
    Usage {
        input: Tokens(prompt - cached - cache_write - cache_write_long),
        cache_read: Tokens(cached),
        cache_write: Tokens(cache_write),
        cache_write_long: Tokens(cache_write_long),
        output: Tokens(completion),
        reasoning: Tokens(reasoning),
        other: Tokens::ZERO,
        fees,
    }
}

/// What happened in a run of the property: it proves nothing where these stay empty.
#[derive(Debug, Default)]
struct Seen {
    billed: u32,
    unpriced: u32,
    /// Bills of more than half the reservation.
    tight: u32,
    exact: u32,
    rows: BTreeSet<String>,
    behaviours: BTreeMap<&'static str, u32>,
}

impl Seen {
    fn note(&mut self, what: &'static str, happened: bool) {
        *self.behaviours.entry(what).or_default() += u32::from(happened);
    }
}

/// The row as it is met: at an endpoint with a factor, if it has one and the draw says so.
fn met(drawn: &Drawn) -> (PriceRow, Option<Factor>) {
    let rows: Vec<&PriceRow> = PriceBook::builtin().rows().collect();
    let row = drawn.row.get(&rows);
    let places: Vec<Option<Factor>> = row
        .multipliers
        .keys()
        .filter(|factor| !REPORTED.contains(factor))
        .map(|factor| Some(*factor))
        .chain([None])
        .collect();
    let place = *drawn.endpoint.get(&places);
    let met = place.map_or_else(|| (*row).clone(), |factor| row.multiplied(factor).expect("whole rates"));
    (met, place)
}

fn check(drawn: &Drawn, rates: &Rates, seen: &mut Seen) -> Result<(), TestCaseError> {
    let (row, place) = met(drawn);
    let (search, steps) = drawn.searching(&row);
    let mut counts = drawn.counts(&row, steps);
    // Images count on both sides, where anybody says what they count.
    let mut seen_at_most = 0;
    if let Some(most) = tokens_max(&row.model, Media::Png, None) {
        for image in drawn.images.iter().filter(|_| search.is_none()) {
            let tokens = file_tokens(row.model.model(), "image/png", &png(*image)).expect("an image");
            prop_assert!(tokens <= most.0, "{}: {tokens} of {image:?}", row.model);
            (counts.prompt, seen_at_most) = (counts.prompt + tokens, seen_at_most + most.0 - tokens);
        }
        seen.note("images", !drawn.images.is_empty());
    }
    let (max_output, ..) = drawn.output;
    let has = |flags: &[bool; 2], index: usize| flags[index] && row.multipliers.contains_key(&REPORTED[index]);
    let may: Factors = (0..2).filter(|index| has(&drawn.may, *index)).map(|index| REPORTED[index]).collect();
    let factors: Factors =
        may.each().filter(|factor| REPORTED.iter().zip(drawn.apply).any(|(f, a)| a && f == factor)).collect();
    let fees = drawn.fees(&row, search);
    let tiers: Vec<Option<&str>> = row.service_tiers.keys().map(|tier| Some(tier.as_str())).chain([None]).collect();
    let tier = if drawn.pinned { None } else { *drawn.tier.get(&tiers) };
    let service_tier = if drawn.pinned { ServiceTier::Pinned } else { ServiceTier::Any };
    let terms = Terms { cache_writes: drawn.writes, service_tier, factors: may, ..Terms::default() };

    // What is reserved.
    let bound = match search {
        Some(search) => row.bound_searching(terms, search).map(|(_, bound)| bound),
        None => row.bound_with(Tokens(counts.prompt + seen_at_most + drawn.spare.0), terms, fees.0),
    };
    let bound = bound.expect("every unit has a price");
    let reserved = bound.worst_case(max_output + drawn.spare.1);

    // What the provider bills, at some minute of the call.
    let from = drawn.at(&row);
    let names: Vec<String> = factors.each().chain(place).map(|factor| factor.name().to_owned()).collect();
    let used =
        FEES.iter().map(|fee| (fee.name().to_owned(), u64::from(fees.1.of(*fee)))).filter(|(_, count)| *count > 0);
    let serving = |minute: u64| Serving {
        at: Timestamp(from.0 + minute * MINUTE_MS),
        tier: tier.map(str::to_owned),
        factors: names.clone(),
        percent: None,
        fees: used.clone().collect(),
    };
    let rate =
        rates.find(Some(row.model.provider().as_str()), row.model.model(), from).expect("the simulator has it too");
    let bills: Vec<_> = (0..=drawn.minutes).map(|minute| rate.amount(&counts, &serving(minute))).collect();
    let dearest = bills.iter().copied().collect::<Option<Vec<_>>>().and_then(|bills| bills.into_iter().max());

    // What is settled.
    let during = During { from, to: Timestamp(from.0 + drawn.minutes * MINUTE_MS) };
    let settled = row.cost_as(&usage_of(&counts, fees.1), Served { tier, factors, during: Some(during) }).ok();
    prop_assert_eq!(settled, dearest, "{} {:?}", row.id, tier);
    let Some(bill) = dearest else {
        seen.unpriced += 1;
        return Ok(());
    };
    prop_assert!(bill <= reserved, "{}: {bill} is above {reserved}", row.id);

    seen.billed += 1;
    seen.tight += u32::from(bill.times(2) > reserved);
    seen.exact += u32::from(bill == reserved);
    seen.rows.insert(format!("{} {:?}", row.model, row.valid_from));
    seen.note("a threshold crossed", row.price.long.as_ref().is_some_and(|long| counts.prompt > long.above.0));
    seen.note("written for the longest time", counts.cache_write_long > 0 && counts.cache_write_long == counts.prompt);
    seen.note("reasoning to the limit", counts.reasoning == u64::from(max_output));
    seen.note("units", !fees.1.is_none());
    seen.note("searches by itself, to the last step", search.is_some_and(|search| steps == u64::from(search.steps())));
    seen.note("another tier", tier.is_some());
    seen.note("a factor of the reply", !factors.is_none());
    seen.note("a factor of the place", place.is_some());
    seen.note("hours that differ", !row.off_peak.is_empty() && bills.iter().any(|other| *other != dearest));
    seen.note("off-peak", !row.off_peak.is_empty() && row.off_peak.iter().any(|hours| hours.is_at(from)));
    seen.note("a price that ended", row.valid_to.is_some());
    Ok(())
}

#[test]
fn every_price_reserves_what_the_provider_may_bill_and_settles_what_it_bills() {
    let rates = Rates::new(&[]).expect("the simulator's table");
    let seen = RefCell::new(Seen::default());
    let mut runner = TestRunner::new(ProptestConfig { cases: cases(), ..ProptestConfig::default() });
    let result = runner.run(&drawn(), |drawn| check(&drawn, &rates, &mut seen.borrow_mut()));
    result.expect("no bill above its reservation, and none that isn't what is settled");
    let seen = seen.into_inner();
    assert!(seen.billed > seen.unpriced * 4, "{} of {} cases had a bill", seen.billed, seen.billed + seen.unpriced);
    assert!(seen.tight > seen.billed / 10 && seen.exact > 0, "the bounds are far from the bills: {seen:?}");
    assert_eq!(seen.rows.len(), PriceBook::builtin().rows().count(), "each price was met");
    for (what, count) in &seen.behaviours {
        assert!(*count > 0, "never seen: {what}");
    }
}

/// The two tables have the same models, and each of them as long a prompt.
#[test]
fn the_simulator_prices_what_the_book_prices() {
    let rates = Rates::new(&[]).expect("the simulator's table");
    for row in PriceBook::builtin().rows() {
        let at = row.valid_from.unwrap_or(Timestamp(0));
        let found = rates.find(Some(row.model.provider().as_str()), row.model.model(), at);
        assert!(found.is_some(), "{}", row.model);
    }
}
