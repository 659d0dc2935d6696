//! A run made by hand, for the tests of folds and of their rendering.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::event::{
    AccountKey, Admitted, BoundMethod, Call, CallRefusal, CallRefused, CostSource, Created, Cut, EVENT_VERSION,
    EndState, Ended, Event, InputBound, Landing, LandingBegan, ModelCall, Outcome, Pot, Purpose, Recorded, Reserved,
    Settled, StepKey, Voided, WaitBegan, WaitEnd, WaitEnded,
};
use crate::domain::limits::{Declared, LimitKind, Limits, Refusal};
use crate::domain::message::{Assistant, Pots, Sampling, StopReason, ToolCall};
use crate::domain::plan::{
    Approval, Builtin, ContextPlan, ModelPlan, Overflow, PLAN_VERSION, Plan, PromptPlan, RetryPlan, StageKind,
    StagePlan, ToolKind, ToolPlan,
};
use crate::domain::pricing::{Factors, Fees, Usage};
use crate::domain::retry::{ErrorClass, Failure};
use crate::ids::{AgentName, ModelName, PlanHash, PriceId, ReservationId, RunId, StageName, ToolName};
use crate::units::{Millis, Money, Timestamp, Tokens};

/// 2026-11-23T09:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_795_424_400_000);

/// The id of the fixture's run.
pub(crate) fn run_id() -> RunId {
    "01KATA0Q5XV3R8K2M4N6P7S9T0".parse().expect("a run id")
}

/// An agent with one tool.
pub(crate) fn plan() -> Arc<Plan> {
    let declared = Declared::At { file: "agents/support.toml".into(), line: 24 };
    let limits = Limits {
        cost: Money::from_micro(50_000),
        declared: BTreeMap::from([(LimitKind::Cost, declared.clone())]),
        ..Limits::default()
    };
    let tool = tool();
    Arc::new(Plan {
        version: PLAN_VERSION,
        agent: AgentName::from("support"),
        description: "Answers".into(),
        owner: None,
        feature: Some("support".into()),
        unit: None,
        model: ModelPlan {
            policy: None,
            declared,
            candidates: vec![ModelName::from("openai/gpt-5-mini")],
            after_filter: vec![],
            after_overflow: vec![],
            downgrade: None,
            max_output_tokens: 800,
            min_output_tokens: 256,
            sampling: Sampling::default(),
            stream: true,
            web_search: None,
        },
        prompt: PromptPlan {
            version: Some("v1".into()),
            hash: "00".into(),
            system: String::new(),
            user: "{{ input }}".into(),
        },
        input: None,
        output: None,
        limits,
        retry: RetryPlan::default(),
        context: ContextPlan {
            tokens: Tokens(16_000),
            history: Tokens(6_000),
            documents: Tokens(4_000),
            tool_output: Tokens(2_000),
            overflow: Overflow::Trim,
            declared: Declared::Default,
            summary_model: None,
            cache: crate::domain::caching::CacheMode::Off,
            cache_ttl: crate::domain::message::CacheTtl::Short,
            count: crate::domain::plan::CountBy::Own,
        },
        tools: BTreeMap::from([(tool.name.clone(), tool)]),
        stages: vec![StagePlan::new(
            StageName::from("main"),
            StageKind::Loop { tools: vec![ToolName::from("lookup_order")], call: None },
        )],
        agents: BTreeMap::new(),
        output_from: None,
        documents: None,
        priority: None,
        files: vec![],
        outcome: None,
    })
}

fn tool() -> ToolPlan {
    ToolPlan {
        name: ToolName::from("lookup_order"),
        description: "Looks up an order".into(),
        input: json!({"type": "object"}),
        timeout: Millis::from_secs(5),
        output_bytes: 16_384,
        idempotent: true,
        price: Money::ZERO,
        kind: ToolKind::Builtin(Builtin::Now),
        approval: Approval::Never,
    }
}

/// Writes a log, one fact a time.
pub(crate) struct Log {
    pub(crate) recorded: Vec<Recorded>,
    now: Timestamp,
    next_reservation: u32,
}

