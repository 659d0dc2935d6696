//! `kill -9` of a process that writes: what it acknowledged through a pipe is there, without a gap, and the sums fit.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll::clock::Clock;
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::ids::RunId;
use plimsoll::store::Store;

use super::facts::*;

/// Names the folder that the child writes to.
const CHILD_FOLDER: &str = "PLIMSOLL_TEST_CHILD_FOLDER";
/// Runs that the child works on at once.
const CHILD_RUNS: u64 = 16;

/// The child: works until it is killed. Without its variable it is a test that has nothing to do.
#[test]
fn child() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let store = Store::open(Path::new(&folder), LedgerPolicy::default(), Clock::system()).expect("it opens");
        block_on(work(&store));
    }
}

async fn work(store: &Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CHILD_RUNS {
        let store = store.clone();
        tasks.spawn(async move {
            let clock = Clock::system();
            loop {
                let run = clock.run_id();
                let long = "lorem ipsum ".repeat(if number == 0 { 2_000 } else { 10 });
                step(&store, run, vec![created("a", &[("tenant", "acme")], None)]).await;
                step(&store, run, vec![admitted(run), reserved(run, 1, 1, 1, 5_000)]).await;
                for number in 2..6 {
                    let next = reserved(run, number, number, 1, 5_000);
                    step(&store, run, vec![settled(run, number - 1, 100, &long), next]).await;
                }
                step(&store, run, vec![settled(run, 5, 100, "done"), released(run), ended()]).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// One op; its acknowledgement goes out in one write.
async fn step(store: &Store, run: RunId, events: Vec<plimsoll::domain::event::Event>) {
    let committed = submit(store, run, events).await;
    let last = committed.events.last().expect("something was appended").1.seq;
    let line = format!("ack {run} {last}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
}

/// A child at work, and what it acknowledges: the last number of each run.
pub(super) struct Worker {
    pub(super) child: Child,
    acks: Option<JoinHandle<BTreeMap<RunId, u32>>>,
}

impl Worker {
    pub(super) fn start(folder: &Path) -> Self {
        let program = std::env::current_exe().expect("a test binary");
        let mut child = Command::new(program)
            .args(["store::kill::child", "--exact", "--nocapture"])
            .env(CHILD_FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let acks = std::thread::spawn(move || {
            let mut acks = BTreeMap::new();
            for line in lines.lines().map_while(Result::ok) {
                let mut words = line.split(' ').skip_while(|word| *word != "ack").skip(1);
                if let (Some(Ok(run)), Some(Ok(seq))) = (words.next().map(str::parse), words.next().map(str::parse)) {
                    acks.insert(run, seq);
                }
            }
            acks
        });
        Self { child, acks: Some(acks) }
    }

    /// Kills it, and gives what it acknowledged.
    pub(super) fn kill(mut self) -> BTreeMap<RunId, u32> {
        self.child.kill().expect("it dies");
        self.child.wait().expect("it is dead");
        self.acks.take().map(|acks| acks.join().expect("it reads")).unwrap_or_default()
    }
}

impl Drop for Worker {
    /// A test that fails in between leaves no process behind.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Opens what a process left, and checks it against what was acknowledged. Gives the number of runs.
pub(super) fn check(folder: &Path, acks: &BTreeMap<RunId, u32>) -> u64 {
    let store = Store::open(folder, LedgerPolicy::default(), Clock::system()).expect("it opens");
    for (run, last) in acks {
        let log = store.events(*run).expect("it reads");
        assert_no_gap(&log);
        assert!(
            log.len() > usize::try_from(*last).expect("small"),
            "run {run}: event {last} was acknowledged and is lost"
        );
    }
    store.verify().expect("all fits").runs
}

#[test]
fn after_kill_9_nothing_acknowledged_is_lost() {
    let kills = count("PLIMSOLL_TEST_KILLS", 5);
    let mut dice = Dice(u64::from(std::process::id()));
    let mut acknowledged = 0;
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut acks = BTreeMap::new();
    for number in 0..kills {
        if number % 10 == 9 {
            (folder, acks) = (tempfile::tempdir().expect("a folder"), BTreeMap::new());
        }
        let store = folder.path().join("store");
        let worker = Worker::start(&store);
        std::thread::sleep(Duration::from_millis(20 + dice.roll(400)));
        acks.extend(worker.kill());
        check(&store, &acks);
        acknowledged = acks.len().max(acknowledged);
    }
    assert!(acknowledged > 0, "no child came to an acknowledgement");
}
