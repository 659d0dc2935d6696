//! The whole runtime, from an agent's file to the trace, against the simulated provider on a loopback port.

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Labels, RunState};
use plimsoll::runtime::{NewRun, Runtime, RuntimeOptions, silent};
use plimsoll::sim::{Sim, SimOptions};
use plimsoll::spec::load::{Answering, LoadOptions, load_agent};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_agent_answers_a_ticket_and_its_ledger_equals_the_invoice() {
    let store = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = LoadOptions { answering: Answering::Simulated, ..LoadOptions::default() };
    let (mut project, plan) = load_agent(root, "support-triage", &options).expect("it loads");
    project.store = store.path().join("store");
    let sim = Sim::start(SimOptions::default()).expect("it starts");
    let options = RuntimeOptions {
        clock: Clock::system(),
        simulated: Some(sim.base_url()),
        prices: vec![],
        load_lines: BTreeMap::new(),
    };
    let plans = BTreeMap::from([(plan.agent.clone(), plan.clone())]);
    let runtime = Runtime::open(&project, plans, options).expect("it opens");
    let new = NewRun {
        agent: plan.agent.clone(),
        input: json!({"ticket": "Hello, where is my order 48213? It should have come last week."}),
        labels: Labels::new(),
        key: None,
        files: vec![],
        bound: vec![],
    };
    let (run, state) = runtime.run(&new, silent()).await.expect("it runs");
    for recorded in runtime.store().events(run).expect("a log") {
        println!("{} {}", recorded.seq, serde_json::to_string(&recorded.event).expect("json"));
    }
    assert_eq!(state, RunState::Finished);
    let (run, _) = runtime.load(run).expect("it loads");
    println!("{:?}", run.ended);
    assert_eq!(run.counters.settled, sim.invoice().total);
    runtime.store().verify().expect("the books are right");
}
