//! How long do reads of the API and the pages take, 2,000 a second, beside 200 runs that are driven?
//!
//! Input: a service over a sled store that holds 1,000 ended runs, 200 runs under way all the time on a provider that answers
//! after 500 ms, and 2,000 requests a second over 64 connections, each at its own time whatever became of those before: runs,
//! a run, its trace, costs, budgets, agents and the overview, in turn. A request's time is from the moment it was due, so that
//! one that waits for its connection counts with its wait. Unit: ms. Floor: the same client, as often, asking `/healthz`.
//! Service, client and provider are processes of their own on the same cores.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use plimsoll::api::tcp::Tcp;
use plimsoll::api::{Caller, Intake, IntakeOptions, RunRequest, Service};
use plimsoll::clock::Clock;
use plimsoll::domain::event::Labels;
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cpu::cpu_micros;
use crate::load::{self, Provider, folder};
use crate::measure::{is_whole, micros_since, now, percentile, say};
use crate::project;

/// How long an answer of a model takes.
const ANSWER_TAKES: Duration = Duration::from_millis(500);
/// Runs under way.
const AT_ONCE: u64 = 200;
/// Runs that ended before.
const ENDED: u64 = 1_000;
/// Requests a second.
const RATE: u64 = 2_000;
/// How long they are sent.
const SECONDS: u64 = 20;
/// Connections that they are sent over.
const CONNECTIONS: u64 = 64;
/// What is asked, in turn; `RUN` is one of the runs.
const MIXED: [&str; 8] = [
    "/v1/runs?limit=50",
    "/v1/runs/RUN",
    "/v1/runs/RUN/trace",
    "/v1/costs",
    "/v1/budgets",
    "/v1/agents",
    "/v1/runs/RUN",
    "/",
];

