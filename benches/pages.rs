//! How long until a page of a store of many runs is with whoever asked for it?
//!
//! Input: a store of 100,000 ended runs of two model calls each (2,000 with `PLIMSOLL_RUNS=2000`) over the last 60 days, of 50
//! tenants and 4 features, counted by a budget for each tenant and one over all; and one run of 500 calls. With
//! `PLIMSOLL_THREADS=1` each run is a conversation of its own. Unit: time from
//! request to the last byte of the page, over a connection that is open. Floor: `/healthz`, which reads nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll::api::tcp::Tcp;
use plimsoll::api::{Intake, IntakeOptions, Service};
use plimsoll::clock::Clock;
use plimsoll::domain::budget::Budget;
use plimsoll::domain::event::{AccountKey, Admitted, EndState, Ended, Event, Landing, LandingReleased};
use plimsoll::domain::ledger::Op;
use plimsoll::domain::plan::Plan;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::runtime::{Runtime, RuntimeOptions};
use plimsoll::units::{Millis, Money};
use tokio::sync::watch;

use crate::facts::{FIRST_CALL, START, budget, created, reserved, run, settled};
use crate::measure::{is_whole, micros_since, now, percentile, say, spread};
use crate::project;

/// Runs of the store.
const RUNS: u32 = 100_000;
/// Runs of the store where the bench only shows that it works.
const RUNS_SMALL: u32 = 200;
/// Runs that one op writes.
const RUNS_OF_OP: u32 = 32;
/// Model calls of each run.
const CALLS: u32 = 2;
/// Model calls of the long one.
const CALLS_LONG: u32 = 500;
/// How far back the runs go.
const DAYS: u64 = 60;
const TENANTS: u32 = 50;
const FEATURES: [&str; 4] = ["support", "search", "review", "mail"];
/// How often each page is asked for.
const ROUNDS: usize = 50;

pub(crate) fn bench() {
    let asked = std::env::var("PLIMSOLL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = asked.unwrap_or(if is_whole() { RUNS } else { RUNS_SMALL });
    tokio::runtime::Runtime::new().expect("a runtime").block_on(measure(runs));
}

async fn measure(runs: u32) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (mut project, plan) = project::load(folder.path(), false, project::USUAL);
    let each = Budget { each: vec!["tenant".to_owned()], ..budget("tenant-month", Money::from_micro(900_000_000)) };
    project.budgets = vec![budget("month", Money::from_micro(90_000_000_000)), each];
    let clock = Clock::virtual_at(START);
    let options = RuntimeOptions {
        clock: clock.clone(),
        simulated: Some("http://127.0.0.1:9/v1".to_owned()),
        prices: vec![],
        load_lines: BTreeMap::new(),
    };
    let plans = BTreeMap::from([(plan.agent.clone(), plan.clone())]);
    let runtime = Runtime::open(&project, plans, options).expect("it opens");
    let began = now();
    fill(&runtime, &clock, &project.budgets, &Arc::new(plan), runs).await;
    say(&format!("{runs} runs, written in {} ms", micros_since(began) / 1_000));

    let intake = Intake::new(runtime.clone(), IntakeOptions::default());
    let service = Service::new(runtime, &project.budgets, clock).with_intake(intake);
    let tcp = Tcp::bind("127.0.0.1:0".parse().expect("an address"), service.gatekeeper()).await.expect("it binds");
    let (address, stop) = (tcp.address(), watch::Sender::new(false));
    let tcp = tcp.with_pages(plimsoll::pages::router(service.clone(), false).expect("pages"));
    let mut served = tokio::task::JoinSet::new();
    served.spawn(tcp.serve(service, stop.subscribe()));
    say("| page | µs | p99 | KiB |");
    say("|---|---:|---:|---:|");
    let (short, long) = (format!("/runs/{}", run(runs / 2)), format!("/runs/{}", run(runs)));
    let pages = [
        ("`/healthz`: the floor", "/healthz"),
        ("overview", "/"),
        ("runs", "/runs"),
        ("runs of a tenant", "/runs?label=tenant%3Dtenant-7"),
        ("a run of 2 calls", short.as_str()),
        ("a run of 500 calls", long.as_str()),
        ("agents", "/agents"),
        ("models", "/models"),
        ("budgets", "/budgets"),
        ("a budget's account", "/budgets/tenant-month?scope=tenant%3Dtenant-7"),
        ("switches", "/switches"),
        ("audit", "/audit"),
    ];
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for (name, path) in pages {
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..if is_whole() { ROUNDS } else { 1 } {
            let began = now();
            let answer = http.get(format!("http://{address}{path}")).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            bytes = answer.bytes().await.expect("a page").len();
            times.push(micros_since(began));
        }
        times.sort_unstable();
        let slow = percentile(&times, 99);
        say(&format!("| {name} | {} | {slow} | {} |", spread(times), bytes >> 10));
    }
    drop(http);
    stop.send_replace(true);
    served.join_all().await;
}

