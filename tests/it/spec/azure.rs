//! Providers at Azure and servers with quirks: what their tables say, and how their faults are told.

use plimsoll::cli::project::price_book;
use plimsoll::clock::Clock;
use plimsoll::domain::pricing::{Served, Usage};
use plimsoll::ids::ModelName;
use plimsoll::spec::project::{AzureApi, AzureAuth, DeploymentScope, Project, ReportedCost};
use plimsoll::units::{Money, Tokens};

use super::{faults, load_configuration, options, project};

const AZURE: &str = r#"
[providers.az]
wire = "azure-openai"
base_url = "https://acme.openai.azure.com"
key_env = "AZURE_OPENAI_API_KEY"

[providers.az.deployments.support]
model = "gpt-6.1-sol"
scope = "data-zone-eu"

[providers.az.deployments."mini.2"]
model = "gpt-5-mini"
scope = "global"
"#;

fn loaded(text: &str) -> Project {
    load_configuration(project(&[("plimsoll.toml", text)]).path(), &options()).expect("a good file")
}

#[test]
fn a_deployment_stands_for_a_model_and_a_scope() {
    let loaded = loaded(AZURE);
    let provider = &loaded.providers[&"az".into()];
    let azure = provider.azure.as_ref().expect("Azure");
    assert_eq!((azure.api, azure.auth, &azure.api_version), (AzureApi::Chat, AzureAuth::ApiKey, &None));
    assert_eq!(azure.deployments["mini.2"].scope, DeploymentScope::Global);
    assert_eq!(provider.served(&"az/support".into()).as_str(), "azure/gpt-6.1-sol");
    assert!(!provider.quirks.pin_service_tier && !provider.quirks.no_cache_writes, "bounds take the dearest");
}

#[test]
fn the_price_is_that_of_the_base_model_in_its_zone() {
    let project = loaded(AZURE);
    let book = price_book(&project).expect("prices");
    let now = Clock::system().now();
    let row = |model: &str| book.find(&ModelName::from(model), now).expect("a price").clone();
    let usage = Usage { input: Tokens(1_000), output: Tokens(100), ..Usage::default() };
    let bill = |model: &str, answering: &str| book.bill(&row(model), &usage, Some(answering), Served::default(), now);
    // $2.4 in and $12 out in the European zone.
    let europe = Some(Money::from_pico(1_000 * 2_400_000 + 100 * 12_000_000));
    for answering in ["gpt-6.1-sol", "gpt-6.1-sol-2026-03-11", "support"] {
        assert_eq!(bill("az/support", answering), europe, "{answering}");
    }
    assert_eq!(bill("az/mini.2", "gpt-5-mini-2025-08-07"), Some(Money::from_pico(1_000 * 250_000 + 100 * 2_000_000)));
    assert_eq!(bill("az/support", "gpt-5-mini"), None, "nobody knows its price in that zone");
    let other = Some(Money::from_pico(1_000 * 2_000_000 + 100 * 8_000_000));
    assert_eq!(bill("az/mini.2", "gpt-4.1"), other, "another base model has its own price");
}

#[test]
fn the_projects_own_price_of_a_deployment_stands_over_the_book() {
    let text = format!("{AZURE}\n[[prices]]\nmodel = \"az/support\"\ninput = \"1\"\noutput = \"2\"\n");
    let project = loaded(&text);
    let book = price_book(&project).expect("prices");
    let now = Clock::system().now();
    let row = book.find(&"az/support".into(), now).expect("a price");
    let usage = Usage { input: Tokens(1_000), ..Usage::default() };
    let bill = book.bill(row, &usage, Some("gpt-6.1-sol-2026-03-11"), Served::default(), now);
    assert_eq!(bill, Some(Money::from_micro(1_000)));
}

#[test]
fn servers_have_the_quirks_of_their_flavour() {
    let quirks = |lines: &str| {
        let text = format!("[providers.a]\nwire = \"openai-chat\"\n{lines}\n");
        loaded(&text).providers[&"a".into()].quirks.clone()
    };
    assert!(!quirks("base_url = \"https://api.mistral.ai/v1\"").stream_usage);
    let own = quirks("base_url = \"https://api.mistral.ai/v1\"\nstream_usage = true");
    assert!(own.stream_usage, "the table's own key stands over it");
    let proxied = quirks("base_url = \"http://localhost:4000/v1\"\nflavour = \"openrouter\"");
    assert_eq!(proxied.reported_cost, Some(ReportedCost::Usd));
}

const AZURE_BARE: &str = "[providers.a]\nwire = \"azure-openai\"\nbase_url = \"https://x.openai.azure.com\"\n";
const CHAT_WITH_AZURES_KEYS: &str =
    "[providers.a]\nwire = \"openai-chat\"\nbase_url = \"https://x\"\napi_version = \"1\"\nflavour = \"grok\"\n";
const AZURE_WRONG: &str = "[providers.a]\nwire = \"azure-openai\"\nbase_url = \"https://x\"\napi_version = \"a b\"\nauth = \"both\"\n\
    [providers.a.deployments.\"x/y\"]\nmodel = \"m\"\nscope = \"provisioned\"\n";

#[test]
fn faults_are_told_with_their_mend() {
    let agent = "[model]\nmodels = [\"az/suport\", \"az/other\"]\n[prompt]\nsystem = \"x\"\n";
    let responses = "[model]\nmodels = [\"r/gpt-5-mini\"]\nseed = 1\nstop = [\"x\"]\nextra = { truncation = \"auto\", store = true }\n[prompt]\nsystem = \"x\"\n";
    let provider = "\n[providers.r]\nwire = \"openai-responses\"\nbase_url = \"https://api.openai.com/v1\"\n";
    let telling = [
        (
            faults(&[("plimsoll.toml", AZURE), ("agents/a.toml", agent)]),
            &[
                "`az` has no deployment `suport`: nobody knows what it costs",
                "did you mean `support`?",
                "`az` has no deployment `other`: nobody knows what it costs",
            ][..],
        ),
        (
            faults(&[("plimsoll.toml", provider), ("agents/a.toml", responses)]),
            &[
                "`r/gpt-5-mini` is asked by OpenAI's Responses, which have no `seed`",
                "which have no `stop`",
                "`extra` can't set `truncation` for `r/gpt-5-mini`",
                "`extra` can't set `store`",
            ],
        ),
        (
            faults(&[("plimsoll.toml", AZURE_BARE)]),
            &["the provider names no deployment: what it costs depends on its model and its scope"],
        ),
        (
            faults(&[("plimsoll.toml", CHAT_WITH_AZURES_KEYS)]),
            &[
                "`api_version` says nothing on the wire `openai-chat`",
                "`grok` is no value of `flavour`",
                "did you mean `groq`?",
            ],
        ),
        (
            faults(&[("plimsoll.toml", AZURE_WRONG)]),
            &[
                "`a b` is no version of an API",
                "`both` is no value of `auth`",
                "`x/y` is no name of a deployment",
                "`scope = \"provisioned\"` is not supported by this version",
            ],
        ),
    ];
    for (told, words) in telling {
        for words in words {
            assert!(told.contains(words), "`{words}` isn't in\n{told}");
        }
    }
}
