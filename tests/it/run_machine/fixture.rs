//! What a play is made of: the plan of its sheet, and facts with little in them.

use std::collections::BTreeMap;

use plimsoll::domain::event::{
    BoundMethod, CostSource, Created, EVENT_VERSION, Event, InputBound, ModelCall, Outcome, Purpose, Settled,
};
use plimsoll::domain::limits::{Declared, LimitKind, Refusal};
use plimsoll::domain::message::{Assistant, Pots, StopReason};
use plimsoll::domain::plan::{
    Approval, Builtin, ContextPlan, ModelPlan, Overflow, PLAN_VERSION, Plan, PromptPlan, RetryPlan, StageKind,
    StagePlan, ToolKind, ToolPlan,
};
use plimsoll::domain::pricing::Usage;
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::ids::{ReservationId, ToolName};
use plimsoll::units::{Millis, Money, Tokens};
use serde_json::json;

use super::player::{BOUND, Sheet};

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
        raw_usage: None,
        latency: Millis(1),
        first_token: None,
        outcome,
    }))
}

pub(super) fn reply(id: ReservationId, message: Assistant, stop: StopReason) -> Event {
    let usage = Usage { input: Tokens(100), output: Tokens(50), ..Usage::default() };
    let outcome = Outcome::Reply { message, stop, response_model: None, service_tier: None, request_id: None };
    settled(id, CostSource::Reported, Some(usage), outcome)
}

pub(super) fn model_call(purpose: Purpose, input: u64, output: u64, remark: Option<String>) -> ModelCall {
    ModelCall {
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
        parent: None,
        key: None,
        simulated: true,
        stage_caps: Default::default(),
        thread: None,
        documents: None,
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

fn stages(several: bool, tools: Vec<ToolName>) -> Vec<StagePlan> {
    let stage = |id: &str, tools| StagePlan::new(id.into(), StageKind::Loop { tools, call: None });
    if !several {
        return vec![stage("main", tools)];
    }
    let last = StagePlan { needs: vec!["left".into(), "right".into()], ..stage("last", vec![]) };
    vec![stage("left", tools.clone()), stage("right", tools), last]
}

pub(super) fn plan(sheet: Sheet) -> Plan {
    let tools = if sheet.tools { vec![tool("read", true), tool("write", false)] } else { vec![] };
    let names = tools.iter().map(|tool| tool.name.clone()).collect();
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
        },
        tools: tools.into_iter().map(|tool| (tool.name.clone(), tool)).collect(),
        stages: stages(sheet.stages, names),
        agents: BTreeMap::new(),
        output_from: None,
        documents: None,
    }
}
