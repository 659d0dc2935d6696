//! How much memory does a run take that waits on a model?
//!
//! Input: 5,000 runs at once in one process, each with one request out to a provider that doesn't answer, from a loaded
//! agent with limits and a tool, under a budget, on a sled store on disk (`PLIMSOLL_RUNS` takes another number). Unit: KiB of
//! resident memory of the process for each run, from `/proc/self/statm`: what it has once all requests wait, less what it
//! had after one run that was answered. Floor: a bare `reqwest` loop with the same client settings whose calls wait with
//! the same bodies, in a process of its own. The provider is a process of its own too, so that its memory doesn't count.
//! Rounds take turns: ours, bare, ours, bare.
//!
//! Each run needs a connection, so both processes need a descriptor for each: the bench raises its soft limit to the hard
//! one by its shell, and says what to do where that is too low.

use crate::{bare, project, provider};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use plimsoll::clock::Clock;
use plimsoll::domain::event::Labels;
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::measure::{is_whole, micros_since, now, say, spread};

/// Runs that wait at once.
const RUNS: usize = 5_000;
/// Runs where the bench only shows that it works.
const RUNS_SMALL: usize = 50;
/// Rounds of each.
const ROUNDS: usize = 3;
/// Descriptors that a process needs beside one for each run.
const DESCRIPTORS_BESIDE: usize = 200;
/// How long a process comes to rest before it is measured.
const REST: Duration = Duration::from_millis(500);
/// Bytes of a page of memory.
const PAGE_BYTES: u64 = 4_096;
/// Runs the program again with as many descriptors as it may have, and tells it how many those are.
const WITH_DESCRIPTORS: &str =
    r#"ulimit -S -n "$(ulimit -H -n)"; program=$1; shift; exec "$program" measure "$(ulimit -n)" "$@""#;

pub(crate) fn bench() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["measure", descriptors, ..] => runtime().block_on(measure_all(descriptors)),
        ["ours", url, folder, runs] => runtime().block_on(ours(url, Path::new(folder), runs)),
        ["bare", url, folder, runs] => runtime().block_on(loops(url, Path::new(folder), runs)),
        _ => {
            let program = std::env::current_exe().expect("this program");
            let mut shell = Command::new("sh");
            shell.args(["-c", WITH_DESCRIPTORS, "sh"]).arg(program).args(&arguments);
            assert!(shell.status().expect("a shell").success(), "the bench failed");
        }
    }
}

/// As `plimsoll` itself runs.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

