//! Switches and exceptions of budgets: set, lifted, asked for, approved and ended, each with who and why in the audit log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::act::ActRequest;
use super::error::ApiError;
use super::query;
use super::service::Service;
use crate::domain::audit::{Author, Change};
use crate::domain::budget::Budget;
use crate::domain::exception::{
    EXCEPTION_TIME_MAX, EXCEPTIONS_MAX, Exception, ExceptionApproved, ExceptionAsked, ExceptionEnded, ExceptionFault,
    ExceptionState,
};
use crate::domain::switch::{SWITCHES_MAX, Switch, SwitchKind, SwitchLifted, SwitchScope, SwitchSet};
use crate::ids::BudgetName;
use crate::units::{Money, Timestamp};

/// The body of `POST /v1/switches`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// What for: `all`, a label such as `feature=support` or `agent=triage`, or `model=openai/gpt-5-mini`.
    pub scope: SwitchScope,
    /// `pause` or `kill`.
    pub switch: SwitchKind,
    /// Why.
    pub reason: String,
    /// Who; a key's own name counts where there is a key.
    #[serde(default)]
    pub by: String,
}

/// The body of `POST /v1/switches/lift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftRequest {
    /// What for.
    pub scope: SwitchScope,
    /// Why.
    pub reason: String,
    /// Who; a key's own name counts where there is a key.
    #[serde(default)]
    pub by: String,
}

/// A switch that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchRow {
    /// What for.
    pub scope: SwitchScope,
    /// What it does.
    pub switch: SwitchKind,
    /// Since when.
    pub at: String,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl From<(&SwitchScope, &Switch)> for SwitchRow {
    fn from((scope, switch): (&SwitchScope, &Switch)) -> Self {
        let Switch { kind, at, by, reason } = switch;
        let (at, by) = (at.to_string(), by.to_string());
        Self { scope: scope.clone(), switch: *kind, at, by, reason: reason.clone() }
    }
}

/// The switches that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchTable {
    /// By scope.
    pub switches: Vec<SwitchRow>,
}

/// The body of `POST /v1/budgets/exceptions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionRequest {
    /// The budget.
    pub budget: BudgetName,
    /// The account's values of `each`, as `tenant=acme`; empty where the budget has none.
    #[serde(default)]
    pub scope: String,
    /// How much is added, in USD.
    pub amount_usd: Money,
    /// When it ends: a length of time from now, such as `3d`, or a point in time.
    pub until: String,
    /// Why.
    pub reason: String,
    /// Who asks; a key's own name counts where there is a key.
    #[serde(default)]
    pub by: String,
}

/// An exception, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionRow {
    /// Its number: that of the audit log's entry that asks for it.
    pub exception: u64,
    /// The budget.
    pub budget: BudgetName,
    /// The account; empty where the budget has one only.
    pub scope: String,
    /// How much is added.
    pub amount_usd: Money,
    /// How it stands.
    pub state: ExceptionState,
    /// When it was asked for.
    pub asked: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub until: String,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// Who refused it or took it back.
    pub ended_by: Option<String>,
}

/// Exceptions, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionTable {
    /// All that were ever asked for.
    pub exceptions: Vec<ExceptionRow>,
}

impl ExceptionRow {
    /// Of an exception at a time.
    #[must_use]
    pub fn of(number: u64, exception: &Exception, now: Timestamp) -> Self {
        let Exception { asked, at, by, approved, ended } = exception;
        Self {
            exception: number,
            budget: asked.budget.clone(),
            scope: asked.scope.clone(),
            amount_usd: asked.amount_usd,
            state: exception.state(now),
            asked: at.to_string(),
            by: by.to_string(),
            reason: asked.reason.clone(),
            until: asked.until.to_string(),
            approved_by: approved.as_ref().map(|(by, _)| by.to_string()),
            ended_by: ended.as_ref().map(|(by, _)| by.to_string()),
        }
    }
}

impl Service {
    /// The switches that are set.
    ///
    /// # Errors
    /// The caller is bound to labels, or the audit log can't be read.
    pub async fn switches(&self) -> Result<SwitchTable, ApiError> {
        self.caller().is_unbound()?;
        self.read(|books| {
            let orders = books.store().orders()?;
            Ok(SwitchTable { switches: orders.switches.iter().map(SwitchRow::from).collect() })
        })
        .await
    }

