//! The same command again: after a kill, after Ctrl-C, for another tenant.

use std::collections::BTreeMap;

use plimsoll::units::Millis;
use serde_json::Value;

use super::yard::{Told, Yard};
use crate::fan_out::{TOKENS, recipe, short};
use crate::kill::process::{End, TALK};
use crate::world::Recipe;

const LINES: u64 = 40;
/// Commands until the last one must have come to the end.
const COMMANDS_MAX: usize = 20;

fn ample() -> Recipe {
    recipe(short(TOKENS, Some(256)), "$100", None, "latency = '8ms'\nchunk_latency = '1ms'")
}

/// Takes what one command told into what those before it did; no line is told twice.
fn gather(all: &mut BTreeMap<u64, Value>, told: &Told) {
    for (line, document) in told.by_line() {
        let twice = all.insert(line, document.clone());
        assert!(twice.is_none(), "line {line} is told by two commands: {twice:?}");
    }
}

#[test]
fn killed_again_and_again_the_same_command_ends_with_each_line_run_once() {
    let yard = Yard::new(&ample()).lines(LINES);
    let mut told = BTreeMap::new();
    let mut kills = 0;
    for command in 0..COMMANDS_MAX {
        let mut ship = yard.start(8, &[], None);
        // At the first result, after some more, at some instant, in the middle of a commit; then to the end.
        match command {
            0 => assert!(ship.hear(|line| !line.starts_with(TALK))),
            1 => ship.sail(Millis(90)),
            2 => assert!((0..4).all(|_| ship.hear(|line| !line.starts_with(TALK)))),
            _ => {}
        }
        if command < 3 {
            ship.sink();
        }
        let ended = Told::of(ship);
        gather(&mut told, &ended);
        match ended.end {
            End::Signal(9) => kills += 1,
            End::Exit(0) => break,
            End::Exit(_) | End::Signal(_) => panic!("{:?}: {:?}", ended.end, ended.talk),
        }
    }
    assert_eq!(kills, 3);
    // A line that ended at the moment of a kill may not have been told: it is told when asked for, as it was.
    let whole = yard.each(8, &["--with-ended"]);
    whole.covers(LINES);
    assert_eq!(whole.end, End::Exit(0), "{:?}", whole.talk);
    let lines = whole.by_line();
    assert!(told.iter().all(|(line, document)| lines[line] == document), "what was told stands");
    let untold = lines.len() - told.len();
    assert!(untold <= kills * 8, "{untold} lines were never told");
    let books = yard.books();
    books.agree();
    assert_eq!(u64::try_from(books.logs.len()), Ok(LINES), "no line has two runs");
}

#[test]
fn a_line_that_ended_before_it_was_told_is_told_when_asked_for() {
    let yard = Yard::new(&ample()).lines(1);
    let mut untold = 0;
    for commit in 1..=COMMANDS_MAX {
        // Each commit in turn is the last thing that a process does; one of them is the run's end.
        let label = format!("commit={commit}");
        let killed = Told::of(yard.start(1, &["--label", &label], Some(&format!("store.committed:{commit}"))));
        if killed.end == End::Exit(0) {
            break;
        }
        let next = yard.each(1, &["--label", &label]);
        assert_eq!((killed.end, next.end), (End::Signal(6), End::Exit(0)), "{:?}", next.talk);
        if next.documents.is_empty() && killed.documents.is_empty() {
            untold += 1;
            yard.each(1, &["--label", &label, "--with-ended"]).covers(1);
        }
    }
    assert!(untold > 0, "no kill struck between the end and its telling");
    yard.books().agree();
}

#[test]
fn stopped_by_ctrl_c_the_same_command_tells_the_other_lines() {
    let yard = Yard::new(&ample()).lines(LINES);
    let mut ship = yard.start(8, &[], None);
    assert!(ship.hear(|line| !line.starts_with(TALK)));
    ship.interrupt();
    let first = Told::of(ship);
    assert_eq!(first.end, End::Exit(130), "{:?}", first.talk);
    assert!(first.talk.last().is_some_and(|line| line.contains("the same command goes on")), "{:?}", first.talk);
    assert!(first.documents.iter().all(|document| document["state"] == "finished"), "what goes on later is told later");
    let second = yard.each(8, &[]);
    assert_eq!(second.end, End::Exit(0), "{:?}", second.talk);
    let mut told = BTreeMap::new();
    gather(&mut told, &first);
    gather(&mut told, &second);
    assert_eq!(u64::try_from(told.len()), Ok(LINES), "both together tell each line");
    let books = yard.books();
    books.agree();
    assert_eq!(u64::try_from(books.logs.len()), Ok(LINES), "no line has two runs");
}
