//! What a run was worth: units, a quality score, revenue. Told by people, by judges and metrics, or by the agent's own rules.
//!
//! Invariants: each thing that was said is kept in the run's log; what was said last stands, thing by thing, so that who
//! tells the revenue doesn't take back the quality. What nobody said is unknown, never zero.

mod rules;

pub use rules::{OutcomeRules, REVENUE_HELP, RuleFault, SCORE_HELP, UNITS_HELP};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::event::RunState;
use crate::domain::summary::RunSummary;
use crate::ids::RunId;
use crate::units::Money;

/// The most units of one run.
pub const UNITS_MAX: u64 = 1_000_000_000_000;
/// The most characters of a note.
pub const NOTE_CHARS_MAX: usize = 500;

/// What is known of a run's worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// What the business counts: resolved cases, written articles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// How good it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What it brought in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revenue_usd: Option<Money>,
}

impl Outcome {
    /// What is known once this is said too.
    #[must_use]
    pub fn after(&self, said: &OutcomeRecorded) -> Self {
        let OutcomeRecorded { outcome, unknown, .. } = said;
        let is_known = |part: Part| !unknown.contains(&part);
        Self {
            units: outcome.units.or(self.units).filter(|_| is_known(Part::Units)),
            quality: outcome.quality.or(self.quality).filter(|_| is_known(Part::Quality)),
            revenue_usd: outcome.revenue_usd.or(self.revenue_usd).filter(|_| is_known(Part::Revenue)),
        }
    }

    /// True where nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A part of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// `units`.
    Units,
    /// `quality`.
    Quality,
    /// `revenue`.
    Revenue,
}

impl std::str::FromStr for Part {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "units" => Ok(Self::Units),
            "quality" => Ok(Self::Quality),
            "revenue" => Ok(Self::Revenue),
            _ => Err(()),
        }
    }
}

/// What somebody, or a rule, said that a run was worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeRecorded {
    /// What is said; of the rest nothing.
    pub outcome: Outcome,
    /// What is taken back, and unknown from here on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Part>,
    /// Who says it.
    pub by: OutcomeBy,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl OutcomeRecorded {
    /// Looks whether it can be said of a run that stands so.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, run: &RunSummary) -> Result<(), OutcomeFault> {
        if self.outcome.is_empty() && self.unknown.is_empty() {
            return Err(OutcomeFault::Nothing);
        }
        if self.outcome.units.is_some_and(|units| units > UNITS_MAX) {
            return Err(OutcomeFault::Units);
        }
        let twice = self.unknown.iter().any(|part| match part {
            Part::Units => self.outcome.units.is_some(),
            Part::Quality => self.outcome.quality.is_some(),
            Part::Revenue => self.outcome.revenue_usd.is_some(),
        });
        if twice {
            return Err(OutcomeFault::Twice);
        }
        if self.note.as_ref().is_some_and(|note| note.chars().count() > NOTE_CHARS_MAX) {
            return Err(OutcomeFault::Note);
        }
        if let Some(parent) = &run.parent {
            return Err(OutcomeFault::SubAgent { root: parent.root });
        }
        if run.state.is_ended() { Ok(()) } else { Err(OutcomeFault::Open { state: run.state }) }
    }
}

/// Why an outcome isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeFault {
    /// It says nothing.
    #[error("an outcome says units, quality or revenue; give one of them at least")]
    Nothing,
    /// Too many.
    #[error("a run has {UNITS_MAX} units at most; give the units of this run alone")]
    Units,
    /// Known and unknown at once.
    #[error("what is said can't be unknown too; give either the value or its name under `unknown`")]
    Twice,
    /// A long note.
    #[error("a note has {NOTE_CHARS_MAX} characters at most; say less")]
    Note,
    /// What is written of it was erased, and would be there again.
    #[error("what was written of it is erased, and a note would stay; say it without a note")]
    Erased,
    /// It hasn't ended.
    #[error("it is {state}, and an outcome is that of a run that has ended; say it then")]
    Open {
        /// Its state.
        state: RunState,
    },
    /// It is a sub-agent's.
    #[error("it is a sub-agent's, and units and revenue are those of the whole; say it of its root, `{root}`")]
    SubAgent {
        /// Its root.
        root: RunId,
    },
}

impl OutcomeFault {
    /// True where another run or another time doesn't help.
    #[must_use]
    pub const fn is_misspelt(&self) -> bool {
        match self {
            Self::Nothing | Self::Units | Self::Twice | Self::Note | Self::Erased => true,
            Self::Open { .. } | Self::SubAgent { .. } => false,
        }
    }
}

