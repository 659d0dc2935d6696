//! Files of a project: what loads, and how each fault is told.

use std::path::Path;

use plimsoll::domain::limits::{AtLimit, Declared, LimitKind};
use plimsoll::domain::plan::{Builtin, Overflow, StageKind, ToolKind};
use plimsoll::ids::{AgentName, ModelName, ToolName};
use plimsoll::spec::load::{
    Answering, LoadOptions, find_project, load_agent, load_configuration, load_project, survey_project,
};
use plimsoll::spec::load_line::load_line;
use plimsoll::spec::project::{KeySource, OutputCapField};
use plimsoll::units::{Millis, Money, Tokens};
use tempfile::TempDir;

/// A project in a temporary folder, from names and texts of files.
fn project(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

fn options() -> LoadOptions {
    LoadOptions::default()
}

/// Every fault of a project as text; empty where there is none.
fn faults(files: &[(&str, &str)]) -> String {
    let folder = project(files);
    survey_project(folder.path(), &options()).faults.to_string()
}

/// The faults of one agent's file.
fn agent(text: &str) -> String {
    faults(&[("agents/a.toml", text)])
}

/// The faults of one tool's file.
fn tool(text: &str) -> String {
    faults(&[("tools/t.toml", text)])
}

/// The faults of a `plimsoll.toml`.
fn configuration(text: &str) -> String {
    faults(&[("plimsoll.toml", text)])
}

const MODEL: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n";

const SUPPORT: &str = r#"
description = "Reads a support ticket, looks up the order and drafts a reply"
owner   = "platform-team"
feature = "support"
unit    = "resolved_support_case"
tools   = ["search_help", "lookup_order"]

[model]
policy = "standard"
max_output_tokens = 800
temperature = 0.5
extra = { top_k = 40 }

[prompt]
version = "2026-11-01"
system_file = "prompts/support.md"
user = "{{ input.ticket }}"

[input]
type = "object"
required = ["ticket"]
properties.ticket = { type = "string" }

[limits]
steps = 12
cost = "$0.05"
expected_cost = "$0.01"
wall_time = "90s"
at_limit = "land"

[retry]
attempts = 2
backoff = "200ms..5s"
retry_after = "20s"

[context]
tokens = 16_000
history = 6_000
tool_output = 2_000
overflow = "refuse"

[output]
type = "object"
required = ["reply", "resolved"]
properties = { reply = { type = "string" }, resolved = { type = "boolean" } }
"#;

const LOOKUP: &str = r#"
description = "Looks up an order by its number"
kind    = "command"
command = ["cat", "{{ args.order }}"]
timeout = "5s"
output_bytes = 16_384
idempotent = true
price = "$0.001"
approval = "never"

[input]
type = "object"
required = ["order"]
properties.order = { type = "string", pattern = "^[0-9]{4,8}$" }
"#;

const SEARCH: &str = "kind = \"builtin\"\nbuiltin = \"search_files\"\nfolders = [\"help\"]\n";

const CONFIGURATION: &str = r#"
[project]
environment = "production"

[providers.openai]
wire = "openai-chat"
base_url = "https://api.openai.com/v1/"
key_env = "OPENAI_API_KEY"

[providers.local]
wire = "openai-chat"
base_url = "http://localhost:11434/v1"

[policies.standard]
quality = "standard"
models = ["openai/gpt-5-mini", "local/qwen"]
downgrade = { to = "economy" }

[policies.economy]
models = ["openai/gpt-5-nano"]

[[prices]]
model = "local/qwen"
input = "0"
output = "0"
reason = "own hardware"

[[budgets]]
name  = "support-month"
scope = { feature = "support" }
each  = ["tenant"]
cap   = "$500"
per   = "month"
time_zone = "Europe/Berlin"

[defaults.limits]
model_call_time = "40s"

[ceilings.limits]
cost = "$1"
tool_calls = 10
"#;

fn shipped() -> Vec<(&'static str, &'static str)> {
    vec![
        ("plimsoll.toml", CONFIGURATION),
        ("agents/support.toml", SUPPORT),
        ("tools/lookup_order.toml", LOOKUP),
        ("tools/search_help.toml", SEARCH),
        ("prompts/support.md", "You help {{ input.ticket }}.\n"),
        ("help/a.md", "help"),
    ]
}

#[test]
fn a_whole_project_loads() {
    let folder = project(&shipped());
    let (project, plans) = load_project(folder.path(), &options()).expect("a good project");
    let plan = &plans[&AgentName::from("support")];
    assert_eq!(plan.model.policy.as_ref().expect("a policy").as_str(), "standard");
    assert_eq!(plan.model.candidates, [ModelName::from("openai/gpt-5-mini"), ModelName::from("local/qwen")]);
    assert_eq!(plan.model.downgrade.as_ref().expect("a downgrade").candidates, [ModelName::from("openai/gpt-5-nano")]);
    assert_eq!((plan.model.max_output_tokens, plan.model.min_output_tokens, plan.model.stream), (800, 256, true));
    assert_eq!(
        serde_json::to_string(&plan.model.sampling).expect("JSON"),
        r#"{"temperature":0.5,"extra":{"top_k":40}}"#
    );
    assert_eq!((plan.prompt.label(), plan.prompt.hash.len()), ("2026-11-01", 16));
    assert_eq!(
        (plan.prompt.system.as_str(), plan.prompt.user.as_str()),
        ("You help {{ input.ticket }}.\n", "{{ input.ticket }}")
    );
    assert_eq!(
        (plan.context.tokens, plan.context.history, plan.context.tool_output),
        (Tokens(16_000), Tokens(6_000), Tokens(2_000))
    );
    assert_eq!((plan.context.overflow, plan.retry.attempts), (Overflow::Refuse, 2));
    let StageKind::Loop { tools } = &plan.stages[0].kind;
    assert_eq!(tools, &[ToolName::from("search_help"), ToolName::from("lookup_order")]);
    assert_eq!(project.environment, "production");
    assert_eq!(project.budgets[0].time_zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(project.prices[0].reason.as_deref(), Some("own hardware"));
}

#[test]
fn limits_come_from_the_agent_else_the_project_else_are_built_in() {
    let folder = project(&shipped());
    let (_, plan) = load_agent(folder.path(), "support", &options()).expect("a good agent");
    let at = |file: &str, line| Declared::At { file: file.into(), line };
    let limits = &plan.limits;
    assert_eq!((limits.steps, limits.declared(LimitKind::Steps)), (12, at("agents/support.toml", 25)));
    assert_eq!((limits.cost, limits.wall_time), (Money::from_micro(50_000), Millis::from_secs(90)));
    assert_eq!(limits.model_call_time, Millis::from_secs(40));
    assert_eq!(limits.declared(LimitKind::ModelCallTime), at("plimsoll.toml", 37));
    assert_eq!((limits.tool_calls, limits.declared(LimitKind::ToolCalls)), (10, at("plimsoll.toml", 41)));
    assert_eq!((limits.repeats, limits.declared(LimitKind::Repeats)), (3, Declared::Default));
    assert_eq!((limits.at_limit, limits.expected_cost), (AtLimit::Land, Some(Money::from_micro(10_000))));
}

#[test]
fn tools_keep_inside_the_limits_of_their_agent() {
    let folder = project(&shipped());
    let (_, plan) = load_agent(folder.path(), "support", &options()).expect("a good agent");
    let lookup = &plan.tools[&ToolName::from("lookup_order")];
    assert_eq!((lookup.timeout, lookup.output_bytes, lookup.idempotent), (Millis::from_secs(5), 16_384, true));
    let root = folder.path().to_str().expect("a path");
    let ToolKind::Command { command, directory, .. } = &lookup.kind else { panic!("a command") };
    assert_eq!((command[0].as_str(), directory.as_str()), ("cat", root));
    let search = &plan.tools[&ToolName::from("search_help")];
    assert_eq!((search.timeout, search.output_bytes, search.idempotent), (Millis::from_secs(30), 65_536, true));
    assert_eq!(search.kind, ToolKind::Builtin(Builtin::SearchFiles { folders: vec![format!("{root}/help")] }));
    assert_eq!(search.input["required"][0], "query");
}

#[test]
fn providers_have_the_quirks_of_their_host() {
    let folder = project(&shipped());
    let project = load_configuration(folder.path(), &options()).expect("a good file");
    let openai = &project.providers[&"openai".into()];
    assert_eq!(openai.base_url, "https://api.openai.com/v1");
    assert_eq!(openai.key, KeySource::Env("OPENAI_API_KEY".into()));
    assert_eq!(openai.quirks.output_cap_field, OutputCapField::MaxCompletionTokens);
    assert!(openai.quirks.pin_service_tier && openai.quirks.no_cache_writes && openai.quirks.stream_usage);
    let local = &project.providers[&"local".into()];
    assert_eq!((&local.key, local.quirks.output_cap_field), (&KeySource::None, OutputCapField::MaxTokens));
    assert!(!local.quirks.pin_service_tier && !local.quirks.no_cache_writes && local.quirks.stream_usage);
}

#[test]
fn the_same_files_give_the_same_plan_and_another_limit_another() {
    let (one, two) = (project(&shipped()), project(&[("agents/a.toml", MODEL)]));
    let hash = |folder: &Path, name: &str| load_agent(folder, name, &options()).expect("an agent").1.hash();
    assert_eq!(hash(one.path(), "support"), hash(one.path(), "support"));
    let before = hash(two.path(), "a");
    std::fs::write(two.path().join("agents/a.toml"), format!("{MODEL}[limits]\nsteps = 21\n")).expect("a file");
    assert_ne!(hash(two.path(), "a"), before);
}

#[test]
fn a_schema_keeps_the_order_of_its_author() {
    let text = format!("{MODEL}[output]\ntype = \"object\"\n[output.properties]\nzeal = {{}}\nanswer = {{}}\n");
    let folder = project(&[("agents/a.toml", &text)]);
    let (_, plan) = load_agent(folder.path(), "a", &options()).expect("an agent");
    let output = plan.output.expect("a schema");
    let names: Vec<_> = output["properties"].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["zeal", "answer"]);
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    let text = r#"
owner = 7
tols = ["lookup"]

[model]
models = []
max_output_tokens = 100
min_output_tokens = 200

[limits]
steps = 0
wall_time = "soon"
cost = "5 cents"

[[stage]]
id = "x"
"#;
    insta::assert_snapshot!(agent(text), @r#"
agents/a.toml:2:9: `owner` can't be a whole number
  2 | owner = 7
    |         ^
  help: expected a text, such as `"…"`

agents/a.toml:3:1: unknown key `tols` at the top level
  3 | tols = ["lookup"]
    | ^^^^
  help: did you mean `tools`?

agents/a.toml:6:10: `models` is empty
  6 | models = []
    |          ^^
  help: expected 1 to 16 texts

agents/a.toml:8:21: `min_output_tokens` is 200, above `max_output_tokens` of 100
  8 | min_output_tokens = 200
    |                     ^^^
  help: at most 100

agents/a.toml:11:9: `steps` is 0
  11 | steps = 0
     |         ^
  help: expected 1 to 1,000,000

agents/a.toml:12:13: `soon` is no length of time, such as `250ms`, `30s`, `5m`, `2h` or `7d`
  12 | wall_time = "soon"
     |             ^^^^^^
  help: expected a length of time as text, such as `"30s"`

agents/a.toml:13:8: `5 cents` is no decimal amount, such as `0.05`
  13 | cost = "5 cents"
     |        ^^^^^^^^^
  help: expected dollars as text, such as `"$0.05"`

agents/a.toml:15:3: `stage` is not supported by this version
  15 | [[stage]]
     |   ^^^^^
  help: an agent is one loop: leave the stages out
"#);
}

#[test]
fn a_syntax_error_is_told_alone() {
    insta::assert_snapshot!(agent("owner = \"x\"\n[limits\nsteps = 5\n"), @r#"
agents/a.toml:2:8: unclosed table, expected `]`
  2 | [limits
    |        ^
  help: mend this first: the rest of the file is read after it
"#);
}

#[test]
fn faults_of_an_agent() {
    let cases = [
        ("", "no model table"),
        ("[model]\n", "no model named"),
        ("[model]\nmodels = [\"gpt-5\", \"openai/a\", \"openai/a\"]\npolicy = \"x\"\n", "bad model names"),
        ("[model]\nmodels = [\"openai/a\"]\nextra = { n = 2, top_k = 1 }\n", "an extra that passes the reservation"),
        ("[model]\nmodels = [\"openai/a\"]\ntemperature = 2.5\nseed = 1.5\n", "bad sampling"),
    ];
    let told: Vec<String> = cases.iter().map(|(text, what)| format!("## {what}\n{}", agent(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"), @r#"
## no model table
agents/a.toml:1:1: `model` is missing at the top level
  help: Which models are approved, and how they are asked

## no model named
agents/a.toml:1:1: `[model]` names no model
  1 | [model]
    | ^^^^^^^
  help: add `policy = "…"`, or `models = ["provider/model"]`

## bad model names
agents/a.toml:2:1: `models` and `policy` are both there
  2 | models = ["gpt-5", "openai/a", "openai/a"]
    | ^^^^^^
  help: keep one of them

agents/a.toml:2:11: `gpt-5` is no name of a model
  2 | models = ["gpt-5", "openai/a", "openai/a"]
    |           ^^^^^^^
  help: expected `provider/model`, such as `openai/gpt-5-mini`

agents/a.toml:2:32: the model `openai/a` is named twice
  2 | models = ["gpt-5", "openai/a", "openai/a"]
    |                                ^^^^^^^^^^
  help: name it once

agents/a.toml:3:10: no policy `x`
  3 | policy = "x"
    |          ^^^
  help: `plimsoll.toml` declares no policy: add `[policies.NAME]`, or list `models`

## an extra that passes the reservation
agents/a.toml:3:15: `extra` can't set `n`
  3 | extra = { n = 2, top_k = 1 }
    |               ^
  help: more than one answer would pass the reservation

## bad sampling
agents/a.toml:3:15: `temperature` is out of range
  3 | temperature = 2.5
    |               ^^^
  help: expected a number from 0 to 2

agents/a.toml:4:8: `seed` can't be a number with a point
  4 | seed = 1.5
    |        ^^^
  help: expected a whole number, such as `12`
"#);
}

#[test]
fn faults_of_sizes_and_texts() {
    let cases = [
        ("[context]\ntokens = 1000\nhistory = 900\ntool_output = 200\n", "pots above the context"),
        ("[context]\noverflow = \"summarise\"\ndocuments = 5\n[documents]\nfrom = []\n", "what comes later"),
        ("[limits]\nlanding_output_tokens = 5000\nlanding_tokens = 40000\n", "a landing above the request"),
        ("[limits]\ncost = \"$0.01\"\nexpected_cost = \"$0.02\"\n", "an expected cost above the cost"),
        ("[prompt]\nsystem = \"{{ input\"\n", "a broken template"),
        ("[prompt]\nuser = \"{{ inptu }}\"\nsystem_file = \"nowhere.md\"\n", "an unknown variable"),
        (
            "[prompt]\nuser = \"{{ input.tikcet }}\"\n[input]\ntype = \"object\"\nproperties.ticket = { type = \"string\" }\n",
            "an undeclared field",
        ),
        ("[input]\ntype = \"objekt\"\n", "a bad schema"),
        ("[output]\ntype = \"object\"\nproperties.a = { type = \"string\", minLength = -1 }\n", "a bad schema inside"),
        ("[retry]\nbackoff = \"5s..1s\"\nattempts = 99\n", "bad retries"),
        ("[limits]\ndeadline = \"tomorrow\"\n", "a bad point in time"),
    ];
    let told = cases.iter().map(|(text, what)| format!("## {what}\n{}", agent(&format!("{MODEL}{text}"))));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n\n"), @r#"
## pots above the context
agents/a.toml:6:15: the pots take 1,100 of 1,000 tokens and leave nothing for instructions
  6 | tool_output = 200
    |               ^^^
  help: raise `tokens`, or make the pots smaller

## what comes later
agents/a.toml:4:12: `overflow = "summarise"` is not supported by this version
  4 | overflow = "summarise"
    |            ^^^^^^^^^^^
  help: supported: `trim`, `refuse`

agents/a.toml:5:1: `context.documents` is not supported by this version
  5 | documents = 5
    | ^^^^^^^^^
  help: leave the pot out: its share goes to the others

agents/a.toml:6:2: `documents` is not supported by this version
  6 | [documents]
    |  ^^^^^^^^^
  help: give the agent a `search_files` tool instead

## a landing above the request
agents/a.toml:4:25: `landing_output_tokens` is 5,000, above `max_output_tokens` of 2,048
  4 | landing_output_tokens = 5000
    |                         ^^^^
  help: lower it, or raise the other

agents/a.toml:5:18: `landing_tokens` is 40,000, above the context's `tokens` of 32,000
  5 | landing_tokens = 40000
    |                  ^^^^^
  help: lower it, or raise the other

## an expected cost above the cost
agents/a.toml:5:17: `expected_cost` is $0.02, above the limit `cost` of $0.01
  5 | expected_cost = "$0.02"
    |                 ^^^^^^^
  help: at most $0.01, set at agents/a.toml:4

## a broken template
agents/a.toml:4:10: bad template: unexpected end of input, expected end of variable block
  4 | system = "{{ input"
    |          ^^^^^^^^^^
  help: templates are minijinja: `{{ value }}`, `{% if … %} … {% endif %}`; a literal brace is `{{ '{{' }}`

## an unknown variable
agents/a.toml:4:12: the template uses `inptu`, which doesn't exist here
  4 | user = "{{ inptu }}"
    |            ^^^^^
  help: did you mean `input`?

agents/a.toml:5:15: no file `nowhere.md`
  5 | system_file = "nowhere.md"
    |               ^^^^^^^^^^^^
  help: files are relative to the project, or else to `agents/`

## an undeclared field
agents/a.toml:4:12: the template uses `input.tikcet`, which isn't declared
  4 | user = "{{ input.tikcet }}"
    |            ^^^^^^^^^^^^
  help: did you mean `input.ticket`?

## a bad schema
agents/a.toml:4:8: `[input]` is no JSON Schema: this is not valid under any of the schemas listed in the 'anyOf' keyword
  4 | type = "objekt"
    |        ^^^^^^^^
  help: `type` is one of `object`, `array`, `string`, `number`, `integer`, `boolean`, `null`; `required` lists names; `properties` holds a schema for each

## a bad schema inside
agents/a.toml:5:47: `[output]` is no JSON Schema: this is less than the minimum of 0
  5 | properties.a = { type = "string", minLength = -1 }
    |                                               ^^
  help: `type` is one of `object`, `array`, `string`, `number`, `integer`, `boolean`, `null`; `required` lists names; `properties` holds a schema for each

## bad retries
agents/a.toml:4:11: `backoff` goes from 5s to 1s
  4 | backoff = "5s..1s"
    |           ^^^^^^^^
  help: expected a range up to 1h

agents/a.toml:5:12: `attempts` is 99
  5 | attempts = 99
    |            ^^
  help: expected 1 to 20

## a bad point in time
agents/a.toml:4:12: `tomorrow` is no point in time
  4 | deadline = "tomorrow"
    |            ^^^^^^^^^^
  help: expected a date and time with an offset, such as `2026-12-31T18:00:00Z`
"#);
}

#[test]
fn faults_of_a_prompt_file_point_into_it() {
    let files = [
        ("agents/a.toml", "[model]\nmodels = [\"openai/a\"]\n[prompt]\nsystem_file = \"p.md\"\n"),
        ("agents/p.md", "Good day.\n{% if input %}\nBye {{ inputs }}.\n"),
    ];
    let first = faults(&files);
    let second = faults(&[files[0], ("agents/p.md", "Good day.\nBye {{ inputs }}.\n")]);
    insta::assert_snapshot!(format!("{first}\n\n{second}"), @r#"
agents/p.md:3:17: bad template: unexpected end of input, expected end of block
  3 | Bye {{ inputs }}.
    |                 ^
  help: templates are minijinja: `{{ value }}`, `{% if … %} … {% endif %}`; a literal brace is `{{ '{{' }}`

agents/p.md:2:8: the template uses `inputs`, which doesn't exist here
  2 | Bye {{ inputs }}.
    |        ^^^^^^
  help: did you mean `input`?
"#);
}

#[test]
fn faults_of_a_tool() {
    let input = "[input]\ntype = \"object\"\nproperties.order = { type = \"string\" }\n";
    let cases = [
        ("kind = \"comand\"\n".to_owned(), "an unknown kind"),
        ("kind = \"mcp\"\napproval = \"always\"\n".to_owned(), "what comes later"),
        ("kind = \"command\"\nurl = \"x\"\n".to_owned(), "a command without one"),
        (
            format!(
                "kind = \"command\"\ndescription = \"d\"\ncommand = [\"./nothing\", \"{{{{ args.oder }}}}\"]\nenv = [\"A B\"]\n{input}"
            ),
            "a program that isn't there",
        ),
        (
            format!(
                "kind = \"http\"\ndescription = \"d\"\nurl = \"https://{{{{ args.order }}}}.example.com/\"\nheaders = {{ \"X Y\" = \"{{{{ env.TOKEN }}}}\" }}\n{input}"
            ),
            "a host that a template makes",
        ),
        (
            format!(
                "kind = \"http\"\ndescription = \"d\"\nurl = \"ftp://example.com/\"\nallowed_hosts = [\"https://a\"]\n{input}"
            ),
            "a scheme that isn't HTTP",
        ),
        ("kind = \"builtin\"\nbuiltin = \"search_files\"\n".to_owned(), "a search without folders"),
        ("kind = \"builtin\"\nbuiltin = \"now\"\nfolders = [\"nowhere\"]\n".to_owned(), "folders without a search"),
        (
            "kind = \"builtin\"\nbuiltin = \"read_file\"\nfolders = [\"nowhere\"]\n[input]\ntype = \"string\"\n"
                .to_owned(),
            "no folder",
        ),
    ];
    let told: Vec<String> = cases.iter().map(|(text, what)| format!("## {what}\n{}", tool(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"), @r#"
## an unknown kind
tools/t.toml:1:8: `comand` is no value of `kind`
  1 | kind = "comand"
    |        ^^^^^^^^
  help: did you mean `command`?

## what comes later
tools/t.toml:1:8: `kind = "mcp"` is not supported by this version
  1 | kind = "mcp"
    |        ^^^^^
  help: supported: `command`, `http`, `builtin`

tools/t.toml:2:12: `approval = "always"` is not supported by this version
  2 | approval = "always"
    |            ^^^^^^^^
  help: supported: `never`

## a command without one
tools/t.toml:1:1: the tool has no `command`
  1 | kind = "command"
    | ^
  help: name the program and its arguments: `command = ["./program", "{{ args.name }}"]`

tools/t.toml:1:1: the tool has no `description`
  1 | kind = "command"
    | ^
  help: the model reads what the tool does

tools/t.toml:1:1: the tool has no `input`
  1 | kind = "command"
    | ^
  help: write the JSON Schema of the arguments

tools/t.toml:2:1: a tool of kind `command` has no `url`
  2 | url = "x"
    | ^^^
  help: `url` is a key of kind `http`

## a program that isn't there
tools/t.toml:3:12: no program `./nothing` beside the tool's file
  3 | command = ["./nothing", "{{ args.oder }}"]
    |            ^^^^^^^^^^^
  help: put it at `tools/nothing`, or name a program of `PATH` without a `/`

tools/t.toml:3:29: the template uses `args.oder`, which isn't declared
  3 | command = ["./nothing", "{{ args.oder }}"]
    |                             ^^^^^^^^^
  help: did you mean `args.order`?

tools/t.toml:4:8: `env` holds what is no name of an environment variable
  4 | env = ["A B"]
    |        ^^^^^
  help: list names only, such as `"SHOP_TOKEN"`

## a host that a template makes
tools/t.toml:3:7: `allowed_hosts` is missing: a template makes the host of `url`
  3 | url = "https://{{ args.order }}.example.com/"
    |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  help: list the hosts that may be asked

tools/t.toml:4:13: `X Y` is no name of a header
  4 | headers = { "X Y" = "{{ env.TOKEN }}" }
    |             ^^^^^
  help: expected letters, digits and `-`

tools/t.toml:4:25: the template uses `env.TOKEN`, which isn't declared
  4 | headers = { "X Y" = "{{ env.TOKEN }}" }
    |                         ^^^^^^^^^
  help: list the variable in `env`

## a scheme that isn't HTTP
tools/t.toml:3:7: `url` begins with neither `https://` nor `http://`
  3 | url = "ftp://example.com/"
    |       ^^^^^^^^^^^^^^^^^^^^
  help: write the scheme out, not as a template

## a search without folders
tools/t.toml:1:1: the tool has no `folders`
  1 | kind = "builtin"
    | ^
  help: the builtin can't do without it

## folders without a search
tools/t.toml:3:1: the builtin `now` has no `folders`
  3 | folders = ["nowhere"]
    | ^^^^^^^
  help: leave it out

## no folder
tools/t.toml:3:12: no folder `nowhere`
  3 | folders = ["nowhere"]
    |            ^^^^^^^^^
  help: folders are relative to the project, the folder of `plimsoll.toml`

tools/t.toml:4:1: `[input]` doesn't describe an object
  4 | [input]
    | ^^^^^^^
  help: write `type = "object"`
"#);
}

#[test]
fn faults_of_a_project_file() {
    let cases = [
        ("[project]\nstore = \"postgres://user:secret@host/x\"\n[[rates]]\n", "what comes later"),
        (
            "[providers.a]\nwire = \"anthropic\"\nbase_url = \"https://u:p@host\"\nkey_env = \"sk-123\"\n",
            "a bad provider",
        ),
        (
            "[providers.a]\nwire = \"openai-chat\"\nbase_url = \"https://host/v1?key=1\"\nkey_env = \"A\"\nkey_command = [\"x\"]\nheaders = { Authorization = \"x\" }\n",
            "secrets in the file",
        ),
        (
            "[policies.a]\nmodels = [\"opnai/x\"]\ndowngrade = { at = \"90%\", to = \"b\" }\n[policies.bb]\nmodels = []\n[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"https://host\"\n",
            "bad policies",
        ),
        ("[[prices]]\nmodel = \"a/b\"\ninput = \"0\"\noutput = \"0.0000001\"\n", "bad prices"),
        (
            "[[budgets]]\nname = \"a\"\ncap = \"$5\"\nper = \"fortnight\"\n[[budgets]]\nname = \"a\"\ncap = 5\nper = \"day\"\ntime_zone = \"Europe/Berln\"\nscope = { \"a b\" = \"x\", tenant = \"\" }\neach = [\"tenant\"]\n",
            "bad budgets",
        ),
        (
            "[defaults.limits]\nsteps = 50\n[ceilings.limits]\nsteps = 30\nat_limit = \"stop\"\n",
            "a default above its ceiling",
        ),
    ];
    let told: Vec<String> = cases.iter().map(|(text, what)| format!("## {what}\n{}", configuration(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"), @r#"
## what comes later
plimsoll.toml:2:9: the store `postgres://…` is not supported by this version
  2 | store = "postgres://user:secret@host/x"
    |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  help: name a folder, such as `.plimsoll`

plimsoll.toml:3:3: `rates` is not supported by this version
  3 | [[rates]]
    |   ^^^^^
  help: leave the rates out: provider limits are met by retries

## a bad provider
plimsoll.toml:2:8: `wire = "anthropic"` is not supported by this version
  2 | wire = "anthropic"
    |        ^^^^^^^^^^^
  help: supported: `openai-chat`

plimsoll.toml:3:12: `base_url` holds credentials
  3 | base_url = "https://u:p@host"
    |            ^^^^^^^^^^^^^^^^^^
  help: name the key with `key_env` or `key_command`

plimsoll.toml:4:11: `key_env` is no name of an environment variable
  4 | key_env = "sk-123"
    |           ^^^^^^^^
  help: name the variable that holds the key, such as `OPENAI_API_KEY`

## secrets in the file
plimsoll.toml:3:12: `base_url` has a query or a fragment
  3 | base_url = "https://host/v1?key=1"
    |            ^^^^^^^^^^^^^^^^^^^^^^^
  help: end it with the path

plimsoll.toml:5:15: `key_command` and `key_env` are both there
  5 | key_command = ["x"]
    |               ^^^^^
  help: keep one of them

plimsoll.toml:6:13: the header `Authorization` would hold a secret
  6 | headers = { Authorization = "x" }
    |             ^^^^^^^^^^^^^
  help: name the key with `key_env` or `key_command`

## bad policies
plimsoll.toml:2:11: no provider `opnai` is configured
  2 | models = ["opnai/x"]
    |           ^^^^^^^^^
  help: did you mean `openai`?

plimsoll.toml:3:15: `policies.a.downgrade.at` is not supported by this version
  3 | downgrade = { at = "90%", to = "b" }
    |               ^^
  help: leave `at` out: the downgrade comes when a call's money isn't there

plimsoll.toml:3:32: no policy `b`
  3 | downgrade = { at = "90%", to = "b" }
    |                                ^^^
  help: did you mean `a`?

plimsoll.toml:5:10: `models` is empty
  5 | models = []
    |          ^^
  help: expected 1 to 16 texts

## bad prices
plimsoll.toml:3:9: the `input` price of `a/b` is 0 without a reason
  3 | input = "0"
    |         ^^^
  help: add `reason = "…"`, such as `"own hardware"`

plimsoll.toml:4:10: `0.0000001` has more than 6 decimals
  4 | output = "0.0000001"
    |          ^^^^^^^^^^^
  help: expected dollars for 1,000,000 tokens as text, such as `"0.25"`

## bad budgets
plimsoll.toml:4:7: `fortnight` is no value of `per`
  4 | per = "fortnight"
    |       ^^^^^^^^^^^
  help: expected one of `hour`, `day`, `week`, `month`, `quarter`, `total`

plimsoll.toml:6:8: the budget `a` is named twice
  6 | name = "a"
    |        ^^^
  help: name it once

plimsoll.toml:7:7: `cap` can't be a whole number
  7 | cap = 5
    |       ^
  help: expected dollars as text, such as `"$0.05"`

plimsoll.toml:9:13: no time zone `Europe/Berln`
  9 | time_zone = "Europe/Berln"
    |             ^^^^^^^^^^^^^^
  help: did you mean `Europe/Berlin`?

plimsoll.toml:10:11: `a b` is no name of a label
  10 | scope = { "a b" = "x", tenant = "" }
     |           ^^^^^
  help: expected 1 to 64 letters, digits, `_`, `-` and `.`, such as `tenant`

plimsoll.toml:10:33: `tenant` has a value that no label can have
  10 | scope = { "a b" = "x", tenant = "" }
     |                                 ^^
  help: expected 1 to 256 printable characters

plimsoll.toml:11:9: the label `tenant` is in `each` and in `scope`
  11 | each = ["tenant"]
     |         ^^^^^^^^
  help: keep one: `scope` fixes its value

## a default above its ceiling
plimsoll.toml:2:9: `steps` is 50, above the project's ceiling of 30
  2 | steps = 50
    |         ^^
  help: at most 30, set at plimsoll.toml:4

plimsoll.toml:5:1: unknown key `at_limit` in `[ceilings.limits]`
  5 | at_limit = "stop"
    | ^^^^^^^^
  help: expected one of `steps`, `model_calls`, `tool_calls`, `attempts`, `repeats`, `tool_errors`, `parallel`, `depth`, `children`, `items`, `landing_tokens`, `landing_output_tokens`, `cost`, `tokens`, `input_tokens`, `output_tokens`, `wall_time`, `model_call_time`, `first_token_time`, `tool_call_time`, `budget_wait`, `deadline`, `output_bytes`, `expires`
"#);
}

#[test]
fn names_are_looked_up_across_files() {
    let files = [
        ("plimsoll.toml", "[policies.standard]\nmodels = [\"openai/a\"]\n[ceilings.limits]\nsteps = 30\n"),
        ("agents/a.toml", "tools = [\"lokup\", \"lookup\"]\n[model]\npolicy = \"standrad\"\n[limits]\nsteps = 31\n"),
        ("agents/b c.toml", MODEL),
        ("tools/lookup.toml", "kind = \"builtin\"\nbuiltin = \"now\"\n"),
    ];
    insta::assert_snapshot!(faults(&files), @r#"
agents/a.toml:1:10: no tool `lokup`
  1 | tools = ["lokup", "lookup"]
    |          ^^^^^^^
  help: did you mean `lookup`?

agents/a.toml:3:10: no policy `standrad`
  3 | policy = "standrad"
    |          ^^^^^^^^^^
  help: did you mean `standard`?

agents/a.toml:5:9: `steps` is 31, above the project's ceiling of 30
  5 | steps = 31
    |         ^^
  help: at most 30, set at plimsoll.toml:4

agents/b c.toml:1:1: `b c` is no name of an agent
  1 | [model]
    | ^
  help: rename the file: expected 1 to 64 letters, digits, `_` and `-`
"#);
}

#[test]
fn one_broken_agent_does_not_hide_another() {
    let files = [("agents/good.toml", MODEL), ("agents/bad.toml", "x = 1\n"), ("tools/bad.toml", "x = 1\n")];
    let folder = project(&files);
    load_agent(folder.path(), "good", &options()).expect("the good one loads");
    let survey = survey_project(folder.path(), &options());
    assert_eq!(survey.plans.len(), 1);
    assert!(load_project(folder.path(), &options()).is_err());
    let missing = load_agent(folder.path(), "goood", &options()).expect_err("no such agent");
    assert_eq!(missing.to_string(), "agents:1:1: no agent `goood`\n  help: did you mean `good`?");
}

#[test]
fn a_simulated_run_needs_no_provider() {
    let mut files = shipped();
    files.push(("agents/a.toml", "[model]\nmodels = [\"nobody/x\"]\n"));
    let folder = project(&files);
    assert!(load_agent(folder.path(), "a", &options()).is_err());
    let simulated = LoadOptions { answering: Answering::Simulated, environment: Some("test".into()) };
    let (project, _) = load_agent(folder.path(), "a", &simulated).expect("the simulated provider answers");
    assert_eq!(project.environment, "test");
}

#[test]
fn a_project_is_found_from_within() {
    let folder = project(&shipped());
    let root = folder.path();
    assert_eq!(find_project(None, None, &root.join("agents")).expect("found"), root);
    assert_eq!(find_project(Some(Path::new("help")), None, root).expect("found"), root.join("help"));
    assert_eq!(find_project(None, Some(root), Path::new("/")).expect("found"), root);
    assert!(find_project(Some(Path::new("nowhere")), None, root).is_err());
    let bare = tempfile::tempdir().expect("a temporary folder");
    assert!(find_project(None, None, bare.path()).is_err());
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let large = format!("description = \"{}\"\n{MODEL}", "x".repeat(1024 * 1024));
    assert_eq!(agent(&large), "agents/a.toml:1:1: the file is too large\n  help: at most 1,048,576 bytes");
}

#[test]
fn the_load_line_is_the_least_of_cost_and_counts() {
    let folder = project(&shipped());
    let (_, mut plan) = load_agent(folder.path(), "support", &options()).expect("a good agent");
    // A micro-dollar for each token; `qwen` at twice that.
    let price = |model: &ModelName, input: Tokens, output: u32| {
        let factor = if model.model() == "qwen" { 2 } else { 1 };
        (model.model() != "gpt-5-nano").then(|| Money::from_micro((input.0 + u64::from(output)) * factor))
    };
    let line = load_line(&plan, price);
    assert_eq!((line.amount, line.binds.as_slice()), (Money::from_micro(50_000), [LimitKind::Cost].as_slice()));
    assert_eq!(line.worst_call.expect("a priced call").cost, Money::from_micro(33_600));
    assert_eq!(line.unpriced, [ModelName::from("openai/gpt-5-nano")]);
    plan.limits.cost = Money::from_micro(100_000_000);
    let line = load_line(&plan, price);
    // Twelve model calls of two tries each: no step is left for a tool.
    assert_eq!((line.amount, line.model_tries, line.tool_calls), (Money::from_micro(24 * 33_600), 24, 0));
    assert_eq!(line.binds, [LimitKind::Steps]);
}

#[test]
fn every_code_is_documented() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md")).expect("the page");
    for code in plimsoll::spec::fault::code::ALL {
        assert!(page.contains(&format!("`{code}`")), "{code} is not in docs/errors.md");
    }
}

mod mutations {
    use proptest::prelude::*;

    use super::*;

    const SNIPPETS: [&str; 16] = [
        "[",
        "]",
        "{",
        "}",
        "\"",
        "=",
        "\n",
        "-1",
        "1e9",
        "0x7fffffffffffffff",
        "[[stage]]\n",
        "{{",
        "%}",
        "é",
        "[limits]\n",
        "nan",
    ];

    /// A cut of the text at character boundaries, and what goes in its place.
    fn edit(text: &str, at: usize, length: usize, with: &str) -> String {
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let from = places[at % places.len()];
        let to = places[(at % places.len() + length).min(places.len() - 1)];
        format!("{}{with}{}", &text[..from], &text[to..])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_edit_of_a_file_brings_the_reader_down(
            file in 0_usize..4,
            edits in prop::collection::vec((any::<u16>(), 0_usize..12, 0_usize..SNIPPETS.len()), 1..5),
        ) {
            let mut files = shipped();
            let edited = edits.iter().fold(files[file].1.to_owned(), |text, (at, length, snippet)| {
                edit(&text, usize::from(*at), *length, SNIPPETS[*snippet])
            });
            files[file].1 = &edited;
            let folder = project(&files);
            let survey = survey_project(folder.path(), &options());
            for fault in survey.faults.all() {
                prop_assert!(!fault.to_string().is_empty() && fault.line() >= 1);
            }
            // What loads has a plan that reads back.
            for plan in survey.plans.values() {
                let text = serde_json::to_string(plan).expect("a plan is JSON");
                prop_assert_eq!(&serde_json::from_str::<plimsoll::domain::plan::Plan>(&text).expect("it reads back"), plan);
            }
        }
    }
}
