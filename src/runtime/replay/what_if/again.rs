//! Tells a tree again: the conductor drives it over a store in memory, in virtual time, and what was recorded answers.
//! So every decision is the one that a run would take, limits, reservations and landing included; and no call is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::change::Change;
use super::live::{Due, Found, Live, Told};
use super::record::{Record, Try, TryEnd};
use crate::clock::Clock;
use crate::domain::context::Documents;
use crate::domain::event::{Call, Count, Created, Event, Outcome, RunState, Settled};
use crate::domain::ledger::{LedgerPolicy, Op};
use crate::domain::message::{Assistant, Reply, Request as ModelRequest, StopReason};
use crate::domain::plan::{Plan, ToolPlan};
use crate::domain::pricing::{Factors, Usage};
use crate::domain::rate::ToldRates;
use crate::domain::run::{Run, Tree};
use crate::gate::{Appraiser, Permit, Providers, Rendered, hash};
use crate::ids::{AgentName, ModelName, ReservationId, RunId};
use crate::provider::{Answer, AnswerResult, CancelSignal, Listener};
use crate::runtime::conductor::Conductor;
use crate::runtime::known::tools_of;
use crate::runtime::replay::TreeLog;
use crate::runtime::{Agent, Answering, Answers, Parts, Request, Runtime, RuntimeError, RuntimeOptions, silent};
use crate::spec::configuration::bare;
use crate::store::Store;
use crate::store::memory::MemoryDisk;
use crate::tool::ToolOutcome;
use crate::units::{Millis, Timestamp, Tokens};

/// After that much time in which nothing happens, nothing more will: what is in flight has no recorded end.
const NOTHING_MORE: Millis = Millis::from_secs(100 * 86_400);
/// Requests of people on their way.
const REQUESTS_MAX: usize = 64;
/// How often a tree is left to people and gone on with, at most.
const DRIVES_MAX: usize = 10_000;

/// Tells a tree again under a change, as far as it can be known.
pub(super) fn again(
    log: &Arc<TreeLog>,
    created: &Created,
    desk: &Appraiser,
    change: &Change,
) -> Result<Told, RuntimeError> {
    let tell = || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let tokio = tokio.map_err(|error| RuntimeError::Task(format!("can't start: {error}")))?;
        tokio.block_on(Box::pin(tell(log, created, desk, change)))
    };
    // Its time is its own, and whoever asks may be inside another runtime.
    let told = std::thread::scope(|scope| scope.spawn(tell).join());
    told.unwrap_or_else(|_| {
        Err(RuntimeError::Task("telling the run again broke down; this is a fault of plimsoll".into()))
    })
}

async fn tell(log: &Arc<TreeLog>, created: &Created, desk: &Appraiser, change: &Change) -> Result<Told, RuntimeError> {
    let clock = Clock::paused(began(log), 0);
    let live = Arc::new(Live::of(Record::of(log.clone()), !change.models.is_empty()));
    let store =
        Store::open_memory_inline(&MemoryDisk::default(), LedgerPolicy::default(), clock.clone(), live.clone())?;
    let plan = Arc::new(change.plan(&log.plan));
    let runtime = runtime(&live, store, desk, &clock);
    let agent = Arc::new(Agent::new(plan.clone()));
    let created = as_changed(created, &agent);
    let run = Run::new(log.root, plan.clone(), &created, clock.now());
    let talk = talk(log, &agent, &run)?;
    let tree = Tree::of(run);
    let mut next = Some((tree, Some(Event::Created(created))));
    for _ in 0..DRIVES_MAX {
        let Some((tree, created)) = next.take() else { break };
        let Some(state) = drive(&runtime, &live, tree, (agent.clone(), talk.clone()), created).await? else { break };
        if state.awaits_person() && people_answer(&runtime, &live, &plan).await? {
            next = Some((tree_of(&runtime, log.root, &plan)?, None));
        }
    }
    let told = std::mem::take(&mut *live.told());
    Ok(told)
}

/// When it began to work: waits in the queue are others' affair.
fn began(log: &TreeLog) -> Timestamp {
    let root = log.logs.get(&log.root).into_iter().flatten();
    let worked = root.clone().find(|one| matches!(one.event, Event::Admitted(_)));
    worked.or_else(|| root.clone().next()).map_or(Timestamp(0), |first| first.at)
}

fn runtime(live: &Arc<Live>, store: Store, desk: &Appraiser, clock: &Clock) -> Runtime {
    let (stop, tools) = tools_of(clock);
    let answers = Arc::new(Replies(live.clone()));
    let known = Providers::Any(Arc::default());
    let parts = Parts { store, known, answers, simulated: true, instants: false, stop, tools };
    let options = RuntimeOptions { clock: clock.clone(), simulated: None, prices: vec![], load_lines: BTreeMap::new() };
    Runtime::around(desk.clone(), parts, &bare(std::path::Path::new("")), BTreeMap::new(), options)
}

