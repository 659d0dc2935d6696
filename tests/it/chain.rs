//! A chain of providers, each over a wire of its own: who takes over when one fails, what each hop costs, and that the trace
//! says so.

use plimsoll::cli::render::trace::trace as show;
use plimsoll::domain::event::RunState;
use plimsoll::domain::report::{AttemptCall, AttemptLine, CostState, Gave, Trace};
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World};

const AGENT: &str = r#"
[model]
models = ["FIRST", OTHERS_BARE]
content_filter_fallbacks = OTHERS
context_fallbacks = OTHERS
stream = true

[prompt]
system = "Be brief."

[limits]
cost = "$1"
model_call_time = "TIME"

[retry]
attempts = 6
backoff = "1ms"
"#;
const PROJECT: &str = r#"
[providers.openai]
wire = "openai-responses"
base_url = "http://{sim}/openai/v1"

[providers.azure]
wire = "azure-openai"
base_url = "http://{sim}/azure"

[providers.azure.deployments.nano]
model = "gpt-4.1"
scope = "global"

[providers.groq]
wire = "openai-chat"
base_url = "http://{sim}/groq/v1"
"#;

const CHAIN: [&str; 3] = ["openai/gpt-5-mini", "azure/nano", "groq/openai/gpt-oss-20b"];

/// Three vendors, each on its own wire.
const VENDORS: &str = r#"
[providers.openai]
wire = "openai-responses"
base_url = "http://{sim}/openai/v1"

[providers.anthropic]
wire = "anthropic"
base_url = "http://{sim}/anthropic/v1"

[providers.vertex]
wire = "vertex"
base_url = "http://{sim}/vertex"
project = "acme"
location = "global"
metadata_server = "http://{sim}"
"#;

const CHAIN_OF_VENDORS: [&str; 3] = ["openai/gpt-5-mini", "anthropic/claude-sonnet-4-6", "vertex/gemini-3.7-flash"];

/// A chain whose first links fail by these faults.
fn chain(project: &str, chain: [&str; 3], first: &str, second: &str) -> World {
    let rule = |model: &str, fault: &str| {
        let name = model.split_once('/').map_or(model, |(_, name)| name);
        format!("[[rule]]\nwhen.model = '{name}'\n{fault}\n")
    };
    let scenario = format!("{}{}", rule(chain[0], first), rule(chain[1], second));
    let time = if first.contains("hang") { "1500ms" } else { "20s" };
    let others = format!("[\"{}\", \"{}\"]", chain[1], chain[2]);
    let agent = AGENT
        .replace("FIRST", chain[0])
        .replace("OTHERS_BARE", others.trim_matches(['[', ']']))
        .replace("OTHERS", &others)
        .replace("TIME", time);
    Recipe::agent(&agent).file("plimsoll.toml", project).scenario(&scenario).start_wired()
}

fn trace(told: &Told) -> Trace {
    Trace::of(told.run.id, told.run.plan.clone(), &told.log, told.log.last().expect("a fact").at).expect("a trace")
}

/// The attempts of a run's only step.
fn hops(trace: &Trace) -> Vec<&AttemptLine> {
    trace.steps().flat_map(|step| &step.attempts).collect()
}

fn model(attempt: &AttemptLine) -> &str {
    match &attempt.call {
        AttemptCall::Model(model) => model.model.as_str(),
        AttemptCall::Tool(_) => "a tool",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hop_is_explained_and_paid_for() {
    // What it is, by the first link's fault and the second's; how it is told; and whether each may have been billed.
    let rows = [
        (
            "fault = 'rate_limit'\nretry_after = '60s'",
            "fault = 'overloaded'",
            ["rate_limited", "overloaded"],
            [false, true],
        ),
        (
            "fault = 'context_length'",
            "fault = 'context_length'",
            ["context_too_long", "context_too_long"],
            [false, true],
        ),
        ("fault = 'filtered_input'", "fault = 'filtered_input'", ["content_filter", "content_filter"], [false, true]),
        ("fault = 'cut_stream'", "fault = 'cut_stream'", ["cut_stream", "cut_stream"], [true, true]),
        ("fault = 'hang'", "fault = 'server_error'", ["timed_out", "server"], [true, true]),
        ("fault = 'overloaded'", "fault = 'rate_limit'", ["overloaded", "rate_limited"], [false, false]),
    ];
    for (first, second, classes, billed) in rows {
        walk(PROJECT, CHAIN, (first, second), classes, billed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_vendors_take_over_from_each_other() {
    let rows = [
        (
            "fault = 'rate_limit'\nretry_after = '60s'",
            "fault = 'overloaded'",
            ["rate_limited", "overloaded"],
            [false, false],
        ),
        (
            "fault = 'context_length'",
            "fault = 'context_length'",
            ["context_too_long", "context_too_long"],
            [false, false],
        ),
        ("fault = 'cut_stream'", "fault = 'cut_stream'", ["cut_stream", "cut_stream"], [true, true]),
        ("fault = 'hang'", "fault = 'server_error'", ["timed_out", "server"], [true, true]),
        ("fault = 'filtered_input'", "fault = 'overloaded'", ["content_filter", "overloaded"], [false, false]),
    ];
    for (first, second, classes, billed) in rows {
        walk(VENDORS, CHAIN_OF_VENDORS, (first, second), classes, billed).await;
    }
}

/// Walks a chain over its first links' faults: each hop has its class, its cost and its words.
async fn walk(project: &str, models: [&str; 3], faults: (&str, &str), classes: [&str; 2], billed: [bool; 2]) {
    let (first, second) = faults;
    let world = chain(project, models, first, second);
    let told = world.run().await;
    let case = format!("{first} {second}\n{}", told.show());
    assert_eq!(told.state(), RunState::Finished, "{case}");
    let trace = trace(&told);
    let hops = hops(&trace);
    let mut asked: Vec<_> = hops.iter().map(|hop| model(hop)).collect();
    asked.dedup();
    assert_eq!(asked, models, "{case}");
    for hop in &hops {
        let place = models.iter().position(|known| *known == model(hop)).expect("one of the chain");
        let expected = match billed.get(place) {
            None => (hop.cost_usd, CostState::Reported),
            Some(true) => (hop.reserved_usd, CostState::Unknown),
            Some(false) => (Money::ZERO, CostState::Void),
        };
        assert_eq!((hop.cost_usd, hop.cost_state), expected, "{} {case}", model(hop));
        let class = match &hop.gave {
            Some(Gave::Failure(failure)) => Some(failure.class.name()),
            _ => None,
        };
        assert_eq!(class, classes.get(place).copied(), "{} {case}", model(hop));
    }
    let text = show(&trace, None);
    for model in models {
        assert!(text.contains(model), "`{model}` isn't in\n{text}");
    }
    let sum: Money = hops.iter().map(|hop| hop.cost_usd).sum();
    assert_eq!(sum, trace.head.cost.settled_usd, "{case}");
    assert!(sum >= world.invoice().total, "{case}");
    world.verify();
}
