//! Reading: what the writer, the start and the faces ask of a view.
//!
//! Each question is answered from one view, so that it sees one commit whole; long listings take a view for each page.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::domain::audit::AuditEntry;
use crate::domain::event::{AccountKey, AnswerKey, Created, Event, KeptAnswer, Labels, Recorded, RunState, THREAD};
use crate::domain::ledger::{Account, Frozen, Hold, RunMoney, ShadowSums};
use crate::domain::plan::Plan;
use crate::domain::policy::Share;
use crate::domain::rollup::{Day, Rollup, RollupCaches, RollupKey, RollupMore};
use crate::domain::summary::RunSummary;
use crate::ids::{AgentName, PlanHash, RunId};
use crate::store::codec;
use crate::store::engine::{Entry, Order, Reader, SCAN_ENTRIES_MAX, Span, View};
use crate::store::error::StoreError;
use crate::store::keys::{self, Table};
use crate::units::{Money, Timestamp};

/// The most runs that one question gives.
pub const RUNS_MAX: usize = 1_000;
/// The most runs that one question looks at, where whoever asks may be anybody.
pub const LOOKS_MAX: usize = 4_096;
/// Index entries that are looked at under one view.
const PAGE: usize = 256;

/// Which runs to list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this agent.
    pub agent: Option<AgentName>,
    /// In one of these states; empty for any.
    pub states: BTreeSet<RunState>,
    /// With all of these labels.
    pub labels: Labels,
    /// Whose id was drawn at this time or later.
    pub since: Option<Timestamp>,
    /// Whose id was drawn before this time.
    pub until: Option<Timestamp>,
    /// That cost so much or more, the runs below them included.
    pub cost_min: Option<Money>,
    /// That cost so much or less.
    pub cost_max: Option<Money>,
    /// Only runs before this one: the last of the page before.
    pub before: Option<RunId>,
    /// Only roots: no sub-agent's run.
    pub roots: bool,
    /// How many; at most [`RUNS_MAX`], which is also what 0 means.
    pub limit: usize,
}

impl RunFilter {
    /// True for a run that the filter lets through, but for its times.
    #[must_use]
    pub fn admits(&self, run: &RunSummary) -> bool {
        !(self.roots && run.parent.is_some())
            && self.agent.as_ref().is_none_or(|agent| *agent == run.agent)
            && (self.states.is_empty() || self.states.contains(&run.state))
            && self.labels.iter().all(|(name, value)| run.labels.get(name) == Some(value))
            && self.admits_cost(run.settled.plus(run.children.settled))
    }

    fn admits_cost(&self, cost: Money) -> bool {
        self.cost_min.is_none_or(|least| cost >= least) && self.cost_max.is_none_or(|most| cost <= most)
    }

    /// The part of the narrowest index that holds all runs of the filter.
    pub(crate) fn span(&self) -> Span {
        self.span_after(None)
    }

    /// What of that comes behind a run.
    fn span_after(&self, after: Option<RunId>) -> Span {
        let any = RunId::from_bits(0);
        let one_state = (self.states.len() == 1).then(|| self.states.first()).flatten();
        let only_open = !self.states.is_empty() && self.states.iter().all(|state| !state.is_ended());
        // A thread has few runs.
        let label = self.labels.get_key_value(THREAD).or_else(|| self.labels.first_key_value());
        let stem = match (one_state, label, &self.agent) {
            // Few runs are open at a time.
            _ if only_open => keys::money(any),
            (_, Some((name, value)), _) => keys::by_label(name, value, any),
            (_, None, Some(agent)) => keys::by_agent(agent, any),
            (Some(state), None, None) => keys::by_state(*state, any),
            (None, None, None) => keys::summary(any),
        };
        let first_at = |at: Timestamp| RunId::first_in(at.0);
        let until = [self.until.map(first_at), self.before].into_iter().flatten().min();
        let since = self.since.map_or(any, first_at);
        let after = after.map_or(any, |after| RunId::from_bits(after.bits().saturating_add(1)));
        keys::runs_between(&stem, since.max(after), until)
    }

