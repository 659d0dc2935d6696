//! Cuts documents into pieces and ranks these against a text by BM25, in integers: the same documents and the same text
//! give the same ranks everywhere.
//!
//! Deliberately absent: word stems, stop words (a word that is everywhere weighs next to nothing) and vectors.

use std::collections::{BTreeMap, BTreeSet};

/// The longest piece, in bytes.
pub const PIECE_BYTES_MAX: usize = 1_200;
/// Different words of the text that are looked for.
const WORDS_MAX: usize = 256;
/// The fixed point of logarithms: 1/1,024.
const FRACTION_BITS: u32 = 10;
/// BM25's k1 = 1.2 and b = 0.75, in thousandths.
const K1: u64 = 1_200;
const B: u64 = 750;
const ONE: u64 = 1_000;

/// A document: what it is called, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its path, or its place in the input.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Paragraphs of a text, joined to pieces of at most [`PIECE_BYTES_MAX`] bytes; a longer one is parted at a line, a space
/// or, where it has neither, between two characters.
#[must_use]
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while let Some(skipped) = text[start..].find(|letter: char| !letter.is_whitespace()) {
        start += skipped;
        let end = start + piece_end(&text[start..]);
        pieces.push(text[start..end].trim_end());
        start = end;
    }
    pieces
}

fn piece_end(text: &str) -> usize {
    if text.len() <= PIECE_BYTES_MAX {
        return text.len();
    }
    let most = super::floor_boundary(text, PIECE_BYTES_MAX);
    let head = &text[..most];
    let at = |pattern: &str| head.rfind(pattern).filter(|at| *at > 0);
    at("\n\n").or_else(|| at("\n")).or_else(|| at(" ")).unwrap_or(most)
}

/// The order of texts by how well they answer to `query`, best first; those that answer alike in their own order.
#[must_use]
pub(super) fn rank(query: &str, texts: &[&str]) -> Vec<usize> {
    let wanted: BTreeSet<String> = words(query).take(WORDS_MAX).collect();
    let counted: Vec<Counted> = texts.iter().map(|text| Counted::of(text, &wanted)).collect();
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for word in counted.iter().flat_map(|text| text.words.keys()) {
        *found.entry(word).or_default() += 1;
    }
    let count = u64::try_from(texts.len()).unwrap_or(u64::MAX);
    let average = counted.iter().map(|text| text.length).sum::<u64>().div_ceil(count.max(1)).max(1);
    let score = |text: &Counted| -> u64 {
        let parts = text.words.iter().map(|(word, times)| {
            let rarity = rarity(count, found.get(word.as_str()).copied().unwrap_or_default());
            let damped = times * ONE + K1 * (ONE - B + B * text.length / average) / ONE;
            rarity * times * (K1 + ONE) / damped.max(1)
        });
        parts.sum()
    };
    let mut order: Vec<(u64, usize)> = counted.iter().map(score).zip(0..).collect();
    order.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    order.into_iter().map(|(_, index)| index).collect()
}

/// How often the words that are looked for stand in a text, and how many words it has in all.
struct Counted {
    words: BTreeMap<String, u64>,
    length: u64,
}

impl Counted {
    fn of(text: &str, wanted: &BTreeSet<String>) -> Self {
        let mut counted = Self { words: BTreeMap::new(), length: 0 };
        for word in words(text) {
            counted.length += 1;
            if wanted.contains(&word) {
                *counted.words.entry(word).or_default() += 1;
            }
        }
        counted
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// log2(1 + (all - with + ½) / (with + ½)), which is log2 of (2·all + 2) / (2·with + 1).
fn rarity(all: u64, with: u64) -> u64 {
    let ratio = ((2 * all + 2) << FRACTION_BITS) / (2 * with + 1);
    log2(ratio).saturating_sub(u64::from(FRACTION_BITS) << FRACTION_BITS)
}

/// The logarithm in fixed point: exact for powers of two, a straight line between them.
fn log2(value: u64) -> u64 {
    let whole = value.max(1).ilog2();
    let above = value - (1 << whole);
    (u64::from(whole) << FRACTION_BITS) + ((above << FRACTION_BITS) >> whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_piece_that_holds_the_rare_word_comes_first() {
        let texts = ["the order is here", "a refund takes five days", "the order and the shop", "order order order"];
        assert_eq!(rank("How long does a refund of the order take?", &texts)[0], 1);
        assert_eq!(rank("order", &texts)[0], 3);
        assert_eq!(rank("nothing of it", &["a", "b"]), vec![0, 1], "in their own order");
    }

    #[test]
    fn logarithms_are_exact_for_powers_of_two() {
        assert_eq!([1, 2, 4, 1 << 40].map(log2), [0, 1 << 10, 2 << 10, 40 << 10]);
        assert!((1..2_000).all(|value| log2(value) <= log2(value + 1)));
    }

    proptest! {
        #[test]
        fn pieces_hold_every_word_and_keep_their_bound(text in "([a-zé]{1,30}[ \n]{1,3}){0,300}") {
            let pieces = pieces(&text);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_BYTES_MAX));
            let joined: String = pieces.join(" ");
            prop_assert_eq!(words(&joined).collect::<Vec<_>>(), words(&text).collect::<Vec<_>>());
        }

        #[test]
        fn every_text_has_one_rank(texts in proptest::collection::vec("[a-d ]{0,40}", 0..30), query in "[a-e ]{0,20}") {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut order = rank(&query, &texts);
            order.sort_unstable();
            prop_assert_eq!(order, (0..texts.len()).collect::<Vec<_>>());
        }
    }
}
