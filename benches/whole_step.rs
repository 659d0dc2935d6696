//! What does a model step cost in CPU, with everything on?
//!
//! Input: four-call runs (three calls that ask for a builtin tool, one that answers) at 1, 16 and 256 runs at once, from
//! a loaded agent with limits, under a budget, on a sled store on disk; with streaming and without. The provider takes no
//! time and is a process of its own. Unit: CPU, user and system, of the process per model step. Floor: a bare `reqwest`
//! loop with the same client settings that sends the same bodies and parses the answers' JSON, in a process of its own.
//! Rounds take turns: ours, bare, ours, bare.

use crate::{cpu, load};
use std::time::Duration;

use crate::load::{Load, Provider, Room, Spent, client, folder};
use crate::measure::{is_whole, say, spread};

/// Model calls of one run: three ask for a tool, the last answers.
const CALLS: usize = 4;
/// Runs of one round at each level of concurrency.
const LEVELS: [(u64, u64); 3] = [(1, 400), (16, 1_600), (256, 3_072)];
/// Rounds of each.
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    if !load::played_a_part() {
        measure_all();
    }
}

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
    let provider = Provider::start(folder.path(), CALLS, Duration::ZERO);
    let steps = runs * u64::try_from(CALLS).expect("a few");
    let (mut ours, mut bare, mut served) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (url, folder) = (provider.url.clone(), folder.path().to_owned());
        let load = Load { url, folder, streams, room: Room::Usual, calls: CALLS, at_once, runs };
        let before = served_by(&provider);
        ours.push(client("ours", &load));
        // The warm-up is served too.
        served.push((served_by(&provider) - before) * runs / (runs + at_once));
        bare.push(client("bare", &load));
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

fn served_by(provider: &Provider) -> u64 {
    cpu::cpu_micros(&provider.process.id().to_string())
}