    pub(crate) fn limit(&self) -> usize {
        if self.limit == 0 { RUNS_MAX } else { self.limit.min(RUNS_MAX) }
    }
}

/// Runs, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Those that a filter lets through.
    pub runs: Vec<RunSummary>,
    /// The last run that was looked at where others may follow: what `before` must be to go on.
    pub next: Option<RunId>,
}

/// The runs of a filter, of which `looks_max` are looked at; `live` gives the summary of a run that is open.
pub(crate) fn summaries(
    reader: &dyn Reader,
    filter: &RunFilter,
    looks_max: usize,
    live: &dyn Fn(RunId) -> Option<RunSummary>,
) -> Result<Found, StoreError> {
    let (mut found, mut looks, mut next_page) = (Found::default(), 0, filter.limit().min(PAGE));
    let mut span = filter.span();
    while !span.is_empty() {
        let view = reader.view()?;
        let page = view.scan(&span, Order::Descending, next_page)?;
        let Some((last, _)) = page.last() else { break };
        // Most filters let most runs through; behind one that doesn't, more are looked at at a time.
        next_page = (next_page * 2).min(PAGE);
        span = span.after(last, Order::Descending);
        for (key, _) in &page {
            let run = keys::run_at_end(key).ok_or_else(|| StoreError::damaged(keys::describe(key)))?;
            let summary = live(run).map_or_else(|| stored_summary(&*view, run), |summary| Ok(Some(summary)))?;
            let summary =
                summary.ok_or_else(|| StoreError::damaged(format!("run {run} is indexed, but not stored")))?;
            looks += 1;
            if filter.admits(&summary) {
                found.runs.push(summary);
            }
            if found.runs.len() == filter.limit() || looks == looks_max {
                found.next = Some(run);
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Calls back with the runs of a filter behind one, oldest first and whatever the filter's limit, until told to stop. Gives
/// the last run that was looked at where it was told to stop, or looked at `looks_max`.
pub(crate) fn each_summary<E: From<StoreError>>(
    reader: &dyn Reader,
    filter: &RunFilter,
    after: Option<RunId>,
    looks_max: usize,
    live: &dyn Fn(RunId) -> Option<RunSummary>,
    visit: &mut dyn FnMut(RunSummary) -> Result<ControlFlow<()>, E>,
) -> Result<Option<RunId>, E> {
    let (mut span, mut looks) = (filter.span_after(after), 0);
    while !span.is_empty() {
        let page = page_of_runs(reader, &span)?;
        let Some((last, _)) = page.last() else { break };
        span = span.after(last, Order::Ascending);
        for (_, run) in &page {
            let summary = live(*run).map_or_else(|| indexed(reader, *run), Ok)?;
            looks += 1;
            let flow = if filter.admits(&summary) { visit(summary)? } else { ControlFlow::Continue(()) };
            if flow.is_break() || looks == looks_max {
                return Ok(Some(*run));
            }
        }
    }
    Ok(None)
}

fn indexed(reader: &dyn Reader, run: RunId) -> Result<RunSummary, StoreError> {
    let stored = stored_summary(&*reader.view()?, run)?;
    stored.ok_or_else(|| StoreError::damaged(format!("run {run} is indexed, but not stored")))
}

/// A run's summary as it is stored; folded from the log where it isn't written yet, since the run is open.
pub(crate) fn stored_summary(view: &dyn View, run: RunId) -> Result<Option<RunSummary>, StoreError> {
    let key = keys::summary(run);
    match view.get(&key)? {
        None => Ok(None),
        Some(record) if record.is_empty() => {
            let folded = RunSummary::of(run, &log(view, run)?);
            folded.map(Some).ok_or_else(|| headless(run))
        }
        Some(record) => codec::open_json(&key, &record).map(Some),
    }
}

/// A log that isn't one.
pub(crate) fn headless(run: RunId) -> StoreError {
    StoreError::damaged(format!("the log of run {run} doesn't begin with its creation"))
}

/// The contents of a run's events as they were written, without a gap.
pub(crate) fn contents(view: &dyn View, run: RunId) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut contents = Vec::new();
    each_content(view, run, &mut |_, content| {
        contents.push(content.to_vec());
        Ok(())
    })?;
    Ok(contents)
}

/// What is done with a number and a content.
type Visit<'a> = dyn FnMut(u32, &[u8]) -> Result<(), StoreError> + 'a;

/// Calls back with the content of each of a run's events, as it was written, and its number.
fn each_content(view: &dyn View, run: RunId, visit: &mut Visit<'_>) -> Result<(), StoreError> {
    let (key, mut next) = (keys::pack(run), 0_u32);
    let mut pack = |key: &[u8], record: &[u8], next: &mut u32| {
        for content in codec::open_pack(key, record)? {
            visit(*next, content)?;
            *next = next.saturating_add(1);
        }
        Ok::<_, StoreError>(())
    };
    if let Some(record) = view.get(&key)? {
        pack(&key, &record, &mut next)?;
    }
    for (key, record) in all(view, keys::events(run))? {
        if keys::run_and_number(&key).is_none_or(|(_, first)| first != next) {
            let what = format!("after {next} events of run {run} come {}", keys::describe(&key));
            return Err(StoreError::damaged(what));
        }
        pack(&key, &record, &mut next)?;
    }
    Ok(())
}

/// A run's whole log. Proves that no number is missing.
pub(crate) fn log(view: &dyn View, run: RunId) -> Result<Vec<Recorded>, StoreError> {
    log_from(view, run, 0)
}

/// What of a run's log comes from this number on; no number is missing before it either.
pub(crate) fn log_from(view: &dyn View, run: RunId, first: u32) -> Result<Vec<Recorded>, StoreError> {
    let mut log = Vec::new();
    each_content(view, run, &mut |seq, content| {
        if seq < first {
            return Ok(());
        }
        let key = keys::event(run, seq);
        let recorded: Recorded = codec::read_json(&key, content)?;
        if recorded.seq != seq {
            let why = format!("it says that it is event {}", recorded.seq);
            return Err(StoreError::Record { what: keys::describe(&key), why });
        }
        log.push(recorded);
        Ok(())
    })?;
    Ok(log)
}

/// How a run was created; `None` for one that doesn't exist.
pub(crate) fn created(view: &dyn View, run: RunId) -> Result<Option<Created>, StoreError> {
    for key in [keys::pack(run), keys::event(run, 0)] {
        let Some(record) = view.get(&key)? else { continue };
        let Some(first) = codec::open_pack(&key, &record)?.into_iter().next() else { continue };
        let recorded: Recorded = codec::read_json(&keys::event(run, 0), first)?;
        return Ok(if let Event::Created(created) = recorded.event { Some(created) } else { None });
    }
    Ok(None)
}

pub(crate) fn plan(view: &dyn View, hash: &PlanHash) -> Result<Option<Plan>, StoreError> {
    let key = keys::plan(hash);
    view.get(&key)?.map(|record| codec::open_json(&key, &record)).transpose()
}

/// The bytes of a file, by its hash.
pub(crate) fn file(view: &dyn View, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let key = keys::file(sha256);
    view.get(&key)?.map(|record| codec::open(&key, &record).map(<[u8]>::to_vec)).transpose()
}

/// The files of erased runs that perhaps nobody names any more, each with the run that named it last.
pub(crate) fn unclaimed(view: &dyn View) -> Result<BTreeMap<String, RunId>, StoreError> {
    let entry = |(key, record): (Vec<u8>, Vec<u8>)| {
        let damaged = || StoreError::damaged(keys::describe(&key));
        let run: [u8; 16] = codec::open(&key, &record)?.try_into().map_err(|_| damaged())?;
        let sha256 = key.get(1..).and_then(|text| str::from_utf8(text).ok()).ok_or_else(damaged)?;
        Ok((sha256.to_owned(), RunId::from_bits(u128::from_be_bytes(run))))
    };
    all(view, Table::Unclaimed.span())?.into_iter().map(entry).collect()
}

pub(crate) fn rollup(reader: &dyn Reader, key: &RollupKey) -> Result<Option<Rollup>, StoreError> {
    let place = keys::rollup(key.0, &key.1);
    let Some(record) = reader.view()?.get(&place)? else { return Ok(None) };
    let (found, rollup) = rollup_of(&place, &record)?;
    if found == *key {
        return Ok(Some(rollup));
    }
    Err(StoreError::Record { what: keys::describe(&place), why: "it is of other dimensions".to_owned() })
}

pub(crate) fn rollups(view: &dyn View, from: Day, to: Day) -> Result<Vec<(RollupKey, Rollup)>, StoreError> {
    all(view, keys::rollups(from, to))?.iter().map(|(key, record)| rollup_of(key, record)).collect()
}

/// Calls back with each rollup of some days, until it breaks off. Takes a view for each page: there may be very many.
pub(crate) fn each_rollup(
    reader: &dyn Reader,
    from: Day,
    to: Day,
    visit: &mut dyn FnMut(RollupKey, Rollup) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut span = keys::rollups(from, to);
    while !span.is_empty() {
        let page = reader.view()?.scan(&span, Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        span = span.after(last, Order::Ascending);
        for (key, record) in &page {
            let (of, rollup) = rollup_of(key, record)?;
            if visit(of, rollup).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn rollup_of(key: &[u8], record: &[u8]) -> Result<(RollupKey, Rollup), StoreError> {
    let ((mut of, mut rollup), mut rest): ((RollupKey, Rollup), &[u8]) = codec::begin_compact(key, record)?;
    let thread: Option<Arc<str>> = part(key, &mut rest)?;
    of.1.thread = thread.filter(|thread| !thread.is_empty());
    if let Some(more) = part::<RollupMore>(key, &mut rest)? {
        more.add_to(&mut rollup);
    }
    rollup.caches = part::<Option<RollupCaches>>(key, &mut rest)?.flatten().unwrap_or_default();
    rollup.tightness = part(key, &mut rest)?.unwrap_or_default();
    rollup.worth = part(key, &mut rest)?.unwrap_or_default();
    rollup.failures = part(key, &mut rest)?.unwrap_or_default();
    if rest.is_empty() { Ok((of, rollup)) } else { Err(StoreError::damaged(keys::describe(key))) }
}

/// The next part of a record, where there is one.
fn part<T: DeserializeOwned>(key: &[u8], rest: &mut &[u8]) -> Result<Option<T>, StoreError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (found, behind) = codec::middle_compact(key, rest)?;
    *rest = behind;
    Ok(Some(found))
}

/// The accounts and reservations of every run that is open or holds money.
pub(crate) fn moneys(view: &dyn View) -> Result<Vec<(RunId, RunMoney)>, StoreError> {
    all(view, Table::Money.span())?
        .iter()
        .map(|(key, record)| {
            let run = keys::run_at_end(key).ok_or_else(|| StoreError::damaged(keys::describe(key)))?;
            Ok((run, codec::open_compact(key, record)?))
        })
        .collect()
}

pub(crate) fn holds(view: &dyn View) -> Result<Vec<Hold>, StoreError> {
    Ok(moneys(view)?.into_iter().flat_map(|(_, money)| money.holds).map(|(_, hold)| hold).collect())
}

/// Every budget account of every period.
pub(crate) fn budgets(view: &dyn View) -> Result<Vec<(AccountKey, Account)>, StoreError> {
    records(view, Table::Budget.span())
}

/// What a table of budget accounts holds of the latest period of each budget and scope. Jumps over the earlier ones: there may
/// be years of them.
pub(crate) fn latest<T: DeserializeOwned>(view: &dyn View, table: Table) -> Result<Vec<T>, StoreError> {
    let (mut span, mut found) = (table.span(), Vec::new());
    while let Some((first, _)) = view.scan(&span, Order::Ascending, 1)?.pop() {
        let periods = keys::periods(&first);
        span.from.clone_from(&periods.to);
        let latest = view.scan(&periods, Order::Descending, 1)?.pop();
        let (key, record) = latest.ok_or_else(|| StoreError::damaged(keys::describe(&first)))?;
        found.push(codec::open_compact(&key, &record)?);
    }
    Ok(found)
}

/// Every account of budgets, and those of runs that are open or hold money.
pub(crate) fn accounts(view: &dyn View) -> Result<Vec<(AccountKey, Account)>, StoreError> {
    let mut accounts = budgets(view)?;
    accounts.extend(moneys(view)?.into_iter().flat_map(|(_, money)| money.accounts));
    Ok(accounts)
}

pub(crate) fn frozen(view: &dyn View) -> Result<Vec<Frozen>, StoreError> {
    records(view, Table::Frozen.span())
}

/// Calls back with every entry of the audit log, oldest first. Proves that no number is missing.
pub(crate) fn each_audit(view: &dyn View, visit: &mut dyn FnMut(AuditEntry)) -> Result<(), StoreError> {
    audit_from(view, 0, visit)
}

/// The same from one entry on.
pub(crate) fn audit_from(view: &dyn View, mut next: u64, visit: &mut dyn FnMut(AuditEntry)) -> Result<(), StoreError> {
    let mut span = Span { from: keys::audit(next), ..Table::Audit.span() };
    while !span.is_empty() {
        let page = view.scan(&span, Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        span = span.after(last, Order::Ascending);
        for (key, record) in &page {
            let entry: AuditEntry = codec::open_json(key, record)?;
            if keys::last_number(key) != Some(next) || entry.number != next {
                return Err(StoreError::damaged(format!("{} follows {next} entries", keys::describe(key))));
            }
            next += 1;
            visit(entry);
        }
    }
    Ok(())
}

/// Calls back with the entries of the audit log before a number, newest first, until told to stop.
pub(crate) fn audit_before(
    view: &dyn View,
    before: Option<u64>,
    visit: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let whole = Table::Audit.span();
    let mut span = Span { to: before.map_or(whole.to, keys::audit), ..whole };
    while !span.is_empty() {
        let page = view.scan(&span, Order::Descending, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        span = span.after(last, Order::Descending);
        for (key, record) in &page {
            if visit(codec::open_json(key, record)?).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The number of the audit log's next entry.
pub(crate) fn audit_next(view: &dyn View) -> Result<u64, StoreError> {
    let Some((key, _)) = view.scan(&Table::Audit.span(), Order::Descending, 1)?.pop() else { return Ok(0) };
    let last = keys::last_number(&key).and_then(|last| last.checked_add(1));
    last.ok_or_else(|| StoreError::damaged(keys::describe(&key)))
}

/// A budget account, in one of its periods.
pub(crate) fn budget(view: &dyn View, account: &AccountKey) -> Result<Option<Account>, StoreError> {
    of_account(view, Table::Budget, account)
}

/// What a budget that only watches would have refused on an account.
pub(crate) fn shadow(view: &dyn View, account: &AccountKey) -> Result<Option<ShadowSums>, StoreError> {
    of_account(view, Table::Shadow, account)
}

/// The thresholds of an account that people were told of.
pub(crate) fn told(view: &dyn View, account: &AccountKey) -> Result<Option<Vec<Share>>, StoreError> {
    of_account(view, Table::Told, account)
}

/// What a table of budget accounts holds of one.
fn of_account<T: DeserializeOwned>(
    view: &dyn View,
    table: Table,
    account: &AccountKey,
) -> Result<Option<T>, StoreError> {
    let Some(key) = keys::account(table, account) else { return Ok(None) };
    let Some(record) = view.get(&key)? else { return Ok(None) };
    let (found, value): (AccountKey, T) = codec::open_compact(&key, &record)?;
    if found == *account {
        return Ok(Some(value));
    }
    Err(StoreError::Record { what: keys::describe(&key), why: format!("it is of {found}") })
}

/// An answer that is kept.
pub(crate) fn answer(view: &dyn View, key: &AnswerKey) -> Result<Option<KeptAnswer>, StoreError> {
    let place = keys::answer(key);
    view.get(&place)?.map(|record| codec::open_json(&place, &record)).transpose()
}

/// The run that last took a caller's key.
pub(crate) fn run_by_key(view: &dyn View, agent: &AgentName, caller: &str) -> Result<Option<RunId>, StoreError> {
    let Some(run) = view.get(&keys::by_key(agent, caller))? else { return Ok(None) };
    Ok(keys::run_at_end(&run))
}

/// Every record in a span, in postcard.
pub(crate) fn records<T: DeserializeOwned>(view: &dyn View, span: Span) -> Result<Vec<T>, StoreError> {
    all(view, span)?.iter().map(|(key, record)| codec::open_compact(key, record)).collect()
}

/// Every entry of a span.
pub(crate) fn all(view: &dyn View, mut span: Span) -> Result<Vec<Entry>, StoreError> {
    let mut entries: Vec<Entry> = Vec::new();
    while !span.is_empty() {
        let page = view.scan(&span, Order::Ascending, SCAN_ENTRIES_MAX)?;
        let Some((last, _)) = page.last() else { break };
        let full = page.len() == SCAN_ENTRIES_MAX;
        span = span.after(last, Order::Ascending);
        entries.extend(page);
        if !full {
            break;
        }
    }
    Ok(entries)
}

/// The runs of a table or of a part of an index, oldest first, from one on; one page.
pub(crate) fn page_of_runs(reader: &dyn Reader, span: &Span) -> Result<Vec<(Vec<u8>, RunId)>, StoreError> {
    let page = reader.view()?.scan(span, Order::Ascending, PAGE)?;
    page.into_iter()
        .map(|(key, _)| {
            let run = keys::run_at_end(&key).ok_or_else(|| StoreError::damaged(keys::describe(&key)))?;
            Ok((key, run))
        })
        .collect()
}

/// Calls back with every stored run, oldest first.
pub(crate) fn each_run(
    reader: &dyn Reader,
    mut span: Span,
    visit: &mut dyn FnMut(RunId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    while !span.is_empty() {
        let page = page_of_runs(reader, &span)?;
        let Some((last, _)) = page.last() else { break };
        span = span.after(last, Order::Ascending);
        for (_, run) in &page {
            visit(*run)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::ledger::{LedgerPolicy, Op};
    use crate::domain::report::fixture;
    use crate::store::Store;
    use crate::store::engine::{Batch, Engine as _};
    use crate::store::memory::MemoryDisk;

    /// Between a commit and the moment at which readers are told of it.
    #[tokio::test]
    async fn the_summary_of_an_open_run_is_folded_where_nobody_has_it_in_memory() {
        let disk = MemoryDisk::default();
        let store = Store::open_memory(&disk, LedgerPolicy::default(), Clock::system()).expect("it opens");
        let (run, created) = (fixture::run_id(), fixture::eventful().remove(0).event);
        let op = Op { run, events: vec![(run, created)], asks: vec![], plan: None };
        store.submit(op).await.expect("it is written");
        let reader = disk.open().reader();
        let stored = stored_summary(&*reader.view().expect("a view"), run).expect("it reads");
        assert!(stored.is_some());
        assert_eq!(stored, store.summary(run).expect("it reads"));
    }

    /// Earlier versions packed all events of a run that ended under a key of their own.
    #[tokio::test]
    async fn how_a_run_was_created_is_read_from_either_of_its_places() {
        let disk = MemoryDisk::default();
        let store = Store::open_memory(&disk, LedgerPolicy::default(), Clock::system()).expect("it opens");
        let (run, event) = (fixture::run_id(), fixture::eventful().remove(0).event);
        let op = Op { run, events: vec![(run, event.clone())], asks: vec![], plan: None };
        store.submit(op).await.expect("it is written");
        let read =
            || created(&*disk.open().reader().view().expect("a view"), run).expect("it reads").map(Event::Created);
        assert_eq!(read(), Some(event.clone()));
        let packed = contents(&*disk.open().reader().view().expect("a view"), run).expect("it reads");
        let (place, mut batch) = (keys::pack(run), Batch::default());
        let record = codec::seal_pack(&place, packed.iter().map(Vec::as_slice)).expect("it is sealed");
        batch.put(place, record);
        batch.delete(keys::event(run, 0));
        disk.open().commit(batch).expect("it commits");
        assert_eq!(read(), Some(event));
    }
}
