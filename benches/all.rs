//! Every bench but that of the wires: one program, so that it is linked once.
//!
//! `cargo bench --bench all -- whole_step` runs those that are named, in a process each, and all without a name.

use std::process::{Command, ExitCode};

#[path = "common/bare.rs"]
mod bare;
mod commit;
mod contended_reserve;
#[path = "common/cpu.rs"]
mod cpu;
mod decide_apply;
#[path = "common/facts.rs"]
mod facts;
mod large_store;
#[path = "common/load.rs"]
mod load;
mod long_run;
#[path = "common/measure.rs"]
mod measure;
mod pages;
#[path = "common/project.rs"]
mod project;
#[path = "common/provider.rs"]
mod provider;
mod reads;
mod replay;
mod start;
mod throughput;
mod waiting;
mod whole_step;

use measure::say;

/// As in the binary; the floors have it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names the bench that a process is part of.
const PART: &str = "PLIMSOLL_BENCH";

const BENCHES: [(&str, fn()); 12] = [
    ("commit", commit::bench),
    ("contended_reserve", contended_reserve::bench),
    ("decide_apply", decide_apply::bench),
    ("large_store", large_store::bench),
    ("long_run", long_run::bench),
    ("pages", pages::bench),
    ("reads", reads::bench),
    ("replay", replay::bench),
    ("start", start::bench),
    ("throughput", throughput::bench),
    ("waiting", waiting::bench),
    ("whole_step", whole_step::bench),
];

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        let bench = BENCHES.iter().find(|(name, _)| *name == part).expect("the name of a bench");
        bench.1();
        return ExitCode::SUCCESS;
    }
    let (flags, named): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    if let Some(unknown) = named.iter().find(|named| BENCHES.iter().all(|(name, _)| name != named)) {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        say(&format!("there is no bench `{unknown}`; there are {}", names.join(", ")));
        return ExitCode::FAILURE;
    }
    let chosen = BENCHES.iter().filter(|(name, _)| named.is_empty() || named.iter().any(|named| named == name));
    let mut failed = false;
    for (name, _) in chosen {
        say(&format!("\n{name}"));
        let mut part = Command::new(std::env::current_exe().expect("this program"));
        failed |= !part.args(&flags).env(PART, name).status().expect("it starts").success();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
