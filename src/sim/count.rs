//! The simulated provider's own token count: the pieces that a GPT tokenizer splits a text into before it merges bytes.
//!
//! Byte-pair merges never cross a piece, so every published GPT tokenizer gives at least as many tokens as this
//! counts, and a bound by bytes or by `tiktoken` is never below the simulated bill. Prose comes out about a quarter
//! below the real count, JSON about a half. Deliberately absent: any table, and the runtime's own tokenizer.

/// Tokens that frame one message (PROVIDERS §13).
pub(crate) const MESSAGE_TOKENS: u64 = 3;
/// Tokens that open the reply.
pub(crate) const PRIMING_TOKENS: u64 = 3;
/// Millionths in one.
const MILLION: u128 = 1_000_000;

/// How a simulated provider counts the tokens of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Counter {
    /// By pieces.
    #[default]
    Pieces,
    /// By bytes: millionths of a token for each, rounded up.
    Bytes {
        /// Millionths of a token for one byte.
        millionths: u64,
    },
}

impl Counter {
    /// Tokens of a text that the server sees as it stands.
    pub(crate) fn text(self, text: &str) -> u64 {
        match self {
            Self::Pieces => pieces(text, true),
            Self::Bytes { millionths } => scaled(text.len(), millionths),
        }
    }

    /// Tokens of a text that the server renders anew (tools, schemas): only what any rendering keeps.
    pub(crate) fn rendered(self, text: &str) -> u64 {
        match self {
            Self::Pieces => pieces(text, false),
            Self::Bytes { millionths } => scaled(text.len(), millionths),
        }
    }

    /// The longest start of `text` of at most `tokens_max` tokens.
    pub(crate) fn cut(self, text: &str, tokens_max: u64) -> &str {
        if self.text(text) <= tokens_max {
            return text;
        }
        let (mut fits, mut passes) = (0, text.len());
        while passes - fits > 1 {
            let middle = fits + (passes - fits) / 2;
            match self.text(&text[..boundary(text, middle)]) <= tokens_max {
                true => fits = middle,
                false => passes = middle,
            }
        }
        &text[..boundary(text, fits)]
    }
}

/// The character boundary at `at` or before it.
pub(crate) fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

fn scaled(bytes: usize, millionths: u64) -> u64 {
    let bytes = u128::try_from(bytes).unwrap_or(u128::MAX >> 64);
    u64::try_from((bytes * u128::from(millionths)).div_ceil(MILLION)).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Space,
    Newline,
    /// `'` between letters belongs to the word.
    Apostrophe,
    Punctuation,
    /// Marks and symbols outside ASCII: tokenizers disagree about them, so they continue any piece and start none.
    Neutral,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Digit,
        '\n' | '\r' => Class::Newline,
        '\'' => Class::Apostrophe,
        _ if c.is_ascii() && (c.is_ascii_whitespace() || c.is_ascii_control()) => Class::Space,
        _ if c.is_ascii() => Class::Punctuation,
        _ if c.is_whitespace() => Class::Space,
        _ if c.is_alphanumeric() => Class::Letter,
        _ => Class::Neutral,
    }
}

/// Counts pieces: runs of letters, groups of three digits and, if asked, runs of punctuation and of line ends.
fn pieces(text: &str, all: bool) -> u64 {
    let mut scan = Scan::default();
    for c in text.chars() {
        scan.step(class(c));
    }
    scan.step(Class::Space);
    if all { scan.words + scan.marks } else { scan.words }
}

#[derive(Default)]
struct Scan {
    words: u64,
    marks: u64,
    in_word: bool,
    digits: u64,
    /// Length of the run of punctuation that stands open.
    punctuation: u64,
    after_word: bool,
    apostrophe: bool,
}

impl Scan {
    fn step(&mut self, class: Class) {
        match class {
            Class::Letter => self.letter(),
            Class::Digit => self.digit(),
            Class::Apostrophe if self.in_word && !self.apostrophe => self.apostrophe = true,
            Class::Punctuation | Class::Apostrophe => self.mark(),
            Class::Newline => self.newline(),
            Class::Space => self.close(),
            Class::Neutral => {}
        }
    }

