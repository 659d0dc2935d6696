//! What people call those who bill, and what is billed.

use crate::domain::event::CostSource;
use crate::domain::pricing::{Class, Fee, Meter};

/// Names of providers under the keys that their prices have in the built-in book.
const PROVIDERS: [(&str, &str); 12] = [
    ("anthropic", "Anthropic"),
    ("azure", "Microsoft Azure"),
    ("azure_foundry_anthropic", "Microsoft Azure"),
    ("deepseek", "DeepSeek"),
    ("gemini", "Google"),
    ("google", "Google"),
    ("groq", "Groq"),
    ("mistral", "Mistral AI"),
    ("openai", "OpenAI"),
    ("vertex", "Google Cloud"),
    ("vertex_anthropic", "Google Cloud"),
    ("xai", "xAI"),
];

/// Who sells a provider's models; its key where that is all that is known.
pub(super) fn provider(key: &str) -> &str {
    PROVIDERS.iter().find(|(known, _)| *known == key).map_or(key, |(_, name)| name)
}

/// Who made the models that are sold under a key of the built-in book, where those are one's own.
const DEVELOPERS: [(&str, &str); 11] = [
    ("anthropic", "Anthropic"),
    ("azure", "OpenAI"),
    ("azure_foundry_anthropic", "Anthropic"),
    ("deepseek", "DeepSeek"),
    ("gemini", "Google"),
    ("google", "Google"),
    ("mistral", "Mistral AI"),
    ("openai", "OpenAI"),
    ("vertex", "Google"),
    ("vertex_anthropic", "Anthropic"),
    ("xai", "xAI"),
];

/// What is known of a model by the name that its price has: who made it, its id, and its version where its name has one.
pub(super) fn model(sold: &str) -> Vec<(&'static str, &str)> {
    let (key, rest) = sold.split_once('/').unwrap_or(("", sold));
    // Zones of Azure, and whose models others serve, stand before the model itself.
    let id = rest.rsplit_once('/').map_or(rest, |(_, id)| id);
    let known = |key: &str| DEVELOPERS.iter().find(|(known, _)| *known == key).map(|(_, name)| *name);
    let developer = known(key).or_else(|| known(rest.split_once('/')?.0));
    let told = [("x_ModelDeveloper", developer), ("x_ModelId", Some(id)), ("x_ModelVersion", version(id))];
    told.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The date at the end of a model's id: `20251001`, or `2025-08-07`.
fn version(id: &str) -> Option<&str> {
    let is_date = |end: &&str| {
        let digits = end.bytes().filter(u8::is_ascii_digit).count();
        let dashes = end.bytes().enumerate().filter(|(at, byte)| *byte == b'-' && [4, 7].contains(at)).count();
        digits == 8 && end.len() == digits + dashes && [0, 2].contains(&dashes)
    };
    let ends = [8, 10].into_iter().filter_map(|length| id.get(id.len().checked_sub(length + 1)?..)?.strip_prefix('-'));
    ends.into_iter().find(is_date)
}

/// What is metered. Cached input is input, and reasoning is output: their prices tell them apart.
pub(super) const fn meter(meter: Meter, source: CostSource) -> &'static str {
    match meter {
        Meter::Tokens(Class::Fresh | Class::CacheRead | Class::CacheWrite | Class::CacheWriteLong) => "Input Tokens",
        Meter::Tokens(Class::Output | Class::Reasoning) => "Output Tokens",
        Meter::Tokens(Class::Other) => "Other Tokens",
        Meter::Units(Fee::WebSearch) => "Web Searches",
        Meter::Units(Fee::WebFetch) => "Web Fetches",
        Meter::Units(Fee::Maps) => "Map Answers",
        Meter::Units(Fee::Container) => "Containers",
        Meter::Units(Fee::Other) => "Other Units",
        Meter::Call => match source {
            CostSource::Reported | CostSource::Derived => "Requests",
            CostSource::Unknown => "Unmetered Requests",
        },
    }
}

/// The meter within a SKU's id.
pub(super) const fn sku(meter: Meter) -> &'static str {
    match meter {
        Meter::Tokens(Class::Fresh | Class::CacheRead | Class::CacheWrite | Class::CacheWriteLong) => "input_tokens",
        Meter::Tokens(Class::Output | Class::Reasoning) => "output_tokens",
        Meter::Tokens(Class::Other) => "other_tokens",
        Meter::Units(fee) => fee.name(),
        Meter::Call => "requests",
    }
}

/// What a price is of, within a SKU: the class of tokens, the unit, or the request.
pub(super) const fn price_of(meter: Meter) -> &'static str {
    match meter {
        Meter::Tokens(class) => class.name(),
        Meter::Units(fee) => fee.name(),
        Meter::Call => "request",
    }
}

/// Whether a cache held the tokens, and for how long they are kept.
pub(super) const fn cache(meter: Meter) -> Option<(&'static str, Option<&'static str>)> {
    match meter {
        Meter::Tokens(Class::Fresh) => Some(("None", None)),
        Meter::Tokens(Class::CacheRead) => Some(("Read", None)),
        Meter::Tokens(Class::CacheWrite) => Some(("Write", Some("Short"))),
        Meter::Tokens(Class::CacheWriteLong) => Some(("Write", Some("Long"))),
        Meter::Tokens(Class::Output | Class::Reasoning | Class::Other) | Meter::Units(_) | Meter::Call => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_model_follows_from_its_name() {
        let all = |sold| model(sold).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(all("openai/gpt-5-mini"), ["OpenAI", "gpt-5-mini"]);
        assert_eq!(all("azure/us/gpt-6.1-sol"), ["OpenAI", "gpt-6.1-sol"]);
        assert_eq!(all("groq/openai/gpt-oss-120b"), ["OpenAI", "gpt-oss-120b"]);
        assert_eq!(all("groq/qwen/qwen3.8-27b"), ["qwen3.8-27b"]);
        assert_eq!(all("prod/gpt-5-mini-2025-08-07"), ["gpt-5-mini-2025-08-07", "2025-08-07"]);
        assert_eq!(all("anthropic/claude-haiku-4-5-20251001"), ["Anthropic", "claude-haiku-4-5-20251001", "20251001"]);
        assert_eq!(all("mistral/codestral-2508"), ["Mistral AI", "codestral-2508"]);
    }
}
