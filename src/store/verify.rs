//! The audit: every event is folded again, and what is stored must come out, to the last pico-dollar.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::audit::Freezes;
use crate::domain::event::{
    AccountKey, Call, ChildEnded, CostSource, Created, Ended, Event, Parent, Purpose, Recorded, Reserved,
};
use crate::domain::ledger::Account;
use crate::domain::rollup::{self, Counted, Day, Rollup, RollupKey};
use crate::domain::summary::RunSummary;
use crate::ids::{PriceId, ReservationId, RunId, StageName};
use crate::store::engine::{Reader, View};
use crate::store::error::StoreError;
use crate::store::keys::{self, Table};
use crate::store::read;
use crate::units::{Money, Timestamp};

/// What an audit went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Runs.
    pub runs: u64,
    /// Events.
    pub events: u64,
    /// Budget accounts, and accounts of open runs.
    pub accounts: u64,
    /// Rollup rows.
    pub rollups: u64,
    /// Settled by all runs.
    pub settled: Money,
}

/// Sums as the events give them; caps are none of the events' business.
#[derive(Default)]
struct Audit {
    accounts: BTreeMap<AccountKey, Account>,
    rollups: BTreeMap<RollupKey, Rollup>,
    /// Ends of children that one log tells of, and the other one not yet.
    ends: BTreeMap<RunId, End>,
    /// Numbers that facts have in the order of their trees.
    orders: BTreeMap<RunId, Vec<u32>>,
    kin: Option<Kin>,
    done: Verified,
}

/// The end of a child, as one of the two logs has it that must.
#[derive(Clone, Debug, PartialEq)]
struct End {
    at: Timestamp,
    ended: Ended,
    /// True where the parent's log says so.
    by_parent: bool,
}

/// A reservation that is open at some point of the fold.
struct Open {
    amount: Money,
    path: Vec<AccountKey>,
}

/// Folds everything and compares.
pub(crate) fn verify(reader: &dyn Reader, live: &dyn Fn(RunId) -> Option<RunSummary>) -> Result<Verified, StoreError> {
    let mut audit = Audit::default();
    read::each_run(reader, Table::Summary.span(), &mut |run| audit.run(reader, run, live))?;
    audit.compare_ends()?;
    audit.compare_orders()?;
    audit.compare_rollups(reader)?;
    audit.compare_accounts(reader)?;
    compare_freezes(reader)?;
    Ok(audit.done)
}

/// A row that the audit log says is frozen is frozen.
fn compare_freezes(reader: &dyn Reader) -> Result<(), StoreError> {
    let view = reader.view()?;
    let mut freezes = Freezes::default();
    read::each_audit(&*view, &mut |entry| freezes.apply(&entry))?;
    let stored: BTreeSet<PriceId> = read::frozen(&*view)?.into_iter().map(|frozen| frozen.price).collect();
    freezes.prices().find(|price| !stored.contains(*price)).map_or(Ok(()), |price| {
        Err(StoreError::damaged(format!("the audit log says that {price} is frozen, and it isn't")))
    })
}

/// What a run was given is kept with it.
fn has_files(view: &dyn View, run: RunId, log: &[Recorded]) -> Result<(), StoreError> {
    let files = log.first().and_then(|first| created(&first.event)).map_or(&[][..], |created| &created.files);
    for file in files {
        if read::file(view, file.sha256())?.and_then(|bytes| file.with_data(&bytes)).is_none() {
            let why = format!("file `{}` of run {run} is missing, or another than it was given", file.name());
            return Err(StoreError::damaged(why));
        }
    }
    Ok(())
}

