//! Limits as people meet them: what is off unless it is asked for, what each stands at, and how an end looks from outside.

use std::collections::BTreeSet;

use plimsoll::domain::event::{Event, Outcome, RunState};
use plimsoll::domain::limits::{LimitKind, Limits};
use plimsoll::failpoint;
use plimsoll::units::Tokens;
use serde_json::Value;

use super::{LOOP, agent, assert_stopped_by};
use crate::cli::desk::Desk;

#[tokio::test]
async fn tokens_add_up_without_end_unless_a_limit_says_otherwise() {
    // (pitfall 22) Every turn sends the conversation again, mostly from the cache: money bounds that, and one request's
    // size; a sum of tokens does only where somebody asks for it.
    let limits = Limits::default();
    assert_eq!((limits.tokens, limits.input_tokens, limits.output_tokens), (None, None, None));
    let scenario = format!("cache = true\n{LOOP}");
    let few = "steps = 40\nmodel_calls = 40\ntool_calls = 40\nrepeats = 100";
    let told = agent(few).scenario(&scenario).start().run().await;
    assert_eq!(told.refusal().limit, LimitKind::Steps, "{}", told.show());
    let usages = told.settlements().filter_map(|settled| settled.usage);
    let largest = usages.map(|usage| usage.input_total()).max().expect("a call");
    let used = told.run.counters.input;
    assert!(used > Tokens(largest.0 * 5), "{used} in all, {largest} at once");
    assert!(told.run.counters.usage.cache_read > Tokens(used.0 / 2), "{:?}", told.run.counters.usage);

    let half = Tokens(used.0 / 2 + 4_000);
    let told = agent(&format!("{few}\ninput_tokens = {}", half.0)).scenario(&scenario).start().run().await;
    assert_stopped_by(&told, LimitKind::InputTokens, &half.to_string());
}

/// Every limit of DESIGN §5 with a value that is no default, and how it is shown.
const SET: [(&str, &str, &str); 24] = [
    ("steps", "11", "11"),
    ("model_calls", "12", "12"),
    ("tool_calls", "13", "13"),
    ("attempts", "14", "14"),
    ("repeats", "5", "5"),
    ("tool_errors", "6", "6"),
    ("parallel", "7", "7"),
    ("depth", "2", "2"),
    ("children", "9", "9"),
    ("items", "8", "8"),
    ("landing_tokens", "3_000", "3,000"),
    ("landing_output_tokens", "300", "300"),
    ("cost", "'$0.07'", "$0.07"),
    ("tokens", "90_000", "90,000"),
    ("input_tokens", "80_000", "80,000"),
    ("output_tokens", "70_000", "70,000"),
    ("wall_time", "'41s'", "41s"),
    ("model_call_time", "'42s'", "42s"),
    ("first_token_time", "'21s'", "21s"),
    ("tool_call_time", "'22s'", "22s"),
    ("budget_wait", "'23s'", "23s"),
    ("deadline", "'2099-01-01T00:00:00Z'", "2099-01-01T00:00:00.000Z"),
    ("output_bytes", "4_096", "4,096"),
    ("expires", "'3d'", "3d"),
];

/// A project with an agent `plain` that sets these lines.
fn desk(limits: &str) -> Desk {
    let desk = Desk::empty();
    desk.write("plimsoll.toml", "");
    let text = "description = \"a\"\n[model]\nmodels = [\"openai/gpt-5-mini\"]\n[limits]\n";
    desk.write("agents/plain.toml", &format!("{text}{limits}\n"));
    desk
}

fn rows(document: &Value) -> Vec<(String, Option<String>, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    let row = |row: &Value| {
        (text(row, "limit").expect("a name"), text(row, "value"), text(row, "declared").expect("a place"))
    };
    document["limits"].as_array().expect("limits").iter().map(row).collect()
}

