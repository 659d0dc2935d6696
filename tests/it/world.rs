//! A project in a temporary folder, a simulated provider on a loopback port, and a runtime over both.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use plimsoll::cli::project::{price_rows, project_rows, sim_deployments, sim_prices};
use plimsoll::clock::Clock;
use plimsoll::domain::event::{Call, Ended, Event, Labels, ModelCall, Recorded, Reserved, RunState, Settled};
use plimsoll::domain::limits::Refusal;
use plimsoll::domain::message::GivenFile;
use plimsoll::domain::plan::Plan;
use plimsoll::domain::pricing::{PriceBook, PriceRow};
use plimsoll::domain::run::Run;
use plimsoll::ids::{AgentName, ModelName, RunId};
use plimsoll::runtime::{NewRun, Runtime, RuntimeError, RuntimeOptions, silent};
use plimsoll::sim::{Invoice, Scenario, Sim, SimHandle, SimOptions};
use plimsoll::spec::load::{Answering, LoadOptions, load_project};
use plimsoll::spec::load_line::load_line;
use plimsoll::spec::project::Project;
use plimsoll::store::{RunFilter, StoreError};
use serde_json::json;
use tokio::task::JoinSet;

/// Longer than any test may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(120);

/// How often a store is tried that is held, and the pause between.
const HELD_TRIES_MAX: u32 = 200;
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// What a world is made of: files by path, and a scenario.
#[derive(Clone, Default)]
pub(crate) struct Recipe {
    files: BTreeMap<String, String>,
    scenario: String,
}

impl Recipe {
    /// An agent named `a`, from its TOML.
    pub(crate) fn agent(text: &str) -> Self {
        Self::default().file("agents/a.toml", text).file("plimsoll.toml", "")
    }

    /// Puts a file into the project, over one of that name.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// Changes a file of the project.
    pub(crate) fn amend(self, path: &str, from: &str, to: &str) -> Self {
        let text = self.files[path].replacen(from, to, 1);
        assert_ne!(text, self.files[path], "`{from}` stands in {path}");
        self.file(path, &text)
    }

    pub(crate) fn scenario(mut self, text: &str) -> Self {
        text.clone_into(&mut self.scenario);
        self
    }

    /// Adds faults to the scenario, and what its head says.
    pub(crate) fn faults(mut self, head: &str, faults: &str) -> Self {
        self.scenario = format!("{head}\n[faults]\n{faults}\n{}", self.scenario);
        self
    }

    /// Adds a rule to the scenario.
    pub(crate) fn rule(mut self, text: &str) -> Self {
        self.scenario.push_str(text);
        self
    }

