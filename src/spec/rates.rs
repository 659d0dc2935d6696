//! `[[rates]]` and `[breaker]` of `plimsoll.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use crate::domain::breaker::BreakerPolicy;
use crate::domain::rate::{CALL_WORDS, OWN_KEY, RateLimit};
use crate::ids::{AccountName, ProviderName};
use crate::spec::configuration::check_label;
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::limits::declared;
use crate::spec::names::{self, Providers, is_label_value, unique};
use crate::spec::reader::{At, Node};
use crate::units::Millis;

/// The most rates of a project.
const RATES_MAX: usize = 1_000;

/// What models are checked against, and what the project configures: with `--sim` those differ.
type Around<'a> = (&'a Providers, &'a Providers);

pub(crate) fn limits(node: &Node<'_>, around: Around<'_>, faults: &mut Faults) -> Vec<RateLimit> {
    let nodes = node.sections("rates");
    if nodes.len() > RATES_MAX {
        let message = format!("the project has {} rates", nodes.len());
        node.fault(faults, code::TOO_MANY, &node.span_of("rates"), message, format!("at most {RATES_MAX}"));
    }
    nodes.iter().map(|node| limit(node, around, faults)).collect()
}

fn limit(node: &Node<'_>, around: Around<'_>, faults: &mut Faults) -> RateLimit {
    let (scope, each) = (scope(node, around, faults), each(node, faults));
    let number = |key| node.count_u32(key).and_then(|count| NonZeroU32::new(count.value));
    let (requests, tokens) = (number("requests_per_minute"), number("tokens_per_minute"));
    let concurrent = number("concurrent");
    let keys = ["requests_per_minute", "tokens_per_minute", "concurrent"];
    if !keys.iter().any(|key| node.has(key)) {
        let help = "add `requests_per_minute`, `tokens_per_minute` or `concurrent`";
        node.fault(faults, code::MISSING_KEY, &node.span, "the rate limits nothing".to_owned(), help);
    }
    RateLimit { scope, each, requests, tokens, concurrent, declared: declared(node.source, &node.span) }
}

fn scope(node: &Node<'_>, (known, configured): Around<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut scope = BTreeMap::new();
    for (word, value) in node.texts_by_name("scope") {
        match word.value.as_str() {
            "provider" => check_provider(node, &value, known, faults),
            "model" => drop(names::model(node, &value, known, faults)),
            "account" => check_account(node, &value, configured, faults),
            _ => check_label(node, &word, faults),
        }
        if !is_label_value(&value.value) {
            let message = format!("`{}` has a value that no label can have", word.value);
            node.fault(faults, code::BAD_VALUE, &value.span, message, "expected 1 to 256 printable characters");
        }
        scope.insert(word.value, value.value);
    }
    scope
}

/// Without any provider the simulated one answers, whatever they are called.
fn check_provider(node: &Node<'_>, name: &At<String>, providers: &Providers, faults: &mut Faults) {
    if !providers.is_empty() && !providers.contains_key(&ProviderName::from(name.value.as_str())) {
        let help = suggest(&name.value, providers.keys().map(ProviderName::as_str), "");
        let message = format!("no provider `{}` is configured", name.value);
        node.fault(faults, code::UNKNOWN_NAME, &name.span, message, help);
    }
}

fn check_account(node: &Node<'_>, name: &At<String>, providers: &Providers, faults: &mut Faults) {
    let known: BTreeSet<&str> = providers
        .values()
        .flat_map(|provider| provider.accounts.iter().map(|account| AccountName::as_str(&account.account.name)))
        .chain([OWN_KEY])
        .collect();
    if !known.contains(name.value.as_str()) {
        let help = suggest(&name.value, known.iter().copied(), "");
        let message = format!("no provider has an account `{}`", name.value);
        node.fault(faults, code::UNKNOWN_NAME, &name.span, message, help);
    }
}

fn each(node: &Node<'_>, faults: &mut Faults) -> Vec<String> {
    let words = node.texts("each").map(|words| words.value).unwrap_or_default();
    unique(node, &words, "the label", faults);
    let fixed: BTreeSet<String> = node.texts_by_name("scope").into_iter().map(|(word, _)| word.value).collect();
    for word in &words {
        if !CALL_WORDS.contains(&word.value.as_str()) {
            check_label(node, word, faults);
        }
        if fixed.contains(&word.value) {
            let message = format!("`{}` is in `each` and in `scope`", word.value);
            node.fault(faults, code::CONFLICT, &word.span, message, "keep one: `scope` fixes its value");
        }
    }
    words.into_iter().map(|word| word.value).collect()
}

pub(crate) fn breaker(node: &Node<'_>, faults: &mut Faults) -> BreakerPolicy {
    let default = BreakerPolicy::default();
    let Some(node) = node.section("breaker") else { return default };
    let (open_min, open_max) = node.durations("open").unwrap_or((default.open_min, default.open_max));
    if open_min == Millis::ZERO {
        let message = "a breaker that is open for no time is none".to_owned();
        node.fault(faults, code::OUT_OF_RANGE, &node.span_of("open"), message, "such as `10s..5m`, or `failures = 0`");
    }
    BreakerPolicy {
        failures: node.count_u32("failures").map_or(default.failures, |count| count.value),
        open_min,
        open_max,
    }
}
