//! A tool that may have had its effect when the process went down: what a person sees of it, and both decisions.

use plimsoll::failpoint;

use crate::cli::desk::Desk;

const AGENT: &str = "\
description = \"Stamps\"
tools = [\"stamp\"]
[model]
models = [\"openai/gpt-5-mini\"]
max_output_tokens = 200
[prompt]
system = \"You stamp.\"
user = \"{{ input }}\"
";

const TOOL: &str = "\
description = \"Stamps a letter\"
kind = \"command\"
command = [\"./stamp.sh\"]
idempotent = false
[input]
type = \"object\"
";

const SCENARIO: &str = "\
[[reply]]
tool_calls = [{ name = \"stamp\", arguments = {} }]

[[reply]]
text = \"Done.\"
";

/// A run that was killed after its tool took effect, and before the result was written.
fn struck() -> Desk {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    desk.write("agents/clerk.toml", AGENT);
    desk.write("tools/stamp.toml", TOOL);
    desk.write("tools/stamp.sh", "#!/bin/sh\necho stamped >> stamps.txt\necho stamped\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(desk.path("tools/stamp.sh"), executable).expect("it may be run");
    desk.write("stamp.toml", SCENARIO);
    let run = ["run", "clerk", "--input", "Stamp it.", "--scenario", "stamp.toml"];
    desk.with(failpoint::VARIABLE, "tool.called:1").run(&run).expect_code(-1);
    desk
}

/// How often the tool had its effect.
fn stamps(desk: &Desk) -> usize {
    let found = walkdir::WalkDir::new(desk.path("")).into_iter().filter_map(Result::ok);
    let marks = found.filter(|entry| entry.file_name() == "stamps.txt");
    marks.map(|entry| std::fs::read_to_string(entry.path()).expect("a file").lines().count()).sum()
}

/// The trace says all of this, in this order.
#[track_caller]
fn expect_in_trace(desk: &Desk, words: &[&str]) {
    let trace = desk.run(&["trace", "last"]);
    let mut rest = trace.stdout.as_str();
    for word in words {
        let Some((_, after)) = rest.split_once(word) else { panic!("`{word}` is missing or out of order: {trace}") };
        rest = after;
    }
}

fn goes_on(decision: &'static str) -> [&'static str; 6] {
    ["resume", "last", "--in-flight", decision, "--scenario", "stamp.toml"]
}

#[test]
fn a_person_is_asked_and_told_how_to_answer() {
    let desk = struck();
    desk.snapshot("in_flight_asked", &["resume", "last", "--scenario", "stamp.toml"]);
    desk.snapshot("in_flight_asked_all", &["resume", "--all", "--scenario", "stamp.toml"]);
    desk.snapshot("in_flight_asked_runs", &["runs"]);
    expect_in_trace(
        &desk,
        &[
            "clerk  awaiting approval",
            "question 0  `stamp` was being called",
            "open    until ",
            "answer  plimsoll approve ",
            "tool stamp {}",
            "try 1  unknown ",
            "interrupted: the process went down while the call was in flight",
            "a person is asked about stamp, question 0: `stamp` was being called",
            "waits for people, holding nothing, until ",
        ],
    );
    assert_eq!(stamps(&desk), 1, "nothing is stamped again by itself");
}

#[test]
fn rerun_makes_the_call_again_and_the_trace_shows_both() {
    let desk = struck();
    desk.run(&goes_on("rerun")).expect_code(0);
    assert_eq!(stamps(&desk), 2);
    expect_in_trace(
        &desk,
        &[
            "clerk  finished",
            "tool stamp {}",
            "try 1  unknown ",
            "try 2  reported ",
            "gave: stamped",
            "a person is asked about stamp",
            "the command line answered question 0: yes",
            "admitted",
            "said: Done.",
        ],
    );
}

#[test]
fn skip_leaves_the_call_and_the_trace_shows_who_said_so() {
    let desk = struck();
    desk.run(&goes_on("skip")).expect_code(0);
    assert_eq!(stamps(&desk), 1);
    expect_in_trace(
        &desk,
        &[
            "clerk  finished",
            "tool stamp {}",
            "try 1  unknown ",
            "a person is asked about stamp",
            "the command line answered question 0: no",
            "said: Done.",
        ],
    );
    assert!(!desk.run(&["trace", "last"]).stdout.contains("try 2"));
    let events = desk.run(&["export", "events", "--run", "last"]).stdout;
    assert!(events.contains("\"kind\":\"person_answered\"") && events.contains("\"decision\":\"deny\""), "{events}");
}
