//! Stops and resumes: Ctrl-C on the real binary, and what a run is after it went on.

mod expiry;
mod in_flight;
mod queued;
mod stop;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{
    Call, CostSource, Created, EVENT_VERSION, EndState, Ended, Event, Labels, Outcome, Recorded, Reserved, RunState,
    Settled, StepKey,
};
use plimsoll::domain::ledger::{AdmitAsk, Ask, LedgerPolicy, Op, ReserveAsk};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::summary::RunSummary;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::runtime::{Observer, Progress, Runtime, silent};
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::{Millis, Money};
use tokio::task::JoinSet;

use crate::kill::books::Books;
use crate::kill::process::{End, Ship};
use crate::kill::project::{AGENT, Project, calm_sea};
use crate::world::{Recipe, World, new_run};

/// Far longer than a stop at once takes, and shorter than the drain of a call that hangs.
const AT_ONCE: Millis = Millis::from_secs(5);

fn run(project: &Project) -> Ship {
    Ship::start(project.root(), &["run", AGENT, "--input", "Weigh, note and stamp.", "--events"], None)
}

fn resume(project: &Project, arguments: &[&str]) -> End {
    let arguments = [&["resume", "--all"], arguments].concat();
    Ship::start(project.root(), &arguments, None).end()
}

/// The only run of a project, as it stands in its store, which must not be held.
fn only_run(project: &Project) -> (RunSummary, Vec<Recorded>) {
    let store = Store::open(&project.store(), LedgerPolicy::default(), Clock::system()).expect("it opens");
    let summary = store.summaries(&RunFilter::default()).expect("it lists").pop().expect("a run");
    let log = store.events(summary.id).expect("it reads");
    (summary, log)
}

fn last_settled(log: &[Recorded]) -> &Settled {
    let settled = |recorded: &'_ Recorded| matches!(recorded.event, Event::Settled(_));
    let last = log.iter().rfind(|recorded| settled(recorded));
    let Some(Event::Settled(settled)) = last.map(|recorded| &recorded.event) else {
        unreachable!("nothing is settled")
    };
    settled
}

/// When the first event came of which `is_it` is true.
fn at(log: &[Recorded], is_it: impl Fn(&Event) -> bool) -> plimsoll::units::Timestamp {
    log.iter().find(|recorded| is_it(&recorded.event)).expect("it is in the log").at
}

fn assert_active_until_the_stop(summary: &RunSummary, log: &[Recorded]) {
    let began = at(log, |event| matches!(event, Event::Admitted(_)));
    let ended = at(log, |event| matches!(event, Event::Interrupted(_)));
    assert_eq!(summary.active, ended.since(began), "what the process saw of the time counts");
}

