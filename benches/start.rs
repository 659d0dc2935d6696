//! How long from the start of the process to its first request at the provider?
//!
//! Input: a project of one agent with one tool, its store fresh (`fresh`) or left by an earlier run (`again`). The process
//! loads the project, opens the store, and runs the agent. Unit: time from before the process is spawned until the
//! provider has read the first bytes of its first request. Floor: a bare `reqwest` call from a process of its own.

use crate::{bare, project};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use plimsoll::clock::Clock;
use plimsoll::domain::event::Labels;
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};

use crate::measure::{is_whole, micros_since, now, percentile, say, spread};

/// Starts of each kind.
const STARTS: usize = 41;
/// An answer that ends the run.
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1795392000,"model":"gpt-5-mini-2025-08-07","service_tier":"default","choices":[{"index":0,"message":{"role":"assistant","content":"53.19"},"finish_reason":"stop"}],"usage":{"prompt_tokens":312,"completion_tokens":8,"total_tokens":320}}"#;

pub(crate) fn bench() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ours", url, folder] => ours(url, Path::new(folder)),
        ["bare", url, _] => runtime().block_on(bare::call(&bare::client(), url, "{}".into(), false)),
        _ => measure_all(),
    }
}

/// As `plimsoll` itself runs.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn ours(url: &str, folder: &Path) {
    let (project, plan) = project::reload(folder);
    runtime().block_on(async {
        let options = RuntimeOptions {
            clock: Clock::system(),
            simulated: Some(url.to_owned()),
            prices: vec![],
            load_lines: BTreeMap::new(),
        };
        let plans = BTreeMap::from([(plan.agent.clone(), plan)]);
        let runtime = Runtime::open(&project, plans, options).expect("it opens");
        let new = NewRun {
            agent: project::AGENT.into(),
            input: project::QUESTION.into(),
            labels: Labels::new(),
            key: None,
            files: vec![],
            bound: vec![],
        };
        runtime.run(&new, silent()).await.expect("it runs");
    });
}

fn measure_all() {
    let starts = if is_whole() { STARTS } else { 1 };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let again = folder();
    project::load(again.path(), false, project::USUAL);
    start("ours", &url, again.path(), &listener);
    let (mut fresh, mut later, mut floor) = (vec![], vec![], vec![]);
    for _ in 0..starts {
        let new = folder();
        project::load(new.path(), false, project::USUAL);
        fresh.push(start("ours", &url, new.path(), &listener));
        later.push(start("ours", &url, again.path(), &listener));
        floor.push(start("bare", &url, new.path(), &listener));
    }
    say("| | start to first request, µs | p90 |");
    say("|---|---:|---:|");
    for (name, mut times) in [("ours, fresh store", fresh), ("ours, again", later), ("bare loop", floor)] {
        times.sort_unstable();
        let slow = percentile(&times, 90);
        say(&format!("| {name} | {} | {slow} |", spread(times)));
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// Spawns a process, answers its one request, and gives the microseconds until that began to arrive.
fn start(who: &str, url: &str, folder: &Path, listener: &TcpListener) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let begun = now();
    let mut process =
        Command::new(program).arg(who).arg(url).arg(folder).stdin(Stdio::null()).spawn().expect("it starts");
    let (mut connection, _) = listener.accept().expect("it connects");
    let mut request = vec![0; 64 * 1024];
    let mut read = connection.read(&mut request).expect("a request");
    let arrived = micros_since(begun);
    while !is_whole_request(&request[..read]) {
        read += connection.read(&mut request[read..]).expect("the rest of it");
    }
    let length = ANSWER.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(ANSWER.as_bytes())).expect("it listens");
    assert!(process.wait().expect("it ends").success(), "`{who}` failed");
    arrived
}

fn is_whole_request(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.and_then(|length| length.trim().parse::<usize>().ok()).is_none_or(|length| body.len() >= length)
}
