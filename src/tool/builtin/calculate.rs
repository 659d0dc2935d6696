//! `calculate`: exact arithmetic on fractions of 128-bit integers.
//!
//! Invariants: no float and no rounding but by `round`; what doesn't fit is an error, never a wrong number.
//! Deliberately absent: roots, logarithms, constants, exponents that are no whole numbers, and `1e6`.

use std::fmt;

use crate::domain::builtin::EXPRESSION_CHARS_MAX;

/// Brackets in brackets.
const DEPTH_MAX: u32 = 64;
/// The largest exponent, and the most digits of `round`.
const EXPONENT_MAX: u32 = 1_000;
const DIGITS_MAX: u32 = 30;
/// The most decimals that a result shows whole.
const DECIMALS_MAX: u32 = 36;
/// The decimals of a result that no decimal can show whole.
const ABOUT_DECIMALS: u32 = 12;

/// Calculates `(3 * 19.99 + 4.90) / 2`: `+ - * / % **`, brackets, `min(a, b, …)`, `max(a, b, …)`, `round(x, digits)`.
///
/// Gives the exact decimal, or where there is none the fraction and its first decimals: `1/3 (about 0.333333333333)`.
///
/// # Errors
/// Says what can't be read, or what can't be calculated exactly.
pub fn calculate(expression: &str) -> Result<String, CalculateError> {
    if expression.chars().count() > EXPRESSION_CHARS_MAX {
        return Err(CalculateError::TooLong);
    }
    let mut reader = Reader { text: expression, at: 0, depth: 0 };
    let result = reader.sum()?;
    match reader.peek() {
        None => Ok(result.to_string()),
        Some(_) => Err(reader.unexpected("an operator or the end")),
    }
}

/// Why an expression has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalculateError {
    /// Longer than is read.
    #[error("the expression is longer than {EXPRESSION_CHARS_MAX} characters")]
    TooLong,
    /// Too many brackets in brackets.
    #[error("the expression has more than {DEPTH_MAX} levels of brackets and signs")]
    TooDeep,
    /// Something else should stand there.
    #[error("at character {at}: expected {expected}, found {found}")]
    Unexpected {
        /// Where, from 1.
        at: usize,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A division by zero, or a remainder of one.
    #[error("division by zero")]
    DivisionByZero,
    /// A number has more digits than can be held exactly.
    #[error("a number is too large or too fine to be exact: about 38 digits are the most")]
    Overflow,
    /// An exponent or a number of digits that isn't taken.
    #[error("{0}")]
    Range(&'static str),
}

use CalculateError::{DivisionByZero, Overflow, Range, TooDeep, Unexpected};

/// A fraction in lowest terms; the lower number is above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fraction {
    over: i128,
    under: i128,
}

impl Fraction {
    const ONE: Self = Self::whole(1);

    const fn whole(number: i128) -> Self {
        Self { over: number, under: 1 }
    }

    /// In lowest terms; the lower number must not be zero.
    fn new(over: i128, under: i128) -> Result<Self, CalculateError> {
        let common = common(over.unsigned_abs(), under.unsigned_abs());
        let common = i128::try_from(common).map_err(|_| Overflow)?;
        let (over, under) = (over / common, under / common);
        if under > 0 {
            return Ok(Self { over, under });
        }
        Ok(Self { over: over.checked_neg().ok_or(Overflow)?, under: under.checked_neg().ok_or(Overflow)? })
    }

    fn plus(self, other: Self) -> Result<Self, CalculateError> {
        let common = i128::try_from(common(self.under.unsigned_abs(), other.under.unsigned_abs()));
        let common = common.map_err(|_| Overflow)?;
        let left = self.over.checked_mul(other.under / common).ok_or(Overflow)?;
        let right = other.over.checked_mul(self.under / common).ok_or(Overflow)?;
        let under = self.under.checked_mul(other.under / common).ok_or(Overflow)?;
        Self::new(left.checked_add(right).ok_or(Overflow)?, under)
    }

    fn minus(self, other: Self) -> Result<Self, CalculateError> {
        self.plus(other.negative()?)
    }

    fn negative(self) -> Result<Self, CalculateError> {
        Ok(Self { over: self.over.checked_neg().ok_or(Overflow)?, under: self.under })
    }

    fn times(self, other: Self) -> Result<Self, CalculateError> {
        // Shortened crosswise first, so that only a result that is too large is too large.
        let (left, right) = (Self::new(self.over, other.under)?, Self::new(other.over, self.under)?);
        let over = left.over.checked_mul(right.over).ok_or(Overflow)?;
        let under = left.under.checked_mul(right.under).ok_or(Overflow)?;
        Self::new(over, under)
    }

