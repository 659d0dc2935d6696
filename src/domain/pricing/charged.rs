//! What a provider says that it charged for a call, as exact decimal text: a check beside our bill, never the bill itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::units::Money;

/// The most digits on each side of the point; more is no amount of a call.
const DIGITS_MAX: usize = 40;
/// Ticks of xAI in a dollar, as a power of ten (PROVIDERS §7).
const TICKS_PLACES: i32 = 10;

/// An amount in USD, such as `0.00014`: plain digits, none more than needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Charged(String);

impl Charged {
    /// A decimal of USD as JSON writes it, digit by digit: no binary fraction comes between. `None` for what is none.
    #[must_use]
    pub fn usd(number: &Number) -> Option<Self> {
        Self::of(&number.to_string(), 0)
    }

    /// Whole ticks.
    #[must_use]
    pub fn ticks(number: &Number) -> Option<Self> {
        number.as_u64().and_then(|ticks| Self::of(&ticks.to_string(), -TICKS_PLACES))
    }

    /// True where it is this amount, to the last digit.
    #[must_use]
    pub fn is(&self, bill: Money) -> bool {
        self.0 == bill.usd()
    }

    /// The amount as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A decimal, with an exponent or without, times ten to the power of `places`.
    fn of(text: &str, places: i32) -> Option<Self> {
        let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let exponent = exponent.parse::<i32>().ok()?.checked_add(places)?;
        let digits = format!("{whole}{part}");
        if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        // Where the point stands, counted from the first digit.
        let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
        let padding = usize::try_from(point.unsigned_abs()).ok().filter(|places| *places <= DIGITS_MAX)?;
        let (whole, part) = match usize::try_from(point) {
            Err(_) => (String::new(), format!("{}{digits}", "0".repeat(padding))),
            Ok(point) if point >= digits.len() => (format!("{digits:0<point$}"), String::new()),
            Ok(point) => (digits[..point].to_owned(), digits[point..].to_owned()),
        };
        let whole = if whole.trim_start_matches('0').is_empty() { "0" } else { whole.trim_start_matches('0') };
        let part = part.trim_end_matches('0');
        Some(Self(if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }))
    }
}

impl std::fmt::Display for Charged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "${}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_digit_by_digit() {
        let usd = |text: &str| Charged::usd(&serde_json::from_str(text).expect("a number")).map(|it| it.0);
        for (text, expected) in [
            ("0.00014", "0.00014"),
            ("0.1", "0.1"),
            ("1.4e-5", "0.000014"),
            ("1E-7", "0.0000001"),
            ("12.50", "12.5"),
            ("3", "3"),
            ("0", "0"),
            ("0.0", "0"),
            ("1.5e3", "1500"),
            ("0.000001234567", "0.000001234567"),
        ] {
            assert_eq!(usd(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["-0.1", "1e300", "1e-300"] {
            assert_eq!(usd(text), None, "{text}");
        }
    }

    #[test]
    fn ticks_are_whole() {
        let ticks = |text: &str| Charged::ticks(&serde_json::from_str(text).expect("a number")).map(|it| it.0);
        assert_eq!(ticks("37756000").as_deref(), Some("0.0037756"));
        assert_eq!(ticks("10000000000").as_deref(), Some("1"));
        assert_eq!((ticks("1.5"), ticks("-1")), (None, None));
    }

    #[test]
    fn it_is_our_bill_to_the_last_digit_or_not() {
        let charged = Charged::usd(&serde_json::from_str("7e-5").expect("a number")).expect("an amount");
        assert!(charged.is(Money::from_micro(70)) && !charged.is(Money::from_pico(70_000_001)));
        let finer = Charged::usd(&serde_json::from_str("0.00007000000000001").expect("a number")).expect("an amount");
        assert!(!finer.is(Money::from_micro(70)));
    }
}
