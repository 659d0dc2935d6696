//! When a policy's models are left for cheaper ones though they could be asked: a pure judgement over figures that come in
//! as data. Money that isn't there at all is the ledger's affair (LEDGER rule 9c), and is told with the same words.
//! Deliberately absent: budgets, clocks and time zones.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::event::Labels;

/// The label that holds a run's priority; a run without it has the normal one.
pub const PRIORITY: &str = "priority";
/// A whole, in basis points.
const WHOLE: u128 = 10_000;
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// How much a run matters beside others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// It may wait, and may be answered by a cheaper model.
    Low,
    /// What a run has that says nothing.
    #[default]
    Normal,
    /// It matters more than others.
    High,
}

impl Priority {
    /// All of them, the lowest first, by their names.
    pub const NAMES: [&str; 3] = ["low", "normal", "high"];

    /// Its name in files, options and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// That of a run with these labels.
    #[must_use]
    pub fn of(labels: &Labels) -> Self {
        labels.get(PRIORITY).and_then(|name| name.parse().ok()).unwrap_or_default()
    }
}

impl FromStr for Priority {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Low, Self::Normal, Self::High].into_iter().find(|priority| priority.name() == name).ok_or(())
    }
}

/// A part of a whole in basis points: 9,000 is 90%.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Share(pub u32);

impl Share {
    /// Everything.
    pub const WHOLE: Self = Self(10_000);

    /// How much of `whole` is `part`, rounded down; everything of nothing.
    #[must_use]
    pub fn of(part: u128, whole: u128) -> Self {
        let points = part.checked_mul(WHOLE).and_then(|points| points.checked_div(whole));
        Self(points.and_then(|points| u32::try_from(points).ok()).unwrap_or(u32::MAX))
    }

    /// Reads `90%` or `92.5%`: above 0 and at most 100, with two digits after the point at most.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let hundredths: u32 = format!("{part:0<2}").parse().ok()?;
        let points = whole.parse::<u32>().ok()? * 100 + hundredths;
        (1..=10_000).contains(&points).then_some(Self(points))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// A stretch of the day, its end excluded; it may go over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hours {
    /// Its first minute of the day.
    pub from: u16,
    /// The first minute that isn't of it any more.
    pub to: u16,
}

impl Hours {
    /// Reads `20:00-06:00`; a stretch that is empty, or the whole day, is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_digit());
            let (hours, minutes) = (digits(hours).then_some(hours)?, digits(minutes).then_some(minutes)?);
            let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            let minute = hours * 60 + minutes;
            (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
        };
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from != to && from < DAY_MINUTES && from != to % DAY_MINUTES).then_some(Self { from, to })
    }

    /// True where a minute of the day is in it.
    #[must_use]
    pub const fn holds(self, minute: u16) -> bool {
        if self.from < self.to {
            self.from <= minute && minute < self.to
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))
    }
}

/// What else than missing money sends a run to the cheaper policy; each for itself is enough. Empty for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DowngradeRules {
    /// At this share of the tightest budget that counts the run: settled and held, of its cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Share>,
    /// Runs of this priority or a lower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// At these times of day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
    /// IANA name of the zone whose clock `hours` are read from; `None` for UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl DowngradeRules {
    /// True where only missing money downgrades.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The rule that holds now, if one does; the share of the budget comes first, then priority, then the time of day.
    #[must_use]
    pub fn judge(&self, now: &Circumstances) -> Option<DowngradeWhy> {
        let by_budget = || {
            let (at, tightest) = (self.at?, now.tightest.as_ref()?);
            let (budget, used) = (tightest.budget.clone(), tightest.used);
            (used >= at).then_some(DowngradeWhy::BudgetShare { budget, used, at })
        };
        let by_priority = || {
            let highest = self.priority?;
            (now.priority <= highest).then_some(DowngradeWhy::Priority { priority: now.priority })
        };
        let by_time = || {
            let minute = now.minute?;
            let hours = *self.hours.iter().find(|hours| hours.holds(minute))?;
            let time_zone = self.time_zone.clone().unwrap_or_else(|| "UTC".to_owned());
            Some(DowngradeWhy::TimeOfDay { hours, time_zone })
        };
        by_budget().or_else(by_priority).or_else(by_time)
    }
}

/// What the rules are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The budget that counts the run and is used the most; `None` where none counts it.
    pub tightest: Option<BudgetUse>,
    /// The run's priority.
    pub priority: Priority,
    /// The minute of the day on the rules' clock; `None` where the clock can't be read there.
    pub minute: Option<u16>,
}

/// How much of a budget is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetUse {
    /// The account, as people see it.
    pub budget: String,
    /// Settled and held, of its cap.
    pub used: Share,
}

/// Why a call goes to the models of the cheaper policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum DowngradeWhy {
    /// The money for the dearer one isn't there.
    ShortOfMoney,
    /// A budget is used up to the rule's share.
    BudgetShare {
        /// The account.
        budget: String,
        /// How much of it is used.
        used: Share,
        /// The rule's share.
        at: Share,
    },
    /// The run's priority is low enough.
    Priority {
        /// That priority.
        priority: Priority,
    },
    /// It is the time of day for it.
    TimeOfDay {
        /// The stretch of the day.
        hours: Hours,
        /// On whose clock.
        time_zone: String,
    },
}

