//! Commits that fail, power that goes, bytes that rot.

use plimsoll::domain::event::{Event, RunState};
use plimsoll::store::memory::{Crash, Failpoint};
use plimsoll::store::{StoreError, keys};

use super::facts::*;

#[test]
fn a_failed_commit_poisons_the_store() {
    for point in [Failpoint::Write, Failpoint::Sync] {
        let Bed::Memory(disk) = Bed::memory() else { continue };
        let bed = Bed::Memory(disk.clone());
        let store = bed.open(&clock());
        let run = run_at(0, 1);
        block_on(async {
            submit(&store, run, vec![created("a", &[], None)]).await;
            disk.fail_after(0, point);
            let failed = store.submit(op(run, vec![admitted(run)])).await;
            assert!(matches!(failed, Err(StoreError::Poisoned { .. })), "{failed:?}");
            let next = store.submit(op(run_at(0, 2), vec![created("a", &[], None)])).await;
            assert!(matches!(next, Err(StoreError::Poisoned { .. })), "{next:?}");
            let message = next.expect_err("it is poisoned").to_string();
            assert!(message.contains("a failure that the test asked for"), "{message}");
        });
        assert!(matches!(store.summary(run), Err(StoreError::Poisoned { .. })));
    }
}

/// Whatever a crash leaves of a commit that nobody was told of, what was acknowledged is there, and the rest is whole.
#[test]
fn after_a_crash_what_was_acknowledged_is_there_and_nothing_is_half() {
    let seeds = count("PLIMSOLL_TEST_CRASHES", 60);
    for seed in 0..seeds {
        let Bed::Memory(disk) = Bed::memory() else { continue };
        let bed = Bed::Memory(disk.clone());
        let clock = clock();
        let mut dice = Dice(seed);
        let mut acknowledged = Vec::new();
        let store = bed.open(&clock);
        disk.fail_after(dice.roll(12), Failpoint::Sync);
        block_on(async {
            for number in 0..4 {
                let run = run_at(0, number);
                let ops = [
                    vec![created("a", &[], None), admitted(run)],
                    vec![reserved(run, 1, 1, 1, 5_000)],
                    vec![settled(run, 1, 40, "x"), released(run), ended()],
                ];
                for events in ops {
                    if let Ok(committed) = store.submit(op(run, events)).await {
                        acknowledged.extend(committed.events);
                    }
                }
            }
        });
        let crash = [Crash::Lose, Crash::Keep, Crash::Tear(seed)][usize::try_from(dice.roll(3)).expect("small")];
        disk.crash(crash);
        assert!(store.submit_is_refused(), "an engine of before the crash is dead");
        drop(store);
        let store = bed.open(&clock);
        for (run, recorded) in &acknowledged {
            let log = store.events(*run).expect("it reads");
            assert_eq!(
                log.get(usize::try_from(recorded.seq).expect("small")),
                Some(recorded),
                "seed {seed}, {crash:?}"
            );
            assert_no_gap(&log);
        }
        store.verify().unwrap_or_else(|error| panic!("seed {seed}, {crash:?}: {error}"));
    }
}

trait Refused {
    fn submit_is_refused(&self) -> bool;
}

impl Refused for plimsoll::store::Store {
    fn submit_is_refused(&self) -> bool {
        block_on(self.submit(op(run_at(9, 9), vec![created("a", &[], None)]))).is_err()
    }
}

#[test]
fn a_damaged_record_is_named_and_refused() {
    let Bed::Memory(disk) = Bed::memory() else { return };
    let bed = Bed::Memory(disk.clone());
    let run = run_at(0, 1);
    let store = bed.open(&clock());
    block_on(submit(&store, run, vec![created("a", &[], None), admitted(run)]));
    drop(store);
    disk.tamper(|map| {
        let (_, record) = map.iter_mut().find(|(key, _)| key[0] == keys::Table::Event.byte()).expect("an event");
        let middle = record.len() / 2;
        record[middle] ^= 1;
    });
    let error = bed.try_open(&clock()).expect_err("it is damaged").to_string();
    assert!(error.contains(&format!("the events from 0 of run {run}")) && error.contains("checksum"), "{error}");
}

#[test]
fn a_missing_event_is_found_at_the_open() {
    let Bed::Memory(disk) = Bed::memory() else { return };
    let bed = Bed::Memory(disk.clone());
    let run = run_at(0, 1);
    let store = bed.open(&clock());
    block_on(async {
        submit(&store, run, vec![created("a", &[], None)]).await;
        submit(&store, run, vec![admitted(run)]).await;
        submit(&store, run, vec![reserved(run, 1, 1, 1, 10)]).await;
    });
    drop(store);
    disk.tamper(|map| {
        let second = map.keys().filter(|key| key[0] == keys::Table::Event.byte()).nth(1).cloned().expect("three");
        map.remove(&second);
    });
    let error = bed.try_open(&clock()).expect_err("one is missing").to_string();
    assert!(error.contains(&format!("after 1 events of run {run} come the events from 2")), "{error}");
}

