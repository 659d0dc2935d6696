//! Amounts, in types that can't be mixed up: money, token prices, tokens, time.
//!
//! Everything here is an integer. There is no float, no clock and no rounding but where a name says so.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Pico-dollars in one dollar.
pub const PICO_PER_USD: u128 = 1_000_000_000_000;
/// Digits after the point that a dollar amount can carry.
const DECIMALS_MAX: usize = 12;
/// The largest amount that text may name: $1,000,000,000,000.
const USD_MAX: u128 = 1_000_000_000_000;

/// An amount of money in pico-dollars (1e-12 USD): an integer, never negative, never a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u128);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount from pico-dollars.
    #[must_use]
    pub const fn from_pico(pico: u128) -> Self {
        Self(pico)
    }

    /// An amount from micro-dollars (1e-6 USD).
    #[must_use]
    pub const fn from_micro(micro: u64) -> Self {
        Self(micro as u128 * 1_000_000)
    }

    /// The amount in pico-dollars.
    #[must_use]
    pub const fn pico(self) -> u128 {
        self.0
    }

    /// True for nothing at all.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The sum.
    ///
    /// # Panics
    /// Above 3.4e26 dollars, which bounded prices, tokens and caps can't reach.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("prices, tokens and caps are bounded, so sums fit"))
    }

    /// The difference, or `None` where `other` is larger.
    #[must_use]
    pub fn checked_minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, and nothing where `other` is larger: what is left of a cap.
    #[must_use]
    pub const fn left_after(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The signed difference `self - other`.
    #[must_use]
    pub fn minus(self, other: Self) -> MoneyDelta {
        MoneyDelta::from(self).minus(MoneyDelta::from(other))
    }

    /// Half, rounded down.
    #[must_use]
    pub const fn half(self) -> Self {
        Self(self.0 / 2)
    }

    /// `count` times this amount.
    ///
    /// # Panics
    /// Above 3.4e26 dollars, as [`Money::plus`].
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.checked_mul(count as u128).expect("prices, tokens and caps are bounded, so products fit"))
    }

    /// This share of the amount in basis points (1/10,000), rounded down.
    #[must_use]
    pub const fn share(self, basis_points: u32) -> Self {
        Self(self.0 / 10_000 * basis_points as u128 + self.0 % 10_000 * basis_points as u128 / 10_000)
    }

    /// How much of `whole` this is, in basis points, rounded down; `None` of nothing.
    #[must_use]
    pub fn basis_points_of(self, whole: Self) -> Option<u64> {
        let scaled = self.0.checked_mul(10_000)?.checked_div(whole.0)?;
        u64::try_from(scaled).ok()
    }

    /// The most that anybody may type: a thousand billion dollars. Sums of many such fit.
    pub const TYPED_MAX: Self = Self(USD_MAX * PICO_PER_USD);

    /// Parses `"$0.05"` or `"0.05"`: at most 12 decimals, `_` and `,` allowed between digits.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let trimmed = text.trim();
        parse_decimal(trimmed.strip_prefix('$').unwrap_or(trimmed), DECIMALS_MAX).map(Self)
    }

    /// The amount for each of so many, rounded up; `None` of none.
    #[must_use]
    pub fn each_of(self, count: u64) -> Option<Self> {
        (count > 0).then(|| Self(self.0.div_ceil(count.into())))
    }

    /// The amount as a plain decimal of dollars, exact, without a currency sign: `0.001234`.
    #[must_use]
    pub fn usd(self) -> String {
        let (whole, part) = (self.0 / PICO_PER_USD, self.0 % PICO_PER_USD);
        if part == 0 {
            return whole.to_string();
        }
        let digits = format!("{part:012}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl fmt::Display for Money {
    /// `$0.001234`, exact, with two decimals at least.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PICO_PER_USD, self.0 % PICO_PER_USD);
        let digits = format!("{part:012}");
        let shown = digits.trim_end_matches('0');
        f.pad(&format!("${whole}.{shown:0<2}"))
    }
}

impl FromStr for Money {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::parse(text)
    }
}

written_as_text!(Money, "Money", "An amount in USD, exact: decimal digits with at most 12 places.", {
    "pattern": r"^[0-9]+(\.[0-9]{1,12})?$",
    "examples": ["0.0123"],
});

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.usd())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u128::deserialize(deserializer).map(Self);
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        // What we stored may pass the limit for typed amounts; only the form is checked.
        parse_decimal_up_to(&text, DECIMALS_MAX, u128::MAX / PICO_PER_USD - 1)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

/// A difference of amounts in pico-dollars: corrections, margins, room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoneyDelta(i128);

