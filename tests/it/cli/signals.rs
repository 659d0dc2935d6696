//! A process that is asked to stop, that holds the store, and whose reader hangs up.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use plimsoll::units::Money;

use super::desk::{Desk, Told};

/// A first answer that asks for a tool at once, then one that takes its time.
const SLOW: &str = "\
[[reply]]
tool_calls = [{ name = \"lookup_order\", arguments = { order = \"4711\" } }]

[[reply]]
latency = \"60s\"
text = \"late\"
";

/// The longest that a call may take to reach the provider.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(30);

/// Starts a run, and waits until the provider has its second model call on the invoice. A reservation alone doesn't tell:
/// a call that is stopped before it is sent is void, rightly.
fn start_slow(desk: &Desk) -> (Child, BufReader<std::process::ChildStdout>) {
    desk.write("slow.toml", SLOW);
    let arguments = ["run", "hello", "--input", "Where is order 4711?", "--scenario", "slow.toml", "--events"];
    let arguments = [&arguments[..], &["--invoice", "bill.jsonl"]].concat();
    let mut child = desk.command(&arguments).spawn().expect("it starts");
    let mut events = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !(line.contains("\"kind\":\"reserved\"") && line.contains("\"step\":3")) {
        line.clear();
        assert!(events.read_line(&mut line).expect("a line") > 0, "{}", Told::of(child));
    }
    let until = Instant::now() + ARRIVAL_TIME_MAX;
    while desk.read("bill.jsonl").lines().count() < 2 {
        assert!(Instant::now() < until, "the call doesn't arrive");
        std::thread::yield_now();
    }
    (child, events)
}

/// What the provider bills.
fn billed(desk: &Desk) -> Money {
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["amount_usd"].clone();
    desk.read("bill.jsonl").lines().map(|text| amount(&line(text))).sum()
}

fn amount(text: &serde_json::Value) -> Money {
    Money::parse(text.as_str().expect("an amount")).expect("an amount")
}

/// What is known is the invoice's; what is not known is at least what the invoice has beyond it (promises 5 and 6).
#[track_caller]
fn expect_books_to_cover_invoice(desk: &Desk, document: &serde_json::Value) {
    let (settled, unknown) = (amount(&document["cost"]["settled_usd"]), amount(&document["cost"]["unknown_usd"]));
    assert!(!unknown.is_zero(), "the call in flight is not known: {document}");
    assert!(settled >= billed(desk), "{} billed: {document}", billed(desk));
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn a_run_that_is_interrupted_goes_on_later() {
    let desk = Desk::new();
    let (child, _events) = start_slow(&desk);
    signal(&child, "INT");
    let told = Told::of(child);
    told.expect_code(130);
    assert!(told.stderr.contains("plimsoll resume"), "{told}");
    let runs = desk.run(&["runs", "--state", "interrupted", "--json"]).json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    desk.snapshot("resume", &["resume", "last", "--json"]);
    desk.run(&["resume", "--all"]).expect_code(0);
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let desk = Desk::new();
    let (mut child, _events) = start_slow(&desk);
    let mut talk = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, "INT");
    let mut heard = String::new();
    while !heard.contains("once more") {
        assert!(talk.read_line(&mut heard).expect("a line") > 0, "{heard}");
    }
    let asked = Instant::now();
    signal(&child, "INT");
    talk.read_to_string(&mut heard).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{heard}");
    // A clean stop waits 10 seconds for the usage of what is in flight.
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}: {heard}", asked.elapsed());
    let document = desk.run(&["resume", "last", "--json", "--invoice", "bill.jsonl"]).json();
    assert_eq!(document["state"], "finished", "{document}");
    expect_books_to_cover_invoice(&desk, &document);
}

#[test]
fn each_stops_cleanly_and_goes_on_later() {
    let desk = Desk::new();
    desk.write("slow.toml", "[[rule]]\nwhen = { contains = \"4712\" }\nlatency = \"60s\"\ntext = \"late\"\n");
    desk.write("lines.jsonl", "\"Where is order 4711?\"\n\"Where is order 4712?\"\n\"Where is order 4713?\"\n");
    let each = ["run", "hello", "--each", "lines.jsonl", "--parallel", "1", "--json"];
    let mut child = desk.command(&[&each[..], &["--scenario", "slow.toml"]].concat()).spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a line");
    signal(&child, "INT");
    let told = Told::of(child);
    told.expect_code(130);
    assert!(told.stderr.contains("the same command goes on"), "{told}");
    let again = desk.run(&each);
    again.expect_code(0);
    let lines = |text: &str| -> Vec<u64> {
        text.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).expect("JSON")["line"].as_u64().expect("a line")
            })
            .collect()
    };
    assert_eq!((lines(&first), lines(&again.stdout)), (vec![1], vec![2, 3]), "{again}");
    assert_eq!(desk.run(&["runs", "--json"]).json()["runs"].as_array().map(Vec::len), Some(3), "no line ran twice");
}