    /// Writes the project's files, and the scenario as `scenario.toml`.
    pub(crate) fn write(&self, folder: &Path) {
        for (path, text) in &self.files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(&path, text).expect("a file");
            if path.extension().is_some_and(|ending| ending == "sh") {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
            }
        }
        std::fs::write(folder.join("scenario.toml"), &self.scenario).expect("a file");
    }

    pub(crate) fn start(&self) -> World {
        self.start_at(&Clock::system())
    }

    /// With the providers that the project configures: `{sim}` in its files is where the simulated one listens, which also
    /// gives `key.json`, the key of an account.
    pub(crate) fn start_configured(&self) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let scenario = Scenario::parse("scenario", &self.scenario).expect("a scenario");
        let sim = Sim::start(SimOptions { scenario, ..SimOptions::default() }).expect("a simulator");
        let mut placed = self.clone();
        for text in placed.files.values_mut() {
            *text = text.replace("{sim}", &format!("http://{}", sim.address()));
        }
        placed.file("key.json", &sim.service_account()).write(folder.path());
        let (project, plans) = load(folder.path(), Answering::Configured);
        let prices = project_rows(&project, Answering::Configured).expect("prices");
        let clock = Clock::system();
        let runtime = open(&project, plans, None, prices, &clock);
        World { folder, sim, runtime, clock }
    }

    /// As [`Self::start`], by a clock of the test's own.
    pub(crate) fn start_at(&self, clock: &Clock) -> World {
        self.start_as(clock, |_| {})
    }

    /// With the project's providers reached as it configures them: `{sim}` in its file is the simulator's address.
    pub(crate) fn start_wired(&self) -> World {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Clock::system());
        // The simulator has the project's prices, and the project the simulator's address.
        self.at("127.0.0.1:9").write(folder.path());
        let (project, _) = load(folder.path(), Answering::Configured);
        let scenario = Scenario::parse("scenario", &self.scenario).expect("a scenario");
        let (prices, deployments) = (sim_prices(&project), sim_deployments(&project));
        let sim = Sim::start(SimOptions { scenario, prices, deployments, ..SimOptions::default() });
        let sim = sim.expect("a simulator");
        self.at(&sim.address().to_string()).write(folder.path());
        let (project, plans) = load(folder.path(), Answering::Configured);
        let prices = project_rows(&project, Answering::Configured).expect("prices");
        let runtime = open(&project, plans, None, prices, &clock);
        World { folder, sim, runtime, clock }
    }

    fn at(&self, address: &str) -> Self {
        let mut recipe = self.clone();
        recipe.files.values_mut().for_each(|text| *text = text.replace("{sim}", address));
        recipe
    }

    /// With the plan of agent `a` changed to what no file may say.
    pub(crate) fn start_as(&self, clock: &Clock, change: impl FnOnce(&mut Plan)) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        self.write(folder.path());
        let (project, mut plans) = load(folder.path(), Answering::Simulated);
        change(plans.get_mut(&AgentName::from("a")).expect("an agent"));
        let scenario = Scenario::parse("scenario", &self.scenario).expect("a scenario");
        let prices = sim_prices(&project);
        let sim = Sim::start(SimOptions { scenario, prices, ..SimOptions::default() }).expect("a simulator");
        let runtime = open(&project, plans, Some(&sim), price_rows(&project), clock);
        World { folder, sim, runtime, clock: clock.clone() }
    }
}

/// One that is going on.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sim: SimHandle,
    pub(crate) runtime: Runtime,
    clock: Clock,
}

impl World {
    /// Runs agent `a` once.
    pub(crate) async fn run(&self) -> Told {
        self.run_with(Labels::new()).await
    }

    pub(crate) async fn run_with(&self, labels: Labels) -> Told {
        let new = new_run(labels);
        let run = tokio::time::timeout(TEST_TIME_MAX, self.runtime.run(&new, silent()));
        let (run, _) = run.await.expect("it ends in time").expect("it runs");
        self.told(run)
    }

    /// Runs agent `a` once on this input.
    pub(crate) async fn run_on(&self, input: serde_json::Value) -> Told {
        let new = NewRun { input, ..new_run(Labels::new()) };
        let run = tokio::time::timeout(TEST_TIME_MAX, self.runtime.run(&new, silent()));
        let (run, _) = run.await.expect("it ends in time").expect("it runs");
        self.told(run)
    }

    /// Runs agent `a` once with these files.
    pub(crate) async fn run_with_files(&self, files: Vec<GivenFile>) -> Told {
        let new = NewRun { files, ..new_run(Labels::new()) };
        let run = tokio::time::timeout(TEST_TIME_MAX, self.runtime.run(&new, silent()));
        let (run, _) = run.await.expect("it ends in time").expect("it runs");
        self.told(run)
    }

