//! The overview: what is spent against budgets, what a unit costs and earns, what moved, and what nobody knows.

mod alerts;

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;

use super::budgets::Accounts;
use super::chart::share;
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use crate::api::{ApiError, Books, CostQuery};
use crate::domain::access::Scope;
use crate::domain::report::{BudgetTable, CostRow, CostSums, CostTable, Dimension, Mover, Values};
use crate::domain::rollup::Day;
use crate::units::{Millis, Money, Timestamp, grouped};
use crate::words::text::{about, signed_percent};
use alerts::{ALERTS_SHOWN, Alerts};

/// How far back it looks.
const BACK: Millis = Millis::from_secs(29 * 86_400);
/// The days that are looked at, the one that goes on among them.
const DAYS: u32 = 30;
/// How high the chart of days is.
const CHART_HEIGHT: u64 = 125;
/// Accounts of budgets that are shown.
const ACCOUNTS_SHOWN: usize = 10;
/// Features that are shown.
const FEATURES_SHOWN: usize = 20;
/// Movers that are shown.
const MOVERS_SHOWN: usize = 5;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    days: u32,
    spent: String,
    before: Option<String>,
    unknown: Option<String>,
    unknown_share: String,
    retries: Option<String>,
    saved: Option<String>,
    is_empty: bool,
    bars: Vec<Bar>,
    highest: String,
    /// Nothing where whoever looks sees some labels only.
    budgets: Option<Accounts>,
    alerts: Option<Alerts>,
    features: Vec<Feature>,
    /// How many there are, where not all are shown.
    features_of: Option<String>,
    total: Feature,
    movers: Vec<Moved>,
}

/// What a day cost.
struct Bar {
    day: String,
    cost: String,
    runs: String,
    x: u64,
    width: u64,
    height: u64,
    y: u64,
}

/// What a feature costs and is worth.
pub(super) struct Feature {
    pub(super) name: String,
    pub(super) cost: String,
    pub(super) change: String,
    pub(super) runs: String,
    pub(super) per_run: String,
    /// `$0.02 per resolved support case (6)`.
    pub(super) units: Vec<String>,
    pub(super) revenue: String,
    pub(super) margin: String,
    pub(super) quality: Vec<String>,
}

struct Moved {
    name: String,
    before: String,
    now: String,
    change: String,
    is_more: bool,
}

/// What is asked of the books at once.
struct Answers {
    features: CostTable,
    days: CostTable,
    budgets: Option<Accounts>,
    alerts: Option<Alerts>,
}

/// The overview of the last days.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let now = visitor.service.now();
    let told = visitor.service.read(move |books| ask(books, now)).await?;
    html(&OverviewPage::of(visitor.shell(Section::Overview, "Overview"), told, now))
}

fn ask(books: &Books, now: Timestamp) -> Result<Answers, ApiError> {
    let since = Timestamp(now.0.saturating_sub(BACK.0));
    let query = CostQuery { by: Vec::new(), since, until: now, only: Vec::new(), against_previous: true };
    let [features, days] = books.costs_by([&[Dimension::Feature], &[Dimension::Day]], &query)?;
    let current = |table: BudgetTable| Accounts::of(table.budgets.iter().collect(), ACCOUNTS_SHOWN);
    let budgets = unless_bound(books.budgets_now())?.map(current);
    let alerts = unless_bound(books.alerts(ALERTS_SHOWN))?.map(Alerts::from);
    Ok(Answers { features, days, budgets, alerts })
}

/// Nothing of what only those see who see everything.
fn unless_bound<T>(told: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(ApiError::Bound) => Ok(None),
        Err(error) => Err(error),
    }
}

