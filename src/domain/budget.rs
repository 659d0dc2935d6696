//! Budgets: a cap over a scope of labels and a calendar period.
//!
//! A period is a half-open window `[start, end)` of instants. Windows tile time: every instant lies in exactly one.
//! Deliberately absent: the clock, and reading time zones from names or disk; the zone comes in resolved.

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::event::{AccountKey, Labels, THREAD};
use crate::domain::limits::Declared;
use crate::domain::policy::Share;
use crate::ids::BudgetName;
use crate::units::{Money, Timestamp};

/// A cap over a scope and a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: BudgetName,
    /// Labels that a run must have for the budget to count it; empty for every run.
    pub scope: BTreeMap<String, String>,
    /// Labels whose every value has an account of its own; a run without one of them is refused.
    pub each: Vec<String>,
    /// The cap of each account.
    pub cap: Money,
    /// How long a period is.
    pub period: Period,
    /// Where the day begins.
    pub time_zone: TimeZone,
    /// True where it refuses nothing, and what it would have refused is counted.
    pub shadow: bool,
    /// Shares of the cap at which people are told, the lowest first.
    pub alerts_at: Vec<Share>,
    /// Where it was declared.
    pub declared: Declared,
}

impl Budget {
    /// True where the budget counts runs with these labels. A run outside of any thread isn't counted by one that has an
    /// account for each thread: few runs are in one. Nor is one that lacks a label of a shadow, which refuses nobody.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let threads = self.each.iter().any(|label| label == THREAD);
        let has_labels = || self.each.iter().all(|label| labels.contains_key(label));
        (!threads || labels.contains_key(THREAD))
            && (!self.shadow || has_labels())
            && self.scope.iter().all(|(label, value)| labels.get(label) == Some(value))
    }

    /// The values of `each`, as `tenant=acme,user=7`; `%`, `,` and `=` are percent-encoded, so that no two scopes share a text.
    ///
    /// # Errors
    /// The run lacks one of the labels.
    pub fn scope_value(&self, labels: &Labels) -> Result<String, MissingLabel> {
        let part = |label: &String| match labels.get(label) {
            Some(value) => Ok(format!("{}={}", escaped(label), escaped(value))),
            None => Err(self.missing(label)),
        };
        Ok(self.each.iter().map(part).collect::<Result<Vec<_>, _>>()?.join(","))
    }

    /// The account that counts a run with these labels at `now`; `None` where the budget doesn't count it.
    ///
    /// # Errors
    /// The run lacks a label of `each`.
    pub fn account(&self, labels: &Labels, now: Timestamp) -> Result<Option<AccountKey>, MissingLabel> {
        if !self.matches(labels) {
            return Ok(None);
        }
        Ok(Some(self.account_of(self.scope_value(labels)?, now)))
    }

    /// The account of a scope at `now`.
    #[must_use]
    pub fn account_of(&self, scope: String, now: Timestamp) -> AccountKey {
        let (start, end) = self.period.window(&self.time_zone, now);
        AccountKey::Budget { budget: self.name.clone(), scope, start, end }
    }

    fn missing(&self, label: &str) -> MissingLabel {
        MissingLabel { label: label.to_owned(), budget: self.name.clone(), declared: self.declared.clone() }
    }
}

/// A run lacks a label that a budget has an account for each value of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "budget `{budget}` ({declared}) has an account for each `{label}`, and the run has no such label; add `--label {label}=…`"
)]
pub struct MissingLabel {
    /// The label.
    pub label: String,
    /// The budget.
    pub budget: BudgetName,
    /// Where the budget was declared.
    pub declared: Declared,
}

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour.
    Hour,
    /// A calendar day: 23 to 25 hours.
    Day,
    /// An ISO week, from Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar quarter.
    Quarter,
    /// For ever.
    Total,
}

