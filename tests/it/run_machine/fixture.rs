//! What a play is made of: the plan of its sheet, and facts with little in them.

use std::collections::BTreeMap;

use plimsoll::domain::event::{
    BoundMethod, CostSource, Created, EVENT_VERSION, Event, InputBound, ModelCall, Outcome, Purpose, Settled,
};
use plimsoll::domain::limits::{Declared, LimitKind, Limits, Refusal};
use plimsoll::domain::message::{Assistant, Pots, StopReason};
use plimsoll::domain::plan::{
    Approval, Builtin, ContextPlan, CountBy, ModelPlan, OnError, Overflow, PLAN_VERSION, Plan, PromptPlan, RetryPlan,
    StageKind, StagePlan, ToolKind, ToolPlan,
};
use plimsoll::domain::pricing::{Factors, Usage};
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::ids::{ReservationId, ToolName};
use plimsoll::units::{Millis, Money, Tokens};
use serde_json::json;

use super::player::{BOUND, Shape, Sheet};

pub(super) fn failure(class: ErrorClass) -> Failure {
    Failure { class, status: None, code: None, message: "it failed".into(), retry_after: None }
}

pub(super) fn no_money() -> Refusal {
    Refusal {
        limit: LimitKind::Budget,
        subject: None,
        value: "$1".into(),
        observed: "it is spent".into(),
        declared: Declared::Default,
    }
}

pub(super) fn settled(reservation: ReservationId, source: CostSource, usage: Option<Usage>, outcome: Outcome) -> Event {
    Event::Settled(Box::new(Settled {
        reservation,
        bill: Money::from_pico(BOUND / 2),
        source,
        usage,
        mismatch: None,
        charged: None,
        cache: plimsoll::domain::event::CacheFacts::default(),
        raw_usage: None,
        latency: Millis(1),
        first_token: None,
        outcome,
    }))
}

pub(super) fn reply(id: ReservationId, message: Assistant, stop: StopReason) -> Event {
    let usage = Usage { input: Tokens(100), output: Tokens(50), ..Usage::default() };
    let outcome = Outcome::Reply {
        message,
        stop,
        response_model: None,
        service_tier: None,
        factors: Factors::NONE,
        request_id: None,
        response_id: None,
    };
    settled(id, CostSource::Reported, Some(usage), outcome)
}

pub(super) fn model_call(purpose: Purpose, input: u64, output: u64, remark: Option<String>) -> ModelCall {
    ModelCall {
        account: None,
        web_search: None,
        model: "openai/gpt-5-mini".into(),
        price: "openai/gpt-5-mini@x#1".into(),
        purpose,
        max_output_tokens: u32::try_from(output).expect("small"),
        bound: InputBound { tokens: Tokens(input), method: BoundMethod::Bytes },
        pots: Pots::default(),
        cuts: vec![],
        request_hash: String::new(),
        remark,
        sums_up: None,
        instead: None,
        downgraded: None,
        count: None,
    }
}

pub(super) fn created(plan: &Plan) -> Created {
    Created {
        version: EVENT_VERSION,
        agent: "a".into(),
        plan: plan.hash(),
        prompt_version: "1".into(),
        input: json!("please"),
        labels: BTreeMap::new(),
        cap: plan.limits.cost,
        load_line: plan.limits.cost,
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
    }
}

fn tool(name: &str, idempotent: bool) -> ToolPlan {
    ToolPlan {
        name: name.into(),
        description: String::new(),
        input: json!({}),
        timeout: Millis(400),
        output_bytes: 1_000,
        idempotent,
        price: Money::ZERO,
        kind: ToolKind::Builtin(Builtin::Now),
        approval: Approval::Never,
    }
}

/// Items of each map.
pub(super) const ITEMS: u32 = 4;

