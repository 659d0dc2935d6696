use std::time::Instant;

use tokio::sync::watch;

use super::*;
use crate::tool::fixture::{self, call, context, permit};
use crate::tool::variables::Variables;
use crate::tool::{ToolOutcome, call as call_with};
use crate::units::Millis;

fn command(command: &[&str]) -> ToolPlan {
    fixture::tool(ToolKind::Command {
        command: command.iter().map(|&part| part.to_owned()).collect(),
        directory: "/".to_owned(),
        env: Vec::new(),
        stdin: None,
    })
}

/// A tool that runs a script by a shell; what follows the script are templates.
fn script(text: &str, arguments: &[&str]) -> ToolPlan {
    command(&[&["sh", "-c", text, "script"], arguments].concat())
}

fn with_env(mut tool: ToolPlan, names: &[&str]) -> ToolPlan {
    if let ToolKind::Command { env, .. } = &mut tool.kind {
        *env = names.iter().map(|&name| name.to_owned()).collect();
    }
    tool
}

fn with_stdin(mut tool: ToolPlan, template: &str) -> ToolPlan {
    if let ToolKind::Command { stdin, .. } = &mut tool.kind {
        *stdin = Some(template.to_owned());
    }
    tool
}

fn variables(values: &[(&str, &str)]) -> Variables {
    Variables::fixed(values.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[expect(clippy::disallowed_methods, reason = "the test measures how long a kill takes on the real clock")]
fn instant() -> Instant {
    Instant::now()
}

/// True while a process runs; one that is dead but not yet reaped by its parent doesn't.
fn runs(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
    !matches!(state, None | Some('Z' | 'X'))
}

/// Waits until a process has ended; false if it hasn't after a second.
async fn ends(process: &str) -> bool {
    for _ in 0..100 {
        if !runs(process) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn last_line(outcome: &ToolOutcome) -> String {
    outcome.content.lines().last().unwrap_or_default().to_owned()
}

const SHOW: &str = r#"for argument in "$@"; do printf '<%s>' "$argument"; done"#;

#[tokio::test]
async fn each_argument_stays_one_argument_whatever_its_value() {
    let tool = script(SHOW, &["{{ args.a }}", "x={{ args.b }}", "", "{{ args.n }}"]);
    for value in ["plain", "two words", "a'b\"c", "$(id) `id` ; id | id > x & \\", "line\nbreak", "*", "", "ä€"] {
        let outcome = call(&tool, json!({"a": value, "b": value, "n": 7})).await;
        assert_eq!(outcome.content, format!("<{value}><x={value}><><7>"));
        assert!(!outcome.is_error && outcome.cut_bytes == 0);
    }
}

#[tokio::test]
async fn a_value_cannot_become_an_option() {
    let refused = call(&script(SHOW, &["{{ args.a }}"]), json!({"a": "--delete"})).await;
    assert!(refused.is_error && refused.never_began, "{refused:?}");
    assert!(refused.content.contains("would be an option"), "{}", refused.content);
    let after = call(&script(SHOW, &["--", "{{ args.a }}"]), json!({"a": "--delete"})).await;
    assert_eq!(after.content, "<--><--delete>");
    let written = call(&script(SHOW, &["-n={{ args.a }}"]), json!({"a": "-1"})).await;
    assert_eq!(written.content, "<-n=-1>");
}

#[tokio::test]
async fn what_cannot_be_started_never_began() {
    let missing = call(&command(&["no-such-program-anywhere"]), json!({})).await;
    assert!(missing.is_error && missing.never_began, "{missing:?}");
    assert!(missing.content.contains("`no-such-program-anywhere` can't be started"), "{}", missing.content);
    let undefined = call(&command(&["echo", "{{ args.order }}"]), json!({})).await;
    assert!(undefined.never_began && undefined.content.contains("`args.order`"), "{undefined:?}");
    let nul = call(&command(&["echo", "{{ args.a }}"]), json!({"a": "a\u{0}b"})).await;
    assert!(nul.never_began && nul.content.contains("NUL"), "{nul:?}");
    assert!(call(&command(&[]), json!({})).await.never_began);
}

#[tokio::test]
async fn only_listed_variables_reach_the_program() {
    let tool = with_env(command(&["env"]), &["REGION", "UNSET"]);
    let mut context = context();
    context.variables = variables(&[("REGION", "eu"), ("API_KEY", "sk-secret"), ("PATH", "/usr/bin:/bin")]);
    let outcome = call_with(permit(), &tool, &json!({}), &context).await;
    let mut lines: Vec<_> = outcome.content.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["LANG=C.UTF-8", "PATH=/usr/bin:/bin", "REGION=eu"]);
}

#[tokio::test]
async fn secrets_do_not_come_back() {
    let mut context = context();
    context.variables = variables(&[("KEY", "sk-12345678"), ("PATH", "/usr/bin:/bin")]);
    for text in ["echo key $KEY", "echo key $KEY >&2; exit 1"] {
        let outcome = call_with(permit(), &with_env(script(text, &[]), &["KEY"]), &json!({}), &context).await;
        assert!(outcome.content.contains("key [KEY redacted]"), "{}", outcome.content);
        assert!(!outcome.content.contains("12345"), "{}", outcome.content);
    }
    let endless = with_env(script("i=0; while [ $i -lt 5000 ]; do printf $KEY; i=$((i+1)); done", &[]), &["KEY"]);
    let outcome = call_with(permit(), &endless, &json!({}), &context).await;
    assert!(outcome.cut_bytes > 0 && !outcome.content.contains("345"), "{}", outcome.content);
}

#[tokio::test]
async fn standard_input_is_the_template_or_nothing() {
    let outcome = call(&with_stdin(command(&["cat"]), "Dear {{ args.name }}"), json!({"name": "Ada"})).await;
    assert_eq!(outcome.content, "Dear Ada");
    assert_eq!(call(&command(&["cat"]), json!({})).await.content, "");
    let large = "x".repeat(1024 * 1024);
    let unread = call(&with_stdin(command(&["true"]), "{{ args.large }}"), json!({ "large": large })).await;
    assert!(!unread.is_error, "{unread:?}");
}

#[tokio::test]
async fn a_failure_tells_exit_code_and_the_end_of_standard_error() {
    let outcome = call(&script("echo found nothing; echo no such order >&2; exit 3", &[]), json!({})).await;
    assert_eq!(outcome.content, "`sh` failed with exit code 3:\nno such order");
    assert!(outcome.is_error && !outcome.never_began);
    let silent = call(&script("echo only this; exit 1", &[]), json!({})).await;
    assert_eq!(silent.content, "`sh` failed with exit code 1:\nonly this");
    let killed = call(&script("kill -9 $$", &[]), json!({})).await;
    assert_eq!(killed.content, "`sh` was killed by signal 9");
}

#[tokio::test]
async fn output_is_cut_in_the_middle_and_need_not_be_text() {
    let mut tool = script("seq 1 20000", &[]);
    tool.output_bytes = 1_000;
    let outcome = call(&tool, json!({})).await;
    assert!(outcome.content.len() <= 1_000 && !outcome.is_error);
    assert!(outcome.content.starts_with("1\n2\n") && outcome.content.ends_with("20000\n"), "{}", outcome.content);
    assert!(outcome.content.contains("bytes cut …]") && outcome.cut_bytes > 100_000);
    let bytes = call(&script(r"printf 'a\377b'", &[]), json!({})).await;
    assert_eq!(bytes.content, "a\u{fffd}b");
}

#[tokio::test]
async fn a_flood_is_stopped() {
    for text in ["yes", "yes >&2"] {
        let outcome = call(&script(text, &[]), json!({})).await;
        assert!(outcome.is_error && outcome.content.contains("wrote more than 67,108,864 bytes"), "{outcome:?}");
        assert!(outcome.content.len() < 20_000);
    }
}

#[tokio::test]
async fn a_time_out_kills_the_whole_group_and_reaps_it() {
    let mut tool = script("(sleep 60 & echo $!); echo $$; sleep 60", &[]);
    tool.timeout = Millis(300);
    let began = instant();
    let outcome = call(&tool, json!({})).await;
    assert!(began.elapsed() < Duration::from_millis(300 + 100), "{:?}", began.elapsed());
    assert!(outcome.is_error && outcome.content.contains("took longer than 300ms"), "{outcome:?}");
    let processes: Vec<_> = outcome.content.lines().skip(1).collect();
    assert_eq!(processes.len(), 2, "{}", outcome.content);
    assert!(ends(processes[0]).await, "the grandchild lives on");
    assert!(!Path::new("/proc").join(processes[1]).exists(), "the program is dead, but not reaped");
}

#[tokio::test]
async fn the_permit_bounds_the_call_too() {
    let permit = crate::gate::Permit::for_test(Millis(200), Millis(200));
    let outcome = call_with(permit, &script("sleep 60", &[]), &json!({}), &context()).await;
    assert!(outcome.content.contains("took longer than 200ms"), "{}", outcome.content);
}

#[tokio::test]
async fn what_a_program_leaves_behind_dies_with_it() {
    let began = instant();
    let outcome = call(&script("sleep 60 & echo $!", &[]), json!({})).await;
    assert!(!outcome.is_error && began.elapsed() < Duration::from_secs(5), "{outcome:?}");
    assert!(ends(&last_line(&outcome)).await, "the background process lives on");
}

#[tokio::test]
async fn a_process_that_left_the_group_cannot_hold_up_a_call() {
    let began = instant();
    let outcome = call(&script("setsid sleep 8 & echo done", &[]), json!({})).await;
    assert_eq!(outcome.content, "done\n");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_cancel_ends_the_call_and_the_program() {
    let (cancel, cancelled) = watch::channel(false);
    let context = context().with_cancel(cancelled);
    let tool = script("echo $$; sleep 60", &[]);
    let began = instant();
    let arguments = json!({});
    let (outcome, ()) = tokio::join!(call_with(permit(), &tool, &arguments, &context), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.send(true).expect("the call listens");
    });
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(outcome.is_error && outcome.content.contains("was cancelled"), "{outcome:?}");
    assert!(!Path::new("/proc").join(last_line(&outcome)).exists());
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pids");
    let tool = script(r#"sleep 60 & echo $! $$ > "$1"; sleep 60"#, &["{{ args.path }}"]);
    let (arguments, context) = (json!({ "path": path }), context());
    let started = async {
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = call_with(permit(), &tool, &arguments, &context) => unreachable!("it ended: {outcome:?}"),
        () = started => {}
    }
    let text = std::fs::read_to_string(&path).expect("the process ids");
    for process in text.split_whitespace() {
        assert!(ends(process).await, "{process} lives on");
    }
}

#[tokio::test]
async fn a_program_with_a_slash_is_relative_to_its_folder() {
    let mut tool = command(&["./orders.sh", "{{ args.order }}"]);
    if let ToolKind::Command { directory, .. } = &mut tool.kind {
        *directory = format!("{}/tools", env!("CARGO_MANIFEST_DIR"));
    }
    let found = call(&tool, json!({"order": "10482"})).await;
    assert!(!found.is_error, "{found:?}");
    let order: Value = serde_json::from_str(&found.content).expect("an order is JSON");
    assert_eq!(order["order"], "10482");
    let unknown = call(&tool, json!({"order": "99999999"})).await;
    assert!(unknown.content.contains("no order"), "{unknown:?}");
    let path = call(&tool, json!({"order": "../../Cargo"})).await;
    assert!(path.is_error && path.content.contains("order number"), "{path:?}");
}
