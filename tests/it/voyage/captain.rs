//! Sails one voyage: life after life of the process, each in a tokio runtime of its own with a paused clock.

mod life;
mod order;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use plimsoll::domain::event::Recorded;
use plimsoll::domain::plan::Plan;
use plimsoll::domain::pricing::{PriceBook, PriceRow};
use plimsoll::ids::{AgentName, ModelName, RunId};
use plimsoll::spec::load::{Answering, LoadOptions, load_project};
use plimsoll::spec::load_line::load_line;
use plimsoll::spec::project::Project;
use plimsoll::store::memory::{Crash, MemoryDisk};
use plimsoll::units::{Millis, Money, Timestamp};
use tokio::sync::Notify;

use super::bugs::{Bug, Deck, bend};
use super::crew::{Crew, lock};
use super::dice::Dice;
use super::draw::{BudgetDraw, End, Sheet, TOOLS, tool_file};
use super::judge::Judge;
use life::{Life, Outcome};

/// Draws of one seed until the project has no fault: an agent may be drawn that could never begin.
const DRAWS_MAX: u64 = 40;

/// Real time in which any voyage ends, on the slowest machine.
const LONGEST: Duration = Duration::from_secs(120);

/// What a voyage came to.
pub(super) struct Tale {
    /// What was broken; nothing, if all is well.
    pub(super) broken: Option<String>,
    /// Every event, in the order of the logs.
    pub(super) log: String,
    /// The last commit that was judged.
    pub(super) last: String,
    pub(super) seen: BTreeMap<&'static str, u32>,
    pub(super) commits: u64,
    pub(super) runs: usize,
    pub(super) invoiced: Money,
}

/// A project as a life finds it.
pub(super) struct Edition {
    pub(super) project: Project,
    pub(super) plans: BTreeMap<AgentName, Plan>,
    pub(super) prices: Vec<PriceRow>,
    pub(super) load_lines: BTreeMap<AgentName, Money>,
}

/// Where a root of the sheet stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Ashore,
    UnderWay,
    /// It can't go on, and a person was told so: this often.
    Refused(u32),
    Over,
}

pub(super) struct Voyage {
    pub(super) seed: u64,
    pub(super) sheet: Sheet,
    pub(super) bug: Option<Bug>,
    pub(super) disk: MemoryDisk,
    pub(super) judge: Arc<Mutex<Judge>>,
    pub(super) editions: Vec<Edition>,
    pub(super) fates: Vec<Fate>,
    /// What is done to each root only once: the cancel, and the hang-up.
    pub(super) done: Vec<(bool, bool)>,
    /// The caps in force, in micro-dollars.
    pub(super) caps: Vec<u64>,
    pub(super) caps_done: usize,
    pub(super) orders_done: usize,
    pub(super) now: Timestamp,
}

/// Sails the voyage of a seed.
pub(super) fn sail(seed: u64, bug: Option<Bug>) -> Tale {
    let mut voyage = Voyage::new(seed, bug);
    let (ashore, heard) = mpsc::channel::<()>();
    let watch = thread::spawn(move || watch(seed, &heard));
    voyage.sail();
    drop(ashore);
    watch.join().expect("it only looks");
    let judge = lock(&voyage.judge);
    Tale {
        broken: judge.broken.clone(),
        log: tell(judge.runs.iter().flat_map(|(run, known)| known.log.iter().map(move |recorded| (run, recorded)))),
        last: tell(judge.last.iter().map(|(run, recorded)| (run, recorded))),
        seen: judge.seen.clone(),
        commits: judge.commits,
        runs: judge.runs.len(),
        invoiced: judge.invoice.total(),
    }
}

/// A voyage that goes round while its clock stands would never end: nothing but real time tells.
#[expect(
    clippy::print_stdout,
    reason = "nobody is left to fail: the process is brought down, and the seed is told before"
)]
fn watch(seed: u64, heard: &mpsc::Receiver<()>) {
    if heard.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
        println!("PLIMSOLL_SEED={seed}: (18) it goes round, and its time stands");
        std::process::abort();
    }
}

/// A line for each event.
fn tell<'a>(events: impl Iterator<Item = (&'a RunId, &'a Recorded)>) -> String {
    events.map(|(run, recorded)| format!("{run} {}\n", serde_json::to_string(recorded).expect("JSON"))).collect()
}