fn stages(sheet: &Sheet, tools: Vec<ToolName>) -> Vec<StagePlan> {
    let stage = |id: &str, tools| StagePlan::new(id.into(), StageKind::Loop { tools, call: None });
    match sheet.shape {
        Shape::Loop => vec![stage("main", tools)],
        Shape::Beside => {
            let last = StagePlan { needs: vec!["left".into(), "right".into()], ..stage("last", vec![]) };
            vec![stage("left", tools.clone()), stage("right", tools), last]
        }
        Shape::Items { lenient } => {
            let on_error = if lenient { OnError::Continue } else { OnError::Fail };
            let mut stages = maps(sheet, &tools, on_error);
            let needs = stages.iter().map(|stage| stage.id.clone()).collect();
            stages.push(StagePlan { needs, ..stage("last", vec![]) });
            stages
        }
    }
}

/// A map of loops and one of calls, each with a `parallel` of its own, and beside them a call that may not be repeated.
fn maps(sheet: &Sheet, tools: &[ToolName], on_error: OnError) -> Vec<StagePlan> {
    let map = |id: &str, over: &str, each: StageKind, parallel: u32| {
        let limits = Limits { parallel: parallel.min(sheet.limits.parallel), ..sheet.limits.clone() };
        let kind = StageKind::Map { over: over.into(), each: Box::new(each), on_error };
        StagePlan { limits: Some(Box::new(limits)), ..StagePlan::new(id.into(), kind) }
    };
    let call = |tool: &str, arguments| StageKind::Tool { tool: tool.into(), arguments, output: None };
    let looped = StageKind::Loop { tools: tools.to_vec(), call: None };
    let left = map("left", "[1, 2, 3, 4]", looped, 3);
    if tools.is_empty() {
        return vec![left];
    }
    // The arguments of one item are refused.
    let over = if on_error.is_fail() { "[5, 6, 7, 8]" } else { "[5, 'bad', 7, 8]" };
    let right = map("right", over, call("read", json!({ "n": "{{ item }}", "of": "{{ input }}" })), 2);
    let own = StagePlan { on_error, ..StagePlan::new("own".into(), call("write", json!({ "n": 9 }))) };
    vec![left, right, own]
}

pub(super) fn plan(sheet: Sheet) -> Plan {
    let approval = if sheet.approval { Approval::Always } else { Approval::Never };
    let write = ToolPlan { approval, ..tool("write", false) };
    let tools = if sheet.tools { vec![tool("read", true), write] } else { vec![] };
    let names = tools.iter().map(|tool| tool.name.clone()).collect();
    let stages = stages(&sheet, names);
    Plan {
        version: PLAN_VERSION,
        agent: "a".into(),
        description: String::new(),
        owner: None,
        feature: None,
        unit: None,
        model: ModelPlan {
            policy: None,
            declared: Declared::Default,
            candidates: vec!["openai/gpt-5-mini".into()],
            after_filter: Vec::new(),
            after_overflow: Vec::new(),
            downgrade: None,
            max_output_tokens: 200,
            min_output_tokens: 200,
            sampling: Default::default(),
            stream: false,
            web_search: None,
        },
        prompt: PromptPlan { version: None, hash: String::new(), system: String::new(), user: String::new() },
        input: None,
        output: sheet.form.then(|| json!({"type": "object"})),
        limits: sheet.limits,
        retry: RetryPlan { attempts: sheet.tries, ..RetryPlan::default() },
        context: ContextPlan {
            tokens: Tokens(1_000),
            history: Tokens(500),
            documents: Tokens(0),
            tool_output: Tokens(500),
            overflow: Overflow::Trim,
            declared: Declared::Default,
            summary_model: None,
            cache: plimsoll::domain::caching::CacheMode::Off,
            cache_ttl: plimsoll::domain::message::CacheTtl::Short,
            count: CountBy::Own,
        },
        tools: tools.into_iter().map(|tool| (tool.name.clone(), tool)).collect(),
        stages,
        agents: BTreeMap::new(),
        output_from: None,
        documents: None,
        priority: None,
        files: vec![],
        outcome: None,
    }
}
