use super::*;
use crate::domain::pricing::{Factor, Fee};
use crate::units::{Money, Timestamp, Tokens};

const ORIGIN: Origin<'_> = Origin { source: "a map", retrieved: "2026-11-23" };

fn map(text: &str) -> Map {
    read(text, &|_| true, ORIGIN).expect("a map")
}

fn refusal(fields: &str) -> String {
    let text = format!(r#"{{"m":{{"litellm_provider":"openai","mode":"chat",{fields}}}}}"#);
    let map = map(&text);
    assert_eq!(map.rows, [], "{fields}");
    map.refused["m"].clone()
}

#[test]
fn a_models_terms_become_a_row() {
    let map = map(r#"{
        "sample_spec": {"litellm_provider": "one of", "mode": "chat"},
        "gpt-9": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 922000, "max_output_tokens": 128000.0,
            "input_cost_per_token": 2.5e-07, "output_cost_per_token": 0.000002, "cache_read_input_token_cost": 2.5e-08,
            "cache_creation_input_token_cost": 3.125e-07, "cache_creation_input_token_cost_above_12hr": 5e-07,
            "input_cost_per_token_above_272k_tokens": 5e-07, "output_cost_per_token_above_272k_tokens": 3e-06,
            "input_cost_per_token_flex": 1.25e-07, "output_cost_per_token_flex": 1e-06,
            "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex": 1e-06,
            "input_cost_per_token_batches": 1, "output_cost_per_reasoning_token": 2e-06,
            "input_cost_per_audio_token": 0.5, "input_cost_per_token_priority": 1e-06,
            "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_high": 0.01},
            "regional_processing_uplift_multiplier_eu": 1.1, "supports_vision": true, "comment": null},
        "embed": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 1e-07}
    }"#);
    assert_eq!(map.refused, BTreeMap::new());
    assert_eq!(map.other_modes, BTreeMap::from([("embedding".to_owned(), 1)]));
    let [row] = map.rows.as_slice() else { panic!("one row: {:?}", map.rows) };
    assert_eq!((row.model.as_str(), row.source.as_str()), ("openai/gpt-9", "a map"));
    assert!(row.id.as_str().starts_with("openai/gpt-9@2026-11-23#"), "{}", row.id);
    let rates = row.price.rates;
    assert_eq!((rates.input.usd_per_million(), rates.output.usd_per_million()), ("0.25".into(), "2".into()));
    assert_eq!(rates.cache_write.expect("a rate").usd_per_million(), "0.3125");
    let long = row.price.long.as_ref().expect("long inputs");
    assert_eq!((long.above, long.rates.cache_read), (Tokens(272_000), rates.cache_read), "what is left out stays");
    assert_eq!(row.service_tiers.keys().collect::<Vec<_>>(), ["flex"], "priority lacks a rate for output");
    assert_eq!(row.notes.len(), 1);
    assert_eq!(row.fees, BTreeMap::from([(Fee::WebSearch, Money::parse("0.01").expect("an amount"))]));
    assert_eq!(row.multipliers, BTreeMap::from([(Factor::ResidencyEu, 11_000)]));
    assert_eq!((row.context_window, row.max_output), (Some(Tokens(922_000)), Some(128_000)));
}

