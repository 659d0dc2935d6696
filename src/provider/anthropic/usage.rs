//! Usage of this wire in disjoint classes.
//!
//! `input_tokens` is without what caches held or took; writes are split by their time to live; reasoning is within the
//! output (PROVIDERS §3, §8). Several iterations of one answer are summed up where the totals leave them out.

use serde_json::{Map, Value};

use crate::domain::pricing::{Factor, Factors, Fee, Fees, Tally, Usage, believed};
use crate::units::Tokens;

/// The classes of a usage; `None` where it can't be believed. Writes without a split are of the time that was asked for.
pub(super) fn tally(raw: &Map<String, Value>, asks_long: bool) -> Option<Tally> {
    let mut tally = Tally::default();
    tally.usage = counts(&mut tally, raw, asks_long)?;
    tally.usage.fees = fees(raw.get("server_tool_use"))?;
    iterations(&mut tally, raw, asks_long)?;
    Some(tally)
}

/// Factors that the reply says apply to every rate.
pub(super) fn factors(raw: &Map<String, Value>) -> Factors {
    let word = |field: &str| raw.get(field).and_then(Value::as_str).unwrap_or_default();
    let place = match word("inference_geo") {
        "" | "global" | "not_available" => None,
        "us" => Some(Factor::InferenceGeoUs),
        _ => Some(Factor::Unknown),
    };
    let speed = match word("speed") {
        "" | "standard" => None,
        "fast" => Some(Factor::SpeedFast),
        _ => Some(Factor::Unknown),
    };
    place.into_iter().chain(speed).collect()
}

/// The counts that the totals and each iteration have.
fn counts(tally: &mut Tally, raw: &Map<String, Value>, asks_long: bool) -> Option<Usage> {
    let count = |pointer: &[&str]| {
        let first = raw.get(*pointer.first()?);
        believed(pointer.iter().skip(1).fold(first, |value, field| value?.get(field))).ok()
    };
    let short = count(&["cache_creation", "ephemeral_5m_input_tokens"])?.unwrap_or_default();
    let long = count(&["cache_creation", "ephemeral_1h_input_tokens"])?.unwrap_or_default();
    let written = count(&["cache_creation_input_tokens"])?.unwrap_or(short.plus(long));
    let rest = tally.rest("cache_creation_input_tokens", written, &[short, long]);
    let (more_short, more_long) = if asks_long { (Tokens::ZERO, rest) } else { (rest, Tokens::ZERO) };
    let output = count(&["output_tokens"])??;
    let thoughts = count(&["output_tokens_details", "thinking_tokens"])?.unwrap_or_default();
    Some(Usage {
        input: count(&["input_tokens"])??,
        cache_read: count(&["cache_read_input_tokens"])?.unwrap_or_default(),
        cache_write: short.plus(more_short),
        cache_write_long: long.plus(more_long),
        reasoning: tally.part("thinking_tokens", thoughts, output),
        output,
        ..Usage::default()
    })
}

fn fees(raw: Option<&Value>) -> Option<Fees> {
    let mut fees = Fees::NONE;
    for (field, value) in raw.and_then(Value::as_object).into_iter().flatten() {
        let fee = match field.as_str() {
            "web_search_requests" => Fee::WebSearch,
            "web_fetch_requests" => Fee::WebFetch,
            _ => Fee::Other,
        };
        let count = u32::try_from(believed(Some(value)).ok()?.unwrap_or_default().0).ok()?;
        fees = fees.with(fee, fees.of(fee).saturating_add(count));
    }
    Some(fees)
}

