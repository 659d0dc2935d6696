//! Traces of trees: every span hangs below one that is sent, also where a run is left and gone on with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Collector, JSON, Span, command};
use crate::cli::desk::Desk;

/// Sub-agents only: as a stage, and as each item of a map; then a person's yes.
const AGENT: &str = r#"
[model]
models = ["openai/gpt-5-mini"]
[limits]
cost = "$1"
[input]
type = "array"
items = { type = "string" }
[outcome]
quality = "0.75"

[[stage]]
id = "look"
kind = "agent"
agent = "clerk"
input = { topic = "colour" }

[[stage]]
id = "each"
kind = "map"
over = "input"
[stage.each]
kind = "agent"
agent = "clerk"
input = { topic = "{{ item }}" }

[[stage]]
id = "release"
kind = "approval"
needs = ["look", "each"]
ask = "Send it?"
show = "stages.each.output"
"#;
/// Calls another by a model.
const CLERK: &str = r#"
description = "Looks one topic up"
agents = ["page"]
[model]
models = ["openai/gpt-5-mini"]
[prompt]
user = "CLERK looks up {{ input.topic }}"
[input]
type = "object"
required = ["topic"]
properties.topic = { type = "string" }
"#;
const PAGE: &str = r#"
description = "Turns a page"
[model]
models = ["openai/gpt-5-mini"]
[prompt]
user = "PAGE {{ input.number }}"
[input]
type = "object"
required = ["number"]
properties.number = { type = "integer" }
"#;
const SCENARIO: &str = r#"
[[rule]]
when = { contains = "PAGE" }
text = "it says blue"
[[rule]]
when = { contains = "it says blue" }
text = "blue"
[[rule]]
when = { contains = "CLERK" }
tool_calls = [{ name = "page", arguments = { number = 7 } }]
"#;

fn desk(agent: &str) -> Desk {
    let desk = Desk::empty();
    desk.write("plimsoll.toml", "");
    desk.write("agents/w.toml", agent);
    desk.write("agents/clerk.toml", CLERK);
    desk.write("agents/page.toml", PAGE);
    desk.write("s.toml", SCENARIO);
    desk
}

async fn told(desk: &Desk, collector: &Collector, arguments: &[&str], code: i32) {
    let variables = [JSON, ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.address)];
    command(desk, arguments, &variables).await.expect_code(code);
}

/// One root, one trace, each id once, and each parent sent.
fn is_whole(spans: &[Span]) {
    let ids: BTreeSet<&str> = spans.iter().map(|span| &*span.id).collect();
    assert_eq!(ids.len(), spans.len(), "each id once: {spans:#?}");
    assert_eq!(spans.iter().map(|span| &span.trace).collect::<BTreeSet<_>>().len(), 1);
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.iter().map(|span| &*span.name).collect::<Vec<_>>(), ["invoke_agent w"]);
    let orphans: Vec<&Span> =
        spans.iter().filter(|span| !span.parent.is_empty() && !ids.contains(&*span.parent)).collect();
    assert!(orphans.is_empty(), "{orphans:#?}");
    assert!(spans.iter().all(|span| roots[0].began <= span.began && span.began <= span.ended));
}

/// How many spans there are of each name.
fn names(spans: &[Span]) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    spans.iter().for_each(|span| *names.entry(&*span.name).or_default() += 1);
    names
}

const RUN: [&str; 7] = ["run", "w", "--input", r#"["shape", "size"]"#, "--scenario", "s.toml", "--quiet"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_span_of_a_tree_hangs_below_one_that_is_sent() {
    let collector = Collector::new().await;
    let (agent, _) = AGENT.split_once("[[stage]]\nid = \"release\"").expect("a stage");
    let agent = agent.replace("[outcome]", "[output]\nfrom = \"each\"\n[outcome]");
    told(&desk(&agent), &collector, &RUN, 0).await;
    let spans = collector.spans();
    is_whole(&spans);
    let expected = [
        ("invoke_agent w", 1),
        ("stage look", 1),
        ("stage each", 2),
        ("invoke_agent clerk", 3),
        ("invoke_agent page", 3),
        ("chat gpt-5-mini", 9),
        ("outcome", 1),
    ];
    assert_eq!(names(&spans), expected.into());
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (&*span.id, span)).collect();
    for span in &spans {
        let above = by_id.get(&*span.parent).map_or("", |above| &*above.name);
        let fits = match &*span.name {
            "invoke_agent w" => above.is_empty(),
            "invoke_agent clerk" => above.starts_with("stage "),
            "invoke_agent page" => above == "invoke_agent clerk",
            "chat gpt-5-mini" => above == "invoke_agent clerk" || above == "invoke_agent page",
            _ => above == "invoke_agent w",
        };
        assert!(fits, "{above} above {span:?}");
    }
    let root = spans.iter().find(|span| span.parent.is_empty()).expect("a root");
    assert_eq!(root.has("gen_ai.operation.name"), "invoke_workflow");
    let outcome = spans.iter().find(|span| span.name == "outcome").expect("an outcome");
    assert_eq!(outcome.events[0]["name"], "gen_ai.evaluation.result");
    let said = super::attributes(&outcome.events[0]["attributes"]);
    assert_eq!(said["gen_ai.evaluation.score.value"], r#"{"doubleValue":0.75}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_what_waits_sends_its_end() {
    let (collector, desk) = (Collector::new().await, desk(AGENT));
    told(&desk, &collector, &RUN, 4).await;
    told(&desk, &collector, &["cancel", "last"], 0).await;
    let spans = collector.spans();
    is_whole(&spans);
    let root = spans.iter().find(|span| span.parent.is_empty()).expect("a root");
    assert_eq!(root.has("plimsoll.run.state"), "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_has_an_id_of_its_own() {
    let (collector, desk) = (Collector::new().await, desk(AGENT));
    told(&desk, &collector, &RUN, 4).await;
    let before = collector.spans().len();
    told(&desk, &collector, &["approve", "last", "--scenario", "s.toml"], 0).await;
    told(&desk, &collector, &["outcome", "last", "--quality", "0.5", "--source", "human"], 0).await;
    let spans = collector.spans();
    is_whole(&spans);
    let left: Vec<&Span> = spans[..before].iter().filter(|span| span.has("plimsoll.run.state") == "left").collect();
    let root = spans.iter().find(|span| span.parent.is_empty()).expect("a root");
    assert_eq!(left.iter().map(|span| (&*span.name, &*span.parent)).collect::<Vec<_>>(), [(&*root.name, &*root.id)]);
    assert_eq!((root.has("plimsoll.run.state"), root.began <= left[0].began), ("finished", true));
    let scores = spans.iter().flat_map(|span| &span.events).map(|event| super::attributes(&event["attributes"]));
    let scores: Vec<String> = scores.map(|said| said["gen_ai.evaluation.score.value"].clone()).collect();
    assert_eq!(scores, [r#"{"doubleValue":0.75}"#, r#"{"doubleValue":0.5}"#]);
}
