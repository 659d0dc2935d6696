//! How many reservations a second can runs get that share one budget?
//!
//! Input: 256 runs, each its own task, under one budget; each op settles the run's last call and asks for the next one.
//! `roomy`: the cap is never met. `tight`: it has room for 128 of the 256 calls, so about half of the asks are refused.
//! Unit: judged reservations per second, and CPU per reservation. Floor: the ledger alone, without a store, on one thread.

use crate::facts;
use std::sync::Arc;

use plimsoll::clock::Clock;
use plimsoll::domain::budget::Budget;
use plimsoll::domain::event::Event;
use plimsoll::domain::ledger::{Ledger, LedgerPolicy, Op, Snapshot, Verdict};
use plimsoll::ids::RunId;
use plimsoll::store::Store;
use plimsoll::store::memory::MemoryDisk;
use plimsoll::units::Money;
use tokio::task::JoinSet;

use crate::cpu::cpu_micros;
use crate::measure::{is_whole, micros_since, now, percentile, say, spread};

/// Runs that share the budget.
const RUNS: u32 = 256;
/// Rounds of each.
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    let (asks, rounds) = if is_whole() { (100, ROUNDS) } else { (2, 1) };
    say("| | store | reservations/s | granted | CPU µs each | p50 µs | p99 µs |");
    say("|---|---|---:|---:|---:|---:|---:|");
    for (name, budget) in [("roomy", roomy()), ("tight", tight())] {
        let floor: Vec<Round> = (0..rounds).map(|_| alone(&budget, asks)).collect();
        report(name, "none: the ledger alone", &floor);
        for on_disk in [false, true] {
            let whole: Vec<Round> = (0..rounds).map(|_| stored(&budget, asks, on_disk)).collect();
            report(name, if on_disk { "sled" } else { "memory" }, &whole);
        }
    }
}

fn roomy() -> Budget {
    facts::budgets(1).remove(0)
}

/// Room for every landing reserve, and for half of the calls.
fn tight() -> Budget {
    let calls = u64::from(RUNS) / 2 * 5_000;
    facts::budget("tight", Money::from_micro(u64::from(RUNS) * 900 + calls))
}

struct Round {
    judged: u64,
    granted: u64,
    wall: u64,
    cpu: u64,
    waits: Vec<u64>,
}

fn report(name: &str, store: &str, rounds: &[Round]) {
    let each = |value: &dyn Fn(&Round) -> u64| spread(rounds.iter().map(value).collect());
    say(&format!(
        "| {name} | {store} | {} | {} % | {} | {} | {} |",
        each(&|round| round.judged * 1_000_000 / round.wall.max(1)),
        each(&|round| round.granted * 100 / round.judged.max(1)),
        each(&|round| round.cpu / round.judged.max(1)),
        each(&|round| percentile(&round.waits, 50)),
        each(&|round| percentile(&round.waits, 99)),
    ));
}

/// One run's asks: a refused one is asked again, with nothing left to settle.
struct Asker {
    run: RunId,
    number: u32,
    holds: bool,
}

impl Asker {
    fn op(&mut self) -> Op {
        self.number += 1;
        let mut op = facts::step(self.run, self.number);
        if !self.holds {
            op.events.clear();
        }
        // Bills are small, and the cap must not fill up while the bench runs.
        for (_, event) in &mut op.events {
            if let Event::Settled(settled) = event {
                settled.bill = Money::ZERO;
            }
        }
        op
    }

    fn take(&mut self, verdicts: &[Verdict]) -> bool {
        self.holds = matches!(verdicts, [Verdict::Granted(_) | Verdict::Admitted(_)]);
        self.holds
    }
}

/// Admits a run with its landing reserve only, so that all of them fit.
fn start(run: RunId) -> Op {
    let mut op = facts::start(run);
    for ask in &mut op.asks {
        if let plimsoll::domain::ledger::Ask::Admit(admit) = ask {
            admit.first = None;
            admit.bound = Money::ZERO;
        }
    }
    for (_, event) in &mut op.events {
        if let Event::Created(created) = event {
            created.expected = Some(Money::ZERO);
        }
    }
    op
}

fn alone(budget: &Budget, asks: u32) -> Round {
    let policy = LedgerPolicy { budgets: vec![budget.clone()], alerts: Vec::new() };
    let mut ledger = Ledger::restore(policy, Snapshot::default());
    let mut askers: Vec<Asker> =
        (0..RUNS).map(|number| Asker { run: facts::run(number), number: 0, holds: false }).collect();
    for asker in &askers {
        let decision = ledger.decide(start(asker.run), facts::START);
        assert!(matches!(decision.verdicts.as_slice(), [Verdict::Admitted(None)]), "{:?}", decision.verdicts);
    }
    let (begun, before, mut granted) = (now(), cpu_micros("self"), 0);
    for _ in 0..asks {
        for asker in &mut askers {
            let decision = ledger.decide(asker.op(), facts::START);
            ledger.take_dirty();
            granted += u64::from(asker.take(&decision.verdicts));
        }
    }
    let (wall, cpu) = (micros_since(begun), cpu_micros("self") - before);
    Round { judged: u64::from(RUNS) * u64::from(asks), granted, wall, cpu, waits: vec![] }
}

fn stored(budget: &Budget, asks: u32, on_disk: bool) -> Round {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let policy = LedgerPolicy { budgets: vec![budget.clone()], alerts: Vec::new() };
    let clock = Clock::virtual_at(facts::START);
    let store = if on_disk {
        Store::open(&folder.path().join("store"), policy, clock)
    } else {
        Store::open_memory(&MemoryDisk::default(), policy, clock)
    };
    let store = Arc::new(store.expect("it opens"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        each_run(&store, 0).await;
        let (begun, before) = (now(), cpu_micros("self"));
        let ended = each_run(&store, asks).await;
        let (wall, cpu) = (micros_since(begun), cpu_micros("self") - before);
        let (granted, mut waits): (Vec<u64>, Vec<Vec<u64>>) = ended.into_iter().unzip();
        let mut waits: Vec<u64> = waits.drain(..).flatten().collect();
        waits.sort_unstable();
        Round { judged: u64::from(RUNS) * u64::from(asks), granted: granted.iter().sum(), wall, cpu, waits }
    })
}

/// Starts every run, or lets each ask so many times; gives how often it was granted, and how long each ask took.
async fn each_run(store: &Arc<Store>, asks: u32) -> Vec<(u64, Vec<u64>)> {
    let mut tasks = JoinSet::new();
    for number in 0..RUNS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut asker = Asker { run: facts::run(number), number: 0, holds: false };
            if asks == 0 {
                let committed = store.submit(start(asker.run)).await.expect("it commits");
                assert!(matches!(committed.verdicts.as_slice(), [Verdict::Admitted(None)]));
            }
            let (mut granted, mut waits) = (0, Vec::new());
            for _ in 0..asks {
                let begun = now();
                let committed = store.submit(asker.op()).await.expect("it commits");
                waits.push(micros_since(begun));
                granted += u64::from(asker.take(&committed.verdicts));
            }
            (granted, waits)
        });
    }
    tasks.join_all().await
}
