//! The real binary as child processes: started, watched line by line, and ended.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use plimsoll::clock::Clock;
use plimsoll::failpoint;
use plimsoll::units::{Millis, Timestamp};

/// The longest that any process of these tests may take.
const TIME_MAX: Millis = Millis::from_secs(60);

/// What lines of standard error begin with.
pub(crate) const TALK: &str = "stderr: ";

/// A running `plimsoll`. Dropped before its end, it is killed.
pub(crate) struct Ship {
    child: Child,
    lines: Receiver<String>,
    clock: Clock,
    /// What it has printed so far, on standard output and, behind [`TALK`], on standard error.
    pub(crate) heard: Vec<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exit(i32),
    Signal(i32),
}

impl Ship {
    /// Starts it in a project; `failpoint` is `NAME:N`.
    pub(crate) fn start(project: &Path, arguments: &[&str], failpoint: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.arg("--project").arg(project).args(arguments);
        command.env_remove(failpoint::VARIABLE).envs(failpoint.map(|armed| (failpoint::VARIABLE, armed)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (sender, lines) = channel();
        pass_on(child.stdout.take().expect("a pipe"), "", sender.clone());
        pass_on(child.stderr.take().expect("a pipe"), TALK, sender);
        Self { child, lines, clock: Clock::system(), heard: Vec::new() }
    }

    /// Waits until it prints a line for which `is_it` is true; false where it ends first.
    pub(crate) fn hear(&mut self, is_it: impl Fn(&str) -> bool) -> bool {
        let until = self.clock.now().after(TIME_MAX);
        loop {
            match self.lines.recv_timeout(self.until(until)) {
                Ok(line) => {
                    self.heard.push(line);
                    if self.heard.last().is_some_and(|line| is_it(line)) {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => unreachable!("a process hangs; it said {:?}", self.heard),
            }
        }
    }

    /// Lets it go on for a while, less where it ends first.
    pub(crate) fn sail(&mut self, time: Millis) {
        let until = self.clock.now().after(time);
        while let Ok(line) = self.lines.recv_timeout(self.until(until)) {
            self.heard.push(line);
        }
    }

    fn until(&self, time: Timestamp) -> Duration {
        time.since(self.clock.now()).duration()
    }

    /// SIGKILL.
    pub(crate) fn sink(&mut self) {
        drop(self.child.kill());
    }

    /// SIGINT, as Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let order = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &order]).status().expect("a shell").success());
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> End {
        while self.hear(|_| false) {}
        how(self.child.wait().expect("it has ended"))
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pass_on(stream: impl Read + Send + 'static, before: &'static str, sender: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            drop(sender.send(format!("{before}{line}")));
        }
    });
}

fn how(status: ExitStatus) -> End {
    status.code().map_or_else(|| End::Signal(status.signal().unwrap_or_default()), End::Exit)
}

/// `plimsoll sim`, with its invoice in a file.
pub(crate) struct Sim {
    ship: Ship,
    root: PathBuf,
    pub(crate) base_url: String,
    pub(crate) invoice: PathBuf,
}

impl Sim {
    pub(crate) fn start(root: &Path) -> Self {
        let (ship, base_url) = launch(root, "127.0.0.1:0");
        Self { ship, root: root.to_owned(), base_url, invoice: root.join("invoice.jsonl") }
    }

    /// Kills it and starts it again on the same port: the invoice goes on.
    pub(crate) fn founder(&mut self) {
        self.ship.sink();
        self.ship.end();
        let address: SocketAddr =
            self.base_url.trim_start_matches("http://").trim_end_matches("/v1").parse().expect("an address");
        (self.ship, _) = launch(&self.root, &address.to_string());
    }
}

fn launch(root: &Path, listen: &str) -> (Ship, String) {
    let place = |name: &str| root.join(name).display().to_string();
    let (scenario, invoice) = (place("scenario.toml"), place("invoice.jsonl"));
    let mut ship =
        Ship::start(root, &["sim", "--listen", listen, "--scenario", &scenario, "--invoice", &invoice], None);
    let listens = ship.hear(|line| line.starts_with("http://"));
    assert!(listens, "the simulated provider doesn't start");
    let base_url = ship.heard.last().expect("a line").clone();
    (ship, base_url)
}
