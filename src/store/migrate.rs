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
        if !batch.is_empty() {
            engine.commit(batch)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::{EngineError, Reader};
    use crate::store::memory::MemoryDisk;
    use crate::store::read;
    use crate::units::{Money, Timestamp};

    /// Dies after so many commits.
    struct Dying(Box<dyn Engine>, usize);

    impl Engine for Dying {
        fn commit(&mut self, batch: Batch) -> Result<(), EngineError> {
            let Some(left) = self.1.checked_sub(1) else {
                let (path, why) = ("memory".to_owned(), "it died".to_owned());
                return Err(EngineError::Io { what: "write", path, why });
            };
            self.1 = left;
            self.0.commit(batch)
        }

        fn reader(&self) -> Arc<dyn Reader> {
            self.0.reader()
        }
    }

    fn account(number: u64) -> AccountKey {
        let (start, end) =
            (Timestamp(number / 3 * 1_000), number.is_multiple_of(2).then(|| Timestamp(number * 1_000 + 5)));
        AccountKey::Budget { budget: "b".into(), scope: format!("tenant=t{}", number % 3), start, end }
    }

    fn put<T: Serialize>(batch: &mut Batch, table: Table, account: AccountKey, value: T) {
        let mut old = keys::account(table, &account).expect("a budget's");
        old.truncate(WITHOUT_END);
        batch.put(old.clone(), codec::seal_compact(&old, &(account, value)).expect("it writes"));
    }

    fn sums(number: u64) -> (Account, ShadowSums, Vec<Share>) {
        let money = Money::from_micro(number);
        let shadow = ShadowSums { refused: number, amount: money, last: None };
        (Account { settled: money, ..Account::default() }, shadow, vec![Share(u32::try_from(number).expect("few"))])
    }

    /// However often it is broken off, each record lies in its new place in the end, and nowhere else.
    #[test]
    fn every_account_is_moved_once() {
        let count = 2 * u64::try_from(PAGE).expect("few") + 30;
        let disk = MemoryDisk::default();
        let mut batch = Batch::default();
        for number in 0..count {
            let (account_sums, shadow, told) = sums(number);
            put(&mut batch, Table::Budget, account(number), account_sums);
            put(&mut batch, Table::Shadow, account(number), shadow);
            put(&mut batch, Table::Told, account(number), told);
        }
        disk.open().commit(batch).expect("it writes");
        let mut breaks = 0;
        while periods_apart(&mut Dying(Box::new(disk.open()), 2)).is_err() {
            breaks += 1;
            assert!(breaks < 20, "each time some of it is moved");
        }
        assert!(breaks > 1, "{breaks}");
        let reader = disk.open().reader();
        let view = reader.view().expect("a view");
        for number in 0..count {
            let (key, (account_sums, shadow, told)) = (account(number), sums(number));
            assert_eq!(read::budget(&*view, &key).expect("it reads"), Some(account_sums));
            assert_eq!(read::shadow(&*view, &key).expect("it reads"), Some(shadow));
            assert_eq!(read::told(&*view, &key).expect("it reads"), Some(told));
        }
        for table in [Table::Budget, Table::Shadow, Table::Told] {
            let all = read::all(&*view, table.span()).expect("it reads");
            assert_eq!(u64::try_from(all.len()).expect("few"), count);
        }
    }
}