#[test]
fn an_account_that_does_not_hold_its_reservations_is_found_at_the_open() {
    let Bed::Memory(disk) = Bed::memory() else { return };
    let bed = Bed::Memory(disk.clone());
    let run = run_at(0, 1);
    let store = bed.open(&clock());
    block_on(submit(&store, run, vec![created("a", &[], None), admitted(run), reserved(run, 1, 1, 1, 10)]));
    drop(store);
    disk.tamper(|map| map.retain(|key, _| key[0] != keys::Table::Money.byte()));
    let error = bed.try_open(&clock()).expect_err("a reservation is missing").to_string();
    assert!(error.contains("its open reservations are $0.00"), "{error}");
}

/// sled's own file is overwritten here and there. What was in use gives an error; what wasn't does no harm. Never is
/// the rest of the log silently taken for the whole.
#[test]
fn a_damaged_file_gives_an_error_or_does_no_harm() {
    for place in 1..count("PLIMSOLL_TEST_DAMAGES", 8) {
        let bed = Bed::sled();
        let store = bed.open(&clock());
        block_on(async {
            for number in 0..50 {
                finish(&store, run_at(number, 1), "a", &[], None).await;
            }
        });
        let whole = store.verify().expect("all fits");
        drop(store);
        damage(&bed.folder().expect("a folder").join("sled").join("db"), place);
        match bed.try_open(&clock()).and_then(|store| store.verify()) {
            Ok(verified) => assert_eq!(verified, whole, "place {place}"),
            Err(error) => assert!(error.to_string().contains("is damaged: "), "place {place}: {error}"),
        }
    }
}

/// sled overwrites what lies behind damage; what it overwrote is kept, or it never came to that.
#[test]
fn what_lies_behind_the_damage_is_kept() {
    for (name, whole) in [("where the last writes begin", true), ("a header", false), ("in the midst", false)] {
        let bed = Bed::sled();
        let folder = bed.folder().expect("a folder").join("sled");
        let file = folder.join("db");
        let store = bed.open(&clock());
        for number in 0..200 {
            block_on(finish(&store, run_at(number, 1), "a", &[], None));
            let (begin, used) = last_segment(&std::fs::read(&file).expect("it reads"));
            if begin > 0 && (100_000..400_000).contains(&(used - begin)) {
                break;
            }
        }
        drop(store);
        let mut bytes = std::fs::read(&file).expect("it reads");
        let (begin, used) = last_segment(&bytes);
        let at = if whole { begin - SEGMENT } else { begin + if name == "a header" { 0 } else { 50_000 } };
        assert!(at + 512 < used, "{name}: there is something behind {at}, up to {used}");
        bytes[at..at + 512].fill(0xa5);
        std::fs::write(&file, &bytes).expect("it writes");
        let error = bed.try_open(&clock()).expect_err("it is damaged").to_string();
        if whole {
            assert!(std::fs::read(&file).expect("it reads") == bytes, "{name}: nothing was written: {error}");
        } else {
            assert!(error.contains("is kept in `"), "{name}: {error}");
            let kept = folder.join("behind-the-damage").join(format!("db-{begin:012}"));
            let kept = std::fs::read(kept).expect("it is kept");
            assert!(bytes[begin..].starts_with(&kept), "{name}: as it was before");
            assert!(kept.len() > used - begin, "{name}: with what lay behind the damage");
        }
        let again = bed.try_open(&clock()).expect_err("it stays damaged").to_string();
        assert!(again.contains("is damaged: "), "{name}: {again}");
    }
}

/// Where sled's last segment begins, and where its bytes end.
fn last_segment(bytes: &[u8]) -> (usize, usize) {
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    (used / SEGMENT * SEGMENT, used)
}

/// sled's segment.
const SEGMENT: usize = 512 * 1024;

fn damage(file: &std::path::Path, place: u64) {
    let mut bytes = std::fs::read(file).expect("it reads");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    let at = used / 10 * usize::try_from(place % 10).expect("small");
    bytes[at..at + 512].fill(0xa5);
    std::fs::write(file, &bytes).expect("it writes");
    let folder = std::fs::read_dir(file.parent().expect("a folder")).expect("it reads");
    for entry in folder.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("snap")) {
        std::fs::remove_file(entry.path()).expect("it goes");
    }
}

#[test]
fn a_run_that_is_created_twice_or_was_never_created_stops_the_store() {
    for events in [vec![created("a", &[], None), created("a", &[], None)], vec![admitted(run_at(0, 1))]] {
        let store = Bed::memory().open(&clock());
        let failed = block_on(store.submit(op(run_at(0, 1), events)));
        assert!(matches!(failed, Err(StoreError::Poisoned { .. })), "{failed:?}");
    }
}

#[test]
fn what_is_not_acknowledged_is_not_shown() {
    let Bed::Memory(disk) = Bed::memory() else { return };
    let store = Bed::Memory(disk.clone()).open(&clock());
    let run = run_at(0, 1);
    block_on(submit(&store, run, vec![created("a", &[], None)]));
    let before = disk.commits();
    block_on(submit(&store, run, vec![admitted(run)]));
    assert_eq!(disk.commits(), before + 1, "one write for one op");
    let log = store.events(run).expect("it reads");
    assert!(matches!(log.last().map(|recorded| &recorded.event), Some(Event::Admitted(_))));
    assert_eq!(store.summary(run).expect("it reads").expect("it is there").state, RunState::Running);
}
