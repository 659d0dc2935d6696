//! The columns: those of FOCUS first, then our own, which begin with `x_`.

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use super::{Charge, FocusVersion, Grain, names};
use crate::domain::budget::Period;
use crate::domain::event::{Call, CostSource};
use crate::domain::pricing::Meter;
use crate::domain::rollup::Day;
use crate::ids::RunId;
use crate::units::{Millis, Money, Timestamp};

/// Tokens that a price is of.
const PRICED_TOKENS: u64 = 1_000_000;
/// One of whatever is counted.
const ONE: Money = Money::from_micro(1_000_000);
/// What a label of our own adds to those of the user.
const PROMPT_VERSION: &str = "prompt_version";

/// A column.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// The first version that has it, and the last.
    versions: (FocusVersion, FocusVersion),
    pub(super) value: Value,
    /// True where a row of a day has it too.
    is_daily: bool,
}

/// What stands in a row; nothing is null.
pub(super) enum Value {
    /// A text.
    Text(fn(&Charge<'_>) -> Option<String>),
    /// A number, which adds up: of dollars, or of units as if they were some.
    Amount(fn(&Charge<'_>) -> Option<Money>),
}

impl Column {
    /// True where a file of this version and grain has it.
    pub(super) fn is_in(&self, version: FocusVersion, grain: Grain) -> bool {
        let is_of_grain = match grain {
            Grain::Attempt => true,
            Grain::Day => self.is_daily,
        };
        is_of_grain && self.versions.0 <= version && version <= self.versions.1
    }

    const fn amount(name: &'static str, value: fn(&Charge<'_>) -> Option<Money>) -> Self {
        let versions = (FocusVersion::V1_2, FocusVersion::V1_4);
        Self { name, versions, value: Value::Amount(value), is_daily: true }
    }

    /// One that says what only an attempt, a run or a tree has.
    const fn of_one(name: &'static str, value: fn(&Charge<'_>) -> Option<String>) -> Self {
        Self { is_daily: false, ..always(name, value) }
    }
}

impl Value {
    /// As it is written.
    pub(super) fn text(&self, charge: &Charge<'_>) -> Option<String> {
        match self {
            Self::Text(value) => value(charge),
            Self::Amount(value) => value(charge).map(number),
        }
    }
}

const fn always(name: &'static str, value: fn(&Charge<'_>) -> Option<String>) -> Column {
    let versions = (FocusVersion::V1_2, FocusVersion::V1_4);
    Column { name, versions, value: Value::Text(value), is_daily: true }
}

const fn since(first: FocusVersion, name: &'static str, value: fn(&Charge<'_>) -> Option<String>) -> Column {
    Column { versions: (first, FocusVersion::V1_4), ..always(name, value) }
}

const fn until(last: FocusVersion, name: &'static str, value: fn(&Charge<'_>) -> Option<String>) -> Column {
    Column { versions: (FocusVersion::V1_2, last), ..always(name, value) }
}