    /// Runs agent `a` many times at once.
    pub(crate) async fn run_many(&self, count: usize) -> Vec<Told> {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let runtime = self.runtime.clone();
            tasks.spawn(async move { runtime.run(&new_run(Labels::new()), silent()).await });
        }
        let all = tokio::time::timeout(TEST_TIME_MAX, tasks.join_all()).await.expect("nobody hangs");
        all.into_iter().map(|ran| self.told(ran.expect("it runs").0)).collect()
    }

    pub(crate) fn told(&self, run: RunId) -> Told {
        let log = self.runtime.store().events(run).expect("a log");
        let (state, _) = self.runtime.load(run).expect("it loads");
        Told { run: state, log }
    }

    pub(crate) fn invoice(&self) -> Invoice {
        self.sim.invoice()
    }

    /// Every run of the store, oldest first.
    pub(crate) fn all(&self) -> Vec<Told> {
        let mut runs = self.runtime.store().summaries(&RunFilter::default()).expect("runs");
        runs.sort_by_key(|run| run.id);
        runs.into_iter().map(|run| self.told(run.id)).collect()
    }

    /// The same project and provider, in a process that starts anew. Nobody else may hold the store.
    pub(crate) fn reopen(self) -> Self {
        let Self { folder, sim, runtime, clock } = self;
        drop(runtime);
        let (project, plans) = load(folder.path(), Answering::Simulated);
        let runtime = open(&project, plans, Some(&sim), price_rows(&project), &clock);
        Self { folder, sim, runtime, clock }
    }

    /// The books add up, nothing is held any more, and every run is decided the same again (promise 11).
    pub(crate) fn verify(&self) {
        self.runtime.store().verify().expect("the books are right");
        assert_eq!(self.runtime.store().holds().expect("holds"), []);
        let filter = RunFilter { roots: true, ..RunFilter::default() };
        for run in self.runtime.store().summaries(&filter).expect("runs") {
            // A run that a test wrote by hand has no plan.
            if let Ok(Err(difference)) = self.runtime.replay(run.id) {
                panic!("{difference}\n{}", self.told(run.id).show());
            }
        }
    }
}

/// A run with its log.
pub(crate) struct Told {
    pub(crate) run: Run,
    pub(crate) log: Vec<Recorded>,
}

impl Told {
    pub(crate) fn state(&self) -> RunState {
        self.run.state
    }

    pub(crate) fn ended(&self) -> &Ended {
        self.run.ended.as_ref().expect("it ended")
    }

    pub(crate) fn refusal(&self) -> &Refusal {
        self.ended().refusal.as_ref().expect("a limit stopped it")
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.log.iter().map(|recorded| &recorded.event)
    }

    /// Its model calls, in the order in which they were admitted.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &ModelCall> {
        self.reservations().filter_map(|reserved| match &reserved.call {
            Call::Model(call) => Some(call),
            Call::Tool { .. } => None,
        })
    }

    pub(crate) fn reservations(&self) -> impl Iterator<Item = &Reserved> {
        self.events().filter_map(|event| if let Event::Reserved(reserved) = event { Some(&**reserved) } else { None })
    }

    pub(crate) fn settlements(&self) -> impl Iterator<Item = &Settled> {
        self.events().filter_map(|event| if let Event::Settled(settled) = event { Some(&**settled) } else { None })
    }

    /// The log, a line for each fact.
    pub(crate) fn show(&self) -> String {
        let line = |recorded: &Recorded| {
            let text = serde_json::to_string(&recorded.event).expect("JSON");
            format!("{} {} {}\n", recorded.at, recorded.seq, text.chars().take(600).collect::<String>())
        };
        self.log.iter().map(line).collect()
    }
}

pub(crate) fn new_run(labels: Labels) -> NewRun {
    NewRun { agent: AgentName::from("a"), input: json!("please look"), labels, key: None, files: vec![], bound: vec![] }
}

fn load(folder: &Path, answering: Answering) -> (Project, BTreeMap<AgentName, Plan>) {
    let options = LoadOptions { answering, ..LoadOptions::default() };
    load_project(folder, &options).map_err(|faults| faults.to_string()).expect("the project loads")
}

fn open(
    project: &Project,
    plans: BTreeMap<AgentName, Plan>,
    stand_in: Option<&SimHandle>,
    prices: Vec<PriceRow>,
    clock: &Clock,
) -> Runtime {
    let book = PriceBook::builtin().with_overrides(prices.clone());
    let worst =
        |model: &ModelName, input, output, _| Some((input, book.find(model, clock.now())?.worst_case(input, output)));
    let load_lines = plans.iter().map(|(name, plan)| (name.clone(), load_line(plan, worst).amount)).collect();
    let simulated = stand_in.map(SimHandle::base_url);
    let options = RuntimeOptions { clock: clock.clone(), simulated, prices, load_lines };
    let mut tries = 0;
    loop {
        match Runtime::open(project, plans.clone(), options.clone()) {
            // A child that another test starts keeps the lock for the moment between its fork and its own program.
            Err(RuntimeError::Store(StoreError::Held { .. })) if tries < HELD_TRIES_MAX => tries += 1,
            opened => return opened.expect("it opens"),
        }
        std::thread::sleep(HELD_PAUSE);
    }
}
