//! What a store answers to those who only read.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::ApiError;
use super::query::CostQuery;
use super::service::READ_TIME_MAX;
use super::types::{RunPage, RunRow};
use crate::clock::Clock;
use crate::domain::budget::Budget;
use crate::domain::event::{AccountKey, Labels};
use crate::domain::plan::Plan;
use crate::domain::pricing::PriceBook;
use crate::domain::report::{
    AuditFilter, AuditPage, AuditTable, Beside, BoundTable, BudgetRow, BudgetTable, BurnDown, CostTable, Days,
    Dimension, RunDocument, Trace,
};
use crate::domain::rollup::{Rollup, RollupKey};
use crate::domain::run::Tree;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::runtime::replay::TreeLog;
use crate::store::{ALERTS_WAITING_MAX, Rows, RunFilter, Store};
use crate::telemetry::Gauges;
use crate::units::{Millis, Money, Timestamp};

/// The most sums that a report by thread is made of: there may be as many threads as runs.
const THREAD_ROWS_MAX: usize = 100_000;
/// What names the newest run.
const LAST: &str = "last";
/// Characters of a run's id.
const ID_CHARS: usize = 26;
/// Bits of one character of a run's id.
const ID_CHAR_BITS: usize = 5;
/// Runs that a message names where a beginning fits several.
const CANDIDATES_MAX: usize = 5;
/// The most characters of what was asked for that a message repeats.
const ASKED_CHARS_MAX: usize = 64;

/// A store, and the budgets that it is judged by. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Books {
    store: Store,
    budgets: Arc<[Budget]>,
    clock: Clock,
    /// Only what has these labels is seen.
    bound: Labels,
    /// What attempts were priced by; the built-in book where it is left out.
    prices: Option<Arc<PriceBook>>,
    /// When whoever asked no longer waits.
    until: Option<Timestamp>,
}

impl Books {
    /// The books of a store.
    #[must_use]
    pub fn new(store: Store, budgets: &[Budget], clock: Clock) -> Self {
        Self { store, budgets: budgets.into(), clock, bound: Labels::new(), prices: None, until: None }
    }

    /// The same, of a project that has prices of its own.
    #[must_use]
    pub fn priced_by(self, prices: Arc<PriceBook>) -> Self {
        Self { prices: Some(prices), ..self }
    }

    /// What attempts were priced by.
    pub(super) fn prices(&self) -> &PriceBook {
        self.prices.as_deref().unwrap_or_else(|| PriceBook::builtin())
    }

    /// The same, of which only what has these labels is seen.
    #[must_use]
    pub fn bound_to(self, bound: Labels) -> Self {
        Self { bound, ..self }
    }

    /// The same, asked by somebody who waits for so long.
    pub(super) fn within(self, time: Millis) -> Self {
        Self { until: Some(self.clock.now().after(time)), ..self }
    }

    /// Looks whether somebody still waits: what goes on for long asks this at times.
    ///
    /// # Errors
    /// Nobody does.
    pub(super) fn in_time(&self) -> Result<(), ApiError> {
        let is_late = self.until.is_some_and(|until| self.clock.now() >= until);
        if is_late { Err(ApiError::Slow(READ_TIME_MAX)) } else { Ok(()) }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The runs that a filter lets through, newest first; at most so many are looked at.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn runs(&self, filter: &RunFilter, looks_max: usize) -> Result<RunPage, ApiError> {
        let Some(filter) = &self.seen_of(filter) else { return Ok(RunPage { runs: Vec::new(), next: None }) };
        let found = self.store.found(filter, looks_max)?;
        Ok(RunPage { runs: found.runs.iter().map(RunRow::from).collect(), next: found.next })
    }

    /// Finds the one run that an id, the beginning of one, or `last` names.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, text: &str) -> Result<RunSummary, ApiError> {
        let none = || ApiError::NoSuchRun(text.escape_debug().to_string().chars().take(ASKED_CHARS_MAX).collect());
        if text == LAST {
            let newest = self.store.summaries(&RunFilter { roots: true, limit: 1, ..self.seen() })?;
            return newest.into_iter().next().ok_or_else(none);
        }
        let beginning = text.trim().to_ascii_uppercase();
        let Some((first, after)) = range(&beginning) else { return Err(none()) };
        if beginning.len() == ID_CHARS {
            let whole = self.store.summary(first)?.filter(|run| self.seen().admits(run));
            return whole.ok_or_else(none);
        }
        let since = Some(Timestamp(first.millis()));
        let filter = RunFilter { before: after, since, limit: CANDIDATES_MAX + 1, ..self.seen() };
        let found = self.store.summaries(&filter)?.into_iter();
        let mut found: Vec<RunSummary> = found.filter(|run| run.id >= first).collect();
        match found.len() {
            0 => Err(none()),
            1 => found.pop().ok_or_else(none),
            _ => Err(several(beginning, &found)),
        }
    }