/// All of them, in the order of the file.
pub(super) const COLUMNS: [Column; 63] =
    [
        Column::amount("BilledCost", cost),
        always("BillingAccountId", |charge| Some(seller_key(charge))),
        always("BillingAccountName", |charge| Some(seller(charge))),
        always("BillingCurrency", |_| word("USD")),
        always("BillingPeriodEnd", |charge| Some(second(billing_period(charge).1))),
        always("BillingPeriodStart", |charge| Some(second(billing_period(charge).0))),
        always("ChargeCategory", |_| word("Usage")),
        always("ChargeClass", |_| None),
        always("ChargeDescription", description),
        always("ChargeFrequency", |_| word("Usage-Based")),
        always("ChargePeriodEnd", |charge| Some(second(charge_period(charge).1))),
        always("ChargePeriodStart", |charge| Some(second(charge_period(charge).0))),
        // No commitment is known, and the validator looks here before it judges what was consumed.
        always("CommitmentDiscountStatus", |_| None),
        Column::amount("ConsumedQuantity", |charge| Some(ONE.times(charge.line.count))),
        always("ConsumedUnit", |charge| word(if is_tokens(charge) { "Tokens" } else { "Requests" })),
        Column::amount("ContractedCost", cost),
        always("ContractedUnitPrice", unit_price),
        Column::amount("EffectiveCost", cost),
        since(FocusVersion::V1_3, "HostProviderName", |charge| Some(seller(charge))),
        since(FocusVersion::V1_4, "InvoiceDetailId", |_| None),
        // Null is what isn't invoiced yet.
        always("InvoiceId", |_| None),
        always("InvoiceIssuerName", |charge| Some(seller(charge))),
        Column::amount("ListCost", cost),
        always("ListUnitPrice", unit_price),
        always("PricingCategory", |charge| {
            word(if charge.by.is_some_and(|by| by.itemised.is_off_peak) { "Dynamic" } else { "Standard" })
        }),
        // Bills are in US dollars, and so are prices; the validator asks for what tells the two apart all the same.
        always("PricingCurrency", |_| word("USD")),
        always("PricingCurrencyContractedUnitPrice", unit_price),
        Column::amount("PricingCurrencyEffectiveCost", cost),
        always("PricingCurrencyListUnitPrice", unit_price),
        Column::amount("PricingQuantity", pricing_quantity),
        always("PricingUnit", |charge| word(if is_tokens(charge) { "1000000 Tokens" } else { "Requests" })),
        until(FocusVersion::V1_3, "ProviderName", |charge| Some(seller(charge))),
        until(FocusVersion::V1_3, "PublisherName", |charge| Some(seller(charge))),
        always("ServiceCategory", |charge| {
            word(if charge.model().is_some() { "AI and Machine Learning" } else { "Other" })
        }),
        always("ServiceName", |charge| {
            Some(if charge.model().is_some() { format!("{} API", seller(charge)) } else { seller(charge) })
        }),
        since(FocusVersion::V1_3, "ServiceProviderName", |charge| Some(seller(charge))),
        always("ServiceSubcategory", |charge| {
            word(if charge.model().is_some() { "Generative AI" } else { "Other (Other)" })
        }),
        always("SkuId", |charge| Some(format!("{}/{}", sold(charge), names::sku(charge.line.meter)))),
        always("SkuMeter", |charge| word(names::meter(charge.line.meter, charge.settled.source))),
        always("SkuPriceDetails", price_details),
        always("SkuPriceId", price_id),
        always("SubAccountId", sub_account),
        always("SubAccountName", sub_account),
        always("Tags", tags),
        Column::of_one("x_AttemptId", |charge| Some(attempt(charge, charge.reserved.attempt))),
        Column::amount("x_AvoidedCost", |charge| charge.settled.cache.hit.map(|hit| hit.avoided)),
        always("x_Model", |charge| charge.model().map(|call| call.model.to_string())),
        Column::of_one("x_OutcomeId", |charge| charge.outcome.map(|_| root(charge).to_string())),
        Column::of_one("x_PolicyVersion", |charge| Some(charge.created.plan.to_string())),
        always("x_PriceVersion", |charge| charge.model().map(|call| call.price.to_string())),
        Column::of_one("x_ProviderRequestId", |charge| charge.told().request_id.map(str::to_owned)),
        Column::of_one("x_Purpose", purpose),
        Column::of_one("x_QualityScore", |charge| {
            charge.outcome.and_then(|outcome| outcome.quality).map(|quality| decimal(quality.score.to_string()))
        }),
        Column::of_one("x_ReservationId", |charge| Some(charge.reserved.reservation.to_string())),
        Column::amount("x_ReservedCost", |charge| charge.is_first.then_some(charge.reserved.amount)),
        Column::of_one("x_ResponseModel", |charge| charge.told().answering.map(str::to_owned)),
        Column::of_one("x_RetryOf", |charge| {
            (charge.reserved.attempt > 1).then(|| attempt(charge, charge.reserved.attempt - 1))
        }),
        Column::of_one("x_RootRunId", |charge| Some(root(charge).to_string())),
        Column::of_one("x_RunId", |charge| Some(charge.run.to_string())),
        // Nobody is paid for it.
        always("x_Simulated", |charge| charge.created.simulated.then(|| "true".to_owned())),
        Column::of_one("x_StepId", |charge| Some(step(charge))),
        always("x_Tool", |charge| {
            if let Call::Tool { tool, .. } = &charge.reserved.call { Some(tool.to_string()) } else { None }
        }),
        always("x_UsageSource", usage_source),
    ];

