//! The accounts that nobody shares, a tree's own, folded again from its logs alone.
//!
//! What shared budgets said isn't in a tree's logs, so they are left out: it is data for whoever judges a tree again.

use super::{Ledger, Lower};
use crate::domain::event::{AccountKey, Admitted, Event, Reserved};
use crate::domain::limits::{Declared, Refusal};
use crate::ids::RunId;

/// The accounts of one tree's runs and stages.
#[derive(Clone, Debug, Default)]
pub struct OwnAccounts(Ledger);

impl OwnAccounts {
    /// Folds one event of one of its runs.
    pub fn apply(&mut self, run: RunId, event: &Event) {
        if let Event::PeriodMoved(_) = event {
            return;
        }
        let own = if let Event::Admitted(Admitted { landing, .. }) = event {
            Some(Event::Admitted(Admitted { budgets: vec![], landing: landing.clone() }))
        } else if let Event::Reserved(reserved) = event
            && reserved.budgets.is_some()
        {
            Some(Event::Reserved(Box::new(Reserved { budgets: None, ..Reserved::clone(reserved) })))
        } else {
            None
        };
        self.0.apply(run, own.as_ref().unwrap_or(event));
    }

    /// What these accounts say of an attempt (LEDGER rules 1, 6, 9d, 11 and 12): as it would be placed, or each account
    /// without room as the refusal that it gives.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn judge(
        &self,
        asked: &Reserved,
        lower: Option<Lower>,
        declared: impl Fn(&AccountKey) -> Declared,
    ) -> Result<Reserved, Vec<Refusal>> {
        self.0.judge(asked, lower).map_err(|shorts| {
            let root = self.0.root_of(asked.reservation.run);
            let refusal =
                |(key, growth): &(AccountKey, _)| self.0.short(asked, root, key, *growth).refusal(declared(key));
            shorts.iter().map(refusal).collect()
        })
    }
}
