//! The agents that ship, by the real binary: each checks clean and plays its scenario to the end, offline, with the
//! stages, runs and costs that its file promises.

use std::io::Write as _;
use std::process::{Command, Stdio};

use plimsoll::units::Money;
use serde_json::{Value, json};

use crate::cli::desk::{Desk, Told};

const REVIEW: [&str; 6] =
    ["review", "--input", "@examples/contracts/hosting.md", "--scenario", "examples/scenarios/review.toml", "--json"];
const NOTES: [&str; 6] =
    ["release-notes", "--input", "v1", "--scenario", "examples/scenarios/release-notes.toml", "--json"];

fn with<'a>(command: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&[command], arguments].concat()
}

fn amount(of: &Value) -> Money {
    Money::parse(of.as_str().expect("an amount")).expect("an amount")
}

/// The entries of one kind in a trace.
fn entries<'a>(trace: &'a Value, kind: &str) -> Vec<&'a Value> {
    trace["timeline"].as_array().expect("a timeline").iter().filter(|entry| entry["entry"] == kind).collect()
}

/// Each run's lines add up to its total, those of the runs below included.
#[track_caller]
fn assert_adds_up(trace: &Value) {
    let below = entries(trace, "child");
    let lines = entries(trace, "step").into_iter().chain(below.iter().copied());
    let sum = lines.map(|line| amount(&line["cost_usd"])).fold(Money::ZERO, Money::plus);
    assert_eq!(sum, amount(&trace["cost"]["settled_usd"]), "{trace}");
    assert!(sum > Money::ZERO && sum <= amount(&trace["load_line_usd"]), "{sum}");
    for child in below {
        assert_eq!(child["cost_usd"], child["trace"]["cost"]["settled_usd"], "{child}");
        assert_adds_up(&child["trace"]);
    }
}

fn ended_stages(trace: &Value) -> Vec<&str> {
    let ended = entries(trace, "stage_ended").into_iter().filter(|entry| entry["item"].is_null());
    ended.map(|entry| entry["stage"].as_str().expect("a stage")).collect()
}

#[test]
fn every_agent_checks_clean() {
    let desk = Desk::shipped();
    let told = desk.run(&["check"]);
    told.expect_code(0);
    assert_eq!(told.stderr, "", "no warning");
    for name in ["area-notes", "release-notes", "review", "support-triage"] {
        assert!(told.stdout.contains(&format!("agent {name}  ")), "{told}");
    }
    assert!(!told.stdout.contains("bound by `attempts`"), "a load line is bound by what the file says: {told}");
}

#[test]
fn a_review_waits_for_a_person_who_may_change_it() {
    let desk = Desk::shipped();
    let waits = desk.run(&with("run", &REVIEW));
    waits.expect_code(4);
    assert_eq!(waits.json()["state"], "awaiting_approval", "{waits}");
    let mut trace = desk.run(&["trace", "last", "--json"]).json();
    assert_adds_up(&trace);
    assert_eq!(trace["model_calls"], 10, "nine sections and a summary");
    assert_eq!(entries(&trace, "map")[0]["finished"], 9);
    assert_eq!(trace["cost"]["held_usd"], "0", "who waits holds nothing");

    let asked = entries(&trace, "person_asked");
    let mut review = asked[0]["shown"].clone();
    assert_eq!(review["recommendation"], "negotiate", "{review}");
    review["summary"] = json!("Ours to sign, once the liability is settled.");
    desk.run(&["answer", "last", "no, not like this"]).expect_code(2);
    let edited = review.to_string();
    let approved = desk.run(&["approve", "last", "--args", &edited, "--by", "mara", "--json"]);
    approved.expect_code(0);
    let output = &approved.json()["output"];
    assert_eq!((&output["approved"], &output["by"], &output["value"]), (&json!(true), &json!("mara"), &review));
    desk.run(&["approve", "last"]).expect_code(2);

    trace = desk.run(&["trace", "last", "--json"]).json();
    assert_eq!(ended_stages(&trace), ["checklist", "sections", "read", "summary", "release"]);
    assert_adds_up(&trace);
}

