//! How many runs a second, beside a loop that makes the same calls with nothing around them?
//!
//! Input: 256 runs at a time on a provider that answers after 50 ms, from a loaded agent with limits and a builtin tool,
//! under a budget, on a sled store on disk: runs of one model call, and runs of three (two that ask for the tool, one that
//! answers). Unit: runs per second. Floor: a bare `reqwest` loop with the same client settings that sends the same bodies
//! and parses the answers' JSON. Both, and the provider, are processes of their own. Rounds take turns: ours, bare,
//! ours, bare. Beside them, what the disk gives: 4 KiB appended and synced by `fdatasync` in the same folder, before each
//! round and with nothing else to do.

use crate::load;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::load::{Load, Provider, Room, Spent, client, folder};
use crate::measure::{is_whole, micros_since, now, percentile, say, spread};

/// How long an answer takes.
const ANSWER_TAKES: Duration = Duration::from_millis(50);
/// Runs at a time.
const AT_ONCE: u64 = 256;
/// Model calls of a run, and runs of one round.
const LENGTHS: [(usize, u64); 2] = [(1, 12_800), (3, 5_120)];
/// Rounds of each.
const ROUNDS: usize = 5;
/// Syncs that the disk is measured by before each round.
const SYNCS: usize = 500;
/// Bytes of each.
const SYNC_BYTES: usize = 4_096;

pub(crate) fn bench() {
    if load::played_a_part() {
        return;
    }
    say(
        "| calls of a run | ours, runs/s | bare loop, runs/s | share, % | ours, CPU µs/run | bare loop, CPU µs/run | fdatasync p50, µs | p99 |",
    );
    say("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (calls, runs) in LENGTHS {
        say(&length(calls, runs));
    }
}

/// One line of the table.
fn length(calls: usize, runs: u64) -> String {
    let folder = folder();
    let provider = Provider::start(folder.path(), calls, ANSWER_TAKES);
    let (at_once, runs, rounds, syncs) = if is_whole() { (AT_ONCE, runs, ROUNDS, SYNCS) } else { (16, 32, 1, 16) };
    let (mut ours, mut bare, mut synced) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (url, folder) = (provider.url.clone(), folder.path().to_owned());
        synced.extend(disk(&folder, syncs));
        let load = Load { url, folder, streams: false, room: Room::Usual, calls, at_once, runs };
        ours.push(client("ours", &load));
        bare.push(client("bare", &load));
    }
    synced.sort_unstable();
    let rate = |spent: &Spent| runs * 1_000_000 / spent.wall.max(1);
    let share = ours.iter().zip(&bare).map(|(ours, bare)| rate(ours) * 100 / rate(bare).max(1)).collect();
    let [own_rate, floor_rate] = [&ours, &bare].map(|all| spread(all.iter().map(rate).collect()));
    let [own, floor] = [&ours, &bare].map(|all| spread(all.iter().map(|spent| spent.cpu / runs).collect()));
    let (usual, slow) = (percentile(&synced, 50), percentile(&synced, 99));
    format!("| {calls} | {own_rate} | {floor_rate} | {} | {own} | {floor} | {usual} | {slow} |", spread(share))
}

/// How long the disk takes to keep what was appended, each time, in µs.
fn disk(folder: &Path, syncs: usize) -> Vec<u64> {
    let mut file = std::fs::File::create(folder.join("synced")).expect("a file");
    let bytes = [b'x'; SYNC_BYTES];
    let mut sync = || {
        let begun = now();
        file.write_all(&bytes).expect("it takes the bytes");
        file.sync_data().expect("it syncs");
        micros_since(begun)
    };
    (0..syncs).map(|_| sync()).collect()
}
