//! The parameters of lists, as they stand behind the `?` of a path. The client writes them and the router reads them.

use std::str::FromStr;

use reqwest::Url;

use super::error::ApiError;
use super::export::{ExportQuery, Exported};
use super::parameters::{self, Parameters};
use crate::domain::audit::Change;
use crate::domain::report::focus::FocusVersion;
use crate::domain::report::{AuditFilter, Days, Dimension};
use crate::domain::rollup::Day;
use crate::ids::{AgentName, RunId};
use crate::store::{RUNS_MAX, RunFilter};
use crate::units::{Millis, Money, Timestamp};

/// What a page has where nobody says how much.
const PAGE_DEFAULT: usize = 50;
/// The most parameters of one request.
const PARAMETERS_MAX: usize = 64;
/// What a parameter's value is shown of in a message.
const SHOWN_CHARS_MAX: usize = 64;

/// The pairs of a query.
///
/// # Errors
/// There are too many.
pub(crate) fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, ApiError> {
    let bad = |why: String| ApiError::BadRequest(format!("the query can't be read: {why}"));
    let mut url = Url::parse("http://plimsoll/").map_err(|error| bad(error.to_string()))?;
    url.set_query(query);
    let pairs: Vec<(String, String)> =
        url.query_pairs().take(PARAMETERS_MAX + 1).map(|(name, value)| (name.into(), value.into())).collect();
    if pairs.len() > PARAMETERS_MAX {
        return Err(bad(format!("it has more than {PARAMETERS_MAX} parameters")));
    }
    Ok(pairs)
}

fn parsed<T: FromStr>(name: &str, value: &str, form: &str) -> Result<T, ApiError> {
    value.parse().map_err(|_| bad_value(name, value, form))
}

fn bad_value(name: &str, value: &str, form: &str) -> ApiError {
    let shown: String = value.chars().take(SHOWN_CHARS_MAX).collect();
    ApiError::BadRequest(format!("`{name}` can't be `{}`; write {form}", shown.escape_debug()))
}

fn unknown(name: &str, known: Parameters) -> ApiError {
    let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    ApiError::BadRequest(format!(
        "there is no parameter `{}`; this path takes {}",
        shown.escape_debug(),
        parameters::names(known)
    ))
}

/// `GET /v1/runs?agent=&state=&label=name=value&since=&until=&cost_min=&cost_max=&before=&roots=&limit=`; `state` and `label` may stand several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery(pub RunFilter);

impl RunQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// A parameter that doesn't exist, or a value that can't be read.
    pub fn read(query: Option<&str>) -> Result<Self, ApiError> {
        let mut filter = RunFilter { limit: PAGE_DEFAULT, ..RunFilter::default() };
        for (name, value) in pairs(query)? {
            match name.as_str() {
                _ if is_choice(&mut filter, &name, &value)? => {}
                "before" => filter.before = Some(parsed::<RunId>(&name, &value, "a run's whole id")?),
                "limit" => filter.limit = limit(&name, &value)?,
                "roots" => filter.roots = parsed(&name, &value, "`true` or `false`")?,
                _ => {
                    return Err(unknown(&name, parameters::RUNS));
                }
            }
        }
        Ok(Self(filter))
    }

    /// Writes it behind a path.
    pub fn write(&self, url: &mut Url) {
        let filter = &self.0;
        write_choice(filter, url);
        let mut pairs = url.query_pairs_mut();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.append_pair(name, &value);
            }
        };
        add("before", filter.before.map(|run| run.to_string()));
        add("roots", filter.roots.then(|| "true".to_owned()));
        add("limit", Some(if filter.limit == 0 { RUNS_MAX } else { filter.limit }.to_string()));
    }
}

