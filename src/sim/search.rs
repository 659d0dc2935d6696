//! A provider's own search of the web as the simulated one bills it: every step that it makes by itself is charged the
//! conversation so far, with what was found, and what the model wrote for it.

/// Tokens of what one search finds.
pub(crate) const FOUND_TOKENS: u64 = 400;
/// Tokens of what the model writes to search once.
pub(crate) const QUERY_TOKENS: u64 = 8;
/// Searches where a request that may search says no maximum.
pub(crate) const UNBOUNDED: u64 = 1_000;

/// How one call searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Searches {
    /// Searches that were made.
    pub(crate) made: u64,
    /// Steps before the last one: those searches, and one that was turned down since the maximum was reached.
    before: u64,
}

impl Searches {
    /// What becomes of `wanted` searches where a request allows at most so many; none where it offers no search.
    pub(crate) fn of(most: Option<u64>, wanted: u64) -> Self {
        let Some(most) = most else { return Self::default() };
        Self { made: wanted.min(most), before: wanted.min(most.saturating_add(1)) }
    }

    /// The prompt tokens of all steps, the first of which has `first`; none is longer than the model's window.
    pub(crate) fn prompt(self, first: u64, window: Option<u64>) -> u64 {
        let step = |number: u64| {
            let grown = first.saturating_add(number.saturating_mul(FOUND_TOKENS + QUERY_TOKENS));
            window.map_or(grown, |window| grown.min(window))
        };
        (0..=self.before).fold(0, |sum, number| sum.saturating_add(step(number)))
    }

    /// Output tokens beside those of the answer.
    pub(crate) const fn output(self) -> u64 {
        self.before.saturating_mul(QUERY_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_charged_the_conversation_so_far() {
        assert_eq!(Searches::of(None, 3), Searches::default());
        assert_eq!(Searches::default().prompt(100, None), 100);
        let two = Searches::of(Some(5), 2);
        assert_eq!((two.made, two.prompt(100, None), two.output()), (2, 100 + 508 + 916, 16));
        let turned_down = Searches::of(Some(2), 7);
        assert_eq!((turned_down.made, turned_down.prompt(100, None)), (2, 100 + 508 + 916 + 1_324));
        assert_eq!(turned_down.prompt(100, Some(600)), 100 + 508 + 600 + 600);
    }
}
