//! From what an attempt came to, to the fact that settles or voids it.

use crate::domain::event::{Call, ModelCall};
use crate::domain::event::{CostSource, Event, Outcome, Reserved, Settled, Voided};
use crate::domain::message::{Assistant, Reply};
use crate::domain::pricing::PriceBook;
use crate::domain::retry::{ErrorClass, Failure};
use crate::ids::ReservationId;
use crate::provider::{Answer, AnswerResult};
use crate::tool::ToolOutcome;
use crate::units::{Millis, Money, Timestamp};

/// Calls that are taken from one reply; a model that asks for more is cut short.
const CALLS_MAX: usize = 256;

/// The fact of a model attempt.
pub(crate) fn model(book: &PriceBook, reserved: &Reserved, answer: Answer, now: Timestamp) -> Event {
    let Answer { reservation, latency, first_token, result } = answer;
    let settled = |bill, source, usage, raw_usage, outcome| {
        Event::Settled(Box::new(Settled { reservation, bill, source, usage, raw_usage, latency, first_token, outcome }))
    };
    match result {
        AnswerResult::Unbilled(failure) => Event::Voided(Voided { reservation, latency, failure }),
        AnswerResult::Unknown(failure) => {
            settled(reserved.amount, CostSource::Unknown, None, None, Outcome::Failed(failure))
        }
        AnswerResult::Replied(reply) => {
            let (bill, source) = bill(book, reserved, &reply, now);
            let Reply { message, stop, usage, raw_usage, response_model, service_tier, request_id } = *reply;
            let message = normalised(message);
            let outcome = Outcome::Reply { message, stop, response_model, service_tier, request_id };
            settled(bill, source, usage, raw_usage, outcome)
        }
    }
}

/// True where a model answered.
pub(crate) fn is_reply(fact: &Event) -> bool {
    matches!(fact, Event::Settled(settled) if matches!(settled.outcome, Outcome::Reply { .. }))
}

/// The exact cost where the provider reported usage of a model and a tier that have a price, else the reservation.
fn bill(book: &PriceBook, reserved: &Reserved, reply: &Reply, now: Timestamp) -> (Money, CostSource) {
    let unknown = (reserved.amount, CostSource::Unknown);
    let (Some(usage), Call::Model(ModelCall { price, .. })) = (&reply.usage, &reserved.call) else { return unknown };
    let Some(pinned) = book.find_version(price) else { return unknown };
    let row = match &reply.response_model {
        None => Some(pinned),
        Some(answering) => book.find_answering(pinned, answering, now),
    };
    let cost = row.and_then(|row| row.cost(usage, reply.service_tier.as_deref()).ok());
    let Some(cost) = cost else { return unknown };
    if cost > reserved.amount {
        tracing::error!(
            reservation = %reserved.reservation, reserved = %reserved.amount, billed = %cost, price = %price,
            "a bill is above its reservation: the bound of this price row was wrong, and the row is frozen"
        );
    }
    (cost, CostSource::Reported)
}

/// Gives every call an id of its own, so that each has its own answer.
fn normalised(mut message: Assistant) -> Assistant {
    message.calls.truncate(CALLS_MAX);
    let mut seen = std::collections::BTreeSet::new();
    for (index, call) in message.calls.iter_mut().enumerate() {
        if call.id.is_empty() || !seen.insert(call.id.clone()) {
            call.id = format!("call_{index}");
            seen.insert(call.id.clone());
        }
    }
    message
}

/// The fact of a tool call.
pub(crate) fn tool(reserved: &Reserved, outcome: ToolOutcome) -> Event {
    let ToolOutcome { reservation, content, is_error, cut_bytes, latency, never_began } = outcome;
    if never_began {
        let failure =
            Failure { class: ErrorClass::NotSent, status: None, code: None, message: content, retry_after: None };
        return Event::Voided(Voided { reservation, latency, failure });
    }
    Event::Settled(Box::new(Settled {
        reservation,
        bill: reserved.amount,
        source: CostSource::Reported,
        usage: None,
        raw_usage: None,
        latency,
        first_token: None,
        outcome: Outcome::ToolResult { content, is_error, cut_bytes },
    }))
}

/// The fact of an attempt that was granted and then not wanted any more: nothing was sent.
pub(crate) fn never_made(reservation: ReservationId, why: &str) -> Event {
    let failure =
        Failure { class: ErrorClass::Interrupted, status: None, code: None, message: why.into(), retry_after: None };
    Event::Voided(Voided { reservation, latency: Millis::ZERO, failure })
}

/// The fact of an attempt that this process broke off, or that broke down.
pub(crate) fn broken_off(reserved: &Reserved, why: &str) -> Event {
    let failure =
        Failure { class: ErrorClass::Interrupted, status: None, code: None, message: why.into(), retry_after: None };
    Event::Settled(Box::new(Settled {
        reservation: reserved.reservation,
        bill: reserved.amount,
        source: CostSource::Unknown,
        usage: None,
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::Failed(failure),
    }))
}
