//! A person orders something: the judge knows of it with the write.

use std::sync::atomic::Ordering;

use super::life::Life;
use crate::voyage::crew::lock;
use crate::voyage::orders::Order;

impl Life<'_> {
    /// False where the store failed: then it is ordered again in the next life.
    pub(super) async fn order(&mut self, order: usize) -> bool {
        let drawn = self.voyage.sheet.orders[order].1.clone();
        let first = lock(&self.voyage.judge).orders.next;
        for (by, change) in drawn.changes(first, self.clock.now()) {
            // Whoever it lets go is let go by the same write.
            {
                let mut judge = lock(&self.voyage.judge);
                let number = judge.orders.next;
                judge.orders.follow(number, &change);
            }
            self.deck.straight.store(true, Ordering::SeqCst);
            let noted = self.runtime.store().note(by, change).await;
            self.deck.straight.store(false, Ordering::SeqCst);
            if noted.is_err() {
                return false;
            }
        }
        lock(&self.voyage.judge).saw(match drawn {
            Order::Set(..) => "switch set",
            Order::Lift(_) => "switch lifted",
            Order::Grant { .. } => "exception",
        });
        self.voyage.orders_done = order + 1;
        true
    }
}