impl OverviewPage {
    fn of(shell: Shell, told: Answers, now: Timestamp) -> Self {
        let Answers { features, days, budgets, alerts } = told;
        let some = |amount: Money| (!amount.is_zero()).then(|| amount.to_string());
        let total = &features.total;
        let unknown = total.unknown_usd.basis_points_of(total.settled_usd).unwrap_or_default();
        let dearest = days.rows.iter().map(|row| row.sums.settled_usd).max().unwrap_or_default();
        Self {
            shell,
            days: DAYS,
            spent: total.settled_usd.to_string(),
            before: features.before.as_ref().map(|before| before.total.settled_usd.to_string()),
            unknown: some(total.unknown_usd),
            unknown_share: crate::words::text::percent(unknown),
            retries: some(total.retries_usd),
            saved: some(total.cache_saved_usd.plus(total.avoided_usd)),
            is_empty: features.rows.is_empty(),
            bars: bars(&days, dearest, now),
            highest: dearest.to_string(),
            budgets,
            alerts,
            features: features.rows.iter().take(FEATURES_SHOWN).map(Feature::of).collect(),
            features_of: (features.rows.len() > FEATURES_SHOWN)
                .then(|| grouped(u64::try_from(features.rows.len()).unwrap_or(u64::MAX))),
            total: Feature::total(total),
            movers: features.movers.iter().take(MOVERS_SHOWN).map(Moved::of).collect(),
        }
    }
}

/// A bar for each day, side by side.
fn bars(days: &CostTable, dearest: Money, now: Timestamp) -> Vec<Bar> {
    let step = super::chart::WIDTH / u64::from(DAYS);
    let sums: BTreeMap<String, &CostSums> = days.rows.iter().map(|row| (name(&row.values), &row.sums)).collect();
    let last = Day::of(now).0;
    let bar = |(place, day): (u64, u32)| {
        let day = Day(day).to_string();
        let spent = sums.get(&day).map_or(Money::ZERO, |sums| sums.settled_usd);
        let ended = sums.get(&day).map_or(0, |sums| sums.ended.values().sum());
        // What is spent is seen, however little.
        let height = if spent.is_zero() { 0 } else { (share(spent.pico(), dearest.pico()) / 8).max(1) };
        let (cost, runs) = (spent.to_string(), grouped(ended));
        Bar { day, cost, runs, x: place * step, width: step * 4 / 5, height, y: CHART_HEIGHT - height }
    };
    (0..).zip(last.saturating_sub(DAYS - 1)..=last).map(bar).collect()
}

/// The value that a row is of.
pub(super) fn name(values: &Values) -> String {
    values.0.first().and_then(|(_, value)| value.clone()).unwrap_or_else(|| "(none)".to_owned())
}

impl Feature {
    pub(super) fn of(row: &CostRow) -> Self {
        let change = row.before_usd.map_or(String::new(), |before| row.sums.settled_usd.minus(before).to_string());
        Self { name: name(&row.values), change, ..Self::total(&row.sums) }
    }

    fn total(sums: &CostSums) -> Self {
        let nothing = || "–".to_owned();
        let worth = sums.worth.as_ref();
        let units = worth.iter().flat_map(|worth| &worth.units).filter_map(|unit| {
            let cost = about(unit.resolved_unit_usd.or(unit.unit_usd)?);
            let of = if unit.unit.is_empty() { "unit" } else { &unit.unit };
            Some(format!("{cost} per {} ({})", of.replace('_', " "), grouped(unit.units)))
        });
        let share = worth.and_then(|worth| worth.margin_basis_points);
        let share = share.map_or(String::new(), |share| format!(" ({})", signed_percent(share)));
        let quality = worth.iter().flat_map(|worth| &worth.quality);
        Self {
            name: "All".to_owned(),
            cost: sums.settled_usd.to_string(),
            change: String::new(),
            runs: worth.map_or_else(nothing, |worth| grouped(worth.runs)),
            per_run: worth.and_then(|worth| worth.run_usd).map_or_else(nothing, |cost| about(cost).to_string()),
            units: units.collect(),
            revenue: worth.and_then(|worth| worth.revenue_usd).map_or_else(nothing, |revenue| revenue.to_string()),
            margin: worth.and_then(|worth| worth.margin_usd).map_or_else(nothing, |margin| format!("{margin}{share}")),
            quality: quality.map(|line| format!("{} ({})", line.average, line.source.name())).collect(),
        }
    }
}

impl Moved {
    fn of(mover: &Mover) -> Self {
        Self {
            name: name(&mover.values),
            before: mover.before_usd.to_string(),
            now: mover.now_usd.to_string(),
            change: mover.change_usd.to_string(),
            is_more: mover.change_usd.pico() > 0,
        }
    }
}