impl MoneyDelta {
    /// No difference.
    pub const ZERO: Self = Self(0);

    /// A difference from pico-dollars.
    #[must_use]
    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }

    /// The difference in pico-dollars.
    #[must_use]
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// The sum.
    ///
    /// # Panics
    /// Above 1.7e26 dollars, which bounded amounts can't reach.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("amounts are bounded, so sums fit"))
    }

    /// The difference of differences.
    ///
    /// # Panics
    /// As [`MoneyDelta::plus`].
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("amounts are bounded, so differences fit"))
    }

    /// The difference as a plain decimal of dollars, exact: `-0.001234`.
    #[must_use]
    pub fn usd(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        format!("{sign}{}", Money(self.0.unsigned_abs()).usd())
    }
}

written_as_text!(MoneyDelta, "MoneyDelta", "A difference of amounts in USD, exact: decimal digits, with a `-` before what is below zero.", {
    "pattern": r"^-?[0-9]+(\.[0-9]{1,12})?$",
    "examples": ["-0.5"],
});

impl Serialize for MoneyDelta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.usd())
    }
}

impl<'de> Deserialize<'de> for MoneyDelta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let (is_negative, amount) = text.strip_prefix('-').map_or((false, &*text), |amount| (true, amount));
        let pico = parse_decimal_up_to(amount, DECIMALS_MAX, u128::MAX / PICO_PER_USD - 1)
            .map_err(serde::de::Error::custom)
            .and_then(|pico| i128::try_from(pico).map_err(serde::de::Error::custom))?;
        Ok(Self(if is_negative { -pico } else { pico }))
    }
}

impl From<Money> for MoneyDelta {
    fn from(amount: Money) -> Self {
        Self(i128::try_from(amount.0).expect("amounts are bounded far below 2^127 pico-dollars"))
    }
}

impl fmt::Display for MoneyDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}{}", Money(self.0.unsigned_abs())))
    }
}

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the form `1234.5678`.
    #[error("`{0}` is no decimal amount, such as `0.05`")]
    Form(String),
    /// More decimals than can be kept exactly.
    #[error("`{0}` has more than {1} decimals")]
    Decimals(String, usize),
    /// Larger than anything meant.
    #[error("`{0}` is above 1,000,000,000,000")]
    TooLarge(String),
}

/// Parses a plain decimal into units of `10^-12`; at most `decimals_max` digits after the point.
fn parse_decimal(text: &str, decimals_max: usize) -> Result<u128, AmountError> {
    parse_decimal_up_to(text, decimals_max, USD_MAX)
}

fn parse_decimal_up_to(text: &str, decimals_max: usize, whole_max: u128) -> Result<u128, AmountError> {
    let form = || AmountError::Form(text.to_owned());
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: String = whole.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(&whole) || !digits(part) || text.ends_with('.') {
        return Err(form());
    }
    let kept = part.trim_end_matches('0');
    if kept.len() > decimals_max {
        return Err(AmountError::Decimals(text.to_owned(), decimals_max));
    }
    let whole: u128 = whole.parse().map_err(|_| AmountError::TooLarge(text.to_owned()))?;
    if whole > whole_max {
        return Err(AmountError::TooLarge(text.to_owned()));
    }
    let part: u128 = format!("{kept:0<12}").parse().map_err(|_| form())?;
    Ok(whole * PICO_PER_USD + part)
}

/// A price of one token (or of another thing that is counted) in pico-dollars; 1 USD per million is `1_000_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPrice(u64);

impl TokenPrice {
    /// A price from pico-dollars for each token.
    #[must_use]
    pub const fn from_pico(pico: u64) -> Self {
        Self(pico)
    }

    /// The price in pico-dollars for each token.
    #[must_use]
    pub const fn pico(self) -> u64 {
        self.0
    }

    /// Parses USD per 1,000,000 tokens, as providers publish it: at most 6 decimals, so that a token's price is whole.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_per_million(text: &str) -> Result<Self, AmountError> {
        let pico = parse_decimal(text.trim().trim_start_matches('$'), 6)? / 1_000_000;
        u64::try_from(pico).map(Self).map_err(|_| AmountError::TooLarge(text.to_owned()))
    }

    /// The price as USD per 1,000,000 tokens.
    #[must_use]
    pub fn usd_per_million(self) -> String {
        Money(u128::from(self.0) * 1_000_000).usd()
    }

    /// The exact cost of `count` tokens. Can't overflow: u64 times u64 fits u128.
    #[must_use]
    pub fn cost(self, count: Tokens) -> Money {
        Money(u128::from(self.0) * u128::from(count.0))
    }
}

