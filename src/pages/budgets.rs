//! Budgets: caps, what counts against them, what is left, and what their periods come to; an account's days and exceptions.

pub(super) mod account;
pub(super) mod exceptions;

use askama::Template;
use axum::response::Response;

use self::exceptions::Exceptions;
use super::chart::share;
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::text::minute;
use crate::api::Books;
use crate::domain::access::Scope;
use crate::domain::report::{BudgetRow, Forecast, ShadowRow};
use crate::units::{Money, grouped};
use crate::words::text::{about, count, one_line, percent};

/// From this share of a cap on, in basis points, a bar is drawn as near it.
const NEAR: u64 = 8_000;
/// The whole of a cap, in basis points.
const WHOLE: u64 = 10_000;
/// The largest share that is told as it is, in basis points.
const SHARE_SHOWN_MAX: u64 = 99_900;
/// The least that is drawn of an amount, in thousandths.
const LEAST: u64 = 3;
/// The most characters of a scope.
const SCOPE_CHARS_MAX: usize = 120;
/// The most accounts of a table: those that are used most come first.
const ROWS_SHOWN: usize = 200;

/// One account of one budget.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) scope: String,
    /// Its own page.
    pub(super) path: String,
    pub(super) per: &'static str,
    pub(super) until: String,
    pub(super) cap: String,
    /// What exceptions add to the cap.
    pub(super) added: Option<String>,
    pub(super) settled: String,
    pub(super) unknown: Option<String>,
    pub(super) held: String,
    pub(super) is_held: bool,
    pub(super) left: String,
    pub(super) used: String,
    pub(super) at_end: String,
    /// What the period comes to, in a sentence.
    pub(super) forecast: Option<String>,
    pub(super) runs_out: Option<String>,
    /// What it would have refused, where it only watches.
    pub(super) shadow: Option<String>,
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
        let until = row.end.map_or_else(|| "for ever".to_owned(), |end| format!("until {}", minute(end)));
        let some = |amount: Money| (!amount.is_zero()).then(|| amount.to_string());
        let (forecast, is_spent) = (row.forecast.as_ref(), row.settled_usd >= row.cap_usd);
        Self {
            name: row.budget.to_string(),
            scope: if row.scope.is_empty() { "all".to_owned() } else { one_line(&row.scope, SCOPE_CHARS_MAX) },
            path: account::path(row.budget.as_str(), &row.scope),
            per,
            until,
            cap: row.cap_usd.to_string(),
            added: some(row.exceptions_usd),
            settled: row.settled_usd.to_string(),
            unknown: some(row.unknown_usd),
            held: row.held_usd.to_string(),
            is_held: !row.held_usd.is_zero(),
            left: row.left_usd.to_string(),
            used: row.used_basis_points.map_or_else(|| "–".to_owned(), shown_share),
            at_end: forecast.and_then(|told| told.end_usd).map_or_else(|| "–".to_owned(), |end| about(end).to_string()),
            forecast: forecast.and_then(|told| sentence(told, is_spent)),
            runs_out: forecast.and_then(|told| runs_out(told, is_spent)),
            shadow: row.shadow.as_ref().map(watched),
            declared: row.declared.as_ref().map_or_else(|| "no more".to_owned(), ToString::to_string),
            settled_share,
            held_share: of_cap(row.settled_usd.plus(row.held_usd)).saturating_sub(settled_share),
            class: match row.used_basis_points {
                Some(used) if used > WHOLE => "stopped",
                Some(used) if used >= NEAR => "near",
                Some(_) | None => "far",
            },
        }
    }
}

/// A share that has room beside its bar.
fn shown_share(used: u64) -> String {
    if used > SHARE_SHOWN_MAX { format!("> {}%", SHARE_SHOWN_MAX / 100) } else { percent(used) }
}

fn runs_out(told: &Forecast, is_spent: bool) -> Option<String> {
    told.runs_out.map(|at| if is_spent { "used up".to_owned() } else { format!("runs out {}", minute(at)) })
}

/// What a period comes to.
fn sentence(told: &Forecast, is_spent: bool) -> Option<String> {
    let (elapsed, end) = (percent(told.elapsed_basis_points), about(told.end_usd?));
    let cap = match told.runs_out {
        None => "within the cap".to_owned(),
        Some(_) if is_spent => "above the cap, which is used up".to_owned(),
        Some(at) => format!("above the cap, which is reached on {}", minute(at)),
    };
    Some(format!("{elapsed} of the period is over; as it goes now, {end} will be settled at its end, {cap}"))
}

fn watched(shadow: &ShadowRow) -> String {
    if shadow.refused == 0 {
        return "only watches; would have refused nothing".to_owned();
    }
    format!("only watches; would have refused {} of {}", count(shadow.refused, "call"), shadow.amount_usd)
}

/// The accounts that are used most.
pub(super) struct Accounts {
    pub(super) rows: Vec<Row>,
    /// How many there are besides.
    pub(super) more: Option<String>,
}

impl Accounts {
    /// At most so many; those that are used most come first where not all are shown.
    pub(super) fn of(mut rows: Vec<&BudgetRow>, most: usize) -> Self {
        let more = rows.len().saturating_sub(most);
        if more > 0 {
            rows.sort_by_key(|row| std::cmp::Reverse(row.used_basis_points));
        }
        let more = (more > 0).then(|| grouped(u64::try_from(more).unwrap_or(u64::MAX)));
        Self { rows: rows.into_iter().take(most).map(Row::from).collect(), more }
    }
}

#[derive(Template)]
#[template(path = "budgets/budgets.html")]
struct BudgetsPage {
    shell: Shell,
    budgets: Accounts,
    past: Accounts,
    exceptions: Exceptions,
}

/// Every account of every budget, current periods first.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let table = visitor.service.read(Books::budgets).await?;
    let (current, past): (Vec<&BudgetRow>, Vec<&BudgetRow>) = table.budgets.iter().partition(|row| row.current);
    html(&BudgetsPage {
        shell: visitor.shell(Section::Budgets, "Budgets"),
        budgets: Accounts::of(current, ROWS_SHOWN),
        past: Accounts::of(past, ROWS_SHOWN),
        exceptions: Exceptions::read(&visitor, None).await?,
    })
}
