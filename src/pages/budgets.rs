//! Budgets: caps, what counts against them, and what is left.

use askama::Template;
use axum::response::Response;

use super::chart::share;
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::text::moment;
use crate::api::Books;
use crate::domain::access::Scope;
use crate::domain::report::BudgetRow;
use crate::units::Money;
use crate::words::text::{one_line, percent};

/// From this share of a cap on, in basis points, a bar is drawn as near it.
const NEAR: u64 = 8_000;
/// The least that is drawn of an amount, in thousandths.
const LEAST: u64 = 3;
/// The most characters of a scope.
const SCOPE_CHARS_MAX: usize = 120;

/// One account of one budget.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) period: String,
    pub(super) cap: String,
    pub(super) settled: String,
    pub(super) unknown: String,
    pub(super) held: String,
    pub(super) left: String,
    pub(super) used: String,
    pub(super) declared: String,
    pub(super) settled_share: u64,
    pub(super) held_share: u64,
    pub(super) class: &'static str,
}

impl From<&BudgetRow> for Row {
    fn from(row: &BudgetRow) -> Self {
        // What is spent is seen, however little.
        let of_cap = |amount: Money| share(amount.pico(), row.cap_usd.pico()).max(u64::from(!amount.is_zero()) * LEAST);
        let settled_share = of_cap(row.settled_usd);
        let per = row.per.map_or("period", crate::domain::budget::Period::name);
        let end = row.end.map_or_else(|| "for ever".to_owned(), |end| format!("until {}", moment(end)));
        Self {
            name: row.budget.to_string(),
            scope: if row.scope.is_empty() { "all".to_owned() } else { one_line(&row.scope, SCOPE_CHARS_MAX) },
            period: format!("{per}, {end}"),
            cap: row.cap_usd.to_string(),
            settled: row.settled_usd.to_string(),
            unknown: if row.unknown_usd.is_zero() { "–".to_owned() } else { row.unknown_usd.to_string() },
            held: row.held_usd.to_string(),
            left: row.left_usd.to_string(),
            used: row.used_basis_points.map_or_else(|| "–".to_owned(), percent),
            declared: row.declared.as_ref().map_or_else(|| "no more".to_owned(), ToString::to_string),
            settled_share,
            held_share: of_cap(row.settled_usd.plus(row.held_usd)).saturating_sub(settled_share),
            class: if row.used_basis_points.is_some_and(|used| used >= NEAR) { "near" } else { "far" },
        }
    }
}

#[derive(Template)]
#[template(path = "budgets/budgets.html")]
struct BudgetsPage {
    shell: Shell,
    budgets: Vec<Row>,
    past: Vec<Row>,
}

/// Every account of every budget, current periods first.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let table = visitor.service.read(Books::budgets).await?;
    let (current, past): (Vec<&BudgetRow>, Vec<&BudgetRow>) = table.budgets.iter().partition(|row| row.current);
    let rows = |rows: Vec<&BudgetRow>| rows.into_iter().map(Row::from).collect();
    let shell = visitor.shell(Section::Budgets, "Budgets");
    html(&BudgetsPage { shell, budgets: rows(current), past: rows(past) })
}