impl Audit {
    fn run(
        &mut self,
        reader: &dyn Reader,
        run: RunId,
        live: &dyn Fn(RunId) -> Option<RunSummary>,
    ) -> Result<(), StoreError> {
        let view = reader.view()?;
        let log = read::log(&*view, run)?;
        let folded = self.fold(run, &log)?;
        let stored = live(run).map_or_else(|| read::stored_summary(&*view, run), |live| Ok(Some(live)))?;
        if stored.as_ref() != Some(&folded) {
            return Err(StoreError::damaged(format!("the summary of run {run} isn't what its events say")));
        }
        let listed = if folded.state.is_ended() { keys::by_state(folded.state, run) } else { keys::money(run) };
        for key in [listed, keys::by_agent(&folded.agent, run)] {
            if view.get(&key)?.is_none() {
                return Err(StoreError::damaged(format!("run {run} is missing in {}", keys::describe(&key))));
            }
        }
        let own = log.first().and_then(|first| created(&first.event)).map(Link::of);
        if let Some(own) = own {
            let paths = Paths::of(&*view, &mut self.kin, &folded, own)?;
            self.book(&log, paths);
        }
        self.pair_ends(&folded, &log)?;
        self.place_in_tree(&folded, &log)?;
        has_files(&*view, run, &log)?;
        orphaned(&*view, &folded, live)?;
        self.done.runs += 1;
        self.done.events += u64::from(folded.events);
        self.done.settled = self.done.settled.plus(folded.settled);
        Ok(())
    }

    /// A child's end is in its own log and in its parent's, by one write (DURABILITY's invariant 16).
    fn pair_ends(&mut self, run: &RunSummary, log: &[Recorded]) -> Result<(), StoreError> {
        for Recorded { at, event, .. } in log {
            match event {
                Event::ChildEnded(ChildEnded { child, end, .. }) => {
                    self.pair(*child, End { at: *at, ended: end.clone(), by_parent: true })?;
                }
                Event::Ended(ended) if run.parent.is_some() => {
                    self.pair(run.id, End { at: *at, ended: ended.clone(), by_parent: false })?;
                }
                Event::Ended(_)
                | Event::Created(_)
                | Event::Admitted(_)
                | Event::Reserved(_)
                | Event::Settled(_)
                | Event::Voided(_)
                | Event::CallRefused(_)
                | Event::Downgraded(_)
                | Event::WaitBegan(_)
                | Event::WaitEnded(_)
                | Event::RateWaitBegan(_)
                | Event::RateWaitEnded(_)
                | Event::LandingBegan(_)
                | Event::LandingReleased(_)
                | Event::CancelRequested(_)
                | Event::Interrupted(_)
                | Event::PersonAsked(_)
                | Event::InFlightResolved(_)
                | Event::PersonAnswered(_)
                | Event::Parked(_)
                | Event::MapBegan(_)
                | Event::StageEnded(_)
                | Event::ChildBegan(_)
                | Event::PeriodMoved(_)
                | Event::OutcomeRecorded(_) => {}
            }
        }
        Ok(())
    }

    fn pair(&mut self, child: RunId, end: End) -> Result<(), StoreError> {
        let Some(other) = self.ends.remove(&child) else {
            self.ends.insert(child, end);
            return Ok(());
        };
        if other.by_parent == end.by_parent {
            return Err(StoreError::damaged(format!("run {child} ended twice")));
        }
        if (other.at, &other.ended.state) != (end.at, &end.ended.state) {
            let why = format!("run {child} ended otherwise in its own log than in its parent's");
            return Err(StoreError::damaged(why));
        }
        Ok(())
    }

    /// A run's facts rise in the order of its tree. Where that is their own order, there is nothing to hold against others.
    fn place_in_tree(&mut self, run: &RunSummary, log: &[Recorded]) -> Result<(), StoreError> {
        if log.iter().all(|recorded| recorded.order.is_none()) {
            return Ok(());
        }
        if !log.is_sorted_by(|a, b| a.place_in_tree() < b.place_in_tree()) {
            return Err(StoreError::damaged(format!(
                "the facts of run {} don't rise in the order of its tree",
                run.id
            )));
        }
        self.orders.entry(run.root()).or_default().extend(log.iter().filter_map(|recorded| recorded.order));
        Ok(())
    }

    /// No two facts of a tree have the same place.
    fn compare_orders(&mut self) -> Result<(), StoreError> {
        for (root, orders) in &mut self.orders {
            orders.sort_unstable();
            if let Some(twice) = orders.windows(2).find(|pair| pair[0] == pair[1]) {
                let why = format!("two facts of the tree of run {root} have the place {}", twice[0]);
                return Err(StoreError::damaged(why));
            }
        }
        Ok(())
    }

