//! How long until a store of many runs is open, and until a run of it can be looked at?
//!
//! Input: a store of 100,000 ended runs of two model calls each (2,000 with `PLIMSOLL_RUNS=2000`), written once, 32 runs in
//! each op. Unit: time to open it; then, in that process, time to the trace of a run that nobody has looked at, and to the
//! newest fifty of the list. Floor: sled alone, opening the same files and reading the records of one run.

use crate::{facts, project};
use std::path::Path;
use std::sync::Arc;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Admitted, EndState, Ended, Event, Landing, LandingReleased};
use plimsoll::domain::ledger::{LedgerPolicy, Op};
use plimsoll::domain::plan::Plan;
use plimsoll::domain::report::Trace;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::Money;

use crate::facts::{FIRST_CALL, created, reserved, run, settled};
use crate::measure::{is_whole, micros_since, now, percentile, say, spread};

/// Runs of the store.
const RUNS: u32 = 100_000;
/// Runs of the store where the bench only shows that it works.
const RUNS_SMALL: u32 = 200;
/// Runs that one op writes.
const RUNS_OF_OP: u32 = 32;
/// Model calls of each run.
const CALLS: u32 = 2;
/// How often the store is opened.
const OPENS: usize = 5;
/// Runs that are looked at after each.
const LOOKS: u32 = 50;
/// The keys of what an ended run's events are in, and of its summary: table and run, and the number of the first event.
const RECORDS_OF_RUN: [(u8, &[u8]); 2] = [(0x10, &[0; 4]), (0x12, &[])];
/// sled's cache, as the store sets it.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Runs that a list shows.
const LISTED: usize = 50;

pub(crate) fn bench() {
    let asked = std::env::var("PLIMSOLL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = asked.unwrap_or(if is_whole() { RUNS } else { RUNS_SMALL });
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (_, plan) = project::load(folder.path(), false, project::USUAL);
    let place = folder.path().join("store");
    let began = now();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(fill(&place, &Arc::new(plan), runs));
    say(&format!("{runs} runs, {} MiB, written in {} ms", size(&place) >> 20, micros_since(began) / 1_000));
    let (mut opens, mut floor, mut traces, mut records, mut lists) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..if is_whole() { OPENS } else { 1 } {
        opens.push(ours(&place, runs, round, &mut traces, &mut lists));
        floor.push(bare(&place, runs, round, &mut records));
    }
    say("| | µs | p99 |");
    say("|---|---:|---:|");
    let rows = [("open", opens), ("open, sled alone", floor), ("trace of a run", traces)];
    let looks = [("records of a run, sled alone", records), ("the newest fifty", lists)];
    for (what, mut times) in rows.into_iter().chain(looks) {
        times.sort_unstable();
        let slow = percentile(&times, 99);
        say(&format!("| {what} | {} | {slow} |", spread(times)));
    }
}

/// Opens the store as every command does, and looks at runs.
fn ours(place: &Path, runs: u32, round: usize, traces: &mut Vec<u64>, lists: &mut Vec<u64>) -> u64 {
    let began = now();
    let store = Store::open(place, LedgerPolicy::default(), Clock::system()).expect("it opens");
    let open = micros_since(began);
    for id in picks(runs, round) {
        let began = now();
        let summary = store.summary(id).expect("it reads").expect("it is there");
        let plan = store.plan(&summary.plan).expect("it reads").expect("it is there");
        let log = store.events(id).expect("it reads");
        let trace = Trace::of(id, Arc::new(plan), &log, facts::START);
        traces.push(micros_since(began));
        assert!(trace.is_some(), "the log is whole");
    }
    let began = now();
    let listed = store.summaries(&RunFilter { limit: LISTED, ..RunFilter::default() }).expect("it reads").len();
    lists.push(micros_since(began));
    assert_eq!(listed, LISTED.min(usize::try_from(runs).expect("a number of runs")));
    open
}

/// The same by sled and nothing else.
fn bare(place: &Path, runs: u32, round: usize, records: &mut Vec<u64>) -> u64 {
    let began = now();
    let config = sled::Config::new().path(place.join("sled")).mode(sled::Mode::LowSpace).cache_capacity(CACHE_BYTES);
    let db = config.open().expect("it opens");
    let open = micros_since(began);
    for id in picks(runs, round) {
        let began = now();
        let found = RECORDS_OF_RUN.map(|(table, first)| {
            let key: Vec<u8> = std::iter::once(table).chain(id.bits().to_be_bytes()).chain(first.to_vec()).collect();
            db.get(key).expect("it reads").is_some()
        });
        records.push(micros_since(began));
        assert_eq!(found, [true; 2], "the records of a run");
    }
    open
}

/// Runs all over the store, others in each round.
fn picks(runs: u32, round: usize) -> impl Iterator<Item = RunId> {
    let shift = u32::try_from(round).expect("few rounds");
    (0..LOOKS).map(move |look| run((look * (runs / LOOKS).max(1) + shift) % runs))
}

async fn fill(place: &Path, plan: &Arc<Plan>, runs: u32) {
    let store = Store::open(place, LedgerPolicy::default(), Clock::system()).expect("it opens");
    let mut waiting = tokio::task::JoinSet::new();
    for first in (0..runs).step_by(usize::try_from(RUNS_OF_OP).expect("a small number")) {
        let events: Vec<(RunId, Event)> =
            (first..runs.min(first + RUNS_OF_OP)).flat_map(|number| whole(run(number), plan)).collect();
        let op = Op { run: run(first), events, asks: vec![], plan: (first == 0).then(|| Arc::clone(plan)) };
        let store = store.clone();
        waiting.spawn(async move { store.submit(op).await.expect("it commits") });
        // A few ops in flight: enough for a group, little to keep.
        if waiting.len() >= 16 {
            waiting.join_next().await;
        }
    }
    while waiting.join_next().await.is_some() {}
}

/// All facts of a run that finished.
fn whole(run: RunId, plan: &Plan) -> impl Iterator<Item = (RunId, Event)> {
    let mut birth = created();
    (birth.agent, birth.plan) = (plan.agent.clone(), plan.hash());
    let kept = ReservationId { run, number: 0 };
    let landing = Some(Landing { reservation: kept, amount: Money::from_micro(900) });
    let calls = (FIRST_CALL..FIRST_CALL + CALLS).flat_map(move |number| {
        [Event::Reserved(Box::new(reserved(run, number))), Event::Settled(Box::new(settled(run, number)))]
    });
    let output = Some(serde_json::json!("53.19"));
    let end = [
        Event::LandingReleased(LandingReleased { reservation: kept, why: "the run is done".to_owned() }),
        Event::Ended(Ended { state: EndState::Finished, refusal: None, output, error: None }),
    ];
    let begin = [Event::Created(birth), Event::Admitted(Admitted { budgets: vec![], landing })];
    begin.into_iter().chain(calls).chain(end).map(move |event| (run, event))
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("it reads").flatten();
    entries
        .map(|entry| {
            let kind = entry.metadata().expect("it reads");
            if kind.is_dir() { size(&entry.path()) } else { kind.len() }
        })
        .sum()
}