#[test]
fn each_limit_that_a_file_sets_is_the_one_in_force_and_is_shown_with_its_line() {
    // (pitfall 23) No limit is read and then ignored, none is lower than it says. The HTTP face comes with the service.
    let lines: Vec<String> = SET.iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
    let desk = desk(&lines.join("\n"));
    let checked = desk.run(&["check", "plain", "--json"]).json();
    let shown = rows(&checked["agents"][0]);
    for (index, (key, _, value)) in SET.iter().enumerate() {
        let expected = ((*key).to_owned(), Some((*value).to_owned()), format!("agents/plain.toml:{}", index + 5));
        assert!(shown.contains(&expected) || is_later(key), "{expected:?} of {shown:?}");
    }
    // The run itself goes by the same values, and its trace says so.
    desk.run(&["run", "plain", "--input", "Hello"]).expect_code(0);
    let trace = desk.run(&["trace", "last", "--json"]).json();
    for row in rows(&trace).iter().filter(|row| row.0 != "context") {
        assert!(shown.iter().any(|shown| shown == row), "{row:?} of {shown:?}");
    }
}

/// Limits of what a later version brings: they are read, and bind nothing yet.
fn is_later(key: &str) -> bool {
    matches!(key, "depth" | "children" | "items")
}

#[test]
fn every_cause_of_an_end_has_a_code_and_a_word_of_its_own() {
    // (pitfall 24) What was stopped never looks like what finished.
    let desk = desk("steps = 4");
    desk.write("tools/look.toml", "description = \"Looks\"\nkind = \"builtin\"\nbuiltin = \"now\"\n");
    let text = desk.read("agents/plain.toml");
    desk.write("agents/plain.toml", &format!("tools = [\"look\"]\n{text}"));
    desk.write("loop.toml", &LOOP.replace("arguments = { n = 1 }", ""));
    desk.write("denied.toml", "[[reply]]\nrepeat = \"forever\"\nfault = \"unauthorized\"\n");
    desk.write("plain.toml", "[[reply]]\ntext = \"done\"\n");
    let run =
        |scenario: &str| ["run", "plain", "--input", "Hello", "--json", "--scenario", scenario].map(str::to_owned);
    let mut seen = BTreeSet::new();
    let mut expect = |arguments: &[String], state: &str, code: i32| {
        let told = desk.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        told.expect_code(code);
        let document = told.json();
        assert_eq!(document["state"], state, "{told}");
        assert_eq!(document["limit"].is_null(), state != "stopped", "{told}");
        assert_eq!(document["error"].is_null(), state != "failed", "{told}");
        assert!(seen.insert(code), "{code} twice");
    };
    expect(&run("plain.toml"), "finished", 0);
    expect(&run("denied.toml"), "failed", 1);
    expect(&run("loop.toml"), "stopped", 3);
    // A run that was killed is interrupted, and cancelled if a person says so: never one of the above.
    let killed = run("plain.toml");
    let killed: Vec<&str> = killed.iter().map(String::as_str).collect();
    desk.with(failpoint::VARIABLE, "provider.answered:1").run(&killed).expect_code(-1);
    let state = |desk: &Desk| desk.run(&["runs", "--json"]).json()["runs"][0]["state"].clone();
    assert_eq!(state(&desk), "interrupted");
    desk.run(&["cancel", "last"]).expect_code(0);
    assert_eq!(state(&desk), "cancelled");
    expect(&["resume", "last", "--json"].map(str::to_owned), "cancelled", 5);
}

#[tokio::test]
async fn a_step_is_paid_on_disk_before_the_next_one_begins() {
    // (pitfall 21) The log is the checkpoint: each call's reservation is in it before the provider sees the call, and
    // what it gave before anything follows from it. The kill loop does the same with the process dying in between.
    let world = agent("steps = 9\nrepeats = 100").start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Stopped);
    let mut open = BTreeSet::new();
    let mut replies = 0;
    for event in told.events() {
        if let Event::Reserved(reserved) = event {
            assert!(open.is_empty(), "nothing is asked for on what isn't written: {}", told.show());
            open.insert(reserved.reservation);
        }
        if let Event::Settled(settled) = event {
            assert!(open.remove(&settled.reservation), "{}", told.show());
            replies += u64::from(matches!(settled.outcome, Outcome::Reply { .. }));
        }
    }
    assert_eq!((replies, open.len()), (world.invoice().count, 0));
    // On disk, not in memory: another process reads the same.
    let (id, log) = (told.run.id, told.log);
    assert_eq!(world.reopen().told(id).log, log);
}