    fn compare_ends(&self) -> Result<(), StoreError> {
        let Some((child, end)) = self.ends.first_key_value() else { return Ok(()) };
        let (said, silent) = if end.by_parent { ("its parent's", "its own") } else { ("its own", "its parent's") };
        Err(StoreError::damaged(format!("run {child} has ended by {said} log, and {silent} doesn't say so")))
    }

    fn fold(&mut self, run: RunId, log: &[Recorded]) -> Result<RunSummary, StoreError> {
        let Some((Recorded { at, event: Event::Created(created), .. }, rest)) = log.split_first() else {
            return Err(StoreError::damaged(format!("the log of run {run} doesn't begin with its creation")));
        };
        let mut summary = RunSummary::start(run, *at, created);
        let counted = Counted::of(created);
        for recorded in rest {
            let rollups = &mut self.rollups;
            rollup::fold::<StoreError>(&summary, &counted, recorded.at, &recorded.event, &mut |key, change| {
                change(rollups.entry(key).or_default());
                Ok(())
            })?;
            summary.apply(recorded.at, &recorded.event);
        }
        Ok(summary)
    }

    /// Books a run's reservations on the accounts of their paths.
    fn book(&mut self, log: &[Recorded], mut paths: Paths) {
        let mut open: BTreeMap<ReservationId, Open> = BTreeMap::new();
        let mut landing: Option<ReservationId> = None;
        for Recorded { at, event, .. } in log {
            paths.advance(*at, event);
            match event {
                Event::Admitted(admitted) => {
                    if let Some(reserve) = &admitted.landing {
                        landing = Some(reserve.reservation);
                        let path = paths.whole();
                        open.insert(reserve.reservation, Open { amount: reserve.amount, path });
                    }
                }
                Event::Reserved(reserved) => reserve(&mut open, &mut landing, reserved, &paths),
                // The landing reserve goes with its tree to the accounts of a new period.
                Event::PeriodMoved(_) => {
                    if let Some(kept) = landing.and_then(|id| open.get_mut(&id)) {
                        kept.path = paths.whole();
                    }
                }
                Event::Settled(settled) => {
                    if let Some(reservation) = open.remove(&settled.reservation) {
                        self.settle(&reservation.path, settled.bill, settled.source);
                    }
                }
                Event::Voided(voided) => drop(open.remove(&voided.reservation)),
                Event::LandingReleased(released) => drop(open.remove(&released.reservation)),
                // Both give the landing reserve back without a fact of its own.
                Event::Ended(_) | Event::Interrupted(_) => drop(landing.take().and_then(|id| open.remove(&id))),
                Event::Created(_)
                | Event::CallRefused(_)
                | Event::Downgraded(_)
                | Event::WaitBegan(_)
                | Event::WaitEnded(_)
                | Event::RateWaitBegan(_)
                | Event::RateWaitEnded(_)
                | Event::LandingBegan(_)
                | Event::CancelRequested(_)
                | Event::PersonAsked(_)
                | Event::InFlightResolved(_)
                | Event::PersonAnswered(_)
                | Event::Parked(_)
                | Event::MapBegan(_)
                | Event::StageEnded(_)
                | Event::ChildBegan(_)
                | Event::ChildEnded(_)
                | Event::OutcomeRecorded(_) => {}
            }
        }
        for reservation in open.into_values() {
            for key in reservation.path {
                let account = self.accounts.entry(key).or_default();
                account.held = account.held.plus(reservation.amount);
            }
        }
    }

    fn settle(&mut self, path: &[AccountKey], bill: Money, source: CostSource) {
        for key in path {
            let account = self.accounts.entry(key.clone()).or_default();
            account.settled = account.settled.plus(bill);
            if source == CostSource::Unknown {
                account.unknown = account.unknown.plus(bill);
            }
        }
    }

