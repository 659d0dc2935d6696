//! Rates and breakers of whole runs, in virtual time: waits come before the money, count as active time, and are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Call, Event, Labels, Recorded, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::message::{Assistant, Reply, Request, StopReason};
use plimsoll::domain::plan::ToolPlan;
use plimsoll::domain::pricing::{Factors, Usage};
use plimsoll::domain::rate::{Measure, ToldRates, ToldWindow};
use plimsoll::domain::report::{RateTable, TimelineEntry, Trace};
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::gate::Permit;
use plimsoll::ids::{AgentName, RunId};
use plimsoll::provider::{Answer, AnswerResult, CancelSignal, Listener};
use plimsoll::runtime::{Answering, Answers, NewRun, Runtime, RuntimeOptions, silent};
use plimsoll::spec::load::{Answering as Mode, LoadOptions, load_project};
use plimsoll::store::Store;
use plimsoll::store::inline::Tap;
use plimsoll::store::memory::MemoryDisk;
use plimsoll::tool::ToolOutcome;
use plimsoll::units::{Millis, Timestamp, Tokens};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const START: Timestamp = Timestamp(1_795_392_000_000);
const AGENT: &str = "[model]\nmodels = ['openai/gpt-5-mini']\nmax_output_tokens = 400\n[prompt]\nversion = '1'\nsystem = 'Be brief.'\nuser = '{{ input }}'\n";

/// A provider that takes a second for each call, and fails as it is told.
#[derive(Default)]
struct Steady {
    clock: Mutex<Option<Clock>>,
    fails: Mutex<Vec<ErrorClass>>,
    asked: Mutex<Vec<(String, Option<String>, u64)>>,
    /// What each answer says of the provider's own limits.
    told: Mutex<ToldRates>,
    out: AtomicU64,
    most_out: AtomicU64,
}

impl Answers for Steady {
    fn model(&self, permit: Permit, request: Request, _: Option<Listener>, _: CancelSignal) -> Answering<'_, Answer> {
        Box::pin(async move {
            let now = self.clock.lock().expect("a lock").as_ref().map_or(0, |clock| clock.now().since(START).0);
            let account = permit.account().map(ToString::to_string);
            self.asked.lock().expect("a lock").push((request.model.to_string(), account, now));
            self.most_out.fetch_max(self.out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Millis(1_000).duration()).await;
            self.out.fetch_sub(1, Ordering::SeqCst);
            let fails = self.fails.lock().expect("a lock").pop();
            let result = fails.map_or_else(reply, |class| {
                let message = "as told".to_owned();
                AnswerResult::Unknown(Failure { class, status: Some(200), code: None, message, retry_after: None })
            });
            let reservation = permit.spend();
            Answer {
                reservation,
                latency: Millis(1_000),
                first_token: None,
                rates: self.told.lock().expect("a lock").clone(),
                result,
            }
        })
    }

    fn tool(&self, _: Permit, _: ToolPlan, _: Value, _: CancelSignal) -> Answering<'_, ToolOutcome> {
        unreachable!("the agent has no tools")
    }
}

fn reply() -> AnswerResult {
    AnswerResult::Replied(Box::new(Reply {
        message: Assistant { text: "Yes.".into(), ..Assistant::default() },
        stop: StopReason::End,
        usage: Some(Usage { input: Tokens(20), output: Tokens(5), ..Usage::default() }),
        mismatch: None,
        charged: None,
        raw_usage: None,
        response_model: None,
        service_tier: None,
        factors: Factors::NONE,
        request_id: None,
        response_id: None,
    }))
}

/// Nobody watches the commits.
struct Untapped;

impl Tap for Untapped {}

/// A project over a disk in memory.
struct Port {
    runtime: Runtime,
    steady: Arc<Steady>,
    clock: Clock,
}

