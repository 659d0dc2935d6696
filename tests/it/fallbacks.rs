//! Who takes over what a content filter stopped, or what was too long for a model: on the wire, with the ledger.

use std::collections::BTreeMap;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Call, Event, Labels, RunState};
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
use plimsoll::sim::{Scenario, Sim, SimOptions};
use plimsoll::spec::load::{Answering, LoadOptions, load_agent};
use serde_json::json;

const AGENT: &str = r#"
[model]
models = ["openai/gpt-5-mini", "openai/gpt-5-nano"]
content_filter_fallbacks = ["openai/gpt-4.1-mini", "openai/gpt-4.1"]
context_fallbacks = ["openai/gpt-5"]

[limits]
cost = "$1"
at_limit = "stop"

[retry]
attempts = 6
backoff = "1ms"
"#;

/// Runs the agent against rules of the simulated provider: how it ended, and the models that were asked.
async fn run(rules: &[(&str, &str)]) -> (RunState, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("agents")).expect("a folder");
    std::fs::write(folder.path().join("agents/asker.toml"), AGENT).expect("a file");
    let options = LoadOptions { answering: Answering::Simulated, ..LoadOptions::default() };
    let (project, plan) = load_agent(folder.path(), "asker", &options).expect("it loads");
    let rule =
        |(model, fault): &(&str, &str)| format!("[[rule]]\nwhen = {{ model = \"{model}\" }}\nfault = \"{fault}\"\n");
    let scenario = Scenario::parse("rules", &rules.iter().map(rule).collect::<String>()).expect("a scenario");
    let sim = Sim::start(SimOptions { scenario, ..SimOptions::default() }).expect("it starts");
    let options = RuntimeOptions {
        clock: Clock::system(),
        simulated: Some(sim.base_url()),
        prices: vec![],
        load_lines: BTreeMap::new(),
    };
    let plans = BTreeMap::from([(plan.agent.clone(), plan.clone())]);
    let runtime = Runtime::open(&project, plans, options).expect("it opens");
    let new = NewRun { agent: plan.agent.clone(), input: json!("Hello"), labels: Labels::new(), key: None };
    let (run, state) = runtime.run(&new, silent()).await.expect("it runs");
    let log = runtime.store().events(run).expect("a log");
    let models = log.iter().filter_map(|recorded| match &recorded.event {
        Event::Reserved(reserved) => match &reserved.call {
            Call::Model(call) => Some(call.model.as_str().trim_start_matches("openai/").to_owned()),
            _ => None,
        },
        _ => None,
    });
    (state, models.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filtered_content_goes_to_the_models_that_are_named_for_it_and_to_no_other() {
    let filtered = ("gpt-5-mini", "content_filter");
    assert_eq!(run(&[filtered]).await, (RunState::Finished, vec!["gpt-5-mini".into(), "gpt-4.1-mini".into()]));
    let (state, models) = run(&[filtered, ("gpt-4.1-mini", "server_error")]).await;
    assert_eq!((state, models.len()), (RunState::Finished, 4));
    assert_eq!(models.last().expect("a model"), "gpt-4.1", "not `gpt-5-nano`, though a server error goes anywhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_too_long_goes_to_the_models_that_are_named_for_it() {
    let (state, models) = run(&[("gpt-5-mini", "context_length")]).await;
    assert_eq!((state, models), (RunState::Finished, vec!["gpt-5-mini".into(), "gpt-5".into()]));
}
