//! A chain of providers, each over a wire of its own: who takes over when one fails, what each hop costs, and that the trace
//! says so.

use plimsoll::cli::render::trace::trace as show;
use plimsoll::domain::event::RunState;
use plimsoll::domain::report::{AttemptCall, AttemptLine, CostState, Gave, Trace};
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World};

const AGENT: &str = r#"
[model]
models = ["openai/gpt-5-mini", "azure/nano", "groq/openai/gpt-oss-20b"]
content_filter_fallbacks = ["azure/nano", "groq/openai/gpt-oss-20b"]
context_fallbacks = ["azure/nano", "groq/openai/gpt-oss-20b"]
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

/// A chain whose first links fail by these faults.
fn chain(first: &str, second: &str) -> World {
    let rule = |model: &str, fault: &str| format!("[[rule]]\nwhen.model = '{model}'\n{fault}\n");
    let scenario = format!("{}{}", rule("gpt-5-mini", first), rule("nano", second));
    let time = if first.contains("hang") { "1500ms" } else { "20s" };
    Recipe::agent(&AGENT.replace("TIME", time)).file("plimsoll.toml", PROJECT).scenario(&scenario).start_wired()
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
        let world = chain(first, second);
        let told = world.run().await;
        let case = format!("{first} {second}\n{}", told.show());
        assert_eq!(told.state(), RunState::Finished, "{case}");
        let trace = trace(&told);
        let hops = hops(&trace);
        let mut models: Vec<_> = hops.iter().map(|hop| model(hop)).collect();
        models.dedup();
        assert_eq!(models, CHAIN, "{case}");
        for hop in &hops {
            let place = CHAIN.iter().position(|known| *known == model(hop)).expect("one of the chain");
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
        for model in CHAIN {
            assert!(text.contains(model), "`{model}` isn't in\n{text}");
        }
        let sum: Money = hops.iter().map(|hop| hop.cost_usd).sum();
        assert_eq!(sum, trace.head.cost.settled_usd, "{case}");
        assert!(sum >= world.invoice().total, "{case}");
        world.verify();
    }
}
