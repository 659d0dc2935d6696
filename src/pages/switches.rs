//! Switches: what is held, ended or out of use, and the forms that set and lift them.

use std::collections::BTreeSet;

use askama::Template;
use axum::response::{Redirect, Response};

use super::form::{Fields, bad};
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::text::short_moment;
use crate::api::{LiftRequest, SwitchRequest, SwitchRow};
use crate::domain::access::Scope;
use crate::domain::plan::Plan;
use crate::domain::switch::{SwitchKind, SwitchScope};

/// A switch that is set.
struct Row {
    /// What tells its form from the others.
    form: String,
    scope: String,
    words: String,
    effect: &'static str,
    at: String,
    by: String,
    reason: String,
}

impl Row {
    fn of((place, row): (usize, &SwitchRow)) -> Self {
        Self {
            form: format!("lift-{place}"),
            scope: row.scope.to_string(),
            words: words(row),
            effect: effect(row),
            at: short_moment(&row.at),
            by: row.by.clone(),
            reason: row.reason.clone(),
        }
    }
}

/// `feature=support is paused`.
pub(super) fn words(row: &SwitchRow) -> String {
    let does = match (&row.scope, row.switch) {
        (SwitchScope::Model(_), _) => "is out of use",
        (_, SwitchKind::Pause) => "is paused",
        (_, SwitchKind::Kill) => "is killed",
    };
    if row.scope == SwitchScope::All { format!("every run {does}") } else { format!("{} {does}", row.scope) }
}

fn effect(row: &SwitchRow) -> &'static str {
    match (&row.scope, row.switch) {
        (SwitchScope::Model(_), _) => "Nobody asks it; other approved models take over.",
        (_, SwitchKind::Pause) => "Its runs wait, hold no money, and go on once it is lifted.",
        (_, SwitchKind::Kill) => "Its runs end at their next call; new ones end before their first.",
    }
}

#[derive(Template)]
#[template(path = "orders/switches.html")]
struct SwitchesPage {
    shell: Shell,
    switches: Vec<Row>,
    may_set: bool,
    /// What may be meant.
    scopes: BTreeSet<String>,
}

/// The switches that are set.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let table = visitor.service.switches().await?;
    html(&SwitchesPage {
        shell: Shell { held: Vec::new(), ..visitor.shell(Section::Switches, "Switches") },
        switches: table.switches.iter().enumerate().map(Row::of).collect(),
        may_set: visitor.may(Scope::Admin).is_ok(),
        scopes: visitor.service.runtime().plans().iter().flat_map(|plan| scopes(plan)).collect(),
    })
}

fn scopes(plan: &Plan) -> impl Iterator<Item = String> {
    let labels = [("feature", plan.feature.as_ref()), ("owner", plan.owner.as_ref())];
    let labels = labels.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let models = plan.model.candidates.iter().map(|model| format!("model={model}"));
    labels.chain(models).chain([format!("agent={}", plan.agent)])
}

/// Sets one.
pub(super) async fn set(visitor: Visitor, body: String) -> Result<Redirect, Told> {
    visitor.may(Scope::Admin)?;
    let fields = Fields::sent(&body, &visitor.token)?;
    let switch = match fields.get("switch") {
        Some("pause") => SwitchKind::Pause,
        Some("kill") => SwitchKind::Kill,
        Some(_) | None => return Err(bad("nothing was chosen; use one of the form's buttons").into()),
    };
    let (scope, (by, reason)) = (scope(&fields)?, fields.who_and_why());
    visitor.service.set_switch(&SwitchRequest { scope, switch, reason, by }).await?;
    Ok(Redirect::to("/switches"))
}

/// Lifts one.
pub(super) async fn lift(visitor: Visitor, body: String) -> Result<Redirect, Told> {
    visitor.may(Scope::Admin)?;
    let fields = Fields::sent(&body, &visitor.token)?;
    let (scope, (by, reason)) = (scope(&fields)?, fields.who_and_why());
    visitor.service.lift_switch(&LiftRequest { scope, reason, by }).await?;
    Ok(Redirect::to("/switches"))
}

fn scope(fields: &Fields) -> Result<SwitchScope, Told> {
    let scope: Result<SwitchScope, _> = fields.get("scope").unwrap_or_default().parse();
    Ok(scope.map_err(|error| bad(&error.to_string()))?)
}
