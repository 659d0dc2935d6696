//! Every limit of DESIGN §5, from TOML through the gate to the end of a run, against the simulated provider.
//!
//! A row of PITFALLS that is tested here is named in its test: `(pitfall 7)`.

mod counts;
mod money;
mod surfaces;
mod times;

use plimsoll::domain::event::{Event, Outcome, Purpose, RunState};
use plimsoll::domain::limits::{Declared, LimitKind, Refusal};

use crate::world::{Recipe, Told};

const LOOK: &str = "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'seen {{ args.n }}'\nidempotent = true\n\
    [input]\ntype = 'object'\nproperties.n = { type = 'integer' }\n";
/// The model calls the first tool for ever, and answers where it can't.
const LOOP: &str = "[[rule]]\nwhen = { tools = false }\ntext = 'all that I know'\n[[reply]]\nrepeat = 'forever'\nloop_tool = '*'\n\
    arguments = { n = 1 }\n";

/// An agent with one tool, `look`, whose limits are these lines.
fn agent(limits: &str) -> Recipe {
    agent_with("", "tools = ['look']", limits)
}

fn agent_with(model: &str, head: &str, limits: &str) -> Recipe {
    let text = format!(
        "description = 'a'\n{head}\n[model]\nmodels = ['openai/gpt-5-mini']\n{model}\n[prompt]\nsystem = 'Help.'\n\
         [retry]\nbackoff = '1ms..2ms'\n[limits]\n{limits}\n"
    );
    Recipe::agent(&text).file("tools/look.toml", LOOK).scenario(LOOP)
}

/// The limit that stopped it, with its value; and that it says where the limit stands.
fn assert_stopped_by<'a>(told: &'a Told, limit: LimitKind, value: &str) -> &'a Refusal {
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    let refusal = told.refusal();
    assert_eq!((refusal.limit, refusal.value.as_str()), (limit, value), "{}", told.show());
    let known = matches!(&refusal.declared, Declared::At { file, line } if file == "agents/a.toml" && *line > 0);
    assert!(known, "its place is known: {refusal}");
    refusal
}

/// It landed: with an answer, by one last call that is the newest of its log.
fn assert_landed(told: &Told) {
    assert_eq!(told.ended().output, Some("all that I know".into()), "{}", told.show());
    assert_eq!(told.calls().last().expect("a call").purpose, Purpose::Landing);
}

/// The texts that tool calls were answered with, and whether each is an error.
fn answers(told: &Told) -> Vec<(String, bool)> {
    let answer = |event: &Event| {
        if let Event::CallRefused(refused) = event {
            return Some((format!("{:?}", refused.why), true));
        }
        let Event::Settled(settled) = event else { return None };
        match &settled.outcome {
            Outcome::ToolResult { content, is_error, .. } => Some((content.clone(), *is_error)),
            Outcome::Reply { .. } | Outcome::Failed(_) => None,
        }
    };
    told.events().filter_map(answer).collect()
}
