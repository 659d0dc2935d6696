use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::tool::fixture::{self, call, context, permit};
use crate::tool::{ToolOutcome, call_instant};

/// A folder with help articles, and a secret beside it.
fn help() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("secret.txt", "outside");
    write("help/refunds.md", "# Refunds\nWe pay refunds within 5 days.\nA late refund is rare.\n");
    write("help/more/returns.md", "Returns are free.\nA refund for a late return: 5 days.\n");
    write("help/.env", "refund of secrets");
    write("help/.git/refund.md", "refund");
    write("help/picture.png", "refund \0 binary");
    write("help/empty.md", "");
    symlink(folder.path().join("secret.txt"), folder.path().join("help/link.md")).expect("a link");
    symlink(folder.path(), folder.path().join("help/up")).expect("a link");
    symlink(folder.path().join("help/refunds.md"), folder.path().join("help/inside.md")).expect("a link");
    folder
}

fn folders(folder: &TempDir) -> Vec<String> {
    vec![folder.path().join("help").to_string_lossy().into_owned()]
}

fn search(folder: &TempDir) -> ToolPlan {
    fixture::tool(ToolKind::Builtin(Builtin::SearchFiles { folders: folders(folder) }))
}

fn read(folder: &TempDir) -> ToolPlan {
    fixture::tool(ToolKind::Builtin(Builtin::ReadFile { folders: folders(folder) }))
}

fn instant(tool: &ToolPlan, arguments: &Value) -> ToolOutcome {
    call_instant(permit(), tool, arguments, &context())
}

#[tokio::test]
async fn lines_that_hold_more_words_come_first() {
    let folder = help();
    let outcome = call(&search(&folder), json!({"query": "LATE refund?"})).await;
    let lines: Vec<_> = outcome.content.lines().collect();
    assert_eq!(lines[0], "more/returns.md:2: A refund for a late return: 5 days.");
    assert_eq!(lines[1], "refunds.md:3: A late refund is rare.");
    assert_eq!(lines.len(), 4, "{}", outcome.content);
    assert!(!outcome.is_error);
    let one = call(&search(&folder), json!({"query": "late refund", "max_results": 1})).await;
    assert_eq!(one.content.lines().count(), 1);
}

#[tokio::test]
async fn a_search_sees_no_hidden_binary_or_linked_file() {
    let folder = help();
    let outcome = call(&search(&folder), json!({"query": "refund secrets outside", "max_results": 50})).await;
    for hidden in [".env", ".git", "picture", "link.md", "up/", "inside.md", "secret"] {
        assert!(!outcome.content.contains(hidden), "{hidden} in {}", outcome.content);
    }
}

#[tokio::test]
async fn a_search_without_a_match_says_so() {
    let folder = help();
    let outcome = call(&search(&folder), json!({"query": "unicorn"})).await;
    assert_eq!(outcome.content, "no match for `unicorn` in 4 files; try other words");
    assert!(!outcome.is_error);
    assert!(call(&search(&folder), json!({"query": " ?! "})).await.is_error);
    assert!(call(&search(&folder), json!({"query": "a", "max_results": 0})).await.is_error);
    let short = call(&search(&folder), json!({"query": "is"})).await;
    assert_eq!(short.content, "refunds.md:3: A late refund is rare.", "a short word stands alone");
}

#[tokio::test]
async fn a_search_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = folder.path().join("help");
    fs::create_dir(&help).expect("a folder");
    fs::write(help.join("large.txt"), "refund\n".repeat(200_000)).expect("a file");
    fs::write(help.join("long.txt"), format!("refund {}\n", "x".repeat(10_000)).repeat(99)).expect("a file");
    let outcome = call(&search(&folder), json!({"query": "refund", "max_results": 5_000})).await;
    assert!(outcome.content.len() <= 16_384);
    assert!(!outcome.content.contains("large.txt"), "above a mebibyte");
    assert!(outcome.content.contains("not all files were searched"), "{}", outcome.content);
}

#[tokio::test]
async fn files_are_read_whole_or_by_lines() {
    let folder = help();
    let tool = read(&folder);
    let whole = call(&tool, json!({"path": "refunds.md"})).await;
    assert_eq!(whole.content, "# Refunds\nWe pay refunds within 5 days.\nA late refund is rare.\n");
    let part = call(&tool, json!({"path": "./refunds.md", "from_line": 2, "lines": 1})).await;
    assert_eq!(part.content, "We pay refunds within 5 days.\n[more from line 3 on]");
    let nested = call(&tool, json!({"path": "more/returns.md", "from_line": 2})).await;
    assert_eq!(nested.content, "A refund for a late return: 5 days.\n");
    let inside = call(&tool, json!({"path": "inside.md", "lines": 1})).await;
    assert!(inside.content.starts_with("# Refunds"), "a link that stays inside is followed: {inside:?}");
    assert_eq!(call(&tool, json!({"path": "empty.md"})).await.content, "`empty.md` is empty");
    let after = call(&tool, json!({"path": "refunds.md", "from_line": 9})).await;
    assert!(after.is_error && after.content.contains("has 3 lines"), "{after:?}");
    assert!(call(&tool, json!({"path": "picture.png"})).await.is_error);
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let folder = help();
    let absolute = folder.path().join("secret.txt");
    let inside = folder.path().join("help/refunds.md");
    for path in [
        "../secret.txt",
        "more/../../secret.txt",
        "more/../refunds.md",
        "./../secret.txt",
        "link.md",
        "up/secret.txt",
        ".env",
        ".git/refund.md",
        "more",
        ".",
        "",
        "/etc/hostname",
        "refunds.md\0",
        absolute.to_str().expect("text"),
        inside.to_str().expect("text"),
    ] {
        let outcome = call(&read(&folder), json!({ "path": path })).await;
        assert!(outcome.is_error, "{path}: {outcome:?}");
        assert!(outcome.content.starts_with("there is no file"), "{path}: {}", outcome.content);
    }
}

