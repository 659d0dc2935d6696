//! Facts of made-up runs, in the sizes that a support agent's have.

use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{
    BoundMethod, Call, CostSource, Created, EVENT_VERSION, Event, InputBound, Landing, ModelCall, Outcome, Purpose,
    Reserved, Settled, StepKey,
};
use plimsoll::domain::ledger::{AdmitAsk, Ask, Op, ReserveAsk};
use plimsoll::domain::limits::Declared;
use plimsoll::domain::message::{Assistant, Pots, StopReason, ToolCall};
use plimsoll::domain::pricing::{Factors, Usage};
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::units::{Millis, Money, Timestamp, Tokens};

/// 2026-11-23 00:00 UTC.
pub(crate) const START: Timestamp = Timestamp(1_795_392_000_000);
/// What a call may cost at worst.
pub(crate) const WORST: Money = Money::from_micro(5_000);
/// The number of a run's first call; its landing reserve is number 0.
pub(crate) const FIRST_CALL: u32 = 1;

/// Budgets that count every run, with caps that are never met.
pub(crate) fn budgets(count: u32) -> Vec<Budget> {
    (0..count).map(|number| budget(&format!("budget-{number}"), Money::from_micro(1_000_000_000_000))).collect()
}

/// One budget over everything.
pub(crate) fn budget(name: &str, cap: Money) -> Budget {
    Budget {
        name: name.into(),
        scope: std::collections::BTreeMap::new(),
        each: vec![],
        cap,
        period: Period::Month,
        time_zone: jiff::tz::TimeZone::UTC,
        shadow: false,
        alerts_at: Vec::new(),
        declared: Declared::Default,
    }
}

pub(crate) fn run(number: u32) -> RunId {
    RunId::from_bits((u128::from(START.0) << 80) | u128::from(number))
}

pub(crate) fn created() -> Created {
    let labels =
        [("agent", "support-triage"), ("feature", "support"), ("environment", "production"), ("tenant", "acme")];
    Created {
        version: EVENT_VERSION,
        agent: "support-triage".into(),
        plan: "0".repeat(64).into(),
        prompt_version: "2026-11-23".to_owned(),
        input: serde_json::json!({"ticket": "Hello, where is my order 48213? It should have come last week."}),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        cap: Money::from_micro(1_000_000_000_000),
        load_line: Money::from_micro(50_000),
        expected: Some(Money::from_micro(10_000)),
        foreseen: None,
        parent: None,
        key: None,
        simulated: false,
        stage_caps: Default::default(),
        thread: None,
        documents: None,
        files: vec![],
        unit: None,
        erased: false,
    }
}

/// A run's first op: it is created, admitted, and its first call reserved.
pub(crate) fn start(run: RunId) -> Op {
    let landing = Landing { reservation: ReservationId { run, number: 0 }, amount: Money::from_micro(900) };
    let first = ReserveAsk { reserved: reserved(run, FIRST_CALL), lower: None, wait_until: None };
    let admit = AdmitAsk {
        landing: Some(landing),
        bound: WORST,
        first: Some(Box::new(first)),
        first_waits: false,
        provisional: false,
    };
    Op { run, events: vec![(run, Event::Created(created()))], asks: vec![Ask::Admit(admit)], plan: None }
}

/// What a model step costs the ledger: call `number - 1` settles, call `number` is asked for.
pub(crate) fn step(run: RunId, number: u32) -> Op {
    let ask = ReserveAsk { reserved: reserved(run, number), lower: None, wait_until: None };
    let settled = Event::Settled(Box::new(settled(run, number - 1)));
    Op { run, events: vec![(run, settled)], asks: vec![Ask::Reserve(Box::new(ask))], plan: None }
}

pub(crate) fn reserved(run: RunId, number: u32) -> Reserved {
    let call = Call::Model(ModelCall {
        account: None,
        model: "openai/gpt-5-mini".into(),
        price: "openai/gpt-5-mini@2026-11-23#3f2a90c1".into(),
        purpose: Purpose::Turn,
        max_output_tokens: 800,
        bound: InputBound { tokens: Tokens(1_200), method: BoundMethod::Bytes },
        pots: Pots::default(),
        cuts: Vec::new(),
        request_hash: "0123456789abcdef".to_owned(),
        remark: None,
        sums_up: None,
        instead: None,
        downgraded: None,
        count: None,
        web_search: None,
    });
    Reserved {
        reservation: ReservationId { run, number },
        step: StepKey { stage: "main".into(), step: number, item: None },
        attempt: 1,
        amount: WORST,
        landing: Money::from_micro(900),
        budgets: None,
        time_limit: Millis::from_secs(60),
        call,
    }
}

pub(crate) fn settled(run: RunId, number: u32) -> Settled {
    let arguments = r#"{"expression": "(19.90 * 2 + 4.90) * 1.19"}"#.to_owned();
    let call = ToolCall { id: format!("call_{number}"), name: "calculate".into(), arguments };
    Settled {
        reservation: ReservationId { run, number },
        bill: Money::from_micro(412),
        source: CostSource::Reported,
        usage: Some(Usage { input: Tokens(612), output: Tokens(48), ..Usage::default() }),
        mismatch: None,
        charged: None,
        cache: plimsoll::domain::event::CacheFacts::default(),
        raw_usage: Some(serde_json::json!({"prompt_tokens": 612, "completion_tokens": 48, "total_tokens": 660})),
        latency: Millis(812),
        first_token: None,
        outcome: Outcome::Reply {
            message: Assistant { calls: vec![call], ..Assistant::default() },
            stop: StopReason::ToolCalls,
            response_model: Some("gpt-5-mini".to_owned()),
            service_tier: Some("default".to_owned()),
            factors: Factors::NONE,
            request_id: Some("chatcmpl-0123456789".to_owned()),
            response_id: None,
        },
    }
}
