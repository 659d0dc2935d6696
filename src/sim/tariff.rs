//! What one call is charged, once its price is read: classes, tiers, hours, factors and units.
//!
//! Everything is whole pico-dollars. A class, tier, factor or unit that the price doesn't name is charged nothing here:
//! there is no bill for it (`None`), since nobody knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::{Money, Timestamp};

/// Minutes of a day, and of a week.
const DAY: u64 = 1_440;
const WEEK: u64 = 7 * DAY;
/// Factors are in ten-thousandths.
const WHOLE: u128 = 10_000;

/// What one call used, in the provider's own terms: cached and written tokens are part of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of the prompt.
    pub prompt: u64,
    /// The part of it that a cache held.
    pub cached: u64,
    /// The part of it that was written to a cache for the shorter time to live.
    pub cache_write: u64,
    /// The part of it that was written to a cache for the longer time to live.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_long: u64,
    /// All of the output.
    pub completion: u64,
    /// The part of it that was reasoning.
    pub reasoning: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a call was served, as far as the bill depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// When, for prices that depend on date and hour.
    pub at: Timestamp,
    /// The service tier, if it isn't the ordinary one.
    pub tier: Option<String>,
    /// The names of factors that apply, such as `speed_fast`.
    pub factors: Vec<String>,
    /// Hundredths of the rates, where a wire has read place and speed by itself.
    pub percent: Option<u64>,
    /// Units beside the tokens, such as `web_search`, and how many.
    pub fees: BTreeMap<String, u64>,
}

impl Serving {
    /// By the ordinary tier, without factors and units.
    #[must_use]
    pub fn ordinary(at: Timestamp) -> Self {
        Self { at, ..Self::default() }
    }
}

/// What a model costs, in pico-dollars, from one date to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) base: Tier,
    pub(super) tiers: BTreeMap<String, Tier>,
    /// Other rates of the ordinary tier, and the minutes of the week from Monday on at which they hold.
    pub(super) hours: Vec<(Vec<(u64, u64)>, Tier)>,
    pub(super) factors: BTreeMap<String, u64>,
    pub(super) fees: BTreeMap<String, u64>,
    pub(super) per_call: u64,
    /// The longest prompt that the model takes.
    pub(crate) context: Option<u64>,
    /// True where writing to the cache has a price of its own.
    pub(crate) writes: bool,
}

/// Rates of a service tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) rates: Classes,
    /// Rates of every token where the prompt has more tokens than this.
    pub(super) long: Option<(u64, Classes)>,
}

/// Pico-dollars of one token of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cached: Option<u64>,
    pub(super) written: Option<u64>,
    pub(super) written_long: Option<u64>,
}

impl Rate {
    /// True where it holds at that time.
    pub(super) fn holds(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }

    /// True where a unit of this name has a price.
    pub(crate) fn has_fee(&self, name: &str) -> bool {
        self.fees.contains_key(name)
    }

    /// The exact bill of a call that is billed; `None` where something that it used has no price.
    #[must_use]
    pub fn amount(&self, counts: &Counts, serving: &Serving) -> Option<Money> {
        let tier = match serving.tier.as_deref() {
            None => self.ordinary(serving.at),
            Some(name) => self.tiers.get(name)?,
        };
        let classes = match tier.long {
            Some((over, long)) if counts.prompt > over => long,
            None if self.base.long.is_some_and(|(over, _)| counts.prompt > over) => return None,
            Some(_) | None => tier.rates,
        };
        let tokens = self.with_factors(classes.sum(counts)?, &serving.factors)?;
        let tokens = (tokens * u128::from(serving.percent.unwrap_or(100))).div_ceil(100);
        let units = serving.fees.iter().try_fold(0_u128, |sum, (name, count)| match count {
            0 => Some(sum),
            _ => Some(sum + u128::from(*self.fees.get(name)?) * u128::from(*count)),
        })?;
        Some(Money::from_pico(u128::from(self.per_call) + tokens + units))
    }

    fn ordinary(&self, at: Timestamp) -> &Tier {
        // The first day of the epoch was a Thursday.
        let minute = (at.0 / 60_000 + 3 * DAY) % WEEK;
        let holds = |spans: &[(u64, u64)]| spans.iter().any(|(from, to)| (*from..*to).contains(&minute));
        self.hours.iter().find(|(spans, _)| holds(spans)).map_or(&self.base, |(_, tier)| tier)
    }

    /// Factors apply to tokens one after the other; a fraction of a pico-dollar is rounded up.
    fn with_factors(&self, tokens: u128, factors: &[String]) -> Option<u128> {
        factors.iter().try_fold(tokens, |sum, name| {
            let factor = self.factors.get(name)?;
            Some((sum * u128::from(*factor)).div_ceil(WHOLE))
        })
    }
}