#[tokio::test]
async fn what_is_read_fits_the_bound_and_says_where_it_goes_on() {
    let folder = help();
    let text: String = (1..=2_000).map(|line| format!("line {line}\n")).collect();
    fs::write(folder.path().join("help/long.txt"), text).expect("a file");
    fs::write(folder.path().join("help/one.txt"), "x".repeat(100_000)).expect("a file");
    let mut tool = read(&folder);
    tool.output_bytes = 1_000;
    let mut from = 1;
    for _ in 0..3 {
        let outcome = call(&tool, json!({"path": "long.txt", "from_line": from})).await;
        assert!(outcome.content.len() <= 1_000 && outcome.cut_bytes == 0, "{outcome:?}");
        assert!(outcome.content.starts_with(&format!("line {from}\n")), "{}", outcome.content);
        let note = outcome.content.lines().last().expect("a note").to_owned();
        from = note.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().expect("a line");
    }
    let one = call(&tool, json!({"path": "one.txt"})).await;
    assert!(one.content.ends_with("[line 1 is longer than can be given]") && one.content.len() <= 1_000, "{one:?}");
}

#[tokio::test]
async fn several_folders_are_told_apart_by_their_names() {
    let folder = help();
    let base = folder.path().join("orders");
    fs::create_dir(&base).expect("a folder");
    fs::write(base.join("refunds.md"), "orders and refunds").expect("a file");
    let both = vec![folders(&folder).remove(0), base.to_string_lossy().into_owned()];
    let search = fixture::tool(ToolKind::Builtin(Builtin::SearchFiles { folders: both.clone() }));
    let outcome = call(&search, json!({"query": "orders"})).await;
    assert_eq!(outcome.content, "orders/refunds.md:1: orders and refunds");
    let read = fixture::tool(ToolKind::Builtin(Builtin::ReadFile { folders: both }));
    assert_eq!(call(&read, json!({"path": "orders/refunds.md"})).await.content, "orders and refunds");
    assert!(call(&read, json!({"path": "help/refunds.md"})).await.content.starts_with("# Refunds"));
    assert!(call(&read, json!({"path": "help/../secret.txt"})).await.is_error);
}

#[tokio::test]
async fn a_folder_that_is_gone_is_an_answer() {
    let folder = help();
    let tool = search(&folder);
    drop(folder);
    assert!(call(&tool, json!({"query": "refund"})).await.content.contains("can't be read"));
    assert!(!Path::new("/nonexistent-folder").exists());
}

#[tokio::test]
async fn time_limit_and_cancel_end_the_work() {
    let folder = help();
    let clock = Clock::virtual_at(Timestamp(1_000));
    let late =
        Until { clock: clock.clone(), deadline: Timestamp(1_000), time_limit: Millis(5), cancel: context().cancel };
    assert!(answer(&search(&folder), &json!({"query": "refund"}), &late).content.contains("took longer than 5ms"));
    let cancel = watch::channel(true).1;
    let cancelled = Until { clock, deadline: Timestamp(9_000), time_limit: Millis(5), cancel };
    assert!(answer(&search(&folder), &json!({"query": "refund"}), &cancelled).content.contains("cancelled"));
}

#[test]
fn instant_calls_answer_on_this_thread() {
    let calculate = fixture::tool(ToolKind::Builtin(Builtin::Calculate));
    assert_eq!(instant(&calculate, &json!({"expression": "0.1 + 0.2"})).content, "0.3");
    let wrong = instant(&calculate, &json!({"expression": "1 / 0"}));
    assert!(wrong.is_error && !wrong.never_began && wrong.content.contains("division by zero"));
    let template = fixture::template_tool("Hello {{ args.name }}");
    assert_eq!(instant(&template, &json!({"name": "Ada"})).content, "Hello Ada");
    assert!(instant(&template, &json!({})).is_error);
    let now = fixture::tool(ToolKind::Builtin(Builtin::Now));
    assert!(instant(&now, &json!({})).content.ends_with("day, UTC)"));
    let command = fixture::tool(ToolKind::Command {
        command: vec!["true".into()],
        directory: "/".into(),
        env: Vec::new(),
        stdin: None,
    });
    assert!(instant(&command, &json!({})).never_began);
}
