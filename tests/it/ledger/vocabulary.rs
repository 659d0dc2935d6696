//! Short ways to say budgets, runs and asks.

use std::collections::BTreeMap;

use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{
    Admitted, AskKind, BoundMethod, Call, ChildBegan, ChildEnded, CostSource, Created, Decision, EndState, Ended,
    Event, InputBound, Labels, Landing, ModelCall, Outcome, Parent, Parked, PersonAnswered, PersonAsked, Place,
    Purpose, Reserved, RunState, Settled, Spent, StepKey, Voided,
};
use plimsoll::domain::ledger::{AdmitAsk, Lower, ReserveAsk};
use plimsoll::domain::limits::Declared;
use plimsoll::domain::message::Pots;
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::ids::{PriceId, ReservationId, RunId, StageName};
use plimsoll::units::{Millis, Money, Timestamp, TokenPrice, Tokens};

/// The output cap of every call before it is lowered.
pub(super) const OUTPUT: u32 = 10;
/// As far as it is lowered.
pub(super) const OUTPUT_MIN: u32 = 2;
/// A day in milliseconds.
pub(super) const DAY: u64 = 86_400_000;

pub(super) fn money(pico: u64) -> Money {
    Money::from_pico(u128::from(pico))
}

pub(super) fn run(bits: u128) -> RunId {
    RunId::from_bits(bits)
}

pub(super) fn id(run: RunId, number: u32) -> ReservationId {
    ReservationId { run, number }
}

