//! Workflows from TOML, over the socket of the simulated provider: stages in order and side by side, killed and resumed.

use std::time::Duration;

use plimsoll::domain::event::{Event, Purpose, RunState, StageEnd};
use plimsoll::domain::report::Trace;
use plimsoll::runtime::silent;
use serde_json::json;

use crate::world::{Recipe, Told};

const AGENT: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]
[prompt]
system = "Help."
[input]
type = "object"
required = ["ticket"]
properties.ticket = { type = "string" }
[retry]
backoff = "1ms..2ms"
[limits]
parallel = 2
cost = "$0.50"

[[stage]]
id = "classify"
kind = "model"
prompt = { user = "CLASSIFY {{ input.ticket }}" }
[stage.output]
type = "object"
required = ["category"]
properties.category = { enum = ["order", "spam"] }

[[stage]]
id = "draft"
kind = "model"
needs = ["classify"]
when = "stages.classify.output.category != 'spam'"
prompt = { user = "DRAFT for {{ stages.classify.output.category }}" }

[[stage]]
id = "facts"
kind = "model"
needs = ["classify"]
prompt = { user = "FACTS of {{ input.ticket }}" }

[[stage]]
id = "answer"
kind = "model"
needs = ["draft", "facts"]
prompt = { user = "ANSWER from {{ stages.draft.output }} ({{ stages.draft.state }}) and {{ stages.facts.output }}" }
"#;

const SCENARIO: &str = r#"
[[rule]]
when = { contains = "CLASSIFY" }
json = { category = "order" }
[[rule]]
when = { contains = "DRAFT for order" }
text = "a draft"
[[rule]]
when = { contains = "FACTS of" }
text = "some facts"
[[rule]]
when = { contains = "ANSWER from a draft" }
text = "the answer"
[[rule]]
when = { contains = "ANSWER from null" }
text = "nothing to answer"
[[rule]]
when = { tools = false }
text = "as far as it came"
"#;

fn recipe() -> Recipe {
    Recipe::agent(AGENT).scenario(SCENARIO)
}

/// How each stage was over, in the order of the log.
fn ends(told: &Told) -> Vec<(String, StageEnd)> {
    let end = |event: &Event| {
        let Event::StageEnded(ended) = event else { return None };
        Some((ended.place.to_string(), ended.end))
    };
    told.events().filter_map(end).collect()
}

fn stages_called(told: &Told) -> Vec<String> {
    told.reservations().map(|reserved| reserved.step.stage.to_string()).collect()
}

