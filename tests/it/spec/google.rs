//! Where Google's APIs are reached, by project, location and version, and what that decides of prices.

use plimsoll::domain::pricing::Factor;
use plimsoll::spec::load::load_configuration;

use super::{faults, options, project};

fn provider(keys: &str) -> String {
    format!("[providers.google]\n{keys}")
}

#[test]
fn every_place_has_its_address_and_its_factor() {
    let dear = Some(Factor::VertexNonGlobalEndpoint);
    let rows = [
        ("wire = \"gemini\"", "https://generativelanguage.googleapis.com/v1", None),
        ("wire = \"gemini\"\napi_version = \"v1beta\"", "https://generativelanguage.googleapis.com/v1beta", None),
        ("wire = \"gemini\"\nbase_url = \"http://127.0.0.1:9\"", "http://127.0.0.1:9/v1", None),
        ("wire = \"gemini\"\nbase_url = \"http://127.0.0.1:9/v1beta/\"", "http://127.0.0.1:9/v1beta", None),
        ("wire = \"vertex\"", "https://aiplatform.googleapis.com/v1", None),
        (
            "wire = \"vertex\"\nproject = \"acme\"\nlocation = \"global\"",
            "https://aiplatform.googleapis.com/v1/projects/acme/locations/global",
            None,
        ),
        (
            "wire = \"vertex\"\nproject = \"example.com:acme\"\nlocation = \"eu\"\napi_version = \"v1beta1\"",
            "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/example.com:acme/locations/eu",
            dear,
        ),
        (
            "wire = \"vertex\"\nproject = \"acme\"\nlocation = \"us\"",
            "https://aiplatform.us.rep.googleapis.com/v1/projects/acme/locations/us",
            dear,
        ),
        (
            "wire = \"vertex\"\nproject = \"acme\"\nlocation = \"europe-west4\"",
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme/locations/europe-west4",
            dear,
        ),
        (
            "wire = \"vertex\"\nproject = \"acme\"\nlocation = \"us-central1\"\nbase_url = \"http://127.0.0.1:9/x\"",
            "http://127.0.0.1:9/x/v1/projects/acme/locations/us-central1",
            dear,
        ),
    ];
    let claude = |host: &str, location: &str| format!("{host}/v1/projects/acme/locations/{location}");
    for (host, location, factor) in [
        ("https://aiplatform.googleapis.com", "global", None),
        ("https://europe-west1-aiplatform.googleapis.com", "europe-west1", dear),
        ("https://aiplatform.eu.rep.googleapis.com", "eu", dear),
        // Behind a proxy the path tells, and where the two differ the dearer one counts.
        ("http://127.0.0.1:9", "europe-west1", dear),
        ("http://127.0.0.1:9", "global", None),
        ("https://us-east5-aiplatform.googleapis.com", "global", dear),
    ] {
        let address = claude(host, location);
        let keys = format!("wire = \"vertex-anthropic\"\nbase_url = \"{address}\"");
        let folder = project(&[("plimsoll.toml", &provider(&keys))]);
        let loaded = load_configuration(folder.path(), &options()).expect("a good file");
        assert_eq!(loaded.providers[&"google".into()].endpoint_factor(), factor, "{address}");
    }
    for (keys, address, factor) in rows {
        let folder = project(&[("plimsoll.toml", &provider(keys))]);
        let loaded = load_configuration(folder.path(), &options()).expect("a good file");
        let google = &loaded.providers[&"google".into()];
        assert_eq!((google.base_url.as_str(), google.endpoint_factor()), (address, factor), "{keys}");
    }
}

#[test]
fn places_that_cannot_be_are_told() {
    let rows = [
        ("wire = \"openai-chat\"", "`base_url` is missing"),
        (
            "wire = \"openai-chat\"\nbase_url = \"https://h/v1\"\nlocation = \"eu\"",
            "`location` says nothing on the wire `openai-chat`",
        ),
        ("wire = \"gemini\"\nstream_usage = true", "`stream_usage` says nothing on the wire `gemini`"),
        ("wire = \"gemini\"\nproject = \"acme\"", "`project` says nothing on the wire `gemini`"),
        ("wire = \"gemini\"\nservice_account = \"k.json\"", "the Gemini API takes an API key"),
        ("wire = \"gemini\"\nbase_url = \"https://h/v1\"\napi_version = \"v1beta\"", "`base_url` ends with `v1`"),
        ("wire = \"vertex\"\nproject = \"acme\"", "`project` without `location`"),
        ("wire = \"vertex\"\nlocation = \"eu\"", "`location` without `project`"),
        ("wire = \"vertex\"\nmetadata_server = \"http://127.0.0.1:9\"", "a token is of a `project`"),
        ("wire = \"vertex\"\nproject = \"a/b\"\nlocation = \"eu\"", "`a/b` is no project of Google's"),
        ("wire = \"vertex\"\nproject = \"acme\"\nlocation = \"..\"", "`..` is no location of Google's"),
        ("wire = \"vertex\"\napi_version = \"v2\"", "`v2` is no version of Google's"),
    ];
    for (keys, expected) in rows {
        let told = faults(&[("plimsoll.toml", &provider(keys))]);
        assert!(told.contains(expected), "{keys}: {told}");
    }
}