    fn divided_by(self, other: Self) -> Result<Self, CalculateError> {
        if other.over == 0 {
            return Err(DivisionByZero);
        }
        self.times(Self::new(other.under, other.over)?)
    }

    /// What is left after dividing by `other` a whole number of times; has the sign of `other`.
    fn remainder(self, other: Self) -> Result<Self, CalculateError> {
        let quotient = self.divided_by(other)?;
        let times = Self::whole(quotient.over.div_euclid(quotient.under));
        self.minus(other.times(times)?)
    }

    fn power(self, exponent: Self) -> Result<Self, CalculateError> {
        let count = u32::try_from(exponent.over.unsigned_abs()).ok().filter(|count| *count <= EXPONENT_MAX);
        let count = count.filter(|_| exponent.under == 1);
        let mut count = count.ok_or(Range("an exponent must be a whole number from -1000 to 1000"))?;
        let mut base = if exponent.over < 0 { Self::ONE.divided_by(self)? } else { self };
        let mut result = Self::ONE;
        loop {
            if count % 2 == 1 {
                result = result.times(base)?;
            }
            count /= 2;
            if count == 0 {
                return Ok(result);
            }
            base = base.times(base)?;
        }
    }

    /// To so many decimals, halves away from zero.
    fn rounded(self, digits: Self) -> Result<Self, CalculateError> {
        let wrong = Range("`round` takes 0 to 30 digits");
        let digits = u32::try_from(digits.over).ok().filter(|count| digits.under == 1 && *count <= DIGITS_MAX);
        let scale = Self::whole(10).power(Self::whole(i128::from(digits.ok_or(wrong)?)))?;
        let scaled = self.times(scale)?;
        let (whole, left) = (scaled.over / scaled.under, scaled.over % scaled.under);
        // Twice the rest against the whole, without doubling what may not fit.
        let up = left.unsigned_abs() >= scaled.under.unsigned_abs() - left.unsigned_abs();
        let step = if up { scaled.over.signum() } else { 0 };
        Self::whole(whole.checked_add(step).ok_or(Overflow)?).divided_by(scale)
    }

    fn is_above(self, other: Self) -> Result<bool, CalculateError> {
        Ok(self.minus(other)?.over > 0)
    }

    /// Digits after the point of the exact decimal, if there is one.
    fn decimals(self) -> Option<u32> {
        let (mut under, mut twos, mut fives) = (self.under, 0, 0);
        while under % 2 == 0 {
            (under, twos) = (under / 2, twos + 1);
        }
        while under % 5 == 0 {
            (under, fives) = (under / 5, fives + 1);
        }
        (under == 1).then_some(twos.max(fives)).filter(|decimals| *decimals <= DECIMALS_MAX)
    }

    /// The decimal with so many digits after the point; what is left is dropped. By long division, so it always fits.
    fn decimal(self, decimals: u32) -> String {
        let under = self.under.unsigned_abs();
        let (whole, mut left) = (self.over.unsigned_abs() / under, self.over.unsigned_abs() % under);
        let mut text = format!("{}{whole}", if self.over < 0 { "-" } else { "" });
        for place in 0..decimals {
            if place == 0 {
                text.push('.');
            }
            let digit;
            (digit, left) = ten_times(left, under);
            text.push(char::from_digit(digit, 10).expect("a rest below the divisor gives one digit"));
        }
        text
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decimals() {
            Some(decimals) => f.write_str(&self.decimal(decimals)),
            None => write!(f, "{}/{} (about {})", self.over, self.under, self.decimal(ABOUT_DECIMALS)),
        }
    }
}

/// Ten times a rest by its divisor: the digit, and the new rest. By additions, since ten times may not fit.
fn ten_times(left: u128, under: u128) -> (u32, u128) {
    let (mut digit, mut rest) = (0, 0);
    for _ in 0..10 {
        rest += left;
        if rest >= under {
            (digit, rest) = (digit + 1, rest - under);
        }
    }
    (digit, rest)
}

/// The greatest common divisor; 1 of nothing.
fn common(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left.max(1)
}

