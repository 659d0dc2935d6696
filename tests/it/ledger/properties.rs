//! Whatever the order of commands: the judge finds nothing, everything ends, and the same commands give the same events.

use plimsoll::domain::event::{AccountKey, Event, WaitEnd};
use plimsoll::domain::ledger::{Ledger, LedgerPolicy, Op, Snapshot};
use plimsoll::ids::RunId;
use plimsoll::units::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::judge::{Judge, waits_ended};
use super::subject::Honest;
use super::world::{Command, Kind, World, budgets};

/// Commands of one sequence.
const COMMANDS_MAX: usize = 160;

/// The caps and the commands of one sequence.
pub(super) type Script = ([u8; 3], Vec<Command>);

pub(super) fn scripts() -> impl Strategy<Value = Script> {
    let kind = prop_oneof![
        10 => Just(Kind::Start),
        30 => Just(Kind::Reserve),
        30 => Just(Kind::Settle),
        9 => Just(Kind::Child),
        3 => Just(Kind::EndChild),
        3 => Just(Kind::Expire),
        3 => Just(Kind::Land),
        3 => Just(Kind::Finish),
        2 => Just(Kind::Cancel),
        2 => Just(Kind::Ask),
        4 => Just(Kind::Park),
        4 => Just(Kind::Resume),
        1 => Just(Kind::Crash),
        5 => Just(Kind::Advance),
        1 => Just(Kind::StepBack),
        5 => Just(Kind::SetCap),
        2 => Just(Kind::Repeat),
        2 => Just(Kind::Unfreeze),
    ];
    scripts_of(kind.boxed())
}

/// Scripts in which people order too: exceptions and switches.
fn ordered_scripts() -> impl Strategy<Value = Script> {
    let kind = prop_oneof![
        10 => Just(Kind::Start),
        30 => Just(Kind::Reserve),
        30 => Just(Kind::Settle),
        9 => Just(Kind::Child),
        3 => Just(Kind::Park),
        8 => Just(Kind::Resume),
        1 => Just(Kind::Crash),
        3 => Just(Kind::Advance),
        3 => Just(Kind::SetCap),
        4 => Just(Kind::Grant),
        4 => Just(Kind::Switch),
    ];
    scripts_of(kind.boxed())
}

fn scripts_of(kind: BoxedStrategy<Kind>) -> impl Strategy<Value = Script> {
    let command = (kind, any::<u8>(), any::<u8>(), any::<u8>());
    let command = command.prop_map(|(kind, pick, size, luck)| Command { kind, pick, size, luck });
    let start = any::<[u8; 3]>().prop_map(|[pick, size, luck]| Command { kind: Kind::Start, pick, size, luck });
    let (starts, rest) = (prop::collection::vec(start, 1..8), prop::collection::vec(command, 1..COMMANDS_MAX));
    let commands = (starts, rest).prop_map(|(starts, rest)| starts.into_iter().chain(rest).collect());
    (any::<[u8; 3]>(), commands)
}

/// The script of a seed, always the same.
pub(super) fn script(seed: u64) -> Script {
    of_seed(seed, scripts())
}

/// The same, with orders in it.
pub(super) fn ordered_script(seed: u64) -> Script {
    of_seed(seed, ordered_scripts())
}

fn of_seed(seed: u64, scripts: impl Strategy<Value = Script>) -> Script {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    scripts.new_tree(&mut runner).expect("a script").current()
}

pub(super) fn cases() -> u32 {
    std::env::var("PLIMSOLL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256)
}

fn played((caps, commands): &Script) -> Judge {
    let mut world = World::new(Honest::new(LedgerPolicy::default()), budgets(*caps));
    world.play(commands);
    world.judge
}

/// The accounts that a fresh ledger comes to, from nothing but the events (promise 11).
fn folded(events: &[(Timestamp, RunId, Event)]) -> Ledger {
    let mut ledger = Ledger::restore(LedgerPolicy::default(), Snapshot::default());
    for (at, run, event) in events {
        let op = Op { run: *run, events: vec![(*run, event.clone())], asks: Vec::new(), plan: None };
        ledger.decide(op, *at);
    }
    ledger
}

#[test]
fn the_judge_finds_nothing_whatever_the_order() {
    let config = Config { cases: cases(), failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let result = TestRunner::new(config).run(&scripts(), |script| {
        let judge = played(&script);
        prop_assert!(judge.faults.is_empty(), "{:#?}", judge.faults);
        let again = played(&script);
        prop_assert_eq!(&judge.events, &again.events, "promise 11: the same commands gave other events");
        let ledger = folded(&judge.events);
        for (key, sums) in judge.books() {
            let account = ledger.account(key).copied().unwrap_or_default();
            let same = (account.settled, account.unknown, account.held) == (sums.settled, sums.unknown, sums.held);
            prop_assert!(same, "promise 11: {} folds to {:?}, not to {:?}", key, account, sums);
        }
        Ok(())
    });
    assert!(result.is_ok(), "{}", result.expect_err("a failure"));
}

/// Exceptions raise what admission sees and no more, their end makes nothing illegal, and no call passes a switch.
#[test]
fn the_judge_finds_nothing_whatever_people_order() {
    let mut rested = 0;
    for seed in 0..u64::from(cases() / 2) {
        let script = ordered_script(seed);
        let judge = played(&script);
        assert!(judge.faults.is_empty(), "seed {seed}: {:#?}", judge.faults);
        assert_eq!(judge.events, played(&script).events, "seed {seed}: promise 11");
        let held = |event: &Event| matches!(event, Event::Interrupted(interrupted) if interrupted.clean);
        rested += judge.events.iter().filter(|(_, _, event)| held(event)).count();
    }
    assert!(rested > 20, "{rested} runs were held");
}

/// A property that never meets the hard cases proves nothing.
#[test]
fn the_scripts_meet_every_hard_case() {
    let (mut waits, mut children, mut stalls, mut landings, mut moved) = (0, 0, 0, 0, 0);
    let (mut below, mut parked, mut stages) = (0, 0, 0);
    for seed in 0..160 {
        let judge = played(&script(seed));
        assert!(judge.faults.is_empty(), "seed {seed}: {:#?}", judge.faults);
        waits += waits_ended(&judge.events, WaitEnd::Granted);
        stalls += waits_ended(&judge.events, WaitEnd::Stalled);
        let count = |what: fn(&Event) -> bool| judge.events.iter().filter(|(_, _, event)| what(event)).count();
        landings += count(|event| matches!(event, Event::LandingBegan(_)));
        children += count(|event| matches!(event, Event::Created(created) if created.parent.is_some()));
        moved += count(|event| matches!(event, Event::Reserved(reserved) if reserved.budgets.is_some()));
        below += count(|event| matches!(event, Event::PeriodMoved(_)));
        parked += count(|event| matches!(event, Event::Parked(_)));
        let settled = judge.books().iter().filter(|(_, sums)| !sums.settled.is_zero());
        stages += settled.filter(|(key, _)| matches!(key, AccountKey::Node { stage: Some(_), .. })).count();
        let budgets = judge.books().keys().filter(|key| matches!(key, AccountKey::Budget { .. })).count();
        assert!(budgets < 200, "seed {seed}: periods open without end");
    }
    let least = [waits, stalls, landings, children, moved, parked, stages].into_iter().min();
    let trees = format!("children {children} moved {moved} below {below} parked {parked} stages {stages}");
    assert!(least > Some(12) && below > 4, "waits {waits} stalls {stalls} landings {landings} {trees}");
}