#[test]
fn a_review_that_is_denied_is_not_released() {
    let desk = Desk::shipped();
    desk.run(&with("run", &REVIEW)).expect_code(4);
    let denied = desk.run(&["approve", "last", "--deny", "--reason", "Ask our lawyer first", "--by", "mara", "--json"]);
    denied.expect_code(1);
    let run = denied.json();
    assert_eq!(run["output"], Value::Null, "{denied}");
    assert_eq!(run["error"], "stage `release`: denied by mara: Ask our lawyer first");
}

#[test]
fn release_notes_have_a_run_for_each_area() {
    let desk = Desk::shipped();
    history(&desk);
    let told = desk.run(&with("run", &NOTES));
    told.expect_code(0);
    assert!(told.json()["output"].as_str().expect("text").contains("## Changed"), "{told}");
    let trace = desk.run(&["trace", "last", "--json"]).json();
    assert_eq!(ended_stages(&trace), ["changes", "areas", "write"]);
    assert_eq!(trace["sub_agents"]["runs"], 3);
    let areas: Vec<&str> = entries(&trace, "child")
        .iter()
        .map(|child| child["trace"]["input"]["area"].as_str().expect("a name"))
        .collect();
    assert_eq!(areas, ["store", "project", "docs"], "the area with most commits first");
    for child in entries(&trace, "child") {
        let steps = entries(&child["trace"], "step");
        assert_eq!(steps.len(), 3, "a call, a commit that it looks into, and the notes");
        assert_eq!(steps[1]["attempts"][0]["call"]["tool"], "show_commit");
    }
    assert_adds_up(&trace);
    let below = desk.run(&["runs", "--children", "--agent", "area-notes", "--json"]).json();
    assert_eq!(below["runs"].as_array().map(Vec::len), Some(3), "{below}");
}

#[test]
fn release_notes_of_nothing_cost_nothing_and_say_why() {
    let desk = Desk::shipped();
    let nowhere = desk.run(&with("run", &NOTES));
    nowhere.expect_code(1);
    assert!(nowhere.stderr.contains("no git history"), "{nowhere}");
    history(&desk);
    for (from, said) in [("HEAD", "there are no commits from `HEAD` to `HEAD`"), ("v9", "there is no `v9`")] {
        let told = desk.run(&["run", "release-notes", "--input", from, "--json"]);
        told.expect_code(1);
        assert!(told.stderr.contains(said), "{told}");
        assert_eq!(told.json()["cost"]["settled_usd"], "0");
    }
}

#[test]
fn what_was_recorded_once_is_played_in_a_ci() {
    let desk = Desk::shipped();
    history(&desk);
    for (agent, code) in [(&REVIEW, 4), (&NOTES, 0)] {
        let tape = format!("{}.cassette", agent[0]);
        let recorded = desk.run(&[&with("record", agent)[..], &["--to", &tape]].concat());
        recorded.expect_code(code);
        let input = ["run", agent[0], "--input", agent[2], "--cassette", &tape, "--json"];
        let played = desk.run(&input);
        played.expect_code(code);
        for same in ["state", "output", "cost", "steps"] {
            assert_eq!(played.json()[same], recorded.json()[same], "{same}");
        }
    }
    desk.run(&["approve", "last", "--json"]).expect_code(2);
    let waiting = desk.run(&["runs", "--state", "awaiting_approval", "--json"]).json();
    let run = waiting["runs"][0]["run"].as_str().expect("an id");
    let approved = desk.run(&["approve", run, "--json"]);
    approved.expect_code(0);
    assert_eq!(approved.json()["output"]["value"]["recommendation"], "negotiate");
}