fn port(configuration: &str, agent: &str, disk: &MemoryDisk, now: Timestamp) -> Port {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("agents")).expect("a folder");
    std::fs::write(folder.path().join("plimsoll.toml"), configuration).expect("a file");
    std::fs::write(folder.path().join("agents/a.toml"), agent).expect("a file");
    let options = LoadOptions { answering: Mode::Simulated, ..LoadOptions::default() };
    let (project, plans) = load_project(folder.path(), &options).expect("it loads");
    let clock = Clock::paused(now, 7);
    let policy = project.ledger_policy();
    let store = Store::open_memory_inline(disk, policy, clock.clone(), Arc::new(Untapped)).expect("it opens");
    let steady = Arc::new(Steady::default());
    *steady.clock.lock().expect("a lock") = Some(clock.clone());
    let options = RuntimeOptions { clock: clock.clone(), simulated: None, prices: vec![], load_lines: BTreeMap::new() };
    let runtime = Runtime::answered_by(steady.clone(), store, &project, plans, options);
    Port { runtime, steady, clock }
}

fn new(tenant: &str) -> NewRun {
    let labels = Labels::from([("tenant".to_owned(), tenant.to_owned())]);
    NewRun { agent: AgentName::from("a"), input: json!("Is it?"), labels, key: None, files: vec![], bound: vec![] }
}

impl Port {
    async fn run(&self, tenant: &str) -> (RunId, RunState) {
        self.runtime.run(&new(tenant), silent()).await.expect("it runs")
    }

