//! A small project in a temporary folder: an agent, and a workflow of the same work, with a builtin and two programs that leave their mark in a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::process::Sim;

/// The agent of the project.
pub(crate) const AGENT: &str = "purser";
/// The same work as a stage, with maps of calls, of questions and of runs below, and a stamp of its own beside it, and one after all.
pub(crate) const WORKFLOW: &str = "convoy";

/// A run that asks people: before it works, and before each of two calls; a run below goes on beside it.
pub(crate) const CUSTOMS: &str = "customs";

/// A project, and the simulated provider that answers it as a process of its own.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    pub(crate) sim: Sim,
}

impl Project {
    /// Writes the files and starts the provider, which plays `scenario`.
    pub(crate) fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::write(root.join("scenario.toml"), scenario).expect("it is written");
        let sim = Sim::start(root);
        for name in ["agents", "tools"] {
            fs::create_dir(root.join(name)).expect("it is made");
        }
        let files = [
            ("plimsoll.toml".to_owned(), configuration(&sim.base_url)),
            (format!("agents/{AGENT}.toml"), AGENT_FILE.to_owned()),
            (format!("agents/{WORKFLOW}.toml"), format!("{AGENT_FILE}{STAGES}")),
            ("agents/pilot.toml".to_owned(), PILOT.to_owned()),
            (format!("agents/{CUSTOMS}.toml"), format!("{CUSTOMS_FILE}{CUSTOMS_STAGES}")),
            ("tools/seal.toml".to_owned(), format!("approval = \"always\"{}", program("Seals a word", "seal", false))),
            ("tools/weigh.toml".to_owned(), "kind = \"builtin\"\nbuiltin = \"calculate\"\n".to_owned()),
            ("tools/note.toml".to_owned(), program("Notes a word", "note", true)),
            ("tools/stamp.toml".to_owned(), program("Stamps a word", "stamp", false)),
            ("tools/append.sh".to_owned(), APPEND.to_owned()),
        ];
        for (name, text) in files {
            fs::write(root.join(name), text).expect("it is written");
        }
        let script = root.join("tools/append.sh");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("it may be run");
        Self { folder, sim }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root().join("store")
    }

    /// How often a tool has had its effect.
    pub(crate) fn effects(&self, tool: &str) -> usize {
        fs::read_to_string(self.root().join(format!("{tool}.txt"))).map_or(0, |text| text.lines().count())
    }
}

fn configuration(base_url: &str) -> String {
    format!(
        r#"
[project]
environment = "test"
store = "store"

[providers.openai]
wire = "openai-chat"
base_url = "{base_url}"

[[budgets]]
name = "voyage"
cap = "$1000"
per = "total"

[[alerts]]
name = "ends"
on = ["finished", "stopped", "failed"]
log = true
"#
    )
}

const AGENT_FILE: &str = r#"
description = "Weighs, notes and stamps"
tools = ["weigh", "note", "stamp"]

[model]
models = ["openai/gpt-5-mini", "openai/gpt-5-nano"]
max_output_tokens = 400

[prompt]
system = "You are the purser."
user = "{{ input }}"

[limits]
steps = 40
attempts = 60
wall_time = "60s"
cost = "$1"

[retry]
attempts = 6
backoff = "1ms..5ms"
"#;

/// A run below, twice.
const PILOT: &str = r#"
description = "Looks at a channel"

[model]
models = ["openai/gpt-5-nano"]
max_output_tokens = 400

[prompt]
user = "{{ input }}"

[limits]
cost = "$0.1"

[retry]
attempts = 6
backoff = "1ms..5ms"
"#;

const CUSTOMS_FILE: &str = r#"
description = "Lands a cargo"