    fn compare_rollups(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        let stored = read::rollups(&*reader.view()?, Day(0), Day(u32::MAX))?;
        self.done.rollups = u64::try_from(stored.len()).unwrap_or(u64::MAX);
        let stored: BTreeMap<RollupKey, Rollup> = stored.into_iter().collect();
        if stored == self.rollups {
            return Ok(());
        }
        let differs = |key: &&RollupKey| stored.get(*key) != self.rollups.get(*key);
        let first = stored.keys().chain(self.rollups.keys()).find(differs);
        Err(StoreError::damaged(format!("the rollup {first:?} isn't what the events say")))
    }

    /// Stored accounts of budgets and of open runs and their stages, but for caps. Those of closed runs aren't kept.
    fn compare_accounts(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        let stored = read::accounts(&*reader.view()?)?;
        let mut left = std::mem::take(&mut self.accounts);
        for (key, account) in stored {
            let folded = left.remove(&key).unwrap_or_default();
            if (folded.settled, folded.unknown, folded.held) != (account.settled, account.unknown, account.held) {
                let why = format!("{key} says {account:?}, and the events say {folded:?}");
                return Err(StoreError::damaged(why));
            }
            self.done.accounts += 1;
        }
        let lost = left.iter().find(|(key, _)| matches!(key, AccountKey::Budget { .. }));
        lost.map_or(Ok(()), |(key, account)| {
            Err(StoreError::damaged(format!("{key} isn't stored, and the events say {account:?}")))
        })
    }
}

/// A child that is open hangs below a run that is.
fn orphaned(view: &dyn View, run: &RunSummary, live: &dyn Fn(RunId) -> Option<RunSummary>) -> Result<(), StoreError> {
    let Some(parent) = run.parent.as_ref().filter(|_| !run.state.is_ended()) else { return Ok(()) };
    let above = live(parent.run).map_or_else(|| read::stored_summary(view, parent.run), |live| Ok(Some(live)))?;
    if above.is_some_and(|above| !above.state.is_ended()) {
        return Ok(());
    }
    Err(StoreError::damaged(format!("run {} is open, and the run {} above it has ended", run.id, parent.run)))
}

fn created(event: &Event) -> Option<&Created> {
    if let Event::Created(created) = event { Some(created) } else { None }
}

/// Places a reservation, and what came of the landing reserve: gone, raised where it stands, or moved to a new period.
fn reserve(
    open: &mut BTreeMap<ReservationId, Open>,
    landing: &mut Option<ReservationId>,
    reserved: &Reserved,
    paths: &Paths,
) {
    let kept = landing.and_then(|id| open.remove(&id));
    let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
    let path = match &kept {
        Some(kept) if lands => kept.path.clone(),
        None if lands => paths.whole(),
        Some(_) | None => paths.of_stage(&reserved.step.stage),
    };
    if reserved.landing.is_zero() {
        *landing = None;
    } else if let (Some(id), Some(kept)) = (*landing, kept) {
        let path = if reserved.budgets.is_some() { paths.whole() } else { kept.path };
        open.insert(id, Open { amount: reserved.landing, path });
    }
    open.insert(reserved.reservation, Open { amount: reserved.amount, path });
}

/// What a tree's runs have in common, kept while its runs come one after another.
struct Kin {
    root: RunId,
    /// The changes of the root's budgets.
    moves: Vec<(Timestamp, Vec<AccountKey>)>,
    creations: BTreeMap<RunId, Link>,
}

/// Where a run hangs, and its stages with accounts of their own.
#[derive(Clone)]
struct Link {
    parent: Option<Parent>,
    capped: BTreeSet<StageName>,
}

impl Link {
    fn of(created: &Created) -> Self {
        Self { parent: created.parent.clone(), capped: created.stage_caps.keys().cloned().collect() }
    }

    /// The account of a stage, where it has one.
    fn account(&self, run: RunId, stage: &StageName) -> Option<AccountKey> {
        self.capped.contains(stage).then(|| AccountKey::Node { run, stage: Some(stage.clone()) })
    }
}