    async fn run_all(&self, tenants: &[&str]) -> Vec<(RunId, RunState)> {
        let mut tasks = JoinSet::new();
        for (index, tenant) in tenants.iter().enumerate() {
            let (runtime, new) = (self.runtime.clone(), new(tenant));
            tasks.spawn(async move { (index, runtime.run(&new, silent()).await.expect("it runs")) });
        }
        let mut all = tasks.join_all().await;
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, run)| run).collect()
    }

    fn log(&self, run: RunId) -> Vec<Recorded> {
        self.runtime.store().events(run).expect("a log")
    }

    fn waits(&self, run: RunId) -> Vec<(LimitKind, Millis)> {
        let (head, _) = self.runtime.load(run).expect("a run");
        let trace = Trace::of_tree(run, &head.plan, self.clock.now(), &mut |run| self.runtime.store().events(run));
        let timeline = trace.expect("it reads").expect("a trace").timeline;
        let waited = timeline.into_iter().filter_map(|entry| {
            let TimelineEntry::RateWaited { refusal, waited_ms, .. } = entry else { return None };
            Some((refusal.limit, waited_ms?))
        });
        waited.collect()
    }

    /// When each call was made, in milliseconds.
    fn calls(&self) -> Vec<u64> {
        self.steady.asked.lock().expect("a lock").iter().map(|(.., at)| *at).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_stay_within_their_cap_and_the_wait_is_told() {
    let port = port("[[rates]]\nconcurrent = 2\n", AGENT, &MemoryDisk::default(), START);
    let runs = port.run_all(&["a"; 6]).await;
    assert!(runs.iter().all(|(_, state)| *state == RunState::Finished), "{runs:?}");
    assert_eq!(port.steady.most_out.load(Ordering::SeqCst), 2);
    assert_eq!(port.calls(), [0, 0, 1_000, 1_000, 2_000, 2_000]);
    let waits: Vec<_> = runs.iter().flat_map(|(run, _)| port.waits(*run)).collect();
    assert_eq!(waits.len(), 4);
    assert!(waits.contains(&(LimitKind::Concurrent, Millis(2_000))), "{waits:?}");
    let (run, _) = runs[5];
    let (state, _) = port.runtime.load(run).expect("a run");
    assert_eq!(state.active(port.clock.now()), Millis(3_000), "the wait is active time");
    port.runtime.store().verify().expect("the books are right");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_rates_holds_its_landing_reserve_only() {
    let port = port("[[rates]]\nconcurrent = 1\n", AGENT, &MemoryDisk::default(), START);
    let runs = port.run_all(&["a", "b"]).await;
    let log = port.log(runs[1].0);
    let place = |found: &dyn Fn(&Event) -> bool| log.iter().position(|recorded| found(&recorded.event));
    let began = place(&|event| matches!(event, Event::RateWaitBegan(_))).expect("it waited");
    let ended = place(&|event| matches!(event, Event::RateWaitEnded(_))).expect("it went on");
    let reserved = place(&|event| matches!(event, Event::Reserved(_))).expect("it called");
    let admitted = place(&|event| matches!(event, Event::Admitted(_))).expect("it was admitted");
    assert!(admitted < began && began < ended && ended < reserved, "{log:?}");
    assert_eq!(log.iter().filter(|recorded| matches!(recorded.event, Event::Reserved(_))).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_without_tokens_left_waits_and_others_go_on() {
    let rates = "[[rates]]\neach = ['tenant']\nrequests_per_minute = 6\n";
    let port = port(rates, AGENT, &MemoryDisk::default(), START);
    let runs = port.run_all(&["greedy", "greedy", "greedy", "b", "c", "d"]).await;
    assert!(runs.iter().all(|(_, state)| *state == RunState::Finished));
    let mut calls = port.calls();
    calls.sort_unstable();
    assert_eq!(calls, [0, 0, 0, 0, 10_000, 20_000]);
    assert_eq!(port.waits(runs[2].0), [(LimitKind::RequestsPerMinute, Millis(20_000))]);
    assert!(runs[3..].iter().all(|(run, _)| port.waits(*run).is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cant_end_in_time_is_refused_and_costs_nothing() {
    let agent = format!("{AGENT}[limits]\nwall_time = '5s'\n");
    let port = port("[[rates]]\nrequests_per_minute = 1\n", &agent, &MemoryDisk::default(), START);
    assert_eq!(port.run("a").await.1, RunState::Finished);
    let (run, state) = port.run("a").await;
    let (stopped, _) = port.runtime.load(run).expect("a run");
    let ended = stopped.ended.as_ref().expect("it ended");
    let refusal = ended.refusal.as_ref().expect("by a limit");
    assert_eq!((state, refusal.limit), (RunState::Stopped, LimitKind::RequestsPerMinute));
    assert!(refusal.to_string().contains("there in 59") && refusal.to_string().contains("are left"), "{refusal}");
    assert!(stopped.counters.settled.is_zero() && port.calls().len() == 1);
}

/// What a call takes at most is counted, what it didn't use goes back: twelve fit where four would.
#[tokio::test(start_paused = true)]
async fn what_a_call_did_not_use_is_there_for_the_next() {
    let port = port("[[rates]]\ntokens_per_minute = 10_000\n", AGENT, &MemoryDisk::default(), START);
    for _ in 0..12 {
        assert_eq!(port.run("a").await.1, RunState::Finished);
    }
    let (calls, table) = (port.calls(), port.runtime.rates());
    assert_eq!(calls, (0..12).map(|second| second * 1_000).collect::<Vec<_>>());
    // 12 calls of 25 tokens in as many seconds: all of them are back.
    assert_eq!((table.rates[0].limit, table.rates[0].free, table.waiting), (LimitKind::TokensPerMinute, 1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_says_that_it_takes_no_more_is_waited_for() {
    let port = port("", AGENT, &MemoryDisk::default(), START);
    let window = ToldWindow { limit: Some(60), remaining: 0, resets_in: Millis(60_000) };
    *port.steady.told.lock().expect("a lock") = ToldRates(BTreeMap::from([(Measure::Requests, window)]));
    assert_eq!(port.run("a").await.1, RunState::Finished);
    *port.steady.told.lock().expect("a lock") = ToldRates::default();
    let (run, state) = port.run("b").await;
    assert_eq!((state, port.calls()), (RunState::Finished, vec![0, 2_000]), "one is back each second");
    assert_eq!(port.waits(run), [(LimitKind::ProviderRate, Millis(1_000))]);
}

/// Nothing else would tell why the run has no last answer.
#[tokio::test(start_paused = true)]
async fn a_landing_that_the_rates_keep_from_going_says_so() {
    let agent = format!("{AGENT}[limits]\nwall_time = '10s'\nmodel_calls = 2\nattempts = 2\n");
    let port = port("[[rates]]\nrequests_per_minute = 1\n", &agent, &MemoryDisk::default(), START);
    port.steady.fails.lock().expect("a lock").push(ErrorClass::Server);
    let (run, state) = port.run("a").await;
    assert_eq!((state, port.calls().len()), (RunState::Stopped, 1));
    let log = port.log(run);
    let refused = log.iter().find_map(|recorded| {
        let Event::RateWaitEnded(ended) = &recorded.event else { return None };
        ended.refused.as_ref()
    });
    assert_eq!(refused.expect("it says why").limit, LimitKind::RequestsPerMinute);
    assert!(port.runtime.replay(run).expect("a log").is_ok(), "{log:?}");
    port.runtime.store().verify().expect("the books are right");
}

#[tokio::test(start_paused = true)]
async fn a_wait_survives_a_crash_and_counts_nothing_twice() {
    let (disk, rates) = (MemoryDisk::default(), "[[rates]]\nrequests_per_minute = 6\n");
    let before = port(rates, AGENT, &disk, START);
    assert_eq!(before.run("a").await.1, RunState::Finished);
    let runtime = before.runtime.clone();
    let waiting = tokio::time::timeout(Millis(3_000).duration(), runtime.run(&new("a"), silent())).await;
    assert!(waiting.is_err(), "it waits");
    before.runtime.drain().await;
    let last = before.runtime.store().summaries(&plimsoll::store::RunFilter::default()).expect("runs")[0].id;
    let now = before.clock.now().after(Millis(60_000));
    drop((runtime, before));
    let after = port(rates, AGENT, &disk, now);
    let state = after.runtime.drive(last, silent()).await.expect("it goes on");
    assert_eq!(state, RunState::Finished);
    let log = after.log(last);
    assert!(log.iter().any(|recorded| matches!(recorded.event, Event::RateWaitBegan(_))), "{log:?}");
    let (run, _) = after.runtime.load(last).expect("a run");
    assert_eq!((run.counters.attempts, run.counters.steps), (1, 1));
    assert_eq!(log.iter().filter(|recorded| matches!(recorded.event, Event::Reserved(_))).count(), 1);
    after.runtime.store().verify().expect("the books are right");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_sends_the_next_run_to_the_fallback() {
    let agent = AGENT.replace("['openai/gpt-5-mini']", "['openai/gpt-5-mini', 'anthropic/claude-haiku-4-5']");
    let port = port("[breaker]\nfailures = 2\nopen = '10s..60s'\n", &agent, &MemoryDisk::default(), START);
    port.steady.fails.lock().expect("a lock").extend([ErrorClass::CutStream; 2]);
    assert_eq!(port.run("a").await.1, RunState::Finished, "by its own fallback");
    let (run, state) = port.run("a").await;
    assert_eq!(state, RunState::Finished);
    let log = port.log(run);
    let call = log.iter().find_map(|recorded| {
        let Event::Reserved(reserved) = &recorded.event else { return None };
        if let Call::Model(call) = &reserved.call { Some(call.clone()) } else { None }
    });
    let call = call.expect("a call");
    assert_eq!(call.model.as_str(), "anthropic/claude-haiku-4-5");
    let instead = call.instead.expect("why");
    assert!(instead.contains("openai/gpt-5-mini: the breaker of openai/gpt-5-mini is open until"), "{instead}");
    let RateTable { breakers, .. } = port.runtime.rates();
    assert_eq!(breakers[0].of, "openai/gpt-5-mini");
}

#[tokio::test(start_paused = true)]
async fn without_a_fallback_a_breaker_is_waited_for_as_long_as_a_retry_after() {
    let configuration = "[breaker]\nfailures = 2\nopen = '10s..60s'\n";
    let port = port(
        configuration,
        &format!("{AGENT}[retry]\nattempts = 4\nretry_after = '15s'\n"),
        &MemoryDisk::default(),
        START,
    );
    port.steady.fails.lock().expect("a lock").extend([ErrorClass::Server; 2]);
    let (run, state) = port.run("a").await;
    assert_eq!(state, RunState::Finished);
    let waits = port.waits(run);
    assert!(waits.len() == 1 && waits[0].0 == LimitKind::Breaker && waits[0].1 > Millis(9_000), "{waits:?}");
    // Two more failures: now it is open for longer than a run has patience for.
    port.steady.fails.lock().expect("a lock").extend([ErrorClass::Server; 12]);
    let (run, state) = port.run("a").await;
    let (stopped, _) = port.runtime.load(run).expect("a run");
    let refusal = stopped.ended.and_then(|ended| ended.refusal).expect("a limit");
    assert_eq!((state, refusal.limit), (RunState::Stopped, LimitKind::Breaker));
    assert!(refusal.observed.contains("the last failure was server"), "{refusal}");
}

const ACCOUNTS: &str = "[providers.openai]\nwire = 'openai-chat'\nbase_url = 'http://127.0.0.1:9/v1'\nstrict = true\n\
    [[providers.openai.accounts]]\nname = 'acme'\nlabels = { tenant = 'acme' }\nkey_env = 'ACME_KEY'\n";

#[tokio::test(start_paused = true)]
async fn labels_choose_who_pays_and_strict_accounts_pay_for_nobody_else() {
    let port = port(ACCOUNTS, AGENT, &MemoryDisk::default(), START);
    assert_eq!(port.run("acme").await.1, RunState::Finished);
    assert_eq!(port.steady.asked.lock().expect("a lock")[0].1.as_deref(), Some("acme"));
    let (run, state) = port.run("other").await;
    let (stopped, _) = port.runtime.load(run).expect("a run");
    let refusal = stopped.ended.and_then(|ended| ended.refusal).expect("a limit");
    assert_eq!((state, refusal.limit), (RunState::Stopped, LimitKind::ModelPolicy));
    assert!(refusal.observed.contains("no account of its provider is for the labels of this run"), "{refusal}");
}

fn faults(configuration: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("plimsoll.toml"), configuration).expect("a file");
    load_project(folder.path(), &LoadOptions::default()).map(drop).expect_err("it has faults").to_string()
}

#[test]
fn what_is_wrong_with_rates_breakers_and_accounts_is_told_by_line() {
    let provider = "[providers.openai]\nwire = 'openai-chat'\nbase_url = 'http://127.0.0.1:9/v1'\n";
    let account = "[[providers.openai.accounts]]\n";
    for (text, told) in [
        ("[[rates]]\nscope = { provider = 'openai' }\n", "the rate limits nothing"),
        ("[[rates]]\nconcurrent = 0\n", "`concurrent`"),
        ("[[rates]]\nconcurrent = 1\nscope = { provider = 'opnai' }\n", "no provider `opnai` is configured"),
        ("[[rates]]\nconcurrent = 1\nscope = { model = 'gpt-5' }\n", "`gpt-5` is no name of a model"),
        ("[[rates]]\nconcurrent = 1\nscope = { account = 'acme' }\n", "no provider has an account `acme`"),
        (
            "[[rates]]\nconcurrent = 1\nscope = { model = 'openai/a' }\neach = ['model']\n",
            "`model` is in `each` and in `scope`",
        ),
        ("[[rates]]\nconcurrent = 1\neach = ['a b']\n", "`a b` is no name of a label"),
        ("[[rates]]\nper_second = 1\n", "per_second"),
        ("[breaker]\nopen = '0s..5m'\n", "a breaker that is open for no time is none"),
        ("[breaker]\nfailures = 2000\n", "`failures`"),
    ] {
        let all = faults(&format!("{provider}{text}"));
        assert!(all.contains(told), "{text}: {all}");
    }
    for (text, told) in [
        ("name = 'default'\nlabels = { tenant = 'a' }\nkey_env = 'K'\n", "`default` stands for the provider's own key"),
        ("name = 'a'\nlabels = { tenant = 'a' }\n", "neither a key nor headers of its own"),
        ("name = 'a'\nlabels = {}\nkey_env = 'K'\n", "the account is for every run"),
        ("name = 'a'\nkey_env = 'K'\n", "`labels`"),
        ("name = 'a'\nlabels = { t = 'a' }\nkey_env = 'K'\nkey_file = 'f'\n", "are both there"),
        ("name = 'a'\nlabels = { t = 'a' }\nheaders = { Authorization = 'x' }\n", "would hold a secret"),
    ] {
        let all = faults(&format!("{provider}{account}{text}"));
        assert!(all.contains(told), "{text}: {all}");
    }
    assert!(faults(&format!("{provider}strict = true\n")).contains("`strict` refuses every run"));
}
