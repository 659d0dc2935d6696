//! What does a durable write cost, beside a bare append and `fdatasync`?
//!
//! Input: ops that settle a call and reserve the next one, from 1, 16 and 256 tasks that each wait for their own op. Unit:
//! ops per second, the wait of each (p50, p99), and CPU of the process per op. Floor: one thread that appends the same
//! bytes of events to a file, as many ops as have queued together, calls `fdatasync` once, and answers them all.

use crate::facts;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use plimsoll::clock::Clock;
use plimsoll::domain::ledger::{LedgerPolicy, Verdict};
use plimsoll::store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cpu::cpu_micros;
use crate::measure::{is_whole, micros_since, now, percentile, say, spread};

/// Ops of each task, at each number of tasks.
const LEVELS: [(u32, u32); 3] = [(1, 2_000), (16, 500), (256, 100)];
/// Rounds of each.
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    say("| tasks | | ops/s | p50 µs | p99 µs | CPU µs/op |");
    say("|---:|---|---:|---:|---:|---:|");
    for (tasks, ops) in LEVELS {
        let (ops, rounds) = if is_whole() { (ops, ROUNDS) } else { (2, 1) };
        let (mut ours, mut bare) = (vec![], vec![]);
        for _ in 0..rounds {
            ours.push(round(|folder| Box::pin(through_store(folder, tasks, ops))));
            bare.push(round(|folder| Box::pin(by_append(folder, tasks, ops))));
        }
        report(tasks, "sled store", &ours);
        report(tasks, "append + fdatasync", &bare);
    }
}

struct Round {
    ops: u64,
    wall: u64,
    cpu: u64,
    waits: Vec<u64>,
}

fn report(tasks: u32, what: &str, rounds: &[Round]) {
    let each = |value: &dyn Fn(&Round) -> u64| spread(rounds.iter().map(value).collect());
    say(&format!(
        "| {tasks} | {what} | {} | {} | {} | {} |",
        each(&|round| round.ops * 1_000_000 / round.wall.max(1)),
        each(&|round| percentile(&round.waits, 50)),
        each(&|round| percentile(&round.waits, 99)),
        each(&|round| round.cpu / round.ops.max(1)),
    ));
}

type Work<'a> = std::pin::Pin<Box<dyn Future<Output = Round> + 'a>>;

fn round(work: impl for<'a> Fn(&'a Path) -> Work<'a>) -> Round {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut round = runtime.block_on(work(folder.path()));
    round.waits.sort_unstable();
    round
}

async fn through_store(folder: &Path, tasks: u32, ops: u32) -> Round {
    let policy = LedgerPolicy { budgets: facts::budgets(1), alerts: Vec::new() };
    let store = Store::open(&folder.join("store"), policy, Clock::virtual_at(facts::START)).expect("it opens");
    for number in 0..tasks {
        let committed = store.submit(facts::start(facts::run(number))).await.expect("it commits");
        assert!(matches!(committed.verdicts.as_slice(), [Verdict::Admitted(Some(_))]));
    }
    let store = Arc::new(store);
    every(tasks, ops, move |task, number| {
        let store = store.clone();
        async move {
            let op = facts::step(facts::run(task), facts::FIRST_CALL + number);
            let committed = store.submit(op).await.expect("it commits");
            assert!(matches!(committed.verdicts.as_slice(), [Verdict::Granted(_)]));
        }
    })
    .await
}

async fn by_append(folder: &Path, tasks: u32, ops: u32) -> Round {
    let bytes = Arc::new(bytes_of_op());
    let (sender, receiver) = mpsc::channel(1_024);
    let path = folder.join("log");
    let writer = std::thread::spawn(move || append(&path, receiver));
    let round = every(tasks, ops, move |_, _| {
        let (sender, bytes) = (sender.clone(), bytes.clone());
        async move {
            let (reply, answer) = oneshot::channel();
            sender.send((bytes.to_vec(), reply)).await.expect("the writer lives");
            answer.await.expect("an answer");
        }
    })
    .await;
    writer.join().expect("it ends");
    round
}

/// The events of one op, as the store writes them.
fn bytes_of_op() -> Vec<u8> {
    let run = facts::run(1);
    let mut bytes = serde_json::to_vec(&facts::settled(run, 1)).expect("JSON");
    bytes.extend(serde_json::to_vec(&facts::reserved(run, 2)).expect("JSON"));
    bytes
}

fn append(path: &Path, mut ops: mpsc::Receiver<(Vec<u8>, oneshot::Sender<()>)>) {
    let mut file = std::fs::File::create(path).expect("a file");
    while let Some((mut bytes, reply)) = ops.blocking_recv() {
        let mut replies = vec![reply];
        while let Ok((more, reply)) = ops.try_recv() {
            bytes.extend(more);
            replies.push(reply);
        }
        file.write_all(&bytes).expect("it takes the bytes");
        file.sync_data().expect("it syncs");
        replies.into_iter().for_each(|reply| reply.send(()).expect("the task waits"));
    }
}

/// Lets every task make its ops, one after the other.
async fn every<F: Future<Output = ()> + Send + 'static>(
    tasks: u32,
    ops: u32,
    one: impl Fn(u32, u32) -> F + Send + Sync + 'static,
) -> Round {
    let one = Arc::new(one);
    let (begun, before) = (now(), cpu_micros("self"));
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let one = one.clone();
        set.spawn(async move {
            let mut waits = Vec::new();
            for number in 1..=ops {
                let begun = now();
                one(task, number).await;
                waits.push(micros_since(begun));
            }
            waits
        });
    }
    let waits: Vec<u64> = set.join_all().await.into_iter().flatten().collect();
    let (wall, cpu) = (micros_since(begun), cpu_micros("self") - before);
    Round { ops: u64::from(tasks) * u64::from(ops), wall, cpu, waits }
}
