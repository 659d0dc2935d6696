//! What does a model step cost in CPU, with everything on?
//!
//! Input: four-call runs (three calls that ask for a builtin tool, one that answers) at 1, 16 and 256 runs at once, from
//! a loaded agent with limits, under a budget, on a sled store on disk; with streaming and without. The provider takes no
//! time and is a process of its own. Unit: CPU, user and system, of the process per model step. Floor: a bare `reqwest`
//! loop with the same client settings that sends the same bodies and parses the answers' JSON, in a process of its own.
//! Rounds take turns: ours, bare, ours, bare.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Labels, RunState};
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
use tokio::task::JoinSet;

#[path = "common/bare.rs"]
mod bare;
#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/project.rs"]
mod project;
#[path = "common/provider.rs"]
mod provider;

use cpu::cpu_micros;
use measure::{is_whole, micros_since, now, say, spread};

/// As in the binary; the floor has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs of one round at each level of concurrency.
const LEVELS: [(u64, u64); 3] = [(1, 400), (16, 1_600), (256, 3_072)];
/// Rounds of each.
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", folder] => runtime().block_on(provider::serve(Path::new(folder))),
        [who @ ("ours" | "bare"), url, folder, streams, at_once, runs] => {
            let load = Load {
                url: (*url).to_owned(),
                folder: PathBuf::from(folder),
                streams: *streams == "true",
                at_once: at_once.parse().expect("a number"),
                runs: runs.parse().expect("a number"),
            };
            let spent =
                runtime().block_on(if *who == "ours" { Box::pin(ours(load)) as Round } else { Box::pin(loops(load)) });
            say(&format!("{} {}", spent.cpu, spent.wall));
        }
        _ => measure_all(),
    }
}

type Round = std::pin::Pin<Box<dyn Future<Output = Spent>>>;

/// As `plimsoll` itself runs.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

struct Load {
    url: String,
    folder: PathBuf,
    streams: bool,
    at_once: u64,
    runs: u64,
}

/// Microseconds.
#[derive(Clone, Copy)]
struct Spent {
    cpu: u64,
    wall: u64,
}

// The process that measures

fn measure_all() {
    say(
        "| streaming | runs at once | ours, CPU µs/step | bare loop, CPU µs/step | difference | ours, steps/s | bare, steps/s | provider, CPU µs/step |",
    );
    say("|---|---:|---:|---:|---:|---:|---:|---:|");
    for streams in [false, true] {
        for (at_once, runs) in LEVELS {
            let (runs, rounds) = if is_whole() { (runs, ROUNDS) } else { (at_once, 1) };
            say(&level(streams, at_once, runs, rounds));
        }
    }
}

fn level(streams: bool, at_once: u64, runs: u64, rounds: usize) -> String {
    let folder = folder();
    let provider = Provider::start(folder.path());
    let steps = runs * u64::try_from(provider::CALLS).expect("a few");
    let (mut ours, mut bare, mut served) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let load = |who| client(who, &provider.url, folder.path(), streams, at_once, runs);
        let before = provider.cpu();
        ours.push(load("ours"));
        // The warm-up is served too.
        served.push((provider.cpu() - before) * runs / (runs + at_once));
        bare.push(load("bare"));
    }
    let cpu = |all: &[Spent]| spread(all.iter().map(|spent| spent.cpu / steps).collect());
    let rate = |all: &[Spent]| spread(all.iter().map(|spent| steps * 1_000_000 / spent.wall.max(1)).collect());
    let pairs = ours.iter().zip(&bare);
    let difference = spread(pairs.map(|(ours, bare)| ours.cpu.saturating_sub(bare.cpu) / steps).collect());
    let served = spread(served.into_iter().map(|cpu| cpu / steps).collect());
    format!(
        "| {streams} | {at_once} | {} | {} | {difference} | {} | {} | {served} |",
        cpu(&ours),
        cpu(&bare),
        rate(&ours),
        rate(&bare)
    )
}

/// On the disk that the build is on, not in memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

struct Provider {
    process: Child,
    url: String,
}

impl Provider {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut process = command.arg("serve").arg(folder).stdout(Stdio::piped()).spawn().expect("the provider starts");
        let mut address = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut address).expect("an address");
        Self { process, url: format!("http://{}/v1", address.trim()) }
    }

    fn cpu(&self) -> u64 {
        cpu_micros(&self.process.id().to_string())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

fn client(who: &str, url: &str, folder: &Path, streams: bool, at_once: u64, runs: u64) -> Spent {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(who).arg(url).arg(folder).args([streams.to_string(), at_once.to_string(), runs.to_string()]);
    let output = command.stderr(Stdio::inherit()).output().expect("the client starts");
    assert!(output.status.success(), "the client `{who}` failed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [cpu, wall] = numbers.as_slice() else { unreachable!("two numbers: {text}") };
    Spent { cpu: *cpu, wall: *wall }
}

// The processes that are measured

/// Whole runs through Plimsoll.
async fn ours(load: Load) -> Spent {
    let folder = folder();
    let (project, plan) = project::load(folder.path(), load.streams);
    let options = RuntimeOptions {
        clock: Clock::system(),
        simulated: Some(load.url.clone()),
        prices: vec![],
        load_lines: BTreeMap::new(),
    };
    let plans = BTreeMap::from([(plan.agent.clone(), plan)]);
    let runtime = Runtime::open(&project, plans, options).expect("it opens");
    let one = Arc::new(move || {
        let runtime = runtime.clone();
        async move {
            let new = NewRun {
                agent: project::AGENT.into(),
                input: project::QUESTION.into(),
                labels: Labels::new(),
                key: None,
            };
            let (run, state) = runtime.run(&new, silent()).await.expect("it runs");
            assert_eq!(state, RunState::Finished, "{:?}", runtime.store().events(run));
        }
    });
    repeat(&load, one).await
}

/// The same calls without anything around them.
async fn loops(load: Load) -> Spent {
    let client = bare::client();
    let url = format!("{}/chat/completions", load.url);
    let body = |call| std::fs::read(load.folder.join(format!("body-{call}.json"))).expect("ours ran first");
    let bodies: Arc<Vec<bytes::Bytes>> = Arc::new((0..provider::CALLS).map(|call| body(call).into()).collect());
    let streams = load.streams;
    let one = Arc::new(move || {
        let (client, url, bodies) = (client.clone(), url.clone(), bodies.clone());
        async move {
            for body in &*bodies {
                bare::call(&client, &url, body.clone(), streams).await;
            }
        }
    });
    repeat(&load, one).await
}

/// Warms up with one run each, then makes all runs, so many at once.
async fn repeat<F: Future<Output = ()> + Send + 'static>(
    load: &Load,
    one: Arc<impl Fn() -> F + Send + Sync + 'static>,
) -> Spent {
    at_once(load.at_once, load.at_once, &one).await;
    let (start, before) = (now(), cpu_micros("self"));
    at_once(load.at_once, load.runs, &one).await;
    Spent { cpu: cpu_micros("self") - before, wall: micros_since(start) }
}

async fn at_once<F: Future<Output = ()> + Send + 'static>(
    workers: u64,
    runs: u64,
    one: &Arc<impl Fn() -> F + Send + Sync + 'static>,
) {
    let begun = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (begun, one) = (begun.clone(), one.clone());
        tasks.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < runs {
                one().await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a worker");
    }
}