/// Reads an expression by descent; each level of brackets and signs counts.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl Reader<'_> {
    fn sum(&mut self) -> Result<Fraction, CalculateError> {
        let mut sum = self.product()?;
        loop {
            if self.take("+") {
                sum = sum.plus(self.product()?)?;
            } else if self.take("-") {
                sum = sum.minus(self.product()?)?;
            } else {
                return Ok(sum);
            }
        }
    }

    fn product(&mut self) -> Result<Fraction, CalculateError> {
        let mut product = self.signed()?;
        loop {
            if self.take("*") {
                product = product.times(self.signed()?)?;
            } else if self.take("/") {
                product = product.divided_by(self.signed()?)?;
            } else if self.take("%") {
                product = product.remainder(self.signed()?)?;
            } else {
                return Ok(product);
            }
        }
    }

    /// A sign binds less than a power: `-2 ** 2` is -4.
    fn signed(&mut self) -> Result<Fraction, CalculateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TooDeep);
        }
        let value = if self.take("-") {
            self.signed()?.negative()?
        } else if self.take("+") {
            self.signed()?
        } else {
            self.power()?
        };
        self.depth -= 1;
        Ok(value)
    }

    /// Powers bind to the right: `2 ** 3 ** 2` is 512.
    fn power(&mut self) -> Result<Fraction, CalculateError> {
        let base = self.atom()?;
        if self.take("**") { base.power(self.signed()?) } else { Ok(base) }
    }

    fn atom(&mut self) -> Result<Fraction, CalculateError> {
        match self.peek() {
            Some('(') => {
                self.expect("(", "`(`")?;
                let value = self.sum()?;
                self.expect(")", "`)`")?;
                Ok(value)
            }
            Some('0'..='9' | '.') => self.number(),
            Some(letter) if letter.is_ascii_alphabetic() => self.function(),
            Some(_) | None => Err(self.unexpected("a number, `(`, `min`, `max` or `round`")),
        }
    }

    fn function(&mut self) -> Result<Fraction, CalculateError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
        let name = &rest[..end];
        if !matches!(name, "min" | "max" | "round") {
            return Err(self.unexpected("a number, `(`, `min`, `max` or `round`"));
        }
        self.at += end;
        self.expect("(", "`(`")?;
        let first = self.sum()?;
        let value = if name == "round" { self.round(first)? } else { self.extreme(first, name == "max")? };
        self.expect(")", "`,` or `)`")?;
        Ok(value)
    }

    fn round(&mut self, value: Fraction) -> Result<Fraction, CalculateError> {
        let digits = if self.take(",") { self.sum()? } else { Fraction::whole(0) };
        value.rounded(digits)
    }

    fn extreme(&mut self, first: Fraction, largest: bool) -> Result<Fraction, CalculateError> {
        let mut best = first;
        while self.take(",") {
            let next = self.sum()?;
            if next.is_above(best)? == largest {
                best = next;
            }
        }
        Ok(best)
    }

    /// Digits with at most one point; `_` between digits is passed over.
    fn number(&mut self) -> Result<Fraction, CalculateError> {
        let (mut over, mut under, mut digits, mut point) = (0_i128, 1_i128, 0, false);
        while let Some(letter) = self.text[self.at..].chars().next() {
            match letter {
                '.' if !point => point = true,
                '_' if digits > 0 => {}
                '0'..='9' => {
                    let digit = i128::from(letter.to_digit(10).unwrap_or(0));
                    over = over.checked_mul(10).and_then(|over| over.checked_add(digit)).ok_or(Overflow)?;
                    under = if point { under.checked_mul(10).ok_or(Overflow)? } else { under };
                    digits += 1;
                }
                _ => break,
            }
            self.at += 1;
        }
        if digits == 0 { Err(self.unexpected("a digit")) } else { Fraction::new(over, under) }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    /// Passes over an operator, if it is the next thing; `*` isn't the start of `**`.
    fn take(&mut self, operator: &str) -> bool {
        self.peek();
        let rest = &self.text[self.at..];
        let taken = rest.starts_with(operator) && !(operator == "*" && rest.starts_with("**"));
        self.at += if taken { operator.len() } else { 0 };
        taken
    }

    fn expect(&mut self, operator: &str, expected: &'static str) -> Result<(), CalculateError> {
        if self.take(operator) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&mut self, expected: &'static str) -> CalculateError {
        let found = self.peek().map_or("the end".to_owned(), |letter| format!("`{letter}`"));
        Unexpected { at: self.text[..self.at].chars().count() + 1, expected, found }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn result(expression: &str) -> String {
        calculate(expression).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn what_it_calculates() {
        for (expression, expected) in [
            ("0.1 + 0.2", "0.3"),
            ("(3 * 19.99 + 4.90) / 2", "32.435"),
            ("-2 ** 2", "-4"),
            ("2 ** 3 ** 2", "512"),
            ("2 ** -2", "0.25"),
            ("10 % 3", "1"),
            ("-10 % 3", "2"),
            ("5.5 % 2", "1.5"),
            ("1 / 3", "1/3 (about 0.333333333333)"),
            ("-7 / 3", "-7/3 (about -2.333333333333)"),
            ("1 / 3 * 3", "1"),
            ("round(100 / 3, 2)", "33.33"),
            ("round(2.5)", "3"),
            ("round(-2.5)", "-3"),
            ("round(0.125, 2)", "0.13"),
            ("min(3, 1, 2) + max(4, 5)", "6"),
            ("1_000_000 * 1.5", "1500000"),
            (" ( 1 ) ", "1"),
            ("--1", "1"),
            ("0 ** 0", "1"),
            ("8 / 2 / 2", "2"),
            ("2 - 3 - 4", "-5"),
            (".5 + 1.", "1.5"),
        ] {
            assert_eq!(result(expression), expected, "{expression}");
        }
    }

    #[test]
    fn what_it_refuses() {
        for (expression, part) in [
            ("1 / 0", "division by zero"),
            ("1 % 0", "division by zero"),
            ("0 ** -1", "division by zero"),
            ("10 ** 39", "too large"),
            ("9 ** 9 ** 9", "exponent"),
            ("2 ** 0.5", "exponent"),
            ("round(1, 99)", "digits"),
            ("1 +", "found the end"),
            ("1 2", "at character 3"),
            ("(1", "`)`"),
            ("sqrt(2)", "found `s`"),
            ("1e6", "found `e`"),
            ("", "found the end"),
            ("1.2.3", "found `.`"),
            ("ä", "found `ä`"),
            ("_1", "found `_`"),
            ("99999999999999999999999999999999999999999", "too large"),
        ] {
            assert!(result(expression).contains(part), "{expression}: {}", result(expression));
        }
    }

    #[test]
    fn length_and_depth_are_bounded() {
        assert_eq!(calculate(&"1+".repeat(EXPRESSION_CHARS_MAX)), Err(CalculateError::TooLong));
        for deep in ["(".repeat(900), "-".repeat(900), format!("1{}", "**1".repeat(300))] {
            assert_eq!(calculate(&deep), Err(TooDeep));
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_agree_with_integers(a in -1_000_000_000_000_i128..1_000_000_000_000, b in -1_000_000_i128..1_000_000) {
            prop_assert_eq!(result(&format!("{a} + {b}")), (a + b).to_string());
            prop_assert_eq!(result(&format!("{a} - {b}")), (a - b).to_string());
            prop_assert_eq!(result(&format!("{a} * {b}")), (a * b).to_string());
            if b != 0 {
                prop_assert_eq!(result(&format!("({a} * {b}) / {b}")), a.to_string());
                let floored = a.rem_euclid(b.abs());
                let remainder = if b < 0 && floored != 0 { floored + b } else { floored };
                prop_assert_eq!(result(&format!("{a} % {b}")), remainder.to_string());
            }
        }

        #[test]
        fn decimals_agree_with_scaled_integers(a in -1_000_000_000_i128..1_000_000_000, b in 0_i128..1_000_000_000) {
            let decimal = |n: i128| format!("{}{}.{:04}", if n < 0 { "-" } else { "" }, n.abs() / 10_000, n.abs() % 10_000);
            let sum = result(&format!("({} + {}) * 10000", decimal(a), decimal(b)));
            prop_assert_eq!(sum, (a + b).to_string());
            let half = if a < 0 { (a - 50) / 100 } else { (a + 50) / 100 };
            let rounded = result(&format!("round({}, 2) * 100", decimal(a)));
            prop_assert_eq!(rounded, half.to_string());
        }

        #[test]
        fn powers_agree_with_integers_or_overflow(base in -50_i128..50, exponent in 0_u32..40) {
            let expected = base.checked_pow(exponent).map(|power| power.to_string());
            let given = calculate(&format!("({base}) ** {exponent}"));
            prop_assert_eq!(given.clone().ok(), expected);
            prop_assert!(given.is_ok() || given == Err(Overflow));
        }

        #[test]
        fn any_text_is_answered(expression in "[-+*/%().,0-9a-z _]{0,80}") {
            let answered = result(&expression);
            prop_assert!(answered.len() < 300);
        }
    }
}