#[test]
fn ctrl_c_in_a_call_drains_it_and_leaves_a_run_to_resume() {
    let project = Project::new(&calm_sea("400ms"));
    let mut ship = run(&project);
    assert!(ship.hear(|line| line.contains(r#""model":"openai/"#)), "a call is reserved");
    ship.sail(Millis(150));
    ship.interrupt();
    assert_eq!(ship.end(), End::Exit(130));

    let (summary, log) = only_run(&project);
    assert_eq!(summary.state, RunState::Interrupted);
    assert_eq!((summary.held, summary.unknown), (Money::ZERO, Money::ZERO));
    let settled = last_settled(&log);
    assert_eq!(settled.source, CostSource::Reported, "the answer came within the drain");
    let invoice = plimsoll::sim::Invoice::read(&project.sim.invoice).expect("an invoice");
    assert_eq!(summary.settled, invoice.total);
    assert_active_until_the_stop(&summary, &log);

    assert_eq!(resume(&project, &[]), End::Exit(0));
    let books = Books::open(&project);
    books.contain(&ship.heard);
    books.check(&project);
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_what_was_in_flight_is_unknown() {
    let hang = "[[rule]]\nwhen = { attempt = 1, turn = 0 }\nfault = \"hang\"\n";
    let project = Project::new(&format!("{}\n{hang}", calm_sea("1ms")));
    let mut ship = run(&project);
    assert!(ship.hear(|line| line.contains(r#""model":"openai/"#)), "a call is reserved");
    ship.sail(Millis(150));
    ship.interrupt();
    assert!(ship.hear(|line| line.contains("stopping")), "it says that it stops");
    let clock = Clock::system();
    let second = clock.now();
    ship.interrupt();
    assert_eq!(ship.end(), End::Exit(130));
    let took = clock.now().since(second);
    assert!(took < AT_ONCE, "it took {took}");

    let (summary, log) = only_run(&project);
    assert_eq!((summary.state, summary.held), (RunState::Interrupted, Money::ZERO));
    assert_eq!(last_settled(&log).source, CostSource::Unknown);
    assert_eq!(resume(&project, &[]), End::Exit(0));
    Books::open(&project).check(&project);
}

#[test]
fn ctrl_c_in_a_tool_asks_a_person_unless_it_is_idempotent() {
    let project = Project::new(&calm_sea("1ms"));
    std::fs::write(
        project.root().join("tools/append.sh"),
        "#!/bin/sh\nprintf '%s\\n' \"$2\" >> \"$1.txt\"\nsleep 30\n",
    )
    .expect("it is written");
    let mut ship = run(&project);
    assert!(ship.hear(|line| line.contains(r#""tool":"note""#)), "a call is reserved");
    ship.sail(Millis(150));
    ship.interrupt();
    assert_eq!(ship.end(), End::Exit(130));
    let (summary, log) = only_run(&project);
    assert_eq!(summary.state, RunState::Interrupted);
    assert_active_until_the_stop(&summary, &log);

    // The note is idempotent, so it is made again by itself; the stamps are not.
    let mut ship = Ship::start(project.root(), &["resume", "--all"], None);
    ship.sail(Millis(300));
    ship.interrupt();
    assert_eq!(ship.end(), End::Exit(130));
    let quick = "#!/bin/sh\nprintf '%s\\n' \"$2\" >> \"$1.txt\"\ncase $1 in stamp) sleep 30;; esac\n";
    std::fs::write(project.root().join("tools/append.sh"), quick).expect("it is written");
    let mut ship = Ship::start(project.root(), &["resume", "--all"], None);
    while project.effects("stamp") < 2 {
        ship.sail(Millis(20));
    }
    ship.interrupt();
    assert_eq!(ship.end(), End::Exit(130));
    assert_eq!(resume(&project, &[]), End::Exit(4), "a person must decide");
    assert_eq!(project.effects("stamp"), 2, "nothing was stamped again");
    assert_eq!(resume(&project, &["--in-flight", "skip"]), End::Exit(0));
    assert_eq!(project.effects("stamp"), 2);
    Books::open(&project).check(&project);
}

/// A model with a tokenizer.
const COUNTED: &str = "openai/gpt-5-nano";
/// One without: its requests are bounded by bytes alone, so a run asks to start once, and not again with a tighter bound.
const MEASURED: &str = "local/a";

/// An agent `a` with one tool, on a budget; `limits` are lines of `[limits]`.
fn recipe(model: &str, limits: &str, scenario: &str) -> Recipe {
    Recipe::agent(&format!(
        "description = 'a'\ntools = ['look']\n[model]\nmodels = ['{model}']\nmax_output_tokens = 300\n\
         [prompt]\nsystem = '{}'\nuser = '{{{{ input }}}}'\n[retry]\nretry_after = '60s'\n[limits]\nrepeats = 10\n{limits}",
        "alpha beta gamma delta ".repeat(200)
    ))
    .file(
        "tools/look.toml",
        "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'all is well'\n[input]\ntype = 'object'\n",
    )
    .file(
        "plimsoll.toml",
        "[[prices]]\nmodel = 'local/a'\ninput = '0.05'\noutput = '0.4'\n\
         [[budgets]]\nname = 'all'\ncap = '$0.10'\nper = 'total'\n",
    )
    .scenario(scenario)
}

/// Asks a runtime to stop as soon as an event is seen.
fn stop_at(runtime: &Runtime, is_it: fn(&Event) -> bool) -> Observer {
    let runtime = runtime.clone();
    Arc::new(move |progress| {
        if let Progress::Event { recorded, .. } = progress
            && is_it(&recorded.event)
        {
            runtime.request_stop();
        }
    })
}

/// Runs agent `a` until an event, and opens the store again.
async fn interrupted(world: World, is_it: fn(&Event) -> bool) -> (World, RunId) {
    let (run, state) =
        world.runtime.run(&new_run(Labels::new()), stop_at(&world.runtime, is_it)).await.expect("it runs");
    assert_eq!(state, RunState::Interrupted);
    (world.reopen(), run)
}

#[test]
fn a_resumed_run_that_meets_a_limit_lands_as_any_other() {
    let project = Project::new(&calm_sea("1ms"));
    let agent = project.root().join(format!("agents/{AGENT}.toml"));
    let text = std::fs::read_to_string(&agent).expect("it reads");
    // What was in flight counts at its bound, so that a second attempt is over the limit; the landing isn't.
    let long = format!("You are the purser. {}", "alpha beta gamma delta ".repeat(200));
    let text = text.replace("You are the purser.", &long).replace("[limits]", "[limits]\ninput_tokens = 5_500");
    std::fs::write(&agent, text).expect("it is written");
    let arguments = ["run", AGENT, "--input", "Weigh.", "--events"];
    let end = Ship::start(project.root(), &arguments, Some("provider.answered:1")).end();
    assert!(matches!(end, End::Signal(_)), "{end:?}");

    assert_eq!(resume(&project, &[]), End::Exit(3));
    let (summary, log) = only_run(&project);
    assert_eq!((summary.state, summary.limit), (RunState::Stopped, Some(LimitKind::InputTokens)));
    let calls = log.iter().filter(|recorded| matches!(recorded.event, Event::Reserved(_)));
    assert_eq!(calls.count(), 2, "the call that was in flight, and the landing");
    let landed = |event: &Event| matches!(event, Event::Ended(ended) if ended.output.is_some());
    assert!(landed(&log.last().expect("an end").event));
    Books::open(&project).check(&project);
}

#[tokio::test]
async fn a_stop_is_heard_in_the_back_off_before_a_resume() {
    let scenario = "[[rule]]\nwhen = { attempt = 1 }\nfault = 'rate_limit'\nretry_after = '50s'\n";
    let (world, run) =
        interrupted(recipe(COUNTED, "", scenario).start(), |event| matches!(event, Event::Voided(_))).await;
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.runtime.request_stop();
    };
    let driven = tokio::time::timeout(AT_ONCE.duration(), world.runtime.drive(run, silent()));
    let (driven, ()) = tokio::join!(driven, stop);
    assert_eq!(driven.expect("it hears").expect("it stops"), RunState::Interrupted);
}

const CROSSING: usize = 8;

/// A run of nobody that holds most of the budget.
fn hoarder(run: RunId) -> Op {
    let created = Created {
        version: EVENT_VERSION,
        agent: "hoarder".into(),
        plan: "0".repeat(64).into(),
        prompt_version: "1".into(),
        input: serde_json::Value::Null,
        labels: Labels::new(),
        cap: Money::from_micro(99_000),
        load_line: Money::from_micro(99_000),
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
    };
    let reserved = Reserved {
        reservation: ReservationId { run, number: 0 },
        step: StepKey { stage: "main".into(), step: 1, item: None },
        attempt: 1,
        amount: Money::from_micro(99_000),
        landing: Money::ZERO,
        budgets: None,
        time_limit: Millis::from_secs(60),
        call: Call::Tool {
            call_id: "1".into(),
            tool: "hoard".into(),
            arguments_hash: "0".into(),
            idempotent: true,
            arguments: None,
        },
    };
    let first = ReserveAsk { reserved, lower: None, wait_until: None };
    let ask = AdmitAsk {
        landing: None,
        bound: Money::from_micro(99_000),
        first: Some(Box::new(first)),
        first_waits: false,
        provisional: false,
    };
    Op { run, events: vec![(run, Event::Created(created))], asks: vec![Ask::Admit(ask)], plan: None }
}

fn given_up(run: RunId) -> Op {
    let settled = Settled {
        reservation: ReservationId { run, number: 0 },
        bill: Money::ZERO,
        source: CostSource::Reported,
        usage: None,
        mismatch: None,
        charged: None,
        cache: plimsoll::domain::event::CacheFacts::default(),
        raw_usage: None,
        latency: Millis::ZERO,
        first_token: None,
        outcome: Outcome::ToolResult { content: String::new(), is_error: false, cut_bytes: 0 },
    };
    let ended = Ended { state: EndState::Finished, refusal: None, output: None, error: None };
    let events = vec![(run, Event::Settled(Box::new(settled))), (run, Event::Ended(ended))];
    Op { run, events, asks: vec![], plan: None }
}

/// Money comes for runs that wait in the queue, and before they hear of it they are asked to stop.
#[tokio::test]
async fn a_grant_that_crosses_a_stop_is_given_back() {
    let world = recipe(MEASURED, "cost = '$0.01'\nexpected_cost = '$0.003'\n", "").start();
    let store = world.runtime.store().clone();
    let hoard = Clock::system().run_id();
    store.submit(hoarder(hoard)).await.expect("it is written");
    let mut runs = JoinSet::new();
    for _ in 0..CROSSING {
        let runtime = world.runtime.clone();
        runs.spawn(async move { runtime.run(&new_run(Labels::new()), silent()).await });
    }
    let queued = RunFilter { states: [RunState::Queued].into(), ..RunFilter::default() };
    while store.summaries(&queued).expect("it lists").len() < CROSSING {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // From here on nobody else has this thread, until both the money and the stop are there.
    let giver = store.clone();
    let mut submitted = Box::pin(async move { giver.submit(given_up(hoard)).await });
    tokio::select! {
        biased;
        _ = &mut submitted => {}
        () = std::future::ready(()) => {}
    }
    let clock = Clock::system();
    let patience = clock.now().after(AT_ONCE);
    while !store.summaries(&queued).expect("it lists").is_empty() {
        assert!(clock.now() < patience, "{} runs still wait", store.summaries(&queued).expect("it lists").len());
        std::thread::sleep(Duration::from_millis(1));
    }
    world.runtime.request_stop();
    while let Some(ended) = runs.join_next().await {
        let (_, state) = ended.expect("no panic").expect("it stops");
        assert_eq!(state, RunState::Interrupted);
    }
    assert_eq!(store.holds().expect("it reads"), []);
    drop(submitted);
    drop(store);

    let world = world.reopen();
    let told = resume_all(&world).await;
    assert_eq!(told.len(), CROSSING);
    let settled: Money = told.values().map(|(settled, _)| *settled).sum();
    assert_eq!(settled, world.invoice().total, "nothing that was never sent is billed");
    assert!(told.values().all(|(_, state)| *state == RunState::Finished));
    world.verify();
}

/// Drives every interrupted run of agent `a`, one after another; what each settled, and how it ended.
async fn resume_all(world: &World) -> BTreeMap<RunId, (Money, RunState)> {
    let filter = RunFilter { states: [RunState::Interrupted].into(), ..RunFilter::default() };
    let mut told = BTreeMap::new();
    for summary in world.runtime.store().summaries(&filter).expect("it lists") {
        if summary.agent.as_str() == "a" {
            let state = world.runtime.drive(summary.id, silent()).await.expect("it goes on");
            told.insert(summary.id, (world.told(summary.id).run.counters.settled, state));
        }
    }
    told
}
