//! `run --each --file-from FIELD`: each line goes with the files that it names.

use crate::cli::desk::Desk;

const AGENT: &str = "[model]\nmodels = ['openai/gpt-5-mini']\n[prompt]\nuser = '{{ input }}'\n";
const MODELS: &str = "\n[[models]]\nmodel = 'openai/gpt-5-mini'\ndocument_tokens = 9_000\n";
const EACH: [&str; 8] = ["run", "clerk", "--each", "jobs/lines.jsonl", "--file-from", "bill", "--parallel", "2"];

fn desk(lines: &str) -> Desk {
    let desk = Desk::new();
    desk.append("plimsoll.toml", MODELS);
    desk.write("agents/clerk.toml", AGENT);
    desk.write("jobs/lines.jsonl", lines);
    desk.write("jobs/one.pdf", "%PDF-1.7 <</Type/Page>>");
    desk.write("jobs/two.pdf", "%PDF-1.7 <</Type/Page>> <</Type/Page>>");
    desk.write("jobs/notes.txt", "plain text");
    desk
}

#[test]
fn each_line_goes_with_its_own_files_and_a_bad_one_holds_up_none() {
    let lines = [
        r#"{"input": "What is on it?", "bill": "one.pdf"}"#,
        r#"{"input": "And on these?", "bill": ["one.pdf", "two.pdf"]}"#,
        r#""Nothing with it""#,
        r#"{"input": "This one?", "bill": "gone.pdf"}"#,
        r#"{"input": "Or this?", "bill": "notes.txt"}"#,
        r#"{"bill": "one.pdf"}"#,
    ];
    let desk = desk(&lines.join("\n"));
    let told = desk.run(&[&EACH[..], &["--json"]].concat());
    told.expect_code(1);
    let documents: Vec<serde_json::Value> =
        told.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |line: u64| documents.iter().find(|document| document["line"] == line).expect("a document");
    for (line, why) in [(4, "gone.pdf"), (5, "neither an image nor a document"), (6, "the agent takes text")] {
        assert!(of(line)["error"].as_str().is_some_and(|error| error.contains(why)), "{}", of(line));
    }
    for (line, names) in [(1, vec!["one.pdf"]), (2, vec!["one.pdf", "two.pdf"]), (3, vec![])] {
        let trace = desk.run(&["trace", of(line)["run"].as_str().expect("a run"), "--json"]).json();
        let files = trace["files"].as_array().cloned().unwrap_or_default();
        let found: Vec<&str> = files.iter().filter_map(|file| file["name"].as_str()).collect();
        assert_eq!((found, &of(line)["state"]), (names, &"finished".into()), "{trace}");
    }
    // What is mended goes on; what ended stays.
    desk.write("jobs/gone.pdf", "%PDF-1.7");
    let again = desk.run(&[&EACH[..], &["--json"]].concat());
    assert_eq!(again.stdout.lines().filter(|line| line.contains("finished")).count(), 1, "{again}");
}

#[test]
fn what_no_model_takes_is_told_of_the_line_and_a_field_must_be_one() {
    let desk = desk(r#"{"input": "What is on it?", "bill": "one.pdf"}"#);
    desk.write("agents/clerk.toml", &AGENT.replace("gpt-5-mini", "gpt-5"));
    let told = desk.run(&EACH);
    told.expect_code(1);
    assert!(told.stderr.contains("line 1: `openai/gpt-5` may be asked, and nobody knows"), "{told}");
    for (field, why) in [("a.b", "names no field"), ("input", "names no files")] {
        let told = desk.run(&["run", "clerk", "--each", "jobs/lines.jsonl", "--file-from", field]);
        told.expect_code(2);
        assert!(told.stderr.contains(why), "{told}");
    }
}
