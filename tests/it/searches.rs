//! A provider's own search of the web: only with a maximum, with every step and every search within the reservation, and
//! settled by what the provider counts.

use plimsoll::domain::event::{Call, RunState};
use plimsoll::domain::message::WebSearch;
use plimsoll::units::{Money, Tokens};

use crate::world::{Recipe, Told};

const AGENT: &str = r#"
tools = ["look"]

[model]
models = ["PROVIDER"]
web_search = { max_uses = 3 }

[prompt]
system = "Search, then answer."

[limits]
cost = "$20"
"#;
const LOOK: &str =
    "description = 'Looks'\nkind = 'command'\ncommand = ['echo', 'there it is']\n[input]\ntype = 'object'\n";
const PROVIDERS: &str = r#"
[providers.openai]
wire = "openai-responses"
base_url = "http://{sim}/openai/v1"
key_command = ["printf", "k"]

[providers.anthropic]
wire = "anthropic"
base_url = "http://{sim}/anthropic/v1"
key_command = ["printf", "k"]
"#;
const MODELS: [&str; 2] = ["openai/gpt-5-mini", "anthropic/claude-haiku-5-5"];

/// A turn that searches and calls a tool, and one that searches and answers.
pub(crate) fn recipe(model: &str, searches: (u64, u64), stream: bool) -> Recipe {
    let (first, second) = searches;
    let talk = format!(
        "key = 'k'\n[[reply]]\nweb_searches = {first}\ntool_calls = [{{ name = 'look', arguments = {{}} }}]\n\
         [[reply]]\nweb_searches = {second}\ntext = 'A cat.'\n"
    );
    let agent = AGENT.replace("PROVIDER", model).replace("web_search", &format!("stream = {stream}\nweb_search"));
    Recipe::agent(&agent).file("plimsoll.toml", PROVIDERS).file("tools/look.toml", LOOK).scenario(&talk)
}

fn settled(told: &Told) -> Money {
    told.settlements().map(|settled| settled.bill).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_are_reserved_at_worst_and_settled_as_the_provider_bills_them() {
    for model in MODELS {
        for (searches, stream) in [((0, 0), true), ((1, 2), true), ((3, 9), false)] {
            let world = recipe(model, searches, stream).start_wired();
            let told = world.run().await;
            assert_eq!(told.state(), RunState::Finished, "{model} {searches:?}\n{}", told.show());
            let lines = world.invoice().lines;
            let made: Vec<u64> = lines.iter().map(|line| line.web_searches).collect();
            assert_eq!(made, [searches.0.min(3), searches.1.min(3)], "{model}");
            for (line, reserved) in lines.iter().zip(told.reservations().filter(|of| matches!(of.call, Call::Model(_))))
            {
                assert!(line.amount_usd <= reserved.amount, "{model}: {line:?}");
            }
            for (line, call) in lines.iter().zip(told.calls()) {
                assert_eq!(call.web_search, Some(WebSearch { max_uses: 3 }));
                assert!(Tokens(line.tokens.prompt) <= call.bound.tokens, "{model}");
            }
            assert_eq!(settled(&told), world.invoice().total, "{model} {searches:?}\n{}", told.show());
            world.verify();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_whose_search_has_no_price_or_no_bound_is_asked_nothing() {
    let price = |more: &str| {
        format!("{PROVIDERS}[[prices]]\nmodel = 'openai/own'\ninput = '1'\noutput = '2'\nreason = 'test'\n{more}\n")
    };
    for (more, why) in [
        ("context_tokens = 1_000", "has no price for a `web_search`"),
        ("fees = { web_search = '$0.01' }", "a provider's own search has no bound"),
    ] {
        let recipe = recipe("openai/own", (1, 1), false).file("plimsoll.toml", &price(more));
        let world = recipe.start_wired();
        let told = world.run().await;
        assert_eq!((told.state(), world.invoice().lines.len()), (RunState::Stopped, 0), "{}", told.show());
        assert!(told.refusal().observed.contains(why), "{}", told.refusal());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_answer_searches_no_more_and_costs_no_more_than_its_reserve() {
    let limits = "[limits]\nsteps = 2\n";
    let recipe = recipe(MODELS[1], (2, 2), true).amend("agents/a.toml", "[limits]\n", limits);
    let world = recipe.start_wired();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    let searches: Vec<u64> = world.invoice().lines.iter().map(|line| line.web_searches).collect();
    assert_eq!(searches, [2, 0], "{}", told.show());
    assert_eq!(settled(&told), world.invoice().total);
    world.verify();
}
