//! Usage of both wires in disjoint classes (PROVIDERS §8): cached and written tokens are parts of the input, reasoning is
//! one of the output.

use serde_json::Value;

use super::at;
use crate::domain::pricing::{Tally, Usage, believed};
use crate::units::Tokens;

/// What a wire calls its counts.
#[derive(Debug)]
pub(in crate::provider) struct Names {
    input: &'static str,
    input_details: &'static str,
    output: &'static str,
    output_details: &'static str,
}

/// Chat completions.
pub(in crate::provider) const CHAT: Names = Names {
    input: "prompt_tokens",
    input_details: "prompt_tokens_details",
    output: "completion_tokens",
    output_details: "completion_tokens_details",
};

/// Responses.
pub(in crate::provider) const RESPONSES: Names = Names {
    input: "input_tokens",
    input_details: "input_tokens_details",
    output: "output_tokens",
    output_details: "output_tokens_details",
};

/// `None` for what can't be read: a count that is missing, no whole number, negative or huge, or no input at all. Counts
/// that contradict each other are a mismatch beside the classes.
pub(in crate::provider) fn usage(raw: &Value, names: &Names) -> Option<Tally> {
    let count = |path: &[&str]| believed(at(raw, path)).ok();
    let (all, output) = (count(&[names.input])??, count(&[names.output])??);
    let reasoning = count(&[names.output_details, "reasoning_tokens"])?.unwrap_or_default();
    let total = count(&["total_tokens"])?;
    if all == Tokens::ZERO {
        return None;
    }
    let mut tally = Tally::default();
    let cached = cached(raw, names, all, &mut tally)?;
    let (short, long) = written(raw, names, &mut tally)?;
    // No part is more than its whole, so that garbage in a part is no bill beyond the provider's own counts.
    let cache_read = tally.part("cached_tokens", cached, all);
    let left = all.left_after(cache_read);
    let cache_write_long = tally.part("ttl_12h_tokens", long, left);
    let cache_write = tally.part("cache_write_tokens", short, left.left_after(cache_write_long));
    let output = billed_output(all, output, reasoning, total);
    let input = tally.rest(names.input, all, &[cache_read, cache_write, cache_write_long]);
    let reasoning = tally.part("reasoning_tokens", reasoning, output);
    tally.usage = Usage { input, cache_read, cache_write, cache_write_long, output, reasoning, ..Usage::default() };
    tally.hold_against("total_tokens", total);
    Some(tally)
}

/// Cache reads: OpenAI's detail, or `DeepSeek`'s hits, whose misses must be the rest.
fn cached(raw: &Value, names: &Names, all: Tokens, tally: &mut Tally) -> Option<Tokens> {
    let count = |path: &[&str]| believed(at(raw, path)).ok();
    let (detail, hits) = (count(&[names.input_details, "cached_tokens"])?, count(&["prompt_cache_hit_tokens"])?);
    let misses = count(&["prompt_cache_miss_tokens"])?;
    if let Some((hits, misses)) = hits.zip(misses) {
        tally.same(names.input, hits.plus(misses), Some(all));
    }
    Some(match (detail, hits) {
        (Some(detail), hits) => tally.same("prompt_cache_hit_tokens", detail, hits),
        (None, hits) => hits.unwrap_or_default(),
    })
}

/// Cache writes by time to live, 30 minutes and 12 hours. What has none told was for the shorter: no request of ours asks
/// for the longer one.
fn written(raw: &Value, names: &Names, tally: &mut Tally) -> Option<(Tokens, Tokens)> {
    let count = |path: &[&str]| believed(at(raw, path)).ok();
    let details = |name| count(&[names.input_details, "cache_write_tokens_details", name]);
    let (short, long) = (details("ttl_30m_tokens")?, details("ttl_12h_tokens")?);
    let (short, long) = (short.unwrap_or_default(), long.unwrap_or_default());
    let sum = short.plus(long);
    let all = count(&[names.input_details, "cache_write_tokens"])?.unwrap_or(sum);
    let sum = tally.part("cache_write_tokens_details", sum, all);
    Some((short.plus(all.left_after(sum)), long))
}

