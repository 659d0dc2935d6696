//! A bill by its lines: what each class of tokens, each unit and the call itself cost. The lines add up to the bill.

use crate::domain::pricing::{Class, Fee, PriceBook, PriceRow, PricingError, Served, TierPrice, Usage};
use crate::units::{Money, Timestamp};

/// What a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meter {
    /// Tokens of a class.
    Tokens(Class),
    /// Units beside the tokens.
    Units(Fee),
    /// The call itself.
    Call,
}

/// One line: `count` times `unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is counted.
    pub meter: Meter,
    /// How many.
    pub count: u64,
    /// What one costs.
    pub unit: Money,
}

impl Line {
    /// What it comes to.
    #[must_use]
    pub const fn cost(&self) -> Money {
        self.unit.times(self.count)
    }
}

/// A bill's lines, and by which of a row's rates they were charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Itemised {
    /// The lines; none of nothing.
    pub lines: Vec<Line>,
    /// True where the rates of a long input were.
    pub is_long: bool,
    /// True where those of other hours were.
    pub is_off_peak: bool,
}

impl Itemised {
    /// What the lines come to.
    #[must_use]
    pub fn total(&self) -> Money {
        self.lines.iter().map(Line::cost).sum()
    }
}

impl PriceRow {
    /// The lines of what [`PriceRow::cost_as`] says.
    ///
    /// # Errors
    /// As [`PriceRow::cost_as`].
    pub fn itemise(&self, usage: &Usage, served: Served<'_>) -> Result<Itemised, PricingError> {
        let bill = self.cost_as(usage, served)?;
        let beside = self.lines_beside(usage);
        for tier in self.tiers(served)? {
            let itemised = self.at_tier(tier, usage, served, &beside)?;
            if self.is_free() || itemised.total() == bill {
                return Ok(itemised);
            }
        }
        // What was charged is by one of its tiers.
        Ok(Itemised {
            lines: vec![Line { meter: Meter::Call, count: 1, unit: bill }],
            is_long: false,
            is_off_peak: false,
        })
    }

    fn lines_beside(&self, usage: &Usage) -> Vec<Line> {
        let units = Fee::ALL.into_iter().map(|fee| Line {
            meter: Meter::Units(fee),
            count: usage.fees.of(fee).into(),
            unit: self.fees.get(&fee).copied().unwrap_or_default(),
        });
        let call = (!self.per_call.is_zero()).then_some(Line { meter: Meter::Call, count: 1, unit: self.per_call });
        units.filter(|line| line.count > 0).chain(call).collect()
    }

    fn at_tier(
        &self,
        tier: &TierPrice,
        usage: &Usage,
        served: Served<'_>,
        beside: &[Line],
    ) -> Result<Itemised, PricingError> {
        let ordinary = self.rates(tier, usage.input_total())?;
        let rates = self.multiplied_rates(*ordinary, served.factors)?;
        let tokens = usage.classes().into_iter().filter(|(_, count)| count.0 > 0).map(|(class, count)| Line {
            meter: Meter::Tokens(class),
            count: count.0,
            unit: Money::from_pico(rates.of(class).unwrap_or_default().pico().into()),
        });
        Ok(Itemised {
            lines: tokens.chain(beside.iter().copied()).collect(),
            is_long: !std::ptr::eq(ordinary, &raw const tier.rates),
            is_off_peak: self.off_peak.iter().any(|off_peak| std::ptr::eq(&raw const off_peak.price, tier)),
        })
    }
}

impl PriceBook {
    /// The lines of what [`PriceBook::bill`] says, and the row that they are charged by.
    #[must_use]
    pub fn itemise<'a>(
        &'a self,
        pinned: &'a PriceRow,
        usage: &Usage,
        answering: Option<&str>,
        served: Served<'_>,
        now: Timestamp,
    ) -> Option<(&'a PriceRow, Itemised)> {
        let row = match answering {
            None => pinned,
            Some(answering) => self.find_answering(pinned, answering, now)?,
        };
        Some((row, row.itemise(usage, served).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::{During, Factors, Fees};
    use crate::units::Tokens;

    fn usages() -> Vec<Usage> {
        let some = Usage {
            input: Tokens(1_200),
            cache_read: Tokens(800),
            output: Tokens(300),
            reasoning: Tokens(120),
            ..Usage::default()
        };
        let written = Usage { cache_write: Tokens(64), cache_write_long: Tokens(32), ..some };
        let long = Usage { input: Tokens(900_000), ..some };
        let searched = Usage { fees: Fees::NONE.with(Fee::WebSearch, 3), ..some };
        vec![Usage::default(), some, written, long, searched]
    }

    /// Of every built-in row, tier and factor, at every hour: nothing is on the bill that isn't on a line.
    #[test]
    fn the_lines_add_up_to_the_bill() {
        let (mut whole, hour) = (0, 3_600_000);
        for row in PriceBook::builtin().rows() {
            let tiers = row.service_tiers.keys().map(|tier| Some(tier.as_str())).chain([None]);
            let factors = row.multipliers.keys().map(|factor| Factors::NONE.with(*factor)).chain([Factors::NONE]);
            let factors: Vec<Factors> = factors.collect();
            for tier in tiers {
                for (from, factors) in (0..24).flat_map(|at| factors.iter().map(move |factors| (at * hour, *factors))) {
                    let during = Some(During { from: Timestamp(from), to: Timestamp(from + hour / 2) });
                    let served = Served { tier, factors, during };
                    for usage in usages() {
                        let Ok(bill) = row.cost_as(&usage, served) else { continue };
                        assert_eq!(row.itemise(&usage, served).map(|it| it.total()), Ok(bill), "{}", row.id);
                        whole += 1;
                    }
                }
            }
        }
        assert!(whole > 1_000, "{whole}");
    }

    #[test]
    fn a_long_input_and_other_hours_are_told() {
        let is_long = |usage: &Usage| {
            let row = PriceBook::builtin().rows().find(|row| row.price.long.is_some()).expect("one has long rates");
            row.itemise(usage, Served::default()).expect("it has a price").is_long
        };
        assert!(is_long(&usages()[3]) && !is_long(&usages()[1]));
        let row = PriceBook::builtin().rows().find(|row| !row.off_peak.is_empty()).expect("one has other hours");
        let at = (0..7 * 24).map(|hour| Timestamp(hour * 3_600_000)).map(|at| {
            let during = Some(During { from: at, to: at });
            row.itemise(&usages()[1], Served { during, ..Served::default() }).expect("it has a price").is_off_peak
        });
        let at: Vec<bool> = at.collect();
        assert!(at.contains(&true) && at.contains(&false));
    }
}