/// Which runs: takes a parameter that says so.
fn is_choice(filter: &mut RunFilter, name: &str, value: &str) -> Result<bool, ApiError> {
    let time = || parsed::<Timestamp>(name, value, "a point in time, such as `2026-11-01T09:00:00Z`");
    let money = || Money::parse(value).map_err(|_| bad_value(name, value, "dollars, such as `0.05`"));
    match name {
        "agent" => filter.agent = Some(AgentName::from(value)),
        "state" => {
            for state in value.split(',') {
                filter.states.insert(parsed(name, state, "a state, such as `running`")?);
            }
        }
        "label" => {
            let pair = value.split_once('=').ok_or_else(|| bad_value(name, value, "`name=value`"))?;
            filter.labels.insert(pair.0.to_owned(), pair.1.to_owned());
        }
        "since" => filter.since = Some(time()?),
        "until" => filter.until = Some(time()?),
        "cost_min" => filter.cost_min = Some(money()?),
        "cost_max" => filter.cost_max = Some(money()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn write_choice(filter: &RunFilter, url: &mut Url) {
    let mut pairs = url.query_pairs_mut();
    let mut add = |name: &str, value: String| {
        pairs.append_pair(name, &value);
    };
    filter.agent.iter().for_each(|agent| add("agent", agent.to_string()));
    filter.states.iter().for_each(|state| add("state", state.to_string()));
    filter.labels.iter().for_each(|(name, value)| add("label", format!("{name}={value}")));
    filter.since.iter().for_each(|at| add("since", at.to_string()));
    filter.until.iter().for_each(|at| add("until", at.to_string()));
    filter.cost_min.iter().for_each(|cost| add("cost_min", cost.usd()));
    filter.cost_max.iter().for_each(|cost| add("cost_max", cost.usd()));
}

impl ExportQuery {
    /// Reads `GET /v1/export/{what}?agent=&state=&label=name=value&since=&until=&run=&spec=&daily=&after=`.
    ///
    /// # Errors
    /// As [`RunQuery::read`].
    pub fn read(exported: Exported, query: Option<&str>) -> Result<Self, ApiError> {
        let mut read = Self { exported, filter: RunFilter::default(), run: None, after: None };
        let (mut focus, mut daily) = (exported.focus(), matches!(exported, Exported::FocusDaily(_)));
        for (name, value) in pairs(query)? {
            match name.as_str() {
                _ if is_choice(&mut read.filter, &name, &value)? => {}
                "run" => read.run = Some(value),
                "after" => read.after = Some(parsed::<RunId>(&name, &value, "a run's whole id")?),
                "spec" if focus.is_some() => {
                    let versions = FocusVersion::ALL.map(FocusVersion::name).join(", ");
                    focus = Some(parsed(&name, &value, &format!("one of {versions}"))?);
                }
                "daily" if focus.is_some() => daily = parsed(&name, &value, "`true` or `false`")?,
                _ => {
                    return Err(unknown(&name, parameters::EXPORT));
                }
            }
        }
        if let Some(version) = focus {
            read.exported = if daily { Exported::FocusDaily(version) } else { Exported::Focus(version) };
        }
        Ok(read)
    }

    /// Writes it behind a path.
    pub fn write(&self, url: &mut Url) {
        write_choice(&self.filter, url);
        let mut pairs = url.query_pairs_mut();
        let mut add = |name: &str, value: String| {
            pairs.append_pair(name, &value);
        };
        self.run.iter().for_each(|run| add("run", run.clone()));
        self.after.iter().for_each(|after| add("after", after.to_string()));
        if let Some(version) = self.exported.focus() {
            add("spec", version.name().to_owned());
        }
        if matches!(self.exported, Exported::FocusDaily(_)) {
            add("daily", true.to_string());
        }
    }
}

fn limit(name: &str, value: &str) -> Result<usize, ApiError> {
    let number: usize = value.parse().unwrap_or(0);
    if (1..=RUNS_MAX).contains(&number) {
        return Ok(number);
    }
    Err(bad_value(name, value, &format!("a number from 1 to {RUNS_MAX}")))
}

/// `GET /v1/costs?by=tenant,model&since=&until=&only=feature=support&against=previous`; `only` may stand several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostQuery {
    /// What to group by.
    pub by: Vec<Dimension>,
    /// From its day on.
    pub since: Timestamp,
    /// Up to its day, included.
    pub until: Timestamp,
    /// Only what has these values.
    pub only: Vec<(Dimension, String)>,
    /// True to compare it with as many days right before.
    pub against_previous: bool,
}

/// How far back costs go where nobody says since when.
const COSTS_BACK: Millis = Millis::from_secs(30 * 86_400);

impl CostQuery {
    /// Reads a query at a time.
    ///
    /// # Errors
    /// As [`RunQuery::read`].
    pub fn read(query: Option<&str>, now: Timestamp) -> Result<Self, ApiError> {
        let since = Timestamp(now.0.saturating_sub(COSTS_BACK.0));
        let mut read = Self { by: Vec::new(), since, until: now, only: Vec::new(), against_previous: false };
        for (name, value) in pairs(query)? {
            let time = || parsed::<Timestamp>(&name, &value, "a point in time, such as `2026-11-01T09:00:00Z`");
            match name.as_str() {
                "by" => {
                    for text in value.split(',') {
                        read.by.push(dimension(&name, text)?);
                    }
                }
                "since" => read.since = time()?,
                "until" => read.until = time()?,
                "only" => {
                    let pair = value.split_once('=').ok_or_else(|| bad_value(&name, &value, "`dimension=value`"))?;
                    read.only.push((dimension(&name, pair.0)?, pair.1.to_owned()));
                }
                "against" if value == "previous" => read.against_previous = true,
                "against" => return Err(bad_value(&name, &value, "`previous`")),
                _ => return Err(unknown(&name, parameters::COSTS)),
            }
        }
        if read.by.is_empty() {
            read.by = vec![Dimension::Agent, Dimension::Model];
        }
        read.judge()?;
        Ok(read)
    }

    /// Looks whether it can be answered.
    ///
    /// # Errors
    /// Days are compared with other days.
    pub fn judge(&self) -> Result<(), ApiError> {
        if self.against_previous && self.by.contains(&Dimension::Day) {
            let message = "`day` can't be compared with a period before: its days are others; leave one of them out";
            return Err(ApiError::BadRequest(message.to_owned()));
        }
        Ok(())
    }

    /// Its days.
    #[must_use]
    pub fn days(&self) -> Days {
        Days { from: Day::of(self.since), to: Day::of(self.until) }
    }

    /// Writes it behind a path.
    pub fn write(&self, url: &mut Url) {
        let by: Vec<&str> = self.by.iter().map(|dimension| dimension.name()).collect();
        let mut pairs = url.query_pairs_mut();
        if !by.is_empty() {
            pairs.append_pair("by", &by.join(","));
        }
        pairs.append_pair("since", &self.since.to_string()).append_pair("until", &self.until.to_string());
        for (dimension, value) in &self.only {
            pairs.append_pair("only", &format!("{}={value}", dimension.name()));
        }
        if self.against_previous {
            pairs.append_pair("against", "previous");
        }
    }
}

fn dimension(name: &str, text: &str) -> Result<Dimension, ApiError> {
    Dimension::named(text).ok_or_else(|| bad_value(name, text, &Dimension::ALL.map(Dimension::name).join(", ")))
}

/// `GET /v1/audit?since=&until=&kind=&who=&before=&limit=`; `kind` may stand several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery(pub AuditFilter);

impl AuditQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// As [`RunQuery::read`].
    pub fn read(query: Option<&str>) -> Result<Self, ApiError> {
        let mut filter = AuditFilter { limit: PAGE_DEFAULT, ..AuditFilter::default() };
        for (name, value) in pairs(query)? {
            let time = || parsed::<Timestamp>(&name, &value, "a point in time, such as `2026-11-01T09:00:00Z`");
            match name.as_str() {
                "since" => filter.since = Some(time()?),
                "until" => filter.until = Some(time()?),
                "kind" => {
                    for kind in value.split(',') {
                        let known = Change::KINDS.contains(&kind);
                        let fault = || bad_value(&name, kind, &Change::KINDS.join(", "));
                        filter.kinds.push(known.then(|| kind.to_owned()).ok_or_else(fault)?);
                    }
                }
                "who" => filter.who = Some(value),
                "before" => filter.before = Some(parsed(&name, &value, "an entry's number")?),
                "limit" => filter.limit = limit(&name, &value)?,
                _ => return Err(unknown(&name, parameters::AUDIT)),
            }
        }
        Ok(Self(filter))
    }

    /// Writes it behind a path.
    pub fn write(&self, url: &mut Url) {
        let filter = &self.0;
        let mut pairs = url.query_pairs_mut();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.append_pair(name, &value);
            }
        };
        add("since", filter.since.map(|at| at.to_string()));
        add("until", filter.until.map(|at| at.to_string()));
        filter.kinds.iter().for_each(|kind| add("kind", Some(kind.clone())));
        add("who", filter.who.clone());
        add("before", filter.before.map(|number| number.to_string()));
        add("limit", Some(if filter.limit == 0 { RUNS_MAX } else { filter.limit }.to_string()));
    }
}

