//! Does a step of a long run cost more CPU than one of a short run?
//!
//! Input: runs of 10 and of 200 model calls, each of which asks for a builtin tool but the last, eight runs at once, from
//! a loaded agent with limits, under a budget, on a sled store on disk: once with pots that everything fits, so that each
//! request is longer than the one before, and once with pots that the oldest is cut to fit. The provider takes no time and
//! is a process of its own. Unit: CPU, user and system, of the process per model call. Floor: a bare `reqwest` loop that
//! sends the same bodies, in a process of its own: what it takes more for the long run's bodies is the price of sending
//! them, which nobody can save. Rounds take turns: ours, bare, ours, bare.

use crate::load;
use std::time::Duration;

use crate::load::{Load, Provider, Room, Spent, client, folder};
use crate::measure::{is_whole, say, spread};

/// Model calls of a short and of a long run.
const LENGTHS: [usize; 2] = [10, 200];
/// Model calls of one round.
const CALLS: usize = 8_000;
/// Runs at once.
const AT_ONCE: u64 = 8;
/// Rounds of each.
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    if load::played_a_part() {
        return;
    }
    say("| pots | calls of a run | ours, CPU µs/call | bare loop, CPU µs/call | difference | newest body, bytes |");
    say("|---|---:|---:|---:|---:|---:|");
    for room in [Room::Wide, Room::Narrow] {
        let own: Vec<u64> = LENGTHS.iter().map(|calls| length(room, *calls)).collect();
        let hundredths = own[1] * 100 / own[0].max(1);
        say(&format!(
            "{}: a step of the long run costs {}.{:02} of one of the short run, beside the bare loop",
            room.name(),
            hundredths / 100,
            hundredths % 100
        ));
    }
}

/// One line of the table; what Plimsoll takes for a call beside the bare loop.
fn length(room: Room, calls: usize) -> u64 {
    let folder = folder();
    let provider = Provider::start(folder.path(), calls, Duration::ZERO);
    let (runs, rounds) = if is_whole() { (CALLS / calls, ROUNDS) } else { (1, 1) };
    let runs = u64::try_from(runs).expect("a few");
    let steps = runs * u64::try_from(calls).expect("a few");
    let at_once = AT_ONCE.min(runs);
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..rounds {
        let (url, folder) = (provider.url.clone(), folder.path().to_owned());
        let load = Load { url, folder, streams: false, room, calls, at_once, runs };
        ours.push(client("ours", &load));
        bare.push(client("bare", &load));
    }
    let cpu = |all: &[Spent]| spread(all.iter().map(|spent| spent.cpu / steps).collect());
    let mut own: Vec<u64> =
        ours.iter().zip(&bare).map(|(ours, bare)| ours.cpu.saturating_sub(bare.cpu) / steps).collect();
    own.sort_unstable();
    let newest = std::fs::metadata(folder.path().join(format!("body-{}.json", calls - 1))).map_or(0, |file| file.len());
    let name = room.name();
    say(&format!("| {name} | {calls} | {} | {} | {} | {newest} |", cpu(&ours), cpu(&bare), spread(own.clone())));
    own[own.len() / 2]
}
