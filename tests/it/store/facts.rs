//! Facts of made-up runs, and beds on which stores are opened.

use std::collections::BTreeSet;
use std::path::PathBuf;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{
    AccountKey, Admitted, AnswerKey, BoundMethod, CacheFacts, CacheHit, Call, CostSource, Count, Created,
    EVENT_VERSION, EndState, Ended, Event, InputBound, KeptAs, Landing, ModelCall, Outcome, Purpose, Recorded,
    Reserved, Settled, StepKey, Voided,
};
use plimsoll::domain::ledger::{LedgerPolicy, Op};
use plimsoll::domain::message::{Assistant, File, Media, Pots, StopReason};
use plimsoll::domain::outcome::{OutcomeBy, OutcomeRecorded, Part, Quality, QualitySource, Score};
use plimsoll::domain::pricing::{Factors, Fee, Fees, Mismatch, Usage};
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::store::engine::Engine;
use plimsoll::store::memory::MemoryDisk;
use plimsoll::store::sled::SledEngine;
use plimsoll::store::{Committed, Store, StoreError};
use plimsoll::units::{Millis, Money, Timestamp, Tokens};

/// 2026-11-23 00:00 UTC.
pub(super) const START: Timestamp = Timestamp(1_795_392_000_000);

/// Where a store lives, so that it can be opened again.
pub(super) enum Bed {
    Sled(tempfile::TempDir),
    Memory(MemoryDisk),
}

impl Bed {
    pub(super) fn both() -> [Self; 2] {
        [Self::sled(), Self::memory()]
    }

    pub(super) fn sled() -> Self {
        Self::Sled(tempfile::tempdir().expect("a folder"))
    }

    pub(super) fn memory() -> Self {
        Self::Memory(MemoryDisk::default())
    }

    pub(super) fn engine(&self) -> Box<dyn Engine> {
        match self {
            Self::Sled(folder) => Box::new(SledEngine::open(&folder.path().join("sled")).expect("it opens")),
            Self::Memory(disk) => Box::new(disk.open()),
        }
    }

    pub(super) fn try_open(&self, clock: &Clock) -> Result<Store, StoreError> {
        self.open_by(LedgerPolicy::default(), clock)
    }

    pub(super) fn open_by(&self, policy: LedgerPolicy, clock: &Clock) -> Result<Store, StoreError> {
        match self {
            Self::Sled(folder) => Store::open(folder.path(), policy, clock.clone()),
            Self::Memory(disk) => Store::open_memory(disk, policy, clock.clone()),
        }
    }

    pub(super) fn open(&self, clock: &Clock) -> Store {
        self.try_open(clock).expect("it opens")
    }

    pub(super) fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Sled(folder) => Some(folder.path().to_owned()),
            Self::Memory(_) => None,
        }
    }
}

/// A run id whose time is `START` plus some milliseconds.
pub(super) fn run_at(ms: u64, number: u64) -> RunId {
    RunId::from_bits((u128::from(START.0 + ms) << 80) | u128::from(number))
}

pub(super) fn budget() -> AccountKey {
    AccountKey::Budget { budget: "month".into(), scope: String::new(), start: Timestamp(START.0), end: None }
}

pub(super) fn created(agent: &str, labels: &[(&str, &str)], key: Option<&str>) -> Event {
    Event::Created(Created {
        version: EVENT_VERSION,
        agent: agent.into(),
        plan: "0".repeat(64).into(),
        prompt_version: "v1".to_owned(),
        input: serde_json::json!({"ticket": "the parcel is late"}),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        cap: Money::from_micro(250_000),
        load_line: Money::from_micro(200_000),
        expected: None,
        foreseen: None,
        parent: None,
        key: key.map(str::to_owned),
        simulated: true,
        stage_caps: Default::default(),
        thread: None,
        documents: None,
        files: vec![File::new("a.png", Media::Png, "iVBORw0KGgo=", Tokens(85)).expect("a file")],
        unit: Some("resolved_case".to_owned()),
        erased: false,
    })
}

pub(super) const LANDING: u64 = 900;

pub(super) fn admitted(run: RunId) -> Event {
    let landing = Landing { reservation: ReservationId { run, number: 0 }, amount: Money::from_micro(LANDING) };
    Event::Admitted(Admitted { budgets: vec![budget()], landing: Some(landing) })
}

/// A model call of step `step`, under reservation `number`.
pub(super) fn reserved(run: RunId, number: u32, step: u32, attempt: u32, micro: u64) -> Event {
    let call = Call::Model(ModelCall {
        account: None,
        web_search: None,
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
        count: Some(Count::Told { tokens: Tokens(700) }),
    });
    Event::Reserved(Box::new(Reserved {
        reservation: ReservationId { run, number },
        step: StepKey { stage: "main".into(), step, item: None },
        attempt,
        amount: Money::from_micro(micro),
        landing: Money::from_micro(LANDING),
        budgets: None,
        time_limit: Millis::from_secs(60),
        call,
    }))
}