/// What a script of tools/ prints of a text.
fn piped(desk: &Desk, script: &str, text: &str) -> Value {
    let mut command = Command::new(desk.path(script));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_contract_of_any_form_has_sections_within_bounds() {
    let desk = Desk::shipped();
    let sections = |text: &str| piped(&desk, "tools/sections.sh", text);
    let text = "Between \"A\" and \\B\n\n# Term\n\n12\tmonths\r\n§ 2 Fees\nNone.\nArticle 3: Law\nOurs.\n4. Empty\n";
    assert_eq!(
        sections(text),
        json!([
            {"title": "Preamble", "text": "Between \"A\" and \\B"},
            {"title": "Term", "text": "12\tmonths"},
            {"title": "§ 2 Fees", "text": "None."},
            {"title": "Article 3: Law", "text": "Ours."},
        ])
    );
    assert_eq!(sections("\n\n"), json!([]));
    let long = sections(&"é è ".repeat(9_000));
    let parts = long.as_array().expect("a list");
    assert_eq!((parts.len(), &parts[1]["title"]), (5, &json!("Preamble (part 2)")));
    let many = (1..=95).fold(String::new(), |text, n| format!("{text}{n}. Clause\n\ntext {n}\n"));
    let many = sections(&many);
    let joined = many.as_array().expect("a list");
    assert!(joined.len() <= 40, "as many as the agent's map takes: {}", joined.len());
    assert!((1..=95).all(|n| many.to_string().contains(&format!("text {n}"))), "nothing is lost: {many}");
}

#[test]
fn a_large_history_is_listed_within_bounds() {
    let desk = Desk::shipped();
    history(&desk);
    // In one go: a commit each would take git many processes.
    let mut stream = String::new();
    for n in 1..=60 {
        let folder = if n <= 40 { "large".to_owned() } else { format!("small{n}") };
        let subject = format!("Say \"{n}\" \\ {}", "é".repeat(150));
        let parent = if n == 1 { "from refs/heads/main^0\n" } else { "" };
        stream.push_str(&format!(
            "commit refs/heads/main\ncommitter A <a@example.org> {n} +0000\ndata {}\n{subject}\n{parent}",
            subject.len()
        ));
        stream.push_str(&format!("M 644 inline {folder}/{n}.txt\ndata 1\nx\n"));
    }
    git_with(&desk, &["fast-import", "--quiet"], &stream);
    let listed = Command::new(desk.path("tools/changes.sh"))
        .args(["v2", "main"])
        .current_dir(desk.path("tools"))
        .output()
        .expect("it runs");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let areas = listed["areas"].as_array().expect("areas");
    assert_eq!((areas.len(), &areas[0]["name"], &areas[11]["name"]), (12, &json!("large"), &json!("others")));
    assert_eq!((areas[0]["commits"].as_array().map(Vec::len), &areas[0]["left_out"]), (Some(25), &json!(15)));
    let subject = areas[0]["commits"][0]["subject"].as_str().expect("text");
    assert!(subject.starts_with("Say \"40\" \\ é") && subject.ends_with("é...") && subject.len() < 210, "{subject}");
    let count = |area: &Value| area["commits"].as_array().map_or(0, Vec::len);
    assert_eq!(areas.iter().map(count).sum::<usize>(), 25 + 20, "the small ones are gathered, not lost");
}

/// Four commits in three areas since the tag `v1`; `v2` is at the last.
fn history(desk: &Desk) {
    git(desk, &["init", "--quiet", "--initial-branch=main"]);
    git(desk, &["commit", "--quiet", "--allow-empty", "--message=Begin"]);
    git(desk, &["tag", "v1"]);
    let commits = [
        ("src/store/log.txt", "Keep a log"),
        ("docs/log.md", "Tell of the log"),
        ("LICENCE", "Say what may be done"),
        ("src/store/index.txt", "Find in the log"),
    ];
    for (path, subject) in commits {
        desk.write(path, subject);
        git(desk, &["add", path]);
        git(desk, &["commit", "--quiet", &format!("--message={subject}")]);
    }
    git(desk, &["tag", "v2"]);
}

fn git(desk: &Desk, arguments: &[&str]) {
    git_with(desk, arguments, "");
}

/// git in the desk's folder, whatever the machine's user has configured.
#[track_caller]
fn git_with(desk: &Desk, arguments: &[&str], input: &str) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(arguments).current_dir(desk.path(""));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("git, which `.ci/run` installs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    Told::of(child).expect_code(0);
}
