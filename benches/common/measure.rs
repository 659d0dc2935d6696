//! Time and spreads, in whole numbers.

use std::io::Write as _;
use std::time::Instant;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time; nothing here is replayed")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Microseconds since a point in time.
pub(crate) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).expect("a bench ends within a few thousand centuries")
}

/// Writes one line of the report.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output takes lines");
}

/// The value at a share of sorted values, in percent.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get((sorted.len().saturating_sub(1)) * percent / 100).copied().unwrap_or_default()
}

/// `median (least to most)` of some rounds.
pub(crate) fn spread(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    format!("{} ({} to {})", percentile(&values, 50), percentile(&values, 0), percentile(&values, 100))
}

/// True under `cargo bench`; else one short round shows that the bench still works.
pub(crate) fn is_whole() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}