pub(crate) fn bench() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tokio = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match words.as_slice() {
        ["service", url, at_once, ended] => {
            tokio().block_on(service(url, number(at_once), number(ended)));
            return;
        }
        ["ask", address, rate, seconds, paths @ ..] => {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            let asked =
                tokio().block_on(ask(address.parse().expect("an address"), number(rate), number(seconds), paths));
            say(&asked);
            return;
        }
        _ => {}
    }
    if load::played_a_part() {
        return;
    }
    let (at_once, ended, rate, seconds) = if is_whole() { (AT_ONCE, ENDED, RATE, SECONDS) } else { (4, 4, 100, 1) };
    let folder = folder();
    let provider = Provider::start(folder.path(), 3, ANSWER_TAKES);
    say("| asked | requests/s | p50, ms | p99, ms | worst, ms | errors | service, CPU µs/request |");
    say("|---|---:|---:|---:|---:|---:|---:|");
    let served = Served::start(&provider.url, at_once, ended);
    let one = [served.run.clone()];
    for (name, paths) in [("`/healthz`", vec!["/healthz".to_owned()]), ("all of them", mixed(&MIXED, &one))] {
        say(&served.line(name, rate, seconds, &paths));
    }
    for path in MIXED.iter().filter(|path| **path != "/v1/runs/RUN").chain(&["/v1/runs/RUN"]) {
        say(&served.line(&format!("`{path}`"), rate / 4, seconds / 4, &mixed(&[path], &one)));
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn mixed(paths: &[&str], runs: &[String]) -> Vec<String> {
    paths.iter().map(|path| path.replace("RUN", &runs[0])).collect()
}

/// The process that is asked.
struct Served {
    process: Child,
    address: String,
    run: String,
}

impl Served {
    fn start(url: &str, at_once: u64, ended: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["service", url, &at_once.to_string(), &ended.to_string()]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the service starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut line = || lines.next().expect("a line").expect("a line");
        let (address, run) = (line(), line());
        Self { process, address, run }
    }

    /// One line of the table.
    fn line(&self, name: &str, rate: u64, seconds: u64, paths: &[String]) -> String {
        let who = self.process.id().to_string();
        let before = cpu_micros(&who);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["ask", &self.address, &rate.to_string(), &seconds.max(1).to_string()]).args(paths);
        let output = command.stderr(Stdio::inherit()).output().expect("the client starts");
        assert!(output.status.success(), "the client failed");
        let cpu = cpu_micros(&who) - before;
        let text = String::from_utf8_lossy(&output.stdout);
        format!("| {name} | {} | {} |", text.trim(), cpu / (rate * seconds.max(1)))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

// The processes that are measured

/// Serves, with so many runs under way all the time. Tells its address and a run that ended.
async fn service(url: &str, at_once: u64, ended: u64) {
    let folder = folder();
    let (project, plan) = project::load(folder.path(), false, project::USUAL);
    let options = RuntimeOptions {
        clock: Clock::system(),
        simulated: Some(url.to_owned()),
        prices: vec![],
        load_lines: BTreeMap::new(),
    };
    let plans = BTreeMap::from([(plan.agent.clone(), plan)]);
    let runtime = Runtime::open(&project, plans, options).expect("it opens");
    let mut made = JoinSet::new();
    for _ in 0..ended {
        let runtime = runtime.clone();
        made.spawn(async move { runtime.run(&new_run(), silent()).await.expect("it runs").0 });
    }
    let mut runs = made.join_all().await;
    let intake = Intake::new(runtime.clone(), IntakeOptions::default());
    let service = Service::new(runtime, &project.budgets, Clock::system()).with_intake(intake.clone());
    let tcp = Tcp::bind("127.0.0.1:0".parse().expect("an address"), service.gatekeeper()).await.expect("it binds");
    let tcp = tcp.with_pages(plimsoll::pages::router(service.clone(), false).expect("pages"));
    let (address, stop) = (tcp.address(), watch::Sender::new(false));
    let mut tasks = JoinSet::new();
    tasks.spawn(tcp.serve(service, stop.subscribe()));
    let stopped = stop.subscribe();
    let works = intake.clone();
    tasks.spawn(async move { works.work(stopped).await.expect("it works") });
    for _ in 0..at_once {
        let intake = intake.clone();
        tasks.spawn(async move {
            loop {
                let taken = intake.take(&request(), &Caller::local(), None).await.expect("it is taken");
                intake.let_go(taken.run()).await;
            }
        });
    }
    say(&address.to_string());
    say(&runs.pop().expect("a run").to_string());
    tasks.join_next().await;
}

fn new_run() -> NewRun {
    let (agent, input) = (project::AGENT.into(), project::QUESTION.into());
    NewRun { agent, input, labels: Labels::new(), key: None, files: vec![], bound: vec![] }
}

fn request() -> RunRequest {
    serde_json::from_value(json!({ "agent": project::AGENT, "input": project::QUESTION })).expect("a request")
}

/// Asks at a rate for some time; gives cells of the table.
async fn ask(address: SocketAddr, rate: u64, seconds: u64, paths: Vec<String>) -> String {
    let (paths, start) = (Arc::new(paths), now() + Duration::from_millis(200));
    let mut workers = JoinSet::new();
    for worker in 0..CONNECTIONS {
        let paths = paths.clone();
        workers.spawn(async move {
            let mut connection = Connection::open(address).await;
            let (mut times, mut errors) = (Vec::new(), 0_u64);
            for number in (worker..rate * seconds).step_by(usize::try_from(CONNECTIONS).expect("a few")) {
                let due = start + Duration::from_micros(number * 1_000_000 / rate);
                tokio::time::sleep_until(due.into()).await;
                let path = &paths[usize::try_from(number).expect("a number") % paths.len()];
                errors += u64::from(!connection.ask(path).await);
                times.push(micros_since(due));
            }
            (times, errors)
        });
    }
    let done = workers.join_all().await;
    let wall = micros_since(start).max(1);
    let errors: u64 = done.iter().map(|(_, errors)| errors).sum();
    let mut times: Vec<u64> = done.into_iter().flat_map(|(times, _)| times).collect();
    times.sort_unstable();
    let count = u64::try_from(times.len()).expect("a number");
    let shown = |micros: u64| format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10);
    let [usual, slow, worst] = [50, 99, 100].map(|share| shown(percentile(&times, share)));
    format!("{} | {usual} | {slow} | {worst} | {errors}", count * 1_000_000 / wall)
}

/// One connection that is kept: as little work as HTTP needs.
struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it is there");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, address, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// True where the answer is a good one.
    async fn ask(&mut self, path: &str) -> bool {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.stream.write_all(head.as_bytes()).await.expect("it takes the request");
        self.buffer.clear();
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        let length: usize = length.trim().parse().expect("a number");
        let is_good = head.starts_with("http/1.1 200");
        while self.buffer.len() < end + length {
            self.more().await;
        }
        is_good
    }

    async fn more(&mut self) {
        assert!(self.stream.read_buf(&mut self.buffer).await.expect("it answers") > 0, "the service hung up");
    }
}
