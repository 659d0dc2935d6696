//! Facts as lines of the log: which run, what happened, what it cost. Never what anybody wrote.

use tracing::{debug, info, warn};

use crate::domain::event::{Call, CostSource, Event, Outcome, Recorded, Reserved, Settled};
use crate::ids::RunId;

/// Writes a line of a fact. Its run stands in it, whatever span it is in.
pub fn fact(run: RunId, recorded: &Recorded) {
    match &recorded.event {
        Event::Created(created) => info!(%run, agent = %created.agent, "created"),
        Event::Admitted(_) => info!(%run, "admitted"),
        Event::Reserved(reserved) => attempt(run, reserved),
        Event::Settled(settled) => settlement(run, settled),
        Event::Voided(voided) => {
            let class = voided.failure.class.name();
            debug!(%run, reservation = voided.reservation.number, class, latency_ms = voided.latency.0, "nothing was billed");
        }
        Event::CallRefused(refused) => info!(%run, tool = %refused.tool, "a call was refused"),
        Event::Downgraded(downgraded) => info!(%run, model = %downgraded.model, "a cheaper model is asked"),
        Event::WaitBegan(wait) => {
            info!(%run, account = %wait.account, asked_usd = wait.asked.usd(), "waits for budget")
        }
        Event::WaitEnded(_) => info!(%run, "waits for budget no longer"),
        Event::RateWaitBegan(_) => debug!(%run, "waits for rates"),
        Event::RateWaitEnded(_) => debug!(%run, "waits for rates no longer"),
        Event::LandingBegan(landing) => info!(%run, limit = landing.refusal.limit.name(), "lands"),
        Event::LandingReleased(_) => debug!(%run, "what was kept for landing is given back"),
        Event::CancelRequested(_) => info!(%run, "was asked to end"),
        Event::Interrupted(interrupted) => warn!(%run, clean = interrupted.clean, "interrupted"),
        Event::PersonAsked(asked) => info!(%run, ask = asked.ask, "asks a person"),
        Event::InFlightResolved(_) | Event::PersonAnswered(_) => info!(%run, "a person answered"),
        Event::Parked(parked) => info!(%run, state = %parked.state, "parked"),
        Event::MapBegan(_) => debug!(%run, "a map knows its items"),
        Event::StageEnded(ended) => debug!(%run, stage = %ended.place.stage, end = ended.end.name(), "a stage ended"),
        Event::ChildBegan(child) => info!(%run, child = %child.child, "called a sub-agent"),
        Event::ChildEnded(child) => debug!(%run, child = %child.child, "a sub-agent ended"),
        Event::PeriodMoved(_) => debug!(%run, "a new budget period began"),
        Event::OutcomeRecorded(_) => info!(%run, "an outcome was recorded"),
        Event::Ended(ended) => {
            let limit = ended.refusal.as_ref().map(|refusal| refusal.limit.name());
            info!(%run, state = %crate::domain::event::RunState::from(ended.state), limit, "ended");
        }
    }
}

fn attempt(run: RunId, reserved: &Reserved) {
    let (number, step, attempt) = (reserved.reservation.number, reserved.step.step, reserved.attempt);
    let reserved_usd = reserved.amount.usd();
    match &reserved.call {
        Call::Model(call) => {
            debug!(%run, reservation = number, step, attempt, model = %call.model, reserved_usd, "calls a model");
        }
        Call::Tool { tool, .. } => {
            debug!(%run, reservation = number, step, attempt, %tool, reserved_usd, "calls a tool")
        }
    }
}

fn settlement(run: RunId, settled: &Settled) {
    let (number, cost_usd, latency_ms) = (settled.reservation.number, settled.bill.usd(), settled.latency.0);
    let failed = if let Outcome::Failed(failure) = &settled.outcome { Some(failure.class.name()) } else { None };
    match settled.source {
        CostSource::Reported | CostSource::Derived => {
            debug!(%run, reservation = number, cost_usd, latency_ms, failed, "settled");
        }
        CostSource::Unknown => {
            warn!(%run, reservation = number, cost_usd, latency_ms, failed, "what it cost is unknown: the reservation is booked");
        }
    }
}
