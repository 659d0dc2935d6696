//! Counts of the provider before a call: they can raise what is set aside, never lower it, and cost nothing.

use plimsoll::domain::audit::{Author, Change};
use plimsoll::domain::event::{Count, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::message::GivenFile;
use plimsoll::domain::switch::{SwitchKind, SwitchLifted, SwitchSet};
use plimsoll::units::{Money, Tokens};

use crate::world::{Recipe, Told, World};

const AGENT: &str = r#"
tools = ["look"]

[model]
models = ["MODEL"]
max_output_tokens = 300

[prompt]
system = "Look, then answer."

[context]
tokens = 60_000
count = "provider"

[limits]
cost = "$1"
"#;
const LOOK: &str =
    "description = 'Looks'\nkind = 'command'\ncommand = ['echo', 'there it is']\n[input]\ntype = 'object'\n";
const TALK: &str = "[[reply]]\ntool_calls = [{ name = 'look', arguments = {} }]\n[[reply]]\ntext = 'It is there.'\n";
const PROVIDERS: &str = r#"
[providers.anthropic]
wire = "anthropic"
base_url = "http://{sim}/anthropic/v1"
key_command = ["printf", "k"]

[providers.claude]
wire = "vertex-anthropic"
base_url = "http://{sim}/claude/v1/projects/acme/locations/global"
key_command = ["printf", "k"]
key_lifetime = "1h"

[providers.gemini]
wire = "gemini"
base_url = "http://{sim}"
key_command = ["printf", "k"]

[providers.openai]
wire = "openai-responses"
base_url = "http://{sim}/openai/v1"
key_command = ["printf", "k"]

[[prices]]
model = "claude/claude-haiku-4-5"
input = "1"
output = "5"
cache_read = "0.1"
cache_write = "1.25"
reason = "test"
"#;
/// Less than the 5 s for which a count is waited for.
const COUNT_TIME: std::time::Duration = std::time::Duration::from_secs(4);
/// Those that say that they count for nothing.
const COUNTING: [&str; 3] = ["anthropic/claude-haiku-4-5", "claude/claude-haiku-4-5", "gemini/gemini-3.8-flash"];

fn recipe(model: &str, counting: &str) -> Recipe {
    Recipe::agent(&AGENT.replace("MODEL", model))
        .file("plimsoll.toml", PROVIDERS)
        .file("tools/look.toml", LOOK)
        .scenario(&format!("key = 'k'\n{counting}\n{TALK}"))
}

fn settled(told: &Told) -> Money {
    told.settlements().map(|settled| settled.bill).sum()
}

async fn run(recipe: &Recipe) -> (World, Told) {
    let world = recipe.start_wired();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    assert_eq!(settled(&told), world.invoice().total);
    world.verify();
    (world, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_below_the_own_bound_is_kept_and_lowers_nothing() {
    for model in COUNTING {
        let (world, told) = run(&recipe(model, "")).await;
        let (_, plain) = run(&recipe(model, "").amend("agents/a.toml", "count = \"provider\"", "")).await;
        assert_eq!(world.invoice().lines.len(), 2, "{model}: counts are on no bill");
        for ((call, uncounted), line) in told.calls().zip(plain.calls()).zip(world.invoice().lines) {
            assert_eq!(call.count, Some(Count::Told { tokens: Tokens(line.tokens.prompt) }), "{model}");
            assert_eq!((call.bound, &uncounted.count), (uncounted.bound, &None), "{model}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_above_the_own_bound_raises_what_is_set_aside() {
    for model in COUNTING {
        let (world, told) = run(&recipe(model, "counting = { percent = 4_000 }")).await;
        let (_, plain) = run(&recipe(model, "")).await;
        for ((call, line), (reserved, before)) in
            told.calls().zip(world.invoice().lines).zip(told.reservations().zip(plain.reservations()))
        {
            let Some(Count::Told { tokens }) = &call.count else { unreachable!("{model}: {:?}", call.count) };
            assert_eq!(tokens.0, line.tokens.prompt * 40, "{model}");
            assert_eq!(call.bound.tokens, Tokens(tokens.0 + tokens.0.div_ceil(20)), "{model}: with the margin");
            assert!(reserved.amount >= before.amount, "{model}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_beyond_the_context_budget_is_refused() {
    let world = recipe(COUNTING[0], "counting = { percent = 90_000 }").start_wired();
    let told = world.run().await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Context), "{}", told.show());
    assert_eq!(world.invoice().total, Money::ZERO);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_to_count_for_a_run_or_a_model_that_is_switched_off() {
    // As long as a count is waited for, the run waits.
    let world = recipe(COUNTING[0], "counting = { latency = '60s' }").start_wired();
    for scope in ["agent=a", "model=anthropic/claude-haiku-4-5"] {
        let (scope, reason) = (scope.parse().expect("a scope"), "odd answers".to_owned());
        let set = SwitchSet { scope, switch: SwitchKind::Kill, reason };
        let store = world.runtime.store();
        store.note(Author::Person("ann".into()), Change::SwitchSet(set.clone())).await.expect("it is written");
        let told = tokio::time::timeout(COUNT_TIME, world.run()).await.expect("nothing is counted");
        assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Switch), "{}", told.show());
        let lifted = SwitchLifted { scope: set.scope, reason: "mended".to_owned() };
        store.note(Author::Person("ann".into()), Change::SwitchLifted(lifted)).await.expect("it is written");
    }
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_counted_the_own_bound_stands_and_the_trace_says_why() {
    for (model, counting, why) in [
        ("openai/gpt-5-mini", "", "nobody says that its provider counts for nothing"),
        (COUNTING[0], "counting = { status = 503 }", "its provider answered with status 503"),
        (COUNTING[2], "counting = { status = 429 }", "its provider answered with status 429"),
    ] {
        let (_, told) = run(&recipe(model, counting)).await;
        assert!(told.calls().all(|call| call.count == Some(Count::Not { why: why.to_owned() })), "{}", told.show());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_counts_more_than_was_said_is_found_out_before_it_costs() {
    let project = "[[models]]\nmodel = 'anthropic/claude-haiku-4-5'\ndocument_tokens = 100\n";
    let pages = "<</Type/Page>>".repeat(7);
    let pdf = || GivenFile::of("bill.pdf", format!("%PDF-1.7 {pages}").as_bytes()).expect("a file");
    let recipe = recipe(COUNTING[0], "").file("plimsoll.toml", &format!("{PROVIDERS}{project}"));
    let world = recipe.start_wired();
    let told = world.run_with_files(vec![pdf()]).await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    for (call, line) in told.calls().zip(world.invoice().lines) {
        assert!(call.bound.tokens > Tokens(line.tokens.prompt) && line.tokens.prompt > 16_000, "{line:?}");
    }
    assert!(world.runtime.store().freezes().expect("reads").is_empty());
    world.verify();
    let unasked = recipe.amend("agents/a.toml", "count = \"provider\"", "").start_wired();
    unasked.run_with_files(vec![pdf()]).await;
    assert_eq!(unasked.runtime.store().freezes().expect("reads").len(), 1, "what was said is too little");
}