/// The root of the tree that a charge belongs to; what it was worth goes by its name.
fn root(charge: &Charge<'_>) -> RunId {
    charge.created.parent.as_ref().map_or(charge.run, |parent| parent.root)
}

fn word(word: &str) -> Option<String> {
    Some(word.to_owned())
}

/// With a point: readers that guess a column's type take one of whole numbers for no decimals.
fn decimal(number: String) -> String {
    if number.contains('.') { number } else { format!("{number}.0") }
}

fn is_tokens(charge: &Charge<'_>) -> bool {
    matches!(charge.line.meter, Meter::Tokens(_))
}

/// A sum as it is written.
pub(super) fn number(amount: Money) -> String {
    decimal(amount.usd())
}

fn cost(charge: &Charge<'_>) -> Option<Money> {
    Some(charge.line.cost())
}

/// Of a million tokens, or of one of what isn't counted in tokens.
fn unit_price(charge: &Charge<'_>) -> Option<String> {
    let units = if is_tokens(charge) { PRICED_TOKENS } else { 1 };
    Some(decimal(charge.line.unit.times(units).usd()))
}

fn pricing_quantity(charge: &Charge<'_>) -> Option<Money> {
    let count = charge.line.count;
    // A millionth of a token's count is as many millionths: what a micro-dollar is to a dollar.
    Some(if is_tokens(charge) { Money::from_micro(count) } else { ONE.times(count) })
}

/// The key of who bills: a provider's, or a tool's name.
fn seller_key(charge: &Charge<'_>) -> String {
    match &charge.reserved.call {
        Call::Model(call) => call.model.provider().to_string(),
        Call::Tool { tool, .. } => tool.to_string(),
    }
}

fn seller(charge: &Charge<'_>) -> String {
    names::provider(&seller_key(charge)).to_owned()
}

/// The account of the provider that pays, where it isn't the provider's own key.
fn sub_account(charge: &Charge<'_>) -> Option<String> {
    charge.model()?.account.as_ref().map(ToString::to_string)
}

/// What is sold: the model that the price is of, or the tool.
fn sold(charge: &Charge<'_>) -> String {
    match (&charge.by, &charge.reserved.call) {
        (Some(by), _) => by.model.to_string(),
        (None, Call::Model(call)) => call.model.to_string(),
        (None, Call::Tool { tool, .. }) => format!("tool/{tool}"),
    }
}

fn description(charge: &Charge<'_>) -> Option<String> {
    let meter = names::meter(charge.line.meter, charge.settled.source);
    Some(format!("{meter} of {} for agent {}", sold(charge), charge.created.agent))
}

/// The month of the provider's bill, in UTC.
fn billing_period(charge: &Charge<'_>) -> (Timestamp, Timestamp) {
    let (start, end) = Period::Month.window(&TimeZone::UTC, charge.at);
    (start, end.unwrap_or(start))
}