[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 400

[prompt]
user = "{{ input }}"

[limits]
cost = "$1"

[retry]
attempts = 6
backoff = "1ms..5ms"

[output]
from = "report"
"#;

const CUSTOMS_STAGES: &str = r#"
[[stage]]
id = "clear"
kind = "approval"
ask = "May it be landed?"

[[stage]]
id = "look"
kind = "agent"
agent = "pilot"
input = "GLANCE at the quay."

[[stage]]
id = "stow"
kind = "loop"
needs = ["clear"]
tools = ["seal"]
prompt = { user = "STOW the cargo." }

[[stage]]
id = "sign"
kind = "tool"
needs = ["stow"]
on_error = "continue"
tool = "seal"
args = { word = "z" }

[[stage]]
id = "report"
kind = "model"
needs = ["look", "sign"]
prompt = { user = "REPORT." }
"#;

const STAGES: &str = r#"
[[stage]]
id = "work"
kind = "loop"

[[stage]]
id = "glance"
kind = "model"
prompt = { user = "GLANCE at the sea." }

[[stage]]
id = "rounds"
kind = "map"
over = "['f', 'g', 'h']"
limits = { parallel = 2 }
[stage.each]
kind = "tool"
tool = "note"
args = { word = "{{ item }}" }

[[stage]]
id = "reefs"
kind = "map"
needs = ["glance"]
over = "['i', 'j', 'k']"
[stage.each]
kind = "model"
prompt = { user = "GLANCE at reef {{ item }}." }

[[stage]]
id = "pilots"
kind = "map"
over = "['l', 'm']"
[stage.each]
kind = "agent"
agent = "pilot"
input = "GLANCE at channel {{ item }}."

[[stage]]
id = "seal"
kind = "tool"
needs = ["rounds"]
on_error = "continue"
tool = "stamp"
args = { word = "{{ stages.rounds.output | length }}" }

[[stage]]
id = "report"
kind = "model"
needs = ["work", "reefs", "pilots", "seal"]
prompt = { user = "REPORT {{ stages.work.output }} {{ stages.reefs.output }}" }
"#;

/// The mark is made early and the program ends late, so that kills fall between.
const APPEND: &str = r#"#!/bin/sh
printf '%s\n' "$2" >> "$1.txt"
sleep 0.01
echo done
"#;

fn program(description: &str, file: &str, idempotent: bool) -> String {
    format!(
        r#"
description = "{description}"
kind = "command"
command = ["./append.sh", "{file}", "{{{{ args.word }}}}"]
idempotent = {idempotent}

[input]
type = "object"
additionalProperties = false
required = ["word"]
properties.word = {{ type = "string" }}
"#
    )
}

/// Four turns: a builtin and a note; two stamps and a note at once; a note; the answer. Some calls meet a fault.
pub(crate) fn rough_sea(seed: u64) -> String {
    format!("seed = {seed}\n{FAULTS}\n{}", calm_sea("3ms"))
}

/// The same without faults; each call takes a while.
pub(crate) fn calm_sea(latency: &str) -> String {
    format!("[defaults]\nlatency = \"{latency}\"\n{VOYAGE}")
}

const VOYAGE: &str = r#"
chunk_latency = "1ms"
chunk_bytes = 8

[[rule]]
when = { contains = "GLANCE" }
text = "The sea is rough."

[[rule]]
when = { contains = "REPORT" }
text = "All is stowed."

[[reply]]
tool_calls = [{ name = "weigh", arguments = { expression = "2 * 21" } }, { name = "note", arguments = { word = "a" } }]

[[reply]]
tool_calls = [
    { name = "stamp", arguments = { word = "b" } },
    { name = "note", arguments = { word = "c" } },
    { name = "stamp", arguments = { word = "d" } },
]

[[reply]]
tool_calls = [{ name = "note", arguments = { word = "e" } }]

[[reply]]
text = "The cargo is weighed, noted and stamped, and the ship may sail with the tide."
"#;

const FAULTS: &str = r#"
[faults]
rate_429 = "6%"
rate_529 = "4%"
rate_500 = "4%"
cut_stream = "6%"
missing_usage = "4%"
drop = "4%"
retry_after = "1ms"
"#;
