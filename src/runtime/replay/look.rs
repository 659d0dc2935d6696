//! What the core decided at one moment, and what of it was written since.

use crate::domain::event::{Event, Parked};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::run::{Intent, Next, Tree};
use crate::ids::RunId;
use crate::runtime::checks::Checks;
use crate::units::{Millis, Timestamp};

/// One look at a tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// The clock's reading.
    pub(super) now: Timestamp,
    pub(super) notes: Vec<(RunId, Event)>,
    pub(super) intents: Vec<(RunId, Intent)>,
    pub(super) parked: Option<Parked>,
}

impl Look {
    pub(super) fn at(tree: &Tree, now: Timestamp, checks: &Checks) -> Self {
        let look = Self { now, ..Self::default() };
        match tree.next(now, checks) {
            Next::Note(notes) => Self { notes, ..look },
            Next::Do(intents) => Self { intents, ..look },
            Next::Park(parked) => Self { parked: Some(parked), ..look },
            Next::Wait | Next::Ended => look,
        }
    }

    /// Takes a fact that was noted, if it is this one.
    pub(super) fn takes_note(&mut self, run: RunId, event: &Event) -> bool {
        let found = self.notes.iter().position(|(by, note)| *by == run && same(event, note));
        found.map(|index| self.notes.remove(index)).is_some()
    }
}

/// Whether a fact that is decided now is the recorded one, but for what the clock alone says.
pub(super) fn same(recorded: &Event, now: &Event) -> bool {
    if recorded == now {
        return true;
    }
    let mut now = now.clone();
    match (recorded, &mut now) {
        (Event::PersonAsked(recorded), Event::PersonAsked(now)) => {
            let (was, is) = (recorded.until.unwrap_or_default(), now.until.unwrap_or_default());
            let between = is.since(was).max(was.since(is));
            if between <= super::WRITE_TIME_MAX {
                now.until = recorded.until;
            }
        }
        (Event::LandingBegan(recorded), Event::LandingBegan(now)) => tell_time(&recorded.refusal, &mut now.refusal),
        (Event::StageEnded(recorded), Event::StageEnded(now)) => {
            tell_times(recorded.refusal.as_ref(), now.refusal.as_mut());
        }
        (Event::Ended(recorded), Event::Ended(now)) => tell_times(recorded.refusal.as_ref(), now.refusal.as_mut()),
        (Event::ChildEnded(recorded), Event::ChildEnded(now)) => {
            tell_times(recorded.end.refusal.as_ref(), now.end.refusal.as_mut());
        }
        (Event::CallRefused(recorded), Event::CallRefused(now)) => {
            use crate::domain::event::CallRefusal::Limit;
            if let (Limit { refusal: recorded }, Limit { refusal: now }) = (&recorded.why, &mut now.why) {
                tell_time(recorded, now);
            }
        }
        _ => return false,
    }
    *recorded == now
}

/// Whether a limit says the same no, but for the time that passed.
pub(super) fn same_refusal(recorded: &Refusal, now: &Refusal) -> bool {
    let mut now = now.clone();
    tell_time(recorded, &mut now);
    *recorded == now
}

fn tell_times(recorded: Option<&Refusal>, now: Option<&mut Refusal>) {
    if let (Some(recorded), Some(now)) = (recorded, now) {
        tell_time(recorded, now);
    }
}

/// What a limit of time observed is a reading of the clock.
fn tell_time(recorded: &Refusal, now: &mut Refusal) {
    if recorded.limit == now.limit && is_of_time(now.limit) {
        now.observed.clone_from(&recorded.observed);
    }
}

/// True for a limit whose no is a reading of the clock.
pub(super) const fn is_of_time(limit: LimitKind) -> bool {
    matches!(limit, LimitKind::WallTime | LimitKind::Deadline | LimitKind::Expires)
}

/// Whether a time limit is one that was decided at `now`, shortly before, or in the time that `passed` since the write
/// before: it only falls as time goes by.
pub(super) fn same_time_limit(recorded: Millis, now: Millis, passed: Millis) -> bool {
    recorded.left_after(now) <= passed && now.left_after(recorded) <= passed.plus(super::WRITE_TIME_MAX)
}
