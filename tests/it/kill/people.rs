//! Approvals in flight: the process is killed at every named point of a run that asks people, and they answer from a
//! process of their own, while the run's lives or after it died. Nothing is held meanwhile, nothing is asked or done twice.

use std::collections::BTreeMap;

use plimsoll::domain::event::{AskKind, Event};
use plimsoll::failpoint;

use super::books::Books;
use super::process::{End, Ship};
use super::project::{CUSTOMS, Project};

/// The cargo is sealed in one turn; what is beside it takes longer than the first answer.
const QUAY: &str = r#"
[defaults]
latency = "5ms"

[[rule]]
when = { contains = "GLANCE" }
text = "The quay is free."
latency = "200ms"

[[rule]]
when = { contains = "REPORT" }
text = "All is landed."

[[reply]]
tool_calls = [{ name = "seal", arguments = { word = "b" } }]

[[reply]]
text = "The cargo is stowed."
"#;

/// Rounds of answers and resumes in which a run must end.
const ROUNDS_MAX: u32 = 12;

/// Points that nothing of this run comes to: a clean stop is another test's.
const ELSEWHERE: [&str; 2] = ["run.stop", "alert.brought"];
/// A start finds something open only after another death.
const AFTER_A_DEATH: &str = "store.recovering";

struct Quay {
    project: Project,
    /// The point that is still to strike.
    armed: Option<&'static str>,
    /// The last process died there.
    died: bool,
}

impl Quay {
    /// A process under way, armed as long as the point hasn't struck.
    fn start(&self, arguments: &[&str]) -> Ship {
        let armed = self.armed.map(|point| format!("{point}:1"));
        Ship::start(self.project.root(), arguments, armed.as_deref())
    }

    fn end(&mut self, mut ship: Ship) -> End {
        let end = ship.end();
        if matches!(end, End::Signal(6)) {
            self.died = true;
            self.armed = None;
        } else {
            assert!(matches!(end, End::Exit(0 | 2 | 4)), "{end:?}: {:?}", ship.heard);
        }
        if end == End::Exit(4) {
            // Whoever waits holds nothing.
            assert_eq!(Books::open(&self.project).store.holds().expect("it reads"), []);
        }
        end
    }

    fn tell(&mut self, arguments: &[&str]) -> End {
        let ship = self.start(arguments);
        self.end(ship)
    }

    /// One run, from its start to its end.
    fn land(&mut self, answers_at_once: bool) {
        let mut ship = self.start(&["run", CUSTOMS, "--input", "tea", "--events"]);
        if self.armed == Some(AFTER_A_DEATH) {
            ship.hear(|line| line.contains("person_asked"));
            ship.sink();
        } else if answers_at_once && ship.hear(|line| line.contains("person_asked")) {
            let answer = Ship::start(self.project.root(), &["approve", "last", "--ask", "0", "--only"], None).end();
            assert!(matches!(answer, End::Exit(_)), "{answer:?}");
        }
        let mut end = ship.end();
        assert_ne!(end, End::Exit(2), "{:?}", ship.heard);
        self.died |= matches!(end, End::Signal(_));
        if end == End::Signal(6) {
            self.armed = None;
        }
        for _ in 0..ROUNDS_MAX {
            if end == End::Exit(0) {
                return;
            }
            let mut list = self.start(&["runs", "--json"]);
            while list.hear(|_| false) {}
            let is_there = list.heard.iter().any(|line| line.contains(CUSTOMS));
            if matches!(self.end(list), End::Signal(_)) {
                continue;
            }
            if !is_there {
                end = self.tell(&["run", CUSTOMS, "--input", "tea"]);
                continue;
            }
            // A yes to what is open: one question at a time, or none.
            self.tell(&["approve", "last", "--only", "--by", "ann"]);
            end = self.tell(&["resume", "--all", "--in-flight", "skip"]);
        }
        panic!("the run doesn't end: {end:?}");
    }

    /// Each question once, each answered once, and each call once at most.
    fn check(&self) {
        let books = Books::open(&self.project);
        books.agree();
        assert!(books.logs.values().any(|log| log.iter().any(|one| matches!(one.event, Event::PersonAsked(_)))));
        for (run, log) in &books.logs {
            let (mut asked, mut answered) = (BTreeMap::new(), BTreeMap::new());
            for recorded in log {
                if let Event::PersonAsked(asks) = &recorded.event
                    && asks.what != Some(AskKind::InFlight)
                {
                    *asked.entry((asks.place.clone(), asks.call_id.clone())).or_insert(0) += 1;
                }
                if let Event::PersonAnswered(answers) = &recorded.event {
                    *answered.entry(answers.ask).or_insert(0) += 1;
                }
            }
            assert!(asked.values().all(|times| *times == 1), "asked twice, in {run}: {asked:?}");
            assert!(answered.values().all(|times| *times == 1), "answered twice, in {run}: {answered:?}");
        }
        let done = std::fs::read_to_string(self.project.root().join("seal.txt")).unwrap_or_default();
        for word in ["b", "z"] {
            let times = done.lines().filter(|line| *line == word).count();
            assert!(times <= 1, "`{word}` is sealed {times} times");
        }
    }
}

#[test]
fn killed_while_people_are_asked_nothing_is_asked_or_done_twice() {
    let points = failpoint::POINTS.iter().map(|(point, _)| *point).filter(|point| !ELSEWHERE.contains(point));
    for (index, point) in points.enumerate() {
        let project = Project::new(QUAY);
        let mut quay = Quay { project, armed: Some(point), died: false };
        quay.land(index % 2 == 0);
        quay.check();
        assert!(quay.died && quay.armed.is_none(), "nothing died at `{point}`");
    }
}
