//! What the headers of an answer say of the provider's own limits (PROVIDERS §11).
//!
//! Two forms: OpenAI's `x-ratelimit-…-requests`, whose reset is a length of time (`6m0s`), and Anthropic's
//! `anthropic-ratelimit-requests-…`, whose reset is a point in time (RFC 3339). A window without a reset that can be read,
//! and one of nothing or less (Azure may send `-1`), says nothing: no limit is guessed.

use reqwest::header::HeaderMap;

use crate::domain::rate::{Measure, ToldRates, ToldWindow};
use crate::units::{Millis, Timestamp};

/// The longest reset that is believed.
const RESET_MAX: Millis = Millis::from_secs(86_400);

/// Reads what there is.
pub(crate) fn read(headers: &HeaderMap, now: Timestamp) -> ToldRates {
    let windows = Measure::ALL.into_iter().filter_map(|measure| {
        let window = openai(headers, measure).or_else(|| anthropic(headers, measure, now))?;
        Some((measure, window))
    });
    ToldRates(windows.collect())
}

fn openai(headers: &HeaderMap, measure: Measure) -> Option<ToldWindow> {
    let of = match measure {
        Measure::Requests => "requests",
        Measure::Tokens => "tokens",
        Measure::InputTokens | Measure::OutputTokens => return None,
    };
    let part = |name: &str| text(headers, &format!("x-ratelimit-{name}-{of}"));
    window(part("limit"), part("remaining")?, length(part("reset")?)?)
}

fn anthropic(headers: &HeaderMap, measure: Measure, now: Timestamp) -> Option<ToldWindow> {
    let of = match measure {
        Measure::Requests => "requests",
        Measure::Tokens => "tokens",
        Measure::InputTokens => "input-tokens",
        Measure::OutputTokens => "output-tokens",
    };
    let part = |name: &str| text(headers, &format!("anthropic-ratelimit-{of}-{name}"));
    let reset: jiff::Timestamp = part("reset")?.parse().ok()?;
    let reset = Timestamp(u64::try_from(reset.as_millisecond()).ok()?);
    window(part("limit"), part("remaining")?, reset.since(now))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn window(limit: Option<&str>, remaining: &str, resets_in: Millis) -> Option<ToldWindow> {
    let limit = match limit {
        Some(limit) => Some(limit.parse().ok().filter(|limit| *limit > 0)?),
        None => None,
    };
    let remaining = remaining.parse().ok()?;
    (resets_in <= RESET_MAX).then_some(ToldWindow { limit, remaining, resets_in })
}

/// A length of time such as `12ms`, `1s`, `6m0s`, `1h2m3.5s`, rounded up.
fn length(text: &str) -> Option<Millis> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.saturating_add(super::http::decimal(number, millis)?.0);
        rest = after;
    }
    (!text.is_empty()).then_some(Millis(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-08-01 12:00:00 UTC
    const NOW: Timestamp = Timestamp(1_754_049_600_000);

    fn told(lines: &[(&'static str, &str)]) -> Vec<(Measure, Option<u64>, u64, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, value.parse().expect("a header"));
        }
        let windows = read(&headers, NOW).0.into_iter();
        windows.map(|(measure, told)| (measure, told.limit, told.remaining, told.resets_in.0)).collect()
    }

    #[test]
    fn openai_tells_lengths_of_time() {
        let lines = [
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "150000"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ];
        let expected =
            vec![(Measure::Requests, Some(500), 499, 120), (Measure::Tokens, Some(200_000), 150_000, 360_000)];
        assert_eq!(told(&lines), expected);
    }

    #[test]
    fn anthropic_tells_points_in_time() {
        let lines = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2025-08-01T12:00:01Z"),
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
            ("anthropic-ratelimit-input-tokens-remaining", "39000"),
            ("anthropic-ratelimit-input-tokens-reset", "2025-08-01T14:00:02+02:00"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2025-08-01T11:00:00Z"),
        ];
        let expected = vec![
            (Measure::Requests, Some(50), 49, 1_000),
            (Measure::InputTokens, Some(40_000), 39_000, 2_000),
            (Measure::OutputTokens, None, 0, 0),
        ];
        assert_eq!(told(&lines), expected);
    }

    #[test]
    fn every_form_of_a_length_is_read() {
        let read = |text| length(text).map(|length| length.0);
        for (text, ms) in [("1s", 1_000), ("20.5s", 20_500), ("2m59.56s", 179_560), ("1h0m1s", 3_601_000), ("0.1ms", 1)]
        {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for text in ["", "12", "s", "1w", "-1s", "1s2", "1.2.3s", "soon", "1 s"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_says_nothing_limits_nothing() {
        let of = |limit, remaining, reset| {
            told(&[
                ("x-ratelimit-limit-tokens", limit),
                ("x-ratelimit-remaining-tokens", remaining),
                ("x-ratelimit-reset-tokens", reset),
            ])
        };
        for (limit, remaining, reset) in [
            ("-1", "-1", "1s"),
            ("0", "0", "1s"),
            ("10", "-1", "1s"),
            ("10", "5", "soon"),
            ("10", "5", "48h"),
            ("x", "5", "1s"),
        ] {
            assert_eq!(of(limit, remaining, reset), vec![], "{limit} {remaining} {reset}");
        }
        assert_eq!(told(&[("x-ratelimit-remaining-tokens", "5")]), vec![]);
    }
}
