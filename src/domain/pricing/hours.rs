//! Hours of the week, in UTC, at which a provider charges other rates.
//!
//! A call is reserved at the dearest of all hours, since nobody knows when the provider will date it. It is settled by
//! the minutes from its dispatch to its end; where they met different rates, at the dearest of those: providers don't say
//! which moment counts, and the ledger is never below the bill.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::domain::pricing::{LongContext, TierPrice};
use crate::units::Timestamp;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Minutes of a week: a call that took longer met every hour.
pub(super) const WEEK_MINUTES: usize = 7 * 24 * 60;
/// Milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;
/// The days' names, from Monday.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// All days.
const EVERY_DAY: u8 = 0b111_1111;

/// Other rates of the ordinary tier, in some hours of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OffPeak {
    /// When.
    pub hours: Vec<Hours>,
    /// What is charged then.
    pub price: TierPrice,
}

impl OffPeak {
    /// The same; without rates of its own for long inputs it charges those alike, from where on `ordinary` counts them as long.
    #[must_use]
    pub fn of_every_length(mut self, ordinary: &TierPrice) -> Self {
        let alike = |long: &LongContext| LongContext { above: long.above, rates: self.price.rates };
        self.price.long = self.price.long.or_else(|| ordinary.long.as_ref().map(alike));
        self
    }

    /// True where these rates hold.
    #[must_use]
    pub fn is_at(&self, at: Timestamp) -> bool {
        self.hours.iter().any(|hours| hours.is_at(at))
    }
}

/// From when to when a call was with the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct During {
    /// Not before this.
    pub from: Timestamp,
    /// Not after this.
    pub to: Timestamp,
}

impl During {
    /// Each minute of it, of a week at most.
    pub(super) fn minutes(self) -> impl Iterator<Item = Timestamp> {
        let (from, to) = (self.from.0 / MINUTE_MS, self.to.0.max(self.from.0) / MINUTE_MS);
        (from..=to).take(WEEK_MINUTES).map(|minute| Timestamp(minute * MINUTE_MS))
    }
}

/// The same hours of some days, from the first minute up to the last one exclusively. UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// One bit for each day, Monday's the lowest.
    days: u8,
    from: u16,
    to: u16,
}

impl Hours {
    /// True where `at` is one of them.
    #[must_use]
    pub fn is_at(self, at: Timestamp) -> bool {
        let minutes = at.0 / MINUTE_MS;
        let (day, minute) = (minutes / u64::from(DAY), minutes % u64::from(DAY));
        // The first of January 1970 was a Thursday.
        let weekday = (day + 3) % 7;
        self.days >> weekday & 1 == 1 && (u64::from(self.from)..u64::from(self.to)).contains(&minute)
    }

    /// True where both have a minute in common.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.days & other.days != 0 && self.from < other.to && other.from < self.to
    }

    /// These hours of the days that are numbered from Monday, 1, to Sunday, 7; those past midnight are two. `None` for
    /// what is no time of day, no day, or no length of time.
    #[must_use]
    pub fn of(days: &[u8], from: &str, to: &str) -> Option<Vec<Self>> {
        let bit = |sum: Option<u8>, day: &u8| Some(sum? | (1 << day.checked_sub(1).filter(|day| *day < 7)?));
        let days = days.iter().fold(Some(0), bit).filter(|days| *days != 0)?;
        let (from, to) = (minute(from)?, minute(to)?);
        let part = |from, to| Self { days, from, to };
        match (from, to) {
            (from, 0) if from < DAY => Some(vec![part(from, DAY)]),
            (from, to) if from < to => Some(vec![part(from, to)]),
            (from, to) if to < from && from < DAY => Some(vec![part(from, DAY), part(0, to)]),
            _ => None,
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two =
        |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()));
    let sum = two(hour)? * 60 + two(minute).filter(|minute| *minute < 60)?;
    (sum <= DAY).then_some(sum)
}

impl fmt::Display for Hours {
    /// As it is written: `mon-fri 04:00-06:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != EVERY_DAY {
            write!(f, "{} ", days_text(self.days))?;
        }
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