async fn fill(runtime: &Runtime, clock: &Clock, budgets: &[Budget], plan: &Arc<Plan>, runs: u32) {
    let step = Millis(DAYS * 86_400_000 / u64::from(runs.div_ceil(RUNS_OF_OP)));
    let mut waiting = tokio::task::JoinSet::new();
    for first in (0..runs).step_by(usize::try_from(RUNS_OF_OP).expect("a small number")) {
        let accounts = |tenant: &str| accounts(budgets, clock, tenant);
        let numbers = first..runs.min(first + RUNS_OF_OP);
        let events = numbers.flat_map(|number| whole(number, plan, CALLS, &accounts)).collect();
        let op = Op { run: run(first), events, asks: vec![], plan: (first == 0).then(|| Arc::clone(plan)) };
        let store = runtime.store().clone();
        waiting.spawn(async move { store.submit(op).await.expect("it commits") });
        // A few ops in flight: enough for a group, little to keep.
        if waiting.len() >= 16 {
            waiting.join_next().await;
        }
        clock.advance(step);
    }
    while waiting.join_next().await.is_some() {}
    let events = whole(runs, plan, CALLS_LONG, &|tenant| accounts(budgets, clock, tenant)).collect();
    runtime.store().submit(Op { run: run(runs), events, asks: vec![], plan: None }).await.expect("it commits");
}

fn accounts(budgets: &[Budget], clock: &Clock, tenant: &str) -> Vec<AccountKey> {
    let labels = BTreeMap::from([("tenant".to_owned(), tenant.to_owned())]);
    let account = |budget: &Budget| budget.account(&labels, clock.now()).expect("it has the label");
    budgets.iter().filter_map(account).collect()
}

/// All facts of a run that finished.
fn whole(
    number: u32,
    plan: &Plan,
    calls: u32,
    accounts: &dyn Fn(&str) -> Vec<AccountKey>,
) -> impl Iterator<Item = (RunId, Event)> + use<> {
    let (run, mut birth) = (run(number), created());
    let tenant = format!("tenant-{}", number % TENANTS);
    let feature = FEATURES[usize::try_from(number / TENANTS).expect("few") % FEATURES.len()];
    (birth.agent, birth.plan) = (plan.agent.clone(), plan.hash());
    birth.labels.insert("tenant".to_owned(), tenant.clone());
    birth.labels.insert("feature".to_owned(), feature.to_owned());
    if std::env::var_os("PLIMSOLL_THREADS").is_some() {
        birth.labels.insert("thread".to_owned(), format!("talk-{number}"));
    }
    let kept = ReservationId { run, number: 0 };
    let landing = Some(Landing { reservation: kept, amount: Money::from_micro(900) });
    let calls = (FIRST_CALL..FIRST_CALL + calls).flat_map(move |number| {
        [Event::Reserved(Box::new(reserved(run, number))), Event::Settled(Box::new(settled(run, number)))]
    });
    let output = Some(serde_json::json!("53.19"));
    let end = [
        Event::LandingReleased(LandingReleased { reservation: kept, why: "the run is done".to_owned() }),
        Event::Ended(Ended { state: EndState::Finished, refusal: None, output, error: None }),
    ];
    let begin = [Event::Created(birth), Event::Admitted(Admitted { budgets: accounts(&tenant), landing })];
    begin.into_iter().chain(calls).chain(end).map(move |event| (run, event))
}
