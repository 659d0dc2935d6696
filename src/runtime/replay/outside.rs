//! What came from outside: it is data, and must fit what it answers. Bills are priced again.

use super::Player;
use crate::domain::event::{CostSource, Decision, Event, Outcome, PersonAnswered, Recorded, Reserved, Settled};
use crate::domain::pricing::{During, Served};
use crate::domain::run::NOBODY;
use crate::ids::RunId;
use crate::runtime::settle::{Told, bill};
use crate::units::{Money, Timestamp};

/// True where nobody answered in time, which follows from the clock.
pub(super) fn is_too_late(answered: &PersonAnswered) -> bool {
    answered.by == NOBODY && answered.decision == Decision::Expired
}

impl Player<'_> {
    /// Whether a fact from outside fits; else what is known instead.
    pub(super) fn check_outside(&self, run: RunId, recorded: &Recorded) -> Result<(), String> {
        if let Event::Settled(settled) = &recorded.event {
            return self.check_bill(settled, recorded.at);
        }
        if let Event::Voided(voided) = &recorded.event
            && !self.open.contains_key(&voided.reservation)
        {
            return Err(format!("reservation {} isn't open", voided.reservation));
        }
        if let Event::LandingReleased(released) = &recorded.event {
            let kept = self.tree.run(run).and_then(|run| run.landing.as_ref());
            let kept = kept.ok_or("no landing reserve is held")?;
            if kept.reservation != released.reservation {
                return Err(format!("the landing reserve is {}", kept.reservation));
            }
        }
        Ok(())
    }

    fn check_bill(&self, settled: &Settled, at: Timestamp) -> Result<(), String> {
        let Some(reserved) = self.open.get(&settled.reservation) else {
            return Err(format!("reservation {} isn't open", settled.reservation));
        };
        let (cost, source) = self.bill(reserved, settled, at);
        if (cost, source) == (settled.bill, settled.source) {
            return Ok(());
        }
        Err(format!("a bill of {cost}{}", if source == CostSource::Unknown { ", unknown" } else { "" }))
    }

    fn bill(&self, reserved: &Reserved, settled: &Settled, at: Timestamp) -> (Money, CostSource) {
        if settled.cache.hit.is_some() {
            return (Money::ZERO, CostSource::Reported);
        }
        match &settled.outcome {
            Outcome::Reply { response_model, service_tier, factors, .. } => {
                let during = During { from: Timestamp(at.0.saturating_sub(settled.latency.0)), to: at };
                let told = Told {
                    usage: settled.usage.as_ref(),
                    mismatch: settled.mismatch.as_ref(),
                    answering: response_model.as_deref(),
                    served: Served { tier: service_tier.as_deref(), factors: *factors, during: Some(during) },
                };
                bill(self.desk.book(), reserved, &told, at)
            }
            Outcome::ToolResult { .. } => (reserved.amount, CostSource::Reported),
            Outcome::Failed(_) => (reserved.amount, CostSource::Unknown),
        }
    }
}
