//! The start: what the ledger is restored from, and the proof that it fits together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::budget::Budget;
use crate::domain::event::AccountKey;
use crate::domain::ledger::{Account, Hold, Snapshot};
use crate::domain::policy::Share;
use crate::domain::report::replay;
use crate::domain::run::Run;
use crate::ids::{BudgetName, RunId};
use crate::store::books::OpenRun;
use crate::store::engine::{Reader, View};
use crate::store::error::StoreError;
use crate::store::keys::Table;
use crate::store::read;
use crate::units::{Money, Timestamp};

/// Reads what is open, and the accounts of these budgets that are in force at a time.
///
/// # Errors
/// When a record is damaged, a number of a log is missing, or an account doesn't hold what its reservations say.
pub(crate) fn load(
    reader: &dyn Reader,
    budgets: &[Budget],
    now: Timestamp,
) -> Result<(Snapshot, BTreeMap<RunId, Box<OpenRun>>), StoreError> {
    let view = reader.view()?;
    let (mut snapshot, mut open, mut accounts) = (Snapshot::default(), BTreeMap::new(), BTreeMap::new());
    for (run, money) in read::moneys(&*view)? {
        let log = read::log(&*view, run)?;
        let mut folded = Box::new(OpenRun::from_log(run, &log)?);
        folded.holds_money = !money.holds.is_empty();
        // One that has ended did so while an attempt of its own was open.
        if !folded.summary().state.is_ended() {
            snapshot.open_runs.push((run, log));
        }
        open.insert(run, folded);
        accounts.extend(money.accounts);
        snapshot.holds.extend(money.holds.into_iter().map(|(_, hold)| hold));
    }
    let latest: Vec<(AccountKey, Account)> = read::latest(&*view, Table::Budget)?;
    snapshot.starts = latest.iter().filter_map(|(key, _)| start_of(key)).collect();
    accounts.extend(latest);
    let in_force = in_force(&snapshot, budgets, now);
    fetch_in_force(&*view, &in_force, &mut accounts)?;
    fetch_held(&*view, &snapshot.holds, &mut accounts)?;
    check_held(&accounts, &snapshot.holds)?;
    snapshot.told = told(&*view, &snapshot.holds, &in_force)?;
    snapshot.accounts = accounts.into_iter().collect();
    snapshot.frozen = read::frozen(&*view)?;
    read::each_audit(&*view, &mut |entry| {
        snapshot.switches.apply(&entry);
        snapshot.exceptions.apply(&entry);
    })?;
    snapshot.rings = read::records(&*view, Table::Ring.span())?;
    Ok((snapshot, open))
}

/// The root runs that wait for a person; what a tree's children ask is gone on with at its root. One without its plan is left out: nobody can say how long it may wait.
///
/// # Errors
/// When a record is damaged.
pub(crate) fn waiting(
    reader: &dyn Reader,
    snapshot: &Snapshot,
    open: &BTreeMap<RunId, Box<OpenRun>>,
) -> Result<Vec<Run>, StoreError> {
    let view = reader.view()?;
    let mut waiting = Vec::new();
    for (run, log) in &snapshot.open_runs {
        let summary = open
            .get(run)
            .map(|open| open.summary())
            .filter(|summary| summary.state.awaits_person() && summary.parent.is_none());
        let Some(summary) = summary else { continue };
        let Some(plan) = read::plan(&*view, &summary.plan)? else { continue };
        waiting.extend(replay(*run, Arc::new(plan), log));
    }
    Ok(waiting)
}

fn start_of(account: &AccountKey) -> Option<((BudgetName, String), Timestamp)> {
    match account {
        AccountKey::Budget { budget, scope, start, .. } => Some(((budget.clone(), scope.clone()), *start)),
        AccountKey::Node { .. } => None,
    }
}

/// The accounts that these budgets count against, of every scope that has one: as the ledger will reckon it, which goes on
/// from the latest time that it knows. A budget that was changed may be in a period that began before its last one then did.
fn in_force(snapshot: &Snapshot, budgets: &[Budget], now: Timestamp) -> BTreeSet<AccountKey> {
    let latest = snapshot.latest();
    let mut found = BTreeSet::new();
    for ((name, scope), _) in &snapshot.starts {
        for budget in budgets.iter().filter(|budget| budget.name == *name) {
            for at in [latest, latest.max(now)] {
                found.insert(budget.account_of(scope.clone(), at));
            }
        }
    }
    found
}

/// Adds those of them that there are.
fn fetch_in_force(
    view: &dyn View,
    in_force: &BTreeSet<AccountKey>,
    accounts: &mut BTreeMap<AccountKey, Account>,
) -> Result<(), StoreError> {
    for key in in_force {
        if !accounts.contains_key(key)
            && let Some(account) = read::budget(view, key)?
        {
            accounts.insert(key.clone(), account);
        }
    }
    Ok(())
}

/// The thresholds that people were told of, of each account's latest period, of those in force, and of those that money is
/// held on.
fn told(
    view: &dyn View,
    holds: &[Hold],
    in_force: &BTreeSet<AccountKey>,
) -> Result<Vec<(AccountKey, Vec<Share>)>, StoreError> {
    let mut told: BTreeMap<AccountKey, Vec<Share>> = read::latest::<(_, _)>(view, Table::Told)?.into_iter().collect();
    // Where nobody was ever told of anything, there is nothing to look for.
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let held = holds.iter().flat_map(|hold| &hold.accounts).filter(|account| is_budget(account));
    for account in held.chain(in_force) {
        if !told.contains_key(account)
            && let Some(found) = read::told(view, account)?
        {
            told.insert(account.clone(), found);
        }
    }
    Ok(told.into_iter().collect())
}

const fn is_budget(account: &AccountKey) -> bool {
    matches!(account, AccountKey::Budget { .. })
}

/// Adds the accounts that open reservations name and that aren't there: of periods that ended.
fn fetch_held(view: &dyn View, holds: &[Hold], accounts: &mut BTreeMap<AccountKey, Account>) -> Result<(), StoreError> {
    for key in holds.iter().flat_map(|hold| &hold.accounts) {
        if !accounts.contains_key(key) {
            let account = read::budget(view, key)?
                .ok_or_else(|| StoreError::damaged(format!("a reservation names {key}, which is not stored")))?;
            accounts.insert(key.clone(), account);
        }
    }
    Ok(())
}

/// Each account holds exactly the sum of its open reservations.
fn check_held(accounts: &BTreeMap<AccountKey, Account>, holds: &[Hold]) -> Result<(), StoreError> {
    let mut sums: BTreeMap<&AccountKey, Money> = BTreeMap::new();
    for hold in holds {
        for key in &hold.accounts {
            let sum = sums.entry(key).or_default();
            *sum = sum.plus(hold.amount);
        }
    }
    for (key, account) in accounts {
        let sum = sums.get(key).copied().unwrap_or_default();
        if account.held != sum {
            let why = format!("{key} holds {}, and its open reservations are {sum}", account.held);
            return Err(StoreError::damaged(why));
        }
    }
    Ok(())
}
