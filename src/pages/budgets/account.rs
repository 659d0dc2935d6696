//! One account of a budget: what each day left of its cap, what its period comes to, and exceptions of it.

use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;

use super::Row;
use super::exceptions::Exceptions;
use crate::api::ApiError;
use crate::domain::access::Scope;
use crate::domain::report::{BudgetRow, BurnDown};
use crate::domain::rollup;
use crate::pages::chart::{WIDTH, share};
use crate::pages::form::Fields;
use crate::pages::guard::Visitor;
use crate::pages::layout::{Section, Shell, Told, html};
use crate::pages::text::link;
use crate::units::Money;
use crate::words::text::about;

/// How high the chart is.
const HEIGHT: u64 = 200;

/// Where an account is shown.
pub(in crate::pages) fn path(budget: &str, scope: &str) -> String {
    let name = link("", &[("", budget)]);
    let page = format!("/budgets/{}", name.trim_start_matches("?=").replace('+', "%20"));
    if scope.is_empty() { page } else { link(&page, &[("scope", scope)]) }
}

#[derive(Template)]
#[template(path = "budgets/account.html")]
struct AccountPage {
    shell: Shell,
    budget: String,
    /// As it is asked with.
    scope: String,
    ask_path: String,
    row: Row,
    chart: Option<Chart>,
    exceptions: Exceptions,
    may_ask: bool,
}

/// What each day left of the cap.
struct Chart {
    days: Vec<Day>,
    /// The points of an even spending.
    even: Option<String>,
    to_come: u32,
    /// The first day that is drawn and the last.
    ends: Option<(String, String)>,
    elsewhere: Option<String>,
}

struct Day {
    day: String,
    spent: String,
    left: String,
    even: Option<String>,
    x: u64,
    y: u64,
    width: u64,
    height: u64,
}

/// The account that a path names.
pub(in crate::pages) async fn page(
    visitor: Visitor,
    Path(budget): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let scope = Fields::of(query.as_deref())?.get("scope").unwrap_or_default().to_owned();
    let (name, of) = (budget.clone(), scope.clone());
    let found = visitor.service.read(move |books| books.account(&name, &of)).await?;
    let (row, burnt) = found.ok_or_else(|| ApiError::NoSuchPath(path(&budget, &scope)))?;
    let exceptions = Exceptions::read(&visitor, Some((&budget, &scope))).await?;
    html(&AccountPage {
        shell: visitor.shell(Section::Budgets, &budget),
        ask_path: format!("{}/ask", path(&budget, "")),
        row: Row::from(&row),
        chart: burnt.map(|burnt| Chart::of(&row, &burnt)),
        exceptions,
        may_ask: visitor.may(Scope::Run).is_ok(),
        budget,
        scope,
    })
}

impl Chart {
    fn of(row: &BudgetRow, burnt: &BurnDown) -> Self {
        let shown = u64::try_from(burnt.days.len()).unwrap_or(u64::MAX);
        let count = shown.saturating_add(burnt.to_come.into()).max(1);
        let place = |at: u64| share(at.into(), count.into());
        let height = |amount: Money| share(amount.pico(), row.cap_usd.pico()) * HEIGHT / WIDTH;
        let days = (0..).zip(&burnt.days).map(|(at, day)| {
            let (x, left) = (place(at), height(day.left_usd));
            Day {
                day: day.day.to_string(),
                spent: day.spent_usd.to_string(),
                left: day.left_usd.to_string(),
                even: day.even_usd.map(|even| about(even).to_string()),
                x,
                y: HEIGHT - left,
                width: (place(at + 1).saturating_sub(x) * 4 / 5).max(1),
                height: left,
            }
        });
        let ends = burnt.days.first().zip(burnt.days.last());
        let ends = ends.map(|(first, last)| (first.day, rollup::Day(last.day.0.saturating_add(burnt.to_come))));
        let first = burnt.days.first().and_then(|day| day.even_usd);
        let begin = first.map(|even| (place(1) / 2, HEIGHT - height(even)));
        Self {
            days: days.collect(),
            even: begin.map(|(x, y)| format!("{x},{y} {WIDTH},{HEIGHT}")),
            to_come: burnt.to_come,
            ends: ends.map(|(first, last)| (first.to_string(), last.to_string())),
            elsewhere: (!burnt.elsewhere_usd.is_zero()).then(|| burnt.elsewhere_usd.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_an_address_whatever_it_is_called() {
        assert_eq!(path("month", ""), "/budgets/month");
        assert_eq!(path("a b/c", "tenant=a%2Cb"), "/budgets/a%20b%2Fc?scope=tenant%3Da%252Cb");
    }
}
