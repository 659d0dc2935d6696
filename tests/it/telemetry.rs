//! What is told outwards of runs: the log, and what a collector gets.

mod otlp;

use serde_json::Value;

use crate::cli::desk::Desk;

#[test]
fn each_line_of_the_log_is_json_and_those_of_a_run_name_it() {
    let desk = Desk::new();
    desk.append("plimsoll.toml", "\n[[alerts]]\nname = \"me\"\non = [\"finished\"]\nlog = true\n");
    let input = "my sister's order 4711";
    let arguments = ["--log-format", "json", "run", "hello", "--input", input, "--label", "tenant=acme", "--json"];
    let told = desk.with("PLIMSOLL_LOG", "plimsoll=trace").run(&arguments);
    told.expect_code(0);
    let document: Value = told.json();
    let (run, output) = (document["run"].as_str().expect("an id"), document["output"].as_str().expect("a text"));
    let lines: Vec<Value> = told.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let is_fact = |line: &&Value| line["target"] == "plimsoll::telemetry::log";
    let said = |message: &str| lines.iter().filter(is_fact).find(|line| line["message"] == message).expect(message);
    assert_eq!((&said("ended")["run"], &said("ended")["state"]), (&run.into(), &"finished".into()), "{told}");
    assert_eq!((&said("calls a model")["run"], &said("settled")["run"]), (&run.into(), &run.into()), "{told}");
    let alert = lines.iter().find(|line| line["target"] == "plimsoll::runtime::alerts").expect("an alert");
    assert_eq!(alert["run"], run, "{told}");
    // What a provider or a tool does for a run is inside the run's span.
    let within: Vec<&Value> = lines.iter().filter(|line| line["spans"].is_array()).collect();
    assert!(within.iter().any(|line| line["target"].as_str().expect("a target").starts_with("plimsoll::provider")));
    for line in within {
        let span = &line["spans"][0];
        let named = (&span["name"], &span["run"], &span["agent"], &span["tenant"]);
        assert_eq!(named, (&"run".into(), &run.into(), &"hello".into(), &"acme".into()), "{line}");
    }
    for word in ["sister", "4711", "lookup_order {", output] {
        assert!(!told.stderr.contains(word), "nothing that anybody wrote: {word} {told}");
    }
    // What is said to people is in it too, and so is what goes wrong.
    let wrong = desk.with("PLIMSOLL_LOG_FORMAT", "json").run(&["trace", "7ZZZZZ"]);
    wrong.expect_code(2);
    let line: Value = serde_json::from_str(wrong.stderr.trim()).expect("one line");
    assert_eq!((&line["level"], &line["code"]), (&"ERROR".into(), &"plimsoll::cli::run".into()), "{wrong}");
}