#[test]
fn what_a_row_cant_say_is_refused_by_name() {
    let rates = r#""input_cost_per_token":1e-6,"output_cost_per_token":2e-6"#;
    assert_eq!(refusal(r#""output_cost_per_token":2e-6"#), "`input_cost_per_token` is missing");
    assert!(
        refusal(r#""input_cost_per_token":1e-6,"output_cost_per_token":0.0"#)
            .starts_with("`output_cost_per_token` is 0")
    );
    let dust = r#""input_cost_per_token":1.8000000000000002e-07,"output_cost_per_token":2e-6"#;
    assert_eq!(refusal(dust), "`input_cost_per_token` = 1.8000000000000002e-07 is not whole pico-dollars");
    for (fields, said) in [
        (
            r#""input_cost_per_token_above_128k_tokens":2e-6,"input_cost_per_token_above_256k_tokens":3e-6"#,
            "above 128000 and above 256000",
        ),
        (
            r#""output_cost_per_reasoning_token":3e-6"#,
            "`output_cost_per_reasoning_token` isn't `output_cost_per_token`",
        ),
        (r#""tiered_pricing":[]"#, "`tiered_pricing` can't be said"),
        (r#""citation_cost_per_token":1e-6"#, "`citation_cost_per_token` can't be said"),
        (r#""provider_specific_entry":{"moon":2}"#, "`provider_specific_entry.moon` can't be said"),
        (r#""off_peak_pricing":{"hours_utc":"16:30-25:30"}"#, "`off_peak_pricing.hours_utc` can't be said"),
        (
            r#""off_peak_pricing":{"hours_utc":"16:30-00:30","weekday_timezone":"x"}"#,
            "`off_peak_pricing.weekday_timezone`",
        ),
        (r#""regional_endpoint_uplift_multiplier":1.0000001"#, "doesn't leave whole pico-dollars"),
    ] {
        let told = refusal(&format!("{rates},{fields}"));
        assert!(told.contains(said), "{told}");
    }
    let two = map(&format!(
        r#"{{"gemini-9":{{"litellm_provider":"vertex_ai-language-models","mode":"chat",{rates}}},
            "vertex_ai/gemini-9":{{"litellm_provider":"vertex_ai-language-models","mode":"chat",{rates},"input_cost_per_request":0.1}}}}"#
    ));
    assert!(two.rows.is_empty() && two.refused["gemini-9"].contains("at different prices"), "{two:?}");
    assert!(read("[1]", &|_| true, ORIGIN).is_err() && read("", &|_| true, ORIGIN).is_err());
}

#[test]
fn hours_and_thresholds_are_those_of_the_provider() {
    let map = map(r#"{
        "deepseek/flash": {"litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 3e-07,
            "output_cost_per_token": 1.2e-06, "cache_read_input_token_cost": 6e-09, "cache_creation_input_token_cost": 0.0,
            "input_cost_per_token_cache_hit": 6e-09,
            "off_peak_pricing": {"input_cost_per_token": 1.5e-07, "windows": [
                {"hours_utc": ["16:30-00:30"], "weekdays": [1, 2]}, {"hours_utc": "00:00-00:00", "weekdays": [7]}]}},
        "xai/grok-9": {"litellm_provider": "xai", "mode": "chat", "input_cost_per_token": 2e-06,
            "output_cost_per_token": 6e-06, "input_cost_per_token_above_200k_tokens": 4e-06}
    }"#);
    let [flash, grok] = map.rows.as_slice() else { panic!("two rows: {map:?}") };
    let [off_peak] = flash.off_peak.as_slice() else { panic!("hours") };
    let hours: Vec<String> = off_peak.hours.iter().map(ToString::to_string).collect();
    assert_eq!(hours, ["mon-tue 16:30-24:00", "mon-tue 00:00-00:30", "sun 00:00-24:00"]);
    // Monday, 23 November 2026.
    assert!(off_peak.is_at(Timestamp(1_795_392_000_000)) && !off_peak.is_at(Timestamp(1_795_392_000_000 + 1_800_000)));
    assert_eq!(off_peak.price.rates.output, flash.price.rates.output, "what is left out stays");
    assert_eq!(flash.price.rates.cache_write, Some(flash.price.rates.input), "a write of 0 is none");
    assert_eq!(grok.price.long.as_ref().expect("long inputs").above, Tokens(199_999), "its threshold is long itself");
}

#[test]
fn only_the_wanted_providers_are_read() {
    let rates = r#""mode":"chat","input_cost_per_token":1e-6,"output_cost_per_token":2e-6"#;
    let text = format!(
        r#"{{"a":{{"litellm_provider":"openai",{rates}}},"vertex_ai/claude-x":{{"litellm_provider":"vertex_ai-anthropic_models",{rates}}},
            "azure_ai/claude-x":{{"litellm_provider":"azure_ai",{rates}}},"groq/openai/oss":{{"litellm_provider":"groq",{rates}}}}}"#
    );
    let names = |map: Map| map.rows.iter().map(|row| row.model.to_string()).collect::<Vec<_>>();
    let all = ["azure_foundry_anthropic/claude-x", "groq/openai/oss", "openai/a", "vertex_anthropic/claude-x"];
    assert_eq!(names(map(&text)), all);
    let one = read(&text, &|provider| provider.as_str() == "groq", ORIGIN).expect("a map");
    assert_eq!((one.other_providers, names(one)), (3, vec!["groq/openai/oss".to_owned()]));
}