#[test]
fn each_begins_no_line_that_nobody_reads() {
    let desk = Desk::new();
    let lines: String = (0..40).map(|number| format!("\"Where is order 47{number:02}?\"\n")).collect();
    desk.write("lines.jsonl", &lines);
    let each = ["run", "hello", "--each", "lines.jsonl", "--parallel", "1", "--json"];
    let mut child = desk.command(&each).spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut String::new()).expect("a line");
    drop(stdout);
    let told = Told::of(child);
    told.expect_code(130);
    assert!(told.stderr.contains("the same command goes on"), "{told}");
    let count = |told: &Told| told.stdout.lines().count();
    let again = desk.run(&[&each[..], &["--with-ended"]].concat());
    again.expect_code(0);
    assert_eq!(count(&again), 40, "{again}");
    assert_eq!(desk.run(&["runs", "--json", "--limit", "1000"]).json()["runs"].as_array().map(Vec::len), Some(40));
}

#[test]
fn an_interrupted_run_can_be_cancelled() {
    let desk = Desk::new();
    let (child, _events) = start_slow(&desk);
    signal(&child, "TERM");
    Told::of(child).expect_code(130);
    desk.snapshot("cancel", &["cancel", "last", "--reason", "not needed any more"]);
    let trace = desk.run(&["trace", "last", "--json"]).json();
    assert_eq!(trace["state"], "cancelled");
    assert!(trace.to_string().contains("not needed any more"), "{trace}");
}

#[test]
fn a_run_whose_process_was_killed_is_resumed_with_the_others() {
    let desk = Desk::new();
    let (mut child, _events) = start_slow(&desk);
    child.kill().expect("killed");
    Told::of(child).expect_code(-1);
    let told = desk.run(&["resume", "--all", "--json", "--invoice", "bill.jsonl"]);
    told.expect_code(0);
    let document = told.json();
    assert_eq!(document["state"], "finished", "{told}");
    expect_books_to_cover_invoice(&desk, &document);
    assert_eq!(document["cost"]["held_usd"], "0", "{told}");
}

#[test]
fn a_second_process_says_who_holds_the_store() {
    let desk = Desk::new();
    let (mut child, _events) = start_slow(&desk);
    let told = desk.run(&["run", "hello", "--input", "Where is order 4711?"]);
    told.expect_code(1);
    assert!(told.stderr.contains("plimsoll::store::held"), "{told}");
    assert!(told.stderr.contains(&format!("process {}", child.id())), "{told}");
    child.kill().expect("killed");
    Told::of(child);
}

#[test]
fn a_reader_that_hangs_up_is_no_failure() {
    let desk = Desk::new();
    for arguments in [&["schema", "agent"][..], &["completions", "bash"], &["prices", "list", "--json"]] {
        let mut child = desk.command(arguments).spawn().expect("it starts");
        drop(child.stdout.take());
        let told = Told::of(child);
        told.expect_code(0);
        assert!(!told.stderr.contains("plimsoll::"), "{told}");
    }
}

#[test]
fn the_simulated_provider_serves_until_it_is_stopped() {
    let desk = Desk::new();
    let mut child =
        desk.command(&["sim", "--listen", "127.0.0.1:0", "--invoice", "bill.jsonl"]).spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut address = String::new();
    stdout.read_line(&mut address).expect("a line");
    let base_url = address.trim();
    desk.append("plimsoll.toml", &format!("[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"{base_url}\"\n"));
    let run = desk.run(&["run", "hello", "--input", "Where is order 4711?", "--json"]);
    run.expect_code(0);
    assert!(!run.stderr.contains("the simulated provider answers"), "it is a real one to us: {run}");
    signal(&child, "INT");
    let told = Told::of(child);
    told.expect_code(0);
    let settled = run.json()["cost"]["settled_usd"].as_str().expect("an amount").to_owned();
    assert!(told.stderr.contains(&format!("2 calls, 2 billed, ${settled} in all")), "{settled} {told}");
    assert_eq!(desk.read("bill.jsonl").lines().count(), 2);
    desk.snapshot("sim_bad_address", &["sim", "--listen", "192.0.2.1:1"]);
    desk.snapshot("sim_bad_scenario", &["sim", "--scenario", "nowhere.toml"]);
}

#[test]
fn a_hangup_has_the_service_read_its_files_again() {
    let desk = Desk::new();
    let mut child = desk.command(&["serve", "--sim", "--listen", "127.0.0.1:0"]).spawn().expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut hear = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(said.read_line(&mut line).expect("a line") > 0, "it ended before it said `{wanted}`");
        }
    };
    hear("served there");
    signal(&child, "HUP");
    hear("no agent changed");
    desk.append("agents/hello.toml", "colour = \"red\"\n");
    signal(&child, "HUP");
    hear("agents/hello.toml:");
    hear("their agents go on as they were");
    signal(&child, "TERM");
    Told::of(child).expect_code(0);
}
