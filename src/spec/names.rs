//! The forms that names have, and the lists of models that agents and policies share.

pub(crate) use crate::domain::label::is_value as is_label_value;
use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ModelName, ProviderName};
use crate::spec::fault::{Faults, code, nearest, suggest};
use crate::spec::project::ProviderConfig;
use crate::spec::reader::{At, Node};

/// The most characters of a name.
const NAME_CHARS_MAX: usize = 64;
/// The most characters of a model's name.
const MODEL_CHARS_MAX: usize = 200;
/// What a name must be, in words.
pub(crate) const NAME_FORM: &str = "expected 1 to 64 letters, digits, `_` and `-`";

/// True for `[A-Za-z0-9_-]{1,64}`.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// True for the name of a label: a name that may also have dots.
pub(crate) fn is_label(text: &str) -> bool {
    is_name(&text.replace('.', "_"))
}

/// True for the name of an environment variable.
pub(crate) fn is_variable(text: &str) -> bool {
    is_name(text) && !text.contains('-') && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// True for `provider/model`.
pub(crate) fn is_model(text: &str) -> bool {
    text.len() <= MODEL_CHARS_MAX
        && text.split_once('/').is_some_and(|(provider, model)| is_name(provider) && !model.is_empty())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Reports a name that is none.
pub(crate) fn check_name(node: &Node<'_>, what: &str, name: &At<String>, faults: &mut Faults) {
    if !is_name(&name.value) {
        node.fault(faults, code::BAD_NAME, &name.span, format!("`{}` is no name of {what}", name.value), NAME_FORM);
    }
}

/// The providers that a project has, by name.
pub(crate) type Providers = BTreeMap<ProviderName, ProviderConfig>;

/// Reads a model's name, and reports a bad one or one of an unknown provider.
///
/// Without any provider the simulated one answers, whatever the model is called.
pub(crate) fn model(node: &Node<'_>, name: &At<String>, providers: &Providers, faults: &mut Faults) -> ModelName {
    let model = ModelName::from(name.value.as_str());
    if !is_model(&name.value) {
        let message = format!("`{}` is no name of a model", name.value);
        node.fault(
            faults,
            code::BAD_NAME,
            &name.span,
            message,
            "expected `provider/model`, such as `openai/gpt-5-mini`",
        );
    } else if !providers.is_empty() && !providers.contains_key(&model.provider()) {
        let known = providers.keys().map(ProviderName::as_str);
        let message = format!("no provider `{}` is configured", model.provider());
        node.fault(faults, code::UNKNOWN_NAME, &name.span, message, suggest(model.provider().as_str(), known, ""));
    } else if let Some(azure) = providers.get(&model.provider()).and_then(|provider| provider.azure.as_ref())
        && !azure.deployments.contains_key(model.model())
    {
        let provider = model.provider();
        let message = format!("`{provider}` has no deployment `{}`: nobody knows what it costs", model.model());
        let otherwise = format!("add `[providers.{provider}.deployments.{}]` with `model` and `scope`", model.model());
        let help = suggest(model.model(), azure.deployments.keys().map(String::as_str), &otherwise);
        node.fault(faults, code::UNKNOWN_NAME, &name.span, message, help);
    }
    model
}

/// Reads a list of models: each good, none twice.
pub(crate) fn models(node: &Node<'_>, key: &str, providers: &Providers, faults: &mut Faults) -> Vec<ModelName> {
    let names = node.texts(key).map(|names| names.value).unwrap_or_default();
    unique(node, &names, "the model", faults);
    names.iter().map(|name| model(node, name, providers, faults)).collect()
}

/// Reports what is named twice in a list.
pub(crate) fn unique(node: &Node<'_>, names: &[At<String>], what: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(&name.value) {
            let message = format!("{what} `{}` is named twice", name.value);
            node.fault(faults, code::DUPLICATE, &name.span, message, "name it once");
        }
    }
}

/// The time zone of a table; UTC where it names none.
pub(crate) fn time_zone(node: &Node<'_>, faults: &mut Faults) -> Option<jiff::tz::TimeZone> {
    let Some(name) = node.text("time_zone") else { return Some(jiff::tz::TimeZone::UTC) };
    let zone = jiff::tz::TimeZone::get(&name.value).ok();
    if zone.is_none() {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        let near = nearest(&name.value, known.iter().map(String::as_str));
        let help = near.map_or_else(
            || "expected an IANA name, such as `Europe/Berlin` or `UTC`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        node.fault(faults, code::BAD_VALUE, &name.span, format!("no time zone `{}`", name.value), help);
    }
    zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_forms() {
        assert!(is_name("lookup_order-2") && !is_name("") && !is_name("a.b") && !is_name(&"a".repeat(65)));
        assert!(is_label("acme.team") && !is_label("a b"));
        assert!(is_variable("_A1") && !is_variable("1A") && !is_variable("A-B"));
        assert!(
            is_model("openrouter/meta/llama-3:free") && !is_model("gpt-5") && !is_model("openai/") && !is_model("a/ b")
        );
    }
}
