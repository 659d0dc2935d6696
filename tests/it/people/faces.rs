//! What people see and type: the commands' good and bad use, another process that holds the store, and processes that die
//! at every point of an approval.

use std::process::Stdio;

use plimsoll::api::Service;
use plimsoll::api::socket::Socket;
use plimsoll::clock::Clock;
use plimsoll::domain::event::RunState;
use plimsoll::failpoint;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{ONE_REFUND, REFUND, REFUND_TOOL, paid, parked, refund};
use crate::cli::desk::{BINARY, Desk, Told};

const SCENARIO: &str = "\
[[reply]]
tool_calls = [{ name = 'refund', arguments = { cents = 500 } }]
[[reply]]
tool_calls = [{ name = 'ask', arguments = { question = 'Anything else?' } }]
[[reply]]
text = 'Paid.'
";

fn desk() -> Desk {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    desk.write("agents/clerk.toml", REFUND);
    desk.write("tools/refund.toml", REFUND_TOOL);
    desk.write("tools/refund.sh", "#!/bin/sh\necho \"$1\" >> refunds.txt\necho \"paid $1\"\n");
    desk.write("tools/ask.toml", "kind = 'builtin'\nbuiltin = 'ask_user'\n");
    desk.write("s.toml", SCENARIO);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(desk.path("tools/refund.sh"), executable).expect("it may be run");
    desk
}

const RUN: [&str; 6] = ["run", "clerk", "--input", "Pay back order 7.", "--scenario", "s.toml"];

#[test]
fn a_run_asks_waits_and_goes_on_with_what_people_say() {
    let desk = desk();
    desk.snapshot("people_run", &RUN);
    desk.snapshot("people_runs", &["runs"]);
    let trace = desk.run(&["trace", "last"]).stdout;
    for words in
        ["  question 0  may `refund`", "    answer  plimsoll approve", "├─ a person is asked about refund, question 0"]
    {
        assert!(trace.contains(words), "{words}: {trace}");
    }
    assert!(trace.contains("└─ waits for people, holding nothing, until 20"), "{trace}");
    desk.snapshot("people_resume", &["resume", "last", "--scenario", "s.toml"]);
    desk.snapshot("people_resume_all", &["resume", "--all", "--scenario", "s.toml"]);
    // What can't be taken changes nothing.
    desk.snapshot("people_bad_json", &["approve", "last", "--args", "{cents"]);
    desk.snapshot("people_bad_arguments", &["approve", "last", "--args", "{\"cents\": 5000}"]);
    desk.snapshot("people_no_such_question", &["approve", "last", "--ask", "7"]);
    desk.snapshot("people_no_such_run", &["approve", "7ZZZZZ"]);
    desk.snapshot("people_two_things", &["approve", "last", "--deny", "--answer", "x"]);
    let edited = ["approve", "last", "--args", "{\"cents\": 20}", "--by", "ann", "--reason", "as agreed", "--scenario"];
    desk.snapshot("people_approve", &[&edited[..], &["s.toml"]].concat());
    desk.snapshot("people_allow_a_question", &["approve", "last"]);
    desk.snapshot("people_answered_already", &["answer", "last", "--ask", "0", "no"]);
    desk.snapshot("people_answer_only", &["answer", "last", "No, thanks", "--by", "ann", "--only"]);
    desk.run(&["resume", "last", "--scenario", "s.toml"]).expect_code(0);
    desk.snapshot("people_ended", &["answer", "last", "once more"]);
    let trace = desk.run(&["trace", "last"]).stdout;
    for words in [
        "ann answered question 0: yes, with {\"cents\":20} (as agreed)",
        "ann answered question 1: instead: No, thanks",
    ] {
        assert!(trace.contains(words), "{words}: {trace}");
    }
}

#[test]
fn documents_tell_what_is_asked() {
    let desk = desk();
    let told = desk.run(&[&RUN[..], &["--json"]].concat());
    told.expect_code(4);
    let asks = &told.json()["asks"];
    assert_eq!(asks[0]["what"], "call", "{told}");
    assert_eq!(asks[0]["shown"], json!({ "cents": 500 }), "{told}");
    let runs = desk.run(&["runs", "--json"]).json();
    assert_eq!(runs["runs"][0]["asked"][0]["ask"], 0, "{runs}");
    let denied = desk.run(&["approve", "last", "--deny", "--json", "--scenario", "s.toml"]);
    denied.expect_code(4);
    assert_eq!(denied.json()["state"], "awaiting_input", "{denied}");
    assert!(denied.json()["asks"][0]["shown"].is_null() && !desk.path("refunds.txt").exists(), "{denied}");
}