async fn measure_all(descriptors: &str) {
    let asked = std::env::var("PLIMSOLL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs: usize = asked.unwrap_or(if is_whole() { RUNS } else { RUNS_SMALL });
    let enough = descriptors.parse().map_or(true, |most: usize| most >= runs + DESCRIPTORS_BESIDE);
    assert!(
        enough,
        "{descriptors} open files are allowed: raise the hard limit (`ulimit -Hn`), or set `PLIMSOLL_RUNS`"
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (mut own, mut floor) = (vec![], vec![]);
    for _ in 0..if is_whole() { ROUNDS } else { 1 } {
        own.push(waiting("ours", folder.path(), runs).await);
        floor.push(waiting("bare", folder.path(), runs).await);
    }
    let body = std::fs::metadata(folder.path().join("body-0.json")).map_or(0, |file| file.len());
    say(&format!("{runs} runs wait at once, each with a request of {body} bytes"));
    say("| | KiB resident for each run | MiB in all | ms until all waited |");
    say("|---|---:|---:|---:|");
    for (name, rounds) in [("ours", own), ("bare loop", floor)] {
        let runs = u64::try_from(runs).expect("a few");
        let column = |of: &dyn Fn(&(u64, u64)) -> u64| spread(rounds.iter().map(of).collect());
        let (each, all) = (column(&|(kib, _)| kib / runs), column(&|(kib, _)| kib / 1_024));
        say(&format!("| {name} | {each} | {all} | {} |", column(&|(_, micros)| micros / 1_000)));
    }
}

/// KiB that a client's process takes more once all its requests wait, and the microseconds until they did.
async fn waiting(who: &str, folder: &Path, runs: usize) -> (u64, u64) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let begun = now();
    let mut client = Client::start(who, &url, folder, runs);
    let _held = hold(&listener, folder, runs).await;
    let waited = micros_since(begun);
    (client.measure(), waited)
}

/// Answers the first request, and none after it; gives the connections once so many requests wait.
async fn hold(listener: &TcpListener, folder: &Path, runs: usize) -> JoinSet<()> {
    let (sender, mut arrived) = mpsc::channel(1);
    let mut connections = JoinSet::new();
    let (mut count, mut answer) = (0, Some(provider::whole(0, 1)));
    while count < runs {
        tokio::select! {
            accepted = listener.accept() => {
                let (connection, _) = accepted.expect("a connection; are there descriptors for all?");
                connections.spawn(listen(connection, answer.take(), folder.join("body-0.json"), sender.clone()));
            }
            Some(()) = arrived.recv() => count += 1,
        }
    }
    connections
}

async fn listen(
    mut connection: TcpStream,
    mut answer: Option<Vec<u8>>,
    kept: std::path::PathBuf,
    arrived: mpsc::Sender<()>,
) {
    let mut buffer = Vec::new();
    while let Some(end) = provider::read_request(&mut connection, &mut buffer).await {
        match answer.take() {
            Some(answer) => {
                let body =
                    String::from_utf8_lossy(&buffer[..end]).split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                std::fs::write(&kept, body.unwrap_or_default()).expect("the body can be kept");
                connection.write_all(&answer).await.expect("the client listens");
            }
            None => arrived.send(()).await.expect("somebody counts"),
        }
        buffer.drain(..end);
    }
}

/// The process that is measured.
struct Client {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(who: &str, url: &str, folder: &Path, runs: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([who, url]).arg(folder).arg(runs.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the client starts");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    fn measure(&mut self) -> u64 {
        self.input.write_all(b"all of them wait\n").expect("it listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        line.trim().parse().expect("a number")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

// The processes that are measured

/// Whole runs through Plimsoll.
async fn ours(url: &str, kept: &Path, runs: &str) {
    let folder = tempfile::tempdir_in(kept).expect("a folder");
    let (project, plan) = project::load(folder.path(), false, project::USUAL);
    let options = RuntimeOptions {
        clock: Clock::system(),
        simulated: Some(url.to_owned()),
        prices: vec![],
        load_lines: BTreeMap::new(),
    };
    let plans = BTreeMap::from([(plan.agent.clone(), plan)]);
    let runtime = Runtime::open(&project, plans, options).expect("it opens");
    let one = move || {
        let runtime = runtime.clone();
        async move {
            let new = NewRun {
                agent: project::AGENT.into(),
                input: project::QUESTION.into(),
                labels: Labels::new(),
                key: None,
                files: vec![],
                bound: vec![],
            };
            runtime.run(&new, silent()).await.expect("it runs");
        }
    };
    grow(runs, one).await;
}

/// The same calls without anything around them.
async fn loops(url: &str, kept: &Path, runs: &str) {
    let client = bare::client();
    let url: Arc<str> = format!("{url}/chat/completions").into();
    let body: bytes::Bytes = std::fs::read(kept.join("body-0.json")).expect("ours ran first").into();
    let one = move || {
        let (client, url, body) = (client.clone(), url.clone(), body.clone());
        // Bodies of runs differ, so each has its own.
        async move { bare::call(&client, &url, body.to_vec().into(), false).await }
    };
    grow(runs, one).await;
}

/// Makes one run that is answered, then so many that wait, and tells how much the process grew by them.
async fn grow<F: Future<Output = ()> + Send + 'static>(runs: &str, one: impl Fn() -> F) {
    let runs: usize = runs.parse().expect("a number");
    one().await;
    let before = resident();
    let mut tasks = JoinSet::new();
    (0..runs).for_each(|_| drop(tasks.spawn(one())));
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.expect("the bench says when");
    tokio::time::sleep(REST).await;
    assert_eq!(tasks.len(), runs, "all of them wait");
    assert!(tasks.try_join_next().is_none(), "all of them wait");
    say(&resident().saturating_sub(before).to_string());
    // Until the bench ends this process.
    std::future::pending().await
}

/// KiB of resident memory of this process.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells a process's memory");
    let resident: u64 =
        pages.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    resident * PAGE_BYTES / 1_024
}
