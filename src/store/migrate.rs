//! What brings a store of an earlier format to a later one, where its records must move.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;
use super::engine::{Batch, Engine, Order};
use super::error::StoreError;
use super::keys::{self, Table};
use crate::domain::event::AccountKey;
use crate::domain::ledger::{Account, ShadowSums};
use crate::domain::policy::Share;

/// Bytes of the keys of budget accounts before format 7: the table, the budget and scope, the start of the period.
const WITHOUT_END: usize = 1 + 16 + 8;
/// Records that are moved at a time.
const PAGE: usize = 256;

/// Into format 7: what is kept of a budget's account lies apart from that of another period with the same start.
pub(super) fn periods_apart(engine: &mut dyn Engine) -> Result<(), StoreError> {
    move_accounts::<Account>(engine, Table::Budget)?;
    move_accounts::<ShadowSums>(engine, Table::Shadow)?;
    move_accounts::<Vec<Share>>(engine, Table::Told)
}

/// A page at a time, each in one commit: what was moved is passed over when this was broken off and begins again.
fn move_accounts<T: Serialize + DeserializeOwned>(engine: &mut dyn Engine, table: Table) -> Result<(), StoreError> {
    let mut span = table.span();
    loop {
        let page = engine.reader().view()?.scan(&span, Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        span = span.after(last, Order::Ascending);
        let mut batch = Batch::default();
        for (old, record) in page.into_iter().filter(|(key, _)| key.len() == WITHOUT_END) {
            let kept: (AccountKey, T) = codec::open_compact(&old, &record)?;
            let new = keys::account(table, &kept.0).ok_or_else(|| StoreError::damaged(keys::describe(&old)))?;
            batch.put(new.clone(), codec::seal_compact(&new, &kept)?);
            batch.delete(old);
        }
        engine.commit(batch)?;
    }
}