impl fmt::Display for DowngradeWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("downgraded: ")?;
        match self {
            Self::ShortOfMoney => f.write_str("the budget is short"),
            Self::BudgetShare { budget, used, at } => write!(f, "{budget} is used to {used}, and the rule says {at}"),
            Self::Priority { priority } => write!(f, "the run's priority is {}", priority.name()),
            Self::TimeOfDay { hours, time_zone } => write!(f, "it is between {hours} ({time_zone})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_read_and_show_as_people_write_them() {
        for (text, points) in [("90%", 9_000), ("0.01%", 1), ("92.5%", 9_250), ("100%", 10_000), ("7.05%", 705)] {
            assert_eq!(Share::parse(text), Some(Share(points)), "{text}");
            assert_eq!(Share(points).to_string(), text);
        }
        for bad in ["90", "0%", "100.01%", "-1%", "%", "1.234%", " 9%", "9 %", "1e2%", "9.%", "٩%"] {
            assert_eq!(Share::parse(bad), None, "{bad}");
        }
        assert_eq!(Share::of(899, 1_000), Share(8_990));
        assert_eq!(Share::of(1, 0), Share(u32::MAX), "a cap of nothing is used up");
        assert_eq!(Share::of(u128::MAX, 1), Share(u32::MAX));
    }

    #[test]
    fn stretches_of_the_day_go_over_midnight() {
        let night = Hours::parse("20:00-06:00").expect("a stretch");
        assert_eq!(night.to_string(), "20:00-06:00");
        let minutes = [(19 * 60 + 59, false), (20 * 60, true), (0, true), (5 * 60 + 59, true), (6 * 60, false)];
        for (minute, holds) in minutes {
            assert_eq!(night.holds(minute), holds, "{minute}");
        }
        assert!(Hours::parse("18:00-24:00").expect("to midnight").holds(23 * 60 + 59));
        for bad in
            ["20:00", "20-06", "24:00-06:00", "20:60-21:00", "08:00-08:00", "00:00-24:00", "8:00-9:00", "25:00-01:00"]
        {
            assert_eq!(Hours::parse(bad), None, "{bad}");
        }
    }

    fn rules() -> DowngradeRules {
        DowngradeRules {
            at: Share::parse("90%"),
            priority: Some(Priority::Low),
            hours: Hours::parse("20:00-06:00").into_iter().collect(),
            time_zone: Some("Europe/Berlin".to_owned()),
        }
    }

    fn calm() -> Circumstances {
        let tightest = Some(BudgetUse { budget: "budget month".to_owned(), used: Share(8_999) });
        Circumstances { tightest, priority: Priority::Normal, minute: Some(12 * 60) }
    }

    #[test]
    fn each_rule_is_enough_and_is_named() {
        let told = |now: &Circumstances| rules().judge(now).map(|why| why.to_string());
        assert_eq!(told(&calm()), None);
        let used =
            Circumstances { tightest: calm().tightest.map(|of| BudgetUse { used: Share(9_000), ..of }), ..calm() };
        assert_eq!(told(&used).as_deref(), Some("downgraded: budget month is used to 90%, and the rule says 90%"));
        let low = Circumstances { priority: Priority::Low, ..calm() };
        assert_eq!(told(&low).as_deref(), Some("downgraded: the run's priority is low"));
        let night = Circumstances { minute: Some(20 * 60), ..calm() };
        assert_eq!(told(&night).as_deref(), Some("downgraded: it is between 20:00-06:00 (Europe/Berlin)"));
        let unread = Circumstances { minute: None, tightest: None, ..calm() };
        assert_eq!(told(&unread), None, "what isn't known downgrades nobody");
        assert_eq!(DowngradeRules::default().judge(&Circumstances { priority: Priority::Low, ..used }), None);
    }

    #[test]
    fn reasons_read_back_from_a_log() {
        for now in [Circumstances { priority: Priority::Low, ..calm() }, Circumstances { minute: Some(0), ..calm() }] {
            let why = rules().judge(&now).expect("a rule");
            let text = serde_json::to_string(&why).expect("it writes");
            assert_eq!(serde_json::from_str::<DowngradeWhy>(&text).expect("it reads"), why);
        }
    }

    proptest! {
        #[test]
        fn shares_come_back_from_their_text(points in 1..=10_000_u32) {
            prop_assert_eq!(Share::parse(&Share(points).to_string()), Some(Share(points)));
        }

        #[test]
        fn a_stretch_and_the_rest_of_the_day_share_no_minute(from in 0..1_440_u16, to in 0..1_440_u16, minute in 0..1_440_u16) {
            prop_assume!(from != to);
            prop_assert_ne!(Hours { from, to }.holds(minute), Hours { from: to, to: from }.holds(minute));
        }
    }
}
