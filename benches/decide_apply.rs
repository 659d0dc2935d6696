//! What does one decision cost, without disk and network?
//!
//! Input: one op that settles a call and reserves the next (what each model step asks of the ledger), through
//! `Ledger::decide` and `take_dirty`; with 0, 1 and 3 budgets, while 1, 16 and 256 runs are open. And one model step of a
//! run: its facts folded by `Run::apply`, and `Run::next`. Unit: time for each op or step. Floor: the same sums kept in
//! two ordered maps, without any rule.

use crate::facts;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group};
use plimsoll::domain::event::{Call, Event, Outcome, Reserved, Settled};
use plimsoll::domain::ledger::{Ledger, LedgerPolicy, Snapshot, Verdict};
use plimsoll::domain::limits::{Declared, Limits};
use plimsoll::domain::message::Sampling;
use plimsoll::domain::plan::{
    Approval, Builtin, ContextPlan, CountBy, ModelPlan, Overflow, PLAN_VERSION, Plan, PromptPlan, RetryPlan, StageKind,
    StagePlan, ToolKind, ToolPlan,
};
use plimsoll::domain::run::{CallCheck, Run};
use plimsoll::ids::ReservationId;
use plimsoll::units::{Millis, Money, Tokens};
use serde_json::{Value, json};

