//! The run machine against a gate that is played: whatever happens, the promises of one run hold.
//!
//! Promises 7, 8, 11, 13 and 14, and that each call of a turn has one answer.

mod fixture;
mod player;
mod policy;
mod stories;

use player::{Player, Sheet, sheet};
use proptest::prelude::*;

/// Cases of each property; more by `PLIMSOLL_CASES`.
fn cases() -> u32 {
    std::env::var("PLIMSOLL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_run_keeps_its_promises_whatever_happens(sheet in sheet(), draws in prop::collection::vec(any::<u8>(), 40..400)) {
        let mut player = Player::new(sheet, draws);
        player.play();
        prop_assert!(player.faults.is_empty(), "{}\n{}", player.faults.join("\n"), player.show());
    }
}

#[test]
fn the_plays_meet_every_hard_case() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (sheet(), prop::collection::vec(any::<u8>(), 40..400));
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for _ in 0..2_400 {
        let (sheet, draws): (Sheet, Vec<u8>) = strategy.new_tree(&mut runner).expect("a case").current();
        let mut player = Player::new(sheet, draws);
        player.play();
        assert!(player.faults.is_empty(), "{}\n{}", player.faults.join("\n"), player.show());
        for (case, count) in player.met() {
            *seen.entry(case).or_default() += count;
        }
    }
    let rare: Vec<_> = seen.iter().filter(|(_, count)| **count < 8).collect();
    assert!(rare.is_empty(), "{rare:?} of {seen:?}");
}
