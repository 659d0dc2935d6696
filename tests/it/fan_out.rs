//! Many runs at once on one budget, against the simulated provider's invoice (issue 2: fan-out).

use plimsoll::domain::event::{Call, Event, RunState};
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World};

/// A price, a prompt and an output cap that make a run of four calls cost about $0.0098.
#[derive(Clone, Copy)]
struct Shape {
    model: &'static str,
    /// USD for a million tokens.
    input: &'static str,
    output: &'static str,
    /// Words of the system text.
    words: usize,
    max_output: Option<u32>,
}

fn recipe(shape: Shape, cap: &str, expected: Option<&str>, defaults: &str) -> Recipe {
    let Shape { model, input, output, words, max_output } = shape;
    let system = "alpha beta gamma delta ".repeat(words / 4);
    let max_output = max_output.map_or_else(String::new, |max| format!("max_output_tokens = {max}\n"));
    let expected = expected.map_or_else(String::new, |usd| format!("expected_cost = \"{usd}\"\n"));
    Recipe::agent(&format!(
        "description = 'a'\ntools = ['look']\n[model]\nmodels = ['{model}']\n{max_output}\n[prompt]\nsystem = '{system}'\n\
         user = '{{{{ input }}}}'\n[limits]\nlanding_tokens = 20_000\nbudget_wait = '20s'\nrepeats = 10\n{expected}[context]\ntokens = 100_000\n"
    ))
    .file(
        "tools/look.toml",
        "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'all is well'\n[input]\ntype = 'object'\n",
    )
    .file(
        "plimsoll.toml",
        &format!(
            "[[prices]]\nmodel = '{model}'\ninput = '{input}'\noutput = '{output}'\n\
             [[budgets]]\nname = 'all'\ncap = '{cap}'\nper = 'total'\n"
        ),
    )
    .scenario(&format!("[defaults]\noutput_tokens = 200\n{defaults}\n[[reply]]\nrepeat = 3\nloop_tool = '*'\n"))
}

fn count(runs: &[Told], state: RunState) -> usize {
    runs.iter().filter(|told| told.state() == state).count()
}

fn usd(text: &str) -> Money {
    Money::parse(text).expect("an amount")
}

fn figures(name: &str, world: &World, runs: &[Told]) {
    let finished = count(runs, RunState::Finished);
    let landed = runs.iter().filter(|told| told.state() == RunState::Stopped && told.ended().output.is_some()).count();
    let began = runs.iter().filter(|told| told.run.counters.attempts > 0).count();
    let waits = runs.iter().flat_map(Told::events).filter(|event| matches!(event, Event::WaitBegan(_))).count();
    let bound = runs.iter().flat_map(Told::events).filter_map(|event| match event {
        Event::Reserved(reserved) if matches!(reserved.call, Call::Model(_)) => Some(reserved.amount),
        _ => None,
    });
    println!(
        "{name}: {finished} finished, {landed} landed, {began} began of {}; waits {waits}; invoice {}; largest bound {}",
        runs.len(),
        world.invoice().total,
        bound.max().unwrap_or_default(),
    );
}

const TOKENS: &str = "openai/gpt-5-mini";
const BYTES: &str = "local/qwen";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explore_b() {
    for (model, words) in [(TOKENS, 8_000), (TOKENS, 2_000), (BYTES, 2_000)] {
        for max_output in [Some(256), None] {
            let (input, output) = if words == 8_000 { ("0.25", "2") } else { ("0.75", "4.5") };
            let shape = Shape { model, input, output, words, max_output };
            let world = recipe(shape, "$0.10", Some("$0.01"), "latency = '20ms'").start();
            let runs = world.run_many(50).await;
            figures(&format!("b {model} {words} {max_output:?}"), &world, &runs);
            if std::env::var("SHOW").is_ok_and(|show| show == format!("{model} {words} {max_output:?}")) {
                println!("{}", timeline(&runs));
            }
            let one = runs.iter().find(|told| told.state() == RunState::Finished).expect("one");
            println!("one run: {}", one.run.counters.settled);
            assert!(world.invoice().total <= usd("0.10"));
            world.verify();
        }
    }
}

/// What happened, over all runs, in the order of time.
fn timeline(runs: &[Told]) -> String {
    let mut lines = Vec::new();
    for (index, told) in runs.iter().enumerate() {
        for recorded in &told.log {
            let text = match &recorded.event {
                Event::Created(_) | Event::CallRefused(_) => continue,
                Event::Admitted(admitted) => {
                    format!(
                        "admitted L {}",
                        admitted.landing.as_ref().map(|landing| landing.amount).unwrap_or_default()
                    )
                }
                Event::Reserved(reserved) => match &reserved.call {
                    Call::Model(call) => format!(
                        "reserved R {} L {} {:?} {:?} max {}",
                        reserved.amount, reserved.landing, call.purpose, call.bound.method, call.max_output_tokens
                    ),
                    Call::Tool { .. } => continue,
                },
                Event::Settled(settled) if settled.bill.is_zero() => continue,
                Event::Settled(settled) => format!("settled {} {:?}", settled.bill, settled.source),
                Event::WaitBegan(began) => format!("waits for {}", began.asked),
                Event::WaitEnded(ended) => format!("wait ended {:?}", ended.why),
                Event::LandingBegan(began) => format!("lands: {}", began.refusal),
                Event::Ended(ended) if told.run.counters.attempts > 0 => {
                    format!("ended {:?} {:?}", ended.state, ended.error)
                }
                Event::Ended(_) => continue,
                other => format!("{other:?}"),
            };
            lines.push((recorded.at, index, recorded.seq, text));
        }
    }
    lines.sort();
    lines.iter().map(|(at, index, _, text)| format!("{at} {index:2} {text}\n")).collect()
}