impl Serialize for TokenPrice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.usd_per_million())
    }
}

impl<'de> Deserialize<'de> for TokenPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_per_million(&text).map_err(serde::de::Error::custom)
    }
}

/// A count of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Tokens(pub u64);

impl Tokens {
    /// None.
    pub const ZERO: Self = Self(0);
    /// The largest count believed of one call; a usage above it is garbage, not a bill.
    pub const BELIEVED_MAX: Self = Self(1_000_000_000);

    /// The sum, at most `u64::MAX`, which believed counts can't reach.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, and none where `other` is larger.
    #[must_use]
    pub const fn left_after(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Tokens {
    /// With thousands separators: `12,345`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&grouped(self.0))
    }
}

/// A number with thousands separators, for people: `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// A length from whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// The sum, at most `u64::MAX`.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, and none where `other` is longer.
    #[must_use]
    pub const fn left_after(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The same length for the standard library.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Parses `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`: a whole number and a unit.
    ///
    /// # Errors
    /// Says what a length of time looks like.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let trimmed = text.trim();
        let at = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| DurationError(text.to_owned()))?;
        let (number, unit) = trimmed.split_at(at);
        let number: u64 = number.parse().map_err(|_| DurationError(text.to_owned()))?;
        let factor = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(DurationError(text.to_owned())),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| DurationError(text.to_owned()))
    }
}

impl fmt::Display for Millis {
    /// The shortest exact form: `90s`, `5m`, `250ms`, `7d`; seconds with a point above a second where uneven.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let text = match ms {
            0 => "0s".to_owned(),
            _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
            _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
            _ if ms > 1000 => format!("{}.{:03}s", ms / 1000, ms % 1000),
            _ => format!("{ms}ms"),
        };
        f.pad(&text)
    }
}

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no length of time, such as `250ms`, `30s`, `5m`, `2h` or `7d`")]
pub struct DurationError(String);

/// A point in time: milliseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time that has passed since `earlier`, and none if the clock stepped back.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// The point `length` later.
    #[must_use]
    pub const fn after(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match instant {
            Some(instant) => f.pad(&instant.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
            None => f.pad("out of range"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Reads RFC 3339, such as `2026-11-01T09:00:00Z`.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let instant: Option<jiff::Timestamp> = text.parse().ok();
        let millis = instant.and_then(|instant| u64::try_from(instant.as_millisecond()).ok());
        millis.map(Self).ok_or_else(|| TimestampError(text.to_owned()))
    }
}

/// A text that is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no point in time, such as `2026-11-01T09:00:00Z`")]
pub struct TimestampError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_back_what_it_prints() {
        for text in ["0", "0.05", "0.000000000001", "1234.5", "1000000000000"] {
            assert_eq!(Money::parse(text).expect("an amount").usd(), text);
        }
        assert_eq!(Money::parse("$1,234.50").expect("an amount").to_string(), "$1234.50");
    }

    #[test]
    fn amounts_that_are_none_are_refused() {
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000000001", "$", "1000000000001"] {
            assert!(Money::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_published_price_is_whole_pico_dollars_a_token() {
        assert_eq!(TokenPrice::parse_per_million("0.01875").expect("a price").pico(), 18_750);
        assert_eq!(TokenPrice::parse_per_million("0.01875").expect("a price").usd_per_million(), "0.01875");
        assert!(TokenPrice::parse_per_million("0.0000001").is_err());
    }

    #[test]
    fn lengths_of_time_read_and_print() {
        for text in ["250ms", "30s", "5m", "2h", "7d"] {
            assert_eq!(Millis::parse(text).expect("a length").to_string(), text);
        }
        assert_eq!(Millis::parse("90s").expect("a length").to_string(), "90s");
        for text in ["", "5", "s", "1.5s", "5 weeks", "99999999999999999999s"] {
            assert!(Millis::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_point_in_time_reads_back_what_it_prints() {
        for time in [0, 1, 1_795_392_000_123] {
            assert_eq!(Timestamp(time).to_string().parse(), Ok(Timestamp(time)));
        }
        assert!("yesterday".parse::<Timestamp>().is_err() && "1969-12-31T00:00:00Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn shares_round_down_and_do_not_overflow() {
        assert_eq!(Money::from_pico(10_001).share(5_000).pico(), 5_000);
        assert_eq!(Money::from_pico(3).basis_points_of(Money::from_pico(4)), Some(7_500));
        assert_eq!(Money::from_pico(3).basis_points_of(Money::ZERO), None);
    }
}
