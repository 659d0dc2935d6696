//! Answers that are kept: bounded in number and bytes, each until its time is up. Those whose time is up first go first.
//!
//! Invariant: what is indexed here is what the table holds after the group's commit. Deliberately absent: which answers are
//! worth keeping; that is said by the facts.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::{AnswerKey, KEPT_BYTES_MAX, KeptAnswer, Outcome, Settled};
use crate::store::engine::{Batch, View};
use crate::store::error::StoreError;
use crate::store::keys::{self, Table};
use crate::store::{codec, read};
use crate::units::Timestamp;

/// The most answers that are kept.
pub const ANSWERS_MAX: usize = 4_096;
/// The most bytes that they take together, as stored.
pub const ANSWERS_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
/// The most answers whose time is up that one group takes out.
const SWEPT_MAX: usize = 64;

/// Where kept answers lie.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Until when each is given, and its size as stored.
    known: BTreeMap<AnswerKey, (Timestamp, u64)>,
    by_end: BTreeSet<(Timestamp, AnswerKey)>,
    bytes: u64,
    /// Put by this group.
    new: BTreeMap<AnswerKey, Vec<u8>>,
    /// Taken out by this group.
    gone: BTreeSet<AnswerKey>,
}

impl Answers {
    /// Reads what is there. What can't be read is nobody's loss: it is taken out.
    pub(crate) fn load(view: &dyn View) -> Result<Self, StoreError> {
        let mut answers = Self::default();
        for (place, record) in read::all(view, Table::Answer.span())? {
            let Some(key) = keys::answer_of(&place) else { continue };
            match codec::open_json::<KeptAnswer>(&place, &record) {
                Ok(kept) => answers.index(key, kept.until, record.len()),
                Err(_) => drop(answers.gone.insert(key)),
            }
        }
        Ok(answers)
    }

    /// Takes in an answer that a fact says is kept.
    pub(crate) fn keep(&mut self, at: Timestamp, settled: &Settled) -> Result<(), StoreError> {
        let (Some(kept), Outcome::Reply { message, response_model, .. }) = (settled.cache.kept, &settled.outcome)
        else {
            return Ok(());
        };
        if message.text.len() > KEPT_BYTES_MAX {
            return Ok(());
        }
        let answer = KeptAnswer {
            until: kept.until,
            at,
            from: settled.reservation,
            cost: settled.bill,
            text: message.text.clone(),
            response_model: response_model.clone(),
        };
        let record = codec::seal_json(&keys::answer(&kept.key), &answer)?;
        self.forget(kept.key);
        self.index(kept.key, kept.until, record.len());
        self.gone.remove(&kept.key);
        self.new.insert(kept.key, record);
        self.sweep(at);
        Ok(())
    }

    /// What the group changed.
    pub(crate) fn write(&mut self, batch: &mut Batch) {
        std::mem::take(&mut self.gone).iter().for_each(|key| batch.delete(keys::answer(key)));
        for (key, record) in std::mem::take(&mut self.new) {
            batch.put(keys::answer(&key), record);
        }
    }

    fn index(&mut self, key: AnswerKey, until: Timestamp, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.known.insert(key, (until, bytes));
        self.by_end.insert((until, key));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Takes one out; false where none is kept so.
    pub(crate) fn forget(&mut self, key: AnswerKey) -> bool {
        let Some((until, bytes)) = self.known.remove(&key) else { return false };
        self.by_end.remove(&(until, key));
        self.bytes = self.bytes.saturating_sub(bytes);
        self.new.remove(&key);
        self.gone.insert(key);
        true
    }

    /// Takes out some whose time is up, and as many as there are too many.
    fn sweep(&mut self, now: Timestamp) {
        let mut swept = 0;
        while let Some((until, key)) = self.by_end.first().copied() {
            let is_over = until <= now && swept < SWEPT_MAX;
            let is_full = self.known.len() > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX;
            if !is_over && !is_full {
                break;
            }
            self.forget(key);
            swept += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{CacheFacts, CostSource, KeptAs};
    use crate::domain::message::{Assistant, StopReason};
    use crate::domain::pricing::Factors;
    use crate::ids::{ReservationId, RunId};
    use crate::units::{Millis, Money};

    fn settled(number: u32, until: u64, bytes: usize) -> Settled {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let kept = Some(KeptAs { key: AnswerKey(key), until: Timestamp(until) });
        let message = Assistant { text: "x".repeat(bytes), ..Assistant::default() };
        Settled {
            reservation: ReservationId { run: RunId::from_bits(1), number },
            bill: Money::from_micro(7),
            source: CostSource::Reported,
            usage: None,
            mismatch: None,
            charged: None,
            raw_usage: None,
            latency: Millis(1),
            first_token: None,
            outcome: Outcome::Reply {
                message,
                stop: StopReason::End,
                response_model: None,
                service_tier: None,
                factors: Factors::NONE,
                request_id: None,
                response_id: None,
            },
            cache: CacheFacts { kept, ..CacheFacts::default() },
        }
    }

    #[test]
    fn answers_are_bounded_in_number_and_those_that_end_first_go_first() {
        let mut answers = Answers::default();
        for number in 0..5_000_u32 {
            answers.keep(Timestamp(0), &settled(number, 1_000_000 + u64::from(number), 10)).expect("kept");
        }
        assert_eq!(answers.known.len(), ANSWERS_MAX);
        assert_eq!(answers.by_end.first().map(|(until, _)| until.0), Some(1_000_000 + 5_000 - 4_096));
        assert_eq!(answers.new.len(), ANSWERS_MAX, "what came and went in one group is never written");
    }

    #[test]
    fn answers_are_bounded_in_bytes_and_a_long_one_is_not_kept() {
        let mut answers = Answers::default();
        for number in 0..400_u32 {
            answers.keep(Timestamp(0), &settled(number, 1_000, KEPT_BYTES_MAX)).expect("kept");
        }
        assert!(answers.bytes <= ANSWERS_BYTES_MAX && answers.known.len() > 200, "{}", answers.known.len());
        let before = answers.known.len();
        answers.keep(Timestamp(0), &settled(9_999, 1_000, KEPT_BYTES_MAX + 1)).expect("left out");
        assert_eq!(answers.known.len(), before);
    }

    #[test]
    fn what_is_over_is_swept_and_a_newer_answer_takes_the_place_of_the_older() {
        let mut answers = Answers::default();
        answers.keep(Timestamp(0), &settled(1, 10, 5)).expect("kept");
        answers.keep(Timestamp(0), &settled(1, 20, 50)).expect("kept again");
        let (until, bytes) = *answers.known.values().next().expect("one");
        assert_eq!((answers.known.len(), until, answers.bytes), (1, Timestamp(20), bytes));
        answers.write(&mut Batch::default());
        answers.keep(Timestamp(20), &settled(2, 40, 5)).expect("kept");
        assert_eq!((answers.known.len(), answers.gone.len()), (1, 1), "the first one's time was up");
    }
}