/// Who says what a run was worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeBy {
    /// The rules of the agent's file.
    Rules,
    /// A person or a program, by the name that was given.
    Person(String),
}

impl std::fmt::Display for OutcomeBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rules => f.pad("the agent's rules"),
            Self::Person(name) => f.pad(name),
        }
    }
}

/// How good it was, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// From 0 to 1.
    pub score: Score,
    /// Whose judgement it is.
    pub source: QualitySource,
}

/// Whose judgement a score is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualitySource {
    /// A person's.
    Human,
    /// A model's.
    Judge,
    /// A program's.
    Metric,
}

impl QualitySource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Human, Self::Judge, Self::Metric];

    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Judge => "judge",
            Self::Metric => "metric",
        }
    }
}

impl std::str::FromStr for QualitySource {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|source| source.name() == text).ok_or(())
    }
}

/// A score from 0 to 1, in ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(u16);

impl Score {
    /// The best.
    pub const MAX: Self = Self(10_000);

    /// A score in ten-thousandths; `None` above 1.
    #[must_use]
    pub fn from_ten_thousandths(score: u64) -> Option<Self> {
        u16::try_from(score).ok().map(Self).filter(|score| *score <= Self::MAX)
    }

    /// In ten-thousandths.
    #[must_use]
    pub const fn ten_thousandths(self) -> u16 {
        self.0
    }

    /// Reads `0.93`; digits beyond the fourth are rounded, half up.
    ///
    /// # Errors
    /// No decimal number from 0 to 1.
    pub fn parse(text: &str) -> Result<Self, ScoreError> {
        let fault = || ScoreError(text.chars().take(40).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(part) || text.ends_with('.') {
            return Err(fault());
        }
        let digit = |at: usize| u64::from(part.as_bytes().get(at).map_or(0, |byte| byte - b'0'));
        let kept = (0..4).fold(0, |sum, at| sum * 10 + digit(at));
        let whole: u64 = whole.parse().map_err(|_| fault())?;
        let sum = whole.checked_mul(10_000).and_then(|whole| whole.checked_add(kept + u64::from(digit(4) >= 5)));
        sum.and_then(Self::from_ten_thousandths).ok_or_else(fault)
    }
}

impl std::fmt::Display for Score {
    /// `0.93`: without zeros at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

written_as_text!(Score, "Score", "A score from 0 to 1, of at most four places.", {
    "pattern": r"^(0(\.[0-9]{1,4})?|1)$",
    "examples": ["0.93"],
});

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Why a text is no score.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no score; write a number from 0 to 1, such as `0.93`")]
pub struct ScoreError(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcome: Outcome, unknown: &[Part]) -> OutcomeRecorded {
        OutcomeRecorded { outcome, unknown: unknown.to_vec(), by: OutcomeBy::Rules, note: None }
    }

    #[test]
    fn a_score_is_a_number_from_0_to_1() {
        for (text, shown) in
            [("0.93", "0.93"), ("1", "1"), ("0", "0"), ("1.0000", "1"), ("0.33335", "0.3334"), ("0.5", "0.5")]
        {
            assert_eq!(Score::parse(text).expect("a score").to_string(), shown);
        }
        for bad in ["", "1.1", "-0.5", "0.", ".5", "1e-3", "0,5", "93%", "1.00005", "99999999999999999999"] {
            assert!(Score::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_said_last_stands_and_the_rest_stays() {
        let quality =
            |score: &str| Quality { score: Score::parse(score).expect("a score"), source: QualitySource::Judge };
        let first = Outcome { units: Some(1), quality: Some(quality("0.5")), revenue_usd: None };
        let after = Outcome::default().after(&said(first.clone(), &[]));
        assert_eq!(after, first);
        let revenue = Outcome { revenue_usd: Some(Money::from_micro(5)), ..Outcome::default() };
        let after = after.after(&said(revenue, &[]));
        assert_eq!((after.units, after.revenue_usd), (Some(1), Some(Money::from_micro(5))));
        let better = Outcome { quality: Some(quality("0.9")), ..Outcome::default() };
        let after = after.after(&said(better, &[Part::Revenue]));
        assert_eq!((after.quality, after.revenue_usd, after.units), (Some(quality("0.9")), None, Some(1)));
        assert!(after.after(&said(Outcome::default(), &[Part::Units, Part::Quality])).is_empty());
    }
}
