//! Agents that follow their files while they are served: a good one counts for the next run, a bad one changes nothing.

use plimsoll::api::IntakeOptions;
use plimsoll::runtime::{Reload, Reloaded};
use plimsoll::spec::load::{Answering, LoadOptions, load_project};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{AGENT, BUDGET, Served, ask, gate, held, told};
use crate::world::World;

/// A service whose agents follow their files when somebody asks for it.
struct Follows {
    world: World,
    served: Served,
    ask: mpsc::Sender<()>,
    told: mpsc::Receiver<Reloaded>,
    tasks: JoinSet<()>,
}

impl Follows {
    async fn begin() -> Self {
        let world = held().start();
        let options = LoadOptions { answering: Answering::Simulated, ..LoadOptions::default() };
        let (project, _) = load_project(world.folder.path(), &options).expect("it loads");
        let served = Served::of(&world, IntakeOptions::default()).await;
        let ((ask, asked), (tell, told)) = (mpsc::channel(1), mpsc::channel(4));
        let mut tasks = JoinSet::new();
        tasks.spawn(Reload::new(world.runtime.clone(), &project, options).follow(asked, tell));
        Self { world, served, ask, told, tasks }
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.world.folder.path().join(file), text).expect("a file");
    }

    /// As a SIGHUP does it.
    async fn poke(&mut self) -> Reloaded {
        self.ask.send(()).await.expect("it listens");
        self.told.recv().await.expect("it tells")
    }

    async fn agents(&self) -> Value {
        told(self.served.get("/v1/agents").await, StatusCode::OK).await
    }

    async fn plan(&self) -> String {
        self.agents().await["agents"][0]["plan"].as_str().expect("a hash").to_owned()
    }

    async fn run(&self) -> Value {
        let body = json!({"agent": "a", "input": "quick", "wait": "20s"});
        let run = told(self.served.post("/v1/runs", &body).await, StatusCode::OK).await;
        let path = format!("/v1/runs/{}/trace", run["run"].as_str().expect("an id"));
        told(self.served.get(&path).await, StatusCode::OK).await
    }

    async fn close(mut self) -> World {
        self.tasks.shutdown().await;
        self.served.close().await;
        self.world
    }
}

fn agent(change: &str) -> String {
    format!("tools = ['hold']\n{change}\n{AGENT}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_file_counts_for_the_next_run_and_a_bad_one_changes_nothing() {
    let mut follows = Follows::begin().await;
    let first = follows.plan().await;
    assert!(follows.poke().await.changed.taken.is_empty(), "nothing changed");
    // One is under way, held in a call.
    let gate = gate(&follows.world);
    let slow = told(follows.served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    follows.write("agents/a.toml", &agent("owner = 'ann'"));
    assert_eq!(follows.poke().await.changed.taken, ["a".into()]);
    let second = follows.plan().await;
    assert_ne!(first, second);
    let trace = follows.run().await;
    assert_eq!((&trace["plan"], &trace["labels"]["owner"]), (&json!(second), &json!("ann")));
    // What is wrong is told, and changes nothing.
    follows.write("agents/a.toml", &agent("owner = 7\ncolour = 'red'"));
    let reloaded = follows.poke().await;
    assert!(reloaded.changed.taken.is_empty() && reloaded.faults.len() == 2, "{reloaded:?}");
    let table = follows.agents().await;
    assert_eq!(table["agents"][0]["plan"], second);
    let fault = &table["faults"][0];
    assert_eq!((&fault["file"], &fault["line"]), (&json!("agents/a.toml"), &json!(2)), "{table}");
    assert_eq!(follows.run().await["plan"], second);
    assert_eq!(follows.served.get("/readyz").await.status(), StatusCode::OK);
    let page = follows.served.get("/agents").await.text().await.expect("a page");
    assert!(page.contains("agents/a.toml:2:"), "{page}");
    // The one that was under way ends by the plan that it began with.
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go on")).await.expect("no panic").expect("it is read");
    let place = format!("/v1/runs/{}", slow["run"].as_str().expect("an id"));
    assert_eq!(told(follows.served.get(&format!("{place}?wait=20s")).await, StatusCode::OK).await["state"], "finished");
    let trace = told(follows.served.get(&format!("{place}/trace")).await, StatusCode::OK).await;
    assert_eq!(trace["plan"], first);
    // Mended, it counts, and nothing is told any more.
    follows.write("agents/a.toml", &agent("owner = 'bob'"));
    assert_eq!(follows.poke().await.changed.taken, ["a".into()]);
    assert_eq!(follows.agents().await["faults"], json!([]));
    follows.close().await.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_come_and_go_and_what_only_a_start_reads_is_told() {
    let mut follows = Follows::begin().await;
    follows.write("agents/b.toml", &agent(""));
    assert_eq!(follows.poke().await.changed.taken, ["b".into()]);
    std::fs::remove_file(follows.world.folder.path().join("agents/b.toml")).expect("it goes");
    assert_eq!(follows.poke().await.changed.gone, ["b".into()]);
    let gone = told(follows.served.post("/v1/runs", &json!({"agent": "b", "input": "x"})).await, StatusCode::NOT_FOUND);
    assert_eq!(gone.await["code"], "plimsoll::api::no_such_agent");
    let first = follows.plan().await;
    // Defaults are in plans: they count.
    follows.write("plimsoll.toml", &format!("[defaults.limits]\nsteps = 3\n{BUDGET}"));
    let reloaded = follows.poke().await;
    assert!(reloaded.faults.is_empty() && reloaded.changed.taken == ["a".into()], "{reloaded:?}");
    let second = follows.plan().await;
    assert_ne!(first, second);
    // Budgets are the start's: agents follow, and it is told.
    follows.write("plimsoll.toml", &BUDGET.replace("$5", "$50"));
    let reloaded = follows.poke().await;
    assert_eq!((follows.plan().await, reloaded.faults.len()), (first.clone(), 1), "{reloaded:?}");
    assert!(reloaded.faults[0].message.contains("`budgets` changed"), "{reloaded:?}");
    // What plans rest on: they stay, whatever else changed.
    follows
        .write("plimsoll.toml", &format!("[project]\nenvironment = 'other'\n[defaults.limits]\nsteps = 3\n{BUDGET}"));
    let reloaded = follows.poke().await;
    assert!(reloaded.changed.taken.is_empty() && reloaded.faults[0].message.contains("`project`"), "{reloaded:?}");
    // A file of the project that can't be read holds all of them.
    follows.write("plimsoll.toml", "[[");
    let reloaded = follows.poke().await;
    assert!(reloaded.changed.taken.is_empty() && reloaded.changed.gone.is_empty(), "{reloaded:?}");
    assert_eq!(follows.plan().await, first);
    follows.close().await;
}