pub(super) fn settled(run: RunId, number: u32, micro: u64, text: &str) -> Event {
    let usage = Usage { input: Tokens(100), output: Tokens(20), ..Usage::default() };
    Event::Settled(Box::new(Settled {
        reservation: ReservationId { run, number },
        bill: Money::from_micro(micro),
        source: CostSource::Reported,
        usage: Some(usage),
        mismatch: None,
        charged: None,
        cache: plimsoll::domain::event::CacheFacts::default(),
        raw_usage: Some(serde_json::json!({"prompt_tokens": 100, "completion_tokens": 20})),
        latency: Millis(812),
        first_token: None,
        outcome: Outcome::Reply {
            message: Assistant { text: text.to_owned(), ..Assistant::default() },
            stop: StopReason::End,
            response_model: Some("gpt-5-mini".to_owned()),
            service_tier: None,
            factors: Factors::NONE,
            request_id: None,
            response_id: None,
        },
    }))
}

const KEY: AnswerKey = AnswerKey([7; 32]);

/// A settlement whose answer is kept, and that a provider's cache made cheaper.
pub(super) fn kept(run: RunId, number: u32) -> Event {
    let Event::Settled(mut settled) = settled(run, number, 5_000, "the order is on its way") else {
        unreachable!("a settlement")
    };
    let kept = Some(KeptAs { key: KEY, until: Timestamp(START.0 + 3_600_000) });
    settled.cache = CacheFacts { saved: Money::from_micro(11), kept, hit: None };
    Event::Settled(settled)
}

/// The same answer, given again.
pub(super) fn hit(run: RunId, number: u32) -> Event {
    let Event::Settled(mut settled) = settled(run, number, 0, "the order is on its way") else {
        unreachable!("a settlement")
    };
    let from = ReservationId { run, number: 1 };
    let hit = CacheHit { key: KEY, from, at: START, avoided: Money::from_micro(5_000) };
    settled.cache = CacheFacts { hit: Some(hit), ..CacheFacts::default() };
    Event::Settled(settled)
}

/// A settlement whose usage contradicts itself, with what rollups of before had no room for.
pub(super) fn contradicting(run: RunId, number: u32) -> Event {
    let Event::Settled(mut settled) = settled(run, number, 5_000, "x") else { unreachable!("a settlement") };
    let usage = settled.usage.as_mut().expect("usage");
    (usage.other, usage.fees) = (Tokens(7), Fees::NONE.with(Fee::WebSearch, 2).with(Fee::Maps, 1));
    settled.source = CostSource::Unknown;
    settled.mismatch = Some(Mismatch { what: "total_tokens".into(), counted: Tokens(127), told: Tokens(126) });
    Event::Settled(settled)
}

pub(super) fn voided(run: RunId, number: u32) -> Event {
    let message = "too many requests".to_owned();
    let failure = Failure { class: ErrorClass::RateLimited, status: Some(429), code: None, message, retry_after: None };
    Event::Voided(Voided { reservation: ReservationId { run, number }, latency: Millis(5), failure })
}

pub(super) fn released(run: RunId) -> Event {
    let reservation = ReservationId { run, number: 0 };
    Event::LandingReleased(plimsoll::domain::event::LandingReleased { reservation, why: "the run is done".to_owned() })
}

pub(super) fn ended() -> Event {
    let output = Some(serde_json::json!({"reply": "It arrives tomorrow."}));
    Event::Ended(Ended { state: EndState::Finished, refusal: None, output, error: None })
}

/// What a run was worth; quality in ten-thousandths, revenue in micro-dollars.
pub(super) fn worth(units: Option<u64>, quality: Option<u64>, revenue: Option<u64>, unknown: &[Part]) -> Event {
    let score = quality.and_then(Score::from_ten_thousandths);
    let quality = score.map(|score| Quality { score, source: QualitySource::Judge });
    let outcome = plimsoll::domain::outcome::Outcome { units, quality, revenue_usd: revenue.map(Money::from_micro) };
    let by = OutcomeBy::Person("ann".to_owned());
    let note = Some("looked at it".to_owned());
    Event::OutcomeRecorded(Box::new(OutcomeRecorded { outcome, unknown: unknown.to_vec(), by, note }))
}

pub(super) fn op(run: RunId, events: Vec<Event>) -> Op {
    Op { run, events: events.into_iter().map(|event| (run, event)).collect(), asks: Vec::new(), plan: None }
}

pub(super) async fn submit(store: &Store, run: RunId, events: Vec<Event>) -> Committed {
    store.submit(op(run, events)).await.expect("it commits")
}

/// A whole run of one step, in three ops.
pub(super) async fn finish(store: &Store, run: RunId, agent: &str, labels: &[(&str, &str)], key: Option<&str>) {
    submit(store, run, vec![created(agent, labels, key)]).await;
    submit(store, run, vec![admitted(run), reserved(run, 1, 1, 1, 5_000)]).await;
    submit(store, run, vec![settled(run, 1, 1_234, "It arrives tomorrow."), released(run), ended()]).await;
}

/// The numbers of a log, which must be 0, 1, 2, …
pub(super) fn assert_no_gap(log: &[Recorded]) {
    let expected: Vec<u32> = (0..u32::try_from(log.len()).expect("a short log")).collect();
    assert_eq!(log.iter().map(|recorded| recorded.seq).collect::<Vec<_>>(), expected);
    assert_eq!(log.iter().map(|recorded| recorded.seq).collect::<BTreeSet<_>>().len(), log.len());
}

pub(super) fn clock() -> Clock {
    Clock::virtual_at(START)
}

/// Runs a future on a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// A small, seeded source of numbers.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A count from the environment.
pub(super) fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
