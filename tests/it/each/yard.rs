//! A project whose provider is a process of its own, and the command that runs its agent on a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use plimsoll::domain::event::{Event, Recorded, Reserved, Settled};
use plimsoll::units::{Money, Timestamp};
use serde_json::Value;

use crate::kill::books::Books;
use crate::kill::process::{End, Ship, Sim, TALK};
use crate::world::Recipe;

/// The file of lines.
const FILE: &str = "lines.jsonl";
/// What joins a project of a recipe to its provider.
const JOINED: &str = "\n[project]\nenvironment = 'test'\nstore = 'store'\n";

/// A project and its provider.
pub(super) struct Yard {
    folder: tempfile::TempDir,
    sim: Sim,
}

impl Yard {
    pub(super) fn new(recipe: &Recipe) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, configuration) = (folder.path(), folder.path().join("plimsoll.toml"));
        recipe.write(root);
        // The provider reads the prices, and gives the address that the project then asks.
        let sim = Sim::start(root);
        let provider =
            |name: &str| format!("[providers.{name}]\nwire = 'openai-chat'\nbase_url = '{}'\n", sim.base_url);
        let prices = fs::read_to_string(&configuration).expect("a file");
        let whole = format!("{prices}{JOINED}{}{}", provider("openai"), provider("local"));
        fs::write(&configuration, whole).expect("a file");
        Self { folder, sim }
    }

    /// Makes the file: so many different lines, each tenth of them slow.
    pub(super) fn lines(self, count: u64) -> Self {
        let how = |number: u64| if number.is_multiple_of(10) { "slowly" } else { "now" };
        let line = |number| format!("\"please look {} at {number:04}\"\n", how(number));
        let lines: String = (1..=count).map(line).collect();
        fs::write(self.path(FILE), lines).expect("a file");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the command; it is the same one each time, but for `more`.
    pub(super) fn start(&self, parallel: u64, more: &[&str], failpoint: Option<&str>) -> Ship {
        let (file, parallel) = (self.path(FILE).display().to_string(), parallel.to_string());
        let each = ["run", "a", "--each", &file, "--parallel", &parallel, "--json"];
        Ship::start(self.folder.path(), &[&each[..], more].concat(), failpoint)
    }

    /// The whole command, to its end.
    pub(super) fn each(&self, parallel: u64, more: &[&str]) -> Told {
        Told::of(self.start(parallel, more, None))
    }

    /// Another command.
    pub(super) fn run(&self, arguments: &[&str]) -> Told {
        Told::of(Ship::start(self.folder.path(), arguments, None))
    }

    pub(super) fn books(&self) -> Books {
        Books::at(&self.path("store"), &self.sim.invoice)
    }
}

/// What a command printed.
pub(super) struct Told {
    pub(super) end: End,
    /// One for each line of standard output, in their order.
    pub(super) documents: Vec<Value>,
    pub(super) talk: Vec<String>,
}

impl Told {
    pub(super) fn of(mut ship: Ship) -> Self {
        let end = ship.end();
        let (talk, data): (Vec<&String>, Vec<&String>) = ship.heard.iter().partition(|line| line.starts_with(TALK));
        let documents = data.into_iter().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        Self { end, documents, talk: talk.into_iter().cloned().collect() }
    }

    /// The documents by line; no line has two.
    pub(super) fn by_line(&self) -> BTreeMap<u64, &Value> {
        let mut lines = BTreeMap::new();
        for document in &self.documents {
            let line = document["line"].as_u64().expect("a line");
            assert!(lines.insert(line, document).is_none(), "line {line} is told twice");
        }
        lines
    }

    /// Each line from 1 has its document.
    pub(super) fn covers(&self, count: u64) {
        let lines: BTreeSet<u64> = self.by_line().into_keys().collect();
        assert_eq!(lines, (1..=count).collect(), "{:?}", self.talk);
    }

    pub(super) fn in_state<'a>(&'a self, state: &'a str) -> impl Iterator<Item = &'a Value> {
        self.documents.iter().filter(move |document| document["state"] == state)
    }

    /// What the documents say was settled.
    pub(super) fn settled(&self) -> Money {
        self.documents.iter().map(settled).sum()
    }
}

pub(super) fn settled(document: &Value) -> Money {
    Money::parse(document["cost"]["settled_usd"].as_str().expect("an amount")).expect("an amount")
}

pub(super) fn reservations(log: &[Recorded]) -> impl Iterator<Item = &Reserved> {
    log.iter()
        .filter_map(|recorded| if let Event::Reserved(reserved) = &recorded.event { Some(&**reserved) } else { None })
}

pub(super) fn settlements(log: &[Recorded]) -> impl Iterator<Item = (Timestamp, &Settled)> {
    log.iter().filter_map(|recorded| {
        if let Event::Settled(settled) = &recorded.event { Some((recorded.at, &**settled)) } else { None }
    })
}
