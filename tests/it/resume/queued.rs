//! A process that is killed while runs wait to be admitted: afterwards each is admitted once, or turned away.

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Event, Recorded, RunState};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::summary::RunSummary;
use plimsoll::sim::Invoice;
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::{Millis, Money};

use super::{AGENT, Books, End, Project, Ship, calm_sea, resume};

const RUNS: usize = 3;
/// Far longer than it takes to ask for admission.
const SETTLING: Millis = Millis(400);
/// Longer than a call takes to reach the provider, counted in looks.
const LOOKS_MAX: u32 = 1_000;

/// Each run is expected to take nearly the whole budget, so that one starts and the others wait.
fn narrow(project: &Project, cap: &str) {
    let edit = |name: &str, from: &str, to: &str| {
        let path = project.root().join(name);
        let text = std::fs::read_to_string(&path).expect("it reads");
        assert!(text.contains(from), "{name}: {text}");
        std::fs::write(path, text.replace(from, to)).expect("it is written");
    };
    let configuration = std::fs::read_to_string(project.root().join("plimsoll.toml")).expect("it reads");
    let now = configuration.lines().find(|line| line.starts_with("cap")).expect("a cap").to_owned();
    edit("plimsoll.toml", &now, &format!("cap = \"{cap}\""));
}

/// Several runs in one process, which is killed with the first in its first call and the others in the queue.
fn struck() -> Project {
    let hang = "[[rule]]\nwhen = { attempt = 1, turn = 0 }\nlatency = \"60s\"\n";
    let mut project = Project::new(&format!("{}\n{hang}", calm_sea("1ms")));
    let agent = project.root().join(format!("agents/{AGENT}.toml"));
    let text = std::fs::read_to_string(&agent).expect("it reads");
    std::fs::write(&agent, text.replace("cost = \"$1\"", "cost = \"$1\"\nexpected_cost = \"$0.40\"")).expect("written");
    narrow(&project, "$0.50");
    let lines = project.root().join("lines.jsonl");
    std::fs::write(&lines, "\"Weigh.\"\n".repeat(RUNS)).expect("it is written");
    let lines = lines.display().to_string();
    let mut ship = Ship::start(project.root(), &["run", AGENT, "--each", &lines, "--parallel", "3"], None);
    let arrived = || std::fs::read_to_string(&project.sim.invoice).is_ok_and(|bill| bill.lines().count() > 0);
    for _ in 0..LOOKS_MAX {
        if arrived() {
            break;
        }
        ship.sail(Millis(10));
    }
    assert!(arrived(), "no call arrives: {:?}", ship.heard);
    ship.sail(SETTLING);
    ship.sink();
    assert!(matches!(ship.end(), End::Signal(9)), "{:?}", ship.heard);
    // From here on the provider answers at once.
    std::fs::write(project.root().join("scenario.toml"), calm_sea("1ms")).expect("it is written");
    project.sim.founder();
    project
}

/// Every run with its log, oldest first.
fn told(project: &Project) -> Vec<(RunSummary, Vec<Recorded>)> {
    let store = Store::open(&project.store(), LedgerPolicy::default(), Clock::system()).expect("it opens");
    let mut runs = store.summaries(&RunFilter::default()).expect("it lists");
    runs.sort_by_key(|run| run.id);
    runs.into_iter().map(|run| (run.clone(), store.events(run.id).expect("it reads"))).collect()
}

fn states(told: &[(RunSummary, Vec<Recorded>)]) -> Vec<RunState> {
    let mut states: Vec<RunState> = told.iter().map(|(run, _)| run.state).collect();
    states.sort();
    states
}

fn admissions(log: &[Recorded]) -> usize {
    log.iter().filter(|recorded| matches!(recorded.event, Event::Admitted(_))).count()
}

#[test]
fn what_was_queued_at_a_kill_is_admitted_once_afterwards() {
    let project = struck();
    let before = told(&project);
    assert_eq!(states(&before), [RunState::Queued, RunState::Queued, RunState::Interrupted]);
    for (run, log) in before.iter().filter(|(run, _)| run.state == RunState::Queued) {
        assert_eq!((admissions(log), run.held, run.settled), (0, Money::ZERO, Money::ZERO));
    }
    assert_eq!(resume(&project, &["--parallel", "3"]), End::Exit(0));
    let after = told(&project);
    assert_eq!(states(&after), [RunState::Finished; RUNS]);
    for ((run, log), (was, _)) in after.iter().zip(&before) {
        let starts = if was.state == RunState::Queued { 1 } else { 2 };
        assert_eq!((run.id, admissions(log)), (was.id, starts));
    }
    Books::open(&project).check(&project);
}

#[test]
fn what_was_queued_at_a_kill_is_turned_away_where_the_budget_is_gone() {
    let project = struck();
    narrow(&project, "$0.000001");
    let billed = Invoice::read(&project.sim.invoice).expect("an invoice").count;
    // Those that never began end by the budget; the one that ran stays as it is, and can be resumed.
    assert_eq!(resume(&project, &["--parallel", "3"]), End::Exit(130));
    let after = told(&project);
    assert_eq!(states(&after), [RunState::Interrupted, RunState::Stopped, RunState::Stopped]);
    for (run, log) in after.iter().filter(|(run, _)| run.state == RunState::Stopped) {
        assert_eq!((run.limit, run.settled, admissions(log)), (Some(LimitKind::Budget), Money::ZERO, 0));
    }
    assert_eq!(Invoice::read(&project.sim.invoice).expect("an invoice").count, billed, "nothing was sent");
    narrow(&project, "$0.50");
    assert_eq!(resume(&project, &[]), End::Exit(0));
    assert!(told(&project).iter().all(|(run, _)| run.state.is_ended()));
    Books::open(&project).check(&project);
}