pub(super) fn budget(name: &str, cap: u64, period: Period, scope: &[(&str, &str)], each: &[&str]) -> Budget {
    Budget {
        name: name.into(),
        scope: labels(scope),
        each: each.iter().map(|label| (*label).to_owned()).collect(),
        cap: money(cap),
        period,
        time_zone: jiff::tz::TimeZone::UTC,
        shadow: false,
        alerts_at: Vec::new(),
        declared: Declared::At { file: "plimsoll.toml".into(), line: 7 },
    }
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What a run is made of, for tests.
pub(super) struct Birth {
    pub(super) labels: Labels,
    pub(super) cap: Money,
    pub(super) load_line: Money,
    pub(super) expected: Option<Money>,
    pub(super) foreseen: Option<Money>,
    pub(super) parent: Option<Parent>,
    pub(super) stage_caps: BTreeMap<StageName, Money>,
}

pub(super) fn created(birth: Birth) -> Event {
    Event::Created(Created {
        version: plimsoll::domain::event::EVENT_VERSION,
        agent: "clerk".into(),
        plan: "0".into(),
        prompt_version: "1".into(),
        input: serde_json::Value::Null,
        labels: birth.labels,
        cap: birth.cap,
        load_line: birth.load_line,
        expected: birth.expected,
        foreseen: birth.foreseen,
        parent: birth.parent,
        key: None,
        simulated: true,
        stage_caps: birth.stage_caps,
        thread: None,
        documents: None,
        files: vec![],
        unit: None,
    })
}

/// A model call's reservation; `landing` is the landing reserve that is wanted.
pub(super) fn reserved(reservation: ReservationId, amount: Money, purpose: Purpose, landing: Money) -> Reserved {
    Reserved {
        reservation,
        step: StepKey { stage: "main".into(), step: 1, item: None },
        attempt: 1,
        amount,
        landing,
        budgets: None,
        time_limit: Millis::from_secs(60),
        call: Call::Model(ModelCall {
            account: None,
            web_search: None,
            model: "sim/clerk".into(),
            price: price(0),
            purpose,
            max_output_tokens: OUTPUT,
            bound: InputBound { tokens: Tokens::ZERO, method: BoundMethod::Bytes },
            pots: Pots::default(),
            cuts: Vec::new(),
            request_hash: String::new(),
            remark: None,
            sums_up: None,
            instead: None,
            downgraded: None,
            count: None,
        }),
    }
}

pub(super) fn price(number: u8) -> PriceId {
    format!("sim/clerk@{number}").into()
}

pub(super) fn with_price(mut reserved: Reserved, number: u8) -> Reserved {
    if let Call::Model(call) = &mut reserved.call {
        call.price = price(number);
    }
    reserved
}

/// The same call, made by a stage.
pub(super) fn at_stage(mut reserved: Reserved, stage: &str) -> Reserved {
    reserved.step.stage = stage.into();
    reserved
}

/// A child's way into the running state: a fact, not an ask.
pub(super) fn child_admitted() -> Event {
    Event::Admitted(Admitted { budgets: Vec::new(), landing: None })
}

pub(super) fn child_began(child: RunId, stage: &str) -> Event {
    Event::ChildBegan(ChildBegan { child, agent: "clerk".into(), place: Place::stage(stage.into()), call: None })
}

pub(super) fn child_ended(child: RunId, state: EndState) -> Event {
    let end = Ended { state, refusal: None, output: None, error: None };
    Event::ChildEnded(ChildEnded { child, end, spent: Spent::default() })
}

pub(super) fn person_asked() -> Event {
    let asked = PersonAsked::in_flight("call-1".to_owned(), "lookup".into(), "may it?".to_owned());
    Event::PersonAsked(PersonAsked { ask: Some(0), what: Some(AskKind::Call), ..asked })
}

pub(super) fn person_answered() -> Event {
    let (decision, by) = (Decision::Deny, "ann".to_owned());
    Event::PersonAnswered(PersonAnswered { ask: Some(0), decision, by, reason: None, shown_hash: None })
}

pub(super) fn parked() -> Event {
    Event::Parked(Parked { state: RunState::AwaitingApproval, until: Timestamp(u64::MAX) })
}

pub(super) fn output_of(reserved: &Reserved) -> u32 {
    match &reserved.call {
        Call::Model(call) => call.max_output_tokens,
        Call::Tool { .. } => 0,
    }
}

pub(super) fn purpose_of(reserved: &Reserved) -> Option<Purpose> {
    match &reserved.call {
        Call::Model(call) => Some(call.purpose),
        Call::Tool { .. } => None,
    }
}

pub(super) fn price_of(reserved: &Reserved) -> Option<PriceId> {
    match &reserved.call {
        Call::Model(call) => Some(call.price.clone()),
        Call::Tool { .. } => None,
    }
}

/// One pico-dollar for each output token.
pub(super) fn lower() -> Lower {
    Lower { rate: TokenPrice::from_pico(1), output_min: OUTPUT_MIN }
}

/// An ask that neither waits nor lowers.
pub(super) fn at_once(reserved: Reserved) -> ReserveAsk {
    ReserveAsk { reserved, lower: None, wait_until: None }
}

/// An ask that waits until a point in time.
pub(super) fn patient(reserved: Reserved, until: u64) -> ReserveAsk {
    ReserveAsk { reserved, lower: None, wait_until: Some(Timestamp(until)) }
}

pub(super) fn admit(landing: Option<(ReservationId, Money)>, first: ReserveAsk) -> AdmitAsk {
    AdmitAsk {
        landing: landing.map(|(reservation, amount)| Landing { reservation, amount }),
        bound: first.reserved.amount,
        first: Some(Box::new(first)),
        first_waits: false,
        provisional: false,
    }
}

pub(super) fn settled(reservation: ReservationId, bill: Money, source: CostSource) -> Event {
    Event::Settled(Box::new(Settled {
        reservation,
        bill,
        source,
        usage: None,
        mismatch: None,
        charged: None,
        cache: plimsoll::domain::event::CacheFacts::default(),
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::ToolResult { content: String::new(), is_error: false, cut_bytes: 0 },
    }))
}

pub(super) fn voided(reservation: ReservationId) -> Event {
    Event::Voided(Voided { reservation, latency: Millis::ZERO, failure: failure() })
}

fn failure() -> Failure {
    Failure { class: ErrorClass::RateLimited, status: Some(429), code: None, message: String::new(), retry_after: None }
}

pub(super) fn ended(state: EndState) -> Event {
    Event::Ended(Ended { state, refusal: None, output: None, error: None })
}
