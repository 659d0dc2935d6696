//! Anthropic Messages, and the same on Vertex, end to end: the ledger is the invoice.

use plimsoll::domain::event::{CostSource, Outcome, RunState, Settled};
use plimsoll::domain::message::StopReason;
use plimsoll::units::Money;
use serde_json::json;

use crate::world::{Recipe, Told, World};

/// The provider that a plan names, by each wire that Claude is reached over.
const PROVIDERS: [(&str, &str, &str); 3] = [
    ("anthropic", "anthropic", "https://api.anthropic.com/v1"),
    ("azure_foundry_anthropic", "anthropic", "https://r.services.ai.azure.com/anthropic/v1"),
    ("vertex_anthropic", "vertex-anthropic", "https://aiplatform.googleapis.com/v1/projects/p/locations/global"),
];

fn agent(model: &str) -> Recipe {
    agent_of(PROVIDERS[0], model)
}

fn agent_of((provider, wire, base_url): (&str, &str, &str), model: &str) -> Recipe {
    let text = format!(
        "[model]\nmodels = [\"{provider}/{model}\"]\nmax_output_tokens = 3_000\n[limits]\ncost = \"$5\"\nat_limit = \"stop\"\n[retry]\nattempts = 4\nbackoff = \"1ms\"\n"
    );
    let providers = format!("[providers.{provider}]\nwire = \"{wire}\"\nbase_url = \"{base_url}\"\n");
    Recipe::agent(&text).file("plimsoll.toml", &providers)
}

/// With two tools, so that a turn of calls and a turn of answers goes out.
fn with_tools(recipe: Recipe) -> Recipe {
    let tool = |name: &str| {
        format!(
            "description = \"Gives the {name}\"\nkind = \"command\"\ncommand = [\"echo\", \"the {name} is fine\"]\nidempotent = true\n[input]\ntype = \"object\"\nrequired = [\"what\"]\nproperties.what = {{ type = \"string\" }}\n"
        )
    };
    recipe
        .amend("agents/a.toml", "[model]", "tools = [\"state\", \"place\"]\n[model]")
        .file("tools/state.toml", &tool("state"))
        .file("tools/place.toml", &tool("place"))
}

const CALLS: &str = "[[reply]]\ntool_calls = [{ name = \"state\", arguments = { what = \"parcel\" } }, { name = \"place\", arguments = { what = \"parcel\" } }]\n";

/// The books agree: settled is what was invoiced, and unknown no less.
fn agree(world: &World, told: &Told) {
    world.verify();
    let mut settled = Money::ZERO;
    for settlement in told.settlements() {
        settled = settled.plus(settlement.bill);
    }
    assert_eq!(settled, world.invoice().total, "{}", told.show());
}

