//! Exceptions of budgets: how they stand, and the forms that ask for, approve and end them.

use axum::extract::Path;
use axum::response::Redirect;

use super::account;
use crate::api::{ActRequest, ExceptionRequest, ExceptionRow};
use crate::domain::access::Scope;
use crate::domain::exception::ExceptionState;
use crate::pages::form::{Fields, bad};
use crate::pages::guard::Visitor;
use crate::pages::layout::Told;
use crate::pages::text::short_moment;
use crate::units::Money;

/// One exception.
pub(in crate::pages) struct Exception {
    pub(in crate::pages) number: u64,
    /// Its account, in words and as an address.
    pub(in crate::pages) of: String,
    pub(in crate::pages) path: String,
    pub(in crate::pages) amount: String,
    pub(in crate::pages) state: &'static str,
    pub(in crate::pages) is_asked: bool,
    pub(in crate::pages) counts: bool,
    pub(in crate::pages) asked: String,
    pub(in crate::pages) by: String,
    pub(in crate::pages) reason: String,
    pub(in crate::pages) until: String,
    pub(in crate::pages) approved_by: Option<String>,
    pub(in crate::pages) ended_by: Option<String>,
}

impl From<ExceptionRow> for Exception {
    fn from(row: ExceptionRow) -> Self {
        Self {
            number: row.exception,
            of: format!("{} {}", row.budget, row.scope).trim_end().to_owned(),
            path: account::path(row.budget.as_str(), &row.scope),
            amount: row.amount_usd.to_string(),
            state: match row.state {
                ExceptionState::Asked => "waits for another person",
                ExceptionState::Counts => "counts",
                ExceptionState::Expired => "is over",
                ExceptionState::Ended if row.approved_by.is_some() => "was taken back",
                ExceptionState::Ended => "was refused",
            },
            is_asked: row.state == ExceptionState::Asked,
            counts: row.state == ExceptionState::Counts,
            asked: short_moment(&row.asked),
            by: row.by,
            reason: row.reason,
            until: short_moment(&row.until),
            approved_by: row.approved_by,
            ended_by: row.ended_by,
        }
    }
}

/// Exceptions, apart by whether something can still be done about them.
pub(in crate::pages) struct Exceptions {
    pub(in crate::pages) open: Vec<Exception>,
    pub(in crate::pages) over: Vec<Exception>,
    pub(in crate::pages) may_approve: bool,
}

/// The most of those that are over.
const OVER_SHOWN: usize = 50;

impl Exceptions {
    /// Those of an account, or all.
    pub(in crate::pages) async fn read(visitor: &Visitor, of: Option<(&str, &str)>) -> Result<Self, Told> {
        let mut rows = visitor.service.exceptions().await?.exceptions;
        rows.retain(|row| of.is_none_or(|of| of == (row.budget.as_str(), row.scope.as_str())));
        let all = rows.into_iter().map(Exception::from);
        let (open, mut over): (Vec<_>, Vec<_>) = all.partition(|row| row.is_asked || row.counts);
        over.truncate(OVER_SHOWN);
        Ok(Self { open, over, may_approve: visitor.may(Scope::Approve).is_ok() })
    }
}

/// Asks for one.
pub(in crate::pages) async fn ask(
    visitor: Visitor,
    Path(budget): Path<String>,
    body: String,
) -> Result<Redirect, Told> {
    visitor.may(Scope::Run)?;
    let fields = Fields::sent(&body, &visitor.token)?;
    let (by, reason) = fields.who_and_why();
    let amount = fields.get("amount").unwrap_or_default();
    let text = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    let request = ExceptionRequest {
        budget: budget.as_str().into(),
        scope: text("scope"),
        amount_usd: amount.parse::<Money>().map_err(|error| bad(&error.to_string()))?,
        until: text("until"),
        reason,
        by,
    };
    let row = visitor.service.ask_exception(&request).await?;
    Ok(to_account(&row))
}

/// Approves one.
pub(in crate::pages) async fn approve(
    visitor: Visitor,
    Path(number): Path<u64>,
    body: String,
) -> Result<Redirect, Told> {
    let request = act(&visitor, &body)?;
    Ok(to_account(&visitor.service.approve_exception(number, &request).await?))
}

/// Refuses one, or takes it back.
pub(in crate::pages) async fn end(visitor: Visitor, Path(number): Path<u64>, body: String) -> Result<Redirect, Told> {
    let request = act(&visitor, &body)?;
    Ok(to_account(&visitor.service.end_exception(number, &request).await?))
}

fn act(visitor: &Visitor, body: &str) -> Result<ActRequest, Told> {
    visitor.may(Scope::Approve)?;
    let (by, reason) = Fields::sent(body, &visitor.token)?.who_and_why();
    Ok(ActRequest { by, reason })
}

fn to_account(row: &ExceptionRow) -> Redirect {
    Redirect::to(&account::path(row.budget.as_str(), &row.scope))
}
