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