#[test]
fn lines_of_a_file_that_wait_are_counted_and_gone_on_with() {
    let desk = desk();
    desk.write("s.toml", "[[rule]]\nwhen = { turn = 0 }\ntool_calls = [{ name = 'refund', arguments = { cents = 500 } }]\n[[reply]]\nrepeat = 'forever'\ntext = 'Paid.'\n");
    desk.write("lines.jsonl", "\"one\"\n\"two\"\n");
    let each = ["run", "clerk", "--each", "lines.jsonl", "--scenario", "s.toml"];
    let told = desk.run(&each);
    told.expect_code(4);
    assert!(told.stderr.contains("2 awaiting approval"), "{told}");
    let runs = desk.run(&["runs", "--json"]).json();
    for run in runs["runs"].as_array().expect("rows") {
        desk.run(&["approve", run["run"].as_str().expect("an id"), "--only"]).expect_code(0);
    }
    let told = desk.run(&each);
    told.expect_code(0);
    assert!(told.stderr.contains("2 finished"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_answers_and_the_holder_goes_on() {
    let world = refund(&format!("{ONE_REFUND}, {{ name = 'refund', arguments = {{ cents = 7 }} }}")).start();
    let run = parked(&world).await.to_string();
    let project = world.folder.path().to_owned();
    let (stop, stopped) = watch::channel(false);
    let service = Service::new(world.runtime.clone(), &[], Clock::system());
    let socket = Socket::bind(&project.join(".plimsoll-sim")).expect("it binds");
    let mut tasks = JoinSet::new();
    tasks.spawn(socket.serve(service, stopped));
    let tell = |words: &[&str]| {
        let mut command = std::process::Command::new(BINARY);
        command.arg("--project").arg(&project).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::block_in_place(|| Told::of(command.spawn().expect("it starts")))
    };
    let several = tell(&["approve", &run]);
    several.expect_code(2);
    assert!(several.stderr.contains("asks several questions") && several.stderr.contains("--ask N"), "{several}");
    let only = tell(&["approve", &run, "--ask", "0", "--deny", "--only", "--by", "ann"]);
    only.expect_code(0);
    assert!(only.stderr.contains("recorded"), "{only}");
    assert_eq!(world.told(run.parse().expect("an id")).state(), RunState::Interrupted);
    let done = tell(&["approve", &run, "--by", "ann", "--json"]);
    done.expect_code(0);
    assert!(done.stderr.contains("goes on with run"), "{done}");
    assert_eq!((done.json()["state"].as_str(), paid(&world)), (Some("finished"), vec!["7".to_owned()]), "{done}");
    let again = tell(&["approve", &run]);
    again.expect_code(2);
    assert!(again.stderr.contains("is finished already"), "{again}");
    stop.send_replace(true);
    tasks.join_all().await;
    world.verify();
}

/// Pays with a yes, and then wants its result approved; no model is called.
const PAY: &str = r#"
description = "Pays"
[model]
models = ["openai/gpt-5-mini"]
[input]
type = "object"

[[stage]]
id = "pay"
kind = "tool"
tool = "refund"
args = { cents = 300 }

[[stage]]
id = "release"
kind = "approval"
needs = ["pay"]
ask = "Send it?"
show = "stages.pay.output"
"#;

#[test]
fn a_process_may_die_at_every_point_of_an_approval() {
    let points = [
        "store.commit:1",
        "store.committed:2",
        "run.park:1",
        "run.parked:1",
        "answer.given:1",
        "answer.written:1",
        "run.resume:1",
        "run.admission:1",
        "tool.call:1",
        "tool.called:1",
        "run.settled:1",
        "stage.ended:1",
        "run.end:1",
    ];
    for point in points {
        let desk = desk();
        desk.write("agents/clerk.toml", PAY);
        let mut died = false;
        let mut tell = |words: &[&str]| {
            let told = if died { desk.run(words) } else { desk.with(failpoint::VARIABLE, point).run(words) };
            died |= told.code == -1;
        };
        for _ in 0..12 {
            let runs = desk.run(&["runs", "--json"]).json();
            let state = runs["runs"][0]["state"].as_str().unwrap_or("none").to_owned();
            match state.as_str() {
                "none" => tell(&["run", "clerk", "--input", "{}"]),
                "finished" => break,
                "awaiting_approval" if runs["runs"][0]["asked"][0]["what"] == "in_flight" => {
                    tell(&["approve", "last", "--answer", "paid 300"]);
                }
                "awaiting_approval" => tell(&["approve", "last"]),
                _ => tell(&["resume", "last"]),
            }
        }
        assert!(died, "{point} is never reached");
        let document = desk.run(&["trace", "last", "--json"]).json();
        assert_eq!(document["state"], "finished", "{point}: {document}");
        assert_eq!(document["output"]["approved"], true, "{point}: {document}");
        assert_eq!(document["cost"]["held_usd"], "0", "{point}: {document}");
        let effects = std::fs::read_to_string(desk.path("refunds.txt")).unwrap_or_default();
        assert!(effects.lines().count() <= 1, "{point}: {effects}");
    }
}
