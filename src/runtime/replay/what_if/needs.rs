//! How much higher `cost` had to be for the call that it stopped. A run that has more money counts less tightly and keeps
//! more back, so the amount isn't read off one telling: it is tried, until with it the call is made, and without a
//! pico-dollar of it isn't.

use super::again::again;
use super::change::Change;
use super::lines::known;
use super::live::Told;
use super::record::Record;
use super::verdict::{Verdict, verdict};
use crate::domain::event::Created;
use crate::domain::ledger::Short;
use crate::domain::limits::{LimitKind, Limits};
use crate::gate::Appraiser;
use crate::runtime::RuntimeError;
use crate::units::Money;

/// Raises that are tried.
const RAISES_MAX: u32 = 32;
/// Halvings of what is between too little and enough: more than any amount below a million dollars has.
const HALVINGS_MAX: u32 = 64;

pub(super) struct Trial<'a> {
    pub(super) record: &'a Record,
    pub(super) created: &'a Created,
    pub(super) desk: &'a Appraiser,
    pub(super) change: &'a Change,
}

/// How one cap came out.
struct Came {
    /// What the refusal says is missing, where the cap stopped it.
    short: Option<Money>,
    /// Recorded attempts that are made.
    made: usize,
}

impl Trial<'_> {
    /// How much more than `cap` lets the call be made at which it was `told` to be stopped; `None` where no amount does,
    /// or it is another's limit.
    pub(super) fn needs(&self, cap: Money, told: &Told) -> Result<Option<Money>, RuntimeError> {
        let Came { short: Some(short), made } = self.came(told) else { return Ok(None) };
        let (mut low, mut enough) = (cap, cap.plus(short));
        let mut found = false;
        for _ in 0..RAISES_MAX {
            match self.at(enough)? {
                Came { short: Some(short), made: now } if now <= made => {
                    (low, enough) = (enough, enough.plus(short.max(Money::from_pico(1))));
                }
                Came { .. } => {
                    found = true;
                    break;
                }
            }
        }
        if !found {
            return Ok(None);
        }
        let least = self.least(low, enough, made)?;
        Ok(least.checked_minus(cap))
    }

    /// The smallest amount that is enough, between one that isn't and one that is.
    fn least(&self, mut low: Money, mut enough: Money, made: usize) -> Result<Money, RuntimeError> {
        let mut next = enough.left_after(Money::from_pico(1));
        for _ in 0..HALVINGS_MAX {
            if next <= low {
                break;
            }
            let came = self.at(next)?;
            if came.short.is_some() && came.made <= made {
                low = next;
            } else {
                enough = next;
            }
            next = low.plus(enough.left_after(low).half());
        }
        Ok(enough)
    }

    fn at(&self, cost: Money) -> Result<Came, RuntimeError> {
        let limits = self.change.limits.as_ref().unwrap_or(&self.record.log.plan.limits);
        let limits = Some(Limits { cost, ..limits.clone() });
        let told = again(&self.record.log, self.created, self.desk, &Change { limits, ..self.change.clone() })?;
        Ok(self.came(&told))
    }

    fn came(&self, told: &Told) -> Came {
        let made = told.found.values().filter_map(known).count();
        let short = match verdict(self.record, told, &[]) {
            Verdict::Stopped(stop) if stop.run == self.record.log.root && stop.refusal.limit == LimitKind::Cost => {
                stop.refusal.subject.is_none().then(|| Short::needs_more(&stop.refusal)).flatten()
            }
            Verdict::Stopped(_)
            | Verdict::Same { .. }
            | Verdict::Failed { .. }
            | Verdict::GoesOn { .. }
            | Verdict::Unknown { .. } => None,
        };
        Came { short, made }
    }
}
