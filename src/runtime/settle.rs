//! From what an attempt came to, to the fact that settles or voids it.

use crate::domain::event::{CacheFacts, CostSource, Event, Outcome, Reserved, Settled, Voided, bounded_usage};
use crate::domain::event::{Call, ModelCall};
use crate::domain::message::{Assistant, Reply};
use crate::domain::pricing::{During, Mismatch, PriceBook, Served, Usage};
use crate::domain::retry::{ErrorClass, Failure};
use crate::ids::ReservationId;
use crate::provider::{Answer, AnswerResult};
use crate::tool::ToolOutcome;
use crate::units::{Millis, Money, Timestamp, Tokens};

/// Calls that are taken from one reply; a model that asks for more is cut short.
const CALLS_MAX: usize = 256;

/// The fact of a model attempt.
pub(crate) fn model(book: &PriceBook, reserved: &Reserved, answer: Answer, now: Timestamp) -> Event {
    let Answer { reservation, latency, first_token, rates: _, result } = answer;
    let settled = |bill, source, outcome| {
        let (usage, mismatch, charged, raw_usage) = (None, None, None, None);
        let cache = CacheFacts::default();
        Settled { reservation, bill, source, usage, mismatch, charged, raw_usage, latency, first_token, outcome, cache }
    };
    match result {
        AnswerResult::Unbilled(failure) => Event::Voided(Voided { reservation, latency, failure }),
        AnswerResult::Unknown(failure) => {
            Event::Settled(Box::new(settled(reserved.amount, CostSource::Unknown, Outcome::Failed(failure))))
        }
        AnswerResult::Replied(reply) => {
            // From dispatch to now: for rates that depend on the hour.
            let during = During { from: Timestamp(now.0.saturating_sub(latency.0)), to: now };
            let told = Told {
                usage: reply.usage.as_ref(),
                mismatch: reply.mismatch.as_ref(),
                answering: reply.response_model.as_deref(),
                served: Served { tier: reply.service_tier.as_deref(), factors: reply.factors, during: Some(during) },
            };
            let (bill, source) = bill(book, reserved, &told, now);
            let saved =
                if source == CostSource::Reported { saved(book, reserved, &told, bill, now) } else { Money::ZERO };
            warn(reserved, &told, bill);
            if let Some(charged) = reply.charged.as_ref().filter(|charged| !charged.is(bill)) {
                tracing::warn!(%reservation, %charged, booked = %bill, "the provider says that it charged something else");
            }
            let Reply { message, stop, usage, mismatch, charged, raw_usage, response_model, .. } = *reply;
            let Reply { service_tier, factors, request_id, response_id, .. } = *reply;
            let message = normalised(message);
            let outcome =
                Outcome::Reply { message, stop, response_model, service_tier, factors, request_id, response_id };
            let raw_usage = raw_usage.map(bounded_usage);
            let cache = CacheFacts { saved, ..CacheFacts::default() };
            let settled = settled(bill, source, outcome);
            Event::Settled(Box::new(Settled { usage, mismatch, charged, raw_usage, cache, ..settled }))
        }
    }
}

/// True where a model answered.
pub(crate) fn is_reply(fact: &Event) -> bool {
    matches!(fact, Event::Settled(settled) if matches!(settled.outcome, Outcome::Reply { .. }))
}

/// What a provider told of a call: what it is billed by.
pub(crate) struct Told<'a> {
    pub(crate) usage: Option<&'a Usage>,
    pub(crate) mismatch: Option<&'a Mismatch>,
    pub(crate) answering: Option<&'a str>,
    pub(crate) served: Served<'a>,
}

/// The exact cost where the provider reported usage of a model and a tier that have a price, else the reservation.
pub(crate) fn bill(book: &PriceBook, reserved: &Reserved, told: &Told<'_>, now: Timestamp) -> (Money, CostSource) {
    let unknown = (reserved.amount, CostSource::Unknown);
    let (Some(usage), Call::Model(ModelCall { price, .. })) = (told.usage, &reserved.call) else { return unknown };
    let Some(pinned) = book.find_version(price) else { return unknown };
    let Some(cost) = book.bill(pinned, usage, told.answering, told.served, now) else { return unknown };
    // Where usage contradicts itself nobody knows the cost, but it isn't below what the classes say.
    if told.mismatch.is_some() {
        return (cost.max(reserved.amount), CostSource::Unknown);
    }
    (cost, CostSource::Reported)
}

fn warn(reserved: &Reserved, told: &Told<'_>, bill: Money) {
    if let Some(mismatch) = told.mismatch {
        tracing::warn!(reservation = %reserved.reservation, %mismatch, "usage contradicts itself: what it costs is unknown");
    }
    if bill > reserved.amount {
        tracing::error!(
            reservation = %reserved.reservation, reserved = %reserved.amount, billed = %bill,
            "a bill is above its reservation: the bound of its price row was wrong, and the row is frozen"
        );
    }
}