    fn letter(&mut self) {
        // One mark before a word joins it; two or more are a piece of their own.
        if self.punctuation > 1 {
            self.marks += 1;
        }
        (self.punctuation, self.digits, self.apostrophe) = (0, 0, false);
        if !self.in_word {
            self.words += 1;
            self.in_word = true;
        }
        self.after_word = true;
    }

    fn digit(&mut self) {
        self.end_marks();
        self.in_word = false;
        self.words += u64::from(self.digits.is_multiple_of(3));
        self.digits += 1;
        self.after_word = true;
    }

    fn mark(&mut self) {
        self.punctuation += 1 + u64::from(std::mem::take(&mut self.apostrophe));
        (self.in_word, self.digits, self.after_word) = (false, 0, false);
    }

    fn newline(&mut self) {
        let after_word = self.after_word && !self.apostrophe;
        self.close();
        self.marks += u64::from(after_word);
        self.after_word = false;
    }

    fn close(&mut self) {
        self.end_marks();
        (self.in_word, self.digits) = (false, 0);
    }

    fn end_marks(&mut self) {
        if self.punctuation > 0 || self.apostrophe {
            self.marks += 1;
        }
        (self.punctuation, self.apostrophe) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_has_more_pieces_than_tokens(text in "([a-zA-Z]{1,4}|[0-9]{1,4}|['’.,:;{}\"/-]{1,2}|[ \n\t]{1,2}|[äß注é\u{301}🎉½]){0,20}") {
            for bpe in [tiktoken_rs::o200k_base_singleton(), tiktoken_rs::cl100k_base_singleton()] {
                let real = u64::try_from(bpe.encode_ordinary(&text).len()).expect("a small count");
                prop_assert!(Counter::Pieces.text(&text) <= real, "{} of {real}", Counter::Pieces.text(&text));
                prop_assert!(Counter::Pieces.rendered(&text) <= Counter::Pieces.text(&text));
            }
        }
    }

    #[test]
    fn pieces_are_counted_by_hand() {
        for (text, expected) in [
            ("", 0),
            ("hello", 1),
            ("hello world", 2),
            ("don't", 1),
            ("well-known", 2),
            ("order 44112.", 4),
            ("{\"order\":\"4411\"}", 6),
            ("one\ntwo", 3),
            ("one.\ntwo", 3),
        ] {
            assert_eq!(Counter::Pieces.text(text), expected, "{text}");
        }
        assert_eq!(Counter::Pieces.rendered("{\"order\":\"4411\"}"), 3);
    }

    #[test]
    fn a_byte_factor_rounds_up() {
        assert_eq!(Counter::Bytes { millionths: 250_000 }.text("12345"), 2);
        assert_eq!(Counter::Bytes { millionths: 1_000_000 }.text("12345"), 5);
    }

    #[test]
    fn a_cut_text_fits_and_is_as_long_as_it_can_be() {
        let text = "one two three, four five";
        assert_eq!(Counter::Pieces.cut(text, 3), "one two three");
        assert_eq!(Counter::Pieces.cut(text, 100), text);
        assert_eq!(Counter::Bytes { millionths: 1_000_000 }.cut("äöü", 3), "ä");
    }

    #[test]
    fn no_tokenizer_of_this_family_counts_less() {
        let samples = [
            "Where is my order 441123? It's been three weeks; I'd like a refund!",
            "{\"order\":\"4411\",\"items\":[{\"sku\":\"A-1\",\"price\":\"12.50\"}],\"ok\":true}",
            "fn main() {\n    let x = 'a';\r\n\r\n  println!(\"{x}\");\n}\n\n\n# Title\n- a\n- b's 'quoted' o'clock'",
            "Größe: 12½ — naïve café’s 注文番号は 12345 です。 🎉🎉 e\u{301}a\u{301}1\u{301}",
            "    deep     indent\t\ttabs //comment /* x */ -> => ::path::to",
            "'tis 'twas rock'n'roll a''b 'll x' y",
        ];
        for bpe in [tiktoken_rs::o200k_base_singleton(), tiktoken_rs::cl100k_base_singleton()] {
            for text in samples {
                let real = u64::try_from(bpe.encode_ordinary(text).len()).expect("a small count");
                let ours = Counter::Pieces.text(text);
                assert!(ours <= real && ours * 3 >= real, "{text}: {ours} of {real}");
            }
        }
    }
}