impl Classes {
    fn sum(&self, counts: &Counts) -> Option<u128> {
        let parts = [counts.cached, counts.cache_write, counts.cache_write_long];
        let fresh = parts.iter().fold(counts.prompt, |rest, part| rest.saturating_sub(*part));
        let classes = [
            (fresh, Some(self.input)),
            (counts.cached, self.cached),
            (counts.cache_write, self.written),
            (counts.cache_write_long, self.written_long),
            (counts.completion, Some(self.output)),
        ];
        classes.iter().filter(|(count, _)| *count > 0).try_fold(0_u128, |sum, (count, rate)| {
            let rate = (*rate)?;
            Some(sum + u128::from(*count) * u128::from(rate))
        })
    }
}

/// Minutes of the week of a text such as `mon-fri 10:00-24:00`, or of every day without days.
pub(super) fn week_spans(text: &str) -> Option<Vec<(u64, u64)>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, times) = match words.as_slice() {
        [times] => ((0..7).collect::<Vec<u64>>(), *times),
        [days, times] => (week_days(days)?, *times),
        _ => return None,
    };
    let (from, to) = times.split_once('-')?;
    let clock = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        Some(hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?)
    };
    let (from, to) = (clock(from)?, clock(to)?);
    (from < to && to <= DAY).then(|| days.into_iter().map(|day| (day * DAY + from, day * DAY + to)).collect())
}

fn week_days(text: &str) -> Option<Vec<u64>> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let number = |name: &str| (0_u64..).zip(names).find(|(_, known)| *known == name).map(|(day, _)| day);
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        days.extend(number(first)?..=number(last)?);
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Rate {
        let classes = |input| Classes { input, output: 10 * input, cached: Some(1), ..Classes::default() };
        let tier = |input| Tier { rates: classes(input), long: None };
        Rate {
            base: tier(100),
            tiers: [("flex".to_owned(), tier(50))].into(),
            hours: vec![(week_spans("sat-sun 00:00-24:00").expect("spans"), tier(20))],
            factors: [("speed_fast".to_owned(), 20_000), ("inference_geo_us".to_owned(), 11_000)].into(),
            fees: [("web_search".to_owned(), 7)].into(),
            ..Rate::default()
        }
    }

    #[test]
    fn a_bill_follows_tier_hour_factors_and_units() {
        let (rate, monday) = (rate(), Timestamp(1_795_392_000_000));
        let counts = Counts { prompt: 12, cached: 2, completion: 1, ..Counts::default() };
        let bill = |serving: &Serving| rate.amount(&counts, serving).map(Money::pico);
        let ordinary = Serving::ordinary(monday);
        assert_eq!(bill(&ordinary), Some(10 * 100 + 2 + 1_000));
        assert_eq!(bill(&Serving { tier: Some("flex".into()), ..ordinary.clone() }), Some(10 * 50 + 2 + 500));
        assert_eq!(bill(&Serving::ordinary(Timestamp(monday.0 - 1))), Some(10 * 20 + 2 + 200), "Sunday");
        let both = vec!["speed_fast".to_owned(), "inference_geo_us".to_owned()];
        assert_eq!(bill(&Serving { factors: both, ..ordinary.clone() }), Some(4_405), "2002 times 2.2, rounded up");
        assert_eq!(bill(&Serving { fees: [("web_search".into(), 3)].into(), ..ordinary.clone() }), Some(2_002 + 21));
        for unknown in [
            Serving { tier: Some("scale".into()), ..ordinary.clone() },
            Serving { factors: vec!["moon".into()], ..ordinary.clone() },
            Serving { fees: [("maps".into(), 1)].into(), ..ordinary.clone() },
        ] {
            assert_eq!(bill(&unknown), None);
        }
        let written = Counts { cache_write: 1, ..counts };
        assert_eq!(rate.amount(&written, &ordinary), None, "a class without a rate");
    }

    #[test]
    fn hours_are_minutes_of_the_week() {
        assert_eq!(week_spans("mon,sun 01:00-02:30"), Some(vec![(60, 150), (6 * DAY + 60, 6 * DAY + 150)]));
        assert_eq!(week_spans("00:00-24:00").map(|spans| spans.len()), Some(7));
        for bad in ["", "mon", "mon 2:00", "mo 01:00-02:00", "02:00-01:00", "00:00-25:00", "mon 1 2"] {
            assert_eq!(week_spans(bad), None, "{bad}");
        }
    }
}