    /// What of a filter's runs is seen; nothing where it asks for others.
    pub(super) fn seen_of(&self, filter: &RunFilter) -> Option<RunFilter> {
        let clashes = |(name, value): (&String, &String)| filter.labels.get(name).is_some_and(|asked| asked != value);
        if self.bound.iter().any(clashes) {
            return None;
        }
        let labels = filter.labels.iter().chain(&self.bound).map(|(name, value)| (name.clone(), value.clone()));
        Some(RunFilter { labels: labels.collect(), ..filter.clone() })
    }

    fn seen(&self) -> RunFilter {
        RunFilter { labels: self.bound.clone(), ..RunFilter::default() }
    }

    /// The document of a run.
    ///
    /// # Errors
    /// Its log or its plan is damaged.
    pub fn document(&self, run: RunId) -> Result<RunDocument, ApiError> {
        let (summary, plan) = self.with_plan(run)?;
        let tree = Tree::load(run, plan, |run| self.store.events(run))?.ok_or(ApiError::DamagedLog(run))?;
        Ok(RunDocument::of_tree(&tree, summary.load_line, self.clock.now()))
    }

    /// The trace of a run, with those of all below it.
    ///
    /// # Errors
    /// Its log or its plan is damaged.
    pub fn trace(&self, run: RunId) -> Result<Trace, ApiError> {
        let (_, plan) = self.with_plan(run)?;
        let trace = Trace::of_tree(run, &plan, self.clock.now(), &mut |run| self.store.events(run))?;
        trace.ok_or(ApiError::DamagedLog(run))
    }

    /// The logs of the tree that a run belongs to, and all that it takes to judge it again.
    ///
    /// # Errors
    /// A log or its plan is damaged.
    pub fn tree_log(&self, run: RunId) -> Result<TreeLog, ApiError> {
        Ok(TreeLog::read(&self.store, run)?)
    }

    fn with_plan(&self, run: RunId) -> Result<(RunSummary, Arc<Plan>), ApiError> {
        let summary = self.store.summary(run)?.ok_or(ApiError::DamagedLog(run))?;
        let plan = self.store.plan(&summary.plan)?.ok_or(ApiError::DamagedLog(run))?;
        Ok((summary, Arc::new(plan)))
    }

