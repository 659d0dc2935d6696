//! Models: who is approved for what, at which price, how fast they answer, how often they fail, and how tight
//! their bounds are.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::response::Response;

use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::overview::name;
use crate::api::CostQuery;
use crate::domain::access::Scope;
use crate::domain::plan::Plan;
use crate::domain::pricing::PriceRow;
use crate::domain::report::{BoundRow, BreakerState, CostSums, Dimension};
use crate::ids::ModelName;
use crate::units::{Millis, Money, Timestamp, TokenPrice, grouped};
use crate::words::text::{percent, times};

/// How far back costs and bounds go.
const BACK: Millis = Millis::from_secs(29 * 86_400);

#[derive(Template)]
#[template(path = "models.html")]
struct ModelsPage {
    shell: Shell,
    models: Vec<Model>,
}

struct Model {
    name: String,
    /// `first of standard: support-triage, review`.
    policy: Vec<String>,
    price: Option<[String; 4]>,
    source: Option<String>,
    /// What is charged at other rates than these.
    also: Option<String>,
    cost: String,
    calls: String,
    errors: String,
    again: String,
    latency: Vec<String>,
    bound: Vec<String>,
    breaker: Option<String>,
    is_frozen: bool,
}

/// All models that an agent may ask, and those that were asked.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let now = visitor.service.now();
    let query = CostQuery {
        by: vec![Dimension::Model],
        since: Timestamp(now.0.saturating_sub(BACK.0)),
        until: now,
        only: Vec::new(),
        against_previous: false,
    };
    let (costs, bounds, frozen) = visitor
        .service
        .read(move |books| Ok((books.costs(&query)?, books.bounds(&query)?, books.store().frozen()?)))
        .await?;
    let (runtime, rates) = (visitor.service.runtime(), visitor.service.rates());
    // Bills above their bounds and failures of calls are everybody's.
    let sees_all = visitor.caller().is_unbound().is_ok();
    let mut policies: BTreeMap<ModelName, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    runtime.plans().iter().for_each(|plan| approvals(plan, &mut policies));
    let costs: BTreeMap<String, &CostSums> = costs.rows.iter().map(|row| (name(&row.values), &row.sums)).collect();
    let asked = costs.keys().filter(|name| name.contains('/')).map(|name| ModelName::from(name.as_str()));
    let all: BTreeSet<ModelName> = policies.keys().cloned().chain(asked).collect();
    let model = |model: ModelName| {
        let row = runtime.prices().find(&model, now);
        let mut shown = Model::of(&model, row, costs.get(model.as_str()).copied());
        shown.bound = bounds.bounds.iter().find(|row| row.model == model).map_or_else(|| vec![nothing()], bound);
        let approved = policies.get(&model).into_iter().flatten();
        shown.policy = approved.map(|(what, agents)| format!("{what}: {}", agents.join(", "))).collect();
        shown.is_frozen = sees_all && row.is_some_and(|row| frozen.iter().any(|frozen| frozen.price == row.id));
        let breaker = rates.breakers.iter().find(|row| row.of == model.as_str() && row.state != BreakerState::Closed);
        shown.breaker = breaker.filter(|_| sees_all).map(|row| row.state.name().to_owned());
        shown
    };
    let models = all.into_iter().map(model).collect();
    html(&ModelsPage { shell: visitor.shell(Section::Models, "Models"), models })
}

fn nothing() -> String {
    "–".to_owned()
}

/// What an agent's plan approves, by what for.
fn approvals(plan: &Plan, policies: &mut BTreeMap<ModelName, BTreeMap<String, Vec<String>>>) {
    let policy = plan.model.policy.as_ref().map_or(String::new(), |policy| format!(" of {policy}"));
    let mut add = |model: &ModelName, what: &str| {
        let agents = policies.entry(model.clone()).or_default().entry(format!("{what}{policy}")).or_default();
        agents.push(plan.agent.to_string());
    };
    for (place, model) in plan.model.candidates.iter().enumerate() {
        add(model, if place == 0 { "first" } else { "fallback" });
    }
    for model in plan.model.downgrade.iter().flat_map(|downgrade| &downgrade.candidates) {
        add(model, "downgrade");
    }
}

/// `1.25x` of what was used, `input 1.10x`, `output 3.00x`.
fn bound(row: &BoundRow) -> Vec<String> {
    let [money, input, output] =
        [row.money.overall_percent, row.input.overall_percent, row.output.overall_percent].map(times);
    vec![money, format!("input {input}"), format!("output {output}")]
}

/// What is charged otherwise: long inputs, tiers, hours, what is beside the tokens. `plimsoll prices show` has the rates.
fn also(row: &PriceRow) -> Option<String> {
    let names = |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let some = |is_so: bool, what: &str| is_so.then(|| what.to_owned());
    let rates = &row.price.rates;
    let all = [
        row.price.long.as_ref().map(|long| format!("inputs above {} tokens", long.above)),
        some(
            rates.cache_write_long.is_some() && rates.cache_write_long != rates.cache_write,
            "long-lived cache writes",
        ),
        some(!row.off_peak.is_empty(), "hours off the peak"),
        names("tiers", row.service_tiers.keys().map(String::as_str).collect()),
        names("factors", row.multipliers.keys().map(|factor| factor.name()).collect()),
        names("fees", row.fees.keys().map(|fee| fee.name()).collect()),
        some(!row.per_call.is_zero(), "each call"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

impl Model {
    fn of(model: &ModelName, row: Option<&PriceRow>, sums: Option<&CostSums>) -> Self {
        let rate = |rate: Option<TokenPrice>| rate.map_or_else(nothing, |rate| format!("${}", rate.usd_per_million()));
        let price = row.map(|row| {
            let rates = &row.price.rates;
            [Some(rates.input), rates.cache_read, rates.cache_write, Some(rates.output)].map(rate)
        });
        let again = sums.and_then(|sums| {
            let later = Money::from_pico(sums.attempts.saturating_sub(sums.calls).into());
            later.basis_points_of(Money::from_pico(sums.attempts.into()))
        });
        let latency = sums.and_then(|sums| Some((sums.latency_p50_ms?, sums.latency_p95_ms?)));
        Self {
            name: model.to_string(),
            policy: Vec::new(),
            price,
            also: row.and_then(also),
            source: row.map(|row| format!("{}, read {}", row.source, row.retrieved)),
            cost: sums.map_or_else(nothing, |sums| sums.settled_usd.to_string()),
            calls: sums.map_or_else(nothing, |sums| grouped(sums.calls)),
            errors: sums.and_then(|sums| sums.failures).map_or_else(nothing, |sums| percent(sums.basis_points)),
            again: again.map_or_else(nothing, percent),
            latency: latency.map_or_else(|| vec![nothing()], |(p50, p95)| vec![p50.to_string(), p95.to_string()]),
            bound: vec![nothing()],
            breaker: None,
            is_frozen: false,
        }
    }
}
