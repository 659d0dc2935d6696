//! `[[prices]]` resolved into rows of the price book, in `plimsoll.toml` and in the imported `prices.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::domain::pricing::{Factor, Fee, Hours, LongContext, OffPeak, PriceRow, Rates, STATED, TierPrice, midnight};
use crate::ids::ModelName;
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::files;
use crate::spec::keys::price::PRICES;
use crate::spec::limits::declared;
use crate::spec::names::{self, Providers};
use crate::spec::reader::{self, At, Node};
use crate::units::{Money, TokenPrice, Tokens};

pub use crate::spec::files::FILE_BYTES_MAX;

/// The file of imported prices, beside `plimsoll.toml`.
pub const PRICES_FILE: &str = "prices.toml";
/// The most that one call, or one unit, may cost beside its tokens; more is a slip of units.
const BESIDE_MAX: Money = Money::from_micro(1_000_000_000);
/// The largest factor, in basis points: 100 times.
const FACTOR_MAX: u32 = 1_000_000;

/// Prices that were imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The rows, those that ended included.
    pub rows: Vec<PriceRow>,
    /// What was imported last; empty where nothing was.
    pub source: String,
    /// Its hash.
    pub sha256: String,
    /// The day on which it was read.
    pub retrieved: String,
}

/// Reads `prices.toml`, if it is there.
pub(crate) fn imported(root: &Path, faults: &mut Faults) -> Imported {
    let path = root.join(PRICES_FILE);
    if !path.exists() {
        return Imported::default();
    }
    let source = match files::read(root, &path) {
        Ok(source) => source,
        Err(fault) => {
            faults.push(fault);
            return Imported::default();
        }
    };
    let Some(table) = reader::parse(&source, faults) else { return Imported::default() };
    let node = Node::root(&source, &table, &PRICES, faults);
    let text = |key| node.text(key).map(|text| text.value).unwrap_or_default();
    Imported { rows: rows(&node, faults), source: text("source"), sha256: text("sha256"), retrieved: text("retrieved") }
}