fn as_changed(created: &Created, agent: &Agent) -> Created {
    let plan = &agent.plan;
    Created { plan: agent.hash.clone(), cap: plan.limits.cost, stage_caps: plan.stage_caps(), ..created.clone() }
}

fn talk(log: &TreeLog, agent: &Agent, run: &Run) -> Result<Rendered, RuntimeError> {
    let talk = Rendered::of(&agent.plan, agent.forms.own.clone(), &run.input)
        .map_err(|fault| RuntimeError::Prompt { agent: agent.plan.agent.clone(), fault })?;
    Ok(talk.with_input_of(run).with_earlier(log.history()))
}

/// A tree that was left. The bytes of its files are nowhere here, and aren't asked for.
fn tree_of(runtime: &Runtime, root: RunId, plan: &Arc<Plan>) -> Result<Tree, RuntimeError> {
    let tree = Tree::load(root, plan.clone(), |run| runtime.store().events(run))?;
    tree.ok_or(RuntimeError::DamagedLog { run: root })
}

/// Drives a tree until it ends or waits for a person; `None` where nothing more can be known.
async fn drive(
    runtime: &Runtime,
    live: &Live,
    tree: Tree,
    talk: (Arc<Agent>, Rendered),
    created: Option<Event>,
) -> Result<Option<RunState>, RuntimeError> {
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let (_hang_up, hung_up) = watch::channel(false);
    let mut conductor = Conductor::new(runtime.0.clone(), tree, talk, silent(), created, requests, hung_up);
    tokio::select! {
        biased;
        state = Box::pin(conductor.drive()) => state.map(Some),
        () = answer_meanwhile(runtime, live, sender) => Ok(None),
    }
}

/// Gives the recorded answers to what is asked while others go on; comes to an end where nothing more can be known.
async fn answer_meanwhile(runtime: &Runtime, live: &Live, conductor: mpsc::Sender<Box<Request>>) {
    loop {
        let now = runtime.0.clock.now();
        let due = first_due(live);
        let wait = due.as_ref().map_or(NOTHING_MORE, |due| due.at.since(now));
        tokio::select! {
            biased;
            () = live.news.notified() => continue,
            () = tokio::time::sleep(wait.duration()) => {}
        }
        let Some(due) = due else { return };
        let (reply, answered) = oneshot::channel();
        if let Some(given) = due.given {
            let request = Request::Answer { run: due.run, given, reply };
            if conductor.send(Box::new(request)).await.is_err() || answered.await.is_err() {
                // It has left: the answer is given to who waits.
                std::future::pending::<()>().await;
            }
        }
        forget(live, due.run, due.at);
    }
}

/// Lets time pass to the next answer of a person, and gives it; false where nobody answered any more.
async fn people_answer(runtime: &Runtime, live: &Live, plan: &Arc<Plan>) -> Result<bool, RuntimeError> {
    let Some(due) = first_due(live) else { return Ok(false) };
    tokio::time::sleep(due.at.since(runtime.0.clock.now()).duration()).await;
    forget(live, due.run, due.at);
    let (root, now) = (live.record.log.root, runtime.0.clock.now());
    let tree = tree_of(runtime, root, plan)?;
    let mut events = runtime.late(&tree);
    if let (Some(run), Some(given)) = (tree.run(due.run), &due.given) {
        // One that doesn't fit what is asked now is none.
        let answered = run.judge_answer(now, given, &runtime.0.checks).ok();
        events.extend(answered.map(|answered| (due.run, Event::PersonAnswered(answered))));
    }
    if !events.is_empty() {
        runtime.store().submit(Op { run: root, events, asks: vec![], plan: None }).await?;
    }
    Ok(true)
}

fn first_due(live: &Live) -> Option<Due> {
    live.told().due.iter().min_by_key(|due| (due.at, due.run)).cloned()
}

fn forget(live: &Live, run: RunId, at: Timestamp) {
    live.told().due.retain(|due| (due.run, due.at) != (run, at));
}

/// Answers with what was recorded.
struct Replies(Arc<Live>);

impl Replies {
    /// The recorded attempt, once its time has passed; never, where there is none.
    async fn recorded(&self, permit: Permit) -> Arc<Try> {
        let reservation = permit.spend();
        let found = self.0.told().found.get(&reservation).cloned();
        if let Some(Found::Known(tried)) = found {
            tokio::time::sleep(tried.took().duration()).await;
            return tried;
        }
        self.0.told().stuck.get_or_insert(reservation);
        std::future::pending().await
    }
}

