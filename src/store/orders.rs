//! What the audit log says of switches, exceptions and terms, kept in memory: the log only grows, so that what came since is all
//! that is read of it.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::View;
use super::error::StoreError;
use super::read;
use super::writer::Command;
use super::{Store, Writing};
use crate::domain::audit::{AuditEntry, Author};
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

impl Store {
    /// Notes what of the terms isn't as the audit log knows it: in the write of what comes next, since until then nothing goes
    /// by them.
    ///
    /// # Errors
    /// The audit log is damaged.
    pub fn declare(&self, by: Author, declared: &Terms) -> Result<(), StoreError> {
        let changes = self.orders()?.terms.changes_to(declared);
        if changes.is_empty() {
            return Ok(());
        }
        let declare = Command::Declare(by, changes);
        match &self.0.writing {
            // Who opens a store comes before all others; where the line is full, the next open notes it.
            Writing::Thread { commands, .. } => {
                if let Some(commands) = commands {
                    drop(commands.try_send(declare));
                }
            }
            Writing::Inline(inline) => inline.write(declare),
        }
        Ok(())
    }

    /// Calls back with every entry of the audit log, oldest first, as of one commit.
    ///
    /// # Errors
    /// When a record is damaged or missing.
    pub fn audit(&self, visit: &mut dyn FnMut(AuditEntry)) -> Result<(), StoreError> {
        read::each_audit(&*self.shared()?.reader.view()?, visit)
    }

    /// Calls back with the entries of the audit log before a number, newest first, until told to stop.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn audit_before(
        &self,
        before: Option<u64>,
        visit: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        read::audit_before(&*self.shared()?.reader.view()?, before, visit)
    }
}
