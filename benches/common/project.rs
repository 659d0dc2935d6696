//! The project that the benches run: one agent with one builtin tool and the usual limits, under one budget.

use std::path::Path;

use plimsoll::domain::plan::Plan;
use plimsoll::spec::load::{Answering, LoadOptions, load_agent};
use plimsoll::spec::project::Project;

/// The agent.
pub(crate) const AGENT: &str = "accountant";
/// What it is asked.
pub(crate) const QUESTION: &str = "What do two boxes at 19.90 and one shipment at 4.90 come to, with 19 % VAT?";

const PROJECT: &str = r#"
[project]
environment = "bench"
store = "store"

[policies.standard]
models = ["openai/gpt-5-mini"]

[[budgets]]
name = "everything"
cap = "$1000000"
per = "month"
time_zone = "Europe/Berlin"
"#;

const TOOL: &str = r#"
description = "Does exact arithmetic"
kind = "builtin"
builtin = "calculate"
"#;

/// Limits of a run of a few steps.
pub(crate) const USUAL: &str = "steps = 12\nmodel_calls = 6\ntool_calls = 8\ncost = \"$0.05\"\nwall_time = \"90s\"";

/// Writes the project into a folder and loads it; `limits` may end with tables.
pub(crate) fn load(folder: &Path, streams: bool, limits: &str) -> (Project, Plan) {
    let agent = format!(
        r#"
description = "Answers questions about sums"
owner = "bench"
feature = "sums"
tools = ["calculate"]

[model]
policy = "standard"
max_output_tokens = 800
stream = {streams}

[prompt]
version = "1"
system = "You do sums for a shop. Use the tool for every sum, then answer in one sentence. Never guess a price."
user = "{{{{ input }}}}"

[limits]
expected_cost = "$0.01"
at_limit = "land"
{limits}
"#
    );
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    };
    write("plimsoll.toml", PROJECT);
    write("agents/accountant.toml", &agent);
    write("tools/calculate.toml", TOOL);
    reload(folder)
}

/// Loads the project as it lies in a folder.
pub(crate) fn reload(folder: &Path) -> (Project, Plan) {
    let options = LoadOptions { answering: Answering::Simulated, ..LoadOptions::default() };
    load_agent(folder, AGENT, &options).unwrap_or_else(|faults| unreachable!("the project is right: {faults:?}"))
}
