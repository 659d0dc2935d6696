//! Who takes over what a content filter stopped, or what was too long for a model: on the wire, with the ledger.

use plimsoll::domain::event::{Call, Event, RunState};

use crate::world::Recipe;

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

/// Runs the agent against a fault for each of some models: how it ended, and the models that were asked.
async fn run(faults: &[(&str, &str)]) -> (RunState, Vec<String>) {
    let rule = |(model, fault): &(&str, &str)| format!("[[rule]]\nwhen.model = '{model}'\nfault = '{fault}'\n");
    let world = Recipe::agent(AGENT).scenario(&faults.iter().map(rule).collect::<String>()).start();
    let told = world.run().await;
    let mut models = Vec::new();
    for event in told.events() {
        if let Event::Reserved(reserved) = event
            && let Call::Model(call) = &reserved.call
        {
            models.push(call.model.as_str().trim_start_matches("openai/").to_owned());
        }
    }
    world.verify();
    (told.state(), models)
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