impl Period {
    /// Its name in files and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Total => "total",
        }
    }

    /// The window that holds `at`, half-open; its end is `None` for [`Period::Total`].
    ///
    /// A window never begins before 1970 and, at the end of the calendar (the year 9999), never ends.
    #[must_use]
    pub fn window(self, time_zone: &TimeZone, at: Timestamp) -> (Timestamp, Option<Timestamp>) {
        if self == Self::Total {
            return (Timestamp(0), None);
        }
        let last = (instant(LAST), Some(Timestamp(u64::MAX)));
        let Some(now) = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) else {
            return last;
        };
        let bounds = match self {
            Self::Hour => Some(hour(time_zone, now)),
            Self::Day | Self::Week | Self::Month | Self::Quarter | Self::Total => self.days(time_zone, now),
        };
        bounds.map_or(last, |(start, end)| (instant(start), Some(instant(end))))
    }

    /// A window made of whole days, or `None` at the end of the calendar.
    fn days(self, zone: &TimeZone, now: jiff::Timestamp) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
        let mut first = self.first_day(zone.to_datetime(now).date())?;
        // The clock may show yesterday again just after midnight (or skip a day): the date that it shows is a guess only.
        if start_of(zone, first)? > now {
            first = self.first_day(first.yesterday().ok()?)?;
        } else if start_of(zone, self.next_first_day(first)?)? <= now {
            first = self.next_first_day(first)?;
        }
        Some((start_of(zone, first)?, start_of(zone, self.next_first_day(first)?)?))
    }

    /// The first day of the period that holds `date`.
    fn first_day(self, date: Date) -> Option<Date> {
        match self {
            Self::Hour | Self::Day | Self::Total => Some(date),
            Self::Week => date.checked_sub(i64::from(date.weekday().since(Weekday::Monday)).days()).ok(),
            Self::Month => Some(date.first_of_month()),
            Self::Quarter => Date::new(date.year(), (date.month() - 1) / 3 * 3 + 1, 1).ok(),
        }
    }

    fn next_first_day(self, first: Date) -> Option<Date> {
        let length = match self {
            Self::Hour | Self::Day | Self::Total => 1.day(),
            Self::Week => 7.days(),
            Self::Month => 1.month(),
            Self::Quarter => 3.months(),
        };
        first.checked_add(length).ok()
    }
}

/// Where the last window of the calendar begins: 9999-12-01 UTC.
const LAST: jiff::Timestamp = jiff::Timestamp::constant(253_399_622_400, 0);

/// The first instant of a day; where midnight is skipped, the first that there is.
fn start_of(zone: &TimeZone, date: Date) -> Option<jiff::Timestamp> {
    zone.to_zoned(date.at(0, 0, 0, 0)).ok().map(|zoned| zoned.timestamp())
}

/// The hour on the zone's clock that holds `now`, cut short where the zone's offset changes within it.
fn hour(zone: &TimeZone, now: jiff::Timestamp) -> (jiff::Timestamp, jiff::Timestamp) {
    let offset = i64::from(zone.to_offset(now).seconds());
    let into = (now.as_second() + offset).rem_euclid(3_600);
    let start = now.as_second() - into;
    let floor = jiff::Timestamp::from_second(start).unwrap_or(jiff::Timestamp::MIN);
    let ceiling = jiff::Timestamp::from_second(start + 3_600).unwrap_or(jiff::Timestamp::MAX);
    let changed = |at: jiff::Timestamp| {
        let before = at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(jiff::Timestamp::MIN);
        zone.to_offset(before) != zone.to_offset(at)
    };
    let just_after = now.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now);
    let since = zone
        .preceding(just_after)
        .map(|change| change.timestamp())
        .take_while(|at| *at > floor)
        .find(|at| changed(*at));
    let until =
        zone.following(now).map(|change| change.timestamp()).take_while(|at| *at < ceiling).find(|at| changed(*at));
    (since.unwrap_or(floor), until.unwrap_or(ceiling))
}

