//! How old a price may be: a warning first, then a refusal.

use crate::domain::limits::Declared;
use crate::domain::pricing::PriceRow;
use crate::units::{Millis, Timestamp};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// From which age on prices are warned of, and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ages {
    /// A price that is older is warned of.
    pub warn_after: Millis,
    /// A price that is older is used for no call.
    pub refuse_after: Millis,
    /// Where the latter was declared.
    pub declared: Declared,
}

impl Ages {
    /// The built-in ages: 45 days, and 366 days.
    pub const DEFAULT: Self =
        Self { warn_after: Millis(45 * DAY_MS), refuse_after: Millis(366 * DAY_MS), declared: Declared::Default };

    /// How old a price is, as far as that matters.
    #[must_use]
    pub fn judge(&self, row: &PriceRow, now: Timestamp) -> Age {
        let Some(read) = row.read_on() else { return Age::Fresh };
        let age = Millis(now.0.saturating_sub(read.0));
        if age > self.refuse_after {
            Age::TooOld { days: age.0 / DAY_MS }
        } else if age > self.warn_after {
            Age::Old { days: age.0 / DAY_MS }
        } else {
            Age::Fresh
        }
    }
}

impl Default for Ages {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How old a price is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Young enough, or a price of the project that names no day: the project answers for it.
    Fresh,
    /// Old enough to be warned of.
    Old {
        /// Its age in days.
        days: u64,
    },
    /// Too old to be used.
    TooOld {
        /// Its age in days.
        days: u64,
    },
}

impl PriceRow {
    /// The beginning of the day on which the source was last seen to say this price; `None` where no day is named.
    #[must_use]
    pub fn read_on(&self) -> Option<Timestamp> {
        midnight(self.confirmed.as_deref().unwrap_or(&self.retrieved))
    }
}

/// The beginning of a day such as `2026-11-23`, in UTC.
#[must_use]
pub fn midnight(date: &str) -> Option<Timestamp> {
    let date: jiff::civil::Date = date.parse().ok()?;
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    u64::try_from(start.as_millisecond()).ok().map(Timestamp)
}
