//! Pieces of text that are safe on a terminal and everywhere else.

use crate::units::{Money, grouped};

/// What a model or a tool said, in one line: control characters, and those that turn the writing around, become spaces;
/// cut to a length with `…`.
#[must_use]
pub fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    let mut kept = 0;
    for c in text.trim().chars() {
        let c = if is_harmful(c) { ' ' } else { c };
        if c == ' ' && (line.is_empty() || line.ends_with(' ')) {
            continue;
        }
        if kept == chars_max {
            line.push('…');
            return line;
        }
        line.push(c);
        kept += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

/// A whole text for a terminal: its lines and tabs stay, other control characters don't.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_harmful(*c)).collect()
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 run`, `2 runs`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A share in basis points as a percentage: `12.3%`.
#[must_use]
pub fn percent(basis_points: u64) -> String {
    format!("{}.{}%", basis_points / 100, basis_points % 100 / 10)
}

/// An amount that was divided or foretold, in 4 digits, rounded up: its other digits say nothing.
#[must_use]
pub fn about(amount: Money) -> Money {
    let pico = amount.pico();
    let digits = pico.checked_ilog10().map_or(0, |log| log + 1);
    let unit = 10_u128.pow(digits.saturating_sub(4));
    Money::from_pico(pico.div_ceil(unit).saturating_mul(unit))
}

/// A share that may be negative: `-12.3%`.
#[must_use]
pub fn signed_percent(basis_points: i64) -> String {
    let sign = if basis_points < 0 { "-" } else { "" };
    format!("{sign}{}", percent(basis_points.unsigned_abs()))
}

/// `1.25x` of 125 percent.
#[must_use]
pub fn times(percent: Option<u32>) -> String {
    let shown = |percent: u32| match percent {
        0..1_000 => format!("{}.{:02}x", percent / 100, percent % 100),
        _ => format!("{}x", percent.div_ceil(100)),
    };
    percent.map_or_else(|| "-".to_owned(), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_divided_is_told_in_four_digits_and_never_too_low() {
        let told = |pico| about(Money::from_pico(pico)).pico();
        assert_eq!((told(0), told(9), told(2_301), told(2_301_732_143)), (0, 9, 2_301, 2_302_000_000));
        assert_eq!((told(99_999), told(100_001), told(u128::MAX / 2)), (100_000, 100_100, told(u128::MAX / 2)));
    }

    #[test]
    fn nothing_that_moves_the_cursor_gets_through() {
        assert_eq!(one_line("a\x1b[2Jb\r\nc\u{202e}d", 80), "a [2Jb c d");
        assert_eq!(harmless("a\x1b[31m\nb\tc\u{7}"), "a[31m\nb\tc");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(one_line("äöüß", 3), "äöü…");
        assert_eq!(one_line("  abc  ", 3), "abc");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!((count(1, "run").as_str(), count(1_234, "run").as_str()), ("1 run", "1,234 runs"));
        assert_eq!(percent(1_234), "12.3%");
    }
}