fn outcome(told: &Told) -> &Settled {
    told.settlements().last().expect("a settlement")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_loop_costs_what_the_provider_bills_over_every_door() {
    for provider in PROVIDERS {
        for stream in [true, false] {
            let world = with_tools(agent_of(provider, "claude-haiku-5-5"))
                .amend("agents/a.toml", "max_output_tokens", &format!("stream = {stream}\nmax_output_tokens"))
                .scenario(CALLS)
                .start();
            let told = world.run().await;
            assert_eq!(told.state(), RunState::Finished, "{provider:?}: {}", told.show());
            assert_eq!(told.calls().count(), 2);
            agree(&world, &told);
            let lines = world.invoice().lines;
            let prefix = if provider.1 == "anthropic" { "msg_sim_" } else { "msg_vrtx_" };
            assert!(lines.iter().all(|line| line.id.starts_with(prefix)), "asked over its own wire: {lines:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thoughts_go_back_signed_in_a_tool_loop_and_count_as_output() {
    // One that always thinks, one that is asked with an effort, and an old one that is given a budget.
    for (model, reasoning) in [("claude-opus-5-5", ""), ("claude-sonnet-4-6", "high"), ("claude-haiku-4-5", "high")] {
        let mut recipe = with_tools(agent(model)).scenario(CALLS);
        if !reasoning.is_empty() {
            recipe = recipe.amend("agents/a.toml", "max_output", &format!("reasoning = \"{reasoning}\"\nmax_output"));
        }
        let world = recipe.start();
        let told = world.run().await;
        // The simulator refuses a turn whose thoughts are missing or changed.
        assert_eq!(told.state(), RunState::Finished, "{model}: {}", told.show());
        assert!(world.invoice().lines.iter().all(|line| line.tokens.reasoning > 0), "{model}");
        agree(&world, &told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_a_form_is_asked_for_as_the_schema_allows() {
    let closed = "[output]\ntype = \"object\"\nrequired = [\"reply\"]\nproperties.reply = { type = \"string\", minLength = 2 }\n";
    let free = "[output]\ntype = \"object\"\nrequired = [\"reply\"]\nproperties.reply = { type = \"string\" }\nproperties.more = { type = \"object\" }\n";
    // By the wire's own means; as a tool's arguments; and where a tool can't be forced, in words and mended once.
    for (model, form, calls) in
        [("claude-haiku-5-5", closed, 1), ("claude-haiku-5-5", free, 1), ("claude-opus-5-5", free, 2)]
    {
        let recipe = agent(model);
        let recipe = recipe.amend("agents/a.toml", "[limits]", &format!("{form}[limits]"));
        let recipe = if calls == 2 {
            recipe.scenario("[[reply]]\ntext = \"no JSON\"\n[[reply]]\ntext = '{\"reply\": \"yes\"}'\n")
        } else {
            recipe
        };
        let world = recipe.start();
        let told = world.run().await;
        assert_eq!((told.state(), told.calls().count()), (RunState::Finished, calls), "{model}: {}", told.show());
        agree(&world, &told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_in_words_is_what_the_simulated_agent_answers_in() {
    let form = "[output]\ntype = \"object\"\nrequired = [\"reply\"]\nproperties.reply = { type = \"string\" }\nproperties.more = { type = \"object\" }\n";
    let recipe = agent("claude-opus-5-5").amend("agents/a.toml", "[limits]", &format!("{form}[limits]"));
    let world = recipe.scenario("").start();
    let told = world.run().await;
    assert_eq!((told.state(), told.calls().count()), (RunState::Finished, 1), "{}", told.show());
    agree(&world, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_counted_beside_the_input() {
    for tokens in ["cached = 30, cache_write = 4", "cached = 9, cache_write_long = 7", "input = 200_000, cached = 5"] {
        let world = agent("claude-haiku-5-5").scenario(&format!("[[reply]]\ntokens = {{ {tokens} }}\n")).start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{tokens}");
        agree(&world, &told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_that_is_asked_for_has_its_price() {
    for (place, times) in [("global", 100), ("us", 110)] {
        let world = agent("claude-opus-5")
            .amend("plimsoll.toml", "base_url", &format!("inference_geo = \"{place}\"\nbase_url"))
            .start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{}", told.show());
        agree(&world, &told);
        let line = &world.invoice().lines[0];
        let tokens = u128::from(line.tokens.prompt) * 5_000_000 + u128::from(line.tokens.completion) * 25_000_000;
        assert_eq!(line.amount_usd.pico(), tokens * times / 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_costs_what_its_category_says() {
    for (category, text, free) in
        [("", "", true), ("cyber", "", true), ("bio", "", false), ("cyber", "text = \"So far\"\n", false)]
    {
        let category_key = if category.is_empty() { String::new() } else { format!("category = \"{category}\"\n") };
        let world = agent("claude-haiku-5-5")
            .scenario(&format!("[[reply]]\nfault = \"refusal\"\n{category_key}{text}"))
            .start();
        let told = world.run().await;
        let settled = outcome(&told);
        let Outcome::Reply { stop, message, .. } = &settled.outcome else { panic!("a reply: {}", told.show()) };
        assert_eq!(stop, &StopReason::Refusal);
        assert!(message.refusal.as_ref().is_some_and(|words| words.starts_with("I'm sorry")));
        assert_eq!((settled.bill == Money::ZERO, settled.source), (free, CostSource::Reported), "{category} {text}");
        assert!(settled.raw_usage.as_ref().is_some_and(|raw| raw["input_tokens"].as_u64() > Some(0)), "it is kept");
        agree(&world, &told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_leaves_the_ledger_at_the_invoice_or_above() {
    for (fault, exact) in [
        ("rate_limit", true),
        ("overloaded", true),
        ("server_error", false),
        ("unavailable", false),
        ("gateway_timeout", false),
        ("request_timeout", false),
        ("plain_error", false),
        ("garbage", false),
        ("wrong_type", false),
        ("cut_stream", false),
        ("stream_error", false),
        ("no_done", false),
        ("drop", false),
        ("missing_usage", false),
        ("null_usage", false),
        ("garbage_usage", false),
        ("duplicate_usage", true),
        ("usage_every_chunk", true),
        ("conflict", true),
    ] {
        let world = agent("claude-haiku-5-5")
            .rule(&format!("[[rule]]\nwhen.attempt = 1\nfault = \"{fault}\"\nretry_after = \"1ms\"\n"))
            .start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{fault}: {}", told.show());
        world.verify();
        let mut settled = Money::ZERO;
        for settlement in told.settlements() {
            settled = settled.plus(settlement.bill);
        }
        let billed = world.invoice().total;
        assert!(settled >= billed, "{fault}: {settled} below {billed}");
        assert_eq!(settled == billed, exact, "{fault}: {settled} and {billed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_at_the_door_are_free_and_end_the_run_or_move_it() {
    for fault in [
        "unauthorized",
        "payment_required",
        "forbidden",
        "not_found",
        "bad_request",
        "too_large",
        "context_length",
        "quota",
    ] {
        let world = agent("claude-haiku-5-5").scenario(&format!("[[reply]]\nfault = \"{fault}\"\n")).start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Failed, "{fault}");
        agree(&world, &told);
        assert_eq!(world.invoice().total, Money::ZERO, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_goes_on_as_a_step_of_its_own_and_a_full_window_fails() {
    let scenario = "[[rule]]\nwhen.turn = 0\ntext = \"First half, \"\nfinish = \"pause_turn\"\n[[rule]]\nwhen.turn = 1\ntext = \"second half.\"\n";
    // An old model, since newer ones don't go on with a text of their own.
    let world = agent("claude-haiku-4-5").scenario(scenario).start();
    let told = world.run().await;
    assert_eq!((told.state(), told.calls().count()), (RunState::Finished, 2), "{}", told.show());
    assert_eq!(told.ended().output, Some(json!("First half, second half.")));
    agree(&world, &told);

    let world = agent("claude-haiku-5-5")
        .scenario("[[reply]]\ntext = \"and\"\nfinish = \"model_context_window_exceeded\"\n")
        .start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Failed);
    agree(&world, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_another_wire_takes_over_in_the_middle_of_a_tool_loop() {
    let providers = format!(
        "[providers.anthropic]\nwire = \"anthropic\"\nbase_url = \"{}\"\n[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"https://api.openai.com/v1\"\n",
        PROVIDERS[0].2
    );
    for (first, second) in
        [("anthropic/claude-haiku-4-5", "openai/gpt-5-mini"), ("openai/gpt-5-mini", "anthropic/claude-haiku-4-5")]
    {
        let model = first.split_once('/').expect("a model").1;
        let world = with_tools(agent("claude-haiku-4-5"))
            .amend("agents/a.toml", "\"anthropic/claude-haiku-4-5\"", &format!("\"{first}\", \"{second}\""))
            .amend("agents/a.toml", "max_output", "reasoning = \"high\"\nmax_output")
            .file("plimsoll.toml", &providers)
            .scenario(CALLS)
            .rule(&format!("[[rule]]\nwhen.turn = 1\nwhen.model = \"{model}\"\nfault = \"overloaded\"\n"))
            .start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{first}: {}", told.show());
        agree(&world, &told);
        let last = world.invoice().lines.last().expect("a line").model.clone();
        assert_eq!(Some(&*last), second.split_once('/').map(|(_, model)| model));
    }
}