/// Days that follow each other are a range.
fn days_text(days: u8) -> String {
    let (first, count) = (days.trailing_zeros(), days.count_ones());
    let name = |day: u32| usize::try_from(day).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or_default();
    if count > 1 && (days >> first).trailing_ones() == count {
        return format!("{}-{}", name(first), name(first + count - 1));
    }
    (0..7).filter(|day| days >> day & 1 == 1).map(name).collect::<Vec<_>>().join(",")
}

/// What is no hours of a week.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no hours of a day, such as `mon-fri 16:30-24:00` or `04:00-06:00`, in UTC")]
pub struct HoursError(String);

impl FromStr for Hours {
    type Err = HoursError;

    /// Reads days, if not every one, and two times of day within one day.
    fn from_str(text: &str) -> Result<Self, HoursError> {
        let fault = || HoursError(text.to_owned());
        let (days, span) = text.rsplit_once(' ').unwrap_or(("mon-sun", text));
        let (from, to) = span.split_once('-').ok_or_else(fault)?;
        let days = days_of(days).ok_or_else(fault)?;
        match Self::of(&days, from, to).ok_or_else(fault)?.as_slice() {
            [one] => Ok(*one),
            _ => Err(fault()),
        }
    }
}

fn days_of(text: &str) -> Option<Vec<u8>> {
    let number = |name: &str| {
        let place = DAYS.iter().position(|day| *day == name.trim())?;
        u8::try_from(place + 1).ok()
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then(|| (first..=last).collect::<Vec<u8>>())
    };
    let parts: Option<Vec<Vec<u8>>> = text.split(',').map(range).collect();
    parts.map(|parts| parts.concat())
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 23 November 2026, midnight.
    const MONDAY: u64 = 1_795_392_000_000;

    fn at(day: u64, hour: u64, minute: u64) -> Timestamp {
        Timestamp(MONDAY + ((day * 24 + hour) * 60 + minute) * MINUTE_MS)
    }

    #[test]
    fn hours_are_half_open_and_of_their_days() {
        let hours: Hours = "mon-fri 04:00-06:00".parse().expect("hours");
        assert!(hours.is_at(at(0, 4, 0)) && hours.is_at(at(4, 5, 59)));
        assert!(!hours.is_at(at(0, 6, 0)) && !hours.is_at(at(0, 3, 59)) && !hours.is_at(at(5, 5, 0)));
        let weekend: Hours = "sat-sun 00:00-24:00".parse().expect("hours");
        assert!(weekend.is_at(at(6, 23, 59)) && !weekend.is_at(at(7, 0, 0)) && !weekend.meets(hours));
        assert!("05:59-07:00".parse::<Hours>().expect("hours").meets(hours));
        assert!(!"06:00-07:00".parse::<Hours>().expect("hours").meets(hours));
    }

    #[test]
    fn hours_read_as_they_are_shown() {
        for text in
            ["mon-fri 04:00-06:00", "16:30-24:00", "mon,wed 10:00-12:00", "sun 00:00-00:01", "sat-sun 00:00-24:00"]
        {
            assert_eq!(text.parse::<Hours>().expect("hours").to_string(), text);
        }
        assert_eq!("mon-sun 10:00-00:00".parse::<Hours>().expect("hours").to_string(), "10:00-24:00");
        for bad in [
            "",
            "10:00",
            "22:00-06:00",
            "10:00-10:00",
            "mo 10:00-11:00",
            "25:00-26:00",
            "fri-mon 1:00-2:00",
            "10:60-11:00",
        ] {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
        let two = Hours::of(&[1], "16:30", "00:30").expect("two parts");
        assert_eq!(two.iter().map(ToString::to_string).collect::<Vec<_>>(), ["mon 16:30-24:00", "mon 00:00-00:30"]);
        assert_eq!(Hours::of(&[8], "16:30", "17:30"), None);
    }

    #[test]
    fn a_call_meets_each_minute_of_its_time_and_of_one_week_at_most() {
        let during = During { from: Timestamp(MONDAY + 59_999), to: Timestamp(MONDAY + 60_000) };
        assert_eq!(during.minutes().count(), 2);
        assert_eq!(During { from: Timestamp(MONDAY), to: Timestamp(u64::MAX) }.minutes().count(), WEEK_MINUTES);
        assert_eq!(During { from: Timestamp(MONDAY), to: Timestamp(0) }.minutes().count(), 1, "a clock that went back");
    }
}