/// The billed output. Some servers count reasoning beside the output and not inside: the total tells them.
fn billed_output(input: Tokens, output: Tokens, reasoning: Tokens, total: Option<Tokens>) -> Tokens {
    let both = output.plus(reasoning);
    if total == Some(input.plus(both)) { both } else { output }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::Mismatch;
    use serde_json::json;

    fn classes(raw: &Value) -> Option<[u64; 5]> {
        let Tally { usage: u, mismatch } = usage(raw, &CHAT)?;
        assert_eq!(mismatch, None, "{raw}");
        Some([u.input.0, u.cache_read.0, u.cache_write.0, u.output.0, u.reasoning.0])
    }

    #[test]
    fn usage_of_every_server_falls_into_disjoint_classes() {
        let openai = json!({"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
            "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 300, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 40, "rejected_prediction_tokens": 0}});
        assert_eq!(classes(&openai), Some([100, 600, 300, 50, 40]));
        let deepseek = json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
            "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36});
        assert_eq!(classes(&deepseek), Some([36, 64, 0, 5, 0]));
        let plain = json!({"prompt_tokens": 7, "completion_tokens": 0, "prompt_tokens_details": null});
        assert_eq!(classes(&plain), Some([7, 0, 0, 0, 0]));
        let beside = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
            "completion_tokens_details": {"reasoning_tokens": 20}});
        assert_eq!(classes(&beside), Some([10, 0, 0, 25, 20]));
    }

    #[test]
    fn usage_that_cannot_be_is_none() {
        for raw in [
            json!({}),
            json!({"prompt_tokens": 5}),
            json!({"completion_tokens": 5}),
            json!({"prompt_tokens": 0, "completion_tokens": 0}),
            json!({"prompt_tokens": -5, "completion_tokens": 5}),
            json!({"prompt_tokens": 5.0, "completion_tokens": 5}),
            json!({"prompt_tokens": "5", "completion_tokens": 5}),
            json!({"prompt_tokens": 5, "completion_tokens": 1_000_000_001u64}),
            json!({"prompt_tokens": 5, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": -1}}),
        ] {
            assert_eq!(usage(&raw, &CHAT), None, "{raw}");
        }
    }

    #[test]
    fn usage_that_contradicts_itself_is_kept_and_says_so() {
        let mismatch = |raw: &Value| {
            let tally = usage(raw, &CHAT).expect("usage");
            let Mismatch { what, counted, told } = tally.mismatch.expect("a mismatch");
            assert!(tally.usage.total() <= Tokens(10), "{raw}: no part is more than its whole");
            (what, counted.0, told.0)
        };
        let five = |more: Value| {
            let mut raw = json!({"prompt_tokens": 5, "completion_tokens": 5});
            raw.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            raw
        };
        let rows = [
            (json!({"prompt_tokens_details": {"cached_tokens": 6}}), ("cached_tokens", 5, 6)),
            (
                json!({"prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 3}}),
                ("cache_write_tokens", 2, 3),
            ),
            (json!({"completion_tokens_details": {"reasoning_tokens": 6}}), ("reasoning_tokens", 5, 6)),
            (json!({"total_tokens": 11}), ("total_tokens", 10, 11)),
            (json!({"total_tokens": 4}), ("total_tokens", 10, 4)),
            (json!({"prompt_cache_hit_tokens": 2, "prompt_cache_miss_tokens": 2}), ("prompt_tokens", 4, 5)),
            (
                json!({"prompt_cache_hit_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}),
                ("prompt_cache_hit_tokens", 5, 4),
            ),
        ];
        for (more, (what, counted, told)) in rows {
            assert_eq!(mismatch(&five(more.clone())), (what.to_owned(), counted, told), "{more}");
        }
    }

    #[test]
    fn cache_writes_of_responses_are_told_apart_by_their_time_to_live() {
        let classes = |details: Value| {
            let raw = json!({"input_tokens": 1000, "input_tokens_details": details, "output_tokens": 50,
                "output_tokens_details": {"reasoning_tokens": 40}, "total_tokens": 1050});
            let Tally { usage: u, mismatch } = usage(&raw, &RESPONSES).expect("usage");
            (mismatch.map(|it| it.what), [u.input.0, u.cache_read.0, u.cache_write.0, u.cache_write_long.0, u.output.0])
        };
        let split = |short: u64, long: u64| {
            json!({"cached_tokens": 600, "cache_write_tokens": 300,
                "cache_write_tokens_details": {"ttl_30m_tokens": short, "ttl_12h_tokens": long}})
        };
        assert_eq!(classes(split(200, 100)), (None, [100, 600, 200, 100, 50]));
        assert_eq!(classes(split(200, 0)), (None, [100, 600, 300, 0, 50]), "a rest without a time");
        assert_eq!(classes(json!({"cache_write_tokens": 300})), (None, [700, 0, 300, 0, 50]));
        let unsaid = json!({"cache_write_tokens_details": {"ttl_12h_tokens": 100}});
        assert_eq!(classes(unsaid), (None, [900, 0, 0, 100, 50]));
        assert_eq!(classes(split(200, 101)).0.as_deref(), Some("cache_write_tokens_details"));
        assert_eq!(
            classes(json!({"cached_tokens": 900, "cache_write_tokens": 300})).0.as_deref(),
            Some("cache_write_tokens")
        );
    }
}
