//! OpenAI's Responses, and both wires at Azure, against the simulated provider: the ledger is its invoice.

use plimsoll::domain::event::{CostSource, Event, RunState};
use plimsoll::sim::Billed;
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World};

/// A loop with a tool, that is tried again at once.
const AGENT: &str = r#"
tools = ["look"]

[model]
models = ["PROVIDER/gpt-5-mini"]
reasoning = "low"
stream = STREAM

[prompt]
system = "Look, then answer."

[limits]
cost = "$1"

[retry]
attempts = 3
backoff = "1ms"
"#;
const LOOK: &str = r#"
description = "Looks"
kind = "command"
command = ["echo", "there it is"]

[input]
type = "object"
"#;
/// One reply with a call, then one without; both after some thought.
const TALK: &str = r#"
[[reply]]
reasoning_tokens = 30
tool_calls = [{ name = "look", arguments = {} }]
[[reply]]
text = "It is there."
reasoning_tokens = 7
"#;

/// Providers, by the name that the agent's model begins with.
const PROVIDERS: [(&str, &str); 5] = [
    ("openai", "wire = 'openai-responses'\nbase_url = 'http://{sim}/openai/v1'\nkey_command = ['printf', 'k']"),
    ("azure", "wire = 'azure-openai'\nbase_url = 'http://{sim}/azure'\nkey_command = ['printf', 'k']"),
    (
        "classic",
        "wire = 'azure-openai'\nbase_url = 'http://{sim}/classic'\napi_version = '2024-10-21'\nauth = 'entra'\nkey_command = ['printf', 'k']\nkey_lifetime = '1h'",
    ),
    (
        "az_responses",
        "wire = 'azure-openai'\nbase_url = 'http://{sim}/az_responses/openai/v1/'\napi = 'responses'\nauth = 'entra'\nkey_file = 'token'",
    ),
    (
        "old_responses",
        "wire = 'azure-openai'\nbase_url = 'http://{sim}/old_responses'\napi = 'responses'\napi_version = 'preview'\nkey_file = 'token'",
    ),
];

fn world(provider: &str, stream: bool, scenario: &str) -> World {
    let agent = AGENT.replace("PROVIDER", provider).replace("STREAM", if stream { "true" } else { "false" });
    let mut project = String::new();
    for (name, table) in PROVIDERS {
        project.push_str(&format!("[providers.{name}]\n{table}\n"));
        if name != "openai" {
            project.push_str(&format!(
                "[providers.{name}.deployments.gpt-5-mini]\nmodel = 'gpt-5-mini'\nscope = 'global'\n"
            ));
        }
    }
    let recipe =
        Recipe::agent(&agent).file("plimsoll.toml", &project).file("tools/look.toml", LOOK).file("token", "k\n");
    recipe.scenario(&format!("key = 'k'\n{scenario}")).start_wired()
}

fn settled(told: &Told) -> Money {
    told.settlements().map(|settled| settled.bill).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_the_invoice_on_every_wire() {
    for (provider, _) in PROVIDERS {
        for stream in [false, true] {
            let world = world(provider, stream, TALK);
            let told = world.run().await;
            assert_eq!(told.state(), RunState::Finished, "{provider} {stream}\n{}", told.show());
            let models: Vec<_> = told.settlements().filter(|settled| settled.usage.is_some()).collect();
            assert_eq!(models.len(), 2, "{provider} {stream}");
            assert!(models.iter().all(|settled| settled.source == CostSource::Reported && settled.mismatch.is_none()));
            let reasoning: u64 = models.iter().filter_map(|settled| settled.usage).map(|usage| usage.reasoning.0).sum();
            assert_eq!(reasoning, 37, "{provider} {stream}");
            assert_eq!(settled(&told), world.invoice().total, "{provider} {stream}");
            // What was thought is part of the next request where the wire hands it back, and is paid for.
            assert!(world.invoice().lines.iter().all(|line| line.billed == Billed::Whole && line.status == 200));
            world.verify();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reasoning_comes_back_unchanged_in_a_tool_loop() {
    // The simulator refuses a seal that isn't as it gave it, and counts what it hides.
    let world = world("openai", true, TALK);
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let prompts: Vec<u64> = world.invoice().lines.iter().map(|line| line.tokens.prompt).collect();
    assert!(prompts[1] > prompts[0] + 30, "{prompts:?}");
}

/// Faults that strike the first try of the first turn.
const FAULTS: [&str; 26] = [
    "rate_limit",
    "server_error",
    "bad_gateway",
    "unavailable",
    "overloaded",
    "request_timeout",
    "conflict",
    "unprocessable",
    "too_large",
    "bad_request",
    "context_length",
    "filtered_input",
    "plain_error",
    "wrong_type",
    "garbage",
    "drop",
    "cut_stream",
    "stream_error",
    "no_done",
    "missing_usage",
    "null_usage",
    "garbage_usage",
    "duplicate_usage",
    "usage_every_chunk",
    "content_filter",
    "refusal",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_costs_more_than_the_ledger_says() {
    for (provider, stream) in [("openai", true), ("azure", true), ("az_responses", false)] {
        for fault in FAULTS {
            let rule = format!("[[rule]]\nwhen.turn = 0\nwhen.attempt = 1\nfault = '{fault}'\n");
            let world = world(provider, stream, &format!("{rule}{TALK}"));
            let told = world.run().await;
            let (ledger, invoice) = (settled(&told), world.invoice().total);
            let case = format!("{provider} {stream} {fault}\n{}", told.show());
            assert!(ledger >= invoice, "{ledger} below {invoice}: {case}");
            let unknown = told.settlements().any(|settled| settled.source == CostSource::Unknown);
            assert!(unknown || ledger == invoice, "{ledger} and {invoice}: {case}");
            world.verify();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_azure_filters_is_billed_and_what_openai_filters_is_not() {
    for (provider, bills) in [("azure", true), ("az_responses", true), ("openai", false)] {
        let world = world(provider, true, "[[reply]]\nfault = 'filtered_input'\n");
        let told = world.run().await;
        let voided = told.events().any(|event| matches!(event, Event::Voided(_)));
        assert_eq!((voided, settled(&told) > Money::ZERO), (!bills, bills), "{provider}\n{}", told.show());
        assert_eq!(world.invoice().total > Money::ZERO, bills, "{provider}");
        assert!(settled(&told) >= world.invoice().total);
        world.verify();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_has_its_own_price_on_both_sides() {
    let project = "[providers.az]\nwire = 'azure-openai'\nbase_url = 'http://{sim}/az'\n\
        [providers.az.deployments.support]\nmodel = 'gpt-6.1-sol'\nscope = 'data-zone-eu'\n";
    let agent = "[model]\nmodels = ['az/support']\n[prompt]\nsystem = 'Be brief.'\n[limits]\ncost = '$1'\n";
    let world = Recipe::agent(agent).file("plimsoll.toml", project).start_wired();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let line = &world.invoice().lines[0];
    assert_eq!(line.model, "gpt-6.1-sol", "the reply names the base model");
    let tokens = line.tokens;
    let fresh = tokens.prompt - tokens.cached - tokens.cache_write;
    let expected = u128::from(fresh) * 2_400_000 + u128::from(tokens.completion) * 12_000_000;
    assert_eq!(settled(&told), Money::from_pico(expected));
    assert_eq!(settled(&told), world.invoice().total);
    world.verify();
}
