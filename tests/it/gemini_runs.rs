//! Runs over Google's wire against the simulated provider: whole, with its tokens, faults and pauses, and the ledger beside
//! the invoice.

use plimsoll::domain::event::{CostSource, Event, RunState};
use plimsoll::domain::retry::ErrorClass;
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World};

const AGENT: &str = r#"
tools = ["now"]

[model]
models = ["MODEL"]
stream = STREAM

[limits]
cost = "$1"
at_limit = "stop"

[retry]
attempts = 4
backoff = "1ms"
"#;
/// The Gemini API by a key, and Vertex by an account, in a place with prices of its own.
const PROVIDERS: &str = r#"
[providers.gemini]
wire = "gemini"
base_url = "{sim}"
key_command = ["echo", "the-key"]

[providers.vertex]
wire = "vertex"
base_url = "{sim}"
project = "acme"
location = "europe-west4"
service_account = "key.json"
"#;
/// The models of the two that sign and that don't.
const MODELS: [&str; 4] =
    ["gemini/gemini-3.7-flash", "gemini/gemini-2.5-flash", "vertex/gemini-4-argon", "vertex/gemini-2.5-pro"];

fn recipe(model: &str, stream: bool) -> Recipe {
    let agent = AGENT.replace("MODEL", model).replace("STREAM", &stream.to_string());
    Recipe::agent(&agent).file("plimsoll.toml", PROVIDERS).file("tools/now.toml", NOW)
}

const NOW: &str = "description = \"The time\"\nkind = \"builtin\"\nbuiltin = \"now\"\n";

/// What was settled of known cost, and of unknown.
fn settled(told: &Told) -> (Money, Money) {
    let of = |unknown: bool| -> Money {
        let some = told.settlements().filter(|settled| (settled.source == CostSource::Unknown) == unknown);
        some.map(|settled| settled.bill).sum()
    };
    (of(false), of(true))
}

fn is_exact(world: &World, told: &Told) {
    assert_eq!(settled(told), (world.invoice().total, Money::ZERO), "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_loop_costs_what_the_invoice_says_on_every_model() {
    for model in MODELS {
        for stream in [false, true] {
            let world = recipe(model, stream).scenario("key = \"the-key\"\ncache = true\n").start_configured();
            let told = world.run().await;
            assert_eq!(told.state(), RunState::Finished, "{model} {}", told.show());
            assert!(told.calls().count() >= 2, "{model}: a call of a tool, and an answer");
            is_exact(&world, &told);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_is_dearer_where_the_row_says_so() {
    let world = recipe("vertex/gemini-4-argon", false).scenario("[[reply]]\ntext = \"Hi\"\n").start_configured();
    let told = world.run().await;
    is_exact(&world, &told);
    let price = told.calls().next().expect("a call").price.clone();
    let elsewhere = recipe("vertex/gemini-4-argon", false)
        .amend("plimsoll.toml", "europe-west4", "global")
        .scenario("[[reply]]\ntext = \"Hi\"\n")
        .start_configured();
    let cheaper = elsewhere.run().await;
    is_exact(&elsewhere, &cheaper);
    assert_ne!(cheaper.calls().next().expect("a call").price, price, "versions of their own");
    let (dear, plain) = (world.invoice().total.pico(), elsewhere.invoice().total.pico());
    assert_eq!(dear * 10, plain * 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_continuation_is_a_step_of_its_own_within_its_bound() {
    let scenario = "[[rule]]\nwhen.attempt = 1\ntext = \"Once upon\"\nreasoning_tokens = 60\nfinish = \"CONTINUATION\"\n\
                    [[rule]]\nwhen.attempt = 2\ntext = \" a time\"\nfinish = \"CONTINUATION\"\n\
                    [[rule]]\nwhen.attempt = 3\ntext = \".\"\n";
    for stream in [false, true] {
        let world = recipe("gemini/gemini-3.7-flash", stream).scenario(scenario).start_configured();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{}", told.show());
        assert_eq!(told.ended().output.as_ref().and_then(|output| output.as_str()), Some("Once upon a time."));
        assert_eq!(told.calls().count(), 3, "each hop is reserved for itself");
        is_exact(&world, &told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_billed_as_the_table_says_and_never_below() {
    for fault in [
        "rate_limit",
        "quota",
        "server_error",
        "unavailable",
        "unauthorized",
        "forbidden",
        "not_found",
        "conflict",
        "bad_request",
        "context_length",
        "request_timeout",
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
        "no_choices",
        "content_filter",
        "refusal",
        "unknown_tool",
        "invalid_arguments",
        "plain_error",
        "redirect",
        "wrong_type",
    ] {
        for model in ["gemini/gemini-3.7-flash", "vertex/gemini-2.5-pro"] {
            let scenario = format!("[[rule]]\nwhen.attempt = 1\nfault = \"{fault}\"\n");
            let world = recipe(model, true).scenario(&scenario).start_configured();
            let told = world.run().await;
            let (known, unknown) = settled(&told);
            let billed = world.invoice().total;
            assert!(known.plus(unknown) >= billed, "{fault} on {model}: {billed}\n{}", told.show());
            assert!(known <= billed, "{fault} on {model}: what is known is on the invoice\n{}", told.show());
            world.verify();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_asked_for_anew_once() {
    // The first call is answered; the second, with the kept token, is refused once.
    let scenario = "[[rule]]\nwhen.turn = 1\nwhen.attempt = 1\nfault = \"unauthorized\"\n";
    let world = recipe("vertex/gemini-2.5-pro", false).scenario(scenario).start_configured();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let voided: Vec<ErrorClass> = told
        .events()
        .filter_map(|event| if let Event::Voided(voided) = event { Some(voided.failure.class) } else { None })
        .collect();
    assert_eq!(voided, [ErrorClass::StaleKey]);
    is_exact(&world, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_and_an_express_key_are_answered_too() {
    let account = "project = \"acme\"\nlocation = \"europe-west4\"\nservice_account = \"key.json\"";
    for keys in [
        "project = \"acme\"\nlocation = \"global\"\nmetadata_server = \"{sim}\"",
        "key_command = [\"echo\", \"the-key\"]",
    ] {
        let world = recipe("vertex/gemini-2.5-pro", true)
            .amend("plimsoll.toml", account, keys)
            .scenario("key = \"the-key\"\n")
            .start_configured();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{keys}: {}", told.show());
        is_exact(&world, &told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_models_calls_are_taken_over_without_its_signatures() {
    let scenario = "[[rule]]\nwhen.turn = 1\nwhen.model = \"gemini-3.7-flash\"\nfault = \"forbidden\"\n";
    for second in ["gemini/gemini-3.8-flash", "gemini/gemini-2.5-flash"] {
        let world = recipe("gemini/gemini-3.7-flash\", \"SECOND", true)
            .amend("agents/a.toml", "SECOND", second)
            .scenario(scenario)
            .start_configured();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{second}: {}", told.show());
        assert_eq!(told.calls().last().expect("a call").model.as_str(), second);
        is_exact(&world, &told);
    }
}