/// The rows of `[[prices]]`: each good, and of each model one at a time.
pub(crate) fn rows(node: &Node<'_>, faults: &mut Faults) -> Vec<PriceRow> {
    let nodes = node.sections("prices");
    let rows: Vec<(Node<'_>, PriceRow)> =
        nodes.into_iter().filter_map(|node| row(&node, faults).map(|row| (node, row))).collect();
    check_dates(&rows, faults);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Reports rows of one model that hold at the same time, and times between two of them at which none holds.
fn check_dates(rows: &[(Node<'_>, PriceRow)], faults: &mut Faults) {
    let mut by_model: BTreeMap<&ModelName, Vec<&(Node<'_>, PriceRow)>> = BTreeMap::new();
    rows.iter().for_each(|row| by_model.entry(&row.1.model).or_default().push(row));
    for (model, mut rows) in by_model {
        rows.sort_by_key(|(_, row)| row.valid_from);
        for pair in rows.windows(2) {
            let [(_, before), (node, after)] = pair else { continue };
            if before.overlaps(after) {
                let message = format!("`{model}` has two prices for the same time");
                let help = "name it once, or let one end (`valid_to`) where the other begins (`valid_from`)";
                node.fault(faults, code::DUPLICATE, &node.span_of("model"), message, help);
            } else if let (Some(end), Some(start)) = (before.valid_to, after.valid_from)
                && end < start
            {
                let message = format!("`{model}` has no price from {end} to {start}");
                let help = "let one price begin where the other ends";
                node.fault(faults, code::CONFLICT, &node.span_of("valid_from"), message, help);
            }
        }
    }
}

fn row(node: &Node<'_>, faults: &mut Faults) -> Option<PriceRow> {
    let model = names::model(node, &node.text("model")?, &Providers::new(), faults);
    let reason = node.text("reason").map(|reason| reason.value).filter(|reason| !reason.trim().is_empty());
    check_zero(node, &model, reason.as_deref(), faults);
    let (service_tiers, off_peak) = (service_tiers(node), off_peak(node, faults));
    let (multipliers, fees) = (multipliers(node, faults), fees(node, faults));
    let per_call = node.money("per_call");
    if let Some(dear) = per_call.as_ref().filter(|fee| fee.value > BESIDE_MAX) {
        let message = format!("`per_call` of `{model}` is {}", dear.value);
        node.fault(faults, code::OUT_OF_RANGE, &dear.span, message, too_dear());
    }
    check_span(node, faults);
    let dates = (date(node, "retrieved", faults), date(node, "confirmed", faults));
    let rates = Rates { input: rate(node, "input")?, output: rate(node, "output")?, ..other_rates(node) };
    let source = node
        .text("source")
        .map_or_else(|| declared(node.source, &node.span_of("model")).to_string(), |text| text.value);
    let stated = PriceRow::stated(model, rates, source);
    let price = TierPrice { rates: stated.price.rates, long: long(node, rates, Missing::AsInput) };
    let off_peak = off_peak.into_iter().map(|hours| hours.of_every_length(&price)).collect();
    let row = PriceRow {
        price,
        per_call: per_call.map_or(Money::ZERO, |money| money.value),
        service_tiers,
        multipliers,
        fees,
        off_peak,
        context_window: node.count_u32("context_tokens").map(|count| Tokens(count.value.into())),
        max_output: node.count_u32("max_output_tokens").map(|count| count.value),
        valid_from: node.instant("valid_from").map(|at| at.value),
        valid_to: node.instant("valid_to").map(|at| at.value),
        retrieved: dates.0.unwrap_or_else(|| STATED.to_owned()),
        confirmed: dates.1,
        reason,
        ..stated
    };
    check_factors(node, &row, faults);
    Some(row.with_id())
}

fn too_dear() -> String {
    format!("at most {BESIDE_MAX}: dollars of one call, or of one unit")
}

fn check_zero(node: &Node<'_>, model: &ModelName, reason: Option<&str>, faults: &mut Faults) {
    for key in ["input", "output"] {
        if let Some(free) = node.price(key).filter(|price| price.value == TokenPrice::default() && reason.is_none()) {
            let message = format!("the `{key}` price of `{model}` is 0 without a reason");
            node.fault(faults, code::CONFLICT, &free.span, message, "add `reason = \"…\"`, such as `\"own hardware\"`");
        }
    }
}

fn check_span(node: &Node<'_>, faults: &mut Faults) {
    if let (Some(from), Some(to)) = (node.instant("valid_from"), node.instant("valid_to"))
        && to.value <= from.value
    {
        let message = format!("`valid_to` is {}, not after `valid_from`", to.value);
        node.fault(faults, code::CONFLICT, &to.span, message, "let it end after it begins");
    }
}

fn date(node: &Node<'_>, key: &str, faults: &mut Faults) -> Option<String> {
    let text = node.text(key)?;
    if midnight(&text.value).is_none() {
        let message = format!("`{key}` is no day");
        node.fault(faults, code::BAD_VALUE, &text.span, message, "expected a date, such as `\"2026-11-23\"`");
    }
    Some(text.value)
}

fn rate(node: &Node<'_>, key: &str) -> Option<TokenPrice> {
    node.price(key).map(|price| price.value)
}

/// The classes that a table may leave out; input and output are the caller's.
fn other_rates(node: &Node<'_>) -> Rates {
    Rates {
        cache_read: rate(node, "cache_read"),
        cache_write: rate(node, "cache_write"),
        cache_write_long: rate(node, "cache_write_long"),
        ..Rates::default()
    }
}

/// What a class costs that nobody states.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// What input costs.
    AsInput,
    /// Nobody knows.
    Unknown,
}

/// The rates of long inputs. What they leave out stays at the base rates as these are stated; in a service tier only input and
/// output do.
fn long(node: &Node<'_>, base: Rates, missing: Missing) -> Option<LongContext> {
    let node = node.section("long")?;
    let above = Tokens(node.count("above")?.value);
    let (own, stays) = (other_rates(&node), if missing == Missing::AsInput { base } else { Rates::default() });
    let rates = Rates {
        input: rate(&node, "input").unwrap_or(base.input),
        output: rate(&node, "output").unwrap_or(base.output),
        cache_read: own.cache_read.or(stays.cache_read),
        cache_write: own.cache_write.or(stays.cache_write),
        cache_write_long: own.cache_write_long.or(stays.cache_write_long),
    };
    Some(LongContext { above, rates: filled(rates, missing) })
}

fn filled(rates: Rates, missing: Missing) -> Rates {
    if missing == Missing::AsInput { rates.with_documented_defaults() } else { rates }
}

fn tier(node: &Node<'_>, missing: Missing) -> Option<TierPrice> {
    let rates = Rates { input: rate(node, "input")?, output: rate(node, "output")?, ..other_rates(node) };
    Some(TierPrice { rates: filled(rates, missing), long: long(node, rates, missing) })
}

fn service_tiers(node: &Node<'_>) -> BTreeMap<String, TierPrice> {
    let tiers = node.sections_by_name("service_tiers");
    tiers.into_iter().filter_map(|(name, node)| Some((name.value, tier(&node, Missing::Unknown)?))).collect()
}

fn off_peak(node: &Node<'_>, faults: &mut Faults) -> Vec<OffPeak> {
    let mut seen: Vec<Hours> = Vec::new();
    let mut blocks = Vec::new();
    for node in node.sections("off_peak") {
        let texts = node.texts("hours").map(|texts| texts.value).unwrap_or_default();
        let hours: Vec<Hours> = texts.iter().filter_map(|text| hours(&node, text, &mut seen, faults)).collect();
        blocks.extend(tier(&node, Missing::AsInput).map(|price| OffPeak { hours, price }));
    }
    blocks
}

fn hours(node: &Node<'_>, text: &At<String>, seen: &mut Vec<Hours>, faults: &mut Faults) -> Option<Hours> {
    let hours: Hours = match text.value.parse() {
        Ok(hours) => hours,
        Err(error) => {
            let help = "hours past midnight are two: `16:30-24:00` and `00:00-00:30`";
            node.fault(faults, code::BAD_VALUE, &text.span, format!("{error}"), help);
            return None;
        }
    };
    if let Some(other) = seen.iter().find(|other| other.meets(hours)) {
        let message = format!("`{hours}` and `{other}` have hours in common");
        node.fault(faults, code::CONFLICT, &text.span, message, "one hour has one price");
    }
    seen.push(hours);
    Some(hours)
}

fn multipliers(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<Factor, u32> {
    let known = Factor::ALL.into_iter().filter(|factor| *factor != Factor::Unknown);
    let known: BTreeMap<&str, Factor> = known.map(|factor| (factor.name(), factor)).collect();
    let mut factors = BTreeMap::new();
    for (name, value) in node.texts_by_name("multipliers") {
        let factor = word(node, &name, "factor", &known, faults);
        let basis_points = basis_points(&value.value);
        if basis_points.is_none() {
            let help = "expected a decimal with at most 4 decimals, up to 100, such as `\"1.1\"`";
            node.fault(faults, code::BAD_VALUE, &value.span, format!("`{}` is no factor", value.value), help);
        }
        factors.extend(factor.zip(basis_points));
    }
    factors
}

/// A factor such as `1.1` in basis points; `None` for what is none.
pub(crate) fn basis_points(text: &str) -> Option<u32> {
    let scaled = Money::parse(text).ok()?.pico();
    let unit = Money::from_micro(100).pico();
    let basis_points = u32::try_from(scaled / unit).ok().filter(|_| scaled.is_multiple_of(unit))?;
    (1..=FACTOR_MAX).contains(&basis_points).then_some(basis_points)
}

fn check_factors(node: &Node<'_>, row: &PriceRow, faults: &mut Faults) {
    for (name, value) in node.texts_by_name("multipliers") {
        let bent =
            row.multipliers.keys().find(|factor| factor.name() == name.value && row.multiplied(**factor).is_err());
        if bent.is_some() {
            let message = format!("`{}` doesn't leave whole pico-dollars of each rate", name.value);
            node.fault(
                faults,
                code::CONFLICT,
                &value.span,
                message,
                "state the price for that place as one of its own",
            );
        }
    }
}

fn fees(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<Fee, Money> {
    let known: BTreeMap<&str, Fee> =
        Fee::ALL.into_iter().filter(|fee| *fee != Fee::Other).map(|fee| (fee.name(), fee)).collect();
    let mut fees = BTreeMap::new();
    for (name, value) in node.texts_by_name("fees") {
        let fee = word(node, &name, "unit", &known, faults);
        match Money::parse(&value.value) {
            Ok(price) if price > BESIDE_MAX => {
                node.fault(faults, code::OUT_OF_RANGE, &value.span, format!("`{}` is {price}", name.value), too_dear());
            }
            Ok(price) => fees.extend(fee.map(|fee| (fee, price))),
            Err(error) => {
                let help = "expected dollars of each, such as `\"$0.01\"`";
                node.fault(faults, code::BAD_VALUE, &value.span, error.to_string(), help);
            }
        }
    }
    fees
}

fn word<T: Copy>(
    node: &Node<'_>,
    name: &At<String>,
    what: &str,
    known: &BTreeMap<&str, T>,
    faults: &mut Faults,
) -> Option<T> {
    let found = known.get(name.value.as_str()).copied();
    if found.is_none() {
        let help = suggest(&name.value, known.keys().copied(), "");
        node.fault(faults, code::UNKNOWN_NAME, &name.span, format!("no {what} `{}`", name.value), help);
    }
    found
}