    /// Sets a switch, over another one of its scope: it counts for every call that is judged from here on.
    ///
    /// # Errors
    /// The caller is bound to labels, the request can't be understood, or the store can't write.
    pub async fn set_switch(&self, request: &SwitchRequest) -> Result<SwitchTable, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        let table = self.switches().await?;
        if table.switches.len() >= SWITCHES_MAX && !table.switches.iter().any(|row| row.scope == request.scope) {
            return Err(ApiError::BadRequest(format!("{SWITCHES_MAX} switches are set; lift some")));
        }
        let (scope, reason) = (request.scope.clone(), act.reason().to_owned());
        self.order(act.by(), Change::SwitchSet(SwitchSet { scope, switch: request.switch, reason })).await?;
        self.switches().await
    }

    /// Lifts a switch: runs that it held go on.
    ///
    /// # Errors
    /// As [`Self::set_switch`]; or the scope has none.
    pub async fn lift_switch(&self, request: &LiftRequest) -> Result<SwitchTable, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        if !self.switches().await?.switches.iter().any(|row| row.scope == request.scope) {
            let message = format!("`{}` has no switch; `plimsoll switch list` lists them", request.scope);
            return Err(ApiError::BadRequest(message));
        }
        let (scope, reason) = (request.scope.clone(), act.reason().to_owned());
        self.order(act.by(), Change::SwitchLifted(SwitchLifted { scope, reason })).await?;
        self.switches().await
    }

    /// All exceptions of budgets.
    ///
    /// # Errors
    /// The caller is bound to labels, or the audit log can't be read.
    pub async fn exceptions(&self) -> Result<ExceptionTable, ApiError> {
        self.caller().is_unbound()?;
        let now = self.now();
        self.read(move |books| {
            let orders = books.store().orders()?;
            let rows =
                orders.exceptions.iter().rev().map(|(number, exception)| ExceptionRow::of(number, exception, now));
            Ok(ExceptionTable { exceptions: rows.collect() })
        })
        .await
    }

    /// Asks for an exception; it counts once another person approves it.
    ///
    /// # Errors
    /// There is no such budget or account, the request can't be understood, or the store can't write.
    pub async fn ask_exception(&self, request: &ExceptionRequest) -> Result<ExceptionRow, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        let now = self.now();
        let until = query::length(&request.until).map(|length| now.after(length));
        let until = until.or_else(|_| query::instant("until", &request.until))?;
        if until <= now || until.since(now) > EXCEPTION_TIME_MAX {
            return Err(ExceptionFault::Until.into());
        }
        if request.amount_usd.is_zero() {
            return Err(ExceptionFault::Nothing.into());
        }
        if request.amount_usd > Money::TYPED_MAX {
            return Err(ExceptionFault::Much.into());
        }
        if self.read(move |books| Ok(books.store().orders()?.exceptions.standing(now))).await? >= EXCEPTIONS_MAX {
            return Err(ExceptionFault::Many.into());
        }
        let ExceptionRequest { budget, scope, amount_usd, .. } = request.clone();
        let known = self.budgets().iter().find(|known| known.name == budget);
        judge_scope(known.ok_or_else(|| ExceptionFault::Budget(budget.to_string()))?, &scope)?;
        let asked = ExceptionAsked { budget, scope, amount_usd, until, reason: act.reason().to_owned() };
        let number = self.order(act.by(), Change::ExceptionAsked(asked)).await?;
        self.exception(number).await
    }

    /// Approves an exception: it counts from here on.
    ///
    /// # Errors
    /// There is no such exception, it isn't to be approved, or not by who asked for it.
    pub async fn approve_exception(&self, number: u64, request: &ActRequest) -> Result<ExceptionRow, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        let (by, now) = (act.by(), self.now());
        self.with_exception(number, move |exception| exception.judge_approval(&by, now)).await?;
        let approved = ExceptionApproved { exception: number, reason: act.reason().to_owned() };
        self.order(act.by(), Change::ExceptionApproved(approved)).await?;
        let row = self.exception(number).await?;
        if row.approved_by.is_none() {
            return Err(ExceptionFault::State(row.state.name()).into());
        }
        Ok(row)
    }

    /// Refuses an exception, or takes it back. What was placed by it stays placed.
    ///
    /// # Errors
    /// There is no such exception, or its time is over.
    pub async fn end_exception(&self, number: u64, request: &ActRequest) -> Result<ExceptionRow, ApiError> {
        let act = self.act(&request.by, &request.reason)?;
        let now = self.now();
        let judged = self.with_exception(number, move |exception| match exception.state(now) {
            ExceptionState::Asked | ExceptionState::Counts => Ok(()),
            state @ (ExceptionState::Expired | ExceptionState::Ended) => Err(ExceptionFault::State(state.name())),
        });
        judged.await?;
        let reason = act.reason().to_owned();
        self.order(act.by(), Change::ExceptionEnded(ExceptionEnded { exception: number, reason })).await?;
        self.exception(number).await
    }

    async fn exception(&self, number: u64) -> Result<ExceptionRow, ApiError> {
        let found = self.exceptions().await?.exceptions.into_iter().find(|row| row.exception == number);
        found.ok_or_else(|| ExceptionFault::Unknown(number).into())
    }

    async fn with_exception(
        &self,
        number: u64,
        judge: impl FnOnce(&Exception) -> Result<(), ExceptionFault> + Send + 'static,
    ) -> Result<(), ApiError> {
        self.read(move |books| {
            let orders = books.store().orders()?;
            Ok(judge(orders.exceptions.get(number).ok_or(ExceptionFault::Unknown(number))?)?)
        })
        .await
    }

    async fn order(&self, by: Author, change: Change) -> Result<u64, ApiError> {
        tracing::warn!(by = %by, kind = change.kind(), "what is allowed was changed");
        Ok(self.runtime().store().note(by, change).await?.noted.unwrap_or_default())
    }
}

/// The scope of an account names the labels of its budget, in their order.
fn judge_scope(budget: &Budget, scope: &str) -> Result<(), ExceptionFault> {
    // A part without a value names nobody's account.
    let names = scope.split(',').map(|part| part.split_once('=').map(|(name, _)| name));
    let each = budget.each.iter().map(|name| Some(name.as_str()));
    let fits = if budget.each.is_empty() { scope.is_empty() } else { names.eq(each) };
    let form = if budget.each.is_empty() {
        "one account, which has no scope".to_owned()
    } else {
        format!("an account for each `{}=…`", budget.each.join("=…,"))
    };
    if fits { Ok(()) } else { Err(ExceptionFault::Scope { budget: budget.name.clone(), form }) }
}
