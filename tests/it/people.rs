//! Waits for people, from TOML: what is asked, what is held meanwhile, and what each answer comes to.

mod answers;
mod faces;
mod waits;

use std::time::Duration;

use plimsoll::domain::event::{Decision, Event, RunState};
use plimsoll::domain::run::{Asking, Given};
use plimsoll::ids::RunId;
use plimsoll::runtime::silent;
use serde_json::{Value, json};

use crate::world::{Recipe, Told, World};

/// Longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent whose draft a person releases.
const RELEASE: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]
[limits]
expires = "1d"

[[stage]]
id = "draft"
kind = "model"
prompt = { user = "DRAFT {{ input }}" }

[[stage]]
id = "release"
kind = "approval"
needs = ["draft"]
ask = "Send this about {{ input }}?"
show = "stages.draft.output"
"#;

/// An agent whose refunds need a yes, and which may ask.
const REFUND: &str = r#"
description = "a"
tools = ["refund", "ask"]
[model]
models = ["openai/gpt-5-mini"]
[limits]
expires = "1d"
"#;

const REFUND_TOOL: &str = r#"
description = "Pays back"
kind = "command"
command = ["./refund.sh", "{{ args.cents }}"]
approval = "always"
[input]
type = "object"
required = ["cents"]
properties.cents = { type = "integer", maximum = 1000 }
additionalProperties = false
"#;

fn release() -> Recipe {
    Recipe::agent(RELEASE).scenario("[[reply]]\nrepeat = 'forever'\ntext = 'Dear all'\n")
}

/// The model asks for these calls, and then tells what it read.
fn refund(calls: &str) -> Recipe {
    Recipe::agent(REFUND)
        .file("tools/refund.toml", REFUND_TOOL)
        .file("tools/refund.sh", "#!/bin/sh\necho \"$1\" >> refunds.txt\necho \"paid $1\"\n")
        .file("tools/ask.toml", "kind = 'builtin'\nbuiltin = 'ask_user'\n")
        .scenario(&format!("[[reply]]\ntool_calls = [{calls}]\n[[reply]]\nrepeat = 'forever'\ntext = 'so be it'\n"))
}

const ONE_REFUND: &str = "{ name = 'refund', arguments = { cents = 500 } }";

/// What was paid, call by call.
fn paid(world: &World) -> Vec<String> {
    let found = walkdir::WalkDir::new(world.folder.path()).into_iter().filter_map(Result::ok);
    let files = found.filter(|entry| entry.file_name() == "refunds.txt");
    let text = files.map(|entry| std::fs::read_to_string(entry.path()).expect("a file")).collect::<String>();
    text.lines().map(str::to_owned).collect()
}

/// A run that waits.
async fn parked(world: &World) -> RunId {
    let told = world.run().await;
    assert!(told.state().awaits_person(), "{}", told.show());
    assert_eq!(world.runtime.store().holds().expect("holds"), [], "who waits for a person holds nothing");
    told.run.id
}

fn given(ask: Option<u32>, decision: Decision) -> Given {
    Given { ask, decision, by: "ann".into(), reason: Some("she said so".into()), shown_hash: None }
}

const fn allow() -> Decision {
    Decision::Allow { edited: None }
}

async fn drive(world: &World, run: RunId) -> Told {
    let driven = tokio::time::timeout(PATIENCE, world.runtime.drive(run, silent())).await.expect("in time");
    driven.expect("it goes on");
    world.told(run)
}

/// Answers the only question, and goes on.
async fn decide(world: &World, run: RunId, decision: Decision) -> Told {
    world.runtime.answer(run, &given(None, decision)).await.expect("it is taken");
    assert_eq!(world.told(run).state(), RunState::Interrupted, "it can be gone on with");
    let told = drive(world, run).await;
    world.verify();
    told
}

fn open(told: &Told) -> Vec<&Asking> {
    told.run.unanswered().collect()
}

fn last_answer(told: &Told) -> String {
    let turns = told.run.turns(&"main".into());
    let answer = turns.iter().rev().find_map(|message| {
        let plimsoll::domain::message::Message::Tool(answer) = &**message else { return None };
        Some(answer.content.clone())
    });
    answer.expect("an answer")
}

fn text(value: &str) -> Value {
    json!(value)
}

fn count(told: &Told, wanted: impl Fn(&Event) -> bool) -> usize {
    told.events().filter(|event| wanted(event)).count()
}
