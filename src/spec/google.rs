//! Where Google's APIs are reached, from the keys of a provider's table: project, location and version.
//!
//! Hosts and paths are PROVIDERS §5's. What is resolved here is an address that a model's path is put behind; the place
//! that decides the price can be read from it again.

use super::fault::{Faults, code};
use super::project::KeySource;
use super::reader::{At, Node};

/// Where the Gemini API is.
const GEMINI: &str = "https://generativelanguage.googleapis.com";
/// Where Vertex AI is, but for locations that have hosts of their own.
const VERTEX: &str = "https://aiplatform.googleapis.com";
/// How the hosts of its locations end, as that of all does.
const HOSTS: &str = ".googleapis.com";
/// The version that is asked where none is named.
const VERSION: &str = "v1";
/// The words of `api_version`.
const VERSIONS: [&str; 3] = ["v1", "v1beta", "v1beta1"];
/// The location that is no region: its prices are multiplied by nothing.
const GLOBAL: &str = "global";
/// What stands before the location in an address.
const LOCATIONS: &str = "/locations/";

/// Where the Gemini API begins; `base_url` stands in for its host.
pub(crate) fn gemini_address(
    node: &Node<'_>,
    base_url: Option<String>,
    key: &KeySource,
    faults: &mut Faults,
) -> String {
    refuse_tokens(node, key, "the Gemini API takes an API key", "say `wire = \"vertex\"`, or name a key", faults);
    versioned(node, base_url.unwrap_or_else(|| GEMINI.to_owned()), faults)
}

/// Where Vertex AI begins: below a project and a location, or, with an express key, below neither.
pub(crate) fn vertex_address(
    node: &Node<'_>,
    base_url: Option<String>,
    key: &KeySource,
    faults: &mut Faults,
) -> String {
    let (project, location) = (named(node, "project", faults), named(node, "location", faults));
    let (Some(project), Some(location)) = (project, location) else {
        both_or_neither(node, faults);
        refuse_tokens(node, key, "a token is of a `project`", "add `project` and `location`", faults);
        return versioned(node, base_url.unwrap_or_else(|| VERTEX.to_owned()), faults);
    };
    let base = versioned(node, base_url.unwrap_or_else(|| vertex_host(&location)), faults);
    format!("{base}/projects/{project}{LOCATIONS}{location}")
}

/// True of an address at a place with prices of its own: the location in its path or its host says so. Where the two differ
/// the dearer one counts.
pub(crate) fn is_priced_place(base_url: &str, host: Option<&str>) -> bool {
    let location = base_url.split_once(LOCATIONS).and_then(|(_, rest)| rest.split('/').next());
    let by_host = host.is_some_and(|host| host.ends_with(HOSTS) && !VERTEX.ends_with(host));
    location.is_some_and(|location| location != GLOBAL) || by_host
}

/// The host of a location: one for all, one for each of two multi-regions, one for each region.
fn vertex_host(location: &str) -> String {
    match location {
        GLOBAL => VERTEX.to_owned(),
        "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
        region => format!("https://{region}-aiplatform.googleapis.com"),
    }
}

/// An address that ends with a version: its own, or the one that is named.
fn versioned(node: &Node<'_>, base_url: String, faults: &mut Faults) -> String {
    let named = node.text("api_version");
    let own = base_url.rsplit('/').next().filter(|word| VERSIONS.contains(word));
    match (own, named) {
        (_, Some(named)) if !VERSIONS.contains(&named.value.as_str()) => {
            let message = format!("`{}` is no version of Google's", named.value);
            node.fault(
                faults,
                code::BAD_VALUE,
                &named.span,
                message,
                format!("expected one of `{}`", VERSIONS.join("`, `")),
            );
            base_url
        }
        (Some(own), Some(named)) if own != named.value => {
            let message = format!("`api_version` is `{}`, and `base_url` ends with `{own}`", named.value);
            node.fault(faults, code::CONFLICT, &named.span, message, "keep one of them");
            base_url
        }
        (Some(_), _) => base_url,
        (None, named) => format!("{base_url}/{}", named.map_or_else(|| VERSION.to_owned(), |named| named.value)),
    }
}

/// A name that goes into a path as it is.
fn named(node: &Node<'_>, key: &str, faults: &mut Faults) -> Option<String> {
    let At { value, span } = node.text(key)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !value.bytes().all(fits) || value.bytes().all(|byte| byte == b'.') {
        let message = format!("`{value}` is no {key} of Google's");
        node.fault(faults, code::BAD_VALUE, &span, message, "expected letters, digits and `-`, such as `us-central1`");
    }
    Some(value)
}

fn both_or_neither(node: &Node<'_>, faults: &mut Faults) {
    let help = "add both, or neither for an express key; `location = \"global\"` is the place without a surcharge";
    for (there, missing) in [("project", "location"), ("location", "project")] {
        if node.has(there) && !node.has(missing) {
            let message = format!("`{there}` without `{missing}`");
            node.fault(faults, code::MISSING_KEY, &node.key_span(there), message, help);
        }
    }
}

/// Refuses sources that give tokens only, where a key is needed.
fn refuse_tokens(node: &Node<'_>, key: &KeySource, why: &str, help: &str, faults: &mut Faults) {
    let name = match key {
        KeySource::ServiceAccount(_) => "service_account",
        KeySource::MetadataServer(_) => "metadata_server",
        KeySource::None
        | KeySource::Env(_)
        | KeySource::File(_)
        | KeySource::Command(_)
        | KeySource::TokenCommand { .. } => return,
    };
    node.fault(faults, code::CONFLICT, &node.key_span(name), format!("`{name}` gives tokens, and {why}"), help);
}