impl Answers for Replies {
    fn model(
        &self,
        permit: Permit,
        request: ModelRequest,
        _listener: Option<Listener>,
        _cancel: CancelSignal,
    ) -> Answering<'_, Answer> {
        Box::pin(async move {
            let reservation = permit.reservation();
            let tried = self.recorded(permit).await;
            let (latency, first_token, result) = match &tried.end {
                Some((_, TryEnd::Settled(settled))) => {
                    let bound = self.bound_of(reservation);
                    (settled.latency, settled.first_token, result(&tried, settled, &request.model, bound))
                }
                Some((_, TryEnd::Voided(voided))) => {
                    (voided.latency, None, AnswerResult::Unbilled(voided.failure.clone()))
                }
                None => std::future::pending().await,
            };
            Answer { reservation, latency, first_token, rates: ToldRates::default(), result }
        })
    }

    fn count(&self, permit: Permit, request: ModelRequest) -> Answering<'_, Count> {
        let (_, hash) = (permit.spend(), hash(&request.messages));
        let calls = self
            .0
            .record
            .tries()
            .iter()
            .filter_map(|tried| if let Call::Model(call) = &tried.reserved.call { Some(call) } else { None });
        let mut same = calls.filter(|call| call.request_hash == hash && call.model == request.model);
        let count = same.find_map(|call| call.count.clone());
        let why = || "it counted no such request".to_owned();
        Box::pin(std::future::ready(count.unwrap_or_else(|| Count::Not { why: why() })))
    }

    fn tool(
        &self,
        permit: Permit,
        _plan: ToolPlan,
        _arguments: Value,
        _cancel: CancelSignal,
    ) -> Answering<'_, ToolOutcome> {
        Box::pin(async move {
            let reservation = permit.reservation();
            let tried = self.recorded(permit).await;
            let outcome = |content: &str, is_error, cut_bytes, latency, never_began| ToolOutcome {
                reservation,
                content: content.to_owned(),
                is_error,
                cut_bytes,
                latency,
                never_began,
            };
            match &tried.end {
                Some((_, TryEnd::Settled(settled))) => match &settled.outcome {
                    Outcome::ToolResult { content, is_error, cut_bytes } => {
                        outcome(content, *is_error, *cut_bytes, settled.latency, false)
                    }
                    // No such call is found to be known.
                    Outcome::Reply { .. } | Outcome::Failed(_) => std::future::pending().await,
                },
                Some((_, TryEnd::Voided(voided))) => outcome(&voided.failure.message, true, 0, voided.latency, true),
                None => std::future::pending().await,
            }
        })
    }

    fn documents(&self, agent: &AgentName, input: &Value) -> Option<Option<Documents>> {
        let logs = self.0.record.log.logs.values();
        let mut created = logs.filter_map(|log| {
            let Event::Created(created) = &log.first()?.event else { return None };
            (created.agent == *agent && created.input == *input).then_some(created)
        });
        Some(created.next().and_then(|created| created.documents.as_deref().cloned()))
    }
}

impl Replies {
    /// What an attempt's request is bound by now.
    fn bound_of(&self, reservation: ReservationId) -> Tokens {
        let told = self.0.told();
        let bound = told.events.iter().rev().find_map(|(_, recorded)| {
            let Event::Reserved(reserved) = &recorded.event else { return None };
            let Call::Model(call) = &reserved.call else { return None };
            (reserved.reservation == reservation).then_some(call.bound.tokens)
        });
        bound.unwrap_or(Tokens(u64::MAX))
    }
}

/// The recorded reply as this model would be billed for it.
fn result(tried: &Try, settled: &Settled, model: &ModelName, bound: Tokens) -> AnswerResult {
    if let Outcome::Failed(failure) = &settled.outcome {
        return AnswerResult::Unknown(failure.clone());
    }
    let usage = settled.usage;
    let mut reply = Reply {
        message: Assistant::default(),
        stop: StopReason::End,
        usage,
        mismatch: settled.mismatch.clone(),
        charged: None,
        raw_usage: None,
        response_model: None,
        service_tier: None,
        factors: Factors::NONE,
        request_id: None,
        response_id: None,
    };
    if let Outcome::Reply { message, stop, response_model, service_tier, factors, .. } = &settled.outcome {
        (reply.message, reply.stop, reply.factors) = (message.clone(), stop.clone(), *factors);
        (reply.response_model, reply.service_tier) = (response_model.clone(), service_tier.clone());
    }
    if !matches!(&tried.reserved.call, Call::Model(call) if call.model == *model) {
        // Only who said them understands these, and the other's own name and tier are none of this one.
        reply.message.reasoning.clear();
        (reply.response_model, reply.service_tier) = (None, None);
        reply.usage = usage.map(|usage| within(usage, bound));
    }
    AnswerResult::Replied(Box::new(reply))
}

/// Another tokenizer counts otherwise, and never more than this model's bound of the same request.
fn within(mut usage: Usage, bound: Tokens) -> Usage {
    let mut over = usage.input_total().0.saturating_sub(bound.0);
    for class in [&mut usage.input, &mut usage.cache_read, &mut usage.cache_write, &mut usage.cache_write_long] {
        let less = class.0.min(over);
        class.0 -= less;
        over -= less;
    }
    usage
}
