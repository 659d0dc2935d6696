//! The counts as people see them.

use std::collections::BTreeSet;

use super::count::Count;
use super::state::{State, Whose};
use crate::domain::breaker::{Breaker, Stands};
use crate::domain::rate::RateKind;
use crate::domain::report::{BreakerRow, BreakerState, ProviderRateRow, RateRow, RateTable};
use crate::domain::retry::ErrorClass;
use crate::units::Timestamp;

/// Values of one limit that are shown.
const VALUES_MAX: usize = 1_000;

impl State {
    pub(super) fn standing(&self, now: Timestamp) -> RateTable {
        RateTable {
            waiting: self.queue.len(),
            rates: self.counts.iter().enumerate().flat_map(|(index, count)| self.rows(index, count, now)).collect(),
            providers: self.provider_rows(now),
            breakers: self.breakers.iter().map(|(whose, breaker)| breaker_row(whose, breaker, now)).collect(),
        }
    }

    fn rows(&self, index: usize, count: &Count, now: Timestamp) -> Vec<RateRow> {
        let mut values = count.values(now);
        if values.is_empty() {
            // Nobody called yet: what each will find.
            let each = count.limit.each.join(" and ");
            values = BTreeSet::from([if each.is_empty() { each } else { format!("each {each}") }]);
        }
        let row = |value: &String, kind: RateKind| RateRow {
            limit: kind.limit(),
            of: count.limit.subject(value),
            value: count.limit.limit(kind).map_or(0, |limit| limit.get().into()),
            free: count.free(kind, value, now),
            waiting: self.queue.waiting_for(index, value),
            declared: count.limit.declared.clone(),
        };
        let shown = values.iter().take(VALUES_MAX);
        shown.flat_map(|value| count.kinds().map(move |kind| row(value, kind))).collect()
    }

    fn provider_rows(&self, now: Timestamp) -> Vec<ProviderRateRow> {
        let mut rows = Vec::new();
        for ((model, account), own) in &self.own {
            let row = |what: &str, left, value, full_at| ProviderRateRow {
                model: model.clone(),
                account: account.clone(),
                what: what.to_owned(),
                left,
                value,
                full_at,
            };
            rows.extend(own.closed_until(now).map(|until| row("retry-after", 0, None, until)));
            rows.extend(own.windows(now).map(|(measure, left, value, full)| row(measure.name(), left, value, full)));
        }
        rows
    }
}

fn breaker_row(whose: &Whose, breaker: &Breaker, now: Timestamp) -> BreakerRow {
    let (state, until) = match breaker.stands(now) {
        Stands::Closed => (BreakerState::Closed, None),
        Stands::Open(until) => (BreakerState::Open, Some(until)),
        Stands::HalfOpen => (BreakerState::HalfOpen, None),
        Stands::Probing => (BreakerState::Probing, None),
    };
    let (failures, _) = breaker.counts();
    BreakerRow {
        of: whose.name(),
        state,
        until,
        failures,
        last: breaker.last().map(|last| ErrorClass::name(last).to_owned()),
    }
}
