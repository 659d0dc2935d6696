//! What was settled on a day, added up.
//!
//! Invariants: the rows of a day add up to those of its attempts, to the last pico-dollar, and their `PricingQuantity` times
//! their unit price is their cost still, since what has another price has another row.

use std::collections::BTreeMap;

use super::columns::{Value, number};
use super::{FocusVersion, Grain, Source, columns, write_row};
use crate::units::Money;

/// Adds up the rows of a day. Holds as many as there are accounts, models, meters, prices and sets of tags on it.
#[derive(Clone, Debug)]
pub struct Daily {
    version: FocusVersion,
    /// The sums, by what is the same in all that they are of.
    rows: BTreeMap<Vec<Option<String>>, Vec<Option<Money>>>,
}

impl Daily {
    /// Without rows.
    #[must_use]
    pub const fn new(version: FocusVersion) -> Self {
        Self { version, rows: BTreeMap::new() }
    }

    /// Adds what was settled in a run's log; that of several days stays apart.
    pub fn add(&mut self, source: &Source<'_>) {
        source.each_charge(Grain::Day, &mut |charge| {
            let (mut key, mut amounts) = (Vec::new(), Vec::new());
            for column in columns(self.version, Grain::Day) {
                match column.value {
                    Value::Text(value) => key.push(value(charge)),
                    Value::Amount(value) => amounts.push(value(charge)),
                }
            }
            let sums = self.rows.entry(key).or_insert_with(|| vec![None; amounts.len()]);
            for (sum, amount) in sums.iter_mut().zip(amounts) {
                // What nobody knows anything of stays null.
                *sum = sum.map_or(amount, |sum| Some(sum.plus(amount.unwrap_or_default())));
            }
        });
    }

    /// Writes the rows.
    pub fn write(self, out: &mut String) {
        for (key, sums) in self.rows {
            let (mut key, mut sums) = (key.into_iter(), sums.into_iter());
            let fields = columns(self.version, Grain::Day).map(|column| match column.value {
                Value::Text(_) => key.next().flatten(),
                Value::Amount(_) => sums.next().flatten().map(number),
            });
            write_row(fields, out);
        }
    }
}
