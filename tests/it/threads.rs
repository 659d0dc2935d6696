//! Threads where there is more than one loop: the stages of a workflow, its items, and what runs below it.

use plimsoll::domain::event::{Call, Labels, ModelCall, Pot, RunState};
use plimsoll::units::Tokens;
use serde_json::json;

use crate::world::{Recipe, Told, World};

const AGENT: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 200
[prompt]
system = "Help."
user = "ASKED {{ input }}"
[limits]
cost = "$0.50"
steps = 40
[context]
tokens = 6000
history = 300

[[stage]]
id = "think"
kind = "model"
prompt = { user = "THINK of {{ input }}" }

[[stage]]
id = "blind"
kind = "model"
history = false
prompt = { user = "BLIND {{ input }}" }

[[stage]]
id = "items"
kind = "map"
over = "['x', 'y']"
[stage.each]
kind = "model"
prompt = { user = "ITEM {{ item }}" }

[[stage]]
id = "below"
kind = "agent"
agent = "clerk"
input = "{{ input }}"

[[stage]]
id = "answer"
kind = "loop"
needs = ["think", "blind", "items", "below"]
prompt = { user = "ANSWER from {{ stages.think.output }}" }
"#;

const CLERK: &str = r#"
description = "Looks things up"
[model]
models = ["openai/gpt-5-mini"]
[prompt]
user = "CLERK {{ input }}"
[limits]
cost = "$0.10"
"#;

/// Who sees the answer of a run before says so.
const SCENARIO: &str = r#"
[[rule]]
when = { contains = "ANSWER from I remember" }
text = "BLUE again"
[[rule]]
when = { contains = "ANSWER from" }
text = "BLUE"
[[rule]]
when = { contains = "THINK of" }
text = "I remember"
[[reply]]
text = "nothing"
"#;

fn recipe() -> Recipe {
    Recipe::agent(AGENT).file("agents/clerk.toml", CLERK).scenario(SCENARIO)
}

async fn in_thread(world: &World, id: &str) -> Told {
    let told = world.run_with(Labels::from([("thread".to_owned(), id.to_owned())])).await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    told
}

/// Each model call with the place where it was made.
fn calls(told: &Told) -> Vec<(String, &ModelCall)> {
    let call = |reserved: &'_ plimsoll::domain::event::Reserved| reserved.step.place().to_string();
    told.reservations()
        .filter_map(|reserved| match &reserved.call {
            Call::Model(model) => Some((call(reserved), model)),
            Call::Tool { .. } => None,
        })
        .collect()
}

/// The places whose calls carried history.
fn remember(told: &Told) -> Vec<String> {
    let mut places: Vec<String> = calls(told)
        .into_iter()
        .filter_map(|(place, call)| (call.pots.history > Tokens::ZERO).then_some(place))
        .collect();
    places.sort();
    places
}

#[tokio::test]
async fn stages_that_talk_go_on_with_the_thread() {
    let world = recipe().start();
    let first = in_thread(&world, "t").await;
    assert_eq!(remember(&first), Vec::<String>::new(), "nothing was said before");
    let second = in_thread(&world, "t").await;
    assert_eq!(remember(&second), ["answer", "think"], "{}", second.show());
    assert!(calls(&second).len() >= 5, "{}", second.show());
    let below = world.all().into_iter().filter(|told| told.run.parent.is_some()).collect::<Vec<_>>();
    assert_eq!(below.len(), 2);
    assert!(below.iter().all(|told| remember(told).is_empty()), "a sub-agent has what it is given");
    let other = in_thread(&world, "u").await;
    assert_eq!(remember(&other), Vec::<String>::new(), "another thread knows nothing of it");
    world.verify();
}

#[tokio::test]
async fn items_go_on_with_it_where_that_is_said() {
    let world = recipe().amend("agents/a.toml", "[stage.each]\n", "[stage.each]\nhistory = true\n").start();
    in_thread(&world, "t").await;
    let second = in_thread(&world, "t").await;
    assert_eq!(remember(&second), ["answer", "items[0]", "items[1]", "think"], "{}", second.show());
}

#[tokio::test]
async fn a_stages_history_stays_within_its_pot_and_says_what_went() {
    let world = recipe().amend("agents/a.toml", "history = 300", "history = 40").start();
    for _ in 0..4 {
        in_thread(&world, "t").await;
    }
    let last = in_thread(&world, "t").await;
    assert_eq!(remember(&last), ["answer", "think"], "{}", last.show());
    for (place, call) in calls(&last) {
        assert!(call.pots.history <= Tokens(40), "{place}: {call:?}");
        let tells = call.cuts.iter().any(|cut| cut.pot == Pot::History && cut.what.contains("runs of the thread"));
        assert_eq!(tells, call.pots.history > Tokens::ZERO, "{place}: {:?}", call.cuts);
    }
    world.verify();
}

#[tokio::test]
async fn what_would_be_sent_shows_the_history() {
    let world = recipe().start();
    in_thread(&world, "t").await;
    let new = crate::world::new_run(Labels::from([("thread".to_owned(), "t".to_owned())]));
    let dry = world.runtime.dry_run(&new).expect("it is told");
    assert!(dry.pots.expect("pots").history > Tokens::ZERO);
    let request = json!(dry.request.expect("a request")).to_string();
    assert!(request.contains("ASKED please look") && request.contains("THINK of please look"), "{request}");
}
