//! The real binary, killed at every named point and at random instants, against a provider that keeps its invoice.
//!
//! `PLIMSOLL_KILLS` says how many kills; `PLIMSOLL_SEED` plays one voyage again.

pub(crate) mod books;
mod people;
pub(crate) mod process;
pub(crate) mod project;

use std::collections::BTreeMap;

use plimsoll::failpoint;
use plimsoll::units::Millis;

use books::Books;
use process::{End, Ship};
use project::{AGENT, Project, WORKFLOW, rough_sea};

/// Kills of one test run, unless `PLIMSOLL_KILLS` says otherwise.
const KILLS: u64 = 16;
/// Runs in one store before a fresh one is taken.
const RUNS_PER_STORE: u64 = 6;
/// Times that a run is resumed at most; beyond that it doesn't end.
const RESUMES_MAX: u32 = 40;
/// Voyages in which a point must strike: those of stops and restarts need a run that hasn't ended yet.
const TRIES_MAX: u32 = 20;
/// The latest time, counted in how often a point was reached, at which it strikes.
const REACHED_MAX: u64 = 6;
/// SIGABRT and SIGKILL, and SIGINT before anybody listens to it.
const DEADLY: [i32; 3] = [6, 9, 2];
/// Points of approvals: a test of their own dies at each of them, and these voyages may never come to one.
const OF_PEOPLE: [&str; 4] = ["run.park", "run.parked", "answer.given", "answer.written"];

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides.max(1)
    }
}

/// How the next process is to die.
#[derive(Clone, Debug)]
enum Plan {
    /// At a named point, when it is reached for the n-th time.
    Point(&'static str, u64),
    /// At some instant.
    Instant(Millis),
    /// At some instant, of the provider's death.
    Provider(Millis),
}

/// A store, its voyages, and what has died so far.
struct Fleet {
    dice: Dice,
    project: Project,
    runs: u64,
    /// Kills by what did them.
    kills: BTreeMap<&'static str, u64>,
    shown: Vec<String>,
    /// Stores that are done.
    stores: usize,
    /// Of each store: runs, unknown attempts, decisions of a person.
    told: Vec<(u64, usize, usize)>,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let project = Project::new(&rough_sea(dice.roll(1 << 40)));
        Self { dice, project, runs: 0, kills: BTreeMap::new(), shown: Vec::new(), stores: 0, told: Vec::new() }
    }

    /// One run from its start to its end, through a first plan and perhaps more.
    fn voyage(&mut self, first: Plan) {
        let at_start = matches!(first, Plan::Point(point, _) if of_restarts(point));
        let before = if at_start { Plan::Instant(self.instant()) } else { first.clone() };
        let in_stages = match first {
            Plan::Point("stage.ended" | "child.began", _) => true,
            // Which call is the third is certain in the single loop only.
            Plan::Point("tool.call", 3) => false,
            Plan::Point(..) | Plan::Instant(_) | Plan::Provider(_) => self.dice.roll(3) == 0,
        };
        let agent = if in_stages { WORKFLOW } else { AGENT };
        let mut end = self.sail(&["run", agent, "--input", "Weigh, note and stamp.", "--events"], Some(before));
        let mut next = at_start.then_some(first);
        let mut resumed = 0;
        // A run that waits for a person goes on only when one has decided: so the last resume is one that decides.
        let mut decided = true;
        while !(decided && matches!(end, End::Exit(0 | 1 | 3))) {
            resumed += 1;
            assert!(resumed < RESUMES_MAX, "a run doesn't end");
            let again = self.dice.roll(3) == 0;
            let plan = next.take().or_else(|| again.then(|| self.plan()));
            decided = matches!(end, End::Exit(_));
            let what = if self.dice.roll(2) == 0 { "rerun" } else { "skip" };
            let arguments = if decided { &["resume", "--all", "--in-flight", what][..] } else { &["resume", "--all"] };
            end = self.sail(arguments, plan);
        }
        self.runs += 1;
    }

