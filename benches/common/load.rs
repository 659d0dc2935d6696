//! One load on a provider that takes no time, or a given one: whole runs through Plimsoll, or the same calls by the bare loop, each in a
//! process of its own, so that its CPU is measured alone.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Labels, RunState};
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
use tokio::task::JoinSet;

use crate::cpu::cpu_micros;
use crate::measure::{micros_since, now, say};
use crate::{bare, project, provider};

/// Plays the part of a process that the bench started; false where this is the bench itself.
pub(crate) fn played_a_part() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", folder, calls, takes] => {
            let takes = Duration::from_millis(takes.parse().expect("a number"));
            runtime().block_on(provider::serve(Path::new(folder), calls.parse().expect("a number"), takes));
        }
        [who @ ("ours" | "bare"), url, folder, streams, room, calls, at_once, runs] => {
            let number = |text: &str| text.parse().expect("a number");
            let load = Load {
                url: (*url).to_owned(),
                folder: PathBuf::from(folder),
                streams: *streams == "true",
                room: Room::named(room),
                calls: usize::try_from(number(calls)).expect("a few"),
                at_once: number(at_once),
                runs: number(runs),
            };
            let spent =
                runtime().block_on(if *who == "ours" { Box::pin(ours(load)) as Round } else { Box::pin(loops(load)) });
            say(&format!("{} {}", spent.cpu, spent.wall));
        }
        _ => return false,
    }
    true
}

type Round = std::pin::Pin<Box<dyn Future<Output = Spent>>>;

/// As `plimsoll` itself runs.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// How long runs may become.
#[derive(Clone, Copy)]
pub(crate) enum Room {
    /// A few steps.
    Usual,
    /// Hundreds of steps, and nothing is ever cut.
    Wide,
    /// Hundreds of steps, with a history of a few thousand tokens: the oldest is cut.
    Narrow,
}

impl Room {
    pub(crate) fn named(name: &str) -> Self {
        [Self::Usual, Self::Wide, Self::Narrow].into_iter().find(|room| room.name() == name).expect("a name")
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    /// Limits and pots.
    const fn words(self) -> &'static str {
        match self {
            Self::Usual => project::USUAL,
            Self::Wide => {
                "steps = 1000\nmodel_calls = 500\ntool_calls = 500\nattempts = 500\ncost = \"$100\"\nwall_time = \"10m\"\n\
                 [context]\ntokens = 200_000\nhistory = 100_000\ntool_output = 90_000"
            }
            Self::Narrow => {
                "steps = 1000\nmodel_calls = 500\ntool_calls = 500\nattempts = 500\ncost = \"$100\"\nwall_time = \"10m\"\n\
                 [context]\ntokens = 16_000\nhistory = 6_000\ntool_output = 2_000"
            }
        }
    }
}

/// What is done.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
    pub(crate) streams: bool,
    pub(crate) room: Room,
    /// Model calls of one run.
    pub(crate) calls: usize,
    pub(crate) at_once: u64,
    pub(crate) runs: u64,
}

/// Microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) cpu: u64,
    pub(crate) wall: u64,
}

/// On the disk that the build is on, not in memory.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// The provider's process.
pub(crate) struct Provider {
    pub(crate) process: Child,
    pub(crate) url: String,
}

impl Provider {
    /// One whose answers take so long.
    pub(crate) fn start(folder: &Path, calls: usize, takes: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut process = command
            .arg("serve")
            .arg(folder)
            .args([calls.to_string(), takes.as_millis().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the provider starts");
        let mut address = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut address).expect("an address");
        Self { process, url: format!("http://{}/v1", address.trim()) }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

/// One round, in a process of its own.
pub(crate) fn client(who: &str, load: &Load) -> Spent {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(who).arg(&load.url).arg(&load.folder).arg(load.streams.to_string()).arg(load.room.name());
    command.args([load.calls.to_string(), load.at_once.to_string(), load.runs.to_string()]);
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
    let (project, plan) = project::load(folder.path(), load.streams, load.room.words());
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
                files: vec![],
                bound: vec![],
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
    let bodies: Arc<Vec<bytes::Bytes>> = Arc::new((0..load.calls).map(|call| body(call).into()).collect());
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
