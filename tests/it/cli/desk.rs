//! A folder with a project, and the binary run in it as a person would.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_plimsoll");

/// A folder to work in.
pub(crate) struct Desk {
    folder: TempDir,
}

/// What a command told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Desk {
    /// Without a project.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// With the project that `init` makes.
    pub(crate) fn new() -> Self {
        let desk = Self::empty();
        desk.run(&["init"]).expect_code(0);
        desk
    }

    /// With the agents that ship, and all that they name; their scenarios answer without a wait.
    pub(crate) fn shipped() -> Self {
        let desk = Self::empty();
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["agents", "tools", "prompts", "examples", "plimsoll.toml"] {
            copy(&project.join(part), &desk.path(part));
        }
        for name in ["support-triage", "review", "release-notes"] {
            let scenario = format!("examples/scenarios/{name}.toml");
            let lines = desk.read(&scenario);
            let quick = lines.lines().filter(|line| !line.contains("latency =")).collect::<Vec<_>>().join("\n");
            desk.write(&scenario, &quick);
        }
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        self.write(name, &format!("{}\n{text}", self.read(name)));
    }

    pub(crate) fn with<'a>(&'a self, variable: &'a str, value: &'a str) -> Seat<'a> {
        Seat { desk: self, variable: Some((variable, value)) }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Told {
        Seat { desk: self, variable: None }.run(arguments)
    }

    /// Compares with the stored snapshot, ids and times put aside.
    pub(crate) fn snapshot(&self, name: &str, arguments: &[&str]) {
        Seat { desk: self, variable: None }.snapshot(name, arguments);
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Told {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        Told::of(child)
    }

    /// The binary with these arguments, in an environment of nothing.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn place(&self) -> &Path {
        self.folder.path()
    }
}

/// A desk with a variable set.
pub(crate) struct Seat<'a> {
    desk: &'a Desk,
    variable: Option<(&'a str, &'a str)>,
}

impl Seat<'_> {
    pub(crate) fn run(&self, arguments: &[&str]) -> Told {
        let mut command = self.desk.command(arguments);
        command.envs(self.variable);
        Told::of(command.spawn().expect("it starts"))
    }

    pub(crate) fn snapshot(&self, name: &str, arguments: &[&str]) {
        let told = self.run(arguments);
        let line = arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_snapshot_path("snapshots");
        settings.set_omit_expression(true);
        let place = regex_escaped(&self.desk.place().display().to_string());
        settings.add_filter(&format!("(/private)?{place}"), "[DIR]");
        settings.add_filter(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b", "[RUN]");
        settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?(\.\d+)?Z?", "[TIME]");
        settings.add_filter(r#""(\w+_ms)":( ?)\d+"#, r#""$1":$2"[MS]""#);
        settings.add_filter(r#""(start|end|at|until)":( ?)\d{13}"#, r#""$1":$2"[TIME]""#);
        if !arguments.contains(&"check") {
            settings.add_filter(r"\b(\d+ms|\d+\.\d{3}s|0s)\b", "[MS]");
        }
        // Where a period is going depends on the day.
        settings.add_filter(r"(\d\.\d%)  +(\$[\d.]+|-)  +(\S+\.toml:)", "$1  [FORECAST]  $3");
        settings.add_filter(r#""forecast":\{[^}]*\}"#, r#""forecast":"[FORECAST]""#);
        settings.add_filter(r"(?m)^.* reaches its cap on .*\n", "");
        // What stands in columns moves with the lengths of times.
        settings.add_filter(r"(\S)  +", "$1  ");
        settings.add_filter(r"(?m) +$", "");
        settings.bind(|| insta::assert_snapshot!(name, format!("$ plimsoll {line}\n{told}")));
    }
}

/// A file, or a folder with all in it.
fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).expect("copied");
        return;
    }
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '{']) { format!("'{word}'") } else { word.to_owned() }
}

fn regex_escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || c == '/' { c.to_string() } else { format!("\\{c}") }).collect()
}

impl Told {
    pub(crate) fn of(child: Child) -> Self {
        let output = child.wait_with_output().expect("it ends");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    #[track_caller]
    pub(crate) fn expect_code(&self, code: i32) {
        assert_eq!(self.code, code, "{self}");
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}
