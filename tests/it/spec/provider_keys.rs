//! Where a provider's key may come from, and what can't be.

use plimsoll::spec::load::load_configuration;
use plimsoll::spec::project::KeySource;
use plimsoll::units::Millis;

use super::{faults, options, project};

fn provider(keys: &str) -> String {
    format!("[providers.a]\nwire = \"openai-chat\"\nbase_url = \"https://host/v1\"\n{keys}")
}

#[test]
fn a_key_has_one_of_these_sources() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let folder = project(&[]);
    let file = |name: &str| folder.path().join(name);
    let rows = [
        ("", KeySource::None),
        ("key_env = \"A_KEY\"", KeySource::Env("A_KEY".into())),
        ("key_command = [\"pass\", \"a\"]", KeySource::Command(words(&["pass", "a"]))),
        (
            "key_command = [\"az\"]\nkey_lifetime = \"50m\"",
            KeySource::TokenCommand { command: words(&["az"]), lifetime: Millis::from_secs(3_000) },
        ),
        ("key_file = \"secrets/../key\"", KeySource::File(file("key"))),
        ("service_account = \"key.json\"", KeySource::ServiceAccount(file("key.json"))),
        ("service_account = \"/etc/key.json\"", KeySource::ServiceAccount("/etc/key.json".into())),
        (
            "metadata_server = \"http://metadata.google.internal\"",
            KeySource::MetadataServer("http://metadata.google.internal".into()),
        ),
        ("metadata_server = \"http://127.0.0.1:8080\"", KeySource::MetadataServer("http://127.0.0.1:8080".into())),
    ];
    for (keys, expected) in rows {
        std::fs::write(file("plimsoll.toml"), provider(keys)).expect("a file");
        let loaded = load_configuration(folder.path(), &options()).expect("a good file");
        assert_eq!(loaded.providers[&"a".into()].key, expected, "{keys}");
    }
}

#[test]
fn other_sources_are_told() {
    let rows = [
        ("key_env = \"A\"\nservice_account = \"k\"", "`service_account` and `key_env` are both there"),
        ("key_file = \"k\"\nkey_command = [\"x\"]", "`key_file` and `key_command` are both there"),
        ("key_lifetime = \"1h\"", "`key_lifetime` is of a token that `key_command` prints, and there is none"),
        ("key_file = \"k\"\nkey_lifetime = \"1h\"", "`key_lifetime` is of a token"),
        ("key_command = [\"x\"]\nkey_lifetime = \"0s\"", "`key_lifetime`"),
        ("metadata_server = \"http://evil.example\"", "`metadata_server` is neither Google's nor on this machine"),
        ("metadata_server = \"https://metadata.google.internal\"", "`metadata_server` is neither"),
        ("metadata_server = \"metadata.google.internal\"", "`metadata_server` is neither"),
    ];
    for (keys, expected) in rows {
        let told = faults(&[("plimsoll.toml", &provider(keys))]);
        assert!(told.contains(expected), "{keys}: {told}");
    }
}