impl Voyage {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let drawn = (0..DRAWS_MAX).find_map(|again| {
            let sheet = Sheet::draw(Dice::of(seed, &[again]).next());
            let editions: Option<Vec<Edition>> = sheet.editions.iter().map(|agents| edition(&sheet, agents)).collect();
            Some((sheet, editions?))
        });
        let (sheet, mut editions) = drawn.expect("some draw has no fault");
        let mut judge = Judge::default();
        for edition in &mut editions {
            for plan in edition.plans.values_mut() {
                let meant = Arc::new(plan.clone());
                if let Some(bug) = bug {
                    bend(plan, bug);
                }
                judge.learn(&meant, &Arc::new(plan.clone()));
            }
        }
        for BudgetDraw { name, cap, .. } in &sheet.budgets {
            let cap = Money::from_micro(*cap);
            judge.caps.insert((*name).into(), (cap, cap));
        }
        Self {
            seed,
            bug,
            disk: MemoryDisk::default(),
            judge: Arc::new(Mutex::new(judge)),
            editions,
            fates: vec![Fate::default(); sheet.roots.len()],
            done: vec![(false, false); sheet.roots.len()],
            caps: sheet.budgets.iter().map(|budget| budget.cap).collect(),
            caps_done: 0,
            orders_done: 0,
            now: sheet.start,
            sheet,
        }
    }

    fn sail(&mut self) {
        for life in 0..=self.sheet.ends.len() {
            let end = self.sheet.ends.get(life).copied();
            let mut dice = Dice::of(self.seed, &[2, u64::try_from(life).expect("few")]);
            let outcome = self.live(life, dice.next(), end);
            lock(&self.judge).store = None;
            match outcome {
                Outcome::Over => return,
                Outcome::Crashed => self.disk.crash(what_crashes(end)),
                Outcome::Stopped => {}
            }
            self.now = self.now.after(Millis(dice.between(0, 40_000)));
        }
        lock(&self.judge).broken("(18) the last life didn't end by itself");
    }

    /// One life of the process. The power may go while it opens the store.
    fn live(&mut self, life: usize, seed: u64, end: Option<End>) -> Outcome {
        if let Some(End::PowerCut { commits: commits @ ..8, point, .. }) = end {
            self.disk.fail_after(commits / 2, point);
        }
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let tokio = tokio.expect("a runtime");
        let deck = Arc::new(Deck {
            judge: self.judge.clone(),
            bug: self.bug,
            dice: Mutex::new(Dice::of(seed, &[3])),
            ways: self.sheet.weather.ways,
            straight: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            left: AtomicU64::new(if let Some(End::KilledAfter(commits)) = end { commits } else { u64::MAX }),
            alarm: Notify::new(),
            asked: Notify::new(),
        });
        let crew = Arc::new(Crew {
            seed: self.seed,
            weather: self.sheet.weather.clone(),
            tariffs: self.sheet.tariffs.clone(),
            judge: self.judge.clone(),
            out: Arc::default(),
            most: self.sheet.rates.0,
        });
        tokio.block_on(Box::pin(Life::begin_and_end(self, life, seed, end, deck, crew)))
    }

    /// The run of a root, once it is on disk.
    pub(super) fn run_of(&self, root: usize) -> Option<RunId> {
        lock(&self.judge).run_of(root)
    }
}

fn what_crashes(end: Option<End>) -> Crash {
    match end {
        Some(End::PowerCut { crash, .. }) => crash,
        Some(End::KilledAfter(_) | End::KilledAt(_) | End::Stopped(_)) | None => Crash::Lose,
    }
}

/// Loads the project of a sheet; nothing where it has faults.
fn edition(sheet: &Sheet, agents: &[String]) -> Option<Edition> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: String, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("plimsoll.toml".into(), &sheet.project());
    for (number, agent) in agents.iter().enumerate() {
        write(format!("agents/a{number}.toml"), agent);
    }
    for (name, tool) in TOOLS {
        write(format!("tools/{name}.toml"), &tool_file(name, tool));
    }
    let options = LoadOptions { answering: Answering::Simulated, ..LoadOptions::default() };
    let (project, plans) = match load_project(folder.path(), &options) {
        Ok(loaded) => loaded,
        Err(faults) => {
            assert!(!faults.to_string().contains("unknown key"), "the sheet is written wrongly: {faults}");
            return None;
        }
    };
    let prices: Vec<PriceRow> = project.prices.clone();
    let book = PriceBook::of(prices.clone());
    let worst =
        |model: &ModelName, input, output, _| Some((input, book.find(model, sheet.start)?.worst_case(input, output)));
    let load_lines = plans.iter().map(|(name, plan)| (name.clone(), load_line(plan, worst).amount)).collect();
    Some(Edition { project, plans, prices, load_lines })
}