    /// Cost by dimension.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn costs(&self, query: &CostQuery) -> Result<CostTable, ApiError> {
        let [table] = self.costs_by([&query.by], query)?;
        Ok(table)
    }

    /// The same grouped in several ways, from one reading.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn costs_by<const N: usize>(
        &self,
        ways: [&[Dimension]; N],
        query: &CostQuery,
    ) -> Result<[CostTable; N], ApiError> {
        let now = self.rollups(query, query.days(), &ways)?;
        let tables = ways.map(|by| CostTable::of(by, now.rows()));
        if !query.against_previous {
            return Ok(tables);
        }
        let before = query.days().before();
        let rollups = self.rollups(query, before, &ways)?;
        Ok(tables.map(|table| table.against(before, rollups.rows())))
    }

    /// How tight the bounds of calls were.
    ///
    /// # Errors
    /// As [`Self::costs`].
    pub fn bounds(&self, query: &CostQuery) -> Result<BoundTable, ApiError> {
        Ok(BoundTable::of(self.rollups(query, query.days(), &[])?.rows(), ""))
    }

    /// What is seen of the rows of some days, and has the values that a query names, to be grouped in these ways.
    fn rollups(&self, query: &CostQuery, days: Days, ways: &[&[Dimension]]) -> Result<SeenRows, ApiError> {
        let mut only = query.only.clone();
        for (name, value) in &self.bound {
            // What isn't counted apart can't be shown apart.
            only.push((Dimension::named(name).ok_or(ApiError::Bound)?, value.clone()));
        }
        let mut asked = ways.iter().copied().flatten().chain(only.iter().map(|(dimension, _)| dimension));
        let by_thread = asked.any(|dimension| *dimension == Dimension::Thread);
        Ok(SeenRows { days: self.rows(days, by_thread, &|key| is_seen(&only, key))?, only })
    }

    /// The rows of some days; those of each thread by themselves where somebody asks for that, of which only those that are
    /// wanted are kept.
    fn rows(&self, days: Days, by_thread: bool, is_wanted: &dyn Fn(&RollupKey) -> bool) -> Result<Vec<Rows>, ApiError> {
        let Days { from, to } = days;
        if !by_thread {
            return Ok(self.store.rollups_kept(from, to)?);
        }
        let (mut rows, mut taken) = (Vec::new(), Ok(()));
        self.store.each_rollup(from, to, &mut |key, rollup| {
            taken = if rows.len() < THREAD_ROWS_MAX { self.in_time() } else { Err(too_many_rows()) };
            if taken.is_ok() && is_wanted(&key) {
                rows.push((key, rollup));
            }
            if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        taken.map(|()| vec![Arc::new(rows)])
    }

    fn beside(&self) -> Result<Beside, ApiError> {
        let exceptions = self.store.orders()?.exceptions.clone();
        Ok(Beside { exceptions, shadowed: self.store.shadowed()?.into_iter().collect() })
    }

    /// Looks whether all may be seen.
    pub(super) fn sees_all(&self) -> Result<(), ApiError> {
        if self.bound.is_empty() { Ok(()) } else { Err(ApiError::Bound) }
    }

    /// The budgets that are judged by.
    pub(super) fn configured(&self) -> &[Budget] {
        &self.budgets
    }

    /// Every account of every budget.
    ///
    /// # Errors
    /// When a record is damaged, or not all may be seen.
    pub fn budgets(&self) -> Result<BudgetTable, ApiError> {
        self.sees_all()?;
        Ok(BudgetTable::of(&self.budgets, &self.store.budgets()?, &self.beside()?, self.clock.now()))
    }

    /// Every account of every budget in the period that it is in now: as many as there are scopes, however many periods there
    /// were.
    ///
    /// # Errors
    /// As [`Self::budgets`].
    pub fn budgets_now(&self) -> Result<BudgetTable, ApiError> {
        self.sees_all()?;
        let now = self.clock.now();
        let mut accounts = Vec::new();
        for (latest, account) in self.store.budgets_latest()? {
            match self.in_force(&latest, now).filter(|in_force| *in_force != latest) {
                None => accounts.push((latest, account)),
                Some(in_force) => accounts.extend(self.store.budget(&in_force)?.map(|account| (in_force, account))),
            }
        }
        let mut table = BudgetTable::of(&self.budgets, &accounts, &self.beside()?, now);
        table.budgets.retain(|row| row.current);
        Ok(table)
    }

    /// The account that a budget counts against now, of the scope of another one of it; `None` of a budget that no file
    /// names any more.
    fn in_force(&self, account: &AccountKey, now: Timestamp) -> Option<AccountKey> {
        let AccountKey::Budget { budget: name, scope, .. } = account else { return None };
        let budget = self.budgets.iter().find(|budget| budget.name == *name)?;
        Some(budget.account_of(scope.clone(), now))
    }

    /// One account of a budget in its current period, and its days where they can be told; nothing where it has spent
    /// nothing yet.
    ///
    /// # Errors
    /// A record is damaged, or not all may be seen.
    pub fn account(&self, budget: &str, scope: &str) -> Result<Option<(BudgetRow, Option<BurnDown>)>, ApiError> {
        let is_it = |row: &BudgetRow| row.budget.as_str() == budget && row.scope == scope;
        let Some(row) = self.budgets_now()?.budgets.into_iter().find(is_it) else { return Ok(None) };
        let Some(budget) = self.budgets.iter().find(|budget| budget.name == row.budget) else {
            return Ok(Some((row, None)));
        };
        let now = self.clock.now();
        let days = BurnDown::days(&row, now);
        let by_thread = budget.scope.keys().chain(&budget.each).any(|label| label == Dimension::Thread.name());
        let rows = self.rows(days, by_thread, &BurnDown::counted(budget, scope))?;
        let burnt = BurnDown::of(budget, &row, rows.iter().flat_map(|rows| rows.iter()), now);
        Ok(Some((row, burnt)))
    }

    /// A page of the audit log.
    ///
    /// # Errors
    /// When an entry is damaged, or not all may be seen.
    pub fn audit(&self, filter: &AuditFilter) -> Result<AuditTable, ApiError> {
        self.sees_all()?;
        let mut page = AuditPage::new(filter.clone());
        self.store.audit_before(filter.before, &mut |entry| page.apply(&entry))?;
        Ok(page.table())
    }

    /// What stands now, but for who waits in line.
    ///
    /// # Errors
    /// When a record is damaged.
    pub(crate) fn gauges(&self) -> Result<Gauges, ApiError> {
        let (runs, holds) = (self.store.open_runs()?, self.store.holds()?);
        let mut headroom: BTreeMap<String, Money> = BTreeMap::new();
        for row in self.budgets_now()?.budgets {
            let left = headroom.entry(row.budget.to_string()).or_insert(row.left_usd);
            *left = row.left_usd.min(*left);
        }
        Ok(Gauges {
            runs: runs.into_iter().collect(),
            holds: u64::try_from(holds.len()).unwrap_or(u64::MAX),
            held: holds.iter().map(|hold| hold.amount).sum(),
            waiting: 0,
            alerts: u64::try_from(self.store.alerts_due(ALERTS_WAITING_MAX)?.len()).unwrap_or(u64::MAX),
            headroom: headroom.into_iter().collect(),
        })
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// Rows of some days, and what of them is seen.
struct SeenRows {
    days: Vec<Rows>,
    only: Vec<(Dimension, String)>,
}

impl SeenRows {
    fn rows(&self) -> impl Iterator<Item = &(RollupKey, Rollup)> {
        self.days.iter().flat_map(|rows| rows.iter()).filter(|(key, _)| is_seen(&self.only, key))
    }
}

fn too_many_rows() -> ApiError {
    let why =
        format!("more than {THREAD_ROWS_MAX} sums of threads are asked for; ask for fewer days, or for some only");
    ApiError::BadRequest(why)
}

/// True for a row that has all of these values.
fn is_seen(only: &[(Dimension, String)], (day, of): &RollupKey) -> bool {
    only.iter().all(|(dimension, value)| dimension.value(*day, of).as_deref() == Some(value.as_str()))
}

fn several(beginning: String, found: &[RunSummary]) -> ApiError {
    let ids: Vec<String> = found.iter().take(CANDIDATES_MAX).map(|run| format!("{} ({})", run.id, run.agent)).collect();
    let more = if found.len() > CANDIDATES_MAX { ", and others" } else { "" };
    ApiError::SeveralRuns { beginning, found: format!("{}{more}", ids.join(", ")) }
}

/// The first id that begins so, and the first behind all that do.
fn range(beginning: &str) -> Option<(RunId, Option<RunId>)> {
    let typed = beginning.len();
    if typed == 0 || typed > ID_CHARS || !beginning.is_ascii() {
        return None;
    }
    let first: RunId = format!("{beginning:0<ID_CHARS$}").parse().ok()?;
    let open_bits = u32::try_from((ID_CHARS - typed) * ID_CHAR_BITS).ok()?;
    let after = 1_u128.checked_shl(open_bits).and_then(|size| first.bits().checked_add(size));
    Some((first, after.map(RunId::from_bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_covers_exactly_the_ids_that_begin_so() {
        let id: RunId = "01KATA0Q5XV3R8K2M4N6P7S9T0".parse().expect("an id");
        for typed in [1, 6, 25, 26] {
            let (first, after) = range(&id.to_string()[..typed]).expect("a range");
            assert!(first <= id && after.is_none_or(|after| id < after), "{typed}");
        }
        let (first, after) = range("01KATA0R").expect("a range");
        assert!(id < first && after.is_some());
        assert_eq!(range(&id.to_string()).expect("a range").1, Some(RunId::from_bits(id.bits() + 1)));
        for bad in ["", "01KATA0Q5XV3R8K2M4N6P7S9T0X", "ü", "!!"] {
            assert!(range(bad).is_none(), "{bad}");
        }
    }
}