/// Whole seconds, from the attempt's start to behind its end; or the day of its start, in UTC.
fn charge_period(charge: &Charge<'_>) -> (Timestamp, Timestamp) {
    const SECOND: Millis = Millis::from_secs(1);
    if charge.grain == Grain::Day {
        let day = Day::of(charge.at);
        return (day.start(), Day(day.0.saturating_add(1)).start());
    }
    let floor = |at: Timestamp| Timestamp(at.0 - at.0 % SECOND.0);
    (floor(charge.at), floor(charge.at.after(charge.settled.latency)).after(SECOND))
}

/// `2026-11-23T09:00:00Z`.
fn second(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(whole, _)| format!("{whole}Z"))
}

fn step(charge: &Charge<'_>) -> String {
    format!("{}/{}", charge.run, charge.reserved.step.step)
}

fn attempt(charge: &Charge<'_>, number: u32) -> String {
    format!("{}/{number}", step(charge))
}

fn purpose(charge: &Charge<'_>) -> Option<String> {
    let purpose = serde_json::to_value(charge.model()?.purpose).ok()?;
    purpose.as_str().map(str::to_owned)
}

fn usage_source(charge: &Charge<'_>) -> Option<String> {
    word(match charge.settled.source {
        CostSource::Reported => "reported",
        CostSource::Derived => "derived",
        CostSource::Unknown => "unknown",
    })
}

/// Names one price: its version, what it is of, and by which of the version's rates.
fn price_id(charge: &Charge<'_>) -> Option<String> {
    let version = match (&charge.by, &charge.reserved.call) {
        (Some(by), _) => by.price.to_string(),
        (None, Call::Model(call)) => call.price.to_string(),
        (None, Call::Tool { .. }) => sold(charge),
    };
    let of = match charge.settled.source {
        CostSource::Unknown => "unmetered",
        CostSource::Reported | CostSource::Derived => names::price_of(charge.line.meter),
    };
    let mut id = format!("{version}/{of}");
    for (_, value) in rates(charge) {
        id = format!("{id}/{value}");
    }
    Some(id)
}

/// By which of a version's rates it was charged, beside the class of tokens.
fn rates(charge: &Charge<'_>) -> Vec<(&'static str, String)> {
    let Some(by) = &charge.by else { return Vec::new() };
    let served = charge.told().served;
    let factors: Vec<&str> = served.factors.each().map(|factor| factor.name()).collect();
    let named = [
        ("x_ServiceTier", served.other_tier().map(str::to_owned)),
        ("x_ContextTier", by.itemised.is_long.then(|| "Long".to_owned())),
        ("x_Hours", by.itemised.is_off_peak.then(|| "OffPeak".to_owned())),
        ("x_Factors", (!factors.is_empty()).then(|| factors.join("+"))),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn price_details(charge: &Charge<'_>) -> Option<String> {
    let mut details = Map::new();
    let mut tell = |name: &str, value: &str| drop(details.insert(name.to_owned(), Json::from(value)));
    let sold = sold(charge);
    tell("x_Sold", &sold);
    if charge.model().is_some() {
        names::model(&sold).into_iter().for_each(|(name, value)| tell(name, value));
    }
    if let Meter::Tokens(class) = charge.line.meter {
        tell("x_TokenClass", class.name());
    }
    if let Some((status, duration)) = names::cache(charge.line.meter) {
        tell("x_CacheStatus", status);
        duration.iter().for_each(|duration| tell("x_CacheDuration", duration));
    }
    rates(charge).iter().for_each(|(name, value)| tell(name, value));
    Some(Json::from(details).to_string())
}

/// All labels, with the agent whose attempt it is, that of the whole tree, and the prompt.
fn tags(charge: &Charge<'_>) -> Option<String> {
    let created = charge.created;
    let mut tags = created.labels.clone();
    let agent = tags.insert("agent".to_owned(), created.agent.to_string());
    tags.entry("workflow".to_owned()).or_insert_with(|| agent.unwrap_or_else(|| created.agent.to_string()));
    tags.insert(PROMPT_VERSION.to_owned(), created.prompt_version.clone());
    serde_json::to_string(&tags).ok()
}