    /// One process, until it ends or is killed.
    fn sail(&mut self, arguments: &[&str], plan: Option<Plan>) -> End {
        let armed = match &plan {
            Some(Plan::Point(point, times)) => Some(format!("{point}:{times}")),
            Some(Plan::Instant(_) | Plan::Provider(_)) | None => None,
        };
        let mut ship = Ship::start(self.project.root(), arguments, armed.as_deref());
        match &plan {
            Some(Plan::Point("run.stop", _)) => {
                ship.sail(self.instant());
                ship.interrupt();
            }
            Some(Plan::Instant(time)) => {
                ship.sail(*time);
                ship.sink();
            }
            Some(Plan::Provider(time)) => {
                ship.sail(*time);
                self.project.sim.founder();
            }
            Some(Plan::Point(..)) | None => {}
        }
        let end = ship.end();
        let expected = match end {
            End::Exit(code) => [0, 1, 3, 4, 130].contains(&code),
            End::Signal(signal) => DEADLY.contains(&signal) && plan.is_some(),
        };
        assert!(expected, "{arguments:?} under {plan:?} ended by {end:?}: {:?}", ship.heard);
        if let (End::Signal(_), Some(plan)) = (end, &plan) {
            let name = match (plan, end) {
                (Plan::Point(point, _), End::Signal(6)) => point,
                _ => "an instant",
            };
            *self.kills.entry(name).or_default() += 1;
        }
        self.shown.extend(ship.heard.iter().filter(|line| line.starts_with('{')).cloned());
        end
    }

    fn plan(&mut self) -> Plan {
        let points = failpoint::POINTS.len() as u64;
        match self.dice.roll(points + 8) {
            0..4 => Plan::Instant(self.instant()),
            4 => Plan::Provider(self.instant()),
            other => {
                let index = usize::try_from(other % points).expect("small");
                Plan::Point(failpoint::POINTS[index].0, 1 + self.dice.roll(REACHED_MAX))
            }
        }
    }

    fn instant(&mut self) -> Millis {
        Millis(10 + self.dice.roll(250))
    }

    /// Checks the books, and takes a fresh store where this one has many runs.
    fn muster(&mut self) {
        let books = Books::open(&self.project);
        books.contain(&self.shown);
        books.check(&self.project);
        let (unknown, decided) = books.unknown_and_decided();
        drop(books);
        self.told.truncate(self.stores);
        self.told.push((self.runs, unknown, decided));
        if self.runs >= RUNS_PER_STORE {
            self.stores += 1;
            self.project = Project::new(&rough_sea(self.dice.roll(1 << 40)));
            self.runs = 0;
            self.shown.clear();
        }
    }

    fn killed(&self) -> u64 {
        self.kills.values().sum()
    }
}

/// True for points that only a process comes to that finds a run of another.
fn of_restarts(point: &str) -> bool {
    matches!(point, "store.recovering" | "run.resume")
}

#[test]
fn killed_anywhere_a_run_resumes_and_the_ledger_is_the_invoice() {
    let kills = number("PLIMSOLL_KILLS").unwrap_or(KILLS);
    let seed = number("PLIMSOLL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("PLIMSOLL_KILLS={kills} PLIMSOLL_SEED={seed}");
    let mut fleet = Fleet::new(seed);
    // Each point in turn at its first time, so that every one strikes; then at any time, and at any instant.
    let points = || failpoint::POINTS.iter().filter(|(point, _)| !OF_PEOPLE.contains(point));
    for (point, _) in points() {
        for _ in 0..TRIES_MAX {
            fleet.voyage(Plan::Point(point, 1));
            fleet.muster();
            if fleet.kills.contains_key(point) {
                break;
            }
        }
    }
    // The third tool call comes with a stamp in flight: a person must decide.
    fleet.voyage(Plan::Point("tool.call", 3));
    fleet.muster();
    while fleet.killed() < kills {
        let plan = fleet.plan();
        fleet.voyage(plan);
        fleet.muster();
    }
    let runs: u64 = fleet.told.iter().map(|told| told.0).sum();
    let unknown: usize = fleet.told.iter().map(|told| told.1).sum();
    let decided: usize = fleet.told.iter().map(|told| told.2).sum();
    println!("{} kills: {:?}", fleet.killed(), fleet.kills);
    println!("of {runs} runs: {unknown} attempts unknown, {decided} decisions of a person");
    assert!(decided > 0, "nobody was asked to decide on a call in flight");
    for (point, what) in points() {
        assert!(fleet.kills.contains_key(point), "nothing died at `{point}` ({what})");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