/// How long a request waits: `wait=20s`.
pub(super) fn wait(query: Option<&str>) -> Result<Millis, ApiError> {
    let mut wait = Millis::ZERO;
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "wait" => wait = length(&value)?,
            _ => return Err(unknown(&name, parameters::WAIT)),
        }
    }
    Ok(wait)
}

/// The number of the first event that is wanted: behind `after=7`, or behind the last that a browser says it has.
pub(super) fn first_event(query: Option<&str>, last: Option<&str>) -> Result<u32, ApiError> {
    let behind =
        |name: &str, text: &str| parsed::<u32>(name, text, "an event's number").map(|last| last.saturating_add(1));
    let mut first = 0;
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "after" => first = behind(&name, &value)?,
            _ => return Err(unknown(&name, parameters::EVENTS)),
        }
    }
    last.map_or(Ok(first), |last| behind("Last-Event-ID", last).map(|behind| behind.max(first)))
}

/// A length of time to wait.
pub(super) fn length(text: &str) -> Result<Millis, ApiError> {
    Millis::parse(text).map_err(|_| bad_value("wait", text, "a length of time, such as `20s`"))
}

/// A point in time.
pub(super) fn instant(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    parsed(name, text, "a point in time, such as `2026-11-01T09:00:00Z`, or a length of time, such as `3d`")
}