fn ledger(budgets: u32, runs: u32) -> Ledger {
    let mut ledger =
        Ledger::restore(LedgerPolicy { budgets: facts::budgets(budgets), alerts: Vec::new() }, Snapshot::default());
    for number in 0..runs {
        let decision = ledger.decide(facts::start(facts::run(number)), facts::START);
        assert!(matches!(decision.verdicts.as_slice(), [Verdict::Admitted(Some(_))]), "{:?}", decision.verdicts);
    }
    ledger.take_dirty();
    ledger
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for budgets in [0, 1, 3] {
        for runs in [1, 16, 256] {
            let mut ledger = ledger(budgets, runs);
            let mut turn = 0;
            let name = BenchmarkId::new(format!("{budgets}_budgets"), format!("{runs}_runs"));
            group.bench_function(name, |bencher| {
                let op = || {
                    turn += 1;
                    facts::step(facts::run(turn % runs), facts::FIRST_CALL + turn.div_ceil(runs))
                };
                let decide = |op| {
                    let decision = ledger.decide(op, facts::START);
                    (decision, ledger.take_dirty())
                };
                // One op at a time: each settles what the last one of its run reserved.
                bencher.iter_batched(op, decide, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

fn floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("floor");
    for runs in [1_u32, 16, 256] {
        let mut holds: BTreeMap<ReservationId, u128> = BTreeMap::new();
        let mut accounts: BTreeMap<u128, (u128, u128)> = BTreeMap::new();
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("maps_1_budget", format!("{runs}_runs")), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let run = facts::run(turn % runs);
                let number = turn.div_ceil(runs);
                holds.remove(&ReservationId { run, number: number - 1 });
                holds.insert(ReservationId { run, number }, 5_000);
                for account in [run.bits(), 0] {
                    let (held, settled) = accounts.entry(account).or_default();
                    (*held, *settled) = (*held ^ 5_000, *settled + 412);
                }
                black_box(&accounts);
            });
        });
    }
    group.finish();
}

/// Takes everything: schemas are measured elsewhere.
struct AnyCall;

impl CallCheck for AnyCall {
    fn arguments(&self, _tool: &ToolPlan, _raw: &str) -> Result<(), String> {
        Ok(())
    }

    fn output(&self, _schema: &Value, text: &str) -> Result<Value, String> {
        Ok(Value::String(text.to_owned()))
    }
}

fn tool_facts(run: &Run, number: u32) -> [Event; 2] {
    let reservation = ReservationId { run: run.id, number };
    let call = Call::Tool {
        call_id: format!("call_{}", number - 1),
        tool: "calculate".into(),
        arguments_hash: "0123456789abcdef".to_owned(),
        idempotent: true,
        arguments: None,
    };
    let reserved = Reserved { amount: Money::ZERO, call, ..facts::reserved(run.id, number) };
    let outcome = Outcome::ToolResult { content: "53.193".to_owned(), is_error: false, cut_bytes: 0 };
    let settled = Settled { reservation, outcome, ..facts::settled(run.id, number) };
    [Event::Reserved(Box::new(reserved)), Event::Settled(Box::new(settled))]
}

/// An agent with one tool.
fn plan() -> Plan {
    let tool = ToolPlan {
        name: "calculate".into(),
        description: "Does exact arithmetic".to_owned(),
        input: json!({"type": "object", "required": ["expression"], "properties": {"expression": {"type": "string"}}}),
        timeout: Millis::from_secs(5),
        output_bytes: 16_384,
        idempotent: true,
        price: Money::ZERO,
        kind: ToolKind::Builtin(Builtin::Calculate),
        approval: Approval::Never,
    };
    Plan {
        version: PLAN_VERSION,
        agent: "accountant".into(),
        description: String::new(),
        owner: None,
        feature: None,
        unit: None,
        outcome: None,
        model: ModelPlan {
            policy: None,
            declared: Declared::Default,
            candidates: vec!["openai/gpt-5-mini".into()],
            downgrade: None,
            after_filter: Vec::new(),
            after_overflow: Vec::new(),
            max_output_tokens: 800,
            min_output_tokens: 64,
            sampling: Sampling::default(),
            stream: false,
            web_search: None,
        },
        prompt: PromptPlan { version: None, hash: String::new(), system: String::new(), user: String::new() },
        input: None,
        output: None,
        limits: Limits { steps: 1_000, model_calls: 1_000, tool_calls: 1_000, repeats: 1_000, ..Limits::default() },
        retry: RetryPlan::default(),
        context: ContextPlan {
            tokens: Tokens(16_000),
            history: Tokens(6_000),
            documents: Tokens(4_000),
            tool_output: Tokens(2_000),
            overflow: Overflow::Trim,
            declared: Declared::Default,
            summary_model: None,
            cache: plimsoll::domain::caching::CacheMode::Off,
            cache_ttl: plimsoll::domain::message::CacheTtl::Short,
            count: CountBy::Own,
        },
        tools: BTreeMap::from([(tool.name.clone(), tool)]),
        stages: vec![StagePlan::new("main".into(), StageKind::Loop { tools: vec!["calculate".into()], call: None })],
        agents: BTreeMap::new(),
        output_from: None,
        documents: None,
        priority: None,
        files: vec![],
    }
}

/// A run after some turns, and the facts of its next: model call and tool call.
fn run_after(plan: &Arc<Plan>, turns: u32) -> (Run, Vec<Event>) {
    let mut run = Run::new(facts::run(1), plan.clone(), &facts::created(), facts::START);
    let turn = |run: &Run, number: u32| {
        let mut events = vec![
            Event::Reserved(Box::new(facts::reserved(run.id, number))),
            Event::Settled(Box::new(facts::settled(run.id, number))),
        ];
        events.extend(tool_facts(run, number + 1));
        events
    };
    for number in 0..turns {
        turn(&run, 1 + number * 2).iter().for_each(|event| run.apply(facts::START, event));
    }
    let next = turn(&run, 1 + turns * 2);
    (run, next)
}

fn run_step(criterion: &mut Criterion) {
    let plan = Arc::new(plan());
    let mut group = criterion.benchmark_group("run");
    for turns in [0, 3, 15] {
        let (run, next) = run_after(&plan, turns);
        group.bench_function(BenchmarkId::new("apply_and_next", format!("after_{turns}_turns")), |bencher| {
            let step = |mut run: Run| {
                for event in &next {
                    run.apply(facts::START, event);
                    black_box(run.next(facts::START, &AnyCall));
                }
                run
            };
            bencher.iter_batched(|| run.clone(), step, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, decide, floor, run_step);

pub(crate) fn bench() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
