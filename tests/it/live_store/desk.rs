//! A project whose runs take long, a provider for it, and processes that ask about them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll::store::lock::{Holder, LOCK_FILE};
use tempfile::TempDir;

use crate::cli::desk::{BINARY, Told};
use crate::kill::process::{Ship, Sim};

/// What a quick run answers.
pub(super) const ANSWER: &str = "It was shipped.";
/// Answers at once, or late where it is asked to take its time.
const SCENARIO: &str = "\
[[rule]]
when = { contains = \"slowly\" }
latency = \"60s\"
text = \"late\"

[[reply]]
repeat = \"forever\"
text = \"It was shipped.\"
";
const AGENT: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n[limits]\nmodel_call_time = \"60s\"\n[prompt]\nuser = \"{{ input }}\"\n";
const BUDGET: &str = "[[budgets]]\nname = \"all-time\"\ncap = \"$5\"\nper = \"total\"\n[[rates]]\nconcurrent = 64\n";

/// Whose books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Books {
    /// No provider is configured, and the simulated one is in the process.
    Simulated,
    /// A provider is configured: a `plimsoll sim` beside it.
    Real,
}

/// A project, with its provider.
pub(super) struct Harbour {
    folder: TempDir,
    project: PathBuf,
    store: PathBuf,
    books: Books,
    _sim: Option<Sim>,
}

impl Harbour {
    pub(super) fn new(books: Books) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let project = folder.path().to_owned();
        write(&project.join("scenario.toml"), SCENARIO);
        write(&project.join("agents/hello.toml"), AGENT);
        write(&project.join("plimsoll.toml"), BUDGET);
        let sim = (books == Books::Real).then(|| Sim::start(&project));
        if let Some(sim) = &sim {
            let provider = format!("[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"{}\"\n", sim.base_url);
            write(&project.join("plimsoll.toml"), &format!("{BUDGET}{provider}"));
        }
        let store = project.join(if sim.is_some() { ".plimsoll" } else { ".plimsoll-sim" });
        Self { folder, project, store, books, _sim: sim }
    }

    /// Puts the store where a socket's path is too long.
    pub(super) fn deepen(&mut self) {
        let deep = format!("{}/books", "deep-".repeat(24));
        write(&self.project.join("plimsoll.toml"), &format!("[project]\nstore = \"{deep}\"\n{BUDGET}"));
        self.store = self.project.join(format!("{deep}-sim"));
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.store.join("socket")
    }

    /// Removes the socket, once it is there: it is made beside the run.
    pub(super) fn take_socket_away(&self) {
        let taken = || std::fs::remove_file(self.socket()).is_ok();
        let waited = (0..1_000).any(|_| {
            taken() || {
                std::thread::sleep(std::time::Duration::from_millis(10));
                false
            }
        });
        assert!(waited, "no socket is served");
    }

    /// Who holds the store.
    pub(super) fn holder(&self) -> Holder {
        let text = std::fs::read_to_string(self.store.join(LOCK_FILE)).expect("a lock");
        serde_json::from_str(&text).expect("a holder")
    }

    /// A run that takes long, in flight at the provider, and its id.
    pub(super) fn sail(&self) -> (Ship, String) {
        let mut words = vec!["run", "hello", "--input", "slowly, please", "--events"];
        let scenario = self.folder.path().join("scenario.toml").display().to_string();
        if self.books == Books::Simulated {
            words.extend(["--scenario", &scenario]);
        }
        let mut ship = Ship::start(&self.project, &words, None);
        assert!(ship.hear(|line| line.contains("\"kind\":\"reserved\"")), "{:?}", ship.heard);
        let line = ship.heard.last().expect("a line");
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (ship, event["run"].as_str().expect("an id").to_owned())
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--project").arg(&self.project).args(words);
        if self.books == Books::Simulated && words[0] == "run" {
            command.arg("--scenario").arg(self.project.join("scenario.toml"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn plimsoll(&self, words: &[&str]) -> Told {
        Told::of(self.command(words).spawn().expect("it starts"))
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}
