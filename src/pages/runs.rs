//! Runs: which there are, newest first, and where they stand.

use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;

use super::form::Fields;
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::live::{Seen, watch};
use super::text::{first_moment, link, short_moment};
use crate::api::{ApiError, RunPage, RunQuery, RunRow};
use crate::domain::event::RunState;
use crate::domain::label::DERIVED;
use crate::domain::report::CostDocument;
use crate::ids::RunId;
use crate::store::LOOKS_MAX;
use crate::units::{Millis, Money};
use crate::words::entry::state_of;
use crate::words::text::one_line;

/// Runs of a page.
const PAGE_RUNS: usize = 50;
/// The most characters that a row shows of its labels.
const LABELS_CHARS_MAX: usize = 80;
/// What can be asked for by the form.
const FIELDS: [&str; 8] = ["agent", "state", "label", "since", "until", "cost_min", "cost_max", "children"];

/// What was asked for, as it was filled in.
struct Filter {
    agent: String,
    label: String,
    since: String,
    until: String,
    cost_min: String,
    cost_max: String,
    children: bool,
    /// Each state, and whether it was asked for.
    states: Vec<(&'static str, String, bool)>,
    /// The same behind a path.
    query: String,
    before: Option<RunId>,
    is_none: bool,
}

impl Filter {
    fn read(query: Option<&str>) -> Result<(Self, RunQuery), ApiError> {
        let fields = Fields::of(query)?;
        let field = |name: &str| fields.get(name).unwrap_or_default().to_owned();
        let mut pairs = Vec::new();
        for name in FIELDS {
            pairs.extend(fields.all(name).map(|value| (name, value.to_owned())));
        }
        let shown: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let children = fields.get("children").is_some();
        let mut asked: Vec<(&str, String)> = pairs
            .iter()
            .filter(|(name, _)| *name != "children")
            .map(|(name, value)| (*name, first_moment(name, value)))
            .collect();
        asked.push(("roots", (!children).to_string()));
        asked.push(("limit", PAGE_RUNS.to_string()));
        asked.extend(fields.get("before").map(|before| ("before", before.to_owned())));
        let asked: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let read = RunQuery::read(link("", &asked).strip_prefix('?'))?;
        let states = RunState::ALL.map(|state| (state.name(), state_of(state), read.0.states.contains(&state)));
        let filter = Self {
            agent: field("agent"),
            label: field("label"),
            since: field("since"),
            until: field("until"),
            cost_min: field("cost_min"),
            cost_max: field("cost_max"),
            children,
            states: states.into(),
            query: link("", &shown),
            before: read.0.before,
            is_none: shown.is_empty(),
        };
        Ok((filter, read))
    }

    /// The page with more than that.
    fn with(&self, path: &str, name: &str, value: &str) -> String {
        let more = link("", &[(name, value)]);
        match self.query.as_str() {
            "" => format!("{path}{more}"),
            query => format!("{path}{query}&{}", more.trim_start_matches('?')),
        }
    }
}

/// One run.
struct Row {
    run: String,
    agent: String,
    state: &'static str,
    state_words: String,
    cost: String,
    is_unknown: bool,
    steps: u32,
    time: String,
    created: String,
    labels: String,
    asks: usize,
    is_below: bool,
}

impl From<&RunRow> for Row {
    fn from(run: &RunRow) -> Self {
        let own = run.labels.iter().filter(|(name, _)| !DERIVED.contains(&name.as_str()));
        let own: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
        let limit = run.limit.filter(|_| run.state == RunState::Stopped);
        Self {
            run: run.run.to_string(),
            agent: run.agent.to_string(),
            state: run.state.name(),
            state_words: limit.map_or_else(|| state_of(run.state), |limit| format!("stopped by {limit}")),
            cost: run.cost.settled_usd.to_string(),
            is_unknown: !run.cost.unknown_usd.is_zero(),
            steps: run.steps,
            time: run.wall_ms.to_string(),
            created: short_moment(&run.created),
            labels: one_line(&own.join(" "), LABELS_CHARS_MAX),
            asks: run.asked.len(),
            is_below: run.parent.is_some(),
        }
    }
}

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    shell: Shell,
    filter: Filter,
    rows: Vec<Row>,
    older: Option<String>,
    newest: Option<String>,
    live: Option<String>,
}

/// The runs that a filter lets through.
pub(super) async fn page(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Told> {
    visitor.may(crate::domain::access::Scope::Read)?;
    let (filter, RunQuery(asked)) = Filter::read(query.as_deref())?;
    let page = visitor.service.read(move |books| books.runs(&asked, LOOKS_MAX)).await?;
    // Only the newest change: older pages stay as they are.
    let live = filter.before.is_none().then(|| filter.with("/runs/live", "seen", &seen(&page).print));
    let older = page.next.map(|next| filter.with("/runs", "before", &next.to_string()));
    let newest = filter.before.map(|_| format!("/runs{}", filter.query));
    let rows = page.runs.iter().map(Row::from).collect();
    html(&RunsPage { shell: visitor.shell(Section::Runs, "Runs"), filter, rows, older, newest, live })
}

/// What of it changes: time that goes by alone doesn't.
fn seen(page: &RunPage) -> Seen {
    let mut page = page.clone();
    page.runs.iter_mut().for_each(|run| {
        run.wall_ms = Millis::ZERO;
        run.cost = CostDocument { held_usd: Money::ZERO, ..run.cost };
    });
    Seen::of(&page, false)
}

/// Says when the list is another.
pub(super) async fn live(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Told> {
    visitor.may(crate::domain::access::Scope::Read)?;
    let (_, RunQuery(asked)) = Filter::read(query.as_deref())?;
    let fields = Fields::of(query.as_deref())?;
    watch(visitor.service, fields.get("seen"), move |books| Ok(seen(&books.runs(&asked, LOOKS_MAX)?))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_leaves_empty_is_not_asked_for() {
        let (filter, RunQuery(asked)) =
            Filter::read(Some("agent=&state=running&state=queued&label=&since=2026-11-01&until=")).expect("it reads");
        assert_eq!((asked.agent, asked.states.len(), asked.limit, asked.roots), (None, 2, PAGE_RUNS, true));
        assert_eq!(asked.since.map(|at| at.to_string()).as_deref(), Some("2026-11-01T00:00:00.000Z"));
        assert_eq!(filter.query, "?state=running&state=queued&since=2026-11-01");
        assert_eq!(filter.with("/runs", "before", "x"), format!("/runs{}&before=x", filter.query));
        let (none, _) = Filter::read(None).expect("it reads");
        assert!(none.is_none && none.with("/runs", "before", "x") == "/runs?before=x");
        assert!(Filter::read(Some("label=acme")).is_err());
        let (dear, RunQuery(asked)) = Filter::read(Some("cost_min=%241.50&cost_max=2")).expect("it reads");
        assert_eq!(
            (asked.cost_min, asked.cost_max),
            (Some(Money::from_micro(1_500_000)), Some(Money::from_micro(2_000_000)))
        );
        assert_eq!((dear.cost_min.as_str(), dear.query.as_str()), ("$1.50", "?cost_min=%241.50&cost_max=2"));
        assert!(Filter::read(Some("cost_min=much")).is_err());
    }
}
