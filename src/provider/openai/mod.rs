//! What OpenAI's two wires have in common: the counts, the evidence, strict schemas, and how a body is put together.
//!
//! Deliberately absent: the words of either wire. They are in `openai_chat` and `openai_responses`.

pub(super) mod evidence;
pub(super) mod strict;
pub(super) mod usage;

use std::borrow::Cow;

use serde_json::Value;

use crate::domain::message::{CacheMarks, Message, Request, Sent};
use crate::ids::ModelName;
use crate::spec::project::ProviderConfig;

/// The most tool calls of one answer that are kept in memory.
pub const CALLS_MAX: usize = 256;
/// The longest name or id that is taken from a provider.
pub(super) const NAME_CHARS_MAX: usize = 256;

/// The first model generation that charges for cache writes, as major and minor number (PROVIDERS §1).
const CACHE_WRITES_CHARGED_SINCE: (u32, u32) = (5, 6);

/// True of gpt-5.6 and later. Earlier ones, and other families, refuse the field that says so.
fn charges_cache_writes(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let Some(version) = name.strip_prefix("gpt-") else { return false };
    let version = version.split(['-', ':']).next().unwrap_or_default();
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (major, minor) >= CACHE_WRITES_CHARGED_SINCE,
        _ => false,
    }
}

/// The field of a part of a message after which a beginning ends that is kept.
pub(super) const BREAKPOINT: &str = "prompt_cache_breakpoint";

/// True where nothing is written to a cache, and charged, but what marks ask for: for 30 minutes, which both wires have.
pub(super) fn forbids_cache_writes(config: &ProviderConfig, request: &Request) -> bool {
    config.quirks.no_cache_writes && charges_cache_writes(config.served(&request.model).model())
}

/// The marks of a request, where a wire and its model know them.
pub(super) fn marks<'a>(config: &ProviderConfig, request: &'a Request) -> Option<&'a CacheMarks> {
    request.cache.as_ref().filter(|_| forbids_cache_writes(config, request))
}

/// The messages as a wire has them, with marks where it and the model know them.
pub(super) fn fragments<'a>(
    config: &ProviderConfig,
    request: &'a Request,
    marked: fn(&Message) -> Option<String>,
    plain: fn(&'a Sent, &ModelName) -> Cow<'a, str>,
) -> Vec<Cow<'a, str>> {
    let marks = marks(config, request);
    let one = |(index, message): (usize, &'a Sent)| {
        let with_mark = marks.filter(|marks| marks.after_message(index)).and_then(|_| marked(message));
        with_mark.map_or_else(|| plain(message, &request.model), Cow::Owned)
    };
    request.messages.iter().enumerate().map(one).collect()
}

/// A body: the model, the conversation under `field`, and `rest`, an object that isn't empty. The conversation is the bulk
/// of a request, and most of it went out before.
pub(super) fn joined(model: &str, field: &str, fragments: &[Cow<'_, str>], rest: &[u8]) -> Vec<u8> {
    let model = serde_json::to_string(model).expect("a text is JSON");
    let head = format!(r#"{{"model":{model},"{field}":["#);
    let length = fragments.iter().map(|fragment| fragment.len() + 1).sum::<usize>();
    let mut body = Vec::with_capacity(head.len() + length + rest.len() + 1);
    body.extend_from_slice(head.as_bytes());
    for (index, fragment) in fragments.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(fragment.as_bytes());
    }
    body.extend_from_slice(b"],");
    body.extend_from_slice(rest.get(1..).unwrap_or_default());
    body
}

/// What lies under these fields, one in the other. `Value::pointer` does the same and copies each name twice.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, field| value.get(field))
}

/// A text, and nothing where there is none.
pub(super) fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// A name or an id of a provider, within its bound; nothing where there is none.
pub(super) fn name(value: Option<&Value>) -> Option<String> {
    let word = text(value);
    (!word.is_empty()).then(|| word.chars().take(NAME_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_writes_are_charged_since_5_6() {
        for model in ["gpt-5.6", "gpt-5.6-sol", "gpt-5.10", "gpt-6", "gpt-6.1-astra", "openai/gpt-6", "ft:gpt-5.6:acme"]
        {
            assert!(charges_cache_writes(model), "{model}");
        }
        for model in ["gpt-5", "gpt-5.5-mini", "gpt-5-mini", "gpt-4o", "gpt-oss-120b", "o3", "qwen", "gpt-", "gpt-x.6"]
        {
            assert!(!charges_cache_writes(model), "{model}");
        }
    }
}
