//! The audit: every event is folded again, and what is stored must come out, to the last pico-dollar.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::audit::Freezes;
use crate::domain::event::{AccountKey, Call, CostSource, Event, Purpose, Recorded, Reserved};
use crate::domain::ledger::Account;
use crate::domain::rollup::{self, Day, Dimensions, Rollup, RollupKey};
use crate::domain::summary::RunSummary;
use crate::ids::{PriceId, ReservationId, RunId};
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
    done: Verified,
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

impl Audit {
    fn run(
        &mut self,
        reader: &dyn Reader,
        run: RunId,
        live: &dyn Fn(RunId) -> Option<RunSummary>,
    ) -> Result<(), StoreError> {
        let view = reader.view()?;
        let (log, _) = read::log(&*view, run)?;
        let folded = self.fold(run, &log)?;
        let stored = live(run).map_or_else(|| read::stored_summary(&*view, run), |live| Ok(Some(live)))?;
        if stored.as_ref() != Some(&folded) {
            return Err(StoreError::damaged(format!("the summary of run {run} isn't what its events say")));
        }
        for key in [keys::by_state(folded.state, run), keys::by_agent(&folded.agent, run)] {
            if view.get(&key)?.is_none() {
                return Err(StoreError::damaged(format!("run {run} is missing in {}", keys::describe(&key))));
            }
        }
        let path = Paths::of(&*view, &folded)?;
        self.book(&log, path);
        self.done.runs += 1;
        self.done.events += u64::from(folded.events);
        self.done.settled = self.done.settled.plus(folded.settled);
        Ok(())
    }

    fn fold(&mut self, run: RunId, log: &[Recorded]) -> Result<RunSummary, StoreError> {
        let Some((Recorded { at, event: Event::Created(created), .. }, rest)) = log.split_first() else {
            return Err(StoreError::damaged(format!("the log of run {run} doesn't begin with its creation")));
        };
        let mut summary = RunSummary::start(run, *at, created);
        let dimensions = Dimensions::of(created);
        for recorded in rest {
            let rollups = &mut self.rollups;
            rollup::fold::<StoreError>(&summary, &dimensions, recorded.at, &recorded.event, &mut |key, change| {
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
                        let path = paths.path();
                        open.insert(reserve.reservation, Open { amount: reserve.amount, path });
                    }
                }
                Event::Reserved(reserved) => reserve(&mut open, &mut landing, reserved, paths.path()),
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
                | Event::WaitBegan(_)
                | Event::WaitEnded(_)
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
                | Event::PeriodMoved(_) => {}
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

    /// Stored accounts of budgets and open runs, but for caps. Those of stages and closed runs aren't compared: the
    /// events don't name the former, and the store doesn't keep the latter.
    fn compare_accounts(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        let stored = read::accounts(&*reader.view()?)?;
        let mut left = std::mem::take(&mut self.accounts);
        for (key, account) in stored {
            if matches!(&key, AccountKey::Node { stage: Some(_), .. }) {
                continue;
            }
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

/// Places a reservation, and what came of the landing reserve: gone, raised where it stands, or moved to a new period.
fn reserve(
    open: &mut BTreeMap<ReservationId, Open>,
    landing: &mut Option<ReservationId>,
    reserved: &Reserved,
    path: Vec<AccountKey>,
) {
    let kept = landing.and_then(|id| open.remove(&id));
    let lands = matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing);
    let path = match &kept {
        Some(kept) if lands => kept.path.clone(),
        _ => path,
    };
    if reserved.landing.is_zero() {
        *landing = None;
    } else if let (Some(id), Some(kept)) = (*landing, kept) {
        let path = if reserved.budgets.is_some() { path.clone() } else { kept.path };
        open.insert(id, Open { amount: reserved.landing, path });
    }
    open.insert(reserved.reservation, Open { amount: reserved.amount, path });
}

/// The accounts above a run: its ancestors, and its root's budgets as they changed.
struct Paths {
    nodes: Vec<AccountKey>,
    budgets: Vec<AccountKey>,
    /// The changes of the root's budgets, for a child: its own log doesn't tell of them.
    of_root: Option<Vec<Recorded>>,
}

impl Paths {
    fn of(view: &dyn View, run: &RunSummary) -> Result<Self, StoreError> {
        let mut nodes = vec![AccountKey::Node { run: run.id, stage: None }];
        let mut parent = run.parent.clone();
        while let Some(above) = parent {
            nodes.push(AccountKey::Node { run: above.run, stage: None });
            parent = read::stored_summary(view, above.run)?.and_then(|summary| summary.parent);
        }
        let root = run.root();
        let of_root = if root == run.id { None } else { Some(read::log(view, root)?.0) };
        Ok(Self { nodes, budgets: Vec::new(), of_root })
    }

    /// Goes on to a fact of the run's own log.
    fn advance(&mut self, at: Timestamp, event: &Event) {
        let changed = match &self.of_root {
            None => budgets(event),
            Some(log) => {
                log.iter().rev().filter(|recorded| recorded.at <= at).find_map(|recorded| budgets(&recorded.event))
            }
        };
        if let Some(changed) = changed {
            self.budgets = changed.to_vec();
        }
    }

    /// The path of what is reserved now.
    fn path(&self) -> Vec<AccountKey> {
        self.nodes.iter().chain(&self.budgets).cloned().collect()
    }
}

/// The budget accounts, where a fact changes them.
fn budgets(event: &Event) -> Option<&[AccountKey]> {
    match event {
        Event::Admitted(admitted) => Some(&admitted.budgets),
        Event::Reserved(reserved) => reserved.budgets.as_deref(),
        Event::Created(_)
        | Event::Settled(_)
        | Event::Voided(_)
        | Event::CallRefused(_)
        | Event::WaitBegan(_)
        | Event::WaitEnded(_)
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
        | Event::PeriodMoved(_)
        | Event::Ended(_) => None,
    }
}