impl Log {
    /// A log with the run's creation.
    pub(crate) fn new() -> Self {
        let mut log = Self { recorded: Vec::new(), now: START, next_reservation: 0 };
        log.push(
            0,
            Event::Created(Created {
                version: EVENT_VERSION,
                agent: AgentName::from("support"),
                plan: PlanHash::from("ab".repeat(32)),
                prompt_version: "v1".into(),
                input: Value::String("Where is order 4711?".into()),
                labels: [("agent", "support"), ("tenant", "acme")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                cap: Money::from_micro(50_000),
                load_line: Money::from_micro(50_000),
                expected: None,
                foreseen: None,
                parent: None,
                key: None,
                simulated: true,
                stage_caps: Default::default(),
                thread: None,
                documents: None,
                files: vec![],
                unit: None,
                erased: false,
            }),
        );
        log
    }

    /// A fact, some milliseconds after the last.
    pub(crate) fn push(&mut self, after: u64, event: Event) {
        self.now = self.now.after(Millis(after));
        let seq = u32::try_from(self.recorded.len()).expect("a short log");
        self.recorded.push(Recorded { seq, at: self.now, order: None, event });
    }

    fn reservation(&mut self) -> ReservationId {
        let number = self.next_reservation;
        self.next_reservation += 1;
        ReservationId { run: run_id(), number }
    }

    /// The run starts, with a landing reserve.
    pub(crate) fn admit(&mut self, landing: Money) {
        let reservation = self.reservation();
        let landing = Some(Landing { reservation, amount: landing });
        self.push(2, Event::Admitted(Admitted { budgets: Vec::new(), landing }));
    }

    /// Money is set aside for an attempt.
    pub(crate) fn reserve(&mut self, step: u32, attempt: u32, amount: Money, call: Call) -> ReservationId {
        let reservation = self.reservation();
        let step = StepKey { stage: StageName::from("main"), step, item: None };
        let landing = Money::from_micro(2_000);
        let time_limit = Millis::from_secs(60);
        let reserved = Reserved { reservation, step, attempt, amount, landing, budgets: None, time_limit, call };
        self.push(1, Event::Reserved(Box::new(reserved)));
        reservation
    }

    /// An attempt is over.
    pub(crate) fn settle(&mut self, reservation: ReservationId, bill: Money, source: CostSource, outcome: Outcome) {
        let model = matches!(outcome, Outcome::Reply { .. });
        let usage = model.then_some(USAGE);
        let latency = Millis(if model { 412 } else { 7 });
        let first_token = model.then_some(Millis(120));
        let settled = Settled {
            reservation,
            bill,
            source,
            usage,
            mismatch: None,
            charged: None,
            cache: crate::domain::event::CacheFacts::default(),
            raw_usage: None,
            latency,
            first_token,
            outcome,
        };
        self.push(latency.0, Event::Settled(Box::new(settled)));
    }

    /// An attempt is over, and cost nothing.
    pub(crate) fn void(&mut self, reservation: ReservationId, class: ErrorClass) {
        let failure = failure(class);
        self.push(30, Event::Voided(Voided { reservation, latency: Millis(30), failure }));
    }
}

const USAGE: Usage = Usage {
    input: Tokens(1_200),
    cache_read: Tokens(300),
    cache_write: Tokens::ZERO,
    cache_write_long: Tokens::ZERO,
    output: Tokens(96),
    reasoning: Tokens(40),
    other: Tokens::ZERO,
    fees: Fees::NONE,
};

/// A failure of a class.
pub(crate) fn failure(class: ErrorClass) -> Failure {
    Failure { class, status: Some(429), code: None, message: "slow down".into(), retry_after: None }
}

/// A call of the model.
pub(crate) fn model_call(purpose: Purpose) -> Call {
    Call::Model(ModelCall {
        account: None,
        web_search: None,
        model: ModelName::from("openai/gpt-5-mini"),
        price: PriceId::from("openai/gpt-5-mini@2026-11-23#3f2a90c1"),
        purpose,
        max_output_tokens: 800,
        bound: InputBound { tokens: Tokens(2_048), method: BoundMethod::Bytes },
        pots: Pots { instructions: Tokens(900), history: Tokens(600), ..Pots::default() },
        cuts: Vec::new(),
        request_hash: "0123456789abcdef".into(),
        remark: None,
        sums_up: None,
        instead: None,
        downgraded: None,
        count: None,
    })
}

/// A call of the tool.
pub(crate) fn tool_call(call_id: &str) -> Call {
    let tool = ToolName::from("lookup_order");
    Call::Tool { call_id: call_id.into(), tool, arguments_hash: "00ff".into(), idempotent: true, arguments: None }
}

/// A reply that asks for tool calls, or answers.
pub(crate) fn reply(text: &str, calls: &[&str]) -> Outcome {
    let calls: Vec<ToolCall> = calls
        .iter()
        .map(|id| ToolCall { id: (*id).into(), name: "lookup_order".into(), arguments: r#"{"order":"4711"}"#.into() })
        .collect();
    let stop = if calls.is_empty() { StopReason::End } else { StopReason::ToolCalls };
    let message = Assistant { text: text.into(), calls, ..Assistant::default() };
    Outcome::Reply {
        message,
        stop,
        response_model: None,
        service_tier: None,
        factors: Factors::NONE,
        request_id: Some("req_1".into()),
        response_id: None,
    }
}

/// A run with a bit of everything: a retry, a cut, a fallback, a tool, a refused call, a wait, a landing.
pub(crate) fn eventful() -> Vec<Recorded> {
    let mut log = Log::new();
    log.admit(Money::from_micro(2_000));
    let first = log.reserve(1, 1, Money::from_micro(9_000), model_call(Purpose::Turn));
    log.void(first, ErrorClass::RateLimited);
    let mut again = model_call(Purpose::Turn);
    if let Call::Model(call) = &mut again {
        call.instead = Some("openai/gpt-5-mini was rate_limited".into());
        call.cuts = vec![Cut { pot: Pot::History, what: "turn 1".into(), tokens: Tokens(210) }];
    }
    let second = log.reserve(1, 2, Money::from_micro(9_000), again);
    log.settle(second, Money::from_micro(1_234), CostSource::Reported, reply("", &["call_1", "call_2"]));
    let tool = log.reserve(2, 1, Money::ZERO, tool_call("call_1"));
    let result = Outcome::ToolResult { content: "{\"status\":\"shipped\"}".into(), is_error: false, cut_bytes: 12 };
    log.settle(tool, Money::ZERO, CostSource::Reported, result);
    let refusal = refusal(LimitKind::Repeats, "3", "3 such calls made");
    log.push(
        0,
        Event::CallRefused(CallRefused {
            step: StepKey { stage: StageName::from("main"), step: 3, item: None },
            call_id: "call_2".into(),
            tool: ToolName::from("lookup_order"),
            why: CallRefusal::Limit { refusal },
        }),
    );
    let account =
        AccountKey::Budget { budget: "support-month".into(), scope: "tenant=acme".into(), start: START, end: None };
    log.push(
        0,
        Event::WaitBegan(WaitBegan { account, asked: Money::from_micro(9_000), until: START.after(Millis(90_000)) }),
    );
    log.push(1_500, Event::WaitEnded(WaitEnded { why: WaitEnd::Granted }));
    let lost = log.reserve(3, 1, Money::from_micro(9_000), model_call(Purpose::Turn));
    log.settle(lost, Money::from_micro(9_000), CostSource::Unknown, Outcome::Failed(failure(ErrorClass::CutStream)));
    let refusal = self::refusal(LimitKind::Cost, "$0.05", "$0.061 would be needed");
    log.push(0, Event::LandingBegan(LandingBegan { refusal: refusal.clone() }));
    let landing = log.reserve(4, 1, Money::from_micro(2_000), model_call(Purpose::Landing));
    log.settle(landing, Money::from_micro(700), CostSource::Reported, reply("It was shipped.", &[]));
    let output = Some(Value::String("It was shipped.".into()));
    log.push(1, Event::Ended(Ended { state: EndState::Stopped, refusal: Some(refusal), output, error: None }));
    log.recorded
}

/// The refusal of a limit that the agent's file declares.
pub(crate) fn refusal(limit: LimitKind, value: &str, observed: &str) -> Refusal {
    let declared = Declared::At { file: "agents/support.toml".into(), line: 24 };
    Refusal { limit, subject: None, value: value.into(), observed: observed.into(), declared }
}
