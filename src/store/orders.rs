//! What the audit log says of switches, exceptions and terms, kept in memory: the log only grows, so that what came since is all
//! that is read of it.

use std::sync::{Arc, Mutex, PoisonError};

use super::engine::View;
use super::error::StoreError;
use super::read;
use crate::domain::exception::Exceptions;
use crate::domain::switch::Switches;
use crate::domain::terms::Terms;

/// The switches that are set, and all exceptions of budgets, as of one commit.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// The switches that are set.
    pub switches: Switches,
    /// All exceptions that were ever asked for.
    pub exceptions: Exceptions,
    /// What was last declared of budgets and prices.
    pub terms: Terms,
    /// The number of the audit log's first entry that isn't in them.
    next: u64,
}

/// The latest that were read.
#[derive(Debug, Default)]
pub(super) struct KeptOrders(Mutex<Arc<Orders>>);

impl KeptOrders {
    /// Those of a view, or of a later one that somebody else has read already.
    pub(super) fn read(&self, view: &dyn View) -> Result<Arc<Orders>, StoreError> {
        let next = read::audit_next(view)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.next < next {
            let mut orders = Orders::clone(&kept);
            read::audit_from(view, orders.next, &mut |entry| {
                orders.switches.apply(&entry);
                orders.exceptions.apply(&entry);
                orders.terms.apply(&entry);
            })?;
            *kept = Arc::new(Orders { next, ..orders });
        }
        Ok(Arc::clone(&kept))
    }
}
