//! Numbers of JSON as they are written, without a float between.

use crate::units::{Money, TokenPrice};

/// More digits than any price has.
const DIGITS_MAX: usize = 30;
/// The highest price of a token: $1,000,000 for 1,000,000.
const TOKEN_PICO_MAX: u128 = 1_000_000_000_000;

/// A number times ten to the power of `places`, exactly; `None` where that isn't a whole number, or the text no number of
/// JSON, or negative.
pub(super) fn shifted(text: &str, places: i32) -> Option<u128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if whole.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    let zeros = i32::try_from(digits.len() - significant.len()).ok()?;
    let part_digits = i32::try_from(part.len()).ok()?;
    if significant.is_empty() {
        return Some(0);
    }
    let shift = places.checked_add(exponent)?.checked_sub(part_digits)?.checked_add(zeros)?;
    let factor = 10_u128.checked_pow(u32::try_from(shift).ok()?)?;
    significant.parse::<u128>().ok()?.checked_mul(factor)
}

/// Dollars of one token.
pub(super) fn token_price(text: &str) -> Option<TokenPrice> {
    let pico = shifted(text, 12).filter(|pico| *pico <= TOKEN_PICO_MAX)?;
    u64::try_from(pico).ok().map(TokenPrice::from_pico)
}

/// Dollars of one unit.
pub(super) fn money(text: &str) -> Option<Money> {
    shifted(text, 12).filter(|pico| *pico <= 1_000 * TOKEN_PICO_MAX).map(Money::from_pico)
}

/// A whole number, also one that is written as `256000.0`.
pub(super) fn count(text: &str) -> Option<u64> {
    shifted(text, 0).and_then(|count| u64::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_exactly() {
        let pico = |text| shifted(text, 12);
        assert_eq!(pico("2.5e-07"), Some(250_000));
        assert_eq!(pico("0.00000025"), Some(250_000));
        assert_eq!(pico("1E-6"), Some(1_000_000));
        assert_eq!(pico("3.125e-07"), Some(312_500));
        assert_eq!(pico("0.0"), Some(0));
        assert_eq!(pico("0e-400"), Some(0));
        assert_eq!(pico("10"), Some(10_000_000_000_000));
        assert_eq!(pico("1.8000000000000002e-07"), None, "a float's dust is no price");
        for bad in [
            "1e-13",
            "2.5e-13",
            "-1",
            "",
            ".5",
            "1e",
            "null",
            "true",
            "\"1\"",
            "1e400",
            "9999999999999999999999999999999999",
        ] {
            assert_eq!(pico(bad), None, "{bad}");
        }
        assert_eq!(count("256000.0"), Some(256_000));
        assert_eq!(token_price("2"), None, "dollars of a token are a slip of units");
    }
}