/// Iterations of one answer: the totals hold those of the model itself, and leave out what it took to compact the
/// conversation. What another model did, or what we don't know, has no rate here: it is flagged, and has no exact cost.
fn iterations(tally: &mut Tally, raw: &Map<String, Value>, asks_long: bool) -> Option<()> {
    let Some(list) = raw.get("iterations").and_then(Value::as_array).filter(|list| !list.is_empty()) else {
        return Some(());
    };
    let (mut own, mut beside) = (Usage::default(), Usage::default());
    for iteration in list {
        let used = counts(tally, iteration.as_object()?, asks_long)?;
        match iteration.get("type").and_then(Value::as_str) {
            Some("message") => own = own.plus(&used),
            Some("compaction") => beside = beside.plus(&used),
            kind => {
                let named = format!("iterations.{}", kind.unwrap_or("missing").chars().take(64).collect::<String>());
                tally.part(&named, used.total().max(Tokens(1)), Tokens::ZERO);
                beside.other = beside.other.plus(used.total());
            }
        }
    }
    if own != Usage::default() {
        tally.same("iterations", tally.usage.total(), Some(own.total()));
    }
    tally.usage = tally.usage.plus(&beside);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(raw: &Value, asks_long: bool) -> Option<Tally> {
        tally(raw.as_object().expect("an object"), asks_long)
    }

    fn classes(raw: &Value, asks_long: bool) -> [u64; 7] {
        read(raw, asks_long).expect("usage").usage.classes().map(|(_, count)| count.0)
    }

    #[test]
    fn each_token_is_in_one_class() {
        let raw = json!({"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
            "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}});
        assert_eq!(classes(&raw, false), [10, 20, 4, 3, 20, 30, 0]);
        // Without the split, or with a part of it, the rest is of the time that was asked for.
        let raw = json!({"input_tokens": 1, "cache_creation_input_tokens": 9, "output_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 4}});
        assert_eq!(classes(&raw, false), [1, 0, 9, 0, 2, 0, 0]);
        assert_eq!(classes(&raw, true), [1, 0, 4, 5, 2, 0, 0]);
        let raw = json!({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": null,
            "cache_creation": {"ephemeral_1h_input_tokens": 5}});
        assert_eq!(classes(&raw, false), [1, 0, 0, 5, 2, 0, 0]);
    }

    #[test]
    fn what_cannot_be_believed_is_no_usage() {
        for raw in [
            json!({}),
            json!({"input_tokens": 1}),
            json!({"output_tokens": 1}),
            json!({"input_tokens": -1, "output_tokens": 1}),
            json!({"input_tokens": 1, "output_tokens": "many"}),
            json!({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 1.5}),
            json!({"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": "x"}}),
            json!({"input_tokens": 1, "output_tokens": 1, "iterations": [{"type": "message"}]}),
        ] {
            assert_eq!(read(&raw, false), None, "{raw}");
        }
    }

    #[test]
    fn contradictions_are_kept_and_told() {
        for (raw, what) in [
            (
                json!({"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 3}}),
                "thinking_tokens",
            ),
            (
                json!({"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 3,
                    "cache_creation": {"ephemeral_5m_input_tokens": 4}}),
                "cache_creation_input_tokens",
            ),
            (
                json!({"input_tokens": 1, "output_tokens": 2, "iterations": [
                    {"type": "message", "input_tokens": 1, "output_tokens": 3}]}),
                "iterations",
            ),
            (
                json!({"input_tokens": 1, "output_tokens": 2, "iterations": [
                    {"type": "message", "input_tokens": 1, "output_tokens": 2},
                    {"type": "advisor_message", "input_tokens": 5, "output_tokens": 6, "model": "claude-x"}]}),
                "iterations.advisor_message",
            ),
        ] {
            assert_eq!(read(&raw, false).expect("usage").mismatch.expect("a mismatch").what, what, "{raw}");
        }
    }

    #[test]
    fn compaction_is_billed_beside_the_totals() {
        let raw = json!({"input_tokens": 3, "output_tokens": 4, "server_tool_use": {"web_search_requests": 2}, "iterations": [
            {"type": "compaction", "input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 5},
            {"type": "message", "input_tokens": 1, "output_tokens": 1},
            {"type": "message", "input_tokens": 2, "output_tokens": 3}]});
        let tally = read(&raw, false).expect("usage");
        assert_eq!(tally.mismatch, None);
        assert_eq!((tally.usage.input.0, tally.usage.output.0, tally.usage.cache_read.0), (103, 24, 5));
        assert_eq!(tally.usage.fees.of(Fee::WebSearch), 2);
    }

    #[test]
    fn places_and_speeds_are_factors_and_unknown_ones_are_told() {
        let of = |raw: Value| factors(raw.as_object().expect("an object")).each().collect::<Vec<_>>();
        assert_eq!(of(json!({"inference_geo": "global", "speed": "standard"})), []);
        assert_eq!(of(json!({"inference_geo": "not_available", "speed": null})), []);
        assert_eq!(of(json!({"inference_geo": "us", "speed": "fast"})), [Factor::InferenceGeoUs, Factor::SpeedFast]);
        assert_eq!(of(json!({"inference_geo": "mars"})), [Factor::Unknown]);
        assert_eq!(of(json!({"speed": "warp"})), [Factor::Unknown]);
    }
}
