//! Cassettes by the real binary: recorded once, then played without a provider, a key or a tool.

use super::desk::Desk;

const QUESTION: &str = "Where is order 4711?";
const SECRET: &str = "sk-live-0123456789";

/// A project with a secret that a tool is given, and says aloud.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("tools/look.toml", "description = \"Looks\"\nkind = \"builtin\"\nbuiltin = \"now\"\n");
    let agent = desk.read("agents/hello.toml");
    desk.write("agents/hello.toml", &agent.replacen("tools = [", "tools = [\"look\", ", 1));
    desk.write(
        "said.toml",
        &format!(
            "[[reply]]\ntool_calls = [{{ name = \"look\" }}]\n[[reply]]\ntext = \"Looked, and {SECRET} is the key.\"\n"
        ),
    );
    desk.append(
        "plimsoll.toml",
        "[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"http://127.0.0.1:9/v1\"\nkey_env = \"PLIMSOLL_TEST_KEY\"\n",
    );
    desk
}

#[test]
fn what_was_recorded_is_played_without_a_call_and_holds_no_secret() {
    let desk = desk();
    let record = ["record", "hello", "--input", QUESTION, "--sim", "--scenario", "said.toml", "--to", "hello.cassette"];
    let recorded = desk.with("PLIMSOLL_TEST_KEY", SECRET).run(&record);
    recorded.expect_code(0);
    assert!(recorded.stderr.contains("recorded 3 answers into hello.cassette"), "{recorded}");
    let tape = desk.read("hello.cassette");
    assert!(!tape.contains(SECRET) && tape.contains("[PLIMSOLL_TEST_KEY redacted]"), "{tape}");

    // Neither the scenario, the provider, its key nor the tool's own answer: all of it is on the tape.
    desk.write("said.toml", "");
    for _ in 0..2 {
        let played = desk.run(&["run", "hello", "--input", QUESTION, "--cassette", "hello.cassette"]);
        played.expect_code(0);
        assert!(played.stdout.contains("Looked, and [PLIMSOLL_TEST_KEY redacted] is the key."), "{played}");
        assert!(played.stderr.contains("a cassette answers"), "{played}");
    }
    let costs: Vec<String> = desk.run(&["runs", "--sim", "--json"]).json()["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| run["cost"]["settled"].to_string())
        .collect();
    assert_eq!(costs.len(), 3, "{costs:?}");
    assert!(costs.iter().all(|cost| *cost == costs[0] && cost != "\"0\""), "the same cost each time: {costs:?}");
}

#[test]
fn what_was_never_recorded_fails_the_run_and_says_so() {
    let desk = Desk::new();
    desk.run(&["record", "hello", "--input", QUESTION, "--to", "hello.cassette"]).expect_code(0);
    desk.snapshot(
        "cassette_other_input",
        &["run", "hello", "--input", "Something else", "--cassette", "hello.cassette"],
    );
    desk.snapshot("cassette_there", &["record", "hello", "--input", QUESTION, "--to", "hello.cassette"]);
    desk.write("none.cassette", "not a cassette\n");
    desk.snapshot("cassette_none", &["run", "hello", "--input", QUESTION, "--cassette", "none.cassette"]);
    desk.snapshot("cassette_missing", &["run", "hello", "--input", QUESTION, "--cassette", "nowhere.cassette"]);
    desk.run(&["record", "hello", "--input", QUESTION, "--to", "hello.cassette", "--overwrite"]).expect_code(0);
    assert!(!desk.path("hello.cassette.part").exists(), "nothing is left beside it");
}