/// Which account of a budget: `scope=tenant=acme`.
pub(super) fn scope(query: Option<&str>) -> Result<String, ApiError> {
    let mut scope = String::new();
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "scope" => scope = value,
            _ => return Err(unknown(&name, parameters::SCOPE)),
        }
    }
    Ok(scope)
}

/// The number of something in a path.
pub(super) fn number(of: &'static str, text: &str) -> Result<u64, ApiError> {
    parsed(of, text, "a number that the list of them gives")
}

/// No parameters.
pub(super) fn nothing(query: Option<&str>) -> Result<(), ApiError> {
    match pairs(query)?.first() {
        Some((name, _)) => Err(unknown(name, parameters::NONE)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::event::RunState;

    #[test]
    fn what_the_client_writes_the_router_reads() {
        let filter = RunFilter {
            agent: Some("a & b".into()),
            states: BTreeSet::from([RunState::Running, RunState::AwaitingBudget]),
            labels: [("tenant".to_owned(), "ä=1&limit=2".to_owned()), ("x".to_owned(), String::new())].into(),
            since: Some(Timestamp(1_795_392_000_123)),
            until: Some(Timestamp(1_795_392_000_124)),
            cost_min: Some(Money::from_micro(50_000)),
            cost_max: Some(Money::from_pico(1_000_000_000_001)),
            before: Some(RunId::from_bits(77)),
            roots: true,
            limit: 7,
        };
        let mut url = Url::parse("http://plimsoll/v1/runs").expect("a URL");
        RunQuery(filter.clone()).write(&mut url);
        assert_eq!(RunQuery::read(url.query()).expect("it reads"), RunQuery(filter.clone()));

        let focus = [Exported::Focus(FocusVersion::V1_3), Exported::FocusDaily(FocusVersion::V1_4)];
        for exported in [Exported::Runs, Exported::Events].into_iter().chain(focus) {
            let filter = RunFilter { before: None, roots: false, limit: 0, ..filter.clone() };
            let (run, after) = (Some("last & least".to_owned()), Some(RunId::from_bits(78)));
            let query = ExportQuery { exported, filter, run, after };
            let mut url = Url::parse("http://plimsoll/v1/export").expect("a URL");
            query.write(&mut url);
            let named = exported.name().parse().expect("a name");
            assert_eq!(ExportQuery::read(named, url.query()).expect("it reads"), query);
        }

        let costs = CostQuery {
            by: vec![Dimension::Tenant, Dimension::Model],
            since: Timestamp(5),
            until: Timestamp(86_400_000),
            only: vec![(Dimension::Feature, "a=b&c".to_owned()), (Dimension::Day, "1970-01-01".to_owned())],
            against_previous: true,
        };
        let mut url = Url::parse("http://plimsoll/v1/costs").expect("a URL");
        costs.write(&mut url);
        assert_eq!(CostQuery::read(url.query(), Timestamp(9)).expect("it reads"), costs);

        let audit = AuditFilter {
            since: Some(Timestamp(5)),
            until: Some(Timestamp(7)),
            kinds: vec!["key_made".to_owned(), "price_frozen".to_owned()],
            who: Some("ann & bob".to_owned()),
            before: Some(9),
            limit: 3,
        };
        let mut url = Url::parse("http://plimsoll/v1/audit").expect("a URL");
        AuditQuery(audit.clone()).write(&mut url);
        assert_eq!(AuditQuery::read(url.query()).expect("it reads"), AuditQuery(audit));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let many = "state=running&".repeat(PARAMETERS_MAX + 1);
        for (query, word) in [
            ("agnet=x", "`agnet`"),
            ("state=flying", "`flying`"),
            ("label=tenant", "name=value"),
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("since=yesterday", "2026-11-01"),
            ("before=01K", "whole id"),
            (many.as_str(), "parameters"),
        ] {
            let error = RunQuery::read(Some(query)).expect_err(query).to_string();
            assert!(error.contains(word), "{query}: {error}");
        }
        for bad in ["by=tennant", "only=feature", "only=x=y", "against=2025", "by=day&against=previous"] {
            assert!(CostQuery::read(Some(bad), Timestamp(0)).is_err(), "{bad}");
        }
        assert!(ExportQuery::read(Exported::Focus(FocusVersion::V1_2), Some("spec=2")).is_err());
        assert!(ExportQuery::read(Exported::Focus(FocusVersion::V1_2), Some("daily=often")).is_err());
        assert!(ExportQuery::read(Exported::Runs, Some("spec=1.2")).is_err());
        assert!(ExportQuery::read(Exported::Events, Some("daily=true")).is_err());
        assert!(AuditQuery::read(Some("kind=key_lost")).is_err_and(|error| error.to_string().contains("key_revoked")));
        assert!(wait(Some("wait=long")).is_err() && nothing(Some("wait=1s")).is_err());
        assert_eq!(RunQuery::read(None).expect("it reads").0.limit, PAGE_DEFAULT);
    }
}
