//! `run --each --thread-from FIELD`: each line goes on with the thread that it names.

use crate::cli::desk::Desk;

const AGENT: &str = r#"
description = "Answers customers"
[model]
models = ["openai/gpt-5-mini"]
[prompt]
user = "{{ input.text }}"
[input]
type = "object"
required = ["customer", "text"]
properties.customer = { type = "object", required = ["id"], properties = { id = {} } }
properties.text = { type = "string" }
"#;

/// Three threads, their lines mixed.
const LINES: &str = r#"{"customer": {"id": "ann"}, "text": "ann says one"}
{"customer": {"id": "ann"}, "text": "ann says two"}
{"customer": {"id": 7}, "text": "seven says one"}
{"customer": {"id": "bob"}, "text": "bob says one"}
{"customer": {"id": "ann"}, "text": "ann says three"}
{"customer": {"id": 7}, "text": "seven says two"}
"#;

const EACH: [&str; 10] = [
    "run",
    "clerk",
    "--each",
    "lines.jsonl",
    "--thread-from",
    "customer.id",
    "--parallel",
    "4",
    "--scenario",
    "s.toml",
];

fn desk(lines: &str, scenario: &str) -> Desk {
    let desk = Desk::new();
    desk.write("agents/clerk.toml", AGENT);
    desk.write("lines.jsonl", lines);
    desk.write("s.toml", scenario);
    desk
}

/// The tokens of history that the only call of each line's run carried, by the line's number.
fn history(desk: &Desk, documents: &str) -> Vec<u64> {
    let mut lines: Vec<(u64, u64)> = documents
        .lines()
        .map(|line| {
            let document: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            let run = document["run"].as_str().expect("an id");
            let trace = desk.run(&["trace", run, "--json"]).json();
            let step = trace["timeline"].as_array().expect("entries").iter().find(|entry| entry["entry"] == "step");
            let call = &step.expect("a step")["attempts"][0]["call"];
            let pot = call["pots"]["history"].as_u64().unwrap_or_else(|| panic!("no history: {call}"));
            (document["line"].as_u64().expect("a number"), pot)
        })
        .collect();
    lines.sort_unstable();
    lines.into_iter().map(|(_, pot)| pot).collect()
}

#[test]
fn each_line_goes_on_with_its_own_thread_and_in_order() {
    let desk = desk(LINES, "[[reply]]\nrepeat = 'forever'\ntext = 'Noted.'\n");
    let told = desk.run(&[&EACH[..], &["--json"]].concat());
    told.expect_code(0);
    let pots = history(&desk, &told.stdout);
    assert_eq!(pots.len(), 6, "{told}");
    assert_eq!([pots[0], pots[2], pots[3]], [0, 0, 0], "who says something first has no history: {pots:?}");
    assert!(pots[1] > 0 && pots[4] > pots[1] && pots[5] > 0, "each line has what its thread said before: {pots:?}");
    let runs = desk.run(&["runs", "--thread", "ann", "--json"]).json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(3), "{runs}");
    // The same command again has nothing to do.
    let again = desk.run(&EACH);
    again.expect_code(0);
    assert!(again.stderr.contains("6 ended before"), "{again}");
}

#[test]
fn a_line_without_a_thread_is_unusable_and_the_others_run() {
    let lines = format!("{{\"customer\": {{\"id\": []}}, \"text\": \"who\"}}\n{LINES}");
    let desk = desk(&lines, "[[reply]]\nrepeat = 'forever'\ntext = 'Noted.'\n");
    let told = desk.run(&EACH);
    told.expect_code(1);
    assert!(told.stderr.contains("`customer.id` must be a text or a number"), "{told}");
    assert!(told.stderr.contains("6 finished") && told.stderr.contains("1 line unusable"), "{told}");
}

#[test]
fn lines_behind_an_open_run_wait_for_a_later_command() {
    let asks = "tool_calls = [{ name = 'ask', arguments = { question = 'Which?' } }]";
    let scenario = format!(
        "[[rule]]\nwhen = {{ turn = 0, contains = 'ann says one' }}\n{asks}\n[[reply]]\nrepeat = 'forever'\ntext = 'Noted.'\n"
    );
    let desk = desk(LINES, &scenario);
    desk.write("tools/ask.toml", "kind = 'builtin'\nbuiltin = 'ask_user'\n");
    desk.write("agents/clerk.toml", &AGENT.replace("[model]", "tools = ['ask']\n[model]"));
    let told = desk.run(&EACH);
    told.expect_code(4);
    assert!(told.stderr.contains("3 finished") && told.stderr.contains("1 awaiting input"), "{told}");
    assert!(told.stderr.contains("2 lines behind an open run of their thread"), "{told}");
    let runs = desk.run(&["runs", "--thread", "ann", "--json"]).json();
    desk.run(&["answer", runs["runs"][0]["run"].as_str().expect("an id"), "the first", "--only"]).expect_code(0);
    let told = desk.run(&EACH);
    told.expect_code(0);
    assert!(told.stderr.contains("3 finished") && told.stderr.contains("3 ended before"), "{told}");
}

#[test]
fn what_makes_no_sense_is_refused_before_any_line() {
    let desk = desk(LINES, "[[reply]]\ntext = 'Noted.'\n");
    let each = &EACH[..4];
    for (more, why) in [
        (vec!["--thread", "t"], "with `--each` all lines would be in one thread"),
        (vec!["--thread", "t", "--thread-from", "customer.id"], "exclude each other"),
        (vec!["--thread-from", "customer..id"], "names no field"),
    ] {
        let told = desk.run(&[each, &more].concat());
        told.expect_code(2);
        assert!(told.stderr.contains(why), "{more:?}: {told}");
    }
    let told = desk.run(&["run", "clerk", "--thread-from", "customer.id"]);
    told.expect_code(2);
    assert!(told.stderr.contains("--each"), "{told}");
    assert_eq!(desk.run(&["runs", "--json"]).json()["runs"], serde_json::json!([]));
}