impl Kin {
    fn of(view: &dyn View, root: RunId) -> Result<Self, StoreError> {
        let log = read::log(view, root)?;
        let moves = log.iter().filter_map(|recorded| Some((recorded.at, budgets(&recorded.event)?.to_vec())));
        Ok(Self { root, moves: moves.collect(), creations: BTreeMap::new() })
    }

    fn link(&mut self, view: &dyn View, run: RunId) -> Result<Link, StoreError> {
        if let Some(link) = self.creations.get(&run) {
            return Ok(link.clone());
        }
        let link = read::created(view, run)?.map(|created| Link::of(&created));
        let link = link.ok_or_else(|| StoreError::damaged(format!("run {run} has runs below it, and no log")))?;
        self.creations.insert(run, link.clone());
        Ok(link)
    }
}

/// The accounts above a run: its ancestors, their stages that called, and its root's budgets as they changed.
struct Paths {
    run: RunId,
    own: Link,
    above: Vec<AccountKey>,
    budgets: Vec<AccountKey>,
    /// The changes of the root's budgets, for a child: its own log doesn't tell of them.
    moves: Option<Vec<(Timestamp, Vec<AccountKey>)>>,
}

impl Paths {
    fn of(view: &dyn View, kin: &mut Option<Kin>, run: &RunSummary, own: Link) -> Result<Self, StoreError> {
        let mut paths = Self { run: run.id, own, above: Vec::new(), budgets: Vec::new(), moves: None };
        let mut parent = paths.own.parent.clone();
        if parent.is_none() {
            return Ok(paths);
        }
        let mut known = match kin.take().filter(|known| known.root == run.root()) {
            Some(known) => known,
            None => Kin::of(view, run.root())?,
        };
        while let Some(above) = parent {
            let link = known.link(view, above.run)?;
            paths.above.extend(link.account(above.run, &above.stage));
            paths.above.push(AccountKey::Node { run: above.run, stage: None });
            parent = link.parent;
        }
        paths.moves = Some(known.moves.clone());
        *kin = Some(known);
        Ok(paths)
    }

    /// Goes on to a fact of the run's own log.
    fn advance(&mut self, at: Timestamp, event: &Event) {
        let changed = match &self.moves {
            None => budgets(event),
            Some(moves) => moves.iter().rev().find(|(moved, _)| *moved <= at).map(|(_, budgets)| budgets.as_slice()),
        };
        if let Some(changed) = changed.filter(|changed| *changed != self.budgets) {
            self.budgets = changed.to_vec();
        }
    }

    /// The path of what the whole run holds now.
    fn whole(&self) -> Vec<AccountKey> {
        let own = AccountKey::Node { run: self.run, stage: None };
        std::iter::once(own).chain(self.above.iter().chain(&self.budgets).cloned()).collect()
    }

    /// The path of an attempt of a stage.
    fn of_stage(&self, stage: &StageName) -> Vec<AccountKey> {
        self.own.account(self.run, stage).into_iter().chain(self.whole()).collect()
    }
}

/// The budget accounts, where a fact changes them.
fn budgets(event: &Event) -> Option<&[AccountKey]> {
    match event {
        Event::Admitted(admitted) => Some(&admitted.budgets),
        Event::Reserved(reserved) => reserved.budgets.as_deref(),
        Event::PeriodMoved(moved) => Some(&moved.budgets),
        Event::Created(_)
        | Event::Settled(_)
        | Event::Voided(_)
        | Event::CallRefused(_)
        | Event::Downgraded(_)
        | Event::WaitBegan(_)
        | Event::WaitEnded(_)
        | Event::RateWaitBegan(_)
        | Event::RateWaitEnded(_)
        | Event::LandingBegan(_)
        | Event::LandingReleased(_)
        | Event::CancelRequested(_)
        | Event::Interrupted(_)
        | Event::PersonAsked(_)
        | Event::InFlightResolved(_)
        | Event::PersonAnswered(_)
        | Event::Parked(_)
        | Event::MapBegan(_)
        | Event::StageEnded(_)
        | Event::ChildBegan(_)
        | Event::ChildEnded(_)
        | Event::OutcomeRecorded(_)
        | Event::Ended(_) => None,
    }
}