/// The most attempts that were open at once, by the log.
fn most_open(told: &Told) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for event in told.events() {
        open += usize::from(matches!(event, Event::Reserved(_)));
        open -= usize::from(matches!(event, Event::Settled(_) | Event::Voided(_)));
        most = most.max(open);
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_run_in_their_order_and_side_by_side() {
    let world = recipe().start();
    let told = world.run_on(json!({ "ticket": "where is it?" })).await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    assert_eq!(told.ended().output, Some("the answer".into()), "{}", told.show());
    assert_eq!(stages_called(&told), ["classify", "draft", "facts", "answer"]);
    assert_eq!(most_open(&told), 2, "{}", told.show());
    let purposes: Vec<Purpose> = told.calls().map(|call| call.purpose).collect();
    assert_eq!(purposes, [Purpose::Turn, Purpose::Turn, Purpose::Turn, Purpose::Last]);
    assert_eq!(ends(&told).len(), 4);
    assert_eq!(told.run.counters.settled, world.invoice().total);
    let plan = told.run.plan.clone();
    let trace = Trace::of(told.run.id, plan, &told.log, told.log.last().expect("a fact").at).expect("a trace");
    let lines: Vec<&str> = trace.steps().map(|step| step.stage.as_str()).collect();
    assert_eq!(lines, ["classify", "draft", "facts", "answer"]);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_place_is_enough_for_stages_beside_each_other() {
    let told = recipe().amend("agents/a.toml", "parallel = 2", "parallel = 1").start();
    let told = told.run_on(json!({ "ticket": "where is it?" })).await;
    assert_eq!(told.ended().output, Some("the answer".into()), "{}", told.show());
    assert_eq!(most_open(&told), 1, "{}", told.show());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_isnt_wanted_is_skipped() {
    let world = Recipe::agent(AGENT).scenario(&SCENARIO.replace("\"order\" }", "\"spam\" }")).start();
    let told = world.run_on(json!({ "ticket": "buy this" })).await;
    assert_eq!(told.ended().output, Some("nothing to answer".into()), "{}", told.show());
    assert!(ends(&told).contains(&("draft".to_owned(), StageEnd::Skipped)), "{}", told.show());
    assert!(!stages_called(&told).contains(&"draft".to_owned()));
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_its_form_is_mended_once_and_then_fails_the_stage() {
    let world =
        Recipe::agent(AGENT).scenario(&SCENARIO.replace("json = { category = \"order\" }", "text = 'neither'")).start();
    let told = world.run_on(json!({ "ticket": "where is it?" })).await;
    assert_eq!(told.state(), RunState::Failed, "{}", told.show());
    let error = told.ended().error.clone().expect("words");
    assert!(error.starts_with("stage `classify`: the answer doesn't have its declared form"), "{error}");
    let purposes: Vec<Purpose> = told.calls().map(|call| call.purpose).collect();
    assert_eq!(purposes, [Purpose::Turn, Purpose::Repair], "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_lands_with_what_its_stages_have() {
    // One step is kept for landing: the fourth stage finds none.
    let world = recipe().amend("agents/a.toml", "parallel = 2", "parallel = 2\nsteps = 4").start();
    let told = world.run_on(json!({ "ticket": "where is it?" })).await;
    let purposes: Vec<Purpose> = told.calls().map(|call| call.purpose).collect();
    assert_eq!(purposes.last(), Some(&Purpose::Last), "the last call needs nothing kept back: {}", told.show());
    let world = recipe().amend("agents/a.toml", "parallel = 2", "parallel = 2\nsteps = 3").start();
    let told = world.run_on(json!({ "ticket": "where is it?" })).await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    assert_eq!(told.ended().output, Some("as far as it came".into()), "{}", told.show());
    let turns = told.run.landing_turns();
    let words = format!("{turns:?}");
    assert!(words.contains("Stage `classify` gave") && words.contains("Stage `draft` gave: a draft"), "{words}");
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_workflow_goes_on_where_it_stood() {
    for stage in ["classify", "draft", "facts", "answer"] {
        let world = recipe().start();
        let runtime = world.runtime.clone();
        let stopper = runtime.clone();
        let observer: plimsoll::runtime::Observer = std::sync::Arc::new(move |progress| {
            if let plimsoll::runtime::Progress::Event { recorded, .. } = progress
                && let Event::Reserved(reserved) = &recorded.event
                && reserved.step.stage.as_str() == stage
            {
                stopper.request_stop();
            }
        });
        let new = plimsoll::runtime::NewRun {
            input: json!({ "ticket": "where?" }),
            ..crate::world::new_run(Default::default())
        };
        let ran = tokio::time::timeout(Duration::from_secs(30), runtime.run(&new, observer)).await.expect("in time");
        let (run, state) = ran.expect("it runs");
        drop(runtime);
        if state != RunState::Interrupted {
            assert_eq!(state, RunState::Finished, "{stage}");
            continue;
        }
        let world = world.reopen();
        let before = ends(&world.told(run));
        let driven = tokio::time::timeout(Duration::from_secs(30), world.runtime.drive(run, silent())).await;
        assert_eq!(driven.expect("in time").expect("it goes on"), RunState::Finished, "{stage}");
        let told = world.told(run);
        assert_eq!(told.ended().output, Some("the answer".into()), "{}", told.show());
        let after = ends(&told);
        assert_eq!(after[..before.len()], before[..], "no stage is over twice");
        assert_eq!(after.len(), 4, "{}", told.show());
        world.verify();
    }
}
