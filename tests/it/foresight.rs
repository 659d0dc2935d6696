//! Where neither an agent nor its runs say what a run costs, calls of its models do.

use plimsoll::domain::event::{Created, Event};

use crate::world::{Recipe, Told};

const AGENT: &str = r#"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 400

[prompt]
system = "Be brief."

[limits]
cost = "$1"
"#;

/// Calls from which a model's ratios teach something.
const CALLS: usize = 50;

fn created(told: &Told) -> Created {
    let first = told.events().next();
    let Some(Event::Created(created)) = first else { panic!("{}", told.show()) };
    created.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_known_lets_a_new_agent_be_expected_to_cost_less() {
    let recipe = Recipe::agent(AGENT).scenario("[[reply]]\ntext = 'A few words.'\n");
    let world = recipe.start();
    for told in world.run_many(CALLS - 1).await {
        assert_eq!(created(&told).foreseen, None, "too few calls are known");
    }
    // The process that starts next hears of them.
    let world = world.reopen();
    assert_eq!(created(&world.run().await).foreseen, None, "one call is missing yet");
    let world = world.reopen();
    let told = world.run().await;
    let created = created(&told);
    let foreseen = created.foreseen.expect("calls were looser than their bounds");
    let cost = told.run.spent().settled;
    assert!(cost <= foreseen && foreseen < created.load_line, "{cost} {foreseen} {}", created.load_line);
    assert!(foreseen < created.load_line.half(), "{foreseen} of {}: the answers are short", created.load_line);
    world.verify();
}

/// Who says what to expect needs no other word.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_it_is_believed() {
    let recipe = Recipe::agent(&format!("{AGENT}expected_cost = \"$0.01\"\n")).scenario("[[reply]]\ntext = 'Yes.'\n");
    let world = recipe.start();
    world.run_many(CALLS).await;
    let world = world.reopen();
    assert_eq!(created(&world.run().await).foreseen, None);
}