/// Our form of an instant, rounded down to milliseconds: offsets and transitions are whole seconds.
fn instant(at: jiff::Timestamp) -> Timestamp {
    Timestamp(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace(',', "%2C").replace('=', "%3D")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Pacific/Apia",
        "America/New_York",
    ];
    const PERIODS: [Period; 5] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Quarter];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone of the bundled database")
    }

    fn at(text: &str) -> Timestamp {
        instant(text.parse().expect("an instant"))
    }

    fn shown(period: Period, zone_name: &str, now: &str) -> String {
        let (start, end) = period.window(&zone(zone_name), at(now));
        format!("{start} {}", end.expect("an end"))
    }

    #[test]
    fn days_have_the_hours_that_the_clock_gives_them() {
        let hours = |zone_name: &str, now: &str| {
            let (start, end) = Period::Day.window(&zone(zone_name), at(now));
            end.expect("an end").since(start).0 / 3_600_000
        };
        assert_eq!(hours("Europe/Berlin", "2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("Europe/Berlin", "2026-10-25T12:00:00Z"), 25);
        assert_eq!(hours("Europe/Berlin", "2026-11-23T12:00:00Z"), 24);
        assert_eq!(hours("Asia/Kolkata", "2026-03-29T12:00:00Z"), 24);
        // Midnight doesn't exist: the day begins at one.
        assert_eq!(hours("America/Sao_Paulo", "2018-11-04T12:00:00Z"), 23);
        assert_eq!(
            shown(Period::Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z"),
            "2018-11-04T03:00:00.000Z 2018-11-05T02:00:00.000Z"
        );
    }

    #[test]
    fn windows_begin_where_the_zone_says() {
        assert_eq!(
            shown(Period::Month, "Europe/Berlin", "2026-10-31T23:30:00Z"),
            "2026-10-31T23:00:00.000Z 2026-11-30T23:00:00.000Z"
        );
        assert_eq!(
            shown(Period::Week, "UTC", "2027-01-01T00:00:00Z"),
            "2026-12-28T00:00:00.000Z 2027-01-04T00:00:00.000Z"
        );
        assert_eq!(
            shown(Period::Quarter, "Asia/Kolkata", "2026-12-31T18:29:59Z"),
            "2026-09-30T18:30:00.000Z 2026-12-31T18:30:00.000Z"
        );
        assert_eq!(
            shown(Period::Hour, "Asia/Kolkata", "2026-11-23T12:00:00Z"),
            "2026-11-23T11:30:00.000Z 2026-11-23T12:30:00.000Z"
        );
    }

    #[test]
    fn a_date_that_comes_twice_and_one_that_never_comes_still_tile() {
        // At 00:01 the clock went back to 23:01 of the day before.
        let (first, _) = Period::Day.window(&zone("America/St_Johns"), at("2010-11-07T02:30:30Z"));
        let (again, _) = Period::Day.window(&zone("America/St_Johns"), at("2010-11-07T03:00:00Z"));
        assert_eq!(first, again);
        // Apia left out 2011-12-30.
        assert_eq!(
            shown(Period::Day, "Pacific/Apia", "2011-12-30T12:00:00Z"),
            "2011-12-30T10:00:00.000Z 2011-12-31T10:00:00.000Z"
        );
    }

    #[test]
    fn the_ends_of_time_have_windows_too() {
        assert_eq!(Period::Total.window(&TimeZone::UTC, at("2026-11-23T00:00:00Z")), (Timestamp(0), None));
        let (start, end) = Period::Day.window(&zone("America/New_York"), Timestamp(0));
        assert_eq!((start, end), (Timestamp(0), Some(at("1970-01-01T05:00:00Z"))));
        for period in PERIODS {
            let (start, end) = period.window(&TimeZone::UTC, Timestamp(u64::MAX - 1));
            assert!(start < end.expect("an end"));
        }
    }

    fn budget() -> Budget {
        Budget {
            name: "support-month".into(),
            scope: BTreeMap::from([("feature".to_owned(), "support".to_owned())]),
            each: vec!["tenant".to_owned(), "user".to_owned()],
            cap: Money::from_micro(500_000_000),
            period: Period::Month,
            time_zone: TimeZone::UTC,
            shadow: false,
            alerts_at: Vec::new(),
            declared: Declared::Default,
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_budget_counts_by_labels_and_refuses_where_one_is_missing() {
        let run = labels(&[("feature", "support"), ("tenant", "acme"), ("user", "7"), ("x", "y")]);
        assert!(budget().matches(&run));
        assert!(!budget().matches(&labels(&[("feature", "sales")])));
        assert_eq!(budget().scope_value(&run).expect("labels"), "tenant=acme,user=7");
        let tricky = labels(&[("tenant", "acme,user=7"), ("user", "")]);
        assert_eq!(budget().scope_value(&tricky).expect("labels"), "tenant=acme%2Cuser%3D7,user=");
        let missing =
            budget().account(&labels(&[("feature", "support"), ("tenant", "a")]), Timestamp(0)).expect_err("no user");
        assert_eq!(missing.label, "user");
        assert_eq!(budget().account(&labels(&[("tenant", "a")]), Timestamp(0)), Ok(None));
    }

    proptest! {
        #[test]
        fn windows_tile_time(now in 0u64..4_102_444_800_000, zone_index in 0..ZONES.len(), period_index in 0..PERIODS.len()) {
            let (zone, period) = (zone(ZONES[zone_index]), PERIODS[period_index]);
            let (start, end) = period.window(&zone, Timestamp(now));
            let end = end.expect("an end");
            prop_assert!(start.0 <= now && now < end.0);
            prop_assert_eq!(period.window(&zone, start), (start, Some(end)));
            prop_assert_eq!(period.window(&zone, Timestamp(end.0 - 1)), (start, Some(end)));
            prop_assert_eq!(period.window(&zone, end).0, end);
        }

        #[test]
        fn windows_tile_time_at_every_change_of_the_clock(
            zone_index in 0..ZONES.len(), period_index in 0..PERIODS.len(), skip in 0usize..120, near in -5_400i64..5_400,
        ) {
            let (zone, period) = (zone(ZONES[zone_index]), PERIODS[period_index]);
            let changes: Vec<_> = zone.following(jiff::Timestamp::UNIX_EPOCH).take(200).map(|change| change.timestamp()).collect();
            prop_assume!(!changes.is_empty());
            let now = instant(changes[skip % changes.len()] + SignedDuration::from_secs(near));
            let (start, end) = period.window(&zone, now);
            let end = end.expect("an end");
            prop_assert!(start <= now && now < end, "{start} {now} {end}");
            prop_assert_eq!(period.window(&zone, start), (start, Some(end)));
            prop_assert_eq!(period.window(&zone, Timestamp(end.0 - 1)), (start, Some(end)));
            prop_assert_eq!(period.window(&zone, end).0, end);
        }
    }
}