/// What the input that a cache held would have cost more, fresh: the same bill without the cache, less the bill.
fn saved(book: &PriceBook, reserved: &Reserved, told: &Told<'_>, billed: Money, now: Timestamp) -> Money {
    let (Some(usage), Call::Model(ModelCall { price, .. })) = (told.usage, &reserved.call) else {
        return Money::ZERO;
    };
    if usage.cache_read == Tokens::ZERO {
        return Money::ZERO;
    }
    let fresh = Usage { input: usage.input.plus(usage.cache_read), cache_read: Tokens::ZERO, ..*usage };
    let pinned = book.find_version(price);
    let whole = pinned.and_then(|pinned| book.bill(pinned, &fresh, told.answering, told.served, now));
    whole.and_then(|whole| whole.checked_minus(billed)).unwrap_or_default()
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
        mismatch: None,
        charged: None,
        raw_usage: None,
        latency,
        first_token: None,
        outcome: Outcome::ToolResult { content, is_error, cut_bytes },
        cache: CacheFacts::default(),
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
        mismatch: None,
        charged: None,
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::Failed(failure),
        cache: CacheFacts::default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{BoundMethod, InputBound, Purpose, RAW_USAGE_BYTES_MAX, StepKey};
    use crate::domain::message::{Pots, StopReason};
    use crate::domain::pricing::{Factor, Factors, Fee, Mismatch};
    use crate::domain::rate::ToldRates;
    use crate::ids::{ModelName, RunId};

    const NOW: Timestamp = Timestamp(1_795_392_000_000);

    fn reserved() -> Reserved {
        let model = ModelName::from("openai/gpt-5-mini");
        let call = ModelCall {
            account: None,
            web_search: None,
            price: PriceBook::builtin().find(&model, NOW).expect("a price").id.clone(),
            model,
            purpose: Purpose::Turn,
            max_output_tokens: 100,
            bound: InputBound { tokens: Tokens(1_000), method: BoundMethod::Bytes },
            pots: Pots::default(),
            cuts: Vec::new(),
            request_hash: "00".repeat(8),
            remark: None,
            sums_up: None,
            instead: None,
            downgraded: None,
            count: None,
        };
        Reserved {
            reservation: ReservationId { run: RunId::from_bits(1), number: 1 },
            step: StepKey { stage: "main".into(), step: 1, item: None },
            attempt: 1,
            amount: Money::from_micro(450),
            landing: Money::ZERO,
            budgets: None,
            time_limit: Millis(1_000),
            call: Call::Model(call),
        }
    }

    fn settled(change: impl FnOnce(&mut Reply)) -> Settled {
        let mut reply = Reply {
            message: Assistant { text: "Hi".into(), ..Assistant::default() },
            stop: StopReason::End,
            usage: Some(Usage { input: Tokens(200), output: Tokens(10), ..Usage::default() }),
            mismatch: None,
            charged: None,
            raw_usage: Some(serde_json::json!({"prompt_tokens": 200, "completion_tokens": 10})),
            response_model: None,
            service_tier: None,
            factors: Factors::NONE,
            request_id: None,
            response_id: None,
        };
        change(&mut reply);
        let result = AnswerResult::Replied(Box::new(reply));
        let reservation = reserved().reservation;
        let answer = Answer { reservation, latency: Millis(1), first_token: None, rates: ToldRates::default(), result };
        let fact = model(PriceBook::builtin(), &reserved(), answer, NOW);
        if let Event::Settled(settled) = fact { *settled } else { panic!("not settled: {fact:?}") }
    }

    #[test]
    fn usage_that_adds_up_is_the_bill() {
        let settled = settled(|_| {});
        assert_eq!((settled.bill, settled.source), (Money::from_micro(70), CostSource::Reported));
        assert_eq!(settled.counted((Tokens(1_000), Tokens(100))), (Tokens(200), Tokens(10)));
    }

    #[test]
    fn usage_that_contradicts_itself_is_kept_flagged_and_costs_the_reservation() {
        let mismatch = Mismatch { what: "total_tokens".into(), counted: Tokens(210), told: Tokens(211) };
        let settled = settled(|reply| reply.mismatch = Some(mismatch.clone()));
        assert_eq!((settled.bill, settled.source), (reserved().amount, CostSource::Unknown));
        assert_eq!(settled.mismatch, Some(mismatch));
        assert!(settled.usage.is_some() && settled.raw_usage.is_some());
        assert_eq!(settled.counted((Tokens(1_000), Tokens(5))), (Tokens(1_000), Tokens(10)), "the larger of the two");
    }

    #[test]
    fn usage_that_contradicts_itself_costs_no_less_than_its_classes() {
        let settled = settled(|reply| {
            reply.mismatch = Some(Mismatch { what: "total_tokens".into(), counted: Tokens(1), told: Tokens(2) });
            reply.usage = Some(Usage { output: Tokens(1_000), ..Usage::default() });
        });
        assert_eq!(
            (settled.bill, settled.source),
            (Money::from_micro(2_000), CostSource::Unknown),
            "above the reservation"
        );
    }

    #[test]
    fn what_has_no_price_costs_the_reservation() {
        let other = |reply: &mut Reply| reply.usage.as_mut().expect("usage").other = Tokens(1);
        let fetched = |reply: &mut Reply| {
            let usage = reply.usage.as_mut().expect("usage");
            usage.fees = usage.fees.with(Fee::WebFetch, 1);
        };
        let strange = |reply: &mut Reply| reply.factors = Factors::NONE.with(Factor::Unknown);
        for settled in [settled(other), settled(fetched), settled(strange)] {
            assert_eq!((settled.bill, settled.source), (reserved().amount, CostSource::Unknown));
        }
    }

    #[test]
    fn raw_usage_is_bounded() {
        let long = settled(|reply| reply.raw_usage = Some(serde_json::json!({"x": "ü".repeat(RAW_USAGE_BYTES_MAX)})));
        let text = long.raw_usage.as_ref().and_then(serde_json::Value::as_str).expect("its beginning");
        assert!(
            text.starts_with(r#"{"x":"ü"#) && (RAW_USAGE_BYTES_MAX - 1..=RAW_USAGE_BYTES_MAX).contains(&text.len())
        );
        assert!(settled(|_| {}).raw_usage.expect("as it came").is_object());
    }
}
